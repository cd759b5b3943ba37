//! WAIT and WAITAOF for a user who may not publish: the fence that makes them count the session's writes is another's then.
//!
//! What a session wrote went over shared connections, and WAIT counts what its own connection wrote. A message on
//! [`FENCE`]'s channel before it makes that the same (offsets.md section 5). A user without that channel (the default for
//! new ones since Redis 7) gets the count from a connection of redweir's own user, once its own has shown that it may WAIT.
//! Must not pass on a count that no fence stands before. Invariant: a client that leaves takes its waiting connection along.

use std::io;
use std::time::Duration;

use super::pubsub::Frame;
use super::state::State;
use super::{Session, errors};
use crate::command::Verdict;
use crate::route::Want;
use crate::upstream::{Lane, Lease};

/// Raises the connection's replication offset to the master's present one.
pub const FENCE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\nredweir:fence\r\n$0\r\n\r\n";
/// A client that left is noticed within this.
const LOOK: Duration = Duration::from_millis(200);

/// What WAIT tells a session of whose acknowledged writes a switch has lost some, or may have: no replica has them all. Once,
/// for what it asks next is about what it wrote since.
pub fn none(verdict: &Verdict, args: usize) -> Option<&'static [u8]> {
    match (verdict.command?.name, args) {
        ("wait", 3) => Some(b":0\r\n"),
        ("waitaof", 4) => Some(b"*2\r\n:0\r\n:0\r\n"),
        _ => None,
    }
}

impl Session {
    /// Answers `request`, which the session's user may send, while its relay takes no further request.
    pub(super) fn wait_aside(&self, s: &mut State, request: &[u8]) {
        let request: Box<[u8]> = request.into();
        self.aside(s, async move |me| {
            let reply = tokio::select! {
                reply = me.wait_fenced(&request) => reply.unwrap_or_else(|e| errors::no_connection(&e)),
                () = me.gone() => return true,
            };
            let s = &mut *me.state.borrow_mut();
            me.push_frame(s, Frame::Reply, &reply, false);
            s.silence.end_next();
            false
        });
    }

    async fn wait_fenced(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        if request.is_empty() {
            // Too much is on its way for it to have been kept.
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let own = Lane { login: self.front.node_login.clone(), resp: 2, no_touch: false, import_source: false };
        let lane = self.front.pool.lane(own);
        let target = self.front.target(Want::Master).ok_or(io::ErrorKind::NotConnected)?;
        let mut lease: Lease = self.front.pool.lease(lane, &target).await.map_err(io::Error::other)?;
        let fenced = self.exchange(&mut lease, Want::Master, FENCE).await?;
        if fenced.first() == Some(&b'-') {
            return Ok(errors::unfenced(&fenced));
        }
        let reply = self.exchange(&mut lease, Want::Master, request).await?;
        self.front.pool.give_back(lane, lease);
        Ok(reply)
    }

    async fn gone(&self) {
        while !self.state.borrow().dead {
            tokio::time::sleep(LOOK).await;
        }
    }
}
