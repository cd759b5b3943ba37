//! The judge on histories made by hand: each good one passes, and each way of being bad is seen, once, as what it is.

use super::check::{Kind, Verdict, judge};
use super::history::{End, History, Id, Level, Loss, Op, Session, Time, id};

const GONE: Option<Loss> = Some(Loss { from: 100, gone: Some(110) });

fn wrote(id: Id, times: (Time, Time), at: u32) -> Op {
    Op { key: 1, id, began: times.0, ended: times.1, end: End::Written(at) }
}

fn read(times: (Time, Time), seen: &[Id]) -> Op {
    Op { key: 1, id: 0, began: times.0, ended: times.1, end: End::Seen(seen.to_vec()) }
}

fn on(key: u32, op: Op) -> Op {
    Op { key, ..op }
}

fn lost(id: Id, began: Time) -> Op {
    Op { key: 1, id, began, ended: Time::MAX, end: End::Unknown }
}

/// Sessions 1, 2, … with these ops at one level.
fn judged(level: Level, last: &[(u32, &[Id])], loss: Option<Loss>, sessions: &[Vec<Op>]) -> Verdict {
    let session = |(number, ops): (u32, &Vec<Op>)| Session { number, level, ops: ops.clone() };
    judge(&History {
        sessions: (1..).zip(sessions).map(session).collect(),
        last: last.iter().map(|(key, ids)| (*key, ids.to_vec())).collect(),
        loss,
    })
}

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.violations.iter().map(|v| v.kind).collect()
}

/// The only kinds found at level `session`.
#[track_caller]
fn expect(expected: &[Kind], last: &[(u32, &[Id])], loss: Option<Loss>, sessions: &[Vec<Op>]) -> Verdict {
    let verdict = judged(Level::Session, last, loss, sessions);
    assert_eq!(kinds(&verdict), expected, "{:#?}", verdict.violations);
    verdict
}

fn a(n: u32) -> Id {
    id(1, n)
}
fn b(n: u32) -> Id {
    id(2, n)
}

#[test]
fn a_session_that_sees_its_writes_and_never_less_passes() {
    let writer =
        vec![wrote(a(1), (0, 5), 1), read((6, 7), &[a(1)]), wrote(a(2), (8, 9), 2), read((10, 11), &[a(1), a(2)])];
    let reader = vec![read((0, 1), &[]), read((2, 4), &[a(1)]), read((12, 13), &[a(1)]), read((14, 15), &[a(1), a(2)])];
    let verdict = expect(&[], &[(1, &[a(1), a(2)])], None, &[writer, reader]);
    assert_eq!((verdict.reads[&Level::Session], verdict.written, verdict.lost), (6, 2, 0));
}

#[test]
fn a_read_without_ones_own_write_is_seen() {
    expect(&[Kind::OwnWrite], &[(1, &[a(1)])], None, &[vec![wrote(a(1), (0, 1), 1), read((2, 3), &[])]]);
    // In a pipeline the order of sending counts, not the time of the reply.
    expect(&[Kind::OwnWrite], &[(1, &[a(1)])], None, &[vec![wrote(a(1), (0, 9), 1), read((0, 8), &[])]]);
}

#[test]
fn a_step_back_is_seen_within_a_key_and_from_one_key_to_another() {
    let writer = vec![wrote(a(1), (0, 1), 1), on(2, wrote(a(2), (2, 3), 1))];
    let last: &[(u32, &[Id])] = &[(1, &[a(1)]), (2, &[a(2)])];
    expect(&[Kind::WentBack], last, None, &[writer.clone(), vec![read((4, 5), &[a(1)]), read((6, 7), &[])]]);
    expect(&[Kind::WentBack], last, None, &[writer.clone(), vec![on(2, read((4, 5), &[a(2)])), read((6, 7), &[])]]);
    // The later write may be missing where the earlier one was seen.
    expect(&[], last, None, &[writer, vec![read((4, 5), &[a(1)]), on(2, read((6, 7), &[]))]]);
}

