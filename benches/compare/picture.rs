//! The picture on loopback: a master, three replicas, and each target in front of them.
//!
//! Must not measure. Invariant: what is returned is ready: replicas hold all the data, a target has answered a GET with
//! the right length, and redweir's GETs have been seen on every replica.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Client, request};
use crate::figures::{command_calls, info_field};
use crate::process::{Cpu, Process, Result};

/// Keys of each value size; `redis-benchmark` picks among as many.
pub const KEYS: u32 = 1000;
/// The value sizes that are loaded: 64 B and 16 KiB.
pub const VALUE_BYTES: [usize; 2] = [64, 16 * 1024];

const READY: Duration = Duration::from_secs(30);

/// Key `number` of the values of this size. `redis-benchmark` fills `__rand_int__` with twelve digits too.
pub fn key(value_bytes: usize, number: u32) -> String {
    format!("v{value_bytes}:{number:012}")
}

/// One Redis node without persistence.
pub struct Node {
    pub port: u16,
    process: Process,
}

/// A master and its three replicas.
pub struct Nodes {
    pub master: Node,
    pub replicas: Vec<Node>,
}

impl Nodes {
    pub async fn start(dir: &Path) -> Result<Nodes> {
        let master = start_node(dir, "master", None)?;
        answers(master.port, &[b"PING"]).await?;
        let names = ["replica1", "replica2", "replica3"];
        let replicas = names.iter().map(|name| start_node(dir, name, Some(master.port))).collect::<Result<Vec<_>>>()?;
        let nodes = Nodes { master, replicas };
        for bytes in VALUE_BYTES {
            nodes.load(bytes).await?;
        }
        nodes.settle().await?;
        Ok(nodes)
    }

    async fn load(&self, value_bytes: usize) -> Result<()> {
        let mut client = Client::open(self.master.port).await?;
        let value = vec![b'x'; value_bytes];
        for number in 0..KEYS {
            client.call(&[b"SET", key(value_bytes, number).as_bytes(), &value]).await?;
        }
        Ok(())
    }

    /// Waits until every replica's link is up and it has applied all the master has written.
    pub async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let written = self.master.info("replication").await.unwrap_or_default();
            let offset = info_field(&written, "master_repl_offset").map(str::to_owned);
            let mut behind = Vec::new();
            for replica in &self.replicas {
                let info = replica.info("replication").await.unwrap_or_default();
                let up = info_field(&info, "master_link_status") == Some("up");
                if !up || offset.is_none() || info_field(&info, "slave_repl_offset") != offset.as_deref() {
                    behind.push(replica.port);
                }
            }
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("replicas on ports {behind:?} do not catch up with the master").into());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The four nodes together.
    pub fn cpu_nanos(&self) -> Result<u64> {
        let nodes = std::iter::once(&self.master).chain(&self.replicas);
        nodes.map(|node| Ok(node.process.cpu()?.nanos)).sum()
    }

    pub fn addresses(&self) -> String {
        let ports = std::iter::once(&self.master).chain(&self.replicas).map(|node| node.port);
        ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// GETs that each replica has answered so far.
    async fn reads(&self) -> Result<Vec<u64>> {
        let mut reads = Vec::new();
        for replica in &self.replicas {
            reads.push(command_calls(&replica.info("commandstats").await?, "get"));
        }
        Ok(reads)
    }
}

impl Node {
    async fn info(&self, section: &str) -> std::io::Result<String> {
        let reply = Client::open(self.port).await?.call(&[b"INFO", section.as_bytes()]).await?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }
}

fn start_node(dir: &Path, name: &str, master: Option<u16>) -> Result<Node> {
    let port = free_port()?;
    let text = format!(
        "--port {port} --bind 127.0.0.1 --save --appendonly no --dir {} --repl-diskless-sync-delay 0 \
         --maxclients 12000 --tcp-backlog 4096",
        dir.display()
    );
    let mut arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--save") {
        arguments.insert(at + 1, String::new());
    }
    // Writes of 16 KiB outrun replicas that share two cores with everything else; they must not be cut off for it.
    arguments.extend(["--client-output-buffer-limit".to_owned(), "replica 4gb 0 0".to_owned()]);
    if let Some(master) = master {
        arguments.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.to_string()]);
    }
    Ok(Node { port, process: Process::start(dir, name, "redis-server", &arguments)? })
}

/// A port nobody has now. Someone could take it before its server does; then that server says so and the run ends.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until the server on this port answers without an error.
async fn answers(port: u16, arguments: &[&[u8]]) -> Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        let reply = match Client::open(port).await {
            Ok(mut client) => client.call(arguments).await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(format!("port {port} does not answer: {error}").into());
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One place to send load to.
pub struct Endpoint {
    pub port: u16,
    /// `None`: Redis itself, whose CPU is counted with the nodes.
    pub process: Option<Process>,
    /// A floor answers every GET with one length only.
    value_bytes: Option<usize>,
}

impl Endpoint {
    /// A Redis node taken for a target.
    pub fn of_redis(port: u16) -> Endpoint {
        Endpoint { port, process: None, value_bytes: None }
    }
}

/// One column of the comparison.
pub struct Target {
    pub name: String,
    endpoints: Vec<Endpoint>,
}

impl Target {
    pub fn endpoint(&self, value_bytes: usize) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.value_bytes.is_none_or(|bytes| bytes == value_bytes))
    }

    /// The process behind values of this size; the target's others are ended.
    pub fn into_process(self, value_bytes: usize) -> Option<Process> {
        let fits = |endpoint: &Endpoint| endpoint.value_bytes.is_none_or(|bytes| bytes == value_bytes);
        self.endpoints.into_iter().find(fits)?.process
    }

    /// CPU so far, of a target that is a process of its own.
    pub fn cpu(&self, value_bytes: usize) -> Result<Option<Cpu>> {
        self.endpoint(value_bytes).and_then(|endpoint| endpoint.process.as_ref()).map(Process::cpu).transpose()
    }
}

