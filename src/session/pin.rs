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
    unconfirmed: u64,
    sent: u64,
    got: u64,
    expects: VecDeque<(u64, Expect)>,
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
        self.sent == self.got && self.unconfirmed == 0
    }

    /// Something was forwarded already.
    pub fn is_used(&self) -> bool {
        self.got > 0 || self.sent > 0 || self.unconfirmed > 0
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
            _ if self.is_restricted(resp) && !is_subscription(name) => self.send(None),
            _ if self.multi => self.queue(verdict, name),
            "multi" => {
                (self.multi, self.poisoned) = (true, false);
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
            "monitor" | "script|debug" | "client|reply" => Admit::Answer(errors::forbidden(name)),
            "wait" | "waitaof" if wrote => {
                self.blocks = true;
                self.send(Some(Expect::Swallow));
                self.send(None);
                Admit::Behind(FENCE)
            }
            _ if is_subscription(name) => {
                self.listens = true;
                self.unconfirmed += args.saturating_sub(1).max(1) as u64;
                Admit::Forward
            }
            _ if name.starts_with("client|") => Admit::Identity(verdict.command.map_or("", |c| c.name)),
            _ if verdict.class == Class::Forbidden => Admit::Answer(errors::forbidden(name)),
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
            "monitor" | "script|debug" | "client|reply" => self.poison(name),
            _ if verdict.class == Class::Forbidden => self.poison(name),
            _ => {
                self.db_unknown |= name == "select";
                self.listens |= is_subscription(name);
                self.tainted |= matches!(name, "auth" | "hello") || name.starts_with("client|");
                self.send(None)
            }
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
        self.sent += 1;
        if let Some(expect) = expect {
            self.expects.push_back((self.sent, expect));
        }
        Admit::Forward
    }

    /// What the frame at hand was waited for as.
    pub fn expected(&self, frame: Frame) -> Option<Expect> {
        match (frame, self.expects.front()) {
            (Frame::Reply, Some((at, expect))) if *at == self.got + 1 => Some(*expect),
            _ => None,
        }
    }

    /// A frame was passed on (or swallowed) whole.
    pub fn received(&mut self, frame: Frame) {
        match frame {
            Frame::Push => {}
            Frame::Reply => {
                self.got += 1;
                if self.expects.front().is_some_and(|(at, _)| *at <= self.got) {
                    self.expects.pop_front();
                }
            }
            Frame::Confirmed { left } => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                if left == 0 && self.unconfirmed == 0 {
                    self.listens = false;
                }
            }
        }
    }
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

    #[test]
    fn the_last_unsubscribe_frees() {
        let mut pin = Pin::default();
        admit(&mut pin, "SUBSCRIBE a b");
        for left in [1, 2] {
            pin.received(Frame::Confirmed { left });
        }
        assert!(pin.is_quiet() && !pin.is_free());
        admit(&mut pin, "UNSUBSCRIBE");
        pin.received(Frame::Confirmed { left: 1 });
        pin.received(Frame::Confirmed { left: 0 });
        assert!(pin.is_free());
    }
}
