//! Sessions on a connection of their own when the master changes: what waits goes on waiting, what listens goes on listening,
//! and what cannot go on ends as it would at Redis.

use std::time::Duration;

use redweir::demo::client::encode;

use crate::support::{Client, Plan, Proxy, Reply, Stage, bulk, call, ok, plain_stage, settle, stage, turn, wait};

/// How the master comes to be another one. Node 1 is the new one unless Sentinel chooses.
#[derive(Debug, Clone, Copy)]
enum Switch {
    /// FAILOVER on the master: both live.
    Planned,
    /// REPLICAOF on both, no Sentinel.
    ByHand,
    /// kill -9, then REPLICAOF NO ONE on the replica, no Sentinel.
    KilledByHand,
    /// SENTINEL FAILOVER.
    Sentinel,
    /// kill -9, and Sentinel finds a new master.
    Killed,
}

impl Switch {
    fn stage(self) -> Stage {
        match self {
            Switch::Planned | Switch::ByHand | Switch::KilledByHand => plain_stage(1),
            Switch::Sentinel | Switch::Killed => stage(Plan { replicas: 1, ..Plan::default() }),
        }
    }

    #[track_caller]
    fn happen(self, stage: &mut Stage, proxy: &Proxy) {
        settle(stage, 0);
        let second = stage.nodes[1].port;
        match self {
            // Refused until the replica has acknowledged something, which it does once a second.
            Switch::Planned => wait("the failover to begin", || {
                match call(&mut node(stage, 0), &format!("FAILOVER TO 127.0.0.1 {second}")) {
                    reply if reply.is_error() => Err(reply.text()),
                    _ => Ok(()),
                }
            }),
            Switch::ByHand => {
                let mut old = node(stage, 0);
                call(&mut node(stage, 1), "REPLICAOF NO ONE");
                // While nobody knows which of them is master, the old one lets its clients go and closes them.
                wait("two masters", || match &proxy.set()["shards"][0]["writes"] {
                    held if held == "held" => Ok(()),
                    other => Err(other.to_string()),
                });
                call(&mut old, &format!("REPLICAOF 127.0.0.1 {second}"));
            }
            Switch::KilledByHand => {
                stage.nodes[0].kill();
                call(&mut node(stage, 1), "REPLICAOF NO ONE");
            }
            Switch::Sentinel => {
                let reply = call(&mut stage.sentinels[0].connect().expect("a Sentinel"), "SENTINEL FAILOVER mymaster");
                assert!(!reply.is_error(), "{reply:?}");
            }
            Switch::Killed => stage.nodes[0].kill(),
        }
        let new = stage.nodes[1].address();
        wait("the new master", || {
            let set = proxy.set();
            let found = set["shards"][0]["master"].as_str().or(set["master"].as_str()).map(str::to_owned);
            if found.as_deref() == Some(&*new) { Ok(()) } else { Err(format!("{found:?}, not {new}")) }
        });
    }
}

#[track_caller]
fn node(stage: &Stage, n: usize) -> Client {
    stage.nodes[n].connect().expect("a node")
}

fn send(client: &mut Client, line: &str) {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    client.send(&encode(&words)).expect("sent");
}

#[track_caller]
fn soon(client: &mut Client) -> Reply {
    client.socket().set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    client.read().unwrap_or_else(|e| panic!("no reply: {e}"))
}

/// Waits until so many clients of a node are blocked.
#[track_caller]
fn wait_blocked(stage: &Stage, n: usize, count: usize) {
    wait("blocked clients", || {
        let text = call(&mut node(stage, n), "INFO clients").text();
        let blocked = text.lines().find_map(|l| l.strip_prefix("blocked_clients:")).unwrap_or("none").to_owned();
        if blocked == count.to_string() { Ok(()) } else { Err(format!("{blocked} of {count}")) }
    });
}

/// Two clients for each version, RESP2 and RESP3.
fn both(proxy: &Proxy) -> [Client; 2] {
    [2, 3].map(|version| {
        let mut client = proxy.client();
        call(&mut client, &format!("HELLO {version}"));
        client
    })
}

