//! Clients of five kinds, each of which numbers what it writes and notes what it was told.
//!
//! Must not judge. Invariant: nothing is sent twice; a number is noted as acknowledged exactly when the reply said so.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redweir::demo::client::encode;

use super::support::{Client, Reply};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Pipelined,
    /// MULTI, EXEC.
    Transactional,
    /// A queue: one writes, two wait in BLPOP.
    Blocking,
    PubSub,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Plain, Kind::Pipelined, Kind::Transactional, Kind::Blocking, Kind::PubSub];

    pub fn roles(self) -> &'static [Role] {
        match self {
            Kind::Plain | Kind::Pipelined => &[Role::Write, Role::Write, Role::Read, Role::Read],
            Kind::Transactional => &[Role::Write, Role::Write],
            Kind::Blocking => &[Role::Write, Role::Take, Role::Take],
            Kind::PubSub => &[Role::Write, Role::Hear],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Write,
    Read,
    Take,
    Hear,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    pub number: u64,
    pub sent: Instant,
    pub at: Instant,
}

/// What one client saw.
#[derive(Default)]
pub struct Seen {
    pub key: String,
    pub acknowledged: Vec<Acknowledged>,
    pub received: Vec<u64>,
    /// Of these the client was told that nothing was executed.
    pub refused: Vec<u64>,
    /// Whatever else was refused so.
    pub refusals: u64,
    /// The longest wait for an answer, or for the end of a connection, beyond what was asked for.
    pub longest: Duration,
    /// Acknowledged in a session, and then not read by it.
    pub missed: Vec<u64>,
    pub errors: Vec<String>,
    pub read_gap: Duration,
}

impl Seen {
    fn fault(&mut self, verb: &str, reply: Option<&Reply>) {
        match reply {
            Some(Reply::Error(text)) if text.starts_with(REFUSED) => self.refusals += 1,
            other => self.errors.push(format!("{verb}: {other:?}")),
        }
    }
}

pub struct Run {
    pub address: String,
    pub stop: AtomicBool,
}

/// Longer than redweir holds a write.
const PATIENCE: Duration = Duration::from_secs(20);
/// A subscriber looks up as often.
const LISTEN: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_millis(1);
const BATCH: u64 = 8;
/// A BLPOP waits as long.
const BLOCK: Duration = Duration::from_secs(1);
const REFUSED: &str = "MASTERDOWN redweir";

/// Until told to stop; a connection that is lost is made anew.
pub fn play(run: &Run, kind: Kind, role: Role, me: usize) -> Seen {
    let shared = matches!(kind, Kind::Blocking | Kind::PubSub);
    let key = if shared { format!("chaos:{kind:?}") } else { format!("chaos:{kind:?}:{me}") };
    let mut seen = Seen { key, ..Seen::default() };
    let patience = if role == Role::Hear { LISTEN } else { PATIENCE };
    let mut number = 0;
    let mut success = None;
    while !run.stop.load(Relaxed) {
        let made = Client::connect(&run.address, patience).and_then(|mut c| match role {
            Role::Hear => subscribe(&mut c, &seen.key).map(|()| c),
            _ => Ok(c),
        });
        let ended = made.and_then(|mut client| {
            while !run.stop.load(Relaxed) {
                let began = Instant::now();
                let done = match role {
                    Role::Write => write(&mut client, kind, &mut number, &mut seen),
                    Role::Read => read(&mut client, kind, &mut success, &mut seen),
                    Role::Take => take(&mut client, &mut seen),
                    Role::Hear => hear(&mut client, &mut seen),
                };
                let asked_for = if matches!(role, Role::Take | Role::Hear) { BLOCK } else { Duration::ZERO };
                seen.longest = seen.longest.max(began.elapsed().saturating_sub(asked_for));
                done?;
                if matches!(role, Role::Write | Role::Read) {
                    std::thread::sleep(PACE);
                }
            }
            Ok(())
        });
        if let Err(e) = ended {
            seen.errors.push(format!("{role:?}: {e}"));
            std::thread::sleep(PACE);
        }
    }
    seen
}

