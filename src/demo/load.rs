//! A modest load whose outcome is known: readers that know each value, writers whose every write carries its own number.
//!
//! Readers and writers are different clients (nine reads to one write), so that writes that wait for a master do not stop the reads.
//! Must not retry a write: what was acknowledged is exactly what the server said. Invariant: each write is attempted once, and ends
//! as acknowledged or failed.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Reply};
use super::ledger::{Ledger, Verdict};

const READERS: u32 = 6;
const WRITERS: u32 = 4;
/// 6 x 150 reads and 4 x 25 writes a second.
const READ_EVERY: Duration = Duration::from_micros(6_667);
const WRITE_EVERY: Duration = Duration::from_millis(40);
const KEYS: u32 = 1000;
/// Longer than redweir holds a write (10 s): its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// Writes in one list; then a new one is begun, and the one before it is checked and removed.
const ROUND: u64 = 5000;
/// Different error texts remembered.
const TEXTS: usize = 8;

/// What happened to one kind of request so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub attempted: u64,
    pub done: u64,
    pub failed: u64,
    /// The longest time without a success of any client.
    pub longest_gap: Duration,
    /// Error texts with how often each was seen.
    pub errors: BTreeMap<String, u64>,
}

/// One kind of request, counted by all its clients.
#[derive(Default)]
struct Pulse {
    attempted: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    /// Last success, longest gap before it.
    beat: Mutex<(Option<Instant>, Duration)>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Pulse {
    fn succeeded(&self) {
        self.done.fetch_add(1, Relaxed);
        let mut beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        beat.1 = beat.1.max(beat.0.map_or(Duration::ZERO, |last| now - last));
        beat.0 = Some(now);
    }

    fn failed(&self, text: &str) {
        self.failed.fetch_add(1, Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = text.chars().take(70).collect();
        if errors.contains_key(&text) || errors.len() < TEXTS {
            *errors.entry(text).or_default() += 1;
        }
    }

    /// As it is now: a gap that still goes on counts.
    fn tally(&self) -> Tally {
        let (last, longest) = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        Tally {
            attempted: self.attempted.load(Relaxed),
            done: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
            longest_gap: longest.max(last.map_or(Duration::ZERO, |l| l.elapsed())),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// What all threads share.
struct Shared {
    address: String,
    stop: AtomicBool,
    reads: Pulse,
    writes: Pulse,
    /// Address of the present master, to look into by itself.
    master: Mutex<String>,
    settled: Mutex<Verdict>,
}

/// The running load; ends when dropped or finished.
pub struct Load {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<Vec<Ledger>>>,
}

impl Load {
    /// Writes the values that will be read, through `address`.
    ///
    /// # Errors
    /// The values could not be written.
    pub fn prepare(address: &str) -> io::Result<()> {
        let mut client = Client::connect(address, PATIENCE)?;
        for k in 0..KEYS {
            if let Reply::Error(text) = client.call(&["SET", &key(k), &value(k)])? {
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }

    /// Starts all clients against `address`.
    pub fn start(address: &str, master: &str) -> Load {
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            stop: AtomicBool::new(false),
            reads: Pulse::default(),
            writes: Pulse::default(),
            master: Mutex::new(master.to_owned()),
            settled: Mutex::new(Verdict::default()),
        });
        let thread = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || read(&shared))
        };
        let readers = (0..READERS).map(thread).collect();
        let thread = |id| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || write(&shared, id))
        };
        let writers = (0..WRITERS).map(thread).collect();
        Load { shared, readers, writers }
    }

    /// Where finished rounds are to be looked up from now on.
    pub fn master_is(&self, address: &str) {
        address.clone_into(&mut self.shared.master.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads and writes so far.
    pub fn tallies(&self) -> (Tally, Tally) {
        (self.shared.reads.tally(), self.shared.writes.tally())
    }

    /// Stops all clients, then compares what was acknowledged with what `master` holds.
    ///
    /// # Errors
    /// The master could not be read.
    pub fn finish(mut self, master: &str) -> io::Result<(Tally, Tally, Verdict)> {
        let (reads, writes) = self.tallies();
        self.shared.stop.store(true, Relaxed);
        let mut verdict = Verdict::default();
        let mut client = Client::connect(master, PATIENCE)?;
        for writer in self.writers.drain(..) {
            for ledger in writer.join().unwrap_or_default() {
                verdict.add(ledger.settle(&mut client)?);
            }
        }
        verdict.add(*self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner));
        // The last replies came after the first look.
        let (last_reads, last_writes) = self.tallies();
        Ok((
            Tally { longest_gap: reads.longest_gap, ..last_reads },
            Tally { longest_gap: writes.longest_gap, ..last_writes },
            verdict,
        ))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.readers.drain(..).for_each(|r| drop(r.join()));
        self.writers.drain(..).for_each(|w| drop(w.join()));
    }
}

fn key(k: u32) -> String {
    format!("demo:{k}")
}

fn value(k: u32) -> String {
    format!("value of {k}")
}

/// A connection that is made again after it was lost.
struct Line<'a> {
    shared: &'a Shared,
    client: Option<Client>,
}

impl Line<'_> {
    fn call(&mut self, args: &[&str]) -> io::Result<Reply> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.shared.address, PATIENCE)?,
        };
        let reply = client.call(args)?;
        self.client = Some(client);
        Ok(reply)
    }
}

