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
mod tests {
    use super::super::roster::FORGET_AFTER;
    use super::*;
    use crate::config::{Failover, NodeSettings, Share, Source};
    use crate::metrics::MAX_NODES;
    use crate::upstream::control::Error;

    const MS: Duration = Duration::from_millis(1);

    fn set(nodes: &[&str]) -> Arc<SetConfig> {
        Arc::new(SetConfig {
            name: "m".into(),
            source: Source::Nodes(nodes.iter().map(|n| (*n).to_owned()).collect()),
            node_login: None,
            address_map: vec![("10.0.0.9:1".into(), "localhost:9001".into())],
            poll: 100 * MS,
            poll_fast: 5 * MS,
            down_after: 1000 * MS,
            connect_timeout: 1000 * MS,
            max_lag: None,
            max_lag_bytes: None,
            max_lag_return: Share(8000),
            nodes: vec![NodeSettings { address: "b:1".into(), weight: 3, zone: Some("z".into()) }],
            failover: Failover::default(),
        })
    }

    fn info(run_id: &str, id: &str, previous: &str, branch: i64) -> Info {
        Info {
            run_id: run_id.into(),
            lineage: Lineage { id: id.into(), previous: previous.into(), branch },
            ..Info::default()
        }
    }

    fn master(offset: i64, replicas: &[&str]) -> Role {
        Role::Master { offset, replicas: replicas.iter().map(|r| (*r).to_owned()).collect() }
    }

    fn replica(of: &str, link: Link, offset: i64) -> Role {
        Role::Replica { of: of.into(), link, offset }
    }

    fn world(nodes: &[&str], now: Instant) -> World {
        let mut world = World::new(set(nodes));
        world.list_configured(now);
        world
    }

    fn tell(world: &mut World, node: NodeId, role: Role, info: Info, now: Instant) -> Outcome {
        let probe = world.member(node).map_or(0, |m| m.probe);
        let seen = Seen::Role { role, info: Some(Box::new(info)) };
        world.observe(Observation { node, probe, asked: now, seen }, now)
    }

    fn lose(world: &mut World, node: NodeId, e: Error, now: Instant) -> Outcome {
        let probe = world.member(node).map_or(0, |m| m.probe);
        world.observe(Observation { node, probe, asked: now, seen: Seen::Lost(e) }, now)
    }

    fn generation(world: &World, node: NodeId) -> u64 {
        world.member(node).unwrap().generation
    }

