//! The owner of the world: one task that takes in what probes, Sentinels and the data path report, lets the detector
//! judge, and publishes what changed.
//!
//! Invariant: every publish follows one whole turn (judge, rotate, picture), so nobody sees half a change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::council::{Effect, Voices};
use super::crew::Crew;
use super::detector::Verdict;
use super::initiative::Initiative;
use super::messenger::Messenger;
use super::notice::{self, Notice};
use super::picture::Picture;
use super::planned::Planned;
use super::seen::{Observation, Role, Seen};
use super::switchover::Message;
use super::world::World;
use super::{journal, sentinel};
use crate::command::Names;
use crate::config::{SetConfig, Source};
use crate::metrics;
use crate::topology::{Hint, Hints, Hold, NodeId, Publisher};

/// One pass over the lists of nodes and Sentinels.
const RECONCILE: Duration = Duration::from_secs(1);
/// Fast polling ends this long after the last sign of trouble, and after `FAST_LIMIT` in any case.
pub const CALM: Duration = Duration::from_secs(1);
const FAST_LIMIT: Duration = Duration::from_secs(30);
/// The master's COMMAND is compared at most this often for the sake of unknown names.
const NAMES_EVERY: Duration = Duration::from_secs(10);
/// Workers have this long to count what a switch cost.
const RECKONING: Duration = Duration::from_secs(2);
/// Hints taken into one turn: as many as their queue holds.
const HINTS: usize = 64;

/// When things began.
pub(super) struct Times {
    pub(super) started: Instant,
    /// First sign of the trouble that goes on.
    pub(super) sign: Option<Instant>,
    pub(super) last_sign: Instant,
    pub(super) held: Option<Instant>,
    pub(super) conflict: Option<Instant>,
    /// Since then most Sentinels do not answer.
    pub(super) minority: Option<Instant>,
    pub(super) reconciled: Instant,
    pub(super) names_asked: Instant,
    /// The last whole turn.
    turned: Instant,
}

pub struct Keeper {
    pub(super) world: World,
    pub(super) voices: Option<Voices>,
    pub(super) crew: Crew,
    pub(super) publisher: Publisher,
    pub(super) planned: Planned,
    pub(super) verdict: Verdict,
    picture: Picture,
    names: Arc<Names>,
    /// Entries of the COMMAND that `names` came from, and how many times it was learnt.
    names_count: i64,
    names_learnt: u64,
    pub(super) times: Times,
    pub(super) initiative: Initiative,
    messenger: Option<Messenger>,
}

/// Where reports arrive.
pub struct Inbox {
    pub hints: Hints,
    pub observations: mpsc::Receiver<Observation>,
    pub news: mpsc::Receiver<sentinel::Report>,
    pub planned: mpsc::Receiver<Message>,
}

/// What one turn is about, besides the hints that wait.
#[derive(Debug, PartialEq)]
enum Call {
    News(sentinel::Report),
    Seen(Observation),
    Planned(Message),
    /// Nothing else: hints came, or it is time.
    None,
}

impl Inbox {
    /// Waits for the next report, for hints, or for `pause`; also all the hints that wait by then, for one turn. Who saw
    /// goes before who guesses: a refused request gives a hint each, and a storm of them must not delay an observation.
    async fn next(&mut self, pause: Duration) -> (Call, Vec<Hint>) {
        let mut hints = Vec::new();
        let call = tokio::select! {
            biased;
            Some(report) = self.news.recv() => Call::News(report),
            Some(planned) = self.planned.recv() => Call::Planned(planned),
            Some(seen) = self.observations.recv() => Call::Seen(seen),
            Some(hint) = self.hints.recv() => {
                hints.push(hint);
                Call::None
            }
            _ = sleep(pause) => Call::None,
        };
        // With every call, so that reports without end do not starve them either.
        while hints.len() < HINTS
            && let Ok(hint) = self.hints.try_recv()
        {
            hints.push(hint);
        }
        (call, hints)
    }
}

impl Keeper {
    pub fn new(set: Arc<SetConfig>, publisher: Publisher, crew: Crew, plan: mpsc::Sender<Message>) -> Self {
        let now = Instant::now();
        let voices = match &set.source {
            Source::Sentinel { .. } => Some(Voices::default()),
            Source::Nodes(_) => None,
        };
        let messenger = Messenger::start(&set);
        Self {
            world: World::new(set),
            voices,
            crew,
            publisher,
            planned: Planned::new(plan),
            verdict: Verdict::Hold(Hold::Starting),
            picture: Picture::blank(),
            names: Arc::default(),
            names_count: -1,
            names_learnt: 0,
            times: Times {
                started: now,
                sign: Some(now),
                last_sign: now,
                held: Some(now),
                conflict: None,
                minority: None,
                reconciled: now,
                names_asked: now,
                turned: now,
            },
            initiative: Initiative::default(),
            messenger,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        self.list_configured(Instant::now());
        self.turn(Instant::now());
        loop {
            let pause = if self.fast(Instant::now()) { self.world.set.poll_fast } else { self.world.set.poll };
            let (call, hints) = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                next = inbox.next(pause) => next,
            };
            let now = Instant::now();
            let mut figure = false;
            match call {
                Call::News(report) => self.hear(report, now),
                Call::Seen(seen) => figure = self.observe(seen, now),
                Call::Planned(message) => self.heed(message, now),
                Call::None => {}
            }
            // A figure alone changes nothing that one turn in a while would not see.
            if figure && hints.is_empty() && now.saturating_duration_since(self.times.turned) < pause / 2 {
                continue;
            }
            for hint in hints {
                self.hint(hint, now);
            }
            self.turn(now);
        }
        self.crew.dismiss();
    }

