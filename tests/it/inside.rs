//! What a client asks of its own connection inside a transaction is answered as by a direct Redis, byte for byte, and has
//! happened when EXEC says so.

use redweir::demo::client::encode;

use crate::support::{Client, Proxy, Reply, bulk, call, ok, plain_stage, raw, settle};

fn script(lines: &[&str]) -> Vec<u8> {
    let words = |line: &&str| encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    lines.iter().flat_map(words).collect()
}

#[test]
fn replies_left_out_within_a_transaction_are_those_that_redis_leaves_out() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    settle(&mut stage, 0);
    let scripts: &[&[&str]] = &[
        &["MULTI", "SET k v", "CLIENT REPLY SKIP", "GET k", "EXEC", "GET k", "PING"],
        &["MULTI", "SET k v", "CLIENT REPLY OFF", "GET k", "CLIENT REPLY ON", "PING", "EXEC", "GET k"],
        &["MULTI", "PING", "CLIENT REPLY OFF", "PING", "EXEC", "GET k", "CLIENT REPLY ON", "PING"],
        &["CLIENT REPLY OFF", "MULTI", "PING", "CLIENT REPLY ON", "GET k", "EXEC", "PING"],
        &["MULTI", "PING", "EXEC", "CLIENT REPLY SKIP", "MULTI", "PING", "EXEC", "PING"],
        &["WATCH k", "MULTI", "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "EXEC", "PING", "PING"],
        &["MULTI", "CLIENT REPLY NONSENSE", "CLIENT REPLY", "EXEC", "PING"],
        &["MULTI", "CLIENT REPLY NONSENSE", "PING", "EXEC", "PING"],
        &[
            "HELLO 3 SETNAME me",
            "MULTI",
            "CLIENT GETNAME",
            "CLIENT SETNAME you",
            "CLIENT GETNAME",
            "EXEC",
            "CLIENT GETNAME",
        ],
        &["CLIENT SETNAME me", "MULTI", "CLIENT SETNAME you", "DISCARD", "CLIENT GETNAME"],
        &["CLIENT SETNAME me", "WATCH k", "SET k 1", "MULTI", "CLIENT SETNAME you", "EXEC", "CLIENT GETNAME"],
        &["MULTI", "CLIENT SETNAME you", "CLIENT REPLY OFF", "EXEC", "CLIENT REPLY ON", "CLIENT GETNAME"],
        &["MULTI", "CLIENT NO-EVICT on", "CLIENT NO-EVICT no", "CLIENT SETNAME \u{1}", "EXEC", "CLIENT GETNAME"],
    ];
    for lines in scripts {
        let bytes = script(lines);
        // HELLO's answer names the connection and the version: left out on both sides.
        let cut = |mut answer: raw::Answer| {
            if lines[0].starts_with("HELLO") {
                let at = answer.bytes.windows(5).position(|w| w == b"+OK\r\n").expect("MULTI's answer");
                answer.bytes.drain(..at);
            }
            answer
        };
        let direct = cut(raw::talk(stage.nodes[0].port, &[&bytes]));
        let through = cut(raw::talk(proxy.port, &[&bytes]));
        assert_eq!(through, direct, "{lines:?}");
    }
}

#[test]
fn a_client_is_the_same_one_inside_and_outside_of_a_transaction_of_any_size() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let id = call(&mut client, "CLIENT ID");
    let value = "v".repeat(300_000);
    client.call(&["SET", "large", &value]).expect("set");
    for filler in ["PING", "GET large"] {
        call(&mut client, "MULTI");
        for line in ["CLIENT ID", filler, "CLIENT INFO", "CLIENT SETNAME me", "CLIENT GETNAME", "HELLO 2"] {
            assert_eq!(call(&mut client, line).text(), "QUEUED", "{line}");
        }
        let exec = call(&mut client, "EXEC");
        let [first, _, info, named, name, hello] = exec.items() else { panic!("{exec:?}") };
        assert_eq!((first, named, name), (&id, &ok(), &bulk("me")));
        assert!(info.text().starts_with(&format!("id={} ", id.text())), "{info:?}");
        assert!(hello.items().contains(&id), "{hello:?}");
        let seen = call(&mut proxy.client(), &format!("CLIENT LIST ID {}", id.text())).text();
        assert!(seen.contains(" name=me "), "{seen}");
        call(&mut client, "CLIENT SETNAME other");
    }
    // Whole in one piece, too.
    let lines: Vec<Vec<&str>> = vec![vec!["MULTI"], vec!["CLIENT", "ID"], vec!["CLIENT", "GETNAME"], vec!["EXEC"]];
    let replies = client.pipeline(&lines).expect("alive");
    assert_eq!(replies[3], Reply::Array(vec![id, bulk("other")]));
}

