//! The owner of the world: one task that takes in what probes, Sentinels and the data path report, lets the detector
//! judge, and publishes what changed.
//!
//! Invariant: every publish follows one whole turn (judge, rotate, picture), and writes are open only to a node whose ROLE
//! and INFO were asked again within [`FRESH`] of the decision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::council::{Effect, Voices};
use super::crew::Crew;
use super::detector::{Council, Failing, Hold, Patience, Verdict, judge};
use super::picture::Picture;
use super::seen::{Observation, Seen};
use super::world::World;
use super::{council, journal, names, sentinel};
use crate::command::Names;
use crate::config::{SetConfig, Source};
use crate::metrics::{self, Cause, Phase};
use crate::topology::{Hint, Hints, NodeId, Publisher};

/// A master is opened to writes only on an answer to a question this young.
const FRESH: Duration = Duration::from_millis(50);
/// One pass over the lists of nodes and Sentinels.
const RECONCILE: Duration = Duration::from_secs(1);
/// Fast polling ends this long after the last sign of trouble, and after `FAST_LIMIT` in any case.
const CALM: Duration = Duration::from_secs(1);
const FAST_LIMIT: Duration = Duration::from_secs(30);
/// Writes wait this long for two claims to be resolved; longer while a Sentinel is away that might resolve it.
const CONFLICT: Duration = Duration::from_millis(300);
const CONFLICT_PARTLY_DEAF: Duration = Duration::from_secs(2);
/// Judgements in one turn: a switch calls for another look, but never for an endless one.
const JUDGEMENTS: usize = 4;
/// The master's COMMAND is compared at most this often for the sake of unknown names.
const NAMES_EVERY: Duration = Duration::from_secs(10);

/// When things began.
struct Times {
    started: Instant,
    /// First sign of the trouble that goes on.
    sign: Option<Instant>,
    last_sign: Instant,
    held: Option<Instant>,
    conflict: Option<Instant>,
    reconciled: Instant,
    names_asked: Instant,
}

pub struct Keeper {
    world: World,
    voices: Option<Voices>,
    crew: Crew,
    publisher: Publisher,
    verdict: Verdict,
    picture: Picture,
    names: Arc<Names>,
    /// Entries of the COMMAND that `names` came from, and how many times it was learnt.
    names_count: i64,
    names_learnt: u64,
    times: Times,
}

/// Where reports arrive.
pub struct Inbox {
    pub hints: Hints,
    pub observations: mpsc::Receiver<Observation>,
    pub news: mpsc::Receiver<sentinel::Report>,
}

impl Keeper {
    pub fn new(set: Arc<SetConfig>, publisher: Publisher, crew: Crew) -> Self {
        let now = Instant::now();
        let voices = match &set.source {
            Source::Sentinel { .. } => Some(Voices::default()),
            Source::Nodes(_) => None,
        };
        Self {
            world: World::new(set),
            voices,
            crew,
            publisher,
            verdict: Verdict::Hold(Hold::Starting),
            picture: Picture::default(),
            names: Arc::default(),
            names_count: -1,
            names_learnt: 0,
            times: Times {
                started: now,
                sign: Some(now),
                last_sign: now,
                held: Some(now),
                conflict: None,
                reconciled: now,
                names_asked: now,
            },
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        self.list_configured(Instant::now());
        self.turn(Instant::now());
        loop {
            let pause = if self.fast(Instant::now()) { self.world.set.poll_fast } else { self.world.set.poll };
            tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                Some(hint) = inbox.hints.recv() => self.hint(hint, Instant::now()),
                Some(report) = inbox.news.recv() => self.hear(report, Instant::now()),
                Some(seen) = inbox.observations.recv() => self.observe(seen, Instant::now()),
                _ = sleep(pause) => {}
            }
            self.turn(Instant::now());
        }
        self.crew.dismiss();
    }

    fn fast(&self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let troubled = !self.is_open() || since(self.times.last_sign) < CALM;
        troubled && self.times.sign.is_some_and(|sign| since(sign) < FAST_LIMIT)
    }

    fn is_open(&self) -> bool {
        matches!(self.verdict, Verdict::Keep | Verdict::KeepDespite(_))
    }

