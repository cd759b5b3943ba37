//! What a master answers that may be one no longer: nobody is told of a write that the new master lacks.
//!
//! The old master is stopped with a request on the wire, and goes on when another one has been promoted: its answer is real,
//! late, and worth nothing.

use crate::support::{Client, Plan, Proxy, Reply, Stage, call, plain_stage, stage, turn, wait};

const PATIENT: [&str; 2] = ["--down-after", "20s"];

/// Three nodes under Sentinels that take nobody for dead in the time of a test.
fn patient_stage() -> Stage {
    stage(Plan { replicas: 2, down_after: std::time::Duration::from_secs(20), ..Plan::default() })
}

/// Sends without waiting for the answer, and waits until redweir has passed it on.
#[track_caller]
fn send(proxy: &Proxy, client: &mut Client, line: &str) {
    let before = proxy.metric("redweir_requests_total", &[]);
    let args: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
    client.send(&redweir::demo::client::encode(&args)).expect("sent");
    wait("the request on its way", || match proxy.metric("redweir_requests_total", &[]) {
        sent if sent > before => Ok(()),
        sent => Err(format!("{sent} requests")),
    });
}

/// Sentinel promotes another node while the old master is stopped; then that goes on. Returns the new master's index.
#[track_caller]
fn switch_behind_its_back(stage: &mut Stage, proxy: &Proxy) -> usize {
    let old = stage.nodes[0].address();
    let reply = call(&mut stage.sentinels[0].connect().expect("a Sentinel"), "SENTINEL FAILOVER mymaster");
    assert!(!reply.is_error(), "{reply:?}");
    let mut new = None;
    wait("the new master", || {
        let master = proxy.set()["shards"][0]["master"].as_str().map(str::to_owned);
        new = stage.nodes.iter().position(|n| Some(n.address()) == master && n.address() != old);
        new.map(drop).ok_or_else(|| format!("{master:?}"))
    });
    stage.nodes[0].cont();
    new.expect("waited for")
}

#[test]
fn a_write_executed_by_a_replaced_master_is_not_acknowledged() {
    let _turn = turn();
    let mut stage = patient_stage();
    let proxy = Proxy::start(&stage, &PATIENT);
    proxy.wait_readers(2);
    let (mut plain, mut bound) = (proxy.client(), proxy.client());
    assert_eq!(call(&mut plain, "RPUSH list before").int(), Some(1));
    call(&mut bound, "MULTI");
    call(&mut bound, "RPUSH list bound");
    stage.nodes[0].stop();
    send(&proxy, &mut plain, "RPUSH list late");
    send(&proxy, &mut bound, "EXEC");
    let new = switch_behind_its_back(&mut stage, &proxy);
    wait("the late writes at the old master", || {
        match stage.nodes[0].connect().and_then(|mut c| c.call(&["LLEN", "list"])).map(|reply| reply.int()) {
            Ok(Some(3)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(plain.read().is_err(), "nobody has it, so nobody may be told that it was done");
    assert!(bound.read().is_err(), "nor of a transaction");
    assert_eq!(call(&mut stage.nodes[new].connect().expect("it"), "LRANGE list 0 -1").items().len(), 1);
    assert_eq!(call(&mut proxy.client(), "RPUSH list after").int(), Some(2));
}

#[test]
fn a_read_answered_by_a_replaced_master_is_asked_of_the_new_one() {
    let _turn = turn();
    let mut stage = patient_stage();
    let proxy = Proxy::start(&stage, &PATIENT);
    proxy.wait_readers(2);
    let (mut reader, mut direct) = (proxy.client(), stage.nodes[0].connect().expect("the master"));
    call(&mut reader, "REDWEIR CONSISTENCY STRONG");
    call(&mut reader, "SET key kept");
    crate::support::settle(&mut stage, 0);
    stage.nodes[0].stop();
    // Ahead of the read, and gone with the old master.
    direct.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\ngone\r\n").expect("sent");
    send(&proxy, &mut reader, "GET key");
    switch_behind_its_back(&mut stage, &proxy);
    assert_eq!(reader.read().expect("an answer"), Reply::Bulk(b"kept".to_vec()));
}

#[test]
fn answers_kept_back_are_given_when_the_master_turns_out_to_stay() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &PATIENT);
    proxy.wait_readers(2);
    let (mut plain, mut bound) = (proxy.client(), proxy.client());
    assert_eq!(call(&mut plain, "RPUSH list before").int(), Some(1));
    call(&mut bound, "MULTI");
    call(&mut bound, "RPUSH list bound");
    stage.nodes[0].stop();
    send(&proxy, &mut plain, "RPUSH list late");
    send(&proxy, &mut bound, "EXEC");
    // Another one says that it is master; nobody follows it.
    call(&mut stage.nodes[1].connect().expect("a replica"), "REPLICAOF NO ONE");
    wait("a doubt", || match proxy.set()["shards"][0]["held_for"].as_str() {
        Some("conflict") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    stage.nodes[0].cont();
    assert!(plain.read().expect("an answer").int().is_some());
    assert_eq!(bound.read().expect("an answer").items().len(), 1);
    assert_eq!(call(&mut plain, "LLEN list").int(), Some(3));
}
