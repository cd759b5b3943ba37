//! Writes that wait: what is refused unexecuted is sent again until the hold ends, and only then is it an error.

use crate::support::{Proxy, Reply, call, ok, plain_stage, wait};

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
