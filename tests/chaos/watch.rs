//! When nodes became masters, by their own word, asked every 2 ms; and what redweir shows of that, asked every 5 ms.
//!
//! Must not take the one for the other. Invariant: a node that was not seen as a replica by the same process is not promoted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::support::{Client, Proxy};

/// redweir is looked at again after as long.
pub const LOOK: Duration = Duration::from_millis(5);

/// Until told to stop; one thread a node, as one that hangs must not hide another's promotion.
pub fn promotions(address: &str, stop: &AtomicBool) -> Vec<Instant> {
    let mut found = Vec::new();
    let mut replica = false;
    let mut client = None;
    while !stop.load(Relaxed) {
        if client.is_none() {
            client = Client::connect(address, Duration::from_secs(5)).ok();
            // Sentinel ends all connections as it promotes; a process that is gone refuses new ones.
            replica &= client.is_some();
        }
        match client.as_mut().map(|c| c.call(&["ROLE"])) {
            Some(Ok(role)) => match role.items().first().map(|r| r.text()).as_deref() {
                Some("slave") => replica = true,
                Some("master") if replica => {
                    found.push(Instant::now());
                    replica = false;
                }
                _ => {}
            },
            _ => client = None,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    found
}

/// What redweir shows of itself at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub at: Instant,
    pub held: bool,
    pub master: Option<String>,
}

/// Until told to stop; only what is another than before.
pub fn topology(proxy: &Proxy, stop: &AtomicBool) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    while !stop.load(Relaxed) {
        std::thread::sleep(LOOK);
        let set = proxy.set();
        let shard = &set["shards"][0];
        let master = shard["master"].as_str().map(str::to_owned);
        let shown = Shown { at: Instant::now(), held: shard["writes"] == "held", master };
        if found.last().is_none_or(|last| (last.held, &last.master) != (shown.held, &shown.master)) {
            found.push(shown);
        }
    }
    found
}
