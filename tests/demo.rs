//! `redweir demo` as a process: what it shows in the end, and that nothing it started outlives it, whatever way it ends.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(90);

/// One at a time: seven servers and a load are enough for two cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A demo whose files, and those of what it starts, are in a directory of its own.
struct Demo {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    said: String,
    dir: tempfile::TempDir,
}

impl Demo {
    fn start(more: &[&str]) -> Demo {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_redweir"))
            .args(["demo", "--plain", "--port", "0"])
            .args(more)
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Demo { child, lines, said: String::new(), dir }
    }

    /// Reads on until a line that begins so.
    #[track_caller]
    fn until(&mut self, start: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("a line") > 0 {
            self.said += &line;
            if line.starts_with(start) {
                return;
            }
            line.clear();
        }
        panic!("no {start:?} in {}", self.said);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// How it ended and what it said, with nothing left of it.
    #[track_caller]
    fn end(mut self) -> (ExitStatus, String) {
        // Ends with the process.
        self.lines.read_to_string(&mut self.said).expect("text");
        let status = self.child.wait().expect("a child");
        self.child.stderr.take().expect("piped").read_to_string(&mut self.said).expect("text");
        let began = Instant::now();
        // Where it could not clean up by itself, its guard does, a moment later.
        while !left(self.dir.path()).is_empty() {
            assert!(began.elapsed() < PATIENCE, "{:?} are left of it", left(self.dir.path()));
            std::thread::sleep(Duration::from_millis(20));
        }
        (status, std::mem::take(&mut self.said))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files in `dir`, and processes that work there.
fn left(dir: &Path) -> Vec<String> {
    let dir = dir.canonicalize().expect("a directory");
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let works_there =
        |process: &std::path::PathBuf| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir));
    entries(&dir).chain(entries(Path::new("/proc")).filter(works_there)).map(|p| p.display().to_string()).collect()
}

#[test]
fn it_kills_a_master_and_reports_that_nothing_was_lost() {
    let _turn = turn();
    let mut demo = Demo::start(&["--kill-master-after", "2s"]);
    demo.until("end ");
    let found = left(demo.dir.path());
    assert!(found.len() > 4 + 3 + 1, "files, nodes, Sentinels and redweir: {found:?}");
    let (status, said) = demo.end();
    assert!(status.success(), "{said}");
    for part in [
        "kill -9 (the master)",
        " and 1 failover(s):",
        "lost (acknowledged, but not on the master at the end): 0\n",
        "applied twice: 0\n",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn an_interrupt_ends_it_with_its_report_and_leaves_nothing_behind() {
    let _turn = turn();
    let mut demo = Demo::start(&["--duration", "60s"]);
    demo.until("end ");
    demo.signal(Signal::INT);
    let (status, said) = demo.end();
    assert!(status.success(), "{said}");
    assert!(said.contains(" failover(s):"), "{said}");
}

#[test]
fn even_a_second_interrupt_and_a_kill_leave_nothing_behind() {
    let _turn = turn();
    let mut demo = Demo::start(&["--duration", "60s"]);
    demo.until("Starting ");
    demo.signal(Signal::INT);
    demo.signal(Signal::INT);
    let (status, said) = demo.end();
    assert!(status.success() || status.code() == Some(130), "{status}: {said}");
    let mut demo = Demo::start(&["--duration", "60s"]);
    demo.until("end ");
    demo.signal(Signal::KILL);
    let (status, said) = demo.end();
    assert_eq!(status.signal(), Some(9), "{said}");
}
