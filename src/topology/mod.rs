//! The immutable picture of one replication set: who is master, who may be read from, how far behind each is.
//!
//! Written by one [`Publisher`] (owned by discovery), read by every worker through [`View`]. Must not do I/O and must
//! not know sessions. Invariant: a role is a position in the snapshot, never a field of a node, so one swap changes the
//! whole world at once and nobody can see two masters or half a switch.

mod former;
mod hold;
mod lineage;
mod muster;
mod picture;
mod publisher;
mod switch;
mod tide;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::command::Names;
pub use former::{Former, Stands};
pub use hold::Hold;
pub use lineage::{Lineage, Relation, relation};
pub use muster::Seat;
pub use picture::{NodePicture, SetPicture, ShardPicture};
pub use publisher::{Hint, Hints, Publisher, View, channel};
pub use switch::{Kept, Lost, Switch, Toll};
pub use tide::{Mark, Marks, Tide};

/// A node's slot: stable for as long as redweir knows the node; below [`crate::metrics::MAX_NODES`].
pub type NodeId = u16;

/// One published state of the world.
#[derive(Debug, Clone)]
pub struct Topology {
    /// One per publish.
    pub epoch: u64,
    /// Today always one shard that owns every slot; nothing above `route` may assume it.
    pub shards: Vec<Shard>,
    /// Every known node, in or out of rotation. Not indexed by id: use [`Topology::node`].
    pub nodes: Vec<Arc<Node>>,
    /// Names the master's own COMMAND knows beyond the table.
    pub names: Arc<Names>,
}

/// A master with its replicas.
#[derive(Debug, Clone)]
pub struct Shard {
    pub slots: std::ops::RangeInclusive<u16>,
    /// One per master: grows each time another node (or another life of the same) becomes master.
    pub term: u64,
    pub lineage: Lineage,
    pub writes: Writes,
    /// Why they wait, where they do.
    pub held: Option<Hold>,
    /// Whose late answers are to be judged.
    pub former: Option<Former>,
    /// Replicas fit to read from: loaded, linked, in sync, not fenced, within the lag limit.
    pub readers: Vec<Reader>,
    /// Replicas left out of `readers` for lag alone.
    pub lagging: usize,
    /// Those of them that may be read from when nobody else can.
    pub laggards: Vec<Laggard>,
    /// The master's process began without the keys that the one before it had.
    pub emptied: bool,
    /// The change of master that this term began with; `None` in the first.
    pub switch: Option<Arc<Switch>>,
    /// Weight and zone of the master as a reader, for the policy `any`. `None`: weight 1, no zone.
    pub master_reader: Option<Reader>,
    /// How far the master was when.
    pub tide: Arc<Tide>,
}

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// To this verified master. -> `Held` at the first sign of its loss or of a switch.
    Open(NodeId),
    /// Nowhere for now: no verified master. -> `Open` when one is verified.
    Held,
}

/// A node that may be read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    pub node: NodeId,
    pub weight: u32,
    pub zone: Option<Arc<str>>,
}

/// A replica that would be a reader but for its lag.
#[derive(Debug, Clone)]
pub struct Laggard {
    pub node: NodeId,
    pub live: Arc<Live>,
}

/// What is known of a node besides its role.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: NodeId,
    /// `host:port` as announced: the name in metrics and logs.
    pub address: Arc<str>,
    /// `host:port` to dial.
    pub dial: Arc<str>,
    /// Grows when the node restarted or lost the role it had: connections made under an older one are not used again.
    pub generation: u64,
    pub state: NodeState,
    /// `replica-priority`: the lowest is promoted first, 0 never.
    pub priority: u32,
    pub run_id: Option<Arc<str>>,
    pub version: Option<Arc<str>>,
    /// Figures that move all the time and therefore are not part of the immutable picture.
    pub live: Arc<Live>,
}

