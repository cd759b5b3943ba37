//! What the keeper does with a report: into the world or the voices, and who is asked or watched for it.
//!
//! Must not decide who is master, nor publish. Invariant: a report changes what is known; what follows from that is left to the turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Keeper;
use crate::command::Names;
use crate::config::Source;
use crate::discovery::council::Effect;
use crate::discovery::seen::{Observation, Role, Seen};
use crate::discovery::{journal, sentinel};
use crate::metrics;
use crate::topology::{Hint, NodeId};

/// The master's COMMAND is compared at most this often for the sake of unknown names.
const NAMES_EVERY: Duration = Duration::from_secs(10);

impl Keeper {
    pub(super) fn list_configured(&mut self, now: Instant) {
        for id in self.world.list_configured(now) {
            self.crew.watch(&self.world, id);
        }
        if let (Some(voices), Source::Sentinel { sentinels, .. }) = (&mut self.voices, &self.world.set.source) {
            for address in sentinels {
                if let Some(id) = voices.add(address, true, now) {
                    self.crew.listen(&self.world.set, id, address);
                }
            }
        }
    }

    pub(super) fn list(&mut self, addresses: &[String], now: Instant) {
        for address in addresses {
            if let Some(id) = self.world.list(address, false, now) {
                self.crew.watch(&self.world, id);
            }
        }
    }

    fn look(&mut self, address: &str, now: Instant) {
        if let Some(id) = self.world.resolve(address) {
            self.crew.ask(id, now);
        }
    }

    pub(super) fn hint(&mut self, hint: Hint, now: Instant) {
        match hint {
            Hint::Lost(id) | Hint::Demoted(id) | Hint::Unready(id) => {
                self.crew.ask(id, now);
                self.sign(now);
            }
            Hint::UnknownName => {
                if now.saturating_duration_since(self.times.names_asked) >= NAMES_EVERY {
                    self.ask_names(now);
                }
            }
        }
    }

    pub(in crate::discovery) fn ask_names(&mut self, now: Instant) {
        self.times.names_asked = now;
        if let Some(reign) = &self.world.reign {
            self.crew.ask_commands(reign.node, self.names_count);
        }
    }

    pub(super) fn hear(&mut self, report: sentinel::Report, now: Instant) {
        let Some(voices) = &mut self.voices else { return };
        let address = voices.all.iter().find(|v| v.id == report.sentinel).map(|v| v.address.clone());
        let effects = voices.hear(report.sentinel, report.news, now);
        let sentinel = address.unwrap_or_default();
        let Source::Sentinel { master_name, .. } = self.world.set.source.clone() else { return };
        for effect in effects {
            match effect {
                Effect::Complain(what) => journal::complaint(&self.world.set.name, &master_name, &sentinel, &what),
                Effect::Recovered => tracing::info!(set = %self.world.set.name, %sentinel, "Sentinel is well again"),
                Effect::Nodes(addresses) => self.list(&addresses, now),
                Effect::Look(address) => {
                    self.look(&address, now);
                    self.sign(now);
                }
                Effect::Alarm(what) => {
                    tracing::info!(set = %self.world.set.name, %sentinel, "{what}");
                    self.sign(now);
                    self.crew.ask_all(now);
                }
            }
        }
    }

    /// Takes in a report; returns whether it is no more than the master's offset.
    pub(super) fn observe(&mut self, seen: Observation, now: Instant) -> bool {
        let node = seen.node;
        let masters = self.world.reign.as_ref().is_some_and(|reign| reign.node == node);
        let figure = masters && matches!(&seen.seen, Seen::Role { role: Role::Master { .. }, info: None });
        match &seen.seen {
            Seen::Lost(e) => {
                let address = self.world.member(node).map_or("", |m| &m.address);
                metrics::probe_error(&self.world.set.name, address, e.label());
            }
            Seen::Commands { count, entries } if self.world.reign.as_ref().is_some_and(|r| r.node == node) => {
                self.names = Arc::new(Names::from_command_reply(entries.iter().cloned()));
                self.names_count = *count;
                self.names_learnt += 1;
                self.crew.learnt(node, *count);
            }
            _ => {}
        }
        let outcome = self.world.observe(seen, now);
        for id in outcome.doubles {
            self.crew.leave(id);
        }
        self.list(&outcome.named, now);
        if outcome.alarming {
            self.sign(now);
            // Who is dead is tried seldom; what has changed may be that it lives.
            let away: Vec<NodeId> = self.world.members.iter().filter(|m| !m.is_up()).map(|m| m.id).collect();
            away.into_iter().for_each(|id| self.crew.ask(id, now));
        }
        if masters && !self.fast(now) && self.world.sampling.is_time_to_compare(self.world.set.poll, now) {
            self.crew.compare_with(node);
        }
        figure && !outcome.alarming
    }
}
