//! Which writes were acknowledged by which replication offset, so that after a switch those can be counted that the new
//! master does not have.
//!
//! What a connection acknowledged between two readings of its node's offset is one span: these writes were executed after
//! the first and before the second. Kept is what lies at or below the offset that both masters have in common, lost what
//! lies above it, uncertain what a span has on both sides, or no reading closed. Counted per flush, never per request; a
//! full log joins its older spans, which makes more of it uncertain and nothing wrong. Must not do I/O. Invariant: what is
//! called lost or kept is proven by the order on one connection, within one term.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::furthest::Furthest;

/// Spans of one size in a log; of more the oldest two become one of the next size. So what is uncertain stays below a
/// thirtieth of what is lost, however long the way back, but for the writes of one flush.
const SPANS: usize = 32;
/// Logs of connections that are gone. Of older ones only the sums are kept.
const GONE: usize = 32;

/// Writes of a run, as it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Above 0: the run writes, and an offset behind it is asked for sooner or later.
    pub term: u32,
    /// Those that are acknowledged by their replies.
    pub n: u32,
}

impl Written {
    /// What is acknowledged when all requests of the run are answered, `errors` of them by an error.
    pub fn acknowledged(self, all: u32, errors: u32, whole: bool) -> Writes {
        let Written { n, .. } = self;
        let doubtful = match errors {
            0 => 0,
            // Aborted as a whole; or its user may not MULTI, and each was carried out by itself.
            _ if whole => n,
            // Each error is a write's.
            _ if n == all => return Writes { sure: n.saturating_sub(errors).into(), unsure: 0 },
            _ => n.min(errors),
        };
        Writes { sure: (n - doubtful).into(), unsure: doubtful.into() }
    }
}

/// Acknowledged writes: so many for sure, and perhaps so many more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writes {
    pub sure: u64,
    pub unsure: u64,
}

impl Writes {
    fn add(&mut self, more: Writes) {
        self.sure += more.sure;
        self.unsure += more.unsure;
    }
}

/// What became of acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Lost,
    Uncertain,
}

/// How many a new master does not have, and of how many more nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    pub lost: u64,
    pub uncertain: u64,
}

/// A place among what was sent: a run of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// 0: nowhere.
    pub term: u64,
    /// 0: a connection of the session's own.
    pub log: u64,
    pub serial: u64,
}

/// Writes executed after their node had reached `low` and before it showed `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// The last run in it.
    upto: u64,
    low: u64,
    high: u64,
    writes: Writes,
}

impl Span {
    /// One for both; `self` was before `later`.
    fn join(mut self, later: Span) -> Span {
        self.writes.add(later.writes);
        Span { low: self.low.min(later.low), high: self.high.max(later.high), writes: self.writes, ..later }
    }

    fn fate(&self, common: u64) -> Fate {
        match () {
            // Where the offset did not move nothing was changed.
            () if self.high <= common || self.low == self.high => Fate::Kept,
            () if self.low >= common => Fate::Lost,
            () => Fate::Uncertain,
        }
    }
}

/// What one connection acknowledged in the present term.
#[derive(Debug, Default)]
pub struct Log {
    id: u64,
    term: u64,
    /// By how many spans are joined in one: 1, 2, 4, ...; within a level and from the last level to the first in the order of
    /// time.
    levels: Vec<VecDeque<Span>>,
    /// Acknowledged since the last reading.
    open: Writes,
    /// What the node had reached before the first write that is in no span.
    low: u64,
    /// Its connection has ended, as the so manieth.
    over: Option<u64>,
}

/// What had come to pass before a question was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// Writes acknowledged on connections of sessions' own.
    apart: u64,
    /// Connections ended.
    over: u64,
}

impl Log {
    fn enter(&mut self, term: u64) {
        if self.term < term {
            *self = Self { id: self.id, term, over: self.over, ..Self::default() };
        }
    }

    /// Nothing of it was on its way when a run that writes was sent, and a node had shown `newest` by then.
    pub fn resume(&mut self, term: u64, newest: u64) {
        self.enter(term);
        self.low = self.low.max(newest);
    }

    pub fn acknowledge(&mut self, term: u64, writes: Writes) {
        if self.term == term {
            self.open.add(writes);
        }
    }