/// Every blocking command waits while the master changes; each is then served by the new one.
fn blocked_over(switch: Switch) {
    let _turn = turn();
    let mut stage = switch.stage();
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    call(&mut proxy.client(), "XGROUP CREATE s2 g $ MKSTREAM");
    let lines = [
        ("BLPOP l1 0", "RPUSH l1 x y"),
        ("BRPOP none l2 60", "RPUSH l2 x y"),
        ("BLMOVE l3 m3 LEFT RIGHT 0", "RPUSH l3 x y"),
        ("BRPOPLPUSH l4 m4 60.5", "RPUSH l4 x y"),
        ("BLMPOP 60 1 l5 LEFT", "RPUSH l5 x y"),
        ("BZPOPMIN z1 0", "ZADD z1 1 x 2 y"),
        ("BZPOPMAX z2 60", "ZADD z2 1 x 2 y"),
        ("BZMPOP 0 1 z3 MIN", "ZADD z3 1 x 2 y"),
        ("XREAD BLOCK 60000 STREAMS s1 0", "XADD s1 1-1 f x"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS s2 >", "XADD s2 1-1 f x"),
    ];
    let mut waiting: Vec<Client> = Vec::new();
    for (i, (line, _)) in lines.iter().enumerate() {
        let [two, three] = both(&proxy);
        let mut client = if i % 2 == 0 { two } else { three };
        // What follows is answered afterwards.
        send(&mut client, line);
        send(&mut client, "ECHO behind");
        waiting.push(client);
    }
    wait_blocked(&stage, 0, lines.len());
    switch.happen(&mut stage, &proxy);
    wait_blocked(&stage, 1, lines.len());
    let mut pusher = proxy.client();
    for ((line, push), client) in lines.iter().zip(&mut waiting) {
        assert!(call(&mut pusher, push).int().is_some() || push.starts_with("XADD"), "{push}");
        let reply = soon(client);
        let text = format!("{reply:?}");
        assert!(text.contains("[120]") || text.contains("[121]"), "{line}: {text}");
        assert_eq!(soon(client), bulk("behind"), "{line}");
    }
    for (key, length) in [("l1", 1), ("l2", 1), ("l3", 1), ("l4", 1), ("l5", 1), ("m3", 1), ("m4", 1)] {
        assert_eq!(call(&mut pusher, &format!("LLEN {key}")).int(), Some(length), "{key}: one element taken, once");
    }
    assert!(proxy.metric("redweir_retried_total", &["kind=\"blocking\""]) >= lines.len() as f64);
    if matches!(switch, Switch::Sentinel) {
        // The old master still thought it was one: it was asked to let go, and took nothing out of a list meanwhile.
        assert!(proxy.metric("redweir_unblocked_total", &[]) >= lines.len() as f64);
    }
}

#[test]
fn what_is_blocked_outlives_a_planned_failover() {
    blocked_over(Switch::Planned);
}

#[test]
fn what_is_blocked_outlives_a_switch_by_hand() {
    blocked_over(Switch::ByHand);
}

#[test]
fn what_is_blocked_outlives_the_death_of_the_master() {
    blocked_over(Switch::KilledByHand);
}

#[test]
fn what_is_blocked_outlives_a_failover_by_sentinel() {
    blocked_over(Switch::Sentinel);
}

#[test]
fn what_is_blocked_outlives_a_dead_master_replaced_by_sentinel() {
    blocked_over(Switch::Killed);
}

/// Subscribers hear what is published after the switch, and see nothing of it.
fn subscribed_over(switch: Switch) {
    let _turn = turn();
    let mut stage = switch.stage();
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut clients = both(&proxy);
    for client in &mut clients {
        for line in ["SUBSCRIBE a b gone", "PSUBSCRIBE p*", "SSUBSCRIBE s", "UNSUBSCRIBE gone"] {
            send(client, line);
        }
        for _ in 0..6 {
            assert!(!soon(client).is_error());
        }
    }
    switch.happen(&mut stage, &proxy);
    wait("the subscriptions at the new master", || {
        let mut new = node(&stage, 1);
        let counts = [call(&mut new, "PUBSUB NUMSUB a b gone"), call(&mut new, "PUBSUB SHARDNUMSUB s")];
        let counts: Vec<i64> = counts.iter().flat_map(|c| c.items().to_vec()).filter_map(|i| i.int()).collect();
        let patterns = call(&mut new, "PUBSUB NUMPAT").int();
        if counts == [2, 2, 0, 2] && patterns == Some(1) { Ok(()) } else { Err(format!("{counts:?} {patterns:?}")) }
    });
    let mut publisher = proxy.client();
    for line in ["PUBLISH b one", "PUBLISH px two", "SPUBLISH s three"] {
        assert_eq!(call(&mut publisher, line).int(), Some(2), "{line}");
    }
    for client in &mut clients {
        for expected in ["one", "two", "three"] {
            assert_eq!(soon(client).items().last(), Some(&bulk(expected)), "nothing but the messages");
        }
        send(client, "UNSUBSCRIBE b");
        assert_eq!(soon(client).items().last().and_then(Reply::int), Some(2), "a and p* are left");
    }
    send(&mut clients[1], "SET k v");
    assert_eq!(soon(&mut clients[1]), ok());
    assert!(proxy.metric("redweir_pins_lost_total", &["outcome=\"moved\""]) >= 2.0);
    assert_eq!(proxy.metric("redweir_pins_lost_total", &["outcome=\"broken\""]), 0.0);
}

#[test]
fn subscriptions_outlive_a_planned_failover() {
    subscribed_over(Switch::Planned);
}

#[test]
fn subscriptions_outlive_a_switch_by_hand() {
    subscribed_over(Switch::ByHand);
}

#[test]
fn subscriptions_outlive_the_death_of_the_master() {
    subscribed_over(Switch::KilledByHand);
}

#[test]
fn subscriptions_outlive_a_failover_by_sentinel() {
    subscribed_over(Switch::Sentinel);
}

#[test]
fn subscriptions_outlive_a_dead_master_replaced_by_sentinel() {
    subscribed_over(Switch::Killed);
}

#[test]
fn the_writes_of_a_subscriber_outlive_a_planned_failover_and_happen_once() {
    let _turn = turn();
    let mut stage = Switch::Planned.stage();
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let [_, mut client] = both(&proxy);
    call(&mut client, "SUBSCRIBE a");
    let mut last = 0;
    let mut more = |client: &mut Client, n: usize| {
        for _ in 0..n {
            // Several at once: what is refused in the middle keeps its order.
            for line in ["INCR n", "GET n", "INCR n"] {
                send(client, line);
            }
            let replies: Vec<Option<i64>> = (0..3).map(|_| soon(client).int()).collect();
            assert_eq!(replies, [Some(last + 1), Some(last + 1), Some(last + 2)]);
            last += 2;
        }
    };
    more(&mut client, 20);
    let second = stage.nodes[1].port;
    settle(&mut stage, 0);
    assert_eq!(call(&mut node(&stage, 0), &format!("FAILOVER TO 127.0.0.1 {second}")), ok());
    more(&mut client, 50);
    wait("the new master", || match stage.info(1, "role")?.as_str() {
        "master" => Ok(()),
        role => Err(role.to_owned()),
    });
    more(&mut client, 20);
    assert_eq!(call(&mut node(&stage, 1), "GET n").int(), Some(180));
}

#[test]
fn client_unblock_ends_what_waits_as_redis_does_and_loses_nothing() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--workers", "2"]);
    let mut caller = proxy.client();
    for (line, timeout) in [
        ("BLPOP q 0", Reply::Nil),
        ("BLMOVE q r LEFT LEFT 0", Reply::Nil),
        ("XREAD BLOCK 0 STREAMS s $", Reply::Nil),
        ("WAIT 3 0", Reply::Int(0)),
    ] {
        for client in &mut both(&proxy) {
            let id = call(client, "CLIENT ID").text();
            assert_eq!(call(&mut caller, &format!("CLIENT UNBLOCK {id}")).int(), Some(0), "{line}: not blocked yet");
            for (how, expected) in [
                ("", timeout.clone()),
                (" TIMEOUT", timeout.clone()),
                (" ERROR", Reply::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
            ] {
                send(client, line);
                wait_blocked(&stage, 0, 1);
                assert_eq!(call(&mut caller, &format!("CLIENT UNBLOCK {id}{how}")).int(), Some(1), "{line}");
                assert_eq!(soon(client), expected, "{line}{how}");
            }
            assert_eq!(call(client, "PING"), Reply::Status("PONG".into()));
        }
    }
    // At the same moment as a push: it is served, or let go, and the element is never lost.
    let mut client = proxy.client();
    let id = call(&mut client, "CLIENT ID").text();
    for _ in 0..200 {
        send(&mut client, "BLPOP q 0");
        wait_blocked(&stage, 0, 1);
        send(&mut caller, &format!("CLIENT UNBLOCK {id} ERROR"));
        let mut pusher = node(&stage, 0);
        call(&mut pusher, "RPUSH q x");
        soon(&mut caller);
        // Read after its reply: by then the node has decided.
        let let_go = soon(&mut client).is_error();
        assert_eq!(call(&mut pusher, "LPOP q"), if let_go { bulk("x") } else { Reply::Nil });
    }
}

#[test]
fn a_client_that_leaves_while_it_is_blocked_takes_nothing_with_it() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    send(&mut client, "BLPOP q 0");
    wait_blocked(&stage, 0, 1);
    drop(client);
    wait_blocked(&stage, 0, 0);
    let mut other = proxy.client();
    assert_eq!(call(&mut other, "RPUSH q x").int(), Some(1));
    assert_eq!(call(&mut other, "LRANGE q 0 -1").items(), [bulk("x")]);
}

