//! After a switch redweir says what the new master does not have, from offsets, and claims no more than they show.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::link::{Faults, Link};
use crate::support::{Client, Counts, Proxy, Reply, Stage, call, connect, plain_stage, settle, turn, wait};

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

/// A master, a replica behind a link, and redweir in front; the replica has everything.
struct Scene {
    stage: Stage,
    link: Link,
    proxy: Proxy,
}

impl Scene {
    fn start(flags: &[&str]) -> Scene {
        let mut stage = plain_stage(1);
        let link = Link::to(stage.nodes[0].port);
        // Its own PINGs would move its offset between two writes, and what lies on both sides of one is uncertain.
        call(&mut stage.nodes[0].connect().expect("the master"), "CONFIG SET repl-ping-replica-period 3600");
        call(&mut stage.nodes[1].connect().expect("a replica"), &format!("REPLICAOF 127.0.0.1 {}", link.port));
        let proxy = Proxy::start(&stage, flags);
        proxy.wait_readers(1);
        settle(&mut stage, 0);
        Scene { stage, link, proxy }
    }

    /// The replica gets nothing from here on.
    fn freeze(&self) {
        self.link.set(Faults { stall: true, ..Faults::default() });
    }

    /// The master dies with what only it had, and the replica takes over. Returns the last offset that both had.
    fn fail_over(&mut self) -> u64 {
        self.link.set(Faults { refuse: true, ..Faults::default() });
        self.link.cut();
        self.stage.nodes[0].kill();
        promote(&self.stage, &self.proxy)
    }

    /// Lost and uncertain writes, once they are counted.
    fn writes(&self) -> (u64, u64) {
        writes(&self.proxy)
    }

    /// How many of these keys the new master does not have.
    fn missing(&self, keys: &[String]) -> u64 {
        let mut new = self.stage.nodes[1].connect().expect("the new master");
        keys.iter().filter(|key| call(&mut new, &format!("EXISTS {key}")).int() == Some(0)).count() as u64
    }
}

fn writes(proxy: &Proxy) -> (u64, u64) {
    let mut found = None;
    wait("the count", || {
        let last = last(proxy);
        found = last["lost_writes"].as_u64().zip(last["uncertain_writes"].as_u64());
        if found.is_some() { Ok(()) } else { Err(last.to_string()) }
    });
    let (lost, uncertain) = found.expect("counted");
    let shown = |name: &str| proxy.metric(name, &[]);
    assert_eq!(shown("redweir_lost_writes_total"), lost as f64);
    assert_eq!(shown("redweir_uncertain_writes_total"), uncertain as f64);
    (lost, uncertain)
}

fn set(client: &mut Client, key: &str) {
    assert_eq!(call(client, &format!("SET {key} value")).text(), "OK");
}

#[test]
fn the_bytes_that_the_new_master_lacks_are_those_of_the_old_ones_stream() {
    let _turn = turn();
    let mut scene = Scene::start(&[]);
    assert_eq!(last(&scene.proxy), Value::Null);
    scene.freeze();
    let mut client = scene.proxy.client();
    (0..50).for_each(|n| set(&mut client, &format!("lost:{n}")));
    let had = seen(&scene.stage, &scene.proxy);
    let common = scene.fail_over();
    let bytes = had - common;
    assert!(bytes > 50 * 30, "{bytes}");
    assert_eq!(scene.writes(), (50, 0));
    let (from, to) = (scene.stage.nodes[0].address(), scene.stage.nodes[1].address());
    let expected = json!({
        "from": from, "to": to, "kept": "part", "lost_bytes_at_least": bytes, "lost_writes": 50, "uncertain_writes": 0
    });
    assert_eq!(last(&scene.proxy), expected);
    let proxy = &scene.proxy;
    assert_eq!(proxy.metric("redweir_lost_bytes_total", &[]), bytes as f64);
    assert_eq!((switches(proxy, "part"), switches(proxy, "seen")), (1.0, 0.0));
    let told = call(&mut proxy.client(), "REDWEIR TOPOLOGY");
    let told: Vec<String> = told.items().iter().map(Reply::text).collect();
    let line = format!("kept part, lost bytes {bytes} at least, acknowledged writes lost 50, uncertain 0");
    assert!(told.iter().any(|text| text.contains(&line)), "{told:?}");
}

