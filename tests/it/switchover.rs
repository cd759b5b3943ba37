//! Planned switchovers through redweir: nothing lost, nothing twice, no error; and back again when it cannot be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use redweir::demo::load::Load;
use redweir::demo::node::Node;
use serde_json::json;

use crate::support::{Plan, Proxy, Reply, Stage, call, ok, plain_stage, settle, stage, turn, wait};

const TOKEN: [&str; 2] = ["--admin-token", "open sesame"];

/// `redweir switchover`, running.
struct Asked {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    pub said: Vec<String>,
}

impl Asked {
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_owned();
        (!line.is_empty()).then(|| self.said.push(line.clone()))?;
        Some(line)
    }

    /// Reads on until a line that holds `part`.
    #[track_caller]
    fn until(&mut self, part: &str) {
        while let Some(line) = self.next() {
            if line.contains(part) {
                return;
            }
        }
        panic!("no {part:?} in {:?}", self.said);
    }

    /// How it ended, and everything it said.
    fn end(mut self) -> (bool, String) {
        while self.next().is_some() {}
        let status = self.child.wait().expect("a child");
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
        (status.success(), format!("{}\n{errors}", self.said.join("\n")))
    }
}

fn ask_with(proxy: &Proxy, token: &str, more: &[&str]) -> Asked {
    ask_by(proxy, ["--token", token], more)
}

fn ask_by(proxy: &Proxy, token: [&str; 2], more: &[&str]) -> Asked {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redweir"))
        .args(["switchover", "--admin", &format!("127.0.0.1:{}", proxy.admin)])
        .args(token)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    Asked { child, lines, said: Vec::new() }
}

fn ask(proxy: &Proxy, more: &[&str]) -> Asked {
    ask_with(proxy, TOKEN[1], more)
}

#[track_caller]
fn done(asked: Asked) -> String {
    let (well, said) = asked.end();
    assert!(well, "{said}");
    eprintln!("{said}");
    said
}

/// It ended badly, for a reason that holds every part.
#[track_caller]
fn failed(asked: Asked, parts: &[&str]) {
    let (well, said) = asked.end();
    assert!(!well, "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[track_caller]
fn load(stage: &mut Stage, proxy: &Proxy) -> Load {
    let address = format!("127.0.0.1:{}", proxy.port);
    Load::prepare(&address).expect("values to read");
    settle(stage, 0);
    let load = Load::start(&address, &stage.nodes[0].address());
    more(&load);
    load
}

/// Waits for fifty more writes.
#[track_caller]
fn more(load: &Load) {
    let before = load.tallies().1.done;
    wait("more writes", || match load.tallies().1 {
        writes if writes.done >= before + 50 => Ok(()),
        writes => Err(format!("{writes:?}")),
    });
}

/// Nothing failed, nothing is missing, nothing was done twice.
#[track_caller]
fn nobody_noticed(load: Load, master: &str) {
    let (reads, writes, verdict) = load.finish(master).expect("the master's word");
    assert_eq!((reads.failed, writes.failed), (0, 0), "{reads:?} {writes:?}");
    assert_eq!((verdict.lost, verdict.twice, verdict.unacknowledged), (0, 0, 0), "{verdict:?}");
    eprintln!("longest gap of writes: {:?}, of reads: {:?}", writes.longest_gap, reads.longest_gap);
}

fn master(proxy: &Proxy) -> String {
    proxy.set()["shards"][0]["master"].as_str().unwrap_or("none").to_owned()
}

/// Waits until writes go to it.
#[track_caller]
fn wait_master(proxy: &Proxy, address: &str) {
    wait("writes to go on", || match master(proxy) {
        found if found == address => Ok(()),
        _ => Err(proxy.set().to_string()),
    });
}

/// Whom a node follows, as `host:port`; `master` for a master.
#[track_caller]
fn follows(stage: &Stage, node: usize) -> String {
    let role = call(&mut stage.nodes[node].connect().expect("a node"), "ROLE");
    match role.items() {
        [kind, host, port, ..] if kind.text() == "slave" => format!("{}:{}", host.text(), port.text()),
        _ => "master".into(),
    }
}

#[test]
fn without_sentinel_the_role_moves_to_whom_is_named_and_the_others_follow() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    for to in [2, 0, 1] {
        let target = stage.nodes[to].address();
        let said = done(ask(&proxy, &["--to", &target]));
        assert!(said.contains("by FAILOVER") && said.contains("writes were held for"), "{said}");
        assert_eq!(master(&proxy), target);
        for other in (0..3).filter(|n| *n != to) {
            assert_eq!(follows(&stage, other), target, "{said}");
        }
        load.master_is(&target);
        more(&load);
        proxy.wait_readers(2);
        let cost = &proxy.set()["shards"][0]["last_switch"];
        assert_eq!((&cost["lost_writes"], &cost["uncertain_writes"]), (&json!(0), &json!(0)), "{cost}");
    }
    assert_eq!(proxy.metric("redweir_switchovers_total", &["outcome=\"done\""]), 3.0);
    assert_eq!(proxy.metric("redweir_failovers_total", &["cause=\"switchover\""]), 3.0);
    nobody_noticed(load, &stage.nodes[1].address());
}

#[test]
fn redweir_that_may_promote_by_itself_does_both_and_not_at_once() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[TOKEN[0], TOKEN[1], "--promote", "on"]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let target = stage.nodes[2].address();
    done(ask(&proxy, &["--to", &target]));
    load.master_is(&target);
    more(&load);
    proxy.wait_readers(2);
    nobody_noticed(load, &target);
    assert_eq!(proxy.metric("redweir_failovers_total", &["cause=\"switchover\""]), 1.0);
    assert_eq!(proxy.metric("redweir_failovers_total", &["cause=\"detector\""]), 0.0);
    stage.nodes[2].kill();
    wait("a promoted one", || match master(&proxy) {
        found if found != target && found != "none" => Ok(()),
        _ => Err(proxy.set().to_string()),
    });
    assert_eq!(proxy.metric("redweir_failovers_total", &["cause=\"detector\""]), 1.0);
}

