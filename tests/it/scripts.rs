//! A script that was seen once can be called by its SHA-1 wherever it then runs; SCRIPT speaks for all nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use crate::support::{
    Client, Counts, Plan, Proxy, Reply, Stage, bulk, call, connect, ok, plain_stage, stage, turn, wait,
};

/// Counts calls by its own argument, so that one executed twice shows.
const COUNTING: &str = "return redis.call('INCR', KEYS[1])";
const READING: &str = "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])";

#[track_caller]
fn load(client: &mut Client, body: &str) -> String {
    let sha = client.call(&["SCRIPT", "LOAD", body]).expect("alive");
    assert!(!sha.is_error(), "{sha:?}");
    sha.text()
}

fn exists(client: &mut Client, sha: &str) -> Option<i64> {
    client.call(&["SCRIPT", "EXISTS", sha]).expect("alive").items().first().and_then(Reply::int)
}

#[track_caller]
fn flush_behind_redweir(stage: &Stage) {
    for node in stage.nodes.iter() {
        if let Ok(mut client) = node.connect() {
            assert_eq!(call(&mut client, "SCRIPT FLUSH"), ok());
        }
    }
}

/// Clients that call a script by its SHA-1 without a pause.
struct Callers {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Callers {
    fn start(proxy: &Proxy, script: &[&str], keys: &[&str]) -> Callers {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let address = format!("127.0.0.1:{}", proxy.port);
        let threads = keys.iter().map(|key| {
            let (stop, calls, address) = (Arc::clone(&stop), Arc::clone(&calls), address.clone());
            let line: Vec<String> = script.iter().copied().chain(["1", key]).map(str::to_owned).collect();
            std::thread::spawn(move || {
                let mut errors = BTreeMap::new();
                let mut client = connect(&address);
                let line: Vec<&str> = line.iter().map(String::as_str).collect();
                while !stop.load(Relaxed) {
                    match client.call(&line) {
                        Ok(Reply::Error(text)) => *errors.entry(text).or_default() += 1,
                        Ok(_) => _ = calls.fetch_add(1, Relaxed),
                        // It was on the wire when the master died: a direct connection would have broken, too.
                        Err(_) => client = connect(&address),
                    }
                }
                errors
            })
        });
        let threads = threads.collect();
        Callers { stop, calls, threads }
    }

    #[track_caller]
    fn more(&self, n: u64) {
        let before = self.calls.load(Relaxed);
        wait("more calls", || match self.calls.load(Relaxed) - before {
            done if done >= n => Ok(()),
            done => Err(format!("{done} of {n}")),
        });
    }

    /// Every error any of them got.
    fn finish(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Relaxed);
        let mut all = BTreeMap::new();
        for errors in self.threads.into_iter().map(|thread| thread.join().expect("a caller")) {
            for (text, n) in errors {
                *all.entry(text).or_default() += n;
            }
        }
        all
    }
}

#[test]
fn a_call_by_sha1_never_ends_in_noscript_through_flushes_and_a_killed_master() {
    let _turn = turn();
    let mut stage = stage(Plan { replicas: 2, ..Plan::default() });
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    let sha = load(&mut client, COUNTING);
    let reading = load(&mut client, READING);
    let writers = Callers::start(&proxy, &["EVALSHA", &sha], &["a", "b", "c"]);
    let readers = Callers::start(&proxy, &["EVALSHA_RO", &reading], &["a", "b"]);
    for _ in 0..5 {
        writers.more(20);
        readers.more(20);
        flush_behind_redweir(&stage);
    }
    writers.more(20);
    readers.more(20);
    let old = stage.nodes[0].address();
    stage.nodes[0].kill();
    wait("another master", || match proxy.set()["shards"][0]["master"].as_str() {
        Some(new) if new != old => Ok(()),
        other => Err(format!("{other:?}")),
    });
    writers.more(50);
    readers.more(50);
    flush_behind_redweir(&stage);
    writers.more(50);
    readers.more(50);
    assert_eq!((writers.finish(), readers.finish()), Default::default());
    assert!(proxy.metric("redweir_scripts_missing_total", &[]) >= 7.0);
}

