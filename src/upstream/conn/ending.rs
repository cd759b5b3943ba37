//! How a connection stops taking requests, and what becomes of those that it has.
//!
//! Must not decide that it ends. Invariant: every request on it is answered, handed back or reported lost, once.

use super::Conn;
use crate::upstream::Lost;
use crate::upstream::flight::Own;
use crate::upstream::pool::Verdict;
use crate::upstream::worth::Worth;

impl Conn {
    /// No new requests; closes once everything on it is answered.
    pub fn retire(&self) {
        self.open.set(false);
        self.shared.borrow().wake();
    }

    /// No new requests, and those on it are lost now.
    pub fn kill(&self) {
        self.killed.set(true);
        self.retire();
    }

    /// What is known of its node by now. Looks at what was kept back, if that changes anything.
    pub(in crate::upstream) fn heed(&self, verdict: Verdict) {
        self.worth.set(match (self.worth.get(), verdict) {
            (replaced @ Worth::Replaced(_), _) => replaced,
            (_, Verdict::Withhold) => Worth::Withheld,
            (_, Verdict::Replaced(then)) => Worth::Replaced(then),
            (_, Verdict::Keep | Verdict::Retire | Verdict::Kill) => Worth::Full,
        });
        self.shared.borrow().wake();
    }

    /// Reports everything unanswered to its receivers.
    pub(in crate::upstream) fn fail(&self) {
        self.open.set(false);
        let (mut flight, torn) = {
            let mut shared = self.shared.borrow_mut();
            (std::mem::take(&mut shared.flight), shared.torn)
        };
        self.in_flight.set(0);
        flight.entries.iter().for_each(|entry| self.note_failed(entry));
        let receivers: Vec<_> = flight.entries.iter_mut().map(|e| (e.to.take(), e.manner.whole, e.done > 0)).collect();
        for (index, ((to, whole, begun), (written, unwritten))) in
            receivers.into_iter().zip(flight.unanswered()).enumerate()
        {
            let torn = (torn && index == 0) || (whole && begun);
            if let Some(to) = to {
                to.lost(&Lost { written, unwritten, torn, whole }, self.target.node);
            }
        }
        self.room.make(0);
        self.end_account();
    }

    /// Tells everybody that the node refused the login they share.
    pub(in crate::upstream) fn reject(&self) {
        self.open.set(false);
        let flight = std::mem::take(&mut self.shared.borrow_mut().flight);
        self.in_flight.set(0);
        for to in flight.entries.into_iter().filter_map(|e| e.to) {
            to.rejected();
        }
        self.room.make(0);
        self.end_account();
    }

    /// A retired connection: what was not written yet goes back, newest first taken, oldest first given.
    /// Whether there was any: the connection is then not what it was about to be (its database, its scripts).
    pub(super) fn give_back_unwritten(&self) -> bool {
        let shared = &mut *self.shared.borrow_mut();
        if shared.spoiled {
            return false;
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| shared.flight.take_unwritten()).collect();
        let any = !taken.is_empty();
        while let Some((entry, bytes)) = taken.pop() {
            self.in_flight.set(self.in_flight.get().saturating_sub(entry.left));
            if entry.own == Own::Role {
                shared.roles.pop_back();
            }
            if let Some(to) = entry.to {
                to.returned(&bytes, self.target.node);
            }
        }
        any
    }
}
