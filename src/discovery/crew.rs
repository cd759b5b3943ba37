//! The tasks that probe nodes and listen to Sentinels: starts and stops them, and passes questions on.
//!
//! Invariant: one task per member and per Sentinel, all gone when the keeper is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::member::Member;
use super::seen::{Link, Observation, Role};
use super::world::World;
use super::{probe, sentinel};
use crate::config::{SetConfig, Source};
use crate::topology::NodeId;

/// Out-of-turn questions to one node are at least this far apart.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// A node whose lineage is not shown yet is asked again this often.
const PROVE_EVERY: Duration = Duration::from_millis(20);
/// Sentinels are asked this often, and while there is trouble.
const SENTINEL_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));

struct Probe {
    pace: watch::Sender<probe::Pace>,
    asked: Option<Instant>,
    stop: CancellationToken,
}

struct Ear {
    pace: watch::Sender<sentinel::Pace>,
    stop: CancellationToken,
}

pub struct Crew {
    probes: HashMap<NodeId, Probe>,
    ears: HashMap<u64, Ear>,
    observations: mpsc::Sender<Observation>,
    news: mpsc::Sender<sentinel::Report>,
}

impl Crew {
    pub fn new(observations: mpsc::Sender<Observation>, news: mpsc::Sender<sentinel::Report>) -> Self {
        Self { probes: HashMap::new(), ears: HashMap::new(), observations, news }
    }

    /// Starts to probe a member.
    pub fn watch(&mut self, world: &World, id: NodeId) {
        let Some(member) = world.member(id) else { return };
        self.leave(id);
        let set = &world.set;
        let target = probe::Target {
            node: id,
            probe: member.probe,
            dial: Arc::clone(&member.dial),
            login: set.node_login.clone(),
            connect_timeout: set.connect_timeout,
            down_after: set.down_after,
        };
        let first = probe::Pace { every: set.poll, commands_known: -1, ..probe::Pace::default() };
        let (pace, receiver) = watch::channel(first);
        let stop = CancellationToken::new();
        tokio::spawn(probe::run(target, receiver, self.observations.clone(), stop.clone()));
        self.probes.insert(id, Probe { pace, asked: None, stop });
    }

    /// Stops to probe a member that left.
    pub fn leave(&mut self, id: NodeId) {
        if let Some(probe) = self.probes.remove(&id) {
            probe.stop.cancel();
        }
    }

    /// Starts to listen to a Sentinel.
    pub fn listen(&mut self, set: &SetConfig, id: u64, address: &str) {
        let Source::Sentinel { master_name, login, .. } = &set.source else { return };
        let dial = set.address_map.iter().find(|(announced, _)| announced == address).map(|(_, to)| to.as_str());
        let target = sentinel::Target {
            sentinel: id,
            address: address.to_owned(),
            dial: dial.unwrap_or(address).to_owned(),
            login: login.clone(),
            set: set.name.clone(),
            master_name: master_name.clone(),
            limit: set.connect_timeout,
        };
        let (pace, receiver) = watch::channel(sentinel::Pace { every: SENTINEL_EVERY.0, nudge: 0 });
        let stop = CancellationToken::new();
        tokio::spawn(sentinel::run(target, receiver, self.news.clone(), stop.clone()));
        self.ears.insert(id, Ear { pace, stop });
    }

    /// Stops to listen to a Sentinel.
    pub fn hang_up(&mut self, id: u64) {
        if let Some(ear) = self.ears.remove(&id) {
            ear.stop.cancel();
        }
    }

    /// Stops everything.
    pub fn dismiss(&mut self) {
        self.probes.drain().for_each(|(_, probe)| probe.stop.cancel());
        self.ears.drain().for_each(|(_, ear)| ear.stop.cancel());
    }

    /// Has a node asked for ROLE and INFO now.
    pub fn ask(&mut self, id: NodeId, now: Instant) {
        self.ask_after(id, now, ASK_EVERY);
    }

    fn ask_after(&mut self, id: NodeId, now: Instant, pause: Duration) {
        let Some(probe) = self.probes.get_mut(&id) else { return };
        if probe.asked.is_none_or(|at| now.saturating_duration_since(at) >= pause) {
            probe.asked = Some(now);
            probe.pace.send_modify(|pace| pace.question += 1);
        }
    }

    /// Has everybody asked now, Sentinels too.
    pub fn ask_all(&mut self, now: Instant) {
        let ids: Vec<NodeId> = self.probes.keys().copied().collect();
        for id in ids {
            self.ask(id, now);
        }
        for ear in self.ears.values() {
            ear.pace.send_modify(|pace| pace.nudge += 1);
        }
    }

    /// Has those asked whose answers are about to change: linked to the master but not shown to be of its line, or loading.
    pub fn ask_unproven(&mut self, world: &World, now: Instant) {
        let line = world.reign.as_ref().map(|r| r.lineage.id.as_str());
        let unproven = |m: &&Member| {
            let linked = matches!(m.role, Some(Role::Replica { link: Link::Connected, .. }));
            let of_line = m.info.as_ref().is_some_and(|i| Some(i.lineage.id.as_str()) == line);
            m.is_up() && (m.loading || (line.is_some() && linked && !of_line))
        };
        for member in world.members.iter().filter(unproven) {
            self.ask_after(member.id, now, PROVE_EVERY);
        }
    }

    /// Has this node's COMMAND compared with what is known.
    pub fn ask_commands(&mut self, id: NodeId, known: i64) {
        if let Some(probe) = self.probes.get(&id) {
            probe.pace.send_modify(|pace| {
                pace.commands += 1;
                pace.commands_known = known;
            });
        }
    }

    /// This node's COMMAND is known now.
    pub fn learnt(&mut self, id: NodeId, count: i64) {
        if let Some(probe) = self.probes.get(&id) {
            probe.pace.send_modify(|pace| pace.commands_known = count);
        }
    }

    /// Has everybody but the master asked for ROLE now: the master has just told its own.
    pub fn compare_with(&self, master: NodeId) {
        for (_, probe) in self.probes.iter().filter(|(id, _)| **id != master) {
            probe.pace.send_modify(|pace| pace.glance += 1);
        }
    }

    /// Sets how often everybody is asked; the master, if there is one, that often for its offset.
    pub fn set_pace(&mut self, set: &SetConfig, fast: bool, master: Option<(NodeId, Duration)>) {
        let (poll, sentinel) = if fast { (set.poll_fast, SENTINEL_EVERY.1) } else { (set.poll, SENTINEL_EVERY.0) };
        for (id, probe) in &self.probes {
            let every = match master {
                Some((master, sampling)) if master == *id => sampling.min(poll),
                // It is asked when the master has answered; by itself only when that does not come.
                Some(_) if !fast => poll * 5 / 4,
                _ => poll,
            };
            probe.pace.send_if_modified(|pace| std::mem::replace(&mut pace.every, every) != every);
        }
        for ear in self.ears.values() {
            ear.pace.send_if_modified(|pace| std::mem::replace(&mut pace.every, sentinel) != sentinel);
        }
    }
}