/// Some clients write, one by one and in pipelines, with errors and reads in between; the master dies in the middle. What was acknowledged and is not on the new master is what redweir says.
fn lost_is_told(flags: &[&str], frozen: bool) {
    let _turn = turn();
    let mut scene = Scene::start(flags);
    let stop = AtomicBool::new(false);
    let address = format!("127.0.0.1:{}", scene.proxy.port);
    let write = |who: usize| {
        let mut client = connect(&address);
        let mut acknowledged = Vec::new();
        assert_eq!(call(&mut client, &format!("SET text{{{who}}} x")).text(), "OK");
        for n in 0.. {
            let keys: Vec<String> = (0..=who * 3).map(|i| format!("lost:{who}:{n}:{i}")).collect();
            let text = format!("text{{{who}}}");
            let mut commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, "value"]).collect();
            if who > 0 {
                commands.push(vec!["GET", &keys[0]]);
            }
            // Refused: among reads nobody looks which of the replies was an error.
            if n % 16 == 0 {
                commands.push(vec!["LPUSH", &text, "x"]);
            }
            let Ok(replies) = client.pipeline(&commands) else { break };
            let done = keys.iter().zip(&replies).filter(|(_, reply)| reply.text() == "OK");
            acknowledged.extend(done.map(|(key, _)| key.clone()));
            if stop.load(Relaxed) {
                break;
            }
        }
        acknowledged
    };
    let (acknowledged, counted) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3).map(|who| scope.spawn(move || write(who))).collect();
        std::thread::sleep(Duration::from_millis(100));
        if frozen {
            scene.freeze();
        }
        std::thread::sleep(Duration::from_millis(100));
        scene.fail_over();
        let counted = scene.writes();
        stop.store(true, Relaxed);
        let keys: Vec<String> = writers.into_iter().flat_map(|w| w.join().expect("a writer")).collect();
        (keys, counted)
    });
    let truth = scene.missing(&acknowledged);
    let (lost, uncertain) = counted;
    assert!((truth > 0) >= frozen && (acknowledged.len() as u64) > truth, "{truth} of {}", acknowledged.len());
    assert!(lost <= truth && truth <= lost + uncertain, "{lost} <= {truth} <= {lost} + {uncertain}");
    assert!(uncertain <= acknowledged.len() as u64 / 4, "{uncertain} of {}", acknowledged.len());
}

#[test]
fn how_many_acknowledged_writes_are_lost_is_told_at_level_session() {
    lost_is_told(&[], true);
}

#[test]
fn how_many_acknowledged_writes_are_lost_is_told_at_level_eventual() {
    lost_is_told(&["--consistency", "eventual"], true);
}

#[test]
fn how_many_acknowledged_writes_are_lost_is_told_where_offsets_come_with_their_lineage() {
    lost_is_told(&["--strict", "on", "--workers", "2"], true);
}

#[test]
fn beside_a_replica_that_keeps_up_little_is_lost_or_uncertain() {
    lost_is_told(&[], false);
}

#[test]
fn a_planned_switch_costs_no_acknowledged_write_and_proves_it() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    (0..200).for_each(|n| set(&mut client, &format!("kept:{n}")));
    settle(&mut stage, 0);
    call(&mut stage.nodes[0].connect().expect("the master"), "FAILOVER");
    wait("the switch", || if last(&proxy).is_null() { Err("none".into()) } else { Ok(()) });
    assert_eq!(writes(&proxy), (0, 0));
    assert_eq!(last(&proxy)["kept"], json!("all"));
}

/// Clients by what they did: before the replica was cut off, after that, only reads, and on connections of their own.
fn closed(how: &str) -> [bool; 6] {
    let _turn = turn();
    let mut scene = Scene::start(&["--on-lost-writes", how]);
    let mut clients: Vec<Client> = (0..6).map(|_| scene.proxy.client()).collect();
    let apart = |client: &mut Client, key: &str| {
        for line in ["MULTI".to_owned(), format!("SET {key} value"), "EXEC".to_owned()] {
            assert!(!call(client, &line).is_error(), "{line}");
        }
    };
    set(&mut clients[0], "before");
    apart(&mut clients[1], "before:apart");
    set(&mut clients[2], "both:before");
    // What they wrote has an offset when the replica's is known to be that far.
    settle(&mut scene.stage, 0);
    std::thread::sleep(Duration::from_millis(50));
    scene.freeze();
    call(&mut clients[0], "GET before");
    set(&mut clients[2], "after");
    set(&mut clients[3], "after:too");
    apart(&mut clients[4], "after:apart");
    call(&mut clients[5], "GET nothing");
    scene.fail_over();
    assert_eq!(scene.writes(), (3, 0));
    let ended = clients.iter_mut().map(|client| client.call(&["PING"]).is_err()).collect::<Vec<_>>();
    let count = ended.iter().filter(|ended| **ended).count();
    assert_eq!(scene.proxy.metric("redweir_loss_closed_total", &[]), count as f64);
    ended.try_into().expect("six")
}

#[test]
fn clients_whose_acknowledged_writes_are_lost_are_closed_and_no_others() {
    assert_eq!(closed("close"), [false, false, true, true, true, false]);
}

