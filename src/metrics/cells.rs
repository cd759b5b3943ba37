//! The data path's counters: plain numbers with one writer (the worker that owns them) and any number of readers.
//!
//! Must not lock, allocate or read-modify-write while counting. Names and help texts are not known here.
//! Invariant: only the owning worker writes its [`Cells`]; a scrape may read them at any moment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::MAX_NODES;

/// A number with one writer and any number of readers.
#[derive(Default)]
pub struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

labels! {
    /// What kind of request was routed.
    Kind { Read = "read", MasterRead = "master_read", Write = "write", Script = "script", Pinned = "pinned" }
}

labels! {
    /// Why a request went where it went.
    Reason {
        /// A read, balanced over the replicas.
        Replica = "replica",
        /// A read that the policy sends to the master.
        Policy = "policy",
        /// No replica was fit to read from.
        NoReplica = "no_replica",
        /// Every replica was beyond the lag limit.
        Lag = "lag",
        /// Likewise, and the one that was least behind took the read.
        LeastLagging = "least_lagging",
        /// A read in one pipeline with a write of its own session.
        OwnWrite = "own_write",
        /// The client's own writes, or what it was shown before, may not be on any replica yet.
        Seen = "seen",
        /// No replica could be shown to be within the staleness bound.
        Bound = "bound",
        /// Class that only the master may answer.
        Master = "master",
        /// A name neither in the table nor in the master's own COMMAND.
        Unknown = "unknown",
        /// The session holds a connection of its own.
        Pinned = "pinned",
        /// Sent a second time because the first node could not answer.
        Retry = "retry",
    }
}

