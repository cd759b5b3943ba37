//! Everything redweir decides can be seen: metrics, topology, health.

use std::collections::HashSet;

use crate::support::{Plan, Proxy, Reply, call, http, plain_stage, settle, stage, turn, wait};

#[test]
fn health_is_alive_and_readiness_is_a_verified_master() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let status = |path: &str| http::get(proxy.admin, path).map(|(status, _)| status);
    assert_eq!((status("/healthz"), status("/readyz"), status("/nothing")), (Some(200), Some(200), Some(404)));
    stage.nodes[0].kill();
    wait("no longer ready", || match http::get(proxy.admin, "/readyz") {
        Some((503, body)) if !body.trim().is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(status("/healthz"), Some(200));
}

#[test]
fn topology_shows_the_master_and_each_replica_in_rotation() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    settle(&mut stage, 0);
    let set = proxy.set();
    let shard = if set["shards"].is_array() { &set["shards"][0] } else { &set };
    assert_eq!((&shard["master"], &shard["writes"]), (&stage.nodes[0].address().into(), &"open".into()), "{set}");
    assert!(shard["term"].as_u64() >= Some(1) && set["epoch"].as_u64() >= Some(1), "{set}");
    let nodes = proxy.nodes();
    assert_eq!(nodes.len(), 3);
    for (n, address) in stage.node_addresses().iter().enumerate() {
        let node = nodes.iter().find(|node| node["address"] == address.as_str()).expect("every node");
        let state = if n == 0 { "master" } else { "replica" };
        assert_eq!((&node["state"], &node["in_rotation"]), (&state.into(), &true.into()), "{node}");
        assert!(node["offset"].as_i64() >= Some(0), "{node}");
    }
}

#[test]
fn requests_are_counted_by_node_kind_and_reason() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    for n in 0..50 {
        call(&mut client, &format!("SET k{n} v"));
    }
    // Who wrote asks the master first, so another one reads.
    let mut client = proxy.client();
    for n in 0..100 {
        call(&mut client, &format!("GET k{n}"));
    }
    call(&mut client, "NOSUCH");
    call(&mut client, "TOUCH k1");
    let name = "redweir_requests_total";
    let (master, replica) = (stage.nodes[0].address(), stage.nodes[1].address());
    let count = |node: &str, labels: &[&str]| {
        let node = format!("node=\"{node}\"");
        let mut all = vec![node.as_str()];
        all.extend(labels);
        proxy.metric(name, &all)
    };
    assert_eq!(count(&master, &["kind=\"write\"", "reason=\"master\""]), 50.0);
    assert_eq!(count(&replica, &["kind=\"read\"", "reason=\"replica\""]), 100.0);
    assert_eq!(count(&master, &["reason=\"unknown\""]), 1.0);
    assert_eq!(count(&master, &["kind=\"master_read\""]), 1.0);
    assert_eq!(proxy.metric(name, &[]), 152.0);
    for histogram in ["request_seconds", "upstream_seconds"] {
        let part = |part: &str, labels: &[&str]| proxy.metric(&format!("redweir_{histogram}_{part}"), labels);
        assert_eq!((part("count", &[]), part("bucket", &["le=\"+Inf\""])), (152.0, 152.0), "{histogram}");
        assert!(part("sum", &[]) > 0.0, "{histogram}");
    }
}

#[test]
fn a_node_that_takes_its_time_is_seen_in_its_latency() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--down-after", "60s"]);
    let mut client = proxy.client();
    call(&mut client, "SET k 1");
    stage.nodes[0].stop();
    client.send(b"SET k 2\r\n").expect("sent");
    std::thread::sleep(std::time::Duration::from_millis(300));
    stage.nodes[0].cont();
    assert_eq!(client.read().expect("a reply").text(), "OK");
    for histogram in ["request_seconds", "upstream_seconds"] {
        let sum = proxy.metric(&format!("redweir_{histogram}_sum"), &[]);
        assert!(sum > 0.25, "{histogram}: {sum}");
        let below = |le: &str| proxy.metric(&format!("redweir_{histogram}_bucket"), &[&format!("le=\"{le}\"")]);
        assert_eq!((below("+Inf"), below("17.179869184")), (2.0, 2.0));
        assert!(below("0.134217728") < 2.0, "{histogram}");
    }
}

