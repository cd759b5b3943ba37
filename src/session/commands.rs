//! Requests that get the session's full attention: one at a time, with everything before them answered.
//!
//! Says which file acts on which command. Must not be reached by anything that may share a connection.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::pubsub::Frame;
use super::state::Silence;
use super::{Session, Turn, errors, unit};
use crate::command::{self, Class, Command};
use crate::metrics::Count;
use crate::resp::{Args, Violation, encode};
use crate::route::Want;
use crate::upstream::{LaneId, Lease, Refused, Target};

/// Between two tries to get a connection of one's own.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// What to do while all the connections of their own that there may be are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Refuse,
    /// It is for one request only, and so are many of the others: one will be free in a moment.
    Wait,
}

impl Session {
    /// Acts on one turn. False: the session ends.
    pub(super) async fn take_turn(self: &Rc<Self>, turn: Turn) -> bool {
        let request = match &turn {
            Turn::Close => return false,
            Turn::Doubt => return self.resolve_doubt().await,
            Turn::Inline(request) => {
                // From here it is a request like any other, at the front of the input.
                self.put_back(request);
                return true;
            }
            Turn::Command(request) => &**request,
            Turn::Large | Turn::Invalid(_) => &[],
        };
        if !self.drained().await {
            return false;
        }
        if self.state.borrow().must_send_again() {
            // What must be sent again comes before the turn at hand.
            self.put_back(request);
            return true;
        }
        match turn {
            Turn::Invalid(violation) => self.protocol_error(violation),
            Turn::Large => self.large().await,
            _ if request == unit::UNANSWERED => self.tell_unknown(),
            _ if !self.front.rules.concern(request) && self.must_heal(request) => self.heal(request).await,
            _ => self.command(request).await,
        }
    }

    pub(super) fn put_back(&self, request: &[u8]) {
        self.state.borrow_mut().input.splice(0..0, request.iter().copied());
    }

    fn protocol_error(&self, violation: Violation) -> bool {
        self.front.cells.count(Count::ProtocolErrors, 1);
        self.reply(&errors::protocol(violation));
        self.close_after_replies()
    }

    /// What else the client sent is not looked at any more.
    pub(super) fn close_after_replies(&self) -> bool {
        let s = &mut *self.state.borrow_mut();
        s.input.clear();
        s.rescan = false;
        s.closing = true;
        true
    }

    async fn command(self: &Rc<Self>, request: &[u8]) -> bool {
        let skipped = self.state.borrow().silence == Silence::Next;
        let goes_on = self.act_by_rules(request).await;
        // A SKIP behind a SKIP is for the next one again.
        let again = command::classify(Args::new(request)).command.is_some_and(|c| c.name == "client|reply");
        if skipped && !again {
            self.state.borrow_mut().silence.end_next();
        }
        goes_on
    }

    /// `said` is how the client named what `request` is.
    pub(super) async fn act(self: &Rc<Self>, request: &[u8], said: &[u8]) -> bool {
        let verdict = command::classify(Args::new(request));
        let name = verdict.command.map_or("", |c| c.name);
        self.state.borrow_mut().acts_on(name);
        match (verdict.class, name) {
            (_, "monitor") if self.front.listener.monitor => self.pin(said).await,
            (Class::Forbidden, _) | (_, "monitor" | "script|debug") => {
                self.front.cells.count(Count::RefusedForbidden, 1);
                self.local(&errors::forbidden(name))
            }
            (Class::AllNodes, _) => self.answer_alone(self.everywhere(name, request).await),
            (Class::Cursor, _) => self.scan(request).await,
            (_, "quit") => {
                self.local(errors::OK);
                self.close_after_replies()
            }
            // server.c securityWarningCommand: a browser was made to talk to us.
            (Class::Unknown, _) if is_http(request) => false,
            (_, "reset") if Args::new(request).remaining() > 1 => self.local(&errors::arity("reset")),
            (_, "reset") => self.reset(),
            (_, "select") => self.select(request).await,
            (_, "auth") => self.auth(request).await,
            (_, "hello") => self.hello(request).await,
            (_, "client|tracking" | "client|trackinginfo" | "client|caching" | "client|getredir") => {
                self.pin(request).await
            }
            _ if super::client::is_ours(name) => self.client(name, request).await,
            (_, "info") => self.info(request).await,
            (Class::Unknown, _) if self.is_ours(request) => self.redweir(request).await,
            _ => self.pin(said).await,
        }
    }

