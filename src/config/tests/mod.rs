//! Tests of files: the defaults, the example. In the files beside: what is faulty, and flags and environment over a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use clap::CommandFactory;

use super::*;

mod faulty;
mod layers;

const EXAMPLE: &str = include_str!("../../../config/redweir.toml");
const SMALL: &str = "sentinel = '127.0.0.1:26379'\nmaster-name = 'mymaster'\n";

fn from_file(text: &str) -> Result<Config, Vec<String>> {
    parse(Path::new("f"), text.as_bytes()).map_err(|faults| faults.lines())
}

#[test]
fn the_defaults() {
    let config = from_file(SMALL).expect("valid");
    let secs = Duration::from_secs;
    let millis = Duration::from_millis;
    let expected = Config {
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        admin: "127.0.0.1:9736".parse().ok(),
        admin_token: None,
        log: Log { filter: "info".into(), json: false },
        limits: Limits {
            sessions: 10_000,
            pipeline: 1024,
            large_bytes: 1 << 20,
            max_bulk_bytes: 512 << 20,
            client_output_bytes: 256 << 20,
            upstream_bytes: 64 << 20,
            pinned: 1000,
            connections_per_node: 1,
            pace_nodes: false,
            scripts: 10_000,
            script_bytes: 32 << 20,
        },
        sets: vec![SetConfig {
            name: "mymaster".into(),
            source: Source::Sentinel {
                sentinels: vec!["127.0.0.1:26379".into()],
                master_name: "mymaster".into(),
                login: None,
            },
            node_login: None,
            address_map: Vec::new(),
            poll: millis(100),
            poll_fast: millis(5),
            down_after: secs(1),
            connect_timeout: millis(500),
            max_lag: Some(secs(10)),
            max_lag_bytes: None,
            max_lag_return: Share(8000),
            nodes: Vec::new(),
            failover: Failover::default(),
        }],
        listeners: vec![ListenerConfig {
            bind: "127.0.0.1:7379".parse().expect("address"),
            set: 0,
            read_policy: ReadPolicy::PreferReplica,
            consistency: Consistency::Session,
            reads: ReadSettings::default(),
            balancer: Balancer::LeastInFlight,
            zone: None,
            auth: ClientAuth::Passthrough,
            hold: secs(10),
            hold_bytes: 256 << 20,
            holding: Holding {
                session_bytes: 16 << 20,
                unknown_outcome: UnknownOutcome::Close,
                on_lost_writes: OnLostWrites::Ignore,
            },
            commands: CommandSettings { redweir: true, ..CommandSettings::default() },
            acks: AckSettings { timeout: secs(1), ..AckSettings::default() },
            monitor: false,
        }],
        drain: secs(5),
        file: Some("f".into()),
    };
    assert_eq!(config, expected);
    assert_eq!(Limits::default(), expected.limits);
    assert_eq!(from_file(EXAMPLE), Ok(expected), "config/redweir.toml holds the defaults");
}

#[test]
fn the_example_and_the_help_name_the_same_settings() {
    let lines = EXAMPLE.lines().map(|line| line.trim_start_matches("#: "));
    let in_file: BTreeSet<&str> = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
        .collect();
    let command = Cli::command();
    let help = Cli::command().render_long_help().to_string();
    let not_settings = ["config", "help", "version"];
    let mut in_help: BTreeSet<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
    in_help.retain(|key| !not_settings.contains(key));
    assert!(in_help.iter().all(|key| help.contains(&format!("--{key} <"))));
    // The one key that is no flag.
    assert!(help.contains("`set = NAME`") && in_help.insert("set"));
    assert_eq!(in_file, in_help);
    assert!(in_file.len() > 35, "{}", in_file.len());
}

#[test]
fn the_example_of_several_sets_is_valid() {
    let text: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.strip_prefix("#:")).collect();
    let config = from_file(&text.join("\n")).expect("valid");
    let names: Vec<&str> = config.sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, ["cache", "orders"]);
    let lags: Vec<_> = config.sets.iter().map(|set| set.max_lag).collect();
    assert_eq!(lags, [None, Some(Duration::from_secs(2))]);
    let weights: Vec<_> = config.sets[1].nodes.iter().map(|node| (node.address.as_str(), node.weight)).collect();
    assert_eq!(weights, [("10.0.1.2:6379", 3), ("10.0.1.3:6379", 1)]);
    let listeners: Vec<_> = config.listeners.iter().map(|l| (l.bind.port(), l.set, l.read_policy)).collect();
    let prefer = ReadPolicy::PreferReplica;
    assert_eq!(listeners, [(7001, 0, prefer), (7002, 1, prefer), (7003, 1, ReadPolicy::Master)]);
    for set in &config.sets {
        assert!(matches!(&set.source, Source::Sentinel { sentinels, .. } if sentinels.len() == 3));
    }
}
