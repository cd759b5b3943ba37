//! A shared connection: many sessions append runs of requests, one task writes them and hands the replies back.
//!
//! One owner task with two hands: it reads and delivers first, then (one turn later, so that every session made ready by
//! the same poll has appended) writes everything at once. Must not know what a request means.
//! Invariant: replies are delivered in the order of the requests, exactly once, or the rest is reported lost.

mod account;
mod answer;
mod ending;
mod line;
mod own;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::net::TcpStream;

use super::clock::Reading;
use super::flight::{Entry, Flight, Own};
use super::give_way;
use super::ledger::Log;
use super::pool::Tally;
use super::room::Room;
use super::worth::Worth;
use super::{Manner, Receiver, Target, Times};
use crate::metrics::Tick;
use crate::socket;
use account::Question;
use line::{BURST, Line};

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
    /// What one reply takes at its best lately, in ns: the latency of the oldest in a read, divided by how many came with it. 0:
    /// not known yet.
    pace: Cell<u64>,
    /// Takes new requests. Never true again once false.
    open: Cell<bool>,
    killed: Cell<bool>,
    worth: Cell<Worth>,
    /// Has brought its node the scripts that are called by their SHA-1.
    pub briefed: Cell<bool>,
    reading: Cell<Reading>,
    /// What it acknowledged; made with its first write.
    log: OnceCell<Rc<RefCell<Log>>>,
    limit: usize,
    tally: Rc<Tally>,
    room: Room,
    shared: RefCell<Shared>,
}

struct Shared {
    flight: Flight,
    /// Database the connection will be in after everything appended.
    db: u32,
    waker: Option<Waker>,
    /// The socket, while the task lives.
    stream: Option<Rc<TcpStream>>,
    /// Appended since the task was last woken for writing.
    dirty: bool,
    /// What is appended waits for answers to what is on its way, unless it becomes a burst.
    held: bool,
    /// A node refused something: replies are handed back one by one with their requests.
    spoiled: bool,
    /// Likewise, and none of them is more than a sign that something was refused.
    doubtful: bool,
    /// Bytes of a large reply its receiver could not pass on yet.
    backlog: usize,
    /// Part of the head's current reply was passed on.
    torn: bool,
    /// Runs appended so far.
    serial: u64,
    /// The term in which a ROLE is to follow what is not written yet; 0: none.
    wants_role: u32,
    /// The ROLEs on their way.
    roles: VecDeque<Question>,
    /// The term of writes that no ROLE is behind yet; 0: there are none.
    unread: u32,
    /// Error replies to the head, so far.
    faults: u32,
    /// A ROLE is among what is not written yet, so that runs behind it can be judged by it.
    led: bool,
    /// When ROLE was asked last, and behind how many runs.
    asked: (Tick, u64),
    /// The user may not ask for ROLE.
    mute: bool,
}

