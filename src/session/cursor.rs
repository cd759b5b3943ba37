//! SCAN, HSCAN, SSCAN and ZSCAN across a change of master.
//!
//! A cursor is a place in one process' hash table: at another master it means another place, and keys would be missed. So
//! after a change each cursor that the present master is not known to have given begins at the start again: that brings
//! keys twice, which SCAN allows, and misses none. Until a first change, and when one is long past, nothing here is asked.
//! Invariant: a cursor is noted under the term of the master that gave it, and forgotten with it.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::commands::Bound;
use super::{Session, errors};
use crate::metrics::{Count, Kind as Label, Reason};
use crate::resp::{Args, encode};
use crate::route::Want;
use crate::topology::Topology;
use crate::upstream::Target;

/// Cursors kept in mind. Clients share connections and connections clients, so they are the set's, not the session's.
const KEPT: usize = 16 * 1024;
/// A scan that began before a change of master does not go on later than this.
const WATCH: Duration = Duration::from_secs(3600);
/// Scans that one session begins again after one change. Then a cursor is believed: it may come from the present master by
/// way of another proxy, and a scan must end.
const RESTARTS: u32 = 64;
/// Between two tries when the master is lost.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the cursors of one set.
#[derive(Default)]
pub struct Cursors {
    /// The newest term under which somebody scanned; 0: nobody did.
    term: AtomicU64,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// When the present term was first seen; `None`: there was no other before, or that is long ago.
    since: Option<Instant>,
    marks: HashSet<u64>,
    /// Oldest first.
    order: VecDeque<u64>,
}

/// What to do with a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    AsItIs,
    FromTheStart,
}

/// `cursor` as the client gave it; `None`: it is no number, and the server says so.
fn judge(cursor: Option<u64>, given: bool, restarts: u32) -> Judgement {
    match cursor {
        Some(n) if n != 0 && !given && restarts < RESTARTS => Judgement::FromTheStart,
        _ => Judgement::AsItIs,
    }
}

impl Cursors {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether cursors need a look under `term`. `now` matters only if they did.
    fn watches(&self, term: u64, now: Instant) -> bool {
        let known = self.term.load(Relaxed);
        if known == 0 {
            return self.term.compare_exchange(0, term, Relaxed, Relaxed).is_err_and(|other| other != term);
        }
        let mut given = self.given();
        if term > self.term.fetch_max(term, Relaxed) {
            *given = Given { since: Some(now), ..Given::default() };
        }
        if given.since.is_some_and(|since| now.saturating_duration_since(since) > WATCH) {
            *given = Given::default();
        }
        given.since.is_some()
    }

    fn has(&self, term: u64, mark: u64) -> bool {
        term == self.term.load(Relaxed) && self.given().marks.contains(&mark)
    }

    fn note(&self, term: u64, mark: u64) {
        let mut given = self.given();
        if term != self.term.load(Relaxed) || !given.marks.insert(mark) {
            return;
        }
        given.order.push_back(mark);
        if given.order.len() > KEPT
            && let Some(oldest) = given.order.pop_front()
        {
            given.marks.remove(&oldest);
        }
    }
}

/// The part of a request that a cursor belongs to, and the cursor.
struct Scan<'a> {
    name: &'a [u8],
    key: &'a [u8],
    db: u32,
    cursor: Option<u64>,
}

impl<'a> Scan<'a> {
    fn of(request: &'a [u8], db: u32) -> Self {
        let mut words = Args::new(request);
        let name = words.next().unwrap_or_default();
        let key = if name.eq_ignore_ascii_case(b"scan") { &[][..] } else { words.next().unwrap_or_default() };
        Self { name, key, db, cursor: words.next().and_then(number) }
    }

