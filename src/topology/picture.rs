//! The snapshot as an operator sees it: one plain value behind the JSON, the page, the readiness, the gauges and
//! `REDWEIR TOPOLOGY`.
//!
//! Pure. Must not decide anything: a role is read off the node's position in the snapshot.
//! Invariant: everything of one set is taken from one snapshot, so it never shows half a switch.

use std::time::Duration;

use serde::Serialize;

use super::{Hold, Node, NodeState, Reader, Shard, Switch, Topology, Writes};
use crate::metrics::{NodeGauges, SetGauges, ShardGauges};

#[derive(Debug, Serialize)]
pub struct SetPicture {
    pub name: String,
    pub epoch: u64,
    pub shards: Vec<ShardPicture>,
    pub nodes: Vec<NodePicture>,
}

#[derive(Debug, Serialize)]
pub struct ShardPicture {
    pub slots: String,
    pub term: u64,
    pub lineage: LineagePicture,
    /// Address of the verified master; null while there is none.
    pub master: Option<String>,
    /// `open` or `held`.
    pub writes: &'static str,
    /// Why they are held; null while they are open.
    pub held_for: Option<&'static str>,
    pub readers: usize,
    pub lagging: usize,
    /// The master restarted without the keys it had.
    pub emptied: bool,
    /// The change of master that this term began with; null in the first.
    pub last_switch: Option<SwitchPicture>,
}

#[derive(Debug, Serialize)]
pub struct SwitchPicture {
    pub from: Option<String>,
    pub to: String,
    /// What the new master has of the old one's stream: `all`, all that was `seen` of it, `part`, `unknown`.
    pub kept: &'static str,
    /// What it is known not to have; null: nothing is known.
    pub lost_bytes_at_least: Option<u64>,
    /// Writes that redweir acknowledged and that it does not have; null: nothing is known, or not yet.
    pub lost_writes: Option<u64>,
    /// Those that it may have or not.
    pub uncertain_writes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct LineagePicture {
    pub id: String,
    pub previous: Option<String>,
    /// First offset not common with `previous`.
    pub branch: Option<i64>,
}

#[derive(Debug, Serialize)]
pub struct NodePicture {
    /// Slot in the topology.
    pub id: u16,
    pub address: String,
    /// Where redweir connects, when that is another address.
    pub dial: Option<String>,
    pub role: &'static str,
    pub state: &'static str,
    pub in_rotation: bool,
    pub generation: u64,
    pub run_id: Option<String>,
    pub version: Option<String>,
    pub offset: Option<i64>,
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<f64>,
    /// Share of the reads; null for a node that gets none.
    pub weight: Option<u32>,
    pub zone: Option<String>,
    #[serde(skip)]
    up: bool,
}

impl SetPicture {
    pub fn of(name: &str, topology: &Topology) -> Self {
        Self {
            name: name.to_owned(),
            epoch: topology.epoch,
            shards: topology.shards.iter().map(|shard| ShardPicture::of(shard, topology)).collect(),
            nodes: topology.nodes.iter().map(|node| NodePicture::of(node, topology)).collect(),
        }
    }

    /// Every slot can be written to.
    pub fn is_ready(&self) -> bool {
        !self.shards.is_empty() && self.shards.iter().all(|shard| shard.master.is_some())
    }

    /// What is missing, in a few words.
    pub fn readiness(&self) -> String {
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

    /// For a person: the set, its shards, its nodes.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("set {}, epoch {}", self.name, self.epoch)];
        for shard in &self.shards {
            let master = shard.master.as_ref().map_or_else(|| "none verified".to_owned(), String::clone);
            let emptied = if shard.emptied { ", the master restarted without its data" } else { "" };
            lines.push(format!(
                "slots {}: master {master}, writes {}, replicas in rotation {}, left out for lag {}, term {}{emptied}",
                shard.slots, shard.writes, shard.readers, shard.lagging, shard.term
            ));
            lines.extend(shard.last_switch.as_ref().map(SwitchPicture::line));
        }
        lines.extend(self.nodes.iter().map(NodePicture::line));
        lines
    }

    pub fn into_gauges(self) -> SetGauges {
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
            held_for: shard.held.filter(|_| shard.writes == Writes::Held).map(Hold::label),
            readers: shard.readers.len(),
            lagging: shard.lagging,
            emptied: shard.emptied,
            last_switch: shard.switch.as_deref().map(SwitchPicture::of),
        }
    }

