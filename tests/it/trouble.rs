//! What is wrong is said in one line, with a non-zero exit where redweir cannot start; where it can wait it waits and recovers.

use std::net::TcpListener;

use crate::support::proxy::{run, source};
use crate::support::{Counts, Plan, Proxy, Reply, Stage, call, http, ok, plain_stage, settle, stage, turn, wait};
use redweir::demo::node::free_port;

/// Ends with a failure and says it in one line that holds every part.
#[track_caller]
fn refuses(args: &[&str], parts: &[&str]) {
    let (status, text) = run(args);
    assert!(!status.success(), "{args:?} ended well: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part:?} in: {text}");
    }
}

/// `redweir check` fails and names each part somewhere.
#[track_caller]
fn check_fails(source: &[String], parts: &[&str]) {
    let mut args = vec!["check"];
    args.extend(source.iter().map(String::as_str));
    let (status, text) = run(&args);
    assert!(!status.success(), "{args:?} ended well: {text}");
    for part in parts {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{args:?}: no {part:?} in: {text}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    refuses(&["--node", "nonsense"], &["nonsense"]);
    refuses(&["--listen", "nonsense", "--node", "127.0.0.1:6379"], &["nonsense"]);
    refuses(&["--node", "127.0.0.1:99999"], &["99999"]);
    refuses(&["--nodes", "127.0.0.1:6379"], &["--nodes"]);
    refuses(&[], &["sentinel"]);
}

#[test]
fn a_key_that_nobody_knows_is_named_with_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("redweir.toml");
    std::fs::write(&path, "node = [\"127.0.0.1:6379\"]\nhodl = \"10s\"\n").expect("written");
    let path = path.to_string_lossy().into_owned();
    refuses(&["--config", &path], &["hodl", "redweir.toml"]);
    refuses(&["--config", "/nowhere/redweir.toml"], &["/nowhere/redweir.toml"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let free = format!("127.0.0.1:{}", free_port().expect("a port"));
    refuses(&["--listen", &taken, "--node", "127.0.0.1:1", "--admin", &free, "--log", "off"], &[&taken]);
    refuses(&["--listen", &free, "--node", "127.0.0.1:1", "--admin", &taken, "--log", "off"], &[&taken]);
}

#[test]
fn a_wrong_address_waits_and_check_names_it() {
    let nobody = format!("127.0.0.1:{}", free_port().expect("a port"));
    let source = ["--node".to_owned(), nobody.clone(), "--log".to_owned(), "off".to_owned()];
    let proxy = Proxy::start_unready(&source, &[]);
    assert_eq!(http::get(proxy.admin, "/healthz").map(|(status, _)| status), Some(200));
    assert_eq!(http::get(proxy.admin, "/readyz").map(|(status, _)| status), Some(503));
    check_fails(&source, &[&nobody]);
}

#[test]
fn an_unknown_master_name_is_never_ready_and_check_names_it() {
    let stage = stage(Plan { replicas: 1, sentinels: 1, quorum: 1, ..Plan::default() });
    let mut source = source(&stage);
    let name = source.iter_mut().find(|s| *s == "mymaster").expect("the name");
    "yourmaster".clone_into(name);
    let proxy = Proxy::start_unready(&source, &[]);
    assert_eq!(http::get(proxy.admin, "/readyz").map(|(status, _)| status), Some(503));
    check_fails(&source, &["yourmaster"]);
}

#[test]
fn a_refused_password_is_never_ready_and_check_says_so() {
    let stage = stage(Plan { replicas: 1, sentinels: 0, password: Some("secret".into()), ..Plan::default() });
    let wrong: Vec<String> = source(&stage).into_iter().chain(["--node-password", "wrong"].map(String::from)).collect();
    let proxy = Proxy::start_unready(&wrong, &[]);
    wait("the verdict on the password", || {
        let states: Vec<_> = proxy.nodes().iter().map(|n| n["state"].clone()).collect();
        if !states.is_empty() && states.iter().all(|s| s == "rejected") { Ok(()) } else { Err(format!("{states:?}")) }
    });
    assert_eq!(http::get(proxy.admin, "/readyz").map(|(status, _)| status), Some(503));
    check_fails(&wrong, &["password"]);
    let (_, text) = run(&["check", "--node", &stage.nodes[0].address()]);
    assert!(text.to_lowercase().contains("password"), "{text}");
}

#[test]
fn with_a_password_clients_log_in_as_at_redis_itself() {
    let stage = stage(Plan { replicas: 1, sentinels: 0, password: Some("secret".into()), ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--node-password", "secret"]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "GET a").text(), "NOAUTH Authentication required.");
    assert!(call(&mut client, "AUTH wrong").text().starts_with("WRONGPASS"));
    assert_eq!(call(&mut client, "GET a").text(), "NOAUTH Authentication required.");
    assert_eq!(call(&mut client, "AUTH secret").text(), "OK");
    assert_eq!(call(&mut client, "SET a 1").text(), "OK");
    assert_eq!(call(&mut client, "ACL WHOAMI").text(), "default");
    let open = Proxy::start(&stage, &["--node-password", "secret", "--client-auth", "proxy"]);
    assert_eq!(call(&mut open.client(), "SET a 2").text(), "OK");
}

#[test]
fn sentinels_with_a_password_are_asked_with_it() {
    let stage = stage(Plan {
        replicas: 1,
        sentinels: 1,
        quorum: 1,
        sentinel_password: Some("s3cret".into()),
        ..Plan::default()
    });
    let proxy = Proxy::start(&stage, &["--sentinel-password", "s3cret"]);
    assert_eq!(call(&mut proxy.client(), "SET a 1").text(), "OK");
    check_fails(&source(&stage), &[&stage.sentinels[0].address(), "password"]);
}

const EXAMPLE: &str = include_str!("../../config/redweir.toml");

/// The ACLs of redweir's own login at nodes and at Sentinels, as the example file has them.
fn documented_acls() -> [String; 2] {
    let mut acls: Vec<String> = Vec::new();
    let comments = EXAMPLE.lines().map(|line| line.trim_start_matches('#').trim());
    for line in comments.take_while(|line| !line.starts_with("node-username")) {
        match acls.last_mut() {
            _ if line.starts_with("ACL SETUSER ") => acls.push(line.replace("PASSWORD", "secret")),
            Some(acl) if line.starts_with('+') => *acl = format!("{acl} {line}"),
            _ => {}
        }
    }
    acls.try_into().expect("one for nodes, one for Sentinels")
}

const AS_REDWEIR: [&str; 4] = ["--node-username", "redweir", "--node-password", "secret"];

/// Nothing was refused to redweir's login at any node.
#[track_caller]
fn nothing_refused(stage: &Stage) {
    for node in &stage.nodes {
        let log = call(&mut node.connect().expect("a node"), "ACL LOG");
        let refused: Vec<&[Reply]> = log.items().iter().map(Reply::items).collect();
        assert!(refused.is_empty(), "{}: {refused:?}", node.address());
    }
}

#[test]
fn the_documented_acl_is_enough_for_everything_without_sentinel() {
    let _turn = turn();
    let mut stage = plain_stage(2);
    let [acl, _] = documented_acls();
    for node in &stage.nodes {
        assert_eq!(call(&mut node.connect().expect("a node"), &acl), ok(), "{acl}");
    }
    let more = ["--admin-token", "t", "--promote", "on"];
    let proxy = Proxy::start(&stage, &[&AS_REDWEIR[..], &more].concat());
    proxy.wait_readers(2);
    assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
    let master = || proxy.set()["shards"][0]["master"].as_str().unwrap_or_default().to_owned();
    let target = stage.nodes[2].address();
    let admin = format!("127.0.0.1:{}", proxy.admin);
    let (status, text) = run(&["switchover", "--admin", &admin, "--token", "t", "--to", &target]);
    assert!(status.success(), "{text}");
    assert_eq!(master(), target);
    proxy.wait_readers(2);
    settle(&mut stage, 2);
    stage.nodes[2].kill();
    wait("a promoted one", || match master() {
        now if now != target && !now.is_empty() && proxy.set()["shards"][0]["writes"] == "open" => Ok(()),
        now => Err(now),
    });
    assert_eq!(call(&mut proxy.client(), "SET k 2"), ok());
    proxy.wait_readers(1);
    stage.nodes.pop();
    nothing_refused(&stage);
}

#[test]
fn the_documented_acls_are_enough_beside_sentinel_too() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let [acl, at_sentinel] = documented_acls();
    for node in &stage.nodes {
        assert_eq!(call(&mut node.connect().expect("a node"), &acl), ok(), "{acl}");
    }
    for sentinel in &stage.sentinels {
        assert_eq!(call(&mut sentinel.connect().expect("a Sentinel"), &at_sentinel), ok(), "{at_sentinel}");
    }
    let more = ["--sentinel-username", "redweir", "--sentinel-password", "secret", "--admin-token", "t"];
    let proxy = Proxy::start(&stage, &[&AS_REDWEIR[..], &more].concat());
    proxy.wait_readers(2);
    let target = stage.nodes[1].address();
    let admin = format!("127.0.0.1:{}", proxy.admin);
    let (status, text) = run(&["switchover", "--admin", &admin, "--token", "t", "--to", &target]);
    assert!(status.success(), "{text}");
    assert_eq!(proxy.set()["shards"][0]["master"], target);
    assert_eq!(call(&mut proxy.client(), "SET k 1"), ok());
    assert_eq!(proxy.metric("redweir_sentinel_up", &[]), 3.0);
    wait("their word", || match proxy.metric("redweir_sentinel_events_total", &["event=\"+switch-master\""]) {
        3.0 => Ok(()),
        n => Err(n.to_string()),
    });
    settle(&mut stage, 1);
    nothing_refused(&stage);
}

#[test]
fn what_touch_sample_needs_is_what_is_documented() {
    let mut stage = plain_stage(1);
    let more = "+touch +select ~*";
    assert!(EXAMPLE.contains(&format!("beside the ACL above: {more}")));
    let acl = format!("{} {more}", documented_acls()[0]);
    for node in &stage.nodes {
        assert_eq!(call(&mut node.connect().expect("a node"), &acl), ok(), "{acl}");
    }
    let proxy = Proxy::start(&stage, &[&AS_REDWEIR[..], &["--touch-sample", "100%"]].concat());
    proxy.wait_readers(1);
    let mut writer = proxy.client();
    for line in ["SET k v", "SELECT 1", "SET k v"] {
        assert_eq!(call(&mut writer, line), ok());
    }
    settle(&mut stage, 0);
    let mut client = proxy.client();
    for (line, said) in [("GET k", "v"), ("SELECT 1", "OK"), ("GET k", "v")] {
        assert_eq!(call(&mut client, line).text(), said);
    }
    wait("both keys to be touched", || match proxy.metric("redweir_touched_keys_total", &["outcome=\"sent\""]) {
        2.0 => Ok(()),
        n => Err(n.to_string()),
    });
    let counts = || Counts::read(&stage).on(0, "touch");
    wait("them at the master", || if counts() == 2 { Ok(()) } else { Err(counts().to_string()) });
    nothing_refused(&stage);
}

#[test]
fn nodes_that_are_not_up_yet_are_waited_for() {
    let mut stage = plain_stage(1);
    let source = source(&stage);
    stage.nodes.iter_mut().for_each(|n| n.kill());
    let proxy = Proxy::start_unready(&source, &[]);
    assert_eq!(http::get(proxy.admin, "/readyz").map(|(status, _)| status), Some(503));
    // Held until then, and answered.
    let mut early = proxy.client();
    early.send(b"SET early bird\r\n").expect("sent");
    stage.nodes.iter_mut().for_each(|n| n.resume().expect("started"));
    proxy.wait_ready();
    assert_eq!(early.read().expect("a reply").text(), "OK");
    proxy.wait_readers(1);
}

#[test]
fn a_write_is_held_no_longer_than_it_may_be() {
    let nobody = format!("127.0.0.1:{}", free_port().expect("a port"));
    let source = ["--node".to_owned(), nobody, "--log".to_owned(), "off".to_owned()];
    let proxy = Proxy::start_unready(&source, &["--hold", "200ms"]);
    let reply = call(&mut proxy.client(), "SET a 1");
    assert!(reply.is_error() && !reply.text().is_empty(), "{reply:?}");
    assert_eq!(proxy.metric("redweir_refused_total", &["reason=\"hold\""]), 1.0);
}

#[test]
fn check_reports_what_it_finds_and_a_missing_quorum() {
    let mut stage: Stage = stage(Plan::default());
    let flags = source(&stage);
    let mut args = vec!["check"];
    args.extend(flags.iter().map(String::as_str));
    let (status, text) = run(&args);
    assert!(status.success(), "{text}");
    for address in stage.node_addresses().iter().chain(&stage.sentinel_addresses()) {
        assert!(text.contains(address.as_str()), "no {address} in: {text}");
    }
    stage.sentinels[0].kill();
    stage.sentinels[1].kill();
    // The others are a fault by themselves.
    let living = stage.sentinel_addresses()[2].clone();
    let name = stage.plan.master_name.clone();
    let args = ["check", "--sentinel", &living, "--master-name", &name];
    wait("the loss of quorum", || {
        let (status, text) = run(&args);
        let told =
            text.contains("it could not fail over: NOQUORUM") && text.contains("check that enough Sentinels run");
        if told && !status.success() { Ok(()) } else { Err(text) }
    });
    // One Sentinel is enough to find the master by.
    let proxy = Proxy::start(&stage, &[]);
    assert_eq!(call(&mut proxy.client(), "SET a 1").text(), "OK");
}

#[test]
fn check_warns_of_replicas_that_may_answer_otherwise_than_their_master() {
    let stage = plain_stage(2);
    let flags = source(&stage);
    let mut args = vec!["check"];
    args.extend(flags.iter().map(String::as_str));
    let warnings = || {
        let (status, text) = run(&args);
        assert!(status.success(), "no reason to fail: {text}");
        text.lines().filter(|line| line.contains("warning:")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warnings(), Vec::<String>::new());
    for (node, setting) in [(1, "replica-read-only"), (2, "replica-ignore-maxmemory")] {
        call(&mut stage.nodes[node].connect().expect("a replica"), &format!("CONFIG SET {setting} no"));
        let told = warnings();
        let address = stage.nodes[node].address();
        assert!(told.iter().any(|line| line.contains(&address) && line.contains(setting)), "{told:?}");
        assert_eq!(told.len(), node);
    }
}

#[test]
fn check_tells_of_replicas_that_follow_nobody_or_somebody_else_and_of_two_masters() {
    let (stage, other) = (plain_stage(2), plain_stage(0));
    let flags = source(&stage);
    let check = |more: &[&str]| {
        let args: Vec<&str> =
            ["check"].into_iter().chain(flags.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        let (status, text) = run(&args);
        (status.success(), text)
    };
    let (well, text) = check(&[]);
    assert!(well && text.ends_with("all is well\n"), "{text}");
    // A replica leads to its master, as it leads redweir.
    let replica = stage.nodes[1].address();
    let (status, text) = run(&["check", "--node", &replica, "--admin", "off", "--listen", "127.0.0.1:0"]);
    let master = format!("node {}: master at offset", stage.nodes[0].address());
    assert!(status.success() && text.contains(&master) && text.ends_with("all is well\n"), "{text}");
    let follow = |port: u16| {
        let line = format!("REPLICAOF 127.0.0.1 {port}");
        assert_eq!(call(&mut stage.nodes[2].connect().expect("a replica"), &line), ok());
    };
    // Nobody listens there.
    follow(1);
    let (well, text) = check(&[]);
    let told = ["its link to 127.0.0.1:1 is not up", "it follows 127.0.0.1:1, which is none of this set's nodes"];
    assert!(well && told.iter().all(|part| text.contains(part)) && !text.contains("all is well"), "{text}");
    follow(other.nodes[0].port);
    wait("the other's link", || match check(&[]) {
        (true, text) if text.contains(" 1 warning(s)") && text.contains("which is none of this set's nodes") => Ok(()),
        (_, text) => Err(text),
    });
    let both = format!("{},{}", stage.nodes[0].address(), other.nodes[0].address());
    let (status, text) = run(&["check", "--node", &both, "--admin", "off", "--listen", "127.0.0.1:0"]);
    assert!(!status.success() && text.contains("several masters: ") && text.contains("REPLICAOF"), "{text}");
}

#[test]
fn a_command_is_not_renamed_to_the_name_of_another() {
    let stage = plain_stage(0);
    let flags = source(&stage);
    for how in [vec!["check"], vec![]] {
        let args: Vec<&str> =
            how.iter().copied().chain(flags.iter().map(String::as_str)).chain(["--rename", "GET=SET"]).collect();
        let (status, text) = run(&args);
        assert!(!status.success() && text.contains("rename: `set` is a command itself"), "{how:?} {text}");
    }
}

#[test]
fn a_data_node_among_the_sentinels_is_told_apart_from_one_that_is_away() {
    let stage = plain_stage(0);
    for (address, told) in [
        (stage.nodes[0].address(), "list Sentinels under sentinel and data nodes under node"),
        ("127.0.0.1:1".to_owned(), "check the address"),
    ] {
        let flags = ["--sentinel", &address, "--master-name", "mymaster"];
        let (status, text) = run(&[&["check"], &flags[..]].concat());
        assert!(!status.success() && text.contains(told), "{text}");
        let proxy = Proxy::start_unready(&flags.map(str::to_owned), &[]);
        proxy.wait_log(told);
    }
}

#[test]
fn nodes_that_cannot_be_asked_are_not_advised_to_be_promoted() {
    let stage = plain_stage(0);
    call(&mut stage.nodes[0].connect().expect("the master"), "CONFIG SET requirepass secret");
    let proxy = Proxy::start_unready(&source(&stage), &[]);
    proxy.wait_log("writes held: none of the known nodes answers");
    proxy.wait_log("node refuses redweir");
}

#[test]
fn a_term_signal_lets_clients_finish_and_ends_well() {
    let stage = plain_stage(1);
    for acks in ["0", "1"] {
        let proxy = Proxy::start(&stage, &["--drain", "10s", "--acks", acks]);
        let mut client = proxy.client();
        client.send(b"BLPOP queue 1\r\n").expect("sent");
        wait("the client to block", || {
            let text = call(&mut stage.nodes[0].connect().expect("the master"), "INFO clients").text();
            if text.contains("blocked_clients:1") { Ok(()) } else { Err(text) }
        });
        assert!(proxy.terminate().success());
        assert_eq!(client.read().expect("the reply it waited for").items().len(), 0);
    }
}

#[test]
fn a_master_that_is_replaced_while_clients_finish_is_followed() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--drain", "20s", "--hold", "20s"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "SET n 1");
    crate::support::settle(&mut stage, 0);
    stage.nodes[0].kill();
    client.send(b"INCR n\r\n").expect("sent");
    wait("the write that is held", || match proxy.metric("redweir_held_total", &[]) {
        0.0 => Err("none".into()),
        _ => Ok(()),
    });
    let port = proxy.port;
    let ends = std::thread::spawn(move || proxy.terminate());
    wait("the end of its listener", || match std::net::TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => Err("it lets in".into()),
        Err(_) => Ok(()),
    });
    call(&mut stage.nodes[1].connect().expect("the replica"), "REPLICAOF NO ONE");
    assert_eq!(client.read().expect("an answer"), Reply::Int(2));
    assert!(ends.join().expect("its status").success());
}
