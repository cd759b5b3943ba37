//! Sessions on a connection of their own: protocol errors, clients that leave, subscriptions, refused transactions.

use crate::support::{Client, Proxy, bulk, call, ok, plain_stage, raw, settle, wait};
use crate::{script, soon};

#[test]
fn a_protocol_error_behind_a_pinned_write_does_not_repeat_it() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "WATCH k"), ok());
    let mut bytes = script(&["INCR x"]);
    bytes.extend_from_slice(b"*1\r\n:4\r\n");
    client.send(&bytes).expect("sent");
    assert_eq!(soon(&mut client).int(), Some(1));
    assert_eq!(soon(&mut client).text(), "ERR Protocol error: expected '$', got ':'");
    assert!(client.read().is_err(), "closed, as Redis does");
    assert_eq!(call(&mut proxy.client(), "GET x"), bulk("1"));
}

#[test]
fn what_clients_leave_open_when_they_go_is_closed() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    for line in ["MULTI", "WATCH k", "MULTI", "WATCH k"] {
        let mut client = proxy.client();
        assert_eq!(call(&mut client, line), ok());
        assert!(["OK", "QUEUED"].contains(&call(&mut client, "SET left 1").text().as_str()));
    }
    wait("the sessions' end", || {
        let (pinned, sessions) = (proxy.metric("redweir_pinned_sessions", &[]), proxy.metric("redweir_sessions", &[]));
        if pinned + sessions == 0.0 { Ok(()) } else { Err(format!("{pinned} pinned, {sessions} sessions")) }
    });
}

#[test]
fn a_refused_subscription_leaves_an_ordinary_session() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    client.send(&script(&["SUBSCRIBE", "PING", "SELECT 1", "SET a 1", "GET a"])).expect("sent");
    assert!(soon(&mut client).is_error());
    for expected in ["PONG", "OK", "OK", "1"] {
        assert_eq!(soon(&mut client).text(), expected);
    }
}

#[test]
fn subscriptions_of_every_sort_end_as_they_do_at_redis() {
    let mut stage = plain_stage(0);
    settle(&mut stage, 0);
    let proxy = Proxy::start(&stage, &[]);
    let scripts: [&[&str]; 4] = [
        &["SUBSCRIBE a", "SUBSCRIBE b", "PSUBSCRIBE c*", "UNSUBSCRIBE a b", "PUNSUBSCRIBE", "GET k", "SELECT 1"],
        &["SUBSCRIBE a", "UNSUBSCRIBE", "SUBSCRIBE x", "PING", "UNSUBSCRIBE x", "SELECT 1", "GET k"],
        &["SUBSCRIBE a", "SSUBSCRIBE s", "UNSUBSCRIBE a", "GET k", "SUNSUBSCRIBE", "GET k", "UNSUBSCRIBE"],
        &["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUBSCRIBE a a a", "UNSUBSCRIBE a a", "MULTI", "SET k 1", "EXEC", "GET k"],
    ];
    for lines in scripts {
        let bytes = script(lines);
        let (ours, theirs) = (raw::talk(proxy.port, &[&bytes]), raw::talk(stage.nodes[0].port, &[&bytes]));
        assert_eq!(ours, theirs, "{lines:?}");
    }
}

#[test]
fn nobody_inherits_a_sharded_subscription() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut subscriber = proxy.client();
    for line in ["SUBSCRIBE a", "SSUBSCRIBE s", "UNSUBSCRIBE a"] {
        call(&mut subscriber, line);
    }
    let mut other = proxy.client();
    other.send(&script(&["MULTI", "SET k 1", "EXEC"])).expect("sent");
    assert_eq!((soon(&mut other), soon(&mut other).text()), (ok(), "QUEUED".into()));
    assert_eq!(soon(&mut other).items(), [ok()]);
    call(&mut stage.nodes[0].connect().expect("the node"), "SPUBLISH s hello");
    assert_eq!(soon(&mut subscriber).items()[2], bulk("hello"));
}

