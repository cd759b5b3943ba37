//! Faulty files: exactly what is said of each, and no panic whatever they hold.

use proptest::prelude::*;

use super::*;

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
            "f:10: read-policy: `slave` is unknown, use one of: replica, prefer-replica, any, prefer-master, master",
            "f:11: listen: `localhost:1` is no IP:PORT to listen on, write e.g. 127.0.0.1:1 or 0.0.0.0:1",
            "f:12: unknown key `what`, `redweir --help` lists all settings",
        ],
    ),
    (
        "node = 'a:1'\nnode-weight = { 'a:1' = 1001, b = 1 }\nnode-zone = ['x']\nlog = 'verbos'\nlog-format = 'xml'\nadmin = '9736'",
        &[
            "f:2: node-weight: `1001` is no whole number from 0 to 1000, use one",
            "f:2: node-weight: `b` has no port, write HOST:PORT, e.g. b:6379",
            "f:3: node-zone: must be a table, such as { \"HOST:PORT\" = ... }",
            "f:4: log: `verbos` is no filter, use off, error, warn, info, debug, trace or e.g. `info,redweir=debug`",
            "f:5: log-format: `xml` is unknown, use one of: text, json",
            "f:6: admin: `9736` is no IP:PORT to listen on, write e.g. 127.0.0.1:7379 or [::]:7379, or `off`",
        ],
    ),
    (
        "node = 'a:1'\npoll = '10ms'\npoll-fast = '20ms'\n",
        &["f:3: poll-fast: 20ms is slower than poll (10ms), use less"],
    ),
    (
        "node = 'a:1'\ntrust = 'confirmed'\nminority-stop = '5s'\n",
        &[
            "f:2: trust: is about Sentinels, and this set has none, drop it",
            "f:3: minority-stop: is about Sentinels, and this set has none, drop it",
        ],
    ),
    (
        "sentinel = 'a:1'\nmaster-name = 'm'\npromote = true\nrepoint-replicas = 'on'\n",
        &[
            "f:3: promote: is for sets without Sentinel, here Sentinel does that, drop it",
            "f:4: repoint-replicas: is for sets without Sentinel, here Sentinel does that, drop it",
        ],
    ),
    (
        "node = 'a:1'\nnotification-script = '/nowhere'\nclient-reconfig-script = '/tmp'\nnotify-url = 'https://h/'\n",
        &[
            "f:2: notification-script: `/nowhere` is no file that may be executed, check it (chmod +x)",
            "f:3: client-reconfig-script: `/tmp` is no file that may be executed, check it (chmod +x)",
            "f:4: notify-url: `https://h/` does not begin with http://; for https use notification-script with curl",
        ],
    ),
    (
        "node = 'a:1'\nnotify-url = 'http://user@h/'\n",
        &[
            "f:2: notify-url: `http://user@h/` is no URL, write http://HOST:PORT/PATH, in ASCII, without a user or blanks",
        ],
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
    (
        "node = 'a:1'\nuser-consistency = { a = 'bounded', b = 'bound' }\nconsistency = 'bounded'",
        &[
            "f:2: user-consistency: `bound` is unknown, use one of: eventual, bounded, session, strong, did you mean `bounded`?",
            "f:2: user-consistency: bounded needs a bound, give max-staleness or max-staleness-bytes",
            "f:3: consistency: bounded needs a bound, give max-staleness or max-staleness-bytes",
        ],
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
    // Commands.
    (
        "node = 'a:1'\nredweir-commands = 'no'\ndeny = ['KEYS', '@all', 'a b c', 'debug']\nallow = ['SYNC', 'DEBUG']\nrename = 'GET'",
        &[
            "f:2: redweir-commands: `no` is unknown, use one of: on, off",
            "f:3: deny: `@all` is unknown, use one of: @admin, @blocking, @dangerous, @pubsub, @read, @write",
            "f:3: deny: `a b c` is no name of a command, write e.g. FLUSHALL or CONFIG SET",
            "f:4: allow: `debug` is in deny too, drop it from one of them",
            "f:4: allow: `sync` cannot pass through a proxy, drop it",
            "f:5: rename: `GET` has no `=`, write NAME=VALUE,...",
        ],
    ),
    (
        "node = 'a:1'\ndeny = 5.5\nrename = { GET = 'x', KEYS = 'X', SAVE = 'save', 'CONFIG SET' = 'a' }\nupstream-names = { PING = 'q', SAVE = 'r', BGSAVE = 'R' }\nallow = {}",
        &[
            "f:2: deny: must be a list, such as [\"NAME\", \"NAME\"]",
            "f:3: rename: `CONFIG SET` is no name of a command, write one word such as FLUSHALL",
            "f:3: rename: `x` is the new name of two commands, choose another for one of them",
            "f:3: rename: `save` is its own new name, drop it",
            "f:4: upstream-names: redweir needs `ping` under its own name at the nodes, drop its rename-command there",
            "f:4: upstream-names: `r` is the name of two commands, correct one of them",
            "f:5: allow: must be a list, such as [\"NAME\", \"NAME\"]",
        ],
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
