//! Replication ids: which offsets may be compared, and who descends from whom. Pure.
//!
//! Source: INFO replication, `master_replid`, `master_replid2`, `second_repl_offset` (replication.c shiftReplicationId).

/// The replication identity a node reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// `master_replid`.
    pub id: String,
    /// `master_replid2`; empty when the node never was promoted.
    pub previous: String,
    /// `second_repl_offset`: the first offset that is *not* common with `previous`; -1 when there is none.
    pub branch: i64,
}

/// What one lineage is to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Same replication id: offsets compare directly.
    Same,
    /// The newer descends from the older; they agree on every byte up to and including `common`.
    Descends { common: i64 },
    /// Neither: offsets do not compare.
    Unrelated,
}

/// What `new` is to `old`.
///
/// An id is random, so an equal id is proof; only one previous id is remembered, so a node promoted twice since `old`
/// is [`Relation::Unrelated`]: its offsets may compare, but nothing shows it.
pub fn relation(old: &Lineage, new: &Lineage) -> Relation {
    if old.id.is_empty() || new.id.is_empty() {
        Relation::Unrelated
    } else if old.id == new.id {
        Relation::Same
    } else if new.previous == old.id && new.branch > 0 {
        Relation::Descends { common: new.branch - 1 }
    } else {
        Relation::Unrelated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(id: &str, previous: &str, branch: i64) -> Lineage {
        Lineage { id: id.into(), previous: previous.into(), branch }
    }

    #[test]
    fn relations() {
        // The first three are the measured promotion of offsets.md section 4: W1 = 328 survives, W2 = 362 does not.
        let a = lineage("a", "", -1);
        let b = lineage("b", "a", 329);
        let c = lineage("c", "b", 500);
        let table = [
            ("promoted: agrees up to the branch", &a, &b, Relation::Descends { common: 328 }),
            ("the old one never descends from the new one", &b, &a, Relation::Unrelated),
            ("partial resync: same id", &b, &lineage("b", "a", 294), Relation::Same),
            ("two promotions: only one previous id is remembered", &a, &c, Relation::Unrelated),
            ("each step of them", &b, &c, Relation::Descends { common: 499 }),
            ("siblings of one parent", &b, &lineage("x", "a", 340), Relation::Unrelated),
            (
                "restart from an RDB with its replication ids",
                &a,
                &lineage("r", "a", 200),
                Relation::Descends { common: 199 },
            ),
            ("restart empty, or from an AOF", &a, &lineage("z", "", -1), Relation::Unrelated),
            ("backlog freed: new id, previous cleared", &b, &lineage("f", "", -1), Relation::Unrelated),
            ("promoted before a single byte was written", &a, &lineage("b", "a", 1), Relation::Descends { common: 0 }),
            ("a previous id without a branch proves nothing", &a, &lineage("b", "a", -1), Relation::Unrelated),
            ("nothing known of the old", &Lineage::default(), &b, Relation::Unrelated),
            ("nothing known of either", &Lineage::default(), &Lineage::default(), Relation::Unrelated),
        ];
        for (what, old, new, expected) in table {
            assert_eq!(relation(old, new), expected, "{what}");
        }
    }

    #[test]
    fn a_lost_write_is_told_from_a_kept_one() {
        let Relation::Descends { common } = relation(&lineage("a", "", -1), &lineage("b", "a", 329)) else {
            panic!("descends");
        };
        let (kept, lost) = (328, 362);
        assert!(kept <= common && lost > common);
    }
}
