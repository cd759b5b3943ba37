//! What an administrator sets through redweir holds on every node, for the very next command.

use crate::support::{Client, Proxy, Reply, Stage, bulk, call, ok, plain_stage};

fn on_nodes(stage: &Stage, line: &str) -> Vec<Reply> {
    stage.nodes.iter().map(|node| call(&mut node.connect().expect("a node"), line)).collect()
}

#[track_caller]
fn logged_in(proxy: &Proxy, user: &str, password: &str) -> Client {
    let mut client = proxy.client();
    assert_eq!(call(&mut client, &format!("AUTH {user} {password}")), ok());
    client
}

#[test]
fn a_user_made_or_changed_is_so_on_every_node_at_once() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut admin = proxy.client();
    call(&mut admin, "SET k v");
    crate::support::settle(&mut stage, 0);
    assert_eq!(call(&mut admin, "ACL SETUSER ann on >secret ~* +@all"), ok());
    let mut ann = logged_in(&proxy, "ann", "secret");
    for _ in 0..10 {
        assert_eq!(call(&mut ann, "GET k"), bulk("v"));
    }
    for _ in 0..10 {
        assert_eq!(call(&mut admin, "ACL SETUSER ann -get -incr"), ok());
        for line in ["GET k", "INCR n", "GET k", "GET k"] {
            assert!(call(&mut ann, line).text().starts_with("NOPERM"), "{line}");
        }
        assert_eq!(call(&mut admin, "ACL SETUSER ann +get +incr"), ok());
        for _ in 0..4 {
            assert!(!call(&mut ann, "GET k").is_error());
        }
        assert!(!call(&mut ann, "INCR n").is_error());
    }
    let refused = call(&mut admin, "ACL SETUSER ann nonsense");
    assert!(refused.is_error());
    assert_eq!(proxy.metric("redweir_replica_failures_total", &[]), 0.0, "no replica heard of it");
}

#[test]
fn a_session_of_a_deleted_user_runs_nothing_more() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut admin = proxy.client();
    call(&mut admin, "ACL SETUSER bob on >secret ~* +@all");
    for line in ["GET k", "SET k v", "WATCH k"] {
        let mut bob = logged_in(&proxy, "bob", "secret");
        assert!(!call(&mut bob, line).is_error(), "{line}");
        assert_eq!(call(&mut admin, "ACL DELUSER bob"), Reply::Int(1));
        for reply in on_nodes(&stage, "ACL GETUSER bob") {
            assert_eq!(reply, Reply::Nil);
        }
        let next = bob.call(&["SET", "stolen", "1"]);
        assert!(next.is_err(), "closed, as Redis does: {next:?}");
        assert_eq!(call(&mut admin, "EXISTS stolen"), Reply::Int(0));
        assert_eq!(call(&mut admin, "ACL SETUSER bob on >secret ~* +@all"), ok());
    }
    crate::support::settle(&mut stage, 0);
}

#[test]
fn sessions_of_a_deleted_user_end_at_once_on_every_thread_and_those_of_others_do_not() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--workers", "2"]);
    proxy.wait_readers(1);
    let mut admin = proxy.client();
    for user in ["bob", "eve"] {
        assert_eq!(call(&mut admin, &format!("ACL SETUSER {user} on >secret ~* &* +@all")), ok());
    }
    // Idle, in a transaction, subscribed, blocked.
    let mut bobs: Vec<Client> = (0..12).map(|_| logged_in(&proxy, "bob", "secret")).collect();
    for (n, bob) in bobs.iter_mut().enumerate() {
        match n % 4 {
            1 => _ = call(bob, "MULTI"),
            2 => _ = call(bob, "SUBSCRIBE a"),
            3 => bob.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nq\r\n$1\r\n0\r\n").expect("sent"),
            _ => {}
        }
    }
    let mut eve = logged_in(&proxy, "eve", "secret");
    let mut last = logged_in(&proxy, "bob", "secret");
    // It has its answer, and goes with the others.
    assert_eq!(call(&mut last, "ACL DELUSER nobody bob"), Reply::Int(1));
    for bob in bobs.iter_mut().chain([&mut last]) {
        let said = bob.read();
        assert!(said.is_err(), "closed without another word, not {said:?}");
    }
    assert_eq!(call(&mut eve, "ACL WHOAMI"), bulk("eve"));
    assert_eq!(call(&mut admin, "ACL DELUSER bob"), Reply::Int(0));
    assert_eq!(call(&mut admin, "ACL WHOAMI"), bulk("default"));
}

