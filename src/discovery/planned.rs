//! The keeper's part in a switchover: takes wishes in, holds writes while one asks for it, tells it what the detector saw.
//!
//! Part of [`Keeper`]. Must not choose a master: it only forbids and asks. Invariant: one switchover at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use humantime::format_duration;
use tokio::sync::mpsc;

use super::detector::Verdict;
use super::keeper::Keeper;
use super::member::Member;
use super::rotation::Place;
use super::seen::Role;
use super::switchover::hands::{self, split};
use super::switchover::{
    Act, Candidate, End, Event, Line, Message, News, Next, Order, Plan, Post, Report, Step, Switchover, Watchers, Wish,
    choose,
};
use crate::config::Source;
use crate::metrics::{self, Outcome};
use crate::topology::{Hold, NodeId, NodeState};

/// A replica that lost its link is back within a second or two, and its master names it only once it has acknowledged
/// something, which it does once a second.
const CLOSE: Duration = Duration::from_secs(3);
/// Acts that may wait for the hands: the next one, and the way back.
const ACTS: usize = 4;

/// Switchovers of this set.
pub(super) struct Planned {
    /// Where the hands report to.
    back: mpsc::Sender<Message>,
    number: u64,
    ongoing: Option<Ongoing>,
    /// Asked for at that time, and the replica is not ready yet.
    waiting: Option<(Order, Instant)>,
}

struct Ongoing {
    switchover: Switchover,
    /// The master it began with.
    from: NodeId,
    acts: mpsc::Sender<Act>,
    say: mpsc::Sender<Line>,
    begun: Instant,
    /// The first epoch in which writes were held for it.
    held_epoch: Option<u64>,
    /// How long they were.
    held: Option<Duration>,
}

impl Ongoing {
    /// Who asked may have gone: it goes on.
    fn say(&self, line: Line) {
        let _ = self.say.try_send(line);
    }
}

impl Planned {
    pub(super) fn new(back: mpsc::Sender<Message>) -> Self {
        Self { back, number: 0, ongoing: None, waiting: None }
    }

    fn switchover(&self) -> Option<&Switchover> {
        self.ongoing.as_ref().map(|ongoing| &ongoing.switchover)
    }

    pub(super) fn goes_on(&self) -> bool {
        self.ongoing.is_some()
    }

    /// Sentinel fails over at its behest: that alone is no reason to hold writes.
    pub(super) fn has_called(&self) -> bool {
        self.switchover().is_some_and(Switchover::has_called)
    }

    pub(super) fn is_promoting(&self) -> bool {
        self.switchover().is_some_and(|s| s.step() == Step::Promoting)
    }
}

impl Keeper {
    pub(super) fn heed(&mut self, message: Message, now: Instant) {
        match message {
            Message::Order(order) => self.begin(order, now, now),
            Message::Report(report) => self.learn(report, now),
        }
    }

    fn begin(&mut self, order: Order, asked: Instant, now: Instant) {
        let set = &self.world.set.name;
        let (plan, target) = match self.plan(&order.wish) {
            Ok(plan) => plan,
            Err(_) if now.saturating_duration_since(asked) < CLOSE && self.is_close(&order.wish) => {
                self.planned.waiting = Some((order, asked));
                return;
            }
            Err(why) => {
                tracing::warn!(%set, %why, "switchover refused");
                metrics::switchover(set, Outcome::Refused);
                let _ = order.say.try_send(Line::Refused(why));
                return;
            }
        };
        tracing::info!(%set, from = %plan.master.address, to = %plan.target.address, "switchover begins");
        let (acts, receiver) = mpsc::channel(ACTS);
        let by_sentinel = plan.sentinel.is_some();
        self.planned.number += 1;
        let from = plan.master.id;
        tokio::spawn(hands::run(plan, self.planned.number, receiver, self.planned.back.clone()));
        let switchover = Switchover::new(target, by_sentinel, order.wish.limit, now);
        let _ = acts.try_send(Act::Prepare);
        self.planned.ongoing =
            Some(Ongoing { switchover, from, acts, say: order.say, begun: now, held_epoch: None, held: None });
    }

