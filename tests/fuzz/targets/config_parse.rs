//! Any bytes as the configuration file: a configuration or faults of one line each.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(faults) = redweir::config::parse(Path::new("f"), bytes) {
        assert!(!faults.is_empty());
        for line in faults.lines() {
            assert!(line.starts_with('f') && !line.contains('\n'), "{line}");
        }
    }
});
