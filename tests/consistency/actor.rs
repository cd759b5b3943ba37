//! A client that writes and reads at random and notes what it did.
//!
//! Must not judge. Invariant: nothing is sent twice; what came of each operation is noted as it came.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::history::{End, Id, Level, Op, Session, Time, id};
use super::logs::{self, Access, KEYS};
use super::support::{Client, Reply};

/// Longer than redweir holds a write.
const PATIENCE: Duration = Duration::from_secs(20);
/// Operations sent at once, at most.
const BATCH: usize = 8;

/// What all actors of a round share.
pub struct Round {
    pub number: u32,
    pub address: String,
    pub began: Instant,
    /// Mean time between two batches of an actor.
    pub pace: Duration,
    pub stop: AtomicBool,
    pub done: AtomicU64,
    sessions: AtomicU32,
}

impl Round {
    pub fn new(number: u32, address: String, began: Instant, pace: Duration) -> Self {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { number, address, began, pace, stop, done, sessions: AtomicU32::new(1) }
    }

    pub fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }
}

/// Lives over all rounds, and its connection with it until that breaks.
pub struct Actor {
    pub level: Level,
    db: u32,
    random: fastrand::Rng,
    client: Option<Client>,
}

impl Actor {
    pub fn new(me: u32, level: Level, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ (u64::from(me) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { level, db: u32::from(me % 4 == 3), random, client: None }
    }

    /// Until the round is over. A connection that breaks ends a session; the next one is another.
    pub fn play(&mut self, round: &Round) -> Vec<Session> {
        let mut sessions = Vec::new();
        while !round.stop.load(Relaxed) {
            let Some(mut client) = self.client.take().or_else(|| self.connect(round).ok()) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let number = round.sessions.fetch_add(1, Relaxed);
            let mut session = Session { number, level: self.level, ops: Vec::new() };
            let mut written = 0;
            let whole = loop {
                if round.stop.load(Relaxed) {
                    break true;
                }
                let batch = self.batch(number, &mut written);
                if !send(&mut client, round, batch, &mut session.ops) {
                    break false;
                }
                std::thread::sleep(round.pace.mul_f64(2.0 * self.random.f64()));
            };
            self.client = whole.then_some(client);
            sessions.push(session);
        }
        sessions
    }

    fn connect(&self, round: &Round) -> io::Result<Client> {
        let mut client = Client::connect(&round.address, PATIENCE)?;
        let level = match self.level {
            Level::Session => vec![],
            Level::Eventual => vec!["EVENTUAL".to_owned()],
            Level::Strong => vec!["STRONG".to_owned()],
            Level::Bounded(bound) => vec!["BOUNDED".into(), "MS".into(), (bound / 1_000_000).to_string()],
        };
        let mut commands = vec![vec!["SELECT".to_owned(), self.db.to_string()]];
        if !level.is_empty() {
            commands.push(["REDWEIR", "CONSISTENCY"].map(String::from).into_iter().chain(level).collect());
        }
        for command in commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            match client.call(&words)? {
                Reply::Status(ok) if ok == "OK" => {}
                other => return Err(io::Error::other(format!("{command:?}: {other:?}"))),
            }
        }
        Ok(client)
    }

    /// Reads, a write, a mix, or a write and at once a read of the same.
    fn batch(&mut self, session: u32, written: &mut u32) -> Vec<Access> {
        let random = &mut self.random;
        let mut write = |random: &mut fastrand::Rng, key: u32| {
            *written += 1;
            Access::write(key, id(session, *written), random.bool())
        };
        // Half of all concerns few keys.
        let key = |random: &mut fastrand::Rng| {
            let of = if random.bool() { KEYS } else { 8 };
            self.db * KEYS + random.u32(..of)
        };
        match random.u32(..100) {
            0..70 => (0..random.usize(1..=BATCH)).map(|_| Access::read(key(random), random.bool())).collect(),
            70..82 => {
                let key = key(random);
                vec![write(random, key)]
            }
            82..90 => {
                let key = key(random);
                vec![write(random, key), Access::read(key, random.bool())]
            }
            _ => {
                let mut one = || {
                    let key = key(random);
                    if random.bool() { write(random, key) } else { Access::read(key, random.bool()) }
                };
                (0..BATCH).map(|_| one()).collect()
            }
        }
    }
}

/// Sends a batch in one piece and notes the outcome of each; false: the connection is lost.
fn send(client: &mut Client, round: &Round, batch: Vec<Access>, ops: &mut Vec<Op>) -> bool {
    let commands: Vec<Vec<Vec<String>>> = batch.iter().map(|access| access.commands(round.number)).collect();
    let mut bytes = Vec::new();
    for command in commands.iter().flatten() {
        let words: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
        bytes.extend_from_slice(&redweir::demo::client::encode(&words));
    }
    let began = round.now();
    let mut whole = client.send(&bytes).is_ok();
    for (access, commands) in batch.iter().zip(&commands) {
        let mut reply = None;
        for _ in commands {
            reply = if whole { client.read().ok() } else { None };
            whole &= reply.is_some();
        }
        let (ended, end) = match reply {
            Some(reply) => (round.now(), access.end(&reply)),
            None => (Time::MAX, End::Unknown),
        };
        round.done.fetch_add(1, Relaxed);
        let id: Id = access.id();
        ops.push(Op { key: access.key(), id, began, ended, end });
    }
    whole
}

/// Everything that is at a node.
pub fn survey(node: &mut Client, round: u32) -> io::Result<Vec<(u32, Vec<Id>)>> {
    let mut found = Vec::new();
    for db in 0..2 {
        node.call(&["SELECT", &db.to_string()])?;
        for key in db * KEYS..(db + 1) * KEYS {
            let access = Access::read(key, true);
            let mut reply = Reply::Nil;
            for command in access.commands(round) {
                reply = node.call(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
            }
            match access.end(&reply) {
                End::Seen(ids) => found.push((key, ids)),
                other => return Err(io::Error::other(format!("key {key} at the master: {other:?}"))),
            }
        }
    }
    Ok(found)
}

/// The node knows the scripts that are called by their SHA-1.
pub fn prepare(client: &mut Client) -> io::Result<()> {
    for script in [logs::WRITE, logs::READ] {
        match client.call(&["SCRIPT", "LOAD", script])? {
            Reply::Bulk(_) => {}
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
    }
    Ok(())
}
