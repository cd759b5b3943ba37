//! acks = n: what is acknowledged is on n replicas, whatever way the write took.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::link::{Faults, Link};
use crate::support::{
    Client, Counts, Plan, Proxy, Reply, Stage, call, connect, ok, plain_stage, raw, settle, stage, turn, wait,
};

const MS: Duration = Duration::from_millis(1);

/// A master and replicas, the first of them behind a link.
#[track_caller]
fn linked_of(replicas: usize, delay: Duration, flags: &[&str]) -> (Stage, Proxy, Link) {
    let mut stage = plain_stage(replicas);
    let link = Link::to(stage.nodes[0].port);
    link.delay(delay);
    follow(&stage, 1, link.port);
    let proxy = Proxy::start(&stage, flags);
    proxy.wait_readers(replicas);
    call(&mut proxy.client(), "SET n 0");
    settle(&mut stage, 0);
    (stage, proxy, link)
}

#[track_caller]
fn linked(delay: Duration, flags: &[&str]) -> (Stage, Proxy, Link) {
    linked_of(1, delay, flags)
}

/// Node `n` follows whoever answers at `port`, and has caught up.
#[track_caller]
fn follow(stage: &Stage, n: usize, port: u16) {
    let line = format!("REPLICAOF 127.0.0.1 {port}");
    assert_eq!(call(&mut stage.nodes[n].connect().expect("a replica"), &line).text(), "OK");
    wait("the link", || match stage.info(n, "master_link_status")?.as_str() {
        "up" if stage.info(n, "master_port")? == port.to_string() => Ok(()),
        other => Err(other.to_owned()),
    });
    stage.wait_replica(n, 0).unwrap_or_else(|e| panic!("{e}"));
}

/// Nothing the master says gets through any more; the connection stays.
fn stop(link: &Link) {
    link.set(Faults { stall: true, ..Faults::default() });
}

/// The link is gone, with all that is under way.
fn cut(link: &Link) {
    link.set(Faults { refuse: true, ..Faults::default() });
    link.cut();
}

#[track_caller]
fn on_replica(stage: &Stage, line: &str) -> Reply {
    call(&mut stage.nodes[1].connect().expect("a replica"), line)
}

fn counted(proxy: &Proxy, how: &str) -> f64 {
    proxy.metric("redweir_acks_done_total", &[&format!("how=\"{how}\"")])
}

