//! Every setting there is: its name (the same as flag and in the file), default, help text and where it goes.
//!
//! The only place that holds a default: help, file and code all read it here. Must not know where values come from.
//! Invariant: every default parses (tested by the file that gives none).

use std::time::Duration;

use super::commands::{alias, any_command, command, denied, upstream_name};
use super::fault::Faults;
use super::given::{Given, Kind};
use super::settings::{About, ListenerParts, Process, SetParts, Setting};
use super::value::{
    LONGEST, address, any, bind, choice, count, duration, log_filter, log_format, memory, optional_word, or_off, share,
    size, switch, word, workers,
};

type Apply<T> = fn(&mut T, &Given, &mut Faults);

pub(super) const fn one<T>(
    key: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
    apply: Apply<T>,
) -> Setting<T> {
    Setting { about: About { key, kind: Kind::One, value_name, default, help, env: false, everywhere: true }, apply }
}

impl<T> Setting<T> {
    pub(super) const fn kind(mut self, kind: Kind) -> Self {
        self.about.kind = kind;
        self
    }
    const fn env(mut self) -> Self {
        self.about.env = true;
        self
    }
    const fn only_in_its_table(mut self) -> Self {
        self.about.everywhere = false;
        self
    }
}

const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;
pub(super) const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const KB: u64 = 1 << 10;
const GB: u64 = 1 << 30;

pub(super) const LISTENER: &[Setting<ListenerParts>] = &[
    one(
        "listen",
        "IP:PORT",
        "127.0.0.1:7379",
        "Where clients connect; port 0 takes any free port. The default is not 6379, \
        which a Redis on this machine would have, and not reachable from other machines",
        |l, g, f| g.put_some(&mut l.bind, f, bind),
    ),
    one(
        "set",
        "NAME",
        "",
        "Which [[set]] this listener serves; needed when there are several",
        |l: &mut ListenerParts, g, f| g.put(&mut l.set, f, word),
    )
    .only_in_its_table(),
    one(
        "read-policy",
        "POLICY",
        "prefer-replica",
        "Who answers reads: replica, prefer-replica (the master when no replica fits), any, \
        prefer-master or master",
        |l, g, f| g.put_some(&mut l.read_policy, f, choice),
    ),
    one(
        "consistency",
        "LEVEL",
        "session",
        "How fresh reads are: session (at least what the same client wrote and was shown before), eventual (whatever a \
        replica within max-lag has), bounded (no staler than max-staleness) or strong (all at the master)",
        |l, g, f| g.put_some(&mut l.consistency, f, choice),
    ),
    one(
        "balancer",
        "BALANCER",
        "least-in-flight",
        "How reads are spread: least-in-flight (of two picked at random; small reads of a crowd join a node at work for up to \
        16 batches, while they wait there less than 0.25 ms), round-robin, random or peak-ewma (by latency times load)",
        |l, g, f| g.put_some(&mut l.balancer, f, choice),
    ),
    one(
        "zone",
        "ZONE",
        "",
        "Zone of this proxy: nodes of the same zone (see node-zone) are read from first",
        |l, g, f| g.put(&mut l.zone, f, optional_word),
    ),
    one(
        "client-auth",
        "HOW",
        "passthrough",
        "Whose login commands run under: passthrough (the client's own AUTH, checked by Redis) or \
        proxy (the node login for everyone, clients need none)",
        |l, g, f| g.put_some(&mut l.auth, f, choice),
    ),
    one(
        "hold",
        "DURATION",
        "10s",
        "How long a write may wait while there is no master, before it is refused; 0s refuses at once",
        |l, g, f| g.put(&mut l.hold, f, duration(Duration::ZERO..=LONGEST)),
    ),
    one(
        "hold-bytes",
        "SIZE",
        "256mb",
        "Bytes of waiting writes over all clients; what is beyond is refused",
        |l, g, f| g.put(&mut l.hold_bytes, f, memory(0..=1024 * GB)),
    ),
    one(
        "redweir-commands",
        "BOOL",
        "true",
        "Whether the REDWEIR commands answer (REDWEIR HELP lists them): true or false",
        |l: &mut ListenerParts, g, f| g.put(&mut l.commands.redweir, f, switch),
    ),
    one(
        "deny",
        "NAME,...",
        "",
        "Commands refused to every client: FLUSHALL, a subcommand as CONFIG SET, or a category (@admin, @blocking, \
        @dangerous, @pubsub, @read, @write). Scripts are not looked into",
        |l: &mut ListenerParts, g, f| g.put_list(&mut l.commands.deny, f, denied),
    )
    .kind(Kind::List),
    one(
        "allow",
        "NAME,...",
        "",
        "Commands let through to the master although they are refused by default (DEBUG, FAILOVER, REPLICAOF, SHUTDOWN, \
        SLAVEOF), by a category of deny, or with their container",
        |l: &mut ListenerParts, g, f| g.put_list(&mut l.commands.allow, f, any_command),
    )
    .kind(Kind::List),
    one(
        "rename",
        "NAME=NAME,...",
        "",
        "Command = what clients must say for it; the old name is then unknown. Nothing behind the =: the command is gone",
        |l: &mut ListenerParts, g, f| g.put_map(&mut l.commands.rename, f, command, alias),
    )
    .kind(Kind::Map),
    one(
        "upstream-names",
        "NAME=NAME,...",
        "",
        "Command = what the nodes call it, where redis.conf has rename-command",
        |l: &mut ListenerParts, g, f| g.put_map(&mut l.commands.upstream_names, f, command, upstream_name),
    )
    .kind(Kind::Map),
    one(
        "monitor",
        "on|off",
        "off",
        "Whether clients may use MONITOR: it shows the commands of all clients, and redweir's own, at the master",
        |l, g, f| g.put(&mut l.monitor, f, switch),
    ),
];

