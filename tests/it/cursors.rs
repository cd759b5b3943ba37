//! A scan brings every key that was there all the time, whatever becomes of the master meanwhile.

use std::collections::BTreeSet;

use crate::support::{Client, Counts, Proxy, Reply, Stage, call, plain_stage, wait};

const KEYS: usize = 4000;

/// One step; the next cursor.
#[track_caller]
fn step(client: &mut Client, line: &[&str], found: &mut BTreeSet<String>) -> String {
    let reply = client.call(line).expect("alive");
    let [cursor, keys] = reply.items() else { panic!("{line:?}: {reply:?}") };
    found.extend(keys.items().iter().map(Reply::text));
    cursor.text()
}

/// From `cursor` to the end.
#[track_caller]
fn finish(client: &mut Client, mut cursor: String, found: &mut BTreeSet<String>) {
    for _ in 0..10 * KEYS {
        if cursor == "0" {
            return;
        }
        cursor = step(client, &["SCAN", &cursor, "COUNT", "50"], found);
    }
    panic!("the scan does not end");
}

#[track_caller]
fn fill(client: &mut Client) {
    let set = |n: usize| vec!["SET".to_owned(), format!("key:{n}"), "v".to_owned()];
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let lines: Vec<Vec<String>> = chunk.iter().map(|n| set(*n)).collect();
        let lines: Vec<Vec<&str>> = lines.iter().map(|line| line.iter().map(String::as_str).collect()).collect();
        client.pipeline(&lines).expect("alive");
    }
}

#[track_caller]
fn switch(stage: &mut Stage, proxy: &Proxy, from: usize, to: usize) {
    crate::support::settle(stage, from);
    let port = stage.nodes[to].port;
    let reply = call(&mut stage.nodes[from].connect().expect("the master"), &format!("FAILOVER TO 127.0.0.1 {port}"));
    assert!(!reply.is_error(), "{reply:?}");
    let address = stage.nodes[to].address();
    wait("the new master", || match proxy.set()["shards"][0]["master"].as_str() {
        Some(found) if found == address => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn interleaved_scans_miss_nothing_through_a_change_of_master() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    fill(&mut client);
    let (mut one, mut other) = (BTreeSet::new(), BTreeSet::new());
    let (mut first, mut second) = ("0".to_owned(), "0".to_owned());
    for _ in 0..KEYS / 100 {
        first = step(&mut client, &["SCAN", &first, "COUNT", "50"], &mut one);
    }
    second = step(&mut client, &["SCAN", &second, "COUNT", "50"], &mut other);
    switch(&mut stage, &proxy, 0, 1);
    for _ in 0..5 {
        first = step(&mut client, &["SCAN", &first, "COUNT", "50"], &mut one);
        second = step(&mut client, &["SCAN", &second, "COUNT", "50"], &mut other);
        assert!(first.parse::<u64>().is_ok_and(|n| n < 1 << 53), "as a floating point number it is the same");
    }
    // Scans that know nothing of all this: another client's, and one that goes on over several connections.
    let mut third = BTreeSet::new();
    let mut pool = [proxy.client(), proxy.client()];
    let mut cursor = "0".to_owned();
    for n in 0..20 {
        cursor = step(&mut pool[n % 2], &["SCAN", &cursor, "COUNT", "50"], &mut third);
    }
    finish(&mut pool[0], cursor, &mut third);
    finish(&mut client, first, &mut one);
    finish(&mut client, second, &mut other);
    assert_eq!((one.len(), other.len(), third.len()), (KEYS, KEYS, KEYS));
    assert_eq!(proxy.metric("redweir_scans_restarted_total", &[]), 2.0, "each of the two once");
    // And back: what the first master gave before means nothing any more either.
    let mut again = BTreeSet::new();
    let mut cursor = "0".to_owned();
    for _ in 0..KEYS / 100 {
        cursor = step(&mut client, &["SCAN", &cursor, "COUNT", "50"], &mut again);
    }
    switch(&mut stage, &proxy, 1, 0);
    finish(&mut client, cursor, &mut again);
    assert_eq!(again.len(), KEYS);
}

#[test]
fn a_scan_of_one_key_misses_nothing_either() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    for n in 0..1000 {
        let (field, line) = (format!("f{n}"), ["HSET", "h"]);
        client.call(&[line[0], line[1], &field, "1"]).expect("alive");
    }
    let mut found = BTreeSet::new();
    let mut cursor = "0".to_owned();
    for _ in 0..10 {
        cursor = step(&mut client, &["HSCAN", "h", &cursor, "COUNT", "50"], &mut found);
    }
    switch(&mut stage, &proxy, 0, 1);
    while cursor != "0" {
        cursor = step(&mut client, &["HSCAN", "h", &cursor, "COUNT", "50"], &mut found);
    }
    found.remove("1");
    assert_eq!(found.len(), 1000);
    // A large step, in the selected database, with its errors as they are.
    assert_eq!(call(&mut client, "HSCAN h 0 COUNT 100000").items()[1].items().len(), 2000);
    assert_eq!(call(&mut client, "SCAN x").text(), "ERR invalid cursor");
    assert_eq!(call(&mut client, "HSCAN h").text(), "ERR wrong number of arguments for 'hscan' command");
    call(&mut client, "SELECT 3");
    assert_eq!(call(&mut client, "SCAN 0").items()[1], Reply::Array(Vec::new()));
}

#[test]
fn a_signed_cursor_means_the_same_to_a_server_that_is_given_it_as_it_is() {
    let stage = plain_stage(0);
    let mut direct = stage.nodes[0].connect().expect("the master");
    fill(&mut direct);
    let mut cursor = 0u64;
    loop {
        let plain = call(&mut direct, &format!("SCAN {cursor} COUNT 100"));
        if cursor > 0 {
            assert_eq!(call(&mut direct, &format!("SCAN {} COUNT 100", cursor | 0x1555 << 40)), plain);
        }
        cursor = plain.items()[0].text().parse().expect("a cursor");
        if cursor == 0 {
            return;
        }
    }
}

#[test]
fn without_a_change_of_master_scans_share_a_connection() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    fill(&mut client);
    Counts::reset(&stage);
    let before = proxy.metric("redweir_upstream_connects_total", &[]);
    let mut found = BTreeSet::new();
    let cursor = step(&mut client, &["SCAN", "0", "COUNT", "50"], &mut found);
    finish(&mut client, cursor, &mut found);
    assert_eq!(found.len(), KEYS);
    assert_eq!(proxy.metric("redweir_upstream_connects_total", &[]), before);
}
