//! Requests of a pinned session, from the client's bytes to its own connection.
//!
//! Must not judge what a request does to the pin. Invariant: what was taken leaves the input in the same call, so nothing
//! is forwarded twice.

use std::io;
use std::pin::Pin as StdPin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use super::{End, FULL, Relay};
use crate::command;
use crate::metrics::{Count, Kind as Label, Reason};
use crate::resp::{Args, Scan, Violation, inline};
use crate::route::Want;
use crate::session::pin::Admit;
use crate::session::state::State;
use crate::session::{Session, errors};
use crate::topology::Hint;

impl Relay {
    pub(super) fn poll_client(
        &mut self,
        session: &Session,
        s: &mut State,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = session.front.scratch.borrow_mut();
        let mut room = ReadBuf::new(&mut scratch);
        ready!(StdPin::new(&mut s.stream).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            self.eof = true;
        }
        session.front.cells.count(Count::BytesFromClients, room.filled().len() as u64);
        s.input.extend_from_slice(room.filled());
        Poll::Ready(Ok(()))
    }

    /// Moves what can be moved from the client's input towards the node.
    pub(super) fn take_requests(&mut self, session: &Session, s: &mut State) -> Option<End> {
        if self.want == Want::Master && session.front.is_held() {
            // A switch has begun: nothing more for the old master.
            return None;
        }
        let mut taken = 0;
        let mut end = None;
        while taken < s.input.len() && self.out.len() < FULL && end.is_none() && !self.pin.leaving {
            let input = &s.input[taken..];
            if self.streaming {
                match s.scanner.stream(input) {
                    Ok((n, done)) => {
                        self.out.push(&input[..n]);
                        taken += n;
                        self.streaming = !done;
                        if n == 0 {
                            break;
                        }
                    }
                    Err(violation) => {
                        end = self.violated(session, s, violation);
                        break;
                    }
                }
                continue;
            }
            match s.scanner.scan(input) {
                Scan::Request { .. } | Scan::Inline { .. } if self.is_done() => {
                    s.scanner.reset();
                    break;
                }
                Scan::Request { len } => {
                    let request = input[..len].to_vec();
                    match self.admit(session, s, &request) {
                        true => taken += len,
                        false => break,
                    }
                }
                Scan::Incomplete { needs } if needs.max(input.len()) > session.front.limits.large_bytes => {
                    let verdict = command::classify(Args::new(input));
                    let ruled = session.front.rules.concern(input) && !self.pin.is_quiet();
                    if self.is_done() || self.pin.must_wait(&verdict) || ruled {
                        s.scanner.reset();
                        break;
                    }
                    end = self.begin_stream(session, s, taken, &verdict);
                }
                Scan::Incomplete { .. } => break,
                Scan::Nothing { len } => taken += len,
                Scan::Inline { len } => {
                    let line = input[..len - 1].strip_suffix(b"\r").unwrap_or(&input[..len - 1]);
                    match inline::to_array(line) {
                        Ok(request) if request.is_empty() => taken += len,
                        Ok(request) if self.admit(session, s, &request) => taken += len,
                        Ok(_) => break,
                        Err(violation) => {
                            end = self.violated(session, s, violation);
                            break;
                        }
                    }
                }
                Scan::Invalid(violation) => {
                    end = self.violated(session, s, violation);
                    break;
                }
            }
        }
        s.input.drain(..taken);
        end
    }

    /// A request too large to be held, at `at` of the input, begins to go through.
    fn begin_stream(&mut self, session: &Session, s: &mut State, at: usize, verdict: &command::Verdict) -> Option<End> {
        if let Some(text) = session.large_refusal(&s.input[at..]) {
            session.push(s, &text);
            return Some(End::Over);
        }
        self.since.push_back(Instant::now());
        s.wrote = true;
        match self.pin.admit(verdict, None, 2, s.resp, s.wrote) {
            Admit::Forward => {
                self.streaming = true;
                None
            }
            _ => Some(End::Close),
        }
    }

    /// What the connection was lent for is over: the next request finds its own way.
    fn is_done(&self) -> bool {
        self.pin.is_used() && (self.want == Want::Read || self.pin.is_free())
    }

    /// What came before is answered first, unless it can never be: the rest of a request that is streaming.
    fn violated(&mut self, session: &Session, s: &mut State, violation: Violation) -> Option<End> {
        if !self.pin.is_quiet() && !self.streaming {
            s.scanner.reset();
            return None;
        }
        session.push(s, &errors::protocol(violation));
        Some(End::Close)
    }

    /// The operator's rules are against a request: in its turn, and fatal to a transaction.
    fn refuse(&mut self, session: &Session, s: &mut State, text: &[u8]) -> bool {
        if !self.pin.is_quiet() {
            s.scanner.reset();
            return false;
        }
        self.pin.spoil();
        session.front.cells.count(Count::RefusedForbidden, 1);
        session.push(s, text);
        s.silence.end_next();
        true
    }

    /// Carries one whole request out; false: not yet, something before it is unanswered.
    fn admit(&mut self, session: &Session, s: &mut State, request: &[u8]) -> bool {
        let ruled = match session.ruled(request) {
            Ok(ruled) => ruled,
            Err(text) => return self.refuse(session, s, &text),
        };
        let args = Args::new(&ruled.real);
        let verdict = ruled.verdict();
        let unknown = verdict.class == command::Class::Unknown;
        if unknown && self.pin.is_open(s.resp) && session.is_ours(&ruled.real) {
            if !self.pin.is_quiet() {
                s.scanner.reset();
                return false;
            }
            if self.accepted {
                session.answer_pinned(s, &ruled.real, &self.lease.target);
                return true;
            }
        }
        let local =
            matches!(verdict.class, command::Class::Forbidden | command::Class::Session | command::Class::Local);
        if self.pin.must_wait(&verdict) {
            s.scanner.reset();
            return false;
        }
        let admitted = self.pin.admit(&verdict, args.clone().nth(1), args.remaining(), s.resp, s.wrote);
        if !matches!(admitted, Admit::Answer(_) | Admit::Identity(_)) {
            self.since.push_back(Instant::now());
        }
        match admitted {
            Admit::Forward => self.out.push(&ruled.sent),
            Admit::Instead(other) => self.out.push(other),
            Admit::Behind(first) => {
                self.since.push_back(Instant::now());
                self.out.push(first);
                self.out.push(&ruled.sent);
            }
            Admit::Answer(text) => {
                session.front.cells.count(Count::RefusedForbidden, 1);
                session.push(s, &text);
                s.silence.end_next();
            }
            Admit::Identity(name) => {
                let reply = session.client_reply(s, name, &ruled.real);
                session.push(s, &reply);
                s.silence.end_next();
            }
        }
        s.wrote |= !local;
        let reason = if verdict.class == command::Class::Unknown {
            session.front.view.suspect(Hint::UnknownName);
            Reason::Unknown
        } else {
            Reason::Pinned
        };
        session.front.cells.routed(self.lease.target.node, Label::Pinned, reason, 1);
        true
    }
}
