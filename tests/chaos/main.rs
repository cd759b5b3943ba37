//! Whatever happens to the servers, in front of clients of every kind: a cell is one fault, with Sentinel or without, and one kind
//! of clients; the five kinds of a fault run side by side.
//!
//! `cargo test` plays a part and asserts counts, never times. `make chaos` plays all and prints the bars for times, too.
//! Environment: REDWEIR (a binary), REDWEIR_CHAOS=all (all faults), REDWEIR_FAULTS (names, by comma).
//! Missing: partitions, which need network namespaces; restart of everything in random order.

mod clients;
mod faults;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod table;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clients::{Kind, Run, Seen};
use faults::Fault;
use support::{Proxy, call, settle, stage};
use table::Cell;

/// Ends what runs in a scope, also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// One fault, all kinds of clients.
fn play(fault: Fault, sentinel: bool) -> Vec<Cell> {
    let mut stage = stage(Fault::plan(sentinel));
    let proxy = Proxy::start(&stage, &fault.flags(sentinel));
    proxy.wait_readers(2);
    call(&mut proxy.client(), "SET chaos:read value");
    settle(&mut stage, 0);
    let run = Run { address: format!("127.0.0.1:{}", proxy.port), stop: AtomicBool::new(false) };
    let watched = AtomicBool::new(false);
    let nodes = stage.node_addresses();
    let (mut promoted, mut seen, mut master) = (Vec::new(), Vec::new(), 0);
    std::thread::scope(|scope| {
        let watchers: Vec<_> = nodes.iter().map(|n| scope.spawn(|| watch::promotions(n, &watched))).collect();
        let (stop, unwatch) = (StopOnDrop(&run.stop), StopOnDrop(&watched));
        let mut players = Vec::new();
        for kind in Kind::ALL {
            for (me, role) in kind.roles().iter().enumerate() {
                let run = &run;
                players.push((kind, scope.spawn(move || clients::play(run, kind, *role, me))));
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        master = fault.play(&mut stage, &proxy);
        std::thread::sleep(Duration::from_millis(1500));
        drop(unwatch);
        promoted = watchers.into_iter().flat_map(|w| w.join().expect("a watcher")).collect::<Vec<Instant>>();
        drop(stop);
        seen = players.into_iter().map(|(kind, p)| (kind, p.join().expect("a client"))).collect::<Vec<_>>();
    });
    assert_eq!(promoted.is_empty(), !fault.promotes(), "{fault:?}: {} promotions", promoted.len());
    let mut node = stage.nodes[master].connect().expect("the master");
    let mut cells = Vec::new();
    for kind in Kind::ALL {
        let of_kind: Vec<&Seen> = seen.iter().filter(|(k, _)| *k == kind).map(|(_, s)| s).collect();
        cells.push(Cell::judge(fault, sentinel, kind, &of_kind, &promoted, &mut node));
    }
    cells
}

fn chosen(all: &[Fault], short: &[Fault]) -> Vec<Fault> {
    let names = std::env::var("REDWEIR_FAULTS").unwrap_or_default().to_lowercase();
    let whole = !names.is_empty() || std::env::var("REDWEIR_CHAOS").is_ok_and(|v| v == "all");
    let named = |f: &Fault| names.is_empty() || names.split(',').any(|n| n == format!("{f:?}").to_lowercase());
    if whole { all.iter().copied().filter(named).collect() } else { short.to_vec() }
}

#[test]
fn whatever_happens_under_sentinel_clients_lose_nothing_they_need_not() {
    let _turn = support::turn();
    let short = [Fault::Kill, Fault::Planned, Fault::Switchover, Fault::Sentinels];
    table::verdict(chosen(&Fault::WITH_SENTINEL, &short).into_iter().map(|fault| play(fault, true)));
}

#[test]
fn whatever_happens_without_sentinel_clients_lose_nothing_they_need_not() {
    let _turn = support::turn();
    let short = [Fault::Kill, Fault::Switchover, Fault::ByHand, Fault::Flap];
    table::verdict(chosen(&Fault::WITHOUT, &short).into_iter().map(|fault| play(fault, false)));
}
