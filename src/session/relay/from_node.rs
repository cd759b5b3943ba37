//! Frames of a pinned session's own connection, back to its client.
//!
//! Must not hold a large reply. Invariant: every frame is counted once, as the answer it is or as none.

use std::task::{Context, Poll, ready};

use super::queued::{QUEUED, Queued};
use super::{End, FULL, Relay, Repeat, Sent, unblock};
use crate::command::{self, Class};
use crate::metrics::Count;
use crate::resp::{Args, Found, ReplyScanner};
use crate::route::Want;
use crate::session::pin::Expect;
use crate::session::pin::again::Again;
use crate::session::pubsub::{self, Frame};
use crate::session::settle::{self, Settled};
use crate::session::state::{Silence, State};
use crate::session::{Session, errors};
use crate::topology::Hint;
use crate::upstream::refusal::{self, Refusal};

impl Relay {
    /// Reads from the node and passes frames on.
    pub(super) fn poll_node(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if self.concluding && s.asking {
            return Poll::Pending;
        }
        if self.is_withheld(session) {
            return self.keep_back(session, cx);
        }
        if std::mem::take(&mut self.concluding) {
            // What came behind EXEC, from either side, was not looked at.
            return Poll::Ready(self.take_frames(session, s));
        }
        let unseen = self.withheld.release();
        if !unseen || self.buffer.filled().is_empty() {
            match ready!(self.buffer.poll_fill(&self.lease.stream, cx)) {
                Ok(n) if n > 0 => session.front.cells.count(Count::BytesFromNodes, n as u64),
                _ => return Poll::Ready(Some(End::Lost)),
            }
        }
        Poll::Ready(self.take_frames(session, s))
    }

    /// Passes on what is in the buffer.
    fn take_frames(&mut self, session: &Session, s: &mut State) -> Option<End> {
        loop {
            let input = self.buffer.filled();
            if input.is_empty() || self.concluding {
                return None;
            }
            match self.scanner.scan(input) {
                Found::Whole { len } => {
                    let piece = self.piece.take();
                    let torn = piece.is_some();
                    let frame = piece.unwrap_or_else(|| self.frame(s.resp, &input[..len]));
                    let whole = if torn { Some(len) } else { self.with_what_spills(frame, input, len) };
                    let Some(len) = whole else { return self.wait_for_more(session) };
                    let bytes = input[..len].to_vec();
                    if frame == Frame::Reply && !torn && self.is_doubtful(&bytes) {
                        return Some(End::Lost);
                    }
                    self.buffer.consume(len);
                    self.withheld.passed(len);
                    let end = self.pass(session, s, frame, &bytes);
                    if torn {
                        s.held_torn();
                    }
                    if let Some(end) = end {
                        return Some(end);
                    }
                    if piece.is_some() {
                        session.mend(s);
                    }
                }
                Found::Part { .. } if self.buffer.is_full() && self.must_be_whole(input) => {
                    return self.wait_for_more(session);
                }
                Found::Part { ready } if ready > 0 && (self.buffer.is_full() || self.piece.is_some()) => {
                    if self.piece.is_none() {
                        self.piece = Some(self.frame(s.resp, &input[..ready]));
                        s.torn = true;
                        if pubsub::begins_confirmation(&input[..ready]) {
                            self.pin.forget_names();
                        }
                        self.settle_as_is(session, s);
                    }
                    let input = self.buffer.filled();
                    let frame = self.piece.unwrap_or(Frame::Reply);
                    let write = self.acknowledges(frame, self.pin.expected(frame), self.sent.front(), &input[..ready]);
                    session.push_piece(s, frame, &input[..ready], write);
                    self.buffer.consume(ready);
                    self.withheld.passed(ready);
                    self.scanner.passed(ready);
                }
                Found::Part { .. } => return None,
                Found::Garbage => return Some(End::Close),
            }
        }
    }

