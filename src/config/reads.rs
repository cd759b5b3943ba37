//! Settings of a listener that say how fresh its reads are, beyond the level itself, and for whom.
//!
//! Part of the catalogue. Invariant: a level that needs a bound has one.

use std::time::Duration;

use super::Consistency;
use super::assemble::Draft;
use super::catalogue::one;
use super::fault::Faults;
use super::given::Kind;
use super::settings::{ListenerParts, Setting};
use super::value::{LONGEST, choice, duration, or_off, share, size, switch, word};

/// How far behind the master a read may be. Both `None`: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Staleness {
    pub time: Option<Duration>,
    pub bytes: Option<u64>,
}

impl Staleness {
    pub fn is_bound(self) -> bool {
        self.time.is_some() || self.bytes.is_some()
    }
}

impl std::fmt::Display for Staleness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = self.time.map(|time| humantime::format_duration(time).to_string());
        let bytes = self.bytes.map(|bytes| format!("{bytes} bytes"));
        let parts: Vec<String> = time.into_iter().chain(bytes).collect();
        f.write_str(if parts.is_empty() { "off" } else { "" })?;
        f.write_str(&parts.join(" and "))
    }
}

/// A part of all, in hundredths of a percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    pub const NONE: Share = Share(0);
    pub const ALL: Share = Share(10_000);

    pub fn of(self, time: Duration) -> Duration {
        time.mul_f64(f64::from(self.0) / f64::from(Self::ALL.0))
    }

    pub fn of_bytes(self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(self.0) / u128::from(Self::ALL.0);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

/// What becomes of reads beyond the master's share while every replica lags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Beyond {
    /// The replica that is least behind answers them.
    #[default]
    LeastLagging,
    Refuse,
}

/// Who answers reads while every replica lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagGuard {
    /// The master's part of them.
    pub share: Share,
    pub beyond: Beyond,
}

impl Default for LagGuard {
    fn default() -> Self {
        Self { share: Share::ALL, beyond: Beyond::default() }
    }
}

/// How fresh a listener's reads are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSettings {
    /// What level `bounded` means here.
    pub staleness: Staleness,
    /// User, and the level that is used instead of the listener's.
    pub users: Vec<(String, Consistency)>,
    /// Offsets are asked together with their replication id.
    pub strict: bool,
    pub guard: LagGuard,
    /// The part of the reads on replicas whose keys are touched at the master.
    pub touch: Share,
}

/// The least bound: below, no replica could ever be shown to be within it.
const LEAST: Duration = Duration::from_millis(1);

pub(super) const READS: &[Setting<ListenerParts>] = &[
    one(
        "max-staleness",
        "DURATION",
        "off",
        "What the level bounded means: a read shows everything the master had executed this long before it came",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.staleness.time, f, or_off(duration(LEAST..=LONGEST))),
    ),
    one(
        "max-staleness-bytes",
        "SIZE",
        "off",
        "... and everything but so many bytes of the replication stream, as the master last told its offset",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.staleness.bytes, f, or_off(size(0..=1 << 40))),
    ),
    one(
        "user-consistency",
        "NAME=LEVEL,...",
        "",
        "Level by user, from the login on; the user of those who have not logged in is `default`",
        |l: &mut ListenerParts, g, f| g.put_map(&mut l.reads.users, f, word, choice),
    )
    .kind(Kind::Map),
    one(
        "strict",
        "on|off",
        "off",
        "Replicas and master are asked for their replication id together with each offset (INFO instead of ROLE): \
        closes the last window in which an offset could be taken for another master's, for some 7 us a flush",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.strict, f, switch),
    ),
    one(
        "lag-guard-share",
        "PERCENT",
        "100%",
        "While every replica is further behind than max-lag: the part of their reads that the master answers at most. \
        What a client must see for its level is the master's in any case",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.guard.share, f, share),
    ),
    one(
        "lag-guard",
        "HOW",
        "least-lagging",
        "What becomes of the other reads then: least-lagging (the replica that is least behind answers) or refuse",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.guard.beyond, f, choice),
    ),
    one(
        "touch-sample",
        "PERCENT",
        "0%",
        "Part of the reads on replicas whose keys are touched at the master (TOUCH), so that a master that evicts keeps \
        what is hot; 0%: none",
        |l: &mut ListenerParts, g, f| g.put(&mut l.reads.touch, f, share),
    ),
];

/// What no single value can tell.
pub(super) fn check(draft: &Draft<ListenerParts>, faults: &mut Faults) {
    let ListenerParts { consistency, reads, .. } = &draft.parts;
    if reads.staleness.is_bound() {
        return;
    }
    let needs = "bounded needs a bound, give max-staleness or max-staleness-bytes";
    if *consistency == Some(Consistency::Bounded) {
        faults.add(draft.at("consistency"), "consistency", needs);
    }
    if reads.users.iter().any(|(_, level)| *level == Consistency::Bounded) {
        faults.add(draft.at("user-consistency"), "user-consistency", needs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_shown_as_it_is_meant() {
        let time = Some(Duration::from_millis(1500));
        for (time, bytes, shown) in [
            (None, None, "off"),
            (time, None, "1s 500ms"),
            (None, Some(64), "64 bytes"),
            (time, Some(64), "1s 500ms and 64 bytes"),
        ] {
            assert_eq!(Staleness { time, bytes }.to_string(), shown);
        }
    }
}
