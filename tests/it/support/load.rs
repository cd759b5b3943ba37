//! Something for a node to do while a test looks elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{call, connect};

/// Writes to a node without pause until it is dropped.
pub struct Load(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Load {
    pub fn on(address: String) -> Load {
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
