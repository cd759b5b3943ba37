//! Tests of files, flags and environment as a whole: tables of input and what comes of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../config/redweir.toml");
const SMALL: &str = "sentinel = '127.0.0.1:26379'\nmaster-name = 'mymaster'\n";

fn from_file(text: &str) -> Result<Config, Vec<String>> {
    parse(Path::new("f"), text.as_bytes()).map_err(|faults| faults.lines())
}

/// A file's text, a command line and the environment as `NAME=value`.
fn from_all(text: Option<&str>, line: &[&str], env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("f");
    let mut args: Vec<OsString> = vec!["redweir".into()];
    if let Some(text) = text {
        std::fs::write(&path, text).expect("file");
        args.extend(["--config".into(), path.clone().into_os_string()]);
    }
    args.extend(line.iter().map(OsString::from));
    let cli = Cli::try_parse_from(args).expect("command line");
    let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    let place = path.to_string_lossy().into_owned();
    load(&cli.run, value).map_err(|faults| faults.lines().iter().map(|line| line.replace(&place, "f")).collect())
}

#[test]
fn the_defaults() {
    let config = from_file(SMALL).expect("valid");
    let secs = Duration::from_secs;
    let millis = Duration::from_millis;
    let expected = Config {
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        admin: "127.0.0.1:9736".parse().ok(),
        log: Log { filter: "info".into(), json: false },
        limits: Limits {
            sessions: 10_000,
            read_ahead_bytes: 1 << 20,
            pipeline: 1024,
            large_bytes: 1 << 20,
            max_bulk_bytes: 512 << 20,
            client_output_bytes: 256 << 20,
            upstream_bytes: 64 << 20,
            pinned: 1000,
            connections_per_node: 1,
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
            nodes: Vec::new(),
        }],
        listeners: vec![ListenerConfig {
            bind: "127.0.0.1:7379".parse().expect("address"),
            set: 0,
            read_policy: ReadPolicy::PreferReplica,
            balancer: Balancer::LeastInFlight,
            zone: None,
            auth: ClientAuth::Passthrough,
            hold: secs(10),
            hold_bytes: 256 << 20,
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

/// Files and exactly what is said of them.
const FAULTY: &[(&str, &[&str])] = &[
    ("", &["f: no servers, give sentinel and master-name, or node without Sentinel"]),
    ("poll = '1s'", &["f: no servers, give sentinel and master-name, or node without Sentinel"]),
    (
        "sentinels = ['a:1']\nmaster-name = 'm'",
        &[
            "f:1: unknown key `sentinels`, did you mean `sentinel`?",
            "f:2: master-name: needs sentinel too, the addresses of the Sentinels",
        ],
    ),
    (
        "node = ['a:1']\nsentinel = ['b:1']\nmaster-name = 'm'",
        &["f:2: node: excludes sentinel in the same set, drop one of them"],
    ),
    ("sentinel = ['b:1']", &["f:1: sentinel: needs master-name too, the NAME of `sentinel monitor NAME ...`"]),
    (
        "node = ['a:1']\nmaster-name = 'm'",
        &["f:2: master-name: is of no use without sentinel, drop it or give the Sentinels"],
    ),
    // Everything at once, in the order of the lines.
    (
        "node = [\n  'a:1',\n  'b',\n  'a:1',\n  5,\n]\nhold = 10\nhold-bytes = '1tb'\nworkers = 0\nread-policy = 'slave'\nlisten = 'localhost:1'\nwhat = 1",
        &[
            "f:3: node: `b` has no port, write HOST:PORT, e.g. b:6379",
            "f:4: node: `a:1` is given twice, drop one",
            "f:5: node: `5` has no port, write HOST:PORT, e.g. 5:6379",
            "f:7: hold: `10` has no unit, write e.g. 10s or 10ms",
            "f:8: hold-bytes: `1tb` is no size, write e.g. 1048576, 64kb or 1mb",
            "f:9: workers: `0` is no number of threads, use 1 to 1024 or `cores`",
            "f:10: read-policy: `slave` is none of replica, prefer-replica, any, prefer-master, master",
            "f:11: listen: `localhost:1` is no IP:PORT to listen on, write e.g. 127.0.0.1:1 or 0.0.0.0:1",
            "f:12: unknown key `what`, `redweir --help` lists all settings",
        ],
    ),
    (
        "node = 'a:1'\nnode-weight = { 'a:1' = 1001, b = 1 }\nnode-zone = ['x']\nlog = 'verbos'\nlog-format = 'xml'\nadmin = '9736'",
        &[
            "f:2: node-weight: `1001` is not within 0 to 1000",
            "f:2: node-weight: `b` has no port, write HOST:PORT, e.g. b:6379",
            "f:3: node-zone: must be a table, such as { \"HOST:PORT\" = ... }",
            "f:4: log: `verbos` is no filter, use off, error, warn, info, debug, trace or e.g. `info,redweir=debug`",
            "f:5: log-format: `xml` is none of text, json",
            "f:6: admin: `9736` is no IP:PORT to listen on, write e.g. 127.0.0.1:7379 or [::]:7379, or `off`",
        ],
    ),
    (
        "node = 'a:1'\npoll = '10ms'\npoll-fast = '20ms'\n",
        &["f:3: poll-fast: 20ms is slower than poll (10ms), use less"],
    ),
    ("node = 'a:1'\npoll = '2s'\n", &["f:2: down-after: 1s is less than poll (2s), use more"]),
    (
        "node = 'a:1'\nlisten = '0.0.0.0:9736'\n",
        &["f: admin: `127.0.0.1:9736` is taken by a listener already, use another port or off"],
    ),
    (
        "node = 'a:1'\nclient-auth = 'proxy'\nsentinel-username = 'x'",
        &[
            "f:2: client-auth: proxy needs a login, give node-password or node-password-file",
            "f:3: sentinel-username: needs sentinel-password or sentinel-password-file too",
        ],
    ),
    (
        "node = 'a:1'\nnode-password = 'secret'\nnode-password-file = 'also'",
        &["f:3: node-password-file: excludes node-password, drop one of them"],
    ),
    (
        "node = 'a:1'\nnode-password-file = '/nowhere/at-all'",
        &[
            "f:2: node-password-file: `/nowhere/at-all` cannot be read (No such file or directory (os error 2)), check the path and its permissions",
        ],
    ),
    (
        "node = 'a:1'\nnode-password = ['secret']\nhold = {}",
        &["f:2: node-password: must be one value, such as \"...\"", "f:3: hold: must be one value, such as \"...\""],
    ),
    // Tables.
    (
        "[set]\nnode = 'a:1'",
        &[
            "f:1: write [[set]], with two brackets",
            "f: no servers, give sentinel and master-name, or node without Sentinel",
        ],
    ),
    ("set = 'x'\nnode = 'a:1'", &["f:1: `set` belongs in a [[listener]], move it there"]),
    ("set = [1]\nnode = 'a:1'", &["f:1: write [[set]] tables instead of a list"]),
    (
        "[[sets]]\nnode = 'a:1'",
        &[
            "f:1: unknown key `sets`, did you mean `set`?",
            "f: no servers, give sentinel and master-name, or node without Sentinel",
        ],
    ),
    (
        "[[set]]\nnode = 'a:1'\nworkers = 2\nlisten = '127.0.0.1:1'\npol = '1s'\n[[listener]]\npoll = '1s'",
        &[
            "f:3: `workers` belongs above the first [[set]] or [[listener]], move it there",
            "f:4: `listen` belongs in a [[listener]], move it there",
            "f:5: unknown key `pol`, did you mean `poll`?",
            "f:7: `poll` belongs in a [[set]], move it there",
        ],
    ),
    (
        "node = 'a:1'\nlisten = '127.0.0.1:1'\n[[set]]\nnode = 'a:1'\n[[listener]]\nlisten = '127.0.0.1:2'",
        &[
            "f:1: node: belongs in the [[set]] below, move it there",
            "f:2: listen: belongs in the [[listener]] below, move it there",
        ],
    ),
    (
        "sentinel = 's:1'\n[[set]]\nmaster-name = 'a'\n[[set]]\n[[set]]\nmaster-name = 'a'",
        &[
            "f:4: sentinel: needs master-name too, the NAME of `sentinel monitor NAME ...`",
            "f:6: name: `a` is the name of another [[set]] already, give this one another",
        ],
    ),
    (
        "sentinel = 's:1'\n[[set]]\nmaster-name = 'a'\n[[set]]\nmaster-name = 'b'",
        &["f: 2 [[set]] tables and no [[listener]], add one for each with `set = NAME`"],
    ),
    (
        "sentinel = 's:1'\nadmin='127.0.0.1:2'\n[[set]]\nmaster-name = 'a'\n[[set]]\nmaster-name = 'b'\n\
      [[listener]]\nset = 'c'\n[[listener]]\nlisten = '127.0.0.1:1'\n[[listener]]\nlisten = '0.0.0.0:1'\nset = 'a'\n\
      [[listener]]\nset = 'b'\nlisten = '127.0.0.1:2'\n",
        &[
            "f:2: admin: `127.0.0.1:2` is taken by a listener already, use another port or off",
            "f:8: set: there is no [[set]] named `c`, use one of: a, b",
            "f:9: set is missing, say which one this listener serves: a, b",
            "f:12: listen: `0.0.0.0:1` is taken by another listener already, use another port",
        ],
    ),
    (
        "node = 'a:1'\n[[listener]]\n[[listener]]\n",
        &["f:3: listen: `127.0.0.1:7379` is taken by another listener already, use another port"],
    ),
    // A fault at the top is one fault, however many sets there are.
    (
        "sentinel = 's'\n[[set]]\nmaster-name='a'\n[[set]]\nmaster-name='b'\n[[listener]]\nset='a'\n",
        &["f:1: sentinel: `s` has no port, write HOST:PORT, e.g. s:26379"],
    ),
    // No TOML: only that.
    ("node = 'a:1'\nnode = 'b:1'\nwhat = 1", &["f:2: no valid TOML: duplicate key"]),
    ("node = \n", &["f:1: no valid TOML: string values must be quoted, expected literal string"]),
];

#[test]
fn faulty_files() {
    for (text, expected) in FAULTY {
        let said = from_file(text).expect_err(text);
        assert_eq!(&said, expected, "of:\n{text}");
    }
    let said = parse(Path::new("f"), b"node = 'a:1'\n\xff").map_err(|faults| faults.lines());
    assert_eq!(said, Err(vec!["f:2: not UTF-8, is this the right file?".to_owned()]));
}

#[test]
fn no_fault_tells_a_password() {
    let text = "node = 'a:1'\nnode-password = 'secret'\nnode-password-file = 'f'\nsentinel-password = 's e c r e t'";
    let said = from_file(text).expect_err("a fault").join("\n");
    assert!(!said.contains("secret") && !said.contains("s e c"), "{said}");
    let config = from_file("node = 'a:1'\nnode-password = 'secret'").expect("valid");
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn faulty_flags() {
    let said = from_all(None, &[], &[]);
    assert_eq!(said, Err(vec!["redweir: no servers, give sentinel and master-name, or node without Sentinel".into()]));
    let line = ["--sentinel", "a,b:1", "--hold", "5", "--node-weight", "x", "--workers", "0", "--listen", "1.2.3.4:x"];
    let expected = [
        "--node-weight: `x` has no `=`, write HOST:PORT=VALUE,...",
        "--listen: `1.2.3.4:x` is no IP:PORT to listen on, write e.g. 127.0.0.1:7379 or [::]:7379",
        "--hold: `5` has no unit, write e.g. 5s or 5ms",
        "--sentinel: `a` has no port, write HOST:PORT, e.g. a:26379",
        "--sentinel: needs master-name too, the NAME of `sentinel monitor NAME ...`",
        "--workers: `0` is no number of threads, use 1 to 1024 or `cores`",
    ];
    let said = from_all(None, &line, &[]).expect_err("faults");
    assert_eq!(said, expected);
    // Flags and file together: the file's faults come first.
    let said = from_all(Some("node = 'a'\n"), &["--poll", "x"], &[]);
    let expected = [
        "f:1: node: `a` has no port, write HOST:PORT, e.g. a:6379",
        "--poll: `x` is no duration, write e.g. 10s, 250ms or 1m 30s",
    ];
    assert_eq!(said, Err(expected.map(str::to_owned).to_vec()));
    let two = "[[set]]\nname='a'\nnode='a:1'\n[[set]]\nname='b'\nnode='b:1'\n[[listener]]\nset='b'\n";
    let said = from_all(Some(two), &["--poll", "1s", "--hold", "1s", "--workers", "3"], &[]);
    assert_eq!(said, Err(vec!["--poll: cannot choose between the 2 [[set]] tables of the file, set it there".into()]));
    let said = from_all(Some(two), &["--hold", "1s", "--workers", "3"], &[]).expect("valid");
    assert_eq!((said.listeners[0].hold, said.listeners[0].set, said.workers), (Duration::from_secs(1), 1, 3));
}

#[test]
fn flags_override_the_file() {
    let files = [
        "workers = 2\npoll = '50ms'\nhold = '2s'\nnode = ['a:1', 'b:1']\nlisten = '127.0.0.1:1'\nmax-lag = '3s'",
        "workers = 2\n[[set]]\npoll = '50ms'\nnode = ['a:1', 'b:1']\nmax-lag='3s'\n[[listener]]\nhold = '2s'\nlisten = '127.0.0.1:1'",
    ];
    for text in files {
        let line = ["--workers=5", "--poll", "60ms", "--listen", "127.0.0.1:0", "--node", "c:1", "--node", "d:1,e:1"];
        let config = from_all(Some(text), &line, &[]).expect("valid");
        assert_eq!(config.workers, 5);
        assert_eq!(config.sets[0].poll, Duration::from_millis(60));
        assert_eq!(config.sets[0].max_lag, Some(Duration::from_secs(3)), "not overridden");
        assert_eq!(config.sets[0].source, Source::Nodes(["c:1", "d:1", "e:1"].map(str::to_owned).to_vec()));
        assert_eq!((config.listeners[0].bind.port(), config.listeners[0].hold), (0, Duration::from_secs(2)));
        assert_eq!((config.sets.len(), config.listeners.len()), (1, 1));
    }
    // Flags may change where the members are learnt from; an inner table may, too.
    let config = from_all(Some(SMALL), &["--node", "a:1"], &[]).expect("valid");
    assert_eq!((config.sets[0].name.as_str(), &config.sets[0].source), ("default", &Source::Nodes(vec!["a:1".into()])));
    let config = from_all(Some("node = 'a:1'"), &["--sentinel", "s:1", "--master-name", "m"], &[]).expect("valid");
    assert!(matches!(&config.sets[0].source, Source::Sentinel { master_name, .. } if master_name == "m"));
    let config = from_file("sentinel = 's:1'\n[[set]]\nnode = 'a:1'\n").expect("valid");
    assert_eq!(config.sets[0].source, Source::Nodes(vec!["a:1".into()]));
}

#[test]
fn every_setting_reaches_its_field_by_flag() {
    let line = "--listen 127.0.0.1:1 --read-policy any --balancer round-robin --zone z --client-auth proxy --hold 1s --hold-bytes 1kb \
        --sentinel s:1,t:2 --master-name m --name n --node-username u --node-password p --sentinel-password q --sentinel-username v \
        --node-weight a:1=0,b:1=2 --node-zone b:1=y --address-map a:1=c:1 --poll 20ms --poll-fast 2ms --down-after 300ms \
        --connect-timeout 40ms --max-lag off --max-lag-bytes 5kb --workers 3 --admin off --drain 0s --log debug --log-format json \
        --max-sessions 1 --max-read-ahead 2kb --max-pipeline 3 --stream-above 4kb --max-bulk 5kb --max-client-output 6kb \
        --max-upstream 7kb --max-pinned 8 --connections-per-node 9";
    let line: Vec<&str> = line.split_whitespace().collect();
    let millis = Duration::from_millis;
    let node = |address: &str, weight, zone: Option<&str>| NodeSettings {
        address: address.into(),
        weight,
        zone: zone.map(str::to_owned),
    };
    let login = |user: &str, password: &str| Some(Login { username: Some(user.into()), password: password.into() });
    let expected = Config {
        workers: 3,
        admin: None,
        log: Log { filter: "debug".into(), json: true },
        limits: Limits {
            sessions: 1,
            read_ahead_bytes: 2048,
            pipeline: 3,
            large_bytes: 4096,
            max_bulk_bytes: 5120,
            client_output_bytes: 6144,
            upstream_bytes: 7168,
            pinned: 8,
            connections_per_node: 9,
        },
        sets: vec![SetConfig {
            name: "n".into(),
            source: Source::Sentinel {
                sentinels: vec!["s:1".into(), "t:2".into()],
                master_name: "m".into(),
                login: login("v", "q"),
            },
            node_login: login("u", "p"),
            address_map: vec![("a:1".into(), "c:1".into())],
            poll: millis(20),
            poll_fast: millis(2),
            down_after: millis(300),
            connect_timeout: millis(40),
            max_lag: None,
            max_lag_bytes: Some(5120),
            nodes: vec![node("a:1", 0, None), node("b:1", 2, Some("y"))],
        }],
        listeners: vec![ListenerConfig {
            bind: "127.0.0.1:1".parse().expect("address"),
            set: 0,
            read_policy: ReadPolicy::Any,
            balancer: Balancer::RoundRobin,
            zone: Some("z".into()),
            auth: ClientAuth::Proxy,
            hold: millis(1000),
            hold_bytes: 1024,
        }],
        drain: Duration::ZERO,
        file: None,
    };
    assert_eq!(from_all(None, &line, &[]), Ok(expected));
}

#[test]
fn credentials_from_everywhere() {
    let folder = tempfile::tempdir().expect("folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "from-file\n").expect("file");
    let secret = secret.to_str().expect("text");
    let password = |text: &str, line: &[&str], env: &[(&str, &str)]| {
        let config = from_all(Some(&format!("node = 'a:1'\n{text}")), line, env).expect("valid");
        config.sets[0].node_login.as_ref().map(|login| (login.username.clone(), login.password.clone()))
    };
    let without_user = |password: &str| Some((None, password.to_owned()));
    let env = [("REDWEIR_NODE_PASSWORD", "from-env")];
    assert_eq!(password("", &[], &[]), None);
    assert_eq!(password("", &[], &env), without_user("from-env"));
    assert_eq!(password("node-password = ''", &[], &env), without_user("from-env"), "empty is not set");
    assert_eq!(password("node-password = 'in-file'", &[], &env), without_user("in-file"));
    assert_eq!(password("node-password = 'in-file'", &["--node-password", "flag"], &env), without_user("flag"));
    assert_eq!(
        password("node-password = 'in-file'", &["--node-password-file", secret], &[]),
        without_user("from-file")
    );
    assert_eq!(password("", &[], &[("REDWEIR_NODE_PASSWORD_FILE", secret)]), without_user("from-file"));
    let user = [("REDWEIR_NODE_USERNAME", "u"), ("REDWEIR_NODE_PASSWORD", "p")];
    assert_eq!(password("", &[], &user), Some((Some("u".to_owned()), "p".to_owned())));
    // A path in the file is meant from where the file is.
    std::fs::write(folder.path().join("f"), "node = 'a:1'\nnode-password-file = 'secret'").expect("file");
    let run = RunArgs { config: Some(folder.path().join("f")), flags: Flags::default() };
    let login = load(&run, |_| None).expect("valid").sets[0].node_login.clone();
    assert_eq!(login.map(|login| login.password), Some("from-file".to_owned()));
    let both = [("REDWEIR_SENTINEL_PASSWORD", "p"), ("REDWEIR_SENTINEL_PASSWORD_FILE", secret)];
    let said = from_all(Some(SMALL), &[], &both);
    let expected = "$REDWEIR_SENTINEL_PASSWORD_FILE: excludes sentinel-password, drop one of them";
    assert_eq!(said, Err(vec![expected.to_owned()]));
}

/// Lines made of what a file may hold, so that most are TOML and many nearly right.
fn nearly_right() -> impl Strategy<Value = String> {
    let keys: Vec<&'static str> = settings::all().map(|(_, _, about)| about.key).chain(["listener", "x"]).collect();
    let value = prop_oneof![
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', ""))),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("['a:1', 'b:2']".to_owned()),
        Just("{ 'a:1' = 'b:2' }".to_owned()),
        Just("'1s'".to_owned()),
        Just("[[1], {}]".to_owned()),
        Just("99999999999999999999999gb".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("1e400".to_owned()),
    ];
    let line = prop_oneof![
        8 => (proptest::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => Just("[[set]]".to_owned()),
        1 => Just("[[listener]]".to_owned()),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

fn one_line_each(outcome: Result<Config, Faults>) -> Result<(), TestCaseError> {
    if let Err(faults) = outcome {
        prop_assert!(!faults.is_empty());
        for line in faults.lines() {
            prop_assert!(line.starts_with('f') && !line.contains('\n'), "{}", line);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        one_line_each(parse(Path::new("f"), &bytes))?;
    }

    #[test]
    fn any_text_is_read_without_panic(text in "[a-z\\[\\]{}=\"'.,#0-9 \n-]{0,200}|\\PC{0,80}") {
        one_line_each(parse(Path::new("f"), text.as_bytes()))?;
    }

    #[test]
    fn nearly_right_files_are_read_without_panic(text in nearly_right()) {
        one_line_each(parse(Path::new("f"), text.as_bytes()))?;
    }
}
