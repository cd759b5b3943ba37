//! The detector as a table: what is seen, and what follows.

use super::*;
use Standing::{Gone, Loading, Master, Replica, Suspect, Unknown};

const O: NodeId = 0;
const N: NodeId = 1;
const M: NodeId = 2;
const R: NodeId = 3;

fn line(id: &str, previous: &str) -> Lineage {
    Lineage { id: id.into(), previous: previous.into(), branch: if previous.is_empty() { -1 } else { 100 } }
}

/// The reign of O over the line `o`, confirmed under epoch 5.
fn reign() -> Reign {
    Reign { node: O, run_id: "run0".into(), lineage: line("o", ""), config_epoch: 5, confirmed: true }
}

fn sight(id: NodeId, standing: Standing, lineage: Lineage) -> Sight {
    Sight { id, standing, lineage, run_id: format!("run{id}"), follows: None, superseded: false, bystander: false }
}

fn old(standing: Standing) -> Sight {
    sight(O, standing, line("o", ""))
}

fn promoted(id: NodeId, name: &str) -> Sight {
    sight(id, Master, line(name, "o"))
}

fn stranger(id: NodeId) -> Sight {
    sight(id, Master, line("stranger", ""))
}

fn follower(id: NodeId, of: NodeId) -> Sight {
    Sight { follows: Some(of), ..sight(id, Replica, line("o", "")) }
}

fn superseded(s: Sight) -> Sight {
    Sight { superseded: true, ..s }
}

/// Was promoted by hand beside the living master.
fn bystander(id: NodeId, name: &str) -> Sight {
    Sight { bystander: true, ..promoted(id, name) }
}

fn word(node: NodeId, epoch: u64) -> Council {
    Council { word: Some((node, epoch)), complete: true, ..Council::default() }
}

fn failing(node: NodeId, council: Council) -> Council {
    Council { failovers: vec![Failing { master: Some(node), chosen: None, overdue: false }], ..council }
}

fn choosing(master: NodeId, chosen: NodeId, council: Council) -> Council {
    let failing = Failing { master: Some(master), chosen: Some(chosen), overdue: false };
    Council { failovers: vec![failing], ..council }
}

fn overdue(node: NodeId, council: Council) -> Council {
    Council { failovers: vec![Failing { master: Some(node), chosen: None, overdue: true }], ..council }
}

fn to(to: NodeId, cause: Cause) -> Verdict {
    Verdict::Switch { to, cause }
}

const BRIEF: Patience = Patience { conflict_over: false, start_over: false, master_gone: false };
const OVER: Patience = Patience { conflict_over: true, start_over: true, master_gone: false };
const GONE: Patience = Patience { master_gone: true, ..BRIEF };

