//! From `commands.tsv` to the source of the command table: run by the build script, tested as part of the crate.
//!
//! A pure function of the text: no clock, no environment, no hash order. Invariant: a class, route, flag or shape of row
//! that it does not know stops the build, so nothing is ever classified by accident.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::pack::{BUCKETS, LONGEST, SLOTS, hash, pack};

/// A line of the TSV, understood.
struct Row {
    name: String,
    class: &'static str,
    refine: &'static str,
    arity: i16,
    flags: Vec<&'static str>,
    keys: (i16, i16, i16, bool),
    origin: String,
}

/// The source of `commands.rs`, or what is wrong with the TSV and in which line.
pub fn generate(tsv: &str) -> Result<String, String> {
    let rows = rows(tsv)?;
    let tops: Vec<&Row> = rows.values().filter(|r| !r.name.contains('|')).collect();
    let mut out =
        String::from("// Generated from src/command/commands.tsv.\n\n/// Every top-level command, by name.\n");
    let _ = writeln!(out, "pub static COMMANDS: [Command; {}] = [", tops.len());
    for top in &tops {
        let prefix = format!("{}|", top.name);
        let children: Vec<&Row> = rows.values().filter(|r| r.name.starts_with(&prefix)).collect();
        emit(&mut out, top, &children);
    }
    out.push_str("];\n\n");
    lay_out(&mut out, &tops)?;
    Ok(out)
}

fn rows(tsv: &str) -> Result<BTreeMap<String, Row>, String> {
    let mut lines = tsv.lines().enumerate();
    if !lines.next().is_some_and(|(_, header)| header.starts_with("name\torigin\tarity\tflags\tkeyspec")) {
        return Err("line 1: not the header of a command table".into());
    }
    let mut rows = BTreeMap::new();
    for (i, line) in lines {
        let row = row(line).map_err(|e| format!("line {}: {e}", i + 1))?;
        let name = row.name.clone();
        if rows.insert(name.clone(), row).is_some() {
            return Err(format!("line {}: {name} is there twice", i + 1));
        }
    }
    for row in rows.values() {
        if let Some((parent, _)) = row.name.split_once('|') {
            if !rows.contains_key(parent) {
                return Err(format!("{}: its container {parent} is missing", row.name));
            }
        } else if row.refine == "Sub" && !rows.keys().any(|k| k.starts_with(&format!("{}|", row.name))) {
            return Err(format!("{}: a container without subcommands", row.name));
        }
    }
    let parents: Vec<String> = rows.keys().filter_map(|k| Some(k.split_once('|')?.0.to_owned())).collect();
    for parent in parents {
        if let Some(row) = rows.get_mut(&parent) {
            row.refine = "Sub";
        }
    }
    Ok(rows)
}

fn row(line: &str) -> Result<Row, String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, origin, arity, flags, keyspec, _tips, class, route, _danger, _remark] = columns[..] else {
        return Err(format!("{} columns instead of 10", columns.len()));
    };
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'|');
    if name.is_empty() || !name.bytes().all(known) {
        return Err(format!("odd command name {name:?}"));
    }
    Ok(Row {
        name: name.to_owned(),
        class: class_of(class, route).ok_or_else(|| format!("{name}: unknown class and route {class:?} {route:?}"))?,
        refine: refine_of(name, class, route),
        arity: arity.parse().map_err(|_| format!("{name}: arity {arity:?}"))?,
        flags: flags_of(flags).map_err(|e| format!("{name}: {e}"))?,
        keys: keys_of(keyspec).ok_or_else(|| format!("{name}: key spec {keyspec:?}"))?,
        origin: origin.to_owned(),
    })
}

/// `Class` by the columns `proxy_class` and `route`; the pairs that occur, and no others.
fn class_of(class: &str, route: &str) -> Option<&'static str> {
    Some(match (class, route) {
        ("read", "any" | "any / dedicated if BLOCK") => "Read",
        ("read-master-only", "master") | ("proxy-local", "master, cacheable") => "MasterRead",
        ("write", "master") | ("blocking", "master / dedicated if BLOCK") => "Write",
        ("write" | "blocking", "dedicated master") | ("session", "fence conn") => "Blocking",
        ("cursor", "sticky-node") => "Cursor",
        ("script", "master") => "Script",
        ("script", "any") => "ScriptRead",
        ("script" | "admin", "all nodes") => "AllNodes",
        ("session", "forbid") | ("admin", "forbid" | "forbid/master" | "forbid/proxy-coordinated") => "Forbidden",
        (
            "session",
            "dedicated"
            | "dedicated master"
            | "local"
            | "local+pool"
            | "master"
            | "master (error) / local"
            | "pin master"
            | "pool class"
            | "unit / pin",
        ) => "Session",
        ("proxy-local", "local" | "local -> dedicated conn") => "Local",
        // `sentinel only`: a data node does not know it, and its own error text is the right answer.
        ("admin", "master" | "master (policy)" | "all nodes (policy)" | "sentinel only") => "Admin",
        // Without a known subcommand the answer is an error, the server's own.
        ("container", "-") => "Admin",
        _ => return None,
    })
}