/// Sleeps to the next beat; a beat that was missed is not made up for.
fn pace(next: &mut Instant, every: Duration) {
    let now = Instant::now();
    *next = (*next + every).max(now);
    std::thread::sleep(*next - now);
}

fn read(shared: &Shared) {
    let mut line = Line { shared, client: None };
    let mut next = Instant::now();
    while !shared.stop.load(Relaxed) {
        let k = fastrand::u32(0..KEYS);
        shared.reads.attempted.fetch_add(1, Relaxed);
        match line.call(&["GET", &key(k)]) {
            Ok(reply) if reply == Reply::Bulk(value(k).into_bytes()) => shared.reads.succeeded(),
            Ok(Reply::Error(text)) => shared.reads.failed(&text),
            Ok(_) => shared.reads.failed("another value than was written"),
            Err(e) => shared.reads.failed(&format!("connection lost: {e}")),
        }
        pace(&mut next, READ_EVERY);
    }
}

fn write(shared: &Shared, writer: u32) -> Vec<Ledger> {
    let mut line = Line { shared, client: None };
    let mut next = Instant::now();
    let mut ledgers = vec![Ledger::new(writer, 0)];
    let mut id = 0;
    while !shared.stop.load(Relaxed) {
        if id % ROUND == 0 && id > 0 {
            begin_round(shared, &mut ledgers, &mut line, writer, id);
        }
        let Some(ledger) = ledgers.last_mut() else { break };
        shared.writes.attempted.fetch_add(1, Relaxed);
        match line.call(&["RPUSH", &ledger.key, &id.to_string()]) {
            Ok(Reply::Error(text)) => shared.writes.failed(&text),
            Ok(_) => {
                ledger.acknowledged.push(id);
                shared.writes.succeeded();
            }
            Err(e) => shared.writes.failed(&format!("connection lost, outcome unknown: {e}")),
        }
        id += 1;
        pace(&mut next, WRITE_EVERY);
    }
    ledgers
}

/// Begins a new list. The rounds before the last are old enough to be settled: a failover can no longer take their end.
fn begin_round(shared: &Shared, ledgers: &mut Vec<Ledger>, line: &mut Line<'_>, writer: u32, id: u64) {
    let master = shared.master.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let old = ledgers.len().saturating_sub(1);
    if let Ok(mut client) = Client::connect(&master, PATIENCE) {
        for ledger in ledgers.drain(..old).collect::<Vec<_>>() {
            match ledger.settle(&mut client) {
                Ok(verdict) => {
                    shared.settled.lock().unwrap_or_else(PoisonError::into_inner).add(verdict);
                    // What stays behind when this fails is one list on a server that is thrown away.
                    let _ = line.call(&["UNLINK", &ledger.key]);
                }
                Err(_) => ledgers.insert(0, ledger),
            }
        }
    }
    ledgers.push(Ledger::new(writer, id));
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Failure, Plan, Stage, wait};
    use super::*;

    #[test]
    fn what_a_lone_master_acknowledged_is_there_and_what_it_could_not_is_counted() -> Result<(), Failure> {
        let mut stage = Stage::start(Plan { replicas: 0, sentinels: 0, ..Plan::default() })?;
        let address = stage.nodes[0].address();
        Load::prepare(&address)?;
        let load = Load::start(&address, &address);
        wait(PATIENCE, "replies", || match load.tallies() {
            (reads, writes) if reads.done > 50 && writes.done > 10 => Ok(()),
            tallies => Err(format!("{tallies:?}")),
        })?;
        let (reads, writes) = load.tallies();
        assert_eq!((reads.failed, writes.failed), (0, 0));
        // Without persistence it comes back empty: all that was acknowledged is lost, and reads find other values.
        stage.nodes[0].kill();
        wait(PATIENCE, "failures", || match load.tallies() {
            (reads, writes) if reads.failed > 0 && writes.failed > 0 => Ok(()),
            tallies => Err(format!("{tallies:?}")),
        })?;
        stage.nodes[0].resume()?;
        stage.wait_linked(0)?;
        wait(PATIENCE, "an answer", || stage.info(0, "role").map(drop))?;
        let (reads, writes, verdict) = load.finish(&address)?;
        assert!(verdict.lost >= 10 && verdict.lost <= writes.done, "{verdict:?} {writes:?}");
        assert!(reads.attempted >= reads.done + reads.failed, "{reads:?}");
        assert_eq!(verdict.twice, 0);
        Ok(())
    }
}
