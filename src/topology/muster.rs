//! Whether every worker has let go of the master: asked by whoever is about to move it.
//!
//! Touched when a worker comes, and while a switchover waits; never by a request. Invariant: a seat only tells of an epoch
//! that its worker has seen, under which nothing of it is on its way to a master.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One worker's seat: dropped with the worker.
#[derive(Debug, Default)]
pub struct Seat(AtomicU64);

impl Seat {
    /// Nothing is on its way to a master since `epoch`, in which writes are held.
    pub fn let_go(&self, epoch: u64) {
        self.0.store(epoch, Ordering::Release);
    }

    pub fn epoch(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// All seats.
#[derive(Debug, Default)]
pub struct Muster(Mutex<Vec<Weak<Seat>>>);

impl Muster {
    pub fn enlist(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        self.seats().push(Arc::downgrade(&seat));
        seat
    }

    /// Whether all have let go since `epoch`.
    pub fn has_let_go(&self, epoch: u64) -> bool {
        let mut seats = self.seats();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.iter().filter_map(Weak::upgrade).all(|seat| seat.epoch() >= epoch)
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
        let (a, b) = (muster.enlist(), muster.enlist());
        a.let_go(5);
        assert!(!muster.has_let_go(5));
        b.let_go(6);
        assert!(muster.has_let_go(5));
        assert!(!muster.has_let_go(6));
        drop(a);
        assert!(muster.has_let_go(6), "who left holds nothing");
    }
}
