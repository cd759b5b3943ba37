//! The roll call: what one session may ask of all the others of its set, whatever thread they live on.
//!
//! A session's state never leaves its thread: each front (a worker's share of a listener) has a desk that looks at its own
//! sessions when asked, and nothing is kept for it in between. Must not be used per request. Invariant: an ask is answered
//! in bounded time, by the fronts that answer.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Session;
use super::card::Card;
use super::filter::Filter;
use super::form::Form;
use super::front::Front;
use super::state::{State, Unblock};

/// Asks that may wait at one desk.
const WAITING: usize = 16;
/// A desk that has not answered by then is left out.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sessions looked at before others of the worker have their turn.
const AT_ONCE: usize = 128;

/// What is asked.
pub enum What {
    List(Filter, Arc<Form>),
    /// The asking session itself is left out.
    Kill(Filter, u64),
    Unblock(u64, Unblock),
    /// Whether a client is there.
    Find(u64),
    /// What a client that redirects to this one may have cached, as the node named it.
    Invalidated(u64, Vec<Vec<u8>>),
}

/// A session that was meant, with its line if that was asked for.
pub type Found = (u64, String);

struct Ask {
    what: Arc<What>,
    answer: mpsc::Sender<Vec<Found>>,
}

/// The desks of one set: its listeners' sessions are one Redis' clients.
#[derive(Default)]
pub struct Roll {
    desks: Mutex<Vec<mpsc::Sender<Ask>>>,
}

impl Roll {
    fn open_desk(&self) -> mpsc::Receiver<Ask> {
        let (desk, asks) = mpsc::channel(WAITING);
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
        asks
    }

    /// What all desks found, lowest id first.
    pub async fn call(&self, what: What) -> Vec<Found> {
        let desks: Vec<_> = {
            let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
            desks.retain(|desk| !desk.is_closed());
            desks.clone()
        };
        let what = Arc::new(what);
        let (answer, mut answers) = mpsc::channel(desks.len().max(1));
        let mut found = Vec::new();
        let everyone = async {
            for desk in desks {
                let _ = desk.send(Ask { what: Arc::clone(&what), answer: answer.clone() }).await;
            }
            drop(answer);
            while let Some(some) = answers.recv().await {
                found.extend(some);
            }
        };
        if tokio::time::timeout(PATIENCE, everyone).await.is_err() {
            tracing::warn!("a worker did not say in time which clients it has");
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        found
    }
}

impl Front {
    /// Answers for this front's sessions, until its worker ends.
    pub async fn attend(self: Rc<Self>) {
        let mut asks = self.shared.common.roll.open_desk();
        while let Some(ask) = asks.recv().await {
            let found = self.look(&ask.what).await;
            // Room for every desk's answer was made; whoever asked may be gone.
            let _ = ask.answer.try_send(found);
        }
    }

    async fn look(&self, what: &What) -> Vec<Found> {
        let meant = match what {
            What::List(Filter { ids: Some(ids), .. }, _) | What::Kill(Filter { ids: Some(ids), .. }, _) => {
                ids.iter().filter_map(|id| self.session(*id)).collect()
            }
            What::List(..) | What::Kill(..) => self.sessions(),
            What::Unblock(id, _) | What::Find(id) | What::Invalidated(id, _) => self.session(*id).into_iter().collect(),
        };
        let mut found = Vec::new();
        for some in meant.chunks(AT_ONCE) {
            found.extend(some.iter().filter_map(|session| act(session, what)));
            tokio::task::yield_now().await;
        }
        found.dedup_by_key(|(id, _)| *id);
        found
    }
}

/// Does to one session what was asked; `None`: it was not meant.
fn act(session: &Rc<Session>, what: &What) -> Option<Found> {
    let s = &mut *session.state.borrow_mut();
    if s.dead {
        return None;
    }
    let line = match what {
        What::List(filter, form) => {
            let card = session.card(s);
            filter.matches(&card).then(|| card.line(form))?
        }
        What::Kill(filter, caller) => {
            if session.id == *caller || !filter.matches(&session.card(s)) {
                return None;
            }
            s.die();
            String::new()
        }
        What::Unblock(_, how) => {
            if !s.blocked || s.unblock.is_some() {
                return None;
            }
            s.unblock = Some(*how);
            s.wake();
            String::new()
        }
        What::Find(_) => String::new(),
        What::Invalidated(_, all) => {
            all.iter().for_each(|keys| session.invalidated(s, keys));
            String::new()
        }
    };
    Some((session.id, line))
}

impl Session {
    /// The session as CLIENT LIST shows it.
    pub(super) fn card(&self, s: &State) -> Card {
        use std::os::fd::AsRawFd;
        let front = &self.front;
        // networking.c genClientAddrString: a peer that has gone is nobody.
        let text = |address: std::io::Result<std::net::SocketAddr>| address.map_or("?:0".into(), |a| a.to_string());
        let lane = front.pool.describe(s.lane);
        let no_touch = lane.as_ref().is_some_and(|lane| lane.no_touch);
        let user = lane.and_then(|lane| lane.login).and_then(|login| login.username);
        let now = front.clock.now();
        let seconds = |since| front.clock.ns(since, now) / 1_000_000_000;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let library = s.library.as_deref().map(|[name, version]| (lossy(name), lossy(version)));
        Card {
            id: self.id,
            addr: text(s.stream.peer_addr()),
            laddr: text(s.stream.local_addr()),
            fd: s.stream.as_raw_fd(),
            name: lossy(&s.name),
            age: seconds(s.born),
            idle: seconds(s.active),
            db: s.db,
            bound: s.bound,
            blocked: s.blocked,
            closing: s.closing,
            no_evict: s.no_evict,
            no_touch,
            input: s.input.len(),
            output: s.out.len(),
            command: if s.bound.pinned || s.acted == s.active { s.command } else { "" },
            user: user.unwrap_or_else(|| "default".into()),
            resp: s.resp,
            library: library.unwrap_or_default(),
        }
    }
}
