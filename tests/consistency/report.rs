//! What the rounds came to: a table by fault and level, and whether that is good enough.

use std::collections::BTreeMap;

use super::check::{Kind, Verdict, Violation};
use super::faults::Fault;
use super::history::Level;

/// Violations shown in full.
const SHOWN: usize = 8;

#[derive(Default)]
pub struct Report {
    rows: BTreeMap<Fault, Verdict>,
}

/// A round in one line.
pub fn line(verdict: &Verdict) -> String {
    let reads: u64 = verdict.reads.values().sum();
    let broken = verdict.violations.iter().filter(|v| is_broken(v)).count();
    format!(
        "{reads} reads, {} written, {} refused, {} cut off, {} lost, {} twice, {broken} promises broken",
        verdict.written, verdict.refused, verdict.unknown, verdict.lost, verdict.twice
    )
}

/// Level `eventual` promises neither one's own writes nor that time does not go back.
fn is_broken(violation: &Violation) -> bool {
    let weak = matches!(violation.kind, Kind::OwnWrite | Kind::WentBack | Kind::DeadBranch);
    !(weak && violation.level == Some(Level::Eventual))
}

impl Report {
    pub fn add(&mut self, fault: Fault, verdict: Verdict) {
        let row = self.rows.entry(fault).or_default();
        for (level, reads) in verdict.reads {
            *row.reads.entry(level).or_default() += reads;
        }
        row.written += verdict.written;
        row.refused += verdict.refused;
        row.unknown += verdict.unknown;
        row.lost += verdict.lost;
        row.twice += verdict.twice;
        row.violations.extend(verdict.violations);
    }

    fn levels(&self) -> Vec<Level> {
        let mut levels: Vec<Level> = self.rows.values().flat_map(|row| row.reads.keys().copied()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    pub fn print(&self) {
        let levels = self.levels();
        print!("\n{:<12}", "fault");
        levels.iter().for_each(|level| print!("{:>20}", format!("{level} reads/bad")));
        println!("{:>9}{:>8}{:>8}{:>8}{:>7}{:>7}", "written", "refused", "cut off", "others", "lost", "twice");
        let mut sums: BTreeMap<Level, (u64, u64)> = BTreeMap::new();
        for (fault, row) in &self.rows {
            print!("{:<12}", format!("{fault:?}"));
            for level in &levels {
                let reads = row.reads.get(level).copied().unwrap_or(0);
                let bad = row.violations.iter().filter(|v| v.level == Some(*level)).count() as u64;
                let sum = sums.entry(*level).or_default();
                *sum = (sum.0 + reads, sum.1 + bad);
                print!("{:>20}", format!("{reads} / {bad}"));
            }
            let others = row.violations.iter().filter(|v| v.level.is_none()).count();
            let figures = (row.written, row.refused, row.unknown, others, row.lost, row.twice);
            println!(
                "{:>9}{:>8}{:>8}{:>8}{:>7}{:>7}",
                figures.0, figures.1, figures.2, figures.3, figures.4, figures.5
            );
        }
        print!("{:<12}", "all");
        sums.values().for_each(|(reads, bad)| print!("{:>20}", format!("{reads} / {bad}")));
        println!();
    }

    /// Nothing that was acknowledged is gone, whatever happened to the master.
    #[track_caller]
    pub fn lost_nothing(&self) {
        let lost: Vec<(Fault, u64)> = self.rows.iter().map(|(f, row)| (*f, row.lost)).filter(|(_, n)| *n > 0).collect();
        assert!(lost.is_empty(), "acknowledged writes are gone: {lost:?}");
    }

    /// Fails when fewer reads than that were judged at the levels that promise most.
    #[track_caller]
    pub fn read_enough(&self, least: u64) {
        if self.rows.is_empty() {
            return;
        }
        let strict = |level: &Level| matches!(level, Level::Session | Level::Strong);
        let reads = self
            .rows
            .values()
            .flat_map(|row| &row.reads)
            .filter(|(level, _)| strict(level))
            .map(|(_, n)| n)
            .sum::<u64>();
        println!("{reads} reads judged at session and strong");
        assert!(
            reads >= least,
            "only {reads} reads were judged at session and strong, not {least}: raise REDWEIR_ROUNDS"
        );
    }

    /// Fails when a promise was broken; and when `eventual` broke nothing where replicas lagged, for then nothing was tested.
    #[track_caller]
    pub fn judge(&self) {
        let broken: Vec<(Fault, &Violation)> = self
            .rows
            .iter()
            .flat_map(|(f, row)| row.violations.iter().map(|v| (*f, v)))
            .filter(|(_, v)| is_broken(v))
            .collect();
        let shown: Vec<String> =
            broken.iter().take(SHOWN).map(|(f, v)| format!("{f:?} {:?} {:?}: {}", v.kind, v.level, v.text)).collect();
        assert!(broken.is_empty(), "{} promises broken:\n{}", broken.len(), shown.join("\n"));
        for (fault, row) in self.rows.iter().filter(|(fault, _)| fault.is_planned()) {
            assert_eq!(row.lost, 0, "{fault:?}: acknowledged writes were lost though nothing was killed");
        }
        if self.rows.contains_key(&Fault::Delay) || self.rows.contains_key(&Fault::Kill) {
            let seen = |row: &Verdict| row.violations.iter().any(|v| v.level == Some(Level::Eventual));
            assert!(self.rows.values().any(seen), "level eventual showed nothing wrong: the checker saw nothing");
        }
    }
}
