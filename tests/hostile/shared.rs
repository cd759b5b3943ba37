//! The shared connections: a slow reader of a large reply, replies that are left out, scripts that look like a refusal.

use std::io::Read;
use std::time::Duration;

use crate::support::{Client, Proxy, bulk, call, ok, plain_stage, wait};
use crate::{script, soon};

const BIG: usize = 40 << 20;

/// Sends `line` alone, so that it is a run of its own.
fn alone(client: &mut Client, line: &str) {
    client.send(&script(&[line])).expect("sent");
    std::thread::sleep(Duration::from_millis(40));
}

/// Everybody's requests are on the master's connection, in this order, before the master looks at the first: a large reply for
/// one who does not read, then `rest`.
fn behind_a_slow_reader(proxy: &Proxy, master: &mut Client, rest: &mut [(&mut Client, &[&str])]) -> Client {
    let mut slow = proxy.client();
    call(master, "SETRANGE big 41943039 x");
    master.send(&script(&["DEBUG SLEEP 0.7"])).expect("sent");
    std::thread::sleep(Duration::from_millis(80));
    slow.send(&script(&["SET own 1", "GET big"])).expect("sent");
    std::thread::sleep(Duration::from_millis(80));
    for (client, lines) in rest {
        lines.iter().for_each(|line| alone(client, line));
    }
    assert_eq!(master.read().expect("awake"), ok());
    slow
}

fn stage() -> crate::support::Stage {
    crate::support::stage(crate::support::Plan {
        replicas: 0,
        sentinels: 0,
        extra: vec!["enable-debug-command yes".into()],
        ..Default::default()
    })
}

/// The slow one reads at last.
fn catch_up(slow: &mut Client) {
    assert_eq!(soon(slow), ok());
    assert_eq!(soon(slow).text().len(), BIG);
}

#[test]
fn replies_stay_in_order_behind_a_slow_reader() {
    let stage = stage();
    let proxy = Proxy::start(&stage, &["--down-after", "5s"]);
    let mut master = stage.nodes[0].connect().expect("the master");
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "SET a 0"), ok());
    let lines: &[&str] = &["SET a 1", "GET a", "APPEND a 2"];
    let mut slow = behind_a_slow_reader(&proxy, &mut master, &mut [(&mut client, lines)]);
    let replies: Vec<String> = (0..3).map(|_| soon(&mut client).text()).collect();
    assert_eq!(replies, ["OK", "1", "2"]);
    catch_up(&mut slow);
}

#[test]
fn an_error_behind_a_slow_reader_ends_nobody() {
    let stage = stage();
    let proxy = Proxy::start(&stage, &["--down-after", "5s"]);
    let mut master = stage.nodes[0].connect().expect("the master");
    let (mut reader, mut writer) = (proxy.client(), proxy.client());
    call(&mut master, "RPUSH list 1");
    let mut slow =
        behind_a_slow_reader(&proxy, &mut master, &mut [(&mut reader, &["SCAN nonsense"]), (&mut writer, &["INCR n"])]);
    assert!(soon(&mut reader).is_error());
    catch_up(&mut slow);
    assert_eq!(soon(&mut writer).int(), Some(1));
}

#[test]
fn small_reads_behind_ones_own_large_reply_are_answered() {
    let stage = stage();
    let proxy = Proxy::start(&stage, &["--read-policy", "master", "--down-after", "5s"]);
    let mut master = stage.nodes[0].connect().expect("the master");
    call(&mut master, "SETRANGE big 41943039 x");
    call(&mut master, "SET small 1");
    let mut client = proxy.client();
    master.send(&script(&["DEBUG SLEEP 0.5"])).expect("sent");
    std::thread::sleep(Duration::from_millis(80));
    for line in ["GET big", "GET small", "GET small"] {
        alone(&mut client, line);
    }
    assert_eq!(master.read().expect("awake"), ok());
    // Long enough for its socket to be full and redweir to be left with some.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(soon(&mut client).text().len(), BIG);
    assert_eq!((soon(&mut client), soon(&mut client)), (bulk("1"), bulk("1")));
}

#[test]
fn a_reply_left_out_is_left_out_when_its_request_is_sent_again() {
    let stage = stage();
    let proxy = Proxy::start(&stage, &["--read-policy", "master", "--down-after", "5s"]);
    let mut master = stage.nodes[0].connect().expect("the master");
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "SET a secret"), ok());
    for _ in 0..5 {
        master.send(&script(&["DEBUG SLEEP 0.3", "CLIENT KILL TYPE normal"])).expect("sent");
        std::thread::sleep(Duration::from_millis(60));
        client.send(&script(&["CLIENT REPLY SKIP", "GET a", "ECHO end"])).expect("sent");
        assert_eq!(master.read().expect("awake"), ok());
        assert!(master.read().expect("killed").int().is_some());
        assert_eq!(soon(&mut client), bulk("end"));
    }
}

#[test]
fn a_refused_hold_gives_its_place_back() {
    let mut stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--hold", "200ms"]);
    let mut client = proxy.client();
    stage.nodes[0].kill();
    assert!(call(&mut client, "SET a 1").is_error());
    wait("nothing held", || {
        let held = ["redweir_holding_sessions", "redweir_holding_bytes"].map(|name| proxy.metric(name, &[]));
        if held == [0.0, 0.0] { Ok(()) } else { Err(format!("{held:?}")) }
    });
    // Nothing is left in its socket either.
    client.socket().set_nonblocking(true).expect("nonblocking");
    assert!(client.socket().read(&mut [0]).is_err());
}
