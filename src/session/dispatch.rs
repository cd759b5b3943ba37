//! A run of requests -> a node. The rules of order inside one client's pipeline live here.
//!
//! Reads in flight and a write behind them: the write waits. A write in flight and reads behind them: they go to the
//! master on the same connection. A run that holds a write goes to the master as a whole. So a pipeline sees its own
//! effects and never the future, and nothing waits but a write directly behind reads of an earlier batch.

use std::rc::Rc;

use super::floor::Allowed;
use super::front::{Way, still_fits};
use super::kind::Kind;
use super::level::{self, Needed};
use super::state::{Park, Side, State};
use super::{Session, errors};
use crate::config::Consistency;
use crate::metrics::{Count, Kind as Label, Reason, Tick};
use crate::route::Want;
use crate::topology::Topology;
use crate::upstream::ledger::Written;
use crate::upstream::{Bound, Conn, Full, Manner, Receiver};

/// Neighbouring requests of one buffer that go one way.
pub struct Run {
    pub start: usize,
    pub end: usize,
    pub n: u32,
    reads: u32,
    master_reads: u32,
    scripts: u32,
    /// A transaction: answered, and sent again, only as a whole.
    whole: bool,
}

/// What became of a run.
pub enum Go {
    Sent,
    Wait(Park),
}

impl Run {
    pub fn at(start: usize) -> Self {
        Self { start, end: start, n: 0, reads: 0, master_reads: 0, scripts: 0, whole: false }
    }

    #[inline]
    pub fn add(&mut self, len: usize, kind: Kind) {
        self.end += len;
        self.n += 1;
        match kind {
            Kind::Read => self.reads += 1,
            Kind::MasterRead => self.master_reads += 1,
            Kind::Script => self.scripts += 1,
            Kind::Write | Kind::Alone => {}
        }
    }

    /// Makes it a transaction; one of reads alone may go where reads go.
    pub fn bind(&mut self, reads_only: bool) {
        self.whole = true;
        if reads_only {
            (self.reads, self.master_reads) = (self.n, 0);
        }
    }

    #[inline]
    pub fn is_read(&self) -> bool {
        self.reads == self.n
    }

    /// Requests that may not be executed twice.
    fn writes(&self) -> u32 {
        self.n - self.reads - self.master_reads
    }
}

/// A run on its way out, with the one snapshot by which all of it is decided: a term and a node of two would prove nothing.
#[derive(Clone, Copy)]
struct Outgoing<'a> {
    topology: &'a Topology,
    bytes: &'a [u8],
    run: &'a Run,
    now: Tick,
}

/// Where a run goes.
struct Chosen {
    conn: Rc<Conn>,
    reason: Reason,
    /// What the node must show first.
    needed: Needed,
}

impl Session {
    #[inline]
    pub(super) fn dispatch(self: &Rc<Self>, s: &mut State, bytes: &[u8], run: &Run, now: Tick) -> Go {
        let mut snapshot = self.front.snapshot();
        let out = Outgoing { topology: snapshot.load(), bytes, run, now };
        let side = if run.is_read() { Side::Replica } else { Side::Master };
        if s.in_flight > 0 {
            return self.join(s, out, side);
        }
        let stale = std::mem::take(&mut s.stale) && !out.topology.is_held();
        let side = if s.behind_write || stale { Side::Master } else { side };
        let (side, needed) = match s.level {
            Consistency::Eventual => (side, Needed::default()),
            Consistency::Bounded if side == Side::Replica => return self.dispatch_bounded(s, out),
            Consistency::Strong | Consistency::Bounded => (Side::Master, Needed::default()),
            Consistency::Session => match self.where_seen(s, out.topology, side) {
                Err(conn) => {
                    self.front.lead(out.topology, s.lane, &conn, s.reason);
                    return self.append(s, Chosen { conn, reason: s.reason, needed: Needed::default() }, out);
                }
                Ok(place) => place,
            },
        };
        let want = if side == Side::Replica { Want::Read } else { Want::Master };
        let way = self.front.way(out.topology, want, s.lane, s.avoid.take());
        self.go_by(s, way, (side, needed), out)
    }

    /// A run of reads at level `bounded`.
    fn dispatch_bounded(self: &Rc<Self>, s: &mut State, out: Outgoing<'_>) -> Go {
        match self.bounded_way(s, out.topology) {
            Some((way, needed)) => self.go_by(s, way, (Side::Replica, needed), out),
            None => {
                let way = self.front.way(out.topology, Want::Master, s.lane, s.avoid.take());
                self.go_by(s, way, (Side::Master, Needed::default()), out)
            }
        }
    }

    #[inline]
    fn go_by(self: &Rc<Self>, s: &mut State, way: Way, (side, needed): (Side, Needed), out: Outgoing<'_>) -> Go {
        let run = out.run;
        match way {
            Way::Conn { conn, reason } => {
                let reason = match s.level {
                    _ if side == Side::Replica || !run.is_read() || s.behind_write => reason,
                    Consistency::Strong => Reason::Policy,
                    Consistency::Bounded => Reason::Bound,
                    _ => Reason::Seen,
                };
                s.side = side;
                (s.epoch, s.term) = (out.topology.epoch, out.topology.term());
                s.reason = reason;
                self.append(s, Chosen { conn, reason, needed }, out)
            }
            Way::Hold if s.refusing => {
                let text = errors::hold_expired(self.front.listener.hold);
                self.answer_all(s, run.n, &text, Count::RefusedHold);
                Go::Sent
            }
            Way::Hold => Go::Wait(Park::Hold),
            Way::NoNode => {
                self.answer_all(s, run.n, errors::NO_REPLICA, Count::RefusedNoNode);
                Go::Sent
            }
            // Against what it must see no guard stands.
            Way::Guarded if !level::is_at_a_laggard(out.topology, needed.floor) => {
                let way = self.front.way(out.topology, Want::Master, s.lane, None);
                self.go_by(s, way, (Side::Master, Needed::default()), out)
            }
            Way::Guarded => {
                self.answer_all(s, run.n, errors::LAG_GUARD, Count::RefusedLag);
                Go::Sent
            }
        }
    }

