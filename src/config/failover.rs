//! How far redweir goes by itself when the master changes: the values, their settings, and which of them need a Sentinel.
//!
//! Must not know other settings of a set. Invariant: the defaults change nothing at the nodes and trust what is proven.

use std::time::Duration;

use super::Source;
use super::assemble::Draft;
use super::catalogue::{MS, one};
use super::fault::Faults;
use super::settings::{SetParts, Setting};
use super::value::{LONGEST, choice, duration, or_off, switch};

/// What happens around a change of master.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failover {
    pub trust: Trust,
    /// Without a majority of the Sentinels for this long writes stop. `None`: they go on.
    pub minority_stop: Option<Duration>,
    pub on_empty_master: OnEmptyMaster,
    /// Without Sentinel: redweir promotes a replica when the master is gone.
    pub promote: bool,
    /// Without Sentinel: redweir makes the others follow a new master.
    pub repoint_replicas: bool,
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

/// What follows when the master's process restarted without the data it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnEmptyMaster {
    /// The operator is told.
    #[default]
    Alarm,
    /// Writes stop as well, until it has keys or another node is master.
    Stop,
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
    one(
        "on-empty-master",
        "WHAT",
        "alarm",
        "When the master's process restarted without the keys it had (its replicas then drop theirs): alarm (log, metric, \
        /topology) or stop (no writes either, until it has keys again or another node is master)",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.on_empty_master, f, choice),
    ),
    one(
        "promote",
        "on|off",
        "off",
        "Without Sentinel, and with one redweir for the set only: promote the best replica when the master is gone for \
        down-after and most of its replicas say that they lost it, too; includes repoint-replicas",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.promote, f, switch),
    ),
    one(
        "repoint-replicas",
        "on|off",
        "off",
        "Without Sentinel: after a switch make the other replicas, and the old master when it is back, follow the new one",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.repoint_replicas, f, switch),
    ),
];

pub(super) fn check(draft: &Draft<SetParts>, source: &Source, faults: &mut Faults) {
    let Failover { trust, minority_stop, promote, repoint_replicas, .. } = draft.parts.failover;
    let by_sentinel = matches!(source, Source::Sentinel { .. });
    let with = [("trust", trust != Trust::default()), ("minority-stop", minority_stop.is_some())];
    let without = [("promote", promote), ("repoint-replicas", repoint_replicas)];
    for (key, _) in with.into_iter().filter(|(_, set)| *set && !by_sentinel) {
        faults.add(draft.at(key), key, "is about Sentinels, and this set has none, drop it");
    }
    for (key, _) in without.into_iter().filter(|(_, set)| *set && by_sentinel) {
        faults.add(draft.at(key), key, "is for sets without Sentinel, here Sentinel does that, drop it");
    }
}
