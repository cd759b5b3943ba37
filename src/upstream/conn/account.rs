//! What a shared connection acknowledged goes into its log, and the offset behind it is asked for in good time.
//!
//! A flush ends with a ROLE when there are writes without and the last one was a while ago; what is left when all is answered
//! is asked for by [`crate::upstream::Pool::audit`] a moment later. One goes before the first write after a pause, to tell it
//! from what others wrote meanwhile. So it costs as good as nothing. Must not know what a request means. Invariant: a write
//! is acknowledged in the log before a reading that covers it.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Conn, Shared};
use crate::metrics::Tick;
use crate::upstream::flight::Entry;
use crate::upstream::ledger::{Before, Log, Place, Writes, Written};

/// Between two ROLEs for the sake of writes alone.
const PERIOD_NS: u64 = 2_000_000;
/// Since the last one: a pause.
const PAUSE_NS: u64 = 50_000_000;

/// A ROLE on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub term: u32,
    /// How many runs it is behind.
    pub covers: u64,
    /// There are writes among these that no earlier one covers: the node is master.
    pub wrote: bool,
    /// What of other connections it is behind.
    pub before: Before,
}

impl Conn {
    fn log(&self) -> &Rc<RefCell<Log>> {
        self.log.get_or_init(|| self.tally.ledger.open())
    }

    /// Where the run `serial` of `term` is found again.
    pub fn place(&self, term: u64, serial: u64) -> Place {
        Place { term, log: self.log().borrow().id(), serial }
    }

    /// A run that writes is appended.
    #[inline]
    pub(super) fn note_written(&self, shared: &mut Shared, written: Written, sent: Tick) {
        let term = u64::from(written.term);
        let idle = shared.unread == 0 && shared.roles.is_empty();
        let newest = if idle { self.tally.ledger.furthest.of(term).unwrap_or(0) } else { 0 };
        self.log().borrow_mut().resume(term, newest);
        shared.unread = written.term;
        if idle && !shared.mute && self.since_asked(shared, sent) >= PAUSE_NS {
            self.ask_role(shared, written.term, sent);
            shared.unread = written.term;
        }
    }

    #[inline]
    fn since_asked(&self, shared: &Shared, now: Tick) -> u64 {
        if shared.asked.0 == 0 { u64::MAX } else { self.tally.clock.ns(shared.asked.0, now) }
    }

    /// Whether what is about to be written is to end with a ROLE for the sake of writes.
    #[inline]
    pub(super) fn is_due(&self, shared: &Shared) -> bool {
        let newest = shared.flight.entries.back().map_or(0, |entry| entry.sent);
        shared.unread > 0 && self.since_asked(shared, newest) >= PERIOD_NS
    }

    /// Nothing is to be written. Where nothing is on its way either no flush may come that asks for the offset.
    #[inline]
    pub(super) fn note_rest(&self, shared: &Shared) {
        if shared.unread > 0 && self.in_flight.get() == 0 && !shared.mute {
            self.tally.owe(self.target.node);
        }
    }

    /// `n` more replies of `head` were handed on, `errors` of them errors; `faults`: those of its replies before.
    #[inline]
    pub(super) fn note_answered(&self, head: &Entry, n: u32, errors: u32, faults: &mut u32) {
        let written = head.manner.written;
        let errors = *faults + errors;
        *faults = if n < head.left { errors } else { 0 };
        if n >= head.left && head.to.is_some() {
            let writes = written.acknowledged(head.done + head.left, errors, head.manner.whole);
            self.acknowledge(written, writes);
        }
    }

    /// The rest of `head` will not be answered.
    pub(super) fn note_failed(&self, head: &Entry) {
        let written = head.manner.written;
        if written.term > 0 && head.done > 0 && head.to.is_some() {
            self.acknowledge(written, Writes { sure: 0, unsure: written.n.min(head.done).into() });
        }
    }

    /// Nothing more will be acknowledged here, nor asked: the rest is for any other connection to ask behind.
    pub(super) fn end_account(&self) {
        if self.log.get().is_some_and(|log| self.tally.ledger.end(log)) {
            self.tally.owe(self.target.node);
        }
    }

    fn acknowledge(&self, written: Written, writes: Writes) {
        self.log().borrow_mut().acknowledge(u64::from(written.term), writes);
    }

    /// The node has shown `offset`.
    #[inline]
    pub(super) fn note_offset(&self, question: Question, offset: u64) {
        if question.wrote {
            let term = u64::from(question.term);
            self.log().borrow_mut().read(term, offset, question.covers);
            self.tally.ledger.read(term, offset, question.before);
        }
    }

    /// Asks behind writes that no ROLE is behind yet, unless the next flush will, or (`term` above 0) in any case. False:
    /// nobody will be asked here.
    pub(in crate::upstream) fn catch_up(&self, term: u32) -> bool {
        let mut shared = self.shared.borrow_mut();
        if shared.mute || shared.spoiled || !self.is_open() {
            return false;
        }
        if term > 0 && shared.unread == 0 {
            self.log().borrow_mut().resume(term.into(), 0);
            shared.unread = term;
        }
        let busy = self.since_asked(&shared, self.tally.clock.now()) < PERIOD_NS;
        if shared.unread > 0 && busy && term == 0 {
            self.tally.owe(self.target.node);
        } else if shared.unread > 0 {
            shared.wants_role = shared.wants_role.max(shared.unread);
            shared.dirty = true;
            shared.wake();
        }
        true
    }
}
