//! CLIENT TRACKING of a pinned session: what another node must be told so that invalidations go on, and whom they go to.
//!
//! A node is never told the id of a client, nor a client that of a node's connection. Invariant: the commands kept are those
//! the server has accepted since tracking was last off.

use crate::resp::{Args, encode};
use crate::session::filter;

/// BCAST prefixes come one command at a time; so many commands are remembered, and so many bytes of them.
const COMMANDS: usize = 64;
const BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Tracked {
    armed: Vec<Box<[u8]>>,
    /// CLIENT CACHING, good for the next command.
    caching: Option<Box<[u8]>>,
    forgotten: bool,
}

impl Tracked {
    /// The server said yes to a CLIENT TRACKING or CLIENT CACHING.
    pub fn accepted(&mut self, request: &[u8]) {
        let mut words = Args::new(request).skip(1);
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"caching")) {
            self.caching = Some(request.into());
            return;
        }
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"off")) {
            *self = Self::default();
            return;
        }
        self.armed.retain(|known| **known != *request);
        self.armed.push(request.into());
        self.forgotten |= self.armed.len() > COMMANDS || self.armed.iter().map(|r| r.len()).sum::<usize>() > BYTES;
        if self.forgotten {
            self.armed.truncate(1);
        }
    }

    /// Another command was answered.
    pub fn moved_on(&mut self) {
        self.caching = None;
    }

    pub fn is_on(&self) -> bool {
        !self.armed.is_empty()
    }

    pub fn is_known(&self) -> bool {
        !self.forgotten
    }

    pub fn redirects(&self) -> bool {
        self.armed.iter().any(|request| redirected_to(request).is_some())
    }

    /// What brings another connection to the same state.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        self.armed.iter().chain(&self.caching).map(|request| &**request)
    }
}

/// Where a CLIENT TRACKING names the client to send invalidations to (networking.c clientCommand): the first REDIRECT among
/// its options that has a value.
fn place(request: &[u8]) -> Option<usize> {
    let mut words = Args::new(request).enumerate().skip(3);
    while let Some((at, word)) = words.next() {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"redirect") {
            return words.next().map(|_| at + 1);
        } else if is(b"prefix") {
            words.next();
        } else if ![&b"bcast"[..], b"optin", b"optout", b"noloop"].iter().any(|name| is(name)) {
            return None;
        }
    }
    None
}

/// Whom a CLIENT TRACKING redirects to; `None`: nobody, or the word is no number and the server's to refuse. No client has
/// the id 0.
pub fn redirected_to(request: &[u8]) -> Option<u64> {
    let word = Args::new(request).nth(place(request)?)?;
    Some(u64::try_from(filter::integer(word)?).unwrap_or(0))
}

/// The same CLIENT TRACKING with another id.
pub fn redirecting(request: &[u8], id: u64) -> Vec<u8> {
    let Some(place) = place(request) else { return request.to_vec() };
    let id = id.to_string();
    let mut words: Vec<&[u8]> = Args::new(request).collect();
    words[place] = id.as_bytes();
    let mut out = Vec::new();
    encode::request(&mut out, words.into_iter());
    out
}

