//! The same tests with other servers on both sides.
//!
//! A server is named by its variable, or lies where `make test-versions` puts it. One that is neither is skipped, and said to be.

use std::path::PathBuf;
use std::process::Command;

/// What it is, its variable, its name below `target/servers`.
const SERVERS: &[(&str, &str, &str)] = &[
    ("Valkey 9.1", "REDWEIR_VALKEY_SERVER", "valkey-server"),
    ("Redis 6.2", "REDWEIR_REDIS62_SERVER", "redis-6.2-server"),
    ("Redis 8.2", "REDWEIR_REDIS82_SERVER", "redis-8.2-server"),
    ("Valkey 8.1", "REDWEIR_VALKEY8_SERVER", "valkey-8-server"),
];

fn binary(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers")).join(name);
    named.or(Some(own)).filter(|path| path.exists())
}

#[track_caller]
fn run_with(index: usize) {
    let (what, variable, name) = SERVERS[index];
    if std::env::var_os("REDIS_SERVER").is_some() {
        println!("skipped: {what}, because REDIS_SERVER is set and every test runs with that");
        return;
    }
    let Some(server) = binary(variable, name) else {
        // To the terminal itself, past the test harness: a skip nobody sees is a lie.
        let text = format!(
            "SKIPPED: the differential tests with {what}: neither {variable} nor target/servers/{name} ({})\n",
            "make test-versions"
        );
        let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
        return;
    };
    let tests = ["direct_servers", "gets_the_direct"];
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(tests)
        .args(["--nocapture", "--test-threads", "1"])
        .env("REDIS_SERVER", &server)
        .env("REDWEIR_SEEDS", "4")
        .output()
        .expect("this test again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{what} ({}):\n{text}", server.display());
    assert!(output.status.success(), "{what}: see above");
    assert!(text.contains("written cases"), "{what}: nothing was run");
}

#[test]
fn valkey_9_1_on_both_sides() {
    run_with(0);
}

#[test]
fn redis_6_2_on_both_sides() {
    run_with(1);
}

#[test]
fn redis_8_2_on_both_sides() {
    run_with(2);
}

#[test]
fn valkey_8_1_on_both_sides() {
    run_with(3);
}
