//! What is on its way on one shared connection: the request bytes and who waits for their replies.
//!
//! The bytes are written from here and stay here until answered, so sending a request again costs no copy when all goes
//! well. Invariant: `acked <= written <= kept.end()`, and the entries' bytes add up to `kept.end() - acked`.

use std::collections::VecDeque;
use std::rc::Rc;

use super::kept::Kept;
use super::pieces::Share;
use super::{Manner, Receiver};
use crate::metrics::Tick;
use crate::resp::request;

/// A run of requests of one receiver.
pub struct Entry {
    /// `None`: the reply is swallowed (an injected SELECT, or a run that was taken elsewhere).
    pub to: Option<Rc<dyn Receiver>>,
    /// Replies still to come, and those that came.
    pub left: u32,
    pub done: u32,
    pub bytes: usize,
    pub read: Tick,
    pub sent: Tick,
    pub manner: Manner,
    pub own: Own,
}

/// Requests of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    No,
    Select,
    /// A script the node may be asked for.
    Script,
    /// Asks for the offset.
    Role,
}

#[derive(Default)]
pub struct Flight {
    kept: Kept,
    /// Positions in `kept`: of the oldest entry, and behind what reached the socket.
    acked: usize,
    written: usize,
    pub entries: VecDeque<Entry>,
}

