//! What a node's ROLE, or its INFO, says of how far it is, as a bound on what its data can be.
//!
//! The offset a reply shows was reached before every later command on its connection and after every earlier one, so
//! one behind a flush is an upper bound of what the flush saw, and a lower bound of what later ones will see (offsets.md
//! section 3). Must not compare offsets of different terms. Invariant: a reading is kept only while the node's own master
//! is the one it had in this term.

use std::cell::{Cell, RefCell};

use super::refusal;
use crate::metrics::MAX_NODES;

const ROLE: &[u8] = b"*1\r\n$4\r\nROLE\r\n";
const INFO: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

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

/// What of INFO replication is needed, all of one moment.
#[derive(Debug, PartialEq, Eq)]
struct Standing<'a> {
    line: &'a [u8],
    offset: u64,
}

/// Source: server.c genRedisInfoString. `None`: no data node's, or a replica that receives another data set. One whose link
/// is down keeps its own, and its replication id; the offset 1 stands for none known.
fn parse_info(reply: &[u8]) -> Option<Standing<'_>> {
    let mut lines = reply.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let field = |name: &[u8]| lines.clone().find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"));
    let (role, line) = (field(b"role")?, field(b"master_replid")?);
    let offset = match role {
        b"master" => field(b"master_repl_offset")?,
        b"slave" if field(b"master_sync_in_progress")? == b"0" => field(b"slave_repl_offset").filter(|n| *n != b"1")?,
        _ => return None,
    };
    lines.next().filter(|head| matches!(head.first(), Some(b'$' | b'=')))?;
    Some(Standing { line, offset: std::str::from_utf8(offset).ok()?.parse().ok()? })
}

/// Whom each node followed in which term, as its first ROLE in that term said. One for all connections of a worker: a node
/// that turns to another master before the topology knows drops its connections, too.
#[derive(Debug)]
pub struct Origins {
    followed: RefCell<Vec<(u64, Vec<u8>)>>,
    /// A term, and the replication id that each INFO of it must bear.
    line: RefCell<(u64, String)>,
    /// Only INFO counts.
    strict: bool,
    /// There is no master. A replica without a link shows no offset by ROLE, but does by INFO.
    headless: Cell<bool>,
}

