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

/// An order that changed nothing is repeated no sooner than this, and each time twice as late, up to the second.
const REPEAT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

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
    order: Order,
    given: Instant,
    /// Until then it may still show, or is not worth repeating.
    rests: Duration,
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
        let again = |r: &&Running| r.order == order && now.saturating_duration_since(r.given) < 2 * REPEAT.1;
        let rests = self.running.get(&node).filter(again).map_or(REPEAT.0, |r| (2 * r.rests).min(REPEAT.1));
        let task = tokio::spawn(carry_out(to, order.clone()));
        self.running.insert(node, Running { order, given: now, rests, task });
        true
    }

    /// Whether the order is under way, or was given so recently that it may still show.
    pub fn is_busy(&self, node: NodeId, now: Instant) -> bool {
        let busy = |r: &Running| !r.task.is_finished() || now.saturating_duration_since(r.given) < r.rests;
        self.running.get(&node).is_some_and(busy)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_changes_nothing_is_repeated_less_and_less_often() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let to = || Addressee {
            set: "m".into(),
            node: 1,
            address: gone.as_str().into(),
            dial: gone.as_str().into(),
            login: None,
            connect_timeout: Duration::from_secs(5),
            limit: Duration::from_secs(5),
        };
        let mut orders = Orders::default();
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let mut given = Vec::new();
        for after in 0..200 {
            let now = begun + after * second;
            if orders.give(to(), Order::Follow("a:1".into()), now) {
                given.push(after);
                assert!(orders.is_busy(1, now));
                while !orders.running.values().all(|r| r.task.is_finished()) {
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(given, [0, 2, 6, 14, 30, 62, 122, 182]);
        assert!(!orders.give(to(), Order::Promote, begun + 200 * second), "the last one still rests");
        assert!(orders.give(to(), Order::Promote, begun + 242 * second));
    }
}
