//! All connections of one worker to one replication set: which exist, which may be used, which are being made.
//!
//! Keyed by what cannot be set per command (lane) and by node. Must not decide where a request goes.
//! Invariant: per lane, node and index at most one shared connection takes new requests, and it was made in the
//! node's present generation.

mod audit;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::clock::Origins;
use super::conn::End;
use super::dial::{self, Dialled, Lane, Target};
use super::lanes::{LaneId, Lanes};
use super::ledger::{Ledger, Place};
use super::pieces::Pieces;
use super::{Conn, Lease, Refused};
use crate::metrics::{Cells, Clock, Count, MAX_NODES};

/// After a failed dial the node is left alone this long, so that a refused port is not hammered.
const BACKOFF: Duration = Duration::from_millis(20);
/// Idle leased connections kept per lane and node.
const IDLE_LEASES: usize = 16;

/// Something about a node that its discovery should hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection died, or could not be made.
    Lost { node: u16 },
    /// The handshake was refused with this text.
    Handshake { node: u16, text: String },
}

/// Bounds of a pool.
#[derive(Debug, Clone)]
pub struct Settings {
    pub connect_timeout: Duration,
    /// Kept request bytes per shared connection.
    pub upstream_bytes: usize,
    /// A reply's backlog above this makes the connection its receiver's own.
    pub large: usize,
    pub connections_per_node: usize,
    /// Its connections may be paced by the kernel.
    pub paced: bool,
    pub pinned: usize,
    /// Offsets are asked together with their replication id.
    pub strict: bool,
}

/// Where bytes and connections are counted.
pub(super) struct Tally {
    pub cells: Arc<Cells>,
    pub clock: Clock,
    pub large: usize,
    pub origins: Origins,
    /// Somebody wants to hear of every reading of a connection.
    pub watched: Cell<bool>,
    pub readings: Notify,
    /// Nodes are to get like shares of the reads.
    pub even: Cell<bool>,
    pub ledger: Ledger,
    pub pieces: Pieces,
    /// The node behind whose writes no ROLE is yet.
    owing: Cell<Option<u16>>,
    owed: Notify,
    /// The epoch that was published last, and the one that the connections were judged by.
    newest: Arc<AtomicU64>,
    heeded: Cell<u64>,
}

impl Tally {
    /// Something has changed that the connections do not know yet: nothing is handed on before they do.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.newest.load(Acquire) != self.heeded.get()
    }
    /// `node` acknowledges writes that no ROLE is behind.
    #[inline]
    pub fn owe(&self, node: u16) {
        if self.owing.replace(Some(node)).is_none() {
            self.owed.notify_one();
        }
    }
    pub fn received(&self, n: usize) {
        self.cells.count(Count::BytesFromNodes, n as u64);
    }
    pub fn sent(&self, n: usize) {
        self.cells.count(Count::BytesToNodes, n as u64);
    }
}

pub struct Pool {
    settings: Settings,
    tally: Rc<Tally>,
    on_event: Box<dyn Fn(Event)>,
    lanes: RefCell<Lanes>,
    /// No longer used, and not all answered: they must still be killed if their node dies.
    retired: RefCell<Vec<Rc<Conn>>>,
    /// Until when a node is left alone.
    resting: RefCell<Vec<Option<Instant>>>,
    leased: Rc<Cell<usize>>,
    turn: Cell<usize>,
    locked: Cell<bool>,
}

impl Pool {
    /// `newest` is the epoch that was published last, which [`Pool::sweep`] is to be told of.
    pub fn new(
        settings: Settings,
        cells: Arc<Cells>,
        newest: Arc<AtomicU64>,
        on_event: Box<dyn Fn(Event)>,
    ) -> Rc<Self> {
        let tally = Rc::new(Tally {
            cells,
            clock: Clock::default(),
            large: settings.large,
            origins: Origins::new(settings.strict),
            watched: Cell::new(false),
            readings: Notify::new(),
            even: Cell::new(true),
            ledger: Ledger::default(),
            pieces: Pieces::default(),
            owing: Cell::new(None),
            owed: Notify::new(),
            heeded: Cell::new(newest.load(Acquire)),
            newest,
        });
        Rc::new(Self {
            settings,
            tally,
            on_event,
            lanes: RefCell::default(),
            retired: RefCell::default(),
            resting: RefCell::new(vec![None; MAX_NODES]),
            leased: Rc::default(),
            turn: Cell::new(0),
            locked: Cell::new(false),
        })
    }

    /// The present term's replication id, and whether its master is away.
    pub fn begin_term(&self, term: u64, line: &str, headless: bool) {
        self.tally.origins.begin(term, line, headless);
    }

    /// Whether nodes are to get like shares of the reads.
    pub fn note_shares(&self, even: bool) {
        self.tally.even.set(even);
    }
    #[inline]
    pub fn is_even(&self) -> bool {
        self.tally.even.get()
    }

    /// What its clients are to be read into.
    #[inline]
    pub fn pieces(&self) -> &Pieces {
        &self.tally.pieces
    }

