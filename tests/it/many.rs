//! Several sets and several listeners in one process: each address serves its own servers in its own way.

use crate::support::{Counts, Plan, Proxy, call, connect, freeze, ok, plain_stage, settle, stage, turn, wait};
use redweir::demo::node::free_port;

#[test]
fn each_listener_serves_its_own_set_with_its_own_policy() {
    let mut first = plain_stage(1);
    let second = stage(Plan { replicas: 0, sentinels: 1, quorum: 1, master_name: "other".into(), ..Plan::default() });
    let [strict, other] = [(); 2].map(|()| free_port().expect("a port"));
    let proxy = Proxy::with_file(|port| {
        format!(
            "[[set]]\nname = \"first\"\nnode = {:?}\n\
             [[set]]\nname = \"second\"\nsentinel = {:?}\nmaster-name = \"other\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{port}\"\nset = \"first\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{strict}\"\nset = \"first\"\nread-policy = \"master\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{other}\"\nset = \"second\"\n",
            first.node_addresses(),
            second.sentinel_addresses(),
        )
    });
    let port = proxy.port;
    let [mut a, mut b, mut c] = [port, strict, other].map(|p| connect(&format!("127.0.0.1:{p}")));
    call(&mut a, "SET where first");
    call(&mut c, "SET where second");
    settle(&mut first, 0);
    assert_eq!(call(&mut connect(&first.nodes[0].address()), "GET where").text(), "first");
    assert_eq!(call(&mut connect(&second.nodes[0].address()), "GET where").text(), "second");
    proxy.wait_readers(1);
    Counts::reset(&first);
    // Who wrote asks the master first, so another one reads.
    let mut a = connect(&format!("127.0.0.1:{port}"));
    assert_eq!(
        [call(&mut a, "GET where"), call(&mut b, "GET where"), call(&mut b, "GET where")].map(|r| r.text()),
        ["first"; 3]
    );
    let counts = Counts::read(&first);
    assert_eq!((counts.on(0, "get"), counts.on(1, "get")), (2, 1));
}

#[test]
fn listeners_of_one_set_differ_in_freshness_and_in_acks() {
    const ROUNDS: u64 = 100;
    let mut stage = plain_stage(2);
    let [strong, eventual, acked] = [(); 3].map(|()| free_port().expect("a port"));
    let proxy = Proxy::with_file(|session| {
        format!(
            "node = {:?}\nacks-timeout = \"100ms\"\nacks-on-timeout = \"error\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{session}\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{strong}\"\nconsistency = \"strong\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{eventual}\"\nconsistency = \"eventual\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{acked}\"\nacks = 2\n",
            stage.node_addresses(),
        )
    });
    proxy.wait_readers(2);
    call(&mut proxy.client(), "SET n 0");
    settle(&mut stage, 0);
    freeze(&stage, 1);
    // Its reads that do not show what it has just written, and who was asked.
    let stale = |port: u16| {
        let mut client = connect(&format!("127.0.0.1:{port}"));
        Counts::reset(&stage);
        let old = |round: &u64| {
            assert_eq!(call(&mut client, &format!("SET n {round}")), ok());
            call(&mut client, "GET n").text() != round.to_string()
        };
        let stale = (1..=ROUNDS).filter(old).count();
        let counts = Counts::read(&stage);
        (stale, [0, 1, 2].map(|node| counts.on(node, "get")))
    };
    assert_eq!(stale(strong), (0, [ROUNDS, 0, 0]));
    let (old, asked) = stale(proxy.port);
    assert!(old == 0 && asked[2] > 0, "{old} {asked:?}");
    let (old, asked) = stale(eventual);
    assert!(old > 0 && asked[0] == 0 && asked[1] > 0 && asked[2] > 0, "{old} {asked:?}");
    assert_eq!(proxy.metric("redweir_acks_held_total", &[]), 0.0, "of those who did not want it");
    let unacked = call(&mut connect(&format!("127.0.0.1:{acked}")), "SET n 1").text();
    assert!(unacked.starts_with("UNACKED "), "{unacked}");
    assert_eq!(proxy.metric("redweir_acks_held_total", &[]), 1.0);
}

