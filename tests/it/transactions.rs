//! Transactions: whole ones share a connection like any run, and stay whole whatever happens to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::raw::talk;
use crate::support::{Counts, Plan, Proxy, Reply, Stage, call, plain_stage, settle, stage, turn, wait};

const WRITERS: usize = 4;

fn bytes(lines: &[&str]) -> Vec<u8> {
    let words = |line: &&str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        redweir::demo::client::encode(&words)
    };
    lines.iter().flat_map(words).collect()
}

#[test]
fn whole_transactions_answer_as_redis_does_and_pin_nothing() {
    let stage = plain_stage(1);
    // Each script is a new client's: what the last one wrote may not be on a replica yet.
    let proxy = Proxy::start(&stage, &["--consistency", "strong"]);
    let direct = plain_stage(0);
    let scripts: &[&[&str]] = &[
        &["SET k 0", "MULTI", "INCR k", "GET k", "EXEC", "GET k"],
        &["MULTI", "SET k 1", "DISCARD", "GET k"],
        &["MULTI", "EXEC"],
        &["MULTI", "SET k", "SET k 7", "EXEC", "GET k"],
        &["MULTI", "LPUSH k x", "SET k 9", "EXEC", "GET k"],
        &["MULTI", "NOSUCHCOMMAND", "EXEC", "PING"],
        &["MULTI", "EVAL return{1,2} 0", "PUBLISH a b", "TYPE k", "EXEC"],
        &["EXEC", "DISCARD", "MULTI", "PING", "EXEC", "MULTI", "ECHO x", "EXEC"],
        &["MULTI", "GET k", "EXEC", "SET k 2", "MULTI", "GET k", "EXEC"],
        // These need a connection of their own, and must look the same.
        &["MULTI", "SELECT 1", "SET k other", "EXEC", "GET k", "SELECT 0", "GET k"],
        &["MULTI", "MULTI", "SET k 3", "EXEC"],
        &["MULTI", "WATCH k", "EXEC"],
        &["MULTI", "BLPOP nothing 0", "EXEC"],
        &["MULTI", "SET k 4", "EXEC now", "EXEC"],
    ];
    for script in scripts {
        let (ours, theirs) = (talk(proxy.port, &[&bytes(script)]), talk(direct.nodes[0].port, &[&bytes(script)]));
        assert_eq!(ours, theirs, "{script:?}");
    }
    let pins = proxy.metric("redweir_pins_total", &[]);
    for script in &scripts[..9] {
        talk(proxy.port, &[&bytes(script)]);
    }
    // The unknown name is one of them.
    assert_eq!(proxy.metric("redweir_pins_total", &[]), pins + 1.0);
}

#[test]
fn a_transaction_of_reads_alone_is_answered_by_a_replica() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "MSET a 1 b 2");
    settle(&mut stage, 0);
    Counts::reset(&stage);
    let mut client = proxy.client();
    let reply = client.pipeline(&[vec!["MULTI"], vec!["GET", "a"], vec!["GET", "b"], vec!["EXEC"]]).expect("replies");
    assert_eq!(reply[3].items().iter().map(Reply::text).collect::<Vec<_>>(), ["1", "2"]);
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "exec"), counts.on(1, "exec")), (0, 1));
}

#[test]
fn a_transaction_whose_reply_outgrows_every_buffer_is_passed_on_whole() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let value = "x".repeat(300_000);
    client.call(&["SET", "big", &value]).expect("stored");
    for _ in 0..3 {
        let commands = [vec!["MULTI"], vec!["GET", "big"], vec!["APPEND", "n", "1"], vec!["GET", "big"], vec!["EXEC"]];
        let replies = client.pipeline(&commands).expect("replies");
        let items = replies[4].items();
        assert_eq!((items[0].text().len(), items[2].text().len()), (300_000, 300_000));
    }
    assert_eq!(call(&mut client, "GET n").text(), "111");
}

/// Clients that each add 1 to two counters of their own in one transaction, over and over, reconnecting when cut off.
struct Adders {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Added>>,
}

/// What one of them was told.
#[derive(Debug, Default)]
struct Added {
    acknowledged: i64,
    unknown: i64,
    errors: BTreeMap<String, u64>,
}

