//! Flags over file over environment.

use std::ffi::OsString;

use clap::Parser;

use super::*;

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
fn a_flag_for_several_tables_is_one_fault() {
    let two = "node='a:1'\n[[listener]]\nlisten='127.0.0.1:0'\n[[listener]]\nlisten='127.0.0.1:0'\n";
    assert_eq!(from_all(Some(two), &[], &[]).map(|config| config.listeners.len()), Ok(2), "port 0 is never taken");
    let said = from_all(Some(two), &["--listen", "127.0.0.1:1"], &[]);
    let expected = "--listen: cannot choose between the 2 [[listener]] tables of the file, set it there";
    assert_eq!(said, Err(vec![expected.to_owned()]));
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
    let line = "--listen 127.0.0.1:1 --read-policy any --consistency eventual --max-staleness 30ms --max-staleness-bytes 12kb --user-consistency u=strong,v=bounded --strict on --lag-guard-share 2.5% --lag-guard refuse --touch-sample 1% \
        --balancer round-robin --zone z --client-auth proxy --hold 1s --hold-bytes 1kb \
        --sentinel s:1,t:2 --master-name m --name n --node-username u --node-password p --sentinel-password q --sentinel-username v \
        --node-weight a:1=0,b:1=2 --node-zone b:1=y,c:1=y --address-map a:1=c:1 --poll 20ms --poll-fast 2ms --down-after 300ms \
        --connect-timeout 40ms --max-lag off --max-lag-bytes 5kb --max-lag-return 50% --trust confirmed --minority-stop 3s --on-empty-master stop \
         --notification-script /bin/true --client-reconfig-script /bin/false --notify-url http://h/x --notify-timeout 4s --workers 3 --admin off --drain 0s --log debug --log-format json \
        --max-sessions 1 --max-pipeline 3 --stream-above 4kb --max-bulk 5kb --max-client-output 6kb \
         --max-upstream 7kb --max-pinned 8 --connections-per-node 9 --pace-nodes on --max-scripts 10 --max-script-bytes 11kb \
         --redweir-commands false --deny @admin,CONFIG|SET --allow DEBUG --rename KEYS=X,SAVE= --upstream-names CONFIG=Y \
         --acks 1 --user-acks u=2 --acks-timeout 300ms --acks-on-timeout error";
    let line: Vec<&str> = line.split_whitespace().collect();
    let millis = Duration::from_millis;
    let node = |address: &str, weight, zone: Option<&str>| NodeSettings {
        address: address.into(),
        weight,
        zone: zone.map(str::to_owned),
    };
    let login = |user: &str, password: &str| Some(Login { username: Some(user.into()), password: password.into() });
    let commands = CommandSettings {
        redweir: false,
        deny: vec!["@admin".into(), "config|set".into()],
        allow: vec!["debug".into()],
        rename: vec![("keys".into(), "x".into()), ("save".into(), String::new())],
        upstream_names: vec![("config".into(), "Y".into())],
    };
    let expected = Config {
        workers: 3,
        admin: None,
        admin_token: None,
        log: Log { filter: "debug".into(), json: true },
        limits: Limits {
            sessions: 1,
            pipeline: 3,
            large_bytes: 4096,
            max_bulk_bytes: 5120,
            client_output_bytes: 6144,
            upstream_bytes: 7168,
            pinned: 8,
            connections_per_node: 9,
            pace_nodes: true,
            scripts: 10,
            script_bytes: 11264,
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
            max_lag_return: Share(5000),
            nodes: vec![node("a:1", 0, None), node("b:1", 2, Some("y")), node("c:1", 1, Some("y"))],
            failover: Failover {
                trust: Trust::Confirmed,
                minority_stop: Some(millis(3000)),
                on_empty_master: OnEmptyMaster::Stop,
                notify: Notify {
                    script: Some("/bin/true".into()),
                    reconfig_script: Some("/bin/false".into()),
                    url: Some("http://h/x".into()),
                    timeout: millis(4000),
                },
                ..Failover::default()
            },
        }],
        listeners: vec![ListenerConfig {
            bind: "127.0.0.1:1".parse().expect("address"),
            set: 0,
            read_policy: ReadPolicy::Any,
            consistency: Consistency::Eventual,
            reads: ReadSettings {
                staleness: Staleness { time: Some(millis(30)), bytes: Some(12288) },
                users: vec![("u".into(), Consistency::Strong), ("v".into(), Consistency::Bounded)],
                strict: true,
                guard: LagGuard { share: Share(250), beyond: Beyond::Refuse },
                touch: Share(100),
            },
            balancer: Balancer::RoundRobin,
            zone: Some("z".into()),
            auth: ClientAuth::Proxy,
            hold: millis(1000),
            hold_bytes: 1024,
            holding: Holding {
                session_bytes: 16 << 20,
                unknown_outcome: UnknownOutcome::Close,
                on_lost_writes: OnLostWrites::Ignore,
            },
            commands,
            acks: AckSettings {
                acks: 1,
                user_acks: vec![("u".into(), 2)],
                timeout: millis(300),
                on_timeout: OnTimeout::Error,
            },
            monitor: false,
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
    // A path in a flag is meant from where redweir was started (here: this crate), whatever the file.
    let here = password("", &["--node-password-file", "rustfmt.toml"], &[]);
    assert_eq!(here, without_user(include_str!("../../../rustfmt.toml").trim_end()));
    let both = [("REDWEIR_SENTINEL_PASSWORD", "p"), ("REDWEIR_SENTINEL_PASSWORD_FILE", secret)];
    let said = from_all(Some(SMALL), &[], &both);
    let expected = "$REDWEIR_SENTINEL_PASSWORD_FILE: excludes sentinel-password, drop one of them";
    assert_eq!(said, Err(vec![expected.to_owned()]));
}
