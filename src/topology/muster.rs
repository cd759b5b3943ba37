//! Whether every worker has let go of the master, asked by whoever is about to move it; and after a switch whether each has
//! counted what it cost, and how far each saw the old master.
//!
//! Touched when a worker comes, and around a switch; never by a request. Invariant: a seat only tells of an epoch
//! that its worker has seen, under which nothing of it is on its way to a master.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::upstream::Furthest;

/// One worker's seat: dropped with the worker.
#[derive(Debug, Default)]
pub struct Seat {
    epoch: AtomicU64,
    reckoned: AtomicU64,
    furthest: Arc<Furthest>,
}

impl Seat {
    /// Nothing is on its way to a master since `epoch`, in which writes are held.
    pub fn let_go(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What the switch to the master of `term` cost is counted.
    pub fn reckon(&self, term: u64) {
        self.reckoned.store(term, Ordering::Release);
    }
}

/// All seats.
#[derive(Debug, Default)]
pub struct Muster(Mutex<Vec<Weak<Seat>>>);

impl Muster {
    /// A seat for who shows in `furthest` what offsets it was told, and has nothing to count before `term`.
    pub fn enlist(&self, furthest: Arc<Furthest>, term: u64) -> Arc<Seat> {
        let seat = Arc::new(Seat { furthest, reckoned: AtomicU64::new(term), ..Seat::default() });
        self.seats().push(Arc::downgrade(&seat));
        seat
    }

    /// Whether all have let go since `epoch`.
    pub fn has_let_go(&self, epoch: u64) -> bool {
        self.taken().iter().all(|seat| seat.epoch() >= epoch)
    }

    /// Whether all have counted what the switch to the master of `term` cost.
    pub fn has_reckoned(&self, term: u64) -> bool {
        self.taken().iter().all(|seat| seat.reckoned.load(Ordering::Acquire) >= term)
    }

    /// The largest offset that anybody was told in `term`.
    pub fn furthest(&self, term: u64) -> Option<u64> {
        self.taken().iter().filter_map(|seat| seat.furthest.of(term)).max()
    }

    fn taken(&self) -> Vec<Arc<Seat>> {
        let mut seats = self.seats();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.iter().filter_map(Weak::upgrade).collect()
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_is_there_must_have_let_go() {
        let muster = Muster::default();
        assert!(muster.has_let_go(9), "nobody is there");
        let (a, b) = (muster.enlist(Arc::default(), 0), muster.enlist(Arc::default(), 0));
        a.let_go(5);
        assert!(!muster.has_let_go(5));
        b.let_go(6);
        assert!(muster.has_let_go(5));
        assert!(!muster.has_let_go(6));
        drop(a);
        assert!(muster.has_let_go(6), "who left holds nothing");
    }

    #[test]
    fn a_switch_is_reckoned_when_everybody_has_and_the_furthest_is_anybodys() {
        let muster = Muster::default();
        assert!(muster.has_reckoned(2), "nobody is there");
        let offsets = [0, 1].map(|_| Arc::new(Furthest::default()));
        let seats = [(&offsets[0], 1), (&offsets[1], 2)].map(|(offset, term)| muster.enlist(Arc::clone(offset), term));
        assert!(!muster.has_reckoned(2), "one was there before");
        seats[0].reckon(2);
        assert!(muster.has_reckoned(2));
        assert_eq!(muster.furthest(1), None);
        offsets[0].note(1, 40);
        offsets[1].note(1, 70);
        assert_eq!(muster.furthest(1), Some(70));
        offsets[1].note(2, 10);
        assert_eq!((muster.furthest(1), muster.furthest(2)), (Some(40), Some(10)));
    }
}
