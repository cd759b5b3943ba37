//! Replies on their way back to the client: written straight from the node's read buffer when nothing is queued.
//!
//! Called by connections' tasks. Must not dispatch requests: it notes what came and wakes the session's own task.

use super::Session;
use super::kind::Kind;
use super::settle::{self, Settled};
use super::state::{Park, Side, Silence, State};
use super::unit;
use crate::command;
use crate::config::UnknownOutcome;
use crate::metrics::Count;
use crate::resp::{Args, request};
use crate::socket;
use crate::topology::Hint;
use crate::upstream::refusal::{self, Refusal};
use crate::upstream::{Lost, Receiver, Times};

impl Receiver for Session {
    #[inline]
    fn replies(&self, bytes: &[u8], n: u32, times: &Times) {
        let s = &mut *self.state.borrow_mut();
        s.stuck_since = None;
        s.tries = 0;
        s.seen.answered();
        s.own.heard();
        if s.held.is_some() && self.keep(s, bytes, n, times) {
            return;
        }
        self.answered(s, n, times);
        self.push(s, bytes);
    }

    fn room(&self) {
        let s = &mut *self.state.borrow_mut();
        s.awaits_room = None;
        s.wake();
    }

    fn piece(&self, bytes: &[u8], done: bool, times: &Times) -> usize {
        let s = &mut *self.state.borrow_mut();
        s.seen.answered();
        s.own.heard();
        // On a spoiled connection a large reply is one that was executed behind what was refused: that stays refused.
        for before in std::mem::take(&mut s.settled) {
            self.stand(s, &before.reply);
        }
        (s.backlogged, s.torn) = (!done, !done);
        if s.held.is_none() || !self.keep_piece(s, bytes, done, times) {
            if done {
                self.answered(s, 1, times);
            }
            self.push(s, bytes);
        }
        if done {
            self.mend(s);
        }
        if s.dead { 0 } else { s.waiting_out() }
    }

    fn settle(&self, request: &[u8], reply: &[u8], node: u16, late: bool) {
        let s = &mut *self.state.borrow_mut();
        s.in_flight = s.in_flight.saturating_sub(1);
        let refused = refusal::of(reply).filter(|r| *r != Refusal::NoScript || self.can_heal(request));
        match refused {
            Some(Refusal::ReadOnly | Refusal::Redirect) => {
                // A read that may write after all (FCALL_RO): the master will say what is wrong with it.
                s.stale = true;
                self.front.view.suspect(Hint::Demoted(node));
            }
            Some(Refusal::Loading | Refusal::MasterDown) => self.front.view.suspect(Hint::Unready(node)),
            Some(Refusal::NoReplicas) => self.front.cells.count(Count::NoReplicas, 1),
            Some(Refusal::NoScript) | None => {}
        }
        s.short_of_replicas = refused == Some(Refusal::NoReplicas);
        if refused.is_none() {
            s.own.heard();
        }
        s.settled.push(Settled {
            request: request.to_vec(),
            reply: reply.to_vec(),
            refused: refused.is_some(),
            idempotent: unit::opens(request) || self.is_idempotent(request),
            opens: unit::opens(request),
            closes: unit::closes(request),
            late,
        });
        s.avoid = Some(node);
        if s.unanswered() == 0 {
            s.tries += 1;
            s.own.gave_up();
            self.conclude(s);
        }
        s.wake();
    }

    fn takes_back(&self, request: &[u8]) -> bool {
        self.can_heal(request)
    }

    fn rejected(&self) {
        // The user is gone or has another password: Redis too cuts such connections (ACL DELUSER).
        self.state.borrow_mut().die();
    }

    fn returned(&self, requests: &[u8], node: u16) {
        let s = &mut *self.state.borrow_mut();
        for request in request::each(requests) {
            s.in_flight = s.in_flight.saturating_sub(1);
            self.count_retry(request);
            s.returned.extend_from_slice(request);
        }
        if s.unanswered() == 0 {
            s.own.gave_up();
        }
        s.avoid = Some(node);
        s.wake();
    }

    fn stale(&self, requests: &[u8], node: u16) {
        let s = &mut *self.state.borrow_mut();
        for request in request::each(requests) {
            s.in_flight = s.in_flight.saturating_sub(1);
            s.returned.extend_from_slice(request);
        }
        self.front.cells.count(Count::StaleReads, 1);
        s.stale = true;
        // Staying where it was sent is for what was answered there.
        if !s.seen.unsent() {
            s.seen.leave();
        }
        s.avoid = Some(node);
        s.tries += 1;
        if s.unanswered() == 0 {
            self.conclude(s);
        }
        s.wake();
    }

    fn lost(&self, lost: &Lost, node: u16) {
        let s = &mut *self.state.borrow_mut();
        self.conclude(s);
        s.own.gave_up();
        match lost.whole {
            true => self.lost_whole(s, lost),
            false => self.lost_run(s, lost),
        }
        s.avoid = Some(node);
        // Of reads that were not answered nothing was seen: they need what they needed before, and not that node.
        let clear = !s.behind_write && s.seen.unsent();
        s.behind_write |= s.side == Side::Master && !clear;
        s.short_of_replicas = false;
        s.tries += 1;
        s.wake();
    }
}

impl Session {
    fn lost_run(&self, s: &mut State, lost: &Lost) {
        for request in request::each(lost.written) {
            s.in_flight = s.in_flight.saturating_sub(1);
            if lost.torn {
                s.die();
            } else if !self.is_idempotent(request) {
                self.front.cells.count(Count::UnknownOutcome, 1);
                self.unanswered(s, 1);
            } else {
                self.front.cells.count(Count::RetriedReads, 1);
                s.replay.extend_from_slice(request);
            }
        }
        self.again(s, lost.unwritten);
    }