/// A transaction, and what EXEC said of each.
fn exec(client: &mut Client, lines: &[&str]) -> Vec<Reply> {
    assert_eq!(call(client, "MULTI"), ok());
    for line in lines {
        assert_eq!(call(client, line).text(), "QUEUED", "{line}");
    }
    call(client, "EXEC").items().to_vec()
}

#[test]
fn the_clients_that_a_transaction_asks_for_are_those_of_redweir() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--workers", "2"]);
    proxy.wait_readers(1);
    let (mut other, mut blocked, mut client) = (proxy.client(), proxy.client(), proxy.client());
    let [theirs, waiting, own] = [&mut other, &mut blocked, &mut client].map(|c| call(c, "CLIENT ID").text());
    blocked.send(b"BLPOP nothing 0\r\n").expect("sent");
    crate::support::wait("a blocked client", || {
        match call(&mut proxy.client(), &format!("CLIENT LIST ID {waiting}")).text() {
            line if line.contains("flags=b") => Ok(()),
            line => Err(line),
        }
    });
    let kill = format!("CLIENT KILL ID {theirs}");
    let (unblock, both) =
        (format!("CLIENT UNBLOCK {waiting} ERROR"), format!("CLIENT LIST ID {own} {theirs} {waiting}"));
    let said = exec(&mut client, &["SET k v", &both, &kill, &both, &kill, &unblock, "SCRIPT FLUSH", "GET k"]);
    let [set, before, killed, after, again, unblocked, flushed, get] = &said[..] else { panic!("{said:?}") };
    assert_eq!((set, flushed, get), (&ok(), &ok(), &bulk("v")));
    assert_eq!((killed, again, unblocked), (&Reply::Int(1), &Reply::Int(0), &Reply::Int(1)));
    let ids = |list: &Reply| {
        let id = |line: &str| line.split_once(' ').map(|(id, _)| id.replace("id=", "")).unwrap_or_default();
        list.text().lines().map(id).collect::<Vec<_>>()
    };
    assert_eq!((ids(before), ids(after)), (vec![own.clone(), theirs, waiting.clone()], vec![own, waiting]));
    assert!(call(&mut client, "PING").text() == "PONG" && other.call(&["PING"]).is_err(), "only that one is gone");
    assert!(blocked.read().expect("an answer").text().starts_with("UNBLOCKED"));
    // In the words of the version that it had in its turn.
    let empty = "CLIENT LIST TYPE master";
    for port in [stage.nodes[0].port, proxy.port] {
        let said = raw::talk(port, &[&script(&["HELLO 3", "MULTI", empty, "HELLO 2", empty, "EXEC"])]);
        let exec = said.bytes.rsplit(|b| *b == b'+').next().unwrap_or_default();
        let parts = [&b"*3\r\n=4\r\ntxt:\r\n"[..], b"$0\r\n\r\n"];
        assert!(parts.iter().all(|part| exec.windows(part.len()).any(|window| window == *part)), "{said:?}");
    }
    // Nothing of it is done when the transaction is not.
    let mut witness = proxy.client();
    let kill = format!("CLIENT KILL ID {}", call(&mut witness, "CLIENT ID").text());
    for line in ["MULTI", &kill, "DISCARD", "MULTI", &kill, "NOSUCH", "EXEC"] {
        call(&mut client, line);
    }
    assert_eq!(call(&mut witness, "PING").text(), "PONG");
}

