//! A worker whose node has enough before it lets the other threads of its core go first, before it sleeps.
//!
//! Who sleeps is woken by the next byte of any client, and on a busy core the kernel takes it from whoever sent that byte: two
//! switches for each client, while its request is held back anyway (`conn/line.rs`). Who has given way is not asleep, and
//! nobody is interrupted for it; when its turn comes, all that was sent is there at once. Where nobody else wants the core
//! giving way is one short system call. SET at pipeline 16: 0.50 us instead of 0.59 with 50 clients, 0.63 instead of 0.71 with 1000.
//!
//! Must not happen while a node waits for what is to be written. Invariant: where others kept the core for so long that the node
//! ran dry, none of this is done for a while, each time longer.
//!
//! A worker is one thread, and only the thread knows when it is about to sleep: so this is the thread's, not a connection's.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Others may have the core so long, even if the node runs dry: they have their part in the work (a client, the node itself).
/// Who only computes keeps it for a whole slice of the scheduler, 3 ms and more.
const LONG: Duration = Duration::from_millis(2);
/// After they had it longer, and the node ran dry, it is not given away for this long.
const SHORTEST: Duration = Duration::from_millis(10);
/// Doubled by each further time up to this, and halved by each time that went well.
const LONGEST: Duration = Duration::from_secs(5);

thread_local! {
    static WAY: Way = const { Way::new() };
}

/// A connection was looked at before it sleeps: its node has `enough` before it, or not.
#[inline]
pub fn note(enough: bool) {
    WAY.with(|way| way.enough.set(enough));
}

/// A node that had enough before it has answered; `dry`: by now it has nothing more to do.
#[inline]
pub fn judge(dry: bool) {
    WAY.with(|way| way.judge(dry, Instant::now));
}

/// The thread has nothing to do and is about to sleep.
pub fn before_sleep() {
    WAY.with(|way| {
        if way.may_give(Instant::now) {
            let since = Instant::now();
            std::thread::yield_now();
            way.given.set(Some(since.elapsed()));
        }
    });
}

struct Way {
    enough: Cell<bool>,
    /// The core was given away for so long, and it is not known yet what came of it.
    given: Cell<Option<Duration>>,
    not_before: Cell<Option<Instant>>,
    penalty: Cell<Duration>,
}

impl Way {
    const fn new() -> Self {
        let (given, not_before) = (Cell::new(None), Cell::new(None));
        Self { enough: Cell::new(false), given, not_before, penalty: Cell::new(SHORTEST) }
    }

    #[inline]
    fn may_give(&self, now: impl FnOnce() -> Instant) -> bool {
        self.enough.get() && self.not_before.get().is_none_or(|then| now() >= then)
    }

    fn judge(&self, dry: bool, now: impl FnOnce() -> Instant) {
        let Some(given) = self.given.take() else { return };
        if dry && given >= LONG {
            self.not_before.set(Some(now() + self.penalty.get()));
            self.penalty.set((self.penalty.get() * 2).min(LONGEST));
        } else {
            self.not_before.set(None);
            self.penalty.set((self.penalty.get() / 2).max(SHORTEST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_given_away_only_while_a_node_has_enough() {
        let way = Way::new();
        assert!(!way.may_give(Instant::now));
        way.enough.set(true);
        assert!(way.may_give(Instant::now));
        way.enough.set(false);
        assert!(!way.may_give(Instant::now));
    }

    #[test]
    fn who_keeps_it_while_the_node_runs_dry_is_not_given_it_again_soon() {
        let way = Way::new();
        way.enough.set(true);
        let start = Instant::now();
        // (had it for, the node ran dry, not given again within)
        let table = [
            (LONG, false, Duration::ZERO),
            (LONG / 2, true, Duration::ZERO),
            (LONG, true, SHORTEST),
            (LONG, true, SHORTEST * 2),
            (LONG, true, SHORTEST * 4),
            (LONG / 2, true, Duration::ZERO),
            (LONG, true, SHORTEST * 4),
        ];
        for (n, (had, dry, not_within)) in table.into_iter().enumerate() {
            way.given.set(Some(had));
            way.judge(dry, || start);
            assert!(way.may_give(|| start + not_within), "{n}");
            assert_eq!(way.may_give(|| start), not_within.is_zero(), "{n}");
        }
        // Nobody had it since: nothing is judged.
        way.judge(true, || start);
        assert_eq!(way.penalty.get(), SHORTEST * 8);
        for _ in 0..20 {
            way.given.set(Some(LONG));
            way.judge(true, || start);
        }
        assert!(!way.may_give(|| start + LONGEST / 2) && way.may_give(|| start + LONGEST));
    }
}