#[test]
fn who_is_logged_in_goes_on_without_his_password_and_ends_with_his_user_as_at_redis() {
    for (what, change) in
        [("direct", "off"), ("through", "off"), ("direct", "resetpass >new"), ("through", "resetpass >new")]
    {
        let mut stage = plain_stage(1);
        let proxy = Proxy::start(&stage, &[]);
        proxy.wait_readers(1);
        let port = if what == "direct" { stage.nodes[0].port } else { proxy.port };
        let client = || crate::support::connect(&format!("127.0.0.1:{port}"));
        let mut admin = client();
        assert_eq!(call(&mut admin, "ACL SETUSER bob on >secret ~* &* +@all"), ok());
        let mut bobs: Vec<Client> = (0..3).map(|_| client()).collect();
        for bob in &mut bobs {
            assert_eq!(call(bob, "AUTH bob secret"), ok());
        }
        let [bob, listens, queues] = &mut bobs[..] else { panic!("three") };
        call(listens, "SUBSCRIBE news");
        call(queues, "MULTI");
        // So that there are connections to all nodes.
        for _ in 0..20 {
            assert_eq!(call(bob, "SET k 1"), ok());
            crate::support::settle(&mut stage, 0);
            assert_eq!(call(bob, "GET k"), bulk("1"));
        }
        assert_eq!(call(&mut admin, &format!("ACL SETUSER bob {change}")), ok());
        assert!(call(&mut client(), "AUTH bob secret").text().starts_with("WRONGPASS"), "{what} {change}");
        for n in 2..20 {
            assert_eq!(call(bob, &format!("SET k {n}")), ok(), "{what} {change}");
            assert_eq!(call(bob, "GET k"), bulk(&n.to_string()), "{what} {change}");
        }
        assert_eq!(call(queues, "INCR k").text(), "QUEUED");
        assert_eq!(call(queues, "EXEC"), Reply::Array(vec![Reply::Int(20)]));
        assert_eq!(call(&mut admin, "PUBLISH news still"), Reply::Int(1));
        assert_eq!(listens.read().expect("a message").items().last(), Some(&bulk("still")));
        assert_eq!(call(&mut admin, "ACL DELUSER bob"), Reply::Int(1));
        for bob in &mut bobs {
            assert!(bob.read().is_err(), "{what} {change}: closed without another word");
        }
    }
}

#[test]
fn what_is_set_on_a_connection_of_ones_own_or_in_a_transaction_is_set_everywhere() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let sha = "61799eb222cf8fbe0faaff0e94d0d030ac02371f";
    let ways: [(&[&str], &[&str]); 3] =
        [(&["WATCH k"], &["UNWATCH"]), (&["HELLO 3", "SUBSCRIBE a"], &["UNSUBSCRIBE a"]), (&["MULTI"], &["EXEC"])];
    for (before, behind) in ways {
        let mut client = proxy.client();
        before.iter().for_each(|line| _ = call(&mut client, line));
        let queued = before == ["MULTI"];
        let mut expect = |line: &str, expected: Reply, after: &dyn Fn()| {
            let reply = call(&mut client, line);
            assert_eq!(reply, if queued { Reply::Status("QUEUED".into()) } else { expected }, "{line}");
            if !queued {
                after();
            }
        };
        let there = |there: bool| {
            for reply in on_nodes(&stage, "ACL GETUSER ann") {
                assert_eq!(reply != Reply::Nil, there);
            }
            for reply in on_nodes(&stage, &format!("SCRIPT EXISTS {sha}")) {
                assert_eq!(reply.items(), [Reply::Int(i64::from(there))]);
            }
        };
        expect("ACL SETUSER ann on >secret ~* +@all", ok(), &|| {});
        expect("SCRIPT LOAD return{1,2}", bulk(sha), &|| {});
        if !queued {
            there(true);
        }
        expect("SCRIPT FLUSH", ok(), &|| {});
        expect("ACL DELUSER ann", Reply::Int(1), &|| there(false));
        for line in behind {
            let reply = call(&mut client, line);
            assert!(!reply.is_error(), "{reply:?}");
            if queued {
                assert_eq!(reply.items().len(), 4);
            }
        }
        there(false);
        assert_eq!(call(&mut client, "SET k v"), ok());
    }
    let mut client = proxy.client();
    call(&mut client, "MULTI");
    call(&mut client, "ACL SETUSER ann on >secret ~* +@all");
    call(&mut client, "ACL SETUSER ann nonsense");
    assert!(call(&mut client, "EXEC").items()[1].is_error());
    for reply in on_nodes(&stage, "ACL GETUSER ann") {
        assert_ne!(reply, Reply::Nil);
    }
    assert_eq!(proxy.metric("redweir_replica_failures_total", &[]), 0.0, "no replica heard of what the master refused");
}

#[test]
fn what_comes_behind_a_transaction_that_all_nodes_have_to_hear_of_is_answered_when_they_have() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "HELLO 3");
    call(&mut client, "SUBSCRIBE a");
    for n in 1..=5 {
        assert_eq!(call(&mut client, "MULTI"), ok());
        let lines = [vec!["SCRIPT", "FLUSH"], vec!["EXEC"], vec!["INCR", "n"], vec!["PING"]];
        let replies = client.pipeline(&lines).expect("four answers");
        assert_eq!(replies[1..], [Reply::Array(vec![ok()]), Reply::Int(n), Reply::Status("PONG".into())]);
    }
}

#[test]
fn a_replica_that_does_not_follow_is_reported_and_holds_nobody_up() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--down-after", "60s"]);
    proxy.wait_readers(2);
    stage.nodes[2].stop();
    assert_eq!(call(&mut proxy.client(), "ACL SETUSER eve on >secret ~* +@all"), ok());
    assert_eq!(proxy.metric("redweir_replica_failures_total", &[]), 1.0);
    stage.nodes[2].cont();
    for node in [0, 1] {
        assert_ne!(call(&mut stage.nodes[node].connect().expect("a node"), "ACL GETUSER eve"), Reply::Nil);
    }
}

#[test]
fn settings_are_the_masters_alone() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    assert_eq!(call(&mut proxy.client(), "CONFIG SET slowlog-max-len 77"), ok());
    let set: Vec<String> = on_nodes(&stage, "CONFIG GET slowlog-max-len").iter().map(|r| r.items()[1].text()).collect();
    assert_eq!(set, ["77", "128"]);
}
