//! What keeps a session on a connection of its own, and what its requests do to that. No I/O.
//!
//! Transactions, WATCH, subscriptions, blocking commands: replies and errors are always the server's own. Invariant: a
//! session is free again exactly when nothing is open, watched, subscribed or unanswered.

use std::collections::VecDeque;

use super::errors;
use super::pubsub::Frame;
use crate::command::{Class, Verdict};

/// What to do with a request of a pinned session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admit {
    Forward,
    /// Something else in its place.
    Instead(&'static [u8]),
    /// This first (its reply is swallowed), then the request.
    Behind(&'static [u8]),
    /// redweir's own answer, once everything before is answered.
    Answer(Vec<u8>),
    /// CLIENT: answered from the session's own state, likewise.
    Identity(&'static str),
}

/// What a reply still to come means to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Select(u32),
    Reset,
    Quit,
    /// The reply is not the client's.
    Swallow,
    /// The client gets EXECABORT instead.
    Abort,
}

/// What the node still owes, in order.
#[derive(Debug)]
enum Due {
    /// So many replies of no consequence.
    Replies(u64),
    Expected(Expect),
    /// So many confirmations of one subscription command, or one error in place of them all.
    Confirmations(u64),
}

const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
/// Raises the connection's replication offset to the master's present one (offsets.md section 5).
const FENCE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\nredweir:fence\r\n$0\r\n\r\n";

/// The state of a pinned session.
#[derive(Debug, Default)]
pub struct Pin {
    multi: bool,
    /// A queued command was refused here: EXEC must not run.
    poisoned: bool,
    watching: bool,
    /// Has subscribed and is not known to have left every channel.
    pub listens: bool,
    /// Subscriptions queued in the transaction, for EXEC to carry out: to shard channels, to others.
    queued: [bool; 2],
    /// Subscriptions by the last confirmation, of the same two kinds.
    left: [i64; 2],
    due: VecDeque<Due>,
    used: bool,
    /// Did something a lent connection must not keep.
    pub tainted: bool,
    /// The database after EXEC is not known.
    pub db_unknown: bool,
    /// RESET or QUIT is on its way: nothing more goes to this connection.
    pub leaving: bool,
    /// May be blocked: when the client leaves, the connection must end at once.
    pub blocks: bool,
}

impl Pin {
    pub fn is_free(&self) -> bool {
        !self.multi && !self.watching && !self.listens && self.is_quiet()
    }

    /// Everything sent is answered.
    pub fn is_quiet(&self) -> bool {
        self.due.is_empty()
    }

    /// Something was forwarded already.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// A subscription command needs nothing before it to be answered.
    pub fn is_subscribing(&self, verdict: &Verdict) -> bool {
        self.multi || verdict.command.is_some_and(|c| is_subscription(c.name))
    }

    /// In RESP2 a subscriber may only do what the server itself lets it.
    fn is_restricted(&self, resp: u8) -> bool {
        self.listens && resp < 3
    }

    /// Judges the next request; what it returns must then be carried out.
    pub fn admit(&mut self, verdict: &Verdict, argument: Option<&[u8]>, args: usize, resp: u8, wrote: bool) -> Admit {
        let name = verdict.command.map_or("", |c| c.name);
        match name {
            "reset" => self.leave(Expect::Reset),
            "quit" => self.leave(Expect::Quit),
            _ if self.multi => self.queue(verdict, name),
            // Before anything is left to the server: it may not listen at all, the subscription having failed.
            "monitor" | "script|debug" | "client|reply" => Admit::Answer(errors::forbidden(name)),
            _ if verdict.class == Class::Forbidden => Admit::Answer(errors::forbidden(name)),
            _ if self.is_restricted(resp) && !is_subscription(name) => {
                // The server refuses all but PING, if it really listens.
                self.tainted |= name != "ping";
                self.send(None)
            }
            "multi" => {
                (self.multi, self.poisoned, self.queued) = (true, false, [false; 2]);
                self.send(None)
            }
            "watch" => {
                self.watching = true;
                self.send(None)
            }
            "unwatch" => {
                self.watching = false;
                self.send(None)
            }
            "select" => self.send(argument.and_then(super::commands::number).map(Expect::Select)),
            "auth" | "hello" => Admit::Answer(errors::unsupported(name)),
            "wait" | "waitaof" if wrote => {
                self.blocks = true;
                self.send(Some(Expect::Swallow));
                self.send(None);
                Admit::Behind(FENCE)
            }
            _ if is_subscription(name) => {
                self.listens = true;
                self.used = true;
                self.due.push_back(Due::Confirmations(args.saturating_sub(1).max(1) as u64));
                Admit::Forward
            }
            _ if name.starts_with("client|") => Admit::Identity(verdict.command.map_or("", |c| c.name)),
            _ => {
                self.blocks |= verdict.class == Class::Blocking;
                self.tainted |= verdict.class == Class::Unknown || name == "client";
                self.send(None)
            }
        }
    }

    /// Inside MULTI everything is the server's to queue or to refuse.
    fn queue(&mut self, verdict: &Verdict, name: &str) -> Admit {
        match name {
            "exec" if self.poisoned => {
                self.end_multi();
                self.send(Some(Expect::Abort));
                Admit::Instead(DISCARD)
            }
            "exec" | "discard" => {
                self.end_multi();
                if name == "exec" {
                    self.listen_from_exec();
                }
                self.send(None)
            }
            "monitor" | "script|debug" | "client|reply" => self.poison(name),
            _ if verdict.class == Class::Forbidden => self.poison(name),
            _ => {
                self.db_unknown |= name == "select";
                self.queued[usize::from(!is_sharded(name))] |= is_subscription(name);
                self.tainted |= matches!(name, "auth" | "hello") || name.starts_with("client|");
                self.send(None)
            }
        }
    }

    /// Confirmations inside of EXEC's reply are not seen: what was queued counts as one channel each until one is.
    fn listen_from_exec(&mut self) {
        for (left, _) in self.left.iter_mut().zip(self.queued).filter(|(_, queued)| *queued) {
            *left = (*left).max(1);
            self.listens = true;
        }
    }

    fn poison(&mut self, name: &str) -> Admit {
        self.poisoned = true;
        Admit::Answer(errors::forbidden(name))
    }

    fn leave(&mut self, expect: Expect) -> Admit {
        self.leaving = true;
        self.send(Some(expect))
    }

    fn end_multi(&mut self) {
        (self.multi, self.watching) = (false, false);
    }

    fn send(&mut self, expect: Option<Expect>) -> Admit {
        self.used = true;
        match (expect, self.due.back_mut()) {
            (Some(expect), _) => self.due.push_back(Due::Expected(expect)),
            (None, Some(Due::Replies(n))) => *n += 1,
            (None, _) => self.due.push_back(Due::Replies(1)),
        }
        Admit::Forward
    }

    /// What the frame at hand was waited for as.
    pub fn expected(&self, frame: Frame) -> Option<Expect> {
        match (frame, self.due.front()) {
            (Frame::Reply, Some(Due::Expected(expect))) => Some(*expect),
            _ => None,
        }
    }

    /// A frame was passed on (or swallowed) whole.
    pub fn received(&mut self, frame: Frame) {
        match (frame, self.due.front_mut()) {
            (Frame::Push, _) => return,
            (Frame::Reply, Some(Due::Replies(n))) | (Frame::Confirmed { .. }, Some(Due::Confirmations(n)))
                if *n > 1 =>
            {
                *n -= 1;
            }
            // UNSUBSCRIBE without a name is confirmed once for every channel left, whatever was waited for.
            (Frame::Confirmed { .. }, Some(Due::Replies(_) | Due::Expected(_)) | None) => {}
            // The last one, or a subscription command that was refused.
            (Frame::Reply | Frame::Confirmed { .. }, _) => _ = self.due.pop_front(),
        }
        if let Frame::Confirmed { left, sharded } = frame {
            self.left[usize::from(!sharded)] = left;
        }
        if self.listens && self.left == [0, 0] && !self.due.iter().any(|due| matches!(due, Due::Confirmations(_))) {
            self.listens = false;
        }
    }
}

fn is_sharded(name: &str) -> bool {
    matches!(name, "ssubscribe" | "sunsubscribe")
}

fn is_subscription(name: &str) -> bool {
    matches!(name, "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::resp::{Args, encode};

    fn admit(pin: &mut Pin, line: &str) -> Admit {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut request = Vec::new();
        encode::request(&mut request, words.iter().copied());
        let args = Args::new(&request);
        pin.admit(&command::classify(args), args.clone().nth(1), args.remaining(), 2, false)
    }

    #[test]
    fn a_transaction_holds_the_pin_until_it_ends_and_is_answered() {
        for end in ["EXEC", "DISCARD"] {
            let mut pin = Pin::default();
            for line in ["WATCH k", "MULTI", "SET k 1", end] {
                assert_eq!(admit(&mut pin, line), Admit::Forward);
                assert!(!pin.is_free());
            }
            for _ in 0..4 {
                assert!(!pin.is_free());
                pin.received(Frame::Reply);
            }
            assert!(pin.is_free(), "{end}");
        }
    }

    #[test]
    fn a_forbidden_command_in_a_transaction_aborts_it() {
        let mut pin = Pin::default();
        admit(&mut pin, "MULTI");
        assert!(matches!(admit(&mut pin, "SHUTDOWN"), Admit::Answer(_)));
        assert_eq!(admit(&mut pin, "EXEC"), Admit::Instead(DISCARD));
        pin.received(Frame::Reply);
        assert_eq!(pin.expected(Frame::Reply), Some(Expect::Abort));
    }

    fn confirmed(left: i64, sharded: bool) -> Frame {
        Frame::Confirmed { left, sharded }
    }

    #[test]
    fn the_last_unsubscribe_frees() {
        let mut pin = Pin::default();
        admit(&mut pin, "SUBSCRIBE a b");
        for left in [1, 2] {
            pin.received(confirmed(left, false));
        }
        assert!(pin.is_quiet() && !pin.is_free());
        admit(&mut pin, "UNSUBSCRIBE");
        pin.received(confirmed(1, false));
        pin.received(confirmed(0, false));
        assert!(pin.is_free());
    }

    #[test]
    fn shard_channels_are_counted_apart() {
        let mut pin = Pin::default();
        for line in ["SUBSCRIBE a", "SSUBSCRIBE b", "SUNSUBSCRIBE b"] {
            admit(&mut pin, line);
        }
        for (left, sharded) in [(1, false), (1, true), (0, true)] {
            pin.received(confirmed(left, sharded));
        }
        assert!(pin.is_quiet() && !pin.is_free(), "still subscribed to a");
        admit(&mut pin, "UNSUBSCRIBE a");
        pin.received(confirmed(0, false));
        assert!(pin.is_free());
    }

    #[test]
    fn a_refused_subscription_is_one_reply_and_leaves_nothing() {
        let mut pin = Pin::default();
        admit(&mut pin, "PING");
        admit(&mut pin, "SUBSCRIBE a b");
        admit(&mut pin, "GET k");
        for _ in 0..3 {
            assert!(!pin.is_free());
            pin.received(Frame::Reply);
        }
        assert!(pin.is_free());

        admit(&mut pin, "SUBSCRIBE a");
        pin.received(confirmed(1, false));
        admit(&mut pin, "SUBSCRIBE b");
        pin.received(Frame::Reply);
        assert!(pin.is_quiet() && pin.listens, "the first one stays");
    }

    #[test]
    fn a_subscription_in_a_transaction_begins_with_exec() {
        for (end, listens) in [("DISCARD", false), ("EXEC", true)] {
            let mut pin = Pin::default();
            for line in ["MULTI", "SUBSCRIBE a"] {
                assert_eq!(admit(&mut pin, line), Admit::Forward);
            }
            assert_eq!(admit(&mut pin, end), Admit::Forward);
            (0..3).for_each(|_| pin.received(Frame::Reply));
            assert!(pin.is_quiet());
            assert_eq!((pin.listens, pin.is_free()), (listens, !listens), "{end}");
            admit(&mut pin, "UNSUBSCRIBE a");
            pin.received(confirmed(0, false));
            assert!(pin.is_free(), "{end}");
        }
    }

    #[test]
    fn a_forbidden_command_stays_so_for_a_subscriber() {
        let mut pin = Pin::default();
        admit(&mut pin, "MULTI");
        admit(&mut pin, "SUBSCRIBE a");
        assert!(matches!(admit(&mut pin, "REPLICAOF NO ONE"), Admit::Answer(_)));
        admit(&mut pin, "EXEC");
        for line in ["REPLICAOF NO ONE", "MONITOR", "CLIENT REPLY OFF"] {
            assert!(matches!(admit(&mut pin, line), Admit::Answer(_)), "{line}");
        }
        let mut pin = Pin { listens: true, left: [0, 1], ..Pin::default() };
        assert!(matches!(admit(&mut pin, "REPLICAOF NO ONE"), Admit::Answer(_)));
        assert_eq!(admit(&mut pin, "PING"), Admit::Forward);
        assert!(!pin.tainted);
    }
}
