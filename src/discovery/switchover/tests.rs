//! Every step with every event: what comes next, whether writes are held, and the way back.

use super::*;

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(500);
const STEPS: [Step; 9] = [
    Step::Preparing,
    Step::Calling,
    Step::Draining,
    Step::Letting,
    Step::Pausing,
    Step::Following,
    Step::Promoting,
    Step::Settling,
    Step::Undoing,
];

/// Brought to `step` on its ordinary way; `Undoing` from the last one before the switch.
fn at(step: Step, by_sentinel: bool, now: Instant) -> Switchover {
    let mut s = Switchover::new(Some(1), by_sentinel, LIMIT, now);
    let calls = [Event::Did(Act::Prepare), Event::Did(Act::Call)];
    let way = [
        Event::LetGo,
        Event::Did(Act::Pause),
        Event::Did(Act::Follow),
        if step == Step::Undoing { Event::Failed(Act::Promote, "no".into()) } else { Event::Switched(1) },
    ];
    let before = calls.into_iter().take(if by_sentinel { 2 } else { 1 });
    for event in before.chain(way) {
        if s.step == step || (step == Step::Letting && s.step == Step::Draining) {
            break;
        }
        assert_ne!(s.take(event, now), Next::Stay);
    }
    if step == Step::Letting {
        assert_eq!(s.take(Event::Time, now + GRACE), Next::Go(None));
    }
    assert_eq!(s.step, step);
    s
}

#[test]
fn the_way_there() {
    let now = Instant::now();
    for by_sentinel in [false, true] {
        let mut s = Switchover::new(Some(1), by_sentinel, LIMIT, now);
        if by_sentinel {
            assert_eq!(s.take(Event::Did(Act::Prepare), now), Next::Go(Some(Act::Call)));
            assert_eq!((s.holds(), s.has_called()), (None, true), "Sentinel is on its way and writes go on");
            assert_eq!(s.take(Event::Did(Act::Call), now), Next::Go(Some(Act::Watch)));
        } else {
            assert_eq!(s.take(Event::Did(Act::Prepare), now), Next::Go(None));
        }
        for (event, act, step) in [
            (Event::LetGo, Act::Pause, Step::Pausing),
            (Event::Did(Act::Pause), Act::Follow, Step::Following),
            (Event::Did(Act::Follow), Act::Promote, Step::Promoting),
        ] {
            assert!(s.holds().is_some() && s.forbids_switch(), "{:?}", s.step);
            assert_eq!(s.take(event, now), Next::Go(Some(act)));
            assert_eq!(s.step, step);
        }
        assert!(!s.forbids_switch());
        assert_eq!(s.take(Event::Did(Act::Promote), now), Next::Stay, "it is the detector that must see it");
        assert_eq!(s.holds(), Some(Hold::Switchover));
        assert_eq!(s.take(Event::Switched(1), now), Next::Go(Some(Act::Settle)));
        assert_eq!(s.holds(), None, "writes go on before the rest is in order");
        assert_eq!(s.take(Event::Did(Act::Settle), now), Next::End(End::Done));
    }
}

#[test]
fn whatever_fails_before_the_switch_is_undone_and_releases_writes_only_then() {
    let now = Instant::now();
    for by_sentinel in [false, true] {
        for step in STEPS.into_iter().take(7).filter(|s| by_sentinel || *s != Step::Calling) {
            let failure = Event::Failed(Act::Pause, "no".into());
            let other = Event::Switched(2);
            let late = Event::Time;
            let mut reasons = Vec::new();
            for (event, at_time) in [(failure, now), (other, now), (late, now + PREPARE)] {
                let mut s = at(step, by_sentinel, now);
                let held = s.holds().is_some();
                if s.step == Step::Draining && event == Event::Time {
                    s.take(Event::Time, at_time);
                }
                assert_eq!(s.take(event.clone(), at_time), Next::Go(Some(Act::Undo)), "{step:?} {event:?}");
                assert_eq!(s.holds().is_some(), held, "{step:?} {event:?}: held until everything is put back");
                assert_eq!(s.take(Event::Failed(Act::Follow, "late word".into()), at_time), Next::Stay);
                match s.take(Event::Did(Act::Undo), at_time) {
                    Next::End(End::Back(why)) => reasons.push(why),
                    other => panic!("{step:?} {event:?}: {other:?}"),
                }
            }
            assert_eq!(reasons[..2], ["no", "another node became master meanwhile"], "{step:?}");
            assert!(reasons[2].contains("too long") || reasons[2].contains("in time") || reasons[2].contains("within"));
        }
    }
}

