//! Answers of a node that may be master no longer: kept until that is known, and then passed on only as far as they stand.
//!
//! Must not look into a frame. Invariant: a write is acknowledged only when the master of then, or its successor, has it.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::{End, Relay};
use crate::metrics::Count;
use crate::route::Want;
use crate::session::Session;
use crate::session::pin::again::Again;
use crate::upstream::{Marks, refusal};

#[derive(Default)]
pub(super) struct Withheld {
    marks: Marks,
    /// Of what came, and of what comes, only so many bytes stand; `None`: all.
    stands: Option<usize>,
}

impl Withheld {
    /// Something was kept back, and is to be looked at now.
    pub(super) fn release(&mut self) -> bool {
        let any = !self.marks.is_empty();
        self.marks.clear();
        any
    }

    pub(super) fn passed(&mut self, n: usize) {
        self.stands = self.stands.map(|stands| stands.saturating_sub(n));
    }
}

impl Relay {
    /// Whether what the node answers has to wait. Messages to a subscriber are nobody's answer.
    pub(super) fn is_withheld(&self, session: &Session) -> bool {
        let owes = self.want == Want::Master && !self.parting && !self.sent.is_empty();
        owes && !self.was_let_go() && session.front.is_doubted(&self.lease.target)
    }

    /// The node said that what waits there did nothing. That stands whoever is master, and a node that became a replica closes
    /// the connection behind it.
    fn was_let_go(&self) -> bool {
        self.waits() && refusal::of_waiting(self.buffer.filled())
    }

    /// Reads on, passes nothing on. `None`: what has come need not wait.
    pub(super) fn keep_back(&mut self, session: &Session, cx: &mut Context<'_>) -> Poll<Option<End>> {
        while !self.buffer.is_full() {
            match ready!(self.buffer.poll_fill(&self.lease.stream, cx)) {
                Ok(n) if n > 0 => {
                    session.front.cells.count(Count::BytesFromNodes, n as u64);
                    self.withheld.marks.note(self.buffer.filled().len(), Instant::now());
                    if self.was_let_go() {
                        return Poll::Ready(None);
                    }
                }
                _ => return Poll::Ready(Some(End::Lost)),
            }
        }
        Poll::Pending
    }

    /// The node was replaced: by when its answers must have come to stand, unless they all do.
    pub(super) fn judge(&mut self, replaced: Option<Option<Instant>>) {
        if let Some(then) = replaced {
            self.withheld.stands = Some(self.withheld.marks.received_by(then));
        }
    }

    /// Whether the answer is one to what the present master may lack, and no refusal.
    pub(super) fn is_doubtful(&self, reply: &[u8]) -> bool {
        let ours = self.sent.front().is_some_and(|sent| sent.again == Again::Ours);
        let refused = refusal::of(reply).is_some() || refusal::of_waiting(reply) || refusal::was_unblocked(reply);
        self.withheld.stands == Some(0) && !ours && !refused
    }
}
