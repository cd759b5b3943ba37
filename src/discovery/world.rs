//! All that is known of one replication set: its members, its accepted master, and the offsets that master told.
//!
//! State and its transitions, no I/O and no clock of its own. Invariant: a generation is given once, and a master that
//! was succeeded is known as superseded, by its slot and by its replication id, until it follows the new line.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detector::{Reign, Sight};
use super::lag::{Lag, Samples};
use super::member::{Health, Member};
use super::promotion;
use super::rotation::{Facts, Limits, Place, Rotation};
use super::sampling::Sampling;
use super::seen::{Info, Link, Observation, Role, Seen};
use super::stands::stands;
use crate::config::SetConfig;
use crate::topology::{Former, Kept, Lineage, Lost, NodeId, Relation, Stands, Switch, Tide, Toll, relation};

/// Superseded replication ids remembered: one per switch.
const PAST: usize = 64;
/// So many questions in a row without an answer are a sign.
const UNANSWERED: u32 = 3;

/// What followed from an observation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes it names that are not known.
    pub named: Vec<String>,
    /// Members that left because they are another name of a process already known.
    pub doubles: Vec<NodeId>,
    /// The standing of a node changed: everybody should be asked at a fast pace.
    pub alarming: bool,
}

/// What a switch did, for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Succession {
    pub from: Option<Arc<str>>,
    pub to: Arc<str>,
    pub relation: Option<Relation>,
    /// It is the process that was master before: only its replication id is another one.
    pub same_process: bool,
    /// Of the old line.
    pub lost: Lost,
    /// It restarted without the keys it had: so many.
    pub emptied: Option<u64>,
}

#[derive(Debug)]
pub struct World {
    pub set: Arc<SetConfig>,
    pub members: Vec<Member>,
    pub reign: Option<Reign>,
    pub term: u64,
    /// Keys of the accepted master in its present life.
    pub keys: u64,
    /// It began that life without the keys it had.
    pub emptied: bool,
    /// What this term began with.
    pub switch: Option<Arc<Switch>>,
    /// The master before the present one.
    pub former: Option<Former>,
    pub samples: Samples,
    pub sampling: Sampling,
    pub tide: Arc<Tide>,
    /// Second names of members.
    pub(super) aliases: HashMap<String, NodeId>,
    /// Replication ids of masters that were succeeded.
    past: VecDeque<String>,
    pub(super) probes: u64,
    pub(super) generations: u64,
    /// More nodes than slots were seen, and that was logged.
    pub(super) full: bool,
}

