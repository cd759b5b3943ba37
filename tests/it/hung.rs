//! A master that stops without a word: what was asked of it waits for it as at a direct connection, but not for ever and not
//! beyond a switch, and nothing that needs it is lost in silence.

use std::io::ErrorKind;
use std::time::Duration;

use redweir::demo::client::encode;

use crate::support::{Client, Counts, Plan, Proxy, Reply, Stage, bulk, call, ok, plain_stage, stage, turn, wait};

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

#[test]
fn what_is_asked_of_a_hung_master_apart_ends_with_the_hold_time() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--down-after", "500ms", "--hold", "1s"]);
    let lines = ["CLIENT LIST", "CLIENT KILL ID 999999", "SELECT 1", "SCRIPT EXISTS x", "FUNCTION FLUSH"];
    let mut clients = lines.map(|line| (line, proxy.client()));
    // As many connections as there will be requests are open to the master.
    for line in ["MULTI", "DISCARD"] {
        clients.iter_mut().for_each(|(_, client)| assert_eq!(call(client, line), ok()));
    }
    stage.nodes[0].stop();
    for (line, client) in &mut clients {
        send(client, line);
    }
    for (line, client) in &mut clients {
        ends(client, line);
    }
    drop(clients);
    wait("the sessions' end", || match proxy.metric("redweir_sessions", &[]) {
        0.0 => Ok(()),
        left => Err(left.to_string()),
    });
    stage.nodes[0].cont();
}

/// redweir has concluded that the master answers nothing.
#[track_caller]
fn wait_silent(proxy: &Proxy) {
    wait("a silent master", || match proxy.nodes() {
        nodes if nodes.iter().any(|node| node["state"] == "silent") => Ok(()),
        nodes => Err(format!("{nodes:?}")),
    });
}