    /// What is to be done, and who must become master (`None`: whom Sentinel chooses); or why it cannot begin.
    fn plan(&self, wish: &Wish) -> Result<(Plan, Option<NodeId>), String> {
        if self.planned.ongoing.is_some() || self.planned.waiting.is_some() {
            return Err("another switchover goes on".into());
        }
        if let Some(why) = self.held() {
            return Err(format!("writes are held ({}): there is no master that could hand over", why.label()));
        }
        let reign = self.world.reign.as_ref().and_then(|reign| self.world.member(reign.node));
        let master = reign.ok_or("there is no master")?;
        let wanted = wish.to.as_ref().map(|address| self.known(address)).transpose()?;
        if wanted == Some(master.id) {
            return Err(format!("{} is the master already", master.address));
        }
        let candidates: Vec<Candidate> =
            self.world.members.iter().filter(|m| m.id != master.id).map(|m| self.candidate(m, master)).collect();
        let chosen = choose(&candidates, wanted)?;
        let others = candidates.iter().filter(|c| c.post.id != chosen.post.id).map(|c| c.post.clone()).collect();
        let sentinel = self.watchers()?;
        let target = if sentinel.is_some() { wanted } else { Some(chosen.post.id) };
        let set = &self.world.set;
        let plan = Plan {
            master: post(master),
            target: chosen.post.clone(),
            wanted: wanted.is_some(),
            named: chosen.named.clone().unwrap_or_default(),
            others,
            sentinel,
            login: set.node_login.clone(),
            connect_timeout: set.connect_timeout,
            limit: wish.limit,
        };
        Ok((plan, target))
    }

    fn known(&self, address: &str) -> Result<NodeId, String> {
        self.world.resolve(address).ok_or_else(|| {
            let known: Vec<_> = self.world.members.iter().map(|m| m.address.to_string()).collect();
            format!("no node of this set is known as {address}; known are {}", known.join(", "))
        })
    }

    fn candidate(&self, member: &Member, master: &Member) -> Candidate {
        let named = match &master.role {
            Some(Role::Master { replicas, .. }) => replicas.iter().find(|r| self.world.resolve(r) == Some(member.id)),
            _ => None,
        };
        let unfit = (member.rotation.place != Place::Reader).then(|| self.state_of(member.id));
        Candidate { post: post(member), unfit, named: named.map(|r| split(r)), applied: member.applied }
    }

    /// One that could take over follows the master, and is about to be linked, or to be named by it.
    fn is_close(&self, wish: &Wish) -> bool {
        let reign = self.world.reign.as_ref().and_then(|reign| self.world.member(reign.node));
        let wanted = wish.to.as_ref().and_then(|address| self.world.resolve(address));
        let follows = |member: &&Member, master: &Member| match &member.role {
            Some(Role::Replica { of, .. }) => self.world.resolve(of) == Some(master.id),
            _ => false,
        };
        let idle = self.planned.ongoing.is_none() && self.planned.waiting.is_none();
        let Some(master) = reign.filter(|_| idle && self.held().is_none()) else { return false };
        let mut close = self.world.members.iter().filter(|m| wanted.is_none_or(|id| id == m.id) && follows(m, master));
        close.any(|m| {
            let candidate = self.candidate(m, master);
            match candidate.unfit {
                None => candidate.named.is_none(),
                Some(state) => state == NodeState::Unlinked.label(),
            }
        })
    }

    /// A Sentinel that can be told; `None` where there are none.
    fn watchers(&self) -> Result<Option<Watchers>, String> {
        let set = &self.world.set;
        let Source::Sentinel { master_name, login, .. } = &set.source else { return Ok(None) };
        let voices = self.voices.as_ref().ok_or("no Sentinel was heard yet")?;
        let word = voices.word().map(|(address, _)| address);
        let agrees = |v: &&super::council::Voice| v.up && v.config.as_ref().map(|c| c.master.as_str()) == word;
        let voice = voices.all.iter().find(agrees).ok_or(
            "no Sentinel answers: what is done behind their back they would undo; start them, or configure `node` instead",
        )?;
        let dial = set.address_map.iter().find(|(announced, _)| *announced == voice.address).map(|(_, to)| to);
        let dial = dial.unwrap_or(&voice.address).clone();
        Ok(Some(Watchers { dial, master_name: master_name.clone(), login: login.clone() }))
    }

    fn learn(&mut self, report: Report, now: Instant) {
        let Some(ongoing) = self.planned.ongoing.as_ref().filter(|_| report.number == self.planned.number) else {
            return;
        };
        let event = match report.news {
            News::Said(what) => return ongoing.say(Line::Said(what)),
            News::Did(act, Ok(what)) => {
                if !matches!(act, Act::Settle | Act::Undo | Act::Watch) {
                    ongoing.say(Line::Said(what));
                }
                Event::Did(act)
            }
            News::Did(act, Err(what)) => Event::Failed(act, what),
        };
        self.further(event, now);
    }

