//! What the ledger claims of a loss, against what was written.

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
