//! A pinned session whose connection is lost goes on at the new master: what it has subscribed to and tracks is told that
//! node, and what is unanswered and harmless is sent there.
//!
//! Must not send again what may have been executed. Invariant: while there is no connection, nothing of the session is at
//! any node; its blocking command ends by its own time, by CLIENT UNBLOCK or with its client all the same.

use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::ear::Ear;
use super::{End, FULL, Relay, Repeat, Sent};
use crate::command::{self, Verdict};
use crate::metrics::Count;
use crate::resp::{Args, encode};
use crate::route::Want;
use crate::session::commands::PAUSE;
use crate::session::pin::again::{self, Again};
use crate::session::pin::{Pin, timeout, tracked};
use crate::session::pubsub::Frame;
use crate::session::state::{State, Unblock};
use crate::session::{Session, barrier, errors};
use crate::upstream::{Lease, Target};

/// What a node that has lost its role is given to answer what is already there.
const PARTING: Duration = Duration::from_millis(500);

/// Time that passed unnoticed.
const EXACT: Duration = Duration::from_millis(20);

/// A session between two connections.
struct Carried {
    pin: Pin,
    eof: bool,
    again: Vec<Repeat>,
    stuck: Instant,
    /// `None`: it had no connection yet.
    lost: Option<Target>,
    /// It was lost to the same trouble as the one before.
    repeated: bool,
    /// Whom its invalidations go to, when that is another client.
    redirect: Option<u64>,
}

impl Carried {
    /// A blocking command before it is at any node.
    fn first(request: &[u8]) -> Self {
        Self {
            pin: Pin::default(),
            eof: false,
            again: vec![Repeat::again(request.to_vec())],
            stuck: Instant::now(),
            lost: None,
            repeated: false,
            redirect: None,
        }
    }
}

/// What happens to a session before it has a connection again.
enum Disturbed {
    Gone,
    TimeUp,
    Unblock(Unblock),
}

impl Repeat {
    /// A request as it came back.
    pub(super) fn again(bytes: Vec<u8>) -> Self {
        let waits = timeout::waits(&command::classify(Args::new(&bytes))).then(Instant::now);
        Self { bytes, waits }
    }

    /// A blocking command that was at a node since it was sent.
    pub(super) fn waiting(sent: &Sent) -> Self {
        Self { bytes: sent.bytes.clone(), waits: Some(sent.at) }
    }

    /// The request with what is left of its time by now.
    pub(super) fn now(&self) -> Vec<u8> {
        match self.waits {
            // Less than that is within the server's own exactness (it looks ten times a second): the client's words stay.
            Some(since) if since.elapsed() < EXACT => self.bytes.clone(),
            Some(since) => timeout::shortened(self.name(), &self.bytes, since.elapsed()),
            None => self.bytes.clone(),
        }
    }

    fn name(&self) -> &'static str {
        name(&command::classify(Args::new(&self.bytes)))
    }

    fn left(&self) -> Option<Duration> {
        timeout::left(self.name(), &self.bytes, self.waits?.elapsed())
    }

    /// What the server says when its time is up, or it is let go (blocked.c replyToBlockedClientOnTimeout).
    fn ended(&self, how: Unblock, resp: u8) -> &'static [u8] {
        match how {
            Unblock::Error => errors::UNBLOCKED,
            // No node says how many replicas have acknowledged: none, to be on the safe side.
            Unblock::Timeout => barrier::nobody(self.name()).unwrap_or(if resp >= 3 { b"_\r\n" } else { b"*-1\r\n" }),
        }
    }
}

fn name(verdict: &Verdict) -> &'static str {
    verdict.command.map_or("", |c| c.name)
}

impl Session {
    /// Relays until nothing binds the session any more, from node to node if it must.
    pub(super) async fn carry(&self, mut relay: Relay) -> (End, Option<Relay>) {
        loop {
            match relay.run(self).await {
                End::Lost => {}
                End::Moved => {
                    if let Some(end) = self.part_from(&mut relay).await {
                        return (end, Some(relay));
                    }
                }
                End::Unblock(how) => {
                    self.unblock(&relay, how).await;
                    continue;
                }
                End::Doubt => {
                    match self.refused_truly(&relay.settled, relay.lease.target.node).await {
                        true => relay.sure = true,
                        false => relay.settle_as_is(self, &mut self.state.borrow_mut()),
                    }
                    continue;
                }
                End::Redirect(id) => {
                    self.redirect(&mut relay, id).await;
                    continue;
                }
                end => return (end, Some(relay)),
            }
            let Some(carried) = relay.part(self) else {
                self.front.cells.count(Count::PinsBroken, 1);
                tracing::info!(session = self.id, "what it had open at the old master ends with it: closed");
                return (End::Over, None);
            };
            match self.renew(carried).await {
                Ok(renewed) => relay = renewed,
                Err(end) => return (end, None),
            }
        }
    }

