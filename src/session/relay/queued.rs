//! What of an open transaction concerns redweir: which requests they are, and what EXEC says of each. Pure.
//!
//! Invariant: counts what the server has queued since MULTI, nothing else.

use std::borrow::Cow;

use crate::command::{self, Class};
use crate::resp::{Args, Found, ReplyScanner, encode};
use crate::session::filter::{NOBODY, NOWHERE};
use crate::session::pin::Awaited;
use crate::session::pubsub::{self, Frame};

pub const QUEUED: &[u8] = b"+QUEUED\r\n";

#[derive(Debug, Default)]
pub struct Queued {
    /// What each brings when carried out.
    brings: Vec<Awaited>,
    /// Logins, CLIENT and what concerns all nodes, each with its place in the transaction.
    noted: Vec<(usize, Vec<u8>)>,
    /// EXEC may bring more than an answer for each: the rest follows behind its array.
    spills: bool,
}

/// One element of EXEC's reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub bytes: &'a [u8],
    /// The request it answers, where that is of interest.
    pub request: Option<Vec<u8>>,
}

/// What EXEC's reply is made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    pub header: &'a [u8],
    pub elements: Vec<Element<'a>>,
    /// What the requests bring, when that may be more than the array holds.
    pub brings: Option<Vec<Awaited>>,
}

fn concerns(request: &[u8]) -> bool {
    let verdict = command::classify(Args::new(request));
    let name = verdict.command.map_or("", |c| c.name);
    matches!(name, "auth" | "hello") || name.starts_with("client|") || verdict.class == Class::AllNodes
}

/// Whether what it does, carried out in a transaction, is redweir's to know.
pub fn leaves_traces(request: &[u8]) -> bool {
    let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
    concerns(request) || Awaited::by(name, 1) != Awaited::Reply(None)
}

/// In what form a node is given a request to be queued: one that would have no reply there gets one, and what is about
/// clients is about none of the node's.
pub fn as_sent(request: &[u8]) -> Cow<'_, [u8]> {
    let words: Vec<&[u8]> = Args::new(request).take(4).collect();
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let other: &[&[u8]] = match words[..] {
        [client, ..] if !is(client, "client") => return request.into(),
        [_, reply, mode] if is(reply, "reply") && (is(mode, "off") || is(mode, "skip")) => &[b"REPLY", b"ON"],
        [_, list, ..] if is(list, "list") => &[b"LIST", b"ID", NOBODY],
        [_, kill, _, ..] if is(kill, "kill") => &[b"KILL", b"LADDR", NOWHERE],
        [_, unblock, _, ..] if is(unblock, "unblock") => &[b"UNBLOCK", NOBODY],
        _ => return request.into(),
    };
    let mut sent = Vec::new();
    encode::request(&mut sent, [&[&b"CLIENT"[..]], other].concat().into_iter());
    sent.into()
}

impl Queued {
    /// The server has queued `request`. Who `hears` may be told in EXEC's reply what he publishes himself.
    pub fn note(&mut self, request: &[u8], hears: bool) {
        let verdict = command::classify(Args::new(request));
        let name = verdict.command.map_or("", |c| c.name);
        if concerns(request) {
            self.noted.push((self.brings.len(), request.to_vec()));
        }
        let brings = Awaited::by(name, Args::new(request).remaining());
        let publishes = matches!(name, "publish" | "spublish") || verdict.class == Class::Script;
        self.spills |= brings != Awaited::Reply(None) || (hears && publishes);
        self.brings.push(brings);
    }

    /// What EXEC says must be seen whole.
    pub fn must_be_seen(&self) -> bool {
        self.spills || !self.noted.is_empty()
    }

    /// What was carried out, when something was. A subscription to several names has an answer for each, while the array
    /// counts requests (pubsub.c, multi.c): the rest comes behind it. `subscribed` is how many there were before. `Err`: an
    /// answer that is of interest is not in `exec` yet, the array and what came behind it.
    pub fn carried_out<'a>(&self, exec: &'a [u8], mut subscribed: [i64; 3]) -> Result<Option<Carried<'a>>, ()> {
        if !self.must_be_seen() || exec.first() != Some(&b'*') || exec.starts_with(b"*-") {
            return Ok(None);
        }
        let (header, answers) = elements(exec);
        let mut elements: Vec<_> = answers.into_iter().map(|bytes| Element { bytes, request: None }).collect();
        let mut noted = self.noted.iter().peekable();
        let mut at = 0;
        for (place, brings) in self.brings.iter().enumerate() {
            if noted.peek().is_none() {
                break;
            }
            // What it has published to itself comes between.
            at += elements.iter().skip(at).take_while(|element| is_push(element.bytes)).count();
            let Some(first) = elements.get_mut(at) else { return Err(()) };
            let failed = first.bytes.first() == Some(&b'-');
            if let Some((_, request)) = noted.next_if(|(noted, _)| *noted == place) {
                first.request = Some(request.clone());
            }
            let answers = match brings {
                Awaited::Confirms(names) if !failed => usize::try_from(*names).unwrap_or(usize::MAX),
                Awaited::Everything(sort) => usize::try_from(subscribed[*sort as usize]).unwrap_or(0).max(1),
                _ => 1,
            };
            for answer in elements.iter().skip(at).take(answers) {
                if let Frame::Confirmed { sort, left } = pubsub::frame(answer.bytes, *brings != Awaited::Reply(None)) {
                    pubsub::count(&mut subscribed, sort, left);
                }
            }
            at = at.saturating_add(answers);
        }
        Ok(Some(Carried { header, elements, brings: self.spills.then(|| self.brings.clone()) }))
    }
}