    fn into_gauges(self) -> ShardGauges {
        ShardGauges {
            slots: self.slots,
            term: self.term,
            writes_open: self.writes == "open",
            held_for: self.held_for,
            readers: self.readers,
            lagging: self.lagging,
        }
    }
}

impl SwitchPicture {
    fn of(switch: &Switch) -> Self {
        Self {
            from: switch.from.as_deref().map(str::to_owned),
            to: switch.to.to_string(),
            kept: switch.lost.kept().label(),
            lost_bytes_at_least: switch.lost.bytes(),
            lost_writes: switch.writes().map(|(lost, _)| lost),
            uncertain_writes: switch.writes().map(|(_, uncertain)| uncertain),
        }
    }

    /// For a person.
    pub fn line(&self) -> String {
        let figure = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        format!(
            "last switch: from {} to {}, kept {}, lost bytes {} at least, acknowledged writes lost {}, uncertain {}",
            self.from.as_deref().unwrap_or("none"),
            self.to,
            self.kept,
            figure(self.lost_bytes_at_least),
            figure(self.lost_writes),
            figure(self.uncertain_writes)
        )
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
        NodeState::Unknown | NodeState::Down | NodeState::Silent | NodeState::Rejected => false,
        NodeState::Loading | NodeState::Master | NodeState::Replica => true,
        NodeState::Lagging | NodeState::Unlinked | NodeState::Fenced => true,
    }
}

impl NodePicture {
    fn line(&self) -> String {
        let mut line = format!("node {}: {}, {}", self.address, self.role, self.state);
        match self.why_out() {
            None => line.push_str(", in rotation"),
            Some(why) => line.push_str(&format!(", out of rotation ({why})")),
        }
        if let Some(offset) = self.offset {
            line.push_str(&format!(", offset {offset}"));
        }
        if let (Some(bytes), Some(seconds)) = (self.lag_bytes, self.lag_seconds) {
            line.push_str(&format!(", lag {bytes} bytes {seconds:.3} s"));
        }
        if let Some(weight) = self.weight.filter(|weight| *weight != 1) {
            line.push_str(&format!(", weight {weight}"));
        }
        if let Some(zone) = &self.zone {
            line.push_str(&format!(", zone {zone}"));
        }
        if let Some(dial) = &self.dial {
            line.push_str(&format!(", dialled as {dial}"));
        }
        line
    }

    /// Why a node gets no traffic.
    fn why_out(&self) -> Option<&'static str> {
        match self.state {
            _ if self.in_rotation => None,
            "unknown" => Some("was not asked yet"),
            "down" => Some("does not answer"),
            "loading" => Some("loads its data"),
            "lagging" => Some("is further behind than max-lag or max-lag-bytes"),
            "unlinked" => Some("its link to the master is down or it is still syncing"),
            "fenced" => Some("says master and is not the one"),
            "rejected" => Some("refuses redweir's login, or is no Redis"),
            _ => Some("is not verified yet"),
        }
    }

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
            priority: 100,
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
            (Silent, false, false, "none", false, false, false),
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
    fn a_line_says_where_a_node_stands_and_why() {
        let mut set = SetPicture::of("s", &topology(Writes::Open(1), &[2], vec![node(1, NodeState::Master)]));
        set.nodes.extend(
            [NodeState::Replica, NodeState::Lagging, NodeState::Down]
                .into_iter()
                .zip(2..)
                .map(|(state, id)| NodePicture::of(&node(id, state), &topology(Writes::Open(1), &[2], Vec::new()))),
        );
        let expected = [
            "set s, epoch 5",
            "slots 0-16383: master 10.0.0.1:6379, writes open, replicas in rotation 1, left out for lag 0, term 0",
            "node 10.0.0.1:6379: master, master, in rotation, offset 100",
            "node 10.0.0.2:6379: replica, replica, in rotation, offset 100, lag 7 bytes 1.500 s, weight 3, zone a",
            "node 10.0.0.3:6379: replica, lagging, out of rotation (is further behind than max-lag or max-lag-bytes), \
             offset 100, lag 7 bytes 1.500 s",
            "node 10.0.0.4:6379: none, down, out of rotation (does not answer)",
        ];
        assert_eq!(set.lines(), expected);
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