    fn mark(&self, cursor: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.name.to_ascii_lowercase(), self.key, self.db, cursor).hash(&mut hasher);
        hasher.finish()
    }

    /// The same request from the start.
    fn restarted(&self, request: &[u8]) -> Vec<u8> {
        let at = if self.name.eq_ignore_ascii_case(b"scan") { 1 } else { 2 };
        let words: Vec<&[u8]> =
            Args::new(request).enumerate().map(|(i, word)| if i == at { &b"0"[..] } else { word }).collect();
        let mut out = Vec::new();
        encode::request(&mut out, words.into_iter());
        out
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The cursor in a reply: `*2`, then a bulk with it.
fn cursor_of(reply: &[u8]) -> Option<u64> {
    let mut lines = reply.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (header, _, cursor) = (lines.next()?, lines.next()?, lines.next()?);
    (header == b"*2").then(|| number(cursor))?
}

/// The term under which `target` is the master, in the life it was dialled in.
fn term_of(topology: &Topology, target: &Target) -> Option<u64> {
    let shard = topology.shards.first()?;
    let alive = topology.node(target.node).is_some_and(|n| n.generation == target.generation);
    (alive && shard.writes == crate::topology::Writes::Open(target.node)).then_some(shard.term)
}

impl Session {
    /// Whether a request of the SCAN family must be looked at before it goes its way.
    pub(super) fn must_check_cursor(&self) -> bool {
        let term = self.front.topology().shards.first().map_or(0, |shard| shard.term);
        self.front.cursors().watches(term, Instant::now())
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
        let term = term_of(&self.front.topology(), &lease.target).ok_or(io::ErrorKind::ConnectionAborted)?;
        self.front.cursors().watches(term, Instant::now());
        tokio::time::timeout_at(deadline, lease.select(db)).await.map_err(io::Error::from)??;
        let scan = Scan::of(request, db);
        let given = scan.cursor.is_some_and(|n| self.front.cursors().has(term, scan.mark(n)));
        let (before, restarts) = self.restarts.get();
        let restarts = if before == term { restarts } else { 0 };
        let asked = match judge(scan.cursor, given, restarts) {
            Judgement::AsItIs => request.to_vec(),
            Judgement::FromTheStart => {
                self.restarts.set((term, restarts + 1));
                self.front.cells.count(Count::ScansRestarted, 1);
                scan.restarted(request)
            }
        };
        let (target, most) = (lease.target.clone(), self.front.limits.client_output_bytes);
        let reply = tokio::select! {
            reply = lease.exchange_large(&asked, most) => reply?,
            () = self.lost(&target, Want::Master) => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        };
        self.front.cells.routed(lease.target.node, Label::MasterRead, Reason::Master, 1);
        self.front.pool.give_back(lane, lease);
        if let Some(next) = cursor_of(&reply) {
            self.front.cursors().note(term, scan.mark(next));
        }
        Ok(reply)
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

    fn request(line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        encode::request(&mut out, words.into_iter());
        out
    }

    #[test]
    fn only_a_cursor_from_elsewhere_begins_again() {
        use Judgement::{AsItIs, FromTheStart};
        for (cursor, given, restarts, expected) in [
            (Some(0), false, 0, AsItIs),
            (Some(0), true, 0, AsItIs),
            (Some(7), false, 0, FromTheStart),
            (Some(7), true, 0, AsItIs),
            (Some(7), false, RESTARTS - 1, FromTheStart),
            (Some(7), false, RESTARTS, AsItIs),
            (None, false, 0, AsItIs),
        ] {
            assert_eq!(judge(cursor, given, restarts), expected, "{cursor:?} {given} {restarts}");
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
    fn a_cursor_is_known_for_its_key_database_and_term() {
        let cursors = Cursors::default();
        cursors.watches(1, Instant::now());
        let scan = |line: &str, db| {
            let request = request(line);
            let scan = Scan::of(&request, db);
            scan.mark(scan.cursor.unwrap_or_default())
        };
        cursors.note(1, scan("HSCAN h 5 COUNT 10", 0));
        for (line, db, known) in [
            ("hscan h 5", 0, true),
            ("HSCAN h 6", 0, false),
            ("HSCAN i 5", 0, false),
            ("SSCAN h 5", 0, false),
            ("HSCAN h 5", 1, false),
            ("SCAN 5", 0, false),
        ] {
            assert_eq!(cursors.has(1, scan(line, db)), known, "{line} {db}");
        }
        cursors.watches(2, Instant::now());
        assert!(!cursors.has(1, scan("hscan h 5", 0)) && !cursors.has(2, scan("hscan h 5", 0)));
        cursors.note(1, scan("hscan h 5", 0));
        assert!(!cursors.has(2, scan("hscan h 5", 0)));
    }

    #[test]
    fn no_more_cursors_than_the_bound_are_kept() {
        let cursors = Cursors::default();
        cursors.watches(1, Instant::now());
        for mark in 0..KEPT as u64 + 10 {
            cursors.note(1, mark);
        }
        assert_eq!(cursors.given().marks.len(), KEPT);
        assert!(!cursors.has(1, 0) && cursors.has(1, KEPT as u64));
    }

    #[test]
    fn a_restart_changes_the_cursor_and_nothing_else() {
        for (line, expected) in [
            ("SCAN 17 COUNT 10 MATCH 17", "SCAN 0 COUNT 10 MATCH 17"),
            ("HSCAN 5 5 COUNT 5", "HSCAN 5 0 COUNT 5"),
            ("zscan k 12", "zscan k 0"),
        ] {
            let bytes = request(line);
            assert_eq!(Scan::of(&bytes, 0).restarted(&bytes), request(expected));
        }
    }

    #[test]
    fn the_cursor_is_found_in_a_reply() {
        for (reply, expected) in [
            (&b"*2\r\n$2\r\n12\r\n*0\r\n"[..], Some(12)),
            (b"*2\r\n$20\r\n18446744073709551615\r\n*0\r\n", Some(u64::MAX)),
            (b"-ERR invalid cursor\r\n", None),
            (b"*0\r\n", None),
        ] {
            assert_eq!(cursor_of(reply), expected);
        }
    }
}