#[test]
fn a_pipelined_read_of_what_is_sent_behind_it_is_seen() {
    expect(&[Kind::Future], &[(1, &[a(1)])], None, &[vec![read((0, 9), &[a(1)]), wrote(a(1), (0, 9), 1)]]);
}

#[test]
fn states_that_no_master_had_are_seen() {
    let writers = [vec![wrote(a(1), (0, 1), 1), wrote(a(2), (2, 3), 3)], vec![wrote(b(1), (0, 3), 2)]];
    let with = |seen: &[Id]| [writers[0].clone(), writers[1].clone(), vec![read((4, 5), seen)]];
    let last: &[(u32, &[Id])] = &[(1, &[a(1), b(1), a(2)])];
    expect(&[], last, None, &with(&[a(1), b(1)]));
    for hole in [&[a(1), a(2)][..], &[b(1), a(1)], &[b(1)]] {
        expect(&[Kind::Torn], last, None, &with(hole));
    }
    let twice = expect(&[Kind::Twice], last, None, &with(&[a(1), b(1), b(1)]));
    assert_eq!(twice.twice, 1);
    let half = Op { end: End::Torn("half".into()), ..read((4, 5), &[]) };
    expect(&[Kind::Torn], last, None, &[writers[0].clone(), writers[1].clone(), vec![half]]);
}

#[test]
fn what_is_there_in_the_end_is_judged_too() {
    let two = vec![wrote(a(1), (0, 1), 1), wrote(a(2), (2, 3), 2)];
    assert_eq!(
        expect(&[Kind::Twice, Kind::Torn, Kind::Torn], &[(1, &[a(1), a(2), a(2)])], None, std::slice::from_ref(&two))
            .twice,
        1
    );
    let swapped = judged(Level::Session, &[(1, &[a(2), a(1)])], None, std::slice::from_ref(&two));
    assert!(kinds(&swapped).iter().all(|k| *k == Kind::Torn) && !swapped.violations.is_empty());
    expect(&[Kind::Phantom], &[(1, &[a(1), a(2), b(7)])], None, std::slice::from_ref(&two));
    let refused = Op { end: End::Refused("-ERR".into()), ..lost(a(3), 5) };
    expect(&[Kind::Phantom], &[(1, &[a(1), a(2), a(3)])], None, &[[two.clone(), vec![refused]].concat()]);
    // The order of time binds different sessions.
    let late = vec![wrote(b(1), (10, 11), 1)];
    let early = vec![wrote(a(1), (0, 1), 2)];
    expect(&[Kind::Torn], &[(1, &[b(1), a(1)])], None, &[early, late]);
    // An unanswered write may come late, or not at all.
    for end in [&[a(1)][..], &[]] {
        expect(&[], &[(1, end)], None, &[vec![lost(a(1), 0)]]);
    }
}

#[test]
fn a_lost_write_is_counted_and_needs_a_lost_master() {
    let writer = vec![wrote(a(1), (0, 1), 1), wrote(a(2), (90, 95), 2)];
    assert_eq!(expect(&[Kind::Dropped], &[(1, &[a(1)])], None, std::slice::from_ref(&writer)).lost, 1);
    assert_eq!(expect(&[], &[(1, &[a(1)])], GONE, std::slice::from_ref(&writer)).lost, 1);
    // The replies of a dead master may come a moment after its death, but nothing sent then is answered by it.
    expect(&[], &[(1, &[])], GONE, &[vec![wrote(a(1), (105, 120), 1)]]);
    expect(&[Kind::Dropped], &[(1, &[])], GONE, &[vec![wrote(a(1), (111, 120), 1)]]);
    // Seen by somebody, and gone.
    expect(&[Kind::Dropped], &[(1, &[])], None, &[vec![lost(a(1), 0)], vec![read((1, 2), &[a(1)])]]);
}