/// Which arguments change the class.
fn refine_of(name: &str, class: &str, route: &str) -> &'static str {
    match (name, class) {
        ("eval", _) => "Shebang",
        ("xinfo|stream", _) => "Full",
        (_, "container") => "Sub",
        _ if route.ends_with("dedicated if BLOCK") => "Block",
        _ => "None",
    }
}

fn flags_of(column: &str) -> Result<Vec<&'static str>, String> {
    let mut flags = Vec::new();
    for word in column.split_ascii_whitespace() {
        flags.push(match word {
            "write" => "WRITE",
            "readonly" => "READONLY",
            "denyoom" => "DENYOOM",
            "admin" => "ADMIN",
            "pubsub" => "PUBSUB",
            "noscript" => "NOSCRIPT",
            "blocking" => "BLOCKING",
            "loading" => "LOADING",
            "stale" => "STALE",
            "fast" => "FAST",
            "no_auth" => "NO_AUTH",
            "no_multi" => "NO_MULTI",
            "movablekeys" => "MOVABLE_KEYS",
            "allow_busy" => "ALLOW_BUSY",
            "module" => "MODULE",
            "only_sentinel" => "ONLY_SENTINEL",
            // Nobody asks for these.
            "sentinel" | "skip_monitor" | "skip_slowlog" | "no_async_loading" | "no_mandatory_keys" | "asking"
            | "experimental" => continue,
            // `flag(7.0)`: only some versions have it, so it vouches for nothing.
            _ if word.ends_with(')') => continue,
            _ => return Err(format!("unknown flag {word:?}")),
        });
    }
    flags.sort_unstable();
    Ok(flags)
}

/// `first,last,step`, `0` or `-`, then perhaps `movable`, then perhaps `[..]`.
fn keys_of(column: &str) -> Option<(i16, i16, i16, bool)> {
    let plain = column.split('[').next()?.trim();
    let (range, movable) = match plain.strip_suffix("movable") {
        Some(range) => (range.trim(), true),
        None => (plain, false),
    };
    if matches!(range, "-" | "0") {
        return Some((0, 0, 0, movable));
    }
    let mut numbers = range.split(',').map(str::parse::<i16>);
    let keys = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?, movable);
    numbers.next().is_none().then_some(keys)
}

fn emit(out: &mut String, row: &Row, children: &[&Row]) {
    let flags = row.flags.iter().fold("Flags::NONE".to_owned(), |all, f| format!("{all}.and(Flags::{f})"));
    let (first, last, step, movable) = row.keys;
    let _ = write!(
        out,
        "Command {{ name: {:?}, class: Class::{}, refine: Refine::{}, arity: {}, flags: {flags}, \
         keys: Keys {{ first: {first}, last: {last}, step: {step}, movable: {movable} }}, origin: {:?}, children: &[",
        row.name, row.class, row.refine, row.arity, row.origin
    );
    for child in children {
        out.push('\n');
        emit(out, child, &[]);
    }
    out.push_str("] },\n");
}

/// Hash and displace: the first seed of a fixed sequence under which every bucket finds room.
fn lay_out(out: &mut String, tops: &[&Row]) -> Result<(), String> {
    let short = |r: &&&Row| r.name.len() <= LONGEST;
    if tops.iter().filter(short).count() * 5 > SLOTS * 4 {
        return Err(format!("{SLOTS} slots are too few: double SLOTS in pack.rs"));
    }
    let (seed, displacements, slots) =
        (1..10_000u64).find_map(|n| attempt(tops, n)).ok_or("no seed lays the table out: enlarge it in pack.rs")?;
    let _ = writeln!(out, "const SEED: u64 = {seed:#x};");
    let _ = writeln!(out, "static DISPLACEMENTS: [u16; {BUCKETS}] = {displacements:?};");
    let _ = writeln!(out, "static SLOTS: [Slot; {SLOTS}] = [");
    for slot in &slots {
        let (lo, hi, len, index) = slot.unwrap_or_default();
        let _ = writeln!(out, "Slot {{ lo: {lo:#x}, hi: {hi:#x}, len: {len}, command: &COMMANDS[{index}] }},");
    }
    out.push_str("];\n");
    let long: Vec<String> = (0..tops.len())
        .filter(|&i| tops.get(i).is_some_and(|r| r.name.len() > LONGEST))
        .map(|i| format!("&COMMANDS[{i}]"))
        .collect();
    let _ = writeln!(out, "static LONG: [&Command; {}] = [{}];", long.len(), long.join(", "));
    Ok(())
}

