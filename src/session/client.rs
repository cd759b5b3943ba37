//! CLIENT: a session's identity and its view of the other sessions, in redweir's id space.
//!
//! Nothing of it acts on a node's own clients: those are redweir's connections. Invariant: whoever may not run a subcommand
//! gets the node's own refusal (`rights.rs`), and who may gets Redis' replies (networking.c clientCommand).

use std::rc::Rc;

use super::commands::bulk_or_null;
use super::filter::{self, Filter};
use super::form::Form;
use super::pubsub::Frame;
use super::roll::What;
use super::state::{Silence, State, Unblock};
use super::{Session, errors};
use crate::command;
use crate::resp::{Args, encode};
use crate::upstream::Lane;

/// Whether redweir answers this subcommand itself; the others are the server's.
pub fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "client|id"
            | "client|info"
            | "client|list"
            | "client|kill"
            | "client|unblock"
            | "client|getname"
            | "client|setname"
            | "client|setinfo"
            | "client|getredir"
            | "client|no-evict"
            | "client|no-touch"
            | "client|capa"
            | "client|import-source"
            | "client|reply"
    )
}

/// An answer, and whether the session ends with it.
pub(super) struct Answer {
    pub reply: Vec<u8>,
    pub last: bool,
}

impl From<Vec<u8>> for Answer {
    fn from(reply: Vec<u8>) -> Self {
        Self { reply, last: false }
    }
}

/// Something a session does aside. Without an end of its own an answer is missing, so the session ends.
struct Asking {
    session: Rc<Session>,
    done: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Ok(mut s) = self.session.state.try_borrow_mut() else { return };
        s.asking = false;
        s.dead |= !self.done;
        s.wake();
    }
}

impl Session {
    pub(super) async fn client(&self, name: &'static str, request: &[u8]) -> bool {
        let words: Vec<&[u8]> = Args::new(request).collect();
        let resp = self.state.borrow().resp;
        self.answer_alone(self.client_answer(name, &words, resp).await)
    }

    /// False: the session ends.
    pub(super) fn answer_alone(&self, answer: Answer) -> bool {
        self.local(&answer.reply);
        !answer.last || self.close_after_replies()
    }

    /// Answers a pinned session, whose relay goes on meanwhile but takes no further request.
    pub(super) fn answer_aside(&self, s: &mut State, name: &'static str, request: &[u8]) {
        let (request, resp): (Box<[u8]>, _) = (request.into(), s.resp);
        self.aside(s, async move |me| {
            let words: Vec<&[u8]> = Args::new(&request).collect();
            let answer = match is_ours(name) {
                true => me.client_answer(name, &words, resp).await,
                false => me.everywhere(name, &request).await,
            };
            let s = &mut *me.state.borrow_mut();
            me.push_frame(s, Frame::Reply, &answer.reply, false);
            if name != "client|reply" {
                s.silence.end_next();
            }
            answer.last
        });
    }

    /// Something that takes its time, while the relay takes no further request. It says whether the session ends with it.
    pub(super) fn aside(&self, s: &mut State, work: impl AsyncFnOnce(&Rc<Session>) -> bool + 'static) {
        let Some(me) = self.front.session(self.id) else { return };
        s.asking = true;
        tokio::task::spawn_local(async move {
            let mut asking = Asking { session: me, done: false };
            let last = work(&asking.session).await;
            asking.done = true;
            if last {
                let s = &mut *asking.session.state.borrow_mut();
                s.input.clear();
                s.closing = true;
            }
        });
    }

    pub(super) async fn client_answer(&self, name: &'static str, words: &[&[u8]], resp: u8) -> Answer {
        let known = words.first().and_then(|word| command::lookup(word)).and_then(|c| c.child(words.get(1)?));
        if known.is_some_and(|command| !Self::arity_takes(command, words.len())) {
            return self.misused(words, errors::arity(name)).await.into();
        }
        if matches!(name, "client|list" | "client|info") {
            self.learn_form().await;
        }
        match name {
            "client|list" => self.list(words, resp).await.into(),
            "client|kill" => self.kill(words).await,
            "client|unblock" => self.let_go(words).await.into(),
            "client|no-touch" | "client|import-source" => self.switch(words).await.into(),
            _ => match self.allowed(name, words).await {
                Ok(()) => self.identity(&mut self.state.borrow_mut(), name, words).into(),
                Err(text) => text.into(),
            },
        }
    }

