//! The keeper's judgement: gathers what the detector needs, carries out its verdict, and notes what began when.
//!
//! Part of [`Keeper`]. Invariant: writes are opened only to a node whose ROLE and INFO arrived within [`FRESH`] of the
//! decision.

use std::time::{Duration, Instant};

use super::council::{self, Voices};
use super::detector::{Council, Failing, Patience, Verdict, judge};
use super::journal;
use super::keeper::{CALM, Keeper};
use super::notice::{Instance, Notice};
use super::restraint::{Reservations, restrain};
use super::switchover::Event;
use super::world::Succession;
use crate::config::{Failover, OnEmptyMaster, Trust};
use crate::metrics::{self, Cause, Phase};
use crate::topology::{Hold, NodeId};

/// A master is opened to writes only on an answer this young.
const FRESH: Duration = Duration::from_millis(50);
/// Writes wait this long for two claims to be resolved; longer while a Sentinel is away that might resolve it.
const CONFLICT: Duration = Duration::from_millis(300);
const CONFLICT_PARTLY_DEAF: Duration = Duration::from_secs(2);
/// Judgements in one turn: a switch calls for another look, but never for an endless one.
const JUDGEMENTS: usize = 4;

impl Keeper {
    fn council(&self, now: Instant) -> Option<Council> {
        let voices = self.voices.as_ref()?;
        // Sentinels that are all away resolve nothing: the nodes speak for themselves then, as without Sentinel.
        if self.world.reign.is_some() && !voices.any_up() {
            return None;
        }
        let failing = |f: &council::Failover| Failing {
            master: self.world.resolve(&f.master),
            chosen: f.chosen.as_ref().and_then(|chosen| self.world.resolve(chosen)),
            overdue: f.overdue(now) || self.planned.has_called(),
        };
        Some(Council {
            word: voices.word().and_then(|(address, epoch)| Some((self.world.resolve(address)?, epoch))),
            failovers: voices.failovers(now).map(failing).collect(),
            complete: voices.complete(),
        })
    }

    fn patience(&self, now: Instant) -> Patience {
        let deaf = self.voices.as_ref().is_some_and(|v| !v.all_up());
        let bound = if deaf { CONFLICT_PARTLY_DEAF } else { CONFLICT };
        let over = |since: Instant, bound: Duration| now.saturating_duration_since(since) >= bound;
        let set = &self.world.set;
        Patience {
            conflict_over: self.times.conflict.is_some_and(|since| over(since, bound)),
            start_over: over(self.times.started, set.connect_timeout + set.down_after),
            // Where Sentinels are configured it is theirs to say, even while none can be reached.
            master_gone: self.voices.is_none() && self.world.master_silent(now),
        }
    }

    /// What the operator reserves; also notes since when there is no majority of the Sentinels.
    fn reservations(&mut self, now: Instant) -> Reservations {
        let Failover { trust, minority_stop, on_empty_master, .. } = self.world.set.failover;
        let emptied = on_empty_master == OnEmptyMaster::Stop && self.world.emptied && self.world.keys == 0;
        let Some(voices) = &self.voices else { return Reservations { emptied, ..Reservations::default() } };
        match voices.majority_up() {
            true => self.times.minority = None,
            false => _ = self.times.minority.get_or_insert(now),
        }
        let silent = |limit| self.times.minority.is_some_and(|since| now.saturating_duration_since(since) >= limit);
        Reservations { confirm: trust == Trust::Confirmed, minority: minority_stop.is_some_and(silent), emptied }
    }

