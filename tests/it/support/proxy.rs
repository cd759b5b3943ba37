//! The redweir process under test.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use redweir::demo::node::free_port;

use super::{Client, PATIENCE, Stage, connect, http, wait};

/// A running redweir; killed on drop.
pub struct Proxy {
    pub port: u16,
    pub admin: u16,
    child: Child,
    log: File,
}

impl Proxy {
    /// In front of the stage's Sentinels, or of its nodes when it has none; returns when it is ready.
    #[track_caller]
    pub fn start(stage: &Stage, flags: &[&str]) -> Proxy {
        let proxy = Self::start_unready(&source(stage), flags);
        proxy.wait_ready();
        proxy
    }

    /// With a source of its own (`--node …`), and without waiting for anything but its port.
    #[track_caller]
    pub fn start_unready(source: &[String], flags: &[&str]) -> Proxy {
        let (port, admin) = (free_port().expect("a port"), free_port().expect("a port"));
        let mut args = vec!["--listen".to_owned(), format!("127.0.0.1:{port}")];
        args.extend(["--admin".to_owned(), format!("127.0.0.1:{admin}")]);
        // Tests share two cores.
        if !flags.contains(&"--workers") {
            args.extend(["--workers", "1"].map(String::from));
        }
        args.extend(source.iter().cloned());
        args.extend(flags.iter().map(|f| (*f).to_owned()));
        args.extend(more(flags));
        Self::launch(port, admin, &args)
    }

    /// With nothing but `args`, which must make it listen on both ports.
    #[track_caller]
    pub fn launch(port: u16, admin: u16, args: &[String]) -> Proxy {
        let log = tempfile::tempfile().expect("a file");
        let child = command()
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().expect("a second handle"))
            .spawn()
            .expect("the binary");
        let mut proxy = Proxy { port, admin, child, log };
        wait("redweir's admin port", || match (proxy.child.try_wait(), http::get(admin, "/healthz")) {
            (Ok(Some(status)), _) => panic!("redweir ended: {status}"),
            (_, Some(_)) => Ok(()),
            _ => Err("closed".into()),
        });
        proxy
    }

    /// By a config file, which must make it listen on the port that `text` is given; returns when it is ready.
    #[track_caller]
    pub fn with_file(text: impl FnOnce(u16) -> String) -> Proxy {
        let (port, admin) = (free_port().expect("a port"), free_port().expect("a port"));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let head = format!("admin = \"127.0.0.1:{admin}\"\nworkers = 1\nlog = \"warn\"\n");
        file.write_all((head + &text(port)).as_bytes()).expect("written");
        // Read by the time the admin port answers.
        let path = file.path().to_string_lossy().into_owned();
        let proxy = Self::launch(port, admin, &["--config".to_owned(), path]);
        proxy.wait_ready();
        proxy
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        wait("redweir", || match http::get(self.admin, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("/readyz: {other:?}, /topology: {:?}", http::get(self.admin, "/topology"))),
        });
    }

    /// Ready, and with exactly so many replicas in rotation.
    #[track_caller]
    pub fn wait_readers(&self, count: usize) {
        wait("the replicas", || {
            let nodes = self.nodes();
            let readers = nodes.iter().filter(|n| n["in_rotation"] == true && n["state"] == "replica").count();
            if readers == count { Ok(()) } else { Err(format!("{readers} of {count} in rotation: {nodes:?}")) }
        });
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        connect(&format!("127.0.0.1:{}", self.port))
    }

    /// The first set of `/topology`.
    #[track_caller]
    pub fn set(&self) -> serde_json::Value {
        self.set_at(0)
    }

    #[track_caller]
    pub fn set_at(&self, index: usize) -> serde_json::Value {
        let (status, body) = http::get(self.admin, "/topology").expect("/topology");
        assert_eq!(status, 200, "{body}");
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        json["sets"][index].clone()
    }

    #[track_caller]
    pub fn nodes(&self) -> Vec<serde_json::Value> {
        self.set()["nodes"].as_array().cloned().unwrap_or_default()
    }

    /// The sum of all samples of a metric whose labels contain every one of `labels` (`kind="read"`).
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = http::get(self.admin, "/metrics").expect("/metrics");
        let of_it = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with([' ', '{'])) && labels.iter().all(|l| line.contains(l))
        };
        let values = text.lines().filter(of_it).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    /// The most memory it ever had, in bytes.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("VmHWM");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB")
    }

    /// Waits until its log holds `part`.
    #[track_caller]
    pub fn wait_log(&self, part: &str) {
        wait(part, || {
            // Its position is the writer's, too.
            let mut said = vec![0; 1 << 20];
            let n = self.log.read_at(&mut said, 0).map_err(|e| e.to_string())?;
            let said = String::from_utf8_lossy(&said[..n]).into_owned();
            if said.contains(part) { Ok(()) } else { Err(said) }
        });
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        let mut status = None;
        wait("redweir's end", || {
            status = self.child.try_wait().expect("a child");
            status.map(drop).ok_or_else(|| "it goes on".into())
        });
        status.expect("waited for")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut said = String::new();
            let _ = self.log.rewind().and_then(|()| self.log.read_to_string(&mut said));
            eprintln!("redweir on port {} said:\n{said}", self.port);
        }
    }
}

/// What REDWEIR_FLAGS adds to every redweir (`REDWEIR_FLAGS="--acks 1"`), but for tests that say otherwise themselves.
fn more(flags: &[&str]) -> Vec<String> {
    let all = std::env::var("REDWEIR_FLAGS").unwrap_or_default();
    let named = |word: &str| word.starts_with("--") && flags.contains(&word);
    let words: Vec<&str> = all.split_whitespace().collect();
    if words.iter().any(|word| named(word)) { Vec::new() } else { words.into_iter().map(str::to_owned).collect() }
}

/// The flags that point redweir at a stage.
pub fn source(stage: &Stage) -> Vec<String> {
    let mut flags = match stage.sentinels.is_empty() {
        true => vec!["--node".to_owned(), stage.node_addresses().join(",")],
        false => {
            let name = stage.plan.master_name.clone();
            vec!["--sentinel".to_owned(), stage.sentinel_addresses().join(","), "--master-name".to_owned(), name]
        }
    };
    flags.extend(["--log".to_owned(), "warn".to_owned()]);
    flags
}

/// The binary under test: REDWEIR names another one, say a release build.
pub fn command() -> Command {
    Command::new(std::env::var_os("REDWEIR").unwrap_or_else(|| env!("CARGO_BIN_EXE_redweir").into()))
}

/// Runs redweir until it ends by itself: its status and everything it printed.
#[track_caller]
pub fn run(args: &[&str]) -> (ExitStatus, String) {
    let mut child = command()
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("redweir {args:?} goes on, but had to end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    (status, text)
}
