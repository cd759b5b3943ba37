//! What all sessions of one listener on one worker share: the snapshot, the connections, the counters, who waits.
//!
//! Must not hold a session's own state. Invariant: a node is chosen from the newest published snapshot, and a connection
//! made before its node lost a role is never chosen again.

mod choice;
mod follow;
mod judge;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::Notify;

use super::Session;
use super::acks::Witness;
use super::cursor::Cursors;
use super::form::Forms;
use super::memo::Memo;
use super::rights::Allowed;
use super::roll::Roll;
use super::scripts::{Known, Store};
use super::touch::Touch;
use crate::command::Rules;
use crate::config::{ClientAuth, Limits, ListenerConfig, Login};
use crate::metrics::{Cells, Clock};
use crate::route::{Picker, Want};
use crate::topology::{Hint, NodeId, NodeState, Shard, Topology, View, Writes};
use crate::upstream::{Conn, Event, Lane, LaneId, Pool, Settings, Target, Verdict};
use choice::Choice;
pub use choice::Way;
use judge::Patience;

/// Counts that span workers. Touched when a session comes or goes or must wait, never per request.
pub struct Shared {
    pub sessions: AtomicUsize,
    /// Client ids are unique over all listeners of the process.
    next_id: Arc<AtomicU64>,
    held_bytes: AtomicUsize,
    pub(super) common: Arc<Common>,
    pub place: Place,
}

/// What all listeners of one set share.
pub struct Common {
    scripts: Arc<Store>,
    cursors: Cursors,
    pub(super) roll: Roll,
    pub(super) forms: Forms,
}

impl Common {
    pub fn new(limits: &Limits) -> Self {
        let scripts = Arc::new(Store::new(limits.scripts, limits.script_bytes));
        Self { scripts, cursors: Cursors::default(), roll: Roll::default(), forms: Forms::default() }
    }
}

/// What a listener is and where, and the counters of all its workers.
pub struct Place {
    /// Name of the set it serves.
    pub set: String,
    pub address: SocketAddr,
    pub cells: Vec<Arc<Cells>>,
}

impl Shared {
    pub fn new(next_id: Arc<AtomicU64>, common: Arc<Common>, place: Place) -> Self {
        Self { sessions: AtomicUsize::new(0), next_id, held_bytes: AtomicUsize::new(0), common, place }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed) + 1
    }
}

pub struct Front {
    pub listener: ListenerConfig,
    pub limits: Limits,
    pub view: Arc<View>,
    pub pool: Rc<Pool>,
    pub cells: Arc<Cells>,
    pub clock: Clock,
    pub(super) memo: Memo,
    pub(super) scripts: Known,
    pub(super) rules: Rules,
    /// A node has accepted a client of this listener that had not logged in.
    pub(super) accepted: Cell<bool>,
    pub(super) allowed: Allowed,
    pub shared: Arc<Shared>,
    snapshot: RefCell<Cache<Arc<ArcSwap<Topology>>, Arc<Topology>>>,
    picker: RefCell<Picker>,
    /// The reader chosen in this round, kept while its connection has unwritten requests to join.
    choice: Cell<Option<Choice>>,
    pub(super) touch: Option<Touch>,
    waiting: RefCell<Vec<(u64, Waker)>>,
    /// Told whenever a connection may have become one that no longer serves: the topology has changed, or patience ended.
    pub(super) heeded: Notify,
    /// Everyone connected, by id: needed to drain and to be found.
    sessions: RefCell<HashMap<u64, Weak<Session>>>,
    /// Grows each time `waiting` is emptied, so that nobody is in it twice.
    round: Cell<u64>,
    /// With a master that answers nothing.
    patience: Cell<Patience>,
    pub(super) node_login: Option<Login>,
    pub(super) connect_timeout: Duration,
    /// Looks after replies that wait for copies.
    pub(super) witness: Witness,
    /// The term whose beginning was heeded: what was acknowledged before is counted.
    reckoned: Cell<u64>,
}

