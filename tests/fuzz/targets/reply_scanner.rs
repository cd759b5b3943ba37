//! Any bytes as a node's output: the same frames at any split and passed on unchanged, redis-protocol as the oracle.
//!
//! The first byte says how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::{resp2, resp3};
use redweir::resp::{Found, ReplyScanner};

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    let whole = arrive(bytes, bytes.len().max(1), false);
    assert_eq!(arrive(bytes, step, false), whole);
    assert_eq!(arrive(bytes, step, true), whole);
    oracle(bytes);
});

/// Every whole reply, and whether garbage ended them; `pass`: bytes go on as early as they may.
fn arrive(bytes: &[u8], step: usize, pass: bool) -> (Vec<Vec<u8>>, bool) {
    let mut scanner = ReplyScanner::default();
    let (mut input, mut replies, mut current) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match scanner.scan(&input) {
                Found::Whole { len } => {
                    current.extend(input.drain(..len));
                    assert!(!current.is_empty());
                    replies.push(std::mem::take(&mut current));
                }
                Found::Part { ready } => {
                    assert!(ready <= input.len() && input.len() - ready <= 64);
                    if pass {
                        current.extend(input.drain(..ready));
                        scanner.passed(ready);
                    }
                    break;
                }
                Found::Garbage => return (replies, true),
            }
        }
    }
    (replies, false)
}

fn oracle(bytes: &[u8]) {
    // It recurses without a limit.
    if bytes.iter().filter(|b| b"*%~>|".contains(b)).count() > 200 {
        return;
    }
    let found = ReplyScanner::default().scan(bytes);
    // It takes signs and leading zeros in lengths, which no server writes and Redis itself would refuse.
    let odd = bytes.windows(2).any(|w| b"$*%~>|=!".contains(&w[0]) && b"+-0".contains(&w[1]));
    if let Ok(Some((_, amount))) = resp2::decode::decode_range(bytes) {
        assert!(found == Found::Whole { len: amount } || odd, "{found:?}, RESP2 {amount}");
    }
    // RESP3 as sent by servers: no streamed strings and aggregates, no HELLO.
    let streamed = bytes.iter().any(|b| b"?;.H".contains(b));
    if streamed {
        return;
    }
    if let Ok(Some((_, amount))) = resp3::decode::complete::decode_range(bytes) {
        assert!(found == Found::Whole { len: amount } || odd, "{found:?}, RESP3 {amount}");
    }
}
