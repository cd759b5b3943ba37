//! The two sides: one server asked directly, and redweir in front of a master with two replicas of the same version.
//!
//! The direct server is the oracle: what it has said when a step is over is exactly what must come through redweir, to every
//! client. Must not know what a command does. Invariant: a step begins only when the replicas have everything the master has and
//! both sides have equally many blocked clients, so that a difference is redweir's and not the network's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Client, Plan, Proxy, Stage, call, stage};
use crate::wire::{Frame, Wire};

/// How long a reply may take that the direct server has given already.
const PATIENCE: Duration = Duration::from_secs(6);
/// How much later than the other side's a server's word may come.
const LATER: Duration = Duration::from_secs(2);
/// Redis reads so much of one client per turn of its loop.
const READ: usize = 16 * 1024;

/// One client, connected to both sides.
pub struct Link {
    pub direct: Wire,
    pub through: Wire,
}

/// Clients by their letter.
pub type Links = BTreeMap<char, Link>;

/// What a step brought to one client.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub direct: Vec<Frame>,
    pub through: Vec<Frame>,
    /// Which side has closed the connection.
    pub closed: (bool, bool),
}

impl Said {
    /// What came later joins what came before.
    pub fn and_then(&mut self, later: Said) {
        self.direct.extend(later.direct);
        self.through.extend(later.through);
        self.closed = later.closed;
    }
}

pub struct Pair {
    direct: Stage,
    set: Stage,
    proxy: Proxy,
    oracle: Client,
    nodes: Vec<Client>,
    /// `redis-7.0.15`, `valkey-9.1.2`.
    pub version: String,
}

impl Pair {
    #[track_caller]
    pub fn start(flags: &[&str]) -> Pair {
        let plan = |replicas| Plan { replicas, sentinels: 0, ..Plan::default() };
        let (direct, set) = (stage(plan(0)), stage(plan(2)));
        let proxy = Proxy::start(&set, flags);
        proxy.wait_readers(2);
        let mut oracle = direct.nodes[0].connect().expect("the direct server");
        let info = call(&mut oracle, "INFO server").text();
        let of = |name: &str| info.lines().find_map(|l| l.strip_prefix(name).map(str::to_owned));
        let version = of("valkey_version:").map(|v| format!("valkey-{v}"));
        let version = version.or_else(|| of("redis_version:").map(|v| format!("redis-{v}"))).unwrap_or_default();
        let nodes = set.nodes.iter().map(|n| n.connect().expect("a node")).collect();
        Pair { direct, set, proxy, oracle, nodes, version }
    }

