//! A shared connection: many sessions append runs of requests, one task writes them and hands the replies back.
//!
//! One owner task with two hands: it reads and delivers first, then (one turn later, so that every session made ready by
//! the same poll has appended) writes everything at once. Must not know what a request means.
//! Invariant: replies are delivered in the order of the requests, exactly once, or the rest is reported lost.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::buffer::{Buffer, READ_BUFFER};
use super::flight::{Entry, Flight};
use super::pool::Tally;
use super::{Receiver, Target, Times, refusal};
use crate::metrics::{Count, Tick};
use crate::resp::{Found, ReplyScanner, encode};

/// The connection's bound on kept request bytes is reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed or the socket failed.
    Lost,
    /// It was retired and everything on it is answered.
    Drained,
    /// The node is known to be dead: do not wait for its replies.
    Killed,
    /// The node sent something that is not the next reply.
    Garbage,
}

/// A shared connection as sessions see it.
pub struct Conn {
    pub target: Target,
    /// Replies still to come.
    in_flight: Cell<u32>,
    /// Peak-sensitive moving average of the upstream latency in ns, and when it last moved.
    ewma: Cell<(u64, Tick)>,
    /// Takes new requests. Never true again once false.
    open: Cell<bool>,
    killed: Cell<bool>,
    limit: usize,
    tally: Rc<Tally>,
    shared: RefCell<Shared>,
}

struct Shared {
    flight: Flight,
    /// Database the connection will be in after everything appended; `None` when that is not known.
    db: Option<u32>,
    waker: Option<Waker>,
    /// Appended since the task was last woken for writing.
    dirty: bool,
    /// A node refused something: replies are handed back one by one with their requests.
    spoiled: bool,
    /// Bytes of a large reply its receiver could not pass on yet.
    backlog: usize,
    /// Part of the head's current reply was passed on.
    torn: bool,
}

impl Conn {
    pub(super) fn new(target: Target, limit: usize, tally: Rc<Tally>) -> Self {
        let shared = Shared {
            flight: Flight::default(),
            db: Some(0),
            waker: None,
            dirty: false,
            spoiled: false,
            backlog: 0,
            torn: false,
        };
        Self {
            target,
            in_flight: Cell::new(0),
            ewma: Cell::new((0, 0)),
            open: Cell::new(true),
            killed: Cell::new(false),
            limit,
            tally,
            shared: RefCell::new(shared),
        }
    }

