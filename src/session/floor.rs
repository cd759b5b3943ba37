//! What a session must see: at least what it wrote and what it was shown before (offsets.md section 3).
//!
//! Its floor is an offset of the present term. Where the offset of its last run is not known yet, the session stays where that
//! run was, for there it can only see more. Must not do I/O. Invariant: at level `session` a read is answered by a node
//! that had reached the floor before, or by the master.

use super::state::{Side, State};
use crate::config::Consistency;
use crate::topology::NodeId;
use crate::upstream::{Bound, Conn, LaneId, Reading};

/// What a session has seen, in offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The term of all of this; 0: nothing was seen.
    term: u64,
    floor: u64,
    /// The last run's number on its connection; 0: what it saw is in the floor.
    serial: u64,
    /// Saw something at the master that no reading covers, or in an earlier term: only the master is sure to show it.
    beyond: bool,
    /// The floor is all there is: nothing that was sent since has been answered.
    clear: bool,
}

/// Where a read may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// To any reader that has reached the floor; 0: to all.
    Any {
        floor: u64,
    },
    /// To the connection of the last run, or the master.
    Stay,
    Master,
}

impl Seen {
    /// Where the next read may go in `term`; `last` is what is known of the last run's connection.
    #[inline]
    pub fn allowed(&mut self, term: u64, last: Option<Reading>) -> Allowed {
        if self.term != term {
            self.enter(term);
        } else if self.serial > 0
            && let Some(reading) = last
            && reading.term == term
            && reading.covers >= self.serial
        {
            (self.floor, self.serial) = (self.floor.max(reading.offset), 0);
        }
        match (self.beyond, self.serial) {
            (true, _) => Allowed::Master,
            (false, 0) => Allowed::Any { floor: self.floor },
            (false, _) => Allowed::Stay,
        }
    }

    #[inline]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Offsets of another term say nothing here. The master has all there is.
    fn enter(&mut self, term: u64) {
        *self = Self { term, floor: 0, serial: 0, beyond: self.term != 0, clear: false };
    }

    /// A run went out in `term`, as number `serial` of its connection, with others before it on their way unless it is the
    /// `first`. One at the master will show all there is.
    #[inline]
    pub fn sent(&mut self, term: u64, serial: u64, (at_master, first): (bool, bool)) {
        if self.term != term {
            self.enter(term);
        }
        if first {
            self.clear = self.serial == 0 && !self.beyond;
        }
        self.serial = serial;
        self.beyond &= !at_master;
    }

    /// Something of what was sent has been answered.
    #[inline]
    pub fn answered(&mut self) {
        self.clear = false;
    }

    /// What is on its way comes back. Returns whether nothing was seen of it, so that the floor is all there is again.
    pub fn unsent(&mut self) -> bool {
        if self.clear {
            self.serial = 0;
        }
        self.clear
    }

    /// Its last run's connection is no longer its own to use, or did not answer that run for want of offset: it must not stay.
    pub fn leave(&mut self) {
        self.beyond |= self.serial > 0;
        self.serial = 0;
    }

    /// Something was done at the master that no reading covers.
    pub fn escaped(&mut self) {
        (self.term, self.beyond) = (self.term.max(1), true);
    }
}

impl State {
    /// From here on it is somebody else, or speaks otherwise: the connection of its last request is not for it.
    pub fn enter_lane(&mut self, lane: LaneId) {
        self.lane = lane;
        self.conn = None;
        self.seen.leave();
    }

    /// Whether its next read goes to the master whatever the read policy says.
    pub fn is_bound_to_master(&self, term: u64) -> bool {
        let mut seen = self.seen;
        match (self.level, seen.allowed(term, self.conn.as_ref().map(|conn| conn.reading()))) {
            (Consistency::Eventual | Consistency::Bounded, _) => false,
            (Consistency::Strong, _) => true,
            (Consistency::Session, Allowed::Any { .. }) => false,
            (Consistency::Session, Allowed::Stay) => self.side == Side::Master,
            (Consistency::Session, Allowed::Master) => true,
        }
    }

    /// The replica its next read stays at.
    pub fn stays_at(&self, term: u64) -> Option<NodeId> {
        let (mut seen, last) = (self.seen, self.conn.as_ref()?);
        let stays = self.level == Consistency::Session && seen.allowed(term, Some(last.reading())) == Allowed::Stay;
        (stays && self.side == Side::Replica && last.is_open()).then_some(last.target.node)
    }

    /// What its next read needs, in words.
    pub fn needs(&self, term: u64) -> String {
        let mut seen = self.seen;
        match seen.allowed(term, self.conn.as_ref().map(|conn| conn.reading())) {
            Allowed::Any { floor: 0 } => "any reader will do, this session has seen nothing yet".to_owned(),
            Allowed::Any { floor } => format!("a reader that shows offset {floor}, else the master"),
            Allowed::Stay => "the connection of its last request, else the master".to_owned(),
            Allowed::Master => "the master, which alone is sure to show what this session has seen".to_owned(),
        }
    }

