//! Commands of a module: what the nodes say of them decides where they go, from the moment that they say it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Client, Counts, Plan, Proxy, Reply, Stage, bulk, call, ok, settle, stage, wait};

/// The module of `support/weir.c`, made by the compiler that Rust links with, too.
fn module(dir: &TempDir) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/weir.c");
    let made = dir.path().join("weir.so");
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&made).arg(source).status();
    assert!(done.expect("a C compiler").success());
    made
}

fn nodes(replicas: usize, line: String) -> Stage {
    stage(Plan { replicas, sentinels: 0, extra: vec![line], ..Plan::default() })
}

fn load(stage: &Stage, n: usize, module: &std::path::Path) {
    let line = format!("MODULE LOAD {}", module.display());
    assert_eq!(call(&mut stage.nodes[n].connect().expect("a node"), &line), ok());
}

fn pins(proxy: &Proxy) -> f64 {
    proxy.metric("redweir_pins_total", &[])
}

/// Sends it until it needs no connection of its own: then its flags are known.
#[track_caller]
fn until_known(proxy: &Proxy, client: &mut Client, line: &str) {
    wait("the flags to be known", || {
        let before = pins(proxy);
        call(client, line);
        if pins(proxy) == before { Ok(()) } else { Err("on a connection of its own".into()) }
    });
}

#[test]
fn its_commands_go_where_their_flags_say() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut stage = nodes(1, format!("loadmodule {}", module(&dir).display()));
    let proxy = Proxy::start(&stage, &["--workers", "1"]);
    proxy.wait_readers(1);
    let [mut client, mut waits] = [proxy.client(), proxy.client()];
    until_known(&proxy, &mut client, "WEIR.SET k 0");
    settle(&mut stage, 0);
    Counts::reset(&stage);
    let before = pins(&proxy);
    for n in 0..10 {
        assert_eq!(call(&mut client, &format!("WEIR.SET k {n}")), ok());
        // A module's read may be about what its node alone knows.
        assert_eq!(call(&mut client, "WEIR.GET k"), bulk(&n.to_string()));
        assert_eq!(call(&mut client, "GET k"), bulk(&n.to_string()));
    }
    assert_eq!(pins(&proxy), before, "neither needs a connection of its own");
    let counts = Counts::read(&stage);
    for name in ["weir.set", "weir.get"] {
        assert_eq!((counts.on(0, name), counts.elsewhere(0, name)), (10, 0), "{name}");
    }
    // One that blocks its client blocks nobody else of the worker, whatever its node and the worker have in common.
    waits.send(b"WEIR.WAIT 60000\r\n").expect("sent");
    wait("it to block", || match proxy.metric("redweir_pinned_sessions", &[]) {
        1.0 => Ok(()),
        n => Err(format!("{n}")),
    });
    for n in 0..50 {
        assert_eq!(call(&mut client, &format!("WEIR.SET k {n}")), ok());
    }
    waits.socket().set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    assert!(waits.read().is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)));
}

#[test]
fn one_that_is_loaded_later_is_known_from_then_on_and_forgotten_where_a_new_master_lacks_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = module(&dir);
    let mut stage = nodes(2, "enable-module-command yes".into());
    let proxy = Proxy::start(&stage, &["--workers", "1"]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    let unknown = |reply: Reply| reply.text().starts_with("ERR unknown command");
    assert!(unknown(call(&mut client, "WEIR.SET k 1")));
    load(&stage, 0, &module);
    load(&stage, 1, &module);
    until_known(&proxy, &mut client, "WEIR.SET k 1");
    assert_eq!(call(&mut client, "WEIR.GET k"), bulk("1"));
    settle(&mut stage, 0);
    // To one that has it, then to one that does not.
    for (new, old) in [(1, 0), (2, 1)] {
        let port = stage.nodes[new].port;
        assert_eq!(call(&mut stage.nodes[new].connect().expect("a node"), "REPLICAOF NO ONE"), ok());
        for other in (0..3).filter(|n| *n != new) {
            let line = format!("REPLICAOF 127.0.0.1 {port}");
            assert_eq!(call(&mut stage.nodes[other].connect().expect("a node"), &line), ok());
        }
        let master = stage.nodes[new].address();
        wait("the switch", || match &proxy.set()["shards"][0]["master"] {
            now if now == &serde_json::json!(master) => Ok(()),
            now => Err(now.to_string()),
        });
        proxy.wait_readers(2);
        settle(&mut stage, new);
        if new == 1 {
            until_known(&proxy, &mut client, "WEIR.SET k 2");
            assert_eq!(call(&mut client, "WEIR.GET k"), bulk("2"));
        } else {
            assert!(unknown(call(&mut client, "WEIR.SET k 3")), "of node {old} it was known");
            assert_eq!(call(&mut client, "GET k"), bulk("2"));
        }
    }
}
