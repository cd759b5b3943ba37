//! A session on a connection of its own: bytes both ways, until it is free again.
//!
//! Also the way of a request too large to be held: it streams through. Must not buffer a large value. Invariant: what a
//! slow side cannot take stops the other side's reading, and nobody else's.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin as StdPin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use super::outbox::Outbox;
use super::pin::{Admit, Expect, Pin};
use super::pubsub::{self, Frame};
use super::state::{Silence, State};
use super::{Session, errors, kind};
use crate::command;
use crate::metrics::{Count, Kind as Label, Reason};
use crate::resp::{Args, Found, ReplyScanner, Scan, inline};
use crate::route::Want;
use crate::topology::Hint;
use crate::upstream::{Buffer, LaneId, Lease};

/// Bytes queued for one side above which the other is not read.
const FULL: usize = 256 * 1024;

/// How a relay ended.
enum End {
    /// Nothing binds the session to the connection any more.
    Free,
    Close,
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
        match s.scanner.scan(&s.input) {
            Scan::Request { len } if !begins_transaction(&s.input) => drop(s.input.drain(..len)),
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

    fn poll_client(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = session.front.scratch.borrow_mut();
        let mut room = ReadBuf::new(&mut scratch);
        ready!(StdPin::new(&mut s.stream).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            self.eof = true;
        }
        session.front.cells.count(Count::BytesFromClients, room.filled().len() as u64);
        s.input.extend_from_slice(room.filled());
        Poll::Ready(Ok(()))
    }

    /// Moves what can be moved from the client's input towards the node.
    fn take_requests(&mut self, session: &Session, s: &mut State) -> Option<End> {
        if self.want == Want::Master && session.front.is_held() {
            // A switch has begun: nothing more for the old master.
            return None;
        }
        let mut taken = 0;
        let mut end = None;
        while taken < s.input.len() && self.out.len() < FULL && end.is_none() && !self.pin.leaving {
            let input = &s.input[taken..];
            if self.streaming {
                match s.scanner.stream(input) {
                    Ok((n, done)) => {
                        self.out.push(&input[..n]);
                        taken += n;
                        self.streaming = !done;
                        if n == 0 {
                            break;
                        }
                    }
                    Err(violation) => {
                        end = self.violated(session, s, violation);
                        break;
                    }
                }
                continue;
            }
            match s.scanner.scan(input) {
                Scan::Request { .. } | Scan::Inline { .. } if self.is_done() => {
                    s.scanner.reset();
                    break;
                }
                Scan::Request { len } => {
                    let request = input[..len].to_vec();
                    match self.admit(session, s, &request) {
                        true => taken += len,
                        false => break,
                    }
                }
                Scan::Incomplete { needs } if needs.max(input.len()) > session.front.limits.large_bytes => {
                    let verdict = command::classify(Args::new(input));
                    if self.is_done() || self.pin.must_wait(&verdict) {
                        s.scanner.reset();
                        break;
                    }
                    match self.pin.admit(&verdict, None, 2, s.resp, s.wrote) {
                        Admit::Forward => self.streaming = true,
                        _ => end = Some(End::Close),
                    }
                    self.since.push_back(Instant::now());
                    s.wrote = true;
                }
                Scan::Incomplete { .. } => break,
                Scan::Nothing { len } => taken += len,
                Scan::Inline { len } => {
                    let line = input[..len - 1].strip_suffix(b"\r").unwrap_or(&input[..len - 1]);
                    match inline::to_array(line) {
                        Ok(request) if request.is_empty() => taken += len,
                        Ok(request) if self.admit(session, s, &request) => taken += len,
                        Ok(_) => break,
                        Err(violation) => {
                            end = self.violated(session, s, violation);
                            break;
                        }
                    }
                }
                Scan::Invalid(violation) => {
                    end = self.violated(session, s, violation);
                    break;
                }
            }
        }
        s.input.drain(..taken);
        end
    }

    /// What the connection was lent for is over: the next request finds its own way.
    fn is_done(&self) -> bool {
        self.pin.is_used() && (self.want == Want::Read || self.pin.is_free())
    }

    /// What came before is answered first, unless it can never be: the rest of a request that is streaming.
    fn violated(&mut self, session: &Session, s: &mut State, violation: crate::resp::Violation) -> Option<End> {
        if !self.pin.is_quiet() && !self.streaming {
            s.scanner.reset();
            return None;
        }
        session.push(s, &errors::protocol(violation));
        Some(End::Close)
    }

    /// Carries one whole request out; false: not yet, something before it is unanswered.
    fn admit(&mut self, session: &Session, s: &mut State, request: &[u8]) -> bool {
        let args = Args::new(request);
        let verdict = command::classify(args);
        let local =
            matches!(verdict.class, command::Class::Forbidden | command::Class::Session | command::Class::Local);
        if self.pin.must_wait(&verdict) {
            s.scanner.reset();
            return false;
        }
        let admitted = self.pin.admit(&verdict, args.clone().nth(1), args.remaining(), s.resp, s.wrote);
        if !matches!(admitted, Admit::Answer(_) | Admit::Identity(_)) {
            self.since.push_back(Instant::now());
        }
        match admitted {
            Admit::Forward => self.out.push(request),
            Admit::Instead(other) => self.out.push(other),
            Admit::Behind(first) => {
                self.since.push_back(Instant::now());
                self.out.push(first);
                self.out.push(request);
            }
            Admit::Answer(text) => {
                session.front.cells.count(Count::RefusedForbidden, 1);
                session.push(s, &text);
                s.silence.end_next();
            }
            Admit::Identity(name) => {
                let reply = session.client_reply(s, name, request);
                session.push(s, &reply);
                s.silence.end_next();
            }
        }
        s.wrote |= !local;
        let reason = if verdict.class == command::Class::Unknown {
            session.front.view.suspect(Hint::UnknownName);
            Reason::Unknown
        } else {
            Reason::Pinned
        };
        session.front.cells.routed(self.lease.target.node, Label::Pinned, reason, 1);
        true
    }

    /// Reads from the node and passes frames on.
    fn poll_node(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<Option<End>> {
        match ready!(self.buffer.poll_fill(&mut self.lease.stream, cx)) {
            Ok(n) if n > 0 => session.front.cells.count(Count::BytesFromNodes, n as u64),
            _ => return Poll::Ready(Some(End::Close)),
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
}

impl Relay {
    /// Counts the latency of the oldest request, unless it may have blocked: that is the client's wish, not latency.
    fn observe(&mut self, session: &Session) {
        if let (Some(since), false) = (self.since.pop_front(), self.pin.blocks) {
            session.front.cells.request.observe(since.elapsed(), 1);
            session.front.cells.upstream.observe(since.elapsed(), 1);
        }
    }
}

fn begins_transaction(request: &[u8]) -> bool {
    let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
    matches!(name, "multi" | "watch")
}