impl World {
    pub fn new(set: Arc<SetConfig>) -> Self {
        Self {
            set,
            members: Vec::new(),
            reign: None,
            term: 0,
            keys: 0,
            emptied: false,
            switch: None,
            former: None,
            samples: Samples::default(),
            sampling: Sampling::default(),
            tide: Arc::default(),
            aliases: HashMap::new(),
            past: VecDeque::new(),
            probes: 0,
            generations: 0,
            full: false,
        }
    }

    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    pub fn member_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.id == id)
    }

    /// Takes in one report.
    pub fn observe(&mut self, seen: Observation, now: Instant) -> Outcome {
        let down_after = self.set.down_after;
        let Some(member) = self.members.iter_mut().find(|m| m.id == seen.node && m.probe == seen.probe) else {
            return Outcome::default();
        };
        let mut outcome = Outcome::default();
        let was = member.health.clone();
        match seen.seen {
            Seen::Lost(e) => {
                member.lost(e, now, down_after);
                outcome.alarming = member.health != was && was == Health::Up;
            }
            Seen::Busy { loading } => {
                member.answered(now);
                member.loading |= loading;
            }
            Seen::Commands { .. } => {}
            Seen::Role { role, info } => {
                member.answered(now);
                outcome.alarming = match &member.role {
                    Some(before) => !role.same_standing(before),
                    None => matches!(role, Role::Master { .. }),
                };
                self.heard_role(seen.node, (seen.asked, now), role, info.map(|i| *i), &mut outcome);
            }
        }
        outcome
    }

    fn heard_role(
        &mut self,
        id: NodeId,
        (asked, now): (Instant, Instant),
        role: Role,
        info: Option<Info>,
        outcome: &mut Outcome,
    ) {
        let reign = self.reign.as_ref().map(|r| (r.node, r.lineage.id.clone()));
        let named = self.named_by(id, &role);
        if let Some(info) = &info {
            outcome.doubles = self.merge_doubles(id, &info.run_id);
            // Another process there is not the accepted one yet: what that had is remembered.
            if self.reign.as_ref().is_some_and(|r| r.node == id && r.run_id == info.run_id) {
                self.keys = info.keys;
            }
        }
        let generation = self.next_generation();
        // Gone when it is itself the double.
        let Some(member) = self.member_mut(id) else { return };
        if role.offset() >= 0 {
            member.applied = role.offset();
        }
        let mut restarted = false;
        if let Some(info) = info {
            restarted = member.info.as_ref().is_some_and(|before| before.run_id != info.run_id);
            if restarted {
                member.generation = generation;
                member.rotation = Rotation::default();
            }
            member.loading = info.loading;
            member.examined_at = Some(now);
            member.info = Some(info);
        }
        let follows_line = matches!(role, Role::Replica { link: Link::Connected, .. })
            && member.info.as_ref().is_some_and(|i| reign.as_ref().is_some_and(|(_, line)| i.lineage.id == *line));
        if follows_line {
            member.superseded = false;
        }
        member.bystander &= !matches!(role, Role::Replica { .. });
        member.asked_at = Some(asked);
        let offset = matches!(role, Role::Master { .. }).then_some(role.offset());
        member.role = Some(role);
        let line = member.info.as_ref().map(|i| i.lineage.id.clone());
        if restarted {
            // Another process: whether its other names still lead to it is to be seen anew.
            self.aliases.retain(|_, of| *of != id);
        }
        // Of another line of offsets there is nothing to compare with these.
        if let (Some(offset), Some((node, reigning))) = (offset, reign)
            && node == id
            && line == Some(reigning)
        {
            self.samples.push(asked, offset);
            self.tide.publish(self.samples.marks(self.term));
        }
        outcome.named = named.into_iter().filter(|address| self.relist(address, asked)).collect();
    }

    /// Addresses of other nodes that `role` gives away.
    fn named_by(&self, id: NodeId, role: &Role) -> Vec<String> {
        match role {
            Role::Master { replicas, .. } if self.reign.as_ref().is_some_and(|reign| reign.node == id) => {
                replicas.clone()
            }
            Role::Replica { of, link, .. } if *link == Link::Connected || self.reign.is_none() => vec![of.clone()],
            _ => Vec::new(),
        }
    }

    /// Generations are never given twice, so one of a slot's earlier owner is never taken for its own.
    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    pub fn sights(&self, now: Instant) -> Vec<Sight> {
        let follows = |m: &Member| match &m.role {
            Some(Role::Replica { of, .. }) => self.resolve(of),
            _ => None,
        };
        let stale = |m: &Member| m.info.as_ref().is_some_and(|i| self.past.contains(&i.lineage.id));
        self.members.iter().map(|m| m.sight(now, follows(m), stale(m))).collect()
    }

    /// Whether the accepted master answered nothing for `down_after`.
    pub fn master_silent(&self, now: Instant) -> bool {
        let member = self.reign.as_ref().and_then(|r| self.member(r.node));
        member.is_none_or(|m| m.is_silent_for(now, self.set.down_after))
    }

    /// Whether the accepted master leaves questions unanswered: a sign of trouble, and no proof.
    pub fn master_falls_silent(&self, now: Instant) -> bool {
        let member = self.reign.as_ref().and_then(|r| self.member(r.node));
        member.is_some_and(|m| m.is_silent_for(now, UNANSWERED * self.set.poll))
    }

    /// The replicas of the accepted master, as far as a promotion is concerned. Who was never heard may be one.
    pub fn replicas_of_master(&self) -> Vec<promotion::Replica> {
        let Some(reign) = &self.reign else { return Vec::new() };
        let is_one = |m: &&Member| {
            m.id != reign.node
                && match &m.role {
                    Some(Role::Replica { of, .. }) => self.resolve(of) == Some(reign.node),
                    Some(Role::Master { .. }) => false,
                    None => true,
                }
        };
        let replica = |m: &Member| {
            let info = m.info.as_ref();
            promotion::Replica {
                id: m.id,
                answers: m.is_up() && !m.loading,
                link: match &m.role {
                    Some(Role::Replica { link, .. }) => *link,
                    _ => Link::Connected,
                },
                in_line: info.is_some_and(|i| i.lineage.id == reign.lineage.id),
                // As Redis' default.
                priority: info.and_then(|i| i.priority).unwrap_or(100),
                offset: m.applied.max(info.and_then(|i| i.applied).unwrap_or(-1)),
                run_id: m.run_id().to_owned(),
            }
        };
        self.members.iter().filter(is_one).map(replica).collect()
    }

    /// The accepted master lives and was kept: whoever else says master now says so for another reason than its absence.
    pub fn note_bystanders(&mut self) {
        let reign = self.reign.as_ref().map(|r| r.node);
        for member in self.members.iter_mut().filter(|m| Some(m.id) != reign && m.says_master()) {
            member.bystander = true;
        }
    }

    /// Makes `to` the master. Nothing happens when it is not known well enough. `told`: the largest offset that the workers
    /// were told in this term.
    pub fn enthrone(
        &mut self,
        to: NodeId,
        (config_epoch, confirmed): (u64, bool),
        told: Option<u64>,
        now: Instant,
    ) -> Option<Succession> {
        let member = self.member(to)?;
        let info = member.info.clone()?;
        let (address, newest) = (Arc::clone(&member.address), member.applied);
        let asked = member.asked_at.unwrap_or(now);
        let old = self.reign.take();
        let furthest = self.samples.furthest().max(told.and_then(|told| i64::try_from(told).ok()));
        let related = old.as_ref().map(|old| relation(&old.lineage, &info.lineage));
        let same_process = old.as_ref().is_some_and(|old| old.run_id == info.run_id);
        let restarted = !same_process && old.as_ref().is_some_and(|old| old.node == to);
        let bare = related == Some(Relation::Unrelated) && info.keys == 0 && (self.keys > 0 || self.emptied);
        let lost_keys = Some(self.keys).filter(|_| restarted && bare);
        // Its first replica gives it another line, not another life.
        self.emptied = lost_keys.is_some() || (same_process && self.emptied);
        self.keys = info.keys;
        let from = old.as_ref().and_then(|old| self.member(old.node)).map(|m| Arc::clone(&m.address));
        self.former = old.as_ref().filter(|old| old.node != to).map(|old| {
            let was = self.member(old.node).and_then(|m| Some((m.role.as_ref()?, m.info.as_ref()?)));
            Former { node: old.node, stands: stands(&old.lineage, &info.lineage, was, &self.samples) }
        });
        if let Some(old) = &old {
            self.succeed(old, to, &info.lineage);
        }
        self.past.retain(|id| *id != info.lineage.id);
        let generation = self.next_generation();
        if let Some(member) = self.member_mut(to) {
            member.superseded = false;
            member.bystander = false;
            if old.as_ref().is_none_or(|o| o.node != to) {
                member.generation = generation;
            }
            member.rotation = Rotation::default();
        }
        self.samples.clear();
        self.samples.push(asked, newest);
        self.term += 1;
        self.tide.publish(self.samples.marks(self.term));
        let ended = self.former.is_some_and(|former| former.stands == Stands::All);
        self.switch = old.map(|old| {
            let kept = Kept::of(&old.lineage, &info.lineage, same_process);
            let lost = Lost::of(kept, furthest, ended);
            let (from, to) = (from.clone(), Arc::clone(&address));
            Arc::new(Switch { term: self.term, from, to, kept, lost, at: now, toll: Toll::default() })
        });
        let lost = self.switch.as_ref().map_or(Lost::Unknown, |switch| switch.lost);
        self.reign = Some(Reign { node: to, run_id: info.run_id, lineage: info.lineage, config_epoch, confirmed });
        Some(Succession { from, to: address, relation: related, same_process, lost, emptied: lost_keys })
    }

    fn succeed(&mut self, old: &Reign, to: NodeId, line: &Lineage) {
        if old.lineage.id != line.id {
            self.past.push_back(old.lineage.id.clone());
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        let generation = self.next_generation();
        if old.node != to
            && let Some(member) = self.member_mut(old.node)
        {
            member.superseded = true;
            member.generation = generation;
            member.rotation = Rotation::default();
        }
    }

    fn limits(&self) -> Limits {
        Limits { time: self.set.max_lag, bytes: self.set.max_lag_bytes, back: self.set.max_lag_return }
    }

    /// Decides each replica's place and writes its live figures. Returns whether somebody's link makes the master look
    /// doubtful.
    pub fn rotate(&mut self, headless: bool, now: Instant) -> bool {
        let limits = self.limits();
        let patience = (2 * self.set.poll).max(self.set.down_after / 2);
        let newest = self.samples.newest();
        let reign = self.reign.as_ref().map(|r| (r.node, r.lineage.id.clone()));
        let mut doubt = false;
        for member in &mut self.members {
            if reign.as_ref().is_some_and(|(node, _)| *node == member.id) {
                member.live.set(member.applied, 0, Duration::ZERO);
                continue;
            }
            let same_line = match (&member.info, &reign) {
                (Some(info), Some((_, line))) => info.lineage.id == *line,
                _ => false,
            };
            let link = match &member.role {
                Some(Role::Replica { link, .. }) => Some(*link),
                _ => None,
            };
            // As of its own answer; a silent one falls behind as time goes by.
            let silent = member.answered_at.is_none_or(|a| now.saturating_duration_since(a) > patience);
            let at = member.asked_at.filter(|_| !silent).unwrap_or(now);
            let lag = self.samples.estimate(at, member.applied).filter(|_| same_line);
            let facts = Facts {
                serves: matches!(member.health, Health::Up | Health::Suspect(_))
                    && link.is_some()
                    && !member.loading
                    && !member.superseded,
                link: link.unwrap_or(Link::Down),
                same_line,
                applied: member.applied,
                newest,
                lag,
                answer: at,
                headless,
            };
            let had_place = member.rotation.place != Place::Out;
            member.rotation.decide(facts, limits, now);
            if had_place && matches!(member.health, Health::Down(_)) {
                // It hangs or is gone: what waits for it on its connections waits in vain.
                self.generations += 1;
                member.generation = self.generations;
            }
            doubt |= member.rotation.wonders();
            // Out of the line nothing it has is known to be of use: it lacks everything.
            let behind = || Lag { bytes: newest.unwrap_or(0).max(0).unsigned_abs(), time: self.samples.age(now) };
            let shown = lag.unwrap_or_else(behind);
            if let Some(lag) = lag.filter(|_| !silent && link == Some(Link::Connected)) {
                self.sampling.lags(lag, now);
            }
            member.live.set(member.applied, shown.bytes, shown.time);
        }
        doubt
    }
}

impl Member {
    fn answered(&mut self, now: Instant) {
        self.health = Health::Up;
        self.answered_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
