//! Discovery against real Redis servers and Sentinels: failovers, promotions by hand, replicas that come and go.
//! Every wait is for a published topology, never for a span of time.

#[path = "discovery/harness.rs"]
mod harness;

#[path = "discovery/emptied.rs"]
mod emptied;
#[path = "discovery/followed.rs"]
mod followed;
#[path = "discovery/forwarder.rs"]
mod forwarder;
#[path = "discovery/liar.rs"]
mod liar;
#[path = "discovery/log.rs"]
mod log;
#[path = "discovery/promotion.rs"]
mod promotion;
#[path = "discovery/reservations.rs"]
mod reservations;
#[path = "discovery/signs.rs"]
mod signs;
#[path = "discovery/told.rs"]
mod told;

use harness::*;
use redweir::config::{Login, SetConfig, Source};
use redweir::topology::{NodeState, Topology, Writes};

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
    let asked = |server: &Server| server.info_of("commandstats").contains("cmdstat_command:calls=1,");
    wait("the master's COMMAND is fetched", || asked(&set.nodes[0]));
    assert!(!set.nodes[1..].iter().any(asked), "only the master's, and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_no_reason_to_warn_of_masters() {
    let set = Set::new(1, 0, 0);
    // One that hangs keeps the decision waiting: meanwhile the master is known to say so, and not accepted yet.
    set.nodes[1].signal("-STOP");
    let mut watch = Watch::start(SetConfig { name: "quiet".into(), ..config(set.by_nodes()) });
    watch.until_open(0).await;
    let lines = log::lines_of("quiet");
    assert!(lines.iter().any(|l| l.contains("master verified")), "{lines:#?}");
    let fenced = |l: &&String| l.contains("WARN") && l.contains("fenced");
    assert_eq!(lines.iter().find(fenced), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_writes_of_its_own_is_told_of() {
    let set = Set::new(2, 0, 0);
    set.nodes[1].tell(&["CONFIG", "SET", "replica-read-only", "no"]);
    let mut watch = Watch::start(SetConfig { name: "own".into(), ..config(set.by_nodes()) });
    watch.until_open(2).await;
    let told = |node: usize| {
        let address = set.nodes[node].address();
        let is = |l: &&String| l.contains("takes writes of its own") && l.contains(&address);
        log::lines_of("own").iter().filter(is).count()
    };
    wait("the operator to be told", || told(1) > 0);
    assert_eq!((told(1), told(2)), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_three_sentinels() {
    let mut set = Set::new(3, 3, DOWN_AFTER);
    let mut watch = Watch::start(config(set.by_sentinels()));
    let before = watch.until_open(3).await;
    let old = set.nodes[0].address();
    assert_eq!(master(&before), Some(old.clone()));
    set.nodes[0].kill();
    let held = watch.until("writes held", |t| shard(t).writes == Writes::Held).await;
    assert_eq!(readers(&held), readers(&before));
    let reads_go_on = |t: &Topology| {
        let held = shard(t).writes == Writes::Held;
        assert!(!held || readers(t) == readers(&before), "every replica is read from while there is no master: {t:#?}");
        !held
    };
    let after = watch.until("a new master", reads_go_on).await;
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
    wait("the Sentinels name it, too", || set.named() == master(&t));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_by_hand_is_followed_when_the_others_are_re_pointed() {
    let set = Set::new(3, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(3).await;
    let (old, new) = (&set.nodes[0], &set.nodes[1]);
    new.tell(&["REPLICAOF", "NO", "ONE"]);
    for other in &set.nodes[2..] {
        other.tell(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    }
    let after = watch.until("the promoted node", |t| master(t) == Some(new.address())).await;
    assert!(new.says_master());
    assert_eq!(state(&after, &old.address()), Some(NodeState::Fenced), "still says master, and gets nothing");
    assert!(shard(&after).term > shard(&before).term);
    let generation = |t, address: &str| node(t, address).unwrap().generation;
    assert!(generation(&after, &old.address()) > generation(&before, &old.address()), "it lost its role");
    assert!(generation(&after, &new.address()) > generation(&before, &new.address()), "it was promoted");
    watch.until_open(2).await;
    old.tell(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    let t = watch.until_open(3).await;
    assert_eq!(master(&t), Some(new.address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_by_hand_is_followed_when_the_old_master_stops() {
    let mut set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    watch.until_open(2).await;
    let new = set.nodes[1].address();
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    // The other replica still follows the old master, so nothing is settled: the old one stays, the claimant is fenced.
    let old = set.nodes[0].address();
    let despite = |t: &Topology| master(t) == Some(old.clone()) && state(t, &new) == Some(NodeState::Fenced);
    watch.until("the old master stays", despite).await;
    set.nodes[0].kill();
    watch.until("held", |t| shard(t).writes == Writes::Held || master(t) == Some(new.clone())).await;
    watch.until("the promoted node", |t| master(t) == Some(new.clone())).await;
    set.nodes[2].tell(&["REPLICAOF", "127.0.0.1", new.rsplit(':').next().unwrap()]);
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_promoted_beside_the_master_does_not_take_over_while_it_restarts() {
    let mut set = Set::new(2, 0, 0);
    // Longer than any restart takes.
    let mut watch = Watch::start(SetConfig { down_after: PATIENCE, ..config(set.by_nodes()) });
    watch.until_open(2).await;
    let (old, bystander) = (set.nodes[0].address(), set.nodes[1].address());
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    let despite = |t: &Topology| master(t) == Some(old.clone()) && state(t, &bystander) == Some(NodeState::Fenced);
    let before = watch.until("the old master stays", despite).await;
    set.nodes[0].kill();
    watch.until("held", |t| shard(t).writes == Writes::Held).await;
    // Several answers of the bystander, which change nothing.
    let calls = |server: &Server| server.calls("role");
    let asked = calls(&set.nodes[1]);
    wait("the bystander is asked again and again", || calls(&set.nodes[1]) > asked + 10);
    set.nodes[0].restart();
    let stays = |t: &Topology| {
        assert_ne!(master(t), Some(bystander.clone()), "{t:#?}");
        master(t).is_some() && shard(t).term > shard(&before).term
    };
    let after = watch.until("the old master again", stays).await;
    assert_eq!(master(&after), Some(old));
    assert_eq!(state(&after, &bystander), Some(NodeState::Fenced));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_failover_between_nodes() {
    let set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(2).await;
    let new = &set.nodes[2];
    assert_eq!(set.nodes[0].tell(&["FAILOVER", "TO", "127.0.0.1", &new.port.to_string()]), "+OK");
    let after = watch.until("the new master", |t| master(t) == Some(new.address())).await;
    let related = redweir::topology::relation(&shard(&before).lineage, &shard(&after).lineage);
    assert!(matches!(related, redweir::topology::Relation::Descends { .. }), "offsets carry over: {related:?}");
    watch.until_open(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_failover_of_a_living_master() {
    let set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(config(set.by_sentinels()));
    watch.until_open(2).await;
    let old = set.nodes[0].address();
    assert_eq!(set.sentinels[0].tell(&["SENTINEL", "FAILOVER", "m"]), "+OK");
    let next = watch.until("held or switched", |t| master(t) != Some(old.clone())).await;
    assert_eq!(shard(&next).writes, Writes::Held, "nothing is written to the old master while it is being replaced");
    let after = watch.until("the new master", |t| master(t).is_some()).await;
    assert_ne!(master(&after), Some(old.clone()));
    assert!(set.node(&master(&after).unwrap()).says_master());
    assert_eq!(state(&after, &old), Some(NodeState::Fenced));
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_by_hand_under_sentinel_is_not_followed() {
    let set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(config(set.by_sentinels()));
    watch.until_open(2).await;
    let (old, claimant) = (set.nodes[0].address(), set.nodes[1].address());
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    watch.until("held, until it is clear that no Sentinel did it", |t| shard(t).writes == Writes::Held).await;
    let t = watch.until("open again", |t| master(t).is_some()).await;
    assert_eq!(master(&t), Some(old));
    assert_eq!(state(&t, &claimant), Some(NodeState::Fenced));
    assert_eq!(shard(&t).term, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_master_is_replaced_and_fenced_when_it_wakes_up() {
    let set = Set::new(2, 3, DOWN_AFTER);
    let mut watch = Watch::start(config(set.by_sentinels()));
    watch.until_open(2).await;
    let old = set.nodes[0].address();
    set.nodes[0].signal("-STOP");
    let held = watch.until("held", |t| shard(t).writes == Writes::Held).await;
    assert!(matches!(state(&held, &old), Some(NodeState::Down | NodeState::Silent | NodeState::Fenced)));
    let after = watch.until("a new master", |t| master(t).is_some()).await;
    assert_ne!(master(&after), Some(old.clone()));
    set.nodes[0].signal("-CONT");
    let woken = watch.until("awake and fenced", |t| state(t, &old) == Some(NodeState::Fenced)).await;
    assert_eq!(master(&woken), master(&after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_and_hints_are_no_failover() {
    let set = Set::new(1, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(1).await;
    let old = node(&before, &set.nodes[0].address()).unwrap().clone();
    for _ in 0..5 {
        // Kills the probe's connection with all others.
        set.nodes[0].tell(&["CLIENT", "KILL", "TYPE", "normal"]);
        watch.view.suspect(redweir::topology::Hint::Lost(old.id));
        watch.view.suspect(redweir::topology::Hint::Demoted(old.id));
        wait("the probe is back", || field(&set.nodes[0].info_of("clients"), "connected_clients") != "1");
    }
    let t = watch.until_open(1).await;
    assert_eq!((master(&t), shard(&t).term), (Some(set.nodes[0].address()), 1));
    assert_eq!(node(&t, &set.nodes[0].address()).unwrap().generation, old.generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_and_restarted_leaves_and_returns() {
    let mut set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(2).await;
    let replica = set.nodes[1].address();
    set.nodes[1].kill();
    let without = watch.until_open(1).await;
    assert!(!readers(&without).contains(&replica));
    set.nodes[1].restart();
    let back = watch.until_open(2).await;
    let generation = |t| node(t, &replica).unwrap().generation;
    assert!(generation(&back) > generation(&before));
    assert_ne!(node(&back, &replica).unwrap().run_id, node(&before, &replica).unwrap().run_id);
    assert_eq!(shard(&back).term, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_replica_is_found_by_the_masters_own_list() {
    let set = Set::new(1, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    watch.until_open(1).await;
    let added = Server::redis(set.dir.path(), Some(set.nodes[0].port));
    let t = watch.until_open(2).await;
    assert!(readers(&t).contains(&added.address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_replica_leaves_and_returns() {
    let set = Set::new(2, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    watch.until_open(2).await;
    let hung = set.nodes[2].address();
    set.nodes[2].signal("-STOP");
    let other = set.nodes[1].address();
    let left = |t: &Topology| state(t, &hung) == Some(NodeState::Down) && readers(t) == [other.clone()];
    watch.until("it is down, the other one serves", left).await;
    set.nodes[2].signal("-CONT");
    let t = watch.until_open(2).await;
    assert_eq!(shard(&t).term, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_replica_leaves_by_bytes_and_returns() {
    let set = Set::new(2, 0, 0);
    let mut watch = Watch::start(SetConfig { max_lag_bytes: Some(10_000), ..config(set.by_nodes()) });
    watch.until_open(2).await;
    let slow = set.nodes[1].address();
    // The replica goes on answering, but applies nothing.
    set.nodes[1].tell(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    set.nodes[0].tell(&["SET", "k", &"x".repeat(20_000)]);
    let t = watch.until("it lags", |t| state(t, &slow) == Some(NodeState::Lagging)).await;
    assert_eq!((shard(&t).lagging, shard(&t).readers.len()), (1, 1));
    assert!(node(&t, &slow).unwrap().live.lag_bytes() > 10_000);
    set.nodes[1].tell(&["CLIENT", "UNPAUSE"]);
    let t = watch.until_open(2).await;
    assert_eq!(shard(&t).lagging, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_restarted_empty_is_another_term() {
    let mut set = Set::new(1, 0, 0);
    let mut watch = Watch::start(config(set.by_nodes()));
    let before = watch.until_open(1).await;
    set.nodes[0].restart();
    let after = watch.until("another term", |t| shard(t).term > 1 && master(t).is_some()).await;
    assert_eq!(master(&after), Some(set.nodes[0].address()));
    let related = redweir::topology::relation(&shard(&before).lineage, &shard(&after).lineage);
    assert_eq!(related, redweir::topology::Relation::Unrelated);
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_sentinel_is_outvoted() {
    let mut set = Set::new(2, 3, DOWN_AFTER);
    let old = set.nodes[0].address();
    let liar = liar::start(set.nodes[0].port).await;
    let source = match set.by_sentinels() {
        Source::Sentinel { mut sentinels, master_name, login } => {
            sentinels.insert(0, liar.address.clone());
            Source::Sentinel { sentinels, master_name, login }
        }
        other => other,
    };
    let mut watch = Watch::start(config(source));
    watch.until_open(2).await;
    set.nodes[0].kill();
    let after = watch.until("a new master", |t| master(t).is_some_and(|m| m != old)).await;
    let new = master(&after).unwrap();
    // The old one comes back as a master, and the liar goes on naming it: asked, and outvoted.
    set.nodes[0].restart();
    watch.until("the old master is back, out of use", |t| state(t, &old) == Some(NodeState::Fenced)).await;
    let asked = liar.asked();
    wait("the liar is asked twice more", || liar.asked() > asked + 1);
    let t = watch.until_open(1).await;
    assert_eq!(master(&t), Some(new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_master_name_is_not_ready() {
    let set = Set::new(0, 1, DOWN_AFTER);
    let Source::Sentinel { sentinels, login, .. } = set.by_sentinels() else { panic!("by Sentinel") };
    let wrong = Source::Sentinel { sentinels, master_name: "nobody".into(), login };
    let watch = Watch::start(config(wrong));
    let logged = log::wait_for("no master named 'nobody'").await;
    assert!(logged.contains("one it watches (m)"), "{logged}");
    assert_eq!(watch.view.load().epoch, 0, "nothing was ever published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_one_node_are_one_node() {
    let set = Set::new(1, 0, 0);
    let mut names = set.addresses();
    names.push(format!("localhost:{}", set.nodes[1].port));
    let mut watch = Watch::start(config(Source::Nodes(names)));
    let t = watch.until("one of two names", |t| master(t).is_some() && t.nodes.len() == 2).await;
    assert_eq!(t.nodes.len(), 2);
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_a_late_node_is_waited_for() {
    let set = Set::new(1, 0, 0);
    set.nodes[1].tell(&["CONFIG", "SET", "requirepass", "secret"]);
    let mut watch = Watch::start(config(set.by_nodes()));
    let rejected = set.nodes[1].address();
    let t =
        watch.until("master only", |t| master(t).is_some() && state(t, &rejected) == Some(NodeState::Rejected)).await;
    assert!(readers(&t).is_empty());
    set.nodes[1].tell_as("secret", &["CONFIG", "SET", "requirepass", ""]);
    watch.until_open(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_failover_gives_the_master_back() {
    let set = Set::new(1, 0, 0);
    let sentinel = liar::start(set.nodes[0].port).await;
    let source = Source::Sentinel { sentinels: vec![sentinel.address.clone()], master_name: "m".into(), login: None };
    let mut watch = Watch::start(config(source));
    let before = watch.until_open(1).await;
    let master_words = format!("master m 127.0.0.1 {}", set.nodes[0].port);
    sentinel.publish("+try-failover", &master_words.replace(" m ", " another "));
    sentinel.publish("+try-failover", &master_words);
    let held = watch.until("held", |t| shard(t).writes == Writes::Held).await;
    assert_eq!(readers(&held), readers(&before), "reads go on");
    sentinel.publish("-failover-abort-no-good-slave", &master_words);
    let after = watch.until_open(1).await;
    assert_eq!((master(&after), shard(&after).term), (master(&before), 1));
    let generation = |t| node(t, &set.nodes[0].address()).unwrap().generation;
    assert_eq!(generation(&after), generation(&before), "it never lost its role");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_at_nodes_and_sentinels_are_separate() {
    let set = Set::new(1, 0, 0);
    for server in &set.nodes {
        server.tell(&["CONFIG", "SET", "masterauth", "node"]);
        server.tell(&["CONFIG", "SET", "requirepass", "node"]);
    }
    let more = "requirepass watch\nsentinel sentinel-pass watch\nsentinel auth-pass m node\n";
    let sentinel = Server::sentinel_with(set.dir.path(), set.nodes[0].port, 1000, more);
    let login = |password: &str| Some(Login { username: None, password: password.into() });
    let source = |login| Source::Sentinel { sentinels: vec![sentinel.address()], master_name: "m".into(), login };

    let _wrong = Watch::start(SetConfig { name: "wrong".into(), ..config(source(login("guess"))) });
    let logged = log::wait_for("Sentinel refuses the login").await;
    assert!(logged.contains("WRONGPASS") && !logged.contains("guess"), "{logged}");

    let mut watch = Watch::start(SetConfig { node_login: login("node"), ..config(source(login("watch"))) });
    let t = watch.until_open(1).await;
    assert_eq!(master(&t), Some(set.nodes[0].address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_addresses_are_mapped_to_those_to_dial() {
    let set = Set::new(1, 0, 0);
    let announced = "redis-a.invalid:6379".to_owned();
    let mapped = SetConfig {
        address_map: vec![(announced.clone(), set.nodes[0].address())],
        ..config(Source::Nodes(vec![announced.clone()]))
    };
    let mut watch = Watch::start(mapped);
    let t = watch.until_open(1).await;
    assert_eq!(master(&t), Some(announced.clone()));
    assert_eq!(*node(&t, &announced).unwrap().dial, set.nodes[0].address());
    assert_eq!(t.nodes.len(), 2, "the address that its replica knows it by is no node of its own: {t:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_learnt_from_one() {
    let mut set = Set::new(2, 3, DOWN_AFTER);
    let one = Source::Sentinel { sentinels: vec![set.sentinels[0].address()], master_name: "m".into(), login: None };
    let mut watch = Watch::start(config(one));
    let before = watch.until_open(2).await;
    // Each one of the others has a subscriber: it was found.
    for other in &set.sentinels[1..] {
        wait("a subscription", || other.has_a_listener());
    }
    // Two Sentinels left may split their vote; they try again after twice this long.
    for sentinel in &set.sentinels {
        sentinel.failover_timeout(1500);
    }
    set.sentinels[0].kill();
    set.nodes[0].kill();
    let after = watch.until("a new master", |t| master(t).is_some_and(|m| Some(m) != master(&before))).await;
    assert!(set.node(&master(&after).unwrap()).says_master());
}