    /// Where the next read may go.
    #[inline]
    pub fn allowed(&mut self, term: u64) -> Allowed {
        let last = self.conn.as_ref().map(|conn| conn.reading());
        self.seen.allowed(term, last)
    }

    /// The bound of a read that goes to `conn`.
    #[inline]
    pub fn bound(&self, term: u64, conn: &Conn, floor: u64) -> Bound {
        let patient = self.side == Side::Replica;
        // Before its first read nobody asks what it saw.
        let term = if self.reads { u32::try_from(term).unwrap_or(u32::MAX) } else { 0 };
        // Strictly, a replica shows each time anew that it is in line, even where any offset will do.
        let known = !patient || conn.has_shown(term, floor);
        Bound { term, floor: if known { 0 } else { floor.max(1) }, patient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(term: u64, offset: u64, covers: u64) -> Option<Reading> {
        Some(Reading { term, offset, covers })
    }

    #[test]
    fn a_session_that_saw_nothing_may_read_anywhere() {
        assert_eq!(Seen::default().allowed(3, None), Allowed::Any { floor: 0 });
    }

    #[test]
    fn it_stays_until_what_it_saw_has_an_offset() {
        let mut seen = Seen::default();
        seen.sent(1, 7, (true, true));
        for (last, expected) in [
            (None, Allowed::Stay),
            (reading(1, 500, 6), Allowed::Stay),
            (reading(0, 500, 9), Allowed::Stay),
            (reading(1, 500, 7), Allowed::Any { floor: 500 }),
            (None, Allowed::Any { floor: 500 }),
        ] {
            assert_eq!(seen.allowed(1, last), expected, "{last:?}");
        }
        // A replica further back, to which it was let because of what it had shown before, never lowers the floor.
        seen.sent(1, 2, (false, true));
        assert_eq!(seen.allowed(1, reading(1, 499, 2)), Allowed::Any { floor: 500 });
    }

    #[test]
    fn in_a_new_term_and_behind_a_connection_of_its_own_only_the_master_is_sure() {
        let mut seen = Seen::default();
        seen.sent(1, 7, (true, true));
        assert_eq!(seen.allowed(2, reading(1, 500, 7)), Allowed::Master);
        seen.sent(2, 1, (false, true));
        assert_eq!(seen.allowed(2, reading(2, 10, 1)), Allowed::Master);
        seen.sent(2, 2, (true, true));
        assert_eq!(seen.allowed(2, reading(2, 20, 2)), Allowed::Any { floor: 20 });
        seen.escaped();
        assert_eq!(seen.allowed(2, reading(2, 20, 2)), Allowed::Master);
        seen.sent(2, 3, (true, true));
        assert_eq!(seen.allowed(2, reading(2, 30, 3)), Allowed::Any { floor: 30 });
        // Given back by a replica that is not so far: nothing was seen there, and there is no staying.
        seen.sent(2, 4, (false, true));
        assert_eq!(seen.allowed(2, reading(2, 20, 3)), Allowed::Stay);
        seen.leave();
        assert_eq!(seen.allowed(2, reading(2, 40, 9)), Allowed::Master);
        let mut fresh = Seen::default();
        fresh.leave();
        assert_eq!(fresh.allowed(1, None), Allowed::Any { floor: 0 });
        fresh.escaped();
        assert_eq!(fresh.allowed(1, None), Allowed::Master);
        assert_eq!(fresh.allowed(4, None), Allowed::Master);
    }
    #[test]
    fn what_comes_back_unanswered_leaves_the_floor_as_it_was() {
        // (the floor was exact before, what came after the first run, whether it may be forgotten)
        for (known, then, expected) in [
            (true, "nothing", true),
            (true, "another run", true),
            (true, "an answer", false),
            (false, "nothing", false),
            (false, "another run", false),
        ] {
            let mut seen = Seen::default();
            seen.sent(1, 7, (true, true));
            seen.answered();
            assert_eq!(seen.allowed(1, if known { reading(1, 500, 7) } else { None }) != Allowed::Stay, known);
            seen.sent(1, 3, (true, true));
            match then {
                "another run" => seen.sent(1, 4, (true, false)),
                "an answer" => seen.answered(),
                _ => {}
            }
            assert_eq!(seen.unsent(), expected, "{known} {then}");
            let next = if expected { Allowed::Any { floor: 500 } } else { Allowed::Stay };
            assert_eq!(seen.allowed(1, None), next, "{known} {then}");
        }
        let mut elsewhere = Seen::default();
        elsewhere.escaped();
        elsewhere.sent(1, 7, (true, true));
        assert!(!elsewhere.unsent(), "the master alone was sure to show it");
    }
}
