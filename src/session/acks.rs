//! Replies to writes that wait until enough replicas have what they acknowledge (offsets.md section 5): group commit by
//! offsets, never WAIT on a shared connection.
//!
//! A reply that waits counts as one that has not come: it stays in `State::in_flight`. So what must not overtake it does not,
//! by the rules that hold for any reply on its way: a read behind it joins the master's connection, a turn of its own, a
//! CLIENT REPLY, the end of a drain wait for it, what is sent again after a switch goes behind it, and the bound on a
//! pipeline counts it. A session that need not wait has no [`Held`], and its requests see one branch as they are sent and one
//! as they are answered.
//!
//! From the first write sent until everything is answered and released, each reply waits for the offset behind the newest
//! write sent by then: it may be the reply to that one. The offset comes with the ROLE behind the flush; where none will come
//! (the user may not ask, the connection was the session's own or is gone) the master is asked on a connection of our own.
//! Should the master change, lineage decides: what the new one has stands, with itself as one of those that had to have it;
//! for the rest the client is cut off, as for any write whose outcome nobody knows. Must not acknowledge by time alone while the
//! master that executed the write may be dead. Invariant: no path acknowledges a write of a session with acks earlier.

mod copies;
mod held;
mod witness;

use std::rc::Rc;
use std::time::Duration;

use super::pubsub::Frame;
use super::state::{Silence, State};
use super::{Session, errors};
use crate::config::OnTimeout;
use crate::metrics::Count;
use crate::upstream::ledger::Writes;
use crate::upstream::{Conn, Times};
pub use held::Held;
use held::{Asks, Fate, Mark, Part, Run, World};
pub use witness::Witness;

impl State {
    /// Requests that no node has answered yet.
    pub fn unanswered(&self) -> u32 {
        self.in_flight - self.held.as_ref().map_or(0, |held| held.replies()).min(self.in_flight)
    }

    /// Reply bytes that its client does not have yet.
    pub fn waiting_out(&self) -> usize {
        self.out.len() + self.held.as_ref().map_or(0, |held| held.bytes())
    }

    /// What was kept last is part of a reply: nothing else can take its place.
    pub fn held_torn(&mut self) {
        if let Some(held) = &mut self.held {
            held.torn();
        }
    }

    /// Replies have come and wait.
    pub fn holds_replies(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.is_empty())
    }
}

impl Session {
    /// What the session's writes must wait for, now that it is who it is.
    pub(super) fn set_acks(&self, s: &mut State) {
        let user = self.front.pool.describe(s.lane).and_then(|lane| lane.login).and_then(|login| login.username);
        let need = self.front.listener.acks.of(user.as_deref());
        match (&mut s.held, need) {
            (None, 0) => {}
            (Some(held), 0) if !held.listed => s.held = None,
            (Some(held), need) => held.set_need(need),
            (None, need) => s.held = Some(Box::new(Held::new(need))),
        }
    }

    /// A run that writes went out.
    #[cold]
    pub(super) fn note_write(&self, s: &mut State, conn: &Rc<Conn>, serial: u64, term: u64) {
        if let Some(held) = &mut s.held {
            held.wrote(Run { conn: Rc::clone(conn), serial, term });
        }
    }

    /// `n` replies of a shared connection. False: they wait for nothing.
    #[cold]
    pub(super) fn keep(&self, s: &mut State, bytes: &[u8], n: u32, times: &Times) -> bool {
        let Some(held) = s.held.as_mut().filter(|_| s.silence == Silence::Not) else { return false };
        match held.owed() {
            Some(run) => held.add(run.term, Mark::Run(run), bytes, n, Some(Duration::from_nanos(times.whole_ns))),
            None => return false,
        }
        self.front.cells.upstream.observe_ns(times.upstream_ns, u64::from(n));
        self.kept(s, n);
        true
    }

    /// Part of a large reply. It may have others' behind it on its connection, the ROLE that would tell its offset among
    /// them: so the master is asked. False: it waits for nothing.
    pub(super) fn keep_piece(&self, s: &mut State, bytes: &[u8], done: bool, times: &Times) -> bool {
        let questions = self.front.witness.questions();
        let Some(held) = s.held.as_mut().filter(|_| s.silence == Silence::Not) else { return false };
        held.ask_instead(questions);
        match held.owed() {
            Some(run) => held.add(
                run.term,
                Mark::Question(questions),
                bytes,
                u32::from(done),
                Some(Duration::from_nanos(times.whole_ns)),
            ),
            None => return false,
        }
        held.torn();
        self.kept(s, u32::from(done));
        true
    }

