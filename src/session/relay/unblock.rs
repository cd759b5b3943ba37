//! Ends a blocking command that waits at a node, by the node's own CLIENT UNBLOCK.
//!
//! The node decides whether the command is ended or served, so nothing it took out of a list is lost. Must not answer in
//! its place. Invariant: whatever becomes of it, the blocked connection brings the one reply that is owed.

use std::time::Duration;

use super::Relay;
use crate::metrics::Count;
use crate::resp::encode;
use crate::session::Session;
use crate::session::commands::PAUSE;
use crate::session::state::Unblock;
use crate::upstream::LaneId;

/// A node that does not answer this long is left to the topology.
const WITHIN: Duration = Duration::from_secs(1);

/// The id in the reply to CLIENT ID; 0, which is nobody's, when the node did not tell.
pub(super) fn id(reply: &[u8]) -> u64 {
    let digits = reply.strip_prefix(b":").and_then(|r| r.strip_suffix(b"\r\n"));
    digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse().ok()).unwrap_or(0)
}

impl Session {
    /// Asks the node to let the blocked command go. What comes of it comes over the blocked connection.
    pub(super) async fn unblock(&self, relay: &Relay, how: Unblock) {
        let Some(id) = relay.lease.id.filter(|id| *id > 0) else {
            tracing::warn!(session = self.id, "its user may not run CLIENT ID: what it waits for cannot be ended");
            return;
        };
        let how: &[u8] = match how {
            Unblock::Timeout => b"TIMEOUT",
            Unblock::Error => b"ERROR",
        };
        let mut request = Vec::new();
        encode::request(&mut request, [&b"CLIENT"[..], b"UNBLOCK", id.to_string().as_bytes(), how].into_iter());
        // The one who is blocked may have fewer rights than the one who unblocks; then redweir's own login must do.
        let own = self.state.borrow().lane;
        let lanes = [own, self.front.pool.lane(self.front.first_lane(2))];
        let asked = async {
            for lane in lanes {
                if self.ask_there(lane, relay, &request).await {
                    return true;
                }
            }
            false
        };
        if matches!(tokio::time::timeout(WITHIN, asked).await, Ok(true)) {
            self.front.cells.count(Count::Unblocked, 1);
        } else {
            tracing::warn!(session = self.id, "its node did not take CLIENT UNBLOCK: it goes on waiting");
        }
    }

    /// False: the node said no, or nothing.
    async fn ask_there(&self, lane: LaneId, relay: &Relay, request: &[u8]) -> bool {
        let mut lease = loop {
            match self.front.pool.lease(lane, &relay.lease.target).await {
                Ok(lease) => break lease,
                Err(refused) if refused.is_full() => tokio::time::sleep(PAUSE).await,
                Err(_) => return false,
            }
        };
        let Ok(reply) = lease.exchange(request).await else { return false };
        self.front.pool.give_back(lane, lease);
        reply.first() == Some(&b':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_not_told_is_nobodys() {
        for (reply, expected) in [(&b":17\r\n"[..], 17), (b"-NOPERM no\r\n", 0), (b":-1\r\n", 0)] {
            assert_eq!(id(reply), expected);
        }
    }
}