type Row = (&'static str, Vec<Sight>, Verdict);

fn check(reign: Option<&Reign>, council: Option<&Council>, patience: Patience, rows: Vec<Row>) {
    for (what, mut sights, expected) in rows {
        assert_eq!(judge(reign, &sights, council, patience), expected, "{what}");
        // Nothing hangs on the order in which nodes are known.
        sights.reverse();
        assert_eq!(judge(reign, &sights, council, patience), expected, "{what}, reversed");
    }
}

#[test]
fn without_sentinel() {
    let hold = Verdict::Hold;
    let rows = vec![
        ("all is well", vec![old(Master), follower(N, O), follower(R, O)], Verdict::Keep),
        ("its connection just ended", vec![old(Suspect), follower(N, O)], hold(Hold::Suspect)),
        ("gone, nobody took over", vec![old(Gone), follower(N, O)], hold(Hold::Lost)),
        ("loading again, nobody took over", vec![old(Loading), follower(N, O)], hold(Hold::Loading)),
        ("gone, one descendant", vec![old(Gone), promoted(N, "n"), follower(R, O)], to(N, Cause::Detector)),
        ("suspect, one descendant", vec![old(Suspect), promoted(N, "n")], to(N, Cause::Detector)),
        ("loading, one descendant", vec![old(Loading), promoted(N, "n")], to(N, Cause::Detector)),
        (
            "gone, a promoted one and its own successor",
            vec![old(Gone), promoted(N, "n"), Sight { lineage: line("m", "n"), ..promoted(M, "m") }],
            to(M, Cause::Detector),
        ),
        (
            "gone, two siblings, the majority follows one",
            vec![old(Gone), promoted(N, "n"), promoted(M, "m"), follower(R, M), follower(4, M)],
            to(M, Cause::Detector),
        ),
        (
            "gone, two siblings, nobody decides",
            vec![old(Gone), promoted(N, "n"), promoted(M, "m")],
            hold(Hold::Ambiguous),
        ),
        ("gone, a stranger says master", vec![old(Gone), stranger(N), follower(R, O)], hold(Hold::Ambiguous)),
        (
            "gone, a stranger (two promotions since) that the others follow",
            vec![old(Gone), stranger(N), follower(M, N), follower(R, N)],
            to(N, Cause::Detector),
        ),
        ("a superseded node says master", vec![old(Gone), superseded(stranger(N))], hold(Hold::Lost)),
        ("a superseded node promoted again", vec![old(Gone), superseded(promoted(N, "n"))], to(N, Cause::Detector)),
        (
            "demoted, follows one that says master",
            vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "demoted, follows its predecessor (a failover taken back)",
            vec![Sight { follows: Some(N), ..old(Replica) }, superseded(stranger(N))],
            to(N, Cause::Detector),
        ),
        (
            "demoted, follows another name of one with its replication id",
            vec![Sight { lineage: line("n", "o"), ..old(Replica) }, promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "demoted, the one it follows is not master yet",
            vec![Sight { follows: Some(N), ..old(Replica) }, follower(N, O)],
            hold(Hold::Demoted),
        ),
        ("demoted, a stranger says master", vec![old(Replica), stranger(N)], hold(Hold::Demoted)),
        (
            "alive, a descendant that nobody follows yet",
            vec![old(Master), promoted(N, "n"), follower(R, O)],
            hold(Hold::Conflict),
        ),
        (
            "alive, a descendant that most others follow",
            vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, N)],
            to(N, Cause::Detector),
        ),
        (
            "alive, half is no majority",
            vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, O)],
            hold(Hold::Conflict),
        ),
        (
            "alive, one that is away counts as against",
            vec![old(Master), promoted(N, "n"), follower(M, N), sight(R, Gone, line("o", ""))],
            hold(Hold::Conflict),
        ),
        ("alive, a stranger says master", vec![old(Master), stranger(N)], Verdict::KeepDespite(N)),
        ("alive, the old master is back", vec![old(Master), superseded(stranger(N))], Verdict::Keep),
        (
            "restarted: another process",
            vec![Sight { run_id: "again".into(), ..old(Master) }, follower(N, O)],
            to(O, Cause::Restart),
        ),
        (
            "same process, another line (its first replica came)",
            vec![sight(O, Master, line("p", "")), follower(N, O)],
            to(O, Cause::Restart),
        ),
        (
            "restarted, but one was promoted meanwhile",
            vec![Sight { run_id: "again".into(), ..stranger(O) }, promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "gone, and there again under another name",
            vec![old(Gone), Sight { run_id: "run0".into(), ..sight(N, Master, line("o", "")) }],
            to(N, Cause::Restart),
        ),
    ];
    check(Some(&reign()), None, BRIEF, rows);
    let rows = vec![
        ("the conflict lasted", vec![old(Master), promoted(N, "n"), follower(R, O)], Verdict::KeepDespite(N)),
        ("nothing else gets easier", vec![old(Gone), promoted(N, "n"), promoted(M, "m")], hold(Hold::Ambiguous)),
    ];
    check(Some(&reign()), None, OVER, rows);
}