#[test]
fn of_two_masters_that_the_same_sentinels_watch_each_fails_over_by_itself() {
    let _turn = turn();
    let calm = stage(Plan { replicas: 1, sentinels: 3, master_name: "calm".into(), ..Plan::default() });
    let mut hit = plain_stage(2);
    for sentinel in &calm.sentinels {
        let mut client = sentinel.connect().expect("a Sentinel");
        for line in [
            format!("SENTINEL MONITOR hit 127.0.0.1 {} 2", hit.nodes[0].port),
            "SENTINEL SET hit down-after-milliseconds 1000 failover-timeout 6000".into(),
        ] {
            assert_eq!(call(&mut client, &line), ok());
        }
    }
    for sentinel in &calm.sentinels {
        wait("the Sentinels", || {
            let said = call(&mut sentinel.connect().map_err(|e| e.to_string())?, "SENTINEL MASTER hit");
            let said: Vec<String> = said.items().iter().map(redweir::demo::client::Reply::text).collect();
            let is = |name: &str| said.chunks(2).any(|field| field == [name, "2"]);
            if is("num-slaves") && is("num-other-sentinels") { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
    let of_calm = free_port().expect("a port");
    let proxy = Proxy::with_file(|port| {
        format!(
            "sentinel = {:?}\n[[set]]\nmaster-name = \"hit\"\n[[set]]\nmaster-name = \"calm\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{port}\"\nset = \"hit\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{of_calm}\"\nset = \"calm\"\n",
            calm.sentinel_addresses(),
        )
    });
    proxy.wait_readers(2);
    let mut client = connect(&format!("127.0.0.1:{of_calm}"));
    let mut at_hit = proxy.client();
    call(&mut at_hit, "SET whose hit");
    hit.nodes[0].kill();
    at_hit.send(b"SET whose another\r\n").expect("sent");
    let mut rounds = 0;
    wait("another master", || {
        rounds += 1;
        assert_eq!(call(&mut client, &format!("SET whose {rounds}")), ok());
        assert_eq!(call(&mut client, "GET whose").text(), rounds.to_string());
        match proxy.set_at(0)["shards"][0]["term"].as_u64() {
            Some(2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(at_hit.read().expect("held until then"), ok());
    assert_eq!(proxy.set_at(1)["shards"][0]["term"], 1);
    assert_eq!(proxy.set_at(1)["shards"][0]["master"], calm.nodes[0].address());
    let of = |name: &str| ["hit", "calm"].map(|set| proxy.metric(name, &[&format!("set=\"{set}\"")]));
    assert_eq!(of("redweir_failovers_total"), [2.0, 1.0]);
    let [hit, calm] = of("redweir_held_total");
    assert!(hit > 0.0 && calm == 0.0, "{hit} {calm}");
    // All three tell everybody of both, and each set heeds its own.
    let told = |set: &str| {
        proxy.metric("redweir_sentinel_events_total", &[&format!("set=\"{set}\""), "event=\"+switch-master\""])
    };
    wait("their word", || match told("hit") {
        3.0 => Ok(()),
        n => Err(n.to_string()),
    });
    assert_eq!(told("calm"), 0.0);
}

#[test]
fn logins_nobody_uses_any_more_make_room_and_nobody_becomes_somebody_else() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut admin = proxy.client();
    let mut settled: Vec<_> = (0..20)
        .map(|n| {
            assert_eq!(call(&mut admin, &format!("ACL SETUSER user-{n} on >secret ~* +@all")).text(), "OK");
            let mut client = proxy.client();
            assert_eq!(call(&mut client, &format!("AUTH user-{n} secret")).text(), "OK");
            client
        })
        .collect();
    // A default user without a password takes any: each is a login of its own.
    let mut other = proxy.client();
    for n in 0..2500 {
        assert_eq!(call(&mut other, &format!("AUTH default {n}")).text(), "OK", "{n}");
        if n % 100 == 0 {
            call(&mut other, "SET k v");
            assert_eq!(call(&mut other, "GET k").text(), "v");
        }
    }
    for (n, client) in settled.iter_mut().enumerate() {
        for _ in 0..2 {
            assert_eq!(call(client, "ACL WHOAMI").text(), format!("user-{n}"));
            call(client, "WATCH k");
            assert_eq!(call(client, "ACL WHOAMI").text(), format!("user-{n}"));
            call(client, "UNWATCH");
        }
    }
    assert_eq!(call(&mut other, "ACL WHOAMI").text(), "default");
}
