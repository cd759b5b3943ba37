//! Masters and replicas die, hang, come, go and lie, under a load that knows every value it must read and numbers every write.

use redweir::demo::ledger::Verdict;
use redweir::demo::load::{Load, Tally};

use crate::support::{Counts, Plan, Proxy, Reply, Stage, call, plain_stage, stage, turn, wait};

/// Writers of the load: each has at most one write on the wire.
const WRITERS: u64 = 4;

/// A load that has begun, over a stage whose replicas have what it reads.
#[track_caller]
fn load(stage: &mut Stage, proxy: &Proxy) -> Load {
    let address = format!("127.0.0.1:{}", proxy.port);
    Load::prepare(&address).expect("values to read");
    crate::support::settle(stage, 0);
    let load = Load::start(&address, &stage.nodes[0].address());
    more(&load, 50);
    load
}

/// Waits until so many more writes (and ten times the reads) were acknowledged.
#[track_caller]
fn more(load: &Load, writes: u64) {
    let (reads_before, writes_before) = load.tallies();
    wait("more replies to the load", || {
        let (reads, written) = load.tallies();
        match written.done >= writes_before.done + writes && reads.done >= reads_before.done + 5 * writes {
            true => Ok(()),
            false => Err(format!("{reads:?} {written:?}")),
        }
    });
}

#[track_caller]
fn wait_master(proxy: &Proxy, address: &str) {
    wait("the new master", || match master(proxy) {
        Some(found) if found == address => Ok(()),
        other => Err(format!("{other:?}, not {address}")),
    });
}

fn master(proxy: &Proxy) -> Option<String> {
    let set = proxy.set();
    set["shards"][0]["master"].as_str().or(set["master"].as_str()).map(str::to_owned)
}

/// Waits until redweir names another master than `old`, and returns it.
#[track_caller]
fn wait_other_master(proxy: &Proxy, old: &str) -> String {
    let mut found = None;
    wait("another master", || {
        found = master(proxy).filter(|m| m != old);
        found.as_ref().map(|_| ()).ok_or_else(|| proxy.set().to_string())
    });
    found.unwrap_or_default()
}

/// No read failed; only writes on the wire did, without an answer; nothing acknowledged is missing or doubled.
#[track_caller]
fn check(reads: &Tally, writes: &Tally, verdict: Verdict, on_the_wire: u64) {
    assert_eq!((reads.failed, &reads.errors), (0, &Default::default()), "reads");
    assert!(writes.failed <= on_the_wire, "at most {on_the_wire} writes were on the wire: {writes:?}");
    for text in writes.errors.keys() {
        assert!(text.starts_with("connection lost"), "a write on the wire ends without an answer, not with: {text}");
    }
    assert_eq!((verdict.lost, verdict.twice), (0, 0), "{verdict:?} {writes:?}");
    assert!(verdict.unacknowledged <= writes.failed, "{verdict:?} {writes:?}");
}

