//! Asks for the offset behind writes that no flush asks behind: when a connection came to rest, or ended.
//!
//! Part of [`Pool`]. Must not know which writes. Invariant: what is owed is asked for until a connection was asked.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Pool;

/// What writes were acknowledged without a ROLE behind them is asked for this much later.
const AUDIT: Duration = Duration::from_millis(2);
/// And this much later where that was tried a moment ago. A worker that is busy sleeps and wakes thousands of times until then:
/// with a timer below the kernel's tick (4 ms) each of these sleeps set the clock anew, and a SET cost a tenth more.
const AUDIT_AGAIN: Duration = Duration::from_millis(20);
/// And where no connection can be asked, again after this long.
const AGAIN: Duration = Duration::from_millis(100);

impl Pool {
    /// Asks for the offsets behind acknowledged writes that no flush asks for, for ever.
    pub async fn audit(self: Rc<Self>) {
        // A node that had no connection to be asked on.
        let mut left = None;
        let mut asked: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.tally.owed.notified() => sleep(audit_in(asked.map(|at| at.elapsed()))).await,
                () = sleep(AGAIN), if left.is_some() => {}
            }
            let Some(node) = self.tally.owing.take().or_else(|| left.take()) else { continue };
            left = (!self.ask_behind(node)).then_some(node);
            asked = Some(Instant::now());
        }
    }

    /// False: of what any connection may ask for none does.
    fn ask_behind(&self, node: u16) -> bool {
        let mut apart = self.tally.ledger.open_apart();
        for slots in self.lanes.borrow_mut().iter_mut() {
            for conn in slots.shared.get(usize::from(node)).into_iter().flatten() {
                if conn.catch_up(apart) {
                    apart = 0;
                }
            }
        }
        apart == 0
    }
}

/// When offsets are asked for that are owed now; `since`: the last time that was done.
fn audit_in(since: Option<Duration>) -> Duration {
    if since.is_some_and(|since| since < AUDIT_AGAIN) { AUDIT_AGAIN } else { AUDIT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_are_owed_after_a_pause_are_asked_for_soon_and_under_load_less_often() {
        for (since, then) in [(None, AUDIT), (Some(AUDIT), AUDIT_AGAIN), (Some(AUDIT_AGAIN), AUDIT)] {
            assert_eq!(audit_in(since), then, "{since:?}");
        }
    }
}
