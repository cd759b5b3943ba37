//! What the control runtime counts as it happens: failovers, failed probes, Sentinels.
//!
//! Rare, so they go through the `metrics` recorder ([`super::Registry`] installs it; before that they are lost).
//! Must not be called per request. Invariant: labels stay bounded even when addresses come and go for months.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use super::families::{
    FAILOVER_SECONDS, FAILOVERS, LOST_BYTES, MASTERS_EMPTIED, NOTIFICATIONS, PROBE_ERRORS, SENTINEL_EVENTS,
    SENTINEL_UP, SWITCHES, SWITCHOVERS,
};

labels! {
    /// What a new master has of the stream of the one before.
    Kept {
        All = "all",
        Seen = "seen",
        Part = "part",
        Unknown = "unknown",
    }
}

labels! {
    /// How redweir came to know of a new master.
    Cause {
        /// The first master after start.
        Start = "start",
        /// Sentinel's own word (+switch-master or a higher config-epoch), verified by ROLE.
        Sentinel = "sentinel",
        /// redweir's detector saw a promoted descendant before (or without) Sentinel.
        Detector = "detector",
        /// The same address came back as another process life.
        Restart = "restart",
        /// A switchover that redweir was asked for.
        Switchover = "switchover",
    }
}

labels! {
    /// How a switchover ended.
    Outcome {
        Done = "done",
        /// The old master is still master.
        Back = "back",
        /// It did not begin.
        Refused = "refused",
    }
}

labels! {
    /// The parts of a failover.
    Phase {
        /// First sign of trouble to writes held.
        Noticed = "noticed",
        /// Writes held to a new master verified.
        Headless = "headless",
        /// First sign to writes open again: the whole.
        Total = "total",
    }
}

labels! {
    /// What came of an attempt to tell a script or a hook.
    Telling {
        Done = "done",
        /// It is tried again later.
        Retried = "retried",
        Failed = "failed",
        /// Too many waited.
        Dropped = "dropped",
    }
}

/// One switch of master in `set`, with how long each phase took.
pub fn failover(set: &str, cause: Cause, phases: &[(Phase, Duration)]) {
    counter!(FAILOVERS.name, "set" => set.to_owned(), "cause" => cause.label()).increment(1);
    // The first master is no failover: nothing was down.
    for (phase, took) in phases.iter().filter(|_| cause != Cause::Start) {
        failover_seconds(set, cause, *phase).record(took.as_secs_f64());
    }
}

/// A switchover of `set` ended.
pub fn switchover(set: &str, outcome: Outcome) {
    counter!(SWITCHOVERS.name, "set" => set.to_owned(), "outcome" => outcome.label()).increment(1);
}

/// The recorder keeps each sample until the next scrape; failovers are rare enough for that, requests are not.
fn failover_seconds(set: &str, cause: Cause, phase: Phase) -> metrics::Histogram {
    let labels = [("set", set.to_owned()), ("cause", cause.label().into()), ("phase", phase.label().into())];
    histogram!(FAILOVER_SECONDS.name, &labels)
}

/// `set` has another master than before, which has that much of its line; `lost` bytes of it are known to be gone.
pub fn switched(set: &str, kept: Kept, lost: u64) {
    counter!(SWITCHES.name, "set" => set.to_owned(), "kept" => kept.label()).increment(1);
    counter!(LOST_BYTES.name, "set" => set.to_owned()).increment(lost);
}

/// The master of `set` restarted without the keys it had.
pub fn master_emptied(set: &str) {
    counter!(MASTERS_EMPTIED.name, "set" => set.to_owned()).increment(1);
}

/// An attempt to tell a script or a hook what happened in `set`.
pub fn telling(set: &str, outcome: Telling) {
    counter!(NOTIFICATIONS.name, "set" => set.to_owned(), "outcome" => outcome.label()).increment(1);
}

/// A probe of `node` failed (`timeout`, `refused`, `auth`, `protocol`, `loading`).
pub fn probe_error(set: &str, node: &str, error: &'static str) {
    counter!(PROBE_ERRORS.name, "set" => set.to_owned(), "node" => NODES.admit(node), "error" => error).increment(1);
}

