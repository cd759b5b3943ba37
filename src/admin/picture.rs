//! The snapshot as an operator sees it: one plain value behind the JSON, the page, the readiness and the gauges.
//!
//! Pure. Must not decide anything: a role is read off the node's position in the snapshot.
//! Invariant: everything of one set is taken from one snapshot, so it never shows half a switch.

use std::time::Duration;

use serde::Serialize;

use crate::metrics::{NodeGauges, SetGauges, ShardGauges};
use crate::topology::{Node, NodeState, Reader, Shard, Topology, Writes};

/// What `/topology` answers.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    pub(super) version: &'static str,
    /// RFC 3339, UTC.
    pub(super) started: String,
    pub(super) uptime_seconds: u64,
    pub(super) workers: usize,
    pub(super) sets: Vec<SetPicture>,
}

#[derive(Debug, Serialize)]
pub(super) struct SetPicture {
    pub(super) name: String,
    pub(super) epoch: u64,
    pub(super) shards: Vec<ShardPicture>,
    pub(super) nodes: Vec<NodePicture>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShardPicture {
    pub(super) slots: String,
    pub(super) term: u64,
    pub(super) lineage: LineagePicture,
    /// Address of the verified master; null while there is none.
    pub(super) master: Option<String>,
    /// `open` or `held`.
    pub(super) writes: &'static str,
    pub(super) readers: usize,
    pub(super) lagging: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct LineagePicture {
    pub(super) id: String,
    pub(super) previous: Option<String>,
    /// First offset not common with `previous`.
    pub(super) branch: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct NodePicture {
    /// Slot in the topology.
    pub(super) id: u16,
    pub(super) address: String,
    /// Where redweir connects, when that is another address.
    pub(super) dial: Option<String>,
    pub(super) role: &'static str,
    pub(super) state: &'static str,
    pub(super) in_rotation: bool,
    pub(super) generation: u64,
    pub(super) run_id: Option<String>,
    pub(super) version: Option<String>,
    pub(super) offset: Option<i64>,
    pub(super) lag_bytes: Option<u64>,
    pub(super) lag_seconds: Option<f64>,
    /// Share of the reads; null for a node that gets none.
    pub(super) weight: Option<u32>,
    pub(super) zone: Option<String>,
    #[serde(skip)]
    up: bool,
}

impl SetPicture {
    pub(super) fn of(name: &str, topology: &Topology) -> Self {
        Self {
            name: name.to_owned(),
            epoch: topology.epoch,
            shards: topology.shards.iter().map(|shard| ShardPicture::of(shard, topology)).collect(),
            nodes: topology.nodes.iter().map(|node| NodePicture::of(node, topology)).collect(),
        }
    }

    /// Every slot can be written to.
    pub(super) fn is_ready(&self) -> bool {
        !self.shards.is_empty() && self.shards.iter().all(|shard| shard.master.is_some())
    }

    /// What is missing, in a few words.
    pub(super) fn readiness(&self) -> String {
        if self.shards.is_empty() || (self.epoch == 0 && self.nodes.is_empty()) {
            return "not ready, nothing was learnt of this set yet".to_owned();
        }
        let missing = self.shards.iter().filter(|shard| shard.master.is_none());
        let missing: Vec<_> = missing
            .map(|shard| {
                format!("no verified master for slots {}, writes are held, readers: {}", shard.slots, shard.readers)
            })
            .collect();
        if missing.is_empty() { "ready".to_owned() } else { format!("not ready, {}", missing.join("; ")) }
    }

    pub(super) fn into_gauges(self) -> SetGauges {
        SetGauges {
            set: self.name,
            epoch: self.epoch,
            shards: self.shards.into_iter().map(ShardPicture::into_gauges).collect(),
            nodes: self.nodes.into_iter().map(NodePicture::into_gauges).collect(),
        }
    }
}

impl ShardPicture {
    fn of(shard: &Shard, topology: &Topology) -> Self {
        let (previous, branch) = (&shard.lineage.previous, shard.lineage.branch);
        let (master, writes) = match shard.writes {
            // A master that is not among the nodes would be a fault of discovery; say its id rather than nothing.
            Writes::Open(id) => {
                (Some(topology.node(id).map_or_else(|| format!("node {id}"), |n| n.address.to_string())), "open")
            }
            Writes::Held => (None, "held"),
        };
        Self {
            slots: format!("{}-{}", shard.slots.start(), shard.slots.end()),
            term: shard.term,
            lineage: LineagePicture {
                id: shard.lineage.id.clone(),
                previous: (!previous.is_empty()).then(|| previous.clone()),
                branch: (branch >= 0 && !previous.is_empty()).then_some(branch),
            },
            master,
            writes,
            readers: shard.readers.len(),
            lagging: shard.lagging,
        }
    }

    fn into_gauges(self) -> ShardGauges {
        ShardGauges {
            slots: self.slots,
            term: self.term,
            writes_open: self.writes == "open",
            readers: self.readers,
            lagging: self.lagging,
        }
    }
}

/// A node's position: `master`, `replica` (in rotation or not) or `none`.
fn role(node: &Node, is_master: bool, reader: Option<&Reader>) -> &'static str {
    match node.state {
        _ if is_master => "master",
        _ if reader.is_some() => "replica",
        NodeState::Replica | NodeState::Lagging | NodeState::Unlinked => "replica",
        _ => "none",
    }
}

fn answers(state: NodeState) -> bool {
    match state {
        NodeState::Unknown | NodeState::Down | NodeState::Rejected => false,
        NodeState::Loading | NodeState::Master | NodeState::Replica => true,
        NodeState::Lagging | NodeState::Unlinked | NodeState::Fenced => true,
    }
}

impl NodePicture {
    fn of(node: &Node, topology: &Topology) -> Self {
        let is_master = topology.shards.iter().any(|shard| shard.writes == Writes::Open(node.id));
        let reader = topology.shards.iter().flat_map(|shard| &shard.readers).find(|reader| reader.node == node.id);
        let role = role(node, is_master, reader);
        let offset = Some(node.live.offset()).filter(|offset| *offset >= 0 && answers(node.state));
        // A lag is known only of a replica whose own offset is known now.
        let lag: Option<Duration> = offset.filter(|_| role == "replica").map(|_| node.live.lag());
        Self {
            id: node.id,
            address: node.address.to_string(),
            dial: (node.dial != node.address).then(|| node.dial.to_string()),
            role,
            state: node.state.label(),
            in_rotation: is_master || reader.is_some(),
            generation: node.generation,
            run_id: node.run_id.as_deref().map(str::to_owned),
            version: node.version.as_deref().map(str::to_owned),
            offset,
            lag_bytes: lag.map(|_| node.live.lag_bytes()),
            lag_seconds: lag.map(|lag| lag.as_secs_f64()),
            weight: reader.map(|reader| reader.weight),
            zone: reader.and_then(|reader| reader.zone.as_deref().map(str::to_owned)),
            up: answers(node.state),
        }
    }

    fn into_gauges(self) -> NodeGauges {
        NodeGauges {
            slot: self.id,
            address: self.address,
            role: self.role,
            state: self.state,
            version: self.version.unwrap_or_else(|| "unknown".to_owned()),
            up: self.up,
            in_rotation: self.in_rotation,
            offset: self.offset,
            lag_bytes: self.lag_bytes,
            lag_seconds: self.lag_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topology::{Lineage, Live};

    fn node(id: u16, state: NodeState) -> Arc<Node> {
        let live = Live::default();
        live.set(100, 7, Duration::from_millis(1500));
        Arc::new(Node {
            id,
            address: format!("10.0.0.{id}:6379").into(),
            dial: format!("10.0.0.{id}:6379").into(),
            generation: 2,
            state,
            run_id: None,
            version: None,
            live: Arc::new(live),
        })
    }

    fn topology(writes: Writes, readers: &[u16], nodes: Vec<Arc<Node>>) -> Topology {
        let mut topology = Topology::empty();
        topology.epoch = 5;
        topology.nodes = nodes;
        topology.shards[0].writes = writes;
        topology.shards[0].lineage = Lineage { id: "aa".into(), previous: String::new(), branch: -1 };
        topology.shards[0].readers =
            readers.iter().map(|id| Reader { node: *id, weight: 3, zone: Some("a".into()) }).collect();
        topology
    }

    #[test]
    fn role_rotation_and_lag_by_position_and_state() {
        use NodeState::*;
        // state, is master, is reader -> role, in rotation, up, lag known
        let table = [
            (Master, true, false, "master", true, true, false),
            (Master, false, false, "none", false, true, false),
            (Replica, false, true, "replica", true, true, true),
            (Replica, false, false, "replica", false, true, true),
            (Lagging, false, false, "replica", false, true, true),
            (Unlinked, false, false, "replica", false, true, true),
            (Fenced, false, false, "none", false, true, false),
            (Loading, false, false, "none", false, true, false),
            (Down, false, false, "none", false, false, false),
            (Unknown, false, false, "none", false, false, false),
            (Rejected, false, false, "none", false, false, false),
        ];
        for (state, is_master, is_reader, role, in_rotation, up, lag_known) in table {
            let writes = if is_master { Writes::Open(1) } else { Writes::Held };
            let readers: &[u16] = if is_reader { &[1] } else { &[] };
            let set = SetPicture::of("s", &topology(writes, readers, vec![node(1, state)]));
            let found = &set.nodes[0];
            assert_eq!(
                (found.role, found.in_rotation, found.up, found.lag_seconds, found.weight),
                (role, in_rotation, up, lag_known.then_some(1.5), is_reader.then_some(3)),
                "{state:?}"
            );
            assert_eq!(found.lag_bytes, lag_known.then_some(7), "{state:?}");
            assert_eq!(found.offset, up.then_some(100), "{state:?}");
        }
    }

    #[test]
    fn ready_means_every_shard_has_a_verified_master() {
        let set = SetPicture::of("s", &Topology::empty());
        assert!(!set.is_ready());
        assert_eq!(set.readiness(), "not ready, nothing was learnt of this set yet");

        let set = SetPicture::of("s", &topology(Writes::Held, &[2], vec![node(2, NodeState::Replica)]));
        assert!(!set.is_ready());
        assert_eq!(set.readiness(), "not ready, no verified master for slots 0-16383, writes are held, readers: 1");

        let mut two = topology(Writes::Open(1), &[], vec![node(1, NodeState::Master)]);
        assert!(SetPicture::of("s", &two).is_ready());
        assert_eq!(SetPicture::of("s", &two).readiness(), "ready");
        two.shards.push(Topology::empty().shards.remove(0));
        assert!(!SetPicture::of("s", &two).is_ready());
    }
}
