//! What keeps a session on a connection of its own, and what its requests do to that. No I/O.
//!
//! Transactions, WATCH, subscriptions, blocking commands: replies and errors are always the server's own. Invariant: a
//! session is free again exactly when nothing is open, watched, subscribed, tracked or unanswered.

pub mod again;
mod heard;
pub mod timeout;
pub mod tracked;

use std::collections::VecDeque;

use super::barrier::FENCE;
use super::card::Bound;
use super::errors;
use super::pubsub::{self, Frame, Sort};
use crate::command::{Class, Verdict};
use again::Again;
use heard::Heard;
use tracked::Tracked;

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

/// What a reply still to come means to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Select(u32),
    /// MULTI, which may be refused.
    Multi,
    Reset,
    Quit,
    /// Of what WAIT needs before it: not the client's.
    Fence,
    /// The client gets EXECABORT instead.
    Abort,
    /// The connection's own id at the node, not the client's to see.
    Id,
    /// AUTH, HELLO and switches of CLIENT: with its success the session is somebody else, or wants other connections.
    Login,
    /// CLIENT TRACKING or CLIENT CACHING, to be remembered when accepted.
    Tracking,
    /// It names the client that invalidations are redirected to.
    Redirection,
    Monitor,
    /// EXEC: what was queued has happened, or not.
    Exec,
    /// What brings a new connection to the state of the lost one; an error is the end of it.
    Restored,
}

const MONITOR: &[u8] = b"*1\r\n$7\r\nMONITOR\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

/// What the server still owes, in the order of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    Reply(Option<Expect>),
    /// A subscription command: so many confirmations, or one error.
    Confirms(u64),
    /// UNSUBSCRIBE and its like without names: one confirmation for each that is subscribed when its turn comes, at least one.
    Everything(Sort),
    /// A subscription made again on a new connection: so many confirmations that are not the client's.
    Restores(u64),
}

impl Awaited {
    /// What a command brings.
    pub fn by(name: &str, args: usize) -> Self {
        let names = args.saturating_sub(1) as u64;
        match pubsub::sort(name.as_bytes()) {
            Some(sort) if names == 0 && name.contains("unsubscribe") => Awaited::Everything(sort),
            Some(_) => Awaited::Confirms(names.max(1)),
            None => Awaited::Reply(None),
        }
    }
}