#[test]
fn a_client_that_leaves_while_there_is_no_master_takes_nothing_with_it() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "60s"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    send(&mut client, "BLPOP q 0");
    wait_blocked(&stage, 0, 1);
    stage.nodes[0].kill();
    drop(client);
    wait("the session's end", || match proxy.metric("redweir_sessions", &[]) {
        0.0 => Ok(()),
        n => Err(n.to_string()),
    });
    call(&mut node(&stage, 1), "REPLICAOF NO ONE");
    let mut other = proxy.client();
    assert_eq!(call(&mut other, "RPUSH q x").int(), Some(1));
    assert_eq!(call(&mut other, "LRANGE q 0 -1").items(), [bulk("x")]);
}

#[test]
fn a_blocking_command_that_comes_while_there_is_no_master_waits_for_one_no_longer_than_it_may() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "60s"]);
    proxy.wait_readers(1);
    stage.nodes[0].kill();
    wait("writes held", || match proxy.set().to_string().contains("\"held\"") {
        true => Ok(()),
        false => Err(proxy.set().to_string()),
    });
    let (mut two, mut three) = (proxy.client(), proxy.client());
    let (mut gone, mut patient) = (proxy.client(), proxy.client());
    send(&mut gone, "BLPOP q 0");
    send(&mut patient, "BLPOP p 0");
    send(&mut two, "BLPOP q 0.2");
    send(&mut three, "BLMOVE q r LEFT LEFT 0.2");
    assert_eq!((soon(&mut two), soon(&mut three)), (Reply::Nil, Reply::Nil));
    let sessions = || proxy.metric("redweir_sessions", &[]);
    assert_eq!(sessions(), 4.0);
    drop(gone);
    wait("its end", || if sessions() == 3.0 { Ok(()) } else { Err(sessions().to_string()) });
    call(&mut node(&stage, 1), "REPLICAOF NO ONE");
    assert_eq!(call(&mut two, "RPUSH q x").int(), Some(1));
    assert_eq!(call(&mut two, "LLEN q").int(), Some(1));
    call(&mut two, "RPUSH p y");
    assert_eq!(soon(&mut patient).items(), [bulk("p"), bulk("y")]);
}

