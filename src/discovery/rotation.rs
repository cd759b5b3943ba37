//! Which replicas may be read from. A pure decision, with the little memory it needs kept in [`Rotation`].
//!
//! Invariant: a replica is in rotation only while its replication id has been shown to be the master's, it follows the
//! stream, and it has applied everything the master had when its link came up ("connected" alone is not "caught up").

use std::time::{Duration, Instant};

use super::lag::Lag;
use super::seen::Link;
use crate::config::Share;

/// A link that just dropped may be the first sign of the master's own end: readers are not thrown out before it was
/// asked, for then they are all there is to read from.
pub const LINK_GRACE: Duration = Duration::from_millis(50);

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Option<Duration>,
    pub bytes: Option<u64>,
    /// The part of both at which one that lagged is a reader again.
    pub back: Share,
}

impl Limits {
    fn exceeded(self, lag: Lag) -> bool {
        self.time.is_some_and(|limit| lag.time > limit) || self.bytes.is_some_and(|limit| lag.bytes > limit)
    }

    /// Well within each: a replica at the limit does not flap.
    fn comfortable(self, lag: Lag) -> bool {
        self.time.is_none_or(|limit| lag.time <= self.back.of(limit))
            && self.bytes.is_none_or(|limit| lag.bytes <= self.back.of_bytes(limit))
    }
}

/// One replica as seen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Answers, says replica, is not loading and not superseded.
    pub serves: bool,
    pub link: Link,
    /// INFO showed the master's replication id.
    pub same_line: bool,
    /// Its applied offset.
    pub applied: i64,
    /// The master's offset as last told.
    pub newest: Option<i64>,
    pub lag: Option<Lag>,
    /// Which answer `lag` was told by.
    pub answer: Instant,
    /// There is no master to follow: what was fit stays fit, for nothing newer exists.
    pub headless: bool,
}

/// Where a replica stands. -> any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// May be read from.
    Reader,
    /// Would be a reader but for its lag.
    Lagging,
    #[default]
    Out,
}

/// What is remembered of one replica between decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    pub place: Place,
    /// Has applied what the master had when the link came up.
    caught_up: bool,
    /// The offset to reach for that.
    target: Option<i64>,
    unlinked_at: Option<Instant>,
    /// The answer that first showed too large a lag: one alone may have crossed a large write on its way.
    over: Option<Instant>,
}

impl Rotation {
    /// Decides anew; returns whether the place changed.
    pub fn decide(&mut self, facts: Facts, limits: Limits, now: Instant) -> bool {
        let before = self.place;
        self.place = self.place_for(facts, limits, now);
        before != self.place
    }

    /// The link to the master dropped and the master itself should be asked whether it is well.
    pub fn wonders(&self) -> bool {
        self.unlinked_at.is_some() && self.place != Place::Out
    }

