//! Who is master, who may be read from: watches nodes and Sentinels, and owns the topology's publisher.
//!
//! One task, the `keeper` (with its `judgement`), owns the `world` (its members: `roster`). A `probe` per node and a
//! `sentinel` task per Sentinel report to it over bounded channels and believe nothing. Three pure parts decide:
//! `detector` (who is master), `rotation` (who may be read from), `council` (which Sentinel to believe). What changed is
//! logged by `journal`, told to operators' scripts (`notice`, `messenger`) and published as a `picture`.
//!
//! The operator may reserve more (`restraint`), or allow redweir to act itself in sets without Sentinel: `promotion` chooses,
//! `initiative` begins, `orders` carries out.
//! A planned change of master is a `switchover`, which the keeper attends to in `planned`.
//!
//! Must not call a session: trouble seen on the data path arrives as a hint. Invariant: writes are open to at most one
//! node, and only after that node itself said that it is master, with a lineage that follows from the last one or is told
//! to be unrelated.

mod council;
mod crew;
mod detector;
mod events;
mod initiative;
mod journal;
mod judgement;
mod keeper;
mod lag;
mod member;
mod messenger;
mod names;
mod notice;
mod orders;
mod picture;
mod planned;
mod probe;
mod promotion;
mod restraint;
mod roster;
mod rotation;
mod sampling;
mod seen;
mod sentinel;
mod stands;
pub mod switchover;
mod world;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::SetConfig;
use crate::topology::{Hints, Publisher};
use switchover::Door;

/// Reports that may wait for the keeper; a full queue makes probes wait, which is harmless.
const REPORTS: usize = 256;

/// Starts to watch one replication set and to publish what it is; switchovers are asked for at the door. Runs until `stop`; must be called on a tokio runtime.
/// Nodes and Sentinels that do not answer yet are waited for: until a master is verified the topology holds writes.
pub fn start(set: SetConfig, publisher: Publisher, hints: Hints, stop: CancellationToken) -> (JoinHandle<()>, Door) {
    let (seen, observations) = mpsc::channel(REPORTS);
    let (told, news) = mpsc::channel(REPORTS);
    let (plan, planned) = mpsc::channel(REPORTS);
    let inbox = keeper::Inbox { hints, observations, news, planned };
    let door = Door::new(plan.clone());
    let keeper = keeper::Keeper::new(Arc::new(set), publisher, crew::Crew::new(seen, told), plan);
    (tokio::spawn(keeper.run(inbox, stop)), door)
}
