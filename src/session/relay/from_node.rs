//! Frames of a pinned session's own connection, back to its client.
//!
//! Must not hold a large reply. Invariant: every frame is counted once, as the answer it is or as none.

use std::task::{Context, Poll, ready};

use super::queued::{QUEUED, Queued};
use super::{End, Relay, Repeat, Sent, unblock};
use crate::metrics::Count;
use crate::resp::Found;
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
        match ready!(self.buffer.poll_fill(&mut self.lease.stream, cx)) {
            Ok(n) if n > 0 => session.front.cells.count(Count::BytesFromNodes, n as u64),
            _ => return Poll::Ready(Some(End::Lost)),
        }
        loop {
            let input = self.buffer.filled();
            if input.is_empty() {
                return Poll::Ready(None);
            }
            match self.scanner.scan(input) {
                Found::Whole { len } => {
                    let frame = self.piece.take().unwrap_or_else(|| self.frame(s.resp, &input[..len]));
                    let bytes = input[..len].to_vec();
                    self.buffer.consume(len);
                    if let Some(end) = self.pass(session, s, frame, &bytes) {
                        return Poll::Ready(Some(end));
                    }
                }
                Found::Part { ready } if ready > 0 && (self.buffer.is_full() || self.piece.is_some()) => {
                    if self.piece.is_none() {
                        self.piece = Some(self.frame(s.resp, &input[..ready]));
                        if self.queued.must_be_seen() {
                            // Whether they went through would have to be found in what is passed on piece by piece.
                            return Poll::Ready(Some(End::Close));
                        }
                        if pubsub::begins_confirmation(&input[..ready]) {
                            self.pin.forget_names();
                        }
                        for done in std::mem::take(&mut self.settled) {
                            session.push(s, &done.reply);
                        }
                    }
                    session.push(s, &input[..ready]);
                    self.buffer.consume(ready);
                    self.scanner.passed(ready);
                }
                Found::Part { .. } => return Poll::Ready(None),
                Found::Garbage => return Poll::Ready(Some(End::Close)),
            }
        }
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
        match expected {
            Some(Expect::Restored) if failed && frame == Frame::Reply => return self.unrestored(bytes),
            Some(Expect::Swallow | Expect::Restored) => return None,
            Some(Expect::Id) => {
                self.lease.id = Some(unblock::id(bytes));
                return None;
            }
            _ => {}
        }
        self.stuck = None;
        let request = sent.as_ref().map_or(&[][..], |sent| &sent.bytes);
        match expected {
            Some(Expect::Abort) => {
                session.push(s, errors::EXECABORT);
                s.silence.end_next();
                return None;
            }
            Some(Expect::Login) if !failed => return self.log_in(session, s, request, bytes),
            _ => {
                if let Err(end) = self.learn(session, s, expected, request, bytes) {
                    return Some(end);
                }
            }
        }
        if sent.is_some() && expected != Some(Expect::Tracking) {
            self.pin.caching_spent();
        }
        if let Some(sent) = sent {
            if frame == Frame::Reply && self.is_held_back(session, &sent, expected, bytes) {
                return None;
            }
            self.settle_as_is(session, s);
            session.push_frame(s, frame, bytes);
            // SKIP is for one reply, and the session may stay pinned for many.
            s.silence.end_next();
        } else {
            if matches!(frame, Frame::Confirmed { .. }) {
                self.settle_as_is(session, s);
            }
            session.push_frame(s, frame, bytes);
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

    /// What an answer means to the session.
    ///
    /// # Errors
    /// The end of a session of which it is not known whose it is.
    fn learn(
        &mut self,
        session: &Session,
        s: &mut State,
        expected: Option<Expect>,
        request: &[u8],
        reply: &[u8],
    ) -> Result<(), End> {
        match expected {
            Some(Expect::Select(db)) if reply == errors::OK => s.db = db,
            Some(Expect::Multi) if reply.first() == Some(&b'-') => self.pin.multi_failed(),
            Some(Expect::Multi) => self.queued = Queued::default(),
            Some(Expect::Tracking) if reply == errors::OK => self.pin.tracking(request),
            Some(Expect::Monitor) if reply == errors::OK => self.pin.begin_monitor(),
            Some(Expect::Exec) if std::mem::take(&mut self.blind) => return Err(End::Over),
            Some(Expect::Exec) => {
                if let Some((queued, elements)) = self.queued.subscriptions(reply) {
                    self.pin.executed(queued, &elements, session.front.limits.client_output_bytes);
                }
                for (login, answer) in std::mem::take(&mut self.queued).logins(reply) {
                    if session.greeted_pinned(s, &login, answer).is_none() {
                        return Err(End::Over);
                    }
                }
            }
            None if reply == QUEUED => self.queued.note(request),
            _ => {}
        }
        Ok(())
    }

    /// AUTH or HELLO has succeeded.
    fn log_in(&self, session: &Session, s: &mut State, request: &[u8], reply: &[u8]) -> Option<End> {
        let Some(reply) = session.greeted_pinned(s, request, reply) else {
            // The node knows somebody else by now than redweir does.
            session.push(s, errors::LOGINS_FULL);
            return Some(End::Over);
        };
        session.push(s, &reply);
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
        self.settled.push(Settled { request, reply: reply.to_vec(), refused, idempotent, opens: false, closes: false });
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

    /// Everything sent is answered: passes on what stands, keeps the rest to be sent again. True: there is such a rest.
    pub(super) fn conclude(&mut self, session: &Session, s: &mut State) -> bool {
        let settled = std::mem::take(&mut self.settled);
        let overdue = self.stuck.is_some_and(|since| since.elapsed() >= session.front.listener.hold);
        let stands = if overdue { settled.len() } else { settle::answered(&settled) };
        for (i, done) in settled.into_iter().enumerate() {
            if i < stands {
                session.push(s, &done.reply);
                s.silence.end_next();
            } else {
                self.again.push(Repeat::again(done.request));
            }
        }
        !self.again.is_empty()
    }

    /// Something behind what was refused cannot wait: the refusals stand.
    fn settle_as_is(&mut self, session: &Session, s: &mut State) {
        for done in std::mem::take(&mut self.settled) {
            session.push(s, &done.reply);
            s.silence.end_next();
        }
    }
}

impl Session {
    fn push_frame(&self, s: &mut State, frame: Frame, bytes: &[u8]) {
        // Subscribers hear even what is said in silence (networking.c prepareClientToWrite: CLIENT_PUSHING).
        let silence = s.silence;
        if frame != Frame::Reply {
            s.silence = Silence::Not;
        }
        self.push(s, bytes);
        s.silence = silence;
    }
}
