//! Many clients over connections that are chopped, delayed and cut: every reply is the asker's own, no write is done twice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{Client, Proxy, call, connect, plain_stage, settle};

/// Passes bytes on in odd pieces, and cuts each connection after some thousand of them. Returns its address.
fn faulty(to: u16, seed: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        let mut dice = fastrand::Rng::with_seed(seed);
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            for (from, to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))] {
                let (Ok(from), Ok(to), dice) = (from, to, dice.fork()) else { continue };
                std::thread::spawn(move || pump(from, to, dice));
            }
        }
    });
    address
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut dice: fastrand::Rng) {
    let mut left = dice.usize(2_000..120_000);
    let mut buffer = [0; 8192];
    loop {
        let room = dice.usize(1..buffer.len()).min(left.max(1));
        match from.read(&mut buffer[..room]) {
            Ok(n) if n > 0 && to.write_all(&buffer[..n]).is_ok() => left -= n.min(left),
            _ => break,
        }
        if left == 0 {
            break;
        }
        if dice.u8(..) == 0 {
            std::thread::sleep(Duration::from_millis(dice.u64(1..5)));
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// What one client knows of its own list and counter.
#[derive(Default)]
struct Known {
    sent: usize,
    acknowledged: Vec<String>,
    counted: i64,
    attempts: i64,
    cut: u64,
}

/// Random pipelines until `until`; panics at a reply that is not its own.
fn play(address: &str, me: usize, until: Instant, done: &AtomicU64) -> Known {
    let mut dice = fastrand::Rng::with_seed(me as u64);
    let mut known = Known::default();
    let mut client = connect(address);
    while Instant::now() < until {
        let (commands, expected) = pipeline(me, &mut dice, &mut known);
        let lines: Vec<Vec<&str>> = commands.iter().map(|c| c.split(' ').collect()).collect();
        if round(&mut client, me, &lines, &expected, &mut known).is_err() {
            known.cut += 1;
            client = connect(address);
        }
        done.fetch_add(lines.len() as u64, Relaxed);
    }
    known
}

/// Commands and what each must answer; `None`: checked by what is known.
fn pipeline(me: usize, dice: &mut fastrand::Rng, known: &mut Known) -> (Vec<String>, Vec<Option<String>>) {
    let mut commands = Vec::new();
    let mut expected = Vec::new();
    let mut own = None;
    for _ in 0..dice.usize(1..20) {
        let (command, reply) = match dice.u8(0..10) {
            0 => {
                let id = format!("{me}-{}", known.sent);
                known.sent += 1;
                (format!("RPUSH list:{me} {id}"), None)
            }
            1 => {
                known.attempts += 1;
                (format!("INCR count:{me}"), None)
            }
            2 => {
                let value = dice.u64(..).to_string();
                own = Some(value.clone());
                (format!("SET own:{me} {value}"), Some("OK".to_owned()))
            }
            3 if own.is_some() => (format!("GET own:{me}"), own.clone()),
            4 => (format!("ECHO {me}:{}", known.sent), Some(format!("{me}:{}", known.sent))),
            _ => {
                let key = dice.u32(0..200);
                (format!("GET key:{key}"), Some(format!("value-of-{key}-{}", "x".repeat(key as usize * 7))))
            }
        };
        commands.push(command);
        expected.push(reply);
    }
    (commands, expected)
}

fn round(
    client: &mut Client,
    me: usize,
    lines: &[Vec<&str>],
    expected: &[Option<String>],
    known: &mut Known,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&[u8]> = line.iter().map(|w| w.as_bytes()).collect();
        bytes.extend_from_slice(&redweir::demo::client::encode(&words));
    }
    client.send(&bytes)?;
    for (line, expected) in lines.iter().zip(expected) {
        let reply = client.read()?;
        assert!(!reply.is_error(), "client {me}: {line:?} got {reply:?}");
        match (line[0], expected) {
            (_, Some(expected)) => assert_eq!(&reply.text(), expected, "client {me}: {line:?} in {lines:?}"),
            ("RPUSH", _) => known.acknowledged.push(line[2].to_owned()),
            _ => {
                let n = reply.int().expect("a number");
                assert!(n > known.counted && n <= known.attempts, "client {me}: {n} after {}", known.counted);
                known.counted = n;
            }
        }
    }
    Ok(())
}

#[test]
fn every_reply_is_the_askers_own_over_connections_that_break() {
    let mut stage = plain_stage(2);
    let mut master = stage.nodes[0].connect().expect("the master");
    for key in 0..200 {
        call(&mut master, &format!("SET key:{key} value-of-{key}-{}", "x".repeat(key * 7)));
    }
    settle(&mut stage, 0);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let map: Vec<String> = stage.nodes.iter().map(|n| format!("{}={}", n.address(), faulty(n.port, seed))).collect();
    let proxy = Proxy::start(&stage, &["--address-map", &map.join(","), "--workers", "2"]);
    let address = format!("127.0.0.1:{}", proxy.port);
    let (until, done) = (Instant::now() + Duration::from_secs(8), AtomicU64::new(0));
    let known: Vec<Known> = std::thread::scope(|scope| {
        let (address, done) = (&address, &done);
        let players: Vec<_> = (0..16).map(|me| scope.spawn(move || play(address, me, until, done))).collect();
        players.into_iter().map(|p| p.join().expect("no wrong reply")).collect()
    });
    let cuts: u64 = known.iter().map(|k| k.cut).sum();
    println!(
        "{} commands, {cuts} clients cut, {} reads retried",
        done.load(Relaxed),
        proxy.metric("redweir_retried_total", &[])
    );
    assert!(proxy.metric("redweir_retried_total", &["kind=\"read\""]) > 0.0, "connections did break");
    for (me, known) in known.iter().enumerate() {
        let list: Vec<String> =
            call(&mut master, &format!("LRANGE list:{me} 0 -1")).items().iter().map(|r| r.text()).collect();
        // Once each, and what was acknowledged is there in its order. What was on a cut wire may arrive late, or not at all.
        let once: std::collections::HashSet<&String> = list.iter().collect();
        assert_eq!(once.len(), list.len(), "client {me}: a write was done twice");
        let mut there = list.iter();
        let lost = known.acknowledged.iter().find(|id| !there.any(|l| l == *id));
        assert_eq!(lost, None, "client {me}: an acknowledged write is gone or out of order");
    }
}
