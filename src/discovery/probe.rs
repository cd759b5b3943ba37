//! Asks one node who it is, again and again: ROLE at the keeper's pace, INFO whenever the answer may mean something new.
//!
//! Reports what it sees and decides nothing. Invariant: a report with a changed standing carries INFO of the same
//! connection, taken after the ROLE, so the keeper never has to trust a bare word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::names;
use super::seen::{Info, Observation, Role, Seen};
use crate::command::Described;
use crate::config::Login;
use crate::topology::NodeId;
use crate::upstream::control::{Client, Error, Reply};

/// INFO at least this often.
const INFO_EVERY: Duration = Duration::from_secs(1);
/// First and longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// Pause after a refused login: each attempt shows in the node's ACL LOG.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// COMMAND of a big server takes its time.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// Attempts to fetch COMMAND, and the pause between them; without it unknown names go to the master.
const COMMAND_ATTEMPTS: u32 = 3;
const COMMAND_PAUSE: Duration = Duration::from_secs(1);

/// What the keeper wants of a probe. The latest wins; an increased number is a question to be answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    pub every: Duration,
    /// Ask ROLE and INFO now.
    pub question: u64,
    /// Ask ROLE now.
    pub glance: u64,
    /// Compare COMMAND COUNT with `commands_known` now, and fetch COMMAND when it differs.
    pub commands: u64,
    pub commands_known: i64,
}

/// What a probe needs to know.
#[derive(Debug, Clone)]
pub struct Target {
    pub node: NodeId,
    pub probe: u64,
    pub dial: Arc<str>,
    pub login: Option<Login>,
    pub connect_timeout: Duration,
    pub down_after: Duration,
}

/// Runs until `stop`, or until nobody listens.
pub async fn run(
    target: Target,
    pace: watch::Receiver<Pace>,
    reports: mpsc::Sender<Observation>,
    stop: CancellationToken,
) {
    let mut probe = Probe { target, pace, reports, last: None, lesson: JoinSet::new() };
    tokio::select! {
        _ = stop.cancelled() => {}
        _ = probe.work() => {}
    }
}

struct Probe {
    target: Target,
    pace: watch::Receiver<Pace>,
    reports: mpsc::Sender<Observation>,
    /// The last ROLE of this connection.
    last: Option<Role>,
    /// COMMAND being fetched on a connection of its own: a long reply must not delay ROLE. Ends with the probe.
    lesson: JoinSet<()>,
}

/// Nobody listens any more.
struct Over;

impl Probe {
    async fn work(&mut self) -> Result<(), Over> {
        let mut pause = BACKOFF.0;
        loop {
            let limit = self.target.connect_timeout.min(self.target.down_after);
            let asked = Instant::now();
            let question = self.pace.borrow().question;
            let lost = match Client::connect(&self.target.dial, self.target.login.as_ref(), limit).await {
                Ok(mut client) => {
                    self.last = None;
                    let since = Instant::now();
                    let lost = self.converse(&mut client).await?;
                    if since.elapsed() > BACKOFF.1 {
                        // It worked until now: a mere lost connection is told from a lost node by trying again at once.
                        pause = Duration::ZERO;
                    }
                    lost
                }
                Err(e) => e,
            };
            let refused = matches!(lost, Error::Auth(_));
            self.report(asked, Seen::Lost(lost)).await?;
            self.rest(if refused { REFUSED_PAUSE } else { pause }, question).await?;
            pause = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        }
    }