    /// The node showed `offset` behind all runs up to `upto`, and none of what was sent later is acknowledged yet.
    pub fn read(&mut self, term: u64, offset: u64, upto: u64) {
        if self.term == term {
            let writes = std::mem::take(&mut self.open);
            self.close(upto, offset, writes);
            self.low = self.low.max(offset);
        }
    }

    fn close(&mut self, upto: u64, high: u64, writes: Writes) {
        let mut span = Span { upto, low: self.low.min(high), high, writes };
        for level in &mut self.levels {
            level.push_back(span);
            if level.len() <= SPANS {
                return;
            }
            let Some((first, second)) = level.pop_front().zip(level.pop_front()) else { return };
            span = first.join(second);
        }
        self.levels.push(VecDeque::from([span]));
    }

    fn all(&self) -> impl Iterator<Item = Span> {
        let open = Span { upto: u64::MAX, low: self.low, high: u64::MAX, writes: self.open };
        self.levels.iter().rev().flatten().copied().chain([open])
    }

    /// What a master that has everything up to `common` has of this.
    fn loss(&self, common: u64) -> Loss {
        let mut loss = Loss::default();
        for span in self.all() {
            let Writes { sure, unsure } = span.writes;
            match span.fate(common) {
                Fate::Kept => {}
                Fate::Lost => (loss.lost, loss.uncertain) = (loss.lost + sure, loss.uncertain + unsure),
                Fate::Uncertain => loss.uncertain += sure + unsure,
            }
        }
        loss
    }

    fn fate(&self, serial: u64, common: u64) -> Fate {
        self.all().find(|span| span.upto >= serial).map_or(Fate::Uncertain, |span| span.fate(common))
    }

    /// No connection will ask behind what it acknowledged last.
    fn is_orphan(&self) -> bool {
        self.over.is_some() && self.open != Writes::default()
    }

    /// All of it as one span.
    fn sum(&self) -> Option<Span> {
        self.all().filter(|span| span.writes != Writes::default()).reduce(Span::join)
    }
}

/// All that the connections of one pool acknowledged in the present term.
#[derive(Debug, Default)]
pub struct Ledger {
    logs: RefCell<Vec<Rc<RefCell<Log>>>>,
    /// Acknowledged on connections of sessions' own, numbered one by one.
    apart: RefCell<Log>,
    acknowledged_apart: Cell<u64>,
    /// Connections that have ended.
    over: Cell<u64>,
    /// There is a log that waits for another connection's question.
    orphans: Cell<bool>,
    /// What belongs to no log that is still kept.
    rest: RefCell<Log>,
    last_id: Cell<u64>,
    /// The largest offset that was shown.
    pub furthest: Arc<Furthest>,
}

impl Ledger {
    /// A log for a new connection, until [`Ledger::end`].
    pub fn open(&self) -> Rc<RefCell<Log>> {
        self.last_id.set(self.last_id.get() + 1);
        let log = Rc::new(RefCell::new(Log { id: self.last_id.get(), ..Log::default() }));
        let mut logs = self.logs.borrow_mut();
        logs.push(Rc::clone(&log));
        let is_over = |log: &Rc<RefCell<Log>>| log.borrow().over.is_some();
        if logs.iter().filter(|log| is_over(log)).count() > GONE {
            // First what needs no answer any more.
            let spare = logs.iter().position(|log| is_over(log) && !log.borrow().is_orphan());
            if let Some(oldest) = spare.or_else(|| logs.iter().position(is_over)) {
                let oldest = logs.remove(oldest);
                self.put_away(&oldest.borrow());
            }
        }
        log
    }

    /// The log's connection is over. True: what it acknowledged last waits for another connection's question.
    pub fn end(&self, log: &RefCell<Log>) -> bool {
        let log = &mut *log.borrow_mut();
        self.over.set(self.over.get() + 1);
        log.over = Some(self.over.get());
        let orphan = log.is_orphan() && log.term == self.apart.borrow().term;
        self.orphans.set(self.orphans.get() || orphan);
        orphan
    }

    fn put_away(&self, log: &Log) {
        let mut rest = self.rest.borrow_mut();
        if let Some(sum) = log.sum().filter(|_| rest.term == log.term) {
            rest.low = sum.low;
            rest.close(0, sum.high, sum.writes);
        }
    }