#[test]
fn a_body_seen_in_eval_can_be_called_by_its_sha1_after_a_flush() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    assert_eq!(client.call(&["EVAL", COUNTING, "1", "k"]).expect("alive").int(), Some(1));
    let sha = load(&mut stage.nodes[1].connect().expect("a replica"), COUNTING);
    flush_behind_redweir(&stage);
    assert_eq!(client.call(&["EVALSHA", &sha.to_uppercase(), "1", "k"]).expect("alive").int(), Some(2));
    // In a pipeline, behind what must come first and before what must not.
    flush_behind_redweir(&stage);
    let evalsha = vec!["EVALSHA", &*sha, "1", "k"];
    let replies = client.pipeline(&[vec!["GET", "k"], evalsha.clone(), vec!["GET", "k"], evalsha]).expect("alive");
    assert_eq!(replies, [bulk("2"), Reply::Int(3), bulk("3"), Reply::Int(4)]);
    // Nobody hears of the try that failed.
    assert_eq!(call(&mut stage.nodes[0].connect().expect("the master"), "GET k"), bulk("4"));
}

/// To node 1, which has no scripts, as after a restart.
#[track_caller]
fn switch_to_one_without_scripts(stage: &mut Stage, proxy: &Proxy) {
    assert_eq!(call(&mut stage.nodes[1].connect().expect("the replica"), "SCRIPT FLUSH"), ok());
    crate::support::settle(stage, 0);
    let port = stage.nodes[1].port;
    call(&mut stage.nodes[0].connect().expect("the master"), &format!("FAILOVER TO 127.0.0.1 {port}"));
    let new = stage.nodes[1].address();
    wait("the new master", || match proxy.set()["shards"][0]["master"].as_str() {
        Some(found) if found == new => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_call_in_a_pipeline_with_writes_finds_its_script_at_a_new_master() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    let sha = load(&mut client, COUNTING);
    let lines = [vec!["EVALSHA", &*sha, "1", "k"], vec!["SET", "x", "1"], vec!["EVALSHA", &*sha, "1", "k"]];
    let replies = |n| [Reply::Int(n), ok(), Reply::Int(n + 1)];
    assert_eq!(client.pipeline(&lines).expect("alive"), replies(1));
    switch_to_one_without_scripts(&mut stage, &proxy);
    // Whatever was executed behind a refused call would make the refusal final.
    assert_eq!(client.pipeline(&lines).expect("alive"), replies(3));
    assert_eq!(proxy.metric("redweir_scripts_missing_total", &[]), 0.0);
}

#[test]
fn a_call_within_a_transaction_typed_step_by_step_finds_its_script_at_a_new_master() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    let sha = load(&mut client, COUNTING);
    let evalsha = ["EVALSHA", &sha, "1", "k"];
    assert_eq!(client.call(&evalsha).expect("alive"), Reply::Int(1));
    switch_to_one_without_scripts(&mut stage, &proxy);
    assert_eq!(call(&mut client, "WATCH k"), ok());
    assert_eq!(call(&mut client, "MULTI"), ok());
    assert_eq!(client.call(&evalsha).expect("alive").text(), "QUEUED");
    assert_eq!(call(&mut client, "EXEC"), Reply::Array(vec![Reply::Int(2)]));
}

#[test]
fn a_call_within_a_transaction_finds_its_script_wherever_it_runs() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    for body in [COUNTING, READING] {
        let sha = load(&mut client, body);
        // What the replica and a connection yet to be made do not have.
        assert!(!client.call(&["EVALSHA", &sha, "1", "k"]).expect("alive").is_error());
        flush_behind_redweir(&stage);
        call(&mut stage.nodes[0].connect().expect("the master"), "CLIENT KILL TYPE normal SKIPME yes");
        let unit = [vec!["MULTI"], vec!["EVALSHA", &*sha, "1", "k"], vec!["EXEC"]];
        let replies = client.pipeline(&unit).expect("alive");
        assert!(replies[2].items().len() == 1 && !replies[2].items()[0].is_error(), "{replies:?}");
    }
}