#[test]
fn where_sentinel_has_to_confirm_a_switchover_waits_for_that_too() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[TOKEN[0], TOKEN[1], "--trust", "confirmed"]);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let target = stage.nodes[2].address();
    done(ask(&proxy, &["--to", &target]));
    assert_eq!(master(&proxy), target);
    load.master_is(&target);
    more(&load);
    nobody_noticed(load, &target);
}

#[test]
fn a_server_without_failover_is_moved_by_steps() {
    let _turn = turn();
    let extra = vec!["rename-command FAILOVER \"\"".to_owned()];
    let mut stage = stage(Plan { replicas: 1, sentinels: 0, extra, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    for to in [1, 0] {
        let said = done(ask(&proxy, &[]));
        assert!(said.contains("by REPLICAOF"), "{said}");
        let target = stage.nodes[to].address();
        assert_eq!(master(&proxy), target, "without --to the only replica is chosen");
        load.master_is(&target);
        more(&load);
        proxy.wait_readers(1);
    }
    nobody_noticed(load, &stage.nodes[0].address());
}

#[test]
fn sentinel_promotes_whom_is_named_and_agrees() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let target = stage.nodes[2].address();
    let said = done(ask(&proxy, &["--to", &target]));
    assert!(said.contains("Sentinel agrees"), "{said}");
    assert_eq!(master(&proxy), target);
    assert_eq!(follows(&stage, 0), target, "the old master follows at once, not after eleven seconds: {said}");
    load.master_is(&target);
    for node in &stage.nodes {
        let priority = call(&mut node.connect().expect("a node"), "CONFIG GET replica-priority");
        assert_eq!(priority.items().last().map(Reply::text).as_deref(), Some("100"), "{said}");
    }
    more(&load);
    nobody_noticed(load, &target);
}

#[test]
fn sentinel_may_choose() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(2);
    let load = load(&mut stage, &proxy);
    let old = stage.nodes[0].address();
    done(ask(&proxy, &[]));
    let new = master(&proxy);
    assert_ne!(new, old);
    more(&load);
    nobody_noticed(load, &new);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_changes_nothing() {
    let stage = plain_stage(1);
    let off = Proxy::start(&stage, &[]);
    failed(ask(&off, &[]), &["refused", "admin-token"]);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    failed(ask_with(&proxy, "open barley", &[]), &["wrong token"]);
    failed(ask(&proxy, &["--to", "10.1.2.3:4"]), &["no node", "10.1.2.3:4", &stage.nodes[1].address()]);
    failed(ask(&proxy, &["--to", &stage.nodes[0].address()]), &["is the master already"]);
    failed(ask(&proxy, &["--set", "other"]), &["there is no set other"]);
    failed(ask(&proxy, &["--timeout", "1h"]), &["timeout"]);
    let mut replica = stage.nodes[1].connect().expect("the replica");
    call(&mut replica, "CONFIG SET replica-priority 0");
    failed(ask(&proxy, &[]), &["replica-priority 0"]);
    call(&mut replica, "CONFIG SET replica-priority 100");
    for denied in ["client|pause", "failover", "replicaof"] {
        call(&mut stage.nodes[0].connect().expect("the master"), &format!("ACL SETUSER default -{denied}"));
        failed(ask(&proxy, &[]), &["NOPERM", &stage.nodes[0].address(), "redweir.toml"]);
        call(&mut stage.nodes[0].connect().expect("the master"), "ACL SETUSER default +@all");
    }
    assert_eq!(master(&proxy), stage.nodes[0].address());
    assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
}

#[test]
fn the_token_may_be_in_a_file_on_either_side() {
    let _turn = turn();
    let file = |token: &str| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "{token}").expect("written");
        file.into_temp_path()
    };
    let (right, wrong) = (file(TOKEN[1]), file("open barley"));
    let [right, wrong] = [&right, &wrong].map(|path| path.to_str().expect("text"));
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--admin-token-file", right]);
    proxy.wait_readers(1);
    failed(ask_by(&proxy, ["--token-file", wrong], &[]), &["wrong token"]);
    failed(ask_by(&proxy, ["--token-file", "/nowhere/token"], &[]), &["/nowhere/token", "cannot be read"]);
    assert_eq!(master(&proxy), stage.nodes[0].address());
    done(ask_by(&proxy, ["--token-file", right], &[]));
    assert_eq!(master(&proxy), stage.nodes[1].address());
}