/// The state of a pinned session.
#[derive(Debug, Default)]
pub struct Pin {
    multi: bool,
    /// A queued command was refused here: EXEC must not run.
    poisoned: bool,
    /// Requests sent since MULTI.
    queued: u32,
    /// What EXEC will do concerns all nodes: its answer waits for them, and nothing may be answered before it.
    everywhere: bool,
    watching: bool,
    /// What the server has confirmed: channels, patterns, sharded channels.
    subscribed: [i64; 3],
    awaited: VecDeque<Awaited>,
    /// So many of these, from the front, are a transaction's that was carried out: no request of their own.
    inside: usize,
    /// What is sent last must be answered before anything else goes out: it blocks the connection, or changes who uses it.
    alone: bool,
    heard: Heard,
    tracked: Tracked,
    monitors: bool,
    /// The listener lets MONITOR through.
    pub may_monitor: bool,
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
        !self.binds() && !self.monitors && !self.listens() && !self.tracked.is_on() && self.is_quiet()
    }

    /// A transaction or a watch is open: what it is about is at this node and nowhere else.
    pub fn binds(&self) -> bool {
        self.multi || self.watching
    }

    /// Whether what it holds can be told another node.
    pub fn can_move(&self) -> bool {
        let known = self.heard.is_known() && self.tracked.is_known();
        !self.binds() && !self.leaving && known
    }

    /// Something of it outlives its requests.
    pub fn lasts(&self) -> bool {
        self.listens() || self.tracked.is_on() || self.monitors
    }

    pub fn tracks(&self) -> bool {
        self.tracked.is_on()
    }

    /// Lines come unasked from here on.
    pub fn begin_monitor(&mut self) {
        self.monitors = true;
    }

    pub fn monitors(&self) -> bool {
        self.monitors
    }

    /// Begins again on a new connection: the requests that bring it to the state of the old one, whose replies are not the
    /// client's.
    pub fn restore(&mut self) -> Vec<Vec<u8>> {
        self.awaited.clear();
        self.subscribed = [0; 3];
        (self.used, self.alone, self.blocks) = (false, false, false);
        let mut out = Vec::new();
        for request in self.tracked.requests() {
            self.awaited.push_back(Awaited::Reply(Some(Expect::Restored)));
            out.push(request.to_vec());
        }
        if self.monitors {
            self.awaited.push_back(Awaited::Reply(Some(Expect::Restored)));
            out.push(MONITOR.to_vec());
        }
        for (request, names) in self.heard.requests() {
            self.awaited.push_back(Awaited::Restores(names));
            out.push(request);
        }
        self.tainted |= !out.is_empty();
        self.used = !out.is_empty();
        out
    }

    /// A CLIENT ID goes out first.
    pub fn ask_id(&mut self) {
        self.send(Some(Expect::Id));
    }

    /// How many confirmations the oldest unanswered request is still to bring.
    pub fn open(&self) -> Option<u64> {
        match self.awaited.front() {
            Some(Awaited::Confirms(n)) => Some(*n),
            _ => None,
        }
    }

    /// Everything sent is answered.
    pub fn is_quiet(&self) -> bool {
        self.awaited.is_empty()
    }

    /// What CLIENT LIST shows of it.
    pub fn bound(&self) -> Bound {
        let subscribed = self.subscribed.map(|n| u32::try_from(n).unwrap_or(0));
        let (tracks, monitors) = (self.tracks(), self.monitors());
        let queued = self.multi.then_some(self.queued);
        Bound { pinned: true, subscribed, queued, tracks, monitors, ..Bound::default() }
    }

    /// Channels, patterns, sharded channels it is subscribed to.
    pub fn subscribed(&self) -> [i64; 3] {
        self.subscribed
    }

    /// Something was forwarded already.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Messages may come: it has subscribed and is not known to have left everything.
    pub fn listens(&self) -> bool {
        self.is_subscribed() || self.confirms()
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
    fn is_restricted(&self, resp: u8) -> bool {
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
            "select" => self.send(argument.and_then(super::commands::number).map(Expect::Select)),
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
            _ if super::client::is_ours(name) || verdict.class == Class::AllNodes => {
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

    /// A request was refused here: a transaction it belonged to must not run.
    pub fn spoil(&mut self) {
        self.poisoned |= self.multi;
    }

    /// What goes out is queued, and acts with EXEC.
    pub fn is_queueing(&self) -> bool {
        self.multi
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
        self.awaited.push_back(Awaited::by(name, args));
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
            (Frame::Reply | Frame::Confirmed { .. }, Some(Awaited::Restores(_))) => Some(Expect::Restored),
            _ => None,
        }
    }

    /// A frame was passed on (or swallowed) whole. True: with it a request is answered.
    pub fn received(&mut self, frame: Frame) -> bool {
        let answered = self.is_answer(frame);
        if answered && self.inside > 0 {
            self.inside -= 1;
            return false;
        }
        answered
    }

    /// EXEC was carried out: `elements` answer what was `queued`. A subscription to several channels confirms each, while
    /// the array counts commands (pubsub.c, multi.c): the rest of the answers follow as frames of their own.
    pub fn executed(&mut self, queued: Vec<Awaited>, elements: &[&[u8]], limit: usize) {
        self.inside = queued.len();
        queued.into_iter().rev().for_each(|awaited| self.awaited.push_front(awaited));
        for element in elements {
            let frame = pubsub::frame(element, true);
            if matches!(frame, Frame::Confirmed { .. }) {
                self.note(element, limit);
            }
            self.received(frame);
        }
    }

    fn is_answer(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Push => false,
            // To a subscription command: the error it ended with.
            Frame::Reply => {
                let answered = self.awaited.pop_front().is_some();
                self.alone &= !self.awaited.is_empty();
                answered
            }
            Frame::Confirmed { sort, left } => {
                let before = self.subscribed[sort as usize].max(1) as u64;
                pubsub::count(&mut self.subscribed, sort, left);
                let open = match self.awaited.front() {
                    Some(Awaited::Confirms(n) | Awaited::Restores(n)) => n.saturating_sub(1),
                    Some(Awaited::Everything(_)) => before - 1,
                    _ => return false,
                };
                let restores = matches!(self.awaited.pop_front(), Some(Awaited::Restores(_)));
                if open > 0 {
                    self.awaited.push_front(if restores { Awaited::Restores(open) } else { Awaited::Confirms(open) });
                }
                open == 0
            }
        }
    }

    /// `frame` confirms a subscription; its name is remembered as long as all of them take no more than `limit` bytes.
    pub fn note(&mut self, frame: &[u8], limit: usize) {
        self.heard.note(frame, limit);
    }

    /// A confirmation was too large to be seen whole.
    pub fn forget_names(&mut self) {
        self.heard.forget();
    }

    /// `request` is a CLIENT TRACKING or CLIENT CACHING that was accepted.
    pub fn tracking(&mut self, request: &[u8]) {
        self.tracked.accepted(request);
    }

    /// Its invalidations go to another client.
    pub fn redirects(&self) -> bool {
        self.tracked.redirects()
    }

    /// Another request was answered: a CLIENT CACHING before it is spent.
    pub fn caching_spent(&mut self) {
        self.tracked.moved_on();
    }

    /// Whether the request at hand may be sent again if its connection is lost.
    pub fn again(&self, verdict: &Verdict) -> Again {
        again::of(verdict, self.binds())
    }
}

fn is_subscription(name: &str) -> bool {
    pubsub::sort(name.as_bytes()).is_some()
}

#[cfg(test)]
mod tests;
