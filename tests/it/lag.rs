//! How far behind a replica is, against the truth: a link that delays its stream by a known time.

use std::time::Duration;

use crate::support::link::{Link, reroute};
use crate::support::load::Load;
use crate::support::{Counts, Proxy, Reply, Stage, call, ok, plain_stage, wait};

#[test]
fn the_lag_shown_under_load_is_the_delay_of_the_link() {
    let stage = plain_stage(2);
    let link = Link::to(stage.nodes[0].port);
    reroute(&stage, 1, &link);
    // The link is the master by another name.
    let alias = format!("127.0.0.1:{}={}", link.port, stage.nodes[0].address());
    let proxy = Proxy::start(&stage, &["--address-map", &alias]);
    proxy.wait_readers(2);
    let _load = Load::on(stage.nodes[0].address());
    let lag = |n: usize| {
        let node = format!("node=\"{}\"", stage.nodes[n].address());
        1000.0 * proxy.metric("redweir_node_lag_seconds", &[&node])
    };
    for delay in [0.0, 20.0, 60.0, 250.0, 0.0_f64] {
        link.delay(Duration::from_secs_f64(delay / 1000.0));
        let near = (delay / 10.0).max(5.0);
        // The machine has other things to do, too: one figure may be off, most must not.
        let mut figures: Vec<f64> = Vec::new();
        wait("the lag", || {
            std::thread::sleep(Duration::from_millis(50));
            figures.push(lag(1));
            let last: Vec<f64> = figures.iter().rev().take(15).copied().collect();
            let good = last.iter().filter(|figure| (*figure - delay).abs() <= near).count();
            if good >= 12 { Ok(()) } else { Err(format!("{delay} ms are shown as {last:.1?}")) }
        });
        wait("no lag at the replica without a delay", || match lag(2) {
            lag if lag <= 5.0 => Ok(()),
            lag => Err(format!("{lag} ms, while the other has {delay} ms")),
        });
    }
}

/// Both replicas are beyond 500 ms, the second one by less.
#[track_caller]
fn all_lag(flags: &[&str]) -> (Stage, [Link; 2], Proxy, Load) {
    let stage = plain_stage(2);
    let links = [1, 2].map(|n| {
        let link = Link::to(stage.nodes[0].port);
        reroute(&stage, n, &link);
        link
    });
    let master = stage.nodes[0].address();
    let aliases = links.iter().map(|link| format!("127.0.0.1:{}={master}", link.port)).collect::<Vec<_>>().join(",");
    let mut all = vec!["--address-map", &aliases, "--max-lag", "500ms", "--max-lag-return", "50%"];
    all.extend(flags);
    let proxy = Proxy::start(&stage, &all);
    proxy.wait_readers(2);
    let load = Load::on(stage.nodes[0].address());
    links[0].delay(Duration::from_secs(3));
    links[1].delay(Duration::from_secs(1));
    let lag = |n: usize| {
        let node = format!("node=\"{}\"", stage.nodes[n].address());
        proxy.metric("redweir_node_lag_seconds", &[&node])
    };
    wait("both to lag", || match (lag(1), lag(2), proxy.metric("redweir_readers_lagging", &[])) {
        (far, near, 2.0) if far > 2.0 && (0.9..1.5).contains(&near) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    Counts::reset(&stage);
    (stage, links, proxy, load)
}

#[test]
fn while_all_replicas_lag_reads_are_the_masters() {
    let (stage, links, proxy, _load) = all_lag(&[]);
    let mut client = proxy.client();
    for _ in 0..200 {
        assert!(!call(&mut client, "GET load").is_error());
    }
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.elsewhere(0, "get")), (200, 0));
    assert_eq!(proxy.metric("redweir_requests_total", &["reason=\"lag\""]), 200.0);
    // Between leaving at 500 ms and coming back at 250 ms nothing changes.
    links[1].delay(Duration::from_millis(380));
    let node = format!("node=\"{}\"", stage.nodes[2].address());
    wait("less lag", || match proxy.metric("redweir_node_lag_seconds", &[&node]) {
        lag if lag < 0.45 => Ok(()),
        lag => Err(format!("{lag} s")),
    });
    assert_eq!(proxy.metric("redweir_readers", &[]), 0.0, "it comes back too early");
    links[1].delay(Duration::from_millis(20));
    proxy.wait_readers(1);
    let mut other = proxy.client();
    for _ in 0..20 {
        assert!(!call(&mut other, "GET load").is_error());
    }
    assert!(Counts::read(&stage).on(2, "get") > 0);
}

