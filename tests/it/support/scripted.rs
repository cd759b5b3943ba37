//! A node that answers some commands in words of the test's choice, and leaves all others to a real one.
//!
//! Must not know redweir. Invariant: a command answered here never reaches the real node, and every command is answered in its turn.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use redweir::demo::client::{Reply, encode, read_reply};
use redweir::demo::node::free_listener;

/// A port in front of a node. Its threads end with the connections.
pub struct Scripted {
    port: u16,
    script: Script,
    over: Arc<AtomicBool>,
}

/// Command in lower case, and what is said instead of its reply.
type Script = Arc<Mutex<Vec<(String, String)>>>;

impl Scripted {
    #[track_caller]
    pub fn before(target: u16) -> Scripted {
        let listener = free_listener().expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let scripted = Scripted { port, script: Script::default(), over: Arc::default() };
        let (script, over) = (Arc::clone(&scripted.script), Arc::clone(&scripted.over));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if over.load(Relaxed) {
                    return;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let script = Arc::clone(&script);
                // Ends when either side does.
                std::thread::spawn(move || serve(near, far, &script));
            }
        });
        scripted
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next `times` of this command get `reply`, a line without its end.
    pub fn say(&self, command: &str, reply: &str, times: usize) {
        let one = (command.to_owned(), reply.to_owned());
        self.script.lock().expect("the script").extend(vec![one; times]);
    }

    /// What has not been said yet.
    pub fn left(&self) -> usize {
        self.script.lock().expect("the script").len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(near: TcpStream, far: TcpStream, script: &Script) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut requests = BufReader::new(near.try_clone()?);
    let mut replies = Copying { inner: BufReader::new(far.try_clone()?), copy: Vec::new() };
    let (mut near, mut far) = (near, far);
    loop {
        let request = read_reply(&mut requests)?;
        let words: Vec<String> = request.items().iter().map(Reply::text).collect();
        let name = words.first().map(|word| word.to_lowercase()).unwrap_or_default();
        let said = {
            let mut script = script.lock().expect("the script");
            let at = script.iter().position(|(command, _)| *command == name);
            at.map(|at| script.remove(at).1)
        };
        if let Some(said) = said {
            near.write_all(format!("{said}\r\n").as_bytes())?;
            continue;
        }
        far.write_all(&encode(&words.iter().map(String::as_bytes).collect::<Vec<_>>()))?;
        read_reply(&mut replies)?;
        near.write_all(&std::mem::take(&mut replies.copy))?;
    }
}

/// Keeps the bytes of what is read.
struct Copying {
    inner: BufReader<TcpStream>,
    copy: Vec<u8>,
}

impl BufRead for Copying {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        self.copy.extend_from_slice(&self.inner.buffer()[..n]);
        self.inner.consume(n);
    }
}

impl Read for Copying {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}
