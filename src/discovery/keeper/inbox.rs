//! Where reports arrive, and what one turn of the keeper takes from there.
//!
//! Must not judge them. Invariant: no report waits behind a guess, and none is dropped here.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::discovery::seen::Observation;
use crate::discovery::sentinel;
use crate::discovery::switchover::Message;
use crate::topology::{Hint, Hints};

/// Hints taken into one turn: as many as their queue holds.
const HINTS: usize = 64;

/// Where reports arrive.
pub struct Inbox {
    pub hints: Hints,
    pub observations: mpsc::Receiver<Observation>,
    pub news: mpsc::Receiver<sentinel::Report>,
    pub planned: mpsc::Receiver<Message>,
}

/// What one turn is about, besides the hints that wait.
#[derive(Debug, PartialEq)]
pub(super) enum Call {
    News(sentinel::Report),
    Seen(Observation),
    Planned(Message),
    /// Nothing else: hints came, or it is time.
    None,
}

impl Inbox {
    /// Waits for the next report, for hints, or for `pause`; also all the hints that wait by then, for one turn. Who saw
    /// goes before who guesses: a refused request gives a hint each, and a storm of them must not delay an observation.
    pub(super) async fn next(&mut self, pause: Duration) -> (Call, Vec<Hint>) {
        let mut hints = Vec::new();
        let call = tokio::select! {
            biased;
            Some(report) = self.news.recv() => Call::News(report),
            Some(planned) = self.planned.recv() => Call::Planned(planned),
            Some(seen) = self.observations.recv() => Call::Seen(seen),
            Some(hint) = self.hints.recv() => {
                hints.push(hint);
                Call::None
            }
            _ = sleep(pause) => Call::None,
        };
        // With every call, so that reports without end do not starve them either.
        while hints.len() < HINTS
            && let Ok(hint) = self.hints.try_recv()
        {
            hints.push(hint);
        }
        (call, hints)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::discovery::seen::Seen;
    use crate::upstream::control::Error;

    const LONG: Duration = Duration::from_secs(3600);

    fn lost(node: u16) -> Observation {
        Observation { node, probe: 0, asked: Instant::now(), seen: Seen::Lost(Error::Closed) }
    }

    #[tokio::test]
    async fn a_storm_of_hints_delays_no_report_and_is_one_turn() {
        let (hint, hints) = mpsc::channel(4 * HINTS);
        let (see, observations) = mpsc::channel(8);
        let (tell, news) = mpsc::channel(8);
        let (_plan, planned) = mpsc::channel(1);
        let mut inbox = Inbox { hints, observations, news, planned };
        for _ in 0..2 * HINTS + 1 {
            hint.try_send(Hint::Demoted(0)).unwrap();
        }
        let (first, second) = (lost(1), lost(2));
        see.try_send(first.clone()).unwrap();
        see.try_send(second.clone()).unwrap();
        let report = || sentinel::Report { sentinel: 7, news: sentinel::News::Quorum };
        tell.try_send(report()).unwrap();
        let storm = vec![Hint::Demoted(0); HINTS];
        assert_eq!(inbox.next(LONG).await, (Call::News(report()), storm.clone()), "hints wait for no lull");
        assert_eq!(inbox.next(LONG).await, (Call::Seen(first), storm));
        assert_eq!(inbox.next(LONG).await, (Call::Seen(second), vec![Hint::Demoted(0)]));
        hint.try_send(Hint::Lost(3)).unwrap();
        hint.try_send(Hint::UnknownName).unwrap();
        assert_eq!(inbox.next(LONG).await, (Call::None, vec![Hint::Lost(3), Hint::UnknownName]), "hints alone wake");
        assert_eq!(inbox.next(Duration::ZERO).await, (Call::None, vec![]));
    }
}
