//! What an operator wants known of a write before it is acknowledged, and what is done when a switch lost some.
//!
//! Data and settings only. Invariant: the defaults hold back nothing.

use std::time::Duration;

use super::catalogue::{MS, one};
use super::given::Kind;
use super::settings::{ListenerParts, Setting};
use super::value::{LONGEST, choice, count, duration, word};

/// More copies than this nobody waits for.
const MOST: u32 = 16;

/// A listener's wishes for its writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckSettings {
    /// Promotable replicas that must have applied a write before its reply goes out.
    pub acks: u32,
    /// The same for single users, by name.
    pub user_acks: Vec<(String, u32)>,
    pub timeout: Duration,
    pub on_timeout: OnTimeout,
}

/// What a client gets for a write that too few replicas have in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnTimeout {
    /// The reply, as without acks.
    Answer,
    /// An error: written, but not on enough replicas.
    Error,
}

impl Default for AckSettings {
    fn default() -> Self {
        Self { acks: 0, user_acks: Vec::new(), timeout: Duration::ZERO, on_timeout: OnTimeout::Answer }
    }
}

impl AckSettings {
    /// What holds for `user`; not logged in, that is `default`.
    pub fn of(&self, user: Option<&str>) -> u32 {
        let user = user.unwrap_or("default");
        self.user_acks.iter().find(|(name, _)| name == user).map_or(self.acks, |(_, acks)| *acks)
    }

    /// Whether any session may have to wait.
    pub fn are_wanted(&self) -> bool {
        self.acks > 0 || self.user_acks.iter().any(|(_, acks)| *acks > 0)
    }
}

pub(super) const ACKS: &[Setting<ListenerParts>] = &[
    one(
        "acks",
        "N",
        "0",
        "Replicas that Sentinel could promote which must have applied a write before its reply goes out; 0: none",
        |l: &mut ListenerParts, g, f| g.put(&mut l.acks.acks, f, count(0..=MOST)),
    ),
    one(
        "user-acks",
        "USER=N,...",
        "",
        "The same for single users, by the name they log in with (`default` for those who do not)",
        |l: &mut ListenerParts, g, f| g.put_map(&mut l.acks.user_acks, f, word, count(0..=MOST)),
    )
    .kind(Kind::Map),
    one(
        "acks-timeout",
        "DURATION",
        "1s",
        "Longest wait for these replicas while the master itself is well",
        |l: &mut ListenerParts, g, f| g.put(&mut l.acks.timeout, f, duration(MS..=LONGEST)),
    ),
    one(
        "acks-on-timeout",
        "WHAT",
        "answer",
        "What the client gets then: answer (its reply, and it is counted) or error (the write stays, but is not acknowledged)",
        |l: &mut ListenerParts, g, f| g.put(&mut l.acks.on_timeout, f, choice),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_its_own_goes_before_the_listener() {
        let acks = AckSettings {
            acks: 1,
            user_acks: vec![("billing".into(), 2), ("log".into(), 0)],
            ..AckSettings::default()
        };
        for (user, expected) in [(None, 1), (Some("default"), 1), (Some("billing"), 2), (Some("log"), 0)] {
            assert_eq!(acks.of(user), expected, "{user:?}");
        }
        assert!(acks.are_wanted() && !AckSettings::default().are_wanted());
        let users_only = AckSettings { user_acks: vec![("a".into(), 1)], ..AckSettings::default() };
        assert!(users_only.are_wanted());
    }
}
