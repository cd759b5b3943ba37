//! The owner of the world: one task that takes in what probes, Sentinels and the data path report, lets the detector
//! judge, and publishes what changed.
//!
//! Invariant: every publish follows one whole turn (judge, rotate, picture), so nobody sees half a change.

mod inbox;
mod reports;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::council::Voices;
use super::crew::Crew;
use super::detector::Verdict;
use super::initiative::Initiative;
use super::journal;
use super::messenger::Messenger;
use super::notice::{self, Notice};
use super::picture::Picture;
use super::planned::Planned;
use super::switchover::Message;
use super::world::World;
use crate::command::Names;
use crate::config::{SetConfig, Source};
use crate::topology::{Hold, NodeId, Publisher};
use inbox::Call;
pub use inbox::Inbox;

/// One pass over the lists of nodes and Sentinels.
const RECONCILE: Duration = Duration::from_secs(1);
/// Fast polling ends this long after the last sign of trouble, and after `FAST_LIMIT` in any case.
pub const CALM: Duration = Duration::from_secs(1);
const FAST_LIMIT: Duration = Duration::from_secs(30);
/// Workers have this long to count what a switch cost.
const RECKONING: Duration = Duration::from_secs(2);

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