impl Flight {
    /// Bytes kept: waiting to be written or to be answered.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.kept.end() - self.acked
    }

    /// Bytes that did not reach the socket.
    #[inline]
    pub fn unwritten(&self) -> usize {
        self.kept.end() - self.written
    }

    /// The node has nothing to work on.
    #[inline]
    pub fn is_dry(&self) -> bool {
        self.written <= self.acked
    }

    /// Whether the node has `enough` bytes to work on even when the oldest entry is answered. Then that one is written as a whole,
    /// so an answer will come.
    #[inline]
    pub fn is_ample(&self, enough: usize) -> bool {
        let on_wire = self.written.saturating_sub(self.acked);
        on_wire > enough && self.entries.front().is_some_and(|head| on_wire - enough > head.bytes)
    }

    /// `share`: of the same bytes, where they may stay as they lie.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], share: Option<Share>, entry: Entry) {
        match share {
            None => self.kept.push(bytes),
            Some(share) => self.kept.keep(share),
        }
        self.entries.push_back(entry);
    }

    /// `n` requests of our own, sent `now`. They are few: the one place where all others pass is to have [`Flight::push`] inline.
    #[cold]
    pub fn push_own(&mut self, bytes: &[u8], n: u32, now: Tick, own: Own) {
        let manner = Manner { idempotent: true, ..Manner::default() };
        self.push(
            bytes,
            None,
            Entry { to: None, left: n, done: 0, bytes: bytes.len(), read: now, sent: now, manner, own },
        );
    }

    /// What is to be written next: not always all there is.
    #[inline]
    pub fn to_write(&self) -> &[u8] {
        self.kept.behind(self.written)
    }

    /// `n` more bytes reached the socket.
    pub fn wrote(&mut self, n: usize) {
        self.written += n;
    }

    /// `n` more replies of the head entry are in; the entry leaves with its last one. False: it was not written yet, so what
    /// came cannot be its replies.
    #[inline]
    #[must_use]
    pub fn answered(&mut self, n: u32) -> bool {
        let Some(head) = self.entries.front_mut() else { return false };
        head.left = head.left.saturating_sub(n);
        head.done += n;
        if head.left == 0 {
            self.acked += head.bytes;
            self.entries.pop_front();
            self.kept.free(self.acked);
        }
        self.acked <= self.written
    }

    /// The head entry's oldest unanswered request.
    pub fn head_request(&self) -> &[u8] {
        let Some(head) = self.entries.front() else { return &[] };
        let run = &self.kept.behind(self.acked)[..head.bytes];
        let rest = &run[request::skip(run, head.done as usize)..];
        &rest[..request::skip(rest, 1)]
    }

    /// Takes back the newest entry if nothing of it was written.
    pub fn take_unwritten(&mut self) -> Option<(Entry, Vec<u8>)> {
        let at = self.kept.end() - self.entries.back()?.bytes;
        if at < self.written {
            return None;
        }
        let bytes = self.kept.take(at);
        self.entries.pop_back().map(|entry| (entry, bytes))
    }

    /// The unanswered requests of each entry, oldest first, as (written, unwritten). One written in part was not executed.
    pub fn unanswered(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut next = self.acked;
        self.entries.iter().map(move |entry| {
            let start = next;
            next += entry.bytes;
            let run = &self.kept.behind(start)[..entry.bytes];
            let rest = &run[request::skip(run, entry.done as usize)..];
            let rest_at = next - rest.len();
            let on_wire = self.written.saturating_sub(rest_at).min(rest.len());
            let mut whole = 0;
            for one in request::each(rest) {
                if whole + one.len() > on_wire {
                    break;
                }
                whole += one.len();
            }
            rest.split_at(whole)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(left: u32, bytes: usize) -> Entry {
        Entry { to: None, left, done: 0, bytes, read: 0, sent: 0, manner: Manner::default(), own: Own::No }
    }

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";

    #[test]
    fn what_was_written_in_part_counts_as_unwritten() {
        for (wrote, written, unwritten) in [
            (0, 0, 2),
            (GET.len() - 1, 0, 2),
            (GET.len(), 1, 1),
            (GET.len() + SET.len() - 1, 1, 1),
            (GET.len() + SET.len(), 2, 0),
        ] {
            let mut flight = Flight::default();
            let run = [GET, SET].concat();
            flight.push(&run, None, entry(2, run.len()));
            flight.wrote(wrote);
            let (w, u) = flight.unanswered().next().unwrap();
            assert_eq!((request::each(w).count(), request::each(u).count()), (written, unwritten), "wrote {wrote}");
        }
    }

    #[test]
    fn only_entries_without_a_byte_written_are_taken_back() {
        let mut flight = Flight::default();
        for run in [GET, SET, GET] {
            flight.push(run, None, entry(1, run.len()));
        }
        flight.wrote(GET.len() + 1);
        let taken: Vec<_> = std::iter::from_fn(|| flight.take_unwritten()).map(|(_, bytes)| bytes).collect();
        assert_eq!(taken, [GET]);
        assert_eq!((flight.entries.len(), flight.bytes()), (2, GET.len() + SET.len()));
    }

    #[test]
    fn answered_requests_are_forgotten_one_by_one() {
        let mut flight = Flight::default();
        let run = [GET, SET].concat();
        flight.push(&run, None, entry(2, run.len()));
        flight.push(GET, None, entry(1, GET.len()));
        flight.wrote(run.len() + GET.len());
        assert_eq!(flight.head_request(), GET);
        assert!(flight.answered(1));
        assert_eq!(flight.head_request(), SET);
        assert_eq!(flight.unanswered().next().unwrap().0, SET);
        assert_eq!(flight.unanswered().nth(1).unwrap().0, GET);
        assert!(flight.answered(1));
        assert_eq!(flight.bytes(), GET.len());
        assert!(flight.answered(1));
        assert_eq!((flight.bytes(), flight.entries.len()), (0, 0));
    }

    #[test]
    fn ample_is_what_lies_on_the_wire_behind_an_oldest_entry_that_is_there_as_a_whole() {
        let mut flight = Flight::default();
        assert!(!flight.is_ample(0) && flight.is_dry());
        for run in [SET, GET, GET] {
            flight.push(run, None, entry(1, run.len()));
        }
        let table = [(0, false), (SET.len() - 1, false), (1 + GET.len(), false), (1, true), (GET.len() - 1, true)];
        for (wrote, ample) in table {
            flight.wrote(wrote);
            assert_eq!(flight.is_ample(GET.len()), ample, "{wrote} more");
            assert_eq!(flight.is_dry(), flight.written == 0, "{wrote} more");
        }
        // The oldest is answered: what is left is one request.
        assert!(flight.answered(1));
        assert!(!flight.is_ample(GET.len()));
        assert!(flight.is_ample(GET.len() - 1));
    }

    #[test]
    fn a_reply_before_its_request_is_none() {
        for (wrote, believed) in [(0, false), (GET.len() - 1, false), (GET.len(), true)] {
            let mut flight = Flight::default();
            flight.push(GET, None, entry(1, GET.len()));
            flight.wrote(wrote);
            assert_eq!(flight.answered(1), believed, "wrote {wrote}");
        }
        assert!(!Flight::default().answered(1));
    }
}
