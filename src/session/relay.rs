//! A session on a connection of its own: bytes both ways, until it is free again.
//!
//! Also the way of a request too large to be held: it streams through. Must not buffer a large value. Invariant: what a
//! slow side cannot take stops the other side's reading, and nobody else's.

mod from_client;
mod from_node;

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::outbox::Outbox;
use super::pin::Pin;
use super::pubsub::Frame;
use super::state::State;
use super::{Session, kind};
use crate::command;
use crate::metrics::Count;
use crate::resp::{Args, ReplyScanner, Scan};
use crate::route::Want;
use crate::upstream::{Buffer, LaneId, Lease};

/// Bytes queued for one side above which the other is not read.
const FULL: usize = 256 * 1024;

/// How a relay ended.
enum End {
    /// Nothing binds the session to the connection any more.
    Free,
    Close,
    /// The node has closed, having said all it had to say.
    Over,
    /// The client sent RESET and it was answered.
    Reset,
}

struct Relay {
    lease: Lease,
    /// What the connection was lent for.
    want: Want,
    pin: Pin,
    /// Bytes for the node.
    out: Outbox,
    buffer: Buffer,
    scanner: ReplyScanner,
    /// The frame being passed on in pieces.
    piece: Option<Frame>,
    /// A large request is streaming from the client.
    streaming: bool,
    /// The node has answered something without an error.
    accepted: bool,
    eof: bool,
    lost: bool,
    /// When the requests still unanswered were taken.
    since: VecDeque<Instant>,
}

impl Session {
    /// `request` needs a connection of its own.
    pub(super) async fn pin(self: &Rc<Self>, request: &[u8]) -> bool {
        self.state.borrow_mut().input.splice(0..0, request.iter().copied());
        self.relay(Want::Master, Count::Pins).await
    }

    /// The request at the front of the input is too large to be held.
    pub(super) async fn large(self: &Rc<Self>) -> bool {
        let refusal = self.large_refusal(&self.state.borrow().input);
        if let Some(text) = refusal {
            self.reply(&text);
            return self.close_after_replies();
        }
        let read = {
            let s = self.state.borrow();
            let verdict = command::classify(Args::new(&s.input));
            kind::of(&verdict, || None) == kind::Kind::Read
        };
        self.relay(if read { Want::Read } else { Want::Master }, Count::LargeStreams).await
    }

    async fn relay(self: &Rc<Self>, want: Want, what: Count) -> bool {
        let (lane, db) = {
            let s = self.state.borrow();
            (s.lane, s.db)
        };
        let lease = match self.lease_in(lane, want, db).await {
            Ok(lease) => lease,
            Err(text) => return self.refuse_front(&text),
        };
        let cells = &self.front.cells;
        cells.count(what, 1);
        cells.pinned.add(1);
        let mut relay = Relay::new(lease, want);
        let end = std::future::poll_fn(|cx| relay.poll(self, &mut self.state.borrow_mut(), cx)).await;
        cells.pinned.sub(1);
        {
            let s = &mut *self.state.borrow_mut();
            s.scanner.reset();
            s.rescan = true;
            s.closing |= relay.eof;
            s.behind_write |= want == Want::Master;
        }
        match end {
            End::Close => false,
            End::Over => self.close_after_replies(),
            End::Reset => self.reset_after_pin(),
            End::Free => self.free(relay, lane).await,
        }
    }

    /// False: the session must end.
    async fn free(&self, mut relay: Relay, lane: LaneId) -> bool {
        if relay.pin.db_unknown {
            match self.current_db(&mut relay.lease, relay.want).await {
                Some(db) => self.state.borrow_mut().db = db,
                // Not even the session's own database can be told any more.
                None => return false,
            }
        }
        if !relay.pin.tainted && !relay.lost {
            relay.lease.set_db(self.state.borrow().db);
            self.front.pool.give_back(lane, relay.lease);
        }
        true
    }

    /// There is no connection for the request at the front of the input. One that is whole is answered and the session
    /// goes on; of a larger one the rest cannot be told from the next request, so the session ends. So it does when a
    /// transaction cannot begin: what it was to hold would be executed one by one.
    fn refuse_front(&self, text: &[u8]) -> bool {
        self.reply(text);
        let s = &mut *self.state.borrow_mut();
        s.scanner.reset();
        let begins = self.ruled(&s.input).is_ok_and(|ruled| begins_transaction(&ruled.real));
        match s.scanner.scan(&s.input) {
            Scan::Request { len } if !begins => drop(s.input.drain(..len)),
            _ => {
                s.input.clear();
                s.closing = true;
            }
        }
        s.rescan = !s.closing;
        true
    }
}

impl Relay {
    fn new(lease: Lease, want: Want) -> Self {
        Self {
            lease,
            want,
            pin: Pin::default(),
            out: Outbox::default(),
            buffer: Buffer::new(16 * 1024),
            scanner: ReplyScanner::default(),
            piece: None,
            streaming: false,
            accepted: false,
            eof: false,
            lost: false,
            since: VecDeque::new(),
        }
    }

    fn poll(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<End> {
        s.waker = Some(cx.waker().clone());
        loop {
            if s.dead || session.poll_out(s, cx).is_err() {
                return Poll::Ready(End::Close);
            }
            session.front.wait_for_change(session.id, cx.waker(), &mut s.round);
            if !session.front.still_serves(&self.lease.target, self.want) {
                return Poll::Ready(End::Close);
            }
            if let Some(end) = self.take_requests(session, s) {
                return Poll::Ready(end);
            }
            if let Poll::Ready(Err(_)) = self.out.poll_write(&mut self.lease.stream, cx) {
                self.lost = true;
            }
            let mut moved = false;
            if s.out.len() < FULL {
                match self.poll_node(session, s, cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => moved = true,
                    Poll::Pending => {}
                }
            }
            if self.pin.is_free() && self.out.is_empty() && !self.streaming && s.out.is_empty() && self.settled(s) {
                return Poll::Ready(End::Free);
            }
            let room = self.streaming || s.input.len() <= session.front.limits.large_bytes.max(FULL);
            if !self.eof && self.out.len() < FULL && room {
                match self.poll_client(session, s, cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Close),
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Pending => {}
                }
            }
            // A server that stops waits for nobody who has all replies, transaction or subscription or not.
            let idle = self.pin.is_quiet() && self.out.is_empty() && s.out.is_empty();
            if s.closing && idle && s.input.is_empty() {
                return Poll::Ready(End::Close);
            }
            if self.eof && (self.pin.blocks || self.streaming || self.pin.listens()) {
                return Poll::Ready(End::Close);
            }
            if !moved {
                // A transaction or a WATCH that its client left open: everything sent is answered, nothing more will come.
                return if self.eof && idle { Poll::Ready(End::Close) } else { Poll::Pending };
            }
        }
    }

    /// No request that belongs on this connection waits in the input (one that is free may go back with some left).
    fn settled(&self, s: &State) -> bool {
        s.input.is_empty() || self.pin.is_quiet()
    }
}

fn begins_transaction(request: &[u8]) -> bool {
    let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
    matches!(name, "multi" | "watch")
}