    #[inline]
    pub fn is_open(&self) -> bool {
        self.open.get()
    }
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }
    #[inline]
    pub fn ewma_ns(&self) -> u64 {
        let (ewma, at) = self.ewma.get();
        // A node nobody asks is not slow for ever: what is known of it fades, by half in each 67 ms.
        let age = self.tally.clock.ns(at, self.tally.clock.now());
        ewma >> (age >> 26).min(63)
    }
    /// Something is appended and not written yet: joining it costs no further write.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.shared.borrow().dirty
    }

    /// Appends a run of `n` complete requests, each with exactly one reply, for database `db`; they were read from the client
    /// and are sent at the given times.
    ///
    /// # Errors
    /// [`Full`]; nothing was appended then.
    #[inline]
    pub fn append(
        &self,
        bytes: &[u8],
        n: u32,
        to: Rc<dyn Receiver>,
        db: u32,
        (read, sent): (Tick, Tick),
        idempotent: bool,
    ) -> Result<(), Full> {
        let mut shared = self.shared.borrow_mut();
        if shared.flight.bytes() + bytes.len() > self.limit && shared.flight.bytes() > 0 {
            return Err(Full);
        }
        if shared.db != Some(db) {
            shared.select(db, sent);
            self.in_flight.set(self.in_flight.get() + 1);
        }
        let entry = Entry { to: Some(to), left: n, done: 0, bytes: bytes.len(), read, sent, idempotent, select: false };
        shared.flight.push(bytes, entry);
        self.in_flight.set(self.in_flight.get() + n);
        if !shared.dirty {
            shared.dirty = true;
            if let Some(waker) = &shared.waker {
                waker.wake_by_ref();
            }
        }
        Ok(())
    }

    /// The database is not what the last append said (a client's own SELECT went through).
    pub fn forget_db(&self) {
        self.shared.borrow_mut().db = None;
    }

    /// A receiver of large pieces has caught up.
    pub fn resume(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.backlog = 0;
        shared.wake();
    }

    /// No new requests; closes once everything on it is answered.
    pub fn retire(&self) {
        self.open.set(false);
        self.shared.borrow().wake();
    }

    /// No new requests, and those on it are lost now.
    pub fn kill(&self) {
        self.killed.set(true);
        self.retire();
    }

    /// The owner task's life from an open socket to its end.
    pub(super) async fn drive(&self, stream: TcpStream) -> End {
        let mut line =
            Line { stream, buffer: Buffer::new(READ_BUFFER), scanner: ReplyScanner::default(), yielded: false };
        std::future::poll_fn(|cx| line.poll(self, cx)).await
    }

    /// Reports everything unanswered to its receivers.
    pub(super) fn fail(&self) {
        self.open.set(false);
        let (mut flight, torn) = {
            let mut shared = self.shared.borrow_mut();
            (std::mem::take(&mut shared.flight), shared.torn)
        };
        self.in_flight.set(0);
        for index in 0..flight.entries.len() {
            let Some(to) = flight.entries.get_mut(index).and_then(|e| e.to.take()) else { continue };
            let (written, unwritten) = flight.unanswered(index);
            to.lost(written, unwritten, torn && index == 0, self.target.node);
        }
    }

    #[inline]
    fn note_latency(&self, times: &Times) {
        let sample = self.tally.clock.ns(times.sent, times.answered);
        let (old, _) = self.ewma.get();
        // A peak counts at once, relief by an eighth a time.
        self.ewma.set((if sample > old { sample } else { old - (old - sample) / 8 }, times.answered));
    }

    /// Delivers every reply that is whole. `Err`: the stream cannot be understood.
    fn deliver(&self, line: &mut Line) -> Result<(), End> {
        let shared = &mut *self.shared.borrow_mut();
        let answered = self.tally.clock.now();
        loop {
            let input = line.buffer.filled();
            if input.is_empty() {
                return Ok(());
            }
            // A push answers nobody. Shared connections do not ask for any; one is dropped, not taken for a reply.
            if input[0] == b'>' && !shared.torn {
                match line.scanner.scan(input) {
                    Found::Whole { len } => line.buffer.consume(len),
                    Found::Part { .. } if !line.buffer.is_full() => return Ok(()),
                    _ => return Err(End::Garbage),
                }
                continue;
            }
            let Some(head) = shared.flight.entries.front() else { return Err(End::Garbage) };
            let single = shared.spoiled || shared.torn;
            let batch = collect(&mut line.scanner, input, head.left, single);
            let times = Times { read: head.read, sent: head.sent, answered };
            if batch.n > 0 {
                let replies = &input[..batch.len];
                match &head.to {
                    Some(to) if shared.torn => _ = to.piece(replies, true, &times),
                    Some(to) if shared.spoiled => to.settle(shared.flight.head_request(), replies, self.target.node),
                    Some(to) => to.replies(replies, batch.n, &times),
                    // A SELECT of ours that failed would leave strangers' requests in the wrong database.
                    None if head.select && replies.first() == Some(&b'-') => return Err(End::Garbage),
                    None => {}
                }
                if batch.errors > 0 {
                    self.tally.cells.count(Count::NodeErrors, u64::from(batch.errors));
                }
                shared.torn = false;
                self.note_latency(&times);
                self.in_flight.set(self.in_flight.get().saturating_sub(batch.n));
                shared.flight.answered(batch.n);
                line.buffer.consume(batch.len);
            }
            match batch.then {
                Then::Next => {}
                Then::Spoiled => {
                    shared.spoiled = true;
                    self.open.set(false);
                }
                Then::More { ready } => {
                    if batch.n == 0 && ready > 0 && (line.buffer.is_full() || shared.torn) {
                        self.pass_piece(shared, line, ready, answered);
                        continue;
                    }
                    return Ok(());
                }
                Then::Garbage => return Err(End::Garbage),
            }
        }
    }

    /// A reply larger than the buffer goes on in pieces.
    fn pass_piece(&self, shared: &mut Shared, line: &mut Line, ready: usize, answered: Tick) {
        shared.torn = true;
        if let Some(head) = shared.flight.entries.front() {
            let times = Times { read: head.read, sent: head.sent, answered };
            let piece = &line.buffer.filled()[..ready];
            shared.backlog = head.to.as_ref().map_or(0, |to| to.piece(piece, false, &times));
        }
        line.buffer.consume(ready);
        line.scanner.passed(ready);
        if shared.backlog > self.tally.large {
            self.leave_to_head(shared);
        }
    }

    /// The head's receiver is slow with a large reply: the connection becomes its own. Reads behind it are sent elsewhere
    /// at once, so that nobody waits for it; what may not be repeated stays, and so does what its receiver sent before it.
    fn leave_to_head(&self, shared: &mut Shared) {
        self.open.set(false);
        if shared.spoiled {
            return;
        }
        let mut staying: Vec<*const ()> = Vec::new();
        let mut leaving = Vec::new();
        for (index, entry) in shared.flight.entries.iter().enumerate().skip(1).rev() {
            let Some(to) = &entry.to else { continue };
            let who = Rc::as_ptr(to).cast::<()>();
            match entry.idempotent && !staying.contains(&who) {
                true => leaving.push(index),
                false => staying.push(who),
            }
        }
        for index in leaving.into_iter().rev() {
            let Some(to) = shared.flight.entries.get_mut(index).and_then(|e| e.to.take()) else { continue };
            let (written, unwritten) = shared.flight.unanswered(index);
            to.returned(&[written, unwritten].concat(), self.target.node);
        }
    }

    /// A retired connection: what was not written yet goes back, newest first taken, oldest first given.
    fn give_back_unwritten(&self) {
        let shared = &mut *self.shared.borrow_mut();
        if shared.spoiled {
            return;
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| shared.flight.take_unwritten()).collect();
        while let Some((entry, bytes)) = taken.pop() {
            self.in_flight.set(self.in_flight.get().saturating_sub(entry.left));
            if let Some(to) = entry.to {
                to.returned(&bytes, self.target.node);
            }
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn select(&mut self, db: u32, now: Tick) {
        let mut bytes = Vec::with_capacity(32);
        encode::request(&mut bytes, [&b"SELECT"[..], db.to_string().as_bytes()].into_iter());
        let entry = Entry {
            to: None,
            left: 1,
            done: 0,
            bytes: bytes.len(),
            read: now,
            sent: now,
            idempotent: true,
            select: true,
        };
        self.flight.push(&bytes, entry);
        self.db = Some(db);
    }

    /// Somebody slow owns this connection and nobody else waits behind.
    fn must_wait(&self, large: usize) -> bool {
        self.backlog > large && self.flight.entries.iter().skip(1).all(|e| e.to.is_none())
    }
}

/// What was found at the front of the buffer.
struct Batch {
    n: u32,
    len: usize,
    errors: u32,
    then: Then,
}

enum Then {
    Next,
    /// The next reply is a refusal.
    Spoiled,
    More {
        ready: usize,
    },
    Garbage,
}

/// Up to `left` whole replies (one, when `single`), stopping before the first refusal unless `single`.
#[inline]
fn collect(scanner: &mut ReplyScanner, input: &[u8], left: u32, single: bool) -> Batch {
    let (mut n, mut len, mut errors) = (0, 0, 0);
    let most = if single { 1 } else { left };
    while n < most {
        match scanner.scan(&input[len..]) {
            Found::Whole { len: one } => {
                let kind = input[len];
                if kind == b'>' && !single {
                    // Not a reply: looked at again as the first of the next batch.
                    return Batch { n, len, errors, then: Then::Next };
                }
                if kind == b'-' {
                    if !single && refusal::of(&input[len..len + one]).is_some() {
                        return Batch { n, len, errors, then: Then::Spoiled };
                    }
                    errors += 1;
                }
                len += one;
                n += 1;
            }
            Found::Part { ready } => return Batch { n, len, errors, then: Then::More { ready } },
            Found::Garbage => return Batch { n, len, errors, then: Then::Garbage },
        }
    }
    Batch { n, len, errors, then: Then::Next }
}

/// The socket's side of a connection, owned by its task.
struct Line {
    stream: TcpStream,
    buffer: Buffer,
    scanner: ReplyScanner,
    yielded: bool,
}

impl Line {
    fn poll(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<End> {
        {
            let mut shared = conn.shared.borrow_mut();
            if !shared.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                shared.waker = Some(cx.waker().clone());
            }
        }
        if conn.killed.get() {
            return Poll::Ready(End::Killed);
        }
        while !conn.shared.borrow().must_wait(conn.tally.large) {
            match self.buffer.poll_fill(&mut self.stream, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    conn.tally.received(n);
                    if let Err(end) = conn.deliver(self) {
                        return Poll::Ready(end);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(End::Lost),
                Poll::Pending => break,
            }
        }
        if !conn.open.get() {
            conn.give_back_unwritten();
        }
        match self.flush(conn, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(End::Lost),
            _ if !conn.open.get() && conn.in_flight.get() == 0 => Poll::Ready(End::Drained),
            _ => Poll::Pending,
        }
    }

    fn flush(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *conn.shared.borrow_mut();
        if shared.flight.to_write().is_empty() {
            shared.dirty = false;
            return Poll::Ready(Ok(()));
        }
        if !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        shared.dirty = false;
        while !shared.flight.to_write().is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, shared.flight.to_write()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            shared.flight.wrote(n);
            conn.tally.sent(n);
        }
        self.yielded = false;
        Poll::Ready(Ok(()))
    }
}
