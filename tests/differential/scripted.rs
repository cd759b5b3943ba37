//! The cases that people wrote.

use crate::compare::{RESP2, RESP3, section};
use crate::known::{Difference, judge};
use crate::pair::Pair;
use crate::script::{Step, parse};

/// Every file of `cases/`, by name.
pub fn files() -> Vec<(String, Vec<Vec<Step>>)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/cases");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the cases").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("a text");
        files.push((name.clone(), parse(&name, &text)));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

#[test]
fn every_written_case_gets_the_direct_servers_replies() {
    let part = std::env::var("REDWEIR_CASES").unwrap_or_default();
    let files: Vec<_> = files().into_iter().filter(|(name, _)| name.contains(&part)).collect();
    assert!(!files.is_empty(), "no file of cases has {part:?} in its name");
    // Two pairs of sides, each with one protocol version: much of the time is waiting.
    let run = |resp: u8| {
        let mut pair = Pair::start(&[]);
        let mut found: Vec<Difference> = Vec::new();
        for sections in files.iter().map(|(_, sections)| sections) {
            sections.iter().for_each(|steps| found.extend(section(&mut pair, steps, resp)));
        }
        found
    };
    let mut differences = Vec::new();
    std::thread::scope(|scope| {
        let runs = [RESP2, RESP3].map(|resp| scope.spawn(move || run(resp)));
        runs.into_iter().for_each(|r| differences.extend(r.join().expect("both sides live")));
    });
    let steps: usize = files.iter().flat_map(|(_, sections)| sections).map(Vec::len).sum();
    judge("written cases", 2 * steps, &differences);
}
