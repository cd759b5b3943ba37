//! From bytes to runs: reads from the client, finds requests, groups neighbours that go the same way.
//!
//! The session's one task runs this. Must not block and must not decode more than a request's name.
//! Invariant: requests are taken in order; what cannot go on its way stays in `input` and is looked at again.

mod parked;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio_util::io::poll_read_buf;

use super::dispatch::{Go, Run};
use super::kind::Kind;
use super::state::{Park, Silence, State};
use super::{Session, Turn, unit};
use crate::metrics::{Count, Tick};
use crate::resp::{Args, Scan, encode, inline};
use crate::socket;
use crate::upstream::PIECE;

/// Read beyond what is missing of a request.
const SPARE: usize = 4096;
/// Read at once when nothing says that there is more: many who begin together stay within what may be before a node. Two requests
/// of 16 KiB with their headers: so many keep the piece they are read into.
const FIRST: usize = 36 * 1024;
/// Likewise when there is, of small requests: more of them than `max-pipeline` by much would be taken at once.
const NEXT: usize = 64 * 1024;
/// Failed sends of the same requests after which the next one waits a moment.
const TRIES: u32 = 3;

/// What stopped the walk through the input.
enum Stop {
    /// Nothing whole is left.
    Hungry,
    Parked,
    Turn(Turn),
}