#[test]
fn a_script_nobody_has_seen_gets_the_nodes_own_error_and_disturbs_nobody() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let call = |client: &mut Client| client.call(&["EVALSHA", &"0".repeat(40), "0"]).expect("alive");
    let theirs = call(&mut stage.nodes[0].connect().expect("the master"));
    let before = proxy.metric("redweir_upstream_connects_total", &[]);
    for _ in 0..20 {
        assert_eq!(call(&mut client), theirs);
    }
    assert!(proxy.metric("redweir_upstream_connects_total", &[]) <= before + 1.0, "the shared connection goes on");
}

#[test]
fn a_script_that_says_noscript_by_itself_is_executed_once() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let body = "redis.call('INCR', 'n') return redis.error_reply('NOSCRIPT No matching script. Please use EVAL.')";
    let sha = load(&mut client, body);
    assert!(client.call(&["EVALSHA", &sha, "0"]).expect("alive").is_error());
    assert_eq!(call(&mut client, "GET n"), bulk("1"));
    // And yet it is brought where it is missing: executed once, then, as a direct node would that has it.
    flush_behind_redweir(&stage);
    assert!(client.call(&["EVALSHA", &sha, "0"]).expect("alive").is_error());
    assert_eq!(call(&mut client, "GET n"), bulk("2"));
}

#[test]
fn a_reply_left_out_stays_left_out_when_its_script_had_to_be_brought() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let sha = load(&mut client, COUNTING);
    flush_behind_redweir(&stage);
    let lines: [&[&str]; 3] = [&["CLIENT", "REPLY", "SKIP"], &["EVALSHA", &sha, "1", "k"], &["GET", "k"]];
    for line in lines {
        let words: Vec<&[u8]> = line.iter().map(|w| w.as_bytes()).collect();
        client.send(&redweir::demo::client::encode(&words)).expect("sent");
    }
    assert_eq!(client.read().expect("alive"), bulk("1"));
}

#[test]
fn a_script_that_declares_no_writes_is_called_on_replicas() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    call(&mut client, "SET k v");
    crate::support::settle(&mut stage, 0);
    // One that has written reads at the master until its replica is known to have it.
    let mut client = proxy.client();
    let sha = load(&mut client, READING);
    Counts::reset(&stage);
    for command in ["EVALSHA", "EVALSHA_RO"] {
        for _ in 0..5 {
            assert_eq!(client.call(&[command, &sha, "1", "k"]).expect("alive"), bulk("v"), "{command}");
        }
    }
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(1, "evalsha"), counts.on(1, "evalsha_ro")), (5, 5));
    assert_eq!((counts.on(0, "evalsha"), counts.on(0, "evalsha_ro")), (0, 0));
}

#[test]
fn script_speaks_for_every_node() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    let sha = load(&mut client, COUNTING);
    let on_nodes = |stage: &Stage| -> Vec<_> {
        stage.nodes.iter().map(|n| exists(&mut n.connect().expect("a node"), &sha)).collect()
    };
    assert_eq!(on_nodes(&stage), [Some(1); 3]);
    flush_behind_redweir(&stage);
    assert_eq!(exists(&mut client, &sha), Some(1), "it can be had");
    let nobodys = "1".repeat(40);
    let reply = client.call(&["SCRIPT", "EXISTS", &nobodys, &sha, &nobodys]).expect("alive");
    assert_eq!(reply, Reply::Array(vec![Reply::Int(0), Reply::Int(1), Reply::Int(0)]));
    assert_eq!(client.call(&["SCRIPT", "LOAD", COUNTING]).expect("alive").text(), sha);
    assert_eq!(call(&mut client, "SCRIPT FLUSH"), ok());
    assert_eq!(on_nodes(&stage), [Some(0); 3]);
    assert_eq!(exists(&mut client, &sha), Some(0), "flushed is flushed");
    assert!(client.call(&["EVALSHA", &sha, "1", "k"]).expect("alive").text().starts_with("NOSCRIPT"));
    // A body no node compiles never exists.
    assert!(client.call(&["EVAL", "return nonsense(", "0"]).expect("alive").is_error());
    assert!(client.call(&["SCRIPT", "LOAD", "return nonsense("]).expect("alive").is_error());
}

