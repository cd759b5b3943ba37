//! What becomes of the next request of a pinned session: sent, put off, or answered here.
//!
//! Must not send. Invariant: whatever is sent is awaited from the same moment on.

use super::awaited::{Awaited, Expect};
use super::{Pin, timeout};
use crate::command::{Class, Verdict};
use crate::session::barrier::FENCE;
use crate::session::{client, commands, errors, pubsub};

pub(super) const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

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
    /// Answered beside the connection, likewise: from the session's own state, or by all nodes.
    Aside(&'static str),
}

impl Pin {
    /// A CLIENT ID goes out first.
    pub fn ask_id(&mut self) {
        self.send(Some(Expect::Id));
    }

    /// Must everything before this request be answered first? What redweir answers itself must not overtake, and what may
    /// change the state must not go out while it is not known whether a subscription came to be.
    pub fn must_wait(&self, verdict: &Verdict) -> bool {
        let name = verdict.command.map_or("", |c| c.name);
        if self.is_quiet() || (is_subscription(name) && !self.multi && !self.alone) {
            return false;
        }
        let local = matches!(verdict.class, Class::Forbidden | Class::Session | Class::Local | Class::AllNodes);
        self.alone || self.confirms() || self.is_refused(verdict, name) || (local && !self.multi)
    }

    /// Not passed on: never, or not in a transaction.
    fn is_refused(&self, verdict: &Verdict, name: &str) -> bool {
        let may_monitor = self.may_monitor && !self.multi;
        let named = name == "script|debug" || (name == "monitor" && !may_monitor);
        verdict.class == Class::Forbidden || named
    }

    /// In RESP2 a subscriber may only do what the server itself lets it.
    pub(super) fn is_restricted(&self, resp: u8) -> bool {
        self.is_subscribed() && resp < 3
    }

    /// Judges the next request; what it returns must then be carried out.
    pub fn admit(&mut self, verdict: &Verdict, argument: Option<&[u8]>, args: usize, resp: u8, wrote: bool) -> Admit {
        let name = verdict.command.map_or("", |c| c.name);
        match name {
            // With arguments it is an error, as EXEC, DISCARD and UNWATCH are, and changes nothing.
            "reset" if args == 1 => self.leave(Expect::Reset),
            "quit" => self.leave(Expect::Quit),
            _ if self.multi => self.queue(verdict, name, args),
            _ if self.is_refused(verdict, name) => Admit::Answer(errors::forbidden(name)),
            _ if self.is_restricted(resp) && !is_subscription(name) => self.send(None),
            "multi" => {
                (self.multi, self.poisoned, self.queued, self.everywhere) = (true, false, 0, false);
                self.send(Some(Expect::Multi))
            }
            "watch" => {
                self.watching |= args > 1;
                self.send(None)
            }
            "unwatch" if args == 1 => {
                self.watching = false;
                self.send(None)
            }
            "select" => self.send(argument.and_then(commands::number).map(Expect::Select)),
            "auth" | "hello" | "client|no-touch" | "client|import-source" => {
                (self.tainted, self.alone) = (true, true);
                self.send(Some(Expect::Login))
            }
            "client|tracking" | "client|caching" => {
                (self.tainted, self.alone) = (true, true);
                self.send(Some(Expect::Tracking))
            }
            "monitor" => {
                (self.tainted, self.alone) = (true, true);
                self.send(Some(Expect::Monitor))
            }
            "client|trackinginfo" | "client|getredir" => self.send(Some(Expect::Redirection)),
            "wait" | "waitaof" if wrote => {
                (self.blocks, self.alone) = (true, true);
                self.send(Some(Expect::Fence));
                self.send(None);
                Admit::Behind(FENCE)
            }
            _ if is_subscription(name) => self.subscribe(name, args),
            _ if client::is_ours(name) || verdict.class == Class::AllNodes => {
                Admit::Aside(verdict.command.map_or("", |c| c.name))
            }
            _ => {
                self.alone = timeout::waits(verdict);
                self.blocks |= self.alone || verdict.class == Class::Blocking;
                self.tainted |= verdict.class == Class::Unknown || name == "client";
                self.send(None)
            }
        }
    }

    /// Inside MULTI everything is the server's to queue or to refuse.
    fn queue(&mut self, verdict: &Verdict, name: &str, args: usize) -> Admit {
        match name {
            "exec" | "discard" if args > 1 => self.send(None),
            "exec" if self.poisoned => {
                self.end_multi();
                self.send(Some(Expect::Abort));
                Admit::Instead(DISCARD)
            }
            "exec" | "discard" => {
                self.alone |= name == "exec" && self.everywhere;
                self.end_multi();
                self.send((name == "exec").then_some(Expect::Exec))
            }
            _ if self.is_refused(verdict, name) => self.poison(name),
            _ => {
                self.queued += 1;
                self.everywhere |= verdict.class == Class::AllNodes;
                self.db_unknown |= name == "select";
                let leaves = matches!(name, "auth" | "hello") || is_subscription(name);
                self.tainted |= leaves || name.starts_with("client|");
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

    fn subscribe(&mut self, name: &str, args: usize) -> Admit {
        // A connection that was a subscriber's is not lent to anybody else.
        self.tainted = true;
        self.used = true;
        self.awaited.push_back(Awaited::by(name, args));
        Admit::Forward
    }

    fn send(&mut self, expect: Option<Expect>) -> Admit {
        self.used = true;
        self.awaited.push_back(Awaited::Reply(expect));
        Admit::Forward
    }
}

fn is_subscription(name: &str) -> bool {
    pubsub::sort(name.as_bytes()).is_some()
}
