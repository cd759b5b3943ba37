//! Sequences of several clients, drawn by seed and replayed step by step on both sides.
//!
//! REDWEIR_SEEDS: so many new ones (without it 1 to 100, the same every time). REDWEIR_SEED: this one alone. Half of the seeds read from replicas, half from the
//! master; half speak RESP3. A sequence that differs is cut down to the steps that it takes before it is shown.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::compare::{RESP2, RESP3, section};
use crate::known::{Difference, judge, list};
use crate::pair::Pair;
use crate::script::{Deed, Step, command, encode};

const SEEDS: u64 = 100;
const STEPS: usize = 120;
const CLIENTS: &[char] = &['A', 'B', 'C', 'D'];
/// For cutting a sequence down.
const PATIENCE: Duration = Duration::from_secs(30);

const KEYS: &[&str] = &["s1", "s2", "l1", "l2", "h1", "z1", "t1", "x1"];
const CHANNELS: &[&str] = &["c1", "c2", "c3"];

/// Plain commands: `K` any key, `S L H Z T X` a key of a type (often), `V` a small value, `N` a number, `C` a channel.
const PLAIN: &[&str] = &[
    "GET S",
    "GET S",
    "GET K",
    "SET S V",
    "SET S V",
    "SET S N",
    "APPEND S V",
    "INCR S",
    "INCRBY S N",
    "STRLEN S",
    "GETRANGE S 0 N",
    "SETRANGE S N V",
    "GETDEL S",
    "GETSET S V",
    "MGET S S K",
    "MSET S V S V",
    "SETNX S V",
    "SET S V NX GET",
    "DEL K",
    "UNLINK K K",
    "EXISTS K K",
    "TYPE K",
    "RENAME K K",
    "COPY K K",
    "PERSIST K",
    "EXPIRE K 1000",
    "TOUCH K",
    "OBJECT ENCODING K",
    "LPUSH L V",
    "RPUSH L V V",
    "LPOP L",
    "RPOP L 2",
    "LRANGE L 0 -1",
    "LLEN L",
    "LINDEX L N",
    "LMOVE L L LEFT RIGHT",
    "LREM L 0 V",
    "LINSERT L BEFORE V V",
    "LSET L N V",
    "LTRIM L 0 N",
    "LPOS L V",
    "RPOPLPUSH L L",
    "LMPOP 2 L L LEFT COUNT 2",
    "HSET H V V",
    "HGET H V",
    "HDEL H V",
    "HINCRBY H V N",
    "HEXISTS H V",
    "HLEN H",
    "HMGET H V V",
    "HSTRLEN H V",
    "SADD T V",
    "SREM T V",
    "SISMEMBER T V",
    "SCARD T",
    "SMISMEMBER T V V",
    "SINTERCARD 2 T T",
    "SUNIONSTORE T T T",
    "ZADD Z N V",
    "ZADD Z N V",
    "ZSCORE Z V",
    "ZRANGE Z 0 -1 WITHSCORES",
    "ZINCRBY Z N V",
    "ZPOPMIN Z",
    "ZRANK Z V",
    "ZCOUNT Z 0 N",
    "ZREM Z V",
    "ZCARD Z",
    "ZRANGESTORE Z Z 0 N",
    "ZUNION 2 Z Z WITHSCORES",
    "SORT L ALPHA",
    "SORT_RO T ALPHA",
    "XADD X * V V",
    "XLEN X",
    "XTRIM X MAXLEN N",
    "XRANGE X - +",
    "XREVRANGE X + - COUNT 1",
    "XREAD COUNT 1 STREAMS X 0",
    "PFADD S V",
    "PFCOUNT S",
    "SETBIT S N 1",
    "GETBIT S N",
    "BITCOUNT S",
    "BITFIELD S INCRBY u8 0 N",
    "PUBLISH C V",
    "PUBLISH C V",
    "PUBLISH C V",
    "SPUBLISH C V",
    "PUBSUB NUMSUB C C",
    "PUBSUB NUMPAT",
    "PING",
    "ECHO V",
    "DBSIZE",
    "NOSUCH V",
    "GET",
    "SET K",
    "LPUSH S V",
    "INCR L",
    "HGET Z V",
];
/// What changes the client's state, or waits.
const STATE: &[&str] = &[
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH K",
    "WATCH K K",
    "UNWATCH",
    "SELECT 0",
    "SELECT 1",
    "SELECT 2",
    "SELECT 99",
    "SUBSCRIBE C",
    "SUBSCRIBE C C",
    "UNSUBSCRIBE C",
    "UNSUBSCRIBE",
    "PSUBSCRIBE c*",
    "PUNSUBSCRIBE",
    "PUNSUBSCRIBE c*",
    "SSUBSCRIBE C",
    "SUNSUBSCRIBE C",
    "SUNSUBSCRIBE",
    "RESET",
    "HELLO 2",
    "HELLO 3",
    "HELLO",
    "CLIENT SETNAME V",
    "CLIENT GETNAME",
    "CLIENT KILL ID 999999",
    "CLIENT UNBLOCK 999999",
    "CLIENT LIST TYPE replica",
    "SWAPDB 0 1",
    "FLUSHDB",
    "BLPOP L 0",
    "BRPOP L L 0",
    "BLMOVE L L LEFT RIGHT 0",
    "BZPOPMIN Z 0",
    "BRPOPLPUSH L L 0",
    "BLMPOP 0 2 L L RIGHT",
    "BZMPOP 0 1 Z MAX",
    "XREAD BLOCK 0 STREAMS X $",
    "BLPOP L -1",
    "SCRIPT FLUSH",
    "EVAL return(redis.call('incr',KEYS[1])) 1 S",
    "EVAL return(redis.call('get',KEYS[1])) 1 S",
    "EVAL_RO return(redis.call('get',KEYS[1])) 1 K",
    "EVAL return(redis.call('rpush',KEYS[1],ARGV[1],ARGV[1])) 1 L V",
    "EVAL return(redis.call('publish',ARGV[1],ARGV[2])) 0 C V",
    "EVALSHA 4e6d8fc8bb01276962cce5371fa795a7763657ae 1 S",
    "EVALSHA_RO 4e6d8fc8bb01276962cce5371fa795a7763657ae 1 S",
    "EVAL #!lua_flags=no-writes\\nreturn(redis.call('get',KEYS[1])) 1 K",
];

