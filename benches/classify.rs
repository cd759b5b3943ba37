//! What classification costs: the name alone, whole requests, names in no table. Pure CPU; starts nothing.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use redweir::command::{classify, lookup};
use redweir::resp::Args;

fn names(c: &mut Criterion) {
    for name in ["GET", "set", "HGETALL", "ZRANGEBYSCORE", "georadiusbymember_ro", "NOSUCHCOMMAND"] {
        c.bench_function(&format!("lookup {name}"), |b| b.iter(|| lookup(black_box(name.as_bytes()))));
    }
}

fn requests(c: &mut Criterion) {
    let cases: [(&str, &[u8]); 5] = [
        ("GET", b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n"),
        ("SET", b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$5\r\nhello\r\n"),
        ("XREAD BLOCK", b"*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$1\r\n$\r\n"),
        ("CLIENT SETNAME", b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\na\r\n"),
        ("unknown", b"*1\r\n$4\r\nNOPE\r\n"),
    ];
    for (name, request) in cases {
        c.bench_function(&format!("classify {name}"), |b| b.iter(|| classify(Args::new(black_box(request)))));
    }
}

criterion_group!(benches, names, requests);
criterion_main!(benches);
