//! What a node refuses for now, unexecuted, is sent again: by and by, or elsewhere. Its client sees nothing of it.

use crate::support::scripted::Scripted;
use crate::support::{Counts, Proxy, Reply, bulk, call, ok, plain_stage, settle, wait};

const REFUSALS: [&str; 5] = [
    "-LOADING Redis is loading the dataset in memory",
    "-LOADING Valkey is loading the dataset in memory",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-READONLY You can't write against a read only replica.",
    "-REDIRECT 127.0.0.1:1",
];

#[test]
fn what_a_master_refuses_for_now_is_sent_again_and_executed_once() {
    let stage = plain_stage(0);
    let node = Scripted::before(stage.nodes[0].port);
    let map = format!("{}={}", stage.nodes[0].address(), node.address());
    let proxy = Proxy::start(&stage, &["--address-map", &map, "--hold", "60s"]);
    let mut client = proxy.client();
    Counts::reset(&stage);
    for (round, refusal) in (1..).zip(REFUSALS) {
        // More often than a request is sent again at once.
        node.say("incr", refusal, 6);
        assert_eq!(call(&mut client, "INCR n"), Reply::Int(round), "{refusal}");
        assert_eq!((node.left(), Counts::read(&stage).on(0, "incr")), (0, round as u64), "{refusal}");
    }
    assert_eq!(proxy.metric("redweir_retried_total", &["kind=\"write\""]), 30.0);
    // On a connection of its own, too.
    for (round, refusal) in (1..).zip(REFUSALS) {
        call(&mut client, &format!("RPUSH list {round}"));
        node.say("blpop", refusal, 2);
        let popped = call(&mut client, "BLPOP list 0");
        assert_eq!(popped, Reply::Array(vec![bulk("list"), bulk(&round.to_string())]), "{refusal}");
        assert_eq!((node.left(), Counts::read(&stage).on(0, "blpop")), (0, round), "{refusal}");
    }
}

#[test]
fn any_other_error_is_the_clients_and_nothing_is_sent_twice() {
    let stage = plain_stage(0);
    let node = Scripted::before(stage.nodes[0].port);
    let map = format!("{}={}", stage.nodes[0].address(), node.address());
    let proxy = Proxy::start(&stage, &["--address-map", &map, "--hold", "60s"]);
    let mut client = proxy.client();
    for error in ["LOADING mine", "READONLY", "REDIRECT nowhere", "BUSY Redis is busy", "OOM command not allowed"] {
        node.say("incr", &format!("-{error}"), 1);
        assert_eq!(call(&mut client, "INCR n"), Reply::Error(error.into()));
    }
    assert_eq!((call(&mut client, "GET n"), proxy.metric("redweir_retried_total", &[])), (Reply::Nil, 0.0));
}

#[test]
fn what_a_replica_refuses_for_now_another_node_answers() {
    let mut stage = plain_stage(2);
    let node = Scripted::before(stage.nodes[1].port);
    let map = format!("{}={}", stage.nodes[1].address(), node.address());
    let proxy = Proxy::start(&stage, &["--address-map", &map, "--consistency", "eventual"]);
    proxy.wait_readers(2);
    assert_eq!(call(&mut proxy.client(), "SET k v"), ok());
    settle(&mut stage, 0);
    let mut client = proxy.client();
    for refusal in REFUSALS {
        node.say("get", refusal, 1);
        wait(refusal, || {
            assert_eq!(call(&mut client, "GET k"), bulk("v"), "{refusal}");
            if node.left() == 0 { Ok(()) } else { Err("not asked yet".into()) }
        });
    }
    assert_eq!(proxy.metric("redweir_retried_total", &["kind=\"read\""]), 5.0);
}

#[test]
fn a_replica_that_loads_its_data_is_not_read_from_until_it_has_it() {
    const KEYS: usize = 1500;
    let mut stage = plain_stage(2);
    let mut master = stage.nodes[0].connect().expect("the master");
    let fill = "for i = 1, ARGV[1] do redis.call('SET', i, redis.sha1hex(i)) end return 1";
    assert_eq!(master.call(&["EVAL", fill, "0", &KEYS.to_string()]).expect("a reply"), Reply::Int(1));
    settle(&mut stage, 0);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    // A millisecond for each key, and it answers after each kilobyte.
    let slowly = "CONFIG SET key-load-delay 1000 loading-process-events-interval-bytes 1024";
    let mut replica = stage.nodes[1].connect().expect("a replica");
    for line in ["SAVE", slowly, "CONFIG REWRITE"] {
        assert_eq!(call(&mut replica, line), ok(), "{line}");
    }
    stage.nodes[1].kill();
    proxy.wait_readers(1);
    stage.nodes[1].resume().expect("started");
    let address = stage.nodes[1].address();
    let mut client = proxy.client();
    let mut seen = Vec::new();
    wait("the replica", || {
        for n in 1..=20 {
            assert_eq!(call(&mut client, &format!("GET {n}")).text().len(), 40);
        }
        let node = proxy.nodes().into_iter().find(|n| n["address"] == address.as_str()).expect("the replica");
        seen.push(node["state"].as_str().unwrap_or_default().to_owned());
        if node["in_rotation"] == true { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert!(seen.iter().any(|state| state == "loading"), "the test did not see it load: {seen:?}");
    let stats = call(&mut stage.nodes[1].connect().expect("the replica"), "INFO errorstats").text();
    assert!(!stats.contains("errorstat_LOADING"), "{stats}");
    Counts::reset(&stage);
    // A session stays at its replica for a while: 50 reads of one client may all go to the other.
    for _ in 0..50 {
        call(&mut proxy.client(), "GET 1");
    }
    assert!(Counts::read(&stage).on(1, "get") > 0, "it is read from again");
}
