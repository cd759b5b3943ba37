//! Tells operators' scripts and hooks what happened: one message at a time, each within a time limit, again later where
//! that may help.
//!
//! Must never be in the way of discovery: it hands messages over and forgets them. Invariant: bounded in messages waiting,
//! in attempts at each, and in the time of one; what is given up is counted and logged once.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::notice::{Message, Notice};
use crate::config::{Notify, SetConfig, Source};
use crate::metrics::{self, Telling};

/// Messages that wait, as many as Sentinel's (SENTINEL_SCRIPT_MAX_QUEUE).
const QUEUE: usize = 256;
/// Attempts at one message, and the first pause between them; each further one is twice as long. As Sentinel's.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(30);
/// What is read of a hook's answer, at most.
const ANSWER: usize = 1024;

/// Hands messages over. Dropped, it ends the telling.
pub struct Messenger {
    set: String,
    /// As the set is called at the Sentinels, or here.
    called: String,
    notify: Notify,
    queue: mpsc::Sender<Message>,
}

impl Messenger {
    /// `None` where nobody wants to be told. Must be called on a tokio runtime.
    pub fn start(set: &SetConfig) -> Option<Self> {
        let notify = set.failover.notify.clone();
        if notify.is_off() {
            return None;
        }
        let (queue, messages) = mpsc::channel(QUEUE);
        let called = match &set.source {
            Source::Sentinel { master_name, .. } => master_name.clone(),
            Source::Nodes(_) => set.name.clone(),
        };
        tokio::spawn(Teller { set: set.name.clone(), limit: notify.timeout, pause: PAUSE, messages }.run());
        Some(Self { set: set.name.clone(), called, notify, queue })
    }

    pub fn tell(&self, notice: &Notice) {
        for message in notice.messages(&self.called, &self.notify) {
            if self.queue.try_send(message).is_err() {
                metrics::telling(&self.set, Telling::Dropped);
                tracing::warn!(set = %self.set, ?notice, "notification dropped: too many wait");
            }
        }
    }
}

/// What came of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It may work later.
    Later(String),
    /// It will not.
    Never(String),
}

struct Pending {
    message: Message,
    due: Instant,
    failed: u32,
}

struct Teller {
    set: String,
    limit: Duration,
    pause: Duration,
    messages: mpsc::Receiver<Message>,
}

impl Teller {
    async fn run(mut self) {
        let mut pending: Vec<Pending> = Vec::new();
        loop {
            let next = pending.iter().enumerate().min_by_key(|(_, p)| p.due).map(|(at, p)| (at, p.due));
            let due = next.map_or_else(|| Instant::now() + self.limit, |(_, due)| due);
            tokio::select! {
                biased;
                message = self.messages.recv(), if pending.len() < QUEUE => match message {
                    Some(message) => pending.push(Pending { message, due: Instant::now(), failed: 0 }),
                    None => return,
                },
                () = sleep_until(due), if next.is_some() => {
                    if let Some((at, _)) = next {
                        let told = pending.remove(at);
                        pending.extend(self.attempt(told).await);
                    }
                }
            }
        }
    }

    /// Tries once; what is to be tried again comes back.
    async fn attempt(&self, mut told: Pending) -> Option<Pending> {
        let set = &self.set;
        let (what, outcome) = match &told.message {
            Message::Script { path, args } => (path.display().to_string(), run(path, args, self.limit).await),
            Message::Post { url, body } => (url.clone(), post(url, body, self.limit).await),
        };
        match outcome {
            Outcome::Done => {
                metrics::telling(set, Telling::Done);
                None
            }
            Outcome::Later(why) if told.failed + 1 < ATTEMPTS => {
                metrics::telling(set, Telling::Retried);
                // One line for each message, not for each attempt.
                if told.failed == 0 {
                    tracing::warn!(%set, %what, %why, "notification failed, it is tried again later");
                }
                told.due = Instant::now() + self.pause * 2u32.saturating_pow(told.failed);
                told.failed += 1;
                Some(told)
            }
            Outcome::Later(why) | Outcome::Never(why) => {
                metrics::telling(set, Telling::Failed);
                tracing::error!(%set, %what, %why, attempts = told.failed + 1, "notification failed for good");
                None
            }
        }
    }
}

/// Runs a script as Sentinel does: exit code 1 and death by a signal mean later, any other failure never.
async fn run(path: &std::path::Path, args: &[String], limit: Duration) -> Outcome {
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // With all that it starts, so that the whole can be killed.
    command.process_group(0).kill_on_drop(true);
    // Our credentials are none of its business.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REDWEIR_")) {
        command.env_remove(name);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return Outcome::Never(format!("cannot be started: {e}")),
    };
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    match timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => Outcome::Done,
        Ok(Ok(status)) if status.code().is_none_or(|code| code == 1) => Outcome::Later(status.to_string()),
        Ok(Ok(status)) => Outcome::Never(status.to_string()),
        Ok(Err(e)) => Outcome::Later(e.to_string()),
        Err(_) => {
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.kill().await;
            Outcome::Later(format!("killed after {}", humantime::format_duration(limit)))
        }
    }
}

