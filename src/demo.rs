//! Placeholder of this branch: the signature that main.rs calls.

use crate::app::Fatal;
use crate::config::DemoArgs;

pub fn run(args: DemoArgs) -> Result<(), Fatal> {
    Err(Fatal(format!("not in this branch: port {}", args.port)))
}
