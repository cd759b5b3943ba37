//! A session's own acknowledged writes, as the place of the last of them, and what becomes of it when a switch lost some.
//!
//! Invariant: a session is closed for lost writes, or told by its next WAIT, only if one of its own is lost, or may be.

use super::Session;
use super::state::State;
use crate::metrics::Count;
use crate::upstream::ledger::{Fate, Place};

/// Its writes on shared connections lie in the order of their places, so the last tells of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// The last that was answered before anything that is on its way now.
    answered: Place,
    /// The last that was sent.
    sent: Place,
    /// More than one was on its way at once: some between these two may be answered.
    piled: bool,
    /// Something was answered since one was sent alone.
    heard: bool,
    /// What the node of a connection of its own had reached when it was lent, and in which term.
    begun: (u64, u64),
    /// A switch has lost some, or may have, and no WAIT has told it yet.
    pub bereft: bool,
}

impl Own {
    /// A run that writes went out; `alone`: everything before it is answered.
    #[inline]
    pub fn wrote(&mut self, place: Place, alone: bool) {
        if alone {
            (self.answered, self.piled, self.heard) = (self.sent, false, false);
        } else {
            self.piled = true;
        }
        self.sent = place;
    }

    /// One is acknowledged that never was on its way on a shared connection.
    pub fn acknowledged(&mut self, place: Place) {
        // Nowhere: of a term that its ledger does not know yet, or no more. What is known of an older one stays.
        if place.term > 0 {
            (self.answered, self.sent, self.piled) = (place, place, false);
        }
    }

    /// A reply came, perhaps to what was sent last.
    #[inline]
    pub fn heard(&mut self) {
        self.heard = true;
    }

    /// What was on its way will not be answered, or was refused.
    pub fn gave_up(&mut self) {
        if !self.piled && !self.heard {
            self.sent = self.answered;
        }
    }

    /// A connection of its own was lent to it.
    pub fn begin_apart(&mut self, term: u64, reached: u64) {
        self.begun = (term, reached);
    }

    /// What that connection's node had reached before anything it did there.
    fn reached(&self, term: u64) -> u64 {
        if self.begun.0 == term { self.begun.1 } else { 0 }
    }

    /// The place that tells whether its acknowledged writes of `term` are kept; `None`: it has none.
    fn last(&self, term: u64, in_flight: bool) -> Option<Place> {
        let last = if in_flight && !self.piled { self.answered } else { self.sent };
        Some(last).filter(|place| place.term == term)
    }
}

impl Session {
    /// A write was acknowledged on a connection of the session's own.
    #[cold]
    pub(super) fn acknowledged_apart(&self, s: &mut State) {
        let term = self.front.term();
        let place = self.front.pool.acknowledge_apart(term, s.own.reached(term), self.front.master());
        s.own.acknowledged(place);
    }

    /// Notes that the new master does not have what was acknowledged to it in `term`, or may not; closes it, if it is to know.
    /// `common`: up to where it has everything; `None`: nobody knows.
    pub(super) fn account_for(&self, term: u64, common: Option<u64>, close: bool) {
        let s = &mut *self.state.borrow_mut();
        let Some(last) = s.own.last(term, s.in_flight > 0).filter(|_| !s.dead) else { return };
        if common.is_some_and(|common| self.front.pool.ledger().fate(last, common) == Fate::Kept) {
            return;
        }
        s.own.bereft = true;
        if close {
            self.front.cells.count(Count::ClosedForLoss, 1);
            tracing::info!(id = self.id, "a client whose acknowledged writes are lost, or may be, was disconnected");
            s.die();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answered_write_tells_and_a_pipeline_by_what_was_sent_last() {
        let place = |serial| Place { term: 1, log: 1, serial };
        let mut own = Own::default();
        assert_eq!((own.last(1, false), own.last(0, false)), (None, Some(Place::default())));
        own.wrote(place(1), true);
        assert_eq!((own.last(1, true), own.last(1, false)), (None, Some(place(1))));
        own.wrote(place(2), true);
        assert_eq!((own.last(1, true), own.last(1, false)), (Some(place(1)), Some(place(2))));
        assert_eq!(own.last(2, false), None);
        own.gave_up();
        assert_eq!(own.last(1, false), Some(place(1)));
        own.wrote(place(3), true);
        own.wrote(place(4), false);
        assert_eq!(own.last(1, true), Some(place(4)));
        own.gave_up();
        assert_eq!(own.last(1, false), Some(place(4)));
        own.wrote(place(5), true);
        assert_eq!(own.last(1, true), Some(place(4)));
    }

    #[test]
    fn what_was_answered_in_part_is_not_given_up() {
        let place = |serial| Place { term: 1, log: 1, serial };
        let mut own = Own::default();
        own.wrote(place(1), true);
        own.heard();
        own.wrote(place(2), true);
        own.gave_up();
        assert_eq!(own.last(1, false), Some(place(1)), "refused");
        own.wrote(place(3), true);
        own.heard();
        own.gave_up();
        assert_eq!(own.last(1, false), Some(place(3)), "some of it was acknowledged");
    }

    #[test]
    fn what_is_acknowledged_apart_is_the_last_unless_it_is_nowhere() {
        let place = |serial| Place { term: 1, log: 0, serial };
        let mut own = Own::default();
        own.acknowledged(place(1));
        assert_eq!((own.last(1, true), own.last(1, false)), (Some(place(1)), Some(place(1))));
        own.acknowledged(Place::default());
        assert_eq!((own.last(1, true), own.last(1, false)), (Some(place(1)), Some(place(1))));
    }

    #[test]
    fn what_was_reached_holds_within_its_term() {
        let mut own = Own::default();
        own.begin_apart(3, 70);
        assert_eq!([2, 3, 4].map(|term| own.reached(term)), [0, 70, 0]);
    }
}
