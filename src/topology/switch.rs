//! The last change of master: how much of the line before the new one has.
//!
//! Invariant: what is not proven by lineage is not claimed.

use std::sync::Arc;

use super::{Lineage, Relation, relation};

/// How much of what the master before had written its successor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is the same process, whatever it calls its line.
    All,
    /// Everything up to and including this offset, on the same line of numbers.
    UpTo(u64),
    /// Their offsets do not compare.
    Unknown,
}

/// One change of master.
#[derive(Debug)]
pub struct Switch {
    /// The new master's term.
    pub term: u64,
    pub from: Option<Arc<str>>,
    pub to: Arc<str>,
    pub kept: Kept,
}

impl Kept {
    pub fn of(old: &Lineage, new: &Lineage, same_process: bool) -> Self {
        match relation(old, new) {
            Relation::Same => Kept::All,
            _ if same_process => Kept::All,
            Relation::Descends { common } => Kept::UpTo(u64::try_from(common).unwrap_or(0)),
            Relation::Unrelated => Kept::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lineage_or_the_process_itself_proves_what_was_kept() {
        let line = |id: &str, previous: &str, branch| Lineage { id: id.into(), previous: previous.into(), branch };
        let old = line("a", "", -1);
        for (new, same_process, kept) in [
            (line("b", "a", 329), false, Kept::UpTo(328)),
            (line("a", "", -1), false, Kept::All),
            (line("x", "", -1), true, Kept::All),
            (line("x", "", -1), false, Kept::Unknown),
            (line("c", "b", 329), false, Kept::Unknown),
        ] {
            assert_eq!(Kept::of(&old, &new, same_process), kept, "{new:?}");
        }
    }
}
