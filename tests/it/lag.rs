//! How far behind a replica is, against the truth: a link that delays its stream by a known time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::link::{Link, reroute};
use crate::support::{Proxy, call, connect, plain_stage, wait};

/// Writes to a node without pause until it is dropped.
struct Load(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Load {
    fn on(address: String) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let write = move || {
            let mut client = connect(&address);
            while !stop.load(Relaxed) {
                call(&mut client, "INCR load");
                // Some thousands of writes a second are load enough, and leave the machine to the others.
                std::thread::sleep(Duration::from_micros(200));
            }
        };
        Load(over, Some(std::thread::spawn(write)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        let _ = self.1.take().map(JoinHandle::join);
    }
}

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
        assert!(lag(2) < delay.max(30.0), "the replica without a delay: {}", lag(2));
    }
}