#[track_caller]
fn read(client: &mut Client, what: &str) -> Reply {
    client.read().unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// A master that is down for redweir long before it is for Sentinel.
fn patient_stages() -> [Stage; 2] {
    let plan = |sentinels| Plan {
        replicas: 1,
        sentinels,
        quorum: 1,
        down_after: Duration::from_secs(600),
        extra: vec!["enable-debug-command yes".into()],
        ..Plan::default()
    };
    [stage(plan(0)), stage(plan(1))]
}

#[test]
fn what_a_silent_master_was_sent_is_answered_on_the_same_connections_when_it_is_back() {
    let _turn = turn();
    for mut stage in patient_stages() {
        let proxy = Proxy::start(&stage, &["--down-after", "500ms"]);
        proxy.wait_readers(1);
        let mut clients: Vec<(&str, Client)> = Vec::new();
        let mut open = |what, before: &[&str]| {
            let mut client = proxy.client();
            for line in before {
                assert!(!call(&mut client, line).is_error(), "{line}");
            }
            clients.push((what, client));
        };
        open("INCR n", &["SET key 0"]);
        open("EXEC", &["WATCH key", "MULTI", "INCR n"]);
        open("MULTI\r\nINCR n\r\nEXEC", &["PING"]);
        open("BLPOP queue 0", &["PING"]);
        open("SUBSCRIBE news", &["PING"]);
        let lost = || proxy.metric("redweir_errors_total", &["source=\"connection_lost\""]);
        let before = lost();
        stage.nodes[0].stop();
        for (line, client) in &mut clients {
            send(client, line);
        }
        wait_silent(&proxy);
        let mut held = proxy.client();
        send(&mut held, "INCR n");
        wait("a write that is held", || match proxy.metric("redweir_held_total", &[]) {
            held if held >= 1.0 => Ok(()),
            held => Err(held.to_string()),
        });
        stage.nodes[0].cont();
        assert!(matches!(read(&mut held, "held"), Reply::Int(_)));
        let mut replies = clients.iter_mut().map(|(line, client)| (read(client, line), client));
        let mut next = || replies.next().expect("a client");
        assert!(matches!(next().0, Reply::Int(_)));
        assert!(matches!(next().0.items(), [Reply::Int(_)]));
        let (begun, unit) = next();
        assert_eq!((begun, read(unit, "MULTI").text()), (ok(), "QUEUED".into()));
        assert!(matches!(read(unit, "EXEC").items(), [Reply::Int(_)]));
        call(&mut held, "RPUSH queue served");
        assert_eq!(next().0.items(), [bulk("queue"), bulk("served")]);
        let (confirmed, subscriber) = next();
        assert_eq!(confirmed.items().first(), Some(&bulk("subscribe")));
        assert_eq!(call(&mut held, "PUBLISH news now"), Reply::Int(1));
        assert_eq!(read(subscriber, "news").items().last(), Some(&bulk("now")));
        assert_eq!(call(&mut held, "GET n"), bulk("4"), "each once");
        assert_eq!(proxy.metric("redweir_unknown_outcome_total", &[]), 0.0);
        assert_eq!(lost(), before, "no connection was given up");
        assert_eq!(proxy.metric("redweir_pins_lost_total", &[]), 0.0);
    }
}

#[test]
fn who_makes_the_master_silent_gets_its_answer() {
    let _turn = turn();
    for stage in patient_stages() {
        let proxy = Proxy::start(&stage, &["--down-after", "500ms", "--allow", "DEBUG"]);
        proxy.wait_readers(1);
        let busy = "local function now() local t = redis.call('TIME') return t[1] + t[2] / 1000000 end \
                    local began = now() while now() - began < 2 do end return redis.call('INCR', 'n')";
        let mut caller = proxy.client();
        for (line, reply) in [(vec!["DEBUG", "SLEEP", "2"], ok()), (vec!["EVAL", busy, "0"], Reply::Int(1))] {
            let args: Vec<&[u8]> = line.iter().map(|arg| arg.as_bytes()).collect();
            caller.send(&redweir::demo::client::encode(&args)).expect("sent");
            wait_silent(&proxy);
            assert_eq!(read(&mut caller, line[0]), reply);
        }
        // A read that is long on every node that it may be asked of.
        let long = busy.replace("redis.call('INCR', 'n')", "redis.call('GET', 'n')");
        assert_eq!(caller.call(&["EVAL_RO", &long, "1", "n"]).expect("an answer"), bulk("1"));
        assert_eq!(proxy.metric("redweir_unknown_outcome_total", &[]), 0.0);
    }
}

#[test]
fn what_a_hung_master_was_sent_ends_with_the_switch() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, down_after: Duration::from_secs(2), ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--down-after", "500ms", "--hold", "60s"]);
    proxy.wait_readers(2);
    let mut writer = proxy.client();
    call(&mut writer, "SET key 0");
    let mut pinned = proxy.client();
    for line in ["WATCH key", "MULTI", "SET key 1"] {
        call(&mut pinned, line);
    }
    let mut waiting = proxy.client();
    call(&mut waiting, "PING");
    let old = stage.nodes[0].address();
    stage.nodes[0].stop();
    for (client, line) in [(&mut writer, "SET key 2"), (&mut pinned, "EXEC"), (&mut waiting, "BLPOP queue 0")] {
        send(client, line);
    }
    wait_silent(&proxy);
    for (client, line) in [(&mut writer, "SET"), (&mut pinned, "EXEC")] {
        ends(client, line);
        let shard = &proxy.set()["shards"][0];
        assert!(shard["master"].as_str().is_some_and(|master| master != old), "{line} ended before: {shard}");
    }
    let mut other = proxy.client();
    assert_eq!(call(&mut other, "RPUSH queue served"), Reply::Int(1));
    assert_eq!(read(&mut waiting, "BLPOP").items(), [bulk("queue"), bulk("served")], "it is sent again");
    stage.nodes[0].cont();
}

