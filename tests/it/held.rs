//! Writes that wait: what is refused unexecuted is sent again until the hold ends, and only then is it an error.

use std::io::{Read, Write};
use std::net::TcpStream;

use redweir::demo::client::encode;

use crate::support::{PATIENCE, Proxy, Reply, call, ok, plain_stage, wait};

/// A master that takes writes only while a replica of its own is alive, and which has none.
const STRICT: &str = "CONFIG SET min-replicas-to-write 1";

#[test]
fn writes_wait_for_good_replicas_alone_and_in_transactions() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "60s"]);
    let mut direct = stage.nodes[0].connect().expect("the master");
    call(&mut direct, STRICT);
    stage.nodes[1].kill();
    wait("the master's refusal", || match call(&mut direct, "SET direct 1") {
        Reply::Error(text) if text.starts_with("NOREPLICAS") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let alone = std::thread::spawn({
        let mut client = proxy.client();
        move || call(&mut client, "INCR alone")
    });
    let whole = std::thread::spawn({
        let mut client = proxy.client();
        move || client.pipeline(&[vec!["MULTI"], vec!["INCR", "whole"], vec!["INCR", "whole"], vec!["EXEC"]])
    });
    wait("both to be refused and sent again", || match proxy.metric("redweir_no_replicas_total", &[]) {
        n if n >= 8.0 && proxy.metric("redweir_holding_sessions", &[]) == 2.0 => Ok(()),
        n => Err(n.to_string()),
    });
    stage.nodes[1].resume().expect("started");
    assert_eq!(alone.join().expect("a client"), Reply::Int(1));
    let replies = whole.join().expect("a client").expect("replies");
    assert_eq!(replies.last(), Some(&Reply::Array(vec![Reply::Int(1), Reply::Int(2)])), "{replies:?}");
    assert_eq!(proxy.metric("redweir_holding_sessions", &[]), 0.0);
}

#[test]
fn without_good_replicas_the_masters_own_word_ends_the_hold() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "300ms"]);
    call(&mut stage.nodes[0].connect().expect("the master"), STRICT);
    let mut client = proxy.client();
    let refused = call(&mut client, "SET k 1");
    assert_eq!(refused, Reply::Error("NOREPLICAS Not enough good replicas to write.".into()));
    call(&mut stage.nodes[0].connect().expect("the master"), "CONFIG SET min-replicas-to-write 0");
    assert_eq!(call(&mut client, "SET k 1"), ok());
}

/// Waits until so many sessions wait for a master.
#[track_caller]
fn wait_held(proxy: &Proxy, sessions: u64) {
    wait("sessions that wait", || match proxy.set()["held"]["sessions"].as_u64() {
        Some(n) if n == sessions => Ok(()),
        _ => Err(proxy.set()["held"].to_string()),
    });
}

#[test]
fn one_client_cannot_take_the_place_of_all_and_what_waits_is_shown() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "60s", "--hold-session-bytes", "10kb"]);
    stage.nodes[0].kill();
    wait("the hold", || match proxy.set()["shards"][0]["writes"].as_str() {
        Some("held") => Ok(()),
        _ => Err(proxy.set().to_string()),
    });
    let mut greedy = proxy.client();
    let value = "x".repeat(20_000);
    let refused = greedy.call(&["SET", "large", &value]).expect("an answer");
    assert!(refused.text().starts_with("MASTERDOWN ") && refused.text().contains("hold-session-bytes"), "{refused:?}");
    let modest = std::thread::spawn({
        let mut client = proxy.client();
        move || {
            client.pipeline(&[
                vec!["RPUSH", "list", "a"],
                vec!["RPUSH", "list", "b"],
                vec!["LRANGE", "list", "0", "-1"],
            ])
        }
    });
    wait_held(&proxy, 1);
    let held = proxy.set()["held"].clone();
    assert!(held["bytes"].as_u64().is_some_and(|n| n > 50), "{held}");
    wait("its age", || match proxy.set()["held"]["oldest_seconds"].as_f64() {
        Some(age) if age > 0.0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(proxy.metric("redweir_holding_seconds", &[]) > 0.0);
    assert_eq!(proxy.metric("redweir_writes_held", &["reason="]), 1.0);
    stage.nodes[0].resume().expect("started");
    let replies = modest.join().expect("a client").expect("replies");
    let list = Reply::Array(["a", "b"].map(|one| Reply::Bulk(one.into())).into());
    assert_eq!(replies, [Reply::Int(1), Reply::Int(2), list], "in order");
    wait_held(&proxy, 0);
    assert_eq!(proxy.metric("redweir_holding_seconds", &[]), 0.0);
    assert_eq!(call(&mut greedy, "SET small 1"), ok());
}

/// Sends `lines` in one piece to a master that hangs, lets it die, and returns what came back until the mark behind them, or
/// until the end.
#[track_caller]
fn lost_on_the_way(how: &str, lines: &[&str]) -> String {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "60s", "--down-after", "60s", "--unknown-outcome", how]);
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).expect("redweir");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let words = |line: &str| encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    let mut byte = [0; 5];
    stream.write_all(&words("SET before 1")).expect("written");
    stream.read_exact(&mut byte).expect("the connection stands");
    let sent = || proxy.metric("redweir_sent_bytes_total", &["peer=\"node\""]);
    let before = sent();
    stage.nodes[0].stop();
    let all: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
    stream.write_all(&all).expect("written");
    wait("them on the wire", || if sent() > before { Ok(()) } else { Err("not yet".into()) });
    stage.nodes[0].kill();
    stage.nodes[0].resume().expect("started");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    let _ = stream.write_all(&words("ECHO end"));
    while !said.ends_with(b"$3\r\nend\r\n") {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => said.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    assert!(proxy.metric("redweir_unknown_outcome_total", &[]) >= 1.0);
    String::from_utf8(said).expect("text")
}

/// The replies by their first bytes, errors by their code.
fn kinds(said: &str) -> Vec<String> {
    said.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn writes_of_unknown_outcome_end_the_connection_as_the_master_would() {
    assert_eq!(lost_on_the_way("close", &["INCR n", "GET n", "INCR n"]), "");
}

#[test]
fn or_each_is_told_so_in_its_turn_and_the_connection_stays() {
    let said = lost_on_the_way("error", &["INCR n", "GET before", "INCR n"]);
    // The master came back empty.
    assert_eq!(kinds(&said), ["-UNKNOWNOUTCOME", "$-1", "-UNKNOWNOUTCOME", "$3", "end"], "{said}");
}

#[test]
fn of_a_transaction_each_part_is_told_so() {
    let said = lost_on_the_way("error", &["MULTI", "INCR n", "EXEC"]);
    assert_eq!(kinds(&said), ["-UNKNOWNOUTCOME", "-UNKNOWNOUTCOME", "-UNKNOWNOUTCOME", "$3", "end"], "{said}");
}
