//! Pipelines: every reply in order, every command seeing all earlier ones of its connection and never a later one.

use std::collections::HashMap;

use crate::support::{Client, Proxy, Reply, bulk, call, connect, ok, plain_stage, settle};

const CLIENTS: usize = 20;
const COMMANDS: usize = 500;
/// The longest batch sent at once; well below one read of a socket.
const BATCH: usize = 40;

/// What one client's keys hold: the oracle.
#[derive(Default)]
struct Model {
    texts: HashMap<String, String>,
    lists: HashMap<String, Vec<String>>,
    hashes: HashMap<String, HashMap<String, String>>,
}

impl Model {
    /// The next random command on one of `keys`, and the reply it must bring.
    fn next(&mut self, random: &mut fastrand::Rng, prefix: &str, serial: usize) -> (Vec<String>, Reply) {
        let n = random.u32(0..4);
        let (text, list, hash) = (format!("{prefix}t{n}"), format!("{prefix}l{n}"), format!("{prefix}h{n}"));
        let value = format!("v{serial}");
        let words = |w: &[&str]| w.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        match random.u32(0..14) {
            0..=3 => (words(&["GET", &text]), self.texts.get(&text).map_or(Reply::Nil, |v| bulk(v))),
            4 | 5 => {
                self.texts.insert(text.clone(), value.clone());
                (words(&["SET", &text, &value]), ok())
            }
            6 => {
                let old = self.texts.remove(&text);
                (words(&["DEL", &text]), Reply::Int(old.is_some().into()))
            }
            7 => {
                let entry = self.texts.entry(text.clone()).or_default();
                entry.push_str(&value);
                (words(&["APPEND", &text, &value]), Reply::Int(entry.len() as i64))
            }
            8 => {
                let entry = self.lists.entry(list.clone()).or_default();
                entry.push(value.clone());
                (words(&["RPUSH", &list, &value]), Reply::Int(entry.len() as i64))
            }
            9 => {
                let items = self.lists.get(&list).into_iter().flatten().map(|v| bulk(v)).collect();
                (words(&["LRANGE", &list, "0", "-1"]), Reply::Array(items))
            }
            10 => {
                let is_new = self.hashes.entry(hash.clone()).or_default().insert("f".into(), value.clone()).is_none();
                (words(&["HSET", &hash, "f", &value]), Reply::Int(is_new.into()))
            }
            11 => {
                let found = self.hashes.get(&hash).and_then(|h| h.get("f"));
                (words(&["HGET", &hash, "f"]), found.map_or(Reply::Nil, |v| bulk(v)))
            }
            12 => (
                words(&["GET", &list]),
                match self.lists.contains_key(&list) {
                    true => Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into()),
                    false => Reply::Nil,
                },
            ),
            _ => (words(&["PING", &value]), bulk(&value)),
        }
    }
}

/// Runs one client's share; `fresh` gives each batch keys of its own, so that what a replica does not have yet cannot matter.
fn run(mut client: Client, id: usize, fresh: bool) -> usize {
    let mut random = fastrand::Rng::with_seed(id as u64 + 1);
    let (mut model, mut sent, mut batches) = (Model::default(), 0, 0);
    while sent < COMMANDS {
        let depth = random.usize(1..=BATCH).min(COMMANDS - sent);
        let prefix = if fresh { format!("c{id}b{batches}") } else { format!("c{id}") };
        if fresh {
            model = Model::default();
        }
        let batch: Vec<_> = (0..depth).map(|n| model.next(&mut random, &prefix, sent + n)).collect();
        let commands: Vec<Vec<&str>> =
            batch.iter().map(|(words, _)| words.iter().map(String::as_str).collect()).collect();
        let replies = client.pipeline(&commands).unwrap_or_else(|e| panic!("client {id}, batch {batches}: {e}"));
        for (n, ((words, expected), reply)) in batch.iter().zip(&replies).enumerate() {
            assert_eq!(
                reply, expected,
                "client {id}, batch {batches} of {depth}, command {n}: {words:?} in {commands:?}"
            );
        }
        sent += depth;
        batches += 1;
    }
    sent
}

