//! Requests far larger than what is held of a value, which redweir has to look at itself.

use redweir::demo::client::encode;

use crate::support::{Proxy, bulk, call, ok, plain_stage, raw};

/// Above `stream-above`.
const MUCH: usize = 1_200_000;

/// `BULK` stands for a word of [`MUCH`] bytes.
fn script(lines: &[&str]) -> Vec<u8> {
    let much = "x".repeat(MUCH);
    let word = |word: &str| if word == "BULK" { much.clone() } else { word.to_owned() };
    lines
        .iter()
        .flat_map(|line| {
            let words: Vec<String> = line.split(' ').map(word).collect();
            encode(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
        })
        .collect()
}

#[test]
fn what_redweir_answers_itself_may_be_as_large_as_redis_takes_it() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let scripts: &[&[&str]] = &[
        &["CLIENT SETNAME BULK", "CLIENT GETNAME", "CLIENT SETNAME me"],
        &["HELLO 3", "SUBSCRIBE c", "CLIENT SETNAME BULK", "CLIENT GETNAME", "UNSUBSCRIBE", "PING"],
        &["WATCH k", "CLIENT SETNAME BULK", "CLIENT KILL ID BULK", "CLIENT GETNAME", "UNWATCH", "CLIENT GETNAME"],
        &["MULTI", "CLIENT SETNAME BULK", "SET k BULK", "CLIENT GETNAME", "EXEC", "CLIENT GETNAME", "STRLEN k"],
        &["CLIENT UNBLOCK BULK", "CLIENT LIST TYPE BULK", "CLIENT NO-EVICT BULK", "CLIENT BULK", "PING"],
        &["SUBSCRIBE a BULK b", "UNSUBSCRIBE b BULK a", "PING", "SELECT BULK", "RESET BULK", "GET k"],
        &["AUTH BULK", "AUTH nobody BULK", "HELLO 3 AUTH nobody BULK", "HELLO BULK", "PING"],
    ];
    for lines in scripts {
        let bytes = script(lines);
        for cut in [bytes.len() / 3, MUCH, MUCH + 30] {
            let (first, rest) = bytes.split_at(cut.min(bytes.len() - 1));
            // HELLO's answer names the connection: left out on both sides.
            let told = |port| {
                let mut answer = raw::talk(port, &[first, rest]);
                if lines[0] == "HELLO 3" {
                    let at = answer.bytes.windows(10).position(|w| w == b">3\r\n$9\r\nsu").expect("a confirmation");
                    answer.bytes.drain(..at);
                }
                answer
            };
            let (direct, through) = (told(stage.nodes[0].port), told(proxy.port));
            assert!(through == direct, "{lines:?} {cut}: {} {}", shown(&through), shown(&direct));
        }
    }
}

/// Without the bulk of it.
fn shown(answer: &raw::Answer) -> String {
    format!("{answer:?}").replace(&"x".repeat(1000), "")
}

#[test]
fn a_script_of_any_size_reaches_all_nodes() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let body = format!("return '{}'", "x".repeat(MUCH));
    for before in ["PING", "WATCH k"] {
        let mut client = proxy.client();
        assert!(!call(&mut client, before).is_error());
        let digest = client.call(&["SCRIPT", "LOAD", &body]).expect("an answer").text();
        for node in &stage.nodes {
            let there = call(&mut node.connect().expect("a node"), &format!("SCRIPT EXISTS {digest}"));
            assert_eq!(there.items().first().and_then(|n| n.int()), Some(1), "{before}");
        }
        assert_eq!(call(&mut client, "SCRIPT FLUSH"), ok());
    }
}

#[test]
fn what_is_beyond_the_bound_is_refused_and_what_came_before_is_answered() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold-session-bytes", "1100kb"]);
    let mut client = proxy.client();
    client.send(&script(&["SET k 1", "WATCH k", "CLIENT SETNAME BULK"])).expect("sent");
    assert_eq!((client.read().expect("SET"), client.read().expect("WATCH")), (ok(), ok()));
    let refused = client.read().expect("a word");
    assert!(refused.text().starts_with("ERR redweir: 'CLIENT SETNAME' is not supported"), "{refused:?}");
    assert!(client.read().is_err(), "the rest of it is no request");
    assert_eq!(call(&mut proxy.client(), "GET k"), bulk("1"));
}