    /// What was acknowledged by which offset.
    pub fn ledger(&self) -> &Ledger {
        &self.tally.ledger
    }

    /// A write was acknowledged on a connection of a session's own, whose node had reached `low` before it; `master` will
    /// be asked behind it.
    pub fn acknowledge_apart(&self, term: u64, low: u64, master: Option<u16>) -> Place {
        if let Some(master) = master {
            self.tally.owe(master);
        }
        self.tally.ledger.acknowledge_apart(term, low)
    }

    /// Resolves after one or more connections have a new [`super::Reading`].
    pub async fn read_on(&self) {
        self.tally.watched.set(true);
        self.tally.readings.notified().await;
    }

    /// The id of `lane`, new or known, which stays.
    pub fn lane(&self, lane: Lane) -> LaneId {
        self.lanes.borrow_mut().lasting(&lane)
    }

    /// Likewise for a login that was not asked for at the start. When there are too many, those go that are not `used`;
    /// `None` when all are.
    pub fn new_lane(&self, lane: Lane, used: impl FnOnce() -> HashSet<LaneId>) -> Option<LaneId> {
        let mut lanes = self.lanes.borrow_mut();
        if let Some(id) = lanes.fitting(&lane) {
            return Some(id);
        }
        lanes.recycle(&used()).into_iter().for_each(|conn| self.retire(conn));
        lanes.fitting(&lane)
    }

    pub fn describe(&self, lane: LaneId) -> Option<Lane> {
        self.lanes.borrow().get(lane)?.lane().cloned()
    }

    /// The shared connection to a node as it stands, if there is an open one.
    #[inline]
    pub fn peek(&self, lane: LaneId, node: u16) -> Option<Rc<Conn>> {
        let lanes = self.lanes.borrow();
        let conns = lanes.get(lane)?.shared.get(usize::from(node))?;
        let conn = conns.get(if conns.len() > 1 { self.turn.get() % conns.len() } else { 0 })?;
        conn.is_open().then(|| Rc::clone(conn))
    }

    /// How long a request to `node` waits on the connection that it would join, as [`Conn::wait_ns`]. As if idle where there are
    /// several to a node: the next request takes the next of them.
    #[inline]
    pub fn wait_ns(&self, lane: LaneId, node: u16) -> (u64, u64) {
        let conn = if self.settings.connections_per_node > 1 { None } else { self.peek(lane, node) };
        conn.map_or((0, 0), |conn| conn.wait_ns())
    }

    /// An open shared connection to `target`, made now if need be. `None`: the node is being left alone after a failure.
    pub fn shared(
        self: &Rc<Self>,
        lane: LaneId,
        target: impl FnOnce() -> Target,
        generation: u64,
        node: u16,
    ) -> Option<Rc<Conn>> {
        if self.settings.connections_per_node > 1 {
            self.turn.set(self.turn.get().wrapping_add(1));
        }
        match self.peek(lane, node) {
            Some(conn) if conn.target.generation == generation => Some(conn),
            _ => self.renew(lane, target()),
        }
    }

    fn renew(self: &Rc<Self>, lane: LaneId, target: Target) -> Option<Rc<Conn>> {
        if self.is_resting(target.node) {
            return None;
        }
        let mut lanes = self.lanes.borrow_mut();
        let slots = lanes.get_mut(lane)?;
        let how = slots.lane()?.clone();
        let conns = slots.shared.get_mut(usize::from(target.node))?;
        let current = |conn: &Rc<Conn>| conn.is_open() && conn.target.generation == target.generation;
        for old in conns.extract_if(.., |conn| !current(conn)) {
            self.retire(old);
        }
        while conns.len() < self.settings.connections_per_node.max(1) {
            let conn = Rc::new(Conn::new(target.clone(), self.settings.upstream_bytes, Rc::clone(&self.tally)));
            tokio::task::spawn_local(Rc::clone(self).live(Rc::clone(&conn), how.clone()));
            conns.push(conn);
        }
        conns.first().cloned()
    }

    /// A shared connection's life.
    async fn live(self: Rc<Self>, conn: Rc<Conn>, lane: Lane) {
        let node = conn.target.node;
        match dial::dial(&conn.target, &lane, self.settings.connect_timeout, self.settings.paced).await {
            Ok(dialled) => {
                let stream = self.dialled(&lane, dialled);
                let end = conn.drive(stream).await;
                conn.fail();
                match end {
                    End::Drained => {}
                    End::Killed => self.tally.cells.count(Count::UpstreamLost, 1),
                    End::Lost | End::Garbage => {
                        self.tally.cells.count(Count::UpstreamLost, 1);
                        (self.on_event)(Event::Lost { node });
                    }
                }
            }
            Err(refused) => {
                self.tally.cells.count(Count::UpstreamConnectErrors, 1);
                if refused.is_login() {
                    conn.reject();
                } else {
                    self.rest(node);
                    conn.fail();
                }
                self.report(node, refused);
            }
        }
    }

