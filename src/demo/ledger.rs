//! What was acknowledged, against what is there: the only judge of lost and doubled writes.
//!
//! The judgement is pure; only [`Ledger::settle`] asks a server. Invariant: a number that was acknowledged counts as lost exactly
//! when it is not in the list, and a number counts as doubled once for each time beyond the first.

use std::collections::HashMap;
use std::io;

use super::client::{Client, Reply};

/// The writes of one writer to one list.
#[derive(Debug)]
pub struct Ledger {
    pub key: String,
    pub acknowledged: Vec<u64>,
}

/// The judgement over one or more ledgers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, but not there.
    pub lost: u64,
    /// Applied more than once.
    pub twice: u64,
    /// Not acknowledged, but there: a connection was lost between the two. No fault.
    pub unacknowledged: u64,
}

impl Verdict {
    pub fn add(&mut self, other: Verdict) {
        self.lost += other.lost;
        self.twice += other.twice;
        self.unacknowledged += other.unacknowledged;
    }
}

impl Ledger {
    pub fn new(writer: u32, first: u64) -> Ledger {
        Ledger { key: format!("demo:writes:{writer}:{first}"), acknowledged: Vec::new() }
    }

    /// Reads the list back from `server` and judges.
    ///
    /// # Errors
    /// The server could not be read, or refused.
    pub fn settle(&self, server: &mut Client) -> io::Result<Verdict> {
        let reply = server.call(&["LRANGE", &self.key, "0", "-1"])?;
        if let Reply::Error(text) = reply {
            return Err(io::Error::other(text));
        }
        let found: Vec<u64> = reply.items().iter().filter_map(|item| item.text().parse().ok()).collect();
        Ok(judge(&self.acknowledged, &found))
    }
}

/// Compares the numbers that were acknowledged with those that are there.
pub fn judge(acknowledged: &[u64], found: &[u64]) -> Verdict {
    let mut times: HashMap<u64, u64> = HashMap::new();
    for id in found {
        *times.entry(*id).or_default() += 1;
    }
    let lost = acknowledged.iter().filter(|id| !times.contains_key(id)).count() as u64;
    let present = acknowledged.len() as u64 - lost;
    Verdict { lost, twice: found.len() as u64 - times.len() as u64, unacknowledged: times.len() as u64 - present }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_apart() {
        let verdict = |lost, twice, unacknowledged| Verdict { lost, twice, unacknowledged };
        let table: &[(&[u64], &[u64], Verdict)] = &[
            (&[], &[], verdict(0, 0, 0)),
            (&[1, 2, 3], &[1, 2, 3], verdict(0, 0, 0)),
            (&[1, 2, 3], &[1, 3], verdict(1, 0, 0)),
            (&[1, 2, 3], &[1, 2, 2, 3, 3, 3], verdict(0, 3, 0)),
            (&[1, 3], &[1, 2, 3], verdict(0, 0, 1)),
            (&[1, 3], &[1, 2, 2], verdict(1, 1, 1)),
            (&[1, 2], &[], verdict(2, 0, 0)),
        ];
        for (acknowledged, found, expected) in table {
            assert_eq!(judge(acknowledged, found), *expected, "{acknowledged:?} {found:?}");
        }
    }
}
