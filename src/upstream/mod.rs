//! One node's connections: dial and handshake, shared (pipelined by many sessions) and leased (one session's own).
//!
//! Knows neither sessions nor roles: whoever waits for replies is a [`Receiver`]. Invariant: on a shared connection every
//! request has exactly one reply, and a request's bytes are kept until its reply is in, so that what a node did not
//! execute can be sent again.

mod buffer;
mod clock;
mod conn;
pub mod control;
mod dial;
mod flight;
mod furthest;
pub mod give_way;
mod kept;
mod lanes;
mod leased;
pub mod ledger;
mod pieces;
mod pool;
pub mod refusal;
mod room;
mod worth;

pub use buffer::Buffer;
pub use clock::Reading;
pub use conn::{Conn, Full};
pub use dial::{Lane, Refused, Target};
pub use furthest::Furthest;
pub use lanes::LaneId;
pub use leased::Lease;
pub use pieces::{PIECE, Pieces};
pub use pool::{Event, Pool, Settings, Verdict};
pub use worth::Marks;

use ledger::Written;

/// How long a run of requests took to be answered, in ns.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Since it was read from its client.
    pub whole_ns: u64,
    /// Since it was appended to the node's connection.
    pub upstream_ns: u64,
}

/// Who waits for the replies of a run of requests. Calls come in the order of the requests.
///
/// A receiver is called while the connection is borrowed: it must not append to any connection from within, only note
/// what came and wake its own task.
pub trait Receiver {
    /// `bytes` are exactly `n` whole replies.
    fn replies(&self, bytes: &[u8], n: u32, times: &Times);

    /// A piece of one reply too large to be held; `done` with the last piece. Returns how many bytes the receiver could
    /// not pass on yet.
    fn piece(&self, bytes: &[u8], done: bool, times: &Times) -> usize;

    /// A node refused something on this connection ([`refusal`]): from here on each request comes back with its reply.
    /// `doubtful`: or it may have been replaced before it answered, and only a refusal is to be believed.
    fn settle(&self, request: &[u8], reply: &[u8], node: u16, doubtful: bool);

    /// The node lacks the script that `request` names: is it to come back by [`Receiver::settle`] (or is that its answer)?
    fn takes_back(&self, request: &[u8]) -> bool;

    /// The node refused the login the receiver's requests were to run under.
    fn rejected(&self);

    /// The receiver's newest requests on this connection will not be answered here: they were not executed, or may be
    /// executed twice. Earlier ones of its own may still be on their way and are to be answered first.
    fn returned(&self, requests: &[u8], node: u16);

    /// The node has not got as far as the receiver's requests need ([`Bound`]): all it has here come back unexecuted, as far
    /// as anybody is concerned.
    fn stale(&self, requests: &[u8], node: u16);

    /// The connection is gone.
    fn lost(&self, lost: &Lost, node: u16);

    /// There is room on the connection for what the receiver waits to append, or none to wait for ([`Conn::wait_for_room`]).
    fn room(&self);
}

/// What became of a run of requests when its connection ended.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// Sent, and never answered.
    pub written: &'a [u8],
    /// Not executed.
    pub unwritten: &'a [u8],
    /// Part of the reply to the first of these, or some replies of a whole, were passed on already.
    pub torn: bool,
    pub whole: bool,
}

/// How a run may be treated when its connection fails it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Every request of the run may be executed twice without harm.
    pub idempotent: bool,
    /// A transaction: its replies are handed on together while they fit, and it is sent again only from its beginning.
    pub whole: bool,
    /// What it must see, and how it is learnt what it saw.
    pub bound: Bound,
    /// What of it is to be found again after a switch.
    pub written: Written,
}

/// A run's place in replication time. All zero: it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// The offset the node must show first, by a ROLE before the run; 0: none.
    pub floor: u64,
    /// The term the offsets belong to; above 0, a ROLE follows the run.
    pub term: u32,
    /// The ROLE behind it may be left out when there was one a moment ago.
    pub patient: bool,
}
