//! What became of a cell, against the bars.
//!
//! Must not run anything. Invariant: a count above its bar fails the test, a time above its bar only where all is played.

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

use redweir::demo::ledger;

use super::clients::{Acknowledged, Kind, Seen};
use super::faults::{DOWN_AFTER, Fault};
use super::support::Client;
use super::watch::{LOOK, Shown};

/// A scheduler's worth.
const SLACK: Duration = Duration::from_millis(250);

/// What came of one fault.
pub enum Played {
    Cells(Vec<Cell>),
    /// Not played, and why.
    Skipped {
        fault: Fault,
        sentinel: bool,
        why: String,
    },
}

/// What happened, the same for all clients.
#[derive(Clone)]
pub struct Story {
    fault: Fault,
    sentinel: bool,
    pub struck: Vec<Instant>,
    pub promoted: Vec<Instant>,
    /// From the first blow to the moment when redweir showed that it holds writes.
    noticed: Option<Duration>,
    /// When redweir showed another master.
    followed: Option<Instant>,
}

impl Story {
    pub fn of(fault: Fault, sentinel: bool) -> Self {
        Self { fault, sentinel, struck: Vec::new(), promoted: Vec::new(), noticed: None, followed: None }
    }

    pub fn look_at(&mut self, shown: &[Shown]) {
        let struck = self.struck.first();
        self.noticed = struck.and_then(|at| shown.iter().find(|s| s.held && s.at >= *at).map(|s| s.at - *at));
        let first = shown.first().and_then(|s| s.master.clone());
        self.followed = shown.iter().find(|s| s.master.is_some() && s.master != first).map(|s| s.at);
    }

    /// Nothing happens to a master that it is not told of before.
    fn planned(&self) -> bool {
        match self.fault {
            Fault::Planned | Fault::Switchover | Fault::Flap | Fault::Sentinels | Fault::CutReplicas => true,
            Fault::Double => !self.sentinel,
            _ => false,
        }
    }
}

pub struct Cell {
    story: Story,
    kind: Kind,
    /// From a promotion to the first write that is acknowledged and there, the longest; `None`: there is none.
    first: Option<Duration>,
    gap: Duration,
    longest: Duration,
    errors: Vec<String>,
    refused: u64,
    lost: u64,
    /// Of those: sent when redweir had shown the new master.
    lost_after: u64,
    twice: u64,
    stale: u64,
    /// Refused as unexecuted, and there.
    belied: u64,
    connections: u64,
    written: usize,
}

impl Cell {
    pub fn judge(story: &Story, kind: Kind, seen: &[&Seen], master: &mut Client) -> Cell {
        let mut cell = Cell {
            story: story.clone(),
            kind,
            first: None,
            gap: seen.iter().map(|s| s.read_gap).max().unwrap_or_default(),
            longest: seen.iter().map(|s| s.longest).max().unwrap_or_default(),
            errors: seen.iter().flat_map(|s| s.errors.iter().cloned()).collect(),
            refused: seen.iter().map(|s| s.refused.len() as u64 + s.refusals).sum(),
            lost: 0,
            lost_after: 0,
            twice: 0,
            stale: 0,
            belied: 0,
            connections: seen.len() as u64,
            written: seen.iter().map(|s| s.acknowledged.len()).sum(),
        };
        let mut kept: Vec<Instant> = Vec::new();
        for writer in seen.iter().filter(|s| !s.acknowledged.is_empty()) {
            let at_master = master.call(&["LRANGE", &writer.key, "0", "-1"]).expect("the master's word");
            let mut found: Vec<u64> = at_master.items().iter().filter_map(|i| i.text().parse().ok()).collect();
            found.extend(seen.iter().flat_map(|s| &s.received));
            let numbers: Vec<u64> = writer.acknowledged.iter().map(|a| a.number).collect();
            let verdict = ledger::judge(&numbers, &found);
            cell.lost += verdict.lost;
            cell.twice += verdict.twice;
            let there: HashSet<u64> = found.into_iter().collect();
            let (here, lost): (Vec<&Acknowledged>, Vec<_>) =
                writer.acknowledged.iter().partition(|a| there.contains(&a.number));
            let after = |a: &&&Acknowledged| story.followed.is_some_and(|at| a.sent >= at);
            cell.lost_after += lost.iter().filter(after).count() as u64;
            // What was lost cannot be read: that is counted already.
            cell.stale += writer.missed.iter().filter(|n| there.contains(n)).count() as u64;
            cell.belied += writer.refused.iter().filter(|n| there.contains(n)).count() as u64;
            kept.extend(here.iter().map(|a| a.at));
        }
        let after = |promotion: &Instant| kept.iter().filter_map(|at| at.checked_duration_since(*promotion)).min();
        let firsts: Option<Vec<Duration>> = story.promoted.iter().map(after).collect();
        cell.first = firsts.and_then(|f| f.into_iter().max());
        cell
    }

    /// From the first promotion to the moment when redweir showed the new master.
    fn followed(&self) -> Option<Duration> {
        let promoted = self.story.promoted.iter().min()?;
        Some(self.story.followed?.saturating_duration_since(*promoted))
    }

