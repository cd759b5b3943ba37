//! What keeps a session on a connection of its own, and what its requests do to that. No I/O.
//!
//! Transactions, WATCH, subscriptions, blocking commands: replies and errors are always the server's own. Invariant: a
//! session is free again exactly when nothing is open, watched, subscribed, tracked or unanswered.

mod admit;
pub mod again;
mod awaited;
mod heard;
pub mod timeout;
pub mod tracked;

use std::collections::VecDeque;

use super::card::Bound;
use crate::command::Verdict;
pub use admit::Admit;
use again::Again;
pub use awaited::{Awaited, Expect};
use heard::Heard;
use tracked::Tracked;

const MONITOR: &[u8] = b"*1\r\n$7\r\nMONITOR\r\n";

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

    /// The server did not open a transaction after all (no rights, not logged in).
    pub fn multi_failed(&mut self) {
        self.multi = false;
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

#[cfg(test)]
mod tests;
