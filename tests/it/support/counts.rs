//! Which node executed what: `INFO commandstats` before and after.

use super::{Stage, call};
use std::collections::BTreeMap;

/// Calls per command and node since [`Counts::reset`]. Subcommands are `container|sub`, as Redis names them.
pub struct Counts {
    nodes: Vec<BTreeMap<String, u64>>,
}

impl Counts {
    /// Zeroes the counters of every node.
    #[track_caller]
    pub fn reset(stage: &Stage) {
        for node in &stage.nodes {
            call(&mut node.connect().expect("a node"), "CONFIG RESETSTAT");
        }
    }

    #[track_caller]
    pub fn read(stage: &Stage) -> Counts {
        let nodes = stage.nodes.iter().map(|node| {
            let text = call(&mut node.connect().expect("a node"), "INFO commandstats").text();
            text.lines().filter_map(line).collect()
        });
        Counts { nodes: nodes.collect() }
    }

    /// Calls of `command` on one node, refused ones included.
    pub fn on(&self, node: usize, command: &str) -> u64 {
        self.nodes.get(node).and_then(|n| n.get(command)).copied().unwrap_or(0)
    }

    /// Calls of `command` on all nodes but `master`.
    pub fn elsewhere(&self, master: usize, command: &str) -> u64 {
        (0..self.nodes.len()).filter(|n| *n != master).map(|n| self.on(n, command)).sum()
    }
}

/// `cmdstat_get:calls=3,usec=…,rejected_calls=0,failed_calls=0`.
fn line(text: &str) -> Option<(String, u64)> {
    let (name, figures) = text.strip_prefix("cmdstat_")?.split_once(':')?;
    let figure =
        |key: &str| figures.split(',').find_map(|f| f.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
    Some((name.to_owned(), figure("calls")? + figure("rejected_calls").unwrap_or(0)))
}
