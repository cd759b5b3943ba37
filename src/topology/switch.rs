//! The last change of master: how much of the line before the new one has.
//!
//! Invariant: what is not proven by lineage is not claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::{Lineage, Relation, relation};
use crate::metrics;

/// How much of what the master before had written its successor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is the same process, whatever it calls its line.
    All,
    /// Everything up to and including this offset, on the same line of numbers.
    UpTo(u64),
    /// Their offsets do not compare.
    Unknown,
}

/// One change of master.
#[derive(Debug)]
pub struct Switch {
    /// The new master's term.
    pub term: u64,
    pub from: Option<Arc<str>>,
    pub to: Arc<str>,
    pub kept: Kept,
    pub lost: Lost,
    pub at: Instant,
    pub toll: Toll,
}

/// What the switch cost in writes that redweir had acknowledged: each worker adds its own once it heeds the switch.
#[derive(Debug, Default)]
pub struct Toll {
    lost: AtomicU64,
    uncertain: AtomicU64,
    closed: AtomicBool,
    /// Somebody did not count, or came too late: the sums are no bound of anything.
    partial: AtomicBool,
}

impl Toll {
    pub fn add(&self, lost: u64, uncertain: u64) {
        self.lost.fetch_add(lost, Relaxed);
        self.uncertain.fetch_add(uncertain, Relaxed);
    }

    /// Somebody had nothing to count from, though there may have been writes.
    pub fn miss(&self) {
        self.partial.store(true, Relaxed);
    }

    /// Nothing more is waited for; `complete`: all who could have added have done so.
    pub fn close(&self, complete: bool) {
        self.partial.fetch_or(!complete, Relaxed);
        self.closed.store(true, Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub fn is_partial(&self) -> bool {
        self.partial.load(Relaxed)
    }

    /// Writes lost for certain, and those of which nobody knows.
    pub fn sum(&self) -> (u64, u64) {
        (self.lost.load(Relaxed), self.uncertain.load(Relaxed))
    }
}

impl Switch {
    /// The offset of the old line up to which the new master is known to have everything. `None`: nothing is known.
    pub fn common(&self) -> Option<u64> {
        match (self.lost, self.kept) {
            (Lost::Nothing, _) | (_, Kept::All) => Some(u64::MAX),
            (_, Kept::UpTo(common)) => Some(common),
            (_, Kept::Unknown) => None,
        }
    }

    /// Acknowledged writes that are lost, and those that may be; `None`: not counted yet, or not by everybody, or offsets do
    /// not compare.
    pub fn writes(&self) -> Option<(u64, u64)> {
        let told = self.toll.is_closed() && !self.toll.is_partial();
        (told && self.common().is_some()).then(|| self.toll.sum())
    }
}

/// How many bytes of the line before the new master does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    /// So many of those that redweir saw the old master have. It may have written more after it was last asked, so that 0 is no
    /// proof of anything.
    AtLeast(u64),
    /// Their offsets do not compare, or the old one never told any.
    Unknown,
}

impl Lost {
    /// `furthest`: the largest offset the old master told in its term. `ended`: its line is known to have ended within what
    /// the new one has.
    pub fn of(kept: Kept, furthest: Option<i64>, ended: bool) -> Self {
        match (kept, furthest) {
            (Kept::All, _) => Lost::Nothing,
            (Kept::UpTo(_), _) if ended => Lost::Nothing,
            (Kept::UpTo(common), Some(told)) => Lost::AtLeast(u64::try_from(told).unwrap_or(0).saturating_sub(common)),
            (Kept::UpTo(_), None) | (Kept::Unknown, _) => Lost::Unknown,
        }
    }

    /// The bytes known to be lost. `None`: nothing is known.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Lost::Nothing => Some(0),
            Lost::AtLeast(bytes) => Some(bytes),
            Lost::Unknown => None,
        }
    }

    pub fn kept(self) -> metrics::Kept {
        match self {
            Lost::Nothing => metrics::Kept::All,
            Lost::AtLeast(0) => metrics::Kept::Seen,
            Lost::AtLeast(_) => metrics::Kept::Part,
            Lost::Unknown => metrics::Kept::Unknown,
        }
    }
}

