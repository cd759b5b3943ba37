//! What the operator reserves: `trust = confirmed` and `minority-stop`.

use std::time::Duration;

use redweir::config::{Failover, SetConfig, Source, Trust};
use redweir::topology::{Hold, NodeState, Topology, Writes};

use crate::harness::*;
use crate::{liar, log};

fn confirmed(name: &str, source: Source) -> SetConfig {
    let failover = Failover { trust: Trust::Confirmed, ..Failover::default() };
    SetConfig { name: name.into(), failover, ..config(source) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_node_waits_for_the_word_of_sentinel() {
    let mut set = Set::new(1, 0, 0);
    let sentinel = liar::start(set.nodes[0].port).await;
    let source = Source::Sentinel { sentinels: vec![sentinel.address.clone()], master_name: "m".into(), login: None };
    let mut watch = Watch::start(confirmed("waits", source.clone()));
    let mut other = Watch::start(config(source));
    watch.until_open(1).await;
    other.until_open(1).await;
    let (old, new) = (set.nodes[0].port, set.nodes[1].port);
    sentinel.publish("+try-failover", &format!("master m 127.0.0.1 {old}"));
    set.nodes[0].kill();
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    sentinel.publish("+promoted-slave", &format!("slave 127.0.0.1:{new} 127.0.0.1 {new} @ m 127.0.0.1 {old}"));
    // The one that trusts at once has it, and this one has seen as much.
    other.until("at once", |t| master(t) == Some(set.nodes[1].address())).await;
    watch.until("not named yet", |t| shard(t).held == Some(Hold::Unconfirmed)).await;
    let asked = sentinel.asked();
    wait("Sentinel is asked again", || sentinel.asked() > asked + 4);
    assert_eq!((shard(&watch.view.load()).writes, shard(&watch.view.load()).term), (Writes::Held, 1));
    sentinel.name(new, 1);
    let after = watch.until("named", |t| master(t).is_some()).await;
    assert_eq!((master(&after), shard(&after).term), (Some(set.nodes[1].address()), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_when_real_sentinels_confirm_it() {
    let mut set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(confirmed("confirmed", set.by_sentinels()));
    let before = watch.until_open(2).await;
    set.nodes[0].kill();
    watch.until("held", |t| shard(t).writes == Writes::Held).await;
    let after = watch.until("a new master", |t| master(t).is_some()).await;
    assert_ne!(master(&after), master(&before));
    let named: Vec<String> = set.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.names_master())).collect();
    assert!(named.contains(&master(&after).unwrap()), "{named:?}");
    let switched = log::wait_for_in("confirmed", "new master").await;
    assert!(switched.contains("cause=\"sentinel\""), "{switched}");
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_of_sentinels_writes_stop_until_it_is_back() {
    let set = Set::new(1, 3, 60_000);
    let failover = Failover { minority_stop: Some(Duration::from_millis(50)), ..Failover::default() };
    let mut watch = Watch::start(SetConfig { name: "minority".into(), failover, ..config(set.by_sentinels()) });
    let mut plain = Watch::start(config(set.by_sentinels()));
    let before = watch.until_open(1).await;
    plain.until_open(1).await;
    set.sentinels[0].signal("-STOP");
    log::wait_for_in("minority", "Sentinel is away").await;
    let asked = set.nodes[1].calls("role");
    wait("many turns", || set.nodes[1].calls("role") > asked + 20);
    // One of three is no minority.
    assert_eq!(master(&watch.view.load()), master(&before));
    set.sentinels[1].signal("-STOP");
    let held = watch.until("held", |t| shard(t).held == Some(Hold::Minority)).await;
    assert_eq!(readers(&held), readers(&before), "reads go on");
    assert_eq!(state(&held, &set.nodes[0].address()), Some(NodeState::Fenced));
    assert_eq!(master(&plain.view.load()), master(&before), "without the option they go on");
    set.sentinels[1].signal("-CONT");
    let open = |t: &Topology| master(t) == Some(set.nodes[0].address());
    let after = watch.until("open again", open).await;
    assert_eq!(shard(&after).term, 1);
    set.sentinels[0].signal("-CONT");
}
