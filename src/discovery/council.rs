//! The Sentinels together: who they are, whom they name, and whether a failover goes on. Pure state, no I/O.
//!
//! Invariant: the word follows the highest config-epoch ever heard and never falls below it, so a Sentinel that lost its
//! configuration, or lies with an older one, is outvoted whatever it says.

use std::time::{Duration, Instant};

use super::events::Event;
use super::sentinel::{Config, News};

/// Most Sentinels listened to.
pub const MAX_SENTINELS: usize = 32;
/// A failover of which nothing more is heard has ended.
const FAILOVER_SILENCE: Duration = Duration::from_secs(10);
/// Writes to a living master are held this long for its failover.
const FAILOVER_HOLD: Duration = Duration::from_secs(10);
/// Failovers noted at a time.
const MAX_FAILOVERS: usize = 8;
/// A Sentinel that is away and that no other lists any more is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// One Sentinel.
#[derive(Debug)]
pub struct Voice {
    pub id: u64,
    pub address: String,
    pub configured: bool,
    pub my_id: String,
    pub up: bool,
    /// Heard, or found to be away, at least once.
    pub settled: bool,
    pub config: Option<Config>,
    listed_at: Instant,
    /// What is wrong with it, as last logged.
    complaint: Option<Complaint>,
}

/// What the operator should know of a Sentinel, logged when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    Away(crate::upstream::control::Error),
    UnknownMaster(Vec<String>),
    NoQuorum(String),
    /// It distrusts its clock, and fails over nobody meanwhile.
    Tilt,
}

/// What the keeper has to do after some news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Log it: it is new.
    Complain(Complaint),
    /// What was complained of is over.
    Recovered,
    /// These nodes were named.
    Nodes(Vec<String>),
    /// Ask this node now.
    Look(String),
    /// Ask every node and every Sentinel now: something is going on.
    Alarm(&'static str),
}

/// A failover that goes on.
#[derive(Debug, Clone)]
pub struct Failover {
    pub master: String,
    /// The replica that its leader selected, once it did.
    pub chosen: Option<String>,
    begun: Instant,
    heard: Instant,
}

impl Failover {
    /// Writes were held for it long enough: the promoted node hangs, and Sentinel will not give up for minutes.
    pub fn overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= FAILOVER_HOLD
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Voices {
    pub all: Vec<Voice>,
    /// Second names of Sentinels: address and id.
    doubles: Vec<(String, String)>,
    next_id: u64,
    highest: u64,
    /// Failovers that go on, by the master they are about: one may still be finished while the next begins.
    failovers: Vec<Failover>,
}

impl Voices {
    /// Adds a Sentinel unless it is known or there are too many; the id of a new one.
    pub fn add(&mut self, address: &str, configured: bool, now: Instant) -> Option<u64> {
        if let Some(voice) = self.all.iter_mut().find(|v| v.address == address) {
            voice.listed_at = now;
            return None;
        }
        let known_otherwise =
            |(name, my_id): &(String, String)| name == address && self.all.iter().any(|v| v.up && v.my_id == *my_id);
        if self.all.len() >= MAX_SENTINELS || self.doubles.iter().any(known_otherwise) {
            return None;
        }
        self.next_id += 1;
        self.all.push(Voice {
            id: self.next_id,
            address: address.to_owned(),
            configured,
            my_id: String::new(),
            up: false,
            settled: false,
            config: None,
            listed_at: now,
            complaint: None,
        });
        Some(self.next_id)
    }

    /// Takes in what a Sentinel said.
    pub fn hear(&mut self, id: u64, news: News, now: Instant) -> Vec<Effect> {
        let Some(voice) = self.all.iter_mut().find(|v| v.id == id) else { return Vec::new() };
        match news {
            News::Up { my_id } => {
                voice.my_id = my_id;
                voice.up = true;
                Vec::new()
            }
            News::Down(e) => {
                voice.up = false;
                voice.settled = true;
                voice.complain(Complaint::Away(e))
            }
            News::UnknownMaster { watched } => {
                voice.settled = true;
                voice.config = None;
                voice.complain(Complaint::UnknownMaster(watched))
            }
            // In TILT it has not looked at the others lately.
            News::NoQuorum(_) if voice.complaint == Some(Complaint::Tilt) => Vec::new(),
            News::NoQuorum(text) => voice.complain(Complaint::NoQuorum(text)),
            News::Quorum => voice.recover(|c| matches!(c, Complaint::NoQuorum(_))),
            News::Config(config) => self.configure(id, config, now),
            News::Tilt(true) | News::Event(Event::Tilt { begins: true }) => voice.complain(Complaint::Tilt),
            News::Tilt(false) | News::Event(Event::Tilt { begins: false }) => voice.recover(|c| *c == Complaint::Tilt),
            News::Event(event) => self.event(event, now),
        }
    }

    fn configure(&mut self, id: u64, config: Config, now: Instant) -> Vec<Effect> {
        self.highest = self.highest.max(config.epoch);
        // One that names the promoted node already is past what writes are held for, though it may keep its flag for long: until
        // every replica follows, or for ever when the promoted node dies first and another Sentinel promotes the old one.
        if config.failover && config.master == config.watched {
            self.fails_over(&config.watched, now);
        }
        let mut nodes = vec![config.master.clone(), config.watched.clone()];
        nodes.extend(config.replicas.iter().cloned());
        let mut effects = vec![Effect::Nodes(nodes)];
        if let Some(voice) = self.all.iter_mut().find(|v| v.id == id) {
            voice.settled = true;
            effects.extend(voice.recover(|c| !matches!(c, Complaint::NoQuorum(_) | Complaint::Tilt)));
            let moved = voice.config.as_ref().is_some_and(|c| c.master != config.master);
            voice.config = Some(config);
            if moved {
                effects.push(Effect::Alarm("a Sentinel names another master"));
            }
        }
        effects
    }

