//! What the replicas have shown to have applied in the present term, and which of them count. Pure.
//!
//! Sentinel sorts by priority first and by offset only then (sentinel.c compareSlavesForPromotion): a copy on a node that it
//! would pass over protects nothing. So those count that have the lowest priority above 0 of all replicas that live, whether
//! they follow just now or not: a replica whose link is down may be promoted for a long time still. Invariant: offsets of another term
//! are forgotten.

use crate::topology::{NodeId, NodeState};

#[derive(Debug, Default)]
pub struct Copies {
    term: u64,
    shown: Vec<(NodeId, u64)>,
    /// Those that would be promoted first.
    first: Vec<NodeId>,
}

/// A replica that lives: Sentinel may promote it.
pub fn may_be_promoted(state: NodeState, priority: u32) -> bool {
    let lives = matches!(state, NodeState::Replica | NodeState::Lagging | NodeState::Unlinked | NodeState::Loading);
    lives && priority > 0
}

impl Copies {
    pub fn enter(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.shown.clear();
        }
    }

    /// The nodes as they are now.
    pub fn choose(&mut self, nodes: impl Iterator<Item = (NodeId, NodeState, u32)> + Clone) {
        let alive = nodes.filter(|(_, state, priority)| may_be_promoted(*state, *priority));
        let best = alive.clone().map(|(_, _, priority)| priority).min();
        self.first = alive.filter(|(_, _, priority)| Some(*priority) == best).map(|(node, ..)| node).collect();
    }

    /// A node was seen to have applied everything up to `offset`.
    pub fn show(&mut self, node: NodeId, offset: u64) {
        match self.shown.iter_mut().find(|(known, _)| *known == node) {
            Some((_, known)) => *known = offset.max(*known),
            None => self.shown.push((node, offset)),
        }
    }

    /// It may have begun again with less.
    pub fn forget(&mut self, node: NodeId) {
        self.shown.retain(|(known, _)| *known != node);
    }

    pub fn shown(&self, node: NodeId) -> Option<u64> {
        self.shown.iter().find(|(known, _)| *known == node).map(|(_, offset)| *offset)
    }

    /// The offset that `need` of those that count have.
    pub fn confirmed(&self, need: u32) -> Option<u64> {
        if need == 0 {
            return Some(u64::MAX);
        }
        let offsets = || self.first.iter().filter_map(|node| self.shown(*node));
        let have = |offset: u64| offsets().filter(|other| *other >= offset).count();
        offsets().filter(|offset| have(*offset) >= need as usize).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeState::{Down, Fenced, Lagging, Loading, Master, Replica, Unlinked};

    #[test]
    fn those_count_that_would_be_promoted_first() {
        /// Nodes as (state, priority), all at offset 10 times their place, and the offsets that 1 and 2 of them have.
        type Row = (&'static str, &'static [(NodeState, u32)], [Option<u64>; 2]);
        let table: &[Row] = &[
            ("alike", &[(Replica, 100), (Replica, 100), (Replica, 100)], [Some(20), Some(10)]),
            ("never promoted", &[(Replica, 100), (Replica, 0)], [Some(0), None]),
            ("passed over", &[(Replica, 10), (Replica, 100)], [Some(0), None]),
            ("passed over even behind", &[(Lagging, 10), (Replica, 100)], [Some(0), None]),
            ("not while it is dead", &[(Down, 10), (Replica, 100)], [Some(10), None]),
            ("its link is down, and it is promoted all the same", &[(Unlinked, 10), (Replica, 100)], [Some(0), None]),
            ("loads", &[(Loading, 10), (Replica, 100)], [Some(0), None]),
            ("masters are no copies", &[(Master, 100), (Fenced, 1), (Replica, 100)], [Some(20), None]),
            ("nobody", &[(Master, 0)], [None, None]),
        ];
        for (what, nodes, expected) in table {
            let mut copies = Copies::default();
            copies.enter(1);
            copies.choose(nodes.iter().enumerate().map(|(i, (state, priority))| (i as u16, *state, *priority)));
            (0..nodes.len()).for_each(|i| copies.show(i as u16, 10 * i as u64));
            assert_eq!([copies.confirmed(1), copies.confirmed(2)], *expected, "{what}");
            assert_eq!(copies.confirmed(0), Some(u64::MAX));
        }
    }

    #[test]
    fn offsets_only_grow_within_a_term_and_are_forgotten_with_it() {
        let mut copies = Copies::default();
        copies.enter(1);
        copies.choose([(4, Replica, 1)].into_iter());
        copies.show(4, 20);
        copies.show(4, 10);
        copies.enter(1);
        assert_eq!(copies.confirmed(1), Some(20));
        copies.forget(4);
        assert_eq!(copies.confirmed(1), None);
        copies.show(4, 10);
        copies.enter(2);
        assert_eq!((copies.confirmed(1), copies.shown(4)), (None, None));
    }
}
