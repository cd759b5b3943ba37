//! Replies by which a node says that it executed nothing and that another node, or later, is the place to ask.
//!
//! The texts are the server's own, in full (server.c shared.roslaveerr, loadingerr, masterdownerr; Valkey says its own
//! name). A script that fails at its first write on a replica repeats the READONLY text in full, and has written nothing
//! either. But a script may end in any error of its own making and has been executed then: to tell that apart takes more than
//! the text (`session/doubt.rs`).

/// What kind of refusal `reply` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A replica was asked to write.
    ReadOnly,
    Loading,
    MasterDown,
    /// The master has fewer good replicas than it must have to write (min-replicas-to-write).
    NoReplicas,
    /// A Valkey replica names the node to ask instead.
    Redirect,
    /// It has no script of this name; another node may.
    NoScript,
}

const TABLE: &[(&[u8], Refusal)] = &[
    (b"-READONLY You can't write against a read only replica.", Refusal::ReadOnly),
    (b"-LOADING Redis is loading the dataset in memory", Refusal::Loading),
    (b"-LOADING Valkey is loading the dataset in memory", Refusal::Loading),
    (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Refusal::MasterDown),
    (b"-NOREPLICAS Not enough good replicas to write.", Refusal::NoReplicas),
    // Redis ends it with " Please use EVAL.", Valkey does not.
    (b"-NOSCRIPT No matching script.", Refusal::NoScript),
];

/// Replies to a command that waited at a node, or was about to, when the node's role changed or its client was let go on
/// request (blocked.c disconnectAllBlockedClients, networking.c clientCommand, replication.c waitCommand).
const WAITED: &[&[u8]] = &[
    b"-UNBLOCKED force unblock from blocking operation, instance state changed",
    b"-ERR WAIT cannot be used with replica instances.",
    b"-ERR WAITAOF cannot be used with replica instances.",
];

/// The node let a blocking command go unexecuted because it is no longer what it was.
pub fn of_waiting(reply: &[u8]) -> bool {
    WAITED.iter().any(|text| reply.starts_with(text))
}

/// The user may never have this command executed there.
pub fn is_for_good(reply: &[u8]) -> bool {
    [&b"-NOPERM"[..], b"-ERR unknown command"].iter().any(|text| reply.starts_with(text))
}

/// It did so because somebody asked for it.
pub fn was_unblocked(reply: &[u8]) -> bool {
    reply.starts_with(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK")
}

/// What stands before a refusal of EXEC itself (multi.c execCommandAbort): the transaction was queued before the node's role
/// changed, and is gone without effect.
const ABORTED: &[u8] = b"-EXECABORT Transaction discarded because of: ";

/// `reply` is one whole error reply.
pub fn of(reply: &[u8]) -> Option<Refusal> {
    let text = reply.strip_prefix(ABORTED).or_else(|| reply.strip_prefix(b"-"))?;
    let known = TABLE.iter().find(|(known, _)| text.starts_with(&known[1..])).map(|(_, refusal)| *refusal);
    known.or_else(|| is_redirect(text).then_some(Refusal::Redirect))
}

/// `REDIRECT host:port` and nothing else (server.c processCommand of Valkey 8), to a connection that said CLIENT CAPA.
fn is_redirect(text: &[u8]) -> bool {
    let place = text.strip_prefix(b"REDIRECT ").and_then(|rest| rest.strip_suffix(b"\r\n"));
    let port = place.filter(|place| !place.contains(&b' ')).and_then(|place| place.rsplit(|b| *b == b':').next());
    port.is_some_and(|port| place != Some(port) && !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_texts_only_alone_or_as_the_reason_of_an_abort() {
        for (reply, expected) in [
            ("-READONLY You can't write against a read only replica.\r\n", Some(Refusal::ReadOnly)),
            (
                "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n",
                Some(Refusal::ReadOnly),
            ),
            ("-EXECABORT Transaction discarded because of previous errors.\r\n", None),
            ("-READONLY no\r\n", None),
            ("-NOREPLICAS Not enough good replicas to write.\r\n", Some(Refusal::NoReplicas)),
            (
                "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.\r\n",
                Some(Refusal::NoReplicas),
            ),
            ("-NOREPLICAS mine\r\n", None),
            ("-REDIRECT 10.0.0.1:6379\r\n", Some(Refusal::Redirect)),
            ("-REDIRECT ::1:6379\r\n", Some(Refusal::Redirect)),
            ("-REDIRECT 6379\r\n", None),
            ("-REDIRECT the user:1 elsewhere:2\r\n", None),
            ("-REDIRECT a:b\r\n", None),
            ("-LOADING Valkey is loading the dataset in memory\r\n", Some(Refusal::Loading)),
        ] {
            assert_eq!(of(reply.as_bytes()), expected, "{reply}");
        }
    }
}