#[test]
fn open_transactions_have_a_grace_and_no_more() {
    let now = Instant::now();
    let mut s = at(Step::Draining, false, now);
    assert_eq!(s.holds(), Some(Hold::Draining));
    assert_eq!(s.take(Event::Time, now + GRACE - MS), Next::Stay);
    assert_eq!(s.take(Event::Time, now + GRACE), Next::Go(None));
    assert_eq!((s.step, s.holds()), (Step::Letting, Some(Hold::Switchover)));
    assert_eq!(s.take(Event::LetGo, now + GRACE), Next::Go(Some(Act::Pause)));
    assert_eq!(s.held(now + LIMIT), Some(LIMIT), "the grace counts");
    assert_eq!(s.take(Event::Time, now + LIMIT - MS), Next::Stay);
    assert_eq!(s.take(Event::Time, now + LIMIT), Next::Go(Some(Act::Undo)));
}

#[test]
fn sentinel_is_called_back_when_something_is_still_on_its_way_as_it_selects() {
    let now = Instant::now();
    for (step, next) in [
        (Step::Draining, Next::Go(Some(Act::Undo))),
        (Step::Letting, Next::Go(Some(Act::Undo))),
        (Step::Pausing, Next::Stay),
        (Step::Following, Next::Stay),
    ] {
        assert_eq!(at(step, true, now).take(Event::Did(Act::Watch), now), next, "{step:?}");
    }
}

#[test]
fn after_the_switch_there_is_no_way_back() {
    let now = Instant::now();
    let mut s = at(Step::Settling, true, now);
    assert_eq!(s.take(Event::Failed(Act::Promote, "cut off".into()), now), Next::Stay);
    assert_eq!(s.take(Event::Switched(2), now), Next::Stay, "that is another failover");
    assert_eq!(s.take(Event::Time, now + AFTER - MS), Next::Stay);
    assert!(matches!(s.take(Event::Time, now + AFTER), Next::End(End::DoneBut(_))));
    let mut s = at(Step::Settling, true, now);
    assert_eq!(s.take(Event::Failed(Act::Settle, "a:1".into()), now), Next::End(End::DoneBut("a:1".into())));
}

#[test]
fn a_promotion_that_comes_after_all_is_taken() {
    let now = Instant::now();
    let mut s = at(Step::Undoing, false, now);
    assert!(s.forbids_switch(), "while the old master lives");
    assert_eq!(s.take(Event::Switched(1), now), Next::Go(Some(Act::Settle)));
    assert_eq!(s.take(Event::Did(Act::Undo), now), Next::Stay);
    assert_eq!(s.take(Event::Did(Act::Settle), now), Next::End(End::Done));
}

#[test]
fn a_way_back_that_fails_says_so_and_ends() {
    let now = Instant::now();
    for (event, later) in [(Event::Failed(Act::Undo, "gone".into()), Duration::ZERO), (Event::Time, BACK)] {
        let mut s = at(Step::Undoing, false, now);
        match s.take(event, now + later) {
            Next::End(End::Back(why)) => assert!(why.starts_with("no; and "), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn where_sentinel_may_choose_any_node_is_the_one() {
    let now = Instant::now();
    let mut s = Switchover::new(None, true, LIMIT, now);
    s.take(Event::Did(Act::Prepare), now);
    assert_eq!(s.take(Event::Switched(7), now), Next::Go(Some(Act::Settle)));
}
