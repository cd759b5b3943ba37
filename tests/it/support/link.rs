//! A link between a master and a replica that can be made slow: what passes is handed on only after a delay.
//!
//! Bytes keep their order and are never changed. Invariant: every thread ends with the link.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a thread sleeps when there is nothing to do; what a delay can be wrong by.
const NAP: Duration = Duration::from_micros(500);
/// Bytes under way at most in one direction.
const ROOM: usize = 64 << 20;

struct Shared {
    delay_micros: AtomicU64,
    over: AtomicBool,
}

/// Forwards what connects to its port.
pub struct Link {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Link {
    /// To a port of this machine.
    #[track_caller]
    pub fn to(port: u16) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let link = Link {
            port: listener.local_addr().expect("an address").port(),
            shared: Arc::new(Shared { delay_micros: AtomicU64::new(0), over: AtomicBool::new(false) }),
        };
        let shared = Arc::clone(&link.shared);
        std::thread::spawn(move || {
            while !shared.over.load(Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => join(client, port, &shared),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        link
    }

    /// What the server sends comes this much later from now on.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_micros.store(delay.as_micros() as u64, Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
    }
}

fn join(client: TcpStream, port: u16, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    for (from, to, delayed) in [(&client, &server, false), (&server, &client, true)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = from.set_nonblocking(true);
            let _ = to.set_nodelay(true);
            pass(&from, &to, &shared, delayed);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}

/// Until one side ends or the link does.
fn pass(mut from: &TcpStream, to: &TcpStream, shared: &Shared, delayed: bool) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut held, mut buffer) = (0, vec![0; 64 * 1024]);
    let mut ended = false;
    while !shared.over.load(Relaxed) {
        if ended && under_way.is_empty() {
            return;
        }
        let delay = if delayed { Duration::from_micros(shared.delay_micros.load(Relaxed)) } else { Duration::ZERO };
        let mut idle = true;
        if !ended && held < ROOM {
            match from.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(n) => {
                    idle = false;
                    held += n;
                    under_way.push_back((Instant::now(), buffer[..n].to_vec()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => ended = true,
            }
        }
        while let Some((since, bytes)) = under_way.front()
            && since.elapsed() >= delay
        {
            if write_all(to, bytes, shared).is_err() {
                return;
            }
            held -= bytes.len();
            under_way.pop_front();
            idle = false;
        }
        if idle {
            std::thread::sleep(NAP);
        }
    }
}

/// The two sides share their sockets' mode, so a full socket is waited for here.
fn write_all(mut to: &TcpStream, mut bytes: &[u8], shared: &Shared) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock && !shared.over.load(Relaxed) => std::thread::sleep(NAP),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