    /// What is in the buffer is to be seen whole.
    fn wait_for_more(&mut self, session: &Session) -> Option<End> {
        let room = !self.buffer.is_full() || self.buffer.grow(session.kept_bytes().max(FULL));
        // What went through would have to be found in what is passed on piece by piece.
        (!room).then_some(End::Close)
    }

    /// The length of a whole frame of `len` bytes, with what an EXEC says behind its array as far as redweir has to look at it.
    /// `None`: that has not come yet.
    fn with_what_spills(&self, frame: Frame, input: &[u8], mut len: usize) -> Option<usize> {
        let exec = frame == Frame::Reply && self.pin.expected(frame) == Some(Expect::Exec);
        while exec && self.queued.carried_out(&input[..len], self.pin.subscribed()).is_err() {
            match ReplyScanner::default().scan(input.get(len..).filter(|rest| !rest.is_empty())?) {
                Found::Whole { len: more } => len += more,
                Found::Part { .. } => return None,
                Found::Garbage => break,
            }
        }
        Some(len)
    }

    /// It is an EXEC's reply that redweir has to look into.
    fn must_be_whole(&self, input: &[u8]) -> bool {
        let exec = self.piece.is_none() && self.pin.expected(Frame::Reply) == Some(Expect::Exec);
        exec && input.first() == Some(&b'*') && self.queued.must_be_seen()
    }

    fn frame(&self, resp: u8, bytes: &[u8]) -> Frame {
        match self.pin.monitors() && pubsub::is_monitor_line(bytes) {
            true => Frame::Push,
            false => pubsub::frame(bytes, self.pin.listens() && resp < 3),
        }
    }

    /// One whole frame (or the last piece of one) for the client.
    fn pass(&mut self, session: &Session, s: &mut State, frame: Frame, bytes: &[u8]) -> Option<End> {
        let expected = self.pin.expected(frame);
        self.accepted |= bytes.first() != Some(&b'-');
        let sent = if self.pin.received(frame) { self.answered(session) } else { None };
        if matches!(frame, Frame::Confirmed { .. }) {
            self.pin.note(bytes, session.front.limits.client_output_bytes);
        }
        let failed = bytes.first() == Some(&b'-');
        if let Some(end) = self.keep_own(frame, expected, bytes) {
            return end;
        }
        self.stuck = None;
        let request = sent.as_ref().map_or(&[][..], |sent| &sent.bytes);
        let told = if expected == Some(Expect::Redirection) { self.told(bytes) } else { Vec::new() };
        let bytes = if told.is_empty() { bytes } else { &told };
        match expected {
            Some(Expect::Abort) => {
                session.push_frame(s, Frame::Reply, errors::EXECABORT, false);
                s.silence.end_next();
                return None;
            }
            Some(Expect::Login) if !failed => return self.log_in(session, s, request, bytes),
            Some(Expect::Exec) => match self.executed(session, s, bytes) {
                Ok(None) => {}
                Ok(Some(done)) => {
                    self.pin.caching_spent();
                    self.settle_as_is(session, s);
                    self.concluding = session.conclude_exec(s, done);
                    return None;
                }
                Err(end) => return Some(end),
            },
            _ => {
                self.learn(s, expected, request, bytes);
            }
        }
        if sent.is_some() && expected != Some(Expect::Tracking) {
            self.pin.caching_spent();
        }
        if let Some(sent) = sent {
            // Of the request behind the fence alone, whatever becomes of it.
            let unfenced = frame == Frame::Reply && std::mem::take(&mut self.unfenced);
            if frame == Frame::Reply && self.is_held_back(session, &sent, expected, bytes) {
                return None;
            }
            self.settle_as_is(session, s);
            if unfenced && !failed {
                session.wait_aside(s, &sent.bytes, bytes, sent.at);
                return None;
            }
            let write = self.acknowledges(frame, expected, Some(&sent), bytes);
            session.push_frame(s, frame, bytes, write);
            // SKIP is for one reply, and the session may stay pinned for many.
            s.silence.end_next();
        } else {
            if matches!(frame, Frame::Confirmed { .. }) {
                self.settle_as_is(session, s);
            }
            session.push_frame(s, frame, bytes, false);
        }
        match expected {
            Some(Expect::Reset) => Some(End::Reset),
            Some(Expect::Quit) => {
                s.closing = true;
                None
            }
            _ => None,
        }
    }

