//! What finding a request or a reply costs, beside redis-protocol's decoder where that can do the same. Pure CPU; starts
//! nothing.
//!
//! The reply of a million elements arrives in reads of 64 KiB and is passed on in pieces; `halves` does the same with
//! half of it, so that linear time can be seen: twice the elements, twice the time.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use redis_protocol::resp2::decode::decode_range;
use redweir::resp::{Found, ReplyScanner, RequestScanner, Scan, encode};

const READ: usize = 64 * 1024;
const MAX_BULK: u64 = 512 << 20;

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(&mut out, args.iter().copied());
    out
}

/// Every request of `input`; how many there were.
fn requests(scanner: &mut RequestScanner, input: &[u8]) -> usize {
    let (mut at, mut n) = (0, 0);
    while let Scan::Request { len } = scanner.scan(&input[at..]) {
        at += len;
        n += 1;
    }
    n
}

/// The same by the oracle.
fn decoded(input: &[u8]) -> usize {
    let (mut at, mut n) = (0, 0);
    while let Some((frame, len)) = decode_range(&input[at..]).expect("valid") {
        black_box(frame);
        at += len;
        n += 1;
    }
    n
}

fn request_shapes(c: &mut Criterion) {
    let key = b"key:000000000001";
    let get = request(&[b"GET", key]);
    let keys: Vec<Vec<u8>> = (0..100).map(|i| format!("key:{i:012}").into_bytes()).collect();
    let mget: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(keys.iter().map(Vec::as_slice)).collect();
    let shapes = [
        ("GET", get.clone()),
        ("16 GETs", get.repeat(16)),
        ("SET 16 KiB", request(&[b"SET", key, &[b'x'; 16 << 10]])),
        ("MGET 100", request(&mget)),
    ];
    let mut group = c.benchmark_group("request");
    for (name, input) in &shapes {
        let mut scanner = RequestScanner::new(MAX_BULK);
        group.bench_function(format!("{name}/redweir"), |b| b.iter(|| requests(&mut scanner, black_box(input))));
        group.bench_function(format!("{name}/redis-protocol"), |b| b.iter(|| decoded(black_box(input))));
    }
}

fn pairs(n: usize) -> Vec<u8> {
    let items: Vec<Vec<u8>> = (0..n).flat_map(|i| [format!("field:{i}").into_bytes(), vec![b'v'; 32]]).collect();
    request(&items.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn reply_shapes(c: &mut Criterion) {
    let bulk = |n: usize| [format!("${n}\r\n").into_bytes(), vec![b'x'; n], b"\r\n".to_vec()].concat();
    let shapes = [
        ("+OK", b"+OK\r\n".to_vec()),
        ("bulk 64 B", bulk(64)),
        ("bulk 16 KiB", bulk(16 << 10)),
        ("1000 pairs", pairs(1000)),
    ];
    let mut group = c.benchmark_group("reply");
    for (name, input) in &shapes {
        let mut scanner = ReplyScanner::default();
        group.bench_function(format!("{name}/redweir"), |b| b.iter(|| scanner.scan(black_box(input))));
        group.bench_function(format!("{name}/redis-protocol"), |b| b.iter(|| decode_range(black_box(input))));
    }
}

/// One reply read by read, each passed on as far as the scanner allows; how many bytes went.
fn pass_on(reply: &[u8], buffer: &mut Vec<u8>) -> usize {
    let (mut scanner, mut passed) = (ReplyScanner::default(), 0);
    buffer.clear();
    for read in reply.chunks(READ) {
        buffer.extend_from_slice(read);
        let n = match scanner.scan(buffer) {
            Found::Whole { len } => len,
            Found::Part { ready } => {
                scanner.passed(ready);
                ready
            }
            Found::Garbage => break,
        };
        buffer.drain(..n);
        passed += n;
    }
    passed
}

fn large_replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply in reads of 64 KiB");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for (name, n) in [("halves", 250_000), ("1M elements", 500_000)] {
        let reply = pairs(n);
        group.throughput(Throughput::Bytes(reply.len() as u64));
        group.bench_function(format!("{name}/redweir"), |b| {
            b.iter_batched_ref(
                || Vec::with_capacity(2 * READ),
                |buffer| assert_eq!(pass_on(&reply, buffer), reply.len()),
                BatchSize::LargeInput,
            )
        });
    }
}

criterion_group!(benches, request_shapes, reply_shapes, large_replies);
criterion_main!(benches);