impl Kept {
    pub fn of(old: &Lineage, new: &Lineage, same_process: bool) -> Self {
        match relation(old, new) {
            Relation::Same => Kept::All,
            _ if same_process => Kept::All,
            Relation::Descends { common } => Kept::UpTo(u64::try_from(common).unwrap_or(0)),
            Relation::Unrelated => Kept::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lineage_or_the_process_itself_proves_what_was_kept() {
        let line = |id: &str, previous: &str, branch| Lineage { id: id.into(), previous: previous.into(), branch };
        let old = line("a", "", -1);
        for (new, same_process, kept) in [
            (line("b", "a", 329), false, Kept::UpTo(328)),
            (line("a", "", -1), false, Kept::All),
            (line("x", "", -1), true, Kept::All),
            (line("x", "", -1), false, Kept::Unknown),
            (line("c", "b", 329), false, Kept::Unknown),
        ] {
            assert_eq!(Kept::of(&old, &new, same_process), kept, "{new:?}");
        }
    }

    #[test]
    fn what_was_lost_is_never_said_to_be_less_or_more_certain_than_offsets_show() {
        for (kept, furthest, lost, bytes, label) in [
            (Kept::All, Some(500), Lost::Nothing, Some(0), "all"),
            (Kept::All, None, Lost::Nothing, Some(0), "all"),
            (Kept::UpTo(328), Some(362), Lost::AtLeast(34), Some(34), "part"),
            (Kept::UpTo(328), Some(329), Lost::AtLeast(1), Some(1), "part"),
            (Kept::UpTo(328), Some(328), Lost::AtLeast(0), Some(0), "seen"),
            (Kept::UpTo(328), Some(100), Lost::AtLeast(0), Some(0), "seen"),
            (Kept::UpTo(328), Some(-1), Lost::AtLeast(0), Some(0), "seen"),
            (Kept::UpTo(328), None, Lost::Unknown, None, "unknown"),
            (Kept::Unknown, Some(362), Lost::Unknown, None, "unknown"),
        ] {
            let found = Lost::of(kept, furthest, false);
            assert_eq!((found, found.bytes(), found.kept().label()), (lost, bytes, label), "{kept:?} {furthest:?}");
        }
        assert_eq!(Lost::of(Kept::UpTo(328), Some(328), true), Lost::Nothing);
        assert_eq!(Lost::of(Kept::Unknown, Some(328), true), Lost::Unknown);
    }

    #[test]
    fn writes_are_told_when_all_are_counted_and_offsets_compare() {
        let switch = |kept, lost| Switch {
            term: 2,
            from: None,
            to: "b:1".into(),
            kept,
            lost,
            at: Instant::now(),
            toll: Toll::default(),
        };
        for (kept, lost, common, writes) in [
            (Kept::UpTo(328), Lost::AtLeast(34), Some(328), Some((3, 1))),
            (Kept::UpTo(328), Lost::Nothing, Some(u64::MAX), Some((3, 1))),
            (Kept::All, Lost::Nothing, Some(u64::MAX), Some((3, 1))),
            (Kept::Unknown, Lost::Unknown, None, None),
        ] {
            let switch = switch(kept, lost);
            switch.toll.add(1, 1);
            switch.toll.add(2, 0);
            assert_eq!((switch.common(), switch.writes()), (common, None), "{kept:?}");
            switch.toll.close(true);
            assert_eq!(switch.writes(), writes, "{kept:?}");
        }
        let after = |what: &dyn Fn(&Toll)| {
            let switch = switch(Kept::UpTo(328), Lost::AtLeast(34));
            what(&switch.toll);
            switch.writes()
        };
        assert_eq!(after(&|toll| toll.close(false)), None, "not everybody has counted");
        let missed = |toll: &Toll| {
            toll.miss();
            toll.close(true);
        };
        assert_eq!(after(&missed), None, "somebody never saw that term");
    }
}