impl Conn {
    pub(super) fn new(target: Target, limit: usize, tally: Rc<Tally>) -> Self {
        let shared = Shared {
            flight: Flight::default(),
            db: 0,
            waker: None,
            stream: None,
            dirty: false,
            held: false,
            spoiled: false,
            doubtful: false,
            backlog: 0,
            torn: false,
            serial: 0,
            wants_role: 0,
            roles: VecDeque::new(),
            unread: 0,
            faults: 0,
            led: false,
            asked: (0, 0),
            mute: false,
        };
        Self {
            target,
            in_flight: Cell::new(0),
            ewma: Cell::new((0, 0)),
            pace: Cell::new(0),
            open: Cell::new(true),
            killed: Cell::new(false),
            worth: Cell::new(Worth::Full),
            briefed: Cell::new(false),
            reading: Cell::default(),
            log: OnceCell::new(),
            limit,
            tally,
            room: Room::new(limit),
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
    /// How long a request waits, in ns: for each of those in flight at the pace of the answers before, and for all of them, or as
    /// long as the oldest has waited already if that is more. (0, 0): the node is idle; both [`u64::MAX`]: it has not answered yet.
    #[inline]
    pub fn wait_ns(&self) -> (u64, u64) {
        match (self.in_flight.get(), self.pace.get()) {
            (0, _) => (0, 0),
            (_, 0) => (u64::MAX, u64::MAX),
            (ahead, pace) => (pace, self.owed_ns().max(u64::from(ahead) * pace)),
        }
    }
    #[inline]
    fn owed_ns(&self) -> u64 {
        let Ok(shared) = self.shared.try_borrow() else { return 0 };
        shared.flight.entries.front().map_or(0, |head| self.tally.clock.ns(head.sent, self.tally.clock.now()))
    }
    /// The newest bound known of its node.
    #[inline]
    pub fn reading(&self) -> Reading {
        self.reading.get()
    }
    /// Whether it has shown `floor`, an offset of `term`, and nothing more need be asked.
    #[inline]
    pub fn has_shown(&self, term: u32, floor: u64) -> bool {
        !self.tally.origins.is_strict() && (floor == 0 || self.reading.get().reaches(term, floor))
    }
    /// No further reading will come of it: it is over, or its user may not ask.
    pub fn tells_no_more(&self) -> bool {
        let over = !self.open.get() && self.in_flight.get() == 0;
        over || self.shared.try_borrow().is_ok_and(|shared| shared.mute)
    }
    /// So much is before its node that a session does not read on, one that is `busy` with requests on it sooner than another.
    #[inline]
    pub fn is_full(&self, busy: bool) -> bool {
        self.room.is_full(busy) && self.open.get()
    }
    /// `who` waits until that is over, or the connection is: [`Receiver::room`].
    pub fn wait_for_room(&self, who: Rc<dyn Receiver>) {
        self.room.wait(who);
    }
    /// Something is appended and is about to be written: joining it costs no further write.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.shared.borrow().dirty
    }

    /// Appends a run of `n` complete requests, each with exactly one reply, for database `db`; they were read from the client
    /// and are sent at the given times.
    ///
    /// Returns the run's number, which a later [`Reading`] covers.
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
        manner: Manner,
    ) -> Result<u64, Full> {
        let mut shared = self.shared.borrow_mut();
        if shared.flight.bytes() + bytes.len() > self.limit && shared.flight.bytes() > 0 {
            return Err(Full);
        }
        if shared.db != db {
            shared.select(db, sent);
            self.in_flight.set(self.in_flight.get() + 1);
        }
        if manner.bound.floor > 0 && !shared.led && !shared.mute {
            shared.led = true;
            self.ask_role(&mut shared, manner.bound.term, sent);
        }
        if manner.written.term > 0 {
            self.note_written(&mut shared, manner.written, sent);
        }
        let entry = Entry { to: Some(to), left: n, done: 0, bytes: bytes.len(), read, sent, manner, own: Own::No };
        shared.flight.push(bytes, self.tally.pieces.share(bytes), entry);
        shared.serial += 1;
        self.room.note(shared.flight.bytes());
        let bound = manner.bound;
        if bound.term > 0 && !(bound.patient && self.asked_lately(&shared, sent)) {
            shared.wants_role = bound.term;
        }
        self.in_flight.set(self.in_flight.get() + n);
        if shared.flight.unwritten() >= BURST {
            self.write_bursts(&mut shared);
        }
        if !shared.dirty && !shared.held {
            shared.dirty = true;
            if let Some(waker) = &shared.waker {
                waker.wake_by_ref();
            }
        }
        Ok(shared.serial)
    }

    /// Whole bursts do not wait for the round's end: their bytes are still in the cache, and the node begins to work. A
    /// socket that takes no more is the task's to wait for.
    #[cold]
    fn write_bursts(&self, shared: &mut Shared) {
        let Some(stream) = &shared.stream else { return };
        while shared.flight.unwritten() >= BURST {
            let some = shared.flight.to_write();
            let Ok(n) = socket::try_send(stream, &some[..some.len().min(BURST)]) else { return };
            shared.flight.wrote(n);
            self.tally.sent(n);
        }
    }

    /// A receiver of large pieces has caught up.
    pub fn resume(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.backlog = 0;
        shared.wake();
    }

    /// The owner task's life from an open socket to its end.
    pub(super) async fn drive(&self, stream: TcpStream) -> End {
        let stream = Rc::new(stream);
        self.shared.borrow_mut().stream = Some(Rc::clone(&stream));
        let mut line = Line::new(stream);
        let end = std::future::poll_fn(|cx| line.poll(self, cx)).await;
        self.shared.borrow_mut().stream = None;
        give_way::note(false);
        end
    }

    #[inline]
    fn times(&self, entry: &Entry, answered: Tick) -> Times {
        let upstream_ns = self.tally.clock.ns(entry.sent, answered);
        let at_once = entry.read == entry.sent;
        let whole_ns = if at_once { upstream_ns } else { self.tally.clock.ns(entry.read, answered) };
        Times { whole_ns, upstream_ns }
    }

    /// One read brought the answers to `n` requests, of which the oldest took `latency_ns`.
    #[inline]
    fn note_answers(&self, latency_ns: u64, n: u32, answered: Tick) {
        let (old, _) = self.ewma.get();
        // A peak counts at once, relief by an eighth a time.
        self.ewma.set((if latency_ns > old { latency_ns } else { old - (old - latency_ns) / 8 }, answered));
        let (each, old) = ((latency_ns / u64::from(n.max(1))).max(1), self.pace.get());
        // What it can do counts, not that it was kept from its core for once.
        self.pace.set(match old {
            0 => each,
            _ if each < old => (old + each) / 2,
            _ => old + (each - old).min(old) / 8,
        });
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Somebody slow owns this connection and nobody else waits behind.
    fn must_wait(&self, large: usize) -> bool {
        let head = self.flight.entries.front().and_then(|e| e.to.as_ref());
        let not_waiting = |to: &Rc<dyn Receiver>| head.is_some_and(|head| Rc::ptr_eq(head, to));
        self.backlog > large && self.flight.entries.iter().skip(1).all(|e| e.to.as_ref().is_none_or(not_waiting))
    }
}
