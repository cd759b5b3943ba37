//! What differs between any two servers by nature, and how replies are then compared. This list is all of it: everything else is
//! compared byte for byte.

use crate::wire::Frame;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Byte for byte, but for entry ids made from the clock, the client's id in HELLO's reply, and sets, which have no order.
    Exact,
    /// The same elements in any order, at any depth (hash tables are seeded per process).
    Unordered,
    /// The same structure and types, whatever the numbers and texts.
    Shape,
    /// Both errors with the same text, or both of the same type.
    Kind,
    /// Numbers up to 3 seconds (in either unit) apart, of the same sign.
    Near,
    /// The same names before `:` or `=`, whatever stands behind them.
    Names,
    /// The structure, and of every text only the words without digits (ids, addresses and ports are digits).
    Digits,
}

/// By the beginning of a command; the longest that fits counts.
const RULES: &[(&str, Rule)] = &[
    // Orders of hash tables.
    ("ACL CAT", Rule::Unordered),
    ("ACL GETUSER", Rule::Unordered),
    ("COMMAND", Rule::Unordered),
    ("CONFIG GET", Rule::Unordered),
    ("HGETALL", Rule::Unordered),
    ("HKEYS", Rule::Unordered),
    ("HVALS", Rule::Unordered),
    ("KEYS", Rule::Unordered),
    ("PUBSUB CHANNELS", Rule::Unordered),
    ("PUBSUB SHARDCHANNELS", Rule::Unordered),
    ("PUNSUBSCRIBE", Rule::Unordered),
    ("SCAN", Rule::Unordered),
    ("HSCAN", Rule::Unordered),
    ("SSCAN", Rule::Unordered),
    ("SDIFF", Rule::Unordered),
    ("SINTER", Rule::Unordered),
    ("SMEMBERS", Rule::Unordered),
    ("SORT", Rule::Unordered),
    ("SUNION", Rule::Unordered),
    ("UNSUBSCRIBE", Rule::Unordered),
    ("FUNCTION LIST", Rule::Unordered),
    // What is drawn by lot.
    ("ACL GENPASS", Rule::Kind),
    ("HRANDFIELD", Rule::Shape),
    ("RANDOMKEY", Rule::Kind),
    ("SPOP", Rule::Shape),
    ("SRANDMEMBER", Rule::Shape),
    ("ZRANDMEMBER", Rule::Shape),
    // Clocks, and what is measured.
    ("ACL LOG", Rule::Shape),
    ("EXPIRETIME", Rule::Near),
    ("PEXPIRETIME", Rule::Near),
    ("PTTL", Rule::Near),
    ("TTL", Rule::Near),
    ("OBJECT IDLETIME", Rule::Near),
    ("LASTSAVE", Rule::Near),
    ("LOLWUT", Rule::Kind),
    ("LATENCY DOCTOR", Rule::Kind),
    ("LATENCY HISTOGRAM", Rule::Kind),
    ("MEMORY DOCTOR", Rule::Kind),
    ("MEMORY MALLOC-STATS", Rule::Kind),
    ("MEMORY STATS", Rule::Kind),
    ("MEMORY USAGE", Rule::Shape),
    ("SLOWLOG GET", Rule::Kind),
    ("SLOWLOG LEN", Rule::Kind),
    ("COMMANDLOG", Rule::Kind),
    ("TIME", Rule::Shape),
    ("XINFO CONSUMERS", Rule::Shape),
    ("XINFO STREAM", Rule::Shape),
    ("XPENDING", Rule::Shape),
    // Ids, addresses, and what a node says of itself.
    ("CLIENT ID", Rule::Shape),
    ("CLIENT INFO", Rule::Names),
    ("CLIENT LIST", Rule::Names),
    ("CLUSTER", Rule::Digits),
    ("INFO", Rule::Names),
    ("ROLE", Rule::Kind),
];

/// Commands that a replicated set answers differently because it is one: how many replicas have acknowledged.
const REPLICAS: &[&str] = &["WAIT", "WAITAOF"];

/// The rule for a command line.
pub fn rule(line: &str) -> Rule {
    let line = line.to_ascii_uppercase();
    let fits = |name: &&(&str, Rule)| line.strip_prefix(name.0).is_some_and(|r| r.is_empty() || !is_word(r));
    if REPLICAS.iter().any(|name| line.split(' ').next() == Some(name)) {
        return Rule::Kind;
    }
    RULES.iter().filter(fits).max_by_key(|(name, _)| name.len()).map_or(Rule::Exact, |(_, rule)| *rule)
}