    /// Where a run may go at level `session`, and the floor there; or the connection it must stay on.
    #[inline]
    fn where_seen(&self, s: &mut State, topology: &Topology, side: Side) -> Result<(Side, Needed), Rc<Conn>> {
        let master = Ok((Side::Master, Needed::default()));
        if side == Side::Master {
            return master;
        }
        s.reads = true;
        match s.allowed(topology.term()) {
            Allowed::Any { floor } => Ok((Side::Replica, Needed { term: topology.term(), floor })),
            Allowed::Master => master,
            Allowed::Stay => {
                let last = s.conn.clone().filter(|_| s.side == Side::Replica);
                match last.filter(|conn| still_fits(topology, conn, false, s.epoch)) {
                    Some(conn) => Err(conn),
                    None => master,
                }
            }
        }
    }

    /// Requests of this session are on their way: join them, or wait for them.
    #[inline]
    fn join(self: &Rc<Self>, s: &mut State, out: Outgoing<'_>, side: Side) -> Go {
        if s.side == Side::Replica && side == Side::Master {
            return Go::Wait(Park::Drain);
        }
        let Some(conn) = s.conn.clone() else { return Go::Wait(Park::Drain) };
        if !s.settled.is_empty() || !still_fits(out.topology, &conn, s.side == Side::Master, s.epoch) {
            return Go::Wait(Park::Drain);
        }
        let reason = if s.side == Side::Master { Reason::OwnWrite } else { s.reason };
        self.append(s, Chosen { conn, reason, needed: Needed::default() }, out)
    }

    #[inline]
    fn append(self: &Rc<Self>, s: &mut State, Chosen { conn, reason, needed }: Chosen, out: Outgoing<'_>) -> Go {
        let Outgoing { bytes, run, now, .. } = out;
        let idempotent = run.writes() == 0;
        if run.scripts > 0 && !conn.briefed.get() {
            self.brief(&conn, now);
        }
        let me: Rc<dyn Receiver> = Rc::clone(self) as Rc<dyn Receiver>;
        // The term of the choice: a later one says nothing of this connection.
        let (mut term, mut bound) = match s.level {
            Consistency::Session => (s.term, s.bound(s.term, &conn, needed.floor)),
            Consistency::Bounded => (0, needed.bound(&conn, s.side)),
            _ => (0, Bound::default()),
        };
        if let Some(held) = s.held.as_mut().filter(|_| s.in_flight == 0) {
            // What was written before and is not answered was lost, or will be sent again.
            held.all_answered();
        }
        let vouched = s.held.is_some() && !idempotent;
        if vouched {
            term = s.term;
            bound = Bound { term: u32::try_from(term).unwrap_or(u32::MAX), patient: false, ..bound };
        }
        let mut written = Written::default();
        if !idempotent {
            // What waits for copies is acknowledged later.
            let n = if vouched { 0 } else { run.writes() };
            written = Written { term: u32::try_from(s.term).unwrap_or(u32::MAX), n };
        }
        let manner = Manner { idempotent, whole: run.whole, bound, written };
        match conn.append(bytes, run.n, me, s.db, (s.read_at(now), now), manner) {
            Ok(serial) => {
                s.seen.sent(term, serial, (s.side == Side::Master, s.in_flight == 0));
                if !idempotent {
                    s.own.wrote(conn.place(s.term, serial), s.in_flight == 0);
                }
                if vouched {
                    self.note_write(s, &conn, serial, term);
                }
            }
            Err(Full) if s.in_flight > 0 => return Go::Wait(Park::Drain),
            Err(Full) => {
                self.answer_all(s, run.n, errors::UPSTREAM_FULL, Count::RefusedFull);
                return Go::Sent;
            }
        }
        self.count(conn.target.node, run, reason, s.side);
        if matches!(reason, Reason::Replica | Reason::LeastLagging) {
            self.front.note_reads(s, bytes, run.n);
        }
        s.in_flight += run.n;
        s.wrote |= !idempotent;
        s.behind_write |= !idempotent;
        s.conn = Some(conn);
        if s.reserved > 0 {
            self.unhold(s, true);
        }
        Go::Sent
    }

    #[inline]
    fn count(&self, node: u16, run: &Run, reason: Reason, side: Side) {
        let cells = &self.front.cells;
        if side == Side::Replica {
            cells.routed(node, Label::Read, reason, u64::from(run.n));
            return;
        }
        let writes = run.writes() - run.scripts;
        // Reads that share a run with a write follow it; alone on this side they follow one in flight.
        let read_reason = if run.n > run.reads { Reason::OwnWrite } else { reason };
        let counts = [
            (Label::Read, read_reason, run.reads),
            (Label::MasterRead, Reason::Master, run.master_reads),
            (Label::Write, Reason::Master, writes),
            (Label::Script, Reason::Master, run.scripts),
        ];
        for (label, reason, n) in counts.into_iter().filter(|(_, _, n)| *n > 0) {
            cells.routed(node, label, reason, u64::from(n));
        }
    }

    /// The same answer to `n` requests, with nothing on its way before them.
    fn answer_all(&self, s: &mut State, n: u32, text: &[u8], what: Count) {
        self.front.cells.count(what, u64::from(n));
        self.push(s, &text.repeat(n as usize));
        self.unhold(s, false);
    }
}
