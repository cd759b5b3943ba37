//! Every limit: what is beyond is refused in so many words and counted, and what is within goes on in its order.

use std::io::Read;

use redweir::demo::client::encode;

use crate::support::raw::{self, End};
use crate::support::{Client, Counts, Proxy, Reply, Stage, bulk, call, ok, plain_stage, settle, wait};

const HOLD_FULL: &str = "MASTERDOWN redweir: no verified master and the queue of held requests is full (hold-bytes, hold-session-bytes); nothing was executed";
const UPSTREAM_FULL: &str = "TRYAGAIN redweir: too many bytes wait for this node (max-upstream); nothing was executed";

const PINNED_FULL: &str = "ERR redweir: too many connections of their own in use (max-pinned); nothing was executed";

fn refused(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("redweir_refused_total", &[&format!("reason=\"{reason}\"")])
}

fn send(client: &mut Client, args: &[&str]) {
    let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
    client.send(&encode(&args)).expect("sent");
}

#[track_caller]
fn wait_metric(proxy: &Proxy, name: &str, labels: &[&str], value: f64) {
    wait(name, || match proxy.metric(name, labels) {
        now if (now - value).abs() < 0.5 => Ok(()),
        now => Err(format!("{now}, not {value}")),
    });
}

#[test]
fn what_is_held_of_all_clients_together_is_bounded_and_goes_on_in_order() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "60s", "--hold-bytes", "10kb"]);
    let [mut first, mut second, mut third] = [(); 3].map(|()| proxy.client());
    stage.nodes[0].kill();
    wait("the hold", || match proxy.set()["shards"][0]["writes"].as_str() {
        Some("held") => Ok(()),
        _ => Err(proxy.set().to_string()),
    });
    let large = "x".repeat(6000);
    let lines = [vec!["RPUSH", "list", "a"], vec!["RPUSH", "list", &large], vec!["RPUSH", "list", "b"]];
    let script: Vec<u8> =
        lines.iter().flat_map(|l| encode(&l.iter().map(|w| w.as_bytes()).collect::<Vec<_>>())).collect();
    first.send(&script).expect("sent");
    wait_metric(&proxy, "redweir_holding_sessions", &[], 1.0);
    let held = proxy.metric("redweir_holding_bytes", &[]);
    assert!(held >= script.len() as f64, "{held}");
    let said = second.call(&["SET", "second", &large]).expect("a reply");
    assert_eq!((said, refused(&proxy, "hold")), (Reply::Error(HOLD_FULL.into()), 1.0));
    send(&mut third, &["SET", "third", "fits"]);
    wait_metric(&proxy, "redweir_holding_sessions", &[], 2.0);
    stage.nodes[0].resume().expect("started");
    assert_eq!([(); 3].map(|()| first.read().expect("a reply")), [1, 2, 3].map(Reply::Int));
    assert_eq!(third.read().expect("a reply"), ok());
    assert_eq!(call(&mut second, "LRANGE list 0 -1"), Reply::Array(vec![bulk("a"), bulk(&large), bulk("b")]));
    assert_eq!((proxy.metric("redweir_holding_bytes", &[]), refused(&proxy, "hold")), (0.0, 1.0));
}

#[test]
fn a_client_too_many_is_told_so_as_by_redis_and_let_in_when_another_leaves() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-sessions", "2"]);
    let mut clients: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(call(client, "PING").text(), "PONG"));
    let mut told = String::new();
    let _ = proxy.client().socket().read_to_string(&mut told);
    assert_eq!(told, "-ERR max number of clients reached\r\n");
    assert_eq!(proxy.metric("redweir_connections_refused_total", &[]), 1.0);
    drop(clients.pop());
    wait_metric(&proxy, "redweir_sessions", &[], 1.0);
    assert_eq!(call(&mut proxy.client(), "PING").text(), "PONG");
    assert_eq!(call(&mut clients[0], "PING").text(), "PONG");
    assert_eq!(proxy.metric("redweir_connections_refused_total", &[]), 1.0);
}

/// A master that hangs and that nobody takes for dead, with redweir in front of it; and how many bytes redweir has sent it.
#[track_caller]
fn hung(flags: &[&str]) -> (Stage, Proxy, f64) {
    let mut stage = plain_stage(0);
    // At other levels redweir asks the master for its offset now and then, too.
    let flags = [&["--down-after", "60s", "--consistency", "eventual"], flags].concat();
    let proxy = Proxy::start(&stage, &flags);
    call(&mut proxy.client(), "SET before 1");
    stage.nodes[0].stop();
    let sent = proxy.metric("redweir_sent_bytes_total", &["peer=\"node\""]);
    (stage, proxy, sent)
}

