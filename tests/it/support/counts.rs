//! Which node executed what: `INFO commandstats` before and after.

use super::{Stage, call};
use redweir::demo::node::Node;
use std::collections::BTreeMap;

/// Calls (and refused calls) per command and node since [`Counts::reset`]. Subcommands are `container|sub`, as Redis names them.
pub struct Counts {
    nodes: Vec<BTreeMap<String, (u64, u64)>>,
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
        Counts::read_some(stage, |_| true)
    }

    /// As [`Counts::read`], of the nodes that are asked; the others, which may hang, have none.
    #[track_caller]
    pub fn read_some(stage: &Stage, asked: impl Fn(usize) -> bool) -> Counts {
        let of = |(n, node): (usize, &Node)| match asked(n) {
            true => {
                let text = call(&mut node.connect().expect("a node"), "INFO commandstats").text();
                text.lines().filter_map(line).collect()
            }
            false => BTreeMap::new(),
        };
        Counts { nodes: stage.nodes.iter().enumerate().map(of).collect() }
    }

    fn of(&self, node: usize, command: &str) -> (u64, u64) {
        self.nodes.get(node).and_then(|n| n.get(command)).copied().unwrap_or_default()
    }

    /// Calls of `command` on one node, refused ones included.
    pub fn on(&self, node: usize, command: &str) -> u64 {
        let (calls, refused) = self.of(node, command);
        calls + refused
    }

    /// Calls that all nodes but `master` refused. What replication applies there is never refused.
    pub fn refused_elsewhere(&self, master: usize, command: &str) -> u64 {
        (0..self.nodes.len()).filter(|n| *n != master).map(|n| self.of(n, command).1).sum()
    }

    /// Calls of `command` on all nodes but `master`.
    pub fn elsewhere(&self, master: usize, command: &str) -> u64 {
        (0..self.nodes.len()).filter(|n| *n != master).map(|n| self.on(n, command)).sum()
    }
}

/// `cmdstat_get:calls=3,usec=…,rejected_calls=0,failed_calls=0`.
fn line(text: &str) -> Option<(String, (u64, u64))> {
    let (name, figures) = text.strip_prefix("cmdstat_")?.split_once(':')?;
    let figure =
        |key: &str| figures.split(',').find_map(|f| f.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
    Some((name.to_owned(), (figure("calls")?, figure("rejected_calls").unwrap_or(0))))
}
