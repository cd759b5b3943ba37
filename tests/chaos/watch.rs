//! When nodes became masters, by their own word, asked every 2 ms.
//!
//! Must not ask redweir. Invariant: a node that was not seen as a replica by the same process is not promoted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::support::Client;

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
