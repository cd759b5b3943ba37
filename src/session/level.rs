//! Which level a session's reads have: the listener's, its user's, or the one it chose.
//!
//! Must not do I/O. Invariant: at level `bounded` a read is answered by a node that has shown an offset which the master
//! had reached no longer ago than the bound, or by the master. It promises nothing else: neither that a client sees its
//! own writes nor that it never goes back.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::front::{Front, Way};
use super::state::{Side, State};
use crate::config::{Consistency, Staleness};
use crate::route::Want;
use crate::topology::{NodeId, Topology};
use crate::upstream::{Bound, Conn, LaneId};

/// A level with all that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub consistency: Consistency,
    pub staleness: Staleness,
}

impl Level {
    /// In words; with its bound where it has one.
    pub fn label(self) -> String {
        match self.consistency {
            Consistency::Bounded => format!("bounded ({})", self.staleness),
            other => other.label().to_owned(),
        }
    }
}

impl State {
    /// Another level from here on. What was seen at the old one is not known.
    pub fn set_level(&mut self, level: Level) {
        if self.level != level.consistency {
            self.seen.escaped();
        }
        (self.level, self.staleness) = (level.consistency, level.staleness);
    }
}

impl Front {
    /// The level of who came in by `lane`.
    pub(super) fn level_of(&self, lane: LaneId) -> Level {
        let login = self.pool.describe(lane).and_then(|lane| lane.login);
        let user = login.as_ref().and_then(|login| login.username.as_deref());
        Level { consistency: self.listener.level_of(user), staleness: self.listener.reads.staleness }
    }

    /// The term, and the least offset of it that a read that comes now must be shown; `None`: only the master is sure.
    pub(super) fn floor_within(&self, topology: &Topology, bound: Staleness) -> Option<(u64, u64)> {
        let shard = topology.shards.first()?;
        Some((shard.term, shard.tide.floor(shard.term, Instant::now(), bound)?))
    }

    /// The connection for a read that must not be staler than `bound`; readers that were seen to be staler are passed over
    /// where there is another. `None`: it is for the master.
    fn way_within(
        &self,
        topology: &Topology,
        lane: LaneId,
        mut avoid: Option<NodeId>,
        bound: Staleness,
    ) -> Option<Way> {
        for _ in 0..2 {
            match self.way(topology, Want::Read, lane, avoid) {
                Way::Conn { conn, .. } if was_staler(topology, conn.target.node, bound) => {
                    avoid = Some(conn.target.node)
                }
                way => return Some(way),
            }
        }
        None
    }
}

fn was_staler(topology: &Topology, node: NodeId, bound: Staleness) -> bool {
    topology.node(node).is_some_and(|node| {
        bound.time.is_some_and(|limit| node.live.lag() > limit)
            || bound.bytes.is_some_and(|limit| node.live.lag_bytes() > limit)
    })
}

/// Whether a replica that lags was seen to have reached `floor`.
pub fn is_at_a_laggard(topology: &Topology, floor: u64) -> bool {
    let mut laggards = topology.shards.iter().flat_map(|shard| &shard.laggards);
    laggards.any(|laggard| u64::try_from(laggard.live.offset()).is_ok_and(|offset| offset >= floor))
}

impl Session {
    /// It is somebody else now: the level is that user's, unless the client chose one.
    pub(super) fn take_level_of_user(&self, s: &mut State) {
        if !s.chosen {
            s.set_level(self.front.level_of(s.lane));
        }
    }

    /// The way of a read at level `bounded`, and what the node there must show; `None`: it is for the master.
    pub(super) fn bounded_way(&self, s: &mut State, topology: &Topology) -> Option<(Way, Needed)> {
        let (term, floor) = self.front.floor_within(topology, s.staleness)?;
        let way = self.front.way_within(topology, s.lane, s.avoid.take(), s.staleness)?;
        Some((way, Needed { term, floor }))
    }
}

/// What a node must show before a read there: an offset of a term. All zero: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needed {
    pub term: u64,
    pub floor: u64,
}

impl Needed {
    /// At level `bounded`, as the bound of a run that goes to `conn` on `side`.
    pub fn bound(self, conn: &Rc<Conn>, side: Side) -> Bound {
        let term = u32::try_from(self.term).unwrap_or(u32::MAX);
        match side {
            Side::Replica if !conn.has_shown(term, self.floor) => {
                Bound { term, floor: self.floor.max(1), patient: true }
            }
            // The master has all there is, and what a node has shown it keeps.
            _ => Bound::default(),
        }
    }
}