#[test]
fn clients_are_left_alone_where_nobody_said_otherwise() {
    assert_eq!(closed("ignore"), [false; 6]);
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

#[test]
fn wait_counts_nobody_for_writes_that_are_lost() {
    let _turn = turn();
    let mut scene = Scene::start(&[]);
    let [mut bereft, mut other] = [scene.proxy.client(), scene.proxy.client()];
    assert_eq!(call(&mut other, "GET lost"), Reply::Nil);
    scene.freeze();
    set(&mut bereft, "lost");
    scene.fail_over();
    scene.stage.nodes[0].resume().expect("started");
    let port = scene.stage.nodes[1].port;
    wait("it to follow", || {
        let reply =
            scene.stage.nodes[0].connect().and_then(|mut c| c.call(&["REPLICAOF", "127.0.0.1", &port.to_string()]));
        reply.map(drop).map_err(|e| e.to_string())
    });
    scene.proxy.wait_readers(1);
    assert_eq!(scene.missing(&["lost".into()]), 1, "nothing is tested");
    assert_eq!(call(&mut bereft, "WAIT 1 10000"), Reply::Int(0));
    // What it writes from then on is counted again, and so is what others write.
    set(&mut bereft, "lost");
    assert_eq!(call(&mut bereft, "WAIT 1 10000"), Reply::Int(1));
    set(&mut other, "other");
    assert_eq!(call(&mut other, "WAIT 1 10000"), Reply::Int(1));
}

/// A transaction on a connection of its own whose answer waited for copies in vain.
#[test]
fn what_was_answered_without_its_copies_is_its_clients_to_lose() {
    let _turn = turn();
    let flags = ["--acks", "1", "--acks-timeout", "200ms", "--acks-on-timeout", "answer", "--on-lost-writes", "close"];
    let mut scene = Scene::start(&flags);
    let [mut bereft, mut other] = [scene.proxy.client(), scene.proxy.client()];
    call(&mut other, "GET nothing");
    scene.freeze();
    for line in ["MULTI", "SET lost value", "EXEC"] {
        assert!(!call(&mut bereft, line).is_error(), "{line}");
    }
    scene.fail_over();
    let (lost, uncertain) = scene.writes();
    assert_eq!(scene.missing(&["lost".into()]), 1, "nothing is tested");
    assert_eq!(lost + uncertain, 1);
    assert_eq!([bereft, other].map(|mut client| client.call(&["PING"]).is_err()), [true, false]);
}

/// While a script runs the master answers no ROLE; after it the replica is read from again.
#[test]
fn a_busy_master_is_asked_again() {
    let _turn = turn();
    let mut scene = Scene::start(&[]);
    let mut direct = scene.stage.nodes[0].connect().expect("the master");
    call(&mut direct, "CONFIG SET busy-reply-threshold 10");
    let mut client = scene.proxy.client();
    set(&mut client, "n");
    let script = std::thread::spawn(move || direct.call(&["EVAL", "while true do end", "0"]).is_ok());
    wait("the script", || match call(&mut client, "SET n value").text() {
        busy if busy.starts_with("BUSY") => Ok(()),
        other => Err(other),
    });
    (0..10).for_each(|_| drop(call(&mut client, "SET n value")));
    call(&mut scene.stage.nodes[0].connect().expect("the master"), "SCRIPT KILL");
    assert!(script.join().expect("a thread"));
    set(&mut client, "n");
    settle(&mut scene.stage, 0);
    Counts::reset(&scene.stage);
    wait("a read at the replica", || match Counts::read(&scene.stage).on(1, "get") {
        0 => Err(call(&mut client, "GET n").text()),
        _ => Ok(()),
    });
}

/// Connections are retired while others' writes on them are acknowledged and not asked behind yet.
#[test]
fn what_a_retired_connection_acknowledged_is_not_uncertain_for_ever() {
    let _turn = turn();
    let mut scene = Scene::start(&["--on-lost-writes", "close"]);
    let mut clients: Vec<Client> = (0..8).map(|_| scene.proxy.client()).collect();
    let mut caller = scene.proxy.client();
    let sha = call(&mut caller, "SCRIPT LOAD return(1)").text();
    let connects = || scene.proxy.metric("redweir_upstream_connects_total", &[]);
    let before = connects();
    for round in 0..40 {
        call(&mut scene.stage.nodes[0].connect().expect("the master"), "SCRIPT FLUSH");
        for client in &mut clients {
            set(client, &format!("n:{round}"));
        }
        assert_eq!(call(&mut caller, &format!("EVALSHA {sha} 0")), Reply::Int(1));
    }
    assert!(connects() >= before + 32.0, "no connection was retired");
    settle(&mut scene.stage, 0);
    std::thread::sleep(Duration::from_millis(300));
    scene.fail_over();
    assert_eq!(scene.writes(), (0, 0));
    assert!(clients.iter_mut().all(|client| client.call(&["PING"]).is_ok()));
}
