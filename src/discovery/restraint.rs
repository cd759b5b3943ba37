//! What keeps writes closed although the detector found a master: the operator's reservations. Pure.
//!
//! Invariant: only ever turns a verdict that would leave writes open, or open them, into a hold.

use super::detector::Verdict;
use crate::metrics::Cause;
use crate::topology::{Hold, NodeId};

/// The reservations that hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reservations {
    /// A promoted node is not the master before the Sentinels name it.
    pub confirm: bool,
    /// No majority of the Sentinels was heard for too long: others may have another master by now.
    pub minority: bool,
    /// The master lost its data set, and nobody said yet that writes may go on.
    pub emptied: bool,
}

/// The verdict that is acted upon. `word` is whom the Sentinels name.
pub fn restrain(verdict: Verdict, word: Option<NodeId>, why: Reservations) -> Verdict {
    match verdict {
        Verdict::Hold(_) => verdict,
        _ if why.minority => Verdict::Hold(Hold::Minority),
        // Another process at the master's own address, or another name of it, is nobody's promotion.
        Verdict::Switch { to, cause } if why.confirm && cause != Cause::Restart && word != Some(to) => {
            Verdict::Hold(Hold::Unconfirmed)
        }
        Verdict::Keep | Verdict::KeepDespite(_) if why.emptied => Verdict::Hold(Hold::Emptied),
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const O: NodeId = 0;
    const N: NodeId = 1;

    #[test]
    fn what_is_opened_and_what_is_not() {
        let none = Reservations::default();
        let confirm = Reservations { confirm: true, ..none };
        let minority = Reservations { minority: true, ..none };
        let both = Reservations { confirm: true, minority: true, ..none };
        let emptied = Reservations { emptied: true, ..none };
        let hold = Verdict::Hold;
        let to = |cause| Verdict::Switch { to: N, cause };
        let table = [
            ("nothing reserved", to(Cause::Detector), Some(O), none, to(Cause::Detector)),
            ("promoted, not named yet", to(Cause::Detector), Some(O), confirm, hold(Hold::Unconfirmed)),
            ("promoted, nobody to name it", to(Cause::Detector), None, confirm, hold(Hold::Unconfirmed)),
            ("promoted before the start, not named yet", to(Cause::Start), Some(O), confirm, hold(Hold::Unconfirmed)),
            ("named", to(Cause::Sentinel), Some(N), confirm, to(Cause::Sentinel)),
            ("named and seen at once", to(Cause::Detector), Some(N), confirm, to(Cause::Detector)),
            ("another life of the master", to(Cause::Restart), Some(O), confirm, to(Cause::Restart)),
            ("the master stands", Verdict::Keep, Some(O), confirm, Verdict::Keep),
            ("a minority keeps nobody", Verdict::Keep, Some(O), minority, hold(Hold::Minority)),
            ("nor in spite of another", Verdict::KeepDespite(N), Some(O), minority, hold(Hold::Minority)),
            ("a minority follows nobody", to(Cause::Sentinel), Some(N), both, hold(Hold::Minority)),
            ("the master is empty", Verdict::Keep, None, emptied, hold(Hold::Emptied)),
            ("and another says master", Verdict::KeepDespite(N), None, emptied, hold(Hold::Emptied)),
            ("who is not empty is followed", to(Cause::Detector), None, emptied, to(Cause::Detector)),
            ("a hold stays what it is", hold(Hold::Lost), Some(O), both, hold(Hold::Lost)),
        ];
        for (what, verdict, word, why, expected) in table {
            assert_eq!(restrain(verdict, word, why), expected, "{what}");
        }
    }
}