pub(super) const SET: &[Setting<SetParts>] = &[
    one(
        "sentinel",
        "HOST:PORT,...",
        "",
        "Sentinels to ask for the master; those they name are found by themselves",
        |s: &mut SetParts, g, f| g.put_list(&mut s.sentinel, f, address(SENTINEL)),
    )
    .kind(Kind::List),
    one(
        "master-name",
        "NAME",
        "",
        "Name of the master at the Sentinels (`sentinel monitor NAME ...`)",
        |s: &mut SetParts, g, f| g.put(&mut s.master_name, f, word),
    ),
    one(
        "node",
        "HOST:PORT,...",
        "",
        "Nodes to watch without Sentinel, master and replicas in any order; replicas they name are found \
        by themselves",
        |s: &mut SetParts, g, f| g.put_list(&mut s.node, f, address(REDIS)),
    )
    .kind(Kind::List),
    one(
        "name",
        "NAME",
        "",
        "Name of the set in metrics and logs; if not given, the master name, without Sentinel `default`",
        |s: &mut SetParts, g, f| g.put(&mut s.name, f, word),
    ),
    one(
        "node-username",
        "NAME",
        "",
        "redweir's own user at the nodes; if not given, the default user",
        |s: &mut SetParts, g, f| g.put(&mut s.node_login.username, f, optional_word),
    )
    .env(),
    one(
        "node-password",
        "PASSWORD",
        "",
        "Its password. As flag it shows in the process list: prefer the variable or the file",
        |s: &mut SetParts, g, f| g.put(&mut s.node_login.password, f, any),
    )
    .env(),
    one("node-password-file", "FILE", "", "File that holds the password of the nodes", |s: &mut SetParts, g, f| {
        g.put(&mut s.node_login.file, f, any)
    })
    .env(),
    one(
        "sentinel-username",
        "NAME",
        "",
        "redweir's own user at the Sentinels; if not given, the default user",
        |s: &mut SetParts, g, f| g.put(&mut s.sentinel_login.username, f, optional_word),
    )
    .env(),
    one("sentinel-password", "PASSWORD", "", "Password of the Sentinels", |s: &mut SetParts, g, f| {
        g.put(&mut s.sentinel_login.password, f, any)
    })
    .env(),
    one(
        "sentinel-password-file",
        "FILE",
        "",
        "File that holds the password of the Sentinels",
        |s: &mut SetParts, g, f| g.put(&mut s.sentinel_login.file, f, any),
    )
    .env(),
    one(
        "node-weight",
        "HOST:PORT=N,...",
        "",
        "Share of the reads by node, 0 (none) to 1000; 1 if not given. Exact with round-robin and random; the other balancers weigh \
        load by it, too, so a heavy node that is slower gets less",
        |s: &mut SetParts, g, f| g.put_map(&mut s.weights, f, address(REDIS), count(0..=1000)),
    )
    .kind(Kind::Map),
    one("node-zone", "HOST:PORT=ZONE,...", "", "Zone by node", |s: &mut SetParts, g, f| {
        g.put_map(&mut s.zones, f, address(REDIS), word)
    })
    .kind(Kind::Map),
    one(
        "address-map",
        "HOST:PORT=HOST:PORT,...",
        "",
        "Address that Sentinel or Redis announces = address to dial instead (NAT, \
        containers)",
        |s: &mut SetParts, g, f| g.put_map(&mut s.address_map, f, address(REDIS), address(REDIS)),
    )
    .kind(Kind::Map),
    one(
        "poll",
        "DURATION",
        "100ms",
        "Each node is asked for its role this often when all is well",
        |s: &mut SetParts, g, f| g.put(&mut s.poll, f, duration(MS..=MINUTE)),
    ),
    one(
        "poll-fast",
        "DURATION",
        "5ms",
        "... and this often from the first sign of trouble until it is over",
        |s: &mut SetParts, g, f| g.put(&mut s.poll_fast, f, duration(MS..=MINUTE)),
    ),
    one(
        "down-after",
        "DURATION",
        "1s",
        "A node that does not answer for this long is down",
        |s: &mut SetParts, g, f| g.put(&mut s.down_after, f, duration(10 * MS..=LONGEST)),
    ),
    one(
        "connect-timeout",
        "DURATION",
        "500ms",
        "Longest wait for a connection to a node or Sentinel",
        |s: &mut SetParts, g, f| g.put(&mut s.connect_timeout, f, duration(MS..=MINUTE)),
    ),
    // Redis' own line for a replica that is not good (min-replicas-max-lag); what is further behind is broken, not busy.
    one(
        "max-lag",
        "DURATION",
        "10s",
        "A replica further behind than this gets no reads; off: no limit",
        |s: &mut SetParts, g, f| g.put(&mut s.max_lag, f, or_off(duration(MS..=LONGEST))),
    ),
    one(
        "max-lag-bytes",
        "SIZE",
        "off",
        "Likewise in bytes of the replication stream; off: no limit",
        |s: &mut SetParts, g, f| g.put(&mut s.max_lag_bytes, f, or_off(size(1..=1024 * GB))),
    ),
    one(
        "max-lag-return",
        "PERCENT",
        "80%",
        "It gets reads again when it is within this part of both: so one at the limit does not come and go",
        |s: &mut SetParts, g, f| g.put_some(&mut s.max_lag_return, f, share),
    ),
];