impl Origins {
    pub fn new(strict: bool) -> Self {
        let followed = RefCell::new(vec![Default::default(); MAX_NODES]);
        Self { followed, line: RefCell::default(), strict, headless: Cell::new(false) }
    }

    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// What a node is asked.
    pub fn question(&self) -> &'static [u8] {
        if self.strict || self.headless.get() { INFO } else { ROLE }
    }

    /// The replication id of the present term, and whether its master is away.
    pub fn begin(&self, term: u64, line: &str, headless: bool) {
        *self.line.borrow_mut() = (term, line.to_owned());
        self.headless.set(headless);
    }

    /// Whether this answer to the question means that the user may never ask it. Any other error passes: a node says BUSY
    /// for as long as a script runs.
    pub fn bars(&self, reply: &[u8]) -> bool {
        refusal::is_for_good(reply) && (self.strict || !self.headless.get())
    }

    /// The offset `reply` shows, if it may be compared with others of `term`.
    pub fn read(&self, node: u16, term: u64, reply: &[u8]) -> Option<u64> {
        if !self.strict && reply.first() == Some(&b'*') {
            return self.read_role(node, term, reply);
        }
        let (of, line) = &*self.line.borrow();
        let standing = parse_info(reply).filter(|standing| standing.line == line.as_bytes());
        standing.filter(|_| *of == term && !line.is_empty()).map(|standing| standing.offset)
    }

    fn read_role(&self, node: u16, term: u64, reply: &[u8]) -> Option<u64> {
        let (offset, of) = match parse(reply) {
            Role::Master { offset } => (offset, b"".as_slice()),
            Role::Replica { offset, of } => (offset, of),
            Role::Unfit => return None,
        };
        let mut origins = self.followed.borrow_mut();
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
        let origins = Origins::new(false);
        assert_eq!(origins.read(3, 1, &replica(7, "connected", 12)), Some(12));
        assert_eq!(origins.read(3, 1, &replica(8, "connected", 515)), None);
        assert_eq!(origins.read(3, 1, &replica(7, "connected", 13)), Some(13));
        assert_eq!(origins.read(3, 2, &replica(8, "connected", 516)), Some(516));
        // A reply that was asked for in the old term.
        assert_eq!(origins.read(3, 1, &replica(8, "connected", 517)), None);
        assert_eq!(origins.read(u16::MAX, 1, &replica(8, "connected", 517)), None);
    }

    #[test]
    fn without_a_master_a_replica_shows_by_info_what_it_had() {
        let origins = Origins::new(false);
        origins.begin(4, "aa", false);
        assert_eq!((origins.question(), origins.bars(b"-NOPERM no\r\n")), (ROLE, true));
        origins.begin(4, "aa", true);
        assert_eq!((origins.question(), origins.bars(b"-NOPERM no\r\n")), (INFO, false));
        let unlinked = |id: &str| {
            info(&format!(
                "role:slave master_link_status:down master_sync_in_progress:0 slave_repl_offset:12 master_replid:{id}"
            ))
        };
        assert_eq!(origins.read(3, 4, &unlinked("aa")), Some(12));
        assert_eq!(origins.read(3, 4, &unlinked("bb")), None);
        assert_eq!(origins.read(3, 3, &unlinked("aa")), None);
        assert_eq!(origins.read(3, 4, &replica(7, "connected", 13)), Some(13), "asked when there was one");
    }

    #[test]
    fn only_what_stays_so_bars_a_user_from_asking() {
        for (strict, reply, barred) in [
            (false, "-NOPERM User x has no permissions to run the 'role' command\r\n", true),
            (false, "-ERR unknown command 'ROLE', with args beginning with: \r\n", true),
            (true, "-NOPERM User x has no permissions to run the 'info' command\r\n", true),
            (false, "-BUSY Redis is busy running a script.\r\n", false),
            (true, "-LOADING Redis is loading the dataset in memory\r\n", false),
            (false, "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n", false),
        ] {
            assert_eq!(Origins::new(strict).bars(reply.as_bytes()), barred, "{reply}");
        }
    }

    fn info(fields: &str) -> Vec<u8> {
        let text = format!("# Replication\r\n{}\r\n", fields.replace(' ', "\r\n"));
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    #[test]
    fn strictly_an_offset_counts_only_with_the_replication_id_of_its_term() {
        let origins = Origins::new(true);
        assert_eq!(origins.question(), INFO);
        let replica = |id: &str, sync: &str, offset: u64| {
            info(&format!(
                "role:slave master_link_status:down master_sync_in_progress:{sync} slave_read_repl_offset:999 slave_repl_offset:{offset} master_replid:{id} master_repl_offset:1"
            ))
        };
        let master =
            |id: &str| info(&format!("role:master master_replid:{id} master_replid2:aa master_repl_offset:70"));
        assert_eq!(origins.read(1, 0, &replica("", "0", 5)), None, "no term yet");
        origins.begin(4, "aa", false);
        let verbatim = [b"=300\r\ntxt:".as_slice(), &replica("aa", "0", 9)[6..]].concat();
        for (what, term, reply, offset) in [
            ("in line", 4, replica("aa", "0", 5), Some(5)),
            ("the master", 4, master("aa"), Some(70)),
            ("as RESP3 has it", 4, verbatim, Some(9)),
            ("receives a data set", 4, replica("aa", "1", 5), None),
            ("knows no offset", 4, replica("aa", "0", 1), None),
            ("another line, whatever its offset", 4, replica("bb", "0", 500), None),
            ("a master behind the same address", 4, master("bb"), None),
            ("asked in another term", 3, replica("aa", "0", 5), None),
            ("an error", 4, b"-NOPERM no\r\n".to_vec(), None),
            ("a ROLE", 4, super::tests::replica(7, "connected", 12), None),
            ("cut", 4, b"$20\r\nrole:slave\r\n".to_vec(), None),
        ] {
            assert_eq!(origins.read(1, term, &reply), offset, "{what}");
        }
    }
}