#[test]
fn a_client_that_waits_for_as_many_replies_as_it_may_is_not_read_from() {
    let (mut stage, proxy, _) = hung(&["--max-pipeline", "4"]);
    let mut eager = proxy.client();
    let request = encode(&[b"RPUSH", b"list", b"value"]);
    let read = || proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
    let before = read();
    let wait_read = |requests: usize| {
        let bytes = before + (requests * request.len()) as f64;
        wait_metric(&proxy, "redweir_received_bytes_total", &["peer=\"client\""], bytes);
    };
    // One by one: what comes in one read may go beyond.
    for n in 1..=4 {
        eager.send(&request).expect("sent");
        wait_read(n);
    }
    for _ in 5..=20 {
        eager.send(&request).expect("sent");
    }
    // Others are, although theirs came later.
    let mut other = proxy.client();
    for n in 1..=4 {
        other.send(&request).expect("sent");
        wait_read(4 + n);
    }
    stage.nodes[0].cont();
    let mut all = numbers(&mut eager, 20);
    assert!(all.is_sorted(), "{all:?}");
    all.extend(numbers(&mut other, 4));
    all.sort_unstable();
    assert_eq!(all, (1..=24).collect::<Vec<_>>());
}

#[track_caller]
fn numbers(client: &mut Client, count: usize) -> Vec<i64> {
    (0..count).map(|_| client.read().expect("a reply").int().expect("a number")).collect()
}

#[test]
fn clients_that_send_more_than_may_wait_for_a_node_are_not_read_from_until_it_answers() {
    const CLIENTS: usize = 12;
    const EACH: usize = 256;
    const MIB: f64 = 1024.0 * 1024.0;
    let (mut stage, proxy, _) = hung(&["--max-upstream", "8mb"]);
    let value = "x".repeat(16 * 1024);
    let read = || proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]) / MIB;
    let before = read();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..CLIENTS)
            .map(|who| {
                let (mut client, value) = (proxy.client(), &value);
                scope.spawn(move || {
                    let keys: Vec<String> = (0..EACH).map(|n| format!("{who}:{n}")).collect();
                    let pipeline: Vec<_> = keys.iter().map(|key| vec!["SET", key, value]).collect();
                    client.pipeline(&pipeline).expect("replies").iter().all(|reply| *reply == ok())
                })
            })
            .collect();
        let mut last = before;
        wait("no more to be read", || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let now = read();
            let settled = now > before + 2.0 && now == std::mem::replace(&mut last, now);
            if settled { Ok(()) } else { Err(format!("{now} MiB")) }
        });
        // 2 MiB, and what each had read by then.
        assert!(last - before < 2.0 + CLIENTS as f64 * 0.07, "{} MiB of {}", last - before, CLIENTS * EACH / 64);
        stage.nodes[0].cont();
        assert!(writers.into_iter().all(|writer| writer.join().expect("a writer")), "something was refused");
    });
    assert_eq!(refused(&proxy, "full"), 0.0);
    assert_eq!(call(&mut proxy.client(), "DBSIZE"), Reply::Int((CLIENTS * EACH) as i64 + 1));
}

/// A client that is not read from once its write is on its way, for what `fillers` others of 60 kB have there, or by `flags` alone.
fn read_follows_write(flags: &[&str], fillers: usize) {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[&["--down-after", "60s", "--consistency", "eventual"], flags].concat());
    proxy.wait_readers(1);
    call(&mut proxy.client(), "SET before 1");
    settle(&mut stage, 0);
    Counts::reset(&stage);
    stage.nodes[0].stop();
    let mut sent = proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
    let mut send_and_wait = |client: &mut Client, request: &[u8]| {
        client.send(request).expect("sent");
        sent += request.len() as f64;
        wait_metric(&proxy, "redweir_received_bytes_total", &["peer=\"client\""], sent);
    };
    let (mut filling, mut client) = (proxy.client(), proxy.client());
    for _ in 0..fillers {
        send_and_wait(&mut filling, &encode(&[b"SET", b"fill", "x".repeat(60_000).as_bytes()]));
    }
    send_and_wait(&mut client, &encode(&[b"SET", b"key", b"value"]));
    send(&mut client, &["GET", "key"]);
    stage.nodes[0].cont();
    assert_eq!((client.read().expect("a reply"), client.read().expect("a reply")), (ok(), bulk("value")));
    assert_eq!([0, 1].map(|node| Counts::read(&stage).on(node, "get")), [1, 0]);
}

#[test]
fn a_read_that_waited_for_room_behind_its_own_write_follows_it_to_the_master() {
    // Two are more than a quarter of what may wait: who has requests there is read from no further.
    read_follows_write(&["--max-upstream", "256kb"], 2);
}

#[test]
fn a_read_that_waited_for_a_reply_behind_its_own_write_follows_it_to_the_master() {
    read_follows_write(&["--max-pipeline", "1"], 0);
}

