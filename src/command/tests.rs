//! Tests of the table and of classification, against the TSV itself and by hand.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::resp::Args;

const TSV: &str = include_str!("commands.tsv");

fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    TSV.lines().skip(1).map(|line| line.split('\t').collect())
}

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Name and class of a request written with spaces; `_` stands for an empty argument.
fn of(line: &str) -> (Option<&'static str>, Class) {
    let args: Vec<&[u8]> = line.split(' ').map(|a| if a == "_" { &b""[..] } else { a.as_bytes() }).collect();
    let bytes = request(&args);
    let verdict = classify(Args::new(&bytes));
    (verdict.command.map(|c| c.name), verdict.class)
}

/// The class of a row in words of its own: general rules, where the generator lists pairs.
fn expected(class: &str, route: &str) -> Class {
    if route.starts_with("forbid") {
        return Class::Forbidden;
    }
    if route == "all nodes" {
        return Class::AllNodes;
    }
    if route == "fence conn" || (route == "dedicated master" && class != "session") {
        return Class::Blocking;
    }
    match class {
        "read" => Class::Read,
        "read-master-only" => Class::MasterRead,
        "proxy-local" if route.starts_with("master") => Class::MasterRead,
        "proxy-local" => Class::Local,
        "write" | "blocking" => Class::Write,
        "cursor" => Class::Cursor,
        "script" if route == "any" => Class::ScriptRead,
        "script" => Class::Script,
        "session" => Class::Session,
        "admin" | "container" => Class::Admin,
        other => panic!("a class without a rule: {other}"),
    }
}