    /// Both sides empty: no keys, scripts or functions.
    #[track_caller]
    pub fn clear(&mut self) {
        for line in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "SLOWLOG RESET", "ACL LOG RESET"] {
            call(&mut self.oracle, line);
            // What was never replicated (ACL, scripts) is emptied everywhere; replicas refuse the rest.
            self.nodes.iter_mut().for_each(|node| drop(call(node, line)));
        }
        self.settle();
    }

    #[track_caller]
    pub fn link(&self) -> Link {
        Link { direct: Wire::connect(self.direct.nodes[0].port), through: Wire::connect(self.proxy.port) }
    }

    /// Sends the same bytes to both sides and collects what every client heard of it.
    #[track_caller]
    pub fn step(&mut self, links: &mut Links, who: char, bytes: &[u8]) -> BTreeMap<char, Said> {
        let flushes = bytes.to_ascii_uppercase().windows(5).any(|word| word == b"FLUSH");
        let before = if flushes { field(&mut self.oracle, "clients", "blocked_clients") } else { 0 };
        let link = links.get_mut(&who).expect("a client");
        link.direct.send(bytes);
        link.through.send(bytes);
        self.let_direct_finish(bytes.len());
        if flushes {
            // Redis 8 frees the keys beside its loop, and blocks the client for so long.
            let until = Instant::now() + Duration::from_secs(2);
            while field(&mut self.oracle, "clients", "blocked_clients") > before && Instant::now() < until {
                std::thread::sleep(Duration::from_micros(300));
            }
            self.let_direct_finish(bytes.len());
        }
        self.collect(links, who)
    }

    /// Collects what has come without anything being sent; `who` is the one it is mainly about.
    #[track_caller]
    pub fn collect(&mut self, links: &mut Links, who: char) -> BTreeMap<char, Said> {
        let mut heard = BTreeMap::new();
        for (name, link) in links.iter_mut() {
            let mut said = Said { direct: link.direct.here(), ..Said::default() };
            if !link.direct.is_between_frames() {
                said.direct.extend(link.direct.wait(1, false, PATIENCE));
            }
            said.through = link.through.wait(said.direct.len(), link.direct.closed, PATIENCE);
            heard.insert(*name, said);
        }
        let silent = heard.get(&who).is_some_and(|said| said.direct.is_empty());
        if silent {
            self.wait_blocked();
        }
        self.settle();
        for (name, link) in links.iter_mut() {
            let said = heard.entry(*name).or_default();
            said.through.extend(link.through.here());
            // Newer servers answer, and close, from threads: what redweir's node has said already may still be on its way here.
            let behind = said.through.len().saturating_sub(said.direct.len());
            if behind > 0 || (link.through.closed && !link.direct.closed) {
                said.direct.extend(link.direct.wait(behind, link.through.closed, LATER));
            }
            said.closed = (link.direct.closed, link.through.closed);
        }
        heard
    }

    /// Waits until the direct server has said something to `who` (a timeout's end, say).
    pub fn await_direct(&mut self, links: &mut Links, who: char) -> BTreeMap<char, Said> {
        let link = links.get_mut(&who).expect("a client");
        let first = link.direct.wait(1, false, PATIENCE);
        let through = link.through.wait(first.len(), link.direct.closed, PATIENCE);
        let mut heard = self.collect(links, who);
        let said = heard.entry(who).or_default();
        said.direct.splice(0..0, first);
        said.through.splice(0..0, through);
        heard
    }

    /// A client leaves on both sides; over when neither set of servers has it any more.
    pub fn leave(&mut self, links: &mut Links, who: char) {
        links.remove(&who);
        self.let_direct_finish(0);
        self.wait_blocked();
        self.wait_subscribers();
    }

    /// Redis writes the replies of one turn of its loop before the next turn: when two questions asked one after the other are
    /// answered, everything that was sent before the first is answered, too.
    fn let_direct_finish(&mut self, bytes: usize) {
        for _ in 0..2 + bytes / READ {
            call(&mut self.oracle, "PING");
        }
    }

    fn wait_blocked(&mut self) {
        self.wait_equal(|node| field(node, "clients", "blocked_clients"));
    }

    fn wait_subscribers(&mut self) {
        self.wait_equal(|node| call(node, "CLIENT LIST TYPE pubsub").text().lines().count() as u64);
    }

    /// Bounded: where the sides really differ, the comparison of replies says so.
    fn wait_equal(&mut self, mut figure: impl FnMut(&mut Client) -> u64) {
        let until = Instant::now() + Duration::from_secs(2);
        while figure(&mut self.oracle) != figure(&mut self.nodes[0]) && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// What the direct server lists.
    pub fn commands(&mut self) -> Vec<crate::generated::Listed> {
        crate::generated::commands(&mut self.oracle)
    }

    /// Is this client blocked, on the direct server?
    pub fn is_blocked(&mut self, link: &Link) -> bool {
        if field(&mut self.oracle, "clients", "blocked_clients") == 0 {
            return false;
        }
        let address = format!(" addr={} ", link.direct.address());
        let clients = call(&mut self.oracle, "CLIENT LIST").text();
        let blocked = |line: &str| {
            line.split(" flags=").nth(1).is_some_and(|f| f.split(' ').next().is_some_and(|f| f.contains('b')))
        };
        clients.lines().any(|line| line.contains(&address) && blocked(line))
    }

    /// Until both replicas have applied what the master has produced.
    #[track_caller]
    fn settle(&mut self) {
        let until = Instant::now() + PATIENCE;
        let (master, replicas) = self.nodes.split_at_mut(1);
        let produced = field(&mut master[0], "replication", "master_repl_offset");
        for replica in replicas {
            while field(replica, "replication", "slave_repl_offset") < produced {
                assert!(Instant::now() < until, "a replica does not follow: {}", self.set.nodes[1].log_tail());
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

fn field(node: &mut Client, section: &str, name: &str) -> u64 {
    let text = call(node, &format!("INFO {section}")).text();
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.parse().ok()).unwrap_or(0)
}
