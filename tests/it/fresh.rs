//! Fresh reads: a client sees what it wrote and never goes back in time, though replicas lag.
//!
//! A replica is made to lag by CLIENT PAUSE WRITE (`support::freeze`).

use crate::support::link::{Faults, Link, reroute};
use crate::support::{Client, Counts, Plan, Proxy, Stage, call, freeze, plain_stage, settle, stage, turn, wait};

const ROUNDS: i64 = 400;

/// A master, a replica that stands still and one that does not.
#[track_caller]
fn picture(flags: &[&str]) -> (Stage, Proxy) {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, flags);
    proxy.wait_readers(2);
    call(&mut proxy.client(), "SET n 0");
    settle(&mut stage, 0);
    freeze(&stage, 1);
    Counts::reset(&stage);
    (stage, proxy)
}

/// Writes and reads back; how many reads did not show the write.
fn write_and_read(client: &mut Client) -> usize {
    let read_back = |round: &i64| {
        call(client, &format!("SET n {round}"));
        call(client, "GET n").text() != round.to_string()
    };
    (1..=ROUNDS).filter(read_back).count()
}

/// Reads what another client counts up; how often it went back.
fn watch(writer: &mut Client, reader: &mut Client) -> usize {
    let (mut last, mut back) = (0, 0);
    for round in 1..=ROUNDS {
        call(writer, &format!("SET n {round}"));
        for _ in 0..3 {
            let seen: i64 = call(reader, "GET n").text().parse().expect("a number");
            back += usize::from(seen < last);
            last = seen;
        }
    }
    back
}

#[test]
fn a_client_sees_its_own_writes_while_a_replica_stands_still() {
    for flags in [[].as_slice(), &["--strict", "on"]] {
        let (stage, proxy) = picture(flags);
        assert_eq!(write_and_read(&mut proxy.client()), 0);
        let counts = Counts::read(&stage);
        assert!(counts.on(2, "get") > 0, "the replica that keeps up was never asked");
    }
    let (_stage, eventual) = picture(&["--consistency", "eventual"]);
    assert!(write_and_read(&mut eventual.client()) > 0, "the test cannot see a stale read");
}

#[test]
fn a_client_never_goes_back_in_time_while_a_replica_stands_still() {
    for flags in [[].as_slice(), &["--strict", "on"]] {
        let (stage, proxy) = picture(flags);
        let (mut writer, mut reader) = (proxy.client(), proxy.client());
        assert_eq!(watch(&mut writer, &mut reader), 0);
        let counts = Counts::read(&stage);
        assert!(counts.on(1, "get") + counts.on(2, "get") > 0, "no replica was asked");
    }
    let (_stage, eventual) = picture(&["--consistency", "eventual"]);
    let (mut writer, mut reader) = (eventual.client(), eventual.client());
    assert!(watch(&mut writer, &mut reader) > 0, "the test cannot see a step back");
}

#[test]
fn a_user_who_may_not_ask_for_the_role_sees_its_writes_too() {
    let (stage, proxy) = picture(&[]);
    for node in &stage.nodes {
        call(&mut node.connect().expect("a node"), "ACL SETUSER plain on >secret ~* &* +@all -@dangerous");
    }
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "AUTH plain secret").text(), "OK");
    assert_eq!(write_and_read(&mut client), 0);
    assert_eq!(watch(&mut proxy.client(), &mut client), 0);
}

#[test]
fn who_logs_in_reads_as_the_new_user_at_once() {
    let (stage, proxy) = picture(&[]);
    for node in &stage.nodes {
        call(&mut node.connect().expect("a node"), "ACL SETUSER narrow on >secret ~other +@all");
    }
    for _ in 0..20 {
        let mut client = proxy.client();
        for line in ["SET n 1", "GET n", "GET n"] {
            assert!(!call(&mut client, line).is_error());
        }
        assert_eq!(call(&mut client, "AUTH narrow secret").text(), "OK");
        assert!(call(&mut client, "GET n").text().starts_with("NOPERM"), "read under the old user");
    }
}

#[test]
fn a_read_too_large_to_be_held_is_fresh_too() {
    let (_stage, proxy) = picture(&["--stream-above", "64kb"]);
    let mut client = proxy.client();
    let filler = "x".repeat(100_000);
    for round in 1..=20 {
        call(&mut client, &format!("SET n {round}"));
        let values = client.call(&["MGET", "n", &filler]).expect("values");
        assert_eq!(values.items()[0].text(), round.to_string());
    }
}

#[test]
fn what_was_written_on_a_pinned_connection_is_seen() {
    let (_stage, proxy) = picture(&[]);
    let mut client = proxy.client();
    for round in 1..=50 {
        for line in ["WATCH n".to_owned(), "MULTI".into(), format!("SET n {round}"), "EXEC".into()] {
            assert!(!call(&mut client, &line).is_error());
        }
        assert_eq!(call(&mut client, "GET n").text(), round.to_string());
    }
}

