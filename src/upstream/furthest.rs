//! The largest offset that a worker was shown in a term, for discovery to read at a switch.
//!
//! One writer, any number of readers, no lock. Invariant: an offset is never taken for one of another term.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

#[derive(Debug, Default)]
pub struct Furthest {
    term: AtomicU64,
    offset: AtomicU64,
}

impl Furthest {
    pub fn note(&self, term: u64, offset: u64) {
        let known = self.term.load(Relaxed);
        if term < known {
            return;
        }
        if term > known {
            // Whoever sees the new term must not see the old offset.
            self.offset.store(0, Release);
            self.term.store(term, Release);
        }
        if offset > self.offset.load(Relaxed) {
            self.offset.store(offset, Release);
        }
    }

    /// `None`: none was shown in that term.
    pub fn of(&self, term: u64) -> Option<u64> {
        let is_of_term = || self.term.load(Acquire) == term;
        let offset = is_of_term().then(|| self.offset.load(Acquire))?;
        is_of_term().then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_term_and_its_largest_offset() {
        let furthest = Furthest::default();
        assert_eq!(furthest.of(1), None);
        for (term, offset, expected) in [(1, 30, 30), (1, 20, 30), (2, 5, 5), (1, 90, 5), (2, 7, 7)] {
            furthest.note(term, offset);
            assert_eq!(furthest.of(term.max(if expected == 30 { 1 } else { 2 })), Some(expected));
        }
        assert_eq!((furthest.of(1), furthest.of(3)), (None, None));
    }
}
