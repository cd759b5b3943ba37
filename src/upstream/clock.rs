//! What a node's ROLE says of how far it is, as a bound on what its data can be.
//!
//! The offset a ROLE reply shows was reached before every later command on its connection and after every earlier one, so
//! one behind a flush is an upper bound of what the flush saw, and a lower bound of what later ones will see (offsets.md
//! section 3). Must not compare offsets of different terms. Invariant: a reading is kept only while the node's own master
//! is the one it had in this term.

use std::cell::RefCell;

use crate::metrics::MAX_NODES;

pub const ROLE: &[u8] = b"*1\r\n$4\r\nROLE\r\n";

/// The newest reading of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The topology's term when ROLE was asked; 0: nothing is known.
    pub term: u64,
    pub offset: u64,
    /// The last run of requests that ROLE was behind.
    pub covers: u64,
}

impl Reading {
    /// Whether the node has shown `floor`, an offset of `term`.
    #[inline]
    pub fn reaches(&self, term: u32, floor: u64) -> bool {
        self.term == u64::from(term) && self.offset >= floor
    }
}

/// What ROLE was answered with.
#[derive(Debug, PartialEq, Eq)]
enum Role<'a> {
    Master {
        offset: u64,
    },
    Replica {
        offset: u64,
        of: &'a [u8],
    },
    /// Refused, or a replica without a link: no bound at all.
    Unfit,
}

/// Source: replication.c roleCommand. A replica's host and port are taken as they stand in the reply.
fn parse(reply: &[u8]) -> Role<'_> {
    let (head, rest) = match reply {
        [b'*', b'3', b'\r', b'\n', rest @ ..] => (b"$6\r\nmaster\r\n".as_slice(), rest),
        [b'*', b'5', b'\r', b'\n', rest @ ..] => (b"$5\r\nslave\r\n".as_slice(), rest),
        _ => return Role::Unfit,
    };
    let Some(rest) = rest.strip_prefix(head) else { return Role::Unfit };
    if head.len() == b"$6\r\nmaster\r\n".len() {
        let line = rest.split(|b| *b == b'\r').next();
        return line.and_then(integer).map_or(Role::Unfit, |offset| Role::Master { offset });
    }
    const LINKED: &[u8] = b"\r\n$9\r\nconnected\r\n";
    let Some(at) = rest.windows(LINKED.len()).position(|w| w == LINKED) else { return Role::Unfit };
    let offset = rest[at + LINKED.len()..].strip_suffix(b"\r\n").and_then(integer);
    offset.map_or(Role::Unfit, |offset| Role::Replica { offset, of: &rest[..at] })
}

fn integer(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line.strip_prefix(b":")?).ok()?.parse().ok()
}

/// Whom each node followed in which term, as its first ROLE in that term said. One for all connections of a worker: a node
/// that turns to another master before the topology knows drops its connections, too.
#[derive(Debug)]
pub struct Origins(RefCell<Vec<(u64, Vec<u8>)>>);

impl Default for Origins {
    fn default() -> Self {
        Self(RefCell::new(vec![Default::default(); MAX_NODES]))
    }
}

impl Origins {
    /// The offset `reply` shows, if it may be compared with others of `term`.
    pub fn read(&self, node: u16, term: u64, reply: &[u8]) -> Option<u64> {
        let (offset, of) = match parse(reply) {
            Role::Master { offset } => (offset, b"".as_slice()),
            Role::Replica { offset, of } => (offset, of),
            Role::Unfit => return None,
        };
        let mut origins = self.0.borrow_mut();
        let (known_term, known) = origins.get_mut(usize::from(node))?;
        if *known_term < term {
            (*known_term, *known) = (term, of.to_vec());
        }
        (*known_term == term && known == of).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(port: u16, state: &str, offset: i64) -> Vec<u8> {
        let length = state.len();
        format!("*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:{port}\r\n${length}\r\n{state}\r\n:{offset}\r\n").into_bytes()
    }

    #[test]
    fn reads_offsets_and_nothing_from_a_replica_without_a_link() {
        let master = b"*3\r\n$6\r\nmaster\r\n:940\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n$3\r\n913\r\n";
        assert_eq!(parse(master), Role::Master { offset: 940 });
        assert_eq!(parse(&replica(7, "connected", 12)), Role::Replica { offset: 12, of: b"$9\r\n127.0.0.1\r\n:7" });
        for (state, offset) in [("connect", -1), ("sync", 12), ("connected", -1)] {
            assert_eq!(parse(&replica(7, state, offset)), Role::Unfit, "{state}");
        }
        for odd in [
            b"-NOPERM no\r\n".as_slice(),
            b"*2\r\n$8\r\nsentinel\r\n*0\r\n",
            b"",
            b"*3\r\n$6\r\nmaster\r\n:x\r\n*0\r\n",
        ] {
            assert_eq!(parse(odd), Role::Unfit);
        }
    }

    #[test]
    fn who_follows_another_master_within_a_term_is_not_believed_until_the_next() {
        let origins = Origins::default();
        assert_eq!(origins.read(3, 1, &replica(7, "connected", 12)), Some(12));
        assert_eq!(origins.read(3, 1, &replica(8, "connected", 515)), None);
        assert_eq!(origins.read(3, 1, &replica(7, "connected", 13)), Some(13));
        assert_eq!(origins.read(3, 2, &replica(8, "connected", 516)), Some(516));
        // A reply that was asked for in the old term.
        assert_eq!(origins.read(3, 1, &replica(8, "connected", 517)), None);
        assert_eq!(origins.read(u16::MAX, 1, &replica(8, "connected", 517)), None);
    }
}