fn run_all(port: u16, fresh: bool) -> usize {
    let threads: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let client = connect(&format!("127.0.0.1:{port}"));
            std::thread::spawn(move || run(client, id, fresh))
        })
        .collect();
    threads.into_iter().map(|t| t.join().expect("every reply as the model says")).sum()
}

/// Else a difference would say nothing of redweir.
#[test]
fn the_model_is_right_about_a_direct_redis() {
    let stage = plain_stage(0);
    assert_eq!(run_all(stage.nodes[0].port, false), CLIENTS * COMMANDS);
    assert_eq!(run_all(stage.nodes[0].port, true), CLIENTS * COMMANDS);
}

#[test]
fn ten_thousand_mixed_commands_bring_every_reply_in_order_when_the_master_reads() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--read-policy", "master"]);
    assert_eq!(run_all(proxy.port, false), CLIENTS * COMMANDS);
}

#[test]
fn ten_thousand_mixed_commands_bring_every_reply_in_order_when_replicas_read() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    assert_eq!(run_all(proxy.port, true), CLIENTS * COMMANDS);
}

#[test]
fn ten_thousand_mixed_commands_survive_two_workers_and_any_node_reading() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--workers", "2", "--read-policy", "any"]);
    proxy.wait_readers(2);
    assert_eq!(run_all(proxy.port, true), CLIENTS * COMMANDS);
}

#[test]
fn a_read_behind_a_write_sees_it_and_a_read_before_a_write_does_not() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "SET k 0"), ok());
    for n in 1..=300 {
        settle_every(&mut stage, n);
        let (before, now) = ((n - 1).to_string(), n.to_string());
        let replies = client
            .pipeline(&[vec!["GET", "k"], vec!["SET", "k", &now], vec!["GET", "k"], vec!["STRLEN", "k"]])
            .expect("four replies");
        // The first read may be of a replica that is behind, but never sees the write that follows it.
        let seen: i64 = replies[0].text().parse().expect("a number");
        assert!(seen < n, "{seen} was read before {n} was written");
        if n % 10 == 0 {
            assert_eq!(replies[0], bulk(&before));
        }
        assert_eq!(replies[1..], [ok(), bulk(&now), Reply::Int(now.len() as i64)], "{n}");
    }
}

/// From time to time every replica has everything, so that the read before the write has one right answer.
fn settle_every(stage: &mut crate::support::Stage, n: i64) {
    if n % 10 == 0 {
        settle(stage, 0);
    }
}

#[test]
fn writes_of_one_pipeline_are_applied_in_their_order() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let numbers: Vec<String> = (0..5000).map(|n: u32| n.to_string()).collect();
    let commands: Vec<Vec<&str>> = numbers.iter().map(|n| vec!["RPUSH", "order", n]).collect();
    let lengths = client.pipeline(&commands).expect("all replies");
    assert_eq!(lengths, (1..=5000).map(Reply::Int).collect::<Vec<_>>());
    let mut master = stage.nodes[0].connect().expect("the master");
    let found: Vec<String> = call(&mut master, "LRANGE order 0 -1").items().iter().map(Reply::text).collect();
    assert_eq!(found, numbers);
}

#[test]
fn transactions_of_many_clients_never_mix() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let threads: Vec<_> = (0..10)
        .map(|id| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                let own = format!("own{id}");
                for n in 1..=50 {
                    let replies = client
                        .pipeline(&[
                            vec!["MULTI"],
                            vec!["INCR", "shared:a"],
                            vec!["INCR", "shared:b"],
                            vec!["INCR", &own],
                            vec!["EXEC"],
                        ])
                        .expect("five replies");
                    let queued = Reply::Status("QUEUED".into());
                    assert_eq!(replies[..4], [ok(), queued.clone(), queued.clone(), queued]);
                    let [a, b, own] = replies[4].items() else { panic!("{replies:?}") };
                    assert_eq!((a, own), (b, &Reply::Int(n)));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no client saw another's transaction"));
}
