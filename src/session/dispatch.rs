//! A run of requests -> a node. The rules of order inside one client's pipeline live here.
//!
//! Reads in flight and a write behind them: the write waits. A write in flight and reads behind them: they go to the
//! master on the same connection. A run that holds a write goes to the master as a whole. So a pipeline sees its own
//! effects and never the future, and nothing waits but a write directly behind reads of an earlier batch.

use std::rc::Rc;

use super::floor::Allowed;
use super::front::Way;
use super::kind::Kind;
use super::level::Needed;
use super::state::{Park, Side, State};
use super::{Session, errors};
use crate::config::Consistency;
use crate::metrics::{Count, Kind as Label, Reason, Tick};
use crate::route::Want;
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

/// Where a run goes.
struct Chosen {
    conn: Rc<Conn>,
    reason: Reason,
    /// The offset the node must show first; 0: none.
    floor: u64,
    /// Likewise at level `bounded`.
    needed: Needed,
}

impl Session {
    #[inline]
    pub(super) fn dispatch(self: &Rc<Self>, s: &mut State, bytes: &[u8], run: &Run, now: Tick) -> Go {
        let side = if run.is_read() { Side::Replica } else { Side::Master };
        if s.in_flight > 0 {
            return self.join(s, bytes, run, side, now);
        }
        let stale = std::mem::take(&mut s.stale) && !self.front.is_held();
        let side = if s.behind_write || stale { Side::Master } else { side };
        let (side, floor) = match s.level {
            Consistency::Eventual => (side, 0),
            Consistency::Bounded if side == Side::Replica => return self.dispatch_bounded(s, bytes, run, now),
            Consistency::Strong | Consistency::Bounded => (Side::Master, 0),
            Consistency::Session => match self.where_seen(s, side) {
                Err(conn) => {
                    let chosen = Chosen { conn, reason: s.reason, floor: 0, needed: Needed::default() };
                    return self.append(s, chosen, bytes, run, now);
                }
                Ok(place) => place,
            },
        };
        let want = if side == Side::Replica { Want::Read } else { Want::Master };
        let way = self.front.way(want, s.lane, s.avoid.take());
        self.go_by(s, way, (side, floor, Needed::default()), bytes, run, now)
    }

    /// A run of reads at level `bounded`.
    fn dispatch_bounded(self: &Rc<Self>, s: &mut State, bytes: &[u8], run: &Run, now: Tick) -> Go {
        let (side, (way, needed)) = match self.bounded_way(s) {
            Some(found) => (Side::Replica, found),
            None => (Side::Master, (self.front.way(Want::Master, s.lane, s.avoid.take()), Needed::default())),
        };
        self.go_by(s, way, (side, 0, needed), bytes, run, now)
    }

    #[inline]
    fn go_by(
        self: &Rc<Self>,
        s: &mut State,
        way: Way,
        (side, floor, needed): (Side, u64, Needed),
        bytes: &[u8],
        run: &Run,
        now: Tick,
    ) -> Go {
        match way {
            // A master came between the two looks: what must be shown is an offset of another term.
            Way::Conn { term, .. } if (floor > 0 && term != s.seen.term()) || !needed.is_of(term) => {
                self.dispatch(s, bytes, run, now)
            }
            Way::Conn { conn, reason, epoch, term } => {
                let reason = match s.level {
                    _ if side == Side::Replica || !run.is_read() || s.behind_write => reason,
                    Consistency::Strong => Reason::Policy,
                    Consistency::Bounded => Reason::Bound,
                    _ => Reason::Seen,
                };
                s.side = side;
                (s.epoch, s.term) = (epoch, term);
                s.reason = reason;
                self.append(s, Chosen { conn, reason, floor, needed }, bytes, run, now)
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
            Way::Guarded if !self.front.is_at_a_laggard(floor.max(needed.floor())) => {
                let way = self.front.way(Want::Master, s.lane, None);
                self.go_by(s, way, (Side::Master, 0, Needed::default()), bytes, run, now)
            }
            Way::Guarded => {
                self.answer_all(s, run.n, errors::LAG_GUARD, Count::RefusedLag);
                Go::Sent
            }
        }
    }

    /// Where a run may go at level `session`, and the floor there; or the connection it must stay on.
    #[inline]
    fn where_seen(&self, s: &mut State, side: Side) -> Result<(Side, u64), Rc<Conn>> {
        if side == Side::Master {
            return Ok((Side::Master, 0));
        }
        s.reads = true;
        match s.allowed(self.front.term()) {
            Allowed::Any { floor } => Ok((Side::Replica, floor)),
            Allowed::Master => Ok((Side::Master, 0)),
            Allowed::Stay => {
                let last = s.conn.clone().filter(|_| s.side == Side::Replica);
                match last.filter(|conn| self.front.still_fits(conn, false, s.epoch)) {
                    Some(conn) => Err(conn),
                    None => Ok((Side::Master, 0)),
                }
            }
        }
    }

    /// Requests of this session are on their way: join them, or wait for them.
    #[inline]
    fn join(self: &Rc<Self>, s: &mut State, bytes: &[u8], run: &Run, side: Side, now: Tick) -> Go {
        if s.side == Side::Replica && side == Side::Master {
            return Go::Wait(Park::Drain);
        }
        let Some(conn) = s.conn.clone() else { return Go::Wait(Park::Drain) };
        if !s.settled.is_empty() || !self.front.still_fits(&conn, s.side == Side::Master, s.epoch) {
            return Go::Wait(Park::Drain);
        }
        let reason = if s.side == Side::Master { Reason::OwnWrite } else { s.reason };
        self.append(s, Chosen { conn, reason, floor: 0, needed: Needed::default() }, bytes, run, now)
    }

    #[inline]
    fn append(self: &Rc<Self>, s: &mut State, chosen: Chosen, bytes: &[u8], run: &Run, now: Tick) -> Go {
        let Chosen { conn, reason, floor, needed } = chosen;
        let idempotent = run.writes() == 0;
        if run.scripts > 0 && !conn.briefed.get() {
            self.brief(&conn, now);
        }
        let me: Rc<dyn Receiver> = Rc::clone(self) as Rc<dyn Receiver>;
        // That of the choice, for a later one says nothing of this connection.
        let (term, bound) = match s.level {
            Consistency::Session => (s.term, s.bound(s.term, &conn, floor)),
            Consistency::Bounded => (0, needed.bound(&conn, s.side)),
            _ => (0, Bound::default()),
        };
        let manner = Manner { idempotent, whole: run.whole, bound };
        match conn.append(bytes, run.n, me, s.db, (s.read_at(now), now), manner) {
            Ok(serial) => s.seen.sent(term, serial, s.side == Side::Master),
            Err(Full) if s.in_flight > 0 => return Go::Wait(Park::Drain),
            Err(Full) => {
                self.answer_all(s, run.n, errors::UPSTREAM_FULL, Count::RefusedFull);
                return Go::Sent;
            }
        }
        self.count(conn.target.node, run, reason, s.side);
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
