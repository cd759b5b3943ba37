//! Which node answers: a pure decision over the snapshot. No I/O, no clock, no allocation.
//!
//! Invariant: a request that needs the master goes to the snapshot's verified one or waits; a read goes to nobody else
//! than that master and the snapshot's readers.

mod balancer;
mod guard;

use crate::config::ReadPolicy;
use crate::metrics::Reason;
use crate::topology::{NodeId, Reader, Shard, Writes};
use balancer::Candidates;
pub use balancer::Picker;

/// What a run of requests needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Read,
    Master,
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    To {
        node: NodeId,
        reason: Reason,
    },
    /// Needs a master and there is no verified one: wait.
    Hold,
    /// No node fits the policy (`replica` with no replica in rotation).
    NoNode,
    /// All replicas lag, the master has had its share, and what is beyond is refused.
    Guarded,
}

/// Load figures of the caller's own connections.
pub trait Loads {
    /// Requests waiting for a reply on this node's shared connection.
    fn in_flight(&self, node: NodeId) -> u32;
    /// Peak-sensitive moving average of its latency, in ns. 0: not measured yet.
    fn latency_ns(&self, node: NodeId) -> u64;
    /// How long a request waits there, in ns: for each of those in flight, and for all of them, or as long as the oldest has waited
    /// if that is more. (0, 0): it is idle; both [`u64::MAX`]: not known.
    fn wait_ns(&self, node: NodeId) -> (u64, u64);
}

/// Decides for one run. `avoid` is a node that just failed this request (it is used only when nothing else fits).
#[inline]
pub fn route(
    want: Want,
    policy: ReadPolicy,
    shard: &Shard,
    picker: &mut Picker,
    loads: &impl Loads,
    avoid: Option<NodeId>,
) -> Decision {
    let to_master = |reason| match shard.writes {
        Writes::Open(node) => Decision::To { node, reason },
        Writes::Held => Decision::Hold,
    };
    let replicas = Candidates { readers: &shard.readers, master: None };
    let mut replica =
        |avoid| picker.pick(replicas, loads, avoid).map(|node| Decision::To { node, reason: Reason::Replica });
    match (want, policy, shard.writes) {
        (Want::Master, _, _) => to_master(Reason::Master),
        (Want::Read, ReadPolicy::Master, _) => to_master(Reason::Policy),
        (Want::Read, ReadPolicy::Replica, _) => replica(avoid).or_else(|| replica(None)).unwrap_or(Decision::NoNode),
        (Want::Read, ReadPolicy::PreferReplica, Writes::Open(master)) => {
            replica(avoid).unwrap_or_else(|| instead(shard, master, picker, avoid))
        }
        (Want::Read, ReadPolicy::PreferMaster, Writes::Open(master)) => {
            let other = if avoid == Some(master) { replica(avoid) } else { None };
            other.unwrap_or_else(|| to_master(Reason::Policy))
        }
        (Want::Read, ReadPolicy::Any, Writes::Open(master)) => any(shard, master, picker, loads, avoid),
        // Without a master these policies read from replicas; without any, a master may come back.
        (Want::Read, ReadPolicy::PreferReplica | ReadPolicy::PreferMaster | ReadPolicy::Any, Writes::Held) => {
            replica(avoid).or_else(|| replica(None)).unwrap_or(Decision::Hold)
        }
    }
}

/// Master and replicas alike.
fn any(shard: &Shard, master: NodeId, picker: &mut Picker, loads: &impl Loads, avoid: Option<NodeId>) -> Decision {
    let plain = Reader { node: master, weight: 1, zone: None };
    let reader = shard.master_reader.as_ref().filter(|r| r.node == master).unwrap_or(&plain);
    let all = Candidates { readers: &shard.readers, master: Some(reader) };
    match picker.pick(all, loads, avoid) {
        Some(node) if node != master => Decision::To { node, reason: Reason::Replica },
        // Balanced; or the only node left, whatever its weight.
        _ if shard.readers.is_empty() => instead(shard, master, picker, avoid),
        _ => Decision::To { node: master, reason: Reason::Policy },
    }
}