#[test]
fn a_lost_write_before_one_that_survived_was_not_lost_by_the_master() {
    let writers = [vec![wrote(a(1), (0, 10), 1)], vec![on(2, wrote(b(1), (20, 30), 1))]];
    expect(&[Kind::Dropped], &[(1, &[]), (2, &[b(1)])], GONE, &writers);
    // At the same time: either may have been the last one.
    let writers = [vec![wrote(a(1), (0, 25), 1)], vec![on(2, wrote(b(1), (20, 30), 1))]];
    expect(&[], &[(1, &[]), (2, &[b(1)])], GONE, &writers);
}

#[test]
fn what_the_new_master_does_not_have_may_be_missing_after_the_loss_and_not_before() {
    let last: &[(u32, &[Id])] = &[(1, &[a(1)])];
    let with = |then: Op| [vec![wrote(a(1), (0, 1), 1), wrote(a(2), (50, 60), 2), then]];
    expect(&[], last, GONE, &with(read((120, 130), &[a(1)])));
    expect(&[Kind::OwnWrite], last, GONE, &with(read((70, 80), &[a(1)])));
    // What the new master has must be seen at any time.
    expect(&[Kind::OwnWrite], last, GONE, &with(read((120, 130), &[])));
}

#[test]
fn nobody_returns_to_the_dead_branch() {
    let last: &[(u32, &[Id])] = &[(1, &[a(1), b(1)])];
    let writer = vec![wrote(a(1), (0, 1), 1), wrote(a(2), (50, 60), 2)];
    let newer = vec![wrote(b(1), (200, 210), 2)];
    let with = |reads: Vec<Op>| [writer.clone(), newer.clone(), reads];
    let (old, new) = ([a(1), a(2)], [a(1), b(1)]);
    expect(&[], last, GONE, &with(vec![read((61, 62), &old), read((120, 121), &old), read((220, 230), &new)]));
    expect(&[Kind::DeadBranch], last, GONE, &with(vec![read((215, 220), &new), read((221, 230), &old)])[..])
        .violations
        .iter()
        .for_each(|v| assert_eq!(v.level, Some(Level::Session)));
    // Missing a lost write it had seen, it has moved.
    let back = vec![read((61, 62), &old), read((120, 121), &[a(1)]), read((122, 123), &old)];
    expect(&[Kind::DeadBranch], last, GONE, &with(back));
    // Two dead branches cannot be.
    let other = vec![lost(id(4, 1), 40), read((60, 70), &[a(1), id(4, 1)])];
    let mut sessions = with(vec![read((61, 62), &old)]).to_vec();
    sessions.push(other);
    assert!(kinds(&judged(Level::Session, last, GONE, &sessions)).contains(&Kind::Torn));
}

#[test]
fn staleness_is_judged_by_the_level() {
    let last: &[(u32, &[Id])] = &[(1, &[a(1)])];
    let sessions = [vec![wrote(a(1), (0, 100), 1)], vec![read((150, 160), &[])]];
    for (level, expected) in [
        (Level::Eventual, vec![]),
        (Level::Session, vec![]),
        (Level::Bounded(60), vec![]),
        (Level::Bounded(40), vec![Kind::Stale]),
        (Level::Strong, vec![Kind::Stale]),
    ] {
        assert_eq!(kinds(&judged(level, last, None, &sessions)), expected, "{level:?}");
    }
    // Sent before the acknowledgement: both are right.
    let sessions = [vec![wrote(a(1), (0, 100), 1)], vec![read((99, 160), &[])]];
    assert_eq!(kinds(&judged(Level::Strong, last, None, &sessions)), []);
    // What is lost later had to be seen before.
    let sessions = [vec![wrote(a(1), (0, 50), 1)], vec![read((60, 70), &[]), read((120, 130), &[])]];
    assert_eq!(kinds(&judged(Level::Strong, &[(1, &[])], GONE, &sessions)), [Kind::Stale]);
    // The level bounded promises no more than its bound.
    let sessions = [vec![wrote(a(1), (0, 100), 1), read((101, 110), &[])]];
    assert_eq!(kinds(&judged(Level::Bounded(60), last, None, &sessions)), []);
}
