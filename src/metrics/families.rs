//! The table of metrics: name, type, help. Units last, counters `_total`, all under `redweir_`.
//!
//! Data only. Invariant: a name stands here once and nowhere else in the crate.

use metrics::{describe_counter, describe_gauge, describe_histogram};

use super::cells::Count;

/// One metric name and what it means.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    pub(super) help: &'static str,
}

/// A metric's type in the text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Type {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal, $help:literal;)+) => {
        $(pub(super) const $id: Family = Family { name: concat!("redweir_", $name), kind: Type::$kind, help: $help };)+
        #[cfg(test)]
        const ALL: &[Family] = &[$($id),+];
    };
}

families! {
    BUILD_INFO: Gauge "build_info", "Always 1; the version of redweir is the label.";
    START_TIME: Gauge "start_time_seconds", "When the process started, in seconds since 1970.";
    WORKERS: Gauge "workers", "Data-plane threads.";

    EPOCH: Gauge "topology_epoch", "Times the topology of the set was published.";
    TERM: Gauge "topology_term", "Masters the shard has had since redweir started; grows with every failover.";
    WRITES_OPEN: Gauge "writes_open", "1 while writes go to a verified master, 0 while they wait for one.";
    WRITES_HELD: Gauge "writes_held", "1 for the reason why writes wait; absent while they do not.";
    READERS: Gauge "readers", "Replicas in rotation for reads.";
    READERS_LAGGING: Gauge "readers_lagging", "Replicas out of rotation for lag alone.";

    NODE_UP: Gauge "node_up", "1 while the node answers redweir's probes.";
    NODE_ROLE: Gauge "node_role", "1 for the role the node has in the topology: master, replica or none.";
    NODE_STATE: Gauge "node_state", "1 for the state the node is in, e.g. replica, lagging, unlinked, fenced, down.";
    NODE_INFO: Gauge "node_info", "Always 1; the node's server version is the label.";
    NODE_IN_ROTATION: Gauge "node_in_rotation", "1 while the node gets traffic: the verified master and the readers.";
    NODE_OFFSET: Gauge "node_offset_bytes", "Replication offset: written (master) or applied (replica).";
    NODE_LAG_BYTES: Gauge "node_lag_bytes", "Bytes of the replication stream a replica has yet to apply.";
    NODE_LAG_SECONDS: Gauge "node_lag_seconds", "How old the newest write is that a replica has yet to apply.";

    REQUESTS: Counter "requests_total", "Requests sent to a node, by kind of request and why it went there.";
    REQUEST_SECONDS: Histogram "request_seconds", "Whole request: read from the client to handed to its socket.";
    UPSTREAM_SECONDS: Histogram "upstream_seconds", "The node's part: appended to its connection to reply found.";

    ACKS_HELD: Counter "acks_held_total", "Replies kept until enough replicas have what they acknowledge.";
    ACKS_DONE: Counter "acks_done_total",
        "What became of them: confirmed by replicas, out of time (expired), or not on the new master (lost, client closed).";
    ACKS_WAITING: Gauge "acks_waiting_sessions", "Sessions with replies that wait for replicas now.";
    ACKS_SECONDS: Histogram "acks_wait_seconds", "How long replies waited for replicas to apply their writes.";

    CONNECTIONS_ACCEPTED: Counter "connections_accepted_total", "Client connections accepted.";
    CONNECTIONS_REFUSED: Counter "connections_refused_total", "Client connections refused at the limit.";
    CONNECTIONS_CLOSED: Counter "connections_closed_total", "Client connections closed.";
    SESSIONS: Gauge "sessions", "Client connections open now, by worker.";
    HOLDING_SESSIONS: Gauge "holding_sessions", "Sessions waiting for a verified master now.";
    HOLDING_SECONDS: Gauge "holding_seconds", "How long somebody has been waiting for a verified master, 0 while nobody is.";
    HOLDING_BYTES: Gauge "holding_bytes", "Request bytes waiting for a verified master now.";
    PINNED_SESSIONS: Gauge "pinned_sessions", "Sessions on a connection of their own now.";
    RECEIVED: Counter "received_bytes_total", "Bytes received, from clients or from nodes.";
    SENT: Counter "sent_bytes_total", "Bytes sent, to clients or to nodes.";
    HELD: Counter "held_total", "Sessions whose requests began to wait for a verified master.";
    RELEASED: Counter "released_total", "Sessions whose held requests went on to a master.";
    REFUSED: Counter "refused_total",
        "Requests refused: held too long (hold), no node fits (no_node), all replicas lag (lag), upstream full (full), not allowed (forbidden).";
    RETRIED: Counter "retried_total", "Requests sent again because the first node did not execute them.";
    NO_REPLICAS: Counter "no_replicas_total",
        "Writes the master refused for want of good replicas (min-replicas-to-write); sent again until the hold ends.";
    STALE_READS: Counter "stale_reads_total",
        "Reads a replica answered before it had what the session had seen; asked of the master instead.";
    UNKNOWN_OUTCOME: Counter "unknown_outcome_total",
        "Writes on the wire when their connection died: maybe executed, never sent again.";
    ERRORS: Counter "errors_total",
        "Errors by source: client_protocol, node_reply, slow_client, connect, connection_lost.";
    UPSTREAM_CONNECTS: Counter "upstream_connects_total", "Connections made to nodes.";
    LOCAL_REPLIES: Counter "local_replies_total", "Requests redweir answered itself.";
    PINS: Counter "pins_total", "Sessions given a connection of their own.";
    PINS_LOST: Counter "pins_lost_total",
        "Sessions whose own connection was lost in a switch: gone on at the new master (moved) or closed (broken).";
    UNBLOCKED: Counter "unblocked_total", "Blocking commands ended by CLIENT UNBLOCK.";
    TOUCHED_KEYS: Counter "touched_keys_total",
        "Keys of reads on replicas, sampled by touch-sample: touched at the master (sent), or too many to (dropped).";
    LARGE_STREAMS: Counter "large_streams_total", "Requests or replies streamed for their size.";
    SCRIPTS_MISSING: Counter "scripts_missing_total", "Calls by SHA-1 sent again because the node lacked the script.";
    SCANS_RESTARTED: Counter "scans_restarted_total", "Scans begun again for a cursor of another master.";
    REPLICA_FAILURES: Counter "replica_failures_total",
        "Commands for all nodes (ACL SETUSER, SCRIPT FLUSH) that a replica did not do.";

    FAILOVERS: Counter "failovers_total", "Masters redweir switched to, by how it came to know (start: the first).";
    FAILOVER_SECONDS: Histogram "failover_seconds",
        "How long a failover took by phase: noticed (first sign to writes held), headless (to a new master), total.";
    SWITCHES: Counter "switches_total",
        "Changes of master by what the new one has of the old one's stream: all, all that was seen, part, unknown.";
    LOST_BYTES: Counter "lost_bytes_total",
        "Bytes of old masters' streams that the new ones do not have: those that redweir saw, there may be more.";
    LOST_WRITES: Counter "lost_writes_total",
        "Writes acknowledged through redweir that a new master does not have, by replication offsets.";
    UNCERTAIN_WRITES: Counter "uncertain_writes_total",
        "Writes acknowledged through redweir of which no offset shows whether a new master has them.";
    LOSS_CLOSED: Counter "loss_closed_total",
        "Clients closed because writes acknowledged to them are lost or uncertain (on-lost-writes = close).";
    MASTERS_EMPTIED: Counter "masters_emptied_total", "Masters that restarted without the keys they had.";
    NOTIFICATIONS: Counter "notifications_total",
        "Attempts to tell a script or hook of a switch, a node down or up: done, retried later, failed, dropped.";
    SWITCHOVERS: Counter "switchovers_total",
        "Switchovers asked of redweir: done, given up (back: the old master stayed) or refused.";
    PROBE_ERRORS: Counter "probe_errors_total", "Failed probes of nodes, by error.";
    SENTINEL_UP: Gauge "sentinel_up", "1 while the connection to this Sentinel is up.";
    SENTINEL_EVENTS: Counter "sentinel_events_total", "Events received from Sentinels.";
}

