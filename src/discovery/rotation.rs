//! Which replicas may be read from. A pure decision, with the little memory it needs kept in [`Rotation`].
//!
//! Invariant: a replica is in rotation only while its replication id has been shown to be the master's, it follows the
//! stream, and it has applied everything the master had when its link came up ("connected" alone is not "caught up").

use std::time::{Duration, Instant};

use super::lag::Lag;
use super::seen::Link;

/// A link that just dropped may be the first sign of the master's own end: readers are not thrown out before it was
/// asked, for then they are all there is to read from.
pub const LINK_GRACE: Duration = Duration::from_millis(50);

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub time: Option<Duration>,
    pub bytes: Option<u64>,
}

impl Limits {
    fn exceeded(self, lag: Lag) -> bool {
        self.time.is_some_and(|limit| lag.time > limit) || self.bytes.is_some_and(|limit| lag.bytes > limit)
    }

    /// Within 80 % of each: a replica at the limit does not flap.
    fn comfortable(self, lag: Lag) -> bool {
        self.time.is_none_or(|limit| lag.time <= limit * 4 / 5)
            && self.bytes.is_none_or(|limit| lag.bytes <= limit / 5 * 4)
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
        match self.place {
            Place::Reader if limits.exceeded(lag) => Place::Lagging,
            Place::Out if limits.exceeded(lag) => Place::Lagging,
            Place::Lagging if !limits.comfortable(lag) => Place::Lagging,
            _ => Place::Reader,
        }
    }
}
