//! What happens to a set besides a plain failover: behind Sentinel's back, without its Sentinels, with nobody left.

use redweir::config::{SetConfig, Source};
use redweir::topology::{Topology, Writes};

use crate::harness::*;
use crate::log;

/// Sentinels that do nothing by themselves while a test lasts.
const ASLEEP: u32 = 600_000;

fn named(name: &str, source: Source) -> SetConfig {
    SetConfig { name: name.into(), ..config(source) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_command_that_sentinel_does_not_know_of() {
    let set = Set::new(2, 3, ASLEEP);
    let mut watch = Watch::start(config(set.by_sentinels()));
    let before = watch.until_open(2).await;
    let (old, new) = (&set.nodes[0], &set.nodes[1]);
    assert_eq!(old.tell(&["FAILOVER", "TO", "127.0.0.1", &new.port.to_string()]), "+OK");
    let after = watch.until("the new master", |t| master(t) == Some(new.address())).await;
    assert_eq!(shard(&after).term, shard(&before).term + 1);
    // The Sentinels go on naming the old one, under the epoch that redweir had heard before.
    assert!(set.sentinels.iter().all(|s| s.names_master() == old.port));
    let stays = |t: &Topology| {
        assert!(master(t).is_none_or(|m| m == new.address()), "{t:#?}");
        readers(t).contains(&old.address())
    };
    watch.until("the old master as a reader", stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_restart_change_nothing_and_are_heard_again() {
    let mut set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(named("restarted", set.by_sentinels()));
    let before = watch.until_open(2).await;
    for sentinel in &mut set.sentinels {
        sentinel.restart();
    }
    for sentinel in &set.sentinels {
        wait("a subscription", || sentinel.has_a_listener());
    }
    let now = watch.view.load();
    assert_eq!((master(&now), shard(&now).term), (master(&before), 1));
    set.nodes[0].kill();
    let after = watch.until("a new master", |t| master(t).is_some_and(|m| Some(m) != master(&before))).await;
    assert!(set.node(&master(&after).unwrap()).says_master());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_sentinel_left_the_nodes_speak_for_themselves() {
    // Back again they would set about the dead master: not in this test.
    let mut set = Set::new(2, 3, ASLEEP);
    let mut watch = Watch::start(named("bereft", set.by_sentinels()));
    watch.until_open(2).await;
    set.sentinels.iter_mut().for_each(Server::kill);
    wait("all are missed", || log::lines_of("bereft").iter().filter(|l| l.contains("Sentinel is away")).count() == 3);
    set.nodes[0].kill();
    watch.until("held", |t| shard(t).writes == Writes::Held).await;
    let new = &set.nodes[1];
    new.tell(&["REPLICAOF", "NO", "ONE"]);
    set.nodes[2].tell(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    watch.until("the promoted node", |t| master(t) == Some(new.address())).await;
    watch.until_open(1).await;
    // Back with their old configuration they name a master that is gone: not believed.
    for n in 0..3 {
        set.sentinels[n].restart();
    }
    wait("all are well again", || {
        log::lines_of("bereft").iter().filter(|l| l.contains("Sentinel is well again")).count() == 3
    });
    let now = watch.view.load();
    assert_eq!((master(&now), shard(&now).term), (Some(set.nodes[1].address()), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_sentinels_are_in_tilt_redweir_goes_on_by_itself() {
    let mut set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(config(set.by_sentinels()));
    watch.until_open(2).await;
    set.sentinels.iter().for_each(|s| s.signal("-STOP"));
    // What makes a Sentinel distrust its clock: more than two seconds that it did not see pass.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    set.sentinels.iter().for_each(|s| s.signal("-CONT"));
    for sentinel in &set.sentinels {
        wait("tilt", || sentinel.is_in_tilt());
    }
    let open = watch.until_open(2).await;
    assert_eq!((master(&open), shard(&open).term), (Some(set.nodes[0].address()), 1), "nothing follows from it");
    set.nodes[0].kill();
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    set.nodes[2].tell(&["REPLICAOF", "127.0.0.1", &set.nodes[1].port.to_string()]);
    let new = set.nodes[1].address();
    watch.until("the promoted node", |t| master(t) == Some(new.clone())).await;
    assert!(set.sentinels.iter().any(Server::is_in_tilt), "that was not Sentinel's doing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_gone_and_back() {
    let mut set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(2).await;
    set.nodes[1..].iter_mut().for_each(Server::kill);
    let alone = watch.until_open(0).await;
    assert_eq!(master(&alone), master(&before));
    set.nodes[1..].iter_mut().for_each(Server::restart);
    let again = watch.until_open(2).await;
    assert_eq!((master(&again), shard(&again).term), (master(&before), 1));
}

/// Every node dies, and comes back as what it was.
async fn all_nodes_gone_and_back(mut set: Set, source: Source) {
    let mut watch = Watch::start(config(source));
    let before = watch.until_open(2).await;
    // Replicas first: nobody may take over in between.
    for node in [1, 2, 0] {
        set.nodes[node].kill();
    }
    let gone = |t: &Topology| shard(t).writes == Writes::Held && readers(t).is_empty();
    watch.until("nobody", gone).await;
    for node in [2, 0, 1] {
        set.nodes[node].restart();
    }
    let again = watch.until_open(2).await;
    assert_eq!(master(&again), master(&before));
    assert!(shard(&again).term > shard(&before).term, "other processes, with another data set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_gone_and_back_without_sentinel() {
    let set = Set::new(2, 0, 0);
    let source = set.by_nodes();
    all_nodes_gone_and_back(set, source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_gone_and_back_beside_sentinel() {
    let set = Set::new(2, 3, ASLEEP);
    let source = set.by_sentinels();
    all_nodes_gone_and_back(set, source).await;
}
