//! A session on a connection of its own: bytes both ways, until it is free again.
//!
//! Also the way of a request too large to be held: it streams through. Must not buffer a large value. Invariant: what a
//! slow side cannot take stops the other side's reading, and nobody else's; only subscribers are read for on, and cut off.

mod ear;
mod executed;
mod from_client;
mod from_node;
mod queued;
mod renew;
mod unblock;
mod withheld;

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::card::Bound;
use super::outbox::Outbox;
use super::pin::again::Again;
use super::pin::{Pin, timeout};
use super::pubsub::Frame;
use super::settle::Settled;
use super::state::{State, Tie, Unblock};
use super::{Session, kind};
use crate::command;
use crate::config::Consistency;
use crate::metrics::Count;
use crate::resp::{Args, ReplyScanner, Scan};
use crate::route::Want;
use crate::upstream::{Buffer, Lease};
use withheld::Withheld;

/// Bytes queued for one side above which the other is not read.
const FULL: usize = 256 * 1024;

/// How a relay ended, or what interrupts it.
enum End {
    /// Nothing binds the session to the connection any more.
    Free,
    /// Nor is there a connection any more.
    Bare,
    Close,
    /// Closes when the client has what is queued for it.
    Over,
    /// The client sent RESET and it was answered.
    Reset,
    /// The connection answers nothing more.
    Lost,
    /// Its node is not what it was lent for, or is going down.
    Moved,
    /// Somebody wants the blocking command to end.
    Unblock(Unblock),
    /// A script was refused, or says so itself.
    Doubt,
    /// The client wants its invalidations sent to this one.
    Redirect(u64),
}

/// A request on its way to the node, or there, and not answered.
struct Sent {
    at: Instant,
    again: Again,
    /// Empty when it is not to be sent again.
    bytes: Vec<u8>,
}

/// A request to send again.
struct Repeat {
    bytes: Vec<u8>,
    /// Since when it has been waiting, if waiting is what it is for.
    waits: Option<Instant>,
}

struct Relay {
    lease: Lease,
    /// What the connection was lent for.
    want: Want,
    pin: Pin,
    /// Bytes for the node.
    out: Outbox,
    buffer: Buffer,
    scanner: ReplyScanner,
    withheld: Withheld,
    /// The frame being passed on in pieces.
    piece: Option<Frame>,
    /// A large request is streaming from the client.
    streaming: bool,
    /// The node has answered something without an error.
    accepted: bool,
    eof: bool,
    lost: bool,
    /// Nothing more goes to this node; what it still answers is good.
    parting: bool,
    /// What the server still owes, oldest first, as the pin counts it.
    sent: VecDeque<Sent>,
    /// The bytes in `sent`.
    kept: usize,
    /// Replies held back from the first refused request on, until everything sent is answered.
    settled: Vec<Settled>,
    /// That the node refuses is beyond doubt.
    sure: bool,
    /// What came back unexecuted.
    again: Vec<Repeat>,
    queued: queued::Queued,
    /// A login or subscription in the open transaction was not kept: what EXEC did is not known.
    blind: bool,
    /// EXEC's answer waits for other nodes: what comes behind it is not looked at.
    concluding: bool,
    /// What WAIT needs before it was refused.
    unfenced: bool,
    /// Where the node sends the invalidations that are for another client.
    ear: Option<ear::Ear>,
    redirect: Option<ear::Redirect>,
    /// Since when no node has answered anything.
    stuck: Option<Instant>,
    begun: Instant,
}

impl Session {
    /// `request` needs a connection of its own.
    pub(super) async fn pin(self: &Rc<Self>, request: &[u8]) -> bool {
        if timeout::waits(&command::classify(Args::new(request))) {
            return match self.begin_waiting(request).await {
                Ok(relay) => self.relay(relay, Count::Pins).await,
                Err(end) => self.after_relay(end, None).await,
            };
        }
        self.state.borrow_mut().input.splice(0..0, request.iter().copied());
        self.lease_and_relay(Want::Master, Count::Pins).await
    }

    /// The request at the front of the input is too large to be held.
    pub(super) async fn large(self: &Rc<Self>) -> bool {
        let refusal = self.large_refusal(&self.state.borrow().input);
        if let Some(text) = refusal {
            self.reply(&text);
            return self.close_after_replies();
        }
        let read = {
            let s = self.state.borrow();
            let verdict = command::classify(Args::new(&s.input));
            // What a replica must have shown is asked of shared connections only.
            let anywhere = s.level == Consistency::Eventual && !s.behind_write && !s.stale;
            anywhere && kind::of(&verdict, || None) == kind::Kind::Read
        };
        self.lease_and_relay(if read { Want::Read } else { Want::Master }, Count::LargeStreams).await
    }

