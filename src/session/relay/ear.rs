//! Invalidations that a client has redirected to another one (CLIENT TRACKING ... REDIRECT).
//!
//! The node sends them to a second connection of the session's own, its ear; redweir hands them to the session that was
//! named, whatever worker serves it, as the protocol of that one wants it (tracking.c sendTrackingMessage). Must not keep
//! them: what the other end does not take in time keeps the ear from being read. Invariant: an ear that is lost ends the
//! connection it belongs to, so that nobody goes on caching what he is not told about.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use super::Relay;
use crate::resp::{Found, ReplyScanner, encode};
use crate::route::Want;
use crate::session::pubsub::Frame;
use crate::session::roll::What;
use crate::session::state::State;
use crate::session::{Session, errors};
use crate::upstream::{Lane, Lease, Target};

const HELLO: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
const PUSHED: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
const PUBLISHED: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";

/// What the listening task and its relay both see.
#[derive(Default)]
struct Heard {
    /// The session the invalidations are for.
    to: Cell<u64>,
    /// It was gone when there was something to tell it.
    broken: Cell<bool>,
    lost: Cell<bool>,
}

pub struct Ear {
    /// The connection's id at the node.
    pub id: u64,
    heard: Rc<Heard>,
    /// Whom the CLIENT TRACKING on its way names.
    next: u64,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A CLIENT TRACKING that names a client, and what is to become of it: the id the node is told (0, which is nobody's, when
/// the client is not here), or a refusal.
pub struct Redirect {
    pub id: u64,
    pub answer: Option<Result<u64, Vec<u8>>>,
}

impl Ear {
    pub fn to(&self) -> u64 {
        self.heard.to.get()
    }

    pub fn is_broken(&self) -> bool {
        self.heard.broken.get()
    }

    pub fn is_lost(&self) -> bool {
        self.heard.lost.get()
    }

    /// The node has taken the CLIENT TRACKING.
    pub fn turn(&self) {
        self.heard.to.set(self.next);
        self.heard.broken.set(false);
    }
}

impl Relay {
    /// What a CLIENT TRACKING that redirects to `id` is to say at the node; `None`: not yet, it is to be found out first, or a
    /// refusal must not overtake.
    pub fn redirected(&mut self, id: u64) -> Option<Result<u64, Vec<u8>>> {
        let known = self.redirect.take_if(|redirect| redirect.id == id && redirect.answer.is_some());
        let answer = known.and_then(|redirect| redirect.answer);
        if matches!(answer, Some(Ok(_))) || (answer.is_some() && self.pin.is_quiet()) {
            if let Some(ear) = &mut self.ear {
                ear.next = id;
            }
            return answer;
        }
        self.redirect = Some(Redirect { id, answer });
        None
    }
}

impl Session {
    /// Finds out whether the client `id` is here, and listens for it.
    pub(super) async fn redirect(&self, relay: &mut Relay, id: u64) {
        let answer = match (self.is_connected(id).await, &relay.ear) {
            (false, _) => Ok(0),
            (true, Some(ear)) => Ok(ear.id),
            (true, None) => self.open_ear(&relay.lease.target, id).await.map(|ear| relay.ear.insert(ear).id),
        };
        relay.redirect = Some(Redirect { id, answer: Some(answer) });
    }

    async fn is_connected(&self, id: u64) -> bool {
        self.front.session(id).is_some() || !self.front.shared.common.roll.call(What::Find(id)).await.is_empty()
    }

    /// # Errors
    /// The error reply to give the client.
    pub async fn open_ear(&self, target: &Target, to: u64) -> Result<Ear, Vec<u8>> {
        let old = self.state.borrow().lane;
        let lane = self.front.pool.describe(old).map(|lane| Lane { resp: 3, ..lane });
        let lane = lane.and_then(|lane| self.front.lane_for(lane, old)).ok_or(errors::LOGINS_FULL)?;
        let mut lease = self.front.pool.lease(lane, target).await.map_err(|refused| match refused {
            _ if refused.is_login() => errors::handshake(&refused),
            _ if refused.is_full() => errors::PINNED_FULL.to_vec(),
            _ => errors::no_connection(&refused),
        })?;
        let greeting = self.exchange(&mut lease, Want::Read, HELLO).await.map_err(|e| errors::no_connection(&e))?;
        let id = own_id(&greeting).ok_or_else(|| errors::no_connection(&"it does not say who it is"))?;
        let heard = Rc::new(Heard { to: Cell::new(to), ..Heard::default() });
        let me = self.front.session(self.id).map(|me| Rc::downgrade(&me)).unwrap_or_default();
        let task = tokio::task::spawn_local(listen(lease, me, Rc::clone(&heard)));
        Ok(Ear { id, heard, next: to, task })
    }

    /// Hands invalidations on, each the keys as the node sent them. False: there is nobody of this id any more.
    pub async fn invalidate(&self, to: u64, keys: Vec<Vec<u8>>) -> bool {
        match self.front.session(to) {
            Some(target) => {
                let s = &mut *target.state.borrow_mut();
                keys.iter().for_each(|keys| target.invalidated(s, keys));
                !s.dead
            }
            None => !self.front.shared.common.roll.call(What::Invalidated(to, keys)).await.is_empty(),
        }
    }

    /// Something that this client, or one that redirects to it, has cached is no longer so.
    pub fn invalidated(&self, s: &mut State, keys: &[u8]) {
        if s.resp >= 3 {
            self.push_unasked(s, &[PUSHED, keys].concat());
        } else if s.bound.subscribed != [0; 3] {
            self.push_unasked(s, &[PUBLISHED, keys].concat());
        }
    }

    /// A frame that answers nothing; between replies, not within one.
    fn push_unasked(&self, s: &mut State, frame: &[u8]) {
        if !s.torn {
            return self.push_frame(s, Frame::Push, frame, false);
        }
        s.late.extend_from_slice(frame);
        if s.late.len() > self.front.limits.client_output_bytes {
            s.die();
        }
    }

    /// A reply that was handed on in pieces is complete.
    pub fn mend(&self, s: &mut State) {
        s.torn = false;
        let late = std::mem::take(&mut s.late);
        if !late.is_empty() {
            self.push_frame(s, Frame::Push, &late, false);
        }
    }

    fn redirect_broke(&self, to: u64) {
        let s = &mut *self.state.borrow_mut();
        if s.resp >= 3 {
            let mut frame = b">2\r\n$21\r\ntracking-redir-broken\r\n".to_vec();
            encode::integer(&mut frame, to as i64);
            self.push_unasked(s, &frame);
        }
        s.wake();
    }
}

async fn listen(mut lease: Lease, session: Weak<Session>, heard: Rc<Heard>) {
    let (mut input, mut scanner) = (Vec::new(), ReplyScanner::default());
    while let Some(me) = session.upgrade() {
        let mut told = Vec::new();
        let understood = loop {
            match scanner.scan(&input) {
                _ if input.is_empty() => break true,
                Found::Whole { len } => {
                    told.extend(input[..len].strip_prefix(PUSHED).map(<[u8]>::to_vec));
                    input.drain(..len);
                }
                Found::Part { .. } => break input.len() <= me.front.limits.client_output_bytes,
                Found::Garbage => break false,
            }
        };
        let (to, n) = (heard.to.get(), told.len());
        if n > 0 && !me.invalidate(to, told).await {
            heard.broken.set(true);
            (0..n).for_each(|_| me.redirect_broke(to));
        }
        drop(me);
        if !understood || !matches!(lease.stream.read_buf(&mut input).await, Ok(1..)) {
            break;
        }
    }
    heard.lost.set(true);
    if let Some(me) = session.upgrade() {
        me.state.borrow().wake();
    }
}

/// The connection's id in the node's answer to HELLO.
fn own_id(greeting: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"$2\r\nid\r\n:";
    let at = greeting.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let digits = greeting[at..].split(|b| *b == b'\r').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_says_who_the_connection_is() {
        let greeting = b"%3\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:77\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
        assert_eq!((own_id(greeting), own_id(b"-NOPERM no\r\n")), (Some(77), None));
    }
}
