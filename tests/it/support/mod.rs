//! Starts the binary under test in front of a stage, and looks at the nodes behind it.
//!
//! Must not know how redweir works inside. Invariant: every wait is for a condition, never for a time.

pub mod counts;
pub mod http;
pub mod link;
pub mod linked;
pub mod load;
pub mod proxy;
pub mod raw;
pub mod scripted;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use counts::Counts;
pub use link::{Faults, Link};
pub use linked::Linked;
pub use proxy::Proxy;
pub use redweir::demo::client::{Client, Reply};
pub use redweir::demo::stage::{Plan, Stage};

/// What any single step may take on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Of Sentinels, at least: longer than a busy machine keeps a server waiting, or they fail over again from a master that lives.
const DOWN_AFTER: Duration = Duration::from_secs(2);

/// A stage, or the reason why not as the test's failure.
#[track_caller]
pub fn stage(plan: Plan) -> Stage {
    let plan = Plan { down_after: plan.down_after.max(DOWN_AFTER), ..plan };
    Stage::start(plan).unwrap_or_else(|e| panic!("{e}"))
}

/// A master with `replicas` and no Sentinel.
#[track_caller]
pub fn plain_stage(replicas: usize) -> Stage {
    stage(Plan { replicas, sentinels: 0, ..Plan::default() })
}

/// Waits until `check` says yes.
#[track_caller]
pub fn wait(what: &str, check: impl FnMut() -> Result<(), String>) {
    redweir::demo::stage::wait(PATIENCE, what, check).unwrap_or_else(|e| panic!("{e}"));
}

/// Tests that fail masters over take turns: six servers, three Sentinels and a load each are enough for two cores.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
pub fn connect(address: &str) -> Client {
    Client::connect(address, PATIENCE).unwrap_or_else(|e| panic!("{address}: {e}"))
}

/// One command, whose connection must live.
#[track_caller]
pub fn call(client: &mut Client, line: &str) -> Reply {
    let args: Vec<&str> = line.split_whitespace().collect();
    client.call(&args).unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// Waits until every replica has everything the master has, so that a read may go anywhere.
#[track_caller]
pub fn settle(stage: &mut Stage, master: usize) {
    stage.wait_linked(master).unwrap_or_else(|e| panic!("{e}"));
}

/// Stops replica `n` from applying anything: it goes on reading its stream, and answers reads.
#[track_caller]
pub fn freeze(stage: &Stage, n: usize) {
    assert_eq!(call(&mut stage.nodes[n].connect().expect("a replica"), "CLIENT PAUSE 60000 WRITE").text(), "OK");
}

pub fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

pub fn ok() -> Reply {
    Reply::Status("OK".into())
}