/// Whether the command connection to this Sentinel is up.
pub fn sentinel_up(set: &str, sentinel: &str, up: bool) {
    let value = if up { 1.0 } else { 0.0 };
    gauge!(SENTINEL_UP.name, "set" => set.to_owned(), "sentinel" => SENTINELS.admit(sentinel)).set(value);
}

/// An event received from a Sentinel (`+switch-master`, `+sdown`, ...; bounded: other names count as `other`).
pub fn sentinel_event(set: &str, event: &str) {
    counter!(SENTINEL_EVENTS.name, "set" => set.to_owned(), "event" => known(event)).increment(1);
}

/// Starts what is counted of failovers of `set` at zero: the first one after that is an increase, not a new series,
/// which Prometheus could not tell from one that was there before.
pub(super) fn introduce(set: &str) {
    counter!(MASTERS_EMPTIED.name, "set" => set.to_owned()).increment(0);
    counter!(LOST_BYTES.name, "set" => set.to_owned()).increment(0);
    for kept in Kept::ALL {
        counter!(SWITCHES.name, "set" => set.to_owned(), "kept" => kept.label()).increment(0);
    }
    for outcome in Telling::ALL {
        counter!(NOTIFICATIONS.name, "set" => set.to_owned(), "outcome" => outcome.label()).increment(0);
    }
    for outcome in Outcome::ALL {
        counter!(SWITCHOVERS.name, "set" => set.to_owned(), "outcome" => outcome.label()).increment(0);
    }
    for cause in Cause::ALL {
        counter!(FAILOVERS.name, "set" => set.to_owned(), "cause" => cause.label()).increment(0);
        // The first master is no failover.
        for phase in Phase::ALL.iter().filter(|_| *cause != Cause::Start) {
            let _ = failover_seconds(set, *cause, *phase);
        }
    }
}

/// Addresses seen as a label value, up to a bound: pods come back under new ones for ever.
struct Addresses(Mutex<Option<HashSet<String>>>);

static NODES: Addresses = Addresses(Mutex::new(None));
static SENTINELS: Addresses = Addresses(Mutex::new(None));

impl Addresses {
    const MOST: usize = 256;

    /// The address itself, or `other` once there were too many.
    fn admit(&self, address: &str) -> String {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get_or_insert_default();
        if seen.len() < Self::MOST {
            seen.insert(address.to_owned());
        }
        seen.get(address).cloned().unwrap_or_else(|| "other".to_owned())
    }
}

/// Channels of Redis' and Valkey's sentinel.c (sentinelEvent) that tell something of a set.
const EVENTS: &[&str] = &[
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+new-epoch",
    "+try-failover",
    "+elected-leader",
    "+vote-for-leader",
    "+selected-slave",
    "+promoted-slave",
    "+failover-state-select-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+failover-state-reconf-slaves",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "+slave-reconf-sent",
    "+slave-reconf-inprog",
    "+slave-reconf-done",
    "+switch-master",
    "+config-update-from",
    "+slave",
    "+sentinel",
    "+role-change",
    "-role-change",
    "+convert-to-slave",
    "+fix-slave-config",
    "+reboot",
    "+sentinel-address-switch",
    "+reset-master",
    "+monitor",
    "-monitor",
    "+set",
    "+tilt",
    "-tilt",
];

fn known(event: &str) -> &'static str {
    EVENTS.iter().copied().find(|name| *name == event).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_nobody_knows_is_other() {
        assert_eq!(known("+switch-master"), "+switch-master");
        assert_eq!(known("+switch-master "), "other");
        assert_eq!(known("pwned"), "other");
    }

    #[test]
    fn addresses_beyond_the_bound_share_a_label() {
        let addresses = Addresses(Mutex::new(None));
        for i in 0..Addresses::MOST {
            assert_eq!(addresses.admit(&format!("10.0.0.1:{i}")), format!("10.0.0.1:{i}"));
        }
        assert_eq!(addresses.admit("10.0.0.2:1"), "other");
        assert_eq!(addresses.admit("10.0.0.1:7"), "10.0.0.1:7");
    }
}