    fn dialled(&self, lane: &Lane, dialled: Dialled) -> TcpStream {
        self.tally.cells.count(Count::UpstreamConnects, 1);
        if lane.login.is_none() {
            self.locked.set(dialled.locked);
        }
        dialled.stream
    }

    /// The nodes want a login of everybody, as far as it was seen.
    pub fn is_locked(&self) -> bool {
        self.locked.get()
    }

    fn report(&self, node: u16, refused: Refused) {
        (self.on_event)(match refused {
            Refused::Handshake(text) => Event::Handshake { node, text },
            _ => Event::Lost { node },
        });
    }

    fn rest(&self, node: u16) {
        if let Some(until) = self.resting.borrow_mut().get_mut(usize::from(node)) {
            *until = Some(Instant::now() + BACKOFF);
        }
    }

    /// A dial to this node failed a moment ago.
    pub fn is_resting(&self, node: u16) -> bool {
        match self.resting.borrow().get(usize::from(node)) {
            Some(Some(until)) => Instant::now() < *until,
            _ => false,
        }
    }

    fn retire(&self, conn: Rc<Conn>) {
        conn.retire();
        let mut retired = self.retired.borrow_mut();
        retired.retain(|conn| conn.in_flight() > 0);
        retired.push(conn);
    }

    /// Makes every connection heed what `judge` says of it by the snapshot of `epoch`: it goes on, or takes nothing more.
    pub fn sweep(&self, epoch: u64, judge: impl Fn(&Target) -> Verdict) {
        self.tally.heeded.set(epoch);
        for slots in self.lanes.borrow_mut().iter_mut() {
            for conns in &mut slots.shared {
                for old in conns.extract_if(.., |conn| !conn.is_open() || !is_kept(conn, judge(&conn.target))) {
                    self.retire(old);
                }
            }
            for leases in &mut slots.idle {
                leases.retain(|lease| matches!(judge(&lease.target), Verdict::Keep | Verdict::Withhold));
            }
        }
        self.retired.borrow_mut().retain(|conn| {
            match judge(&conn.target) {
                Verdict::Kill => conn.kill(),
                verdict => conn.heed(verdict),
            }
            conn.in_flight() > 0
        });
    }

    /// A connection of one's own to `target`: an idle one, or dialled now.
    ///
    /// # Errors
    /// The dial's, or that the bound on leased connections is reached (`WouldBlock`).
    pub async fn lease(&self, lane: LaneId, target: &Target) -> Result<Lease, Refused> {
        let how = {
            let mut lanes = self.lanes.borrow_mut();
            let gone = || Refused::Io(std::io::ErrorKind::NotFound.into());
            let slots = lanes.get_mut(lane).ok_or_else(gone)?;
            let idle = &mut slots.idle[usize::from(target.node).min(MAX_NODES - 1)];
            idle.retain(|lease| lease.target == *target && lease.is_quiet());
            if let Some(lease) = idle.pop() {
                return Ok(lease);
            }
            slots.lane().cloned().ok_or_else(gone)?
        };
        if self.leased.get() >= self.settings.pinned && !self.drop_idle() {
            return Err(Refused::Io(std::io::ErrorKind::WouldBlock.into()));
        }
        let Settings { connect_timeout, paced, .. } = self.settings;
        let dialled = dial::dial(target, &how, connect_timeout, paced).await.inspect_err(|refused| {
            self.tally.cells.count(Count::UpstreamConnectErrors, 1);
            if !matches!(refused, Refused::Handshake(_)) {
                (self.on_event)(Event::Lost { node: target.node });
            }
        })?;
        let stream = self.dialled(&how, dialled);
        Ok(Lease::new(stream, target.clone(), Rc::clone(&self.leased)))
    }

    /// Makes room for a connection by closing an idle one that waits for another lane or node.
    fn drop_idle(&self) -> bool {
        let mut lanes = self.lanes.borrow_mut();
        lanes.iter_mut().flat_map(|slots| &mut slots.idle).any(|idle| idle.pop().is_some())
    }

    /// Takes back a leased connection in the state `lane` describes, with nothing outstanding and no session state left.
    pub fn give_back(&self, lane: LaneId, lease: Lease) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(slots) = lanes.get_mut(lane) else { return };
        let Some(idle) = slots.idle.get_mut(usize::from(lease.target.node)) else { return };
        if idle.len() < IDLE_LEASES {
            idle.push(lease);
        }
    }
}

/// What a topology change means for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// No new requests, and no replies to them, before more is known: it may be master no longer.
    Withhold,
    /// It was master and is no longer: no new requests, and of the replies those received by then.
    Replaced(Option<Instant>),
    /// No new requests; the replies on their way are still good.
    Retire,
    /// The node is dead: waiting is in vain.
    Kill,
}

/// Whether the connection stays where it is.
fn is_kept(conn: &Conn, verdict: Verdict) -> bool {
    conn.heed(verdict);
    matches!(verdict, Verdict::Keep | Verdict::Withhold)
}
