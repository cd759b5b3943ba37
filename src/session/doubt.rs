//! A script that answers as a node does that refuses: has it been executed?
//!
//! A node that is no master executes no write of a script, so what it answered may be sent again. A master that answers so
//! has run the script, which then ends in an error of its own making. Must not believe the text. Invariant: a script is sent
//! again only when its node, asked afterwards, is not a master (or is loading); else the replies stand as they came.

use std::time::Duration;

use super::Session;
use super::commands::PAUSE;
use super::settle::{self, Settled};
use super::state::State;
use crate::resp::encode;
use crate::topology::NodeId;
use crate::upstream::LaneId;
use crate::upstream::refusal::{self, Refusal};

/// How long a node, or the topology, may take to say what the node is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It executes no writes, or nothing at all.
    Refuses,
    Executes,
    /// Whoever asked may not know.
    None,
}

impl Word {
    fn of_role(reply: &[u8]) -> Self {
        match reply {
            _ if reply.starts_with(b"*5\r\n$5\r\nslave\r\n") => Word::Refuses,
            [b'*', ..] => Word::Executes,
            _ => Word::None,
        }
    }
}

impl Session {
    /// Carries out what the node has to say about the session's doubt.
    pub(super) async fn resolve_doubt(&self) -> bool {
        let (doubt, node) = {
            let s = &mut *self.state.borrow_mut();
            (std::mem::take(&mut s.doubt), s.avoid)
        };
        let refused = match node {
            Some(node) => self.refused_truly(&doubt, node).await,
            None => false,
        };
        let s = &mut *self.state.borrow_mut();
        if refused {
            self.send_again(s, &doubt);
        } else {
            doubt.iter().for_each(|done| self.stand(s, &done.reply));
            (s.tries, s.stuck_since) = (0, None);
        }
        s.rescan = true;
        true
    }

    fn send_again(&self, s: &mut State, again: &[Settled]) {
        let before: Vec<u8> = again.iter().flat_map(|again| again.request.iter().copied()).collect();
        again.iter().for_each(|again| self.count_retry(&again.request));
        s.replay.splice(0..0, before);
    }

    /// Whether the node of this number refused what it seems to have refused.
    pub(super) async fn refused_truly(&self, settled: &[Settled], node: NodeId) -> bool {
        let loading = settle::doubtful(settled).is_some_and(|s| refusal::of(&s.reply) == Some(Refusal::Loading));
        let own = self.state.borrow().lane;
        // Its user may not ask; then redweir's own login must do, or what is known of the node by other ways.
        for lane in [own, self.front.pool.lane(self.front.first_lane(2))] {
            match tokio::time::timeout(PATIENCE, self.word_of(node, lane, loading)).await {
                Ok(Word::Refuses) => return true,
                Ok(Word::Executes) => return false,
                Ok(Word::None) | Err(_) => {}
            }
        }
        let demoted = async {
            while !self.front.replicas().iter().any(|replica| replica.node == node) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        !loading && tokio::time::timeout(PATIENCE, demoted).await.is_ok()
    }

    async fn word_of(&self, node: NodeId, lane: LaneId, loading: bool) -> Word {
        let Some(target) = self.front.target_of(node) else { return Word::None };
        let Ok(mut lease) = self.front.pool.lease(lane, &target).await else { return Word::None };
        let mut ask = async |words: &[&[u8]]| {
            let mut request = Vec::new();
            encode::request(&mut request, words.iter().copied());
            lease.exchange(&request).await
        };
        let Ok(role) = ask(&[b"ROLE"]).await else { return Word::None };
        let mut word = Word::of_role(&role);
        if loading && word != Word::Refuses {
            // A master that loads answers ROLE, and nothing that is about keys.
            word = match ask(&[b"EXISTS", b"redweir"]).await {
                Ok(reply) if refusal::of(&reply) == Some(Refusal::Loading) => Word::Refuses,
                Ok(reply) if reply.first() == Some(&b':') => Word::Executes,
                _ => Word::None,
            };
        }
        self.front.pool.give_back(lane, lease);
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_by_its_role_what_it_executes() {
        for (reply, word) in [
            (&b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:7\r\n$9\r\nconnected\r\n:8\r\n"[..], Word::Refuses),
            (b"*3\r\n$6\r\nmaster\r\n:8\r\n*0\r\n", Word::Executes),
            (b"-NOPERM no\r\n", Word::None),
        ] {
            assert_eq!(Word::of_role(reply), word, "{}", reply.escape_ascii());
        }
    }
}