    async fn lease_and_relay(self: &Rc<Self>, want: Want, what: Count) -> bool {
        let (lane, db) = {
            let s = self.state.borrow();
            (s.lane, s.db)
        };
        match self.lease_in(lane, want, db).await {
            Ok(mut lease) => {
                self.brief_lease(&mut lease, want).await;
                self.relay(Relay::new(lease, want), what).await
            }
            Err(text) => self.refuse_front(&text),
        }
    }

    async fn relay(&self, mut relay: Relay, what: Count) -> bool {
        let cells = &self.front.cells;
        cells.count(what, 1);
        cells.pinned.add(1);
        relay.pin.may_monitor = self.front.listener.monitor;
        {
            let s = &mut *self.state.borrow_mut();
            s.bound.pinned = true;
            if relay.want == Want::Master {
                s.behind_write = true;
                s.seen.escaped();
                let term = self.front.term();
                s.own.begin_apart(term, self.front.pool.ledger().furthest.of(term).unwrap_or(0));
            }
        }
        let (end, relay) = self.carry(relay).await;
        cells.pinned.sub(1);
        self.after_relay(end, relay).await
    }

    async fn after_relay(&self, end: End, relay: Option<Relay>) -> bool {
        {
            let s = &mut *self.state.borrow_mut();
            s.scanner.reset();
            s.rescan = true;
            s.bound = Bound::default();
            s.closing |= relay.as_ref().is_some_and(|relay| relay.eof);
            (s.blocked, s.unblock, s.tie) = (false, None, Tie::Not);
            if s.holds_replies() {
                // What they wait for has nothing to do with the shared connection it had before.
                s.conn = None;
            }
        }
        match (end, relay) {
            (End::Over, _) => self.close_after_replies(),
            (End::Reset, _) => self.reset_after_pin(),
            (End::Free, Some(relay)) => self.free(relay).await,
            (End::Bare, _) => true,
            _ => false,
        }
    }

    /// False: the session must end.
    async fn free(&self, mut relay: Relay) -> bool {
        if relay.pin.db_unknown {
            match self.current_db(&mut relay.lease, relay.want).await {
                Some(db) => self.state.borrow_mut().db = db,
                // Not even the session's own database can be told any more.
                None => return false,
            }
        }
        if !relay.pin.tainted && !relay.lost {
            let (lane, db) = {
                let s = self.state.borrow();
                (s.lane, s.db)
            };
            relay.lease.set_db(db);
            self.front.pool.give_back(lane, relay.lease);
        }
        true
    }

    /// There is no connection for the request at the front of the input. One that is whole is answered and the session
    /// goes on; of a larger one the rest cannot be told from the next request, so the session ends. So it does when a
    /// transaction cannot begin: what it was to hold would be executed one by one.
    fn refuse_front(&self, text: &[u8]) -> bool {
        self.reply(text);
        let s = &mut *self.state.borrow_mut();
        s.scanner.reset();
        let begins = self.ruled(&s.input).is_ok_and(|ruled| begins_transaction(&ruled.real));
        match s.scanner.scan(&s.input) {
            Scan::Request { len } if !begins => drop(s.input.drain(..len)),
            _ => {
                s.input.clear();
                s.closing = true;
            }
        }
        s.rescan = !s.closing;
        true
    }
}

impl Relay {
    fn new(lease: Lease, want: Want) -> Self {
        Self {
            lease,
            want,
            pin: Pin::default(),
            out: Outbox::default(),
            buffer: Buffer::new(16 * 1024),
            scanner: ReplyScanner::default(),
            withheld: Withheld::default(),
            piece: None,
            streaming: false,
            accepted: false,
            eof: false,
            lost: false,
            parting: false,
            sent: VecDeque::new(),
            kept: 0,
            settled: Vec::new(),
            sure: false,
            again: Vec::new(),
            queued: queued::Queued::default(),
            blind: false,
            concluding: false,
            unfenced: false,
            ear: None,
            redirect: None,
            stuck: None,
            begun: Instant::now(),
        }
    }

    /// Until it ends or is interrupted.
    async fn run(&mut self, session: &Session) -> End {
        std::future::poll_fn(|cx| self.poll(session, &mut session.state.borrow_mut(), cx)).await
    }

