//! One Redis, Valkey or Sentinel process, on loopback unless told otherwise: its files, its process, its signals.
//!
//! Must not know what part it plays in a replication set: that is `stage`. Invariant: the process runs in `dir` and in a process
//! group of its own, so that a Ctrl-C meant for the demo does not reach it and the stage's guard can find it.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::client::Client;
use super::failure::Failure;

/// How long one call to a node of the stage may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Server,
    Sentinel,
}

impl Program {
    /// The binary: `REDIS_SERVER` / `REDIS_SENTINEL` of the environment, or the usual name.
    fn path(self) -> String {
        let (variable, name) = match self {
            Program::Server => ("REDIS_SERVER", "redis-server"),
            Program::Sentinel => ("REDIS_SENTINEL", "redis-sentinel"),
        };
        std::env::var(variable).unwrap_or_else(|_| name.to_owned())
    }
}

/// Where a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address it listens on, and is known by.
    pub host: String,
    /// Words in front of the program's name that take it there, say `nsenter --net=FILE`; they must end as that program.
    pub through: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), through: Vec::new() }
    }
}

/// A process of the stage, running or not.
pub struct Node {
    pub port: u16,
    place: Place,
    program: Program,
    dir: PathBuf,
    password: Option<String>,
    child: Option<Child>,
}

impl Node {
    /// Writes the config file and starts the process; does not wait until it answers.
    ///
    /// # Errors
    /// The binary is missing, or the directory cannot be written.
    pub fn start(
        program: Program,
        dir: &Path,
        (place, port): (Place, u16),
        config: &str,
        password: Option<&str>,
    ) -> Result<Node, Failure> {
        let dir = dir.join(port.to_string());
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("node.conf"), config)?;
        let mut node = Node { port, place, program, dir, password: password.map(Into::into), child: None };
        node.resume()?;
        Ok(node)
    }

    /// Starts the process again with the config it last wrote. Nothing to do while it runs.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn resume(&mut self) -> Result<(), Failure> {
        if self.pid().is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut words = self.place.through.iter().cloned().chain([self.program.path()]);
        let program = words.next().unwrap_or_default();
        let spawned = Command::new(&program)
            .args(words)
            .arg("node.conf")
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => self.child = Some(child),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing(program)),
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.place.host, self.port)
    }

    /// The process id, or `None` when it is not running (killed by us or by anybody else).
    pub fn pid(&mut self) -> Option<u32> {
        let child = self.child.as_mut()?;
        match child.try_wait() {
            Ok(None) => Some(child.id()),
            _ => {
                self.child = None;
                None
            }
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP, and waits until it has stopped: the sockets stay open and nobody answers. On a busy machine it would answer a few
    /// more requests after the signal.
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::STOP);
        let Some(stat) = self.pid().map(|pid| format!("/proc/{pid}/stat")) else { return };
        let until = Instant::now() + PATIENCE;
        // The state follows the name, which stands in brackets; `t`: stopped, and somebody traces it.
        let stopped = |stat: String| stat.contains(") T ") || stat.contains(") t ");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stopped(stat)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT after [`Node::stop`].
    pub fn cont(&mut self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&mut self, signal: rustix::process::Signal) {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // Fails only when the process has just gone.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// A new connection to it, logged in when the stage has a password.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connect(&self) -> io::Result<Client> {
        let mut client = Client::connect(&self.address(), PATIENCE)?;
        if let Some(password) = &self.password {
            client.call(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that nobody listens on. Below the kernel's range for outgoing connections, so that no client's socket
/// takes it while the node that owns it is dead.
///
/// # Errors
/// No such port was found.
pub fn free_port() -> io::Result<u16> {
    Ok(free_listener()?.local_addr()?.port())
}

/// A listener on such a port. To be preferred where it can be used: a child process that is being started may hold a port that
/// was just given back for a moment.
///
/// # Errors
/// As [`free_port`].
pub fn free_listener() -> io::Result<TcpListener> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes run at the same time: each begins somewhere else.
    let _ = NEXT.compare_exchange(0, fastrand::u16(1..COUNT), Relaxed, Relaxed);
    for _ in 0..200 {
        let port = FIRST + NEXT.fetch_add(1, Relaxed) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port on 127.0.0.1"))
}