/// Health of a node as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Not asked yet. -> any.
    Unknown,
    /// No answer within `down_after`, or connection refused. -> any, when it answers.
    Down,
    /// The last verified master, and it answers nothing: it hangs, or is at something long. -> `Master`, when it answers;
    /// `Down`, when it ends or another is master.
    Silent,
    /// Answers -LOADING. -> any.
    Loading,
    /// The shard's verified master. -> `Fenced`, `Down`, `Replica`.
    Master,
    /// Linked replica of this lineage. -> `Unlinked`, `Lagging`, `Down`, `Master`.
    Replica,
    /// A replica beyond the lag limit. -> `Replica`.
    Lagging,
    /// A replica whose link to its master is down or still syncing. -> `Replica`.
    Unlinked,
    /// Says master but is not the one (superseded, or unproven). No traffic. -> `Unlinked`, `Replica`.
    Fenced,
    /// Refused our credentials, or is no Redis. -> any.
    Rejected,
}

impl NodeState {
    /// Answers nothing, for whatever reason.
    pub const fn is_down(self) -> bool {
        matches!(self, NodeState::Down | NodeState::Silent)
    }
    pub const fn label(self) -> &'static str {
        match self {
            NodeState::Unknown => "unknown",
            NodeState::Down => "down",
            NodeState::Silent => "silent",
            NodeState::Loading => "loading",
            NodeState::Master => "master",
            NodeState::Replica => "replica",
            NodeState::Lagging => "lagging",
            NodeState::Unlinked => "unlinked",
            NodeState::Fenced => "fenced",
            NodeState::Rejected => "rejected",
        }
    }
}

/// Live figures of a node, written by discovery's sampler.
#[derive(Debug, Default)]
pub struct Live {
    offset: AtomicI64,
    lag_bytes: AtomicU64,
    lag_micros: AtomicU64,
}

impl Live {
    pub fn set(&self, offset: i64, lag_bytes: u64, lag: Duration) {
        self.offset.store(offset, Relaxed);
        self.lag_bytes.store(lag_bytes, Relaxed);
        self.lag_micros.store(lag.as_micros() as u64, Relaxed);
    }
    /// Replication offset: produced (master) or applied (replica). -1: unknown.
    pub fn offset(&self) -> i64 {
        self.offset.load(Relaxed)
    }
    pub fn lag_bytes(&self) -> u64 {
        self.lag_bytes.load(Relaxed)
    }
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Relaxed))
    }
}

impl Shard {
    /// All that may be read from, the master among them if it is `with_master`, have one weight; who has none is not read from.
    pub fn is_even(&self, with_master: bool) -> bool {
        let master = with_master.then(|| self.master_reader.as_ref().map_or(1, |reader| reader.weight));
        let mut weights = self.readers.iter().map(|reader| reader.weight).chain(master).filter(|weight| *weight > 0);
        let first = weights.next();
        weights.all(|weight| Some(weight) == first)
    }
}

impl Topology {
    /// The state before anything was seen: nobody to write to, nobody to read from.
    pub fn empty() -> Self {
        let shard = Shard {
            slots: 0..=16383,
            term: 0,
            lineage: Lineage::default(),
            writes: Writes::Held,
            held: Some(Hold::Starting),
            former: None,
            readers: Vec::new(),
            lagging: 0,
            laggards: Vec::new(),
            emptied: false,
            switch: None,
            master_reader: None,
            tide: Arc::default(),
        };
        Self { epoch: 0, shards: vec![shard], nodes: Vec::new(), names: Arc::default() }
    }
    /// The present master's number; 0: there was none yet.
    #[inline]
    pub fn term(&self) -> u64 {
        self.shards.first().map_or(0, |shard| shard.term)
    }
    /// Whether writes are held: there is no verified master.
    pub fn is_held(&self) -> bool {
        self.shards.first().is_none_or(|shard| shard.writes == Writes::Held)
    }
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|n| n.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_among_those_that_are_read_from() {
        for (weights, master, alone, with_master) in [
            (vec![], None, true, true),
            (vec![1, 1], None, true, true),
            (vec![2, 2], None, true, false),
            (vec![2, 2, 0], Some(2), true, true),
            (vec![1, 1], Some(0), true, true),
            (vec![1, 3], Some(1), false, false),
        ] {
            let reader = |(node, weight): (usize, u32)| Reader { node: node as NodeId, weight, zone: None };
            let mut shard = Topology::empty().shards.remove(0);
            shard.readers = weights.iter().copied().enumerate().map(reader).collect();
            shard.master_reader = master.map(|weight| reader((9, weight)));
            assert_eq!((shard.is_even(false), shard.is_even(true)), (alone, with_master), "{weights:?} {master:?}");
        }
    }
}