#[test]
fn behind_the_back_of_sentinels_that_are_all_gone_nothing_is_moved() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 1, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    for sentinel in &mut stage.sentinels {
        sentinel.kill();
    }
    wait("the refusal", || {
        let (well, said) = ask(&proxy, &[]).end();
        assert!(!well, "{said}");
        if said.contains("no Sentinel answers") { Ok(()) } else { Err(said) }
    });
    assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
}

/// What makes Sentinels distrust their clocks: more than two seconds that they did not see pass.
fn tilt(stage: &mut Stage) {
    stage.sentinels.iter_mut().for_each(Node::stop);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    stage.sentinels.iter_mut().for_each(Node::cont);
}

#[test]
fn a_sentinel_that_distrusts_its_clock_is_not_told() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 1, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    tilt(&mut stage);
    for sentinel in &stage.sentinels {
        let mut sentinel = sentinel.connect().expect("a Sentinel");
        wait("tilt", || match call(&mut sentinel, "INFO sentinel").text() {
            info if info.contains("sentinel_tilt:1") => Ok(()),
            info => Err(info),
        });
    }
    // Those that were away for redweir are heard again at once.
    wait("the refusal", || {
        let (well, said) = ask(&proxy, &[]).end();
        assert!(!well, "{said}");
        if said.contains("distrusts its clock (TILT)") { Ok(()) } else { Err(said) }
    });
    proxy.wait_log("it fails over nobody");
    assert_eq!(master(&proxy), stage.nodes[0].address());
    assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
}

#[test]
fn a_sentinel_that_comes_to_distrust_its_clock_midway_is_called_back() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 1, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    for _ in 0..5 {
        let before = master(&proxy);
        let mut asked = ask(&proxy, &[]);
        asked.until("Sentinel begins");
        tilt(&mut stage);
        let (well, said) = asked.end();
        if well {
            // It had chosen before it was stopped.
            proxy.wait_readers(1);
            continue;
        }
        // Stopped between its choice and the promotion, it is the promotion that does not come.
        let why = ["distrusts its clock (TILT)", "the target did not become master"];
        assert!(why.iter().any(|why| said.contains(why)) && said.contains("is master; writes were held"), "{said}");
        // Sentinel's own word that it gave up comes by another way than its answer.
        wait_master(&proxy, &before);
        assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
        for sentinel in &stage.sentinels {
            let ask = format!("SENTINEL MASTER {}", stage.plan.master_name);
            let told = call(&mut sentinel.connect().expect("a Sentinel"), &ask);
            let told: Vec<_> = told.items().iter().map(Reply::text).collect();
            assert!(!told.iter().any(|field| field.contains("failover_in_progress")), "{told:?}");
        }
        return;
    }
    panic!("it had chosen each time before it was stopped");
}

/// A large value half sent keeps a switchover waiting for as long as a test likes.
fn half_sent(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).expect("redweir");
    let streams = proxy.metric("redweir_large_streams_total", &[]);
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$4000000\r\n").expect("written");
    stream.write_all(&vec![b'x'; 2_000_000]).expect("written");
    wait("the value on its way", || match proxy.metric("redweir_large_streams_total", &[]) > streams {
        true => Ok(()),
        false => Err("no stream".into()),
    });
    stream
}

