//! Which node answers: a pure decision over the snapshot. No I/O, no clock, no allocation.

use crate::config::{Balancer, ReadPolicy};
use crate::metrics::Reason;
use crate::topology::{NodeId, Shard, Writes};

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
}

/// Load figures of the caller's own connections.
pub trait Loads {
    /// Requests waiting for a reply on this node's shared connection.
    fn in_flight(&self, node: NodeId) -> u32;
    /// Peak-sensitive moving average of its latency, in ns.
    fn latency_ns(&self, node: NodeId) -> u64;
}

/// A balancer's state: one per worker and listener.
pub struct Picker {
    balancer: Balancer,
    zone: Option<std::sync::Arc<str>>,
    next: usize,
}

impl Picker {
    pub fn new(balancer: Balancer, zone: Option<&str>) -> Self {
        Self { balancer, zone: zone.map(Into::into), next: 0 }
    }
}

/// Decides for one run. `avoid` is a node that just failed this request (it is used only when nothing else fits).
pub fn route(
    want: Want,
    policy: ReadPolicy,
    shard: &Shard,
    picker: &mut Picker,
    loads: &impl Loads,
    avoid: Option<NodeId>,
) -> Decision {
    let _ = (policy, loads, avoid, picker.balancer, &picker.zone, picker.next);
    match (want, shard.writes) {
        (_, Writes::Open(node)) => Decision::To { node, reason: Reason::Master },
        (_, Writes::Held) => Decision::Hold,
    }
}