    fn place_for(&mut self, facts: Facts, limits: Limits, now: Instant) -> Place {
        if !facts.serves || !facts.same_line || facts.link == Link::Sync {
            *self = Self::default();
            return Place::Out;
        }
        if facts.link == Link::Down {
            let since = *self.unlinked_at.get_or_insert(now);
            if facts.headless || now.saturating_duration_since(since) < LINK_GRACE {
                return self.place;
            }
            *self = Self { unlinked_at: Some(since), ..Self::default() };
            return Place::Out;
        }
        if facts.headless {
            return self.place;
        }
        if self.unlinked_at.take().is_some() {
            // It may have been given another data set meanwhile: caught up is to be shown again.
            self.caught_up = false;
            self.target = None;
        }
        if !self.caught_up {
            let Some(newest) = facts.newest else { return Place::Out };
            let target = *self.target.get_or_insert(newest);
            if facts.applied < target {
                return Place::Out;
            }
            self.caught_up = true;
        }
        let Some(lag) = facts.lag else { return self.place };
        if !limits.exceeded(lag) {
            self.over = None;
        }
        match self.place {
            Place::Reader if limits.exceeded(lag) => {
                let first = *self.over.get_or_insert(facts.answer);
                if first == facts.answer { Place::Reader } else { Place::Lagging }
            }
            Place::Out if limits.exceeded(lag) => Place::Lagging,
            Place::Lagging if !limits.comfortable(lag) => Place::Lagging,
            _ => Place::Reader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LIMITS: Limits = Limits { time: Some(Duration::from_millis(1000)), bytes: Some(1000), back: Share(8000) };
    const NONE: Limits = Limits { time: None, bytes: None, back: Share(8000) };

    /// In line, linked and at the master's offset.
    fn fit(now: Instant) -> Facts {
        Facts {
            serves: true,
            link: Link::Connected,
            same_line: true,
            applied: 500,
            newest: Some(500),
            lag: Some(Lag::default()),
            answer: now,
            headless: false,
        }
    }

    fn behind(now: Instant, ms: u32, bytes: u64) -> Facts {
        Facts { lag: Some(Lag { time: ms * MS, bytes }), ..fit(now) }
    }

    fn reader(now: Instant) -> Rotation {
        let mut rotation = Rotation::default();
        assert!(rotation.decide(fit(now), LIMITS, now));
        assert_eq!(rotation.place, Place::Reader);
        rotation
    }

    #[test]
    fn who_leaves_at_once() {
        let now = Instant::now();
        let table = [
            ("does not serve", Facts { serves: false, ..fit(now) }),
            ("another line", Facts { same_line: false, ..fit(now) }),
            ("receives a data set", Facts { link: Link::Sync, ..fit(now) }),
            ("receives one while there is no master", Facts { link: Link::Sync, headless: true, ..fit(now) }),
            ("another line while there is no master", Facts { same_line: false, headless: true, ..fit(now) }),
        ];
        for (what, facts) in table {
            let mut rotation = reader(now);
            assert!(rotation.decide(facts, LIMITS, now), "{what}");
            assert_eq!(rotation.place, Place::Out, "{what}");
        }
    }

    #[test]
    fn a_lost_link_is_out_after_the_master_had_time_to_answer() {
        let now = Instant::now();
        let down = Facts { link: Link::Down, ..fit(now) };
        let mut rotation = reader(now);
        assert!(!rotation.decide(down, LIMITS, now));
        assert!(rotation.wonders(), "the master is to be asked");
        assert!(!rotation.decide(down, LIMITS, now + LINK_GRACE - MS));
        assert!(rotation.decide(down, LIMITS, now + LINK_GRACE));
        assert_eq!(rotation.place, Place::Out);
        assert!(!rotation.wonders());
    }

    #[test]
    fn without_a_master_readers_stay_and_nobody_joins() {
        let now = Instant::now();
        let down = Facts { link: Link::Down, headless: true, ..fit(now) };
        let mut rotation = reader(now);
        rotation.decide(down, LIMITS, now);
        assert!(!rotation.decide(down, LIMITS, now + 60_000 * MS));
        assert_eq!(rotation.place, Place::Reader);
        let mut outsider = Rotation::default();
        assert!(!outsider.decide(Facts { headless: true, ..fit(now) }, LIMITS, now));
    }

    #[test]
    fn linked_is_not_caught_up() {
        let now = Instant::now();
        let at = |applied, newest| Facts { applied, newest, ..fit(now) };
        let mut rotation = Rotation::default();
        for (applied, newest, place) in [
            (0, None, Place::Out),
            (0, Some(293), Place::Out),
            (292, Some(400), Place::Out),
            // What the master had when the link came up is enough; from there on lag is what counts.
            (293, Some(500), Place::Reader),
        ] {
            rotation.decide(at(applied, newest), LIMITS, now);
            assert_eq!(rotation.place, place, "{applied} of {newest:?}");
        }
        let mut again = reader(now);
        again.decide(Facts { link: Link::Down, ..fit(now) }, LIMITS, now);
        again.decide(at(0, Some(500)), LIMITS, now + MS);
        assert_eq!(again.place, Place::Out, "another data set behind the same link");
    }

    #[test]
    fn lag_has_hysteresis_and_one_answer_is_not_enough() {
        let now = Instant::now();
        let mut rotation = reader(now);
        for (step, ms, bytes, place) in [
            (1, 1001, 0, Place::Reader),
            (2, 900, 0, Place::Reader),
            (3, 0, 1001, Place::Reader),
            (3, 0, 1001, Place::Reader),
            (4, 0, 1001, Place::Lagging),
            (5, 0, 801, Place::Lagging),
            (6, 801, 0, Place::Lagging),
            (7, 800, 800, Place::Reader),
            (8, 1001, 0, Place::Reader),
            (9, 1001, 0, Place::Lagging),
        ] {
            rotation.decide(behind(now + step * MS, ms, bytes), LIMITS, now + step * MS);
            assert_eq!(rotation.place, place, "step {step}");
        }
        let wide = Limits { back: Share(1000), ..LIMITS };
        rotation.decide(behind(now + 10 * MS, 101, 0), wide, now + 10 * MS);
        assert_eq!(rotation.place, Place::Lagging, "its return is set lower");
        rotation.decide(behind(now + 11 * MS, 100, 100), wide, now + 11 * MS);
        assert_eq!(rotation.place, Place::Reader);
        let mut joining = Rotation::default();
        joining.decide(behind(now, 5000, 0), LIMITS, now);
        assert_eq!(joining.place, Place::Lagging, "who is late does not even join");
        joining.decide(behind(now, 5000, 0), NONE, now);
        assert_eq!(joining.place, Place::Reader, "no limit, no lag");
    }
}
