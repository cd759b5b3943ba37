//! What discovery logs, readable by tests.

use std::io::Write;
use std::sync::Mutex;

static LINES: Mutex<String> = Mutex::new(String::new());

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if std::env::var_os("RUST_LOG").is_some() {
            eprint!("{text}");
        }
        LINES.lock().unwrap().push_str(&text);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Once for all tests of this binary.
pub fn start() {
    let _ = tracing_subscriber::fmt().with_env_filter("redweir=debug").with_ansi(false).with_writer(|| Sink).try_init();
}

/// The first line with this text.
pub async fn wait_for(text: &str) -> String {
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        if let Some(line) = LINES.lock().unwrap().lines().find(|l| l.contains(text)) {
            return line.to_owned();
        }
        assert!(std::time::Instant::now() < end, "never logged: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What was logged so far of the replication set with this name.
pub fn lines_of(set: &str) -> Vec<String> {
    let (plain, quoted) = (format!("set={set} "), format!("set=\"{set}\""));
    let of_set = |l: &&str| l.contains(&plain) || l.contains(&quoted) || l.ends_with(plain.trim_end());
    LINES.lock().unwrap().lines().filter(of_set).map(str::to_owned).collect()
}

/// The first line of this set with this text.
pub async fn wait_for_in(set: &str, text: &str) -> String {
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        if let Some(line) = lines_of(set).into_iter().find(|l| l.contains(text)) {
            return line;
        }
        assert!(std::time::Instant::now() < end, "never logged: {text}; {:#?}", lines_of(set));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
