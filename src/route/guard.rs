//! Who answers reads while every replica is beyond the lag limit.
//!
//! Pure. Invariant: of the reads that the policy would give the master then, it gets its share and no more, counted over
//! any number of them.

use crate::config::{Beyond, LagGuard, Share};
use crate::metrics::Reason;
use crate::topology::{Laggard, NodeId};

use super::Decision;

/// The guard of one worker and listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    pub settings: LagGuard,
    /// What the master is owed, in parts of a read.
    credit: u32,
}

impl Guard {
    pub fn new(settings: LagGuard) -> Self {
        Self { settings, credit: 0 }
    }

    /// The next read while all lag. `avoid` has just failed it.
    pub fn decide(&mut self, master: NodeId, lagging: &[Laggard], avoid: Option<NodeId>) -> Decision {
        let to_master = Decision::To { node: master, reason: Reason::Lag };
        let Share(share) = self.settings.share;
        self.credit += share;
        if self.credit >= Share::ALL.0 {
            self.credit -= Share::ALL.0;
            return to_master;
        }
        let others = lagging.iter().filter(|laggard| Some(laggard.node) != avoid);
        match self.settings.beyond {
            Beyond::Refuse => Decision::Guarded,
            Beyond::LeastLagging => {
                let least = others.min_by_key(|laggard| (laggard.live.lag_bytes(), laggard.live.lag()));
                least.map_or(to_master, |least| Decision::To { node: least.node, reason: Reason::LeastLagging })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::topology::Live;

    fn laggard(node: NodeId, bytes: u64) -> Laggard {
        let live = Live::default();
        live.set(1, bytes, Duration::from_secs(20));
        Laggard { node, live: Arc::new(live) }
    }

    /// How many of 1000 reads go to: the master, node 1, node 2, nobody.
    fn shares(percent: u32, beyond: Beyond, lagging: &[Laggard], avoid: Option<NodeId>) -> [usize; 4] {
        let mut guard = Guard::new(LagGuard { share: Share(percent * 100), beyond });
        let mut counts = [0; 4];
        for _ in 0..1000 {
            counts[match guard.decide(7, lagging, avoid) {
                Decision::To { node: 7, reason: Reason::Lag } => 0,
                Decision::To { node: node @ 1..=2, reason: Reason::LeastLagging } => usize::from(node),
                Decision::Guarded => 3,
                other => panic!("{other:?}"),
            }] += 1;
        }
        counts
    }

    #[test]
    fn the_master_gets_its_share_and_the_rest_goes_as_set() {
        let two = [laggard(1, 5000), laggard(2, 4000)];
        let least = Beyond::LeastLagging;
        for (what, found, expected) in [
            ("all at the master", shares(100, least, &two, None), [1000, 0, 0, 0]),
            ("all at the master, refuse or not", shares(100, Beyond::Refuse, &two, None), [1000, 0, 0, 0]),
            ("a quarter", shares(25, least, &two, None), [250, 0, 750, 0]),
            ("a third or so", shares(33, Beyond::Refuse, &two, None), [330, 0, 0, 670]),
            ("none", shares(0, least, &two, None), [0, 0, 1000, 0]),
            ("none, or nobody", shares(0, Beyond::Refuse, &two, None), [0, 0, 0, 1000]),
            ("the least lagging one just failed", shares(0, least, &two, Some(2)), [0, 1000, 0, 0]),
            ("the only one just failed", shares(0, least, &two[..1], Some(1)), [1000, 0, 0, 0]),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }
}
