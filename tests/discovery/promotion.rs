//! Sets without Sentinel in which redweir may act itself: `promote` and `repoint-replicas`, and what happens by hand.

use redweir::config::{Failover, SetConfig};
use redweir::topology::{Hold, NodeState, Topology};

use crate::harness::*;
use crate::{forwarder, log};

fn active(name: &str, set: &Set) -> SetConfig {
    let failover = Failover { promote: true, ..Failover::default() };
    SetConfig { name: name.into(), failover, ..config(set.by_nodes()) }
}

/// So many more answers of this node to redweir, which is as many decisions at least.
fn many_more_questions(server: &Server) {
    let asked = server.calls("role");
    wait("many more questions", || server.calls("role") > asked + 30);
}

/// Follows this master, as it says itself.
fn follows(server: &Server, master: &str) -> bool {
    let info = server.info();
    format!("127.0.0.1:{}", field(&info, "master_port")) == master
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_replaced_by_the_replica_that_has_most() {
    let mut set = Set::new(2, 0, 0);
    let mut watch = Watch::start(active("active", &set));
    let before = watch.until_open(2).await;
    let old = set.nodes[0].address();
    // Were it not behind, its run id would make it the one.
    let run_id = |n: usize| field(&set.nodes[n].info_of("server"), "run_id").to_owned();
    let (behind, ahead) = if run_id(1) < run_id(2) { (1, 2) } else { (2, 1) };
    set.nodes[behind].tell(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    set.nodes[0].tell(&["SET", "only", "one has it"]);
    let offset = |n: usize, name: &str| field(&set.nodes[n].info(), name).parse::<u64>().unwrap();
    let produced = offset(0, "master_repl_offset");
    wait("one is ahead", || offset(ahead, "slave_repl_offset") >= produced);
    assert!(offset(behind, "slave_repl_offset") < produced);
    set.nodes[0].kill();
    let after = watch.until("another master", |t| master(t).is_some_and(|m| m != old)).await;
    assert_eq!(master(&after), Some(set.nodes[ahead].address()));
    assert_eq!(shard(&after).term, shard(&before).term + 1);
    assert_eq!(set.nodes[ahead].tell(&["GET", "only"]), "one has it");
    let new = set.nodes[ahead].address();
    wait("the other one follows", || follows(&set.nodes[behind], &new));
    set.nodes[behind].tell(&["CLIENT", "UNPAUSE"]);
    watch.until_open(1).await;
    // It comes back as a master, empty, and has to follow.
    set.nodes[0].restart();
    let back = watch.until_open(2).await;
    assert_eq!(master(&back), Some(new.clone()));
    assert!(readers(&back).contains(&old) && follows(&set.nodes[0], &new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_master_is_replaced_when_its_replicas_notice_and_demoted_when_it_wakes_up() {
    let set = Set::new(2, 0, 0);
    for (name, value) in [("repl-ping-replica-period", "1"), ("repl-timeout", "3")] {
        set.nodes.iter().for_each(|n| _ = n.tell(&["CONFIG", "SET", name, value]));
    }
    let mut watch = Watch::start(active("hung", &set));
    watch.until_open(2).await;
    let old = set.nodes[0].address();
    set.nodes[0].signal("-STOP");
    watch.until("held", |t| shard(t).held == Some(Hold::Lost)).await;
    let after = watch.until("a new master", |t| master(t).is_some()).await;
    let new = master(&after).unwrap();
    assert_ne!(new, old);
    set.nodes[0].signal("-CONT");
    let in_use = |t: &Topology| {
        assert_ne!(master(t), Some(old.clone()), "never written to again");
        master(t).is_some() && readers(t).contains(&old)
    };
    watch.until("the old master as a reader", in_use).await;
    assert!(!set.nodes[0].says_master() && follows(&set.nodes[0], &new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_promoted_while_the_replicas_still_hear_the_master() {
    let set = Set::new(2, 0, 0);
    let link = forwarder::start(set.nodes[0].port).await;
    let old = set.nodes[0].address();
    let config = SetConfig { address_map: vec![(old.clone(), link.address.clone())], ..active("cut", &set) };
    let mut watch = Watch::start(config);
    watch.until_open(2).await;
    link.cut();
    watch.until("out of sight", |t| shard(t).held == Some(Hold::Lost)).await;
    let said = log::wait_for_in("cut", "nobody is promoted").await;
    assert!(said.contains("only 0 of 2 replicas"), "{said}");
    many_more_questions(&set.nodes[1]);
    assert!(!set.nodes[1..].iter().any(Server::says_master));
    assert_eq!(log::lines_of("cut").iter().filter(|l| l.contains("nobody is promoted")).count(), 1, "told once");
    link.mend().await;
    let t = watch.until_open(2).await;
    assert_eq!((master(&t), shard(&t).term), (Some(old), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_priority_0_are_not_promoted() {
    let mut set = Set::new(2, 0, 0);
    let priority = |n: usize, value: &str| set.nodes[n].tell(&["CONFIG", "SET", "replica-priority", value]);
    assert_eq!((priority(1, "0"), priority(2, "0")), ("+OK".into(), "+OK".into()));
    let mut watch = Watch::start(active("never", &set));
    watch.until_open(2).await;
    set.nodes[0].kill();
    let said = log::wait_for_in("never", "nobody is promoted").await;
    assert!(said.contains("none of 2 replicas is fit"), "{said}");
    many_more_questions(&set.nodes[1]);
    assert!(!set.nodes[1..].iter().any(Server::says_master));
    // The operator changes their mind.
    set.nodes[2].tell(&["CONFIG", "SET", "replica-priority", "100"]);
    let after = watch.until("the one that may", |t| master(t) == Some(set.nodes[2].address())).await;
    assert_eq!(shard(&after).term, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_promoted_unless_the_operator_says_so() {
    let mut set = Set::new(1, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    watch.until_open(1).await;
    let old = set.nodes[0].address();
    set.nodes[0].kill();
    watch.until("lost", |t| shard(t).held == Some(Hold::Lost)).await;
    many_more_questions(&set.nodes[1]);
    watch.until("down", |t| state(t, &old) == Some(NodeState::Down)).await;
    many_more_questions(&set.nodes[1]);
    assert!(!set.nodes[1].says_master());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_promotion_by_hand_the_others_are_made_to_follow() {
    let mut set = Set::new(3, 0, 0);
    let failover = Failover { repoint_replicas: true, ..Failover::default() };
    let mut watch = Watch::start(SetConfig { failover, ..config(set.by_nodes()) });
    watch.until_open(3).await;
    let (old, new) = (set.nodes[0].address(), set.nodes[1].address());
    set.nodes[0].kill();
    watch.until("held", |t| shard(t).held.is_some()).await;
    assert!(!set.nodes[1..].iter().any(Server::says_master), "promotion stays the operator's");
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    watch.until("the promoted node", |t| master(t) == Some(new.clone())).await;
    watch.until_open(2).await;
    assert!(set.nodes[2..].iter().all(|n| follows(n, &new)));
    set.nodes[0].restart();
    let back = watch.until_open(3).await;
    assert!(readers(&back).contains(&old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_by_hand_is_followed_when_the_old_master_is_made_its_replica() {
    let set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    watch.until_open(2).await;
    let (old, new) = (set.nodes[0].address(), set.nodes[1].address());
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    let despite = |t: &Topology| master(t) == Some(old.clone()) && state(t, &new) == Some(NodeState::Fenced);
    watch.until("the old master stays", despite).await;
    // The other replica still follows the old master; what that says of itself is enough.
    set.nodes[0].tell(&["REPLICAOF", "127.0.0.1", &set.nodes[1].port.to_string()]);
    let after = watch.until("the promoted node", |t| master(t) == Some(new.clone())).await;
    assert_eq!(shard(&after).term, 2);
    assert!(follows(&set.nodes[2], &old));
    watch.until_open(2).await;
}
