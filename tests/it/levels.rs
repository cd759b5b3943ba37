//! Levels of freshness: what `bounded` promises, and whose level a connection has.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::link::{Link, reroute};
use crate::support::{Client, Counts, Proxy, Stage, call, connect, plain_stage, settle, wait};

const BOUND: Duration = Duration::from_millis(300);

/// Counts `n` up at a node until it is dropped, and remembers when each number was acknowledged.
struct Clockwork {
    acks: Arc<Mutex<Vec<Instant>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Clockwork {
    fn at(address: String) -> Clockwork {
        let (acks, over) = (Arc::new(Mutex::new(vec![Instant::now()])), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (Arc::clone(&acks), Arc::clone(&over));
        let count = move || {
            let mut client = connect(&address);
            call(&mut client, "SET n 0");
            while !stop.load(Relaxed) {
                call(&mut client, "INCR n");
                log.lock().expect("the log").push(Instant::now());
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Clockwork { acks, over, thread: Some(std::thread::spawn(count)) }
    }

    /// The number that had been acknowledged at `when`.
    fn acknowledged(&self, when: Instant) -> usize {
        self.acks.lock().expect("the log").partition_point(|at| *at <= when).saturating_sub(1)
    }
}

impl Drop for Clockwork {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How many of `rounds` reads were staler than `bound`.
fn stale(client: &mut Client, clockwork: &Clockwork, bound: Duration, rounds: usize) -> usize {
    let too_old = |_: &usize| {
        std::thread::sleep(Duration::from_millis(1));
        let must = clockwork.acknowledged(Instant::now() - bound);
        let seen: usize = call(client, "GET n").text().parse().expect("a number");
        seen < must
    };
    (0..rounds).filter(too_old).count()
}

/// A master, a replica far beyond the bound and one within it.
#[track_caller]
fn picture(flags: &[&str]) -> (Stage, [Link; 2], Proxy, Clockwork) {
    let stage = plain_stage(2);
    let links = [Link::to(stage.nodes[0].port), Link::to(stage.nodes[0].port)];
    let master = stage.nodes[0].address();
    let aliases: Vec<String> = links.iter().map(|link| format!("127.0.0.1:{}={master}", link.port)).collect();
    reroute(&stage, 1, &links[0]);
    reroute(&stage, 2, &links[1]);
    let clockwork = Clockwork::at(master);
    let mut all = vec!["--address-map".to_owned(), aliases.join(",")];
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let proxy = Proxy::start(&stage, &all.iter().map(String::as_str).collect::<Vec<_>>());
    proxy.wait_readers(2);
    links[0].delay(5 * BOUND);
    links[1].delay(BOUND / 10);
    let node = format!("node=\"{}\"", stage.nodes[1].address());
    wait("the lag", || match proxy.metric("redweir_node_lag_seconds", &[&node]) {
        lag if lag > 3.0 * BOUND.as_secs_f64() => Ok(()),
        lag => Err(format!("{lag} s")),
    });
    Counts::reset(&stage);
    (stage, links, proxy, clockwork)
}

#[test]
fn no_read_is_staler_than_the_bound() {
    let (stage, links, proxy, clockwork) = picture(&["--consistency", "bounded", "--max-staleness", "300ms"]);
    let mut client = proxy.client();
    assert_eq!(stale(&mut client, &clockwork, BOUND, 600), 0);
    let counts = Counts::read(&stage);
    assert!(counts.on(2, "get") > 300, "the replica within the bound was asked {} times", counts.on(2, "get"));
    // Neither can keep it now: the master must.
    links[1].delay(5 * BOUND);
    assert_eq!(stale(&mut client, &clockwork, BOUND, 600), 0);
    wait("reads at the master", || match proxy.metric("redweir_requests_total", &["reason=\"bound\""]) {
        n if n > 0.0 => Ok(()),
        _ => Err(format!("{} reads were stale", stale(&mut client, &clockwork, BOUND, 50))),
    });
    let mut careless = proxy.client();
    assert_eq!(call(&mut careless, "REDWEIR CONSISTENCY EVENTUAL").text(), "OK");
    assert!(stale(&mut careless, &clockwork, BOUND, 200) > 0, "the test cannot see a stale read");
}

#[test]
fn a_client_sets_a_bound_of_its_own() {
    let (stage, _links, proxy, clockwork) = picture(&["--consistency", "eventual"]);
    let mut client = proxy.client();
    assert!(call(&mut client, "REDWEIR CONSISTENCY BOUNDED").is_error(), "there is none to begin with");
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY BOUNDED MS 100").text(), "OK");
    assert_eq!(stale(&mut client, &clockwork, BOUND / 3, 600), 0);
    let counts = Counts::read(&stage);
    assert!(counts.on(2, "get") > 300, "the replica within the bound was asked {} times", counts.on(2, "get"));
    // None is within a millisecond of the master: it is asked itself.
    Counts::reset(&stage);
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY BOUNDED MS 1").text(), "OK");
    assert_eq!(stale(&mut client, &clockwork, Duration::from_millis(1), 300), 0);
    assert!(Counts::read(&stage).on(0, "get") > 290);
    let shown = call(&mut client, "REDWEIR CONSISTENCY").items()[0].text();
    assert!(shown.starts_with("level: bounded (1ms)"), "{shown}");
}

#[test]
fn a_bound_in_bytes_keeps_the_one_far_behind_out() {
    let (stage, _links, proxy, clockwork) = picture(&["--consistency", "bounded", "--max-staleness-bytes", "8kb"]);
    // Some 30 bytes a millisecond: the near one is 1 kB behind, the far one 40 kB.
    stale(&mut proxy.client(), &clockwork, BOUND, 400);
    let counts = Counts::read(&stage);
    assert!(counts.on(2, "get") > 300, "the near one was asked {} times", counts.on(2, "get"));
    assert!(counts.on(1, "get") < 20, "the far one was asked {} times", counts.on(1, "get"));
    assert_eq!(stale(&mut proxy.client(), &clockwork, 4 * BOUND, 200), 0);
}

/// The level a connection says it has.
#[track_caller]
fn level(client: &mut Client) -> String {
    let said = call(client, "REDWEIR CONSISTENCY").items()[0].text();
    said.split([':', ' ']).filter(|word| !word.is_empty()).nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_level_is_the_users_until_the_client_chooses() {
    let mut stage = plain_stage(1);
    for node in &stage.nodes {
        for user in ["reporting", "billing", "other"] {
            call(&mut node.connect().expect("a node"), &format!("ACL SETUSER {user} on >secret ~* &* +@all"));
        }
    }
    let users = "reporting=eventual,billing=strong,default=bounded";
    let proxy = Proxy::start(&stage, &["--user-consistency", users, "--max-staleness", "5s"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(level(&mut client), "bounded");
    for (line, expected) in [
        ("AUTH reporting secret", "eventual"),
        ("AUTH reporting wrong", "eventual"),
        ("HELLO 3 AUTH billing secret", "strong"),
        ("AUTH other secret", "session"),
        ("RESET", "bounded"),
        ("AUTH billing secret", "strong"),
        ("REDWEIR CONSISTENCY EVENTUAL", "eventual"),
        ("AUTH other secret", "eventual"),
        ("RESET", "bounded"),
        // Also on a connection of its own.
        ("WATCH n", "bounded"),
        ("AUTH billing secret", "strong"),
        ("UNWATCH", "strong"),
    ] {
        call(&mut client, line);
        assert_eq!(level(&mut client), expected, "{line}");
    }
    // And it is what counts.
    call(&mut client, "SET n 1");
    settle(&mut stage, 0);
    Counts::reset(&stage);
    for _ in 0..20 {
        call(&mut client, "GET n");
    }
    assert_eq!(Counts::read(&stage).elsewhere(0, "get"), 0);
    assert_eq!(call(&mut client, "AUTH reporting secret").text(), "OK");
    for _ in 0..20 {
        call(&mut client, "GET n");
    }
    assert_eq!(Counts::read(&stage).elsewhere(0, "get"), 20);
}

/// A write that only the old master acknowledged; another is promoted, and the last node passes the write's offset with what
/// the new master wrote. (offsets.md section 3: 362 at the old master, 515 at the new one.)
#[track_caller]
fn promoted_without_the_last_write(flags: &[&str]) {
    let mut stage = plain_stage(2);
    let links = [1, 2].map(|n| {
        let link = Link::to(stage.nodes[0].port);
        reroute(&stage, n, &link);
        link
    });
    let master = stage.nodes[0].address();
    let aliases = links.iter().map(|link| format!("127.0.0.1:{}={master}", link.port)).collect::<Vec<_>>().join(",");
    let mut all = vec!["--address-map", &aliases];
    all.extend(flags);
    let proxy = Proxy::start(&stage, &all);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    call(&mut client, "SET w 1");
    settle(&mut stage, 0);
    links.iter().for_each(Link::silence);
    call(&mut client, "SET w 2");
    assert_eq!(call(&mut client, "GET w").text(), "2");
    let written: u64 = stage.info(0, "master_repl_offset").expect("an offset").parse().expect("a number");
    stage.nodes[0].kill();
    drop(links);
    call(&mut stage.nodes[1].connect().expect("a node"), "REPLICAOF NO ONE");
    let to = format!("REPLICAOF 127.0.0.1 {}", stage.nodes[1].port);
    call(&mut stage.nodes[2].connect().expect("a node"), &to);
    let mut direct = stage.nodes[1].connect().expect("a node");
    wait("an offset beyond the lost write", || {
        call(&mut direct, "SET filler more");
        match stage.info(2, "slave_repl_offset")?.parse::<u64>() {
            Ok(applied) if applied > written => Ok(()),
            other => Err(format!("{other:?} of {written}")),
        }
    });
    wait("the new picture", || {
        match (proxy.metric("redweir_readers", &[]), proxy.metric("redweir_writes_open", &[])) {
            (1.0, 1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // The first node is gone.
    stage.nodes.remove(0);
    Counts::reset(&stage);
    assert_eq!(call(&mut client, "GET w").text(), "1", "what the new master has");
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.on(1, "get")), (1, 0), "only the new master may say so");
}

#[test]
fn an_offset_of_another_line_is_never_taken_for_what_a_client_wrote() {
    promoted_without_the_last_write(&[]);
    promoted_without_the_last_write(&["--strict", "on"]);
}

/// The last window: the master is replaced behind its address, its replica follows the new one and passes the client's last
/// write by number, all before anybody could notice. What a read of that client brings: the reply, or nothing yet.
#[track_caller]
fn replaced_unnoticed(flags: &[&str]) -> Option<String> {
    let mut stage = plain_stage(1);
    let (master, replica) = (stage.nodes[0].address(), stage.nodes[1].address());
    let link = Link::to(stage.nodes[0].port);
    let map = format!("{master}=127.0.0.1:{}", link.port);
    let source = ["--node", &format!("{master},{replica}"), "--address-map", &map].map(str::to_owned);
    let mut all = vec!["--poll", "60s", "--down-after", "60s", "--hold", "60s"];
    all.extend(flags);
    let proxy = Proxy::start_unready(&source, &all);
    proxy.wait_ready();
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "SET w 1");
    settle(&mut stage, 0);
    wait("a read at the replica", || {
        assert_eq!(call(&mut client, "GET w").text(), "1");
        let n = proxy.metric("redweir_requests_total", &["reason=\"replica\""]);
        if n > 0.0 { Ok(()) } else { Err("at the master".into()) }
    });
    wait("an end of the fast looks after the start", || {
        let asked = |stage: &Stage| Counts::read(stage).on(1, "role");
        let before = asked(&stage);
        std::thread::sleep(Duration::from_millis(300));
        if asked(&stage) == before { Ok(()) } else { Err("it is still asked".into()) }
    });
    let written: u64 = stage.info(0, "master_repl_offset").expect("an offset").parse().expect("a number");
    link.silence();
    stage.nodes[0].kill();
    stage.nodes[0].resume().expect("another process");
    wait("the replacement and its replica", || {
        let mut direct = stage.nodes[0].connect().map_err(|e| e.to_string())?;
        direct.call(&["SET", "filler", "more"]).map_err(|e| e.to_string())?;
        match (stage.info(1, "master_link_status")?.as_str(), stage.info(1, "slave_repl_offset")?.parse::<u64>()) {
            ("up", Ok(applied)) if applied > written => Ok(()),
            other => Err(format!("{other:?} of {written}")),
        }
    });
    let stale = proxy.metric("redweir_stale_reads_total", &[]);
    client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nw\r\n").expect("sent");
    client.socket().set_nonblocking(true).expect("a socket");
    let mut replied = false;
    wait("a reply, or a refusal to give one", || {
        replied = client.socket().peek(&mut [0]).is_ok_and(|n| n > 0);
        let refused = proxy.metric("redweir_stale_reads_total", &[]) > stale;
        if replied || refused { Ok(()) } else { Err("neither".into()) }
    });
    client.socket().set_nonblocking(false).expect("a socket");
    replied.then(|| client.read().expect("a reply").text())
}

#[test]
fn strictly_not_even_a_master_replaced_unnoticed_is_taken_for_the_one_before() {
    assert_eq!(replaced_unnoticed(&["--strict", "on"]), None, "nobody has what the client wrote");
    assert!(replaced_unnoticed(&[]).is_some_and(|reply| reply != "1"), "the test cannot see the window");
}

#[test]
fn what_a_connections_reads_may_rely_on_is_shown() {
    let stage = plain_stage(1);
    let flags = ["--consistency", "bounded", "--max-staleness", "5s", "--strict", "on"];
    let proxy = Proxy::start(&stage, &flags);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    let said = |client: &mut Client, line: &str| -> Vec<String> {
        call(client, line).items().iter().map(|item| item.text()).collect()
    };
    let lines = said(&mut client, "REDWEIR CONSISTENCY");
    assert!(lines[0].starts_with("level: bounded (5s)") && lines[0].ends_with("(of the listener, or of the user)"));
    assert!(lines.contains(&"offsets: believed only together with the replication id (strict)".to_owned()));
    assert_eq!(said(&mut client, "REDWEIR WHOAMI").last(), lines.first());
    call(&mut client, "SET k 1");
    wait("a bound that a reader must show", || {
        let routed = said(&mut client, "REDWEIR ROUTE GET k");
        match routed.last() {
            Some(last) if last.starts_with("now: a reader that shows offset ") => Ok(()),
            _ => Err(format!("{routed:?}")),
        }
    });
    let info = call(&mut client, "INFO redweir").text();
    for line in ["redweir_consistency:bounded (5s)", "redweir_strict:on", "redweir_replicas_lag_most_seconds:0."] {
        assert!(info.contains(line), "{line} is not in {info}");
    }
}

#[test]
fn a_bounded_read_waits_for_a_master_rather_than_be_too_stale() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--consistency", "bounded", "--max-staleness", "300ms", "--hold", "60s"]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    call(&mut client, "SET n 1");
    settle(&mut stage, 0);
    stage.nodes[0].kill();
    wait("writes to be held", || match proxy.metric("redweir_writes_open", &[]) {
        0.0 => Ok(()),
        open => Err(open.to_string()),
    });
    // What the dead master had is known for as long as the bound at most; from then on nobody can tell.
    wait("a read that waits", || {
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nn\r\n").expect("sent");
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if proxy.metric("redweir_holding_sessions", &[]) > 0.0 {
                return Ok(());
            }
        }
        Err(client.read().expect("a reply").text())
    });
    call(&mut stage.nodes[1].connect().expect("a node"), "REPLICAOF NO ONE");
    let to = format!("REPLICAOF 127.0.0.1 {}", stage.nodes[1].port);
    call(&mut stage.nodes[2].connect().expect("a node"), &to);
    assert_eq!(client.read().expect("a reply").text(), "1");
}