pub(super) const PROCESS: &[Setting<Process>] = &[
    one("workers", "N", "cores", "Threads that carry the traffic; cores: one for each core", |p, g, f| {
        g.put(&mut p.workers, f, workers)
    }),
    one("admin", "IP:PORT", "127.0.0.1:9736", "HTTP address of metrics, health and topology; off: none", |p, g, f| {
        g.put(&mut p.admin, f, or_off(bind))
    }),
    one(
        "admin-token",
        "TOKEN",
        "",
        "What a switchover over HTTP, or by `redweir switchover`, must show; without one there is none. As flag it shows in \
        the process list: prefer the variable or the file",
        |p: &mut Process, g, f| g.put(&mut p.token.password, f, any),
    )
    .env(),
    one("admin-token-file", "FILE", "", "File that holds it", |p: &mut Process, g, f| {
        g.put(&mut p.token.file, f, any)
    })
    .env(),
    one("drain", "DURATION", "5s", "How long clients may finish after SIGTERM or SIGINT", |p, g, f| {
        g.put(&mut p.drain, f, duration(Duration::ZERO..=LONGEST))
    }),
    one(
        "log",
        "FILTER",
        "info",
        "What is logged: off, error, warn, info, debug, trace, or by part as `info,redweir::discovery=debug`",
        |p, g, f| g.put(&mut p.log.filter, f, log_filter),
    ),
    one("log-format", "FORMAT", "text", "text, or json for machines", |p, g, f| g.put(&mut p.log.json, f, log_format)),
];

