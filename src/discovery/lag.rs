//! How far behind a replica is, in bytes and in time, without writing a key.
//!
//! Remembers when the master was asked and what offset it told. A replica that applied offset X has everything that was
//! executed before the latest question whose answer was at most X, so it is no staler than the time since that question.
//! Needs only this process's clock. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::topology::{Mark, Marks};

/// Distinct offsets remembered; at one ROLE per 100 ms about 100 s, and beyond that with coarser steps.
const SAMPLES: usize = 1024;

/// One offset of the master, and the first and last question that it answered.
#[derive(Debug, Clone, Copy)]
struct Sample {
    first: Instant,
    last: Instant,
    offset: i64,
}

/// What the master told, and when it was asked.
#[derive(Debug, Default)]
pub struct Samples {
    /// Ascending in time and offset; one entry per offset.
    ring: VecDeque<Sample>,
    /// Where the line was when it first fell back: another life of the process, whose offsets are not its own.
    fell_from: Option<i64>,
}

/// A replica's distance from its master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    pub bytes: u64,
    pub time: Duration,
}

impl Samples {
    /// Forgets everything: another master, another line of offsets.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.fell_from = None;
    }

    /// The master was asked at `asked` (before the question was sent) and told `offset`.
    pub fn push(&mut self, asked: Instant, offset: i64) {
        match self.ring.back_mut() {
            Some(newest) if newest.offset == offset => newest.last = asked.max(newest.last),
            Some(newest) if newest.offset > offset => {
                self.fell_from.get_or_insert(newest.offset);
                self.ring.clear();
                self.ring.push_back(Sample { first: asked, last: asked, offset });
            }
            _ => self.ring.push_back(Sample { first: asked, last: asked, offset }),
        }
        if self.ring.len() > SAMPLES {
            self.thin();
        }
    }

    /// Drops every second entry of the older half: an answer found there only gets larger, never smaller.
    fn thin(&mut self) {
        let mut index = 0;
        self.ring.retain(|_| {
            index += 1;
            index > SAMPLES / 2 || index % 2 == 0
        });
    }

    /// When the master was last asked and had not gone beyond `offset`: what it had answered before is within that.
    pub fn within(&self, offset: i64) -> Option<Instant> {
        let covered = self.ring.partition_point(|s| s.offset <= offset);
        self.ring.get(covered.checked_sub(1)?).map(|s| s.last)
    }

    /// The master's offset as last told.
    pub fn newest(&self) -> Option<i64> {
        self.ring.back().map(|s| s.offset)
    }

    /// The largest offset the master told before its line fell back, if it did.
    pub fn furthest(&self) -> Option<i64> {
        self.fell_from.or_else(|| self.newest())
    }

    /// Since when offsets are remembered at all.
    pub fn age(&self, now: Instant) -> Duration {
        self.ring.front().map_or(Duration::ZERO, |s| now.saturating_duration_since(s.first))
    }

    /// How far behind a replica was at `at`, when it had applied `offset`. Zero when it had all the master was known to
    /// have by then; what the master was asked later does not count against an earlier answer. Older than anything
    /// remembered: the age of the oldest sample. `None` without a sample by then.
    pub fn lag(&self, at: Instant, offset: i64) -> Option<Lag> {
        let known = self.ring.partition_point(|s| s.first <= at);
        let newest = self.ring.get(known.checked_sub(1)?)?.offset;
        if offset >= newest {
            return Some(Lag::default());
        }
        let covered = self.ring.partition_point(|s| s.offset <= offset);
        let since = match covered.checked_sub(1).and_then(|i| self.ring.get(i)) {
            Some(sample) => sample.last,
            None => self.ring.front()?.first,
        };
        Some(Lag { bytes: newest.abs_diff(offset.max(0)), time: at.saturating_duration_since(since) })
    }

    /// As [`Samples::lag`], with the likely time: where the offset lies between two that the master told, as far between
    /// their questions. Not a bound, but nearer to the truth where questions are far apart.
    pub fn estimate(&self, at: Instant, offset: i64) -> Option<Lag> {
        let bound = self.lag(at, offset)?;
        let next = self.ring.partition_point(|s| s.offset <= offset);
        let between = next.checked_sub(1).and_then(|i| self.ring.get(i)).zip(self.ring.get(next));
        let Some((before, after)) = between.filter(|_| bound.bytes > 0) else { return Some(bound) };
        let share = offset.abs_diff(before.offset) as f64 / after.offset.abs_diff(before.offset).max(1) as f64;
        let later = after.first.saturating_duration_since(before.last).mul_f64(share.clamp(0.0, 1.0));
        Some(Lag { time: bound.time.saturating_sub(later), ..bound })
    }

    /// For readers with a bound to keep.
    pub fn marks(&self, term: u64) -> Marks {
        Marks { term, list: self.ring.iter().map(|s| Mark { asked: s.last, offset: s.offset }).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn samples(start: Instant, told: &[(u32, i64)]) -> Samples {
        let mut samples = Samples::default();
        for &(at, offset) in told {
            samples.push(start + at * MS, offset);
        }
        samples
    }

    #[test]
    fn the_furthest_is_what_was_told_before_the_line_fell_back() {
        let start = Instant::now();
        let mut told = samples(start, &[(0, 100), (100, 362)]);
        assert_eq!((told.furthest(), told.newest()), (Some(362), Some(362)));
        for offset in [200, 500, 10] {
            told.push(start + 200 * MS, offset);
            assert_eq!((told.furthest(), told.newest()), (Some(362), Some(offset)));
        }
        told.clear();
        assert_eq!(told.furthest(), None);
        told.push(start, 20);
        assert_eq!(told.furthest(), Some(20));
    }

    #[test]
    fn lag_is_the_age_of_the_last_question_the_replica_covers() {
        let start = Instant::now();
        let told = samples(start, &[(0, 100), (100, 100), (200, 150), (300, 300)]);
        let table = [
            // (applied offset, bytes behind, ms behind at 350)
            (300, 0, 0),
            (400, 0, 0),
            (299, 1, 150),
            (150, 150, 150),
            (149, 151, 250),
            (100, 200, 250),
            // Older than anything remembered.
            (99, 201, 350),
        ];
        for (offset, bytes, ms) in table {
            assert_eq!(told.lag(start + 350 * MS, offset), Some(Lag { bytes, time: ms * MS }), "offset {offset}");
        }
        assert_eq!(Samples::default().lag(start, 1), None);
    }

    #[test]
    fn the_likely_lag_lies_between_two_questions() {
        let start = Instant::now();
        let told = samples(start, &[(0, 100), (100, 100), (200, 150), (300, 300)]);
        let table = [
            // (applied offset, ms behind at 350)
            (300, 0),
            (225, 100),
            (150, 150),
            (125, 200),
            (100, 250),
            (99, 350),
        ];
        for (offset, ms) in table {
            let likely = told.estimate(start + 350 * MS, offset).unwrap();
            assert_eq!(likely.time, ms * MS, "offset {offset}");
            let bound = told.lag(start + 350 * MS, offset).unwrap();
            assert!(likely.time <= bound.time && likely.bytes == bound.bytes, "offset {offset}");
        }
        assert_eq!(Samples::default().estimate(start, 1), None);
    }

    #[test]
    fn marks_carry_the_latest_question_of_each_offset() {
        let start = Instant::now();
        let marks = samples(start, &[(0, 100), (100, 100), (200, 150)]).marks(7);
        let expected = [(100, 100), (200, 150)].map(|(ms, offset)| Mark { asked: start + ms * MS, offset });
        assert_eq!((marks.term, marks.list), (7, expected.to_vec()));
    }

    #[test]
    fn a_question_to_the_master_after_the_replicas_answer_does_not_count_against_it() {
        let start = Instant::now();
        let told = samples(start, &[(0, 100), (90, 100), (200, 9_000)]);
        assert_eq!(told.lag(start + 150 * MS, 100), Some(Lag::default()));
        assert_eq!(told.lag(start + 50 * MS, 90), Some(Lag { bytes: 10, time: 50 * MS }));
        assert_eq!(told.lag(start + 250 * MS, 100), Some(Lag { bytes: 8_900, time: 160 * MS }));
    }

    #[test]
    fn an_idle_master_leaves_a_caught_up_replica_at_zero() {
        let start = Instant::now();
        let told = samples(start, &[(0, 7), (60_000, 7)]);
        assert_eq!(told.lag(start + 90_000 * MS, 7), Some(Lag::default()));
    }

    #[test]
    fn a_falling_offset_starts_anew() {
        let start = Instant::now();
        let told = samples(start, &[(0, 1000), (100, 10)]);
        assert_eq!(told.newest(), Some(10));
        assert_eq!(told.lag(start + 100 * MS, 10), Some(Lag::default()));
    }

    #[test]
    fn the_memory_is_bounded_and_errs_on_the_long_side() {
        let start = Instant::now();
        let mut told = Samples::default();
        for i in 0..10_000 {
            told.push(start + i * MS, i64::from(i));
        }
        assert!(told.ring.len() <= SAMPLES);
        let now = start + 10_000 * MS;
        for offset in (9_000..9_999).step_by(50) {
            let exact = (10_000 - offset) as u32 * MS;
            let lag = told.lag(now, offset).unwrap();
            assert!(lag.time >= exact && lag.time <= 8 * exact + 64 * MS, "{offset}: {lag:?}");
        }
    }
}