/// Where target processes come from, and how they are started.
pub struct Stage<'a> {
    pub dir: &'a Path,
    pub nodes: &'a Nodes,
    /// The redweir binary, and flags after the usual ones.
    pub redweir: PathBuf,
    pub redweir_arguments: Vec<String>,
    /// A program and its arguments to run the target under (valgrind).
    pub under: Vec<String>,
    /// How long a target may take until it is ready.
    pub patience: Duration,
}

impl Stage<'_> {
    /// Starts a target by its name; `redweir-again` is a second process of the same binary.
    pub async fn start(&self, name: &str) -> Result<Target> {
        let endpoints = match name {
            "direct" => vec![Endpoint::of_redis(self.nodes.master.port)],
            "haproxy" => vec![self.haproxy().await?],
            "nutcracker" => vec![self.nutcracker().await?],
            "redweir" | "redweir-again" => vec![self.redweir(name).await?],
            "floor" => {
                let mut floors = Vec::new();
                for bytes in VALUE_BYTES {
                    floors.push(self.floor(bytes).await?);
                }
                floors
            }
            _ => return Err(format!("no target is called {name}").into()),
        };
        Ok(Target { name: name.to_owned(), endpoints })
    }

    async fn haproxy(&self) -> Result<Endpoint> {
        let (port, master) = (free_port()?, self.nodes.master.port);
        let file = self.dir.join("haproxy.cfg");
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
             timeout server 1h\nlisten redis\n  bind 127.0.0.1:{port} backlog 4096\n  server master 127.0.0.1:{master}\n"
        );
        std::fs::write(&file, text)?;
        let arguments = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
        self.ready("haproxy", "haproxy".as_ref(), &arguments, port, None).await
    }

    async fn nutcracker(&self) -> Result<Endpoint> {
        let (port, statistics, master) = (free_port()?, free_port()?, self.nodes.master.port);
        let file = self.dir.join("nutcracker.yml");
        let text = format!(
            "redis:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: modula\n  backlog: 4096\n  \
             auto_eject_hosts: false\n  redis: true\n  preconnect: true\n  servers:\n    - 127.0.0.1:{master}:1\n"
        );
        std::fs::write(&file, text)?;
        let text = format!("-c {} -a 127.0.0.1 -s {statistics}", file.display());
        let arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        self.ready("nutcracker", "nutcracker".as_ref(), &arguments, port, None).await
    }

    async fn floor(&self, value_bytes: usize) -> Result<Endpoint> {
        let port = free_port()?;
        let text = format!("floor --port {port} --value-bytes {value_bytes}");
        let arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        let program = std::env::current_exe()?;
        self.ready(&format!("floor-{value_bytes}"), &program, &arguments, port, Some(value_bytes)).await
    }

    /// One worker, splitting on, and metrics on: that is why it gets an admin port that nobody asks.
    async fn redweir(&self, name: &str) -> Result<Endpoint> {
        let (port, admin) = (free_port()?, free_port()?);
        let text = format!(
            "--listen 127.0.0.1:{port} --node {} --workers 1 --admin 127.0.0.1:{admin}",
            self.nodes.addresses()
        );
        let mut arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        arguments.extend(self.redweir_arguments.iter().cloned());
        let before = self.nodes.reads().await?;
        let mut endpoint = self.ready(name, &self.redweir, &arguments, port, None).await?;
        self.reads_reach_every_replica(&mut endpoint, &before).await?;
        Ok(endpoint)
    }

    async fn ready(
        &self,
        name: &str,
        program: &Path,
        arguments: &[String],
        port: u16,
        value_bytes: Option<usize>,
    ) -> Result<Endpoint> {
        let mut line: Vec<String> = self.under.clone();
        line.push(program.display().to_string());
        line.extend(arguments.iter().cloned());
        let (first, rest) = line.split_first().ok_or("no program")?;
        let mut process = Process::start(self.dir, name, first, rest)?;
        let deadline = Instant::now() + self.patience;
        let bytes = value_bytes.unwrap_or(64);
        while !right_value(port, bytes).await.unwrap_or(false) {
            sleep(Duration::from_millis(20)).await;
            process.check()?;
            if Instant::now() > deadline {
                return Err(format!("{name} did not answer a GET within {:?}", self.patience).into());
            }
        }
        Ok(Endpoint { port, process: Some(process), value_bytes })
    }

    /// A target that reads from the master only would be compared under a wrong name.
    async fn reads_reach_every_replica(&self, endpoint: &mut Endpoint, before: &[u64]) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        while self.nodes.reads().await?.iter().zip(before).any(|(now, before)| now == before) {
            right_value(endpoint.port, 64).await?;
            if let Some(process) = &mut endpoint.process {
                process.check()?;
            }
            if Instant::now() > deadline {
                return Err("redweir's reads do not reach every replica".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Whether one GET on a new connection brings a value of the right length.
async fn right_value(port: u16, value_bytes: usize) -> std::io::Result<bool> {
    let mut client = Client::open(port).await?;
    client.send(&request(&[b"GET", key(value_bytes, 0).as_bytes()])).await?;
    match tokio::time::timeout(Duration::from_secs(5), client.reply()).await {
        Ok(reply) => Ok(reply?.len() == value_bytes),
        Err(_) => Ok(false),
    }
}
