//! What a change of topology means for the connections to one node. Pure.
//!
//! Invariant: what a former master still says is never handed on before it is known what of it stands.

use std::time::{Duration, Instant};

use crate::topology::{NodeId, NodeState, Stands, Topology};
use crate::upstream::{Target, Verdict};

/// How long what was sent to a master that answers nothing waits for it: it may be at something long. As long as writes are
/// held, for whom a direct connection would keep waiting too; another master ends it at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Patience {
    /// There is no such master.
    #[default]
    Idle,
    Until(NodeId, Instant),
    /// -> `Idle` when it answers, ends, or another is master.
    Over(NodeId),
}

impl Patience {
    /// As of `topology`.
    pub(super) fn at(self, topology: &Topology, hold: Duration, now: Instant) -> Self {
        let silent = topology.nodes.iter().find(|node| node.state == NodeState::Silent).map(|node| node.id);
        match (silent, self) {
            (None, _) => Patience::Idle,
            (Some(node), Patience::Until(of, until)) if of == node && now >= until => Patience::Over(node),
            (Some(node), Patience::Until(of, _) | Patience::Over(of)) if of == node => self,
            (Some(node), _) => Patience::Until(node, now + hold),
        }
    }

    /// When it ends.
    pub(super) fn end(self) -> Option<Instant> {
        match self {
            Patience::Until(_, until) => Some(until),
            Patience::Idle | Patience::Over(_) => None,
        }
    }
}

pub(super) fn judge(topology: &Topology, target: &Target, patience: Patience) -> Verdict {
    let Some(node) = topology.node(target.node) else { return Verdict::Kill };
    let same_life = node.generation == target.generation;
    let former = topology.shards.first().and_then(|shard| shard.former);
    match former.filter(|former| former.node == target.node).map(|former| former.stands) {
        _ if node.state == NodeState::Down => Verdict::Kill,
        _ if node.state == NodeState::Silent => match same_life && patience != Patience::Over(node.id) {
            true => Verdict::Withhold,
            false => Verdict::Kill,
        },
        Some(Stands::Unknown) => Verdict::Withhold,
        Some(Stands::Until(then)) if !same_life => Verdict::Replaced(Some(then)),
        Some(Stands::None) if !same_life => Verdict::Replaced(None),
        _ if same_life => Verdict::Keep,
        _ => Verdict::Retire,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topology::{Former, Live, Node};

    const LIFE: u64 = 3;

    fn topology(state: NodeState, stands: Option<Stands>) -> Topology {
        let node = Node {
            id: 1,
            address: "a:1".into(),
            dial: "a:1".into(),
            generation: LIFE,
            state,
            priority: 100,
            run_id: None,
            version: None,
            live: Arc::new(Live::default()),
        };
        let mut topology = Topology::empty();
        topology.nodes.push(Arc::new(node));
        topology.shards[0].former = stands.map(|stands| Former { node: 1, stands });
        topology
    }

    #[test]
    fn by_state_by_life_and_by_what_stands() {
        use NodeState::{Down, Fenced, Master, Silent, Unlinked};
        let now = Instant::now();
        let (idle, waits, over) = (Patience::Idle, Patience::Until(1, now), Patience::Over(1));
        let until = Some(Stands::Until(now));
        for (state, stands, generation, patience, expected) in [
            (Master, None, LIFE, idle, Verdict::Keep),
            (Master, None, LIFE - 1, idle, Verdict::Retire),
            (Fenced, Some(Stands::Unknown), LIFE, idle, Verdict::Withhold),
            (Unlinked, until, LIFE - 1, idle, Verdict::Replaced(Some(now))),
            (Unlinked, Some(Stands::None), LIFE - 1, idle, Verdict::Replaced(None)),
            (Unlinked, Some(Stands::All), LIFE - 1, idle, Verdict::Retire),
            (Unlinked, until, LIFE, idle, Verdict::Keep),
            (Down, Some(Stands::Unknown), LIFE, idle, Verdict::Kill),
            (Down, until, LIFE - 1, idle, Verdict::Kill),
            (Silent, Some(Stands::Unknown), LIFE, idle, Verdict::Withhold),
            (Silent, None, LIFE, waits, Verdict::Withhold),
            (Silent, None, LIFE - 1, waits, Verdict::Kill),
            (Silent, Some(Stands::Unknown), LIFE, over, Verdict::Kill),
            (Silent, None, LIFE, Patience::Over(2), Verdict::Withhold),
        ] {
            let target = Target { node: 1, generation, dial: "a:1".into() };
            let found = judge(&topology(state, stands), &target, patience);
            assert_eq!(found, expected, "{state:?} {stands:?} {generation} {patience:?}");
        }
        let gone = Target { node: 2, generation: LIFE, dial: "b:2".into() };
        assert_eq!(judge(&topology(Master, None), &gone, idle), Verdict::Kill);
    }

    #[test]
    fn a_silent_master_is_waited_for_as_long_as_writes_are_held() {
        let (hold, now) = (Duration::from_secs(10), Instant::now());
        let silent = topology(NodeState::Silent, None);
        let first = Patience::Idle.at(&silent, hold, now);
        assert_eq!(first, Patience::Until(1, now + hold));
        assert_eq!(first.at(&silent, hold, now + hold / 2), first, "it is not begun anew");
        assert_eq!(first.at(&silent, hold, now + hold), Patience::Over(1));
        assert_eq!(Patience::Over(1).at(&silent, hold, now + 2 * hold), Patience::Over(1));
        assert_eq!(Patience::Over(2).at(&silent, hold, now), Patience::Until(1, now + hold), "another's");
        for state in [NodeState::Master, NodeState::Down] {
            assert_eq!(Patience::Over(1).at(&topology(state, None), hold, now), Patience::Idle, "{state:?}");
        }
    }
}
