//! Whether a request of a pinned session may be sent again when its connection is lost. Pure.
//!
//! Invariant: what may have been executed is sent again only if that does no harm.

use super::timeout;
use crate::command::Verdict;
use crate::resp::{Args, encode};
use crate::session::kind;
use crate::session::pubsub;

/// When a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Executed twice it does no harm.
    Always,
    /// It waits at the node and has had no effect as long as it is unanswered. (A node that dies after it served the
    /// command and before the answer was out takes the element with it: so it does for a direct connection.)
    Waiting,
    /// What the node has not confirmed yet.
    Subscription,
    /// When the node says that it did not execute it.
    Refused,
    /// redweir's own, made anew when it is needed.
    Ours,
    /// Part of what binds the session to this connection.
    Never,
}

/// `bound`: the session has a transaction or a watch open.
pub fn of(verdict: &Verdict, bound: bool) -> Again {
    let name = verdict.command.map_or("", |c| c.name);
    let binds = matches!(name, "multi" | "exec" | "discard" | "watch" | "unwatch" | "reset" | "quit" | "monitor");
    if bound || binds || matches!(name, "auth" | "hello") || name.starts_with("client|") {
        Again::Never
    } else if timeout::waits(verdict) {
        Again::Waiting
    } else if pubsub::sort(name.as_bytes()).is_some() {
        Again::Subscription
    } else if name == "select" || kind::of(verdict, || None).is_idempotent() {
        Again::Always
    } else {
        Again::Refused
    }
}

/// A subscription command of which `open` confirmations are still to come.
pub fn rest(request: &[u8], open: u64) -> Vec<u8> {
    let names = Args::new(request).remaining().saturating_sub(1);
    // UNSUBSCRIBE without names is about what is left then as it was before.
    let done = names.saturating_sub(open as usize);
    if done == 0 {
        return request.to_vec();
    }
    let words: Vec<&[u8]> = Args::new(request).take(1).chain(Args::new(request).skip(1 + done)).collect();
    let mut out = Vec::new();
    encode::request(&mut out, words.into_iter());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::resp::encode::line as request;

    #[test]
    fn decides_by_what_a_second_execution_would_do() {
        let table = [
            ("GET k", Again::Always),
            ("SELECT 1", Again::Always),
            ("PING", Again::Always),
            ("SET k v", Again::Refused),
            ("EVAL x 0", Again::Refused),
            ("MODULE.CMD", Again::Refused),
            ("MIGRATE h 1 k 0 5", Again::Refused),
            ("BLPOP k 0", Again::Waiting),
            ("WAIT 1 0", Again::Waiting),
            ("XREAD BLOCK 1 STREAMS s $", Again::Waiting),
            ("PSUBSCRIBE a", Again::Subscription),
            ("MULTI", Again::Never),
            ("EXEC", Again::Never),
            ("WATCH k", Again::Never),
            ("HELLO 3", Again::Never),
            ("CLIENT TRACKING on", Again::Never),
        ];
        for (line, expected) in table {
            let request = request(line);
            let verdict = command::classify(Args::new(&request));
            assert_eq!((of(&verdict, false), of(&verdict, true)), (expected, Again::Never), "{line}");
        }
    }

    #[test]
    fn of_a_subscription_only_the_unconfirmed_names_are_left() {
        let table = [
            ("SUBSCRIBE a b c", 3, "SUBSCRIBE a b c"),
            ("SUBSCRIBE a b c", 1, "SUBSCRIBE c"),
            ("UNSUBSCRIBE a b", 1, "UNSUBSCRIBE b"),
            ("UNSUBSCRIBE", 5, "UNSUBSCRIBE"),
        ];
        for (line, open, left) in table {
            assert_eq!(rest(&request(line), open), request(left), "{line}");
        }
    }
}
