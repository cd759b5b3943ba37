//! Whatever happens to the servers, in front of clients of every kind: a cell is one fault, with Sentinel or without, and one kind
//! of clients; the five kinds of a fault run side by side.
//!
//! `cargo test` plays a part and asserts counts, never times. `make chaos` plays all and asserts the bars for times, too.
//! Environment: REDWEIR (a binary), REDWEIR_CHAOS=all (all faults), REDWEIR_FAULTS (names, by comma), REDWEIR_SEED (what is random).

mod clients;
mod faults;
mod net;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod table;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clients::{Kind, Run, Seen};
use faults::{Fault, Scene};
use net::{Net, Side};
use support::{Proxy, call, settle, stage, wait};
use table::{Cell, Played, Story};

/// Ends what runs in a scope, also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// One fault, all kinds of clients; in namespaces where there is something to cut.
fn play(fault: Fault, sentinel: bool, seed: u64) -> Played {
    let net = match fault.cuts().then(|| Net::new(faults::NODES)).transpose() {
        Ok(net) => net,
        Err(why) => return Played::Skipped { fault, sentinel, why },
    };
    // A thread of its own, which may go elsewhere.
    let played = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if let Some(net) = &net {
                    net.enter(Side::Redweir);
                }
                play_here(fault, sentinel, seed, net.as_ref())
            })
            .join()
    });
    Played::Cells(played.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn play_here(fault: Fault, sentinel: bool, seed: u64, net: Option<&Net>) -> Vec<Cell> {
    let mut stage = stage(fault.plan(sentinel, net));
    let proxy = Proxy::start(&stage, &fault.flags(sentinel));
    proxy.wait_readers(2);
    call(&mut proxy.client(), "SET chaos:read value");
    settle(&mut stage, 0);
    let run = Run { address: format!("127.0.0.1:{}", proxy.port), stop: AtomicBool::new(false) };
    let watched = AtomicBool::new(false);
    let nodes = stage.node_addresses();
    let mut story = Story::of(fault, sentinel);
    let (mut seen, mut master, mut shown) = (Vec::new(), 0, Vec::new());
    std::thread::scope(|scope| {
        let (stop, unwatch) = (StopOnDrop(&run.stop), StopOnDrop(&watched));
        let watch = |(n, address): (usize, &String)| {
            let address = address.clone();
            let watched = &watched;
            scope.spawn(move || {
                // Whatever is cut, a node hears who is with it.
                net.inspect(|net| net.enter(Side::Node(n)));
                watch::promotions(&address, watched)
            })
        };
        let watchers: Vec<_> = nodes.iter().enumerate().map(watch).collect();
        let looker = scope.spawn(|| watch::topology(&proxy, &watched));
        let mut players = Vec::new();
        for kind in Kind::ALL {
            for (me, role) in kind.roles().iter().enumerate() {
                let run = &run;
                players.push((kind, scope.spawn(move || clients::play(run, kind, *role, me))));
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let mut scene = Scene { stage: &mut stage, proxy: &proxy, net, struck: Vec::new(), seed };
        master = fault.play(&mut scene);
        story.struck = scene.struck;
        std::thread::sleep(Duration::from_millis(1500));
        drop(unwatch);
        story.promoted = watchers.into_iter().flat_map(|w| w.join().expect("a watcher")).collect::<Vec<Instant>>();
        shown = looker.join().expect("a looker");
        drop(stop);
        seen = players.into_iter().map(|(kind, p)| (kind, p.join().expect("a client"))).collect::<Vec<_>>();
    });
    if let Some(promotes) = fault.promotes(sentinel) {
        assert_eq!(!story.promoted.is_empty(), promotes, "{fault:?}: {} promotions", story.promoted.len());
    }
    story.look_at(&shown);
    let mut node = None;
    wait("the master", || {
        node = stage.nodes[master].connect().ok();
        node.as_ref().map(drop).ok_or_else(|| "it does not answer".into())
    });
    let mut node = node.expect("waited for");
    let of_kind = |kind| seen.iter().filter(|(k, _)| *k == kind).map(|(_, s)| s).collect::<Vec<&Seen>>();
    Kind::ALL.into_iter().map(|kind| Cell::judge(&story, kind, &of_kind(kind), &mut node)).collect()
}

/// What is to be played, and whether it is all there is.
fn chosen(all: &[Fault], short: &[Fault]) -> (Vec<Fault>, bool) {
    let names = std::env::var("REDWEIR_FAULTS").unwrap_or_default().to_lowercase();
    let whole = !names.is_empty() || std::env::var("REDWEIR_CHAOS").is_ok_and(|v| v == "all");
    let named = |f: &Fault| names.is_empty() || names.split(',').any(|n| n == format!("{f:?}").to_lowercase());
    (if whole { all.iter().copied().filter(named).collect() } else { short.to_vec() }, whole)
}

fn play_all(sentinel: bool, all: &[Fault], short: &[Fault]) {
    let _turn = support::turn();
    let seed =
        std::env::var("REDWEIR_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("REDWEIR_SEED={seed}");
    let (faults, whole) = chosen(all, short);
    table::verdict(faults.into_iter().map(|fault| play(fault, sentinel, seed)), whole);
}

#[test]
fn whatever_happens_under_sentinel_clients_lose_nothing_they_need_not() {
    use Fault::*;
    play_all(true, &Fault::WITH_SENTINEL, &[Kill, Planned, Switchover, CutSentinels]);
}

#[test]
fn whatever_happens_without_sentinel_clients_lose_nothing_they_need_not() {
    use Fault::*;
    play_all(false, &Fault::WITHOUT, &[Kill, Hang, ByHand, Flap, CutRedweir]);
}
