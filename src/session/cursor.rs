//! SCAN, HSCAN, SSCAN and ZSCAN across a change of master.
//!
//! A cursor is a place in one process' hash table: at another master it means another place, and keys would be missed. So
//! after a change a client gets cursors that bear a sign of the master that gave them; any other begins at the start
//! again: that brings keys twice, which SCAN allows, and misses none. The sign comes from the replication id, so that it is
//! the same in every redweir; a server that is given one all the same looks only at the bits below it (dict.c dictScan).
//! Until a first change, and when one is long past, nothing here is asked.
//! Invariant: a cursor reaches only the master that gave it, or nobody knows where it is from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::commands::Bound;
use super::{Session, errors};
use crate::metrics::{Count, Kind as Label, Reason};
use crate::resp::{Args, encode};
use crate::route::Want;
use crate::topology::{Shard, Topology, Writes};
use crate::upstream::Target;

/// A server's own cursor is below the size of its table: 2^40 buckets are 8 TB. With the sign above it a cursor is below
/// 2^53, the last integer that clients which keep it as a floating point number can tell from the next.
const SIGN_AT: u32 = 40;
const SIGNS: u64 = 1 << 13;
/// A scan that began before a change of master does not go on later than this.
const WATCH: Duration = Duration::from_secs(3600);
/// Scans that one session begins again after one change. Then a cursor is believed: a scan must end, even one that goes on
/// through something that gives unsigned cursors of the present master.
const RESTARTS: u32 = 64;
/// Between two tries when the master is lost.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the set has had another master lately.
#[derive(Default)]
pub struct Cursors {
    /// The newest term under which somebody scanned; 0: nobody did.
    term: AtomicU64,
    /// When it was first seen; `None`: there was no other before, or that is long ago.
    since: Mutex<Option<Instant>>,
}

impl Cursors {
    /// Whether cursors need a look under `term`. `now` matters only if they did.
    fn watches(&self, term: u64, now: Instant) -> bool {
        let known = self.term.load(Relaxed);
        if known == 0 {
            return self.term.compare_exchange(0, term, Relaxed, Relaxed).is_err_and(|other| other != term);
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if term > self.term.fetch_max(term, Relaxed) {
            *since = Some(now);
        }
        if since.is_some_and(|since| now.saturating_duration_since(since) > WATCH) {
            *since = None;
        }
        since.is_some()
    }
}

/// What to do with a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// It is no number, and the server says so; or the start of a scan.
    AsItIs,
    /// The master's own, without the sign.
    Own(u64),
    FromTheStart,
}

fn judge(cursor: Option<u64>, sign: u64, restarts: u32) -> Judgement {
    match cursor {
        None | Some(0) => Judgement::AsItIs,
        Some(n) if n >> SIGN_AT == sign || restarts >= RESTARTS => Judgement::Own(n & ((1 << SIGN_AT) - 1)),
        Some(_) => Judgement::FromTheStart,
    }
}

/// The sign of a master; never that of the one before, and never none.
fn sign(shard: &Shard) -> u64 {
    let of = |id: &str| {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        1 + hasher.finish() % (SIGNS - 2)
    };
    let lineage = &shard.lineage;
    match lineage.id.as_str() {
        "" => 1 + shard.term % (SIGNS - 2),
        id if of(id) == of(&lineage.previous) => of(id) + 1,
        id => of(id),
    }
}

fn signed(cursor: u64, sign: u64) -> u64 {
    if cursor == 0 || cursor >> SIGN_AT > 0 { cursor } else { cursor | sign << SIGN_AT }
}

/// Where the cursor is among the words of a request.
fn place(request: &[u8]) -> usize {
    let name = Args::new(request).next().unwrap_or_default();
    if name.eq_ignore_ascii_case(b"scan") { 1 } else { 2 }
}

/// The same request with another cursor.
fn with_cursor(request: &[u8], cursor: u64) -> Vec<u8> {
    let (at, cursor) = (place(request), cursor.to_string());
    let words = Args::new(request).enumerate().map(|(i, word)| if i == at { cursor.as_bytes() } else { word });
    let words: Vec<&[u8]> = words.collect();
    let mut out = Vec::new();
    encode::request(&mut out, words.into_iter());
    out
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The reply (`*2`, then a bulk with the cursor) with the master's sign; anything else as it is.
fn sign_reply(reply: Vec<u8>, sign: u64) -> Vec<u8> {
    let Some(bulk) = reply.strip_prefix(b"*2\r\n") else { return reply };
    let mut lines = bulk.splitn(3, |b| *b == b'\n');
    let (Some(_), Some(line), Some(rest)) = (lines.next(), lines.next(), lines.next()) else { return reply };
    let Some(cursor) = line.strip_suffix(b"\r").and_then(number) else { return reply };
    let mut out = b"*2\r\n".to_vec();
    encode::bulk(&mut out, signed(cursor, sign).to_string().as_bytes());
    out.extend_from_slice(rest);
    out
}

/// The shard whose master `target` is, in the life it was dialled in.
fn shard_of<'a>(topology: &'a Topology, target: &Target) -> Option<&'a Shard> {
    let alive = topology.node(target.node).is_some_and(|n| n.generation == target.generation);
    topology.shards.first().filter(|shard| alive && shard.writes == Writes::Open(target.node))
}

impl Session {
    /// Whether a request of the SCAN family must be looked at before it goes its way.
    pub(super) fn must_check_cursor(&self) -> bool {
        self.front.cursors().watches(self.front.term(), Instant::now())
    }