    /// The form of a line, once a term: from a node that this user, or redweir, may ask.
    async fn learn_form(&self) {
        let (forms, term) = (&self.front.shared.common.forms, self.front.term());
        let own = self.state.borrow().lane;
        for lane in [own, self.front.pool.lane(self.front.first_lane(2))] {
            if forms.is_of(term) {
                return;
            }
            if let Some(form) = self.ask_now(lane, &[b"CLIENT", b"INFO"]).await.and_then(|r| Form::of_reply(&r)) {
                forms.note(term, form);
            }
        }
    }

    /// What concerns the session alone.
    pub(super) fn identity(&self, s: &mut State, name: &str, words: &[&[u8]]) -> Vec<u8> {
        let word = |n: usize| words.get(n).copied().unwrap_or_default();
        match name {
            "client|id" => integer(self.id as i64),
            "client|getname" => bulk_or_null((!s.name.is_empty()).then_some(&*s.name), s.resp),
            "client|setname" => set_name(s, word(2)),
            "client|setinfo" => set_info(s, word(2), word(3)),
            "client|info" => text(&self.card(s).line(&self.front.shared.common.forms.last()), s.resp),
            "client|no-evict" if is_switch(word(2)) => {
                s.no_evict = word(2).eq_ignore_ascii_case(b"on");
                errors::OK.to_vec()
            }
            "client|no-evict" => errors::SYNTAX.to_vec(),
            "client|capa" => errors::OK.to_vec(),
            "client|reply" => set_reply_mode(s, word(2)),
            // The keys of this session are nobody's to hear of.
            "client|getredir" => integer(-1),
            other => errors::unsupported(other),
        }
    }

    /// CLIENT LIST [TYPE type] [ID id ...]
    async fn list(&self, words: &[&[u8]], resp: u8) -> Vec<u8> {
        let Some(filter) = Filter::of_list(words) else {
            return self.misused(words, errors::unsupported("client|list")).await;
        };
        match self.judged(&filter::harmless_list(words)).await {
            Ok(reply) if reply.first() != Some(&b'-') => {}
            Ok(refused) | Err(refused) => return refused,
        }
        let ids = filter.ids.clone();
        let found = self.front.shared.common.roll.call(What::List(filter, self.front.shared.common.forms.last())).await;
        let lines: String = match ids {
            // In the order asked for, and as often.
            Some(ids) => {
                let line = |id: &u64| found.iter().find(|(found, _)| found == id).map(|(_, line)| line.as_str());
                ids.iter().filter_map(line).collect()
            }
            None => found.iter().map(|(_, line)| line.as_str()).collect(),
        };
        text(&lines, resp)
    }

    /// CLIENT KILL addr, or CLIENT KILL [ID id] [ADDR addr] [LADDR addr] [USER name] [TYPE type] [SKIPME yes|no] [MAXAGE s]
    async fn kill(&self, words: &[&[u8]]) -> Answer {
        let Some(form) = filter::harmless_kill(words) else { return errors::SYNTAX.to_vec().into() };
        let old = words.len() == 3;
        match self.judged(&form).await {
            Ok(reply) if old && reply == errors::NO_SUCH_CLIENT => {}
            Ok(reply) if reply.first() != Some(&b'-') => {}
            Ok(refused) | Err(refused) => return refused.into(),
        }
        let Some(filter) = Filter::of_kill(words) else { return errors::unsupported("client|kill").into() };
        // It goes with its own reply, and last.
        let last = !filter.skip_me && filter.matches(&self.card(&self.state.borrow()));
        let killed = self.front.shared.common.roll.call(What::Kill(filter, self.id)).await.len() + usize::from(last);
        let reply = match (old, killed) {
            (true, 0) => errors::NO_SUCH_CLIENT.to_vec(),
            (true, _) => errors::OK.to_vec(),
            (false, _) => integer(killed as i64),
        };
        Answer { reply, last }
    }

