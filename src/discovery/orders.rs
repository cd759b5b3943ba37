//! Carries out what redweir orders a node: to be master, or whose replica to be. One short connection for each order.
//!
//! Must not decide anything, and is believed nothing: what came of an order is seen by the probes.
//! Invariant: at most one order at a time to one node, and each within a time limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::seen::{Link, Role};
use crate::config::Login;
use crate::topology::NodeId;
use crate::upstream::control::{Client, Error};

/// An order that changed nothing is repeated no sooner than this.
const REPEAT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// REPLICAOF NO ONE, unless it hears its master after all.
    Promote,
    /// REPLICAOF this `host:port`.
    Follow(Arc<str>),
}

/// To whom, and how it is reached.
#[derive(Debug, Clone)]
pub struct Addressee {
    pub set: String,
    pub node: NodeId,
    pub address: Arc<str>,
    pub dial: Arc<str>,
    pub login: Option<Login>,
    pub connect_timeout: Duration,
    /// Longest wait for its answers.
    pub limit: Duration,
}

struct Running {
    given: Instant,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct Orders {
    running: HashMap<NodeId, Running>,
}

impl Orders {
    /// Gives the order, unless the node works on one or was given one a moment ago. Whether it was given.
    pub fn give(&mut self, to: Addressee, order: Order, now: Instant) -> bool {
        if self.is_busy(to.node, now) {
            return false;
        }
        let node = to.node;
        self.running.insert(node, Running { given: now, task: tokio::spawn(carry_out(to, order)) });
        true
    }

    /// Whether the order is under way, or was given so recently that it may still show.
    pub fn is_busy(&self, node: NodeId, now: Instant) -> bool {
        self.running
            .get(&node)
            .is_some_and(|r| !r.task.is_finished() || now.saturating_duration_since(r.given) < REPEAT)
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.running.values().for_each(|r| r.task.abort());
    }
}

async fn carry_out(to: Addressee, order: Order) {
    let Addressee { set, address, .. } = &to;
    match timeout(to.connect_timeout + to.limit, obey(&to, &order)).await.unwrap_or(Err(Error::Timeout)) {
        Ok(true) => match &order {
            Order::Promote => tracing::warn!(%set, node = %address, "promoted by redweir (REPLICAOF NO ONE)"),
            Order::Follow(master) => tracing::warn!(%set, node = %address, %master, "told to follow (REPLICAOF)"),
        },
        Ok(false) => tracing::warn!(%set, node = %address, "not promoted: it hears its master, or is one already"),
        Err(error) => tracing::error!(
            %set, node = %address, %error,
            "an order failed: the node login needs ROLE, REPLICAOF and CONFIG|REWRITE for promote and repoint-replicas"
        ),
    }
}

/// Whether the order was given: a promotion is not, where the node itself shows that it would be wrong.
async fn obey(to: &Addressee, order: &Order) -> Result<bool, Error> {
    let mut client = Client::connect(&to.dial, to.login.as_ref(), to.connect_timeout).await?;
    client.set_limit(to.limit);
    match order {
        Order::Promote => {
            let role = Role::parse(&client.call(&[b"ROLE"]).await?);
            if !matches!(role, Some(Role::Replica { link: Link::Down, .. })) {
                return Ok(false);
            }
            client.call(&[b"REPLICAOF", b"NO", b"ONE"]).await?;
        }
        Order::Follow(master) => {
            let (host, port) = master.rsplit_once(':').ok_or(Error::Protocol("an address without a port"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            client.call(&[b"REPLICAOF", host.as_bytes(), port.as_bytes()]).await?;
        }
    }
    // So that it is what it is now after a restart, too. Without a configuration file it cannot be.
    match client.call(&[b"CONFIG", b"REWRITE"]).await {
        Ok(_) | Err(Error::Server(_) | Error::Auth(_)) => Ok(true),
        Err(e) => Err(e),
    }
}
