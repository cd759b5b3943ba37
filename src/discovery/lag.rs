//! How far behind a replica is, in bytes and in time, without writing a key.
//!
//! Remembers when the master was asked and what offset it told. A replica that applied offset X has everything that was
//! executed before the latest question whose answer was at most X, so it is no staler than the time since that question.
//! Needs only this process's clock. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Distinct offsets remembered; at one ROLE per 100 ms about 100 s, and beyond that with coarser steps.
const SAMPLES: usize = 1024;

/// What the master told, and when it was asked.
#[derive(Debug, Default)]
pub struct Samples {
    /// Ascending in both; one entry per offset, with the latest time it was asked for.
    ring: VecDeque<(Instant, i64)>,
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
    }

    /// The master was asked at `asked` (before the question was sent) and told `offset`.
    pub fn push(&mut self, asked: Instant, offset: i64) {
        match self.ring.back_mut() {
            Some((at, newest)) if *newest == offset => *at = asked.max(*at),
            Some((_, newest)) if *newest > offset => {
                self.ring.clear();
                self.ring.push_back((asked, offset));
            }
            _ => self.ring.push_back((asked, offset)),
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

    /// The master's offset as last told.
    pub fn newest(&self) -> Option<i64> {
        self.ring.back().map(|&(_, offset)| offset)
    }

    /// Since when offsets are remembered at all.
    pub fn age(&self, now: Instant) -> Duration {
        self.ring.front().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }

    /// How far behind a replica is at `now` that has applied `offset`. Zero when it has all the master was last seen to
    /// have. Older than anything remembered: the age of the oldest sample. `None` before the first sample.
    pub fn lag(&self, now: Instant, offset: i64) -> Option<Lag> {
        let newest = self.newest()?;
        if offset >= newest {
            return Some(Lag::default());
        }
        let covered = self.ring.partition_point(|&(_, told)| told <= offset);
        let (since, _) = self.ring.get(covered.saturating_sub(1))?;
        Some(Lag { bytes: newest.abs_diff(offset.max(0)), time: now.saturating_duration_since(*since) })
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
            (99, 201, 250),
        ];
        for (offset, bytes, ms) in table {
            assert_eq!(told.lag(start + 350 * MS, offset), Some(Lag { bytes, time: ms * MS }), "offset {offset}");
        }
        assert_eq!(Samples::default().lag(start, 1), None);
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