fn is_push(element: &[u8]) -> bool {
    element.first() == Some(&b'>') && pubsub::frame(element, true) == Frame::Push
}

/// The header of a whole array, and its elements.
fn elements(array: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let header = array.iter().position(|b| *b == b'\n').map_or(array.len(), |end| end + 1);
    let (header, mut rest) = array.split_at(header);
    let mut out = Vec::new();
    while let (false, Found::Whole { len }) = (rest.is_empty(), ReplyScanner::default().scan(rest)) {
        let (element, behind) = rest.split_at(len);
        out.push(element);
        rest = behind;
    }
    (header, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::line as request;

    fn after<'a>(lines: &[&str], exec: &'a [u8]) -> Result<Option<Carried<'a>>, ()> {
        let mut queued = Queued::default();
        lines.iter().for_each(|line| queued.note(&request(line), false));
        queued.carried_out(exec, [2, 1, 0])
    }

    #[test]
    fn exec_tells_what_became_of_each() {
        let lines = ["SET k v", "AUTH ann wrong", "LRANGE l 0 -1", "AUTH ann secret", "CLIENT ID", "SCRIPT LOAD x"];
        let exec = b"*6\r\n+OK\r\n-WRONGPASS no\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n:7\r\n$1\r\nf\r\n";
        let carried = after(&lines, exec).unwrap().unwrap();
        let noted: Vec<_> = carried.elements.iter().map(|e| e.request.clone()).collect();
        let expected =
            [None, Some(1), None, Some(3), Some(4), Some(5)].map(|at| at.map(|at: usize| request(lines[at])));
        assert_eq!(noted, expected);
        assert_eq!((carried.header, carried.elements[4].bytes), (&b"*6\r\n"[..], &b":7\r\n"[..]));
        for nothing in [&b"*-1\r\n"[..], b"_\r\n", b"-EXECABORT no\r\n"] {
            assert_eq!(after(&lines, nothing), Ok(None));
        }
        assert_eq!(after(&["GET k"], b"*1\r\n$-1\r\n"), Ok(None));
    }

    #[test]
    fn an_answer_behind_subscriptions_is_found_or_owned_up_to() {
        let exec = b"*2\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n";
        // The array ends before the answer comes.
        assert_eq!(after(&["SUBSCRIBE a b", "CLIENT ID"], exec), Err(()));
        assert_eq!(after(&["UNSUBSCRIBE", "CLIENT ID"], exec), Err(()));
        let left = |n: u8, name: &str| format!("*3\r\n$11\r\nunsubscribe\r\n$1\r\n{name}\r\n:{n}\r\n");
        let all = format!("*4\r\n{}{}*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n:7\r\n", left(2, "a"), left(1, "b"));
        let carried = after(&["UNSUBSCRIBE", "UNSUBSCRIBE", "CLIENT ID"], all.as_bytes());
        assert_eq!(carried.unwrap().unwrap().elements[3].request, Some(request("CLIENT ID")));
        let carried = after(&["CLIENT ID", "SUBSCRIBE a"], b"*2\r\n:7\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        assert_eq!(carried.unwrap().unwrap().elements[0].request, Some(request("CLIENT ID")));
    }

    #[test]
    fn what_a_subscriber_tells_itself_leaves_less_room_for_answers() {
        let exec = b"*2\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n:1\r\n";
        for (hears, expected) in [(true, Some(2)), (false, None)] {
            let mut queued = Queued::default();
            ["PUBLISH a m", "GET k"].iter().for_each(|line| queued.note(&request(line), hears));
            let carried = queued.carried_out(exec, [1, 0, 0]).unwrap();
            assert_eq!(carried.and_then(|c| c.brings).map(|b| b.len()), expected);
        }
    }

    #[test]
    fn what_would_have_no_reply_is_sent_as_what_has_one() {
        for (line, sent) in [
            ("client reply Off", "CLIENT REPLY ON"),
            ("CLIENT REPLY skip", "CLIENT REPLY ON"),
            ("CLIENT REPLY nonsense", "CLIENT REPLY nonsense"),
            ("CLIENT REPLY off x", "CLIENT REPLY off x"),
            ("GET k", "GET k"),
            ("CLIENT LIST TYPE normal", "CLIENT LIST ID 9223372036854775807"),
            ("client kill TYPE normal SKIPME no", "CLIENT KILL LADDR none"),
            ("CLIENT KILL 127.0.0.1:7", "CLIENT KILL LADDR none"),
            ("CLIENT KILL", "CLIENT KILL"),
            ("CLIENT UNBLOCK 7 ERROR", "CLIENT UNBLOCK 9223372036854775807"),
            ("CLIENT UNBLOCK", "CLIENT UNBLOCK"),
        ] {
            assert_eq!(*as_sent(&request(line)), *request(sent), "{line}");
        }
    }
}