#[test]
fn a_discarded_subscription_does_not_let_forbidden_commands_through() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    for line in ["MULTI", "SUBSCRIBE a", "DISCARD"] {
        call(&mut client, line);
    }
    assert!(call(&mut client, "SHUTDOWN NOSAVE").text().contains("refused"));
    assert!(stage.nodes[0].pid().is_some());
}

#[test]
fn a_refusal_inside_a_transaction_keeps_its_place() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    client.send(&script(&["MULTI", "SET a 1", "SHUTDOWN", "EXEC"])).expect("sent");
    for expected in ["OK", "QUEUED", "ERR redweir: 'SHUTDOWN'", "EXECABORT"] {
        let reply = soon(&mut client).text();
        assert!(reply.starts_with(expected), "{reply} instead of {expected}");
    }
}

#[test]
fn a_skip_is_for_one_reply_of_a_transaction_too() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    for lines in [
        &["CLIENT REPLY SKIP", "MULTI", "SET a 1", "EXEC"][..],
        &["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "ECHO 1", "ECHO 2"],
        &["CLIENT REPLY SKIP", "SUBSCRIBE a b", "UNSUBSCRIBE a b", "ECHO 1"],
        &["CLIENT REPLY SKIP", "CLIENT SETNAME x", "CLIENT GETNAME"],
    ] {
        let bytes = script(lines);
        let (ours, theirs) = (raw::talk(proxy.port, &[&bytes]), raw::talk(stage.nodes[0].port, &[&bytes]));
        assert_eq!(ours, theirs, "{lines:?}");
    }
}

#[test]
fn a_transaction_that_cannot_begin_executes_nothing() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-pinned", "1"]);
    let mut first = proxy.client();
    assert_eq!(call(&mut first, "MULTI"), ok());
    let mut second = proxy.client();
    second.send(&script(&["MULTI", "SELECT 0", "INCR x", "EXEC"])).expect("sent");
    assert!(soon(&mut second).text().contains("max-pinned"));
    assert!(second.read().is_err());
    assert_eq!(call(&mut proxy.client(), "EXISTS x").int(), Some(0));
}

#[test]
fn logins_and_selects_of_many_wait_for_one_another() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--max-pinned", "2"]);
    let mut clients: Vec<Client> = (0..60).map(|_| proxy.client()).collect();
    for line in ["HELLO 3", "SELECT 1"] {
        clients.iter_mut().for_each(|c| c.send(&script(&[line])).expect("sent"));
        for client in &mut clients {
            let reply = soon(client);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
    }
}

#[test]
fn logins_of_any_number_keep_their_user() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    // More than may be in use at once: those that were left make room (`upstream/lanes.rs` has the bound and its test).
    for i in 0..1100 {
        assert_eq!(call(&mut client, &format!("AUTH default any-{i}")), ok(), "login {i}");
    }
    assert_eq!(call(&mut client, "ACL WHOAMI"), bulk("default"));
    assert_eq!(call(&mut client, "AUTH default any-1"), ok());
}

#[test]
fn pinned_sessions_and_selects_do_not_wait_for_a_stopped_node() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut subscriber = proxy.client();
    call(&mut subscriber, "SUBSCRIBE a");
    let mut selector = proxy.client();
    assert_eq!(call(&mut selector, "SELECT 1"), ok());
    stage.nodes[1].stop();
    assert_eq!(
        {
            selector.send(&script(&["SELECT 2"])).expect("sent");
            soon(&mut selector)
        },
        ok()
    );
    stage.nodes[1].cont();
    proxy.wait_readers(1);
    stage.nodes[0].stop();
    call(&mut stage.nodes[1].connect().expect("the replica"), "REPLICAOF NO ONE");
    let mut publisher = proxy.client();
    wait("the subscriber at the new master", || match call(&mut publisher, "PUBLISH a hello").int() {
        Some(1) => Ok(()),
        n => Err(format!("{n:?}")),
    });
    assert_eq!(soon(&mut subscriber).items()[2], bulk("hello"));
    stage.nodes[0].cont();
}
