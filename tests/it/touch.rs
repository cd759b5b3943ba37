//! A master that evicts keeps what is hot on its replicas.

use crate::support::{Plan, Proxy, Stage, call, settle, stage, wait};

const HOT: usize = 100;
const COLD: usize = 1500;

/// Fills a master with keys that are read later, and then with many more that are not.
#[track_caller]
fn filled() -> Stage {
    let policy = ["maxmemory-policy allkeys-lru", "maxmemory-samples 64"].map(str::to_owned).to_vec();
    let mut stage = stage(Plan { replicas: 1, sentinels: 0, extra: policy, ..Plan::default() });
    let mut direct = stage.nodes[0].connect().expect("the master");
    let value = "x".repeat(1000);
    for key in (0..HOT).map(|n| format!("hot{n}")).chain((0..COLD).map(|n| format!("cold{n}"))) {
        call(&mut direct, &format!("SET {key} {value}"));
    }
    settle(&mut stage, 0);
    stage
}

/// Reads the hot keys through redweir; then the master has to evict. How many of the hot keys are left.
#[track_caller]
fn survivors(flags: &[&str]) -> (usize, Proxy) {
    let stage = filled();
    let proxy = Proxy::start(&stage, flags);
    proxy.wait_readers(1);
    let mut direct = stage.nodes[0].connect().expect("the master");
    // The clock of LRU counts seconds.
    wait("time to pass at the master", || match call(&mut direct, "OBJECT IDLETIME hot0").int() {
        Some(seconds) if seconds >= 2 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut client = proxy.client();
    for n in 0..HOT {
        assert_eq!(call(&mut client, &format!("GET hot{n}")).text().len(), 1000);
    }
    if !flags.is_empty() {
        wait("the keys to be touched", || match proxy.metric("redweir_touched_keys_total", &["outcome=\"sent\""]) {
            n if n >= HOT as f64 => Ok(()),
            n => Err(n.to_string()),
        });
    }
    let info = call(&mut direct, "INFO memory").text();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    let most = used.trim().parse::<usize>().expect("bytes") - COLD * 700;
    call(&mut direct, &format!("CONFIG SET maxmemory {most}"));
    wait("evictions", || {
        // A write makes room first.
        let _ = call(&mut direct, "SET other 1");
        let info = call(&mut direct, "INFO stats").text();
        match info.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse::<usize>().ok()) {
            Some(evicted) if evicted >= COLD / 2 => Ok(()),
            other => Err(format!("{other:?} evicted")),
        }
    });
    let left = (0..HOT).filter(|n| call(&mut direct, &format!("EXISTS hot{n}")).int() == Some(1)).count();
    (left, proxy)
}

#[test]
fn what_is_hot_on_replicas_is_kept_by_a_master_that_evicts() {
    let (left, proxy) = survivors(&["--touch-sample", "100%"]);
    assert!(left >= HOT * 9 / 10, "{left} of {HOT} hot keys are left");
    assert_eq!(proxy.metric("redweir_touched_keys_total", &["outcome=\"dropped\""]), 0.0);
    let (left, proxy) = survivors(&[]);
    assert!(left <= HOT / 2, "the test cannot see keys thrown out: {left} of {HOT} hot ones are left");
    assert_eq!(proxy.metric("redweir_touched_keys_total", &[]), 0.0);
}

#[test]
fn a_touch_that_cannot_be_sent_is_dropped_and_counted() {
    let mut stage = stage(Plan { replicas: 1, sentinels: 0, ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--touch-sample", "100%"]);
    proxy.wait_readers(1);
    call(&mut stage.nodes[0].connect().expect("the master"), "SET k 1");
    settle(&mut stage, 0);
    // From here on the master refuses it.
    call(&mut stage.nodes[0].connect().expect("the master"), "ACL SETUSER default -touch");
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(call(&mut client, "GET k").text(), "1");
        assert_eq!(call(&mut client, "STRLEN k").int(), Some(1));
    }
    wait("what is dropped", || match proxy.metric("redweir_touched_keys_total", &["outcome=\"dropped\""]) {
        20.0 => Ok(()),
        n => Err(n.to_string()),
    });
    assert_eq!(proxy.metric("redweir_touched_keys_total", &["outcome=\"sent\""]), 0.0);
}
