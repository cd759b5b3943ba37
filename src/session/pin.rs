//! What keeps a session on a connection of its own, and what its requests do to that. No I/O.
//!
//! Transactions, WATCH, subscriptions, blocking commands: replies and errors are always the server's own. Invariant: a
//! session is free again exactly when nothing is open, watched, subscribed or unanswered.

use std::collections::VecDeque;

use super::errors;
use super::pubsub::{self, Frame, Sort};
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
    /// MULTI, which may be refused.
    Multi,
    Reset,
    Quit,
    /// The reply is not the client's.
    Swallow,
    /// The client gets EXECABORT instead.
    Abort,
}

const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
/// Raises the connection's replication offset to the master's present one (offsets.md section 5).
const FENCE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\nredweir:fence\r\n$0\r\n\r\n";

/// What the server still owes, in the order of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Reply(Option<Expect>),
    /// A subscription command: so many confirmations, or one error.
    Confirms(u64),
    /// UNSUBSCRIBE and its like without names: one confirmation for each that is subscribed when its turn comes, at least one.
    Everything(Sort),
}

/// The state of a pinned session.
#[derive(Debug, Default)]
pub struct Pin {
    multi: bool,
    /// A queued command was refused here: EXEC must not run.
    poisoned: bool,
    watching: bool,
    /// What the server has confirmed: channels, patterns, sharded channels.
    subscribed: [i64; 3],
    /// A transaction held a subscription command: what is subscribed now is not known, so the pin is never free again.
    unsure: bool,
    awaited: VecDeque<Awaited>,
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
        !self.multi && !self.watching && !self.listens() && self.is_quiet()
    }

    /// Everything sent is answered.
    pub fn is_quiet(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Something was forwarded already.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Messages may come: it has subscribed and is not known to have left everything.
    pub fn listens(&self) -> bool {
        self.unsure || self.is_subscribed() || self.confirms()
    }

    fn is_subscribed(&self) -> bool {
        self.subscribed.iter().any(|n| *n > 0)
    }

    /// A subscription command is not answered yet: whether the session is a subscriber is not known.
    fn confirms(&self) -> bool {
        self.awaited.iter().any(|a| !matches!(a, Awaited::Reply(_)))
    }

    /// Must everything before this request be answered first? What redweir answers itself must not overtake, and what may
    /// change the state must not go out while it is not known whether a subscription came to be.
    pub fn must_wait(&self, verdict: &Verdict) -> bool {
        let name = verdict.command.map_or("", |c| c.name);
        if self.is_quiet() || (is_subscription(name) && !self.multi) {
            return false;
        }
        let local = matches!(verdict.class, Class::Forbidden | Class::Session | Class::Local);
        self.confirms() || is_refused(verdict, name) || (local && !self.multi)
    }

    /// In RESP2 a subscriber may only do what the server itself lets it.
    fn is_restricted(&self, resp: u8) -> bool {
        self.is_subscribed() && !self.unsure && resp < 3
    }

    /// Judges the next request; what it returns must then be carried out.
    pub fn admit(&mut self, verdict: &Verdict, argument: Option<&[u8]>, args: usize, resp: u8, wrote: bool) -> Admit {
        let name = verdict.command.map_or("", |c| c.name);
        match name {
            "reset" => self.leave(Expect::Reset),
            "quit" => self.leave(Expect::Quit),
            _ if self.multi => self.queue(verdict, name),
            _ if is_refused(verdict, name) => Admit::Answer(errors::forbidden(name)),
            _ if self.is_restricted(resp) && !is_subscription(name) => self.send(None),
            "multi" => {
                (self.multi, self.poisoned) = (true, false);
                self.send(Some(Expect::Multi))
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
            _ if is_subscription(name) => self.subscribe(name, args),
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
                self.send(None)
            }
            _ if is_refused(verdict, name) => self.poison(name),
            _ => {
                self.db_unknown |= name == "select";
                self.unsure |= is_subscription(name);
                self.tainted |= matches!(name, "auth" | "hello") || name.starts_with("client|");
                self.send(None)
            }
        }
    }

    fn poison(&mut self, name: &str) -> Admit {
        self.poisoned = true;
        Admit::Answer(errors::forbidden(name))
    }

    /// A request was refused here: a transaction it belonged to must not run.
    pub fn spoil(&mut self) {
        self.poisoned |= self.multi;
    }

    /// Neither a transaction nor a subscriber of RESP2: other commands are answered as ever.
    pub fn is_open(&self, resp: u8) -> bool {
        !self.multi && !self.is_restricted(resp)
    }

    fn leave(&mut self, expect: Expect) -> Admit {
        self.leaving = true;
        self.send(Some(expect))
    }

    /// The server did not open a transaction after all (no rights, not logged in).
    pub fn multi_failed(&mut self) {
        self.multi = false;
    }

    fn end_multi(&mut self) {
        (self.multi, self.watching) = (false, false);
    }

    fn subscribe(&mut self, name: &str, args: usize) -> Admit {
        // A connection that was a subscriber's is not lent to anybody else.
        self.tainted = true;
        self.used = true;
        let names = args.saturating_sub(1) as u64;
        self.awaited.push_back(match pubsub::sort(name.as_bytes()) {
            Some(sort) if names == 0 && name.contains("unsubscribe") => Awaited::Everything(sort),
            _ => Awaited::Confirms(names.max(1)),
        });
        Admit::Forward
    }

    fn send(&mut self, expect: Option<Expect>) -> Admit {
        self.used = true;
        self.awaited.push_back(Awaited::Reply(expect));
        Admit::Forward
    }

    /// What the frame at hand was waited for as.
    pub fn expected(&self, frame: Frame) -> Option<Expect> {
        match (frame, self.awaited.front()) {
            (Frame::Reply, Some(Awaited::Reply(expect))) => *expect,
            _ => None,
        }
    }

    /// A frame was passed on (or swallowed) whole. True: with it a request is answered.
    pub fn received(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Push => false,
            // To a subscription command: the error it ended with.
            Frame::Reply => self.awaited.pop_front().is_some(),
            Frame::Confirmed { sort, left } => {
                let before = self.subscribed[sort as usize].max(1) as u64;
                self.confirmed(sort, left);
                let open = match self.awaited.front() {
                    Some(Awaited::Confirms(n)) => n.saturating_sub(1),
                    Some(Awaited::Everything(_)) => before - 1,
                    _ => return false,
                };
                self.awaited.pop_front();
                if open > 0 {
                    self.awaited.push_front(Awaited::Confirms(open));
                }
                open == 0
            }
        }
    }

    /// pubsub.c counts channels and patterns together, sharded channels by themselves.
    fn confirmed(&mut self, sort: Sort, left: i64) {
        let [channels, patterns, shards] = &mut self.subscribed;
        match sort {
            Sort::Channel => *channels = left - *patterns,
            Sort::Pattern => *patterns = left - *channels,
            Sort::Shard => *shards = left,
        }
    }
}

