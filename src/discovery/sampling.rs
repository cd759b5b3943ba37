//! How often the master is asked for its offset. Pure; the time is an argument.
//!
//! More often than anything else only while that is of use: while a replica lags, so that how far is known to a few
//! milliseconds, and while readers have a bound to keep. Invariant: never more often than once in a millisecond.

use std::time::{Duration, Instant};

use super::lag::Lag;

/// A lag from here on is worth measuring: below, it is as good as none.
const WORTH: Duration = Duration::from_millis(2);
/// A figure may be wrong by this, or by this part of itself where that is more.
const EXACT: Duration = Duration::from_millis(3);
const PART: u32 = 20;
/// A need that was not heard of for this long is over.
const LASTS: Duration = Duration::from_secs(2);
const FINEST: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub struct Sampling {
    measured: Option<(Duration, Instant)>,
    wanted: Option<(Duration, Instant)>,
    /// When replicas were asked for theirs because the master had just told its own.
    compared_at: Option<Instant>,
}

impl Sampling {
    /// A replica is that far behind.
    pub fn lags(&mut self, lag: Lag, now: Instant) {
        if lag.time > WORTH {
            shortest(&mut self.measured, (lag.time / PART).max(EXACT), now);
        }
    }

    /// Readers need a mark that often.
    pub fn want(&mut self, pace: Duration, now: Instant) {
        shortest(&mut self.wanted, pace, now);
    }

    /// How often the master is to be asked, when everybody is asked every `poll`.
    pub fn pace(&self, poll: Duration, now: Instant) -> Duration {
        let recent = |(pace, at)| (now.saturating_duration_since(at) < LASTS).then_some(pace);
        let needed = [self.measured, self.wanted].into_iter().flatten().filter_map(recent).min();
        needed.map_or(poll, |pace: Duration| pace.max(FINEST).min(poll))
    }

    /// The master has just told its offset: whether replicas are to be asked for theirs, to be compared with that.
    pub fn is_time_to_compare(&mut self, poll: Duration, now: Instant) -> bool {
        let due = self.compared_at.is_none_or(|at| now.saturating_duration_since(at) >= poll * 9 / 10);
        if due {
            self.compared_at = Some(now);
        }
        due
    }
}

/// A longer one replaces a shorter one when that is over.
fn shortest(need: &mut Option<(Duration, Instant)>, pace: Duration, now: Instant) {
    match need {
        Some((before, at)) if *before < pace && now.saturating_duration_since(*at) < LASTS => {}
        _ => *need = Some((pace, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_master_is_asked_more_often_only_while_that_is_of_use() {
        let now = Instant::now();
        let poll = 100 * MS;
        let mut sampling = Sampling::default();
        let lag = |ms: u32| Lag { bytes: 1, time: ms * MS };
        assert_eq!(sampling.pace(poll, now), poll);
        sampling.lags(lag(1), now);
        assert_eq!(sampling.pace(poll, now), poll, "as good as none");
        sampling.lags(lag(50), now);
        assert_eq!(sampling.pace(poll, now), EXACT);
        sampling.lags(lag(400), now + MS);
        assert_eq!(sampling.pace(poll, now + MS), EXACT, "the smaller one needs more");
        assert_eq!(sampling.pace(poll, now + LASTS), poll);
        sampling.lags(lag(400), now + LASTS);
        assert_eq!(sampling.pace(poll, now + LASTS), 20 * MS);
        sampling.measured = None;
        sampling.want(25 * MS, now + LASTS);
        assert_eq!(sampling.pace(poll, now + LASTS), 25 * MS);
        sampling.want(50 * MS, now + LASTS + MS);
        assert_eq!(sampling.pace(poll, now + LASTS + MS), 25 * MS, "the more impatient one counts");
        sampling.want(50 * MS, now + 2 * LASTS);
        assert_eq!(sampling.pace(poll, now + 2 * LASTS), 50 * MS, "while it asks");
        sampling.want(Duration::ZERO, now + 2 * LASTS);
        assert_eq!(sampling.pace(poll, now + 2 * LASTS), MS);
        sampling.want(500 * MS, now + 4 * LASTS);
        assert_eq!(sampling.pace(poll, now + 4 * LASTS), poll);
    }

    #[test]
    fn replicas_are_compared_with_the_master_at_the_common_pace() {
        let now = Instant::now();
        let mut sampling = Sampling::default();
        let asked: Vec<bool> = (0..60).map(|i| sampling.is_time_to_compare(100 * MS, now + i * 5 * MS)).collect();
        let times: Vec<usize> = (0..60).filter(|i| asked[*i]).collect();
        assert_eq!(times, [0, 18, 36, 54]);
    }
}