#[test]
fn whoever_kills_itself_in_a_transaction_hears_no_more_than_from_redis() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let scripts: &[&[&str]] = &[
        &["SET k 1", "KILL", "SET k 2"],
        &["KILL", "PING", "CLIENT LIST", "SET k 2", "CLIENT UNBLOCK 999999", "SCRIPT FLUSH"],
        &["PING", "CLIENT REPLY OFF", "KILL", "CLIENT REPLY ON", "PING", "CLIENT LIST", "SET k 2"],
        &["CLIENT LIST ID 999999", "KILL", "KILL", "OTHER", "SET k 2"],
    ];
    for lines in scripts {
        let mut heard = [stage.nodes[0].port, proxy.port].map(|port| {
            let connect = || crate::support::connect(&format!("127.0.0.1:{port}"));
            let (mut client, mut other) = (connect(), connect());
            call(&mut client, "DEL k");
            let [kill, theirs] =
                [&mut client, &mut other].map(|c| format!("CLIENT KILL ID {} SKIPME no", call(c, "CLIENT ID").text()));
            call(&mut client, "MULTI");
            for line in *lines {
                call(&mut client, &line.replace("KILL", &kill).replace("OTHER", &theirs));
            }
            client.send(b"EXEC\r\nPING\r\n").expect("sent");
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut client.socket(), &mut rest).expect("its end");
            (rest, call(&mut connect(), "GET k"), other.call(&["PING"]).ok())
        });
        let [direct, through] = &mut heard;
        assert_eq!(direct, through, "{lines:?}");
        assert_eq!(direct.1, bulk("2"), "all of it was done");
        assert_eq!(direct.2.is_some(), !lines.contains(&"OTHER"), "{lines:?}");
    }
}

#[test]
fn exec_is_answered_though_its_client_has_sent_all_or_redweir_is_stopped() {
    for stopped in [false, true] {
        let mut stage = plain_stage(1);
        let proxy = Proxy::start(&stage, &["--drain", "20s"]);
        proxy.wait_readers(1);
        let mut client = proxy.client();
        for line in ["MULTI", "SET k v", "SCRIPT FLUSH"] {
            call(&mut client, line);
        }
        // It hangs, and is to follow the master: EXEC's answer waits for it.
        stage.nodes[1].stop();
        client.send(b"EXEC\r\n").expect("sent");
        let _running = if stopped {
            crate::support::wait("EXEC at the master", || {
                match call(&mut stage.nodes[0].connect().expect("a master"), "GET k") {
                    value if value == bulk("v") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
            assert!(proxy.terminate().success());
            None
        } else {
            client.socket().shutdown(std::net::Shutdown::Write).expect("half closed");
            Some(proxy)
        };
        let answer = client.read().unwrap_or_else(|e| panic!("stopped: {stopped}: {e}"));
        assert_eq!(answer, Reply::Array(vec![ok(), ok()]));
    }
}

#[test]
fn what_is_wrong_about_clients_is_told_by_exec_as_redis_tells_it() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let scripts: &[&[&str]] = &[
        &["MULTI", "CLIENT KILL ID 999999", "CLIENT KILL 1.1.1.1:1", "CLIENT KILL TYPE x", "EXEC", "PING"],
        &["MULTI", "CLIENT KILL ID 1 ID", "CLIENT KILL ID x", "CLIENT UNBLOCK x", "CLIENT UNBLOCK 9999 y", "EXEC"],
        &["MULTI", "CLIENT KILL", "PING", "EXEC"],
        &["MULTI", "CLIENT UNBLOCK", "PING", "EXEC"],
        &["MULTI", "CLIENT LIST TYPE x", "CLIENT LIST ID", "CLIENT LIST NOSUCH", "CLIENT LIST ID 999999", "EXEC"],
        &["MULTI", "CLIENT LIST TYPE master", "CLIENT REPLY OFF", "CLIENT LIST", "CLIENT REPLY ON", "PING", "EXEC"],
        &["MULTI", "CLIENT REPLY SKIP", "CLIENT KILL ID 99999", "PING", "EXEC", "PING"],
        &["SUBSCRIBE a", "UNSUBSCRIBE", "MULTI", "CLIENT LIST TYPE pubsub", "EXEC", "PING"],
        // More answers than EXEC's array holds: the last of them come behind it.
        &["MULTI", "SUBSCRIBE a b c", "CLIENT KILL ID 999999", "PING", "CLIENT GETNAME", "EXEC", "UNSUBSCRIBE", "PING"],
        &["SUBSCRIBE a b", "UNSUBSCRIBE", "MULTI", "SUBSCRIBE a b", "UNSUBSCRIBE", "CLIENT SETNAME x", "EXEC", "PING"],
        &["MULTI", "CLIENT SETNAME y", "PSUBSCRIBE a* b*", "CLIENT GETNAME", "EXEC", "PUNSUBSCRIBE", "CLIENT GETNAME"],
    ];
    for lines in scripts {
        let bytes = script(lines);
        assert_eq!(raw::talk(proxy.port, &[&bytes]), raw::talk(stage.nodes[0].port, &[&bytes]), "{lines:?}");
    }
}