    /// Counts that are above their bars.
    fn broken(&self) -> Vec<&'static str> {
        let Story { fault, sentinel, struck, promoted, .. } = &self.story;
        let errors = self.errors.len() as u64;
        let blows = struck.len().max(promoted.len()) as u64;
        let may_err = if self.story.planned() { 0 } else { self.connections * blows };
        // Whom nobody listens to at the moment nobody hears, and what a worker took as its connection broke is gone; what it took
        // at a master that died before it told its replicas comes again.
        let lossy = match self.kind {
            Kind::PubSub => self.lost,
            Kind::Blocking => errors,
            _ => 0,
        };
        let again = if self.kind == Kind::Blocking && !self.story.planned() { self.twice } else { 0 };
        // What the old master acknowledges before redweir follows the new one is beyond anybody.
        let lost = if *fault == Fault::ByHand { self.lost_after } else { self.lost };
        let may_refuse = *fault == Fault::Hang && !sentinel;
        let bars = [
            ("errors", errors > may_err),
            ("refused", self.refused > 0 && !may_refuse),
            ("lost", lost > lossy),
            ("twice", self.twice > again),
            ("stale", self.stale > 0),
            ("refused and there", self.belied > 0),
            ("no write", self.written == 0 || self.first.is_none() && !promoted.is_empty()),
        ];
        bars.into_iter().filter(|(_, broken)| *broken).map(|(name, _)| name).collect()
    }

    /// Times that are above their bars.
    fn slow(&self) -> Vec<&'static str> {
        let Story { fault, sentinel, noticed, struck, .. } = &self.story;
        let by_hand = *fault == Fault::ByHand;
        let ms = Duration::from_millis;
        let unnoticed = match noticed {
            Some(after) => *after > DOWN_AFTER + 4 * LOOK,
            // Killed, and there again before anybody asked.
            None => !struck.is_empty() && *fault != Fault::Restart,
        };
        let bars = [
            ("first write", !by_hand && self.first.is_some_and(|f| f > ms(50))),
            ("followed", by_hand && self.followed().is_none_or(|f| f > ms(200))),
            // While nobody lives nobody is read.
            ("read gap", *fault != Fault::Blackout && self.gap > ms(100)),
            ("noticed", unnoticed),
            ("hangs", self.longest > DOWN_AFTER + fault.hold(*sentinel) + SLACK),
        ];
        bars.into_iter().filter(|(_, missed)| *missed).map(|(name, _)| name).collect()
    }

    fn line(&self) -> String {
        let ms = |d: Duration| format!("{:.0}", d.as_secs_f64() * 1e3);
        let or_none = |d: Option<Duration>| d.map_or("-".into(), ms);
        let by_hand = self.story.fault == Fault::ByHand;
        let first = or_none(if by_hand { self.followed() } else { self.first });
        let gap = or_none(Some(self.gap).filter(|gap| !gap.is_zero()));
        let lost = if by_hand {
            format!("{}+{}", self.lost - self.lost_after, self.lost_after)
        } else {
            self.lost.to_string()
        };
        let missed = [self.broken(), self.slow()].concat().join(", ");
        let verdict = if missed.is_empty() { "pass".into() } else { format!("FAIL: {missed}") };
        let kind = format!("{:?}", self.kind);
        let times = format!("{first:>8} {gap:>6} {:>7} {:>7}", or_none(self.story.noticed), ms(self.longest));
        let counts =
            format!("{:>6} {:>7} {lost:>5} {:>5} {:>5}", self.errors.len(), self.refused, self.twice, self.stale);
        let title = title(self.story.fault, self.story.sentinel);
        format!("{title} {kind:<13} {:>6} {times} {counts}  {verdict}", self.written)
    }
}

fn title(fault: Fault, sentinel: bool) -> String {
    format!("{:<12} {:<8}", format!("{fault:?}"), if sentinel { "Sentinel" } else { "none" })
}

/// Prints each cell as it comes. `timed`: times count.
pub fn verdict(plays: impl Iterator<Item = Played>, timed: bool) {
    println!(
        "times in ms; first: from a promotion to the first write (by hand: until redweir followed); lost by hand: before + after that"
    );
    println!(
        "fault        monitor  clients       writes    first    gap noticed longest errors refused  lost twice stale"
    );
    let mut broken = Vec::new();
    for played in plays {
        let cells = match played {
            Played::Cells(cells) => cells,
            Played::Skipped { fault, sentinel, why } => {
                // Past the test harness, which keeps to itself what a test says that passes.
                let _ = writeln!(std::io::stderr(), "{} SKIPPED: {why}", title(fault, sentinel));
                continue;
            }
        };
        for cell in cells {
            println!("{}", cell.line());
            if !cell.broken().is_empty() || (timed && !cell.slow().is_empty()) {
                let texts: HashSet<&String> = cell.errors.iter().collect();
                broken.push(format!("{} {texts:?}", cell.line()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