    /// Notes that a failover goes on; whether it is a new one.
    fn fails_over(&mut self, master: &str, now: Instant) -> bool {
        self.failovers.retain(|f| now.saturating_duration_since(f.heard) < FAILOVER_SILENCE);
        match self.failovers.iter_mut().find(|f| f.master == master) {
            Some(known) => {
                known.heard = now;
                false
            }
            None => {
                if self.failovers.len() < MAX_FAILOVERS {
                    self.failovers.push(Failover { master: master.to_owned(), chosen: None, begun: now, heard: now });
                }
                true
            }
        }
    }

    fn event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Failover { master, chosen } => {
                let new = self.fails_over(&master, now);
                // Who is chosen is a replica: a failover in which it was the master is over, told or not.
                self.failovers.retain(|f| chosen.as_ref() != Some(&f.master));
                if let Some(known) = self.failovers.iter_mut().find(|f| f.master == master) {
                    // Of the latest attempt: one that just begins has chosen nobody.
                    known.chosen.clone_from(&chosen);
                }
                let mut effects: Vec<Effect> = chosen.map(Effect::Look).into_iter().collect();
                if new {
                    effects.push(Effect::Alarm("Sentinel fails over"));
                }
                effects
            }
            Event::Aborted { master } => {
                self.failovers.retain(|f| f.master != master);
                vec![Effect::Look(master), Effect::Alarm("Sentinel gave a failover up")]
            }
            Event::Ended { master } => {
                self.failovers.retain(|f| f.master != master);
                Vec::new()
            }
            Event::Switched { from, to } => {
                self.failovers.retain(|f| f.master != from);
                vec![Effect::Nodes(vec![to.clone()]), Effect::Look(to), Effect::Alarm("Sentinel switched")]
            }
            Event::Doubt { node } => vec![Effect::Look(node)],
            Event::Changed | Event::Tilt { .. } => Vec::new(),
        }
    }

    /// The master under the highest config-epoch. Where Sentinels of one epoch differ: those without doubts first, then
    /// the most, then the smallest address (so that every proxy takes the same).
    pub fn word(&self) -> Option<(&str, u64)> {
        let heard = || self.all.iter().filter_map(|v| v.config.as_ref()).filter(|c| c.epoch == self.highest);
        let votes =
            |address: &str, doubtful| heard().filter(|c| c.master == address && (doubtful || !c.doubtful)).count();
        let rank = |c: &&Config| (votes(&c.master, false), votes(&c.master, true), std::cmp::Reverse(c.master.clone()));
        heard().max_by_key(rank).map(|c| (c.master.as_str(), self.highest))
    }

    /// The failovers that go on.
    pub fn failovers(&self, now: Instant) -> impl Iterator<Item = &Failover> {
        self.failovers.iter().filter(move |f| now.saturating_duration_since(f.heard) < FAILOVER_SILENCE)
    }

    pub fn any_up(&self) -> bool {
        self.all.iter().any(|v| v.up)
    }

    pub fn all_up(&self) -> bool {
        self.all.iter().all(|v| v.up)
    }

    /// More than half of all known ones answer, and know the master.
    pub fn majority_up(&self) -> bool {
        2 * self.all.iter().filter(|v| v.up && v.config.is_some()).count() > self.all.len()
    }

    /// Everybody was heard, or found to be away.
    pub fn complete(&self) -> bool {
        self.all.iter().all(|v| v.settled)
    }

    /// Addresses of Sentinels named by others.
    pub fn listed(&self) -> Vec<String> {
        self.all.iter().filter_map(|v| v.config.as_ref()).flat_map(|c| c.sentinels.iter().cloned()).collect()
    }

    /// Nodes named by any Sentinel: one that lists none (after SENTINEL RESET) takes nothing away.
    pub fn nodes(&self) -> Vec<String> {
        let named =
            |c: &Config| std::iter::once(c.master.clone()).chain(c.replicas.iter().cloned()).collect::<Vec<_>>();
        self.all.iter().filter_map(|v| v.config.as_ref()).flat_map(named).collect()
    }

    /// Removes who is twice here under two names, and who is away and unlisted; their ids.
    pub fn prune(&mut self, now: Instant) -> Vec<u64> {
        let mut gone = Vec::new();
        for (i, voice) in self.all.iter().enumerate().filter(|(_, v)| !v.configured) {
            let double =
                |(j, other): (usize, &Voice)| other.up && other.my_id == voice.my_id && (other.configured || j < i);
            let known_otherwise = !voice.my_id.is_empty() && self.all.iter().enumerate().any(double);
            let unlisted = now.saturating_duration_since(voice.listed_at) > FORGET_AFTER;
            if known_otherwise {
                self.doubles.retain(|(name, _)| *name != voice.address);
                self.doubles.push((voice.address.clone(), voice.my_id.clone()));
            }
            if known_otherwise || (!voice.up && unlisted) {
                gone.push(voice.id);
            }
        }
        self.all.retain(|v| !gone.contains(&v.id));
        let excess = self.doubles.len().saturating_sub(MAX_SENTINELS);
        self.doubles.drain(..excess);
        gone
    }
}

impl Voice {
    fn complain(&mut self, complaint: Complaint) -> Vec<Effect> {
        if self.complaint.as_ref() == Some(&complaint) {
            return Vec::new();
        }
        self.complaint = Some(complaint.clone());
        vec![Effect::Complain(complaint)]
    }

    fn recover(&mut self, from: impl Fn(&Complaint) -> bool) -> Vec<Effect> {
        match self.complaint.take_if(|c| from(c)) {
            Some(_) => vec![Effect::Recovered],
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