impl Front {
    pub fn new(
        listener: ListenerConfig,
        limits: Limits,
        connect_timeout: Duration,
        node_login: Option<Login>,
        view: Arc<View>,
        cells: Arc<Cells>,
        shared: Arc<Shared>,
    ) -> Rc<Self> {
        let settings = Settings {
            connect_timeout,
            upstream_bytes: limits.upstream_bytes,
            large: limits.large_bytes,
            connections_per_node: limits.connections_per_node,
            paced: limits.pace_nodes,
            pinned: limits.pinned,
            strict: listener.reads.strict,
        };
        let hints = Arc::clone(&view);
        let on_event = Box::new(move |event| match event {
            Event::Lost { node } => hints.suspect(Hint::Lost(node)),
            Event::Handshake { node, text } => {
                tracing::warn!(node, text, "a node refused a session's login");
            }
        });
        Rc::new(Self {
            pool: Pool::new(settings, Arc::clone(&cells), view.newest(), on_event),
            picker: RefCell::new(
                Picker::new(listener.balancer, listener.zone.as_deref()).guarded(listener.reads.guard),
            ),
            snapshot: RefCell::new(Cache::new(view.snapshot())),
            clock: Clock::default(),
            memo: Memo::default(),
            scripts: Known::new(Arc::clone(&shared.common.scripts)),
            rules: Rules::new(&listener.commands),
            accepted: Cell::new(false),
            allowed: Allowed::default(),
            choice: Cell::new(None),
            touch: Touch::new(listener.reads.touch),
            waiting: RefCell::default(),
            heeded: Notify::new(),
            sessions: RefCell::default(),
            round: Cell::new(1),
            patience: Cell::default(),
            node_login,
            connect_timeout,
            witness: Witness::default(),
            reckoned: Cell::new(0),
            listener,
            limits,
            view,
            cells,
            shared,
        })
    }

    /// The lane of a session that has not logged in.
    pub fn first_lane(&self, resp: u8) -> Lane {
        let login = match self.listener.auth {
            ClientAuth::Passthrough => None,
            ClientAuth::Proxy => self.node_login.clone(),
        };
        Lane { login, resp, ..self.own_lane() }
    }

    /// The lane of redweir's own user.
    pub(super) fn own_lane(&self) -> Lane {
        Lane { login: self.node_login.clone(), resp: 2, no_touch: false, import_source: false }
    }