#[test]
fn nodes_connections_and_bytes_are_measured() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    call(&mut client, "SET a 1");
    settle(&mut stage, 0);
    assert_eq!(proxy.metric("redweir_node_up", &[]), 3.0);
    assert_eq!(proxy.metric("redweir_node_in_rotation", &[]), 3.0);
    assert_eq!(proxy.metric("redweir_sessions", &[]), 1.0);
    assert_eq!(proxy.metric("redweir_connections_accepted_total", &[]), 1.0);
    assert!(proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]) > 0.0);
    wait("replicas without lag", || match proxy.metric("redweir_node_lag_bytes", &[]) {
        0.0 => Ok(()),
        lag => Err(format!("{lag} bytes")),
    });
    drop(client);
    wait("the session's end", || match proxy.metric("redweir_sessions", &[]) {
        0.0 => Ok(()),
        n => Err(n.to_string()),
    });
}

#[test]
fn lag_is_seen_in_bytes_and_in_seconds() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--max-lag", "500ms"]);
    proxy.wait_readers(2);
    // Not answering, so not measurable: down. Answering but not applying: lag. A script that is slow there only would block its
    // replies, too; so the link is cut, which leaves the replica answering at an old offset.
    call(&mut stage.nodes[1].connect().expect("a replica"), "REPLICAOF 127.0.0.1 1");
    proxy.wait_readers(1);
    let mut client = proxy.client();
    for n in 0..100 {
        call(&mut client, &format!("SET k{n} value"));
    }
    let node = format!("node=\"{}\"", stage.nodes[1].address());
    wait("lag", || {
        let (bytes, seconds) =
            (proxy.metric("redweir_node_lag_bytes", &[&node]), proxy.metric("redweir_node_lag_seconds", &[&node]));
        if bytes > 1000.0 && seconds > 0.0 { Ok(()) } else { Err(format!("{bytes} bytes, {seconds} s")) }
    });
    let master = stage.nodes[0].port;
    call(&mut stage.nodes[1].connect().expect("a replica"), &format!("REPLICAOF 127.0.0.1 {master}"));
    proxy.wait_readers(2);
    settle(&mut stage, 0);
}

#[test]
fn a_failover_is_counted_once_with_its_cause_and_its_time() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let all = proxy.metric("redweir_failovers_total", &[]);
    let first = proxy.metric("redweir_failovers_total", &["cause=\"start\""]);
    assert_eq!((all, first), (1.0, 1.0));
    stage.nodes[0].kill();
    call(&mut stage.nodes[1].connect().expect("a replica"), "REPLICAOF NO ONE");
    let port = stage.nodes[1].port;
    call(&mut stage.nodes[2].connect().expect("a replica"), &format!("REPLICAOF 127.0.0.1 {port}"));
    wait("the failover in the metrics", || match proxy.metric("redweir_failovers_total", &["cause=\"detector\""]) {
        1.0 => Ok(()),
        n => Err(n.to_string()),
    });
    assert_eq!(proxy.metric("redweir_failover_seconds_count", &["phase=\"total\"", "cause=\"detector\""]), 1.0);
    assert_eq!(proxy.metric("redweir_failovers_total", &[]), 2.0);
}