#[track_caller]
fn finish(mut stream: TcpStream) {
    stream.write_all(&vec![b'x'; 2_000_000]).expect("written");
    stream.write_all(b"\r\n").expect("written");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"+OK\r\n");
}

#[test]
fn what_is_on_its_way_is_waited_for_and_a_second_switchover_is_refused_meanwhile() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    let large = half_sent(&proxy);
    let mut first = ask(&proxy, &["--timeout", "30s"]);
    first.until("writes are held");
    failed(ask(&proxy, &[]), &["another switchover goes on"]);
    wait("the reason", || match proxy.set()["shards"][0]["held_for"].as_str() {
        Some("switchover") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    finish(large);
    done(first);
    let new = stage.nodes[1].address();
    assert_eq!(master(&proxy), new);
    assert_eq!(call(&mut stage.nodes[1].connect().expect("it"), "STRLEN large"), Reply::Int(4_000_000));
    more(&load);
    nobody_noticed(load, &new);
}

#[test]
fn what_is_not_answered_in_time_stops_it_and_writes_go_on_where_they_were() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    let large = half_sent(&proxy);
    failed(ask(&proxy, &["--timeout", "400ms"]), &["were not answered within 400ms", &stage.nodes[0].address()]);
    finish(large);
    more(&load);
    let old = stage.nodes[0].address();
    wait_master(&proxy, &old);
    assert_eq!(proxy.metric("redweir_switchovers_total", &["outcome=\"back\""]), 1.0);
    nobody_noticed(load, &old);
}

#[test]
fn sentinel_is_called_back_before_it_promotes_while_something_is_on_its_way() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 1, ..Plan::default() });
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    let large = half_sent(&proxy);
    failed(ask(&proxy, &["--timeout", "30s"]), &["not answered before Sentinel would promote"]);
    let old = stage.nodes[0].address();
    wait_master(&proxy, &old);
    assert_eq!(follows(&stage, 1), old);
    finish(large);
    more(&load);
    assert_eq!(follows(&stage, 1), old);
    // Nothing of it is left: it can be done again, and is.
    let mut said = String::new();
    wait("the next one", || {
        let (well, text) = ask(&proxy, &[]).end();
        said = text;
        if well { Ok(()) } else { Err(said.clone()) }
    });
    let new = stage.nodes[1].address();
    assert_eq!(master(&proxy), new, "{said}");
    load.master_is(&new);
    more(&load);
    nobody_noticed(load, &new);
}

#[test]
fn a_target_that_hangs_or_dies_midway_leaves_the_old_master() {
    let _turn = turn();
    for kill in [false, true] {
        let mut stage = plain_stage(2);
        let proxy = Proxy::start(&stage, &TOKEN);
        proxy.wait_readers(2);
        let load = load(&mut stage, &proxy);
        let large = half_sent(&proxy);
        let mut asked = ask(&proxy, &["--to", &stage.nodes[1].address(), "--timeout", "8s"]);
        asked.until("writes are held");
        if kill {
            stage.nodes[1].kill()
        } else {
            stage.nodes[1].stop()
        }
        finish(large);
        failed(asked, &["failed", &stage.nodes[1].address()]);
        more(&load);
        let old = stage.nodes[0].address();
        wait_master(&proxy, &old);
        // No pause is left behind at the master for those who use it directly.
        assert_eq!(call(&mut stage.nodes[0].connect().expect("the master"), "SET direct 1"), ok());
        if !kill {
            stage.nodes[1].cont();
        }
        nobody_noticed(load, &old);
    }
}

#[test]
fn who_asked_may_go_it_goes_on() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let load = load(&mut stage, &proxy);
    let large = half_sent(&proxy);
    let mut asked = ask(&proxy, &["--timeout", "30s"]);
    asked.until("writes are held");
    asked.child.kill().expect("killed");
    asked.child.wait().expect("a child");
    finish(large);
    let new = stage.nodes[1].address();
    wait("the new master", || if master(&proxy) == new { Ok(()) } else { Err(proxy.set().to_string()) });
    more(&load);
    nobody_noticed(load, &new);
}

#[test]
fn transactions_and_blocked_clients_live_through_it() {
    live_through_it("0");
}

#[test]
fn transactions_and_blocked_clients_live_through_it_when_they_wait_for_copies() {
    live_through_it("1");
}