/// Upper bounds of [`FAILOVER_SECONDS`], in seconds.
pub(super) const FAILOVER_BOUNDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Tells the `metrics` recorder the help texts of what goes through it.
pub(super) fn describe() {
    describe_counter!(FAILOVERS.name, FAILOVERS.help);
    describe_histogram!(FAILOVER_SECONDS.name, FAILOVER_SECONDS.help);
    describe_counter!(SWITCHES.name, SWITCHES.help);
    describe_counter!(LOST_BYTES.name, LOST_BYTES.help);
    describe_counter!(MASTERS_EMPTIED.name, MASTERS_EMPTIED.help);
    describe_counter!(NOTIFICATIONS.name, NOTIFICATIONS.help);
    describe_counter!(SWITCHOVERS.name, SWITCHOVERS.help);
    describe_counter!(PROBE_ERRORS.name, PROBE_ERRORS.help);
    describe_gauge!(SENTINEL_UP.name, SENTINEL_UP.help);
    describe_counter!(SENTINEL_EVENTS.name, SENTINEL_EVENTS.help);
}

/// A family of plain counts, and which count is which sample of it.
pub(super) struct Counted {
    pub(super) family: Family,
    pub(super) samples: &'static [(Option<(&'static str, &'static str)>, Count)],
}

/// Where each [`Count`] is shown.
pub(super) const COUNTED: &[Counted] = &[
    Counted { family: CONNECTIONS_ACCEPTED, samples: &[(None, Count::ConnectionsAccepted)] },
    Counted { family: CONNECTIONS_REFUSED, samples: &[(None, Count::ConnectionsRefused)] },
    Counted { family: CONNECTIONS_CLOSED, samples: &[(None, Count::ConnectionsClosed)] },
    Counted {
        family: RECEIVED,
        samples: &[
            (Some(("peer", "client")), Count::BytesFromClients),
            (Some(("peer", "node")), Count::BytesFromNodes),
        ],
    },
    Counted {
        family: SENT,
        samples: &[(Some(("peer", "client")), Count::BytesToClients), (Some(("peer", "node")), Count::BytesToNodes)],
    },
    Counted { family: ACKS_HELD, samples: &[(None, Count::AcksHeld)] },
    Counted {
        family: ACKS_DONE,
        samples: &[
            (Some(("how", "confirmed")), Count::AcksConfirmed),
            (Some(("how", "expired")), Count::AcksExpired),
            (Some(("how", "lost")), Count::AcksLost),
        ],
    },
    Counted { family: HELD, samples: &[(None, Count::Held)] },
    Counted { family: RELEASED, samples: &[(None, Count::Released)] },
    Counted {
        family: REFUSED,
        samples: &[
            (Some(("reason", "hold")), Count::RefusedHold),
            (Some(("reason", "no_node")), Count::RefusedNoNode),
            (Some(("reason", "lag")), Count::RefusedLag),
            (Some(("reason", "full")), Count::RefusedFull),
            (Some(("reason", "forbidden")), Count::RefusedForbidden),
        ],
    },
    Counted {
        family: RETRIED,
        samples: &[
            (Some(("kind", "read")), Count::RetriedReads),
            (Some(("kind", "write")), Count::RetriedWrites),
            (Some(("kind", "blocking")), Count::Reissued),
        ],
    },
    Counted { family: STALE_READS, samples: &[(None, Count::StaleReads)] },
    Counted { family: NO_REPLICAS, samples: &[(None, Count::NoReplicas)] },
    Counted { family: UNKNOWN_OUTCOME, samples: &[(None, Count::UnknownOutcome)] },
    Counted { family: LOST_WRITES, samples: &[(None, Count::LostWrites)] },
    Counted { family: UNCERTAIN_WRITES, samples: &[(None, Count::UncertainWrites)] },
    Counted { family: LOSS_CLOSED, samples: &[(None, Count::ClosedForLoss)] },
    Counted {
        family: ERRORS,
        samples: &[
            (Some(("source", "client_protocol")), Count::ProtocolErrors),
            (Some(("source", "node_reply")), Count::NodeErrors),
            (Some(("source", "slow_client")), Count::SlowClients),
            (Some(("source", "connect")), Count::UpstreamConnectErrors),
            (Some(("source", "connection_lost")), Count::UpstreamLost),
        ],
    },
    Counted { family: UPSTREAM_CONNECTS, samples: &[(None, Count::UpstreamConnects)] },
    Counted { family: LOCAL_REPLIES, samples: &[(None, Count::LocalReplies)] },
    Counted { family: PINS, samples: &[(None, Count::Pins)] },
    Counted {
        family: PINS_LOST,
        samples: &[(Some(("outcome", "moved")), Count::PinsMoved), (Some(("outcome", "broken")), Count::PinsBroken)],
    },
    Counted { family: UNBLOCKED, samples: &[(None, Count::Unblocked)] },
    Counted {
        family: TOUCHED_KEYS,
        samples: &[
            (Some(("outcome", "sent")), Count::KeysTouched),
            (Some(("outcome", "dropped")), Count::TouchesDropped),
        ],
    },
    Counted { family: LARGE_STREAMS, samples: &[(None, Count::LargeStreams)] },
    Counted { family: SCRIPTS_MISSING, samples: &[(None, Count::ScriptsMissing)] },
    Counted { family: SCANS_RESTARTED, samples: &[(None, Count::ScansRestarted)] },
    Counted { family: REPLICA_FAILURES, samples: &[(None, Count::ReplicaFailures)] },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_count_is_shown_once() {
        let shown: Vec<_> = COUNTED.iter().flat_map(|c| c.samples.iter().map(|s| s.1)).collect();
        let distinct: HashSet<_> = shown.iter().copied().collect();
        assert_eq!(shown.len(), distinct.len());
        assert_eq!(distinct, Count::ALL.iter().copied().collect());
    }

    #[test]
    fn names_are_unique_and_say_their_type_and_unit() {
        let mut names = HashSet::new();
        for family in ALL {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Type::Counter, "{}", family.name);
            assert!(family.kind != Type::Histogram || family.name.ends_with("_seconds"), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.contains(['\\', '\n']), "{}", family.name);
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
        }
    }
}
