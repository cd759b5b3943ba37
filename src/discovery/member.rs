//! One known node: what it said last, how it is, and its place in the rotation of readers. State without I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detector::{Sight, Standing};
use super::rotation::Rotation;
use super::seen::{Info, Role};
use crate::topology::{Live, NodeId};
use crate::upstream::control::Error;

/// An ended connection may be back this soon; until then nothing is concluded from it.
pub const SUSPECT_GRACE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet. -> any.
    Unknown,
    Up,
    /// Its connection ended at that time. -> `Up` by an answer, `Down` by `down_after` or a refused connection.
    Suspect(Instant),
    /// -> `Up` by an answer.
    Down(Error),
    /// Refuses our login, or is no data node. -> any.
    Rejected(Error),
}

#[derive(Debug)]
pub struct Member {
    pub id: NodeId,
    pub address: Arc<str>,
    pub dial: Arc<str>,
    /// Numbers the probes over all slots, so that a late report of a slot's earlier owner is recognised.
    pub probe: u64,
    /// Named by the operator: never forgotten.
    pub configured: bool,
    pub weight: u32,
    pub zone: Option<Arc<str>>,
    pub listed_at: Instant,
    pub generation: u64,
    pub live: Arc<Live>,
    pub health: Health,
    pub answered_at: Option<Instant>,
    /// When the question was sent that ROLE answered last.
    pub asked_at: Option<Instant>,
    /// When INFO was answered last.
    pub examined_at: Option<Instant>,
    pub loading: bool,
    pub role: Option<Role>,
    pub info: Option<Info>,
    pub superseded: bool,
    /// Says master since a time when the accepted master lived and was kept.
    pub bystander: bool,
    /// The last offset it told, kept while its link is down.
    pub applied: i64,
    pub rotation: Rotation,
}

impl Member {
    pub fn run_id(&self) -> &str {
        self.info.as_ref().map_or("", |i| i.run_id.as_str())
    }

    pub fn is_up(&self) -> bool {
        self.health == Health::Up
    }

    /// Has answered nothing for `down_after`.
    pub fn is_silent_for(&self, now: Instant, down_after: Duration) -> bool {
        self.answered_at.is_none_or(|at| now.saturating_duration_since(at) >= down_after)
    }

    pub fn says_master(&self) -> bool {
        matches!(self.role, Some(Role::Master { .. }))
    }

    /// It was asked, and says nothing.
    pub fn is_mute(&self) -> bool {
        matches!(self.health, Health::Down(_) | Health::Rejected(_))
    }

    /// Its connection failed; returns whether its health changed.
    pub fn lost(&mut self, e: Error, now: Instant, down_after: Duration) {
        let silent = self.is_silent_for(now, down_after);
        self.health = match e {
            Error::Auth(_) | Error::Server(_) | Error::Protocol(_) => Health::Rejected(e),
            Error::Loading => Health::Up,
            Error::Refused | Error::Unreachable(_) => Health::Down(e),
            Error::Closed | Error::Timeout if silent => Health::Down(e),
            // The probe gave it all the time there was.
            Error::Timeout if self.health == Health::Up => Health::Down(e),
            Error::Closed | Error::Timeout => match self.health {
                Health::Suspect(since) => Health::Suspect(since),
                Health::Up => Health::Suspect(now),
                _ => Health::Down(e),
            },
        };
    }

    /// Lets time do its part: a suspect that stays silent is down.
    pub fn age(&mut self, now: Instant, down_after: Duration) {
        if let Health::Suspect(since) = self.health
            && now.saturating_duration_since(since) >= down_after
        {
            self.health = Health::Down(Error::Timeout);
        }
    }

    /// How the detector sees it. `follows` is the node its ROLE names, where known.
    pub fn sight(&self, now: Instant, follows: Option<NodeId>, stale: bool) -> Sight {
        Sight {
            id: self.id,
            standing: self.standing(now),
            lineage: self.info.as_ref().map(|i| i.lineage.clone()).unwrap_or_default(),
            run_id: self.run_id().to_owned(),
            follows,
            superseded: self.superseded || stale,
            bystander: self.bystander,
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        match &self.health {
            Health::Unknown => return Standing::Unknown,
            Health::Down(_) | Health::Rejected(_) => return Standing::Gone,
            Health::Suspect(since) if now.saturating_duration_since(*since) >= SUSPECT_GRACE => {
                return Standing::Suspect;
            }
            Health::Suspect(_) | Health::Up => {}
        }
        match (&self.role, &self.info) {
            _ if self.loading => Standing::Loading,
            (Some(Role::Master { .. }), Some(_)) => Standing::Master,
            (Some(Role::Replica { .. }), _) => Standing::Replica,
            _ => Standing::Unknown,
        }
    }
}