    /// Writes were acknowledged whose offset is at most `high`.
    pub fn acknowledge_within(&self, term: u64, high: u64, writes: Writes) {
        let mut rest = self.rest.borrow_mut();
        if rest.term == term {
            rest.low = 0;
            rest.close(0, high, writes);
        }
    }

    /// A write was acknowledged on a connection of a session's own, whose node had reached `low` before it.
    pub fn acknowledge_apart(&self, term: u64, low: u64) -> Place {
        let mut apart = self.apart.borrow_mut();
        if apart.term != term {
            return Place::default();
        }
        let serial = self.acknowledged_apart.get() + 1;
        self.acknowledged_apart.set(serial);
        apart.low = if apart.open.sure == 0 { low } else { apart.low.min(low) };
        apart.acknowledge(term, Writes { sure: 1, unsure: 0 });
        Place { term, log: 0, serial }
    }

    /// What a question that is asked now is behind.
    pub fn before(&self) -> Before {
        Before { apart: self.acknowledged_apart.get(), over: self.over.get() }
    }

    /// The present term, while there is something that any connection may ask behind; else 0.
    pub fn open_apart(&self) -> u32 {
        let apart = self.apart.borrow();
        let any = apart.open.sure > 0 || self.orphans.get();
        if any { u32::try_from(apart.term).unwrap_or(u32::MAX) } else { 0 }
    }

    /// A node showed `offset` when it was asked `before` what came later.
    pub fn read(&self, term: u64, offset: u64, before: Before) {
        self.furthest.note(term, offset);
        if self.orphans.get() {
            self.read_orphans(term, offset, before);
        }
        let apart = before.apart;
        let log = &mut *self.apart.borrow_mut();
        let later = self.acknowledged_apart.get() - apart;
        if log.term == term && log.open.sure > later {
            let covered = log.open.sure - later;
            log.open.sure = later;
            log.close(apart, offset, Writes { sure: covered, unsure: 0 });
        }
    }

    #[cold]
    fn read_orphans(&self, term: u64, offset: u64, before: Before) {
        let mut left = false;
        for log in self.logs.borrow().iter() {
            let log = &mut *log.borrow_mut();
            if log.is_orphan() && log.over.is_some_and(|over| over <= before.over) {
                log.read(term, offset, u64::MAX);
            }
            left |= log.is_orphan();
        }
        self.orphans.set(left);
    }

    /// What a master that has everything up to `common` has of what was acknowledged in `term`.
    pub fn loss(&self, term: u64, common: u64) -> Loss {
        let mut total = Loss::default();
        let mut add = |log: &Log| {
            if log.term == term {
                let Loss { lost, uncertain } = log.loss(common);
                (total.lost, total.uncertain) = (total.lost + lost, total.uncertain + uncertain);
            }
        };
        self.logs.borrow().iter().for_each(|log| add(&log.borrow()));
        add(&self.apart.borrow());
        add(&self.rest.borrow());
        total
    }

    /// What it has of the run at `place`.
    pub fn fate(&self, place: Place, common: u64) -> Fate {
        if place.log == 0 {
            return self.apart.borrow().fate(place.serial, common);
        }
        let logs = self.logs.borrow();
        match logs.binary_search_by_key(&place.log, |log| log.borrow().id) {
            Ok(at) => {
                let log = logs[at].borrow();
                if log.term == place.term { log.fate(place.serial, common) } else { Fate::Uncertain }
            }
            // It was put away: what holds for all of those holds for it.
            Err(_) => self.rest.borrow().sum().map_or(Fate::Uncertain, |rest| rest.fate(common)),
        }
    }

    /// What was acknowledged in the terms before is of no interest any more. Until it is said that one has begun, nothing of
    /// it drives out what has yet to be counted.
    pub fn begin(&self, term: u64) {
        let mut logs = self.logs.borrow_mut();
        logs.retain(|log| log.borrow().over.is_none());
        self.orphans.set(false);
        logs.iter().for_each(|log| log.borrow_mut().enter(term));
        self.apart.borrow_mut().enter(term);
        self.rest.borrow_mut().enter(term);
    }
}

impl Log {
    pub fn id(&self) -> u64 {
        self.id
    }
}

#[cfg(test)]
mod tests;