    /// A relay that begins with a blocking command; while there is no master for it, its time passes and its client may leave.
    pub(super) async fn begin_waiting(&self, request: &[u8]) -> Result<Relay, End> {
        self.renew(Carried::first(request)).await
    }

    /// The node is no longer the master. As long as it lives it may answer what it has, and lets go what waits there.
    async fn part_from(&self, relay: &mut Relay) -> Option<End> {
        relay.parting = true;
        relay.judge(self.front.replaced(&relay.lease.target));
        if relay.pin.is_quiet() || !self.front.lives(&relay.lease.target) {
            return None;
        }
        let answered = async {
            if relay.waits() {
                self.unblock(relay, Unblock::Error).await;
            }
            relay.run(self).await
        };
        match tokio::time::timeout(PARTING, answered).await {
            Ok(End::Lost) | Err(_) => None,
            Ok(end) => Some(end),
        }
    }

    /// A connection to the new master in the state of the lost one.
    async fn renew(&self, mut carried: Carried) -> Result<Relay, End> {
        if carried.pin.tracks() {
            self.invalidate_all(carried.redirect).await;
        }
        loop {
            let anew = self.lease_anew(carried.lost.clone(), carried.repeated, carried.redirect);
            let obtained = if carried.lost.is_some() {
                tokio::select! {
                    biased;
                    disturbed = self.disturbed(&mut carried) => Err(disturbed),
                    lease = anew => Ok(lease),
                }
            } else {
                // Nearly always there is one at hand, and nothing else needs to be looked at.
                tokio::select! {
                    biased;
                    lease = anew => Ok(lease),
                    disturbed = self.disturbed(&mut carried) => Err(disturbed),
                }
            };
            let how = match obtained {
                Ok(Ok((lease, ear))) => return self.resume(carried, lease, ear),
                Ok(Err(text)) => return Err(self.give_up(carried, &text)),
                Err(Disturbed::Gone) => return Err(End::Close),
                Err(Disturbed::TimeUp) => Unblock::Timeout,
                Err(Disturbed::Unblock(how)) => how,
            };
            let ended = carried.again.remove(0);
            {
                let s = &mut *self.state.borrow_mut();
                let reply = ended.ended(how, s.resp);
                self.push_frame(s, Frame::Reply, reply, false);
                s.silence.end_next();
            }
            if !carried.pin.lasts() {
                return Err(self.replay(carried, End::Bare));
            }
        }
    }

    /// Whatever the client has cached may have changed while nobody told it (tracking.c trackingInvalidateKeysOnFlush).
    async fn invalidate_all(&self, redirect: Option<u64>) {
        let null = {
            let s = &mut *self.state.borrow_mut();
            let mut null = Vec::new();
            encode::null(&mut null, s.resp);
            if redirect.is_none() && s.resp >= 3 {
                self.invalidated(s, &null);
            }
            null
        };
        if let Some(to) = redirect {
            self.invalidate(to, vec![null]).await;
        }
    }

