//! What the Sentinels say, one after the other, and what comes of it.

use super::*;

fn config(epoch: u64, master: &str) -> News {
    News::Config(Config { epoch, master: master.into(), watched: master.into(), ..Config::default() })
}

fn doubtful(epoch: u64, master: &str) -> News {
    let config = Config { epoch, master: master.into(), watched: master.into(), doubtful: true, ..Config::default() };
    News::Config(config)
}

fn voices(n: usize, now: Instant) -> Voices {
    let mut voices = Voices::default();
    for i in 0..n {
        voices.add(&format!("s:{i}"), true, now);
    }
    voices
}

#[test]
fn the_word_is_that_of_the_highest_epoch() {
    let now = Instant::now();
    type Row = (&'static str, Vec<News>, Option<(&'static str, u64)>);
    let table: [Row; 7] = [
        ("nobody spoke", vec![], None),
        ("agreed", vec![config(1, "a:1"), config(1, "a:1")], Some(("a:1", 1))),
        ("the many with an older epoch", vec![config(1, "a:1"), config(1, "a:1"), config(2, "b:1")], Some(("b:1", 2))),
        (
            "one epoch, two names: the most",
            vec![config(1, "b:1"), config(1, "a:1"), config(1, "b:1")],
            Some(("b:1", 1)),
        ),
        (
            "one epoch: doubts count less",
            vec![doubtful(1, "b:1"), doubtful(1, "b:1"), config(1, "a:1")],
            Some(("a:1", 1)),
        ),
        ("one epoch, a tie: everybody takes the same", vec![config(1, "b:1"), config(1, "a:1")], Some(("a:1", 1))),
        ("doubts alone are still a word", vec![doubtful(3, "a:1")], Some(("a:1", 3))),
    ];
    for (what, news, word) in table {
        let mut voices = voices(news.len(), now);
        for (i, news) in news.into_iter().enumerate() {
            voices.hear(i as u64 + 1, news, now);
        }
        assert_eq!(voices.word(), word, "{what}");
    }
}

#[test]
fn an_epoch_once_heard_is_never_gone_below() {
    let now = Instant::now();
    let mut voices = voices(2, now);
    voices.hear(1, config(7, "new:1"), now);
    voices.hear(2, config(3, "old:1"), now);
    voices.hear(1, News::Down(crate::upstream::control::Error::Closed), now);
    assert_eq!(voices.word(), Some(("new:1", 7)), "its word stands while it is away");
    voices.hear(1, config(0, "old:1"), now);
    assert_eq!(voices.word(), None, "a Sentinel that lost its memory takes nothing back");
}

#[test]
fn failovers_end_by_event_or_by_silence() {
    let now = Instant::now();
    let mut voices = voices(1, now);
    let begins = |master: &str| News::Event(Event::Failover { master: master.into(), chosen: None });
    let is_alarm = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Alarm(_)));
    assert!(is_alarm(&voices.hear(1, begins("a:1"), now)));
    assert!(!is_alarm(&voices.hear(1, begins("a:1"), now)), "told once");
    voices.hear(1, begins("b:1"), now);
    let on = |v: &Voices, at: Instant| v.failovers(at).map(|f| f.master.clone()).collect::<Vec<_>>();
    assert_eq!(on(&voices, now), ["a:1", "b:1"]);
    voices.hear(1, News::Event(Event::Aborted { master: "b:1".into() }), now);
    assert_eq!(on(&voices, now), ["a:1"]);
    let other = Event::Switched { from: "z:1".into(), to: "y:1".into() };
    voices.hear(1, News::Event(other), now);
    assert_eq!(on(&voices, now), ["a:1"]);
    assert!(on(&voices, now + FAILOVER_SILENCE).is_empty());
    voices.hear(1, begins("a:1"), now + FAILOVER_HOLD / 2);
    let held = |at| voices.failovers(at).map(|f| f.overdue(at)).collect::<Vec<_>>();
    assert_eq!(held(now + FAILOVER_HOLD / 2), [false]);
    assert_eq!(held(now + FAILOVER_HOLD), [true], "bounded from its beginning, however often it is heard of");
    voices.hear(1, News::Event(Event::Switched { from: "a:1".into(), to: "c:1".into() }), now);
    assert!(on(&voices, now).is_empty());
}