#[test]
fn beside_sentinel() {
    let hold = Verdict::Hold;
    let by_hand = || vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, N)];
    let table = [
        ("all is well", word(O, 5), BRIEF, vec![old(Master)], Verdict::Keep),
        ("an old word", word(N, 4), BRIEF, vec![old(Master), stranger(N)], Verdict::KeepDespite(N)),
        ("a newer word, verified", word(N, 6), BRIEF, vec![old(Master), promoted(N, "n")], to(N, Cause::Sentinel)),
        ("a newer word names a stranger", word(N, 6), BRIEF, vec![old(Gone), stranger(N)], to(N, Cause::Sentinel)),
        (
            "a newer word brings a superseded one back",
            word(N, 6),
            BRIEF,
            vec![old(Gone), superseded(stranger(N))],
            to(N, Cause::Sentinel),
        ),
        ("a newer word, no master there", word(N, 6), BRIEF, vec![old(Master), follower(N, O)], hold(Hold::Conflict)),
        ("and that for too long", word(N, 6), OVER, vec![old(Master), follower(N, O)], Verdict::KeepDespite(N)),
        (
            "before Sentinel says so: the old one is gone",
            word(O, 5),
            BRIEF,
            vec![old(Gone), promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        ("a failover begins", failing(O, word(O, 5)), BRIEF, vec![old(Master), follower(N, O)], hold(Hold::Failover)),
        ("a failover that hangs", overdue(O, word(O, 5)), BRIEF, vec![old(Master), follower(N, O)], Verdict::Keep),
        (
            "a failover that hung, promoted at last",
            overdue(O, word(O, 5)),
            BRIEF,
            vec![old(Master), promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "a failover of the living master, promoted",
            failing(O, word(O, 5)),
            BRIEF,
            vec![old(Master), promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "the end of the failover that made this one master",
            failing(N, word(O, 5)),
            BRIEF,
            vec![old(Master), superseded(sight(N, Gone, line("z", "")))],
            Verdict::Keep,
        ),
        (
            "restarted while it is being failed over",
            failing(O, word(O, 5)),
            BRIEF,
            vec![stranger(O), follower(N, O)],
            hold(Hold::Failover),
        ),
        ("by hand, though all follow", word(O, 5), BRIEF, by_hand(), hold(Hold::Conflict)),
        ("by hand, for too long", word(O, 5), OVER, by_hand(), Verdict::KeepDespite(N)),
        (
            "FAILOVER behind Sentinel's back",
            word(O, 5),
            BRIEF,
            vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "gone, a stranger that Sentinel does not name",
            word(O, 5),
            OVER,
            vec![old(Gone), stranger(N), follower(R, N)],
            hold(Hold::Lost),
        ),
    ];
    for (what, council, patience, sights, expected) in table {
        check(Some(&reign()), Some(&council), patience, vec![(what, sights, expected)]);
    }
}

#[test]
fn a_bystander_does_not_take_over_in_a_moment() {
    let hold = Verdict::Hold;
    let rows = vec![
        ("the master lives", vec![old(Master), bystander(N, "n"), follower(R, O)], Verdict::KeepDespite(N)),
        ("its connection ended", vec![old(Suspect), bystander(N, "n"), follower(R, O)], hold(Hold::Suspect)),
        ("it is restarting", vec![old(Gone), bystander(N, "n"), follower(R, O)], hold(Hold::Lost)),
        ("it is loading", vec![old(Loading), bystander(N, "n"), follower(R, O)], hold(Hold::Loading)),
        (
            "it restarted",
            vec![Sight { run_id: "again".into(), ..stranger(O) }, bystander(N, "n"), follower(R, O)],
            to(O, Cause::Restart),
        ),
        (
            "it became a replica of one that does not say master yet",
            vec![Sight { follows: Some(R), ..old(Replica) }, bystander(N, "n"), follower(R, O)],
            hold(Hold::Demoted),
        ),
        (
            "it became the bystander's replica",
            vec![Sight { follows: Some(N), ..old(Replica) }, bystander(N, "n")],
            to(N, Cause::Detector),
        ),
        (
            "it is restarting, and most others follow the bystander",
            vec![old(Gone), bystander(N, "n"), follower(M, N), follower(R, N)],
            to(N, Cause::Detector),
        ),
        (
            "its connection ended, and one was promoted since",
            vec![old(Suspect), bystander(N, "n"), promoted(M, "m"), follower(R, O)],
            to(M, Cause::Detector),
        ),
        (
            "it lives, and one more was promoted",
            vec![old(Master), bystander(N, "n"), promoted(M, "m"), follower(R, O)],
            hold(Hold::Conflict),
        ),
    ];
    check(Some(&reign()), None, BRIEF, rows);
    let rows = vec![
        ("it stopped", vec![old(Gone), bystander(N, "n"), follower(R, O)], to(N, Cause::Detector)),
        ("two and nobody decides", vec![old(Gone), bystander(N, "n"), bystander(M, "m")], hold(Hold::Ambiguous)),
    ];
    check(Some(&reign()), None, GONE, rows);
}

#[test]
fn beside_sentinel_a_bystander_needs_its_word() {
    let hold = Verdict::Hold;
    let gone = || vec![old(Gone), bystander(N, "n"), follower(R, N)];
    let living = |m: Sight| vec![old(Master), bystander(N, "n"), m, follower(R, O)];
    let fails = || failing(O, word(O, 5));
    let chooses = |id| choosing(O, id, word(O, 5));
    let table = [
        ("the master is gone", word(O, 5), gone(), hold(Hold::Lost)),
        ("gone, a failover begins", fails(), gone(), hold(Hold::Lost)),
        ("gone, the word names it", word(N, 6), gone(), to(N, Cause::Sentinel)),
        ("gone, it is chosen", chooses(N), gone(), to(N, Cause::Detector)),
        ("living, a failover begins", fails(), living(follower(M, O)), hold(Hold::Failover)),
        ("living, another is chosen", chooses(M), living(follower(M, O)), hold(Hold::Failover)),
        ("living, another is chosen and promoted", chooses(M), living(promoted(M, "m")), to(M, Cause::Detector)),
        ("living, another is promoted", fails(), living(promoted(M, "m")), to(M, Cause::Detector)),
    ];
    for (what, council, sights, expected) in table {
        check(Some(&reign()), Some(&council), BRIEF, vec![(what, sights, expected)]);
    }
}

#[test]
fn sentinels_choice_goes_before_other_claims() {
    let by_hand = |m: Sight| vec![old(Master), promoted(N, "n"), m];
    let table = [
        ("not promoted yet", BRIEF, by_hand(follower(M, O)), Verdict::Hold(Hold::Failover)),
        ("promoted", BRIEF, by_hand(promoted(M, "m")), to(M, Cause::Detector)),
        (
            "the other descends from it",
            BRIEF,
            vec![old(Master), promoted(M, "m"), Sight { lineage: line("n", "m"), ..promoted(N, "n") }],
            to(M, Cause::Detector),
        ),
        ("the master is gone", BRIEF, vec![old(Gone), promoted(N, "n"), follower(M, O)], Verdict::Hold(Hold::Lost)),
    ];
    for (what, patience, sights, expected) in table {
        check(Some(&reign()), Some(&choosing(O, M, word(O, 5))), patience, vec![(what, sights, expected)]);
    }
    let start = vec![old(Master), promoted(N, "n"), promoted(M, "m")];
    check(None, Some(&choosing(O, M, word(O, 5))), BRIEF, vec![("at the start", start, to(M, Cause::Start))]);
    let earlier = choosing(N, O, word(O, 5));
    let rows = vec![("of the failover that made it master", vec![old(Master), follower(N, O)], Verdict::Keep)];
    check(Some(&reign()), Some(&earlier), BRIEF, rows);
}

#[test]
fn a_switch_that_sentinel_never_confirmed_is_undone_only_when_its_master_goes() {
    let early = Reign { confirmed: false, ..reign() };
    let former = |s| superseded(Sight { ..sight(N, s, line("before", "")) });
    let council = word(N, 5);
    let rows = vec![
        ("it works", vec![old(Master), former(Master)], Verdict::Keep),
        ("it is gone, its predecessor is master again", vec![old(Gone), former(Master)], to(N, Cause::Sentinel)),
        ("it is gone, its predecessor too", vec![old(Gone), former(Gone)], Verdict::Hold(Hold::Lost)),
    ];
    check(Some(&early), Some(&council), BRIEF, rows);
    let confirmed =
        vec![("confirmed: never by the same epoch", vec![old(Gone), former(Master)], Verdict::Hold(Hold::Lost))];
    check(Some(&reign()), Some(&council), BRIEF, confirmed);
}

#[test]
fn at_the_start_without_sentinel() {
    let hold = Verdict::Hold;
    let rows = vec![
        ("nothing known", vec![], hold(Hold::Starting)),
        ("not everybody answered", vec![old(Master), sight(N, Unknown, line("", ""))], hold(Hold::Starting)),
        ("one master", vec![old(Master), follower(N, O)], to(O, Cause::Start)),
        ("one master, the others away", vec![old(Master), sight(N, Gone, line("", ""))], to(O, Cause::Start)),
        ("replicas only", vec![follower(N, O), sight(O, Gone, line("", ""))], hold(Hold::NoMaster)),
        ("loading", vec![old(Loading)], hold(Hold::Loading)),
        (
            "one master that most do not follow: the right one is away",
            vec![stranger(O), follower(N, 9), follower(M, 9)],
            hold(Hold::Ambiguous),
        ),
        (
            "a chained replica follows by its replication id",
            vec![old(Master), Sight { follows: Some(9), ..follower(N, O) }],
            to(O, Cause::Start),
        ),
        ("two, one descends from the other", vec![old(Master), promoted(N, "n")], to(N, Cause::Start)),
        (
            "two, the majority stays with the older",
            vec![old(Master), promoted(N, "n"), follower(M, O), follower(R, O)],
            to(O, Cause::Start),
        ),
        ("two strangers", vec![old(Master), stranger(N)], hold(Hold::Ambiguous)),
    ];
    check(None, None, BRIEF, rows);
    let waited = vec![old(Master), sight(N, Unknown, line("", ""))];
    check(None, None, OVER, vec![("somebody never answers", waited, to(O, Cause::Start))]);
}

#[test]
fn at_the_start_beside_sentinel() {
    let hold = Verdict::Hold;
    let partial = Council { complete: false, ..word(O, 5) };
    let silent = Council { complete: true, ..Council::default() };
    let table = [
        ("nobody named anyone", silent, BRIEF, vec![old(Master)], hold(Hold::Starting)),
        ("a Sentinel was not heard yet", partial.clone(), BRIEF, vec![old(Master)], hold(Hold::Starting)),
        ("and never is", partial, OVER, vec![old(Master)], to(O, Cause::Start)),
        ("named and verified", word(O, 5), BRIEF, vec![old(Master), follower(N, O)], to(O, Cause::Start)),
        ("named, not asked yet", word(O, 5), BRIEF, vec![old(Unknown)], hold(Hold::Starting)),
        ("named and gone", word(O, 5), OVER, vec![old(Gone), promoted(N, "n")], hold(Hold::NoMaster)),
        (
            "named, demoted behind Sentinel's back",
            word(O, 5),
            BRIEF,
            vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
            to(N, Cause::Start),
        ),
        (
            "promoted, and Sentinel at it",
            failing(O, word(O, 5)),
            BRIEF,
            vec![old(Master), promoted(N, "n")],
            to(N, Cause::Start),
        ),
        ("a failover just begins", failing(O, word(O, 5)), BRIEF, vec![old(Master)], hold(Hold::Failover)),
        (
            "a descendant without Sentinel's doing",
            word(O, 5),
            BRIEF,
            vec![old(Master), promoted(N, "n")],
            hold(Hold::Conflict),
        ),
        ("and that for long", word(O, 5), OVER, vec![old(Master), promoted(N, "n")], to(O, Cause::Start)),
    ];
    for (what, council, patience, sights, expected) in table {
        check(None, Some(&council), patience, vec![(what, sights, expected)]);
    }
}