async fn post(url: &str, body: &str, limit: Duration) -> Outcome {
    match timeout(limit, exchange(url, body)).await {
        Ok(Ok(status @ 200..=299)) => {
            tracing::debug!(%url, status, "notified");
            Outcome::Done
        }
        // Busy, broken, or to be asked again.
        Ok(Ok(status @ (408 | 429 | 500..=599))) => Outcome::Later(format!("HTTP status {status}")),
        Ok(Ok(status)) => Outcome::Never(format!("HTTP status {status}")),
        Ok(Err(e)) => Outcome::Later(e.to_string()),
        Err(_) => Outcome::Later(format!("no answer within {}", humantime::format_duration(limit))),
    }
}

/// POSTs JSON and returns the status of the answer.
async fn exchange(url: &str, body: &str) -> std::io::Result<u16> {
    let no_answer = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is no HTTP");
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let dial = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(dial).await?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: redweir/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    // The first line is enough: a server may keep the connection open all the same.
    let mut answer = Vec::with_capacity(ANSWER);
    while !answer.contains(&b'\n') && answer.len() < ANSWER {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let mut words = line.split_ascii_whitespace();
    let status = words.next().filter(|w| w.starts_with("HTTP/1.")).and_then(|_| words.next()?.parse().ok());
    status.ok_or_else(no_answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use tokio::net::TcpListener;

    const LONG: Duration = Duration::from_secs(60);

    fn script(dir: &Path, body: &str) -> PathBuf {
        let path = dir.join("script");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn exit_codes_mean_what_they_mean_to_sentinel() {
        let dir = tempfile::tempdir().unwrap();
        for (body, expected) in [("exit 0", "done"), ("exit 1", "later"), ("exit 2", "never"), ("kill -9 $$", "later")]
        {
            let outcome = run(&script(dir.path(), body), &[], LONG).await;
            let word = match &outcome {
                Outcome::Done => "done",
                Outcome::Later(_) => "later",
                Outcome::Never(_) => "never",
            };
            assert_eq!(word, expected, "{body}: {outcome:?}");
        }
        assert!(matches!(run(Path::new("/nowhere/at/all"), &[], LONG).await, Outcome::Never(_)));
        // Neither it nor what it started outlives the limit.
        let slow = script(dir.path(), "sleep 3600 & echo $! > \"$1\"; wait");
        let note = dir.path().join("pid").display().to_string();
        let outcome = run(&slow, std::slice::from_ref(&note), Duration::from_millis(500)).await;
        assert_eq!(outcome, Outcome::Later("killed after 500ms".into()));
        if let Ok(pid) = std::fs::read_to_string(&note) {
            let ended = |pid: &str| match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                // Nobody may have taken its body away yet.
                Ok(stat) => stat.contains(") Z "),
                Err(_) => true,
            };
            while !ended(pid.trim()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// A teller with a short pause, whose end is the end of the test.
    fn teller(set: &str) -> mpsc::Sender<Message> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let pause = Duration::from_millis(1);
        tokio::spawn(Teller { set: set.into(), limit: LONG, pause, messages }.run());
        queue
    }

    #[tokio::test]
    async fn what_fails_is_tried_ten_times_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "echo \"$1\" >> \"$0.log\"; test \"$1\" = good || exit 1");
        let queue = teller("retries");
        let tell = |what: &str| Message::Script { path: path.clone(), args: vec![what.to_owned()] };
        queue.send(tell("bad")).await.unwrap();
        queue.send(tell("good")).await.unwrap();
        let told = || std::fs::read_to_string(dir.path().join("script.log")).unwrap_or_default();
        while told().lines().filter(|l| *l == "bad").count() < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        queue.send(tell("good")).await.unwrap();
        while told().lines().filter(|l| *l == "good").count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lines: Vec<String> = told().lines().map(str::to_owned).collect();
        assert_eq!(lines.iter().filter(|l| *l == "bad").count(), 10, "and not once more: {lines:?}");
        assert_eq!((lines[0].as_str(), lines[1].as_str()), ("bad", "good"), "the next one does not wait for it");
    }

    #[tokio::test]
    async fn a_hook_gets_json_and_its_status_counts() {
        for (answer, expected) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Outcome::Done),
            ("HTTP/1.1 503 Busy\r\n\r\n", Outcome::Later("HTTP status 503".into())),
            ("HTTP/1.1 404 No\r\n\r\n", Outcome::Never("HTTP status 404".into())),
            ("+OK\r\n", Outcome::Later("the answer is no HTTP".into())),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook?a=1", listener.local_addr().unwrap());
            let served = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                let mut buffer = [0; 1024];
                while !request.ends_with("{\"a\":1}") {
                    let n = stream.read(&mut buffer).await.unwrap();
                    request += std::str::from_utf8(&buffer[..n]).unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                (request, stream)
            });
            assert_eq!(post(&url, "{\"a\":1}", LONG).await, expected, "{answer}");
            // Open until now: nobody waited for its end.
            let (request, _stream) = served.await.unwrap();
            assert!(request.starts_with("POST /hook?a=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
            assert!(request.contains("Content-Length: 7\r\n"), "{request}");
        }
        // Nobody listens there.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(post(&format!("http://{gone}"), "{}", LONG).await, Outcome::Later(_)));
    }
}