    /// One step of a scan, on a connection of its own.
    pub(super) async fn scan(self: &Rc<Self>, request: &[u8]) -> bool {
        let deadline = tokio::time::Instant::now() + self.front.listener.hold;
        let reply = loop {
            match self.scan_once(request, deadline).await {
                Ok(reply) => break reply,
                Err(Failed::For(text)) => break text,
                Err(Failed::Now(e)) if tokio::time::Instant::now() >= deadline => break errors::no_connection(&e),
                Err(Failed::Now(_)) => tokio::time::sleep(PAUSE).await,
            }
        };
        self.reply(&reply);
        true
    }

    async fn scan_once(&self, request: &[u8], deadline: tokio::time::Instant) -> Result<Vec<u8>, Failed> {
        let (lane, db) = {
            let s = self.state.borrow();
            (s.lane, s.db)
        };
        let mut lease = self.lease_until(lane, Want::Master, deadline, Bound::Wait).await.map_err(Failed::For)?;
        // Only now: the cursor is judged by the master that is asked.
        let topology = self.front.topology();
        let shard = shard_of(&topology, &lease.target).ok_or(io::ErrorKind::ConnectionAborted)?;
        let (term, sign) = (shard.term, sign(shard));
        self.front.cursors().watches(term, Instant::now());
        tokio::time::timeout_at(deadline, lease.select(db)).await.map_err(io::Error::from)??;
        let (before, restarts) = self.restarts.get();
        let restarts = if before == term { restarts } else { 0 };
        let cursor = Args::new(request).nth(place(request)).and_then(number);
        let asked = match judge(cursor, sign, restarts) {
            Judgement::AsItIs => request.to_vec(),
            Judgement::Own(cursor) => with_cursor(request, cursor),
            Judgement::FromTheStart => {
                self.restarts.set((term, restarts + 1));
                self.front.cells.count(Count::ScansRestarted, 1);
                with_cursor(request, 0)
            }
        };
        let (target, most) = (lease.target.clone(), self.front.limits.client_output_bytes);
        let reply = tokio::select! {
            reply = lease.exchange_large(&asked, most) => reply?,
            () = self.lost(&target, Want::Master) => {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
            }
        };
        self.front.cells.routed(target.node, Label::MasterRead, Reason::Master, 1);
        self.front.pool.give_back(lane, lease);
        self.state.borrow_mut().seen.escaped();
        Ok(sign_reply(reply, sign))
    }
}

enum Failed {
    /// With this answer.
    For(Vec<u8>),
    /// Another try may do.
    Now(io::Error),
}

impl<E: Into<io::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Failed::Now(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::line as request;

    #[test]
    fn only_a_cursor_from_elsewhere_begins_again() {
        use Judgement::{AsItIs, FromTheStart, Own};
        for (cursor, restarts, expected) in [
            (None, 0, AsItIs),
            (Some(0), 0, AsItIs),
            (Some(7), 0, FromTheStart),
            (Some(signed(7, 5)), 0, Own(7)),
            (Some(signed(7, 6)), 0, FromTheStart),
            (Some(u64::MAX), 0, FromTheStart),
            (Some(7), RESTARTS - 1, FromTheStart),
            (Some(7), RESTARTS, Own(7)),
            (Some(signed(7, 6)), RESTARTS, Own(7)),
        ] {
            assert_eq!(judge(cursor, 5, restarts), expected, "{cursor:?} {restarts}");
        }
    }

    #[test]
    fn a_master_has_another_sign_than_the_one_before() {
        let shard = |id: String, previous: String| {
            let mut shard = Topology::empty().shards.remove(0);
            (shard.lineage.id, shard.lineage.previous) = (id, previous);
            shard
        };
        let mut before = sign(&shard("0".into(), String::new()));
        for n in 1..100_000 {
            let now = sign(&shard(n.to_string(), (n - 1).to_string()));
            // The one before may have been moved out of the way itself.
            let twice = sign(&shard((n - 1).to_string(), String::new()));
            assert!(now != before || before != twice, "{n}");
            assert!((1..SIGNS).contains(&now) && signed(1, now) < 1 << 53);
            before = now;
        }
    }

    #[test]
    fn cursors_are_watched_from_a_change_of_master_until_it_is_long_past() {
        let cursors = Cursors::default();
        let now = Instant::now();
        for (term, after, expected) in [
            (0, 0, false),
            (1, 0, false),
            (1, 5, false),
            (2, 6, true),
            (2, 3000, true),
            // A worker that has not heard of it yet.
            (1, 3001, true),
            (2, 6 + 3601, false),
            (3, 9000, true),
        ] {
            assert_eq!(cursors.watches(term, now + Duration::from_secs(after)), expected, "{term} {after}");
        }
    }

    #[test]
    fn another_cursor_changes_nothing_else() {
        for (line, expected) in [
            ("SCAN 17 COUNT 10 MATCH 17", "SCAN 0 COUNT 10 MATCH 17"),
            ("HSCAN 5 5 COUNT 5", "HSCAN 5 0 COUNT 5"),
            ("zscan k 12", "zscan k 0"),
            ("SCAN", "SCAN"),
        ] {
            assert_eq!(with_cursor(&request(line), 0), request(expected));
        }
    }

    #[test]
    fn a_reply_is_signed_unless_the_scan_is_over() {
        for (reply, expected) in [
            ("*2\r\n$2\r\n12\r\n*1\r\n$1\r\nk\r\n", "*2\r\n$13\r\n1099511627788\r\n*1\r\n$1\r\nk\r\n"),
            ("*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("*2\r\n$20\r\n18446744073709551615\r\n*0\r\n", "*2\r\n$20\r\n18446744073709551615\r\n*0\r\n"),
            ("-ERR invalid cursor\r\n", "-ERR invalid cursor\r\n"),
            ("*0\r\n", "*0\r\n"),
        ] {
            assert_eq!(sign_reply(reply.as_bytes().to_vec(), 1), expected.as_bytes());
        }
    }
}