    /// A blocking command is at the node, and is what is answered next.
    fn waits(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.again == Again::Waiting)
    }

    /// Likewise, or it will be when what redweir itself has asked is answered.
    fn will_wait(&self) -> bool {
        let theirs = self.sent.iter().find(|sent| sent.again != Again::Ours);
        theirs.is_some_and(|sent| sent.again == Again::Waiting)
    }

    fn poll(&mut self, session: &Session, s: &mut State, cx: &mut Context<'_>) -> Poll<End> {
        s.waker = Some(cx.waker().clone());
        loop {
            if s.dead || session.poll_out(s, cx).is_err() {
                return Poll::Ready(End::Close);
            }
            session.front.wait_for_change(session.id, cx.waker(), &mut s.round);
            if let Some(end) = self.interrupted(session, s) {
                return Poll::Ready(end);
            }
            if let Some(end) = self.take_requests(session, s) {
                return Poll::Ready(end);
            }
            if let Poll::Ready(Err(_)) = self.out.poll_write(&mut self.lease.stream, cx) {
                self.lost = true;
            }
            let mut moved = false;
            if s.waiting_out() < FULL || self.pin.lasts() {
                match self.poll_node(session, s, cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => moved = true,
                    Poll::Pending => {}
                }
            }
            if self.is_in_doubt() {
                return Poll::Ready(End::Doubt);
            }
            if self.pin.is_quiet() && self.conclude(session, s) {
                return Poll::Ready(End::Lost);
            }
            if self.pin.is_free()
                && !s.asking
                && self.out.is_empty()
                && !self.streaming
                && s.waiting_out() == 0
                && self.settled(s)
            {
                return Poll::Ready(End::Free);
            }
            if self.parting && self.pin.is_quiet() {
                return Poll::Ready(End::Lost);
            }
            let room = self.streaming || s.input.len() <= session.front.limits.large_bytes.max(FULL).max(s.needs);
            if !self.eof && self.out.len() < FULL && room {
                match session.poll_client(s, cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Close),
                    Poll::Ready(Ok(n)) => (moved, self.eof) = (true, n == 0),
                    Poll::Pending => {}
                }
            }
            // A server that stops waits for nobody who has all replies, transaction or subscription or not.
            let idle = self.is_idle(s);
            if s.closing && idle && s.input.is_empty() {
                return Poll::Ready(End::Close);
            }
            if self.eof && !s.holds_replies() && (self.may_last(s) || self.streaming) {
                return Poll::Ready(End::Close);
            }
            (s.bound, s.blocked) = (self.bound(), self.will_wait() || s.waits_aside);
            s.tie = self.tie();
            if moved {
                s.active = session.front.clock.now();
            }
            if !moved {
                // A transaction or a WATCH that its client left open: everything sent is answered, nothing more will come.
                return if self.eof && idle { Poll::Ready(End::Close) } else { Poll::Pending };
            }
        }
    }

    /// Everything sent is answered, and its client has the answers.
    fn is_idle(&self, s: &State) -> bool {
        let owed = s.asking || self.concluding || s.waiting_out() > 0;
        self.pin.is_quiet() && self.out.is_empty() && !owed
    }

    /// It may go on for ever without a word of its client.
    fn may_last(&self, s: &State) -> bool {
        self.pin.blocks || s.waits_aside || self.pin.lasts()
    }

    /// What CLIENT LIST shows of it.
    fn bound(&self) -> Bound {
        let ear = self.ear.as_ref().filter(|_| self.pin.redirects());
        let broken = ear.is_some_and(ear::Ear::is_broken);
        Bound { redirect: ear.map_or(0, ear::Ear::to), broken, ..self.pin.bound() }
    }

    /// What a switchover should wait for.
    fn tie(&self) -> Tie {
        match self.want {
            Want::Read => Tie::Not,
            Want::Master if self.streaming || !(self.pin.is_quiet() || self.will_wait()) => Tie::Busy,
            Want::Master if self.pin.binds() => Tie::Open,
            Want::Master => Tie::Not,
        }
    }

    /// What keeps it from going on at this node.
    fn interrupted(&self, session: &Session, s: &mut State) -> Option<End> {
        s.blocked = self.will_wait() || s.waits_aside;
        if self.parting {
            return None;
        }
        if self.ear.as_ref().is_some_and(ear::Ear::is_lost) {
            return Some(End::Lost);
        }
        if !s.blocked {
            s.unblock = None;
        } else if self.waits()
            && let Some(how) = s.unblock.take()
        {
            return Some(End::Unblock(how));
        }
        (!session.front.still_serves(&self.lease.target, self.want)).then_some(End::Moved)
    }

    /// No request that belongs on this connection waits in the input (one that is free may go back with some left).
    fn settled(&self, s: &State) -> bool {
        s.input.is_empty() || self.pin.is_quiet()
    }
}

fn begins_transaction(request: &[u8]) -> bool {
    let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
    matches!(name, "multi" | "watch")
}
