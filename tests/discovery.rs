//! Discovery against real Redis servers and Sentinels: failovers, promotions by hand, replicas that come and go.
//! Every wait is for a published topology, never for a span of time.

#[path = "discovery/harness.rs"]
mod harness;

use harness::*;
use redweir::topology::{NodeState, Writes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_master_and_readers_by_nodes() {
    let set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let t = watch.until_open(2).await;
    assert_eq!(master(&t), Some(set.nodes[0].address()));
    let mut expected = set.addresses()[1..].to_vec();
    expected.sort();
    assert_eq!(readers(&t), expected);
    assert_eq!(shard(&t).term, 1);
    watch.until("the master's own commands", |t| t.names.classes.len() > 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_three_sentinels() {
    let mut set = Set::new(3, 3, 1000);
    let mut watch = Watch::start(config(set.by_sentinels()));
    let before = watch.until_open(3).await;
    let old = set.nodes[0].address();
    assert_eq!(master(&before), Some(old.clone()));
    set.nodes[0].kill();
    let held = watch.until("writes held", |t| shard(t).writes == Writes::Held).await;
    assert_eq!(readers(&held), readers(&before), "reads go on while there is no master");
    let after = watch.until("a new master", |t| master(t).is_some()).await;
    let new = master(&after).unwrap();
    assert_ne!(new, old);
    assert!(set.node(&new).says_master());
    assert!(shard(&after).term > shard(&before).term);
    assert_eq!(state(&after, &old), Some(NodeState::Down));
    watch.until_open(2).await;

    // The old master is back: master by its own word, and out until it follows the new one.
    set.nodes[0].restart();
    let back = watch.until("the old master is fenced", |t| state(t, &old) == Some(NodeState::Fenced)).await;
    assert_eq!(master(&back), Some(new.clone()));
    set.nodes[0].tell(&["REPLICAOF", "127.0.0.1", new.rsplit(':').next().unwrap()]);
    let t = watch.until_open(3).await;
    assert_eq!(master(&t), Some(new));
    assert!(readers(&t).contains(&old));
}
