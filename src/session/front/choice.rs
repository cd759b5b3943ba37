//! Which connection a run goes to, by route and by what is on its way already.
//!
//! Part of [`Front`]. Must not look at a request. Invariant: reads of one round join one another only while each may go anywhere.

use std::rc::Rc;
use std::sync::Arc;

use super::Front;
use crate::metrics::Reason;
use crate::route::{self, Decision, Loads, Want};
use crate::topology::{NodeId, Topology};
use crate::upstream::{Conn, LaneId, Pool, Target};

#[derive(Clone, Copy)]
pub(super) struct Choice {
    epoch: u64,
    lane: LaneId,
    node: NodeId,
    reason: Reason,
}

/// Where a run goes, as a connection.
pub enum Way {
    Conn {
        conn: Rc<Conn>,
        reason: Reason,
    },
    Hold,
    NoNode,
    /// All replicas lag, and the master has had its share.
    Guarded,
}

impl Front {
    /// The connection for a run that wants `want`; `avoid` just failed it.
    #[inline]
    pub fn way(&self, topology: &Topology, want: Want, lane: LaneId, avoid: Option<NodeId>) -> Way {
        if let (Want::Read, None) = (want, avoid)
            && let Some(choice) = self.choice.get()
            && choice.epoch == topology.epoch
            && choice.lane == lane
            && let Some(conn) = self.pool.peek(lane, choice.node)
            && conn.is_dirty()
        {
            return Way::Conn { conn, reason: choice.reason };
        }
        self.decide(topology, want, lane, avoid)
    }

    /// A read must go to `conn`: those of this round that may go anywhere join it, instead of a write of their own. Not where
    /// readers have weights: who stays with a light one would bring it others, two to three times its share.
    #[inline]
    pub(in crate::session) fn lead(&self, topology: &Topology, lane: LaneId, conn: &Conn, reason: Reason) {
        if !conn.is_dirty() && self.pool.is_even() {
            self.choose(topology, lane, conn.target.node, reason);
        }
    }

    /// The reads that follow in this round join those that go to `node`. Not while all replicas lag: each read is decided by
    /// itself then, for the master's share is one of reads.
    #[inline]
    fn choose(&self, topology: &Topology, lane: LaneId, node: NodeId, reason: Reason) {
        if !matches!(reason, Reason::Lag | Reason::LeastLagging) {
            self.choice.set(Some(Choice { epoch: topology.epoch, lane, node, reason }));
        }
    }

    fn decide(&self, topology: &Topology, want: Want, lane: LaneId, mut avoid: Option<NodeId>) -> Way {
        let Some(shard) = topology.shards.first() else { return Way::Hold };
        let loads = LaneLoads { pool: &self.pool, lane };
        let retry = avoid.is_some();
        // Twice: a node that cannot be dialled right now is avoided once.
        for _ in 0..2 {
            let decision =
                route::route(want, self.listener.read_policy, shard, &mut self.picker.borrow_mut(), &loads, avoid);
            let (node, reason) = match decision {
                Decision::To { node, reason } => (node, reason),
                Decision::Hold => return Way::Hold,
                Decision::NoNode => return Way::NoNode,
                Decision::Guarded => return Way::Guarded,
            };
            if let Some(conn) = self.conn(topology, lane, node) {
                let reason = if retry { Reason::Retry } else { reason };
                if want == Want::Read {
                    self.choose(topology, lane, node, reason);
                }
                return Way::Conn { conn, reason };
            }
            if want == Want::Master {
                break;
            }
            avoid = Some(node);
        }
        Way::Hold
    }

    fn conn(&self, topology: &Topology, lane: LaneId, id: NodeId) -> Option<Rc<Conn>> {
        let node = topology.node(id)?;
        let target = || Target { node: id, generation: node.generation, dial: Arc::clone(&node.dial) };
        self.pool.shared(lane, target, node.generation, id)
    }

    /// Where a connection of one's own should go: the master, or for reads whoever the policy picks.
    pub fn target(&self, want: Want) -> Option<Target> {
        let topology = self.topology();
        let shard = topology.shards.first()?;
        let idle = NoLoads;
        let decide =
            |want| route::route(want, self.listener.read_policy, shard, &mut self.picker.borrow_mut(), &idle, None);
        // What needs a connection of its own is rare: the guard is not for that.
        match Some(decide(want)).filter(|d| *d != Decision::Guarded).unwrap_or_else(|| decide(Want::Master)) {
            Decision::To { node, .. } => {
                topology.node(node).map(|n| Target { node, generation: n.generation, dial: Arc::clone(&n.dial) })
            }
            _ => None,
        }
    }

    /// What the next request that wants `want` would get. Nobody's turn is used up.
    pub(in crate::session) fn foresee(&self, topology: &Topology, want: Want, lane: LaneId) -> Decision {
        let Some(shard) = topology.shards.first() else { return Decision::Hold };
        let loads = LaneLoads { pool: &self.pool, lane };
        let mut picker = self.picker.borrow().clone();
        route::route(want, self.listener.read_policy, shard, &mut picker, &loads, None)
    }
}

struct LaneLoads<'a> {
    pool: &'a Pool,
    lane: LaneId,
}

impl Loads for LaneLoads<'_> {
    fn in_flight(&self, node: NodeId) -> u32 {
        self.pool.peek(self.lane, node).map_or(0, |conn| conn.in_flight())
    }
    fn latency_ns(&self, node: NodeId) -> u64 {
        self.pool.peek(self.lane, node).map_or(0, |conn| conn.ewma_ns())
    }
    #[inline]
    fn wait_ns(&self, node: NodeId) -> (u64, u64) {
        self.pool.wait_ns(self.lane, node)
    }
}

struct NoLoads;

impl Loads for NoLoads {
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