#[test]
fn functions_are_the_sets_and_a_reading_one_runs_on_replicas() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    let library = "#!lua name=lib\nredis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)\n\
        redis.register_function{function_name='take', callback=function(k) return redis.call('GET', k[1]) end, flags={'no-writes'}}";
    assert_eq!(client.call(&["FUNCTION", "LOAD", library]).expect("alive").text(), "lib");
    assert_eq!(call(&mut client, "FCALL put 1 k v"), ok());
    crate::support::settle(&mut stage, 0);
    let mut client = proxy.client();
    Counts::reset(&stage);
    for _ in 0..5 {
        assert_eq!(call(&mut client, "FCALL_RO take 1 k"), bulk("v"));
    }
    assert_eq!(Counts::read(&stage).on(1, "fcall_ro"), 5);
    assert_eq!(call(&mut client, "FUNCTION LIST").items().len(), 1);
    assert_eq!(call(&mut client, "FUNCTION DELETE lib"), ok());
    crate::support::settle(&mut stage, 0);
    for node in &stage.nodes {
        assert_eq!(call(&mut node.connect().expect("a node"), "FUNCTION LIST"), Reply::Array(Vec::new()));
    }
}

#[test]
fn a_running_script_is_killed_wherever_it_runs() {
    let extra = vec!["lua-time-limit 50".to_owned()];
    let stage = crate::support::stage(Plan { replicas: 1, sentinels: 0, extra, ..Plan::default() });
    // A node that runs a script for long looks dead to a probe: here that is not the question.
    let proxy = Proxy::start(&stage, &["--down-after", "30s"]);
    proxy.wait_readers(1);
    let mut killer = proxy.client();
    let nobody = call(&mut killer, "SCRIPT KILL");
    assert!(nobody.text().starts_with("NOTBUSY"), "{nobody:?}");
    assert_eq!(call(&mut killer, "FUNCTION KILL"), nobody);
    for command in ["EVAL", "EVAL_RO"] {
        let mut busy = proxy.client();
        let words: Vec<&[u8]> = vec![command.as_bytes(), b"while true do end", b"0"];
        busy.send(&redweir::demo::client::encode(&words)).expect("sent");
        let mut killed = None;
        wait("the kill", || {
            let reply = call(&mut killer, "SCRIPT KILL");
            killed = Some(reply.clone());
            if reply == ok() { Ok(()) } else { Err(format!("{reply:?}")) }
        });
        assert_eq!(killed, Some(ok()), "{command}");
        let reply = busy.read().expect("alive");
        assert!(reply.text().contains("killed"), "{command}: {reply:?}");
    }
}