#[test]
fn a_killed_master_costs_no_read_and_only_the_writes_on_the_wire() {
    let _turn = turn();
    let mut stage = stage(Plan::default());
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(3);
    let load = load(&mut stage, &proxy);
    let old = stage.nodes[0].address();
    stage.nodes[0].kill();
    let new = wait_other_master(&proxy, &old);
    more(&load, 100);
    assert!(proxy.metric("redweir_failovers_total", &[]) >= 1.0);
    assert_eq!(stage.nodes[stage.master().expect("a master")].address(), new);
    // The old one comes back as a master: nobody may notice, and it must never be written to.
    stage.nodes[0].resume().expect("started");
    wait("the old master as a replica in rotation", || {
        let nodes = proxy.nodes();
        let old = nodes.iter().find(|n| n["address"] == old.as_str());
        match old {
            Some(n) if n["state"] == "replica" && n["in_rotation"] == true => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    more(&load, 50);
    // On a machine that is busy enough Sentinel may have failed over again.
    let last = master(&proxy).unwrap_or(new);
    let (reads, writes, verdict) = load.finish(&last).expect("the master's word");
    check(&reads, &writes, verdict, WRITERS);
}

#[test]
fn a_hung_master_costs_no_read_and_only_the_writes_on_the_wire() {
    let _turn = turn();
    let mut stage = stage(Plan::default());
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(3);
    let load = load(&mut stage, &proxy);
    let old = stage.nodes[0].address();
    stage.nodes[0].stop();
    let new = wait_other_master(&proxy, &old);
    more(&load, 100);
    // Awake again it still thinks that it is the master.
    stage.nodes[0].cont();
    more(&load, 50);
    let last = master(&proxy).unwrap_or(new);
    let (reads, writes, verdict) = load.finish(&last).expect("the master's word");
    check(&reads, &writes, verdict, WRITERS);
}

#[test]
fn a_promotion_by_hand_without_sentinel_is_followed() {
    let _turn = turn();
    let mut stage = plain_stage(3);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(3);
    let load = load(&mut stage, &proxy);
    stage.nodes[0].kill();
    wait("writes held", || match proxy.set().to_string().contains("\"held\"") {
        true => Ok(()),
        false => Err(proxy.set().to_string()),
    });
    // The most advanced one, as a careful operator would choose.
    let offset = |n: usize| stage.info(n, "slave_repl_offset").ok().and_then(|o| o.parse::<u64>().ok()).unwrap_or(0);
    let chosen = (1..=3).max_by_key(|n| offset(*n)).unwrap_or(1);
    let port = stage.nodes[chosen].port;
    call(&mut stage.nodes[chosen].connect().expect("it"), "REPLICAOF NO ONE");
    for other in (1..=3).filter(|n| *n != chosen) {
        call(&mut stage.nodes[other].connect().expect("a replica"), &format!("REPLICAOF 127.0.0.1 {port}"));
    }
    wait_master(&proxy, &stage.nodes[chosen].address());
    more(&load, 100);
    proxy.wait_readers(2);
    let (reads, writes, verdict) = load.finish(&stage.nodes[chosen].address()).expect("the master's word");
    check(&reads, &writes, verdict, WRITERS);
}

#[test]
fn without_sentinel_redweir_itself_replaces_a_killed_master_where_it_may() {
    let _turn = turn();
    let mut stage = plain_stage(3);
    let proxy = Proxy::start(&stage, &["--promote", "on"]);
    proxy.wait_readers(3);
    let load = load(&mut stage, &proxy);
    let old = stage.nodes[0].address();
    stage.nodes[0].kill();
    let new = wait_other_master(&proxy, &old);
    more(&load, 100);
    proxy.wait_readers(2);
    // Back as a master, and made a replica.
    stage.nodes[0].resume().expect("started");
    proxy.wait_readers(3);
    more(&load, 50);
    let (reads, writes, verdict) = load.finish(&new).expect("the master's word");
    check(&reads, &writes, verdict, WRITERS);
}

#[test]
fn a_planned_failover_between_two_live_nodes_costs_nothing() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let to = stage.nodes[1].port;
    let reply = call(&mut stage.nodes[0].connect().expect("the master"), &format!("FAILOVER TO 127.0.0.1 {to}"));
    assert!(!reply.is_error(), "{reply:?}");
    wait_master(&proxy, &stage.nodes[1].address());
    more(&load, 100);
    let (reads, writes, verdict) = load.finish(&stage.nodes[1].address()).expect("the master's word");
    check(&reads, &writes, verdict, 0);
}

#[test]
fn a_killed_replica_costs_nothing_and_is_read_from_again_when_it_is_back() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    for _ in 0..3 {
        stage.nodes[1].kill();
        proxy.wait_readers(1);
        more(&load, 20);
        stage.nodes[1].resume().expect("started");
        proxy.wait_readers(2);
        Counts::reset(&stage);
        wait("reads on the replica that is back", || match Counts::read(&stage).on(1, "get") {
            0 => Err("none".into()),
            _ => Ok(()),
        });
    }
    let (reads, writes, verdict) = load.finish(&stage.nodes[0].address()).expect("the master's word");
    check(&reads, &writes, verdict, 0);
}

#[test]
fn a_replica_that_hangs_costs_nothing() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    stage.nodes[1].stop();
    proxy.wait_readers(1);
    more(&load, 50);
    stage.nodes[1].cont();
    proxy.wait_readers(2);
    more(&load, 50);
    let (reads, writes, verdict) = load.finish(&stage.nodes[0].address()).expect("the master's word");
    check(&reads, &writes, verdict, 0);
}

