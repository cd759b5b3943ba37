//! Everything an operator can set, as one validated value.
//!
//! Flags and the TOML file are merged here; the rest of the crate sees only [`Config`] and never asks where a value came
//! from. Must not open sockets or resolve names: a config is valid or not by itself.
//! Invariant: a `Config` that exists is complete and consistent; every fault was reported before.

mod acks;
mod args;
mod assemble;
mod catalogue;
mod commands;
mod failover;
mod fault;
mod file;
mod given;
mod holding;
mod reads;
mod servers;
mod settings;
mod value;

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use acks::{AckSettings, OnTimeout};
pub use args::{Action, Cli, DemoArgs, Flags, RunArgs, SwitchoverArgs};
use assemble::Inputs;
pub use commands::{CATEGORIES, CommandSettings};
pub use failover::{Failover, Notify, OnEmptyMaster, Trust};
pub use fault::Faults;
use fault::{At, env_name};
use given::Given;
pub use holding::{Holding, OnLostWrites, UnknownOutcome};
pub use reads::{Beyond, LagGuard, ReadSettings, Share, Staleness};

/// The whole configuration of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Data-plane threads; each has its own listener socket and upstream connections. Default: the cores.
    pub workers: usize,
    /// HTTP address of metrics, health and topology; `None` turns it off.
    pub admin: Option<SocketAddr>,
    /// What a request that changes something there must show; `None`: nothing can be changed there.
    pub admin_token: Option<Secret>,
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
    /// The kernel may pace what goes to nodes.
    pub pace_nodes: bool,
    /// Scripts remembered per set, and the bytes of their bodies.
    pub scripts: usize,
    pub script_bytes: usize,
}

/// A login at a node or a Sentinel. `username: None` is the old `AUTH password`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Login {
    pub username: Option<String>,
    pub password: String,
}

/// A token. Never printed, and compared in a time that tells nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Whether `shown` is it. The time depends on the length of `shown` alone.
    pub fn is(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = |at: usize, byte: u8| byte ^ own.get(at % own.len().max(1)).copied().unwrap_or_default();
        let differences = shown.iter().enumerate().fold(0, |all, (at, byte)| all | differs(at, *byte));
        differences == 0 && !own.is_empty() && shown.len() == own.len()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
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
    /// It gets reads again at this part of both.
    pub max_lag_return: Share,
    pub nodes: Vec<NodeSettings>,
    pub failover: Failover,
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
    pub consistency: Consistency,
    pub reads: ReadSettings,
    pub balancer: Balancer,
    /// This proxy's zone: readers of the same zone are preferred.
    pub zone: Option<String>,
    pub auth: ClientAuth,
    /// Longest wait of a held request before it is refused.
    pub hold: Duration,
    /// Bytes of held requests over all workers; one more is refused.
    pub hold_bytes: usize,
    pub holding: Holding,
    pub commands: CommandSettings,
    pub acks: AckSettings,
    /// MONITOR is let through.
    pub monitor: bool,
}

/// Which nodes answer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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

/// How fresh reads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Consistency {
    /// Whatever a replica within the lag limit has.
    Eventual,
    /// No staler than [`Staleness`] says; nothing about what the session wrote or was shown.
    Bounded,
    /// At least what the session wrote, and was shown, before.
    Session,
    /// The newest: all at the master.
    Strong,
}

impl Consistency {
    pub const fn label(self) -> &'static str {
        match self {
            Consistency::Eventual => "eventual",
            Consistency::Bounded => "bounded",
            Consistency::Session => "session",
            Consistency::Strong => "strong",
        }
    }
}

impl ListenerConfig {
    /// The level of a user's reads; `None`: who has not logged in, or gave no name.
    pub fn level_of(&self, user: Option<&str>) -> Consistency {
        let user = user.unwrap_or("default");
        let own = self.reads.users.iter().find(|(name, _)| name == user);
        own.map_or(self.consistency, |(_, level)| *level)
    }
}

