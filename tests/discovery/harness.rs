//! Real Redis servers and Sentinels on free loopback ports, in a directory that goes with them. Each process is killed by
//! its own handle when the test drops it. Also `Watch`: discovery started on such a set, and ways to wait for what it publishes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redweir::config::{Failover, SetConfig, Share, Source};
use redweir::demo::node::free_port;
use redweir::topology::{self, Node, NodeState, Shard, Topology, View, Writes};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// No wait in these tests is longer; none depends on being short.
/// Sentinels that split their vote try again after 20 s (twice their failover-timeout).
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of Sentinels that fail over, in ms. Longer than a busy machine may keep a server waiting: one that takes the new master for
/// down fails over a second time, and no test counts on that.
pub const DOWN_AFTER: u32 = 3000;

pub struct Server {
    pub port: u16,
    child: Child,
    args: Vec<String>,
    program: &'static str,
}

impl Server {
    fn spawn(program: &'static str, port: u16, args: Vec<String>) -> Self {
        let child = Command::new(program).args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { port, child, args, program };
        server.wait_up();
        server
    }

    fn wait_up(&mut self) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} on {} ended: {ended:?}", self.program, self.port);
            assert!(Instant::now() < end, "{} on {} does not listen", self.program, self.port);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn redis(dir: &Path, of: Option<u16>) -> Self {
        let port = free_port().unwrap();
        let work = dir.join(port.to_string());
        std::fs::create_dir_all(&work).unwrap();
        let mut args = vec![
            format!("--port {port} --bind 127.0.0.1 --save  --appendonly no --repl-diskless-sync-delay 0"),
            format!("--dir {}", work.display()),
        ];
        args.extend(of.map(|m| format!("--replicaof 127.0.0.1 {m}")));
        let args = args.iter().flat_map(|a| a.split(' ').map(str::to_owned)).collect();
        Self::spawn("redis-server", port, args)
    }

    pub fn sentinel(dir: &Path, master: u16, down_after_ms: u32) -> Self {
        Self::sentinel_with(dir, master, down_after_ms, "")
    }

    pub fn sentinel_with(dir: &Path, master: u16, down_after_ms: u32, more: &str) -> Self {
        let port = free_port().unwrap();
        let file = dir.join(format!("sentinel-{port}.conf"));
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds m {down_after_ms}\nsentinel failover-timeout m 10000\nlogfile sentinel-{port}.log\n{more}",
            dir.display()
        );
        std::fs::write(&file, text).unwrap();
        Self::spawn("redis-sentinel", port, vec![file.display().to_string()])
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// One command by a connection of its own; the first line of the reply.
    pub fn tell(&self, args: &[&str]) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        Self::tell_over(stream, args)
    }

    /// The same after AUTH.
    pub fn tell_as(&self, password: &str, args: &[&str]) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        assert_eq!(Self::tell_over(stream.try_clone().unwrap(), &["AUTH", password]), "+OK");
        Self::tell_over(stream, args)
    }

    fn tell_over(mut stream: TcpStream, args: &[&str]) -> String {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("*{}\r\n", args.len());
        for a in args {
            request += &format!("${}\r\n{a}\r\n", a.len());
        }
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = BufReader::new(stream);
        let mut line = String::new();
        reply.read_line(&mut line).unwrap();
        // An array or a bulk: the line that says something is the last one that is no length.
        while line.starts_with(['*', '$']) && line.trim() != "*0" && line.trim() != "$-1" {
            line.clear();
            reply.read_line(&mut line).unwrap();
        }
        line.trim().to_owned()
    }

    pub fn says_master(&self) -> bool {
        self.tell(&["ROLE"]) == "master"
    }

    /// The kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.kill();
        *self = Self::spawn(self.program, self.port, std::mem::take(&mut self.args));
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master, its linked replicas, and Sentinels that know all of them.
pub struct Set {
    pub nodes: Vec<Server>,
    pub sentinels: Vec<Server>,
    pub dir: TempDir,
}