#[test]
fn at_level_strong_every_read_is_the_masters() {
    let (stage, proxy) = picture(&["--consistency", "strong"]);
    assert_eq!(watch(&mut proxy.client(), &mut proxy.client()), 0);
    assert_eq!(Counts::read(&stage).elsewhere(0, "get"), 0);
}

#[test]
fn a_client_chooses_its_own_level() {
    let (stage, proxy) = picture(&["--consistency", "eventual"]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY SESSION").text(), "OK");
    assert_eq!(write_and_read(&mut client), 0);
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY STRONG").text(), "OK");
    Counts::reset(&stage);
    assert_eq!(write_and_read(&mut client), 0);
    assert_eq!(Counts::read(&stage).elsewhere(0, "get"), 0);
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY EVENTUAL").text(), "OK");
    assert!(write_and_read(&mut client) > 0);
    // A new connection has the listener's.
    assert!(write_and_read(&mut proxy.client()) > 0);
}

#[test]
fn sessions_that_do_not_write_are_served_by_replicas_alone() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    call(&mut proxy.client(), "SET n 0");
    settle(&mut stage, 0);
    Counts::reset(&stage);
    let mut client = proxy.client();
    for _ in 0..300 {
        call(&mut client, "GET n");
    }
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.elsewhere(0, "get")), (0, 300));
    assert!(counts.on(1, "get") > 20 && counts.on(2, "get") > 20, "both share the reads");
}

#[test]
fn a_client_never_goes_back_in_time_over_a_failover() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let (mut writer, mut reader) = (proxy.client(), proxy.client());
    assert_eq!(watch(&mut writer, &mut reader), 0);
    // What was acknowledged and not replicated when a master dies is lost with it: nothing of that kind here.
    settle(&mut stage, 0);
    stage.nodes[0].kill();
    wait("another master", || match proxy.set()["shards"][0]["term"].as_u64().or(proxy.set()["term"].as_u64()) {
        Some(term) if term > 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let last: i64 = call(&mut reader, "GET n").text().parse().expect("a number");
    assert_eq!(last, ROUNDS);
    assert_eq!(write_and_read(&mut proxy.client()), 0);
}

#[test]
fn a_client_waits_rather_than_go_back_when_the_master_dies_before_replicas_have_what_it_saw() {
    let (mut stage, proxy) = picture(&["--hold", "1s"]);
    freeze(&stage, 2);
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut clients {
        call(client, "SET n 1");
        for _ in 0..5 {
            assert_eq!(call(client, "GET n").text(), "1");
        }
    }
    stage.nodes[0].kill();
    // At first there are readers still, and none that has shown enough.
    for client in &mut clients {
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nn\r\n").expect("sent");
    }
    for client in &mut clients {
        let reply = client.read().expect("a reply");
        assert!(reply.is_error(), "{reply:?}");
    }
}

#[test]
fn without_a_master_clients_read_where_is_what_they_saw() {
    const CLIENTS: usize = 20;
    let (mut stage, proxy) = picture(&["--hold", "300ms"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for (me, client) in clients.iter_mut().enumerate() {
        call(client, "GET n");
        call(client, &format!("SET mine:{me} {me}"));
        assert_eq!(call(client, &format!("GET mine:{me}")).text(), me.to_string());
    }
    stage.wait_replica(2, 0).expect("the replica that keeps up");
    stage.nodes[0].kill();
    wait("the hold", || match proxy.set()["shards"][0].clone() {
        shard if shard["writes"] == "held" => Ok(()),
        shard => Err(shard.to_string()),
    });
    // One replica has all of it, the other nothing.
    for (me, client) in clients.iter_mut().enumerate() {
        for _ in 0..10 {
            assert_eq!(call(client, &format!("GET mine:{me}")).text(), me.to_string());
        }
    }
    assert!(proxy.metric("redweir_stale_reads_total", &[]) > 0.0, "the other one was never asked");
}

#[test]
fn a_read_that_dies_with_its_master_is_asked_where_is_what_was_seen() {
    let mut stage = plain_stage(1);
    let link = Link::to(stage.nodes[0].port);
    reroute(&stage, 1, &link);
    let proxy = Proxy::start(&stage, &["--hold", "300ms", "--down-after", "60s"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "GET n");
    link.set(Faults { stall: true, replicas_only: true, ..Faults::default() });
    call(&mut client, "SET n 1");
    assert_eq!(call(&mut client, "GET n").text(), "1");
    let stale = || proxy.metric("redweir_stale_reads_total", &[]);
    let before = stale();
    stage.nodes[0].stop();
    client.send(b"GET n\r\n").expect("sent");
    wait("the replica to be too far back", || if stale() > before { Ok(()) } else { Err("not yet".into()) });
    link.set(Faults::default());
    let mut replica = stage.nodes[1].connect().expect("the replica");
    wait("the replica to have it", || match call(&mut replica, "GET n").text() {
        found if found == "1" => Ok(()),
        found => Err(found),
    });
    stage.nodes[0].kill();
    assert_eq!(client.read().expect("an answer").text(), "1");
}