fn is_word(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// Are these the same reply?
pub fn same(rule: Rule, direct: &Frame, through: &Frame) -> bool {
    if direct.is_error() || through.is_error() {
        return direct == through;
    }
    match rule {
        Rule::Exact => exact(direct) == exact(through),
        Rule::Unordered => sorted(direct) == sorted(through),
        Rule::Shape => shape(direct) == shape(through),
        Rule::Kind => kind(direct) == kind(through),
        Rule::Near => near(direct, through),
        Rule::Names => names(direct) == names(through),
        Rule::Digits => digits(direct) == digits(through),
    }
}

fn map(frame: &Frame, leaf: &impl Fn(&Frame) -> Frame) -> Frame {
    match frame {
        Frame::Many(kind, items) => Frame::Many(*kind, items.iter().map(|i| map(i, leaf)).collect()),
        other => leaf(other),
    }
}

/// Ids that begin with the milliseconds of this decade become `<id>`, the client's in HELLO `<client>`; RESP3 sets are sorted.
fn exact(frame: &Frame) -> Frame {
    match frame {
        Frame::Many(kind, items) => {
            let mut items: Vec<Frame> = items.iter().map(exact).collect();
            if *kind == b'~' {
                items.sort();
            }
            let name = |items: &[Frame], at: usize, name: &str| items.get(at).is_some_and(|item| item.text() == name);
            if name(&items, 0, "server") && name(&items, 6, "id") {
                items[7] = Frame::Line(b":<client>".to_vec());
            }
            Frame::Many(*kind, items)
        }
        Frame::Bulk(kind, bytes) if is_clock_id(bytes) => Frame::Bulk(*kind, b"<id>".to_vec()),
        other => other.clone(),
    }
}

fn is_clock_id(bytes: &[u8]) -> bool {
    let Some(dash) = bytes.iter().position(|b| *b == b'-') else { return false };
    dash == 13 && bytes[0] == b'1' && bytes.iter().all(|b| b.is_ascii_digit() || *b == b'-')
}

fn sorted(frame: &Frame) -> Frame {
    match frame {
        Frame::Many(kind, items) => {
            let mut items: Vec<Frame> = items.iter().map(sorted).collect();
            items.sort();
            Frame::Many(*kind, items)
        }
        other => exact(other),
    }
}

fn shape(frame: &Frame) -> Frame {
    map(frame, &|leaf| Frame::Line(vec![kind(leaf)]))
}

fn kind(frame: &Frame) -> u8 {
    match frame {
        Frame::Line(line) if line.ends_with(b"-1") && !line.starts_with(b":") => b'_',
        Frame::Line(line) => line[0],
        Frame::Bulk(kind, _) | Frame::Many(kind, _) => *kind,
    }
}

fn near(direct: &Frame, through: &Frame) -> bool {
    let number = |f: &Frame| f.text().get(1..).and_then(|n| n.parse::<i64>().ok());
    match (number(direct), number(through)) {
        (Some(a), Some(b)) => (a < 0) == (b < 0) && ((a - b).abs() <= 3 || (a > 9_999 && (a - b).abs() <= 3_000)),
        _ => direct == through,
    }
}

/// What a figure in these names counts differs from server to server, and so does which of them there are.
const COUNTED: &[&str] = &["cmdstat_", "errorstat_", "latency_percentiles", "db", "slave", "master_", "replicas_"];

fn names(frame: &Frame) -> Vec<String> {
    let text = frame.text();
    let name = |word: &str| word.split([':', '=']).next().unwrap_or_default().to_owned();
    let words: Vec<String> = match text.contains("\r\n") {
        true => text.lines().map(name).collect(),
        false => text.lines().last().unwrap_or_default().split(' ').map(name).collect(),
    };
    let kept = words.into_iter().filter(|w| !COUNTED.iter().any(|c| w.starts_with(c)));
    let mut kept: Vec<String> = kept.collect();
    kept.sort();
    kept
}

fn digits(frame: &Frame) -> Frame {
    let cut = |bytes: &[u8]| -> Vec<u8> {
        let words = bytes.split(|b| b" :,\r\n".contains(b)).filter(|w| !w.iter().any(u8::is_ascii_digit));
        words.collect::<Vec<_>>().join(&b' ')
    };
    map(frame, &|leaf| match leaf {
        Frame::Line(line) if line.starts_with(b":") => leaf.clone(),
        Frame::Line(line) => Frame::Line(cut(line)),
        Frame::Bulk(kind, body) => Frame::Bulk(*kind, cut(body)),
        other => other.clone(),
    })
}

/// Leaving all channels at once confirms them in the order of a hash table: in a run of such confirmations the names are sorted.
pub fn goodbyes(frames: &[Frame]) -> Vec<Frame> {
    let mut out: Vec<Frame> = frames.iter().map(inside).collect();
    let mut at = 0;
    while at < out.len() {
        let word = farewell(&out[at]);
        let len = out[at..].iter().take_while(|f| word.is_some() && farewell(f) == word).count();
        let mut names: Vec<Frame> = out[at..at + len].iter().map(|f| f.items()[1].clone()).collect();
        names.sort();
        for (frame, name) in out[at..at + len].iter_mut().zip(names) {
            if let Frame::Many(_, items) = frame {
                items[1] = name;
            }
        }
        at += len.max(1);
    }
    out
}

fn inside(frame: &Frame) -> Frame {
    match frame {
        Frame::Many(kind, items) => Frame::Many(*kind, goodbyes(items)),
        other => other.clone(),
    }
}

fn farewell(frame: &Frame) -> Option<String> {
    let items = frame.items();
    let word = items.first().map(Frame::text).filter(|word| word.ends_with("unsubscribe"))?;
    (items.len() == 3).then_some(word)
}
