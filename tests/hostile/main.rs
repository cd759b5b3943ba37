//! What a hostile client, node or network can try, and what must come of it: nothing for anybody else.
//!
//! Each test is a bug that was there once, named by the sentence that holds now. Real servers, the real binary.

mod others;
mod pinned;
mod poison;
mod shared;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::time::Duration;

use support::{Client, Reply};

/// Bytes of several commands, to be sent in one write.
pub fn script(lines: &[&str]) -> Vec<u8> {
    let words = |line: &&str| -> Vec<Vec<u8>> { line.split(' ').map(|w| w.as_bytes().to_vec()).collect() };
    let encoded = lines
        .iter()
        .map(words)
        .map(|w| redweir::demo::client::encode(&w.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    encoded.flatten().collect()
}

/// The next reply, which must come soon.
#[track_caller]
pub fn soon(client: &mut Client) -> Reply {
    client.socket().set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    client.read().unwrap_or_else(|e| panic!("no reply: {e}"))
}
