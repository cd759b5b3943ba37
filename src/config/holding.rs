//! Settings of a listener for writes that wait, and for those of which nobody knows what became of them.
//!
//! Part of the catalogue. Invariant: the defaults treat a client as the master itself would.

use super::catalogue::one;
use super::settings::{ListenerParts, Setting};
use super::value::{choice, memory};

/// What becomes of a client whose write was on the wire when the master's connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownOutcome {
    /// Its connection ends, as with the master itself.
    #[default]
    Close,
    /// It is told so by an error, and goes on.
    Error,
}

/// What becomes of a client whose acknowledged writes the new master does not have, or may not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnLostWrites {
    /// Nothing: it is not told.
    #[default]
    Ignore,
    /// Its connection ends, by which it may know.
    Close,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes of one client's waiting requests; one more is refused.
    pub session_bytes: usize,
    pub unknown_outcome: UnknownOutcome,
    pub on_lost_writes: OnLostWrites,
}

pub(super) const HOLDING: &[Setting<ListenerParts>] = &[
    one(
        "hold-session-bytes",
        "SIZE",
        "16mb",
        "Bytes of waiting writes of one client, so that one cannot take the place of all; what is beyond is refused",
        |l: &mut ListenerParts, g, f| g.put(&mut l.holding.session_bytes, f, memory(0..=1 << 40)),
    ),
    one(
        "unknown-outcome",
        "HOW",
        "close",
        "What becomes of a client whose write was on its way when the master's connection ended: close (as the master \
        itself would), or error (each such request gets an error, and the connection stays)",
        |l: &mut ListenerParts, g, f| g.put(&mut l.holding.unknown_outcome, f, choice),
    ),
    one(
        "on-lost-writes",
        "WHAT",
        "ignore",
        "What becomes of a client when the new master does not have, or may not have, a write of this connection that was \
        acknowledged: ignore (it goes on), or close (its connection ends, so that it can look after its data)",
        |l: &mut ListenerParts, g, f| g.put(&mut l.holding.on_lost_writes, f, choice),
    ),
];
