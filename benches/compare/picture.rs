//! The Redis nodes on loopback: a master and three replicas without persistence, with the keys that are asked for.
//!
//! Must not know what stands in front of them. Invariant: nodes that are returned are settled: every replica's link is up
//! and it holds all the data.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::figures::{command_calls, info_field};
use crate::process::{Process, Result};

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

    /// GETs that the master has answered so far.
    pub async fn master_reads(&self) -> Result<u64> {
        Ok(command_calls(&self.master.info("commandstats").await?, "get"))
    }

    /// GETs that each replica has answered so far.
    pub async fn reads(&self) -> Result<Vec<u64>> {
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