/// Words, length and index of a name.
type Packed = (u64, u64, usize, usize);

fn attempt(tops: &[&Row], n: u64) -> Option<(u64, Vec<u16>, Vec<Option<Packed>>)> {
    // Odd multiples of the golden ratio spread well under multiplication.
    let seed = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2 * n - 1) | 1;
    let mut buckets: Vec<Vec<(usize, Packed)>> = vec![Vec::new(); BUCKETS];
    for (index, row) in tops.iter().enumerate() {
        if let Some(words) = pack(row.name.as_bytes()) {
            let (bucket, place) = hash(words, seed);
            buckets.get_mut(bucket)?.push((place, (words.0, words.1, row.name.len(), index)));
        }
    }
    let mut order: Vec<usize> = (0..BUCKETS).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(buckets.get(b).map_or(0, Vec::len)), b));
    let mut displacements = vec![0u16; BUCKETS];
    let mut slots: Vec<Option<Packed>> = vec![None; SLOTS];
    for bucket in order {
        let names = buckets.get(bucket)?;
        let mut places: Vec<usize> = names.iter().map(|n| n.0).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() < names.len() {
            return None;
        }
        let free = |d: usize| places.iter().all(|p| slots.get((p + d) % SLOTS).is_some_and(Option::is_none));
        let displacement = (0..SLOTS).find(|&d| free(d))?;
        *displacements.get_mut(bucket)? = displacement as u16;
        for &(place, name) in names {
            *slots.get_mut((place + displacement) % SLOTS)? = Some(name);
        }
    }
    Some((seed, displacements, slots))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TSV: &str = include_str!("commands.tsv");

    fn with(line: &str) -> Result<String, String> {
        generate(&format!("{}\n{line}\n", TSV.trim_end()))
    }

    #[test]
    fn same_text_gives_the_same_table_in_any_order_of_lines() {
        let mut lines: Vec<&str> = TSV.lines().collect();
        lines[1..].reverse();
        let table = generate(TSV).unwrap();
        assert_eq!(table, generate(&lines.join("\n")).unwrap());
        assert_eq!(table, include_str!(concat!(env!("OUT_DIR"), "/commands.rs")));
    }

    #[test]
    fn what_it_does_not_know_stops_the_build() {
        let cases = [
            ("zz\tx\t2\treadonly\t1,1,1\t\tread\tnearest\t\t", "line 442: zz: unknown class and route"),
            ("zz\tx\t2\treadonly\t1,1,1\t\treads\tany\t\t", "unknown class and route \"reads\" \"any\""),
            ("zz\tx\t2\tsplendid\t1,1,1\t\tread\tany\t\t", "zz: unknown flag \"splendid\""),
            ("zz\tx\ttwo\treadonly\t1,1,1\t\tread\tany\t\t", "zz: arity \"two\""),
            ("zz\tx\t2\treadonly\t1,1\t\tread\tany\t\t", "zz: key spec \"1,1\""),
            ("zz\tx\t2\treadonly\t1,1,1\t\tread\tany\t", "9 columns instead of 10"),
            ("get\tx\t2\treadonly\t1,1,1\t\tread\tany\t\t", "line 442: get is there twice"),
            ("Zz\tx\t2\treadonly\t1,1,1\t\tread\tany\t\t", "odd command name"),
            ("zz|a\tx\t2\treadonly\t1,1,1\t\tread\tany\t\t", "its container zz is missing"),
            ("zz\tx\t2\t\t-\t\tcontainer\t-\t\t", "a container without subcommands"),
        ];
        for (line, fault) in cases {
            let error = with(line).expect_err(line);
            assert!(error.contains(fault), "{line:?} gave {error:?}");
        }
        assert!(generate("hello").is_err());
        assert!(with("zz\tx\t2\treadonly\t1,1,1\t\tread\tany\t\t").is_ok());
    }
}