#[test]
fn what_a_hung_master_did_not_answer_is_answered_by_the_next_one() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let clients = || {
        let [two, mut three] = both(&proxy);
        call(&mut three, "SUBSCRIBE first");
        [two, three]
    };
    let ([mut subscriber, mut reader], [mut blocked, mut writer]) = (clients(), clients());
    let mut watcher = proxy.client();
    call(&mut subscriber, "SUBSCRIBE first");
    call(&mut watcher, "WATCH k");
    settle(&mut stage, 0);
    stage.nodes[0].stop();
    send(&mut subscriber, "SUBSCRIBE second third");
    send(&mut subscriber, "UNSUBSCRIBE first");
    send(&mut reader, "GET k");
    send(&mut blocked, "BLPOP q 60");
    send(&mut writer, "SET k v");
    call(&mut node(&stage, 1), "REPLICAOF NO ONE");
    for expected in [2, 3, 2] {
        assert_eq!(soon(&mut subscriber).items().last().and_then(Reply::int), Some(expected));
    }
    assert_eq!(soon(&mut reader), Reply::Nil);
    wait_blocked(&stage, 1, 1);
    call(&mut proxy.client(), "RPUSH q x");
    assert_eq!(soon(&mut blocked).items().last(), Some(&bulk("x")));
    // What may have been executed there, and what was bound to that node, is not.
    for client in [&mut writer, &mut watcher] {
        client.socket().set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
        assert_eq!(client.read().expect_err("closed").kind(), std::io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(proxy.metric("redweir_unknown_outcome_total", &[]), 1.0);
    stage.nodes[0].cont();
    assert_eq!(call(&mut proxy.client(), "GET k"), Reply::Nil);
}

#[test]
fn five_hundred_subscribers_go_on_at_once() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut clients: Vec<Client> = (0..500).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| drop(call(client, "SUBSCRIBE a")));
    Switch::KilledByHand.happen(&mut stage, &proxy);
    wait("all of them", || match call(&mut node(&stage, 1), "PUBSUB NUMSUB a").items()[1].int() {
        Some(500) => Ok(()),
        n => Err(format!("{n:?}")),
    });
    assert_eq!(call(&mut proxy.client(), "PUBLISH a hello").int(), Some(500));
    for client in &mut clients {
        assert_eq!(soon(client).items()[2], bulk("hello"));
    }
}