impl ReadPolicy {
    /// As in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            ReadPolicy::Replica => "replica",
            ReadPolicy::PreferReplica => "prefer-replica",
            ReadPolicy::Any => "any",
            ReadPolicy::PreferMaster => "prefer-master",
            ReadPolicy::Master => "master",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Balancer {
    /// The less loaded of two picked at random.
    LeastInFlight,
    RoundRobin,
    Random,
    /// The lower of two by peak-sensitive moving average of latency times load.
    PeakEwma,
}

/// Whose login a session's commands run under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientAuth {
    /// The client's own AUTH, checked by Redis itself; commands run under that user.
    Passthrough,
    /// redweir's node login for everyone; clients need none.
    Proxy,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    Run(Config),
    Check(Config),
    Demo(DemoArgs),
    Healthcheck(SocketAddr),
    Switchover(SwitchoverArgs),
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Refusal {
    /// Help or the version was asked for: print it, that is a success.
    Answer(clap::Error),
    /// One line per fault.
    Faults(Vec<String>),
}

/// Reads the arguments of the process, the file they name and the environment.
pub fn from_command_line(args: impl IntoIterator<Item = OsString>) -> Result<Request, Refusal> {
    let cli = <Cli as clap::Parser>::try_parse_from(args).map_err(|error| match error.use_stderr() {
        true => Refusal::Faults(vec![format!("redweir: {}", args::one_line(&error))]),
        false => Refusal::Answer(error),
    })?;
    let load = |run: &RunArgs| load(run, |name| std::env::var_os(name)).map_err(|f| Refusal::Faults(f.lines()));
    match cli.action {
        None => load(&cli.run).map(Request::Run),
        Some(Action::Check(run)) => load(&run).map(Request::Check),
        Some(Action::Demo(demo)) => Ok(Request::Demo(demo)),
        Some(Action::Switchover(args)) => Ok(Request::Switchover(args)),
        Some(Action::Healthcheck(health)) => Ok(Request::Healthcheck(health.admin)),
    }
}

/// Reads and merges flags, file and environment (`env` gives the value of a variable).
pub fn load(run: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, Faults> {
    let mut faults = Faults::of(run.config.as_deref());
    let flags = run.flags.given(&mut faults);
    let bytes = match run.config.as_deref().map(read_bounded).transpose() {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(fault) => {
            faults.add(At::File, None, fault);
            return Err(faults);
        }
    };
    merge(run.config.as_deref(), &bytes, flags, &env, faults)
}

/// Reads the text of a file alone: no flags, no environment. `path` is for messages and for paths within it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Config, Faults> {
    merge(Some(path), bytes, Vec::new(), &|_| None, Faults::of(Some(path)))
}

fn merge(
    path: Option<&Path>,
    bytes: &[u8],
    flags: Vec<Given>,
    env: &dyn Fn(&str) -> Option<OsString>,
    mut faults: Faults,
) -> Result<Config, Faults> {
    // What is no TOML has no values: to miss them would only hide the fault.
    let Some(file) = file::read(bytes, &mut faults) else { return Err(faults) };
    let env = from_environment(env, &mut faults);
    assemble::assemble(&Inputs { path, file, env, flags }, faults)
}

fn from_environment(env: &dyn Fn(&str) -> Option<OsString>, faults: &mut Faults) -> Vec<Given> {
    let mut given = Vec::new();
    for (_, _, about) in settings::all().filter(|(_, _, about)| about.env) {
        match env(&env_name(about.key)).map(OsString::into_string) {
            Some(Ok(text)) => given.push(Given::text(about.key, about.kind, At::Env, &text, faults)),
            Some(Err(_)) => faults.add(At::Env, about.key, "is not UTF-8 text, correct it"),
            None => {}
        }
    }
    given
}

/// Reads a small file whole; the error says why not, as the end of a sentence.
fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(file::MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read ({error}), check the path and its permissions")),
        Ok(_) if bytes.len() as u64 > file::MAX_BYTES => {
            Err("is larger than 1 MiB, is this the right file?".to_owned())
        }
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
