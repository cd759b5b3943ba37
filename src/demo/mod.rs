//! The whole picture on loopback: master, three replicas, three Sentinels, redweir in front, and a load that is checked.
//!
//! Must not be needed by anything else in the crate (tests use its stage, its client and its load). Invariant: whatever way it ends, nothing it
//! started is left behind.

pub mod client;
pub mod failure;
pub mod ledger;
pub mod load;
pub mod node;
mod proxy;
mod report;
mod screen;
mod show;
mod signals;
pub mod stage;
mod watch;

pub use failure::Failure;

use crate::app::Fatal;
use crate::config::DemoArgs;

/// Runs the demo to its end: a signal, `q`, the duration, or the failover that was asked for.
///
/// # Errors
/// Something could not be started, redweir ended by itself, the failover did not happen within a minute, or an acknowledged
/// write was lost or applied twice.
pub fn run(args: DemoArgs) -> Result<(), Fatal> {
    show::run(&args).map_err(|failure| Fatal(failure.to_string()))
}
