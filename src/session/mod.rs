//! One client connection: its state, what its requests need, and its replies in order.
//!
//! The steady state (`Session::poll_turn`) takes runs of requests from the socket's bytes to a node's connection without
//! copying twice; everything that needs more than that is a [`Turn`], handled one at a time with nothing in flight. Must
//! not decide who is master. Invariant: replies leave in request order, and a request is answered once.

mod acks;
mod barrier;
mod card;
mod client;
mod commands;
mod cursor;
mod deliver;
mod dispatch;
mod doubt;
mod errors;
mod everywhere;
mod explain;
mod filter;
mod floor;
mod form;
mod front;
mod info;
mod input;
mod kind;
mod level;
mod login;
mod memo;
mod outbox;
mod own;
mod pin;
mod pubsub;
mod redweir;
mod relay;
mod rights;
mod roll;
mod ruled;
mod scripts;
mod settle;
mod state;
mod touch;
mod unit;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;

use tokio::net::TcpStream;

use crate::command::Class;
use crate::metrics::Count;
use crate::resp::{Args, Violation};
use crate::topology::Hold;
use crate::upstream::LaneId;

pub use front::{Common, Front, Place, Shared};
use state::{State, Tie};

/// What ends the steady state for a while.
pub enum Turn {
    /// A request that may not share a connection, or that redweir answers itself.
    Command(Box<[u8]>),
    /// A request typed as a line, now an array.
    Inline(Vec<u8>),
    /// The request at the front of the input is too large to be held.
    Large,
    /// Whether a script was refused, or says so itself.
    Doubt,
    Invalid(Violation),
    Close,
}

pub struct Session {
    pub id: u64,
    me: Weak<Session>,
    front: Rc<Front>,
    state: RefCell<State>,
    /// A script that a node lacked; its EVALSHA is next.
    missing: RefCell<Option<scripts::Missing>>,
    /// Scans begun again under this term.
    restarts: Cell<(u64, u32)>,
}

/// A session's place among all sessions; given up even if the session panics.
struct Seat(Rc<Session>);

impl Seat {
    fn take(session: &Rc<Session>) -> Self {
        session.front.enter(session);
        Self(Rc::clone(session))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let round = self.0.state.try_borrow().map_or(0, |s| s.round);
        self.0.front.leave(self.0.id, round);
        self.0.front.cells.count(Count::ConnectionsClosed, 1);
    }
}

/// Says no to a connection that is one too many.
pub fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(errors::MAX_CLIENTS);
}

impl Session {
    /// Serves one client until it leaves or must be let go.
    pub async fn serve(front: Rc<Front>, stream: TcpStream, lane: LaneId) {
        let mut state = State::new(stream, lane, front.limits.max_bulk_bytes, front.level_of(lane));
        state.born = front.clock.now();
        state.active = state.born;
        let id = front.shared.next_id();
        let session = Rc::new_cyclic(|me| Self {
            id,
            me: me.clone(),
            front,
            state: RefCell::new(state),
            missing: RefCell::default(),
            restarts: Cell::default(),
        });
        let _seat = Seat::take(&session);
        session.is_known(&mut session.state.borrow_mut());
        loop {
            let turn = std::future::poll_fn(|cx| session.poll_turn(cx)).await;
            if matches!(turn, Turn::Close) || !session.while_alive(Box::pin(session.take_turn(turn))).await {
                break;
            }
        }
        session.end();
    }

    /// A turn, to its end or the session's (CLIENT KILL). A relay ends by itself.
    async fn while_alive(&self, mut turn: Pin<Box<impl Future<Output = bool>>>) -> bool {
        std::future::poll_fn(|cx| match turn.as_mut().poll(cx) {
            Poll::Pending => {
                let s = self.state.borrow();
                if s.dead && !s.bound.pinned { Poll::Ready(false) } else { Poll::Pending }
            }
            ended => ended,
        })
        .await
    }

    /// Whether it has something at the master that a switchover must wait for.
    fn clings(&self, why: Hold) -> bool {
        let s = self.state.borrow();
        let shared = s.in_flight > 0 && s.side == state::Side::Master;
        !s.dead && (shared || s.holds_replies() || s.tie == Tie::Busy || (s.tie == Tie::Open && why == Hold::Draining))
    }

    /// Closes politely once everything received so far is answered (the proxy is being stopped).
    pub fn drain(&self) {
        let mut s = self.state.borrow_mut();
        s.closing = true;
        s.wake();
    }

    fn end(&self) {
        let mut s = self.state.borrow_mut();
        s.dead = true;
        s.timer = None;
        self.unhold(&mut s, false);
        self.drop_held(&mut s);
        if s.in_flight > 0 || s.asking || s.awaits_room.is_some() {
            // Connections still hold this session for the replies to come, or in a queue; its client need not wait for that.
            let _ = socket2::SockRef::from(&s.stream).shutdown(std::net::Shutdown::Both);
        }
        if let Some(conn) = s.conn.take().filter(|_| s.backlogged) {
            conn.resume();
        }
    }

    /// Resolves when every request before this point is answered. False: the session must close.
    async fn drained(&self) -> bool {
        std::future::poll_fn(|cx| {
            let s = &mut *self.state.borrow_mut();
            s.waker = Some(cx.waker().clone());
            if s.dead || self.poll_out(s, cx).is_err() {
                return Poll::Ready(false);
            }
            if s.in_flight == 0 {
                // What must be sent again goes first: back to the steady state for it.
                return Poll::Ready(true);
            }
            s.rescan = true;
            Poll::Pending
        })
        .await
    }

    /// The class the master's own COMMAND gives a name beyond the table.
    fn runtime_class(&self, request: &[u8]) -> Option<Class> {
        let name = Args::new(request).next()?;
        self.front.topology().names.lookup(name)
    }
}
