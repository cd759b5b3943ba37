//! Any bytes as a client's input: the same verdicts at any split, never more than was sent, redis-protocol as the oracle.
//!
//! The first byte says how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;
use redweir::resp::{Args, RequestScanner, Scan, Violation};

const MAX_BULK: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = arrive(bytes, bytes.len().max(1));
    assert_eq!(arrive(bytes, usize::from(step).max(1)), whole);
    oracle(bytes);
    stream(bytes, usize::from(step).max(1));
});

/// The verdicts, up to the first violation.
fn arrive(bytes: &[u8], step: usize) -> (Vec<(u8, usize)>, Option<Violation>) {
    let mut scanner = RequestScanner::new(MAX_BULK);
    let (mut input, mut found) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            let (kind, len) = match scanner.scan(&input) {
                Scan::Request { len } => (b'*', len),
                Scan::Inline { len } => (b'i', len),
                Scan::Nothing { len } => (b'0', len),
                Scan::Invalid(violation) => return (found, Some(violation)),
                Scan::Incomplete { needs } => {
                    assert!(needs > input.len());
                    break;
                }
            };
            assert!(0 < len && len <= input.len());
            input.drain(..len);
            found.push((kind, len));
        }
    }
    (found, None)
}

fn oracle(bytes: &[u8]) {
    let Scan::Request { len } = RequestScanner::new(MAX_BULK).scan(bytes) else { return };
    let args: Vec<&[u8]> = Args::new(&bytes[..len]).collect();
    // Redis skips the two bytes behind a number or an argument without a look; only in canonical requests are they a line
    // end, and only those are told again from their arguments.
    let mut canonical = Vec::new();
    redweir::resp::encode::request(&mut canonical, args.iter().copied());
    if canonical != bytes[..len] {
        return;
    }
    let (frame, amount) = decode_range(bytes).expect("a frame").expect("a whole frame");
    assert_eq!(amount, len);
    let RangeFrame::Array(parts) = frame else { panic!("not an array") };
    let theirs: Vec<&[u8]> = parts
        .iter()
        .map(|part| match part {
            RangeFrame::BulkString((from, to)) => &bytes[*from..*to],
            _ => panic!("not a bulk"),
        })
        .collect();
    assert_eq!(args, theirs);
}

/// A request too large to be held, made of any bytes: what is passed on is what a scan of the whole finds.
fn stream(bytes: &[u8], step: usize) {
    let mut scanner = RequestScanner::new(MAX_BULK);
    let expected = scanner.clone().scan(bytes);
    let mut input = Vec::new();
    let (mut passed, mut begun) = (0, false);
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        // Only a request whose first line is there is ever streamed.
        if !begun && (input[0] != b'*' || !input.contains(&b'\n')) {
            continue;
        }
        if !begun {
            match scanner.scan(&input) {
                Scan::Incomplete { .. } => begun = true,
                _ => return,
            }
        }
        match scanner.stream(&input) {
            // Begun before its first line was whole.
            Err(Violation::MultibulkTooBig) => return,
            Err(violation) => return assert_eq!(expected, Scan::Invalid(violation)),
            Ok((n, done)) => {
                input.drain(..n);
                passed += n;
                if done {
                    return assert_eq!(expected, Scan::Request { len: passed });
                }
            }
        }
    }
    assert!(!begun || matches!(expected, Scan::Incomplete { .. }));
}
