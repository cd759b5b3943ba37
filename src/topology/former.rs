//! What the answers of a node that was master are worth: a write is acknowledged only by who was master when it ran.
//!
//! Invariant: nothing that the present master lacks is vouched for.

use std::time::Instant;

use super::NodeId;

/// The last master while writes are held, or the one before the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Former {
    pub node: NodeId,
    pub stands: Stands,
}

/// Which of its answers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Not known before writes are open again: another may be master by now. -> any of the others.
    Unknown,
    /// All of them: the present master has everything that it did.
    All,
    /// Those that had been received by then; the present master may lack what came later.
    Until(Instant),
    /// None: nothing shows what the present master has of it.
    None,
}