    /// A frame of the session's own connection; `write`: it may acknowledge one. False: it waits for nothing.
    pub(super) fn keep_frame(&self, s: &mut State, frame: Frame, bytes: &[u8], write: bool) -> bool {
        let silent = frame == Frame::Reply && s.silence != Silence::Not;
        let questions = self.front.witness.questions();
        let term = self.front.term();
        let Some(held) = s.held.as_mut().filter(|_| !silent) else { return false };
        if write {
            held.add(term, Mark::Question(questions), bytes, 1, None);
            if bytes.first() != Some(&b'-') {
                held.apart();
            }
            s.in_flight += 1;
        } else if held.is_empty() {
            return false;
        } else {
            held.follow(bytes);
        }
        self.kept(s, u32::from(write));
        true
    }

    /// A reply that stood after others were refused.
    pub(super) fn keep_settled(&self, s: &mut State, bytes: &[u8]) -> bool {
        let Some(held) = s.held.as_mut().filter(|_| s.silence == Silence::Not) else { return false };
        let Some(run) = held.owed() else { return false };
        held.add(run.term, Mark::Run(run), bytes, 1, None);
        s.in_flight += 1;
        self.kept(s, 1);
        true
    }

    fn kept(&self, s: &mut State, n: u32) {
        self.front.cells.count(Count::AcksHeld, u64::from(n));
        let Some(held) = &mut s.held else { return };
        if s.out.len() + held.bytes() > self.front.limits.client_output_bytes {
            self.front.cells.count(Count::SlowClients, 1);
            return s.die();
        }
        match std::mem::replace(&mut held.listed, true) {
            true => self.front.witness.stir(),
            false => {
                self.front.cells.acks_waiting.add(1);
                self.front.witness.enlist(self.me.clone());
            }
        }
    }

    /// Lets go what may go. False: nothing waits any more.
    fn confirm(&self, world: &World<'_>, asks: &mut Asks) -> bool {
        let s = &mut *self.state.borrow_mut();
        while let Some((part, fate)) = s.held.as_mut().filter(|_| !s.dead).and_then(|held| held.next(world)) {
            self.part_ends(s, &part, fate, world);
        }
        let Some(held) = s.held.as_mut().filter(|_| !s.dead) else { return false };
        held.ask(world, asks);
        if !held.is_empty() {
            return true;
        }
        self.front.cells.acks_waiting.sub(1);
        held.listed = false;
        if held.is_off() {
            s.held = None;
        }
        false
    }

    /// The session ends: its client hears nothing more.
    pub(super) fn drop_held(&self, s: &mut State) {
        if s.held.take().is_some_and(|held| held.listed) {
            self.front.cells.acks_waiting.sub(1);
        }
    }

    /// Replies go out. Which of them acknowledge writes, and since when their master had these, is not known.
    fn acknowledge(&self, s: &mut State, part: &Part) {
        let (term, high) = part.within();
        let writes = Writes { sure: 0, unsure: part.replies.saturating_sub(part.apart).into() };
        self.front.pool.ledger().acknowledge_within(term, high, writes);
        (0..part.apart).for_each(|_| self.acknowledged_apart(s));
        self.write(s, &part.bytes);
    }

    fn part_ends(&self, s: &mut State, part: &Part, fate: Fate, world: &World<'_>) {
        let cells = &self.front.cells;
        let n = u64::from(part.replies);
        let waited = world.now.saturating_duration_since(part.since);
        cells.acks_wait.observe(waited, n);
        if let Some(took) = part.took {
            cells.request.observe(took + waited, n);
        }
        let acks = &self.front.listener.acks;
        match (fate, acks.on_timeout) {
            (Fate::Wait, _) => {}
            (Fate::Confirmed, _) => {
                cells.count(Count::AcksConfirmed, n);
                self.acknowledge(s, part);
            }
            (Fate::Expired, how) if how == OnTimeout::Answer || part.torn => {
                cells.count(Count::AcksExpired, n);
                self.acknowledge(s, part);
            }
            (Fate::Expired, _) => {
                cells.count(Count::AcksExpired, n);
                self.write(s, &errors::unacked(acks.timeout).repeat(part.replies as usize));
            }
            (Fate::Lost, _) => {
                cells.count(Count::AcksLost, n);
                cells.count(Count::UnknownOutcome, n);
                s.die();
            }
        }
        if !part.behind.is_empty() {
            self.write(s, &part.behind);
        }
        self.landed(s, part.replies);
        if s.in_flight == 0
            && let Some(held) = &mut s.held
        {
            held.all_answered();
        }
        // A session on a connection of its own looks for it.
        s.wake();
    }
}
