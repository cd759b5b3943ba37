//! Whether a session may run a command that redweir answers itself: only a node knows its user's rights.
//!
//! It is asked with a form of the same command that changes nothing there, so its refusal is Redis' own text: not logged
//! in, no permission, no such subcommand in this version. Invariant: what acts on other clients asks each time; for the rest
//! a yes is believed for a moment, and a set without any node does not keep a client from being told its own name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Session, errors};
use crate::resp::encode;
use crate::upstream::LaneId;

/// How long a yes is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// So many are remembered before those that are no longer believed are forgotten.
const KNOWN: usize = 4096;

/// What a lane's user was just allowed.
#[derive(Default)]
pub struct Allowed(RefCell<HashMap<(LaneId, &'static str), Instant>>);

impl Allowed {
    fn knows(&self, lane: LaneId, name: &'static str) -> bool {
        self.0.borrow().get(&(lane, name)).is_some_and(|since| since.elapsed() < BELIEVED)
    }

    fn note(&self, lane: LaneId, name: &'static str) {
        let mut known = self.0.borrow_mut();
        if known.len() >= KNOWN {
            known.retain(|_, since| since.elapsed() < BELIEVED);
        }
        known.insert((lane, name), Instant::now());
    }
}

/// What follows the subcommand in a form that changes nothing at the node: what its connection is already.
fn harmless(name: &str) -> &'static [&'static [u8]] {
    match name {
        "client|setname" => &[b""],
        "client|setinfo" => &[b"LIB-NAME", b""],
        "client|no-evict" => &[b"OFF"],
        "client|reply" => &[b"ON"],
        "client|capa" => &[b"none"],
        _ => &[],
    }
}

impl Session {
    /// May the session run `name`, which concerns nobody but itself? `words` as the client wrote them.
    ///
    /// # Errors
    /// The node's own refusal.
    pub(super) async fn allowed(&self, name: &'static str, words: &[&[u8]]) -> Result<(), Vec<u8>> {
        let lane = self.state.borrow().lane;
        if self.front.allowed.knows(lane, name) {
            return Ok(());
        }
        let form = [words.get(..2).unwrap_or_default(), harmless(name)].concat();
        match self.ask_now(lane, &form).await {
            Some(refused) if refused.first() == Some(&b'-') => Err(refused),
            Some(_) => {
                self.front.allowed.note(lane, name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The reply of a node that can be asked at once; `None`: there is none.
    pub(super) async fn ask_now(&self, lane: LaneId, words: &[&[u8]]) -> Option<Vec<u8>> {
        let want = self.authority();
        let target = self.front.target(want)?;
        let mut lease = match self.front.pool.lease(lane, &target).await {
            Ok(lease) => lease,
            Err(refused) if refused.is_login() => return Some(errors::handshake(&refused)),
            Err(_) => return None,
        };
        let reply = self.exchange(&mut lease, want, &encoded(words)).await.ok()?;
        self.front.pool.give_back(lane, lease);
        Some(reply)
    }

    /// A node's reply to `words`, which change nothing there.
    ///
    /// # Errors
    /// There is no node to ask, with the text that says so.
    pub(super) async fn judged(&self, words: &[&[u8]]) -> Result<Vec<u8>, Vec<u8>> {
        let lane = self.state.borrow().lane;
        let (reply, lease) = self.ask(self.authority(), &encoded(words)).await?;
        self.front.pool.give_back(lane, lease);
        Ok(reply)
    }

    /// The answer to a form that no server is known to take: a node's own error, or `otherwise`.
    pub(super) async fn misused(&self, words: &[&[u8]], otherwise: Vec<u8>) -> Vec<u8> {
        let lane = self.state.borrow().lane;
        match self.ask(self.authority(), &encoded(words)).await {
            Ok((refused, lease)) if refused.first() == Some(&b'-') => {
                self.front.pool.give_back(lane, lease);
                refused
            }
            // Taken after all: nobody knows what the connection is now.
            _ => otherwise,
        }
    }
}

fn encoded(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    encode::request(&mut request, words.iter().copied());
    request
}
