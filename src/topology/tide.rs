//! How far the master was at which time, for readers that must not be staler than a bound (offsets.md section 3).
//!
//! Written by discovery, read by every worker without a lock. Pure but for the swap: the time is an argument. Invariant: a
//! mark's offset was told in answer to a question sent at the mark's time, so it covers everything executed before that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::Staleness;

/// A bound in bytes alone counts from what the master told within this time.
const NEWS: Duration = Duration::from_secs(1);
/// Asking more often than this gains nothing; in bytes there is no time to measure the need by.
const FINEST: Duration = Duration::from_millis(1);
const FINE: Duration = Duration::from_millis(5);

/// The master's offset, and the last question it was told in answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub asked: Instant,
    pub offset: i64,
}

/// The marks of one term, ascending in both.
#[derive(Debug, Default)]
pub struct Marks {
    pub term: u64,
    pub list: Vec<Mark>,
}

impl Marks {
    /// The least offset a reader must show, for a read that came at `now`, to be within `bound`. `None`: no mark is young
    /// enough to tell.
    pub fn floor(&self, term: u64, now: Instant, bound: Staleness) -> Option<u64> {
        let newest = self.list.last().filter(|_| self.term == term)?;
        let age = |mark: &Mark| now.saturating_duration_since(mark.asked);
        if age(newest) > bound.time.unwrap_or(NEWS) {
            return None;
        }
        let by_time = bound.time.and_then(|limit| {
            let first = self.list.partition_point(|mark| age(mark) > limit);
            self.list.get(first).map(|mark| mark.offset)
        });
        let by_bytes = bound.bytes.map(|bytes| newest.offset.saturating_sub_unsigned(bytes));
        by_time.max(by_bytes).map(|offset| offset.max(0).unsigned_abs())
    }
}

/// The newest marks, and how often readers need new ones.
#[derive(Debug, Default)]
pub struct Tide {
    marks: ArcSwap<Marks>,
    /// In ns; 0: nobody asks.
    wanted: AtomicU64,
}

impl Tide {
    pub fn publish(&self, marks: Marks) {
        self.marks.store(Arc::new(marks));
    }

    /// As [`Marks::floor`], of the newest marks. Says what readers need, so that there will be enough of them.
    pub fn floor(&self, term: u64, now: Instant, bound: Staleness) -> Option<u64> {
        let pace = bound.time.map_or(FINE, |limit| (limit / 4).max(FINEST)).as_nanos() as u64;
        let wanted = self.wanted.load(Relaxed);
        if wanted == 0 || pace < wanted {
            self.wanted.store(pace, Relaxed);
        }
        self.marks.load().floor(term, now, bound)
    }

    /// The shortest time between marks that anybody needed since the last call.
    pub fn take_wanted(&self) -> Option<Duration> {
        let wanted = self.wanted.swap(0, Relaxed);
        (wanted > 0).then(|| Duration::from_nanos(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_floor_is_what_the_master_had_told_when_the_bound_began() {
        let start = Instant::now();
        let list = [(0, 100), (100, 150), (200, 300), (290, 1000)];
        let marks = Marks { term: 3, list: list.map(|(ms, offset)| Mark { asked: start + ms * MS, offset }).to_vec() };
        let time = |ms: u32| Staleness { time: Some(ms * MS), bytes: None };
        let bytes = |bytes| Staleness { time: None, bytes: Some(bytes) };
        let both = |ms: u32, bytes| Staleness { time: Some(ms * MS), bytes: Some(bytes) };
        let table = [
            ("all marks are young enough: the oldest will do", 300, time(300), Some(100)),
            ("a mark at the bound counts", 300, time(200), Some(150)),
            ("one beyond it does not", 301, time(200), Some(300)),
            ("only the newest", 300, time(10), Some(1000)),
            ("none", 300, time(9), None),
            ("bytes behind the newest", 300, bytes(400), Some(600)),
            ("more bytes than there are", 300, bytes(4000), Some(0)),
            ("bytes of long ago", 1291, bytes(400), None),
            ("the stricter of both: bytes", 300, both(300, 400), Some(600)),
            ("the stricter of both: time", 300, both(50, 400), Some(1000)),
            ("both, and no mark within the time", 341, both(50, 400), None),
        ];
        for (what, at, bound, floor) in table {
            assert_eq!(marks.floor(3, start + at * MS, bound), floor, "{what}");
        }
        assert_eq!(marks.floor(4, start + 300 * MS, time(300)), None, "another term");
        assert_eq!(Marks::default().floor(0, start, time(300)), None);
    }

    #[test]
    fn the_most_impatient_reader_sets_the_pace() {
        let tide = Tide::default();
        let now = Instant::now();
        let bound = |ms: u32| Staleness { time: Some(ms * MS), bytes: None };
        assert_eq!(tide.take_wanted(), None);
        for ms in [400, 40, 4000] {
            tide.floor(1, now, bound(ms));
        }
        assert_eq!((tide.take_wanted(), tide.take_wanted()), (Some(10 * MS), None));
        tide.floor(1, now, bound(1));
        assert_eq!(tide.take_wanted(), Some(MS), "never finer");
        tide.floor(1, now, Staleness { time: None, bytes: Some(1) });
        assert_eq!(tide.take_wanted(), Some(5 * MS));
    }
}
