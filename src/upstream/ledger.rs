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
mod tests {
    use super::*;

    const fn sure(n: u64) -> Writes {
        Writes { sure: n, unsure: 0 }
    }

    const fn loss(lost: u64, uncertain: u64) -> Loss {
        Loss { lost, uncertain }
    }

    /// Runs 1, 2, 3 of 10, 20 and 40 writes, read at 100, 200 and 300; 5 writes of run 4 that nothing was read behind.
    fn log() -> Log {
        let mut log = Log::default();
        log.resume(1, 50);
        for (run, writes) in [(1, 10), (2, 20), (3, 40)] {
            log.acknowledge(1, sure(writes));
            log.read(1, run * 100, run);
        }
        log.acknowledge(1, sure(5));
        log
    }

    #[test]
    fn a_span_is_kept_or_lost_as_a_whole_and_uncertain_where_the_lines_part_within() {
        for (common, expected) in [
            (0, loss(75, 0)),
            (50, loss(75, 0)),
            (51, loss(65, 10)),
            (99, loss(65, 10)),
            (100, loss(65, 0)),
            (250, loss(5, 40)),
            (300, loss(5, 0)),
            (301, loss(0, 5)),
            (u64::MAX, loss(0, 0)),
        ] {
            assert_eq!(log().loss(common), expected, "{common}");
        }
    }

    #[test]
    fn a_run_has_the_fate_of_its_span() {
        use Fate::{Kept, Lost, Uncertain};
        for (common, expected) in [
            (100, [Kept, Lost, Lost, Lost]),
            (150, [Kept, Uncertain, Lost, Lost]),
            (299, [Kept, Kept, Uncertain, Lost]),
            (300, [Kept, Kept, Kept, Lost]),
            (400, [Kept, Kept, Kept, Uncertain]),
        ] {
            let log = log();
            assert_eq!([1, 2, 3, 4].map(|run| log.fate(run, common)), expected, "{common}");
        }
    }

    #[test]
    fn what_did_not_move_the_offset_changed_nothing() {
        let mut log = Log::default();
        log.resume(1, 100);
        log.acknowledge(1, sure(3));
        log.read(1, 100, 1);
        assert_eq!(log.loss(20), loss(0, 0));
        log.acknowledge(1, sure(3));
        log.read(1, 101, 2);
        assert_eq!(log.loss(20), loss(3, 0));
    }

    #[test]
    fn offsets_and_writes_of_another_term_are_not_its_own() {
        let mut log = log();
        log.read(2, 9000, 4);
        log.acknowledge(0, sure(100));
        assert_eq!(log.loss(100), loss(65, 0));
        log.resume(2, 0);
        assert_eq!(log.loss(0), loss(0, 0));
        log.acknowledge(1, sure(100));
        log.read(1, 9000, 5);
        assert_eq!(log.loss(0), loss(0, 0));
    }

    #[test]
    fn a_long_log_is_small_and_exact_at_its_end() {
        let mut log = Log::default();
        log.resume(1, 0);
        let runs = 100_000;
        for run in 1..=runs {
            log.acknowledge(1, sure(2));
            log.read(1, run * 10, run);
        }
        let spans: usize = log.levels.iter().map(VecDeque::len).sum();
        assert!(spans <= SPANS * 14, "{spans}");
        assert_eq!(log.loss(0), loss(2 * runs, 0));
        for run in runs - 30..=runs {
            assert_eq!(log.loss(run * 10), loss(2 * (runs - run), 0), "{run}");
        }
        for run in (1..runs).step_by(97) {
            let Loss { lost, uncertain } = log.loss(run * 10);
            let truth = 2 * (runs - run);
            assert!(lost <= truth && truth <= lost + uncertain, "{run}: {lost} {uncertain}");
            assert!(uncertain <= 2 + truth / 30, "{run}: {lost} {uncertain} of {truth}");
            let fate = log.fate(run + 1, run * 10);
            assert!(if uncertain == 0 { fate == Fate::Lost } else { fate == Fate::Uncertain }, "{run}");
        }
    }

