//! What a transaction of a pinned session has done that is more than the node's affair: CLIENT is about redweir's client, a
//! login changes the session, and what concerns all nodes must reach the others.
//!
//! Must not change an answer that is an error. Invariant: in the client's eyes each of these was carried out in its turn.

use super::queued::Carried;
use super::{End, Relay};
use crate::command;
use crate::resp::Args;
use crate::session::form::Form;
use crate::session::pin::tracked;
use crate::session::pubsub::Frame;
use crate::session::state::{Silence, State};
use crate::session::{Session, client};

/// EXEC's reply as its client is to get it.
pub struct Executed {
    reply: Vec<u8>,
    /// Whether replies are wanted from here on.
    silence: Silence,
    /// What takes its time, in its order.
    rest: Vec<Rest>,
}

/// A request that the other nodes are to follow, or that is about other clients.
struct Rest {
    name: &'static str,
    request: Vec<u8>,
    /// The node's answer.
    answer: Vec<u8>,
    /// The client's version when it had its turn.
    resp: u8,
    /// Where in the reply it is answered.
    at: usize,
    /// Whether redweir's own answer is to be there.
    shown: bool,
}

impl Executed {
    /// `request` takes its time, and is answered here.
    fn then(&mut self, name: &'static str, (request, answer): (&[u8], &[u8]), resp: u8, shown: bool) {
        let (request, answer) = (request.to_vec(), answer.to_vec());
        self.rest.push(Rest { name, request, answer, resp, at: self.reply.len(), shown });
    }
}

impl Relay {
    /// `None`: the reply is passed on as it is.
    ///
    /// # Errors
    /// The end of a session of which it is not known whose it is.
    pub fn executed(&mut self, session: &Session, s: &mut State, exec: &[u8]) -> Result<Option<Executed>, End> {
        let queued = std::mem::take(&mut self.queued);
        if std::mem::take(&mut self.blind) {
            return Err(End::Over);
        }
        let Some(Carried { header, elements, brings }) =
            queued.carried_out(exec, self.pin.subscribed()).map_err(|()| End::Over)?
        else {
            return Ok(None);
        };
        // As networking.c prepareClientToWrite: a SKIP or OFF before EXEC holds until an ON.
        let mut quiet = s.silence != Silence::Not;
        let after = if s.silence == Silence::All { Silence::All } else { Silence::Not };
        let mut done = Executed { reply: Vec::new(), silence: after, rest: Vec::new() };
        if !quiet {
            done.reply.extend_from_slice(header);
        }
        for element in &elements {
            let own = match element.request.as_deref().filter(|_| element.bytes.first() != Some(&b'-')) {
                Some(request) => self.carried(session, s, request, element.bytes, &mut done, &mut quiet)?,
                None => None,
            };
            if !quiet {
                done.reply.extend_from_slice(own.as_deref().unwrap_or(element.bytes));
            }
        }
        if let Some(brings) = brings {
            let answers: Vec<&[u8]> = elements.iter().map(|element| element.bytes).collect();
            self.pin.executed(brings, &answers, session.front.limits.client_output_bytes);
        }
        Ok(Some(done))
    }

    /// What the client is shown in place of `answer`, if anything else.
    fn carried(
        &mut self,
        session: &Session,
        s: &mut State,
        request: &[u8],
        answer: &[u8],
        done: &mut Executed,
        quiet: &mut bool,
    ) -> Result<Option<Vec<u8>>, End> {
        let words: Vec<&[u8]> = Args::new(request).collect();
        let verdict = command::classify(Args::new(request));
        let name = verdict.command.map_or("", |c| c.name);
        match name {
            "auth" | "hello" | "client|no-touch" | "client|import-source" => {
                session.greeted_pinned(s, request, answer).map(Some).ok_or(End::Over)
            }
            "client|tracking" => {
                self.tracks(request);
                Ok(None)
            }
            "client|getredir" | "client|trackinginfo" => Ok(Some(self.told(answer))),
            "client|reply" => {
                let mode = words.get(2).copied().unwrap_or_default();
                if mode.eq_ignore_ascii_case(b"on") {
                    (*quiet, done.silence) = (false, Silence::Not);
                } else if mode.eq_ignore_ascii_case(b"off") {
                    (*quiet, done.silence) = (true, Silence::All);
                } else if done.silence != Silence::All {
                    done.silence = Silence::Next;
                }
                Ok((!mode.eq_ignore_ascii_case(b"on")).then(Vec::new))
            }
            "client|info" => {
                if let Some(form) = Form::of_reply(answer) {
                    session.front.shared.common.forms.note(session.front.term(), form);
                }
                Ok(Some(session.identity(s, name, &words)))
            }
            "client|id" | "client|getname" | "client|setname" | "client|setinfo" | "client|no-evict"
            | "client|capa" => Ok(Some(session.identity(s, name, &words))),
            "client|list" | "client|kill" | "client|unblock" => {
                done.then(name, (request, answer), s.resp, !*quiet);
                Ok(Some(Vec::new()))
            }
            _ if verdict.class == command::Class::AllNodes => {
                done.then(name, (request, answer), s.resp, false);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The node has taken a CLIENT TRACKING (or CLIENT CACHING).
    pub fn tracks(&mut self, request: &[u8]) {
        if let Some(ear) = self.ear.as_ref().filter(|_| tracked::redirected_to(request).is_some()) {
            ear.turn();
        }
        self.pin.tracking(request);
    }

    /// A node's word on where invalidations go, in redweir's id space.
    pub fn told(&self, answer: &[u8]) -> Vec<u8> {
        match &self.ear {
            Some(ear) => tracked::told(answer, ear.id, ear.to(), ear.is_broken()),
            None => answer.to_vec(),
        }
    }
}

impl Session {
    /// Answers EXEC; first the other nodes do what concerns them, and the other clients are looked at. True: that takes its
    /// time, and nothing may be said before.
    pub fn conclude_exec(&self, s: &mut State, mut done: Executed) -> bool {
        if done.rest.is_empty() {
            self.say_executed(s, &done);
            return false;
        }
        self.aside(s, async move |me| {
            // To a client that is to be closed nothing more is said (networking.c _addReplyToBufferOrList); what it asked for
            // is done all the same.
            let (mut last, mut longer, mut cut) = (false, 0, false);
            for Rest { name, request, answer, resp, at, shown } in std::mem::take(&mut done.rest) {
                if !client::is_ours(name) {
                    last |= me.followed(name, &request, &answer).await;
                    continue;
                }
                let words: Vec<&[u8]> = Args::new(&request).collect();
                let own = me.client_answer(name, &words, resp).await;
                last |= own.last;
                if cut {
                    continue;
                }
                let at = at + longer;
                if shown {
                    longer += own.reply.len();
                    done.reply.splice(at..at, own.reply.iter().copied());
                }
                if own.last {
                    done.reply.truncate(at + if shown { own.reply.len() } else { 0 });
                    cut = true;
                }
            }
            me.say_executed(&mut me.state.borrow_mut(), &done);
            last
        });
        true
    }

    fn say_executed(&self, s: &mut State, done: &Executed) {
        s.silence = Silence::Not;
        self.push_frame(s, Frame::Reply, &done.reply, true);
        s.silence = done.silence;
    }
}
