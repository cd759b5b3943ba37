//! Any line as an inline command: no panic, and what comes out is a request that scans as one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redweir::resp::{Args, RequestScanner, Scan, inline};

fuzz_target!(|line: &[u8]| {
    let Ok(request) = inline::to_array(line) else { return };
    if request.is_empty() {
        return;
    }
    assert_eq!(RequestScanner::new(1 << 30).scan(&request), Scan::Request { len: request.len() });
    assert!(Args::new(&request).map(<[u8]>::len).sum::<usize>() <= line.len());
});