#[test]
fn a_blocked_command_ends_by_its_own_time_although_there_is_no_master() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "60s"]);
    proxy.wait_readers(1);
    let mut clients = both(&proxy);
    for client in &mut clients {
        send(client, "BLPOP q 2");
    }
    wait_blocked(&stage, 0, 2);
    stage.nodes[0].kill();
    for client in &mut clients {
        assert_eq!(soon(client), Reply::Nil);
    }
    call(&mut node(&stage, 1), "REPLICAOF NO ONE");
    assert_eq!(call(&mut clients[0], "PING"), Reply::Status("PONG".into()));
}

#[test]
fn a_watch_ends_with_its_master_and_is_counted() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "WATCH k"), ok());
    Switch::Planned.happen(&mut stage, &proxy);
    client.socket().set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    assert_eq!(client.read().expect_err("closed").kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(proxy.metric("redweir_pins_lost_total", &["outcome=\"broken\""]), 1.0);
}

#[test]
fn a_pinned_session_may_log_in_and_change_its_version() {
    let stage = plain_stage(0);
    call(&mut node(&stage, 0), "ACL SETUSER ann on >secret ~a* +@all");
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "WATCH k"), ok());
    assert!(call(&mut client, "AUTH ann wrong").text().starts_with("WRONGPASS"));
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("default"));
    assert_eq!(call(&mut client, "AUTH ann secret"), ok());
    assert_eq!(call(&mut client, "UNWATCH"), ok());
    // Free again, and still ann, on shared connections as well.
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("ann"));
    assert!(call(&mut client, "GET b").text().starts_with("NOPERM"));
    assert_eq!(call(&mut client, "WATCH ak"), ok());
    let hello = call(&mut client, "HELLO 3 AUTH default any SETNAME me");
    let Reply::Map(fields) = hello else { panic!("{hello:?}") };
    let field = |name: &str| fields.iter().find(|(key, _)| *key == bulk(name)).map(|(_, value)| value.clone());
    assert_eq!(field("id"), Some(call(&mut client, "CLIENT ID")));
    assert_eq!(call(&mut client, "UNWATCH"), ok());
    assert_eq!(call(&mut client, "CLIENT GETNAME"), bulk("me"));
    assert_eq!(call(&mut client, "GET b"), Reply::Nil);
    call(&mut client, "HSET h f v");
    assert!(matches!(call(&mut client, "HGETALL h"), Reply::Map(_)));
    // As a subscriber too.
    assert!(matches!(call(&mut client, "SUBSCRIBE ch"), Reply::Push(_)));
    assert_eq!(call(&mut client, "AUTH ann secret"), ok());
    assert!(matches!(call(&mut client, "UNSUBSCRIBE"), Reply::Push(_)));
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("ann"));
}

