//! Keeps keys warm at the master that are read on replicas: a sample of them is touched there, so that its eviction does not
//! throw out what is hot elsewhere (allkeys-lru, allkeys-lfu).
//!
//! Must not delay a request: keys are noted in a bounded queue, and a task of its own sends them, under redweir's own login.
//! Invariant: what the queue has no room for, and what the master does not answer, is dropped and counted.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::front::Front;
use super::state::State;
use crate::command::{self, Class};
use crate::config::Share;
use crate::metrics::Count;
use crate::resp::{Args, encode, request};
use crate::route::Want;
use crate::upstream::{Lease, Refused};

/// Between two batches.
const PAUSE: Duration = Duration::from_millis(100);
/// A master that takes longer has other troubles.
const LIMIT: Duration = Duration::from_secs(1);
/// Keys of one batch, and their bytes.
const KEYS: usize = 1024;
const BYTES: usize = 64 * 1024;
/// Keys noted of one request.
const KEYS_OF_ONE: usize = 16;

/// Keys that wait, in the order they were read.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Database, and where the key ends.
    keys: Vec<(u32, usize)>,
}

impl Batch {
    fn push(&mut self, db: u32, key: &[u8]) -> bool {
        let fits = self.keys.len() < KEYS && self.bytes.len() + key.len() <= BYTES;
        if fits {
            self.bytes.extend_from_slice(key);
            self.keys.push((db, self.bytes.len()));
        }
        fits
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
    }

    /// As one TOUCH for each row of keys of one database.
    fn requests(&self) -> Vec<(u32, Vec<u8>)> {
        let mut start = 0;
        let mut requests = Vec::new();
        for row in self.keys.chunk_by(|a, b| a.0 == b.0) {
            let mut words: Vec<&[u8]> = vec![b"TOUCH"];
            for (_, end) in row {
                words.push(&self.bytes[start..*end]);
                start = *end;
            }
            let mut touch = Vec::new();
            encode::request(&mut touch, words.into_iter());
            requests.extend(row.first().map(|(db, _)| (*db, touch)));
        }
        requests
    }
}

/// The sampler of one worker and listener.
pub(super) struct Touch {
    share: Share,
    /// Requests to let pass until the next one is noted.
    skip: Cell<u32>,
    batch: RefCell<Batch>,
}

impl Touch {
    pub fn new(share: Share) -> Option<Self> {
        (share > Share::NONE).then(|| Self { share, skip: Cell::new(0), batch: RefCell::default() })
    }

    /// How many of `n` requests are to be noted, as how far on the first one is.
    #[inline]
    fn first_of(&self, n: u32) -> Option<u32> {
        let skip = self.skip.get();
        if skip >= n {
            self.skip.set(skip - n);
            return None;
        }
        Some(skip)
    }

    /// At random, so that no rhythm of a client goes with the sample's; on average as the share says.
    fn draw(&self) -> u32 {
        let every = Share::ALL.0 / self.share.0.max(1);
        if every <= 1 { 0 } else { fastrand::u32(0..2 * every - 1) }
    }
}

impl Front {
    /// `n` reads went to a replica; on a connection of `s`' lane.
    #[inline]
    pub(super) fn note_reads(&self, s: &State, bytes: &[u8], n: u32) {
        if let Some(touch) = &self.touch
            && let Some(first) = touch.first_of(n)
        {
            self.note_from(touch, s, bytes, (first, n));
        }
    }

    #[cold]
    fn note_from(&self, touch: &Touch, s: &State, bytes: &[u8], (first, n): (u32, u32)) {
        // The client does not want its reads to be of any consequence.
        let silent = self.pool.describe(s.lane).is_some_and(|lane| lane.no_touch);
        let mut next = first;
        for (at, request) in (0..n).zip(request::each(bytes)) {
            if at == next {
                if !silent {
                    self.note(touch, s.db, request);
                }
                next += 1 + touch.draw();
            }
        }
        touch.skip.set(next.saturating_sub(n));
    }

