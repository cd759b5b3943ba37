//! Everything an operator can set, as one validated value.
//!
//! Flags and the TOML file are merged here; the rest of the crate sees only [`Config`] and never asks where a value came
//! from. Must not open sockets or resolve names: a config is valid or not by itself.
//! Invariant: a `Config` that exists is complete and consistent; every fault was reported before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Data-plane threads; each has its own listener socket and upstream connections. Default: the cores.
    pub workers: usize,
    /// HTTP address of metrics, health and topology; `None` turns it off.
    pub admin: Option<SocketAddr>,
    pub log: Log,
    pub limits: Limits,
    /// Replication sets to watch; listeners refer to them by index.
    pub sets: Vec<SetConfig>,
    pub listeners: Vec<ListenerConfig>,
    /// How long sessions may finish their replies after SIGTERM / SIGINT before they are cut.
    pub drain: Duration,
    /// The file this was read from, for messages.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A tracing filter, e.g. `info` or `redweir=debug`.
    pub filter: String,
    pub json: bool,
}

/// A bound on everything; each is a setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Client connections over all workers; one more is told `-ERR max number of clients reached` and closed.
    pub sessions: usize,
    /// Request bytes read ahead of one session whose requests cannot be sent yet.
    pub read_ahead_bytes: usize,
    /// Replies one session may wait for before redweir stops reading from it.
    pub pipeline: usize,
    /// A request or reply above this travels streamed on a connection of its own.
    pub large_bytes: usize,
    /// Largest bulk accepted from a client (Redis `proto-max-bulk-len`, 512 MiB).
    pub max_bulk_bytes: u64,
    /// Reply bytes buffered for one client that reads slowly, before it is disconnected.
    pub client_output_bytes: usize,
    /// Request bytes waiting or in flight on one shared upstream connection.
    pub upstream_bytes: usize,
    /// Leased (pinned) upstream connections per worker.
    pub pinned: usize,
    /// Shared connections per node and worker.
    pub connections_per_node: usize,
}

/// A login at a node or a Sentinel. `username: None` is the old `AUTH password`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Login {
    pub username: Option<String>,
    pub password: String,
}

impl std::fmt::Debug for Login {
    /// Never prints the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Where a replication set's members are learnt from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Sentinel {
        sentinels: Vec<String>,
        master_name: String,
        login: Option<Login>,
    },
    /// No Sentinel: redweir's own detector over these nodes (and the replicas they name).
    Nodes(Vec<String>),
}

/// One replication set: a master and its replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct SetConfig {
    /// Label in metrics and logs; the master name by default.
    pub name: String,
    pub source: Source,
    /// redweir's own login at the nodes (ROLE, INFO, COMMAND). Sessions use it only with [`ClientAuth::Proxy`].
    pub node_login: Option<Login>,
    /// Announced address -> address to dial, for NAT. Both `host:port`.
    pub address_map: Vec<(String, String)>,
    /// ROLE to every node this often when all is well.
    pub poll: Duration,
    /// ROLE this often from the first sign of trouble until it is over.
    pub poll_fast: Duration,
    /// A node that did not answer for this long is down.
    pub down_after: Duration,
    pub connect_timeout: Duration,
    /// A replica further behind than this gets no reads. `None`: no limit.
    pub max_lag: Option<Duration>,
    pub max_lag_bytes: Option<u64>,
    pub nodes: Vec<NodeSettings>,
}

/// What an operator says of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// `host:port` as announced.
    pub address: String,
    /// Share of the reads relative to others (default 1, 0: none).
    pub weight: u32,
    pub zone: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    pub bind: SocketAddr,
    /// Index into [`Config::sets`].
    pub set: usize,
    pub read_policy: ReadPolicy,
    pub balancer: Balancer,
    /// This proxy's zone: readers of the same zone are preferred.
    pub zone: Option<String>,
    pub auth: ClientAuth,
    /// Longest wait of a held request before it is refused.
    pub hold: Duration,
    /// Bytes of held requests over all workers; one more is refused.
    pub hold_bytes: usize,
}

/// Which nodes answer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ReadPolicy {
    /// Replicas only; refused when none fits.
    Replica,
    /// Replicas, the master when none fits.
    PreferReplica,
    /// Master and replicas alike.
    Any,
    /// The master, replicas while there is none.
    PreferMaster,
    /// The master only.
    Master,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Balancer {
    /// The less loaded of two picked at random.
    LeastInFlight,
    RoundRobin,
    Random,
    /// The lower of two by peak-sensitive moving average of latency times load.
    PeakEwma,
}

/// Whose login a session's commands run under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// The client's own AUTH, checked by Redis itself; commands run under that user.
    Passthrough,
    /// redweir's node login for everyone; clients need none.
    Proxy,
}
