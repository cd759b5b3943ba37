//! Any bytes as the answer to the control plane's request: an error or a reply, whatever a node says.
//!
//! The bytes go through a loopback connection, since the decoder is reachable in no other way.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use redweir::upstream::control::{Client, Reply};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static WORLD: RefCell<Option<(Runtime, TcpListener)>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    WORLD.with_borrow_mut(|world| {
        let (runtime, listener) = world.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            (runtime, listener)
        });
        runtime.block_on(async {
            let address = listener.local_addr().expect("an address").to_string();
            let mut client = Client::connect(&address, None, Duration::from_secs(5)).await.expect("connected");
            let (mut node, _) = listener.accept().await.expect("accepted");
            node.write_all(bytes).await.expect("written");
            // No TIME_WAIT: a run makes many thousand connections.
            let _ = node.shutdown().await;
            while let Ok(reply) = client.receive().await {
                assert!(size(&reply) <= bytes.len());
            }
        });
    });
});

/// Bytes and elements of a reply: never more than was sent.
fn size(reply: &Reply) -> usize {
    match reply {
        Reply::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        other => other.bytes().map_or(1, <[u8]>::len),
    }
}
