//! Placeholder of this branch: the signatures that main.rs calls.

use crate::config::Config;

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

pub fn run(config: Config) -> Result<(), Fatal> {
    Err(Fatal(format!("not in this branch: {} workers", config.workers)))
}

pub fn check(config: Config) -> Result<(), Fatal> {
    Err(Fatal(format!("not in this branch: {} sets", config.sets.len())))
}
