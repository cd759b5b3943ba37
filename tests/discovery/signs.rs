//! The first signs of a failover: each makes redweir look at every node many times a second until it is over, so that it
//! finds the promoted one before Sentinel publishes it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use redweir::config::{SetConfig, Source};
use redweir::topology::{Hint, Topology};

use crate::harness::*;
use crate::{liar, log};

/// Nothing but a sign makes redweir look more often than this.
const SELDOM: Duration = Duration::from_secs(60);

/// Waits until the node is asked no more.
fn wait_calm(server: &Server) {
    let (mut last, mut same) = (0, 0);
    wait("no more questions", || {
        let now = server.calls("role");
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 15
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sign_makes_it_look_closely_for_a_while() {
    let set = Set::new(1, 0, 0);
    let sentinel = liar::start(set.nodes[0].port).await;
    let source = Source::Sentinel { sentinels: vec![sentinel.address.clone()], master_name: "m".into(), login: None };
    let config = SetConfig { poll: SELDOM, down_after: SELDOM, ..config(source) };
    let mut watch = Watch::start(config);
    let open = watch.until_open(1).await;
    let (old, new) = (set.nodes[0].port, set.nodes[1].port);
    let of_master = format!("master m 127.0.0.1 {old}");
    let of_replica = format!("slave 127.0.0.1:{new} 127.0.0.1 {new} @ m 127.0.0.1 {old}");
    let abort = || sentinel.publish("-failover-abort-not-elected", &of_master);
    let id = node(&open, &set.nodes[0].address()).unwrap().id;
    type Sign<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let signs: [Sign; 7] = [
        ("+sdown", Box::new(|| sentinel.publish("+sdown", &of_master))),
        ("+odown", Box::new(|| sentinel.publish("+odown", &format!("{of_master} #quorum 1/1")))),
        ("+try-failover", Box::new(|| sentinel.publish("+try-failover", &of_master))),
        ("its end", Box::new(abort)),
        ("+selected-slave", Box::new(|| sentinel.publish("+selected-slave", &of_replica))),
        (
            "a connection of ours to the master ended",
            Box::new(|| {
                abort();
                set.nodes[0].tell(&["CLIENT", "KILL", "TYPE", "normal"]);
            }),
        ),
        ("a session's connection to the master ended", Box::new(|| watch.view.suspect(Hint::Lost(id)))),
    ];
    for (what, sign) in signs {
        if what != "its end" && !what.starts_with("a connection") {
            wait_calm(&set.nodes[1]);
        }
        let before = set.nodes[1].calls("role");
        sign();
        wait(what, || set.nodes[1].calls("role") > before + 20);
    }
    wait_calm(&set.nodes[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_falls_silent_is_a_sign_before_it_is_down() {
    let set = Set::new(1, 0, 0);
    let every = Duration::from_millis(400);
    // At this pace a replica is not asked so often before the test gives up, and down it is later still.
    let config = SetConfig { poll: every, down_after: 2 * PATIENCE, ..config(set.by_nodes()) };
    let mut watch = Watch::start(config);
    let before = watch.until_open(1).await;
    let asked = set.nodes[1].calls("role");
    set.nodes[0].signal("-STOP");
    wait("many questions", || {
        set.nodes[1].calls("role") > asked + 2 * (PATIENCE.as_millis() / every.as_millis()) as u64
    });
    assert_eq!(master(&watch.view.load()), master(&before), "nothing is concluded from it");
    set.nodes[0].signal("-CONT");
}

/// Counts the first word of every `+switch-master` of one Sentinel.
fn listen(sentinel: &Server, heard: Arc<AtomicUsize>) {
    let mut stream = TcpStream::connect(("127.0.0.1", sentinel.port)).unwrap();
    stream.write_all(b"SUBSCRIBE +switch-master\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The confirmation.
    assert!(lines.by_ref().take(6).all(|l| l.is_ok()));
    std::thread::spawn(move || {
        lines.map_while(Result::ok).filter(|l| l == "message").for_each(|_| _ = heard.fetch_add(1, SeqCst))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_failovers_in_a_row_are_followed_before_sentinel_publishes_them() {
    let mut set = Set::new(3, 3, DOWN_AFTER);
    let mut watch = Watch::start(SetConfig { name: "twice".into(), ..config(set.by_sentinels()) });
    let mut known = watch.until_open(3).await;
    let heard = Arc::new(AtomicUsize::new(0));
    set.sentinels.iter().for_each(|s| listen(s, Arc::clone(&heard)));
    let mut early = 0;
    for round in 0..2 {
        let old = master(&known).unwrap();
        let published = heard.load(SeqCst);
        set.nodes.iter_mut().find(|n| n.address() == old).unwrap().kill();
        let next = |t: &Topology| master(t).is_some_and(|m| m != old);
        let after = watch.until("the next master", next).await;
        early += usize::from(heard.load(SeqCst) == published);
        assert!(shard(&after).term > shard(&known).term);
        assert!(set.node(&master(&after).unwrap()).says_master());
        // Each Sentinel publishes it some time; before that they would not begin another.
        wait("all Sentinels know", || heard.load(SeqCst) >= 3 * (round + 1));
        known = watch.until_open(2 - round).await;
    }
    // Sentinel looks at the promoted node once in a second, and may do so in the same moment: hardly twice.
    assert!(early > 0, "{:#?}", log::lines_of("twice"));
    assert!(log::lines_of("twice").iter().any(|l| l.contains("new master") && l.contains("cause=\"detector\"")));
}
