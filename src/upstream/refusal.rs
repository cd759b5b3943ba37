//! Replies by which a node says that it executed nothing and that another node, or later, is the place to ask.
//!
//! The texts are the server's own (server.c shared.roslaveerr, loadingerr, masterdownerr; Valkey's REDIRECT). A script that
//! fails at its first write on a replica repeats the READONLY text in full, and has written nothing either.

/// What kind of refusal `reply` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A replica was asked to write.
    ReadOnly,
    Loading,
    MasterDown,
    Redirect,
}

const TABLE: &[(&[u8], Refusal)] = &[
    (b"-READONLY You can't write against a read only ", Refusal::ReadOnly),
    (b"-LOADING ", Refusal::Loading),
    (b"-MASTERDOWN Link with ", Refusal::MasterDown),
    (b"-REDIRECT ", Refusal::Redirect),
];

/// `reply` is one whole error reply.
pub fn of(reply: &[u8]) -> Option<Refusal> {
    TABLE.iter().find(|(text, _)| reply.starts_with(text)).map(|(_, refusal)| *refusal)
}