labels! {
    /// Plain event counts.
    Count {
        ConnectionsAccepted = "connections_accepted",
        ConnectionsRefused = "connections_refused",
        ConnectionsClosed = "connections_closed",
        BytesFromClients = "bytes_from_clients",
        BytesToClients = "bytes_to_clients",
        BytesToNodes = "bytes_to_nodes",
        BytesFromNodes = "bytes_from_nodes",
        /// Sessions whose requests began to wait for a verified master.
        Held = "held",
        Released = "released",
        /// Held requests answered with an error: out of time or bytes.
        RefusedHold = "refused_hold",
        /// Requests refused because no node fits the read policy.
        RefusedNoNode = "refused_no_node",
        /// Reads refused because all replicas lag and the master had its share.
        RefusedLag = "refused_lag",
        /// Requests refused because a bound on upstream bytes was reached.
        RefusedFull = "refused_full",
        RefusedForbidden = "refused_forbidden",
        /// Reads sent again to another node.
        RetriedReads = "retried_reads",
        /// Reads a replica answered before it had what the session had seen: asked of the master instead.
        StaleReads = "stale_reads",
        /// Writes a node refused unexecuted, or that were never written, sent again.
        RetriedWrites = "retried_writes",
        /// Writes the master refused for want of good replicas.
        NoReplicas = "no_replicas",
        /// Writes on the wire when a connection died: outcome unknown, client closed.
        UnknownOutcome = "unknown_outcome",
        /// Acknowledged writes that a new master does not have, or of which nothing shows whether it does, and the clients
        /// closed for them.
        LostWrites = "lost_writes",
        UncertainWrites = "uncertain_writes",
        ClosedForLoss = "closed_for_loss",
        /// Replies kept until replicas have what they acknowledge, and what became of them.
        AcksHeld = "acks_held",
        AcksConfirmed = "acks_confirmed",
        AcksExpired = "acks_expired",
        AcksLost = "acks_lost",
        ProtocolErrors = "protocol_errors",
        /// Error replies of nodes passed on to clients.
        NodeErrors = "node_errors",
        SlowClients = "slow_clients",
        UpstreamConnects = "upstream_connects",
        UpstreamConnectErrors = "upstream_connect_errors",
        UpstreamLost = "upstream_lost",
        LocalReplies = "local_replies",
        Pins = "pins",
        LargeStreams = "large_streams",
        /// EVALSHA sent again because its node lacked the script.
        ScriptsMissing = "scripts_missing",
        /// Scans begun again because their cursor was another master's.
        ScansRestarted = "scans_restarted",
        /// Commands for all nodes that a replica did not do.
        ReplicaFailures = "replica_failures",
        /// Blocking commands sent again to another node, with what was left of their time.
        Reissued = "reissued",
        /// Pinned sessions whose connection was lost and that went on at another one, or had to close.
        PinsMoved = "pins_moved",
        PinsBroken = "pins_broken",
        Unblocked = "unblocked",
        /// Keys read on replicas that were touched at the master, or of a sample and dropped.
        KeysTouched = "keys_touched",
        TouchesDropped = "touches_dropped",
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What waits at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Queue {
    pub sessions: u64,
    pub bytes: u64,
    /// How long somebody has been waiting, without a moment in which nobody was.
    pub oldest_seconds: f64,
}

impl Queue {
    pub(super) fn of<'a>(cells: impl Iterator<Item = &'a Cells>) -> Self {
        let mut queue = Queue::default();
        for cells in cells {
            queue.sessions += cells.holding.get();
            queue.bytes += cells.holding_bytes.get();
            let since = cells.holding_since.get();
            let age = if since == 0 { 0 } else { unix_millis().saturating_sub(since) };
            queue.oldest_seconds = queue.oldest_seconds.max(age as f64 / 1e3);
        }
        queue
    }
}

/// Buckets of a latency histogram: bucket `i` counts durations below `2^(i+10)` ns (1 us .. 34 s), the last one all.
pub const BUCKETS: usize = 26;

#[derive(Default)]
pub struct Histogram {
    pub buckets: [Cell; BUCKETS],
    pub sum_ns: Cell,
}

impl Histogram {
    /// Counts `n` requests that each took `took`.
    pub fn observe(&self, took: Duration, n: u64) {
        self.observe_ns(took.as_nanos() as u64, n);
    }

    /// As [`Histogram::observe`], in ns.
    #[inline]
    pub fn observe_ns(&self, ns: u64, n: u64) {
        let bits = 64 - ns.leading_zeros() as usize;
        self.buckets[bits.saturating_sub(10).min(BUCKETS - 1)].add(n);
        self.sum_ns.add(ns.wrapping_mul(n));
    }
    /// Upper bound of bucket `i` in seconds, `None` for the last.
    pub fn upper_bound(i: usize) -> Option<f64> {
        (i + 1 < BUCKETS).then(|| (1u64 << (i + 10)) as f64 / 1e9)
    }
}

/// The counters of one worker for one listener. Written only by that worker.
pub struct Cells {
    routed: Box<[[[Cell; Reason::ALL.len()]; Kind::ALL.len()]; MAX_NODES]>,
    counts: [Cell; Count::ALL.len()],
    /// Whole request: read from the client to handed to its socket.
    pub request: Histogram,
    /// Upstream part: appended to a node's connection to reply found.
    pub upstream: Histogram,
    /// How long replies waited for replicas.
    pub acks_wait: Histogram,
    /// Sessions with replies that wait, now.
    pub acks_waiting: Cell,
    /// Open client connections, now.
    pub sessions: Cell,
    /// Sessions waiting for a master, now, and the bytes of their requests.
    pub holding: Cell,
    pub holding_bytes: Cell,
    /// When the first of those who wait began to, in ms since 1970; 0: nobody waits.
    pub holding_since: Cell,
    /// Sessions on a pinned connection, now.
    pub pinned: Cell,
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            routed: Box::new(std::array::from_fn(|_| Default::default())),
            counts: std::array::from_fn(|_| Cell::default()),
            request: Histogram::default(),
            upstream: Histogram::default(),
            acks_wait: Histogram::default(),
            acks_waiting: Cell::default(),
            sessions: Cell::default(),
            holding: Cell::default(),
            holding_bytes: Cell::default(),
            holding_since: Cell::default(),
            pinned: Cell::default(),
        }
    }
}

impl Cells {
    /// A session's requests wait, `bytes` of them.
    pub fn began_to_hold(&self, bytes: u64) {
        if self.holding.get() == 0 {
            self.holding_since.set(unix_millis());
        }
        self.holding.add(1);
        self.holding_bytes.add(bytes);
    }
    pub fn ended_to_hold(&self, bytes: u64) {
        self.holding.sub(1);
        self.holding_bytes.sub(bytes);
        if self.holding.get() == 0 {
            self.holding_since.set(0);
        }
    }
    #[inline]
    pub fn routed(&self, node: u16, kind: Kind, reason: Reason, n: u64) {
        if let Some(row) = self.routed.get(usize::from(node)) {
            row[kind as usize][reason as usize].add(n);
        }
    }
    #[inline]
    pub fn count(&self, what: Count, n: u64) {
        self.counts[what as usize].add(n);
    }
    pub fn get(&self, what: Count) -> u64 {
        self.counts[what as usize].get()
    }
    pub fn get_routed(&self, node: u16, kind: Kind, reason: Reason) -> u64 {
        self.routed.get(usize::from(node)).map_or(0, |row| row[kind as usize][reason as usize].get())
    }
}
