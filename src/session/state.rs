//! One client connection's state: its socket, what it has sent and not been answered, and why it may be waiting.
//!
//! Invariant: at any time a session has requests on at most one shared connection, so replies come in request order by
//! the order of that connection alone.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::acks::Held;
use super::card::Bound;
use super::floor::Seen;
use super::level::Level;
use super::outbox::Outbox;
use super::own::Own;
use super::settle::Settled;
use crate::config::{Consistency, Staleness};
use crate::metrics::{Reason, Tick};
use crate::resp::RequestScanner;
use crate::topology::NodeId;
use crate::upstream::{Conn, LaneId};

/// Why no further request is taken from the input.
///
/// `Not` -> any; each of the others -> `Not` when what it waits for has come, and the input is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Park {
    Not,
    /// Replies still on their way must come first (a write behind reads, an error behind replies).
    Drain,
    /// There is no master, or no connection to the one there is.
    Hold,
}

/// Which side the requests on their way are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Replica,
    Master,
}

/// Whether the client wants replies (CLIENT REPLY).
///
/// `Not` -> `All` by OFF, `Next` by SKIP; `Next` -> `Not` with the next request's reply; `All` -> `Not` by ON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    Not,
    Next,
    All,
}

/// What a connection of a session's own has to do with the master.
///
/// -> any, with each turn of its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Nothing that could not go on elsewhere.
    Not,
    /// A transaction or a watch is open there.
    Open,
    /// A request is on its way there.
    Busy,
}

/// How CLIENT UNBLOCK ends a blocking command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were up.
    Timeout,
    /// -UNBLOCKED client unblocked via CLIENT UNBLOCK
    Error,
}

impl Silence {
    /// The one request whose reply is left out is dealt with.
    pub fn end_next(&mut self) {
        if *self == Silence::Next {
            *self = Silence::Not;
        }
    }
}

/// Everything of a session that moves.
pub struct State {
    pub stream: TcpStream,
    /// Reply bytes that did not fit into the socket.
    pub out: Outbox,
    /// Request bytes not dealt with yet; empty (and without capacity) most of the time.
    pub input: Vec<u8>,
    /// `input` may hold a whole request that was not looked at.
    pub rescan: bool,
    pub scanner: RequestScanner,
    /// Bytes the request at the front of `input` is known to have in all.
    pub needs: usize,
    pub waker: Option<Waker>,

    pub lane: LaneId,
    pub resp: u8,
    pub db: u32,
    pub name: Vec<u8>,
    /// CLIENT SETINFO: name and version of the client's library.
    pub library: Option<Box<[Vec<u8>; 2]>>,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// When it came, when it was last heard, and when the command that is known as its last was acted upon.
    pub born: Tick,
    pub active: Tick,
    pub acted: Tick,
    pub command: &'static str,
    pub silence: Silence,
    /// What is looked at was sent by the client together with, and behind, a write.
    pub behind_write: bool,
    /// What is read next was sent together with what was read last: that took all there was room for, or it had to wait.
    pub more: bool,
    /// The session has sent a write since it began (WAIT needs to know).
    pub wrote: bool,

    /// Where the last of its writes is.
    pub own: Own,
    /// What its reads must not fall behind, at level `session`.
    pub seen: Seen,
    pub level: Consistency,
    /// What level `bounded` means to it.
    pub staleness: Staleness,
    /// It chose its level itself.
    pub chosen: bool,
    /// What is to be sent again goes to the master: the replica had not got as far, or would not do it.
    pub stale: bool,
    /// It has read: whether it can see its writes is of interest.
    pub reads: bool,

    /// Where its requests on their way are, or its last ones were.
    pub conn: Option<Rc<Conn>>,
    pub side: Side,
    /// Why they are there.
    pub reason: Reason,
    /// The snapshot under which `conn` was chosen, and its term.
    pub epoch: u64,
    pub term: u64,
    pub in_flight: u32,
    /// Replies among these that have come and wait for copies; `None`: its writes need none.
    pub held: Option<Box<Held>>,

    pub park: Park,
    /// Since when it has been without an answer: the start of a hold or of a row of retries.
    pub stuck_since: Option<Instant>,
    pub stuck_at: Tick,
    /// The last one failed for want of good replicas at the master, not of a master.
    pub short_of_replicas: bool,
    /// Failed sends in a row.
    pub tries: u32,
    /// Memory of `Front::wait_for_change`.
    pub round: u64,
    /// Bytes reserved in the queue of held requests.
    pub reserved: usize,
    pub timer: Option<Pin<Box<Sleep>>>,
    /// The hold is over: what needs a master is refused.
    pub refusing: bool,