fn invalidated(keys: &[&str]) -> Reply {
    let keys = if keys.is_empty() { Reply::Nil } else { Reply::Array(keys.iter().map(|k| bulk(k)).collect()) };
    Reply::Push(vec![bulk("invalidate"), keys])
}

#[test]
fn invalidations_outlive_a_switch_which_invalidates_everything() {
    for switch in [Switch::Planned, Switch::KilledByHand] {
        let _turn = turn();
        let mut stage = switch.stage();
        let proxy = Proxy::start(&stage, &[]);
        proxy.wait_readers(1);
        let mut writer = proxy.client();
        let [_, mut each] = both(&proxy);
        let [_, mut all] = both(&proxy);
        assert_eq!(call(&mut each, "CLIENT TRACKING on"), ok());
        assert_eq!(call(&mut all, "CLIENT TRACKING on BCAST PREFIX a PREFIX b"), ok());
        for (key, round) in [("a1", 1), ("b1", 2)] {
            call(&mut each, &format!("GET {key}"));
            assert_eq!(call(&mut writer, &format!("SET {key} {round}")), ok());
            assert_eq!((soon(&mut each), soon(&mut all)), (invalidated(&[key]), invalidated(&[key])));
        }
        switch.happen(&mut stage, &proxy);
        assert_eq!((soon(&mut each), soon(&mut all)), (invalidated(&[]), invalidated(&[])));
        assert_eq!(call(&mut each, "GET a1"), bulk("1"));
        assert_eq!(call(&mut all, "PING"), Reply::Status("PONG".into()));
        assert_eq!(call(&mut writer, "SET a1 2"), ok());
        assert_eq!((soon(&mut each), soon(&mut all)), (invalidated(&["a1"]), invalidated(&["a1"])), "{switch:?}");
        for client in [&mut each, &mut all] {
            let Reply::Map(info) = call(client, "CLIENT TRACKINGINFO") else { panic!("no map") };
            assert_eq!(info[0].0, bulk("flags"));
            assert_eq!(call(client, "CLIENT TRACKING off"), ok());
        }
        wait("free sessions", || match proxy.metric("redweir_pinned_sessions", &[]) {
            0.0 => Ok(()),
            n => Err(n.to_string()),
        });
    }
}

