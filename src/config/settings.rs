//! What a setting is, what is being read from settings, and where to find one.
//!
//! Must not hold a setting itself: those are in the catalogue. Invariant: keys are unique over all tables.

use std::net::SocketAddr;
use std::time::Duration;

use super::acks::ACKS;
use super::catalogue::{LIMITS, LISTENER, PROCESS, SET};
use super::failover::{FAILOVER, Failover};
use super::fault::Faults;
use super::given::{Given, Kind};
use super::holding::HOLDING;
use super::reads::READS;
use super::{
    AckSettings, Balancer, ClientAuth, CommandSettings, Consistency, Holding, Limits, Log, ReadPolicy, ReadSettings,
    Share,
};

/// A setting as help and file see it.
#[derive(Debug)]
pub(super) struct About {
    pub key: &'static str,
    pub kind: Kind,
    /// What to write for the value in help.
    pub value_name: &'static str,
    /// As written in the file or after the flag; empty: not set.
    pub default: &'static str,
    pub help: &'static str,
    /// May come from the environment, where neither flag nor file gives it.
    pub env: bool,
    /// May be given as flag and at the top of the file; otherwise only in its own table.
    pub everywhere: bool,
}

impl About {
    /// What stands for an item of a list or a name of a map in messages.
    pub fn item(&self) -> &'static str {
        if self.value_name.starts_with("HOST") { "HOST:PORT" } else { "NAME" }
    }
}

/// A setting of a `T`.
pub(super) struct Setting<T: 'static> {
    pub about: About,
    pub apply: fn(&mut T, &Given, &mut Faults),
}

/// The settings of the process while they are read.
pub(super) struct Process {
    pub workers: usize,
    pub admin: Option<SocketAddr>,
    /// Of its user name there is none.
    pub token: LoginParts,
    pub log: Log,
    pub limits: Limits,
    pub drain: Duration,
}

/// A login while it is read.
#[derive(Default)]
pub(super) struct LoginParts {
    pub username: Option<String>,
    pub password: String,
    pub file: String,
}

/// A replication set while it is read.
#[derive(Default)]
pub(super) struct SetParts {
    pub name: String,
    pub sentinel: Vec<String>,
    pub master_name: String,
    pub node: Vec<String>,
    pub node_login: LoginParts,
    pub sentinel_login: LoginParts,
    pub address_map: Vec<(String, String)>,
    pub weights: Vec<(String, u32)>,
    pub zones: Vec<(String, String)>,
    pub poll: Duration,
    pub poll_fast: Duration,
    pub down_after: Duration,
    pub connect_timeout: Duration,
    pub max_lag: Option<Duration>,
    pub max_lag_bytes: Option<u64>,
    pub max_lag_return: Option<Share>,
    pub failover: Failover,
}

/// A listener while it is read.
#[derive(Default)]
pub(super) struct ListenerParts {
    pub bind: Option<SocketAddr>,
    pub set: String,
    pub read_policy: Option<ReadPolicy>,
    pub consistency: Option<Consistency>,
    pub reads: ReadSettings,
    pub balancer: Option<Balancer>,
    pub zone: Option<String>,
    pub auth: Option<ClientAuth>,
    pub hold: Duration,
    pub hold_bytes: usize,
    pub holding: Holding,
    pub commands: CommandSettings,
    pub acks: AckSettings,
    pub monitor: bool,
}

/// Where a setting belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Process,
    Set,
    Listener,
}

/// Every setting with the heading it has in help, in the order of help.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Scope, &'static About)> {
    let listener = LISTENER
        .iter()
        .chain(READS)
        .chain(ACKS)
        .chain(HOLDING)
        .map(|s| ("Clients (per [[listener]])", Scope::Listener, &s.about));
    let set = SET.iter().map(|s| ("Servers (per [[set]])", Scope::Set, &s.about));
    let failover = FAILOVER.iter().map(|s| ("When the master changes (per [[set]])", Scope::Set, &s.about));
    let process = PROCESS.iter().map(|s| ("Process", Scope::Process, &s.about));
    let limits = LIMITS.iter().map(|s| ("Limits", Scope::Process, &s.about));
    listener.chain(set).chain(failover).chain(process).chain(limits)
}

pub(super) fn find(key: &str) -> Option<(Scope, &'static About)> {
    all().find(|(_, _, about)| about.key == key).map(|(_, scope, about)| (scope, about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_documented() {
        let mut keys: Vec<&str> = all().map(|(_, _, about)| about.key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        for (_, _, about) in all() {
            assert!(about.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", about.key);
            assert!(!about.help.is_empty() && !about.help.ends_with('.'), "{}", about.key);
        }
    }
}
