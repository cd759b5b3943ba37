//! Replies by which a node says that it executed nothing and that another node, or later, is the place to ask.
//!
//! The texts are the server's own, in full (server.c shared.roslaveerr, loadingerr, masterdownerr; Valkey says its own
//! name), for a script may end in an error of any code and has been executed then. A script that fails at its first write
//! on a replica repeats the READONLY text in full, and has written nothing either.

/// What kind of refusal `reply` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A replica was asked to write.
    ReadOnly,
    Loading,
    MasterDown,
    /// It has no script of this name; another node may.
    NoScript,
}

const TABLE: &[(&[u8], Refusal)] = &[
    (b"-READONLY You can't write against a read only replica.", Refusal::ReadOnly),
    (b"-LOADING Redis is loading the dataset in memory", Refusal::Loading),
    (b"-LOADING Valkey is loading the dataset in memory", Refusal::Loading),
    (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Refusal::MasterDown),
    // Redis ends it with " Please use EVAL.", Valkey does not.
    (b"-NOSCRIPT No matching script.", Refusal::NoScript),
];

/// `reply` is one whole error reply.
pub fn of(reply: &[u8]) -> Option<Refusal> {
    TABLE.iter().find(|(text, _)| reply.starts_with(text)).map(|(_, refusal)| *refusal)
}
