//! Any request, and any bytes that only look like one: no panic, and a read only where the table says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redweir::command::{Class, classify};
use redweir::resp::{Args, encode};

fuzz_target!(|data: &[u8]| {
    vouched(data);
    let words: Vec<&[u8]> = data.split(|b| *b == b' ').collect();
    let mut request = Vec::new();
    encode::request(&mut request, words.into_iter());
    vouched(&request);
});

fn vouched(request: &[u8]) {
    let args = Args::new(request);
    let verdict = classify(args);
    let Some(command) = verdict.command else { return assert_eq!(verdict.class, Class::Unknown) };
    for (part, arg) in command.name.split('|').zip(args) {
        assert!(arg.eq_ignore_ascii_case(part.as_bytes()));
    }
    if verdict.class == Class::Read {
        assert_eq!(command.class, Class::Read);
    }
}
