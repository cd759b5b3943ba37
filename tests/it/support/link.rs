//! A TCP link that misbehaves as it is told: it delays, chops, stalls, cuts and refuses what goes through it.
//!
//! Must not know redweir. It knows one thing of Redis: which connections are replicas' (they say PSYNC), so that faults can be meant
//! for replication alone. Invariant: bytes that arrive are the bytes that were sent, in order, up to a cut; nothing is lost in between.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redweir::demo::node::free_listener;

use super::{Stage, call, wait};

/// What a link does to the bytes. Each connection has delays of its own out of the ranges, the same for as long as it lives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// From who connected to the target.
    pub there: Range<Duration>,
    /// From the target to who connected.
    pub back: Range<Duration>,
    /// Bytes arrive in pieces of random size.
    pub chop: bool,
    /// Nothing arrives, not even the end of a connection; what was sent waits.
    pub stall: bool,
    /// Connections are closed as soon as they are made. Those there are stay.
    pub refuse: bool,
    /// Delays, chops and stalls are for replicas' connections only.
    pub replicas_only: bool,
}

/// A port that leads to another one; gone when dropped.
pub struct Link {
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    target: u16,
    faults: Mutex<Faults>,
    open: Mutex<HashMap<u64, [TcpStream; 2]>>,
    over: AtomicBool,
}

/// One connection through the link, as both directions see it.
struct Through {
    replica: AtomicBool,
    closed: AtomicBool,
    /// Where in the ranges of delays it lies, there and back.
    fractions: [f64; 2],
    link: Arc<Shared>,
}

type Piece = (Vec<u8>, Instant);

impl Link {
    /// To a port of this machine.
    #[track_caller]
    pub fn to(target: u16) -> Link {
        Self::seeded(target, fastrand::u64(..))
    }

    /// Whatever is random follows from `seed` and the order of connections.
    #[track_caller]
    pub fn seeded(target: u16, seed: u64) -> Link {
        let listener = free_listener().expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let shared =
            Arc::new(Shared { target, faults: Mutex::default(), open: Mutex::default(), over: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &of_thread, seed));
        Link { port, shared, accepting: Some(accepting) }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on, also for the connections there are.
    pub fn set(&self, faults: Faults) {
        *self.shared.faults() = faults;
    }

    /// What the target sends comes this much later from now on.
    pub fn delay(&self, delay: Duration) {
        self.set(Faults { back: delay..delay, ..Faults::default() });
    }

    /// From now on nothing arrives in either direction, and connections stay open whatever becomes of the target.
    pub fn silence(&self) {
        self.set(Faults { stall: true, ..Faults::default() });
    }

    /// Ends all connections, with what is on its way.
    pub fn cut(&self) {
        for stream in self.shared.open().values().flatten() {
            // Fails only when it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.accepting.take().map(JoinHandle::join);
        self.cut();
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn open(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has replica `n` follow the master through a link.
#[track_caller]
pub fn reroute(stage: &Stage, n: usize, link: &Link) {
    let mut replica = stage.nodes[n].connect().expect("a replica");
    assert_eq!(call(&mut replica, &format!("REPLICAOF 127.0.0.1 {}", link.port)).text(), "OK");
    wait("the link", || match stage.info(n, "master_link_status").as_deref() {
        Ok("up") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for id in 0.. {
        let accepted = listener.accept();
        if shared.over.load(Relaxed) {
            return;
        }
        let Ok((near, _)) = accepted else { continue };
        let fractions = [random.f64(), random.f64()];
        let seeds = [random.u64(..), random.u64(..)];
        if shared.faults().refuse {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", shared.target)) else { continue };
        // Fails only when the connection is closed already.
        let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        let through = Through {
            replica: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            fractions,
            link: Arc::clone(shared),
        };
        let _ = carry(id, near, far, through, seeds);
    }
}

/// Two threads a direction: one takes what comes and says when it is due, one hands it on then.
fn carry(id: u64, near: TcpStream, far: TcpStream, through: Through, seeds: [u64; 2]) -> std::io::Result<()> {
    let through = Arc::new(through);
    through.link.open().insert(id, [near.try_clone()?, far.try_clone()?]);
    let ways = [(near.try_clone()?, far.try_clone()?), (far, near)];
    for (way, ((from, to), seed)) in ways.into_iter().zip(seeds).enumerate() {
        let (give, take) = sync_channel(1024);
        let (of_reader, of_writer) = (Arc::clone(&through), Arc::clone(&through));
        std::thread::spawn(move || receive(from, &give, &of_reader, way, seed));
        std::thread::spawn(move || {
            hand_on(to, &take, &of_writer);
            of_writer.closed.store(true, Relaxed);
            for stream in of_writer.link.open().remove(&id).iter().flatten() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
    Ok(())
}

fn receive(mut from: TcpStream, give: &SyncSender<Piece>, through: &Through, way: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let mut bytes = &buffer[..n];
        if way == 0 && bytes.windows(5).any(|w| w.eq_ignore_ascii_case(b"PSYNC")) {
            through.replica.store(true, Relaxed);
        }
        let (delay, chop) = through.trouble(way);
        let due = Instant::now() + delay;
        while !bytes.is_empty() {
            let size = if chop { random.usize(1..=64.min(bytes.len())) } else { bytes.len() };
            if give.send((bytes[..size].to_vec(), due)).is_err() {
                return;
            }
            bytes = &bytes[size..];
        }
    }
}

fn hand_on(mut to: TcpStream, take: &Receiver<Piece>, through: &Through) {
    while let Ok((bytes, due)) = take.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if through.wait_out_a_stall().is_err() || to.write_all(&bytes).is_err() {
            return;
        }
    }
    // The end does not arrive either.
    let _ = through.wait_out_a_stall();
}

impl Through {
    fn concerned(&self, faults: &Faults) -> bool {
        !faults.replicas_only || self.replica.load(Relaxed)
    }

    fn trouble(&self, way: usize) -> (Duration, bool) {
        let faults = self.link.faults();
        if !self.concerned(&faults) {
            return (Duration::ZERO, false);
        }
        let range = if way == 0 { &faults.there } else { &faults.back };
        let delay = range.start + range.end.saturating_sub(range.start).mul_f64(self.fractions[way]);
        (delay, faults.chop)
    }

    /// `Err`: the connection is over before the stall is.
    fn wait_out_a_stall(&self) -> Result<(), ()> {
        while self.stalls() {
            if self.closed.load(Relaxed) || self.link.over.load(Relaxed) {
                return Err(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn stalls(&self) -> bool {
        let faults = self.link.faults();
        faults.stall && self.concerned(&faults)
    }
}