fn write(client: &mut Client, kind: Kind, number: &mut u64, seen: &mut Seen) -> io::Result<()> {
    let key = seen.key.clone();
    let last = vec!["LRANGE", key.as_str(), "-1", "-1"];
    let count = if kind == Kind::Pipelined { BATCH } else { 1 };
    let numbers: Vec<String> = (*number + 1..=*number + count).map(|n| n.to_string()).collect();
    *number += count;
    let verb = if kind == Kind::PubSub { "PUBLISH" } else { "RPUSH" };
    let mut commands: Vec<Vec<&str>> = numbers.iter().map(|n| vec![verb, key.as_str(), n.as_str()]).collect();
    match kind {
        Kind::Pipelined => commands.push(last.clone()),
        Kind::Transactional => {
            commands.insert(0, vec!["MULTI"]);
            commands.extend([last.clone(), vec!["EXEC"]]);
        }
        _ => {}
    }
    let sent = Instant::now();
    let mut replies = client.pipeline(&commands)?;
    if kind == Kind::Transactional {
        replies = match replies.pop() {
            Some(Reply::Array(items)) => items,
            other => vec![other.unwrap_or(Reply::Nil)],
        };
    }
    let at = Instant::now();
    let mut newest = None;
    for (n, reply) in numbers.iter().zip(&replies) {
        let number = n.parse().unwrap_or_default();
        match reply {
            Reply::Int(_) => {
                newest = Some(number);
                seen.acknowledged.push(Acknowledged { number, sent, at });
            }
            other if other.is_error() && other.text().starts_with(REFUSED) => seen.refused.push(number),
            other => seen.errors.push(format!("{verb}: {other:?}")),
        }
    }
    if matches!(kind, Kind::Blocking | Kind::PubSub) {
        return Ok(());
    }
    if replies.len() as u64 == count {
        replies.push(client.call(&last)?);
    }
    own_write(replies.get(count as usize), newest, seen);
    if kind == Kind::Transactional {
        own_write(Some(&client.call(&last)?), newest, seen);
    }
    Ok(())
}

/// A read after a write of the same session.
fn own_write(reply: Option<&Reply>, newest: Option<u64>, seen: &mut Seen) {
    match reply {
        Some(Reply::Array(items)) => {
            let found = items.first().and_then(|i| i.text().parse().ok());
            seen.missed.extend(newest.filter(|n| found.is_none_or(|f: u64| f < *n)));
        }
        other => seen.fault("LRANGE", other),
    }
}

fn read(client: &mut Client, kind: Kind, success: &mut Option<Instant>, seen: &mut Seen) -> io::Result<()> {
    let count = if kind == Kind::Pipelined { BATCH as usize } else { 1 };
    for reply in client.pipeline(&vec![vec!["GET", "chaos:read"]; count])? {
        if reply.text() != "value" || reply.is_error() {
            seen.fault("GET", Some(&reply));
            return Ok(());
        }
    }
    let now = Instant::now();
    seen.read_gap = seen.read_gap.max(success.map_or(Duration::ZERO, |last| now - last));
    *success = Some(now);
    Ok(())
}

fn take(client: &mut Client, seen: &mut Seen) -> io::Result<()> {
    match client.call(&["BLPOP", &seen.key, "1"])? {
        Reply::Array(items) => seen.received.extend(items.get(1).and_then(|n| n.text().parse::<u64>().ok())),
        Reply::Nil => {}
        other => seen.fault("BLPOP", Some(&other)),
    }
    Ok(())
}

/// Its answer is one of the messages: it may take longer than a subscriber listens.
fn subscribe(client: &mut Client, channel: &str) -> io::Result<()> {
    client.send(&encode(&[b"SUBSCRIBE", channel.as_bytes()]))
}

fn hear(client: &mut Client, seen: &mut Seen) -> io::Result<()> {
    match client.read() {
        Ok(refusal @ Reply::Error(_)) => {
            seen.fault("SUBSCRIBE", Some(&refusal));
            subscribe(client, &seen.key)
        }
        Ok(message) => {
            let items = message.items();
            let number = items.get(2).filter(|_| items[0].text() == "message");
            seen.received.extend(number.and_then(|n| n.text().parse::<u64>().ok()));
            Ok(())
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Err(e) => Err(e),
    }
}