    async fn lease_anew(
        &self,
        lost: Option<Target>,
        repeated: bool,
        redirect: Option<u64>,
    ) -> Result<(Lease, Option<Ear>), Vec<u8>> {
        if repeated && self.front.target(Want::Master) == lost {
            tokio::time::sleep(PAUSE).await;
        }
        let (lane, db) = {
            let s = self.state.borrow();
            (s.lane, s.db)
        };
        let deadline = Instant::now() + self.front.listener.hold;
        loop {
            let mut lease = self.lease_in(lane, Want::Master, db).await?;
            if lost.is_some() {
                // A subscriber may call scripts by their names.
                self.brief_lease(&mut lease, Want::Master).await;
            }
            let Some(to) = redirect else { return Ok((lease, None)) };
            match self.open_ear(&lease.target, to).await {
                Ok(ear) => return Ok((lease, Some(ear))),
                Err(text) if Instant::now() >= deadline => return Err(text),
                // It may be dying as well.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Resolves when the session need not, or must not, wait for a connection any longer.
    async fn disturbed(&self, carried: &mut Carried) -> Disturbed {
        let waits = carried.again.first().is_some_and(|first| first.waits.is_some());
        let left = carried.again.first().and_then(Repeat::left);
        let mut over = left.map(|left| Box::pin(tokio::time::sleep(left)));
        std::future::poll_fn(|cx| {
            let s = &mut *self.state.borrow_mut();
            s.waker = Some(cx.waker().clone());
            s.blocked = waits;
            if s.dead || self.poll_out(s, cx).is_err() {
                return Poll::Ready(Disturbed::Gone);
            }
            if let Some(how) = s.unblock.take().filter(|_| waits) {
                return Poll::Ready(Disturbed::Unblock(how));
            }
            while !carried.eof && s.input.len() <= self.front.limits.large_bytes.max(FULL) {
                match self.poll_client(s, cx) {
                    Poll::Ready(Ok(n)) => carried.eof = n == 0,
                    Poll::Ready(Err(_)) => return Poll::Ready(Disturbed::Gone),
                    Poll::Pending => break,
                }
            }
            if carried.eof && (waits || carried.pin.lasts()) {
                return Poll::Ready(Disturbed::Gone);
            }
            match over.as_mut().map(|over| over.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Disturbed::TimeUp),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn resume(&self, carried: Carried, lease: Lease, ear: Option<Ear>) -> Result<Relay, End> {
        let mut relay = Relay::new(lease, Want::Master);
        let there = ear.as_ref().map(|ear| ear.id);
        relay.ear = ear;
        relay.eof = carried.eof;
        if carried.lost.is_some() {
            relay.stuck = Some(carried.stuck);
            let waiting = carried.again.iter().filter(|again| again.waits.is_some()).count() as u64;
            self.front.cells.count(Count::PinsMoved, 1);
            self.front.cells.count(Count::Reissued, waiting);
            self.front.cells.count(Count::RetriedReads, carried.again.len() as u64 - waiting);
            tracing::debug!(session = self.id, requests = carried.again.len(), "goes on at another connection");
        }
        {
            let s = &mut *self.state.borrow_mut();
            replay(s, &carried.again);
        }
        relay.pin = carried.pin;
        for request in relay.pin.restore() {
            // What the lost node was told of another connection of its own.
            let request = there.map(|there| tracked::redirecting(&request, there)).unwrap_or(request);
            relay.send(request, Again::Ours, usize::MAX);
        }
        Ok(relay)
    }

    /// There is no master to go on at.
    fn give_up(&self, carried: Carried, text: &[u8]) -> End {
        self.front.cells.count(Count::PinsBroken, u64::from(carried.lost.is_some()));
        if carried.pin.lasts() {
            tracing::info!(session = self.id, "there is no connection for what it has subscribed to: closed");
            return End::Over;
        }
        let end = self.replay(carried, End::Bare);
        self.refuse_front(text);
        end
    }

    /// What is to be sent again goes back to the front of the input.
    fn replay(&self, carried: Carried, end: End) -> End {
        let s = &mut *self.state.borrow_mut();
        s.closing |= carried.eof;
        replay(s, &carried.again);
        end
    }
}

fn replay(s: &mut State, again: &[Repeat]) {
    let bytes: Vec<u8> = again.iter().flat_map(Repeat::now).collect();
    s.input.splice(0..0, bytes);
    s.scanner.reset();
}

impl Relay {
    /// Leaves the connection with what can go on elsewhere. `None`: the session cannot, for something of it is bound to this
    /// node, or may have been executed there without an answer.
    fn part(mut self, session: &Session) -> Option<Carried> {
        self.conclude(session, &mut session.state.borrow_mut());
        self.reclaim_unwritten();
        let hold = session.front.listener.hold;
        let stuck = self.stuck.filter(|_| self.begun.elapsed() < hold);
        let overdue = stuck.is_some_and(|since| since.elapsed() >= hold);
        let torn = self.piece.is_some() || self.streaming || self.is_being_answered();
        let elsewhere = |sent: &Sent| !matches!(sent.again, Again::Never | Again::Refused);
        if self.want != Want::Master || torn || overdue || !self.pin.can_move() || !self.sent.iter().all(elsewhere) {
            if self.sent.iter().any(|sent| sent.again == Again::Refused) {
                session.front.cells.count(Count::UnknownOutcome, 1);
            }
            return None;
        }
        let redirect = self.ear.as_ref().filter(|_| self.pin.redirects()).map(Ear::to);
        let mut again = self.again;
        let mut open = self.pin.open();
        for sent in self.sent {
            match sent.again {
                Again::Ours => {}
                Again::Waiting => again.push(Repeat::waiting(&sent)),
                // Only the oldest can be confirmed in part.
                Again::Subscription => {
                    let bytes = open.map_or_else(|| sent.bytes.clone(), |open| again::rest(&sent.bytes, open));
                    again.push(Repeat { bytes, waits: None });
                }
                _ => again.push(Repeat { bytes: sent.bytes, waits: None }),
            }
            open = None;
        }
        Some(Carried {
            pin: self.pin,
            eof: self.eof,
            again,
            repeated: stuck.is_some(),
            stuck: stuck.unwrap_or_else(Instant::now),
            lost: Some(self.lease.target.clone()),
            redirect,
        })
    }

    /// The first bytes of the answer to what waits are here: it was served, and must not be again.
    fn is_being_answered(&self) -> bool {
        self.waits() && self.buffer.filled().first().is_some_and(|kind| *kind != b'>')
    }

    /// Requests of which not a byte has left.
    fn reclaim_unwritten(&mut self) {
        let mut unwritten = self.out.len();
        for sent in self.sent.iter_mut().rev() {
            if sent.bytes.is_empty() || sent.bytes.len() > unwritten || sent.again == Again::Never {
                return;
            }
            unwritten -= sent.bytes.len();
            if sent.again == Again::Refused {
                sent.again = Again::Always;
            }
        }
    }
}
