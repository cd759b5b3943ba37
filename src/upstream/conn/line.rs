//! The socket's side of a shared connection: reads first, writes a turn later, everything at once.
//!
//! Must not know whose bytes it moves. Invariant: one read and at most one write per round, however many sessions took part;
//! what is not written waits for nothing but answers that will come.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::task::coop;

use super::{Conn, End};
use crate::resp::ReplyScanner;
use crate::socket;
use crate::upstream::buffer::{Buffer, READ_BUFFER};
use crate::upstream::give_way;
use crate::upstream::worth::{Marks, Worth};

/// Bytes written before replies are looked at again. Without it hundreds of KiB went out at once while the node idled, and
/// the buffer outgrew the cache: 19 instead of 13 us for each SET of 16 KiB.
pub(super) const BURST: usize = 64 * 1024;

/// A node with that much before it needs no more until it answers: two of Redis' reads of 16 KiB. What comes meanwhile goes out
/// together: less than half the writes to it at pipeline 16 (a SET 5 % cheaper), and a SET of 16 KiB a tenth cheaper.
const ENOUGH: usize = 32 * 1024;

/// The socket's side of a connection, owned by its task.
pub(super) struct Line {
    stream: Rc<TcpStream>,
    pub(super) buffer: Buffer,
    pub(super) scanner: ReplyScanner,
    /// A write has waited for its second turn.
    yielded: bool,
    /// The task will be woken by what arrives: there is no need to ask again between the two turns of a write.
    listening: bool,
    /// When what is kept back was received.
    marks: Marks,
    /// Bytes at the front of the buffer that may be looked at.
    pub(super) readable: usize,
}

impl Line {
    pub(super) fn new(stream: Rc<TcpStream>) -> Self {
        Self {
            stream,
            buffer: Buffer::new(READ_BUFFER),
            scanner: ReplyScanner::default(),
            yielded: false,
            listening: false,
            marks: Marks::default(),
            readable: usize::MAX,
        }
    }

    pub(super) fn poll(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<End> {
        {
            let mut shared = conn.shared.borrow_mut();
            if !shared.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                shared.waker = Some(cx.waker().clone());
            }
        }
        if conn.killed.get() {
            return Poll::Ready(End::Killed);
        }
        if let Some(waiting) = self.weigh(conn, cx) {
            return waiting;
        }
        let between = self.yielded && self.listening && !socket::is_readable(&self.stream);
        while !between && !conn.shared.borrow().must_wait(conn.tally.large) {
            self.listening = false;
            match self.buffer.poll_fill(&self.stream, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    conn.tally.received(n);
                    if let Err(end) = conn.deliver(self) {
                        return Poll::Ready(end);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(End::Lost),
                Poll::Pending => {
                    // A task whose turn is used up is only told to come again.
                    self.listening = coop::has_budget_remaining();
                    break;
                }
            }
        }
        if !conn.open.get() {
            conn.give_back_unwritten();
        }
        if !conn.room.is_idle() {
            // Who waits for a connection that takes nothing more goes elsewhere.
            let left = if conn.open.get() { conn.shared.borrow().flight.bytes() } else { 0 };
            conn.room.make(left);
        }
        match self.flush(conn, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(End::Lost),
            _ if !conn.open.get() && conn.in_flight.get() == 0 => Poll::Ready(End::Drained),
            _ => Poll::Pending,
        }
    }

    /// What is done before answers are handed on: nothing, while nobody doubts them.
    #[inline]
    fn weigh(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Option<Poll<End>> {
        match conn.worth.get() {
            // Woken when that is known. What the node closed in between is still read.
            _ if conn.in_flight.get() > 0 && conn.tally.is_behind() => Some(Poll::Pending),
            Worth::Full if self.marks.is_empty() => None,
            Worth::Full => {
                self.marks.clear();
                conn.deliver(self).err().map(Poll::Ready)
            }
            Worth::Withheld => {
                if conn.give_back_unwritten() {
                    conn.open.set(false);
                }
                // Nothing more is appended here before more is known; what waits may have another way.
                conn.room.make(0);
                give_way::note(false);
                Some(match self.flush(conn, cx) {
                    Poll::Ready(Err(_)) => Poll::Ready(End::Lost),
                    _ => self.keep_back(conn, cx),
                })
            }
            Worth::Replaced(_) if conn.shared.borrow().doubtful => None,
            Worth::Replaced(then) => {
                conn.give_back_unwritten();
                self.readable = self.marks.received_by(then);
                self.marks.clear();
                let standing = conn.deliver(self);
                self.readable = usize::MAX;
                {
                    let mut shared = conn.shared.borrow_mut();
                    (shared.spoiled, shared.doubtful) = (true, true);
                }
                standing.and_then(|()| conn.deliver(self)).err().map(Poll::Ready)
            }
        }
    }

    /// Reads on, hands nothing on.
    fn keep_back(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<End> {
        self.listening = false;
        while !self.buffer.is_full() {
            match ready!(self.buffer.poll_fill(&self.stream, cx)) {
                Ok(n) if n > 0 => {
                    conn.tally.received(n);
                    self.marks.note(self.buffer.filled().len(), Instant::now());
                }
                _ => return Poll::Ready(End::Lost),
            }
        }
        Poll::Pending
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.buffer.consume(n);
        self.readable = self.readable.saturating_sub(if self.readable == usize::MAX { 0 } else { n });
    }

    fn flush(&mut self, conn: &Conn, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *conn.shared.borrow_mut();
        if shared.held {
            give_way::judge(shared.flight.is_dry());
        }
        if shared.flight.to_write().is_empty() && shared.wants_role == 0 {
            self.yielded = false;
            (shared.dirty, shared.held) = (false, false);
            give_way::note(false);
            conn.note_rest(shared);
            return Poll::Ready(Ok(()));
        }
        shared.held = conn.open.get() && shared.flight.unwritten() < BURST && shared.flight.is_ample(ENOUGH);
        give_way::note(shared.held);
        if shared.held {
            (self.yielded, shared.dirty) = (false, false);
            return Poll::Pending;
        }
        if !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        shared.dirty = false;
        conn.close_flush(shared);
        let mut left = BURST;
        while !shared.flight.to_write().is_empty() {
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let some = shared.flight.to_write();
            let n = ready!(socket::poll_send(&self.stream, cx, &some[..some.len().min(left)]))?;
            left -= n;
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