    /// Waits `pause`, or until the keeper asks something new.
    async fn rest(&mut self, pause: Duration, answered: u64) -> Result<(), Over> {
        let pace = &mut self.pace;
        let asked = async { pace.wait_for(|p| p.question != answered).await.map(drop) };
        match timeout(pause, asked).await {
            Ok(Err(_)) => Err(Over),
            // Even an impatient keeper does not turn a dead node into a busy loop.
            Ok(Ok(())) => {
                sleep(BACKOFF.0).await;
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Asks until the connection is of no use; returns why.
    async fn converse(&mut self, client: &mut Client) -> Result<Error, Over> {
        let mut question = self.pace.borrow_and_update().question;
        let mut commands = 0;
        client.set_limit(self.target.down_after);
        if let Err(e) = self.examine(client).await? {
            return Ok(e);
        }
        let mut examined = Instant::now();
        let mut answered = examined;
        loop {
            let pace = *self.pace.borrow_and_update();
            if pace.commands > commands {
                commands = pace.commands;
                // The latest question replaces one that is not answered yet.
                self.lesson = JoinSet::new();
                self.lesson.spawn(learn_commands(self.target.clone(), pace.commands_known, self.reports.clone()));
            }
            tokio::select! {
                e = client.closed() => return Ok(e),
                _ = sleep(pace.every) => {}
                changed = self.pace.changed() => changed.map_err(|_| Over)?,
            }
            let now = *self.pace.borrow_and_update();
            client.set_limit(patience(self.target.down_after, answered.elapsed()));
            let asked = if now.question != question || examined.elapsed() >= INFO_EVERY {
                question = now.question;
                examined = Instant::now();
                self.examine(client).await?
            } else {
                self.glance(client).await?
            };
            if let Err(e) = asked {
                return Ok(e);
            }
            answered = Instant::now();
        }
    }

    /// ROLE alone; INFO as well when it is not what it was.
    async fn glance(&mut self, client: &mut Client) -> Result<Result<(), Error>, Over> {
        let asked = Instant::now();
        let role = match client.call(&[b"ROLE"]).await {
            Ok(reply) => match Role::parse(&reply) {
                Some(role) => role,
                None => return Ok(Err(Error::Protocol("ROLE is not a data node's"))),
            },
            Err(e) => return self.not_now(asked, e).await,
        };
        if !self.last.as_ref().is_some_and(|before| role.same_standing(before)) {
            return self.examine(client).await;
        }
        self.last = Some(role.clone());
        self.report(asked, Seen::Role { role, info: None }).await?;
        Ok(Ok(()))
    }

    /// ROLE and INFO in one flush, again while they disagree (the role changed in between).
    async fn examine(&mut self, client: &mut Client) -> Result<Result<(), Error>, Over> {
        const FLUSH: [&[&[u8]]; 5] = [
            &[b"ROLE"],
            &[b"INFO", b"replication"],
            &[b"INFO", b"server"],
            &[b"INFO", b"persistence"],
            &[b"INFO", b"keyspace"],
        ];
        for _ in 0..3 {
            let asked = Instant::now();
            let replies = match client.call_all(&FLUSH).await {
                Ok(replies) => replies,
                Err(e) => return Ok(Err(e)),
            };
            if let Some(Reply::Failed(e)) = replies.iter().find(|r| matches!(r, Reply::Failed(_))) {
                return self.not_now(asked, e.clone()).await;
            }
            let role = replies.first().and_then(Role::parse);
            let texts: Vec<&str> = replies.iter().skip(1).filter_map(Reply::text).collect();
            let (Some(role), Some(info)) = (role, Info::parse(&texts)) else {
                return Ok(Err(Error::Protocol("ROLE or INFO is not a data node's")));
            };
            if info.says_master != matches!(role, Role::Master { .. }) {
                continue;
            }
            self.last = Some(role.clone());
            self.report(asked, Seen::Role { role, info: Some(Box::new(info)) }).await?;
            return Ok(Ok(()));
        }
        Ok(Err(Error::Protocol("ROLE and INFO keep contradicting each other")))
    }

    /// An error reply: the node lives, unless it is the login that it refuses.
    async fn not_now(&mut self, asked: Instant, e: Error) -> Result<Result<(), Error>, Over> {
        let loading = match &e {
            Error::Loading => true,
            Error::Server(text) if text.starts_with("BUSY") => false,
            _ => return Ok(Err(e)),
        };
        self.last = None;
        self.report(asked, Seen::Busy { loading }).await?;
        Ok(Ok(()))
    }

    async fn report(&self, asked: Instant, seen: Seen) -> Result<(), Over> {
        let Target { node, probe, .. } = self.target;
        self.reports.send(Observation { node, probe, asked, seen }).await.map_err(|_| Over)
    }
}

/// How long an answer is waited for: it is the silence since the last one that counts. Half the time is left in any case, for a
/// probe that was kept from asking.
fn patience(down_after: Duration, silent: Duration) -> Duration {
    down_after.saturating_sub(silent).max(down_after / 2)
}

/// Reports the node's COMMAND when it has another number of entries than `known`.
async fn learn_commands(target: Target, known: i64, reports: mpsc::Sender<Observation>) {
    let Target { node, probe, .. } = target;
    for _ in 0..COMMAND_ATTEMPTS {
        let asked = Instant::now();
        match fetch_commands(&target, known).await {
            Ok(Some((count, entries))) => {
                let seen = Seen::Commands { count, entries };
                let _ = reports.send(Observation { node, probe, asked, seen }).await;
                return;
            }
            // A login that may not run COMMAND can do without.
            Ok(None) | Err(Error::Auth(_) | Error::Server(_)) => return,
            Err(_) => sleep(COMMAND_PAUSE).await,
        }
    }
}

/// The master's commands, `None` when there are as many as known already.
async fn fetch_commands(target: &Target, known: i64) -> Result<Option<(i64, Vec<Described>)>, Error> {
    let mut client = Client::connect(&target.dial, target.login.as_ref(), target.connect_timeout).await?;
    client.set_limit(COMMAND_LIMIT);
    let count = client.call(&[b"COMMAND", b"COUNT"]).await?.integer().unwrap_or(-1);
    if count == known {
        return Ok(None);
    }
    let reply = client.call(&[b"COMMAND"]).await?;
    Ok(Some((count, names::entries(&reply))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;

    #[test]
    fn a_node_is_waited_for_as_long_as_it_may_be_silent() {
        let ms = Duration::from_millis;
        for (silent, left) in [(0, 1000), (100, 900), (499, 501), (600, 500), (5000, 500)] {
            assert_eq!(patience(ms(1000), ms(silent)), ms(left), "{silent} ms after the last answer");
        }
    }

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    /// A master that answers word by word: everything but COMMAND at once; COMMAND COUNT, with the COMMAND that follows
    /// it, when it may.
    async fn serve(mut stream: TcpStream, may: Arc<Semaphore>) {
        let mut inbox = String::new();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            inbox += &String::from_utf8_lossy(&buffer[..n]);
            let Some(end) = inbox.rfind("\r\n") else { continue };
            let rest = inbox.split_off(end + 2);
            let lines = std::mem::replace(&mut inbox, rest);
            for word in lines.split("\r\n") {
                let reply = match word {
                    "ROLE" => "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n".into(),
                    "replication" => bulk("role:master\r\nmaster_replid:aaa\r\n"),
                    "server" | "persistence" | "keyspace" => bulk("loading:0\r\n"),
                    "COUNT" => {
                        may.acquire().await.unwrap().forget();
                        ":1\r\n*1\r\n*3\r\n$3\r\nget\r\n:2\r\n*0\r\n".into()
                    }
                    _ => continue,
                };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn roles_are_told_while_commands_are_awaited() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = listener.local_addr().unwrap().to_string().into();
        let may = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&may);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&gate)));
            }
        });
        let limit = Duration::from_secs(20);
        let target = Target { node: 1, probe: 2, dial, login: None, connect_timeout: limit, down_after: limit };
        let pace = Pace { every: Duration::from_millis(1), commands: 1, commands_known: -1, ..Pace::default() };
        let (_pace, paces) = watch::channel(pace);
        let (reports, mut seen) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(target, paces, reports, stop.clone()));
        for _ in 0..50 {
            let told = seen.recv().await.unwrap();
            assert!(matches!(told.seen, Seen::Role { .. }), "{told:?}");
        }
        may.add_permits(1);
        let learnt = loop {
            match seen.recv().await.unwrap().seen {
                Seen::Role { .. } => {}
                other => break other,
            }
        };
        assert!(matches!(&learnt, Seen::Commands { count: 1, entries } if entries.len() == 1), "{learnt:?}");
        stop.cancel();
        running.await.unwrap();
        while seen.recv().await.is_some() {}
    }
}
