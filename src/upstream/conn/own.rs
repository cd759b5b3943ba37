//! What a connection appends of its own: SELECT, ROLE, scripts.
//!
//! Their replies are nobody's. Must not append between the requests of a run. Invariant: each has its entry, so that replies stay in step.

use super::{Conn, Question, Shared};
use crate::metrics::Tick;
use crate::resp::encode;
use crate::upstream::flight::Own;
use crate::upstream::ledger::Before;

/// Reads alone are followed by a ROLE no more often than this, in time and in runs: until the next one their sessions stay
/// on the connection. So it costs next to nothing, and sessions still change their replica now and then. Not where nodes have weights,
/// where each flush has one: with few others at a light node a session would stay for longer there, two to three times its share.
const ROLE_PERIOD_NS: u64 = 1_000_000;
const ROLE_RUNS: u64 = 16;

impl Conn {
    #[inline]
    pub(super) fn asked_lately(&self, shared: &Shared, now: Tick) -> bool {
        let (at, serial) = shared.asked;
        let lately = || shared.serial - serial < ROLE_RUNS || self.tally.clock.ns(at, now) < ROLE_PERIOD_NS;
        at > 0 && self.tally.even.get() && lately()
    }

    /// What is appended is about to be written: a ROLE behind it, if one is wanted.
    pub(super) fn close_flush(&self, shared: &mut Shared) {
        shared.led = false;
        let mut term = std::mem::take(&mut shared.wants_role);
        if term == 0 && self.is_due(shared) {
            term = shared.unread;
        }
        if shared.mute {
            return;
        }
        if term > 0 {
            self.ask_role(shared, term, self.tally.clock.now());
        }
    }

    pub(super) fn ask_role(&self, shared: &mut Shared, term: u32, now: Tick) {
        shared.ask_role(self.tally.origins.question(), term, self.tally.ledger.before(), now);
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Appends `n` scripts for the node, before what is to be appended next.
    pub fn append_scripts(&self, bytes: &[u8], n: u32, now: Tick) {
        if n > 0 {
            self.shared.borrow_mut().flight.push_own(bytes, n, now, Own::Script);
            self.in_flight.set(self.in_flight.get() + n);
        }
    }
}

impl Shared {
    pub(super) fn select(&mut self, db: u32, now: Tick) {
        let mut bytes = Vec::with_capacity(32);
        encode::request(&mut bytes, [&b"SELECT"[..], db.to_string().as_bytes()].into_iter());
        self.flight.push_own(&bytes, 1, now, Own::Select);
        self.db = db;
    }

    fn ask_role(&mut self, question: &'static [u8], term: u32, before: Before, now: Tick) {
        self.asked = (now, self.serial);
        let wrote = std::mem::take(&mut self.unread) > 0;
        self.roles.push_back(Question { term, covers: self.serial, wrote, before });
        self.flight.push_own(question, 1, now, Own::Role);
    }
}