impl Set {
    pub fn new(replicas: usize, sentinels: usize, down_after_ms: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let master = Server::redis(dir.path(), None);
        let port = master.port;
        let mut nodes = vec![master];
        nodes.extend((0..replicas).map(|_| Server::redis(dir.path(), Some(port))));
        for replica in &nodes[1..] {
            wait("replica links", || field(&replica.info(), "master_link_status") == "up");
            // A linked replica gets its stream only at its first ACK, up to a second later.
            nodes[0].tell(&["SET", "first", "1"]);
            let offset = |server: &Server, name| field(&server.info(), name).parse::<u64>().unwrap_or(0);
            let produced = offset(&nodes[0], "master_repl_offset");
            wait("replica streams", || offset(replica, "slave_repl_offset") >= produced);
        }
        let sentinels: Vec<_> = (0..sentinels).map(|_| Server::sentinel(dir.path(), port, down_after_ms)).collect();
        let set = Self { nodes, sentinels, dir };
        for sentinel in &set.sentinels {
            let knows = |what: &str, n: usize| sentinel.master_field(what) == n.to_string();
            wait("sentinels know all", || {
                knows("num-slaves", replicas) && knows("num-other-sentinels", set.sentinels.len() - 1)
            });
        }
        set
    }

    /// The master that all Sentinels name; none while they differ.
    pub fn named(&self) -> Option<String> {
        let first = self.sentinels.first()?.names_master();
        self.sentinels.iter().all(|s| s.names_master() == first).then(|| format!("127.0.0.1:{first}"))
    }

    /// What the Sentinels decided, by their own logs: a test that fails says whether its servers did what it counts on.
    fn decided(&self) -> String {
        let told = |sentinel: &Server| {
            let log = std::fs::read_to_string(self.dir.path().join(format!("sentinel-{}.log", sentinel.port)));
            let events = log.unwrap_or_default();
            let events: Vec<_> = events.lines().filter(|l| l.contains(" # ") || l.contains(" * +")).collect();
            format!("-- Sentinel {}\n{}\n", sentinel.port, events.join("\n"))
        };
        self.sentinels.iter().map(told).collect()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Server::address).collect()
    }

    pub fn node(&self, address: &str) -> &Server {
        self.nodes.iter().find(|n| n.address() == address).unwrap()
    }

    pub fn by_nodes(&self) -> Source {
        Source::Nodes(self.addresses())
    }

    pub fn by_sentinels(&self) -> Source {
        Source::Sentinel {
            sentinels: self.sentinels.iter().map(Server::address).collect(),
            master_name: "m".into(),
            login: None,
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.decided());
        }
    }
}

impl Server {
    pub fn info(&self) -> String {
        self.info_of("replication")
    }

    pub fn info_of(&self, section: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("INFO {section}\r\nQUIT\r\n").as_bytes()).unwrap();
        std::io::read_to_string(&mut stream).unwrap()
    }

    /// The lines of a reply as they come: a Sentinel knows no QUIT that would end them.
    fn lines(&self, request: &str) -> impl Iterator<Item = String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        BufReader::new(stream).lines().map_while(Result::ok)
    }

    /// How often a command was called at this data node.
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.info_of("commandstats");
        let calls =
            field(&stats, &format!("cmdstat_{command}")).strip_prefix("calls=").and_then(|c| c.split(',').next());
        calls.map_or(0, |c| c.parse().unwrap())
    }

    /// A Sentinel that does nothing for a while, for it does not trust its clock.
    pub fn is_in_tilt(&self) -> bool {
        self.lines("INFO sentinel").find(|l| l.starts_with("sentinel_tilt:")).is_some_and(|l| l == "sentinel_tilt:1")
    }

    /// The port of the master that this Sentinel sends clients to.
    pub fn names_master(&self) -> u16 {
        let port = self.lines("SENTINEL GET-MASTER-ADDR-BY-NAME m").nth(4).unwrap_or_default();
        port.parse().unwrap_or(0)
    }

    fn master_field(&self, name: &str) -> String {
        let mut value = self.lines("SENTINEL MASTER m").skip_while(|l| l != name).skip(2);
        value.next().unwrap_or_default()
    }

    /// Sets a Sentinel's failover-timeout, in ms.
    pub fn failover_timeout(&self, ms: u32) {
        let said = self.lines(&format!("SENTINEL SET m failover-timeout {ms}")).next();
        assert_eq!(said.as_deref(), Some("+OK"));
    }

    /// Whether exactly one client subscribed by pattern.
    pub fn has_a_listener(&self) -> bool {
        self.lines("INFO stats").find(|l| l.starts_with("pubsub_patterns")).is_some_and(|l| l == "pubsub_patterns:1")
    }
}

