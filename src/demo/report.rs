//! What the demo says at its end, and what it says every second where there is no screen.
//!
//! Pure: figures in, lines out. Invariant: the verdict is good exactly when nothing acknowledged was lost or applied twice.

use std::fmt::Write;
use std::time::Duration;

use super::ledger::Verdict;
use super::load::Tally;
use super::watch::{Watch, World};

/// Everything the report is made of.
pub struct Report {
    pub reads: Tally,
    pub writes: Tally,
    pub verdict: Verdict,
    pub failovers: u32,
    pub elapsed: Duration,
}

impl Report {
    /// Nothing that was acknowledged is missing or doubled.
    pub fn is_good(&self) -> bool {
        self.verdict.lost == 0 && self.verdict.twice == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { reads, writes, verdict, failovers, elapsed } = self;
        writeln!(f, "After {} s and {failovers} failover(s):", elapsed.as_secs())?;
        writeln!(f, "{:<10}{:>12}{:>14}{:>10}{:>16}", "", "attempted", "acknowledged", "failed", "longest gap")?;
        for (name, tally) in [("reads", reads), ("writes", writes)] {
            let gap = milliseconds(tally.longest_gap);
            writeln!(f, "{name:<10}{:>12}{:>14}{:>10}{gap:>16}", tally.attempted, tally.done, tally.failed)?;
        }
        for (name, tally) in [("read", reads), ("write", writes)] {
            for (text, times) in &tally.errors {
                writeln!(f, "  {times} {name}(s) failed: {text}")?;
            }
        }
        writeln!(f, "lost (acknowledged, but not on the master at the end): {}", verdict.lost)?;
        writeln!(f, "applied twice: {}", verdict.twice)?;
        write!(f, "applied without an acknowledgement (connection lost in between): {}", verdict.unacknowledged)
    }
}

/// One line for one second: where reads and writes go, lag, and what happened.
pub fn line(watch: &Watch, reads: &Tally, writes: &Tally) -> String {
    let mut text = format!("{:>4}s", watch.elapsed().as_secs());
    for node in &watch.world.nodes {
        let _ = write!(
            text,
            " | {} {} r {:.0}/s w {:.0}/s",
            node.address, node.state, node.reads_per_second, node.writes_per_second
        );
        if let Some(lag) = node.lag {
            let _ = write!(text, " lag {} B {}", lag.bytes, milliseconds(lag.time));
        }
    }
    let _ = write!(text, " | {} | failed: {} reads, {} writes", writes_word(&watch.world), reads.failed, writes.failed);
    let _ = write!(text, " | failovers {}", watch.failovers);
    text
}

/// Whether writes flow, in words.
pub fn writes_word(world: &World) -> &'static str {
    match world.writes_open {
        true => "writes open",
        false => "writes held",
    }
}

pub fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        ms if ms < 10_000 => format!("{ms} ms"),
        ms => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64, twice: u64) -> Report {
        let writes = Tally {
            attempted: 10,
            done: 9,
            failed: 1,
            longest_gap: Duration::from_millis(1360),
            errors: [("connection lost".to_owned(), 1)].into(),
        };
        let verdict = Verdict { lost, twice, unacknowledged: 1 };
        Report { reads: Tally::default(), writes, verdict, failovers: 1, elapsed: Duration::from_secs(20) }
    }

    #[test]
    fn only_lost_or_doubled_writes_are_bad() {
        assert!(report(0, 0).is_good());
        assert!(!report(1, 0).is_good());
        assert!(!report(0, 1).is_good());
    }

    #[test]
    fn the_report_shows_every_figure() {
        let text = report(2, 3).to_string();
        for part in ["20 s", "1 failover", "1360 ms", "1 write(s) failed: connection lost", "end): 2", "twice: 3"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_line_names_every_node() {
        let mut watch = Watch::new();
        watch.look(
            r#"{"sets":[{"shards":[{"master":"a:1","writes":"open","term":1}],
            "nodes":[{"address":"a:1","state":"master"},{"address":"a:2","state":"replica","lag_bytes":7}]}]}"#,
            "",
        );
        let text = line(&watch, &Tally::default(), &Tally::default());
        for part in ["a:1 master", "a:2 replica", "lag 7 B 0 ms", "writes open", "failovers 0"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
