//! Least in flight: how long reads stay with a reader that is at work.
//!
//! A read that joins one travels with others and finds it awake, where an idle one must be woken for it: fewer and larger writes
//! on both sides, and sooner answered. A reader that is idle, slow or silent is not joined: so without a crowd reads are spread
//! one by one, and dear ones go to whoever is idle. Must not choose a reader. Invariant: a turn ends.

use crate::route::Loads;
use crate::topology::{NodeId, Reader};

/// Picks in a row that the heaviest reader may get, a lighter one fewer. Short, so that each has its share of any second; longer
/// brought nothing (16, 32 and 100 measured).
pub(super) const TURN: u32 = 16;
/// A read waits at most so long behind others while there may be an idle reader. That is a few times what it takes to wake one;
/// with 150 us the gain was half of that with 250, and with 450 no more.
pub(super) const MOMENT_NS: u64 = 250_000;
/// What a read costs its node at most, for it to wait behind others. A dearer one is better off with an idle reader, and so is
/// everybody behind it.
pub(super) const CHEAP_NS: u64 = 20_000;

/// Who was picked last, and how often it may be again at once.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    node: NodeId,
    pub(super) left: u32,
}

impl Turn {
    /// `reader` was picked; `heaviest` is the greatest weight among those that it was picked from.
    pub(super) fn begun(reader: &Reader, heaviest: u32) -> Self {
        // At most TURN, for the reader is one of them.
        let picks = u64::from(TURN) * u64::from(reader.weight) / u64::from(heaviest.max(1));
        Self { node: reader.node, left: (picks as u32).saturating_sub(1) }
    }

    /// Whose turn it is, if a read that joins it hardly waits.
    #[inline]
    pub(super) fn joined(self, loads: &impl Loads) -> Option<NodeId> {
        if self.left == 0 {
            return None;
        }
        let (each, all) = loads.wait_ns(self.node);
        ((1..CHEAP_NS).contains(&each) && all < MOMENT_NS).then_some(self.node)
    }

    /// One pick less.
    #[inline]
    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
