//! After a switch redweir says what the new master does not have, from offsets, and claims no more than they show.

use serde_json::{Value, json};

use crate::support::link::{Faults, Link};
use crate::support::{Proxy, Stage, call, plain_stage, settle, turn, wait};

fn last(proxy: &Proxy) -> Value {
    proxy.set()["shards"][0]["last_switch"].clone()
}

fn switches(proxy: &Proxy, kept: &str) -> f64 {
    proxy.metric("redweir_switches_total", &[&format!("kept=\"{kept}\"")])
}

fn number(stage: &Stage, n: usize, field: &str) -> u64 {
    stage.info(n, field).expect("INFO").parse().expect("a number")
}

/// redweir's probes have seen all that the master has.
fn seen(stage: &Stage, proxy: &Proxy) -> u64 {
    // Its own PINGs would move it on.
    call(&mut stage.nodes[0].connect().expect("the master"), "CONFIG SET repl-ping-replica-period 3600");
    let mut offset = 0;
    wait("the probe", || {
        offset = number(stage, 0, "master_repl_offset");
        let shown = proxy.nodes().iter().filter(|n| n["role"] == "master").find_map(|n| n["offset"].as_u64());
        if shown == Some(offset) { Ok(()) } else { Err(format!("{shown:?} of {offset}")) }
    });
    offset
}

fn promote(stage: &Stage, proxy: &Proxy) -> u64 {
    call(&mut stage.nodes[1].connect().expect("a replica"), "REPLICAOF NO ONE");
    wait("the switch", || if last(proxy).is_null() { Err("none".into()) } else { Ok(()) });
    number(stage, 1, "second_repl_offset") - 1
}

#[test]
fn the_bytes_that_the_new_master_lacks_are_those_of_the_old_ones_stream() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let link = Link::to(stage.nodes[0].port);
    call(&mut stage.nodes[1].connect().expect("a replica"), &format!("REPLICAOF 127.0.0.1 {}", link.port));
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    settle(&mut stage, 0);
    assert_eq!(last(&proxy), Value::Null);
    link.set(Faults { stall: true, ..Faults::default() });
    let mut client = proxy.client();
    for n in 0..50 {
        assert_eq!(call(&mut client, &format!("SET lost:{n} value")).text(), "OK");
    }
    let had = seen(&stage, &proxy);
    link.set(Faults { refuse: true, ..Faults::default() });
    link.cut();
    stage.nodes[0].kill();
    let common = promote(&stage, &proxy);
    let bytes = had - common;
    assert!(bytes > 50 * 30, "{bytes}");
    let (from, to) = (stage.nodes[0].address(), stage.nodes[1].address());
    assert_eq!(last(&proxy), json!({"from": from, "to": to, "kept": "part", "lost_bytes_at_least": bytes}));
    assert_eq!(proxy.metric("redweir_lost_bytes_total", &[]), bytes as f64);
    assert_eq!((switches(&proxy, "part"), switches(&proxy, "seen")), (1.0, 0.0));
}

#[test]
fn a_new_master_that_has_all_that_was_seen_is_said_to_have_that_and_no_more() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    call(&mut proxy.client(), "SET n 1");
    settle(&mut stage, 0);
    seen(&stage, &proxy);
    stage.nodes[0].kill();
    promote(&stage, &proxy);
    assert_eq!((&last(&proxy)["kept"], &last(&proxy)["lost_bytes_at_least"]), (&json!("seen"), &json!(0)));
    assert_eq!(proxy.metric("redweir_lost_bytes_total", &[]), 0.0);
    assert_eq!(switches(&proxy, "seen"), 1.0);
}

#[test]
fn of_a_master_of_another_line_nobody_says_what_was_lost() {
    let _turn = turn();
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    call(&mut proxy.client(), "SET n 1");
    // It comes back without its data, and with another replication id.
    stage.nodes[0].kill();
    stage.nodes[0].resume().expect("started");
    wait("the switch", || if last(&proxy).is_null() { Err("none".into()) } else { Ok(()) });
    assert_eq!((&last(&proxy)["kept"], &last(&proxy)["lost_bytes_at_least"]), (&json!("unknown"), &Value::Null));
    assert_eq!((switches(&proxy, "unknown"), switches(&proxy, "seen")), (1.0, 0.0));
}