    /// a:1 reigns over b:1.
    fn pair(now: Instant) -> World {
        let mut world = world(&["a:1", "b:1"], now);
        tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now);
        tell(&mut world, 1, replica("a:1", Link::Connected, 100), info("rb", "line", "", -1), now);
        world.enthrone(0, (0, false), None, now).unwrap();
        world
    }

    #[test]
    fn slots_are_stable_and_reused_only_after_they_were_left() {
        let now = Instant::now();
        let mut world = world(&["a:1", "b:1"], now);
        assert_eq!(world.list("c:1", false, now), Some(2));
        assert_eq!(world.list("c:1", false, now), None, "known");
        assert_eq!(world.list("10.0.0.9:1", false, now), Some(3));
        assert_eq!(&*world.member(3).unwrap().dial, "localhost:9001");
        assert_eq!(world.resolve("localhost:9001"), Some(3));
        assert_eq!((world.member(1).unwrap().weight, world.member(0).unwrap().weight), (3, 1));
        let first = generation(&world, 2);
        let later = now + FORGET_AFTER;
        world.list("10.0.0.9:1", false, later);
        assert_eq!(world.age(later), [2], "configured and listed ones stay");
        assert_eq!(world.list("d:1", false, later), Some(2));
        assert!(generation(&world, 2) > first, "a connection to the earlier owner is never taken for one to this");
        let stale = Observation { node: 2, probe: 3, asked: now, seen: Seen::Lost(Error::Refused) };
        world.observe(stale, later);
        assert_eq!(world.member(2).unwrap().health, Health::Unknown, "what the earlier owner said late");
    }

    #[test]
    fn who_is_listed_no_more_leaves_unless_it_still_follows() {
        let now = Instant::now();
        let mut world = world(&["a:1"], now);
        tell(&mut world, 0, master(100, &[]), info("ra", "line", "", -1), now);
        world.enthrone(0, (0, false), None, now).unwrap();
        for address in ["b:1", "c:1", "d:1"] {
            world.list(address, false, now);
        }
        let later = now + FORGET_AFTER;
        tell(&mut world, 0, master(100, &[]), info("ra", "line", "", -1), later);
        tell(&mut world, 1, replica("a:1", Link::Connected, 100), info("rb", "line", "", -1), later);
        tell(&mut world, 2, replica("x:1", Link::Connected, 100), info("rc", "other", "", -1), later);
        lose(&mut world, 3, Error::Refused, later);
        assert!(world.age(later - MS).is_empty(), "not yet");
        assert_eq!(world.age(later), [2, 3]);
        lose(&mut world, 1, Error::Refused, later);
        assert_eq!(world.age(later), [1]);
        assert_eq!(world.members.len(), 1, "the master stays");
    }

    #[test]
    fn there_are_never_more_members_than_slots() {
        let now = Instant::now();
        let mut world = world(&["a:1"], now);
        for i in 0..2 * MAX_NODES {
            world.list(&format!("n{i}:1"), false, now);
        }
        assert_eq!(world.members.len(), MAX_NODES);
        assert!(world.members.iter().all(|m| usize::from(m.id) < MAX_NODES));
    }

    #[test]
    fn the_reigning_masters_list_names_replicas_and_another_masters_does_not() {
        let now = Instant::now();
        let mut world = pair(now);
        let named = tell(&mut world, 0, master(110, &["b:1", "c:1"]), info("ra", "line", "", -1), now).named;
        assert_eq!(named, ["c:1"]);
        let named = tell(&mut world, 1, master(110, &["x:1"]), info("rb", "other", "line", 101), now).named;
        assert!(named.is_empty());
        let dead = replica("dead:1", Link::Down, -1);
        assert!(tell(&mut world, 1, dead, info("rb", "line", "", -1), now).named.is_empty(), "nobody answers there");
        let alive = replica("new:1", Link::Connected, 100);
        assert_eq!(tell(&mut world, 1, alive, info("rb", "line", "", -1), now).named, ["new:1"]);
    }

    #[test]
    fn two_names_of_one_process_are_one_member() {
        let now = Instant::now();
        let mut world = pair(now);
        world.list("127.0.0.1:1", false, now);
        let outcome = tell(&mut world, 2, master(100, &[]), info("ra", "line", "", -1), now);
        assert_eq!(outcome.doubles, [2], "the one that reigns stays");
        assert_eq!((world.members.len(), world.resolve("127.0.0.1:1")), (2, Some(0)));
        assert_eq!(world.list("127.0.0.1:1", false, now), None);
        lose(&mut world, 0, Error::Closed, now);
        world.age(now);
        assert_eq!(world.list("127.0.0.1:1", false, now), None, "a lost connection is no lost name");
        lose(&mut world, 0, Error::Refused, now);
        world.age(now);
        assert_eq!(world.list("127.0.0.1:1", false, now), Some(2), "when the first name fails the second is tried");
    }

    #[test]
    fn a_bystander_is_one_until_it_follows_or_reigns() {
        let now = Instant::now();
        let mut world = pair(now);
        let promoted = || info("rb", "next", "line", 100);
        let marked = |w: &World| w.members.iter().filter(|m| m.bystander).map(|m| m.id).collect::<Vec<_>>();
        world.note_bystanders();
        assert!(marked(&world).is_empty(), "the master and its replica are none");
        tell(&mut world, 1, master(100, &[]), promoted(), now);
        assert!(marked(&world).is_empty(), "not by the claim alone");
        world.note_bystanders();
        assert_eq!(marked(&world), [1]);
        lose(&mut world, 1, Error::Refused, now);
        tell(&mut world, 1, master(100, &[]), promoted(), now);
        assert_eq!(marked(&world), [1], "it was away, and claims the same");
        tell(&mut world, 1, replica("a:1", Link::Down, -1), info("rb", "next", "line", 100), now);
        assert!(marked(&world).is_empty());
        tell(&mut world, 1, master(100, &[]), promoted(), now);
        world.note_bystanders();
        world.enthrone(1, (0, false), None, now).unwrap();
        assert!(marked(&world).is_empty());
    }

    #[test]
    fn a_master_is_silent_after_down_after() {
        let now = Instant::now();
        let mut world = pair(now);
        lose(&mut world, 0, Error::Refused, now + 900 * MS);
        assert!(!world.master_silent(now + 999 * MS), "a refused connection is no silence yet");
        assert!(world.master_silent(now + 1000 * MS));
    }

    #[test]
    fn the_masters_replicas_as_a_promotion_sees_them() {
        let now = Instant::now();
        let mut world = pair(now);
        for address in ["chained:1", "another:1", "silent:1"] {
            world.list(address, false, now);
        }
        let lost = Info { applied: Some(120), priority: Some(7), ..info("rb", "line", "", -1) };
        tell(&mut world, 1, replica("a:1", Link::Down, -1), lost, now);
        tell(&mut world, 2, replica("b:1", Link::Connected, 90), info("rc", "line", "", -1), now);
        tell(&mut world, 3, master(500, &[]), info("rd", "other", "", -1), now);
        let replicas = world.replicas_of_master();
        let ids: Vec<NodeId> = replicas.iter().map(|r| r.id).collect();
        assert_eq!(ids, [1, 4], "not the master, nor who follows another, nor another master; who was never heard is");
        let seen = promotion::Replica {
            id: 1,
            answers: true,
            link: Link::Down,
            in_line: true,
            priority: 7,
            offset: 120,
            run_id: "rb".into(),
        };
        assert_eq!(replicas[0], seen);
        assert_eq!((replicas[1].answers, replicas[1].in_line), (false, false));
    }

    #[test]
    fn a_master_is_emptied_when_another_life_of_it_lacks_the_keys() {
        let now = Instant::now();
        let with = |run_id: &str, id: &str, previous: &str, keys| Info { keys, ..info(run_id, id, previous, 100) };
        for (what, next, keys, expected) in [
            ("nothing left", with("again", "z", "", 0), 5, true),
            ("had nothing", with("again", "z", "", 0), 0, false),
            ("restored from a file without its line", with("again", "z", "", 4), 5, false),
            ("its line goes on: it is what it was", with("again", "z", "line", 0), 5, false),
            ("the same process, flushed", with("ra", "z", "", 0), 5, false),
        ] {
            let mut world = pair(now);
            tell(&mut world, 0, master(100, &["b:1"]), with("ra", "line", "", keys), now);
            tell(&mut world, 0, master(0, &[]), next, now);
            let told = world.enthrone(0, (0, false), None, now).unwrap().emptied;
            assert_eq!((world.emptied, told), (expected, expected.then_some(keys)), "{what}");
            let life = world.reign.clone().unwrap().run_id;
            tell(&mut world, 0, master(0, &["b:1"]), with(&life, "y", "", 0), now);
            assert_eq!(world.enthrone(0, (0, false), None, now).unwrap().emptied, None, "{what}");
            assert_eq!(world.emptied, expected, "{what}, and its first replica came");
            // Another one is another matter.
            tell(&mut world, 1, master(0, &[]), with("rb", "n", "", 0), now);
            assert_eq!(world.enthrone(1, (0, false), None, now).unwrap().emptied, None, "{what}");
        }
    }

    #[test]
    fn generations_grow_with_restarts_and_roles_only() {
        let now = Instant::now();
        let mut world = pair(now);
        let (a, b) = (generation(&world, 0), generation(&world, 1));
        // Its first replica: another line, the same process and the same connections.
        tell(&mut world, 0, master(0, &["b:1"]), info("ra", "line2", "", -1), now);
        world.enthrone(0, (0, false), None, now).unwrap();
        assert_eq!((generation(&world, 0), world.term), (a, 2));
        tell(&mut world, 1, replica("a:1", Link::Connected, 10), info("restarted", "line2", "", -1), now);
        assert!(generation(&world, 1) > b);
        let (a, b) = (generation(&world, 0), generation(&world, 1));
        tell(&mut world, 1, master(10, &[]), info("restarted", "line3", "line2", 11), now);
        world.enthrone(1, (0, false), None, now).unwrap();
        assert!(generation(&world, 0) > a && generation(&world, 1) > b);
    }

    #[test]
    fn a_superseded_master_is_fenced_until_it_follows_the_new_line() {
        let now = Instant::now();
        let mut world = pair(now);
        tell(&mut world, 0, master(150, &["b:1"]), info("ra", "line", "", -1), now);
        tell(&mut world, 1, master(120, &[]), info("rb", "next", "line", 121), now);
        let succession = world.enthrone(1, (0, false), None, now).unwrap();
        assert_eq!(succession.relation, Some(Relation::Descends { common: 120 }));
        assert_eq!(succession.lost, Lost::AtLeast(30));
        let fenced = |world: &World| world.sights(now).iter().any(|s| s.id == 0 && s.superseded);
        for (what, role, info, still) in [
            ("still a master", master(200, &[]), info("ra", "line", "", -1), true),
            ("restarted, still a master", master(0, &[]), info("rx", "other", "", -1), true),
            ("told to follow", replica("b:1", Link::Down, -1), info("rx", "other", "", -1), true),
            ("linked, its old line", replica("b:1", Link::Connected, 0), info("rx", "line", "", -1), true),
            ("linked, in line", replica("b:1", Link::Connected, 130), info("rx", "next", "line", 121), false),
        ] {
            tell(&mut world, 0, role, info, now);
            assert_eq!(fenced(&world), still, "{what}");
        }
        // Another address with the old replication id is as stale.
        world.list("c:1", false, now);
        tell(&mut world, 2, master(200, &[]), info("rc", "line", "", -1), now);
        assert!(world.sights(now).iter().any(|s| s.id == 2 && s.superseded));
    }

    #[test]
    fn health() {
        let now = Instant::now();
        let mut world = pair(now);
        let health = |world: &World| world.member(0).unwrap().health.clone();
        assert!(lose(&mut world, 0, Error::Closed, now + MS).alarming);
        assert_eq!(health(&world), Health::Suspect(now + MS), "one lost connection is not a lost node");
        assert!(!lose(&mut world, 0, Error::Closed, now + 2 * MS).alarming, "alarmed already");
        assert_eq!(health(&world), Health::Suspect(now + MS));
        world.age(now + 1001 * MS);
        assert_eq!(health(&world), Health::Down(Error::Timeout));
        tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 1100 * MS);
        lose(&mut world, 0, Error::Timeout, now + 2200 * MS);
        assert_eq!(health(&world), Health::Down(Error::Timeout), "silent for down_after");
        tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 2210 * MS);
        lose(&mut world, 0, Error::Timeout, now + 3200 * MS);
        assert_eq!(health(&world), Health::Down(Error::Timeout), "its probe waited as long");
        tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 2300 * MS);
        lose(&mut world, 0, Error::Refused, now + 2301 * MS);
        assert_eq!(health(&world), Health::Down(Error::Refused), "nothing listens there");
        lose(&mut world, 0, Error::Auth("WRONGPASS".into()), now + 2400 * MS);
        assert!(matches!(health(&world), Health::Rejected(_)));
    }

    #[test]
    fn readers_keep_their_place_when_the_master_dies_and_lose_it_with_the_line() {
        let now = Instant::now();
        let mut world = pair(now);
        let place = |world: &World| world.member(1).unwrap().rotation.place;
        world.rotate(false, now);
        assert_eq!(place(&world), Place::Reader);
        lose(&mut world, 0, Error::Refused, now);
        tell(&mut world, 1, replica("a:1", Link::Down, -1), info("rb", "line", "", -1), now);
        world.rotate(true, now + 5000 * MS);
        assert_eq!(place(&world), Place::Reader);
        assert_eq!(world.member(1).unwrap().live.offset(), 100, "the last offset it told");
        world.list("c:1", false, now);
        tell(&mut world, 2, master(100, &[]), info("rc", "next", "line", 101), now);
        world.enthrone(2, (0, false), None, now).unwrap();
        world.rotate(false, now);
        assert_eq!(place(&world), Place::Out);
    }

    #[test]
    fn a_reader_that_hangs_is_another_generation() {
        let now = Instant::now();
        let mut world = pair(now);
        world.rotate(false, now);
        let before = generation(&world, 1);
        let later = now + 1500 * MS;
        lose(&mut world, 1, Error::Timeout, later);
        world.rotate(false, later);
        let after = generation(&world, 1);
        assert!(after > before);
        world.rotate(false, later);
        assert_eq!(generation(&world, 1), after, "once");
    }
}