    /// The newest snapshot, at less cost than by [`Front::topology`]. While it is held nothing else of this may be asked
    /// that looks at the topology by itself.
    #[inline]
    pub(super) fn snapshot(&self) -> RefMut<'_, Cache<Arc<ArcSwap<Topology>>, Arc<Topology>>> {
        self.snapshot.borrow_mut()
    }

    /// The lane of a session that is in `own` now; `None`: too many different ones are in use.
    pub(super) fn lane_for(&self, lane: Lane, own: LaneId) -> Option<LaneId> {
        self.pool.new_lane(lane, || {
            // The one that asks may be busy with its own state.
            let others =
                self.sessions().into_iter().filter_map(|session| session.state.try_borrow().map(|s| s.lane).ok());
            others.chain([own]).collect()
        })
    }

    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(self.snapshot.borrow_mut().load())
    }

    fn judge(&self, topology: &Topology, target: &Target) -> Verdict {
        judge::judge(topology, target, self.patience.get())
    }

    /// Whether a connection of one's own may stay: its node lives, in the same life, and no other is the master instead.
    pub fn still_serves(&self, target: &Target, want: Want) -> bool {
        let mut cache = self.snapshot.borrow_mut();
        let topology = cache.load();
        let moved = match topology.shards.first().map(|shard| &shard.writes) {
            Some(Writes::Open(master)) => want == Want::Master && *master != target.node,
            _ => false,
        };
        !moved && matches!(self.judge(topology, target), Verdict::Keep | Verdict::Withhold)
    }

    /// Whether the node of a connection may be master no longer, so that its answers are to be kept back.
    pub fn is_doubted(&self, target: &Target) -> bool {
        let mut cache = self.snapshot.borrow_mut();
        self.judge(cache.load(), target) == Verdict::Withhold
    }

    /// Another is master: by when the connection's answers must have come to stand. `None`: they all do.
    pub fn replaced(&self, target: &Target) -> Option<Option<Instant>> {
        match self.judge(&self.topology(), target) {
            Verdict::Replaced(then) => Some(then),
            _ => None,
        }
    }

    /// Whether the node of a connection still runs, whatever its role.
    pub fn lives(&self, target: &Target) -> bool {
        self.judge(&self.topology(), target) != Verdict::Kill
    }

    /// Every replica that could be reached, in rotation or not.
    pub fn replicas(&self) -> Vec<Target> {
        let topology = self.topology();
        let replica = |n: &&Arc<crate::topology::Node>| {
            matches!(n.state, NodeState::Replica | NodeState::Lagging | NodeState::Unlinked)
        };
        let target =
            |n: &Arc<crate::topology::Node>| Target { node: n.id, generation: n.generation, dial: Arc::clone(&n.dial) };
        topology.nodes.iter().filter(replica).map(target).collect()
    }

    pub fn target_of(&self, node: NodeId) -> Option<Target> {
        let topology = self.topology();
        let node = topology.node(node)?;
        Some(Target { node: node.id, generation: node.generation, dial: Arc::clone(&node.dial) })
    }

    /// Every node there is, whatever its state.
    pub fn everyone(&self) -> Vec<Target> {
        let topology = self.topology();
        let target =
            |n: &Arc<crate::topology::Node>| Target { node: n.id, generation: n.generation, dial: Arc::clone(&n.dial) };
        topology.nodes.iter().map(target).collect()
    }

    pub(super) fn cursors(&self) -> &Cursors {
        &self.shared.common.cursors
    }

    /// Wakes `waker` at the next change of topology. `round` is the caller's memory of having asked.
    pub(super) fn wait_for_change(&self, id: u64, waker: &Waker, round: &mut u64) {
        if *round != self.round.get() {
            *round = self.round.get();
            self.waiting.borrow_mut().push((id, waker.clone()));
        }
    }

    pub(super) fn enter(&self, session: &Rc<Session>) {
        self.sessions.borrow_mut().insert(session.id, Rc::downgrade(session));
        self.cells.sessions.add(1);
    }

    /// Whether writes are held: there is no verified master.
    pub fn is_held(&self) -> bool {
        self.snapshot.borrow_mut().load().is_held()
    }

    /// The present master's number.
    pub fn term(&self) -> u64 {
        self.snapshot.borrow_mut().load().term()
    }

    /// The node that writes go to.
    pub(super) fn master(&self) -> Option<NodeId> {
        match self.topology().shards.first()?.writes {
            Writes::Open(master) => Some(master),
            Writes::Held => None,
        }
    }

    pub(super) fn leave(&self, id: u64, round: u64) {
        if round == self.round.get() {
            self.waiting.borrow_mut().retain(|(waiting, _)| *waiting != id);
        }
        self.shared.sessions.fetch_sub(1, Relaxed);
        self.sessions.borrow_mut().remove(&id);
        self.cells.sessions.sub(1);
    }

    /// Every session closes once what it sent so far is answered.
    pub fn drain(&self) {
        for session in self.sessions() {
            session.drain();
        }
    }

    pub(super) fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn session(&self, id: u64) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&id)?.upgrade()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }

    /// Reserves room for a held session's bytes; false: the queue is full.
    pub fn reserve_hold(&self, bytes: usize) -> bool {
        let before = self.shared.held_bytes.fetch_add(bytes, Relaxed);
        let fits = before + bytes <= self.listener.hold_bytes;
        if !fits {
            self.shared.held_bytes.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    pub fn release_hold(&self, bytes: usize) {
        self.shared.held_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// Whether a connection in use, chosen under the epoch `since`, may take more of what it carries: its node still has the
/// role, in the same life.
#[inline]
pub(super) fn still_fits(topology: &Topology, conn: &Conn, master: bool, since: u64) -> bool {
    conn.is_open() && (topology.epoch == since || fits(topology, &conn.target, master))
}

fn fits(topology: &Topology, target: &Target, master: bool) -> bool {
    let Some(shard) = topology.shards.first() else { return false };
    let same_life = topology.node(target.node).is_some_and(|n| n.generation == target.generation);
    same_life && (is_master(shard, target.node) || (!master && shard.readers.iter().any(|r| r.node == target.node)))
}

fn is_master(shard: &Shard, node: NodeId) -> bool {
    shard.writes == Writes::Open(node)
}
