//! The whole picture on loopback: master, three replicas, three Sentinels, redweir in front, and a load that is checked.
//!
//! Must not be needed by anything else in the crate. Invariant: whatever way it ends, nothing it started is left behind.

pub mod client;
pub mod failure;
pub mod node;
pub mod stage;
