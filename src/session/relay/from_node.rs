//! Frames of a pinned session's own connection, back to its client.
//!
//! Must not hold a large reply. Invariant: every frame is counted once, as the answer it is or as none.

use std::task::{Context, Poll, ready};

use super::{End, Relay};
use crate::metrics::Count;
use crate::resp::Found;
use crate::session::pin::Expect;
use crate::session::pubsub::{self, Frame};
use crate::session::state::{Silence, State};
use crate::session::{Session, errors};

impl Relay {
    /// Reads from the node and passes frames on.
    pub(super) fn poll_node(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<Option<End>> {
        match ready!(self.buffer.poll_fill(&mut self.lease.stream, cx)) {
            Ok(n) if n > 0 => session.front.cells.count(Count::BytesFromNodes, n as u64),
            _ => return Poll::Ready(Some(End::Over)),
        }
        loop {
            let input = self.buffer.filled();
            if input.is_empty() {
                return Poll::Ready(None);
            }
            match self.scanner.scan(input) {
                Found::Whole { len } => {
                    let frame = self
                        .piece
                        .take()
                        .unwrap_or_else(|| pubsub::frame(&input[..len], self.pin.listens() && s.resp < 3));
                    let bytes = input[..len].to_vec();
                    self.buffer.consume(len);
                    if let Some(end) = self.pass(session, s, frame, &bytes) {
                        return Poll::Ready(Some(end));
                    }
                }
                Found::Part { ready } if ready > 0 && (self.buffer.is_full() || self.piece.is_some()) => {
                    if self.piece.is_none() {
                        self.piece = Some(pubsub::frame(&input[..ready], self.pin.listens() && s.resp < 3));
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

    /// One whole frame (or the last piece of one) for the client.
    fn pass(&mut self, session: &Session, s: &mut State, frame: Frame, bytes: &[u8]) -> Option<End> {
        let expected = self.pin.expected(frame);
        let answered = self.pin.received(frame);
        self.accepted |= bytes.first() != Some(&b'-');
        if answered {
            self.observe(session);
        }
        match expected {
            Some(Expect::Swallow) => return None,
            Some(Expect::Abort) => {
                session.push(s, errors::EXECABORT);
                s.silence.end_next();
                return None;
            }
            Some(Expect::Select(db)) if bytes == errors::OK => s.db = db,
            Some(Expect::Multi) if bytes.first() == Some(&b'-') => self.pin.multi_failed(),
            _ => {}
        }
        // Subscribers hear even what is said in silence (networking.c prepareClientToWrite: CLIENT_PUSHING).
        let silence = s.silence;
        if frame != Frame::Reply {
            s.silence = Silence::Not;
        }
        session.push(s, bytes);
        s.silence = silence;
        if answered {
            // SKIP is for one reply, and the session may stay pinned for many.
            s.silence.end_next();
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

    /// Counts the latency of the oldest request, unless it may have blocked: that is the client's wish, not latency.
    fn observe(&mut self, session: &Session) {
        if let (Some(since), false) = (self.since.pop_front(), self.pin.blocks) {
            session.front.cells.request.observe(since.elapsed(), 1);
            session.front.cells.upstream.observe(since.elapsed(), 1);
        }
    }
}