pub fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
}

/// Waits for a condition outside of discovery.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn config(source: Source) -> SetConfig {
    SetConfig {
        name: "m".into(),
        source,
        node_login: None,
        address_map: Vec::new(),
        poll: Duration::from_millis(100),
        poll_fast: Duration::from_millis(5),
        down_after: Duration::from_millis(1000),
        connect_timeout: Duration::from_millis(1000),
        max_lag: None,
        max_lag_bytes: None,
        max_lag_return: Share(8000),
        nodes: Vec::new(),
        failover: Failover::default(),
    }
}

/// Discovery at work.
pub struct Watch {
    pub view: Arc<View>,
    stop: CancellationToken,
    /// Every epoch published, in order: nothing in between is missed by a waiting test.
    seen: tokio::sync::mpsc::UnboundedReceiver<Arc<Topology>>,
    pub now: Arc<Topology>,
}

impl Watch {
    pub fn start(config: SetConfig) -> Self {
        crate::log::start();
        let (publisher, view, hints) = topology::channel();
        let stop = CancellationToken::new();
        let (tx, seen) = tokio::sync::mpsc::unbounded_channel();
        let mut epochs = view.subscribe();
        let watched = Arc::clone(&view);
        let now = view.load();
        tokio::spawn(async move {
            while epochs.changed().await.is_ok() {
                let _ = tx.send(watched.load());
            }
        });
        drop(redweir::discovery::start(config, publisher, hints, stop.clone()));
        Self { view, stop, seen, now }
    }

    /// The first topology from here on (the current one included) that fits.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&Topology) -> bool) -> Arc<Topology> {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !fits(&self.now) {
            self.now = match tokio::time::timeout_at(end, self.seen.recv()).await {
                Ok(Some(next)) => next,
                _ => panic!("not in time: {what}; last {:#?}", self.now),
            };
        }
        Arc::clone(&self.now)
    }

    pub async fn until_open(&mut self, readers: usize) -> Arc<Topology> {
        self.until(&format!("open with {readers} readers"), |t| {
            master(t).is_some() && shard(t).readers.len() == readers
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn shard(t: &Topology) -> &Shard {
    &t.shards[0]
}

/// The address of the master writes are open to.
pub fn master(t: &Topology) -> Option<String> {
    match shard(t).writes {
        Writes::Open(id) => t.node(id).map(|n| n.address.to_string()),
        Writes::Held => None,
    }
}

pub fn readers(t: &Topology) -> Vec<String> {
    let mut all: Vec<_> =
        shard(t).readers.iter().filter_map(|r| t.node(r.node).map(|n| n.address.to_string())).collect();
    all.sort();
    all
}

pub fn node<'a>(t: &'a Topology, address: &str) -> Option<&'a Arc<Node>> {
    t.nodes.iter().find(|n| *n.address == *address)
}

pub fn state(t: &Topology, address: &str) -> Option<NodeState> {
    node(t, address).map(|n| n.state)
}
