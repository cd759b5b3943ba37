//! The master's process restarts without the data set it had.

use redweir::config::{Failover, OnEmptyMaster, SetConfig};
use redweir::topology::{Hold, Writes};

use crate::harness::*;
use crate::log;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_and_writes_go_on() {
    let mut set = Set::new(1, 0, 0);
    let mut watch = Watch::start(SetConfig { name: "emptied".into(), ..config(set.by_nodes()) });
    let before = watch.until_open(1).await;
    assert!(!shard(&before).emptied);
    set.nodes[0].restart();
    let after = watch.until("another life", |t| shard(t).term > 1 && master(t).is_some()).await;
    assert!(shard(&after).emptied);
    let told = log::wait_for_in("emptied", "restarted WITHOUT its data set").await;
    assert!(told.contains("ERROR") && told.contains("keys=1"), "{told}");
    // A life that begins as empty as the last one ended lost nothing more, but what was lost is still lost.
    set.nodes[0].restart();
    let again = watch.until("a third life", |t| shard(t).term > shard(&after).term && master(t).is_some()).await;
    assert!(shard(&again).emptied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_had_nothing_or_kept_its_data_is_no_alarm() {
    let mut set = Set::new(0, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    set.nodes[0].tell(&["SET", "kept", "1"]);
    let before = watch.until_open(0).await;
    // With a file it is there again, and continues its line, or begins another one.
    set.nodes[0].tell(&["SAVE"]);
    set.nodes[0].restart();
    let kept = watch.until("another life", |t| shard(t).term > shard(&before).term && master(t).is_some()).await;
    assert!(!shard(&kept).emptied);
    set.nodes[0].tell(&["FLUSHALL"]);
    let asked = set.nodes[0].calls("info");
    wait("INFO asked again", || set.nodes[0].calls("info") > asked + 8);
    set.nodes[0].restart();
    let nothing = watch.until("a third life", |t| shard(t).term > shard(&kept).term && master(t).is_some()).await;
    assert!(!shard(&nothing).emptied, "what had no keys has lost none");
}

fn stopping(set: &Set) -> SetConfig {
    let failover = Failover { on_empty_master: OnEmptyMaster::Stop, ..Failover::default() };
    SetConfig { failover, ..config(set.by_nodes()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_stop_until_it_has_keys_again() {
    let mut set = Set::new(1, 0, 0);
    let mut watch = Watch::start(stopping(&set));
    watch.until_open(1).await;
    set.nodes[0].restart();
    let held = watch.until("held for it", |t| shard(t).held == Some(Hold::Emptied)).await;
    assert_eq!((shard(&held).writes, shard(&held).emptied), (Writes::Held, true));
    let asked = set.nodes[0].calls("info");
    wait("INFO asked again", || set.nodes[0].calls("info") > asked + 12);
    // Its replica has followed it into emptiness, which gave it another line: that changes nothing.
    wait("the replica follows", || field(&set.nodes[1].info(), "master_link_status") == "up");
    let asked = set.nodes[0].calls("info");
    wait("INFO asked again", || set.nodes[0].calls("info") > asked + 12);
    assert_eq!(shard(&watch.view.load()).held, Some(Hold::Emptied));
    set.nodes[0].tell(&["SET", "restored", "1"]);
    let open = watch.until_open(1).await;
    assert_eq!(master(&open), Some(set.nodes[0].address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_stop_until_a_node_that_kept_the_data_is_master() {
    let mut set = Set::new(1, 0, 0);
    let mut watch = Watch::start(stopping(&set));
    watch.until_open(1).await;
    // Whole, for it follows nobody.
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    watch.until("the old master stays", |t| master(t).is_some() && readers(t).is_empty()).await;
    set.nodes[0].restart();
    watch.until("held for it", |t| shard(t).held == Some(Hold::Emptied)).await;
    set.nodes[0].tell(&["REPLICAOF", "127.0.0.1", &set.nodes[1].port.to_string()]);
    let after = watch.until("the whole one", |t| master(t) == Some(set.nodes[1].address())).await;
    assert!(!shard(&after).emptied);
    assert_eq!(set.nodes[1].tell(&["GET", "first"]), "1");
    watch.until_open(1).await;
}