impl Session {
    /// The session's steady state: until something needs its own task's full attention.
    pub(super) fn poll_turn(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        let s = &mut *self.state.borrow_mut();
        if !s.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            s.waker = Some(cx.waker().clone());
        }
        // Later reads of one turn count towards it, so that no client takes all the worker's time.
        let mut woken = true;
        loop {
            if s.dead || self.poll_out(s, cx).is_err() {
                return Poll::Ready(Turn::Close);
            }
            if s.out.len() > self.front.limits.client_output_bytes / 2
                || s.in_flight >= self.front.limits.pipeline as u32
            {
                s.leave_unread();
                return Poll::Pending;
            }
            if s.in_flight == 0 && s.must_send_again() {
                if !s.doubt.is_empty() {
                    return Poll::Ready(Turn::Doubt);
                }
                if s.tries > TRIES && s.park == Park::Not {
                    self.park(s, Park::Hold, s.replay.len() + s.returned.len());
                }
                if s.park == Park::Drain {
                    // Not drained after all: a request whose reply is to be left out is among them.
                    s.park = Park::Not;
                }
                s.take_again();
            }
            if s.park != Park::Not && !self.poll_unpark(s, cx) {
                return Poll::Pending;
            }
            if s.rescan {
                s.rescan = false;
                let mut input = std::mem::take(&mut s.input);
                let now = self.front.clock.now();
                let (consumed, stop) = self.walk(s, &input, now);
                input.drain(..consumed);
                s.input = input;
                match self.after_walk(s, stop) {
                    Some(turn) => return Poll::Ready(turn),
                    None => continue,
                }
            }
            self.end_refusal(s);
            if s.closing {
                let done = s.in_flight == 0 && s.out.is_empty() && !s.must_send_again();
                return if done { Poll::Ready(Turn::Close) } else { Poll::Pending };
            }
            if self.waits_for_room(s) {
                return Poll::Pending;
            }
            match ready!(self.poll_input(s, cx, std::mem::take(&mut woken))) {
                Some(turn) => return Poll::Ready(turn),
                None => continue,
            }
        }
    }

    /// One read and what it brings.
    #[inline]
    fn poll_input(self: &Rc<Self>, s: &mut State, cx: &mut Context<'_>, woken: bool) -> Poll<Option<Turn>> {
        // In the middle of a pipeline what is left of the last read comes along: large requests stay in the piece they are read into.
        let here = s.input.is_empty() || s.more && s.input.len() <= PIECE / 2 && s.needs <= PIECE;
        if !here {
            return self.poll_more(s, cx);
        }
        let large = !s.input.is_empty() && s.needs.max(s.input.len()) > SPARE;
        let most = match s.more {
            false => FIRST,
            true if large => PIECE,
            true => NEXT,
        };
        let read = ready!(self.front.pool.pieces().fill(&s.input, most, |room| match woken {
            true => socket::poll_first_recv(&s.stream, cx, room),
            false => socket::poll_recv(&s.stream, cx, room),
        }));
        let Ok(bytes) = read else { return Poll::Ready(Some(Turn::Close)) };
        if !self.arrived(s, bytes.len() - s.input.len()) {
            return Poll::Ready(None);
        }
        if s.in_flight == 0 && !s.more {
            s.behind_write = false;
        }
        s.more = bytes.len() == most;
        let (consumed, stop) = self.walk(s, &bytes, self.front.clock.now());
        s.input.clear();
        s.input.extend_from_slice(&bytes[consumed..]);
        let turn = self.after_walk(s, stop);
        if turn.is_none() && s.only_waits() {
            // What another look at everything would come to. An error is the next read's.
            let _ = ready!(s.stream.poll_read_ready(cx));
        }
        Poll::Ready(turn)
    }

    /// One read behind a request that has arrived in part, without a copy in between.
    fn poll_more(self: &Rc<Self>, s: &mut State, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        // A little more than is missing: a read that fills its buffer would be asked for more at once, in vain. One that was filled
        // was one of several requests: as much as there is.
        let missing = s.needs.saturating_sub(s.input.len()) + SPARE;
        s.input.reserve(if s.more { PIECE } else { missing.min(PIECE) });
        let Ok(n) = ready!(poll_read_buf(Pin::new(&mut s.stream), cx, &mut s.input)) else {
            return Poll::Ready(Some(Turn::Close));
        };
        s.more = s.input.len() == s.input.capacity();
        if !self.arrived(s, n) {
            return Poll::Ready(None);
        }
        let mut input = std::mem::take(&mut s.input);
        let (consumed, stop) = self.walk(s, &input, self.front.clock.now());
        input.drain(..consumed);
        s.input = input;
        Poll::Ready(self.after_walk(s, stop))
    }

    /// Counts the `n` bytes that were read; false: there will be no more.
    #[inline]
    fn arrived(&self, s: &mut State, n: usize) -> bool {
        s.closing |= n == 0;
        self.front.cells.count(Count::BytesFromClients, n as u64);
        n > 0
    }

    fn after_walk(&self, s: &mut State, stop: Stop) -> Option<Turn> {
        match stop {
            Stop::Hungry => {
                if s.input.is_empty() && s.input.capacity() > 0 {
                    s.input = Vec::new();
                }
                None
            }
            Stop::Parked => {
                s.scanner.reset();
                None
            }
            Stop::Turn(turn) => {
                s.scanner.reset();
                s.rescan = true;
                Some(turn)
            }
        }
    }

    /// Takes requests from `buf` until none is whole, one must wait, or one needs the session's own task. Returns how many
    /// bytes were dealt with.
    #[inline]
    fn walk(self: &Rc<Self>, s: &mut State, buf: &[u8], now: Tick) -> (usize, Stop) {
        s.active = now;
        let mut run = Run::at(0);
        loop {
            if run.end == buf.len() && s.scanner.is_between() {
                return self.go(s, buf, &run, now).unwrap_or((run.end, Stop::Hungry));
            }
            let (scan, known) = self.look(s, &buf[run.end..]);
            match scan {
                Scan::Request { len } => {
                    let request = &buf[run.end..run.end + len];
                    let kind = known.unwrap_or_else(|| self.kind(request));
                    let hopeless = s.tries > TRIES || !matches!(kind, Kind::Read);
                    let refused = s.refusing && hopeless && kind != Kind::Alone;
                    if kind == Kind::Alone || refused {
                        if let Some(stopped) = self.go(s, buf, &run, now) {
                            return stopped;
                        }
                        if refused {
                            if s.in_flight > 0 {
                                s.park = Park::Drain;
                                return (run.end, Stop::Parked);
                            }
                            self.refuse_held(s);
                            run = Run::at(run.end + len);
                            continue;
                        }
                        if let Some(unit) = self.unit(s, buf, run.end) {
                            if let Some(stopped) = self.go_unit(s, buf, &unit, now) {
                                return stopped;
                            }
                            run = Run::at(unit.end);
                            continue;
                        }
                        let turn = Turn::Command(request.into());
                        return (run.end + len, Stop::Turn(turn));
                    }
                    run.add(len, kind);
                    if s.silence == Silence::Next {
                        // Alone, so that only its reply is left out.
                        if let Some(stopped) = self.go(s, buf, &run, now) {
                            return stopped;
                        }
                        s.park = Park::Drain;
                        return (run.end, Stop::Parked);
                    }
                }
                Scan::Incomplete { needs } => {
                    if let Some(stopped) = self.go(s, buf, &run, now) {
                        return stopped;
                    }
                    let have = buf.len() - run.end;
                    s.needs = needs;
                    if have > 0 && self.streams(&buf[run.end..], needs) {
                        return (run.end, Stop::Turn(Turn::Large));
                    }
                    return (run.end, Stop::Hungry);
                }
                odd => {
                    if let Some(stopped) = self.go(s, buf, &run, now) {
                        return stopped;
                    }
                    match self.odd(s, (buf, run.end), odd, now) {
                        Ok(next) => run = Run::at(next),
                        Err(stopped) => return stopped,
                    }
                }
            }
        }
    }

    /// What is at the front of `input`, and its kind where that is known by its header.
    #[inline]
    fn look(&self, s: &mut State, input: &[u8]) -> (Scan, Option<Kind>) {
        let known = if s.scanner.is_between() { self.front.memo.get(input) } else { None };
        if let Some(known) = known {
            s.scanner.begin_behind(known.args, known.len);
        }
        (s.scanner.scan(input), known.map(|known| known.kind))
    }

    /// The transaction at `at`, when it may go as one run.
    fn unit(&self, s: &State, buf: &[u8], at: usize) -> Option<Run> {
        if s.silence == Silence::Next || self.front.rules.concern_transactions() {
            return None;
        }
        unit::whole(buf, at, s.scanner.clone(), |request| self.kind_in_unit(request))
    }

    /// Sends a transaction on its way, or refuses it as a whole when what it waited for did not come.
    fn go_unit(self: &Rc<Self>, s: &mut State, buf: &[u8], unit: &Run, now: Tick) -> Option<(usize, Stop)> {
        if !s.refusing {
            return self.go(s, buf, unit, now);
        }
        if s.in_flight > 0 {
            s.park = Park::Drain;
            return Some((unit.start, Stop::Parked));
        }
        (0..unit.n).for_each(|_| self.refuse_held(s));
        None
    }

    /// Sends the run on its way; `Some` when it (or what follows) has to wait.
    #[inline]
    fn go(self: &Rc<Self>, s: &mut State, buf: &[u8], run: &Run, now: Tick) -> Option<(usize, Stop)> {
        if run.n == 0 {
            return None;
        }
        match self.dispatch(s, &buf[run.start..run.end], run, now) {
            Go::Sent => None,
            Go::Wait(park) => {
                self.park(s, park, buf.len() - run.start);
                Some((run.start, Stop::Parked))
            }
        }
    }

    /// Input that is no multibulk request: inline lines, nothings, violations.
    fn odd(
        self: &Rc<Self>,
        s: &mut State,
        (buf, at): (&[u8], usize),
        scan: Scan,
        now: Tick,
    ) -> Result<usize, (usize, Stop)> {
        match scan {
            Scan::Nothing { len } => Ok(at + len),
            Scan::Inline { len } => {
                let line = &buf[at..at + len - 1];
                match inline::to_array(line.strip_suffix(b"\r").unwrap_or(line)) {
                    Ok(request) if request.is_empty() => Ok(at + len),
                    Ok(request) => self.typed(s, &request, (at, at + len), now),
                    Err(violation) => Err((at, Stop::Turn(Turn::Invalid(violation)))),
                }
            }
            Scan::Ragged { len } => Err((at + len, Stop::Turn(Turn::Inline(mended(&buf[at..at + len]))))),
            Scan::Invalid(violation) if self.forgives(s, violation) => Ok(at),
            Scan::Invalid(violation) => Err((at, Stop::Turn(Turn::Invalid(violation)))),
            Scan::Request { .. } | Scan::Incomplete { .. } => Ok(at),
        }
    }

    /// A request that came as a line, at `at` up to `next` of the input: a run of its own.
    fn typed(
        self: &Rc<Self>,
        s: &mut State,
        request: &[u8],
        (at, next): (usize, usize),
        now: Tick,
    ) -> Result<usize, (usize, Stop)> {
        let kind = self.kind(request);
        if kind == Kind::Alone || s.refusing || s.silence == Silence::Next {
            // The long way: it becomes an array at the front of the input.
            return Err((next, Stop::Turn(Turn::Inline(request.to_vec()))));
        }
        let mut run = Run::at(0);
        run.add(request.len(), kind);
        match self.dispatch(s, request, &run, now) {
            Go::Sent => Ok(next),
            Go::Wait(park) => {
                self.park(s, park, request.len());
                Err((at, Stop::Parked))
            }
        }
    }

    /// Writes what is queued. `Err`: the client is gone.
    #[inline]
    pub(super) fn poll_out(&self, s: &mut State, cx: &mut Context<'_>) -> io::Result<()> {
        if s.out.is_empty() && !s.backlogged { Ok(()) } else { self.poll_queued(s, cx) }
    }

    fn poll_queued(&self, s: &mut State, cx: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(done) = s.out.poll_write(&mut s.stream, cx) {
            done?;
        } else {
            return Ok(());
        }
        if s.backlogged {
            s.backlogged = false;
            if let Some(conn) = &s.conn {
                conn.resume();
            }
        }
        Ok(())
    }
}

/// A request as it should have been written.
pub(super) fn mended(request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len());
    encode::request(&mut out, Args::new(request).collect::<Vec<_>>().into_iter());
    out
}
