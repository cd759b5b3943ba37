//! AUTH and HELLO: judged by Redis itself on a connection that then belongs to that user.
//!
//! Must not check a password. Invariant: a session's commands travel only on connections its own login opened (or, with
//! `client-auth = proxy` and no login, redweir's).

use super::client::set_switch;
use super::state::State;
use super::{Session, errors};
use crate::config::Login;
use crate::resp::{Args, Violation};
use crate::route::Want;
use crate::upstream::{Lane, Lease};

impl Session {
    /// AUTH [user] password.
    pub(super) async fn auth(&self, request: &[u8]) -> bool {
        let words: Vec<&[u8]> = Args::new(request).skip(1).collect();
        let login = match words[..] {
            [password] => login(None, password),
            [user, password] => login(Some(user), password),
            _ => None,
        };
        if std::str::from_utf8(request).is_err() {
            return self.local(errors::LOGIN_NOT_TEXT);
        }
        let reply = match self.ask(self.authority(), request).await {
            Ok((reply, lease)) => {
                let old = self.front.pool.describe(self.state.borrow().lane);
                match old.filter(|_| reply.starts_with(b"+OK") && login.is_some()) {
                    Some(old) if !self.adopt(Lane { login, ..old }, Some(lease)) => errors::LOGINS_FULL.to_vec(),
                    _ => reply,
                }
            }
            Err(text) => text,
        };
        self.local(&reply)
    }

    /// HELLO [version [AUTH user password] [SETNAME name]]: the node's own answer, with this session's id and the
    /// set's role.
    pub(super) async fn hello(&self, request: &[u8]) -> bool {
        if std::str::from_utf8(request).is_err() {
            return self.local(errors::LOGIN_NOT_TEXT);
        }
        let reply = match self.ask(self.authority(), request).await {
            Ok((reply, lease)) if reply.first() != Some(&b'-') => match self.greeted(request, lease) {
                true => as_ours(&reply, self.id),
                false => errors::LOGINS_FULL.to_vec(),
            },
            Ok((reply, _)) => reply,
            Err(text) => text,
        };
        self.local(&reply)
    }

    fn greeted(&self, request: &[u8], lease: Lease) -> bool {
        let old = self.state.borrow().lane;
        let Some(mut lane) = self.front.pool.describe(old) else { return false };
        let name = greeting(&mut lane, request);
        let named = name.is_some();
        if let Some(name) = name {
            self.state.borrow_mut().name = name;
        }
        // A connection that bears this client's name is not lent to another.
        self.adopt(lane, (!named).then_some(lease))
    }

    /// What changes a lane (AUTH, HELLO, CLIENT NO-TOUCH) went through on a connection of the session's own. `None`: there are
    /// too many different logins.
    pub(super) fn greeted_pinned(&self, s: &mut State, request: &[u8], reply: &[u8]) -> Option<Vec<u8>> {
        let mut lane = self.front.pool.describe(s.lane)?;
        let words: Vec<&[u8]> = Args::new(request).collect();
        let is = |name: &[u8]| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name));
        let hello = is(b"hello");
        match words[..] {
            _ if is(b"client") => set_switch(&mut lane, &words),
            _ if hello => {
                if let Some(name) = greeting(&mut lane, request) {
                    s.name = name;
                }
            }
            [_, password] => lane.login = Some(login(None, password)?),
            [_, user, password] => lane.login = Some(login(Some(user), password)?),
            _ => return None,
        }
        let resp = lane.resp;
        s.enter_lane(self.front.lane_for(lane, s.lane)?);
        self.take_level_of_user(s);
        s.resp = resp;
        self.is_known(s);
        Some(if hello { as_ours(reply, self.id) } else { reply.to_vec() })
    }

    /// What depends on who the session is, now that it is somebody (else).
    pub(super) fn is_known(&self, s: &mut State) {
        self.set_acks(s);
        match self.front.pool.describe(s.lane).is_some_and(|lane| lane.login.is_some()) {
            true => s.scanner.trust(),
            false => s.scanner.doubt(),
        }
    }

    /// It exceeds what one may send before a login, and none is needed.
    pub(super) fn forgives(&self, s: &mut State, violation: Violation) -> bool {
        let forgiven = violation.is_strangers() && !self.front.pool.is_locked();
        if forgiven {
            s.scanner.trust();
        }
        forgiven
    }

    /// False: there are too many different logins in use already, and the session stays who it was.
    pub(super) fn adopt(&self, lane: Lane, lease: Option<Lease>) -> bool {
        let resp = lane.resp;
        let own = self.state.borrow().lane;
        let Some(id) = self.front.lane_for(lane, own) else { return false };
        {
            let s = &mut *self.state.borrow_mut();
            s.enter_lane(id);
            self.take_level_of_user(s);
            s.resp = resp;
            self.is_known(s);
        }
        if let Some(lease) = lease {
            self.front.pool.give_back(id, lease);
        }
        true
    }

    /// The master knows best who may log in; any node will do while there is none.
    pub(super) fn authority(&self) -> Want {
        if self.front.target(Want::Master).is_some() { Want::Master } else { Want::Read }
    }
}

/// What an accepted HELLO makes of a lane; the client's new name, if it gave one.
fn greeting(lane: &mut Lane, request: &[u8]) -> Option<Vec<u8>> {
    let mut words = Args::new(request).skip(1);
    if let Some(version) = words.next() {
        lane.resp = if version == b"3" { 3 } else { 2 };
    }
    let mut name = None;
    while let Some(option) = words.next() {
        if option.eq_ignore_ascii_case(b"AUTH") {
            if let (Some(user), Some(password)) = (words.next(), words.next()) {
                lane.login = login(Some(user), password);
            }
        } else if option.eq_ignore_ascii_case(b"SETNAME") {
            name = Some(words.next().unwrap_or_default().to_vec());
        }
    }
    name
}

fn login(user: Option<&[u8]>, password: &[u8]) -> Option<Login> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(Login {
        username: match user {
            Some(user) => Some(text(user)?),
            None => None,
        },
        password: text(password)?,
    })
}

/// HELLO's reply with `id` and `role` as they are from the client's side. Keys are the same in RESP2 and RESP3.
fn as_ours(reply: &[u8], id: u64) -> Vec<u8> {
    let mut out = reply.to_vec();
    replace_after(&mut out, b"$2\r\nid\r\n", 1, format!(":{id}\r\n").as_bytes());
    replace_after(&mut out, b"$4\r\nrole\r\n", 2, b"$6\r\nmaster\r\n");
    out
}

/// Replaces the `lines` lines behind `key`.
fn replace_after(out: &mut Vec<u8>, key: &[u8], lines: usize, with: &[u8]) {
    let Some(at) = out.windows(key.len()).position(|w| w == key).map(|at| at + key.len()) else { return };
    let end = out[at..].iter().enumerate().filter(|(_, b)| **b == b'\n').nth(lines - 1);
    if let Some((end, _)) = end {
        out.splice(at..=at + end, with.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_shows_this_side() {
        let theirs = b"%3\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:77\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
        let ours = b"%3\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
        assert_eq!(as_ours(theirs, 5), ours);
        assert_eq!(as_ours(b"+odd\r\n", 5), b"+odd\r\n");
    }
}
