//! What a node's answers are worth while it may be master no longer, and which of those that were kept back stand.
//!
//! Pure. Invariant: bytes are never taken for older than they are.

use std::collections::VecDeque;
use std::time::Instant;

/// What the answers on a connection are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Handed on as they come. -> any.
    Full,
    /// Kept until it is known whether the node was still master when it gave them. -> any.
    Withheld,
    /// Another is master: what was received by then stands, of the rest only that something was refused. Final.
    Replaced(Option<Instant>),
}

/// Times remembered of what is kept back; what comes beyond is as young as the youngest.
const MOST: usize = 256;

/// When the bytes in a read buffer were received.
#[derive(Debug, Default)]
pub struct Marks(VecDeque<(usize, Instant)>);

impl Marks {
    /// By `now` there are `total` bytes.
    pub fn note(&mut self, total: usize, now: Instant) {
        if self.0.len() == MOST {
            self.0.pop_back();
        }
        self.0.push_back((total, now));
    }

    /// How many bytes had been received by `then`.
    pub fn received_by(&self, then: Option<Instant>) -> usize {
        let by = |at: &Instant| then.is_some_and(|then| *at <= then);
        self.0.iter().take_while(|(_, at)| by(at)).last().map_or(0, |(total, _)| *total)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_received_by_then_and_never_more() {
        let start = Instant::now();
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let marks = |n: usize| {
            let mut marks = Marks::default();
            (1..=n).for_each(|i| marks.note(10 * i, at(i)));
            marks
        };
        for (n, then, bytes) in [
            (0, Some(at(9)), 0),
            (3, None, 0),
            (3, Some(at(0)), 0),
            (3, Some(at(2)), 20),
            (3, Some(at(9)), 30),
            (2 * MOST, Some(at(MOST)), 10 * (MOST - 1)),
            (2 * MOST, Some(at(2 * MOST)), 20 * MOST),
        ] {
            assert_eq!(marks(n).received_by(then), bytes, "{n} {then:?}");
        }
    }
}
