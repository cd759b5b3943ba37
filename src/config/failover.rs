//! How far redweir goes by itself when the master changes: the values, their settings, and which of them need a Sentinel.
//!
//! Must not know other settings of a set. Invariant: the defaults change nothing at the nodes and trust what is proven.

use std::time::Duration;

use super::Source;
use super::assemble::Draft;
use super::catalogue::{MS, one};
use super::fault::Faults;
use super::settings::{SetParts, Setting};
use super::value::{LONGEST, choice, duration, or_off};

/// What happens around a change of master.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failover {
    pub trust: Trust,
    /// Without a majority of the Sentinels for this long writes stop. `None`: they go on.
    pub minority_stop: Option<Duration>,
}

/// Whose word opens writes to a node that was promoted, beside Sentinel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Trust {
    /// Its own, with its lineage: milliseconds after the promotion.
    #[default]
    Immediate,
    /// The Sentinels', under the highest config-epoch: up to a second later.
    Confirmed,
}

pub(super) const FAILOVER: &[Setting<SetParts>] = &[
    one(
        "trust",
        "HOW",
        "immediate",
        "Beside Sentinel, when writes open to a promoted node: immediate (as soon as it proves to be the master's \
        successor) or confirmed (when the Sentinels name it, up to a second later)",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.trust, f, choice),
    ),
    one(
        "minority-stop",
        "DURATION",
        "off",
        "Writes stop when fewer than half of the Sentinels answer for this long, until most do again; off: they go on",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.minority_stop, f, or_off(duration(MS..=LONGEST))),
    ),
];

/// Settings that mean something only with Sentinels.
const WITH_SENTINEL: [&str; 2] = ["trust", "minority-stop"];

pub(super) fn check(draft: &Draft<SetParts>, source: &Source, faults: &mut Faults) {
    let Failover { trust, minority_stop, .. } = draft.parts.failover;
    let set = [trust != Trust::default(), minority_stop.is_some()];
    if let Source::Nodes(_) = source {
        for (key, _) in WITH_SENTINEL.iter().zip(set).filter(|(_, set)| *set) {
            faults.add(draft.at(key), *key, "is about Sentinels, and this set has none, drop it");
        }
    }
}
