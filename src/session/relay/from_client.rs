//! Requests of a pinned session, from the client's bytes to its own connection.
//!
//! Must not judge what a request does to the pin. Invariant: what was taken leaves the input in the same call, so nothing
//! is forwarded twice.

use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::{End, FULL, Relay, Sent, queued};
use crate::command;
use crate::metrics::{Count, Kind as Label, Reason};
use crate::resp::{Args, Scan, Violation, inline};
use crate::route::Want;
use crate::session::input::mended;
use crate::session::pin::again::Again;
use crate::session::pin::{Admit, tracked};
use crate::session::pubsub::Frame;
use crate::session::ruled::Ruled;
use crate::session::state::State;
use crate::session::{Session, barrier, errors};
use crate::socket;
use crate::topology::Hint;
use crate::upstream::PIECE;

/// Asks a node for the connection's id there, for the case that what follows must be unblocked.
const CLIENT_ID: &[u8] = b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";

impl Session {
    /// One read; 0 is the end.
    pub(super) fn poll_client(&self, s: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let pieces = self.front.pool.pieces();
        let bytes = ready!(pieces.fill(b"", PIECE, |room| socket::poll_recv(&s.stream, cx, room)))?;
        self.front.cells.count(Count::BytesFromClients, bytes.len() as u64);
        s.input.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }
}

impl Relay {
    /// Moves what can be moved from the client's input towards the node.
    pub(super) fn take_requests(&mut self, session: &Session, s: &mut State) -> Option<End> {
        let finishes = (self.pin.binds() || self.streaming) && session.front.lets_finish(self.streaming);
        if self.want == Want::Master && session.front.is_held() && !finishes {
            // A switch has begun: nothing more for the old master.
            return None;
        }
        if self.parting || self.concluding || !self.settled.is_empty() {
            return None;
        }
        let most = session.front.limits.pipeline;
        let mut taken = 0;
        let mut end = None;
        s.needs = 0;
        while taken < s.input.len() && self.out.len() < FULL && self.sent.len() < most && end.is_none() {
            if self.pin.leaving {
                break;
            }
            let input = &s.input[taken..];
            if self.streaming {
                match self.stream(session, s, taken) {
                    Ok(0) => break,
                    Ok(n) => taken += n,
                    Err(violated) => end = violated,
                }
                continue;
            }
            let scan = s.scanner.scan(input);
            match scan {
                Scan::Request { .. } | Scan::Ragged { .. } | Scan::Inline { .. } if self.is_done() => {
                    s.scanner.reset();
                    break;
                }
                Scan::Request { len } | Scan::Ragged { len } | Scan::Inline { len } => {
                    match spelled(scan, &input[..len]) {
                        Ok(request) if request.is_empty() => taken += len,
                        Ok(request) => match self.admit(session, s, request) {
                            true => taken += len,
                            false => break,
                        },
                        Err(violation) => {
                            end = self.violated(session, s, violation);
                            break;
                        }
                    }
                }
                Scan::Incomplete { needs } if session.streams(input, needs) => {
                    let verdict = command::classify(Args::new(input));
                    let ruled = session.front.rules.concern(input) && !self.pin.is_quiet();
                    if s.asking || self.is_done() || self.pin.must_wait(&verdict) || ruled {
                        s.scanner.reset();
                        break;
                    }
                    end = self.begin_stream(session, s, taken, &verdict);
                }
                Scan::Incomplete { needs } => {
                    s.needs = needs;
                    break;
                }
                Scan::Nothing { len } => taken += len,
                Scan::Invalid(violation) if session.forgives(s, violation) => {}
                Scan::Invalid(violation) => {
                    end = self.violated(session, s, violation);
                    break;
                }
            }
        }
        s.input.drain(..taken);
        end.or_else(|| self.redirect.take_if(|redirect| redirect.answer.is_none()).map(|r| End::Redirect(r.id)))
    }

    /// Bytes of a request that is streaming, from `at` on: how many went through. A violation ends the session.
    fn stream(&mut self, session: &Session, s: &mut State, at: usize) -> Result<usize, Option<End>> {
        match s.scanner.stream(&s.input[at..]) {
            Ok((n, done)) => {
                self.out.push(&s.input[at..at + n]);
                self.streaming = !done;
                Ok(n)
            }
            Err(violation) if session.forgives(s, violation) => self.stream(session, s, at),
            Err(violation) => Err(self.violated(session, s, violation)),
        }
    }

