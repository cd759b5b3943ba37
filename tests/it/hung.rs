//! A master that stops without a word: nothing that was asked of it waits for ever, and nothing that needs it is lost in silence.

use std::io::ErrorKind;

use crate::support::{Client, Proxy, call, plain_stage, wait};

/// Sends without waiting for an answer.
#[track_caller]
fn send(client: &mut Client, line: &str) {
    client.send(format!("{line}\r\n").as_bytes()).expect("sent");
}

/// Its connection ends, or it is told an error; either way it does not hang (a client of these tests waits half a minute).
#[track_caller]
fn ends(client: &mut Client, what: &str) {
    match client.read() {
        Ok(reply) => assert!(reply.is_error(), "{what}: {reply:?}"),
        Err(e) => assert!(!matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{what}: hangs"),
    }
}

#[test]
fn requests_to_a_hung_master_end_when_it_is_down_and_later_ones_are_refused_in_time() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--down-after", "700ms", "--hold", "300ms"]);
    proxy.wait_readers(1);
    let strong = Proxy::start(&stage, &["--down-after", "700ms", "--hold", "300ms", "--read-policy", "master"]);
    let mut clients: Vec<(&str, Client)> = Vec::new();
    let mut open = |what, from: &Proxy, before: &[&str]| {
        let mut client = from.client();
        for line in before {
            assert!(!call(&mut client, line).is_error(), "{line}");
        }
        clients.push((what, client));
    };
    open("SET key 1", &proxy, &["SET key 0"]);
    open("GET key", &strong, &["GET key"]);
    open("EXEC", &proxy, &["WATCH key", "MULTI", "SET key 2"]);
    open("BLPOP queue 1", &proxy, &["PING"]);
    open("MULTI\r\nSET key 3\r\nEXEC", &proxy, &["PING"]);
    let mut reader = proxy.client();
    assert!(!call(&mut reader, "GET key").is_error());
    stage.nodes[0].stop();
    for (line, client) in &mut clients {
        send(client, line);
    }
    for (line, client) in &mut clients {
        // A transaction in one piece is answered as one.
        ends(client, line);
    }
    assert!(proxy.metric("redweir_unknown_outcome_total", &[]) >= 1.0, "what was on the wire is counted");
    let late = call(&mut proxy.client(), "SET key late");
    assert!(late.text().starts_with("MASTERDOWN redweir"), "{late:?}");
    assert!(!call(&mut reader, "GET key").is_error(), "reads go on");
    stage.nodes[0].cont();
    wait("writes again", || match call(&mut proxy.client(), "SET key again") {
        reply if reply.is_error() => Err(reply.text()),
        _ => Ok(()),
    });
}