    pub(super) fn decide(&mut self, now: Instant) {
        for _ in 0..JUDGEMENTS {
            let reservations = self.reservations(now);
            let council = self.council(now);
            self.confirm(council.as_ref());
            let sights = self.world.sights(now);
            let verdict = judge(self.world.reign.as_ref(), &sights, council.as_ref(), self.patience(now));
            let verdict = self.guarded(verdict);
            match verdict {
                Verdict::Hold(Hold::Conflict) | Verdict::KeepDespite(_) => {
                    self.times.conflict.get_or_insert(now);
                }
                _ => self.times.conflict = None,
            }
            if let Verdict::KeepDespite(_) = verdict {
                self.world.note_bystanders();
            }
            let word = self.voices.as_ref().and_then(Voices::word).and_then(|(named, _)| self.world.resolve(named));
            match restrain(verdict, word, reservations) {
                Verdict::Switch { to, cause } => {
                    if !self.is_fresh(to, now) {
                        // Held meanwhile, under the reason that was true until now.
                        self.crew.ask(to, now);
                        let held = if self.is_open() { Verdict::Hold(Hold::Conflict) } else { self.verdict };
                        return self.settle(held, now);
                    }
                    if !self.switch(to, cause, council.as_ref(), now) {
                        return self.settle(Verdict::Hold(Hold::Lost), now);
                    }
                }
                Verdict::Keep | Verdict::KeepDespite(_) if !self.is_open() => {
                    let node = self.world.reign.as_ref().map(|r| r.node);
                    if let Some(node) = node.filter(|n| !self.is_fresh(*n, now)) {
                        self.crew.ask(node, now);
                        return;
                    }
                    return self.settle(verdict, now);
                }
                verdict => return self.settle(verdict, now),
            }
        }
    }

    /// Whether the node just answered ROLE and INFO.
    fn is_fresh(&self, id: NodeId, now: Instant) -> bool {
        let answered = self.world.member(id).and_then(|m| m.examined_at);
        answered.is_some_and(|at| now.saturating_duration_since(at) <= FRESH)
    }

    /// The Sentinels named the reigning node, under this epoch or a newer one.
    fn confirm(&mut self, council: Option<&Council>) {
        if let (Some(reign), Some((node, epoch))) = (&mut self.world.reign, council.and_then(|c| c.word))
            && node == reign.node
            && epoch >= reign.config_epoch
        {
            reign.config_epoch = epoch;
            reign.confirmed = true;
        }
    }

    fn switch(&mut self, to: NodeId, cause: Cause, council: Option<&Council>, now: Instant) -> bool {
        let (named, epoch) = match council.and_then(|c| c.word) {
            Some((node, epoch)) => (node == to, epoch),
            None => (false, self.world.reign.as_ref().map_or(0, |r| r.config_epoch)),
        };
        let told = self.publisher.furthest(self.world.term);
        self.close_toll();
        let Some(succession) = self.world.enthrone(to, (epoch, named), told, now) else { return false };
        let cause = if self.planned.is_promoting() { Cause::Switchover } else { cause };
        journal::succession(&self.world, &succession, cause);
        self.announce(&succession);
        self.further(Event::Switched(to), now);
        let sign = self.times.sign.unwrap_or(now);
        let held = self.times.held.unwrap_or(now);
        let phases = [
            (Phase::Noticed, held.saturating_duration_since(sign)),
            (Phase::Headless, now.saturating_duration_since(held)),
            (Phase::Total, now.saturating_duration_since(sign)),
        ];
        metrics::failover(&self.world.set.name, cause, &phases);
        // Every replica has to prove itself against the new line.
        self.crew.ask_all(now);
        self.ask_names(now);
        self.sign(now);
        true
    }

    /// Tells scripts and hooks of a switch. The first master is none.
    fn announce(&self, what: &Succession) {
        let Some(from) = &what.from else { return };
        let (from, to) = (from.to_string(), what.to.to_string());
        if from != to {
            let leader = self.world.resolve(&to).is_some_and(|id| self.initiative.promoted(id));
            self.tell(&Notice::Switched { from, to, leader });
        } else if what.emptied.is_some() {
            self.tell(&Notice::Emptied(Instance { node: to.clone(), master: to }));
        }
    }

    /// Takes the verdict as it is, and logs it when it is another one.
    fn settle(&mut self, verdict: Verdict, now: Instant) {
        if verdict == self.verdict {
            return;
        }
        self.verdict = verdict;
        journal::verdict(&self.world, verdict);
        if self.is_open() {
            self.times.held = None;
        } else if self.times.held.is_none() {
            self.times.held = Some(now);
            // Signs of long ago were of something else.
            self.times.sign.take_if(|sign| now.saturating_duration_since(*sign) > 2 * CALM);
            self.sign(now);
        }
    }
}
