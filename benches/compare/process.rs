//! Child processes: started, read from /proc, and gone when their owner is.
//!
//! Must not outlive this program: a child is killed when its [`Process`] is dropped, and by the kernel (through `setpriv`)
//! if this program is killed itself. Invariant: figures are of one process and all its threads.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::figures;

/// Why a mode of `compare` could not go on, as one line for people.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Time on a processor so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// User and system, nanoseconds.
    pub nanos: u64,
    /// The user part, nanoseconds in steps of 10 ms.
    pub user_nanos: u64,
}

pub struct Process {
    child: Child,
    pub pid: u32,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in `dir/name.log`.
    pub fn start(dir: &Path, name: &str, program: impl AsRef<OsStr>, arguments: &[String]) -> Result<Process> {
        let program = program.as_ref();
        if !installed(program) {
            return Err(format!("{} is not installed: {}", Path::new(program).display(), advice(program)).into());
        }
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = dying_with_us(program);
        command.args(arguments).current_dir(dir).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", Path::new(program).display()))?;
        let pid = child.id().ok_or("it has ended already")?;
        Ok(Process { child, pid, name: name.to_owned(), log })
    }

    /// An error with the end of its log, if the process is not running any more.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        let tail = if tail.is_empty() { "it said nothing".to_owned() } else { tail.join("\n  ") };
        Err(format!("{} ended ({status}): {tail}", self.name).into())
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub async fn terminate(mut self, patience: Duration) -> Result<()> {
        Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        let waited = tokio::time::timeout(patience, self.child.wait()).await;
        waited.map_err(|_| format!("{} did not end within {patience:?} of SIGTERM", self.name))??;
        Ok(())
    }

    pub fn cpu(&self) -> Result<Cpu> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread that ends between the listing and the read takes nothing of note with it.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += figures::schedstat_nanos(&text).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let user_nanos = figures::user_nanos(&stat).ok_or("cannot read /proc/PID/stat")?;
        Ok(Cpu { nanos, user_nanos })
    }

    /// `VmRSS` (resident now) or `VmHWM` (its peak), bytes.
    pub fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        figures::status_bytes(&status, field).ok_or_else(|| format!("no {field} in /proc/{}/status", self.pid).into())
    }

    /// Starts the peak anew, so that `VmHWM` is that of what follows.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }
}

/// The program, under `setpriv --pdeathsig` where there is one. It replaces itself, so the pid is the program's.
fn dying_with_us(program: &OsStr) -> Command {
    if !installed(OsStr::new("setpriv")) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

pub fn installed(program: &OsStr) -> bool {
    if Path::new(program).components().count() > 1 {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps haproxy and nutcracker in /usr/sbin, which is not on everyone's PATH.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.into_iter().any(|directory| directory.join(program).is_file())
}

fn advice(program: &OsStr) -> String {
    let package = match program.to_str().unwrap_or_default() {
        "redis-server" => "redis-server",
        "redis-benchmark" => "redis-tools",
        "perf" => "linux-perf",
        "nutcracker" => "nutcracker",
        "haproxy" => "haproxy",
        "valgrind" => "valgrind",
        "strace" => "strace",
        _ => return "build it first (cargo build --release), or set REDWEIR to the binary".to_owned(),
    };
    format!("apt-get install {package}")
}

/// Lets this process and its children open many files: 1,000 clients are 2,000 sockets in a relay.
pub async fn raise_open_files(wanted: u64) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let hard: u64 = line.split_ascii_whitespace().nth(4).and_then(|field| field.parse().ok()).unwrap_or(wanted);
    for limit in [wanted.max(hard), hard] {
        let pid = std::process::id().to_string();
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid, &format!("--nofile={limit}:{limit}")]).stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return;
        }
    }
    eprintln!("cannot raise the limit of open files; 1,000 clients may not fit");
}