#[test]
fn a_replica_that_is_added_gets_its_part_of_the_reads() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    let added = stage.spawn_replica().expect("a replica");
    proxy.wait_readers(2);
    Counts::reset(&stage);
    wait("reads on the new replica", || match Counts::read(&stage).on(added, "get") {
        0 => Err("none".into()),
        _ => Ok(()),
    });
    let (reads, writes, verdict) = load.finish(&stage.nodes[0].address()).expect("the master's word");
    check(&reads, &writes, verdict, 0);
}

#[test]
fn a_replica_that_comes_back_at_another_port_is_found_there() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let (old, port) = (stage.nodes[1].address(), redweir::demo::node::free_port().expect("a port"));
    let mut replica = stage.nodes[1].connect().expect("a replica");
    for line in [&format!("CONFIG SET port {port}"), "CONFIG REWRITE"] {
        assert_eq!(call(&mut replica, line).text(), "OK");
    }
    stage.nodes[1].kill();
    proxy.wait_readers(0);
    stage.nodes[1].port = port;
    stage.nodes[1].resume().expect("started");
    proxy.wait_readers(1);
    let state = |address: &str| proxy.nodes().iter().find(|n| n["address"] == address).map(|n| n["state"].clone());
    assert_eq!(state(&old), Some("down".into()));
    assert_eq!(state(&stage.nodes[1].address()), Some("replica".into()));
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "GET none"), Reply::Nil);
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.on(1, "get")), (0, 1));
}

#[test]
fn a_sentinel_that_still_names_the_dead_master_is_not_believed() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let honest = stage.sentinel_addresses().join(",");
    let (old, old_port) = (stage.nodes[0].address(), stage.nodes[0].port);
    let first = Proxy::start(&stage, &[]);
    stage.nodes[0].kill();
    let new = wait_other_master(&first, &old);
    wait("the word of the honest Sentinels", || {
        for sentinel in &stage.sentinels {
            let reply =
                sentinel.connect().and_then(|mut c| c.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]));
            let told = reply.map_err(|e| e.to_string())?;
            if told.items().iter().map(|i| i.text()).collect::<Vec<_>>().join(":") != new {
                return Err(format!("{told:?}"));
            }
        }
        Ok(())
    });
    // Knows only the old address, hears from nobody, and is asked first.
    let liar = stage.spawn_sentinel(old_port).expect("a Sentinel");
    let source =
        ["--sentinel", &format!("{liar},{honest}"), "--master-name", "mymaster", "--log", "warn"].map(String::from);
    let second = Proxy::start_unready(&source, &[]);
    second.wait_ready();
    assert_eq!(master(&second).as_deref(), Some(new.as_str()));
    assert_eq!(call(&mut second.client(), "SET told truth").text(), "OK");
    // It comes back as a master of the old time; the liar still speaks for it.
    stage.nodes[0].resume().expect("started");
    assert_eq!(call(&mut second.client(), "SET told again").text(), "OK");
    assert_eq!(master(&second).as_deref(), Some(new.as_str()));
    assert_eq!(
        call(&mut stage.nodes[stage.master().expect("a master")].connect().expect("it"), "GET told").text(),
        "again"
    );
}

#[test]
fn a_planned_switch_by_sentinel_loses_nothing() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let old = stage.nodes[0].address();
    let reply = call(&mut stage.sentinels[0].connect().expect("a Sentinel"), "SENTINEL FAILOVER mymaster");
    assert!(!reply.is_error(), "{reply:?}");
    let new = wait_other_master(&proxy, &old);
    more(&load, 100);
    let (reads, writes, verdict) = load.finish(&new).expect("the master's word");
    // redweir stops before Sentinel promotes, and what the old master said until then stands.
    check(&reads, &writes, verdict, 0);
}