/// Who answers a read that no replica took.
fn instead(shard: &Shard, master: NodeId, picker: &mut Picker, avoid: Option<NodeId>) -> Decision {
    match shard.readers.is_empty() && shard.lagging > 0 {
        true => picker.guard.decide(master, &shard.laggards, avoid),
        false => Decision::To { node: master, reason: Reason::NoReplica },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Balancer;
    use crate::topology::Topology;

    const MASTER: NodeId = 7;

    struct Idle;

    impl Loads for Idle {
        fn in_flight(&self, _: NodeId) -> u32 {
            0
        }
        fn latency_ns(&self, _: NodeId) -> u64 {
            0
        }
        fn wait_ns(&self, _: NodeId) -> (u64, u64) {
            (0, 0)
        }
    }

    fn shard(open: bool, readers: usize, lagging: usize) -> Shard {
        let mut shard = Topology::empty().shards.remove(0);
        shard.writes = if open { Writes::Open(MASTER) } else { Writes::Held };
        shard.readers = (1..=readers).map(|i| Reader { node: i as NodeId, weight: 1, zone: None }).collect();
        shard.lagging = lagging;
        shard
    }

    fn decide(want: Want, policy: ReadPolicy, shard: &Shard, avoid: Option<NodeId>) -> Vec<Decision> {
        [Balancer::LeastInFlight, Balancer::RoundRobin, Balancer::Random, Balancer::PeakEwma]
            .into_iter()
            .flat_map(|balancer| {
                let mut picker = Picker::seeded(balancer, None, 11);
                (0..40).map(|_| route(want, policy, shard, &mut picker, &Idle, avoid)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// What a letter of the table allows; see there.
    fn allows(letter: char, decision: Decision, lagging: usize, avoid: Option<NodeId>) -> bool {
        match decision {
            Decision::To { node: MASTER, reason: Reason::Policy } => "pb".contains(letter),
            Decision::To { node: MASTER, reason: Reason::Lag } => letter == 'f' && lagging > 0,
            Decision::To { node: MASTER, reason: Reason::NoReplica } => letter == 'f' && lagging == 0 || letter == 'F',
            Decision::To { node: 1..=3, reason: Reason::Replica } if Some(node(decision)) == avoid => letter == 'x',
            Decision::To { node: 1..=3, reason: Reason::Replica } => "rb".contains(letter),
            Decision::To { .. } => false,
            Decision::Hold => letter == 'h',
            Decision::NoNode => letter == 'n',
            Decision::Guarded => false,
        }
    }

    fn node(decision: Decision) -> NodeId {
        match decision {
            Decision::To { node, .. } => node,
            Decision::Hold | Decision::NoNode | Decision::Guarded => NodeId::MAX,
        }
    }

    /// Each cell: with nobody to avoid, avoiding the master, avoiding replica 1.
    /// r replica but not the avoided one · x the avoided replica · p master by policy · b both r and p occur ·
    /// f master for want of a replica (lag if some lag) · F the same, never lag · h hold · n no node.
    const READS: [(ReadPolicy, bool, [&str; 3]); 10] = [
        //                          master, with 0, 1 and 3 readers
        (ReadPolicy::Replica, true, ["nnn", "rrx", "rrr"]),
        (ReadPolicy::Replica, false, ["nnn", "rrx", "rrr"]),
        (ReadPolicy::PreferReplica, true, ["fff", "rrF", "rrr"]),
        (ReadPolicy::PreferReplica, false, ["hhh", "rrx", "rrr"]),
        (ReadPolicy::Any, true, ["fff", "brp", "brb"]),
        (ReadPolicy::Any, false, ["hhh", "rrx", "rrr"]),
        (ReadPolicy::PreferMaster, true, ["ppp", "prp", "prp"]),
        (ReadPolicy::PreferMaster, false, ["hhh", "rrx", "rrr"]),
        (ReadPolicy::Master, true, ["ppp", "ppp", "ppp"]),
        (ReadPolicy::Master, false, ["hhh", "hhh", "hhh"]),
    ];

    #[test]
    fn every_policy_in_every_state() {
        for (policy, open, cells) in READS {
            for (readers, cell) in [0, 1, 3].into_iter().zip(cells) {
                for (letter, avoid) in cell.chars().zip([None, Some(MASTER), Some(1)]) {
                    for lagging in [0, 2] {
                        let case =
                            format!("{policy:?} open {open} readers {readers} lagging {lagging} avoid {avoid:?}");
                        let shard = shard(open, readers, lagging);
                        let decisions = decide(Want::Read, policy, &shard, avoid);
                        for &decision in &decisions {
                            assert!(allows(letter, decision, lagging, avoid), "{case}: {decision:?}, not {letter}");
                        }
                        let masters = decisions.iter().filter(|&&d| node(d) == MASTER).count();
                        assert_eq!(masters > 0 && masters < decisions.len(), letter == 'b', "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_needs_the_master_goes_there_or_waits() {
        for (policy, _, _) in READS {
            for avoid in [None, Some(MASTER), Some(1)] {
                for (open, expected) in
                    [(true, Decision::To { node: MASTER, reason: Reason::Master }), (false, Decision::Hold)]
                {
                    let decisions = decide(Want::Master, policy, &shard(open, 3, 0), avoid);
                    assert!(decisions.iter().all(|&d| d == expected), "{policy:?} {open} {avoid:?}");
                }
            }
        }
    }

    #[test]
    fn all_replicas_share_the_reads() {
        for policy in [ReadPolicy::Replica, ReadPolicy::PreferReplica, ReadPolicy::Any] {
            let decisions = decide(Want::Read, policy, &shard(true, 3, 0), None);
            for replica in 1..=3 {
                assert!(decisions.iter().any(|&d| node(d) == replica), "{policy:?} never used {replica}");
            }
        }
    }

    #[test]
    fn the_master_as_a_reader_has_weight_and_zone() {
        let reads = |shard: &Shard, zone: Option<&str>| -> usize {
            let mut picker = Picker::seeded(Balancer::RoundRobin, zone, 1);
            (0..40)
                .filter(|_| node(route(Want::Read, ReadPolicy::Any, shard, &mut picker, &Idle, None)) == MASTER)
                .count()
        };
        let mut shard = shard(true, 3, 0);
        assert_eq!(reads(&shard, None), 10);
        shard.master_reader = Some(Reader { node: MASTER, weight: 5, zone: Some("a".into()) });
        assert_eq!(reads(&shard, None), 25);
        assert_eq!(reads(&shard, Some("a")), 40);
        shard.master_reader = Some(Reader { node: MASTER, weight: 0, zone: Some("a".into()) });
        assert_eq!(reads(&shard, Some("a")), 0);
        // Left over from another master: not this one's.
        shard.master_reader = Some(Reader { node: 2, weight: 0, zone: None });
        assert_eq!(reads(&shard, None), 10);
        // Weight 0 and yet the only one.
        shard.readers.clear();
        shard.master_reader = Some(Reader { node: MASTER, weight: 0, zone: None });
        assert_eq!(reads(&shard, None), 40);
    }

    #[test]
    fn readers_of_weight_0_count_as_none() {
        let mut shard = shard(true, 1, 0);
        shard.readers[0].weight = 0;
        let expected = [
            (ReadPolicy::Replica, Decision::NoNode),
            (ReadPolicy::PreferReplica, Decision::To { node: MASTER, reason: Reason::NoReplica }),
            (ReadPolicy::Any, Decision::To { node: MASTER, reason: Reason::Policy }),
        ];
        for (policy, decision) in expected {
            assert!(decide(Want::Read, policy, &shard, None).iter().all(|&d| d == decision), "{policy:?}");
        }
    }
}
