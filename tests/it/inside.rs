//! What a client asks of its own connection inside a transaction is answered as by a direct Redis, byte for byte, and has
//! happened when EXEC says so.

use redweir::demo::client::encode;

use crate::support::{Proxy, Reply, bulk, call, ok, plain_stage, raw, settle};

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