    /// A transaction did nothing while its EXEC was not written.
    fn lost_whole(&self, s: &mut State, lost: &Lost) {
        let executed = lost.unwritten.is_empty();
        // A user who may not MULTI has each request carried out as it comes.
        let harmless = request::each(lost.written).skip(1).all(|request| self.is_idempotent(request));
        if lost.torn || !harmless {
            let n = request::each(lost.written).chain(request::each(lost.unwritten)).count();
            s.in_flight = s.in_flight.saturating_sub(n as u32);
            if executed || !harmless {
                self.front.cells.count(Count::UnknownOutcome, 1);
            }
            return if lost.torn { s.die() } else { self.unanswered(s, n) };
        }
        self.again(s, lost.written);
        self.again(s, lost.unwritten);
    }

    /// Nobody knows what became of `n` requests: their errors have their turn among what is sent again, or the session ends.
    fn unanswered(&self, s: &mut State, n: usize) {
        match self.front.listener.holding.unknown_outcome {
            UnknownOutcome::Close => s.die(),
            UnknownOutcome::Error => s.replay.extend(unit::UNANSWERED.repeat(n)),
        }
    }

    fn again(&self, s: &mut State, requests: &[u8]) {
        for request in request::each(requests) {
            s.in_flight = s.in_flight.saturating_sub(1);
            self.count_retry(request);
            s.replay.extend_from_slice(request);
        }
    }

    #[inline]
    fn answered(&self, s: &mut State, n: u32, times: &Times) {
        let cells = &self.front.cells;
        cells.request.observe_ns(times.whole_ns, u64::from(n));
        cells.upstream.observe_ns(times.upstream_ns, u64::from(n));
        self.landed(s, n);
    }

    /// `n` fewer replies are on their way.
    #[inline]
    pub(super) fn landed(&self, s: &mut State, n: u32) {
        let before = s.in_flight;
        s.in_flight = before.saturating_sub(n);
        let throttled = before >= self.front.limits.pipeline as u32;
        if throttled || (s.in_flight == 0 && (s.park == Park::Drain || s.closing || s.rescan || s.must_send_again())) {
            s.wake();
        }
    }

    /// Hands reply bytes to the client, keeping what its socket does not take.
    #[inline]
    pub(super) fn push(&self, s: &mut State, bytes: &[u8]) {
        if s.silence == Silence::Not {
            self.write(s, bytes);
        }
    }

    #[inline]
    pub(super) fn write(&self, s: &mut State, bytes: &[u8]) {
        if s.dead {
            return;
        }
        self.front.cells.count(Count::BytesToClients, bytes.len() as u64);
        let written = if !s.out.is_empty() {
            0
        } else {
            match socket::try_send(&s.stream, bytes) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(_) => return s.die(),
            }
        };
        if written < bytes.len() {
            s.out.push(&bytes[written..]);
            if s.out.len() > self.front.limits.client_output_bytes {
                self.front.cells.count(Count::SlowClients, 1);
                tracing::warn!(id = self.id, "a client that reads too slowly was disconnected");
                s.die();
            }
            s.wake();
        }
    }

    /// Everything on the spoiled connection is back: answer what is settled, keep the rest to be sent again.
    fn conclude(&self, s: &mut State) {
        let mut settled = std::mem::take(&mut s.settled);
        let (certain, unknown) = settle::before_late(&settled);
        if unknown {
            self.front.cells.count(Count::UnknownOutcome, 1);
            return s.die();
        }
        let answered = settle::answered(&settled).min(certain);
        for done in &settled[..answered] {
            self.stand(s, &done.reply);
        }
        if settle::doubtful(&settled[answered..]).is_some() {
            s.doubt.extend(settled.drain(answered..));
            return;
        }
        if let Some(first) = settled[answered..].iter().find(|again| again.refused) {
            self.note_missing(s, &first.request, &first.reply);
        }
        for again in &settled[answered..] {
            self.count_retry(&again.request);
            s.replay.extend_from_slice(&again.request);
        }
    }

    /// A reply that came with its request and is the client's after all.
    pub(super) fn stand(&self, s: &mut State, reply: &[u8]) {
        s.seen.answered();
        if s.held.is_none() || !self.keep_settled(s, reply) {
            self.push(s, reply);
        }
    }

    pub(super) fn count_retry(&self, request: &[u8]) {
        let what = if self.is_idempotent(request) { Count::RetriedReads } else { Count::RetriedWrites };
        self.front.cells.count(what, 1);
    }

    fn is_idempotent(&self, request: &[u8]) -> bool {
        self.front.memo.get(request).map_or_else(|| self.plain_kind(request), |known| known.kind).is_idempotent()
    }

    /// The kind of a complete request.
    #[inline]
    pub(super) fn kind(&self, request: &[u8]) -> Kind {
        match self.front.memo.get(request) {
            Some(known) => known.kind,
            None => self.look_up(request),
        }
    }

    fn look_up(&self, request: &[u8]) -> Kind {
        let verdict = command::classify(Args::new(request));
        if self.front.rules.concern(request) {
            if let Some(command) = verdict.command {
                self.front.memo.put(request, command, Kind::Alone);
            }
            return Kind::Alone;
        }
        if self.needs_turn(&verdict, request) { Kind::Alone } else { self.plain_kind(request) }
    }
}