    /// Puts redweir's own answer on its way.
    pub(super) fn local(&self, reply: &[u8]) -> bool {
        self.front.cells.count(Count::LocalReplies, 1);
        self.reply(reply);
        true
    }

    fn tell_unknown(&self) -> bool {
        let s = &mut *self.state.borrow_mut();
        (s.stuck_since, s.tries) = (None, 0);
        self.push(s, errors::UNKNOWN_OUTCOME);
        s.silence.end_next();
        true
    }

    /// Reply bytes with nothing in flight before them.
    pub(super) fn reply(&self, bytes: &[u8]) {
        self.push_frame(&mut self.state.borrow_mut(), Frame::Reply, bytes, false);
    }

    /// RESET went through on the pinned connection, which is gone with it.
    pub(super) fn reset_after_pin(&self) -> bool {
        self.forget_login();
        true
    }

    /// RESET: as a new connection (networking.c clearClientConnectionState).
    fn reset(&self) -> bool {
        self.forget_login();
        self.local(errors::RESET)
    }

    fn forget_login(&self) {
        let lane = self.front.pool.lane(self.front.first_lane(2));
        let s = &mut *self.state.borrow_mut();
        s.enter_lane(lane);
        s.chosen = false;
        self.take_level_of_user(s);
        self.is_known(s);
        (s.resp, s.db) = (2, 0);
        (s.silence, s.wrote) = (Silence::Not, false);
        s.name.clear();
        s.no_evict = false;
    }

    /// SELECT is the server's to judge: it knows how many databases there are and what the user may do.
    async fn select(&self, request: &[u8]) -> bool {
        let (lane, db) = {
            let s = self.state.borrow();
            (s.lane, Args::new(request).nth(1).and_then(number))
        };
        let reply = match self.ask(self.authority(), request).await {
            Ok((reply, mut lease)) => {
                if let (b"+OK\r\n", Some(db)) = (&*reply, db) {
                    lease.set_db(db);
                    self.front.pool.give_back(lane, lease);
                    self.state.borrow_mut().db = db;
                }
                reply
            }
            Err(text) => text,
        };
        self.local(&reply)
    }