#[test]
fn a_failover_that_promoted_is_over_for_the_node_it_took_the_role_from() {
    let now = Instant::now();
    let event = |master: &str, chosen: Option<&str>| {
        News::Event(Event::Failover { master: master.into(), chosen: chosen.map(str::to_owned) })
    };
    let switched = || News::Event(Event::Switched { from: "a:1".into(), to: "b:1".into() });
    let leader = |master: &str| {
        let watched = "a:1".to_owned();
        News::Config(Config { epoch: 2, master: master.into(), watched, failover: true, ..Config::default() })
    };
    let table = [
        ("the leader's flag before it promoted", vec![leader("a:1")], vec!["a:1"]),
        ("the leader names the promoted node", vec![leader("b:1")], vec![]),
        (
            "observers switched, the leader keeps its flag",
            vec![event("a:1", Some("b:1")), switched(), leader("b:1")],
            vec![],
        ),
        (
            "back to the first, whose failover never ended",
            vec![event("a:1", Some("b:1")), event("b:1", None), event("b:1", Some("a:1"))],
            vec!["b:1"],
        ),
        (
            "back to the first, and the former leader keeps its flag",
            vec![event("a:1", Some("b:1")), switched(), event("b:1", Some("a:1")), leader("b:1")],
            vec!["b:1"],
        ),
        (
            "another one is chosen in the second",
            vec![event("a:1", Some("b:1")), event("b:1", Some("c:1"))],
            vec!["a:1", "b:1"],
        ),
    ];
    for (what, news, on) in table {
        let mut voices = voices(1, now);
        for news in news {
            voices.hear(1, news, now);
        }
        assert_eq!(voices.failovers(now).map(|f| f.master.as_str()).collect::<Vec<_>>(), on, "{what}");
    }
}

#[test]
fn the_choice_is_that_of_the_latest_attempt() {
    let now = Instant::now();
    let mut voices = voices(1, now);
    let event =
        |chosen: Option<&str>| News::Event(Event::Failover { master: "a:1".into(), chosen: chosen.map(str::to_owned) });
    let busy = Config { epoch: 1, master: "a:1".into(), watched: "a:1".into(), failover: true, ..Config::default() };
    let table = [
        ("begun", event(None), None),
        ("selected", event(Some("b:1")), Some("b:1")),
        ("its flag alone takes nothing back", News::Config(busy), Some("b:1")),
        ("begun again", event(None), None),
        ("another one is selected", event(Some("c:1")), Some("c:1")),
    ];
    for (what, news, chosen) in table {
        voices.hear(1, news, now);
        assert_eq!(voices.failovers(now).find_map(|f| f.chosen.as_deref()), chosen, "{what}");
    }
}

#[test]
fn a_complaint_is_told_once_until_it_is_over() {
    let now = Instant::now();
    let mut voices = voices(1, now);
    let unknown = || News::UnknownMaster { watched: vec!["other".into()] };
    assert_eq!(voices.hear(1, unknown(), now).len(), 1);
    assert_eq!(voices.hear(1, unknown(), now), []);
    assert!(voices.hear(1, config(1, "a:1"), now).contains(&Effect::Recovered));
    assert!(!voices.hear(1, config(1, "a:1"), now).contains(&Effect::Recovered));
    assert_eq!(voices.hear(1, News::NoQuorum("NOQUORUM 1".into()), now).len(), 1);
    assert!(!voices.hear(1, config(1, "a:1"), now).contains(&Effect::Recovered), "an answer is no quorum");
    assert_eq!(voices.hear(1, News::Quorum, now), [Effect::Recovered]);
    let tilt = |begins| News::Event(Event::Tilt { begins });
    assert_eq!(voices.hear(1, tilt(true), now), [Effect::Complain(Complaint::Tilt)]);
    assert!(!voices.hear(1, config(1, "a:1"), now).contains(&Effect::Recovered), "it answers all the same");
    assert_eq!(voices.hear(1, tilt(false), now), [Effect::Recovered]);
    assert_eq!(voices.hear(1, News::Tilt(true), now), [Effect::Complain(Complaint::Tilt)]);
    for again in [tilt(true), News::NoQuorum("NOQUORUM 1".into()), News::Tilt(true)] {
        assert_eq!(voices.hear(1, again, now), [], "one thing at a time");
    }
    assert_eq!(voices.hear(1, News::Tilt(false), now), [Effect::Recovered]);
}

#[test]
fn one_sentinel_of_two_names_is_heard_once() {
    let now = Instant::now();
    let mut voices = voices(1, now);
    let second = voices.add("127.0.0.1:0", false, now).unwrap();
    let up = || News::Up { my_id: "same".into() };
    voices.hear(1, up(), now);
    assert!(voices.prune(now).is_empty());
    voices.hear(second, up(), now);
    assert_eq!(voices.prune(now), [second]);
    assert_eq!(voices.add("127.0.0.1:0", false, now), None, "not again");
    voices.hear(1, News::Down(crate::upstream::control::Error::Refused), now);
    assert!(voices.add("127.0.0.1:0", false, now).is_some(), "unless the first name does not work any more");
}

#[test]
fn who_is_away_and_unlisted_is_forgotten_unless_configured() {
    let now = Instant::now();
    let mut voices = voices(1, now);
    let listed = voices.add("s:9", false, now).unwrap();
    assert!(voices.prune(now + FORGET_AFTER).is_empty());
    assert_eq!(voices.prune(now + FORGET_AFTER + Duration::from_millis(1)), [listed]);
    for i in 0..2 * MAX_SENTINELS {
        voices.add(&format!("t:{i}"), false, now);
    }
    assert_eq!(voices.all.len(), MAX_SENTINELS);
}