#[test]
fn a_script_longer_than_down_after_keeps_its_caller_where_its_node_says_busy_before() {
    let extra = vec!["lua-time-limit 50".to_owned()];
    let stage = crate::support::stage(Plan { replicas: 1, sentinels: 0, extra, ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--down-after", "1s"]);
    proxy.wait_readers(1);
    let long = "local function now() return tonumber(redis.call('TIME')[1]) end local began = now() \
                while now() - began < 4 do end return redis.call('INCR', 'n')";
    for (line, n) in [(vec!["PING"], 1), (vec!["WATCH", "k"], 2)] {
        let mut caller = proxy.client();
        assert!(!caller.call(&line).expect("alive").is_error());
        assert_eq!(caller.call(&["EVAL", long, "0"]).expect("not cut off"), Reply::Int(n), "{line:?}");
    }
    assert_eq!(call(&mut proxy.client(), "GET n"), bulk("2"));
}

const REFUSALS: [&str; 4] = [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: x, on @user_script:1.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
];

/// The text comes by an argument, so no look at the body finds it.
const PRETENDING: &str = "redis.call('INCR', KEYS[1]) return redis.error_reply(ARGV[1])";

#[test]
fn a_script_that_answers_as_a_node_that_refuses_is_executed_once_and_so_is_what_comes_behind_it() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut admin = proxy.client();
    let library = "#!lua name=l\nredis.register_function('f', function(keys, args) redis.call('INCR', keys[1]) \
                   return redis.error_reply(args[1]) end)";
    assert_eq!(admin.call(&["FUNCTION", "LOAD", library]).expect("alive"), bulk("l"));
    let sha = load(&mut admin, PRETENDING);
    // One who may not ask a node what it is, either.
    assert_eq!(call(&mut admin, "ACL SETUSER ann on >secret ~* &* +@all -role -client|list"), ok());
    for (user, pinned) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut client = proxy.client();
        if user {
            assert_eq!(call(&mut client, "AUTH ann secret"), ok());
        }
        if pinned {
            call(&mut client, "HELLO 3");
            call(&mut client, "SUBSCRIBE a");
        }
        for text in REFUSALS {
            call(&mut admin, "DEL n m");
            let error = Reply::Error(text.into());
            let script = vec!["EVAL", PRETENDING, "1", "n", text];
            let by_sha = vec!["EVALSHA", &sha, "1", "n", text];
            let function = vec!["FCALL", "f", "1", "n", text];
            assert_eq!(
                client.pipeline(std::slice::from_ref(&script)).expect("alive"),
                std::slice::from_ref(&error),
                "{text}"
            );
            let lines =
                [vec!["INCR", "m"], script, vec!["GET", "n"], by_sha, function, vec!["INCR", "m"], vec!["GET", "n"]];
            let replies = client.pipeline(&lines).expect("alive");
            let (e, n) = (error, |n: &str| bulk(n));
            assert_eq!(replies, [Reply::Int(1), e.clone(), n("2"), e.clone(), e, Reply::Int(2), n("4")], "{text}");
            assert_eq!(call(&mut admin, "MGET n m").items(), [bulk("4"), bulk("2")], "{text}");
        }
    }
}

#[test]
fn scripts_and_functions_that_a_former_master_refused_are_executed_once_at_the_new_one() {
    let _turn = turn();
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut admin = proxy.client();
    let library = "#!lua name=l\nredis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)";
    assert_eq!(admin.call(&["FUNCTION", "LOAD", library]).expect("alive"), bulk("l"));
    let scripts: [&[&str]; 3] =
        [&["EVAL", COUNTING], &["EVAL", "#!lua\nreturn redis.call('INCR', KEYS[1])"], &["FCALL", "f"]];
    let callers: Vec<Callers> =
        scripts.iter().zip(["a", "b", "c"]).map(|(script, key)| Callers::start(&proxy, script, &[key])).collect();
    for round in 0..4 {
        callers.iter().for_each(|callers| callers.more(50));
        let (old, new) = (round % 2, 1 - round % 2);
        let port = stage.nodes[new].port;
        crate::support::settle(&mut stage, old);
        wait("the failover to begin", || {
            match call(&mut stage.nodes[old].connect().expect("a node"), &format!("FAILOVER TO 127.0.0.1 {port}")) {
                reply if reply.is_error() => Err(reply.text()),
                _ => Ok(()),
            }
        });
        wait("the new master", || match stage.info(new, "role")?.as_str() {
            "master" => Ok(()),
            role => Err(role.to_owned()),
        });
    }
    callers.iter().for_each(|callers| callers.more(50));
    for (callers, key) in callers.into_iter().zip(["a", "b", "c"]) {
        let calls = Arc::clone(&callers.calls);
        assert_eq!(callers.finish(), BTreeMap::new(), "no error");
        assert_eq!(call(&mut admin, &format!("GET {key}")).int(), Some(calls.load(Relaxed) as i64), "each once");
    }
}