    /// Notes a sign of trouble: everybody is asked at the fast pace from now on.
    fn sign(&mut self, now: Instant) {
        self.times.sign.get_or_insert(now);
        self.times.last_sign = now;
    }

    fn list_configured(&mut self, now: Instant) {
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

    fn list(&mut self, addresses: &[String], now: Instant) {
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

    fn hint(&mut self, hint: Hint, now: Instant) {
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

    fn ask_names(&mut self, now: Instant) {
        self.times.names_asked = now;
        if let Some(reign) = &self.world.reign {
            self.crew.ask_commands(reign.node, self.names_count);
        }
    }

    fn hear(&mut self, report: sentinel::Report, now: Instant) {
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

    fn observe(&mut self, seen: Observation, now: Instant) {
        let node = seen.node;
        match &seen.seen {
            Seen::Lost(e) => {
                let address = self.world.member(node).map_or("", |m| &m.address);
                metrics::probe_error(&self.world.set.name, address, e.label());
            }
            Seen::Commands { count, entries } if self.world.reign.as_ref().is_some_and(|r| r.node == node) => {
                self.names = Arc::new(names::names(entries));
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
        }
    }

    /// One whole turn: time, lists, judgement, rotation, picture, pace.
    fn turn(&mut self, now: Instant) {
        for id in self.world.age(now) {
            self.crew.leave(id);
        }
        if now.saturating_duration_since(self.times.reconciled) >= RECONCILE {
            self.times.reconciled = now;
            self.reconcile(now);
        }
        self.decide(now);
        let open = self.is_open();
        if self.world.rotate(!open, now)
            && let Some(reign) = &self.world.reign
        {
            self.crew.ask(reign.node, now);
        }
        self.crew.ask_unproven(&self.world, now);
        self.publish(open);
        let calm = now.saturating_duration_since(self.times.last_sign) >= CALM;
        if open && calm {
            self.times.sign = None;
        }
        self.crew.set_pace(&self.world.set, self.fast(now));
    }

    fn reconcile(&mut self, now: Instant) {
        self.list_configured(now);
        let Some(voices) = &mut self.voices else { return };
        for id in voices.prune(now) {
            self.crew.hang_up(id);
        }
        for address in voices.listed() {
            if let Some(id) = voices.add(&address, false, now) {
                self.crew.listen(&self.world.set, id, &address);
            }
        }
        let nodes = voices.nodes();
        self.list(&nodes, now);
    }

    fn council(&self, now: Instant) -> Option<Council> {
        let voices = self.voices.as_ref()?;
        // Sentinels that are all away resolve nothing: the nodes speak for themselves then, as without Sentinel.
        if self.world.reign.is_some() && !voices.any_up() {
            return None;
        }
        let failing =
            |f: &council::Failover| Failing { master: self.world.resolve(&f.master), overdue: f.overdue(now) };
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
        }
    }

    fn decide(&mut self, now: Instant) {
        for _ in 0..JUDGEMENTS {
            let council = self.council(now);
            self.confirm(council.as_ref());
            let sights = self.world.sights(now);
            let verdict = judge(self.world.reign.as_ref(), &sights, council.as_ref(), self.patience(now));
            match verdict {
                Verdict::Hold(Hold::Conflict) | Verdict::KeepDespite(_) => {
                    self.times.conflict.get_or_insert(now);
                }
                _ => self.times.conflict = None,
            }
            match verdict {
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

    /// Whether the node was asked for ROLE and INFO just now, and answered.
    fn is_fresh(&self, id: NodeId, now: Instant) -> bool {
        let asked = self.world.member(id).and_then(|m| m.examined_at);
        asked.is_some_and(|at| now.saturating_duration_since(at) <= FRESH)
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
        let Some(succession) = self.world.enthrone(to, epoch, named, now) else { return false };
        journal::succession(&self.world, &succession, cause);
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

    fn publish(&mut self, open: bool) {
        let picture = Picture::of(&self.world, open, self.names_learnt);
        if picture == self.picture {
            return;
        }
        journal::nodes(&self.world, &self.picture, &picture);
        self.publisher.publish(picture.topology(&self.world, &self.names));
        self.picture = picture;
    }
}
