//! The links of the tests do what they are told: who relies on a fault must know that it happens.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Client, Faults, Link, Linked, Plan, Stage, call, plain_stage, wait};

const LONG: Duration = Duration::from_millis(100);

fn through(link: &Link) -> std::io::Result<Client> {
    Client::connect(&link.address(), Duration::from_secs(20))
}

#[test]
fn a_link_delays_each_way_and_chops_without_changing_a_byte() {
    let stage = plain_stage(0);
    let link = Link::to(stage.nodes[0].port);
    let mut client = through(&link).expect("a connection");
    let value: String = (0..40_000).map(|_| fastrand::alphanumeric()).collect();
    link.set(Faults { chop: true, ..Faults::default() });
    assert_eq!(client.call(&["SET", "key", &value]).expect("a reply").text(), "OK");
    assert_eq!(client.call(&["GET", "key"]).expect("a reply").text(), value);
    for faults in [Faults { there: LONG..LONG, ..Faults::default() }, Faults { back: LONG..LONG, ..Faults::default() }]
    {
        link.set(faults);
        let began = Instant::now();
        call(&mut client, "PING");
        assert!(began.elapsed() >= LONG, "{:?}", began.elapsed());
    }
}

#[test]
fn a_link_stalls_cuts_and_refuses() {
    let stage = plain_stage(0);
    let link = Link::to(stage.nodes[0].port);
    let mut client = through(&link).expect("a connection");
    link.set(Faults { stall: true, ..Faults::default() });
    let mut node = stage.nodes[0].connect().expect("the node");
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n").expect("sent");
    std::thread::sleep(LONG);
    assert_eq!(call(&mut node, "EXISTS k").int(), Some(0));
    link.set(Faults::default());
    assert_eq!(client.read().expect("a reply").text(), "OK");
    link.cut();
    assert!(client.call(&["PING"]).is_err());
    link.set(Faults { refuse: true, ..Faults::default() });
    assert!(through(&link).and_then(|mut c| c.call(&["PING"])).is_err());
    link.set(Faults::default());
    assert_eq!(call(&mut through(&link).expect("a connection"), "PING").text(), "PONG");
    let port = link.port;
    drop(link);
    TcpListener::bind(("127.0.0.1", port)).expect("nobody listens any more");
}

fn lag(stage: &Stage, replica: usize) -> i64 {
    let offset = |n: usize, field: &str| stage.info(n, field).expect("INFO").parse::<i64>().expect("a number");
    offset(0, "master_repl_offset") - offset(replica, "slave_repl_offset")
}

#[test]
fn replicas_follow_through_their_masters_link_also_after_a_failover() {
    let linked = Linked::start(Plan { replicas: 2, sentinels: 0, ..Plan::default() }, 1);
    let proxy = linked.proxy(&[]);
    linked.links[0].set(Faults { stall: true, replicas_only: true, ..Faults::default() });
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "SET key 1").text(), "OK");
    assert_eq!(call(&mut client, "GET key").text(), "1");
    assert!(lag(&linked.stage, 1) > 0 && lag(&linked.stage, 2) > 0);
    assert_eq!(call(&mut linked.stage.nodes[1].connect().expect("a replica"), "EXISTS key").int(), Some(0));
    linked.links[0].set(Faults::default());
    let to = format!("FAILOVER TO 127.0.0.1 {}", linked.links[1].port);
    assert_eq!(call(&mut linked.stage.nodes[0].connect().expect("the master"), &to).text(), "OK");
    wait("the new master", || match proxy.set()["shards"][0]["master"].as_str().and_then(|a| linked.node_at(a)) {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}: {}", proxy.set())),
    });
    wait("the old master behind the new one's link", || match linked.stage.info(0, "master_port") {
        Ok(port) if port == linked.links[1].port.to_string() => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