/// Never passed on, whatever the state.
fn is_refused(verdict: &Verdict, name: &str) -> bool {
    verdict.class == Class::Forbidden || matches!(name, "monitor" | "script|debug" | "client|reply")
}

fn is_subscription(name: &str) -> bool {
    pubsub::sort(name.as_bytes()).is_some()
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

    #[test]
    fn a_failed_subscription_frees() {
        let mut pin = Pin::default();
        admit(&mut pin, "SUBSCRIBE");
        assert!(pin.listens() && pin.must_wait(&command::classify(Args::new(b"*1\r\n$4\r\nPING\r\n"))));
        assert!(pin.received(Frame::Reply));
        assert!(pin.is_free());
    }

    #[test]
    fn sharded_channels_are_counted_by_themselves() {
        let mut pin = Pin::default();
        for (line, sort, left) in
            [("SUBSCRIBE a", Sort::Channel, 1), ("SSUBSCRIBE s", Sort::Shard, 1), ("UNSUBSCRIBE a", Sort::Channel, 0)]
        {
            admit(&mut pin, line);
            pin.received(Frame::Confirmed { sort, left });
            assert!(!pin.is_free(), "{line}");
        }
        admit(&mut pin, "SUNSUBSCRIBE");
        assert!(pin.received(Frame::Confirmed { sort: Sort::Shard, left: 0 }));
        assert!(pin.is_free());
    }

    #[test]
    fn a_subscription_behind_the_last_unsubscribe_keeps_the_pin() {
        let mut pin = Pin::default();
        admit(&mut pin, "SUBSCRIBE a b");
        for left in [1, 2] {
            pin.received(Frame::Confirmed { sort: Sort::Channel, left });
        }
        admit(&mut pin, "UNSUBSCRIBE");
        admit(&mut pin, "SUBSCRIBE x");
        for (left, answered) in [(1, false), (0, true), (1, true)] {
            assert_eq!(pin.received(Frame::Confirmed { sort: Sort::Channel, left }), answered);
            assert!(!pin.is_free());
        }
        assert!(pin.is_quiet());
    }

    #[test]
    fn the_last_unsubscribe_frees() {
        let mut pin = Pin::default();
        admit(&mut pin, "SUBSCRIBE a b");
        for left in [1, 2] {
            pin.received(Frame::Confirmed { sort: Sort::Channel, left });
        }
        assert!(pin.is_quiet() && !pin.is_free());
        admit(&mut pin, "UNSUBSCRIBE");
        pin.received(Frame::Confirmed { sort: Sort::Channel, left: 1 });
        pin.received(Frame::Confirmed { sort: Sort::Channel, left: 0 });
        assert!(pin.is_free());
    }
}
