//! A transaction that arrived whole, MULTI to EXEC or DISCARD, as one run on a shared connection.
//!
//! Nothing else is written between its bytes, and every reply is the node's own; so it needs no connection of its own. Must
//! not take one whose effect on the connection outlives it. Invariant: it is answered as a whole or not at all, unless its
//! replies outgrow a read buffer, so it may be sent again as a whole while EXEC was not written.

use super::dispatch::Run;
use super::kind::Kind;
use crate::resp::{Args, RequestScanner, Scan};

/// Stands for a request of which nobody knows what became of it: its turn among those that are sent again is an error's. A
/// name that no node has; a client that sends it is told the same.
pub const UNANSWERED: &[u8] = b"*1\r\n$20\r\nREDWEIR__UNANSWERED_\r\n";

/// Whether `request` is the name `word` and nothing else.
fn is(request: &[u8], word: &[u8]) -> bool {
    let mut args = Args::new(request);
    args.remaining() == 1 && args.next().is_some_and(|name| name.eq_ignore_ascii_case(word))
}

pub fn opens(request: &[u8]) -> bool {
    is(request, b"MULTI")
}

pub fn closes(request: &[u8]) -> bool {
    is(request, b"EXEC") || is(request, b"DISCARD")
}

/// The transaction at `at` of `buf`, if it is whole and all in it may share a connection. One that only reads counts as
/// reads, so that a replica may answer it (multi.c: only a write makes EXEC refuse there).
pub fn whole(buf: &[u8], at: usize, mut scanner: RequestScanner, kind: impl Fn(&[u8]) -> Kind) -> Option<Run> {
    scanner.reset();
    let mut run = Run::at(at);
    let mut reads_only = true;
    while let Scan::Request { len } = scanner.scan(&buf[run.end..]) {
        let request = &buf[run.end..run.end + len];
        let first = run.n == 0;
        if first && !opens(request) {
            return None;
        }
        if closes(request) {
            run.add(len, Kind::MasterRead);
            run.bind(reads_only);
            return Some(run);
        }
        match if first { Kind::MasterRead } else { kind(request) } {
            // A nested MULTI, WATCH, SELECT, SUBSCRIBE, what may block or is not known.
            Kind::Alone => return None,
            kind => {
                reads_only &= first || kind == Kind::Read;
                run.add(len, kind);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::resp::encode;
    use crate::session::kind;

    fn requests(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            encode::request(&mut out, words.into_iter());
        }
        out
    }

    fn find(buf: &[u8]) -> Option<Run> {
        whole(buf, 0, RequestScanner::new(1 << 29), |r| kind::of(&command::classify(Args::new(r)), || None))
    }

    #[test]
    fn only_what_may_share_a_connection_is_a_unit() {
        /// Requests, and how many of them are a unit, and whether it only reads.
        type Row = (&'static [&'static str], Option<(u32, bool)>);
        let table: &[Row] = &[
            (&["MULTI", "SET a 1", "EXEC"], Some((3, false))),
            (&["multi", "GET a", "TTL a", "exec", "SET a 1"], Some((4, true))),
            (&["MULTI", "EXEC"], Some((2, true))),
            (&["MULTI", "GET a", "DISCARD"], Some((3, true))),
            (&["MULTI", "GET a", "TIME", "EXEC"], Some((4, false))),
            (&["MULTI", "EVAL x 0", "PUBLISH a b", "EXEC"], Some((4, false))),
            (&["MULTI", "SET a 1"], None),
            (&["MULTI", "SET a 1", "EXEC now"], None),
            (&["MULTI", "SELECT 1", "EXEC"], None),
            (&["MULTI", "MULTI", "EXEC"], None),
            (&["MULTI", "WATCH a", "EXEC"], None),
            (&["MULTI", "SUBSCRIBE a", "EXEC"], None),
            (&["MULTI", "BLPOP a 0", "EXEC"], None),
            (&["MULTI", "NOBODYKNOWS", "EXEC"], None),
            (&["MULTI x", "SET a 1", "EXEC"], None),
            (&["SET a 1", "EXEC"], None),
        ];
        for (lines, expected) in table {
            let found = find(&requests(lines)).map(|run| (run.n, run.is_read()));
            assert_eq!(found, *expected, "{lines:?}");
        }
    }

    #[test]
    fn a_unit_cut_anywhere_is_none() {
        let bytes = requests(&["MULTI", "SET a 1", "EXEC"]);
        for cut in 0..bytes.len() {
            assert!(find(&bytes[..cut]).is_none(), "{cut}");
        }
        assert_eq!(find(&bytes).unwrap().end, bytes.len());
    }
}
