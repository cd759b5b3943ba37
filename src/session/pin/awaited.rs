//! What a pinned session's server still owes, and what is settled with each frame it sends.
//!
//! Must not decide what goes out. Invariant: a request is answered once, by the frame that ends its answer.

use super::Pin;
use crate::session::pubsub::{self, Frame, Sort};

/// What a reply still to come means to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Select(u32),
    /// MULTI, which may be refused.
    Multi,
    Reset,
    Quit,
    /// Of what WAIT needs before it: not the client's.
    Fence,
    /// The client gets EXECABORT instead.
    Abort,
    /// The connection's own id at the node, not the client's to see.
    Id,
    /// AUTH, HELLO and switches of CLIENT: with its success the session is somebody else, or wants other connections.
    Login,
    /// CLIENT TRACKING or CLIENT CACHING, to be remembered when accepted.
    Tracking,
    /// It names the client that invalidations are redirected to.
    Redirection,
    Monitor,
    /// EXEC: what was queued has happened, or not.
    Exec,
    /// What brings a new connection to the state of the lost one; an error is the end of it.
    Restored,
}

/// What the server still owes, in the order of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    Reply(Option<Expect>),
    /// A subscription command: so many confirmations, or one error.
    Confirms(u64),
    /// UNSUBSCRIBE and its like without names: one confirmation for each that is subscribed when its turn comes, at least one.
    Everything(Sort),
    /// A subscription made again on a new connection: so many confirmations that are not the client's.
    Restores(u64),
}

impl Awaited {
    /// What a command brings.
    pub fn by(name: &str, args: usize) -> Self {
        let names = args.saturating_sub(1) as u64;
        match pubsub::sort(name.as_bytes()) {
            Some(sort) if names == 0 && name.contains("unsubscribe") => Awaited::Everything(sort),
            Some(_) => Awaited::Confirms(names.max(1)),
            None => Awaited::Reply(None),
        }
    }
}

impl Pin {
    /// What the frame at hand was waited for as.
    pub fn expected(&self, frame: Frame) -> Option<Expect> {
        match (frame, self.awaited.front()) {
            (Frame::Reply, Some(Awaited::Reply(expect))) => *expect,
            (Frame::Reply | Frame::Confirmed { .. }, Some(Awaited::Restores(_))) => Some(Expect::Restored),
            _ => None,
        }
    }

    /// A frame was passed on (or swallowed) whole. True: with it a request is answered.
    pub fn received(&mut self, frame: Frame) -> bool {
        let answered = self.is_answer(frame);
        if answered && self.inside > 0 {
            self.inside -= 1;
            return false;
        }
        answered
    }

    /// EXEC was carried out: `elements` answer what was `queued`. A subscription to several channels confirms each, while
    /// the array counts commands (pubsub.c, multi.c): the rest of the answers follow as frames of their own.
    pub fn executed(&mut self, queued: Vec<Awaited>, elements: &[&[u8]], limit: usize) {
        self.inside = queued.len();
        queued.into_iter().rev().for_each(|awaited| self.awaited.push_front(awaited));
        for element in elements {
            let frame = pubsub::frame(element, true);
            if matches!(frame, Frame::Confirmed { .. }) {
                self.note(element, limit);
            }
            self.received(frame);
        }
    }

    fn is_answer(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Push => false,
            // To a subscription command: the error it ended with.
            Frame::Reply => {
                let answered = self.awaited.pop_front().is_some();
                self.alone &= !self.awaited.is_empty();
                answered
            }
            Frame::Confirmed { sort, left } => {
                let before = self.subscribed[sort as usize].max(1) as u64;
                pubsub::count(&mut self.subscribed, sort, left);
                let open = match self.awaited.front() {
                    Some(Awaited::Confirms(n) | Awaited::Restores(n)) => n.saturating_sub(1),
                    Some(Awaited::Everything(_)) => before - 1,
                    _ => return false,
                };
                let restores = matches!(self.awaited.pop_front(), Some(Awaited::Restores(_)));
                if open > 0 {
                    self.awaited.push_front(if restores { Awaited::Restores(open) } else { Awaited::Confirms(open) });
                }
                open == 0
            }
        }
    }
}