    /// A request too large to be held, at `at` of the input, begins to go through.
    fn begin_stream(&mut self, session: &Session, s: &mut State, at: usize, verdict: &command::Verdict) -> Option<End> {
        if let Some(text) = session.large_refusal(&s.input[at..]) {
            session.push_frame(s, Frame::Reply, &text, false);
            return Some(End::Over);
        }
        let mut verdict = *verdict;
        if verdict.command.is_some_and(|c| c.name == "client|tracking") {
            // Whom it names would have to be found in what streams by.
            session.push_frame(s, Frame::Reply, &errors::unsupported("client|tracking"), false);
            return Some(End::Over);
        }
        if verdict.class == command::Class::AllNodes {
            // Nobody keeps it for the other nodes.
            verdict.class = command::Class::Write;
        }
        self.sent.push_back(Sent { at: Instant::now(), again: Again::Never, bytes: Vec::new() });
        s.wrote = true;
        match self.pin.admit(&verdict, None, 2, s.resp, s.wrote) {
            Admit::Forward => {
                self.streaming = true;
                None
            }
            Admit::Answer(text) => {
                session.push_frame(s, Frame::Reply, &text, false);
                Some(End::Over)
            }
            Admit::Aside(name) => {
                session.push_frame(s, Frame::Reply, &errors::unsupported(name), false);
                Some(End::Over)
            }
            Admit::Instead(_) | Admit::Behind(_) => Some(End::Close),
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
        session.push_frame(s, Frame::Reply, &errors::protocol(violation), false);
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
        session.push_frame(s, Frame::Reply, text, false);
        s.silence.end_next();
        true
    }

    /// A WAIT, once what came before it is answered; false: not yet.
    fn tell_bereft(&mut self, session: &Session, s: &mut State, none: &[u8]) -> bool {
        if !self.pin.is_quiet() {
            s.scanner.reset();
            return false;
        }
        s.own.bereft = false;
        session.push_frame(s, Frame::Reply, none, false);
        s.silence.end_next();
        true
    }

    /// Carries one whole request out; false: not yet, something before it is unanswered.
    fn admit(&mut self, session: &Session, s: &mut State, request: Vec<u8>) -> bool {
        if s.asking {
            s.scanner.reset();
            return false;
        }
        let ruled = match session.ruled(&request) {
            Ok(ruled) => ruled,
            Err(text) => return self.refuse(session, s, &text),
        };
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
        if s.own.bereft
            && !self.pin.is_queueing()
            && let Some(none) = barrier::none(&verdict, &ruled.real)
        {
            return self.tell_bereft(session, s, none);
        }
        let sent = match self.as_told(&verdict, &ruled.sent) {
            Ok(Some(sent)) => sent,
            Err(text) => return self.refuse(session, s, &text),
            Ok(None) => {
                s.scanner.reset();
                return false;
            }
        };
        session.notice_script(&verdict, &request);
        s.acts_on(verdict.command.map_or("", |c| c.name));
        self.carry_out(session, s, &verdict, &ruled, sent.into_owned());
        s.wrote |= !local;
        if unknown {
            session.front.view.suspect(Hint::UnknownName);
        }
        let reason = if unknown { Reason::Unknown } else { Reason::Pinned };
        session.front.cells.routed(self.lease.target.node, Label::Pinned, reason, 1);
        true
    }

    fn carry_out(
        &mut self,
        session: &Session,
        s: &mut State,
        verdict: &command::Verdict,
        ruled: &Ruled,
        sent: Vec<u8>,
    ) {
        let args = Args::new(&ruled.real);
        let most = match self.pin.is_queueing() && queued::leaves_traces(&ruled.real) {
            // What EXEC does of it is looked at.
            true => session.kept_bytes(),
            false => session.front.limits.large_bytes,
        };
        // What is sent again is judged again, and must be as the client said it.
        let again = if ruled.is_plain() { self.pin.again(verdict) } else { Again::Never };
        if again == Again::Waiting && self.lease.id.is_none() {
            self.pin.ask_id();
            self.send(CLIENT_ID.to_vec(), Again::Ours, most);
        }
        match self.pin.admit(verdict, args.clone().nth(1), args.remaining(), s.resp, s.wrote) {
            Admit::Forward if self.pin.is_queueing() => {
                self.out.push(&queued::as_sent(&sent));
                self.note_sent(sent, again, most);
            }
            Admit::Forward => self.send(sent, again, most),
            Admit::Instead(other) => self.send(other.to_vec(), Again::Never, most),
            Admit::Behind(first) => {
                self.send(first.to_vec(), Again::Ours, most);
                self.send(sent, again, most);
            }
            Admit::Answer(text) => {
                session.front.cells.count(Count::RefusedForbidden, 1);
                session.push_frame(s, Frame::Reply, &text, false);
                s.silence.end_next();
            }
            // Nodes are told in their words, redweir looks at its own.
            Admit::Aside(name) => {
                let all_nodes = verdict.class == command::Class::AllNodes;
                session.answer_aside(s, name, if all_nodes { &ruled.sent } else { &ruled.real });
            }
        }
    }

    /// What the node is told: a CLIENT TRACKING names a connection of redweir's there. `None`: not yet.
    fn as_told<'a>(&mut self, verdict: &command::Verdict, request: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Vec<u8>> {
        let tracks = verdict.command.is_some_and(|c| c.name == "client|tracking");
        let Some(id) = tracked::redirected_to(request).filter(|_| tracks) else { return Ok(Some(request.into())) };
        let there = self.redirected(id).transpose()?;
        Ok(there.map(|there| tracked::redirecting(request, there).into()))
    }

    /// Puts a request on its way, as the pin has counted it; kept as long as all of them are no more than `most` bytes.
    pub(super) fn send(&mut self, request: Vec<u8>, again: Again, most: usize) {
        self.out.push(&request);
        self.note_sent(request, again, most);
    }

    /// A request is on its way.
    fn note_sent(&mut self, request: Vec<u8>, again: Again, most: usize) {
        let fits = self.kept + request.len() <= most;
        self.blind |= !fits && queued::leaves_traces(&request) && self.pin.binds();
        let (again, bytes) = if fits { (again, request) } else { (Again::Never, Vec::new()) };
        self.kept += bytes.len();
        self.sent.push_back(Sent { at: Instant::now(), again, bytes });
    }
}

/// A request as an array with all its line ends, however it came.
fn spelled(scan: Scan, bytes: &[u8]) -> Result<Vec<u8>, Violation> {
    match scan {
        Scan::Inline { len } => inline::to_array(bytes[..len - 1].strip_suffix(b"\r").unwrap_or(&bytes[..len - 1])),
        Scan::Ragged { .. } => Ok(mended(bytes)),
        _ => Ok(bytes.to_vec()),
    }
}