#[test]
fn a_failover_under_load_is_seen_in_all_its_phases_and_whatever_waited_is_accounted_for() {
    const CLIENTS: usize = 8;
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--hold", "60s", "--unknown-outcome", "error"]);
    proxy.wait_readers(2);
    let over = std::sync::atomic::AtomicBool::new(false);
    let total = |name: &str, labels: &[&str]| proxy.metric(&format!("redweir_{name}"), labels);
    let term = || proxy.set()["shards"][0]["term"].as_u64().unwrap_or_default();
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (over, mut client) = (&over, proxy.client());
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    call(&mut client, &format!("INCR n{n}"));
                }
            });
        }
        wait("a load", || match total("requests_total", &["kind=\"write\""]) {
            n if n > 500.0 => Ok(()),
            n => Err(n.to_string()),
        });
        assert_eq!((total("held_total", &[]), total("failover_seconds_count", &[])), (0.0, 0.0));
        stage.nodes[0].kill();
        wait("another master", || if term() == 2 { Ok(()) } else { Err(term().to_string()) });
        wait("the word of all Sentinels", || match total("sentinel_events_total", &["event=\"+switch-master\""]) {
            3.0 => Ok(()),
            n => Err(n.to_string()),
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let seconds =
        |phase: &str, part: &str| total(&format!("failover_seconds_{part}"), &[&format!("phase=\"{phase}\"")]);
    assert_eq!(["noticed", "headless", "total"].map(|phase| seconds(phase, "count")), [1.0; 3]);
    let [noticed, headless, whole] = ["noticed", "headless", "total"].map(|phase| seconds(phase, "sum"));
    assert!(headless > 0.5, "down-after is a second: {headless}");
    assert!((noticed + headless - whole).abs() < 0.001, "{noticed} and {headless} are not {whole}");
    let held = total("held_total", &[]);
    assert!(held >= CLIENTS as f64, "{held}");
    assert_eq!(held, total("released_total", &[]) + total("refused_total", &["reason=\"hold\""]));
    assert_eq!(["holding_sessions", "holding_bytes"].map(|name| total(name, &[])), [0.0; 2]);
    wait("the sessions' end", || match total("connections_closed_total", &[]) {
        n if n == CLIENTS as f64 => Ok(()),
        n => Err(n.to_string()),
    });
    assert_eq!((total("connections_accepted_total", &[]), total("sessions", &[])), (CLIENTS as f64, 0.0));
}

#[test]
fn what_waited_in_vain_is_accounted_for_too() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "300ms"]);
    stage.nodes[0].kill();
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(b"SET k 1\r\n").expect("sent");
    }
    for client in &mut clients {
        assert!(matches!(client.read().expect("a reply"), Reply::Error(text) if text.starts_with("MASTERDOWN ")));
    }
    let [held, released] = ["held_total", "released_total"].map(|name| proxy.metric(&format!("redweir_{name}"), &[]));
    let refused = proxy.metric("redweir_refused_total", &["reason=\"hold\""]);
    assert_eq!((held - released, refused), (5.0, 5.0));
}

#[test]
fn the_metrics_are_what_a_scraper_accepts() {
    let stage = stage(Plan { replicas: 1, sentinels: 1, quorum: 1, ..Default::default() });
    let proxy = Proxy::start(&stage, &[]);
    call(&mut proxy.client(), "SET a 1");
    let (status, text) = http::get(proxy.admin, "/metrics").expect("/metrics");
    assert_eq!(status, 200);
    let (mut types, mut samples) = (HashSet::new(), HashSet::new());
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            assert!(types.insert(name.to_owned()), "{name} is declared twice");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("name and value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(samples.insert(sample.to_owned()), "{sample} comes twice");
        let name = sample.split('{').next().unwrap_or_default();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).filter(|f| types.contains(*f));
        assert!(types.contains(family.unwrap_or(name)), "{name} has no type");
        assert!(name.starts_with("redweir_"), "{name}");
    }
    let sentinel = format!("sentinel=\"{}\"", stage.sentinels[0].address());
    assert_eq!(proxy.metric("redweir_sentinel_up", &[&sentinel]), 1.0, "{text}");
}
