//! A planned change of master, step by step: what comes next, and what the way back is. Pure; its I/O is [`hands`].
//!
//! Must not judge who is master: it holds writes, moves the role, and watches the detector find that it moved. Invariant:
//! from the first held write on, a step ends in the next one or in the way back, by an event or by its time.

pub mod hands;
mod order;
mod plan;

use std::time::{Duration, Instant};

pub use order::{Door, Line, Message, News, Order, Report, Wish};
pub use plan::{Candidate, Plan, Post, Watchers, choose};

use crate::topology::{Hold, NodeId};

/// For everything that comes before writes are held: with Sentinel, a steered priority takes ten seconds to be known.
const PREPARE: Duration = Duration::from_secs(20);
/// Sentinel's own way to the moment at which writes must be held.
const CALL: Duration = Duration::from_secs(5);
/// Transactions that are open when it begins may take this long to end; then they end with their master.
const GRACE: Duration = Duration::from_millis(50);
/// For what comes after the switch, and for the way back.
const AFTER: Duration = Duration::from_secs(20);
const BACK: Duration = Duration::from_secs(10);

/// Where a switchover stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Permissions, links, priorities are looked at; writes go on. -> `Calling` with Sentinel, else `Draining`.
    Preparing,
    /// Sentinel was told and is on its way; writes go on. -> `Draining` just before it selects.
    Calling,
    /// Writes are held; what is open may end. -> `Letting` after a grace, `Pausing` when nothing is on its way.
    Draining,
    /// Nothing new is sent at all. -> `Pausing` when nothing is on its way.
    Letting,
    /// The old master itself is told to hold writes, also those of clients that do not come through redweir. -> `Following`.
    Pausing,
    /// The target applies what there is. -> `Promoting`.
    Following,
    /// -> `Settling`, when the detector has switched.
    Promoting,
    /// Writes go to the new master; the rest is put in order behind it. -> over.
    Settling,
    /// Everything is put back as it was. -> over; `Settling`, when the detector switched after all.
    Undoing,
}

/// What the hands are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Prepare,
    Call,
    /// Wait for Sentinel's choice: a tick later it promotes.
    Watch,
    Pause,
    Follow,
    Promote,
    Settle,
    Undo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Did(Act),
    Failed(Act, String),
    /// No worker has anything on its way to the master.
    LetGo,
    /// The detector has switched to this node.
    Switched(NodeId),
    /// Time went by.
    Time,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done,
    /// Done, but for this.
    DoneBut(String),
    /// The old master is master, because of this.
    Back(String),
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Stay,
    Go(Option<Act>),
    End(End),
}

/// One switchover.
#[derive(Debug)]
pub struct Switchover {
    step: Step,
    /// Since when, and since when writes are held.
    since: Instant,
    held: Option<Instant>,
    /// Writes may be held this long.
    limit: Duration,
    /// `None`: whomever Sentinel chooses.
    target: Option<NodeId>,
    by_sentinel: bool,
    /// Why it goes back.
    why: String,
}

impl Switchover {
    pub fn new(target: Option<NodeId>, by_sentinel: bool, limit: Duration, now: Instant) -> Self {
        Self { step: Step::Preparing, since: now, held: None, limit, target, by_sentinel, why: String::new() }
    }

    pub fn step(&self) -> Step {
        self.step
    }

    /// How long writes have been held.
    pub fn held(&self, now: Instant) -> Option<Duration> {
        self.held.map(|since| now.saturating_duration_since(since))
    }

    /// Why writes are to be held, if they are.
    pub fn holds(&self) -> Option<Hold> {
        match self.step {
            Step::Preparing | Step::Calling | Step::Settling => None,
            Step::Draining => Some(Hold::Draining),
            Step::Letting | Step::Pausing | Step::Following | Step::Promoting => Some(Hold::Switchover),
            Step::Undoing => self.held.map(|_| Hold::Switchover),
        }
    }

    /// Whether the detector must keep to the old master while that lives: the target has not been shown to have everything.
    pub fn forbids_switch(&self) -> bool {
        self.holds().is_some() && self.step != Step::Promoting
    }

