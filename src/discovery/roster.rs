//! Who is a member: names become slots, two names of one process become one member, and who is gone for good leaves.
//!
//! Part of [`World`]. Invariant: at most one member per process, and a slot is reused only after its member left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{Health, Member};
use super::rotation::Rotation;
use super::world::World;
use crate::config::Source;
use crate::metrics::MAX_NODES;
use crate::topology::NodeId;

/// A node that nobody lists any more leaves after this.
pub const FORGET_AFTER: Duration = Duration::from_secs(60);

impl World {
    /// The member of that name; an announced name, a dialled one, or a second one.
    pub fn resolve(&self, address: &str) -> Option<NodeId> {
        let named = |m: &&Member| *m.address == *address;
        let dialled = |m: &&Member| *m.dial == *address;
        let member = self.members.iter().find(named).or_else(|| self.members.iter().find(dialled));
        member.map(|m| m.id).or_else(|| self.aliases.get(address).copied())
    }

    /// Notes that `address` is listed; adds it when it is new. The id of a new member.
    pub fn list(&mut self, address: &str, configured: bool, now: Instant) -> Option<NodeId> {
        if let Some(id) = self.resolve(address) {
            let member = self.member_mut(id)?;
            member.listed_at = now;
            return None;
        }
        let free = |id: &NodeId| self.members.iter().all(|m| m.id != *id);
        let Some(id) = (0..MAX_NODES as NodeId).find(free) else {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(
                    set = %self.set.name, node = %address,
                    "more than {MAX_NODES} nodes in one set: further ones are ignored until others leave"
                );
            }
            return None;
        };
        self.full = false;
        self.probes += 1;
        self.generations += 1;
        let member = self.newcomer(id, address, configured, now);
        self.members.push(member);
        Some(id)
    }

    fn newcomer(&self, id: NodeId, address: &str, configured: bool, now: Instant) -> Member {
        let dial = self.set.address_map.iter().find(|(announced, _)| announced == address).map(|(_, to)| to.as_str());
        let dial = dial.unwrap_or(address);
        let said = self.set.nodes.iter().find(|n| n.address == address || n.address == dial);
        Member {
            id,
            address: address.into(),
            dial: dial.into(),
            probe: self.probes,
            configured,
            weight: said.map_or(1, |n| n.weight),
            zone: said.and_then(|n| n.zone.as_deref()).map(Into::into),
            listed_at: now,
            generation: self.generations,
            live: Arc::default(),
            health: Health::Unknown,
            answered_at: None,
            asked_at: None,
            examined_at: None,
            loading: false,
            role: None,
            info: None,
            superseded: false,
            bystander: false,
            applied: -1,
            rotation: Rotation::default(),
        }
    }

    /// Lists what the operator named (again, in case it had been another name of a process that is gone).
    pub fn list_configured(&mut self, now: Instant) -> Vec<NodeId> {
        let Source::Nodes(nodes) = &Arc::clone(&self.set).source else { return Vec::new() };
        nodes.iter().filter_map(|address| self.list(address, true, now)).collect()
    }

    /// Refreshes a listing; true when nobody of that name is known.
    pub(super) fn relist(&mut self, address: &str, now: Instant) -> bool {
        match self.resolve(address).and_then(|id| self.member_mut(id)) {
            Some(member) => {
                member.listed_at = now;
                false
            }
            None => true,
        }
    }

    /// Leaves one member of the process that `id` turned out to be; the others become names of it. Who had to leave.
    pub(super) fn merge_doubles(&mut self, id: NodeId, run_id: &str) -> Vec<NodeId> {
        if run_id.is_empty() {
            return Vec::new();
        }
        let same = |m: &&Member| m.id == id || (m.is_up() && m.run_id() == run_id);
        let reigns = |m: &Member| self.reign.as_ref().is_some_and(|r| r.node == m.id);
        let stays = self.members.iter().filter(same).min_by_key(|m| (!reigns(m), !m.configured, m.probe)).map(|m| m.id);
        let Some(stays) = stays else { return Vec::new() };
        let doubles: Vec<NodeId> = self.members.iter().filter(same).map(|m| m.id).filter(|m| *m != stays).collect();
        for double in &doubles {
            if let Some(at) = self.members.iter().position(|m| m.id == *double) {
                let left = self.members.remove(at);
                self.aliases.retain(|_, of| of != double);
                self.aliases.insert(left.address.to_string(), stays);
            }
        }
        doubles
    }

    /// Lets time pass, and removes who left for good; their ids.
    pub fn age(&mut self, now: Instant) -> Vec<NodeId> {
        let down_after = self.set.down_after;
        for member in &mut self.members {
            member.age(now, down_after);
        }
        let reign = self.reign.as_ref();
        let line = reign.map(|r| r.lineage.id.as_str());
        let leaves = |m: &Member| {
            let in_line = m.is_up() && m.info.as_ref().is_some_and(|i| Some(i.lineage.id.as_str()) == line);
            let unlisted = now.saturating_duration_since(m.listed_at) >= FORGET_AFTER;
            unlisted && !in_line && !m.configured && reign.is_none_or(|r| r.node != m.id)
        };
        let gone: Vec<NodeId> = self.members.iter().filter(|m| leaves(m)).map(|m| m.id).collect();
        self.members.retain(|m| !gone.contains(&m.id));
        // Where one name of a node fails, another may still work: it is tried as a member of its own.
        let works = |id: &NodeId| {
            self.members.iter().any(|m| m.id == *id && !matches!(m.health, Health::Down(_) | Health::Rejected(_)))
        };
        self.aliases.retain(|_, of| works(of));
        gone
    }
}