#[test]
fn a_master_that_has_enough_before_it_is_sent_more_when_it_answers() {
    const CLIENTS: usize = 36;
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--workers", "1"]);
    proxy.wait_ready();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    // Each four requests of a kilobyte.
    let value = "v".repeat(1000);
    let batch = |n: usize| -> String { (0..4).map(|k| format!("SET key:{n}:{k} {value}{n}\r\n")).collect() };
    let sent = || proxy.metric("redweir_sent_bytes_total", &["peer=\"node\""]);
    let read = || proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
    // The connection is made.
    assert_eq!(call(&mut clients[0], "SET key 0"), ok());
    let (sent_before, read_before) = (sent(), read());
    stage.nodes[0].stop();
    for (n, client) in clients.iter_mut().enumerate() {
        let before = read();
        client.send(batch(n).as_bytes()).unwrap();
        wait("it to be read", || if read() > before { Ok(()) } else { Err(before.to_string()) });
    }
    let (read, sent) = (read() - read_before, sent() - sent_before);
    // First what is enough (32 KiB and the oldest request, which may be a ROLE), then a burst of 64; the rest is no burst.
    assert!(read > 140_000.0, "{read}");
    assert!((95_000.0..115_000.0).contains(&sent), "{sent} of {read}");
    stage.nodes[0].cont();
    for client in &mut clients {
        (0..4).for_each(|_| assert_eq!(client.read().unwrap(), ok()));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(call(client, &format!("GET key:{n}:3")).text(), format!("{value}{n}"));
    }
}

#[test]
fn a_crowd_s_reads_do_not_join_a_replica_that_owes_an_answer() {
    const CLIENTS: usize = 40;
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--workers", "1", "--down-after", "60s"]);
    proxy.wait_readers(2);
    // Both have shown how fast they are: many answers in one read.
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send("GET nothing\r\n".repeat(200).as_bytes()).expect("sent");
        (0..200).for_each(|_| assert_eq!(client.read().expect("a reply"), Reply::Nil));
    }
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    Counts::reset(&stage);
    stage.nodes[1].stop();
    let read = || proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
    for client in &mut clients {
        let before = read();
        send(client, "GET nothing");
        wait("it to be read", || if read() > before { Ok(()) } else { Err(before.to_string()) });
    }
    // A turn is 16 reads; before it is seen that nothing comes, the hung one gets very few.
    wait("nearly all to be answered by the other", || match Counts::read_some(&stage, |n| n == 2).on(2, "get") {
        n if n + 4 >= CLIENTS as u64 => Ok(()),
        n => Err(format!("{n}")),
    });
    stage.nodes[1].cont();
    clients.iter_mut().for_each(|client| assert_eq!(client.read().expect("a reply"), Reply::Nil));
}

#[test]
fn large_reads_that_a_hung_replica_was_sent_are_asked_elsewhere_as_they_were_whatever_was_read_meanwhile() {
    const CLIENTS: usize = 8;
    const EACH: usize = 14;
    const BYTES: usize = 16 * 1024;
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--workers", "1", "--down-after", "60s"]);
    proxy.wait_readers(1);
    let key = |n: usize, k: usize| format!("{n}:{k}.").repeat(BYTES).into_bytes()[..BYTES].to_vec();
    let mut master = stage.nodes[0].connect().expect("the master");
    for (n, k) in (0..CLIENTS).flat_map(|n| (0..EACH).map(move |k| (n, k))) {
        master.send(&encode(&[b"SET", &key(n, k), format!("value {n}:{k}").as_bytes()])).expect("sent");
        assert_eq!(master.read().expect("a reply"), ok());
    }
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    assert_eq!(call(&mut clients[0], "GET nothing"), Reply::Nil);
    stage.nodes[1].stop();
    let received = || proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
    for (n, client) in clients.iter_mut().enumerate() {
        let pipeline: Vec<u8> = (0..EACH).flat_map(|k| encode(&[b"GET", &key(n, k)])).collect();
        let whole = received() + pipeline.len() as f64;
        client.send(&pipeline).expect("sent");
        wait("it to be read", || if received() >= whole { Ok(()) } else { Err(received().to_string()) });
    }
    let retried = || proxy.metric("redweir_retried_total", &[]);
    assert_eq!(retried(), 0.0);
    // What these send is larger than all that is read at once, and lies where requests that were answered lay.
    let mut other = proxy.client();
    let value = "v".repeat(300_000);
    for _ in 0..20 {
        assert_eq!(other.call(&["SET", "other", &value]).expect("a reply"), ok());
    }
    stage.nodes[1].kill();
    for (n, client) in clients.iter_mut().enumerate() {
        for k in 0..EACH {
            assert_eq!(read(client, "GET").text(), format!("value {n}:{k}"));
        }
    }
    assert!(retried() >= (CLIENTS * EACH) as f64, "{}", retried());
}
