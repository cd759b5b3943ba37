//! The command line as an operator meets it: what it prints, where, and the exit code.
//!
//! Starts no server and no proxy: only what ends by itself before anything is opened.

use std::process::{Command, Output};

fn redweir(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redweir"));
    // The environment of whoever runs the tests must not change them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REDWEIR_") {
            command.env_remove(name);
        }
    }
    command.args(args).output().expect("redweir runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Exit code 2, nothing on stdout, exactly these lines on stderr.
fn refused(args: &[&str], lines: &[&str]) {
    let output = redweir(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert_eq!(text(&output.stdout), "", "{args:?}");
    let said = text(&output.stderr);
    assert_eq!(said.lines().collect::<Vec<_>>(), lines, "{args:?}");
}

#[test]
fn help_and_version_succeed_on_stdout() {
    for (args, holds) in [
        (&["--help"][..], "--master-name <NAME>"),
        (&["-h"], "[default: prefer-replica]"),
        (&["check", "--help"], "--config <FILE>"),
        (&["demo", "--help"], "--kill-master-after <DURATION>"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = redweir(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        // Lines are broken anywhere.
        let said = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(holds), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn faulty_command_lines() {
    const NO_SERVERS: &str = "redweir: no servers, give sentinel and master-name, or node without Sentinel";
    refused(&[], &[NO_SERVERS]);
    refused(&["check"], &[NO_SERVERS]);
    refused(
        &["--sentinel", "127.0.0.1:1", "--node", "127.0.0.1:2", "--master-name", "m"],
        &["--node: excludes sentinel in the same set, drop one of them"],
    );
    refused(
        &["check", "--node", "127.0.0.1", "--workers", "none"],
        &[
            "--node: `127.0.0.1` has no port, write HOST:PORT, e.g. 127.0.0.1:6379",
            "--workers: `none` is no number of threads, use 1 to 1024 or `cores`",
        ],
    );
    refused(
        &["--noed", "127.0.0.1:1"],
        &["redweir: unexpected argument '--noed' found, a similar argument exists: '--node'; see redweir --help"],
    );
    refused(
        &["--config", "/nowhere/redweir.toml"],
        &[
            "/nowhere/redweir.toml: cannot be read (No such file or directory (os error 2)), check the path and its permissions",
        ],
    );
    refused(&["--config", "/dev/zero"], &["/dev/zero: is larger than 1 MiB, is this the right file?"]);
}

#[test]
fn faulty_files_are_refused_by_run_and_by_check_alike() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("redweir.toml");
    std::fs::write(&path, "listen = \"localhost:6379\"\nsentinels = [\"10.0.0.1:26379\"]\nhold = 10\n").expect("file");
    let path = path.to_str().expect("text");
    let lines = [
        format!(
            "{path}:1: listen: `localhost:6379` is no IP:PORT to listen on, write e.g. 127.0.0.1:6379 or 0.0.0.0:6379"
        ),
        format!("{path}:2: unknown key `sentinels`, did you mean `sentinel`?"),
        format!("{path}:3: hold: `10` has no unit, write e.g. 10s or 10ms"),
        format!("{path}: no servers, give sentinel and master-name, or node without Sentinel"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    refused(&["--config", path], &lines);
    refused(&["check", "--config", path], &lines);
}
