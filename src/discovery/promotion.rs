//! Whom redweir itself promotes when the master is gone and no Sentinel is there to do it (`promote = on`), and who then
//! has to follow. Pure.
//!
//! Must not promote on its own view alone: most replicas have to say that they lost the master as well.
//! Invariant: only a replica in the master's own line that answers is chosen; in doubt nobody is, and the doubt has a name.

use std::cmp::Reverse;

use super::detector::{Reign, Sight, Standing};
use super::seen::Link;
use crate::topology::{NodeId, Relation, relation};

/// A replica of the lost master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub id: NodeId,
    /// Answers now, and is not loading.
    pub answers: bool,
    /// Its link to the master, as it says itself.
    pub link: Link,
    /// Its data set is of the master's line.
    pub in_line: bool,
    /// `replica-priority`; 0: never.
    pub priority: u32,
    /// Applied.
    pub offset: i64,
    pub run_id: String,
}

/// Why nobody is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Only `down` of `of` replicas say that they lost the master.
    Heard { down: usize, of: usize },
    /// None of them may be promoted: silent, another data set, receiving one, or priority 0.
    NoneFit { of: usize },
}

/// The replica to be promoted: lowest priority, then most applied, then smallest run id, as Sentinel chooses.
pub fn choose(replicas: &[Replica]) -> Result<NodeId, Doubt> {
    let of = replicas.len();
    let down = replicas.iter().filter(|r| r.answers && r.link == Link::Down).count();
    if 2 * down <= of {
        return Err(Doubt::Heard { down, of });
    }
    let fit = |r: &&Replica| r.answers && r.in_line && r.link != Link::Sync && r.priority != 0;
    let rank = |r: &&Replica| (r.priority, Reverse(r.offset), r.run_id.clone());
    replicas.iter().filter(fit).min_by_key(rank).map(|r| r.id).ok_or(Doubt::NoneFit { of })
}

/// Who does not follow the master although it should: former masters that came back, and what followed them.
pub fn strays(reign: &Reign, sights: &[Sight]) -> Vec<NodeId> {
    let former = |s: &Sight| {
        let ancestor = matches!(relation(&s.lineage, &reign.lineage), Relation::Descends { .. });
        s.id != reign.node && (s.superseded || (s.standing == Standing::Master && ancestor))
    };
    let stray = |s: &&Sight| match (s.standing, s.follows) {
        _ if s.id == reign.node => false,
        (Standing::Master, _) => former(s),
        // What follows another replica is left where the operator put it.
        (Standing::Replica, Some(of)) => sights.iter().any(|m| m.id == of && former(m)),
        _ => false,
    };
    sights.iter().filter(stray).map(|s| s.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Lineage;
    use Link::{Connected, Down, Sync};

    /// Lost the master, has everything.
    fn fit(id: NodeId) -> Replica {
        let run_id = format!("run{id}");
        Replica { id, answers: true, link: Down, in_line: true, priority: 100, offset: 500, run_id }
    }

    fn with(id: NodeId, change: impl FnOnce(&mut Replica)) -> Replica {
        let mut replica = fit(id);
        change(&mut replica);
        replica
    }

    #[test]
    fn who_is_promoted() {
        let heard = |down, of| Err(Doubt::Heard { down, of });
        let silent = |id| with(id, |r| r.answers = false);
        let link = |id, link| with(id, |r| r.link = link);
        type Row = (&'static str, Vec<Replica>, Result<NodeId, Doubt>);
        let table: [Row; 16] = [
            ("no replica at all", vec![], heard(0, 0)),
            ("the only one", vec![fit(1)], Ok(1)),
            ("the only one still hears the master", vec![link(1, Connected)], heard(0, 1)),
            ("half is no majority", vec![fit(1), link(2, Connected)], heard(1, 2)),
            ("who is silent agrees with nobody", vec![fit(1), silent(2)], heard(1, 2)),
            ("two of three", vec![fit(2), fit(3), link(1, Connected)], Ok(1)),
            ("one that receives a data set lost nobody", vec![fit(1), link(2, Sync)], heard(1, 2)),
            ("and is never promoted", vec![fit(2), fit(3), with(1, |r| (r.link, r.priority) = (Sync, 1))], Ok(2)),
            ("all else equal: the smallest run id", vec![fit(2), fit(1)], Ok(1)),
            ("who has more", vec![fit(1), with(2, |r| r.offset = 501)], Ok(2)),
            ("priority goes before", vec![with(1, |r| r.priority = 10), with(2, |r| r.offset = 501)], Ok(1)),
            ("priority 0 is never promoted", vec![with(1, |r| r.priority = 0), fit(2)], Ok(2)),
            (
                "all of priority 0",
                vec![with(1, |r| r.priority = 0), with(2, |r| r.priority = 0)],
                Err(Doubt::NoneFit { of: 2 }),
            ),
            ("another data set", vec![with(1, |r| r.in_line = false), fit(2)], Ok(2)),
            ("nothing but another data set", vec![with(1, |r| r.in_line = false)], Err(Doubt::NoneFit { of: 1 })),
            ("one is silent, and would be better", vec![with(1, |r| r.answers = false), fit(2), fit(3)], Ok(2)),
        ];
        for (what, mut replicas, expected) in table {
            assert_eq!(choose(&replicas), expected, "{what}");
            replicas.reverse();
            assert_eq!(choose(&replicas), expected, "{what}, reversed");
        }
    }

    #[test]
    fn who_has_to_follow() {
        use Standing::{Gone, Master, Replica};
        const O: NodeId = 0;
        const N: NodeId = 1;
        let line = |id: &str, previous: &str| Lineage { id: id.into(), previous: previous.into(), branch: 9 };
        let reign = Reign { node: N, run_id: "n".into(), lineage: line("n", "o"), config_epoch: 0, confirmed: false };
        let sight = |id, standing, follows, lineage: Lineage| Sight {
            id,
            standing,
            lineage,
            run_id: String::new(),
            follows,
            superseded: false,
            bystander: false,
        };
        let superseded = |s: Sight| Sight { superseded: true, ..s };
        let new = || sight(N, Master, None, line("n", "o"));
        let table = [
            ("all follow", vec![new(), sight(2, Replica, Some(N), line("n", "o"))], vec![]),
            (
                "it follows the old master, which is gone",
                vec![new(), superseded(sight(O, Gone, None, line("o", ""))), sight(2, Replica, Some(O), line("o", ""))],
                vec![2],
            ),
            (
                "the old master is back, with its follower",
                vec![
                    new(),
                    superseded(sight(O, Master, None, line("o", ""))),
                    sight(2, Replica, Some(O), line("o", "")),
                ],
                vec![O, 2],
            ),
            ("back and empty", vec![new(), superseded(sight(O, Master, None, line("z", "")))], vec![O]),
            ("known as an ancestor by its line alone", vec![new(), sight(O, Master, None, line("o", ""))], vec![O]),
            ("a stranger is nobody's business", vec![new(), sight(2, Master, None, line("x", ""))], vec![]),
            (
                "chained behind another replica",
                vec![
                    new(),
                    sight(2, Replica, Some(N), line("n", "o")),
                    sight(3, Replica, Some(2), line("n", "o")),
                    sight(4, Replica, Some(9), line("n", "o")),
                    sight(5, Replica, None, line("n", "o")),
                ],
                vec![],
            ),
            (
                "the old master follows already",
                vec![new(), superseded(sight(O, Replica, Some(N), line("o", "")))],
                vec![],
            ),
        ];
        for (what, sights, expected) in table {
            assert_eq!(strays(&reign, &sights), expected, "{what}");
        }
    }
}
