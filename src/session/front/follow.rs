//! How a worker follows the topology, and lets go of a master that a switchover is about to move.
//!
//! Part of [`Front`]. Invariant: it tells that it has let go only while nothing of any session is on its way to the master.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Front;
use crate::config::OnLostWrites;
use crate::config::ReadPolicy;
use crate::metrics::Count;
use crate::topology::{Hold, Writes};
use crate::upstream::ledger::Loss;

/// While a switchover waits for it, a worker looks this often whether it has let go of the master.
const LET_GO_EVERY: Duration = Duration::from_millis(1);

impl Front {
    /// Follows the topology until it ends: retires connections that lost their role and wakes who waits, first come first.
    pub async fn follow(self: Rc<Self>) {
        let mut epochs = self.view.subscribe();
        self.note_term();
        self.begin_term();
        let seat = self.view.enlist(Arc::clone(&self.pool.ledger().furthest), self.reckoned.get());
        loop {
            let patience = self.patience.get().end();
            let waited_for = self.planned_hold().is_some_and(|(_, epoch)| seat.epoch() < epoch);
            tokio::select! {
                changed = epochs.changed() => match changed {
                    Ok(()) => {
                        self.heed();
                        seat.reckon(self.reckoned.get());
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep(LET_GO_EVERY), if waited_for => {}
                () = tokio::time::sleep_until(patience.unwrap_or_else(Instant::now).into()), if patience.is_some() => {
                    self.heed();
                }
            }
            if let Some((why, epoch)) = self.planned_hold()
                && !self.sessions().iter().any(|session| session.clings(why))
            {
                seat.let_go(epoch);
            }
        }
    }

    fn heed(&self) {
        self.note_term();
        self.reckon();
        let topology = self.topology();
        self.patience.set(self.patience.get().at(&topology, self.listener.hold, Instant::now()));
        self.pool.sweep(topology.epoch, |target| self.judge(&topology, target));
        self.round.set(self.round.get() + 1);
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
        self.heeded.notify_waiters();
    }

    /// With a new master: counts which of the writes that were acknowledged here it does not have, and lets go of the clients
    /// whose writes they are, if they are to know.
    fn reckon(&self) {
        let topology = self.topology();
        let (before, now) = (self.reckoned.get(), topology.term());
        if before == now {
            return;
        }
        let close = self.listener.holding.on_lost_writes == OnLostWrites::Close;
        let account = |common| self.sessions().iter().for_each(|session| session.account_for(before, common, close));
        let ledger = self.pool.ledger();
        if let Some(switch) = topology.shards.first().and_then(|shard| shard.switch.as_deref()) {
            match Due::of(before, now, switch.common()) {
                Due::Count(common) => {
                    let Loss { lost, uncertain } = ledger.loss(before, common);
                    self.cells.count(Count::LostWrites, lost);
                    self.cells.count(Count::UncertainWrites, uncertain);
                    switch.toll.add(lost, uncertain);
                    account(Some(common));
                }
                Due::Missed if ledger.loss(before, 0) != Loss::default() => {
                    switch.toll.miss();
                    account(None);
                }
                Due::Missed | Due::Nothing => {}
            }
        }
        self.begin_term();
    }

    fn begin_term(&self) {
        let term = self.term();
        self.reckoned.set(term);
        self.pool.ledger().begin(term);
    }

    /// Writes are held for a switchover: how far it is, and the epoch.
    fn planned_hold(&self) -> Option<(Hold, u64)> {
        let mut cache = self.snapshot.borrow_mut();
        let topology = cache.load();
        let why = topology.shards.first()?.held?;
        matches!(why, Hold::Draining | Hold::Switchover).then_some((why, topology.epoch))
    }

    /// Whether a relay whose pin is open for a transaction, or in the middle of a large request, may still send.
    pub(in crate::session) fn lets_finish(&self, streaming: bool) -> bool {
        match self.planned_hold() {
            Some((Hold::Draining, _)) => true,
            Some(_) => streaming,
            None => false,
        }
    }

    fn note_term(&self) {
        let topology = self.topology();
        if let Some(shard) = topology.shards.first() {
            self.pool.begin_term(shard.term, &shard.lineage.id, shard.writes == Writes::Held);
            self.pool.note_shares(shard.is_even(self.listener.read_policy == ReadPolicy::Any));
        }
    }
}

/// What a worker has to say when it sees another term.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing was acknowledged before, or nobody can compare.
    Nothing,
    /// What the new master has is all up to this offset of the term before.
    Count(u64),
    /// What a master that was never seen had of the one before nobody knows here.
    Missed,
}

impl Due {
    /// `common`: what the master of the term `now` has of the one right before it.
    fn of(before: u64, now: u64, common: Option<u64>) -> Self {
        match common {
            _ if before == 0 || now <= before => Due::Nothing,
            _ if before + 1 < now => Due::Missed,
            common => common.map_or(Due::Nothing, Due::Count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_was_never_seen_is_not_passed_over() {
        for (before, now, common, due) in [
            (0, 3, Some(70), Due::Nothing),
            (1, 1, Some(70), Due::Nothing),
            (1, 2, Some(70), Due::Count(70)),
            (1, 2, None, Due::Nothing),
            (1, 3, Some(70), Due::Missed),
            (1, 3, None, Due::Missed),
        ] {
            assert_eq!(Due::of(before, now, common), due, "{before} {now} {common:?}");
        }
    }
}