    fn note(&self, touch: &Touch, db: u32, request: &[u8]) {
        let verdict = command::classify(Args::new(request));
        let Some(command) = verdict.command.filter(|_| verdict.class == Class::Read) else { return };
        let words: Vec<&[u8]> = Args::new(request).collect();
        let keys = command.keys.places(words.len()).take(KEYS_OF_ONE).filter_map(|at| words.get(at));
        let mut batch = touch.batch.borrow_mut();
        let dropped = keys.filter(|key| !batch.push(db, key)).count();
        self.cells.count(Count::TouchesDropped, dropped as u64);
    }

    /// Sends what was noted, batch by batch, for ever. Nothing to do where nothing is sampled.
    pub async fn keep_warm(self: Rc<Self>) {
        let Some(touch) = &self.touch else { return };
        let lane = self.pool.lane(self.own_lane());
        let mut full = Batch::default();
        let mut complained = false;
        loop {
            tokio::time::sleep(PAUSE).await;
            if touch.batch.borrow().keys.is_empty() {
                continue;
            }
            std::mem::swap(&mut full, &mut touch.batch.borrow_mut());
            let sent = tokio::time::timeout(LIMIT, async {
                let target = self.target(Want::Master).ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
                let mut lease = self.pool.lease(lane, &target).await?;
                send(&mut lease, &full).await?;
                self.pool.give_back(lane, lease);
                Ok::<(), Refused>(())
            });
            let failed = match sent.await {
                Ok(Ok(())) => None,
                Ok(Err(refused)) => Some(refused.to_string()),
                Err(_) => Some(format!("no answer within {LIMIT:?}")),
            };
            let what = if failed.is_none() { Count::KeysTouched } else { Count::TouchesDropped };
            self.cells.count(what, full.keys.len() as u64);
            if let Some(why) = &failed
                && !complained
            {
                tracing::warn!(why, "keys read on replicas cannot be touched at the master (touch-sample)");
            }
            complained = failed.is_some();
            full.clear();
        }
    }
}

/// # Errors
/// The socket's, or the node's refusal.
async fn send(lease: &mut Lease, batch: &Batch) -> Result<(), Refused> {
    for (db, touch) in batch.requests() {
        lease.select(db).await?;
        let reply = lease.exchange(&touch).await?;
        if let Some(text) = reply.strip_prefix(b"-") {
            return Err(Refused::Handshake(String::from_utf8_lossy(text).trim_end().to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_and_keeps_databases_apart() {
        let mut batch = Batch::default();
        for (db, key) in [(0, "a"), (0, "bc"), (3, "d"), (0, "")] {
            assert!(batch.push(db, key.as_bytes()));
        }
        let said: Vec<(u32, String)> =
            batch.requests().into_iter().map(|(db, touch)| (db, touch.escape_ascii().to_string())).collect();
        let touch = |n: usize, keys: &str| format!("*{n}\\r\\n$5\\r\\nTOUCH\\r\\n{keys}");
        let expected = [
            (0, touch(3, "$1\\r\\na\\r\\n$2\\r\\nbc\\r\\n")),
            (3, touch(2, "$1\\r\\nd\\r\\n")),
            (0, touch(2, "$0\\r\\n\\r\\n")),
        ];
        assert_eq!(said, expected);
        assert!(!batch.push(0, &vec![b'x'; BYTES]));
        (4..KEYS).for_each(|_| assert!(batch.push(0, b"k")));
        assert!(!batch.push(0, b"k"));
        batch.clear();
        assert!(batch.push(0, &vec![b'x'; BYTES]) && batch.requests().len() == 1);
    }

    #[test]
    fn the_sample_is_its_share_of_the_requests() {
        assert!(Touch::new(Share::NONE).is_none());
        for (hundredths, least, most) in [(10_000, 100_000, 100_000), (100, 800, 1200), (1, 1, 40)] {
            let touch = Touch::new(Share(hundredths)).unwrap();
            let mut noted = 0;
            for _ in 0..100_000 {
                if touch.first_of(1).is_some() {
                    noted += 1;
                    touch.skip.set(touch.draw());
                }
            }
            assert!((least..=most).contains(&noted), "{hundredths}: {noted}");
        }
    }
}