    /// CLIENT UNBLOCK id [TIMEOUT|ERROR]
    async fn let_go(&self, words: &[&[u8]]) -> Vec<u8> {
        let [client, unblock, id, reason @ ..] = words else { return errors::SYNTAX.to_vec() };
        // No client of a node has this id, so a reason can be judged there.
        match self.judged(&[&[*client, *unblock, b"0"], reason].concat()).await {
            Ok(reply) if reply.first() == Some(&b':') => {}
            Ok(refused) | Err(refused) => return refused,
        }
        let Some(id) = filter::integer(id) else { return errors::NOT_AN_INTEGER.to_vec() };
        let by_error = reason.first().is_some_and(|reason| reason.eq_ignore_ascii_case(b"error"));
        let how = if by_error { Unblock::Error } else { Unblock::Timeout };
        let found = match u64::try_from(id) {
            Ok(id) => self.front.shared.common.roll.call(What::Unblock(id, how)).await.len(),
            Err(_) => 0,
        };
        integer(found as i64)
    }

    /// CLIENT NO-TOUCH, CLIENT IMPORT-SOURCE on|off: connections of other settings, if the node has such.
    async fn switch(&self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        encode::request(&mut request, words.iter().copied());
        let (reply, lease) = match self.ask(self.authority(), &request).await {
            Ok(answered) => answered,
            Err(text) => return text,
        };
        let old = self.state.borrow().lane;
        if reply != errors::OK {
            self.front.pool.give_back(old, lease);
            return reply;
        }
        let Some(mut lane) = self.front.pool.describe(old) else { return reply };
        set_switch(&mut lane, words);
        if self.adopt(lane, Some(lease)) { reply } else { errors::LOGINS_FULL.to_vec() }
    }
}

/// What an accepted CLIENT NO-TOUCH or CLIENT IMPORT-SOURCE makes of a lane.
pub(super) fn set_switch(lane: &mut Lane, words: &[&[u8]]) {
    let on = words.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"on"));
    match words.get(1) {
        Some(word) if word.eq_ignore_ascii_case(b"no-touch") => lane.no_touch = on,
        Some(word) if word.eq_ignore_ascii_case(b"import-source") => lane.import_source = on,
        _ => {}
    }
}

fn integer(n: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode::integer(&mut out, n);
    out
}

/// networking.c addReplyVerbatim.
fn text(text: &str, resp: u8) -> Vec<u8> {
    if resp >= 3 {
        return format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes();
    }
    bulk_or_null(Some(text.as_bytes()), resp)
}

/// CLIENT REPLY: only redweir leaves replies out, nodes always answer.
fn set_reply_mode(s: &mut State, mode: &[u8]) -> Vec<u8> {
    let silence = match (mode.to_ascii_lowercase().as_slice(), s.silence) {
        (b"on", _) => Silence::Not,
        (b"off", _) => Silence::All,
        // SKIP while OFF changes nothing (networking.c clientCommand).
        (b"skip", Silence::All) => Silence::All,
        (b"skip", _) => Silence::Next,
        _ => return errors::SYNTAX.to_vec(),
    };
    s.silence = silence;
    if silence == Silence::Not { errors::OK.to_vec() } else { Vec::new() }
}

fn set_name(s: &mut State, name: &[u8]) -> Vec<u8> {
    if !is_plain(name) {
        return errors::NAME_INVALID.to_vec();
    }
    s.name = name.to_vec();
    errors::OK.to_vec()
}

fn set_info(s: &mut State, option: &[u8], value: &[u8]) -> Vec<u8> {
    let at = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => 0,
        b"lib-ver" => 1,
        _ => return errors::unknown_option(option),
    };
    if !is_plain(value) {
        return errors::info_invalid(option);
    }
    s.library.get_or_insert_default()[at] = value.to_vec();
    errors::OK.to_vec()
}

/// networking.c validateClientAttr.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (b'!'..=b'~').contains(b))
}

fn is_switch(argument: &[u8]) -> bool {
    argument.eq_ignore_ascii_case(b"on") || argument.eq_ignore_ascii_case(b"off")
}