    fn fast(&self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let troubled = !self.is_open() || since(self.times.last_sign) < CALM;
        troubled && self.times.sign.is_some_and(|sign| since(sign) < FAST_LIMIT)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.verdict, Verdict::Keep | Verdict::KeepDespite(_))
    }

    /// Why writes wait.
    pub(super) fn held(&self) -> Option<Hold> {
        match self.verdict {
            Verdict::Keep | Verdict::KeepDespite(_) => None,
            Verdict::Hold(why) => Some(why),
            Verdict::Switch { .. } => Some(Hold::Lost),
        }
    }

    /// Notes a sign of trouble: everybody is asked at the fast pace from now on.
    pub(super) fn sign(&mut self, now: Instant) {
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

    pub(super) fn ask_names(&mut self, now: Instant) {
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

    /// Takes in a report; returns whether it is no more than the master's offset.
    fn observe(&mut self, seen: Observation, now: Instant) -> bool {
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

    /// One whole turn: time, lists, judgement, rotation, picture, pace.
    fn turn(&mut self, now: Instant) {
        for id in self.world.age(now) {
            self.crew.leave(id);
        }
        if now.saturating_duration_since(self.times.reconciled) >= RECONCILE {
            self.times.reconciled = now;
            self.reconcile(now);
        }
        if self.world.master_falls_silent(now) {
            self.sign(now);
        }
        self.decide(now);
        self.act(now);
        let open = self.is_open();
        let doubt = self.world.rotate(!open, now);
        if let Some(reign) = self.world.reign.as_ref().filter(|_| doubt && open) {
            self.crew.ask(reign.node, now);
        }
        if self.fast(now) {
            self.crew.ask_unproven(&self.world, now);
        }
        self.publish();
        self.reckon(now);
        self.attend(now);
        let calm = now.saturating_duration_since(self.times.last_sign) >= CALM;
        if open && calm {
            self.times.sign = None;
        }
        if let Some(pace) = self.world.tide.take_wanted() {
            self.world.sampling.want(pace, now);
        }
        let sampling = self.world.sampling.pace(self.world.set.poll, now);
        let master = self.world.reign.as_ref().filter(|_| open).map(|reign| (reign.node, sampling));
        self.crew.set_pace(&self.world.set, self.fast(now), master);
        self.times.turned = now;
    }

    /// Tells what the last switch cost, once every worker has counted.
    fn reckon(&self, now: Instant) {
        let Some(switch) = &self.world.switch else { return };
        let overdue = now.saturating_duration_since(switch.at) >= RECKONING;
        if !switch.toll.is_closed() && (overdue || self.publisher.has_reckoned(switch.term)) {
            self.close_toll();
        }
    }

    /// What is counted by now is all that will be told.
    pub(super) fn close_toll(&self) {
        let Some(switch) = self.world.switch.as_ref().filter(|switch| !switch.toll.is_closed()) else { return };
        switch.toll.close(self.publisher.has_reckoned(switch.term));
        journal::toll(&self.world.set.name, switch);
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

    /// Tells who wants to be told.
    pub(super) fn tell(&self, notice: &Notice) {
        if let Some(messenger) = &self.messenger {
            messenger.tell(notice);
        }
    }

    /// Why writes wait in what was published last.
    pub(super) fn shown_hold(&self) -> Option<Hold> {
        self.picture.held
    }

    pub(super) fn state_of(&self, id: NodeId) -> &'static str {
        self.picture.portrait(id).map_or("unknown", |node| node.state.label())
    }

    fn publish(&mut self) {
        let picture = Picture::of(&self.world, self.held(), self.names_learnt);
        if picture == self.picture {
            return;
        }
        journal::nodes(&self.world, &self.picture, &picture);
        let reign = self.world.reign.as_ref().map(|r| r.node);
        for notice in notice::changes(&self.picture, &picture, reign) {
            self.tell(&notice);
        }
        self.publisher.publish(picture.topology(&self.world, &self.names));
        self.picture = picture;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::control::Error;

    const LONG: Duration = Duration::from_secs(3600);

    fn lost(node: u16) -> Observation {
        Observation { node, probe: 0, asked: Instant::now(), seen: Seen::Lost(Error::Closed) }
    }

    #[tokio::test]
    async fn a_storm_of_hints_delays_no_report_and_is_one_turn() {
        let (hint, hints) = mpsc::channel(4 * HINTS);
        let (see, observations) = mpsc::channel(8);
        let (tell, news) = mpsc::channel(8);
        let (_plan, planned) = mpsc::channel(1);
        let mut inbox = Inbox { hints, observations, news, planned };
        for _ in 0..2 * HINTS + 1 {
            hint.try_send(Hint::Demoted(0)).unwrap();
        }
        let (first, second) = (lost(1), lost(2));
        see.try_send(first.clone()).unwrap();
        see.try_send(second.clone()).unwrap();
        let report = || sentinel::Report { sentinel: 7, news: sentinel::News::Quorum };
        tell.try_send(report()).unwrap();
        let storm = vec![Hint::Demoted(0); HINTS];
        assert_eq!(inbox.next(LONG).await, (Call::News(report()), storm.clone()), "hints wait for no lull");
        assert_eq!(inbox.next(LONG).await, (Call::Seen(first), storm));
        assert_eq!(inbox.next(LONG).await, (Call::Seen(second), vec![Hint::Demoted(0)]));
        hint.try_send(Hint::Lost(3)).unwrap();
        hint.try_send(Hint::UnknownName).unwrap();
        assert_eq!(inbox.next(LONG).await, (Call::None, vec![Hint::Lost(3), Hint::UnknownName]), "hints alone wake");
        assert_eq!(inbox.next(Duration::ZERO).await, (Call::None, vec![]));
    }
}