    /// Tells the switchover what happened and does what follows.
    pub(super) fn further(&mut self, event: Event, now: Instant) {
        let Some(ongoing) = &mut self.planned.ongoing else { return };
        if event == Event::Switched(ongoing.from) {
            // A FAILOVER that was given up: its master begins another line. Whoever asked for it is told by the node itself.
            return;
        }
        let held = ongoing.switchover.held(now);
        let next = ongoing.switchover.take(event, now);
        let act = match next {
            Next::Stay => return,
            Next::End(end) => return self.end(end, now),
            Next::Go(act) => act,
        };
        match ongoing.switchover.step() {
            Step::Draining => ongoing.say(Line::Said("writes are held".into())),
            Step::Settling => {
                ongoing.held = held;
                let took = held.map_or("without a hold".into(), |held| format!("held for {}", shown(held)));
                ongoing.say(Line::Said(format!("the new master is verified; writes go on, {took}")));
            }
            Step::Undoing => ongoing.say(Line::Said("going back".into())),
            _ => {}
        }
        if let Some(act) = act {
            let _ = ongoing.acts.try_send(act);
        }
        self.sign(now);
    }

    fn end(&mut self, end: End, now: Instant) {
        let Some(ongoing) = self.planned.ongoing.take() else { return };
        let set = &self.world.set.name;
        let master = self.world.reign.as_ref().and_then(|r| self.world.member(r.node)).map(|m| Arc::clone(&m.address));
        let master = master.as_deref().unwrap_or("nobody");
        let took = shown(now.saturating_duration_since(ongoing.begun));
        let held = shown(ongoing.held.or(ongoing.switchover.held(now)).unwrap_or_default());
        match end {
            End::Done | End::DoneBut(_) => {
                let but = if let End::DoneBut(what) = &end { format!("; but {what}") } else { String::new() };
                tracing::info!(%set, %master, %took, %held, "switchover done{but}");
                metrics::switchover(set, Outcome::Done);
                ongoing.say(Line::Done(format!("{master} is master, after {took}; writes were held for {held}{but}")));
            }
            End::Back(why) => {
                tracing::warn!(%set, %master, %took, %held, %why, "switchover given up");
                metrics::switchover(set, Outcome::Back);
                ongoing.say(Line::Failed(format!("{why}; {master} is master; writes were held for {held}")));
            }
        }
    }

    /// Once a turn: whether the workers have let go, and whether its time is up.
    pub(super) fn attend(&mut self, now: Instant) {
        if let Some((order, asked)) = self.planned.waiting.take() {
            self.begin(order, asked, now);
        }
        let shown = self.shown_hold();
        let Some(ongoing) = &mut self.planned.ongoing else { return };
        if matches!(ongoing.switchover.step(), Step::Draining | Step::Letting)
            && matches!(shown, Some(Hold::Draining | Hold::Switchover))
        {
            let epoch = *ongoing.held_epoch.get_or_insert(self.publisher.epoch());
            if self.publisher.has_let_go(epoch) {
                return self.further(Event::LetGo, now);
            }
        }
        self.further(Event::Time, now);
    }

    /// The verdict, unless a switchover is against it: it holds writes, and a switch too early would lose some.
    pub(super) fn guarded(&self, verdict: Verdict) -> Verdict {
        let Some(switchover) = self.planned.switchover() else { return verdict };
        let Some(why) = switchover.holds() else { return verdict };
        let reign = self.world.reign.as_ref().and_then(|reign| self.world.member(reign.node));
        let lives = reign.is_some_and(|master| master.is_up() && master.says_master());
        match verdict {
            Verdict::Keep | Verdict::KeepDespite(_) | Verdict::Hold(Hold::Failover | Hold::Conflict) => {
                Verdict::Hold(why)
            }
            Verdict::Switch { .. } if switchover.forbids_switch() && lives => Verdict::Hold(why),
            verdict => verdict,
        }
    }
}

fn post(member: &Member) -> Post {
    Post { id: member.id, address: Arc::clone(&member.address), dial: Arc::clone(&member.dial) }
}

/// In whole milliseconds.
fn shown(time: Duration) -> String {
    format_duration(Duration::from_millis(time.as_millis() as u64)).to_string()
}