#[test]
fn what_waits_for_a_node_is_bounded_and_the_rest_goes_on() {
    let (mut stage, proxy, sent) = hung(&["--max-upstream", "2kb"]);
    let value = "x".repeat(1500);
    let mut within = proxy.client();
    send(&mut within, &["SET", "a", &value]);
    wait("it on the wire", || match proxy.metric("redweir_sent_bytes_total", &["peer=\"node\""]) {
        now if now > sent + 1500.0 => Ok(()),
        now => Err(now.to_string()),
    });
    let mut beyond = proxy.client();
    let said = beyond.call(&["SET", "b", &value]).expect("a reply");
    assert_eq!((said, refused(&proxy, "full")), (Reply::Error(UPSTREAM_FULL.into()), 1.0));
    // There is room for this one.
    send(&mut beyond, &["SET", "c", "1"]);
    stage.nodes[0].cont();
    assert_eq!((within.read().expect("a reply"), beyond.read().expect("a reply")), (ok(), ok()));
    assert_eq!(call(&mut within, "EXISTS a b c"), Reply::Int(2));
    assert_eq!(refused(&proxy, "full"), 1.0);
}

#[test]
fn so_many_connections_are_shared_for_each_node_and_no_more() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--connections-per-node", "3", "--consistency", "eventual"]);
    proxy.wait_readers(1);
    call(&mut proxy.client(), "SET k v");
    settle(&mut stage, 0);
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!((call(client, "SET k v"), call(client, "GET k")), (ok(), bulk("v")));
    }
    let list = call(&mut stage.nodes[1].connect().expect("a node"), "CLIENT LIST").text();
    assert_eq!(list.lines().filter(|line| line.contains("cmd=get")).count(), 3, "{list}");
    assert_eq!(proxy.metric("redweir_upstream_connects_total", &[]), 6.0);
}

#[test]
fn of_scripts_the_last_ones_are_remembered_by_number_and_by_bytes() {
    let stage = plain_stage(0);
    for (flags, padding) in [(["--max-scripts", "2"], 0), (["--max-script-bytes", "1kb"], 400)] {
        let proxy = Proxy::start(&stage, &flags);
        let mut client = proxy.client();
        let comment = "-".repeat(2 + padding);
        let names: Vec<String> = (1..=3)
            .map(|n| {
                let body = format!("return {n} {comment}");
                client.call(&["SCRIPT", "LOAD", &body]).expect("a reply").text()
            })
            .collect();
        // Behind redweir's back: the nodes have lost them all.
        call(&mut stage.nodes[0].connect().expect("a node"), "SCRIPT FLUSH");
        let replies: Vec<Reply> = names.iter().map(|name| call(&mut client, &format!("EVALSHA {name} 0"))).collect();
        assert!(replies[0].text().starts_with("NOSCRIPT "), "{flags:?} {replies:?}");
        assert_eq!(replies[1..], [2, 3].map(Reply::Int), "{flags:?}");
    }
}

#[test]
fn a_value_larger_than_may_be_is_refused_with_the_text_of_redis_before_it_comes() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-bulk", "2kb"]);
    let mut client = proxy.client();
    let value = "x".repeat(2048);
    assert_eq!(client.call(&["SET", "k", &value]).expect("a reply"), ok());
    let direct = &mut stage.nodes[0].connect().expect("the master");
    assert_eq!(call(direct, "CONFIG SET proto-max-bulk-len 1mb"), ok());
    let refused = |port, size: usize| {
        raw::talk_unmarked(port, &[format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${size}\r\n").as_bytes()])
    };
    let ours = refused(proxy.port, 2049);
    assert_eq!((&ours, ours.end), (&refused(stage.nodes[0].port, (1 << 20) + 1), End::Closed));
    assert_eq!(proxy.metric("redweir_errors_total", &["source=\"client_protocol\""]), 1.0);
    assert_eq!(call(&mut client, "STRLEN k"), Reply::Int(2048));
}

#[test]
fn connections_of_their_own_are_bounded_and_free_again_when_they_are_given_back() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-pinned", "1"]);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!(call(&mut first, "WATCH k"), ok());
    assert_eq!(call(&mut second, "BLPOP list 1"), Reply::Error(PINNED_FULL.into()));
    assert_eq!((call(&mut second, "SET k v"), call(&mut first, "GET k")), (ok(), bulk("v")));
    assert_eq!(call(&mut first, "UNWATCH"), ok());
    assert_eq!(call(&mut second, "RPUSH list x"), Reply::Int(1));
    assert_eq!(call(&mut second, "BLPOP list 1"), Reply::Array(vec![bulk("list"), bulk("x")]));
}

#[test]
fn replies_kept_for_a_client_that_does_not_read_are_bounded_and_cost_nobody_else_anything() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-client-output", "1mb"]);
    let (mut slow, mut good) = (proxy.client(), proxy.client());
    let value = "x".repeat(300_000);
    assert_eq!(good.call(&["SET", "k", &value]).expect("a reply"), ok());
    // Too much for what lies between redweir and its client, too.
    let asked = encode(&[b"GET", b"k"]).repeat(100);
    slow.send(&asked).expect("sent");
    wait_metric(&proxy, "redweir_errors_total", &["source=\"slow_client\""], 1.0);
    assert_eq!(call(&mut good, "STRLEN k"), Reply::Int(300_000));
    let mut whole = 0;
    while slow.read().is_ok_and(|reply| reply == bulk(&value)) {
        whole += 1;
    }
    assert!(whole < 100, "nothing was dropped");
}
