//! Scripts written for Sentinel are told what happens, and are never in the way.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use redweir::config::{Failover, Notify, SetConfig, Source};
use tokio::io::AsyncReadExt;

use crate::harness::*;
use crate::liar;

fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until the script noted this.
fn wait_noted(script: &Path, line: &str) {
    let said = || std::fs::read_to_string(script.with_extension("log")).unwrap_or_default();
    wait(&format!("{line:?} in {}", script.display()), || said().lines().any(|l| l == line));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_switch_and_of_nodes_down_and_up() {
    let mut set = Set::new(1, 0, 0);
    let note = "echo \"$*\" >> \"$0.log\"";
    let (event, reconfig) = (script(set.dir.path(), "event", note), script(set.dir.path(), "reconfig", note));
    let notify = Notify { script: Some(event.clone()), reconfig_script: Some(reconfig.clone()), ..Notify::default() };
    let failover = Failover { promote: true, notify, ..Failover::default() };
    let mut watch = Watch::start(SetConfig { failover, ..config(set.by_nodes()) });
    watch.until_open(1).await;
    let (old, new) = (set.nodes[0].port, set.nodes[1].port);
    set.nodes[0].kill();
    watch.until("the promoted node", |t| master(t) == Some(set.nodes[1].address())).await;
    wait_noted(&event, &format!("+sdown master m 127.0.0.1 {old}"));
    wait_noted(&event, &format!("+switch-master m 127.0.0.1 {old} 127.0.0.1 {new}"));
    wait_noted(&reconfig, &format!("m leader start 127.0.0.1 {old} 127.0.0.1 {new}"));
    set.nodes[0].restart();
    watch.until_open(1).await;
    wait_noted(&event, &format!("-sdown slave 127.0.0.1:{old} 127.0.0.1 {old} @ m 127.0.0.1 {new}"));
    let reconfigured = std::fs::read_to_string(reconfig.with_extension("log")).unwrap();
    assert_eq!(reconfigured.lines().count(), 1, "only a switch reconfigures clients");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_of_a_switch_beside_sentinel() {
    let set = Set::new(1, 0, 0);
    let sentinel = liar::start(set.nodes[0].port).await;
    let hook = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    let failover = Failover { notify: Notify { url: Some(url), ..Notify::default() }, ..Failover::default() };
    let source = Source::Sentinel { sentinels: vec![sentinel.address.clone()], master_name: "m".into(), login: None };
    let mut watch = Watch::start(SetConfig { name: "label".into(), failover, ..config(source) });
    watch.until_open(1).await;
    let (old, new) = (set.nodes[0].port, set.nodes[1].port);
    set.nodes[1].tell(&["REPLICAOF", "NO", "ONE"]);
    sentinel.name(new, 1);
    watch.until("the promoted node", |t| master(t) == Some(set.nodes[1].address())).await;
    let (mut stream, _) = tokio::time::timeout(PATIENCE, hook.accept()).await.unwrap().unwrap();
    let mut request = String::new();
    let mut buffer = [0; 4096];
    while !request.ends_with('}') {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "{request}");
        request += std::str::from_utf8(&buffer[..n]).unwrap();
    }
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "set": "m", "event": "+switch-master", "description": format!("m 127.0.0.1 {old} 127.0.0.1 {new}"),
        "from": format!("127.0.0.1:{old}"), "to": format!("127.0.0.1:{new}"),
    });
    assert_eq!(told, expected, "under the name that Sentinel has for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_hangs_delays_nothing() {
    let mut set = Set::new(2, 0, 0);
    let hangs = script(set.dir.path(), "hangs", "echo begun >> \"$0.log\"; exec sleep 3600");
    let notify = Notify { script: Some(hangs.clone()), ..Notify::default() };
    let failover = Failover { promote: true, notify, ..Failover::default() };
    let mut watch = Watch::start(SetConfig { failover, ..config(set.by_nodes()) });
    let before = watch.until_open(2).await;
    let mut term = shard(&before).term;
    set.nodes[2].kill();
    wait_noted(&hangs, "begun");
    set.nodes[2].restart();
    watch.until_open(2).await;
    // It hangs all the while; switch after switch is made in spite of it.
    for (from, to) in [(0, 1), (1, 0)] {
        let port = set.nodes[to].port.to_string();
        set.nodes[from].tell(&["FAILOVER", "TO", "127.0.0.1", &port]);
        let after = watch.until("the next master", |t| master(t) == Some(set.nodes[to].address())).await;
        assert!(shard(&after).term > term);
        term = shard(&after).term;
        watch.until_open(2).await;
    }
    let begun = std::fs::read_to_string(hangs.with_extension("log")).unwrap();
    assert_eq!(begun.lines().count(), 1, "one at a time");
}