#[test]
fn tracking_in_all_its_modes_answers_as_redis_does() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    for lines in [
        &["CLIENT TRACKING on OPTIN", "GET a", "CLIENT CACHING yes", "GET b", "SET a 1", "SET b 1", "CLIENT GETREDIR"]
            [..],
        &[
            "CLIENT TRACKING on OPTOUT",
            "CLIENT CACHING no",
            "GET a",
            "GET b",
            "SET a 1",
            "SET b 1",
            "CLIENT TRACKINGINFO",
        ],
        &["CLIENT TRACKING on NOLOOP", "GET a", "SET a 2", "CLIENT TRACKINGINFO"],
        &["CLIENT CACHING yes", "CLIENT TRACKING maybe", "CLIENT GETREDIR", "CLIENT TRACKING", "GET a"],
        &[
            "CLIENT TRACKING on BCAST PREFIX a PREFIX ab",
            "CLIENT TRACKING on OPTIN OPTOUT",
            "CLIENT TRACKING off",
            "GET a",
        ],
        &["MULTI", "CLIENT TRACKING on", "EXEC", "GET a", "SET a 3"],
    ] {
        let script: Vec<u8> = std::iter::once(&"HELLO 3")
            .chain(lines)
            .flat_map(|line| encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
            .collect();
        let reply = |port| {
            call(&mut node(&stage, 0), "FLUSHALL");
            let answer = crate::support::raw::talk(port, &[&script]);
            // Behind HELLO's map, whose id is another.
            let from = answer.bytes.windows(11).position(|w| w == b"modules\r\n*0").unwrap_or(0);
            answer.bytes[from..].escape_ascii().to_string()
        };
        assert_eq!(reply(proxy.port), reply(stage.nodes[0].port), "{lines:?}");
    }
}

#[test]
fn a_login_inside_a_transaction_holds_behind_it() {
    let stage = plain_stage(0);
    call(&mut node(&stage, 0), "ACL SETUSER ann on >secret ~* +@all");
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    for line in ["MULTI", "AUTH ann wrong", "GET k", "AUTH ann secret"] {
        assert!(!call(&mut client, line).is_error(), "{line}");
    }
    assert_eq!(call(&mut client, "EXEC").items()[2], ok());
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("ann"));
    for line in ["MULTI", "AUTH default any", "DISCARD"] {
        assert!(!call(&mut client, line).is_error(), "{line}");
    }
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("ann"));
}

#[test]
fn monitor_shows_commands_before_and_after_a_switch_where_it_is_allowed() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--monitor", "on"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "MONITOR"), ok());
    let mut other = proxy.client();
    let mut see = |client: &mut Client, value: &str| {
        assert_eq!(call(&mut other, &format!("SET seen {value}")), ok());
        while !soon(client).text().contains(value) {}
    };
    see(&mut client, "before");
    Switch::Planned.happen(&mut stage, &proxy);
    wait("the monitor at the new master", || {
        let text = call(&mut node(&stage, 1), "CLIENT LIST").text();
        if text.contains("cmd=monitor") { Ok(()) } else { Err(text) }
    });
    see(&mut client, "after");
    send(&mut client, "RESET");
    while soon(&mut client) != Reply::Status("RESET".into()) {}
    assert_eq!(call(&mut client, "GET seen"), bulk("after"));
    let strict = Proxy::start(&stage, &[]);
    assert!(call(&mut strict.client(), "MONITOR").text().contains("refused"));
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_at_nobody_elses_cost() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-client-output", "1mb"]);
    let mut slow = proxy.client();
    let mut good = proxy.client();
    call(&mut slow, "SUBSCRIBE a");
    call(&mut good, "SUBSCRIBE a");
    let mut publisher = proxy.client();
    let message = "x".repeat(64 * 1024);
    for sent in 0..2000 {
        call(&mut publisher, &format!("PUBLISH a {message}"));
        assert_eq!(soon(&mut good).items().len(), 3);
        if proxy.metric("redweir_errors_total", &["source=\"slow_client\""]) > 0.0 {
            wait("its end", || match call(&mut publisher, "PUBLISH a end").int() {
                Some(1) => Ok(()),
                n => Err(format!("{n:?} subscribers after {sent} messages")),
            });
            return;
        }
    }
    panic!("125 MiB wait for a client that does not read");
}
