//! What became of a cell, against the bars.
//!
//! Must not run anything. Invariant: a count above its bar fails the test; a time above its bar is only printed as missed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use redweir::demo::ledger;

use super::clients::{Kind, Seen};
use super::faults::Fault;
use super::support::Client;

pub struct Cell {
    fault: Fault,
    sentinel: bool,
    kind: Kind,
    /// From a promotion to the first write that is acknowledged and there, the longest; `None`: there is none.
    first: Option<Duration>,
    gap: Duration,
    errors: Vec<String>,
    lost: u64,
    twice: u64,
    stale: u64,
    connections: u64,
    promotions: u64,
    written: usize,
}

impl Cell {
    pub fn judge(
        fault: Fault,
        sentinel: bool,
        kind: Kind,
        seen: &[&Seen],
        promoted: &[Instant],
        master: &mut Client,
    ) -> Cell {
        let mut cell = Cell {
            fault,
            sentinel,
            kind,
            first: None,
            gap: seen.iter().map(|s| s.read_gap).max().unwrap_or_default(),
            errors: seen.iter().flat_map(|s| s.errors.iter().cloned()).collect(),
            lost: 0,
            twice: 0,
            stale: 0,
            connections: seen.len() as u64,
            promotions: promoted.len() as u64,
            written: seen.iter().map(|s| s.acknowledged.len()).sum(),
        };
        let mut kept: Vec<Instant> = Vec::new();
        for writer in seen.iter().filter(|s| !s.acknowledged.is_empty()) {
            let at_master = master.call(&["LRANGE", &writer.key, "0", "-1"]).expect("the master's word");
            let mut found: Vec<u64> = at_master.items().iter().filter_map(|i| i.text().parse().ok()).collect();
            found.extend(seen.iter().flat_map(|s| &s.received));
            let numbers: Vec<u64> = writer.acknowledged.iter().map(|(n, _)| *n).collect();
            let verdict = ledger::judge(&numbers, &found);
            cell.lost += verdict.lost;
            cell.twice += verdict.twice;
            let there: HashSet<u64> = found.into_iter().collect();
            // What was lost cannot be read: that is counted already.
            cell.stale += writer.missed.iter().filter(|n| there.contains(n)).count() as u64;
            kept.extend(writer.acknowledged.iter().filter(|(n, _)| there.contains(n)).map(|(_, at)| *at));
        }
        let after = |promotion: &Instant| kept.iter().filter_map(|at| at.checked_duration_since(*promotion)).min();
        let firsts: Option<Vec<Duration>> = promoted.iter().map(after).collect();
        cell.first = firsts.and_then(|f| f.into_iter().max());
        cell
    }

    fn planned(&self) -> bool {
        match self.fault {
            Fault::Planned | Fault::Switchover | Fault::Flap | Fault::Sentinels => true,
            Fault::Double => !self.sentinel,
            Fault::Kill | Fault::Hang | Fault::ByHand => false,
        }
    }

    /// Counts that are above their bars.
    fn broken(&self) -> Vec<&'static str> {
        let errors = self.errors.len() as u64;
        // Sentinel promotes while the old master lives: what that executed behind the promotion is not acknowledged.
        let on_the_wire = !self.planned() || self.fault == Fault::Planned;
        let may_err = if on_the_wire { self.connections * self.promotions.max(1) } else { 0 };
        // Whom nobody listens to at the moment nobody hears, and what a worker took as its connection broke is gone; what it took
        // at a master that died before it told its replicas comes again.
        let lossy = match self.kind {
            Kind::PubSub => self.lost,
            Kind::Blocking => errors,
            _ => 0,
        };
        let again = if self.kind == Kind::Blocking && on_the_wire { self.twice } else { 0 };
        let bars = [
            ("errors", errors > may_err),
            // What the old master acknowledges before it is re-pointed is beyond anybody.
            ("lost", self.fault != Fault::ByHand && self.lost > lossy),
            ("twice", self.twice > again),
            ("stale", self.stale > 0),
            ("no write", self.written == 0 || self.first.is_none() && self.promotions > 0),
        ];
        bars.into_iter().filter(|(_, broken)| *broken).map(|(name, _)| name).collect()
    }

    /// Times that are above their bars.
    fn slow(&self) -> Vec<&'static str> {
        let most = Duration::from_millis(if self.fault == Fault::ByHand { 200 } else { 50 });
        let bars = [
            ("first write", self.first.is_some_and(|f| f > most)),
            ("read gap", self.gap > Duration::from_millis(100)),
            ("planned errors", self.planned() && !self.errors.is_empty()),
        ];
        bars.into_iter().filter(|(_, missed)| *missed).map(|(name, _)| name).collect()
    }

    fn line(&self) -> String {
        let ms = |d: Duration| format!("{:.0}", d.as_secs_f64() * 1e3);
        let first = self.first.map_or("-".into(), ms);
        let gap = if self.gap.is_zero() { "-".into() } else { ms(self.gap) };
        let missed = [self.broken(), self.slow()].concat().join(", ");
        let verdict = if missed.is_empty() { "pass".into() } else { format!("FAIL: {missed}") };
        let source = if self.sentinel { "Sentinel" } else { "none" };
        let (fault, kind) = (format!("{:?}", self.fault), format!("{:?}", self.kind));
        let counts = format!("{:>6} {:>4} {:>5} {:>5}", self.errors.len(), self.lost, self.twice, self.stale);
        format!("{fault:<10} {source:<8} {kind:<13} {:>6} {first:>8} {gap:>8} {counts}  {verdict}", self.written)
    }
}

/// Prints each cell as it comes.
pub fn verdict(plays: impl Iterator<Item = Vec<Cell>>) {
    println!("fault      monitor  clients       writes first ms   gap ms errors lost twice stale");
    let mut broken = Vec::new();
    for cell in plays.flatten() {
        println!("{}", cell.line());
        if !cell.broken().is_empty() {
            let texts: HashSet<&String> = cell.errors.iter().collect();
            broken.push(format!("{} {texts:?}", cell.line()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
