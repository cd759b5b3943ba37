//! Every command of the table, and of the server at hand, is in a case.

use std::collections::BTreeSet;

use redweir::command::{COMMANDS, Command};

use crate::generated::commands;
use crate::script::Deed;
use crate::scripted::files;
use crate::support::plain_stage;

/// Commands without a written case, and why not.
const WITHOUT: &[(&str, &str)] = &[
    ("SYNC", "replication: refused by redweir, and a stream of its own at a node"),
    ("PSYNC", "replication: refused by redweir, and a stream of its own at a node"),
    ("SHUTDOWN", "ends the direct server"),
    ("PFSELFTEST", "takes seconds; the node's own test of itself"),
    ("FAILOVER", "acts on replication: refused by redweir"),
    ("REPLICAOF", "acts on replication: refused by redweir"),
    ("SLAVEOF", "acts on replication: refused by redweir"),
    ("REPLCONF", "replication: refused by redweir"),
    ("MONITOR", "shows the direct server's client what the harness asks beside it"),
    ("BGREWRITEAOF", "forks; its text depends on a fork before it"),
];

#[test]
fn every_command_of_the_table_and_of_the_server_has_a_case() {
    let stage = plain_stage(0);
    let mut server = stage.nodes[0].connect().expect("a server");
    let mut written = BTreeSet::new();
    for step in files().into_iter().flat_map(|(_, sections)| sections).flatten() {
        let Deed::Send(commands) = step.deed else { continue };
        for words in commands {
            let upper: Vec<String> = words.iter().take(2).map(|w| String::from_utf8_lossy(w).to_uppercase()).collect();
            written.insert(upper[0].clone());
            written.insert(upper.join(" "));
        }
    }
    let spelled = |command: &Command| command.name.to_uppercase().replace('|', " ");
    let table = COMMANDS.iter().flat_map(|c| std::iter::once(spelled(c)).chain(c.children.iter().map(spelled)));
    let listed: BTreeSet<String> = commands(&mut server).into_iter().map(|c| c.name).chain(table).collect();
    let without = |name: &str| {
        WITHOUT.iter().any(|(w, _)| name == *w || name.strip_prefix(w).is_some_and(|r| r.starts_with(' ')))
    };
    let missing: Vec<&str> =
        listed.iter().map(String::as_str).filter(|name| !written.contains(*name) && !without(name)).collect();
    println!("{} commands and subcommands listed, {} without a case by the list", listed.len(), WITHOUT.len());
    assert!(missing.is_empty(), "{} commands without a case: {missing:?}", missing.len());
    let needless: Vec<&str> = WITHOUT.iter().map(|(w, _)| *w).filter(|w| written.contains(*w)).collect();
    assert!(needless.is_empty(), "excepted, but there is a case: {needless:?}");
}