#[track_caller]
fn live_through_it(acks: &str) {
    let _turn = turn();
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[&TOKEN[..], &["--acks", acks]].concat());
    proxy.wait_readers(1);
    let blocked = std::thread::spawn({
        let mut client = proxy.client();
        move || call(&mut client, "BLPOP queue 0")
    });
    wait("the blocked client", || match proxy.metric("redweir_pinned_sessions", &[]) {
        1.0 => Ok(()),
        n => Err(n.to_string()),
    });
    let mut subscriber = proxy.client();
    call(&mut subscriber, "SUBSCRIBE news");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let interactive = std::thread::spawn({
        let (mut client, stop) = (proxy.client(), std::sync::Arc::clone(&stop));
        move || {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for (line, reply) in [("MULTI", "OK"), ("INCR n", "QUEUED")] {
                    assert_eq!(call(&mut client, line).text(), reply);
                }
                done += 1;
                assert_eq!(call(&mut client, "EXEC"), Reply::Array(vec![Reply::Int(done)]));
            }
            done
        }
    });
    done(ask(&proxy, &[]));
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "RPUSH queue job"), Reply::Int(1));
    assert_eq!(blocked.join().expect("a client").items().last().map(Reply::text).as_deref(), Some("job"));
    wait("the subscription at the new master", || match call(&mut client, "PUBLISH news hot") {
        Reply::Int(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(subscriber.read().expect("a message").items().last().map(Reply::text).as_deref(), Some("hot"));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let done = interactive.join().expect("no transaction was broken");
    assert_eq!(call(&mut client, "GET n").text(), done.to_string());
    assert_eq!(master(&proxy), stage.nodes[1].address());
}

/// Clients that count as fast as they can, ten steps at a time; each step must follow the last one.
#[track_caller]
fn counting(proxy: &Proxy, switchovers: impl FnOnce()) {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|i| {
            let (mut client, stop, key) = (proxy.client(), std::sync::Arc::clone(&stop), format!("counter:{i}"));
            std::thread::spawn(move || {
                let mut reached = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let replies = client.pipeline(&vec![vec!["INCR", &key]; 10]).expect("replies");
                    let expected: Vec<_> = (1..=10).map(|n| Reply::Int(reached + n)).collect();
                    assert_eq!(replies, expected);
                    reached += 10;
                }
                (key, reached)
            })
        })
        .collect();
    switchovers();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut client = proxy.client();
    // What others have written a replica may not have yet.
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY STRONG"), ok());
    for counted in clients {
        let (key, reached) = counted.join().expect("every step followed the last one");
        assert_eq!(call(&mut client, &format!("GET {key}")).int(), Some(reached));
        assert!(reached > 0);
        eprintln!("{key}: {reached}");
    }
}

#[test]
fn at_full_speed_nothing_is_lost_and_nothing_done_twice_without_sentinel() {
    let _turn = turn();
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[&TOKEN[..], &["--workers", "2"]].concat());
    proxy.wait_readers(2);
    counting(&proxy, || {
        for _ in 0..5 {
            done(ask(&proxy, &[]));
            proxy.wait_readers(2);
        }
    });
}

#[test]
fn at_full_speed_nothing_is_lost_and_nothing_done_twice_with_sentinel() {
    let _turn = turn();
    let stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[&TOKEN[..], &["--workers", "2"]].concat());
    proxy.wait_readers(2);
    counting(&proxy, || _ = done(ask(&proxy, &[])));
}

#[test]
fn a_failover_that_the_target_refuses_is_given_up_and_can_be_done_later() {
    let _turn = turn();
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &TOKEN);
    proxy.wait_readers(1);
    let (old, new) = (stage.nodes[0].address(), stage.nodes[1].address());
    counting(&proxy, || {
        let large = half_sent(&proxy);
        let mut asked = ask(&proxy, &["--timeout", "8s"]);
        asked.until("writes are held");
        // From here on it lets nobody in who was not there before: not the old master as its replica either.
        let mut target = stage.nodes[1].connect().expect("the target");
        assert_eq!(call(&mut target, "CONFIG SET requirepass secret"), ok());
        finish(large);
        failed(asked, &["gave its FAILOVER up", &old]);
        wait_master(&proxy, &old);
        let mut direct = stage.nodes[0].connect().expect("the master");
        assert_eq!(call(&mut direct, "SET direct 1"), ok(), "no pause is left behind");
        assert_eq!(target.call(&["CONFIG", "SET", "requirepass", ""]).expect("an answer"), ok());
        proxy.wait_readers(1);
        done(ask(&proxy, &[]));
        assert_eq!(master(&proxy), new);
    });
    assert_eq!(call(&mut stage.nodes[1].connect().expect("the master"), "GET direct").text(), "1");
}