/// The last of its write: what would wait behind it runs when it pleases.
const BLOCKING: &[&str] = &["BL", "BR", "BZ", "XREAD BLOCK"];

fn line(rng: &mut Rng, templates: &[&str]) -> String {
    let template = templates[rng.usize(..templates.len())];
    let words = template.split(' ').map(|word| {
        let of = |rng: &mut Rng, names: &[&str]| names[rng.usize(..names.len())].to_owned();
        match word {
            "K" => of(rng, KEYS),
            // One key in sixteen is of another type.
            "S" | "L" | "H" | "Z" | "T" | "X" if rng.u8(..16) == 0 => of(rng, KEYS),
            "S" => of(rng, &KEYS[0..2]),
            "L" => of(rng, &KEYS[2..4]),
            "H" => KEYS[4].to_owned(),
            "Z" => KEYS[5].to_owned(),
            "T" => KEYS[6].to_owned(),
            "X" => KEYS[7].to_owned(),
            "C" => of(rng, CHANNELS),
            // Larger than one read of a server, and than what redweir holds.
            "V" if rng.u8(..100) == 0 => "x".repeat(if rng.u8(..20) == 0 { 1_200_000 } else { 20_000 }),
            "V" => of(rng, &["a", "b", "c", "10", "\"\"", "\"x y\""]),
            "N" => of(rng, &["0", "1", "2", "7", "-1", "x"]),
            other if other.starts_with("#!lua_") => format!("\"{}\"", other.replace("lua_", "lua ")),
            other => other.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A sequence.
pub fn draw(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let place = format!("seed {seed}");
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let who = CLIENTS[rng.usize(..CLIENTS.len())];
        let mut lines = Vec::new();
        // A whole unit in one write, often; else a few commands, mostly one.
        if rng.u8(..8) == 0 {
            lines.push("MULTI".to_owned());
            (0..rng.usize(0..5)).for_each(|_| lines.push(line(&mut rng, PLAIN)));
            lines.push(if rng.u8(..8) == 0 { "DISCARD".into() } else { "EXEC".into() });
        }
        let more = if rng.bool() { 1 } else { rng.usize(1..8) };
        for _ in 0..more {
            let templates = if rng.u8(..4) == 0 { STATE } else { PLAIN };
            let line = line(&mut rng, templates);
            let blocks = BLOCKING.iter().any(|name| line.starts_with(name));
            lines.push(line);
            if blocks {
                break;
            }
        }
        let commands: Vec<_> = lines.iter().map(|l| command(l)).collect();
        let bytes: usize = commands.iter().map(|c| encode(c).len()).sum();
        let deed = match rng.u8(..32) {
            0 => Deed::Leave,
            1..8 => {
                let mut cuts = BTreeSet::new();
                (0..rng.usize(1..4)).for_each(|_| _ = cuts.insert(rng.usize(1..bytes)));
                Deed::Cut(commands, cuts.into_iter().collect())
            }
            _ => Deed::Send(commands),
        };
        let unless_blocked = !matches!(deed, Deed::Leave);
        steps.push(Step { place: place.clone(), who, deed, unless_blocked });
    }
    steps
}

fn resp(seed: u64) -> u8 {
    if seed.is_multiple_of(2) { RESP2 } else { RESP3 }
}

fn reads_at_master(seed: u64) -> bool {
    seed / 2 % 2 == 1
}

/// A shorter sequence that still differs.
fn cut_down(pair: &mut Pair, mut steps: Vec<Step>, resp: u8) -> Vec<Step> {
    let began = Instant::now();
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && began.elapsed() < PATIENCE {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match unknown(section(pair, &fewer, resp)).is_empty() {
                true => at += size,
                false => steps = fewer,
            }
        }
        size /= 2;
    }
    steps
}

fn unknown(differences: Vec<Difference>) -> Vec<Difference> {
    let known = list();
    differences.into_iter().filter(|d| !known.iter().any(|k| k.fits(d))).collect()
}

fn play(seeds: &[u64], flags: &[&str]) -> Vec<Difference> {
    let mut pair = Pair::start(flags);
    let mut all = Vec::new();
    for seed in seeds {
        let steps = draw(*seed);
        let differences = section(&mut pair, &steps, resp(*seed));
        let strange = unknown(differences);
        if strange.is_empty() {
            continue;
        }
        let short = cut_down(&mut pair, steps, resp(*seed));
        let lines: Vec<String> = short.iter().map(|s| format!("    {}> {}", s.who, s.line())).collect();
        let again = unknown(section(&mut pair, &short, resp(*seed)));
        let mut shown = if again.is_empty() { strange } else { again };
        if let Some(first) = shown.first_mut() {
            first.text += &format!("\n  replay: REDWEIR_SEED={seed}; cut down to:\n{}", lines.join("\n"));
        }
        all.extend(shown.into_iter().take(1));
    }
    all
}

#[test]
fn random_sequences_of_several_clients_get_the_direct_servers_replies() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("REDWEIR_SEED") {
        Some(seed) => vec![seed],
        None => match number("REDWEIR_SEEDS") {
            Some(count) => {
                let first = fastrand::u64(..1 << 40);
                (first..first + count).collect()
            }
            None => (1..=SEEDS).collect(),
        },
    };
    println!("seeds {seeds:?}");
    let (at_master, anywhere): (Vec<u64>, Vec<u64>) = seeds.iter().partition(|seed| reads_at_master(**seed));
    let mut differences = Vec::new();
    std::thread::scope(|scope| {
        let replica = scope.spawn(|| if anywhere.is_empty() { vec![] } else { play(&anywhere, &[]) });
        let master =
            scope.spawn(|| if at_master.is_empty() { vec![] } else { play(&at_master, &["--read-policy", "master"]) });
        differences.extend(replica.join().expect("both sides live"));
        differences.extend(master.join().expect("both sides live"));
    });
    judge("random sequences", seeds.len() * STEPS, &differences);
}