    #[test]
    fn a_run_with_errors_acknowledges_what_they_leave() {
        let table = [
            ("all well", 3, 5, 0, false, (3, 0)),
            ("writes alone", 3, 3, 2, false, (1, 0)),
            ("errors among reads and writes", 3, 5, 1, false, (2, 1)),
            ("more errors than writes", 3, 9, 7, false, (0, 3)),
            ("a transaction that was aborted", 3, 5, 1, true, (0, 3)),
        ];
        for (what, n, all, errors, whole, (sure, unsure)) in table {
            let found = Written { term: 1, n }.acknowledged(all, errors, whole);
            assert_eq!(found, Writes { sure, unsure }, "{what}");
        }
    }

    #[test]
    fn what_is_acknowledged_apart_is_covered_by_questions_asked_later_only() {
        let ledger = Ledger::default();
        assert_eq!(ledger.acknowledge_apart(1, 10), Place::default());
        ledger.begin(1);
        ledger.acknowledge_apart(1, 10);
        let before = ledger.before();
        let second = ledger.acknowledge_apart(1, 30);
        ledger.read(1, 40, before);
        assert_eq!(ledger.open_apart(), 1);
        assert_eq!((ledger.loss(1, 40), ledger.loss(1, 5)), (loss(0, 1), loss(2, 0)));
        assert_eq!(ledger.fate(second, 40), Fate::Uncertain);
        ledger.read(1, 60, ledger.before());
        assert_eq!(ledger.open_apart(), 0);
        assert_eq!((ledger.loss(1, 40), ledger.loss(1, 60)), (loss(0, 1), loss(0, 0)));
        assert_eq!(ledger.fate(second, 60), Fate::Kept);
        // A question behind nothing new.
        ledger.read(1, 70, ledger.before());
        assert_eq!(ledger.loss(1, 60), loss(0, 0));
    }

    #[test]
    fn what_connections_that_are_gone_acknowledged_still_counts() {
        let ledger = Ledger::default();
        ledger.begin(1);
        let logs = 3 * GONE as u64;
        for n in 1..=logs {
            let log = ledger.open();
            log.borrow_mut().resume(1, 10 * n);
            log.borrow_mut().acknowledge(1, sure(1));
            log.borrow_mut().read(1, 10 * n + 5, 1);
            assert!(!ledger.end(&log), "all is read");
        }
        assert!(ledger.logs.borrow().len() <= GONE + 1);
        assert_eq!((ledger.loss(1, 0), ledger.loss(1, u64::MAX)), (loss(logs, 0), loss(0, 0)));
        assert_eq!(ledger.loss(2, 0), loss(0, 0));
        let gone = Place { term: 1, log: 1, serial: 1 };
        let known = Place { log: logs, ..gone };
        assert_eq!([gone, known].map(|place| ledger.fate(place, 15)), [Fate::Uncertain, Fate::Lost]);
        assert_eq!([gone, known].map(|place| ledger.fate(place, u64::MAX - 1)), [Fate::Kept, Fate::Kept]);
        ledger.acknowledge_within(1, 7, sure(4));
        assert_eq!((ledger.loss(1, 7), ledger.loss(1, 6)), (loss(logs, 0), loss(logs, 4)));
        ledger.begin(2);
        assert_eq!(ledger.loss(1, 0), loss(0, 0));
    }

    #[test]
    fn what_a_connection_acknowledged_last_is_covered_by_what_another_is_asked_after_its_end() {
        let ledger = Ledger::default();
        ledger.begin(1);
        let log = ledger.open();
        log.borrow_mut().resume(1, 10);
        log.borrow_mut().acknowledge(1, Writes { sure: 2, unsure: 1 });
        let place = Place { term: 1, log: log.borrow().id(), serial: 1 };
        let early = ledger.before();
        assert!(ledger.end(&log));
        ledger.read(1, 40, early);
        assert_eq!((ledger.open_apart(), ledger.loss(1, 40), ledger.fate(place, 40)), (1, loss(0, 3), Fate::Uncertain));
        ledger.read(1, 60, ledger.before());
        assert_eq!((ledger.open_apart(), ledger.loss(1, 60), ledger.fate(place, 60)), (0, loss(0, 0), Fate::Kept));
        assert_eq!((ledger.loss(1, 10), ledger.fate(place, 10)), (loss(2, 1), Fate::Lost));
        // Another term's ended connections ask for nothing, though somebody still holds them.
        ledger.begin(2);
        assert_eq!((ledger.open_apart(), ledger.logs.borrow().len()), (0, 0));
    }
}