    /// One request that may be repeated, on a connection of its own, to the master or whichever node the policy picks for a
    /// read. Should that node be lost meanwhile, another one is asked.
    ///
    /// # Errors
    /// The error reply to give the client when no node answers within the hold time.
    pub(super) async fn ask(&self, want: Want, request: &[u8]) -> Result<(Vec<u8>, Lease), Vec<u8>> {
        let lane = self.state.borrow().lane;
        let deadline = Instant::now() + self.front.listener.hold;
        loop {
            let mut lease = self.lease_until(lane, want, deadline, Bound::Wait).await?;
            match self.exchange(&mut lease, want, request).await {
                Ok(reply) => return Ok((reply, lease)),
                Err(e) if Instant::now() >= deadline => return Err(errors::no_connection(&e)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// One request, one reply; given up when the node is lost, which a stopped process does not say by itself.
    ///
    /// # Errors
    /// Those of the socket; `ConnectionAborted` when the topology says that the node is no longer what it was asked as.
    pub(super) async fn exchange(&self, lease: &mut Lease, want: Want, request: &[u8]) -> io::Result<Vec<u8>> {
        let target = lease.target.clone();
        tokio::select! {
            reply = lease.exchange(request) => reply,
            () = self.lost(&target, want) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    pub(super) async fn lost(&self, target: &Target, want: Want) {
        loop {
            // Before the look, so that no change falls between.
            let heeded = self.front.heeded.notified();
            if !self.front.still_serves(target, want) {
                return;
            }
            heeded.await;
        }
    }

    /// The database a connection is in after a transaction that may have changed it.
    pub(super) async fn current_db(&self, lease: &mut Lease, want: Want) -> Option<u32> {
        let mut request = Vec::new();
        encode::request(&mut request, [&b"CLIENT"[..], b"INFO"].into_iter());
        let reply = self.exchange(lease, want, &request).await.ok()?;
        let text = String::from_utf8_lossy(&reply).into_owned();
        text.split_whitespace().find_map(|field| field.strip_prefix("db="))?.parse().ok()
    }

    /// A connection of its own that is in database `db`.
    ///
    /// # Errors
    /// The error reply to give the client.
    pub(super) async fn lease_in(&self, lane: LaneId, want: Want, db: u32) -> Result<Lease, Vec<u8>> {
        let deadline = Instant::now() + self.front.listener.hold;
        loop {
            let mut lease = self.lease_until(lane, want, deadline, Bound::Refuse).await?;
            let target = lease.target.clone();
            let selected = tokio::select! {
                selected = lease.select(db) => selected,
                () = self.lost(&target, want) => Err(io::ErrorKind::ConnectionAborted.into()),
            };
            match selected {
                Ok(()) => return Ok(lease),
                Err(e) if e.kind() == io::ErrorKind::InvalidInput || Instant::now() >= deadline => {
                    return Err(errors::no_connection(&e));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// A connection of its own, waiting for a master like any held request.
    ///
    /// # Errors
    /// The error reply to give the client.
    pub(super) async fn lease_until(
        &self,
        lane: LaneId,
        want: Want,
        deadline: Instant,
        bound: Bound,
    ) -> Result<Lease, Vec<u8>> {
        let mut epochs = self.front.view.subscribe();
        loop {
            epochs.mark_unchanged();
            let mut full = false;
            if let Some(target) = self.front.target(want) {
                match self.front.pool.lease(lane, &target).await {
                    Ok(lease) => return Ok(lease),
                    Err(Refused::Handshake(text)) => {
                        // The user is gone, or has another password: as on a shared connection, the session ends.
                        if text.starts_with("WRONGPASS") {
                            self.state.borrow_mut().die();
                        }
                        return Err(format!("-{text}\r\n").into_bytes());
                    }
                    Err(Refused::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => full = true,
                    Err(_) => {}
                }
            }
            let over = Instant::now() >= deadline;
            if full && (over || bound == Bound::Refuse) {
                return Err(errors::PINNED_FULL.to_vec());
            }
            if over {
                self.front.cells.count(Count::RefusedHold, 1);
                return Err(errors::hold_expired(self.front.listener.hold));
            }
            let _ = tokio::time::timeout(PAUSE, epochs.changed()).await;
        }
    }

    /// One request to the master, never repeated.
    pub(super) async fn once(&self, request: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        let lane = self.state.borrow().lane;
        let deadline = Instant::now() + self.front.listener.hold;
        let mut lease = self.lease_until(lane, Want::Master, deadline, Bound::Wait).await?;
        let reply = self.exchange(&mut lease, Want::Master, request).await.map_err(|e| errors::no_connection(&e))?;
        self.front.pool.give_back(lane, lease);
        Ok(reply)
    }

    /// The arity check of commands that redweir answers itself.
    pub(super) fn arity_takes(command: &Command, words: usize) -> bool {
        let n = words as i64;
        let arity = i64::from(command.arity);
        if arity >= 0 { n == arity } else { n >= -arity }
    }
}

/// A plain decimal argument.
pub(super) fn number(arg: &[u8]) -> Option<u32> {
    std::str::from_utf8(arg).ok()?.parse().ok()
}

/// A reply that holds one bulk string, or null.
pub(super) fn bulk_or_null(bytes: Option<&[u8]>, resp: u8) -> Vec<u8> {
    let mut out = Vec::new();
    match bytes {
        Some(bytes) => encode::bulk(&mut out, bytes),
        None => encode::null(&mut out, resp),
    }
    out
}

fn is_http(request: &[u8]) -> bool {
    let name = Args::new(request).next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}
