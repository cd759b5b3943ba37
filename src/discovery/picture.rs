//! The world as the workers get to see it: a value that can be compared, so that only changes are published.

use std::sync::Arc;

use super::member::{Health, Member};
use super::rotation::Place;
use super::world::World;
use crate::command::Names;
use crate::topology::{
    Former, Hold, Laggard, Lineage, Node, NodeId, NodeState, Reader, Shard, Stands, Topology, Writes,
};
use crate::upstream::control::Error;

/// A node without its live figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portrait {
    pub id: NodeId,
    pub address: Arc<str>,
    pub dial: Arc<str>,
    pub generation: u64,
    pub state: NodeState,
    priority: u32,
    run_id: String,
    version: String,
}

/// Everything immutable in a [`Topology`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    term: u64,
    lineage: Lineage,
    open: Option<NodeId>,
    pub held: Option<Hold>,
    former: Option<Former>,
    readers: Vec<Reader>,
    lagging: usize,
    /// Those of them that may be read from.
    laggards: Vec<NodeId>,
    emptied: bool,
    pub nodes: Vec<Portrait>,
    /// Counts the command tables learnt; the table itself is too long to compare each time.
    names: u64,
}

impl Picture {
    /// What workers see before anything was published.
    pub fn blank() -> Self {
        Self { held: Some(Hold::Starting), ..Self::default() }
    }

    /// `held`: why the reigning node may not be written to.
    pub fn of(world: &World, held: Option<Hold>, names: u64) -> Self {
        let open = held.is_none();
        let reign = world.reign.as_ref();
        let in_rotation = |m: &Member| (m.rotation.place == Place::Reader && m.weight > 0).then(|| reader(m));
        let mut nodes: Vec<Portrait> = world.members.iter().map(|m| portrait(m, world, open)).collect();
        nodes.sort_by_key(|n| n.id);
        let mut readers: Vec<Reader> = world.members.iter().filter_map(in_rotation).collect();
        readers.sort_by_key(|r| r.node);
        Self {
            term: world.term,
            lineage: reign.map(|r| r.lineage.clone()).unwrap_or_default(),
            open: reign.map(|r| r.node).filter(|_| open),
            held,
            former: match (held, reign) {
                (Some(hold), Some(reign)) if hold.is_doubt() => {
                    Some(Former { node: reign.node, stands: Stands::Unknown })
                }
                _ => world.former,
            },
            readers,
            laggards: members_lagging(world),
            lagging: world.members.iter().filter(|m| m.rotation.place == Place::Lagging).count(),
            emptied: world.emptied,
            nodes,
            names,
        }
    }

    pub fn portrait(&self, id: NodeId) -> Option<&Portrait> {
        self.nodes.iter().find(|n| n.id == id)
    }

    /// The publishable form; `world` lends the live figures.
    pub fn topology(&self, world: &World, names: &Arc<Names>) -> Topology {
        let text = |s: &str| (!s.is_empty()).then(|| Arc::from(s));
        let node = |p: &Portrait| {
            let live = world.member(p.id).map(|m| Arc::clone(&m.live)).unwrap_or_default();
            Arc::new(Node {
                id: p.id,
                address: Arc::clone(&p.address),
                dial: Arc::clone(&p.dial),
                generation: p.generation,
                state: p.state,
                priority: p.priority,
                run_id: text(&p.run_id),
                version: text(&p.version),
                live,
            })
        };
        let shard = Shard {
            slots: 0..=16383,
            term: self.term,
            lineage: self.lineage.clone(),
            writes: self.open.map_or(Writes::Held, Writes::Open),
            held: self.held,
            former: self.former,
            readers: self.readers.clone(),
            lagging: self.lagging,
            laggards: self.laggards.iter().filter_map(|id| world.member(*id)).map(laggard).collect(),
            emptied: self.emptied,
            switch: world.switch.clone(),
            master_reader: self.open.and_then(|id| world.member(id)).map(reader),
            tide: Arc::clone(&world.tide),
        };
        // The publisher gives the epoch.
        Topology {
            epoch: 0,
            shards: vec![shard],
            nodes: self.nodes.iter().map(node).collect(),
            names: Arc::clone(names),
        }
    }
}

fn members_lagging(world: &World) -> Vec<NodeId> {
    let lagging = |m: &&Member| m.rotation.place == Place::Lagging && m.weight > 0;
    world.members.iter().filter(lagging).map(|m| m.id).collect()
}

fn laggard(member: &Member) -> Laggard {
    Laggard { node: member.id, live: Arc::clone(&member.live) }
}

fn reader(member: &Member) -> Reader {
    Reader { node: member.id, weight: member.weight, zone: member.zone.clone() }
}

fn portrait(member: &Member, world: &World, open: bool) -> Portrait {
    let info = member.info.as_ref();
    Portrait {
        id: member.id,
        address: Arc::clone(&member.address),
        dial: Arc::clone(&member.dial),
        generation: member.generation,
        state: state(member, world.reign.as_ref().is_some_and(|r| r.node == member.id), open),
        priority: info.and_then(|i| i.priority).unwrap_or_default(),
        run_id: info.map(|i| i.run_id.clone()).unwrap_or_default(),
        version: info.map(|i| i.version.clone()).unwrap_or_default(),
    }
}

fn state(member: &Member, reigns: bool, open: bool) -> NodeState {
    match &member.health {
        Health::Unknown => return NodeState::Unknown,
        Health::Down(Error::Timeout) if reigns => return NodeState::Silent,
        Health::Down(_) => return NodeState::Down,
        Health::Rejected(_) => return NodeState::Rejected,
        Health::Up | Health::Suspect(_) => {}
    }
    match (member.says_master(), member.rotation.place) {
        _ if member.loading => NodeState::Loading,
        _ if member.role.is_none() => NodeState::Unknown,
        (true, _) if reigns && open => NodeState::Master,
        (true, _) => NodeState::Fenced,
        (false, Place::Reader) => NodeState::Replica,
        (false, Place::Lagging) => NodeState::Lagging,
        (false, Place::Out) => NodeState::Unlinked,
    }
}
