//! Cases made from the server's own COMMAND: every command with too few and too many arguments, every container with a
//! subcommand that it does not have and with HELP, and every command with plausible and implausible arguments on a key of every type.

use crate::compare::{RESP2, RESP3, section};
use crate::known::judge;
use crate::pair::Pair;
use crate::script::{Deed, Step, command};
use crate::support::{Client, Reply, call};

/// A command or subcommand as the server lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// `CONFIG GET`
    pub name: String,
    pub arity: i64,
    pub flags: Vec<String>,
    pub container: bool,
}

/// Everything COMMAND lists, subcommands behind their containers.
pub fn commands(server: &mut Client) -> Vec<Listed> {
    let reply = call(server, "COMMAND");
    let mut listed = Vec::new();
    for entry in reply.items() {
        one(entry, &mut listed);
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed
}

fn one(entry: &Reply, listed: &mut Vec<Listed>) {
    let fields = entry.items();
    let name = fields[0].text().to_uppercase().replace('|', " ");
    let flags = fields[2].items().iter().map(Reply::text).collect();
    // Redis 6.2 does not list subcommands.
    let children = fields.get(9).map(Reply::items).unwrap_or_default();
    let container = !children.is_empty();
    listed.push(Listed { name, arity: fields[1].int().expect("an arity"), flags, container });
    children.iter().for_each(|child| one(child, listed));
}

/// Never sent by a generated case: they end, block or take over the direct server or the connection.
const NEVER: &[&str] = &[
    "SHUTDOWN",
    "DEBUG",
    "MONITOR",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "REPLICAOF",
    "SLAVEOF",
    "FAILOVER",
    "MIGRATE",
    "PFSELFTEST",
    "BGSAVE",
    "BGREWRITEAOF",
    "SAVE",
    "CLIENT PAUSE",
    "CLIENT REPLY",
    "CLIENT KILL",
    "CLIENT UNPAUSE",
    "CONFIG SET",
    "CONFIG REWRITE",
    "ACL",
    "MODULE",
    "SWAPDB",
    "SCRIPT DEBUG",
    "LOLWUT",
    "CLIENT TRACKING",
    "CLUSTER",
    "CLIENT NO-TOUCH",
    "CLIENT IMPORT-SOURCE",
    // A cursor other than 0 means another place in every hash table.
    "SSCAN",
];

/// Commands whose arguments could do harm are still sent in wrong number, but for these.
const NO_ARITY: &[&str] =
    &["SHUTDOWN", "MONITOR", "SYNC", "PSYNC", "REPLCONF", "REPLICAOF", "SLAVEOF", "FAILOVER", "DEBUG", "QUIT"];

/// Not tried inside a transaction: EXEC, DISCARD and RESET have written cases, COMMAND's reply has no order, CLIENT REPLY is refused there.
const NOT_QUEUED: &[&str] = &["EXEC", "DISCARD", "RESET", "COMMAND", "CLIENT REPLY", "SCRIPT DEBUG"];

fn is_in(list: &[&str], name: &str) -> bool {
    list.iter().any(|l| name == *l || name.strip_prefix(l).is_some_and(|rest| rest.starts_with(' ')))
}

fn step(line: &str) -> Step {
    Step { place: "generated".into(), who: 'A', deed: Deed::Send(vec![command(line)]), unless_blocked: false }
}

fn arity_lines(listed: &Listed) -> Vec<String> {
    let own = listed.name.split(' ').count() as i64;
    let with = |args: i64| format!("{}{}", listed.name, " x".repeat(args.max(0) as usize));
    let least = listed.arity.abs() - own;
    let mut lines = Vec::new();
    if least > 0 && !(listed.container && own == 1) {
        lines.push(with(0));
        lines.push(with(least - 1));
    }
    if listed.arity > 0 {
        lines.push(with(least + 1));
    }
    if listed.container {
        lines.extend(["", " NO-SUCH-SUBCOMMAND", " no-such a b", " HELP", " help"].map(|s| listed.name.clone() + s));
    }
    lines.dedup();
    lines
}

#[test]
fn wrong_arity_and_unknown_names_get_the_direct_servers_errors() {
    let mut pair = Pair::start(&[]);
    let mut steps: Vec<Step> = Vec::new();
    for listed in pair.commands().iter().filter(|l| !is_in(NO_ARITY, &l.name)) {
        steps.extend(arity_lines(listed).iter().map(|l| step(l)));
    }
    let unknown = ["NOSUCH", "nosuch a b c", "\"no such\" x", "\"a\\r\\nb\" \"c\\r\\nd\"", "\"\"", "\"\" a", "GETT k"];
    steps.extend(unknown.map(step));
    steps.push(step(&format!("{} {}", "n".repeat(200), "a".repeat(200))));
    steps.push(step(&format!("NOSUCH {}", "argument ".repeat(30))));
    let mut differences = Vec::new();
    for resp in [RESP2, RESP3] {
        // A section each: one that leaves its mark on the connection must not reach the next.
        for steps in steps.chunks(8) {
            differences.extend(section(&mut pair, steps, resp));
        }
        // In a transaction the same errors abort it.
        for step in steps.iter().filter(|s| !is_in(NOT_QUEUED, &s.line().to_uppercase())) {
            let unit = ["MULTI", "SET k v"].map(crate::generated::step);
            let unit =
                unit.into_iter().chain([step.clone(), crate::generated::step("EXEC"), crate::generated::step("GET k")]);
            let unit: Vec<Step> = unit.collect();
            if resp == RESP2 {
                differences.extend(section(&mut pair, &unit, resp));
            }
        }
    }
    judge("wrong arity", 2 * steps.len(), &differences);
}

/// One element each, so that what is drawn by lot and what has no order has one outcome.
const KEYS: &[(&str, &str)] = &[
    ("none", ""),
    ("str", "SET str 5"),
    ("list", "RPUSH list a"),
    ("hash", "HSET hash f 1"),
    ("set", "SADD set a"),
    ("zset", "ZADD zset 1 a"),
    ("stream", "XADD stream 1-1 f v"),
];
/// Filled in for every argument but the first.
const FILLERS: &[&str] = &["1", "x", "-1", "99999999999999999999", "\"\"", "str"];

#[test]
fn every_command_on_a_key_of_every_type_gets_the_direct_servers_reply() {
    let mut pair = Pair::start(&[]);
    let mut differences = Vec::new();
    let mut count = 0;
    let listed: Vec<Listed> = pair.commands();
    for listed in listed.iter().filter(|l| !is_in(NEVER, &l.name)) {
        let own = listed.name.split(' ').count() as i64;
        let least = listed.arity.abs() - own;
        if least <= 0 || (listed.container && own == 1) {
            continue;
        }
        let mut steps: Vec<Step> = Vec::new();
        for (key, _) in KEYS {
            for filler in FILLERS {
                let blocking = listed.flags.iter().any(|f| f == "blocking") && matches!(*filler, "1" | "str");
                let subscribing = listed.flags.iter().any(|f| f == "pubsub") && listed.name.ends_with("SUBSCRIBE");
                if !blocking && !subscribing {
                    let seeds = KEYS.iter().filter(|(_, seed)| !seed.is_empty()).map(|(_, seed)| command(seed));
                    let mut commands = vec![command("FLUSHALL")];
                    commands.extend(seeds);
                    steps.push(Step {
                        place: "seeds".into(),
                        who: 'A',
                        deed: Deed::Send(commands),
                        unless_blocked: false,
                    });
                    steps.push(step(&format!(
                        "{} {key}{}",
                        listed.name,
                        format!(" {filler}").repeat((least - 1) as usize)
                    )));
                }
            }
            // A one-argument command has only one form per key.
        }
        if least == 1 {
            let mut seen = std::collections::BTreeSet::new();
            steps = steps.chunks(2).filter(|pair| seen.insert(pair[1].line())).flatten().cloned().collect();
        }
        count += steps.len();
        let resp = if count % 2 == 0 { RESP3 } else { RESP2 };
        differences.extend(section(&mut pair, &steps, resp));
    }
    judge("every type", count, &differences);
}
