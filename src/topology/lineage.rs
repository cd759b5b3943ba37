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