#[test]
fn what_is_acknowledged_is_on_a_replica_whatever_way_it_was_written() {
    let (stage, proxy, _link) = linked(20 * MS, &["--acks", "1", "--acks-timeout", "60s"]);
    let mut client = proxy.client();
    // Each line's last word is what a replica's GET n must show as soon as the line is answered.
    let ways: [&[&str]; 7] = [
        &["SET n 1"],
        &["EVAL redis.call('set',KEYS[1],ARGV[1]) 1 n 2"],
        &["WATCH n", "MULTI", "SET n 3", "EXEC"],
        &["RPUSH list 4", "BLMOVE list other LEFT RIGHT 10", "GETSET n 4"],
        &["SELECT 1", "SELECT 0", "SET n 5"],
        &["MULTI", "SET n 6", "EXEC"],
        &["SUBSCRIBE a", "UNSUBSCRIBE a", "SET n 7"],
    ];
    for (round, lines) in ways.iter().enumerate() {
        for line in *lines {
            let reply = call(&mut client, line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
        assert_eq!(on_replica(&stage, "GET n").text(), (round + 1).to_string(), "{lines:?}");
    }
    assert_eq!(on_replica(&stage, "LRANGE other 0 -1").items().len(), 1);
    // On a connection of its own too: the element moved has arrived before the answer has.
    call(&mut client, "RPUSH list x");
    call(&mut client, "BRPOPLPUSH list third 10");
    assert_eq!(on_replica(&stage, "LLEN third"), Reply::Int(1));
    // Too large to be held: it streams through.
    let large = "y".repeat(2 << 20);
    client.call(&["SET", "large", &large]).expect("a reply");
    assert_eq!(on_replica(&stage, "STRLEN large"), Reply::Int(2 << 20));
    assert!(counted(&proxy, "confirmed") > 8.0);
    assert_eq!((counted(&proxy, "expired"), counted(&proxy, "lost")), (0.0, 0.0));
    assert_eq!(proxy.metric("redweir_acks_waiting_sessions", &[]), 0.0);
    assert!(proxy.metric("redweir_acks_wait_seconds_sum", &[]) > 0.1, "nobody waited for the link");
}

#[test]
fn without_acks_the_same_is_answered_before_a_replica_has_it() {
    let (stage, proxy, link) = linked(20 * MS, &[]);
    stop(&link);
    let mut client = proxy.client();
    call(&mut client, "SET n 1");
    assert_eq!(
        on_replica(&stage, "GET n").text(),
        "0",
        "the link does not hold anything up: the other tests see nothing"
    );
    assert_eq!(proxy.metric("redweir_acks_held_total", &[]), 0.0);
}

#[test]
fn a_pipeline_keeps_its_order_while_its_writes_wait() {
    let (_stage, proxy, _link) = linked(10 * MS, &["--acks", "1", "--acks-timeout", "60s"]);
    let mut script = Vec::new();
    let mut expected = Vec::new();
    for round in 0..50 {
        script.extend_from_slice(format!("SET n {round}\r\nGET n\r\nPING\r\nMULTI\r\nINCR c\r\nEXEC\r\n").as_bytes());
        let n = round.to_string();
        expected.extend_from_slice(format!("+OK\r\n${}\r\n{n}\r\n+PONG\r\n+OK\r\n+QUEUED\r\n", n.len()).as_bytes());
        expected.extend_from_slice(format!("*1\r\n:{}\r\n", round + 1).as_bytes());
    }
    let answer = raw::talk(proxy.port, &[&script]);
    assert_eq!(answer.bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    // What must not be sent while something waits: a turn of the session's own, a read behind, a large reply.
    let large = "y".repeat(2 << 20);
    let mut set = format!("*3\r\n$3\r\nSET\r\n$1\r\nl\r\n${}\r\n{large}\r\n", large.len()).into_bytes();
    set.extend_from_slice(b"SET n 1\r\nGET l\r\nSET n 2\r\nCLIENT SETNAME me\r\nCLIENT GETNAME\r\nGET n\r\n");
    let answer = raw::talk(proxy.port, &[&set]);
    let expected = format!("+OK\r\n+OK\r\n${}\r\n{large}\r\n+OK\r\n+OK\r\n$2\r\nme\r\n$1\r\n2\r\n", large.len());
    assert!(answer.bytes == expected.as_bytes(), "{} bytes instead of {}", answer.bytes.len(), expected.len());
}

#[test]
fn when_time_is_up_the_client_gets_its_reply_or_an_error_as_configured() {
    for (how, expected) in [("answer", "OK"), ("error", "UNACKED redweir: written, but not on enough replicas")] {
        let flags = ["--acks", "1", "--acks-timeout", "300ms", "--acks-on-timeout", how];
        let (stage, proxy, link) = linked(Duration::ZERO, &flags);
        assert_eq!((counted(&proxy, "confirmed"), counted(&proxy, "expired")), (1.0, 0.0));
        stop(&link);
        let mut client = proxy.client();
        let began = Instant::now();
        assert!(call(&mut client, "SET n 1").text().starts_with(expected), "{how}");
        assert!(began.elapsed() >= 300 * MS);
        assert_eq!(on_replica(&stage, "GET n").text(), "0");
        let pinned: Vec<String> = ["WATCH n", "MULTI", "SET n 2", "EXEC"].map(|l| call(&mut client, l).text()).into();
        assert_eq!(&pinned[..3], ["OK", "OK", "QUEUED"]);
        assert_eq!(pinned[3].starts_with("UNACKED"), how == "error", "{pinned:?}");
        // Reads wait for nothing.
        assert_eq!(call(&mut client, "GET n").text(), "2");
        assert_eq!(counted(&proxy, "expired"), 2.0);
    }
}

#[test]
fn time_does_not_run_out_while_the_master_may_be_dead() {
    let (mut stage, proxy, link) = linked(Duration::ZERO, &["--acks", "1", "--acks-timeout", "5s", "--hold", "1s"]);
    stop(&link);
    let mut client = proxy.client();
    client.send(b"SET n 1\r\n").expect("sent");
    wait("the write", || {
        let shown = call(&mut stage.nodes[0].connect().map_err(|e| e.to_string())?, "GET n").text();
        if shown == "1" { Ok(()) } else { Err(shown) }
    });
    // Executed is not answered: what is still on its way when the master dies is cut off as any write, and waits for nothing.
    wait("the reply, kept", || match proxy.metric("redweir_acks_waiting_sessions", &[]) {
        1.0 => Ok(()),
        n => Err(n.to_string()),
    });
    cut(&link);
    stage.nodes[0].kill();
    // No other master comes: the outcome is unknown, and nobody says OK.
    let answer = client.read();
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(counted(&proxy, "lost"), 1.0);
}

#[test]
fn a_write_that_was_refused_in_the_end_holds_up_nothing_behind_it() {
    let (mut stage, proxy, _link) =
        linked(Duration::ZERO, &["--acks", "1", "--hold", "300ms", "--consistency", "eventual"]);
    let mut client = proxy.client();
    stage.nodes[0].kill();
    // On its way to the master that dies, or not: it comes back unexecuted, waits, and is refused.
    let refused = client.pipeline(&[vec!["MULTI"], vec!["INCR", "a"], vec!["EXEC"]]).expect("replies");
    assert!(refused.iter().all(Reply::is_error), "{refused:?}");
    let replies = client.pipeline(&[vec!["SET", "a", "1"], vec!["GET", "n"], vec!["GET", "b"]]).expect("replies");
    assert!(replies[0].is_error() && replies[1].text() == "0" && replies[2] == Reply::Nil, "{replies:?}");
}

#[test]
fn only_replicas_count_that_would_be_promoted_first() {
    let stage = plain_stage(2);
    let link = Link::to(stage.nodes[0].port);
    follow(&stage, 1, link.port);
    let priority = |n: usize, priority: u32| {
        let line = format!("CONFIG SET replica-priority {priority}");
        assert_eq!(call(&mut stage.nodes[n].connect().expect("a replica"), &line).text(), "OK");
    };
    priority(1, 10);
    let proxy = Proxy::start(&stage, &["--acks", "1", "--acks-timeout", "200ms"]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    call(&mut client, "SET n 1");
    assert_eq!((counted(&proxy, "confirmed"), counted(&proxy, "expired")), (1.0, 0.0));
    // Node 2 has everything, and would be passed over.
    stop(&link);
    call(&mut client, "SET n 2");
    assert_eq!((counted(&proxy, "confirmed"), counted(&proxy, "expired")), (1.0, 1.0));
    // Never promoted: now it is node 2's turn.
    priority(1, 0);
    wait("the new order", || {
        call(&mut client, "SET n 3");
        if counted(&proxy, "confirmed") > 1.0 { Ok(()) } else { Err("still node 1".into()) }
    });
}

#[test]
fn two_copies_wait_for_the_slower_of_two_replicas() {
    let (stage, proxy, link) = linked_of(2, Duration::ZERO, &["--acks", "2", "--acks-timeout", "60s"]);
    assert_eq!(counted(&proxy, "confirmed"), 1.0);
    stop(&link);
    let mut client = proxy.client();
    client.send(b"SET n 1\r\n").expect("sent");
    wait("the near one", || match call(&mut stage.nodes[2].connect().map_err(|e| e.to_string())?, "GET n").text() {
        n if n == "1" => Ok(()),
        n => Err(n),
    });
    // It has said so several times by now.
    Counts::reset(&stage);
    wait("questions", || match Counts::read(&stage).on(2, "info") {
        n if n > 10 => Ok(()),
        n => Err(n.to_string()),
    });
    assert_eq!((counted(&proxy, "confirmed"), proxy.metric("redweir_acks_waiting_sessions", &[])), (1.0, 1.0));
    assert_eq!(on_replica(&stage, "GET n").text(), "0");
    link.delay(Duration::ZERO);
    assert_eq!(client.read().expect("a reply"), ok());
    assert_eq!(on_replica(&stage, "GET n").text(), "1");
    assert_eq!(counted(&proxy, "confirmed"), 2.0);
}

#[test]
fn two_of_three_replicas_are_enough_while_one_is_dead() {
    let (mut stage, proxy, _link) = linked_of(3, Duration::ZERO, &["--acks", "2", "--acks-timeout", "60s"]);
    stage.nodes[3].kill();
    let mut client = proxy.client();
    for round in 1..=20 {
        assert_eq!(call(&mut client, &format!("SET n {round}")), ok());
        for node in [1, 2] {
            let mut node = stage.nodes[node].connect().expect("a replica");
            assert_eq!(call(&mut node, "GET n").text(), round.to_string());
        }
    }
    assert_eq!((counted(&proxy, "confirmed"), counted(&proxy, "expired")), (21.0, 0.0));
}

#[test]
fn users_have_acks_of_their_own_and_may_lack_the_right_to_role() {
    let (stage, proxy, link) = linked(Duration::ZERO, &["--user-acks", "billing=1", "--acks-timeout", "60s"]);
    for node in &stage.nodes {
        call(&mut node.connect().expect("a node"), "ACL SETUSER billing on >secret ~* &* +@all -@dangerous");
    }
    let mut billing = proxy.client();
    assert_eq!(call(&mut billing, "AUTH billing secret").text(), "OK");
    for round in 1..=20 {
        call(&mut billing, &format!("SET n {round}"));
        assert_eq!(on_replica(&stage, "GET n").text(), round.to_string());
    }
    assert_eq!(counted(&proxy, "confirmed"), 20.0);
    stop(&link);
    // Others do not wait.
    call(&mut proxy.client(), "SET n 0");
    assert_eq!(counted(&proxy, "confirmed"), 20.0);
}

/// What became of the increments of many clients over the sudden death of a master.
struct Toll {
    acknowledged: u64,
    lost: u64,
    on: u64,
}

/// Clients count up, each its own key, while the master is killed with two replicas behind it; each value acknowledged
/// must be there afterwards. Sentinel finds the next master, or it is `heir`.
fn toll(flags: &[&str], near: Duration, far: Duration, heir: Option<usize>) -> Toll {
    let mut stage = stage(Plan {
        replicas: 2,
        sentinels: if heir.is_some() { 0 } else { 3 },
        down_after: 1500 * MS,
        // Sentinel leaves the links alone for that long.
        failover_timeout: Duration::from_secs(60),
        ..Plan::default()
    });
    let links = [near, far].map(|delay| {
        let link = Link::to(stage.nodes[0].port);
        link.delay(delay);
        link
    });
    follow(&stage, 1, links[0].port);
    follow(&stage, 2, links[1].port);
    let proxy = Proxy::start(&stage, flags);
    proxy.wait_readers(2);
    // Nobody follows an heir: each write there waits its whole time.
    let (before, onward) = if heir.is_some() { (400.0, 16.0) } else { (1500.0, 300.0) };
    let (stop, switched) = (AtomicBool::new(false), AtomicBool::new(false));
    let address = format!("127.0.0.1:{}", proxy.port);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|n| {
                let (stop, switched, address) = (&stop, &switched, &address);
                scope.spawn(move || count_up(&format!("count:{n}"), address, stop, switched))
            })
            .collect();
        wait("a load", || {
            let confirmed = proxy.metric("redweir_requests_total", &["kind=\"write\""]);
            if confirmed > before { Ok(()) } else { Err(format!("{confirmed}")) }
        });
        // What is under way on the links dies with the master.
        links.iter().for_each(cut);
        stage.nodes[0].kill();
        if let Some(heir) = heir {
            call(&mut stage.nodes[heir].connect().expect("a replica"), "REPLICAOF NO ONE");
        }
        wait("another master", || match proxy.set()["shards"][0]["term"].as_u64() {
            Some(term) if term > 1 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        switched.store(true, Relaxed);
        let written = proxy.metric("redweir_requests_total", &["kind=\"write\""]);
        wait("the load to go on", || {
            let now = proxy.metric("redweir_requests_total", &["kind=\"write\""]);
            if now > written + onward { Ok(()) } else { Err(format!("{now} after {written}")) }
        });
        stop.store(true, Relaxed);
        let mut toll = Toll { acknowledged: 0, lost: 0, on: 0 };
        for client in clients {
            let one = client.join().expect("a client");
            toll.acknowledged += one.acknowledged;
            toll.lost += one.lost;
            toll.on += one.on;
        }
        toll
    })
}

/// Counts `key` up until told to stop; an acknowledged value that comes again, or was not there, was lost.
fn count_up(key: &str, address: &str, stop: &AtomicBool, switched: &AtomicBool) -> Toll {
    let mut toll = Toll { acknowledged: 0, lost: 0, on: 0 };
    let mut last = 0;
    while !stop.load(Relaxed) {
        let mut client: Client = connect(address);
        while !stop.load(Relaxed) {
            // An unknown outcome: the connection ends.
            let Ok(reply) = client.call(&["INCR", key]) else { break };
            let Reply::Int(value) = reply else { continue };
            toll.acknowledged += 1;
            toll.on += u64::from(switched.load(Relaxed));
            toll.lost += u64::try_from(last - value + 1).unwrap_or(0);
            last = value;
        }
    }
    toll
}

#[test]
fn with_acks_the_sudden_death_of_a_master_loses_nothing_that_was_acknowledged() {
    let _turn = turn();
    let kills: usize = std::env::var("ACKS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for kill in 0..kills {
        // Which of the two is behind changes.
        let (near, far) = if kill % 2 == 0 { (MS, 40 * MS) } else { (25 * MS, 3 * MS) };
        let toll = toll(&["--acks", "1"], near, far, None);
        assert_eq!(toll.lost, 0, "of {} acknowledged, kill {kill}", toll.acknowledged);
        assert!(toll.acknowledged > 1000 && toll.on > 100, "{} {}", toll.acknowledged, toll.on);
        println!("kill {kill}: {} acknowledged, {} lost", toll.acknowledged, toll.lost);
    }
}

#[test]
fn without_acks_the_same_death_loses_acknowledged_writes() {
    let _turn = turn();
    let toll = toll(&[], 40 * MS, 60 * MS, None);
    assert!(toll.lost > 0, "the test cannot see a loss: {} acknowledged", toll.acknowledged);
    println!("without acks: {} acknowledged, {} lost", toll.acknowledged, toll.lost);
}

#[test]
fn with_two_copies_even_the_replica_that_is_furthest_behind_has_all_that_was_acknowledged() {
    let _turn = turn();
    let toll_of = |acks| toll(&["--acks-timeout", "500ms", "--acks", acks], MS, 15 * MS, Some(2));
    let both = toll_of("2");
    assert_eq!(both.lost, 0, "of {} acknowledged", both.acknowledged);
    assert!(both.acknowledged > 300 && both.on > 0, "{} {}", both.acknowledged, both.on);
    let one = toll_of("1");
    assert!(one.lost > 0, "the test cannot see a loss: {} acknowledged", one.acknowledged);
}
