//! Listeners and workers: one thread per core with a runtime, a listener socket and upstream connections of its own.
//!
//! Must not look at a request. Invariant: nothing on the path of a request crosses from one worker to another.

mod listen;
mod worker;

pub use listen::{Bound, bind};
pub use worker::{Plan, Worker, start};