#[test]
fn the_master_is_guarded_from_all_reads_while_replicas_lag() {
    let flags = ["--lag-guard-share", "20%", "--consistency", "eventual"];
    let (stage, _links, proxy, _load) = all_lag(&flags);
    let mut client = proxy.client();
    for _ in 0..200 {
        assert!(!call(&mut client, "GET load").is_error());
    }
    let counts = Counts::read(&stage);
    let on = [0, 1, 2].map(|n| counts.on(n, "get"));
    assert_eq!(on, [40, 0, 160], "the master's share, and the rest for the one that is least behind");
    assert_eq!(proxy.metric("redweir_requests_total", &["reason=\"least_lagging\""]), 160.0);
    let routed = call(&mut client, "REDWEIR ROUTE GET load").items()[3].text();
    assert!(routed.contains("the one that is least so"), "{routed}");
    // What a client wrote it sees, guard or not.
    let mut careful = proxy.client();
    assert_eq!(call(&mut careful, "REDWEIR CONSISTENCY SESSION").text(), "OK");
    for n in 0..100 {
        call(&mut careful, &format!("SET own {n}"));
        assert_eq!(call(&mut careful, "GET own").text(), n.to_string());
    }
}

/// Reads of a round join one another; with one that must stay at the master the master's share would grow to all of them.
#[test]
fn the_masters_share_is_kept_beside_reads_that_must_stay_there() {
    let (stage, _links, proxy, _load) =
        all_lag(&["--lag-guard-share", "20%", "--consistency", "eventual", "--workers", "1"]);
    let mut others = [(); 5].map(|()| proxy.client());
    let (mut careful, mut busy) = (proxy.client(), proxy.client());
    assert_eq!(call(&mut careful, "REDWEIR CONSISTENCY SESSION").text(), "OK");
    assert_eq!(call(&mut careful, "SET own value"), ok());
    Counts::reset(&stage);
    const PINGS: usize = 500;
    for _ in 0..400 {
        // While it answers these, the others' requests gather for one round.
        busy.send("PING\r\n".repeat(PINGS).as_bytes()).unwrap();
        careful.send(b"STRLEN own\r\n").unwrap();
        for other in &mut others {
            other.send(b"GET load\r\n").unwrap();
        }
        for _ in 0..PINGS {
            assert_eq!(busy.read().unwrap().text(), "PONG");
        }
        assert_eq!(careful.read().unwrap().int(), Some(5));
        assert!(others.iter_mut().all(|other| !other.read().unwrap().is_error()));
    }
    let counts = Counts::read(&stage);
    assert_eq!(counts.on(0, "strlen"), 400);
    assert_eq!([0, 1, 2].map(|n| counts.on(n, "get")), [400, 0, 1600], "the master's share, and the rest");
}

#[test]
fn reads_beyond_the_masters_share_may_be_refused() {
    let flags = ["--lag-guard-share", "25%", "--lag-guard", "refuse", "--consistency", "eventual"];
    let (stage, _links, proxy, _load) = all_lag(&flags);
    let mut client = proxy.client();
    let replies: Vec<Reply> = (0..200).map(|_| call(&mut client, "GET load")).collect();
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.is_error()).collect();
    assert!(
        refused.iter().all(|reply| reply.text().starts_with("TRYAGAIN redweir: every replica lags")),
        "{refused:?}"
    );
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.elsewhere(0, "get"), refused.len()), (50, 0, 150));
    assert_eq!(proxy.metric("redweir_refused_total", &["reason=\"lag\""]), 150.0);
    // What a client wrote it sees, guard or not.
    assert_eq!(call(&mut client, "REDWEIR CONSISTENCY SESSION").text(), "OK");
    for n in 0..100 {
        call(&mut client, &format!("SET own {n}"));
        assert_eq!(call(&mut client, "GET own").text(), n.to_string());
    }
}
