//! SIGINT and SIGTERM as a flag that the demo looks at.
//!
//! Invariant: the first signal asks for an orderly end; the second one ends at once (the stage's guard then cleans up).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::signal::unix::{SignalKind, signal};

/// Starts to listen; the flag turns true at the first signal.
///
/// # Errors
/// The operating system refused a thread or the handlers.
pub fn listen() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(asked)
}
