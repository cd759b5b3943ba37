//! Which answers of a replaced master stand: those to what its successor has. Pure.

use super::lag::Samples;
use super::seen::{Info, Role};
use crate::topology::{Lineage, Relation, Stands, relation};

/// `old` was replaced by `new`; `was` is what the old master said of itself last, `told` the offsets it told as master.
pub fn stands(old: &Lineage, new: &Lineage, was: Option<(&Role, &Info)>, told: &Samples) -> Stands {
    match relation(old, new) {
        Relation::Same => Stands::All,
        Relation::Descends { common } if was.is_some_and(|(role, info)| ended_within(role, info, old, new, common)) => {
            Stands::All
        }
        Relation::Descends { common } => told.within(common).map_or(Stands::None, Stands::Until),
        Relation::Unrelated => Stands::None,
    }
}

/// It stepped down, and never did anything beyond what both have in common (FAILOVER, a switchover that waited).
fn ended_within(role: &Role, info: &Info, old: &Lineage, new: &Lineage, common: i64) -> bool {
    if !matches!(role, Role::Replica { .. }) {
        return false;
    }
    let unlinked = info.lineage.id == old.id && info.offset <= common;
    // Continued in part: its own branch tells where its own line ended.
    let continued = info.lineage.id == new.id && info.lineage.previous == old.id && info.lineage.branch <= common + 1;
    unlinked || (continued && info.lineage.branch > 0)
}

#[cfg(test)]
mod tests {
    use super::super::seen::Link;
    use super::*;
    use std::time::{Duration, Instant};

    fn line(id: &str, previous: &str, branch: i64) -> Lineage {
        Lineage { id: id.into(), previous: previous.into(), branch }
    }

    #[test]
    fn only_what_the_successor_has() {
        let asked = Instant::now();
        let at = |n: u32| asked + n * Duration::from_millis(1);
        let mut told = Samples::default();
        for (n, offset) in [(0, 100), (1, 200), (5, 200), (6, 300)] {
            told.push(at(n), offset);
        }
        let master = Role::Master { offset: 300, replicas: vec![] };
        let replica = Role::Replica { of: "b:1".into(), link: Link::Down, offset: -1 };
        let info = |lineage: Lineage, offset| Info { lineage, offset, ..Info::default() };
        let (a, b) = (line("a", "", -1), |common: i64| line("b", "a", common + 1));
        let still = info(a.clone(), 300);
        let table = [
            ("beyond the last question", b(250), Some((&master, &still)), Stands::Until(at(5))),
            ("everything it told of", b(300), Some((&master, &still)), Stands::Until(at(6))),
            ("nothing it told of", b(99), None, Stands::None),
            ("unrelated", line("c", "", -1), Some((&master, &still)), Stands::None),
            ("the same line", a.clone(), None, Stands::All),
            ("stepped down with all of it", b(300), Some((&replica, &still)), Stands::All),
            ("stepped down with more", b(299), Some((&replica, &still)), Stands::Until(at(5))),
            ("goes on in the new line", b(300), Some((&replica, &info(line("b", "a", 301), 400))), Stands::All),
            ("a new data set", b(300), Some((&replica, &info(line("b", "", -1), 400))), Stands::Until(at(6))),
        ];
        for (what, new, was, expected) in table {
            assert_eq!(stands(&a, &new, was, &told), expected, "{what}");
        }
    }
}