    /// Whether Sentinel fails over because it was told to by this.
    pub fn has_called(&self) -> bool {
        self.by_sentinel && !matches!(self.step, Step::Preparing | Step::Settling)
    }

    pub fn take(&mut self, event: Event, now: Instant) -> Next {
        let next = self.next(&event, now);
        if let Some((step, act)) = next {
            self.go(step, now);
            return Next::Go(act);
        }
        match (self.step, event) {
            (Step::Settling, Event::Did(Act::Settle)) => Next::End(End::Done),
            (Step::Settling, Event::Failed(Act::Settle, what)) => Next::End(End::DoneBut(what)),
            (Step::Settling, Event::Time) if self.over(AFTER, now) => {
                Next::End(End::DoneBut("what comes after it took too long".into()))
            }
            (Step::Undoing, Event::Did(Act::Undo)) => Next::End(End::Back(std::mem::take(&mut self.why))),
            (Step::Undoing, Event::Failed(Act::Undo, what)) => {
                Next::End(End::Back(format!("{}; and not all could be put back: {what}", self.why)))
            }
            (Step::Undoing, Event::Time) if self.over(BACK, now) => {
                Next::End(End::Back(format!("{}; and to put everything back took too long", self.why)))
            }
            _ => Next::Stay,
        }
    }

    /// The step that follows, and what is to be done in it.
    fn next(&mut self, event: &Event, now: Instant) -> Option<(Step, Option<Act>)> {
        use Step::*;
        let undo = Some((Undoing, Some(Act::Undo)));
        match (self.step, event) {
            (Settling, _) => None,
            (_, Event::Switched(to)) if self.target.is_none_or(|target| target == *to) => {
                Some((Settling, Some(Act::Settle)))
            }
            (Undoing, _) => None,
            (_, Event::Switched(_)) => {
                self.why = "another node became master meanwhile".into();
                undo
            }
            (Preparing, Event::Did(Act::Prepare)) if self.by_sentinel => Some((Calling, Some(Act::Call))),
            (Preparing, Event::Did(Act::Prepare)) => Some((Draining, None)),
            (Calling, Event::Did(Act::Call)) => Some((Draining, Some(Act::Watch))),
            (Draining | Letting, Event::Did(Act::Watch)) => {
                self.why = "requests on their way to the master were not answered before Sentinel would promote".into();
                undo
            }
            (Draining | Letting, Event::LetGo) => Some((Pausing, Some(Act::Pause))),
            (Draining, Event::Time) if self.over(GRACE, now) => Some((Letting, None)),
            (Pausing, Event::Did(Act::Pause)) => Some((Following, Some(Act::Follow))),
            (Following, Event::Did(Act::Follow)) => Some((Promoting, Some(Act::Promote))),
            (_, Event::Failed(_, what)) => {
                self.why.clone_from(what);
                undo
            }
            (_, Event::Time) => {
                self.why = self.overdue(now)?;
                undo
            }
            _ => None,
        }
    }

    /// What took too long.
    fn overdue(&self, now: Instant) -> Option<String> {
        let what = match self.step {
            Step::Preparing if self.over(PREPARE, now) => return Some("the preparations took too long".into()),
            Step::Calling if self.over(CALL, now) => return Some("Sentinel did not begin in time".into()),
            Step::Draining | Step::Letting => "requests on their way to the master were not answered",
            Step::Pausing => "the master did not answer",
            Step::Following if self.by_sentinel => "Sentinel did not choose, or the target did not apply everything,",
            Step::Following => "the target did not apply everything",
            Step::Promoting => "the target did not become master",
            Step::Preparing | Step::Calling | Step::Settling | Step::Undoing => return None,
        };
        let limit = humantime::format_duration(self.limit);
        (self.held(now)? >= self.limit).then(|| format!("{what} within {limit}"))
    }

    fn over(&self, limit: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limit
    }

    fn go(&mut self, step: Step, now: Instant) {
        (self.step, self.since) = (step, now);
        if step == Step::Draining {
            self.held = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
