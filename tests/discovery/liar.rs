//! A Sentinel by script: it names one master under config-epoch 0 until it is told to name another, and publishes what it
//! is told to.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

pub struct Liar {
    pub address: String,
    asked: Arc<AtomicUsize>,
    events: broadcast::Sender<String>,
    word: Arc<Word>,
}

/// Port of the master it names, and the config-epoch.
type Word = Mutex<(u16, u64)>;

impl Liar {
    /// How often it was asked for its master.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// From now on it names this one.
    pub fn name(&self, master: u16, epoch: u64) {
        *self.word.lock().unwrap() = (master, epoch);
    }

    /// Publishes to who subscribed.
    pub fn publish(&self, channel: &str, payload: &str) {
        let message = bulks(&["pmessage", "*", channel, payload]);
        assert!(self.events.send(message).is_ok(), "nobody listens");
    }
}

pub async fn start(master: u16) -> Liar {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let word = Arc::new(Mutex::new((master, 0)));
    let told = Arc::clone(&word);
    let (events, _) = broadcast::channel(16);
    let publisher = events.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&told), Arc::clone(&count), publisher.subscribe()));
        }
    });
    Liar { address, asked, events, word }
}

async fn serve(
    mut stream: TcpStream,
    word: Arc<Word>,
    asked: Arc<AtomicUsize>,
    mut events: broadcast::Receiver<String>,
) {
    let mut inbox = String::new();
    let mut buffer = [0; 4096];
    let mut subscribed = false;
    loop {
        let n = tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(n @ 1..) => n,
                _ => return,
            },
            Ok(event) = events.recv() => {
                if subscribed && stream.write_all(event.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        };
        inbox += &String::from_utf8_lossy(&buffer[..n]);
        while let Some((words, rest)) = request(&inbox) {
            inbox = rest;
            subscribed |= words.first().is_some_and(|w| w == "PSUBSCRIBE");
            if words.get(1).is_some_and(|w| w == "MASTER") {
                asked.fetch_add(1, SeqCst);
            }
            let word = *word.lock().unwrap();
            if stream.write_all(reply(&words, word).as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The first whole request and what follows it.
fn request(inbox: &str) -> Option<(Vec<String>, String)> {
    let mut lines = inbox.split_inclusive("\r\n");
    let count: usize = lines.next()?.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        lines.next()?;
        words.push(lines.next().filter(|l| l.ends_with("\r\n"))?.trim().to_uppercase());
    }
    Some((words, lines.collect()))
}

fn bulks(all: &[&str]) -> String {
    all.iter().fold(format!("*{}\r\n", all.len()), |r, b| r + &format!("${}\r\n{b}\r\n", b.len()))
}

fn reply(words: &[String], (master, epoch): (u16, u64)) -> String {
    let (port, epoch) = (master.to_string(), epoch.to_string());
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["PSUBSCRIBE", pattern] => format!("*3\r\n$10\r\npsubscribe\r\n${}\r\n{pattern}\r\n:1\r\n", pattern.len()),
        ["PING"] => bulks(&["pong", ""]),
        ["SENTINEL", "MYID"] => "$3\r\nfib\r\n".into(),
        ["SENTINEL", "MASTER", _] => {
            bulks(&["name", "m", "ip", "127.0.0.1", "port", &port, "flags", "master", "config-epoch", &epoch])
        }
        ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => bulks(&["127.0.0.1", &port]),
        ["SENTINEL", "REPLICAS" | "SENTINELS", _] => "*0\r\n".into(),
        _ => "+OK\r\n".into(),
    }
}
