//! `REDWEIR ROUTE`: where a request would go and why, in words.
//!
//! Pure. Must not decide by itself: class, kind and node come from the functions of the data path. Invariant: nothing is
//! sent and nothing changes, not even whose turn it is among the replicas.

use super::client;
use super::errors;
use super::kind::{self, Kind};
use super::pubsub;
use crate::command::{self, Class, Ruling, Verdict};
use crate::config::ReadPolicy;
use crate::metrics::Reason;
use crate::resp::Args;
use crate::route::{Decision, Want};
use crate::topology::{Topology, Writes};

/// What the answer depends on.
pub(super) struct Scene<'a> {
    pub topology: &'a Topology,
    pub policy: ReadPolicy,
    pub rules: &'a command::Rules,
    /// REDWEIR commands answer here.
    pub ours: bool,
    /// MONITOR is let through.
    pub monitor: bool,
}

/// The way of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    Refused(String),
    /// redweir answers.
    Here(&'static str),
    /// Over a connection that others use too.
    Shared(Want),
    /// On a connection of its own, for the reason given.
    Pinned(&'static str),
    /// Asked at the master for this one request.
    Asked(&'static str),
    All,
}

/// `decide` says which node the next request of that kind would get.
pub(super) fn explain(request: &[u8], scene: &Scene<'_>, decide: impl FnOnce(Want) -> Decision) -> Vec<String> {
    let mut renamed = None;
    let mut path = None;
    match scene.rules.judge(request) {
        Ruling::Plain => {}
        Ruling::Denied => path = Some(Path::Refused("the deny list of this listener names it".into())),
        Ruling::Gone => path = Some(Path::Refused("no command has this name here (rename, upstream-names)".into())),
        Ruling::Passed(passed) => {
            renamed = passed.real.map(|real| command::renamed(request, real));
            if passed.allowed && command::refused_by_default(renamed.as_deref().unwrap_or(request)) {
                path = Some(Path::Pinned("refused by default, and allowed here"));
            } else if passed.upstream.is_some() {
                path = Some(Path::Pinned("nodes know it by another name"));
            }
        }
    }
    let real = renamed.as_deref().unwrap_or(request);
    let first = String::from_utf8_lossy(Args::new(real).next().unwrap_or_default()).into_owned();
    let verdict = command::classify(Args::new(real));
    let names = || scene.topology.names.lookup(first.as_bytes());
    let kind = kind::of(&verdict, names);
    let ours = scene.ours && first.eq_ignore_ascii_case("redweir");
    let path = path.unwrap_or_else(|| match by_kind(&verdict, kind, scene, ours) {
        Path::Shared(_) if renamed.is_some() => Path::Pinned("clients know it by another name"),
        path => path,
    });
    let name = verdict.command.map_or(first.clone(), |c| c.name.replace('|', " ")).to_uppercase();
    let class = match (verdict.class, ours) {
        (_, true) => "redweir's own",
        (Class::Unknown, _) => names().map_or("unknown", words),
        (class, _) => words(class),
    };
    let (to, why) = outcome(&path, kind, scene, decide);
    vec![format!("command: {name}"), format!("class: {class}"), format!("to: {to}"), format!("why: {why}")]
}

/// As `act` and the walk through the input would have it.
fn by_kind(verdict: &Verdict, kind: Kind, scene: &Scene<'_>, ours: bool) -> Path {
    let name = verdict.command.map_or("", |c| c.name);
    match kind {
        _ if ours => Path::Here("it is about redweir itself"),
        Kind::Read => Path::Shared(Want::Read),
        Kind::MasterRead | Kind::Write | Kind::Script => Path::Shared(Want::Master),
        Kind::Alone => match (verdict.class, name) {
            (_, "monitor") if scene.monitor => Path::Pinned("it shows what the master executes"),
            (Class::Forbidden, _) | (_, "monitor" | "script|debug") => {
                Path::Refused(errors::why_forbidden(name).into())
            }
            (Class::AllNodes, _) => Path::All,
            (_, "info") => Path::Asked("the master's answer, with a section about redweir behind it"),
            (_, "select" | "auth" | "hello") => Path::Asked("the node judges it, the session keeps the outcome"),
            (_, "quit" | "reset" | "client|reply") => Path::Here("it is about the client's own connection"),
            (_, "client|tracking" | "client|trackinginfo" | "client|caching" | "client|getredir") => {
                Path::Pinned("tracking belongs to a connection")
            }
            _ if client::is_ours(name) => Path::Here("ids and names of clients are redweir's"),
            (_, "multi") => Path::Pinned("transaction"),
            (_, "watch") => Path::Pinned("watched keys"),
            _ if pubsub::sort(name.as_bytes()).is_some() => Path::Pinned("subscription"),
            (Class::Blocking, _) => Path::Pinned("it may block its connection"),
            (Class::Unknown, _) => Path::Pinned("nobody vouches for this name"),
            _ => Path::Pinned("it may change its connection's state"),
        },
    }
}

fn outcome(path: &Path, kind: Kind, scene: &Scene<'_>, decide: impl FnOnce(Want) -> Decision) -> (String, String) {
    let nobody = || "nobody".to_owned();
    let pins = |why: &str| format!("pins a connection: {why}");
    let held = "held: no verified master".to_owned();
    match path {
        Path::Refused(why) => (nobody(), format!("refused: {why}")),
        Path::Here(why) => ("redweir answers".to_owned(), (*why).to_owned()),
        Path::All => ("every node".to_owned(), "it concerns each node; the answer is the master's".to_owned()),
        Path::Pinned(why) => match decide(Want::Master) {
            Decision::To { node, .. } => (place(scene.topology, node), pins(why)),
            _ => (nobody(), format!("{held}; then it {}", pins(why))),
        },
        Path::Asked(why) => match decide(Want::Master) {
            Decision::To { node, .. } => (place(scene.topology, node), (*why).to_owned()),
            _ => (nobody(), held),
        },
        Path::Shared(want) => match decide(*want) {
            Decision::To { node, reason } => (place(scene.topology, node), because(reason, kind, scene.policy)),
            Decision::Hold => (nobody(), held),
            Decision::Guarded => {
                (nobody(), "refused: every replica is too far behind and the master has its share of reads".to_owned())
            }
            Decision::NoNode => {
                (nobody(), "refused: the read policy allows replicas only and none is in rotation".to_owned())
            }
        },
    }
}

fn because(reason: Reason, kind: Kind, policy: ReadPolicy) -> String {
    let policy = policy.label();
    match (reason, kind) {
        (Reason::Replica, _) => format!("a read, read policy {policy}"),
        (Reason::Policy, _) => format!("a read, and the read policy {policy} gives it to the master"),
        (Reason::Seen, _) => "a read, and only the master is sure to show what this client has seen".to_owned(),
        (Reason::Bound, _) => "a read, and no replica can be shown to be within the staleness bound".to_owned(),
        (Reason::NoReplica, _) => "a read, and no replica is in rotation".to_owned(),
        (Reason::LeastLagging, _) => {
            "a read, and of the replicas, all too far behind, the one that is least so".to_owned()
        }
        (Reason::Lag, _) => "a read, and every replica is too far behind".to_owned(),
        (_, Kind::MasterRead) => "the answer depends on the node, and the master's counts".to_owned(),
        (_, Kind::Script) => "a script, and it may write".to_owned(),
        _ => "it may write".to_owned(),
    }
}

fn place(topology: &Topology, node: u16) -> String {
    let master = topology.shards.iter().any(|shard| shard.writes == Writes::Open(node));
    let address = topology.node(node).map_or_else(|| format!("node {node}"), |n| n.address.to_string());
    format!("{address} ({})", if master { "master" } else { "replica" })
}

fn words(class: Class) -> &'static str {
    match class {
        Class::Read => "read",
        Class::MasterRead => "read, the master's",
        Class::Write => "write",
        Class::Script => "script",
        Class::ScriptRead => "script that cannot write",
        Class::Cursor => "cursor",
        Class::Admin => "administration",
        Class::AllNodes => "administration of every node",
        Class::Blocking => "blocking",
        Class::Session => "session",
        Class::Local => "local",
        Class::Forbidden => "forbidden",
        Class::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CommandSettings;
    use crate::resp::encode;

    fn said(line: &str, open: bool) -> String {
        let mut request = Vec::new();
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        encode::request(&mut request, words.into_iter());
        let mut topology = Topology::empty();
        topology.shards[0].writes = if open { Writes::Open(1) } else { Writes::Held };
        let rules = command::Rules::new(&CommandSettings {
            deny: vec!["flushall".into()],
            allow: vec!["debug".into()],
            rename: vec![("keys".into(), "k".into()), ("save".into(), String::new())],
            upstream_names: vec![("config".into(), "c".into())],
            ..CommandSettings::default()
        });
        let scene =
            Scene { topology: &topology, policy: ReadPolicy::PreferReplica, rules: &rules, ours: true, monitor: true };
        let decide = |want| match (want, open) {
            (Want::Read, _) => Decision::To { node: 2, reason: Reason::Replica },
            (Want::Master, true) => Decision::To { node: 1, reason: Reason::Master },
            (Want::Master, false) => Decision::Hold,
        };
        explain(&request, &scene, decide)[1..].join("; ")
    }

    #[test]
    fn every_way_has_its_words() {
        for (line, expected) in [
            ("GET a", "class: read; to: node 2 (replica); why: a read, read policy prefer-replica"),
            ("SET a 1", "class: write; to: node 1 (master); why: it may write"),
            ("TTL a", "class: read; to: node 2 (replica); why: a read, read policy prefer-replica"),
            (
                "TOUCH a",
                "class: read, the master's; to: node 1 (master); why: the answer depends on the node, and the master's counts",
            ),
            ("EVAL x 0", "class: script; to: node 1 (master); why: a script, and it may write"),
            ("MULTI", "class: session; to: node 1 (master); why: pins a connection: transaction"),
            ("BLPOP l 0", "class: blocking; to: node 1 (master); why: pins a connection: it may block its connection"),
            ("SUBSCRIBE c", "class: session; to: node 1 (master); why: pins a connection: subscription"),
            (
                "MONITOR",
                "class: session; to: node 1 (master); why: pins a connection: it shows what the master executes",
            ),
            ("NOSUCH", "class: unknown; to: node 1 (master); why: pins a connection: nobody vouches for this name"),
            ("CLIENT ID", "class: local; to: redweir answers; why: ids and names of clients are redweir's"),
            ("redweir help", "class: redweir's own; to: redweir answers; why: it is about redweir itself"),
            ("SHUTDOWN", "class: forbidden; to: nobody; why: refused: it would stop the master under every client"),
            ("FLUSHALL", "class: write; to: nobody; why: refused: the deny list of this listener names it"),
            (
                "SAVE",
                "class: administration; to: nobody; why: refused: no command has this name here (rename, upstream-names)",
            ),
            ("k *", "class: read; to: node 1 (master); why: pins a connection: clients know it by another name"),
            (
                "CONFIG GET a",
                "class: read, the master's; to: node 1 (master); why: pins a connection: nodes know it by another name",
            ),
            (
                "DEBUG SLEEP 0",
                "class: forbidden; to: node 1 (master); why: pins a connection: refused by default, and allowed here",
            ),
            (
                "SCRIPT FLUSH",
                "class: administration of every node; to: every node; why: it concerns each node; the answer is the master's",
            ),
        ] {
            assert_eq!(said(line, true), expected, "{line}");
        }
        assert_eq!(said("SET a 1", false), "class: write; to: nobody; why: held: no verified master");
        let multi = "class: session; to: nobody; why: held: no verified master; then it pins a connection: transaction";
        assert_eq!(said("MULTI", false), multi);
    }
}
