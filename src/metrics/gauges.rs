//! What a scrape shows of the topology, as plain values: admin fills them in from the snapshot.
//!
//! Must not know `topology` (it stands to the right of this room). Invariant: built new for each scrape, so a node that
//! left the topology leaves the page too.

/// One replication set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SetGauges {
    pub set: String,
    pub epoch: u64,
    pub shards: Vec<ShardGauges>,
    pub nodes: Vec<NodeGauges>,
}

/// One shard of a set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardGauges {
    /// First and last slot, `0-16383`.
    pub slots: String,
    pub term: u64,
    /// Writes go to a verified master; otherwise they wait.
    pub writes_open: bool,
    /// Why they wait.
    pub held_for: Option<&'static str>,
    pub readers: usize,
    /// Replicas out of rotation for lag alone.
    pub lagging: usize,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeGauges {
    /// Its `topology::NodeId`: the row of its requests in the cells.
    pub slot: u16,
    pub address: String,
    /// `master`, `replica` or `none`: its position in the snapshot.
    pub role: &'static str,
    pub state: &'static str,
    pub version: String,
    /// It answers.
    pub up: bool,
    /// It gets traffic.
    pub in_rotation: bool,
    /// Replication offset in bytes; `None` when unknown.
    pub offset: Option<i64>,
    /// How far a replica is behind; `None` for others and when unknown.
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<f64>,
}