/// A node's answer to CLIENT GETREDIR or CLIENT TRACKINGINFO as it is in redweir's id space: `there` is the id at the node,
/// `here` the client's, who may be gone (tracking.c, networking.c CLIENT TRACKINGINFO).
pub fn told(reply: &[u8], there: u64, here: u64, broken: bool) -> Vec<u8> {
    const KEY: &[u8] = b"$8\r\nredirect\r\n";
    let (there, here) = (format!(":{there}\r\n"), format!(":{here}\r\n"));
    if reply == there.as_bytes() {
        return here.into_bytes();
    }
    let mut out = reply.to_vec();
    let Some(at) = out.windows(KEY.len()).position(|w| w == KEY) else { return out };
    let id = at + KEY.len();
    if !out[id..].starts_with(there.as_bytes()) {
        return out;
    }
    out.splice(id..id + there.len(), here.bytes());
    if broken {
        out.splice(at..at, *b"$15\r\nbroken_redirect\r\n");
        // One flag more than their header says: the second header there is.
        let flags = out.iter().enumerate().filter(|(_, b)| matches!(b, b'*' | b'~')).map(|(at, _)| at);
        let at = flags.take_while(|flags| *flags < at).last();
        let end = at.and_then(|at| Some(at + out[at..].iter().position(|b| *b == b'\r')?));
        if let Some((at, end)) = at.zip(end)
            && let Some(n) = std::str::from_utf8(&out[at + 1..end]).ok().and_then(|n| n.parse::<u32>().ok())
        {
            out.splice(at + 1..end, (n + 1).to_string().into_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::line as request;

    fn after(lines: &[&str]) -> Vec<Vec<u8>> {
        let mut tracked = Tracked::default();
        lines.iter().for_each(|line| tracked.accepted(&request(line)));
        tracked.requests().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn what_was_accepted_since_the_last_off_is_told_again() {
        let table: &[(&[&str], &[&str])] = &[
            (&["CLIENT TRACKING ON"], &["CLIENT TRACKING ON"]),
            (&["CLIENT TRACKING ON", "CLIENT TRACKING off"], &[]),
            (
                &["CLIENT TRACKING on BCAST PREFIX a", "client tracking on BCAST PREFIX b"],
                &["CLIENT TRACKING on BCAST PREFIX a", "client tracking on BCAST PREFIX b"],
            ),
            (&["CLIENT TRACKING on OPTIN", "CLIENT CACHING yes"], &["CLIENT TRACKING on OPTIN", "CLIENT CACHING yes"]),
        ];
        for (lines, expected) in table {
            assert_eq!(after(lines), expected.iter().map(|l| request(l)).collect::<Vec<_>>(), "{lines:?}");
        }
    }

    #[test]
    fn only_the_value_of_the_option_is_an_id() {
        let table = [
            ("CLIENT TRACKING on REDIRECT 7", Some(7), "CLIENT TRACKING on REDIRECT 99"),
            (
                "client tracking ON bcast prefix redirect redirect 7 optin",
                Some(7),
                "client tracking ON bcast prefix redirect redirect 99 optin",
            ),
            ("CLIENT TRACKING on REDIRECT -7", Some(0), "CLIENT TRACKING on REDIRECT 99"),
            ("CLIENT TRACKING on REDIRECT 7 REDIRECT 8", Some(7), "CLIENT TRACKING on REDIRECT 99 REDIRECT 8"),
            ("CLIENT TRACKING on REDIRECT seven", None, "CLIENT TRACKING on REDIRECT 99"),
            ("CLIENT TRACKING redirect on", None, "CLIENT TRACKING redirect on"),
            ("CLIENT TRACKING on BCAST REDIRECT", None, "CLIENT TRACKING on BCAST REDIRECT"),
            ("CLIENT TRACKING on nonsense REDIRECT 7", None, "CLIENT TRACKING on nonsense REDIRECT 7"),
        ];
        for (line, id, other) in table {
            assert_eq!(redirected_to(&request(line)), id, "{line}");
            assert_eq!(redirecting(&request(line), 99), request(other), "{line}");
        }
    }

    #[test]
    fn a_client_hears_of_its_own_id_space_only() {
        let info = |flags: &str, id: u64| {
            format!("*6\r\n$5\r\nflags\r\n{flags}$8\r\nredirect\r\n:{id}\r\n$8\r\nprefixes\r\n*0\r\n")
        };
        let on = "*1\r\n$2\r\non\r\n";
        let broken = "*2\r\n$2\r\non\r\n$15\r\nbroken_redirect\r\n";
        let map = |text: String| text.replacen("*6", "%3", 1).replacen('*', "~", 1);
        let table = [
            (":77\r\n".to_owned(), false, ":5\r\n".to_owned()),
            (":0\r\n".to_owned(), false, ":0\r\n".to_owned()),
            (info(on, 77), false, info(on, 5)),
            (info(on, 77), true, info(broken, 5)),
            (map(info(on, 77)), true, map(info(broken, 5))),
            (info(on, 0), true, info(on, 0)),
        ];
        for (theirs, is_broken, ours) in table {
            assert_eq!(String::from_utf8(told(theirs.as_bytes(), 77, 5, is_broken)).unwrap(), ours);
        }
    }

    #[test]
    fn too_many_prefixes_are_not_remembered() {
        let mut tracked = Tracked::default();
        for i in 0..100 {
            tracked.accepted(&request(&format!("CLIENT TRACKING on BCAST PREFIX p{i}")));
        }
        assert!(tracked.is_on() && !tracked.is_known());
    }
}