#[test]
fn every_row_is_in_the_table_with_its_class_and_data() {
    let mut seen = 0;
    for row in rows() {
        let (name, arity, flags, class, route) = (row[0], row[2], row[3], row[6], row[7]);
        let (found, got) = of(&name.replace('|', " ").to_uppercase());
        assert_eq!(found, Some(name));
        assert_eq!(got, expected(class, route), "{name}");

        let (top, sub) = name.split_once('|').map_or((name, None), |(top, sub)| (top, Some(sub)));
        let mut command = lookup(top.as_bytes()).unwrap();
        if let Some(sub) = sub {
            command = command.child(sub.as_bytes()).unwrap();
        }
        assert_eq!(command.arity.to_string(), arity, "{name}");
        let words: HashSet<&str> = flags.split(' ').collect();
        for (word, flag) in [
            ("write", Flags::WRITE),
            ("readonly", Flags::READONLY),
            ("denyoom", Flags::DENYOOM),
            ("no_auth", Flags::NO_AUTH),
            ("no_multi", Flags::NO_MULTI),
            ("blocking", Flags::BLOCKING),
            ("movablekeys", Flags::MOVABLE_KEYS),
            ("noscript", Flags::NOSCRIPT),
        ] {
            assert_eq!(command.flags.has(flag), words.contains(word), "{name} {word}");
        }
        let keys = command.keys;
        if keys.first != 0 {
            assert!(row[4].starts_with(&format!("{},{},{}", keys.first, keys.last, keys.step)), "{name}");
        }
        assert_eq!(keys.movable, row[4].contains("movable"), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 440);
    assert_eq!(seen, COMMANDS.iter().map(|c| 1 + c.children.len()).sum::<usize>());
}

#[test]
fn names_that_matter_by_hand() {
    use Class::*;
    let cases: &[(Class, &[&str])] = &[
        (
            Read,
            &[
                "get",
                "mget",
                "strlen",
                "exists",
                "ttl",
                "type",
                "hget",
                "hgetall",
                "lrange",
                "smembers",
                "zrange",
                "zscore",
                "xrange",
                "bitcount",
                "pfcount",
                "geosearch",
                "keys",
                "sort_ro",
                "bitfield_ro",
                "georadius_ro",
                "georadiusbymember_ro",
                "dump",
                "getrange",
                "xlen",
            ],
        ),
        (
            Write,
            &[
                "set",
                "del",
                "incr",
                "mset",
                "hset",
                "lpush",
                "zadd",
                "xadd",
                "expire",
                "getex",
                "getdel",
                "setnx",
                "sort",
                "georadius",
                "georadiusbymember",
                "bitfield",
                "publish",
                "spublish",
                "flushall",
                "swapdb",
                "zrangestore",
                "sinterstore",
                "geosearchstore",
                "bitop",
                "rename",
                "copy",
                "restore",
                "pfadd",
            ],
        ),
        (MasterRead, &["touch", "dbsize", "info", "time", "xpending", "role", "lastsave", "command"]),
        (Cursor, &["scan", "hscan", "sscan", "zscan"]),
        (Script, &["eval", "evalsha", "fcall"]),
        (ScriptRead, &["eval_ro", "evalsha_ro", "fcall_ro"]),
        (Blocking, &["blpop", "brpop", "blmove", "bzpopmin", "blmpop", "brpoplpush", "wait", "waitaof", "migrate"]),
        (
            Session,
            &[
                "multi",
                "exec",
                "discard",
                "watch",
                "unwatch",
                "subscribe",
                "psubscribe",
                "ssubscribe",
                "monitor",
                "hello",
                "auth",
                "select",
                "reset",
                "quit",
                "readonly",
                "readwrite",
                "asking",
            ],
        ),
        (Local, &["ping", "echo"]),
        (Admin, &["bgsave", "save", "client", "config", "object", "sentinel", "pfselftest"]),
        (Forbidden, &["sync", "psync", "replconf", "replicaof", "slaveof", "shutdown", "failover", "debug"]),
    ];
    for (class, names) in cases {
        for name in *names {
            assert_eq!(of(name), (Some(*name), *class), "{name}");
        }
    }
}

#[test]
fn arguments_change_the_class() {
    use Class::*;
    let cases: &[(&str, &str, Class)] = &[
        ("XREAD STREAMS s 0", "xread", Read),
        ("XREAD COUNT 5 STREAMS s 0", "xread", Read),
        ("XREAD BLOCK 0 STREAMS s $", "xread", Blocking),
        ("xread count 5 block 10 streams s $", "xread", Blocking),
        ("XREAD STREAMS BLOCK 0", "xread", Read),
        ("XREAD COUNT block STREAMS s 0", "xread", Read),
        ("XREAD", "xread", Read),
        ("XREADGROUP GROUP g c STREAMS s >", "xreadgroup", Write),
        ("XREADGROUP GROUP block c STREAMS s >", "xreadgroup", Write),
        ("XREADGROUP GROUP streams streams NOACK BLOCK 0 STREAMS s >", "xreadgroup", Blocking),
        ("XREADGROUP GROUP g c CLAIM 5 BLOCK 0 STREAMS s >", "xreadgroup", Blocking),
        ("XINFO STREAM s", "xinfo|stream", Read),
        ("XINFO STREAM full", "xinfo|stream", Read),
        ("XINFO STREAM s FULL", "xinfo|stream", MasterRead),
        ("xinfo stream s full COUNT 1", "xinfo|stream", MasterRead),
        ("XINFO GROUPS s", "xinfo|groups", MasterRead),
        ("XINFO CONSUMERS s g", "xinfo|consumers", MasterRead),
        ("XINFO", "xinfo", Admin),
        ("XINFO NOSUCH s", "xinfo", Admin),
        ("OBJECT ENCODING k", "object|encoding", MasterRead),
        ("CLIENT SETNAME a", "client|setname", Local),
        ("client ReplY OFF", "client|reply", Session),
        ("CLIENT TRACKING on", "client|tracking", Session),
        ("CLIENT PAUSE 5", "client|pause", Admin),
        ("CLIENT", "client", Admin),
        ("CLIENT _", "client", Admin),
        ("CLIENT NOSUCH", "client", Admin),
        ("CLIENT client|reply", "client", Admin),
        ("client|reply OFF", "", Unknown),
        ("SCRIPT LOAD x", "script|load", AllNodes),
        ("SCRIPT FLUSH", "script|flush", AllNodes),
        ("SCRIPT KILL", "script|kill", AllNodes),
        ("FUNCTION KILL", "function|kill", AllNodes),
        ("FUNCTION LOAD x", "function|load", Write),
        ("SCRIPT DEBUG yes", "script|debug", Forbidden),
        ("ACL SETUSER u", "acl|setuser", AllNodes),
        ("CONFIG GET *", "config|get", MasterRead),
        ("CONFIG SET a b", "config|set", Admin),
        ("COMMAND COUNT", "command|count", MasterRead),
        ("COMMAND NOSUCH", "command", MasterRead),
        ("SENTINEL masters", "sentinel|masters", Admin),
        ("EVAL", "eval", Script),
        ("EVAL _ 0", "eval", Script),
        ("GETS k", "", Unknown),
        ("_", "", Unknown),
    ];
    for &(line, name, class) in cases {
        assert_eq!(of(line), ((!name.is_empty()).then_some(name), class), "{line}");
    }
    assert_eq!(classify(Args::new(b"*0\r\n")).class, Class::Unknown);
}

#[test]
fn only_a_script_that_declares_no_writes_is_a_read() {
    let cases: &[(&str, Class)] = &[
        ("#!lua flags=no-writes\nreturn 1", Class::ScriptRead),
        ("#!lua flags=allow-stale,no-writes,no-cluster\nreturn 1", Class::ScriptRead),
        ("#!lua  flags=no-writes \r\nreturn 1", Class::ScriptRead),
        ("#!lua\nreturn 1", Class::Script),
        ("#!lua flags=allow-oom\nreturn 1", Class::Script),
        ("#!lua flags=no-writess\nreturn 1", Class::Script),
        ("#!lua flags=xno-writes\nreturn 1", Class::Script),
        ("#!lua\n-- flags=no-writes\nreturn 1", Class::Script),
        ("#!lua flags=no-writes", Class::Script),
        ("#!luau flags=no-writes\nreturn 1", Class::Script),
        (" #!lua flags=no-writes\nreturn 1", Class::Script),
        ("-- flags=no-writes\nreturn 1", Class::Script),
        ("return redis.call('get', KEYS[1])", Class::Script),
    ];
    for &(body, class) in cases {
        let bytes = request(&[b"eval", body.as_bytes(), b"0"]);
        assert_eq!(classify(Args::new(&bytes)).class, class, "{body:?}");
        // A sha says nothing about the body.
        let bytes = request(&[b"evalsha", body.as_bytes(), b"0"]);
        assert_eq!(classify(Args::new(&bytes)).class, Class::Script, "{body:?}");
    }
}

#[test]
fn a_name_one_byte_off_is_another_name() {
    let known: HashSet<&[u8]> = COMMANDS.iter().map(|c| c.name.as_bytes()).collect();
    for command in COMMANDS.iter() {
        assert_eq!(lookup(command.name.to_uppercase().as_bytes()).map(|c| c.name), Some(command.name));
        for i in 0..command.name.len() {
            let mut name = command.name.as_bytes().to_vec();
            for byte in 0..=255 {
                name[i] = byte;
                let lower = name.to_ascii_lowercase();
                assert_eq!(lookup(&name).map(|c| c.name.as_bytes()), known.get(&lower[..]).copied(), "{name:?}");
            }
        }
        for name in [&command.name.as_bytes()[1..], &[command.name.as_bytes(), b"\0"].concat()] {
            assert_eq!(lookup(name).is_some(), known.contains(name), "{name:?}");
        }
    }
    // The two words of `publish`, said by a name of another length.
    assert!(lookup(b"publlish\0\0\0\0\0\0\0\0").is_none());
}

#[test]
fn keys_are_found_where_the_table_says() {
    for (line, expected) in [
        ("GET a", vec!["a"]),
        ("MGET a b c", vec!["a", "b", "c"]),
        ("HMGET h f g", vec!["h"]),
        ("LRANGE l 0 -1", vec!["l"]),
        ("SUNION a b", vec!["a", "b"]),
        ("PING", vec![]),
        ("GET", vec![]),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let keys = lookup(words[0].as_bytes()).unwrap().keys;
        let found: Vec<&str> = keys.places(words.len()).filter_map(|at| words.get(at).copied()).collect();
        assert_eq!(found, expected, "{line}");
    }
}

proptest! {
    #[test]
    fn arbitrary_arguments_are_never_a_read_unless_the_table_says_so(
        args in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..24),
            "[a-zA-Z]{1,8}".prop_map(String::into_bytes),
            prop::sample::select(COMMANDS.iter().map(|c| c.name.as_bytes().to_vec()).collect::<Vec<_>>()),
        ], 0..6)
    ) {
        let classes: HashMap<String, &str> = rows().map(|r| (r[0].replace('|', " "), r[6])).collect();
        let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let bytes = request(&slices);
        let verdict = classify(Args::new(&bytes));
        if verdict.class == Class::Read {
            let words: Vec<String> = args.iter().take(2).map(|a| String::from_utf8_lossy(a).to_ascii_lowercase()).collect();
            let read = |name: &str| classes.get(name) == Some(&"read");
            prop_assert!(read(&words[0]) || read(&words.join(" ")), "{words:?}");
        }
        if args.first().is_some_and(|name| lookup(name).is_none()) {
            prop_assert_eq!(verdict.class, Class::Unknown);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        classify(Args::new(&bytes));
        lookup(&bytes);
        Names::default().lookup(&bytes);
    }
}
