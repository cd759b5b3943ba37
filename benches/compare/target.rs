//! What is compared, each started in front of the same nodes with a minimal configuration of its own.
//!
//! Must not measure. Invariant: a target that is returned is ready: it has answered a GET with the right length, and
//! redweir's GETs have been seen on every replica.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Client, request};
use crate::picture::{Nodes, VALUE_BYTES, free_port, key};
use crate::process::{Cpu, Process, Result};

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
            "redweir" | "redweir-again" => vec![self.redweir(name, true).await?],
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

    /// redweir under another name; `splits`: its reads are to reach the replicas.
    pub async fn start_redweir(&self, name: &str, splits: bool) -> Result<Target> {
        Ok(Target { name: name.to_owned(), endpoints: vec![self.redweir(name, splits).await?] })
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
    async fn redweir(&self, name: &str, splits: bool) -> Result<Endpoint> {
        let (port, admin) = (free_port()?, free_port()?);
        let text = format!(
            "--listen 127.0.0.1:{port} --node {} --workers 1 --admin 127.0.0.1:{admin}",
            self.nodes.addresses()
        );
        let mut arguments: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        arguments.extend(self.redweir_arguments.iter().cloned());
        let before = self.nodes.reads().await?;
        let mut endpoint = self.ready(name, &self.redweir, &arguments, port, None).await?;
        if splits {
            self.reads_reach_every_replica(&mut endpoint, &before).await?;
        }
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