impl Adders {
    fn start(port: u16) -> Adders {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = |id: usize| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || add(port, id, &stop, &done))
        };
        let threads = (0..WRITERS).map(one).collect();
        Adders { stop, done, threads }
    }

    #[track_caller]
    fn more(&self, n: u64) {
        let before = self.done.load(Ordering::Relaxed);
        wait("more transactions", || match self.done.load(Ordering::Relaxed) {
            now if now >= before + n => Ok(()),
            now => Err(format!("{} of {n}", now - before)),
        });
    }

    /// Ends the load and compares what was acknowledged with what the master has.
    #[track_caller]
    fn check(self, stage: &Stage, master: usize, on_the_wire: i64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut node = stage.nodes[master].connect().expect("the master");
        for (id, thread) in self.threads.into_iter().enumerate() {
            let added = thread.join().expect("a client");
            assert!(added.errors.is_empty(), "{added:?}");
            assert!(added.unknown <= on_the_wire, "{added:?}");
            let read = |node: &mut _, key: String| call(node, &format!("GET {key}")).text().parse::<i64>().unwrap_or(0);
            let (a, b) = (read(&mut node, format!("a{id}")), read(&mut node, format!("b{id}")));
            assert_eq!(a, b, "half a transaction: {added:?}");
            assert!((added.acknowledged..=added.acknowledged + added.unknown).contains(&a), "{a} {added:?}");
        }
    }
}

fn add(port: u16, id: usize, stop: &AtomicBool, done: &AtomicU64) -> Added {
    let (a, b) = (format!("a{id}"), format!("b{id}"));
    let unit = [vec!["MULTI"], vec!["INCR", &a], vec!["INCR", &b], vec!["EXEC"]];
    let (mut added, mut client) = (Added::default(), None);
    while !stop.load(Ordering::Relaxed) {
        let address = format!("127.0.0.1:{port}");
        let client_now = client.get_or_insert_with(|| crate::support::connect(&address));
        match client_now.pipeline(&unit) {
            Ok(replies) => match replies.iter().find(|r| r.is_error()) {
                Some(error) => *added.errors.entry(error.text()).or_default() += 1,
                None => {
                    added.acknowledged += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            },
            Err(_) => {
                added.unknown += 1;
                client = None;
            }
        }
    }
    added
}

#[test]
fn transactions_stay_whole_when_the_master_is_killed() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let adders = Adders::start(proxy.port);
    adders.more(500);
    stage.nodes[0].kill();
    adders.more(500);
    let master = stage.master().expect("a master");
    assert_ne!(master, 0);
    adders.check(&stage, master, 1);
}

#[test]
fn transactions_refused_by_a_demoted_master_are_sent_again_whole() {
    let _turn = turn();
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let adders = Adders::start(proxy.port);
    let mut master = 0;
    for _ in 0..4 {
        adders.more(300);
        let to = stage.nodes[1 - master].port;
        // Refused until the other has acknowledged something, which it does once a second.
        wait("the failover to begin", || {
            match call(&mut stage.nodes[master].connect().expect("it"), &format!("FAILOVER TO 127.0.0.1 {to}")) {
                reply if reply.is_error() => Err(reply.text()),
                _ => Ok(()),
            }
        });
        wait("the roles exchanged", || {
            match call(&mut stage.nodes[1 - master].connect().expect("it"), "ROLE").items()[0].text() {
                role if role == "master" => Ok(()),
                role => Err(role),
            }
        });
        master = 1 - master;
    }
    adders.more(300);
    let refused = proxy.metric("redweir_retried_total", &["write"]);
    adders.check(&stage, master, 0);
    assert!(refused > 0.0, "no transaction met a demoted master: the test shows nothing");
}

#[test]
fn a_held_transaction_is_refused_as_a_whole_and_the_session_goes_on() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "300ms", "--consistency", "eventual"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    stage.nodes[0].kill();
    let replies = client.pipeline(&[vec!["MULTI"], vec!["INCR", "a"], vec!["EXEC"]]).expect("replies");
    assert!(replies.iter().all(|r| r.text().contains("no verified master")), "{replies:?}");
    // The read behind what is refused goes to the replica, and the refusal ends with it.
    let replies = client.pipeline(&[vec!["SET", "a", "1"], vec!["GET", "b"]]).expect("replies");
    assert!(replies[0].is_error() && replies[1] == Reply::Nil, "{replies:?}");
    stage.nodes[0].resume().expect("started");
    wait("the master again", || match call(&mut proxy.client(), "SET x 1").text() {
        text if text == "OK" => Ok(()),
        text => Err(text),
    });
    assert_eq!(call(&mut client, "SET a 2").text(), "OK");
}
