//! CLIENT TRACKING of a pinned session: what another node must be told so that invalidations go on.
//!
//! Must not forward REDIRECT. Invariant: the commands kept are those the server has accepted since tracking was last off.

use crate::resp::Args;

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

    /// What brings another connection to the same state.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        self.armed.iter().chain(&self.caching).map(|request| &**request)
    }
}

/// Whether a CLIENT TRACKING names a client to send the invalidations to.
pub fn redirects(request: &[u8]) -> bool {
    Args::new(request).skip(3).any(|word| word.eq_ignore_ascii_case(b"redirect"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    fn request(line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        encode::request(&mut out, words.into_iter());
        out
    }

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
        assert!(redirects(&request("CLIENT TRACKING on REDIRECT 7")));
        assert!(!redirects(&request("CLIENT TRACKING redirect on")));
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