pub(super) const LIMITS: &[Setting<Process>] = &[
    one("max-sessions", "N", "10000", "Clients at a time; one more is told so and closed", |p, g, f| {
        g.put(&mut p.limits.sessions, f, count(1..=1_000_000))
    }),
    one(
        "max-pipeline",
        "N",
        "1024",
        "Replies a client may wait for; then it is not read from until some have come",
        |p, g, f| g.put(&mut p.limits.pipeline, f, count(1..=1_000_000)),
    ),
    one(
        "stream-above",
        "SIZE",
        "1mb",
        "A request or reply larger than this travels on a connection of its own, piece by piece",
        |p, g, f| g.put(&mut p.limits.large_bytes, f, memory(KB..=GB)),
    ),
    one(
        "max-bulk",
        "SIZE",
        "512mb",
        "Largest value accepted from a client, as Redis' proto-max-bulk-len",
        |p, g, f| g.put(&mut p.limits.max_bulk_bytes, f, size(KB..=1024 * GB)),
    ),
    one(
        "max-client-output",
        "SIZE",
        "256mb",
        "Replies kept for a client that reads slowly, before it is disconnected",
        |p, g, f| g.put(&mut p.limits.client_output_bytes, f, memory(KB..=1024 * GB)),
    ),
    one(
        "max-upstream",
        "SIZE",
        "64mb",
        "Bytes waiting or under way on one connection to a node; what is beyond is refused (a client with requests there is read from no further while 2 MiB of them, or a quarter of this, wait)",
        |p, g, f| g.put(&mut p.limits.upstream_bytes, f, memory(KB..=1024 * GB)),
    ),
    one(
        "max-pinned",
        "N",
        "1000",
        "Connections to nodes that belong to one client for a while (transactions, blocking commands, \
        pub/sub), per worker",
        |p, g, f| g.put(&mut p.limits.pinned, f, count(1..=1_000_000)),
    ),
    one("connections-per-node", "N", "1", "Shared connections to each node, per worker", |p, g, f| {
        g.put(&mut p.limits.connections_per_node, f, count(1..=64))
    }),
    one("pace-nodes", "BOOL", "false", "Paces what goes to nodes where TCP paces (bbr): costs CPU", |p, g, f| {
        g.put(&mut p.limits.pace_nodes, f, switch)
    }),
    one(
        "max-scripts",
        "N",
        "10000",
        "Scripts remembered per set, to give them to a node that lacks one that is called by EVALSHA",
        |p, g, f| g.put(&mut p.limits.scripts, f, count(1..=1_000_000)),
    ),
    one("max-script-bytes", "SIZE", "32mb", "Bytes of their bodies", |p, g, f| {
        g.put(&mut p.limits.script_bytes, f, memory(KB..=1024 * GB))
    }),
];