    /// Takes an answer that no client asked for, and says whether that is the end; `None`: it is the client's.
    fn keep_own(&mut self, frame: Frame, expected: Option<Expect>, bytes: &[u8]) -> Option<Option<End>> {
        let failed = bytes.first() == Some(&b'-');
        match expected? {
            Expect::Restored if failed && frame == Frame::Reply => return Some(self.unrestored(bytes)),
            Expect::Restored => {}
            Expect::Fence => self.unfenced = failed,
            Expect::Id => self.lease.id = Some(unblock::id(bytes)),
            _ => return None,
        }
        Some(None)
    }

    /// What an answer means to the session.
    fn learn(&mut self, s: &mut State, expected: Option<Expect>, request: &[u8], reply: &[u8]) {
        match expected {
            Some(Expect::Select(db)) if reply == errors::OK => s.db = db,
            Some(Expect::Multi) if reply.first() == Some(&b'-') => self.pin.multi_failed(),
            Some(Expect::Multi) => self.queued = Queued::default(),
            Some(Expect::Tracking) if reply == errors::OK => self.tracks(request),
            Some(Expect::Monitor) if reply == errors::OK => self.pin.begin_monitor(),
            None if reply == QUEUED => self.queued.note(request, s.resp >= 3 && self.pin.lasts()),
            _ => {}
        }
    }

    /// AUTH or HELLO has succeeded.
    fn log_in(&self, session: &Session, s: &mut State, request: &[u8], reply: &[u8]) -> Option<End> {
        let Some(reply) = session.greeted_pinned(s, request, reply) else {
            // The node knows somebody else by now than redweir does.
            session.push_frame(s, Frame::Reply, errors::LOGINS_FULL, false);
            return Some(End::Over);
        };
        session.push_frame(s, Frame::Reply, &reply, false);
        s.silence.end_next();
        None
    }

    /// The oldest request is answered. Its latency counts unless it may have blocked: that is the client's wish.
    fn answered(&mut self, session: &Session) -> Option<Sent> {
        let sent = self.sent.pop_front()?;
        self.kept = self.kept.saturating_sub(sent.bytes.len());
        if !self.pin.blocks && sent.again != Again::Ours {
            session.front.cells.request.observe(sent.at.elapsed(), 1);
            session.front.cells.upstream.observe(sent.at.elapsed(), 1);
        }
        Some(sent)
    }

    /// A new connection cannot be brought to the state of the old one: there is yet another to be tried, or none.
    fn unrestored(&mut self, reply: &[u8]) -> Option<End> {
        if refusal::of(reply).is_none() {
            self.pin.forget_names();
        }
        Some(End::Lost)
    }

    /// Whether the reply is to be kept until it is clear what is sent again: it is a refusal, or comes behind one.
    fn is_held_back(&mut self, session: &Session, sent: &Sent, expected: Option<Expect>, reply: &[u8]) -> bool {
        let refused = self.want == Want::Master && self.is_refused(session, sent.again, reply);
        if !refused && self.settled.is_empty() {
            return false;
        }
        let idempotent = sent.again == Again::Always && expected.is_none();
        let request = match sent.again {
            Again::Waiting => Repeat::waiting(sent).now(),
            _ => sent.bytes.clone(),
        };
        self.settled.push(Settled {
            request,
            reply: reply.to_vec(),
            refused,
            idempotent,
            opens: false,
            closes: false,
            late: false,
        });
        true
    }