    /// Requests to send again, before anything in `input`.
    pub replay: Vec<u8>,
    /// The same for requests that were on a connection behind some that are still on their way there.
    pub returned: Vec<u8>,
    pub settled: Vec<Settled>,
    /// Likewise, from a script's refusal on that may be of its own making; they wait until that is known.
    pub doubt: Vec<Settled>,
    /// The node that failed them.
    pub avoid: Option<NodeId>,

    /// What a connection of its own keeps for it.
    pub bound: Bound,
    /// An answer that other sessions have a part in is on its way; a relay takes no request meanwhile.
    pub asking: bool,
    /// Part of a reply was handed on: nothing else may come before the rest.
    pub torn: bool,
    /// What is to come right behind it.
    pub late: Vec<u8>,
    pub tie: Tie,
    /// A blocking command of its own is waiting at a node.
    pub blocked: bool,
    /// Somebody wants it to end; the relay takes this up.
    pub unblock: Option<Unblock>,
    /// Its WAIT is at a connection that is not its own.
    pub waits_aside: bool,

    /// A large reply's connection waits until `out` is empty.
    pub backlogged: bool,
    /// Stands in the queue of this connection, which was full.
    pub awaits_room: Option<*const Conn>,
    /// Closes once everything is answered and written.
    pub closing: bool,
    /// Closes now: replies still to come have nowhere to go.
    pub dead: bool,
}

impl State {
    pub fn new(stream: TcpStream, lane: LaneId, max_bulk: u64, level: Level) -> Self {
        Self {
            stream,
            out: Outbox::default(),
            input: Vec::new(),
            rescan: false,
            scanner: RequestScanner::new(max_bulk),
            needs: 0,
            waker: None,
            lane,
            resp: 2,
            db: 0,
            name: Vec::new(),
            library: None,
            no_evict: false,
            born: 0,
            active: 0,
            acted: 0,
            command: "",
            silence: Silence::Not,
            behind_write: false,
            more: false,
            wrote: false,
            own: Own::default(),
            seen: Seen::default(),
            level: level.consistency,
            staleness: level.staleness,
            chosen: false,
            stale: false,
            reads: false,
            conn: None,
            side: Side::Replica,
            reason: Reason::Replica,
            epoch: 0,
            term: 0,
            in_flight: 0,
            held: None,
            park: Park::Not,
            stuck_since: None,
            stuck_at: 0,
            short_of_replicas: false,
            tries: 0,
            round: 0,
            reserved: 0,
            timer: None,
            refusing: false,
            replay: Vec::new(),
            returned: Vec::new(),
            settled: Vec::new(),
            doubt: Vec::new(),
            avoid: None,
            bound: Bound::default(),
            asking: false,
            torn: false,
            late: Vec::new(),
            tie: Tie::Not,
            blocked: false,
            unblock: None,
            waits_aside: false,
            backlogged: false,
            awaits_room: None,
            closing: false,
            dead: false,
        }
    }

    /// When the requests sent `now` were read: earlier, if they had to wait.
    #[inline]
    pub fn read_at(&self, now: Tick) -> Tick {
        if self.stuck_since.is_some() { self.stuck_at } else { now }
    }

    /// Requests wait to be sent again.
    #[inline]
    pub fn must_send_again(&self) -> bool {
        !self.replay.is_empty() || !self.returned.is_empty() || !self.doubt.is_empty()
    }

    /// All its requests are on their way, and there is nothing else to do for it than to read the next ones.
    #[inline]
    pub fn only_waits(&self) -> bool {
        let odd = self.dead | self.rescan | self.closing | self.refusing | self.backlogged;
        let queued = !self.input.is_empty() || !self.out.is_empty();
        self.in_flight > 0 && self.park == Park::Not && !odd && !queued
    }

    /// It is not read from: what stays in the socket was sent behind what is on its way, even if that is answered by the time it is
    /// read.
    #[inline]
    pub fn leave_unread(&mut self) {
        self.more |= self.in_flight > 0;
    }

    /// Puts them before everything else, oldest first.
    pub fn take_again(&mut self) {
        let mut again = std::mem::take(&mut self.replay);
        again.append(&mut self.returned);
        self.input.splice(0..0, again);
        self.scanner.reset();
        self.rescan = true;
    }

    /// The command at hand.
    pub fn acts_on(&mut self, command: &'static str) {
        self.command = command;
        self.acted = self.active;
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The connection must end without answering what is left.
    pub fn die(&mut self) {
        self.dead = true;
        self.wake();
    }
}