    fn is_refused(&self, session: &Session, again: Again, reply: &[u8]) -> bool {
        let (view, node) = (&session.front.view, self.lease.target.node);
        // A connection of its own was given the scripts its requests name: one that is missing is nowhere.
        let refusal = refusal::of(reply).filter(|refusal| *refusal != Refusal::NoScript);
        match refusal {
            Some(Refusal::ReadOnly | Refusal::Redirect) => view.suspect(Hint::Demoted(node)),
            Some(Refusal::Loading | Refusal::MasterDown) => view.suspect(Hint::Unready(node)),
            Some(Refusal::NoReplicas) => session.front.cells.count(Count::NoReplicas, 1),
            Some(Refusal::NoScript) | None => {}
        }
        match again {
            Again::Never | Again::Ours => false,
            Again::Waiting if refusal::of_waiting(reply) => {
                view.suspect(Hint::Demoted(node));
                true
            }
            Again::Waiting => refusal.is_some() || (self.parting && refusal::was_unblocked(reply)),
            _ => refusal.is_some(),
        }
    }

    /// What is settled begins with a script whose refusal may be of its own making.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.settled.is_empty() && !self.sure && self.pin.is_quiet() && settle::doubtful(&self.settled).is_some()
    }

    /// Everything sent is answered: passes on what stands, keeps the rest to be sent again. True: there is such a rest.
    pub(super) fn conclude(&mut self, session: &Session, s: &mut State) -> bool {
        let settled = std::mem::take(&mut self.settled);
        let overdue = self.stuck.is_some_and(|since| since.elapsed() >= session.front.listener.hold);
        let doubtful = !std::mem::take(&mut self.sure) && settle::doubtful(&settled).is_some();
        let stands = if overdue || doubtful { settled.len() } else { settle::answered(&settled) };
        for (i, done) in settled.into_iter().enumerate() {
            if i < stands {
                session.push_frame(s, Frame::Reply, &done.reply, !done.idempotent);
                s.silence.end_next();
            } else {
                self.again.push(Repeat::again(done.request));
            }
        }
        !self.again.is_empty()
    }

    /// Something behind what was refused cannot wait: the refusals stand.
    pub(super) fn settle_as_is(&mut self, session: &Session, s: &mut State) {
        for done in std::mem::take(&mut self.settled) {
            session.push_frame(s, Frame::Reply, &done.reply, !done.idempotent);
            s.silence.end_next();
        }
    }

    /// Whether a reply may say that something was written.
    fn acknowledges(&self, frame: Frame, expected: Option<Expect>, sent: Option<&Sent>, reply: &[u8]) -> bool {
        let Some(sent) = sent.filter(|_| frame == Frame::Reply && self.want == Want::Master) else { return false };
        let harmless = matches!(sent.again, Again::Always | Again::Subscription | Again::Ours);
        // WATCH, DISCARD and their like, and who only waits.
        let verdict = command::classify(Args::new(&sent.bytes));
        let waits = verdict.command.is_some_and(|c| matches!(c.name, "wait" | "waitaof"));
        let binds = !sent.bytes.is_empty() && (verdict.class == Class::Session || waits);
        match expected {
            Some(Expect::Exec) => true,
            Some(_) => false,
            None => !harmless && !binds && reply != QUEUED,
        }
    }
}

impl Session {
    /// A whole frame, or what waits in its place; `write`: it may acknowledge one.
    pub(in crate::session) fn push_frame(&self, s: &mut State, frame: Frame, bytes: &[u8], write: bool) {
        if s.held.is_some() && self.keep_frame(s, frame, bytes, write) {
            return;
        }
        if write && bytes.first() != Some(&b'-') {
            self.acknowledged_apart(s);
        }
        // Subscribers hear even what is said in silence (networking.c prepareClientToWrite: CLIENT_PUSHING).
        let silence = s.silence;
        if frame != Frame::Reply {
            s.silence = Silence::Not;
        }
        self.push(s, bytes);
        s.silence = silence;
    }

    fn push_piece(&self, s: &mut State, frame: Frame, bytes: &[u8], write: bool) {
        if s.held.is_some() && self.keep_frame(s, frame, bytes, write) {
            return s.held_torn();
        }
        // Its last piece is a frame like any other, and counts.
        self.push(s, bytes);
    }
}
