//! Each command reaches a node that may answer it: seen on the nodes themselves, by what they counted.

use crate::support::{Counts, Proxy, Reply, Stage, call, connect, plain_stage, settle, wait};

/// How often each command is sent.
const TIMES: u64 = 4;

const SETUP: [&str; 10] = [
    "SET s value",
    "RPUSH l 3 1 2",
    "HSET h f v",
    "SADD set a b",
    "SADD set2 b c",
    "ZADD z 1 a 2 b",
    "XADD x 1-1 f v",
    "XGROUP CREATE x group 0",
    "GEOADD g 13 38 p",
    "PFADD hll a b",
];

/// Answered by replicas.
const READS: &[&str] = &[
    "GET s",
    "MGET s none",
    "STRLEN s",
    "GETRANGE s 0 1",
    "EXISTS s",
    "TYPE s",
    "TTL s",
    "PTTL s",
    "DUMP s",
    "BITCOUNT s",
    "BITPOS s 1",
    "GETBIT s 0",
    "BITFIELD_RO s GET u8 0",
    "LCS s s",
    "LRANGE l 0 -1",
    "LLEN l",
    "LINDEX l 0",
    "LPOS l 2",
    "SORT_RO l",
    "HGET h f",
    "HMGET h f",
    "HGETALL h",
    "HLEN h",
    "HKEYS h",
    "HVALS h",
    "HEXISTS h f",
    "HSTRLEN h f",
    "HRANDFIELD h",
    "SCARD set",
    "SISMEMBER set a",
    "SMISMEMBER set a b",
    "SMEMBERS set",
    "SRANDMEMBER set",
    "SINTER set set2",
    "SUNION set set2",
    "SDIFF set set2",
    "SINTERCARD 2 set set2",
    "ZRANGE z 0 -1",
    "ZSCORE z a",
    "ZMSCORE z a b",
    "ZCARD z",
    "ZCOUNT z 0 9",
    "ZRANK z a",
    "ZRANGEBYSCORE z 0 9",
    "ZRANGEBYLEX z - +",
    "ZUNION 1 z",
    "XLEN x",
    "XRANGE x - +",
    "XREAD COUNT 1 STREAMS x 0",
    "XINFO STREAM x",
    "GEOPOS g p",
    "GEODIST g p p",
    "GEOHASH g p",
    "GEOSEARCH g FROMMEMBER p BYRADIUS 1 km",
    "GEORADIUS_RO g 13 38 10 km",
    "PFCOUNT hll",
    "KEYS *",
    "RANDOMKEY",
    "EVAL_RO return(redis.call('GET',KEYS[1])) 1 s",
];

/// Answered by the master, and not replicated: no other node may count them.
const MASTER_READS: &[&str] = &[
    "TOUCH s",
    "SCAN 0",
    "HSCAN h 0",
    "SSCAN set 0",
    "ZSCAN z 0",
    "OBJECT ENCODING s",
    "OBJECT REFCOUNT s",
    "MEMORY USAGE s",
    "XPENDING x group - + 5",
    "XINFO CONSUMERS x group",
    "XINFO GROUPS x",
    "DBSIZE",
    "PUBSUB CHANNELS",
    "TIME",
    "LASTSAVE",
    "EVAL return(1) 0",
    "EVAL #!lua\nreturn(1) 0",
    "SCRIPT EXISTS ffffffffffffffffffffffffffffffffffffffff",
    "SORT l",
    "GEORADIUS g 13 38 10 km",
    "BITFIELD s GET u8 0",
];

/// Executed by the master; what the others count is replication.
const WRITES: &[&str] = &[
    "SET w 1",
    "INCR w",
    "APPEND w 2",
    "GETSET w 3",
    "GETEX w PERSIST",
    "SETRANGE w 0 4",
    "EXPIRE w 1000",
    "COPY w w2 REPLACE",
    "MSET w 1 w2 2",
    "SETNX w3 1",
    "LPUSH wl a b c d e f g h",
    "LMOVE wl wl LEFT RIGHT",
    "RPOP wl",
    "LPOP wl",
    "HSET wh f 1",
    "HINCRBY wh f 1",
    "SADD ws a b c d e f g h",
    "SPOP ws",
    "ZADD wz 1 a 2 b 3 c 4 d 5 e 6 f",
    "ZINCRBY wz 1 a",
    "ZPOPMIN wz",
    "PFADD whll a",
    "XADD wx * f v",
    "SETBIT wb 1 1",
    "SINTERSTORE d set set2",
    "SUNIONSTORE d set set2",
    "SDIFFSTORE d set set2",
    "ZRANGESTORE d z 0 -1",
    "ZUNIONSTORE d 1 z",
    "GEOSEARCHSTORE d g FROMMEMBER p BYRADIUS 1 km",
    "SORT l STORE d",
    "PFMERGE d2 hll",
    "BITOP NOT d3 s",
    "PUBLISH channel message",
    "DEL w",
    "UNLINK w2",
    "EVAL redis.call('SET',KEYS[1],1) 1 w4",
];

/// The name under which a node counts the command.
fn counted_as(line: &str) -> String {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default().to_lowercase();
    match name.as_str() {
        "object" | "memory" | "xinfo" | "pubsub" | "script" => {
            format!("{name}|{}", words.next().unwrap_or_default().to_lowercase())
        }
        _ => name,
    }
}

fn filled(replicas: usize) -> Stage {
    let mut stage = plain_stage(replicas);
    let mut master = stage.nodes[0].connect().expect("the master");
    for line in SETUP {
        let reply = call(&mut master, line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    settle(&mut stage, 0);
    stage
}

/// Sends `line` several times and returns what the nodes counted.
fn count(stage: &Stage, proxy: &Proxy, line: &str) -> Counts {
    Counts::reset(stage);
    let mut client = proxy.client();
    for _ in 0..TIMES {
        // Arguments may hold a line end, never a space.
        let args: Vec<&str> = line.split(' ').collect();
        let reply = client.call(&args).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    Counts::read(stage)
}

#[test]
fn reads_are_answered_by_replicas_only() {
    let stage = filled(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    for line in READS {
        let (counts, name) = (count(&stage, &proxy, line), counted_as(line));
        assert_eq!((counts.on(0, &name), counts.elsewhere(0, &name)), (0, TIMES), "{line}");
    }
}

#[test]
fn what_depends_on_the_node_is_answered_by_the_master_only() {
    let stage = filled(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    for line in MASTER_READS {
        let (counts, name) = (count(&stage, &proxy, line), counted_as(line));
        assert_eq!((counts.on(0, &name), counts.elsewhere(0, &name)), (TIMES, 0), "{line}");
    }
}

#[test]
fn writes_are_executed_by_the_master_and_never_tried_elsewhere() {
    let stage = filled(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    for line in WRITES {
        let (counts, name) = (count(&stage, &proxy, line), counted_as(line));
        assert_eq!((counts.on(0, &name), counts.refused_elsewhere(0, &name)), (TIMES, 0), "{line}");
    }
}

#[test]
fn publish_reports_the_subscribers_of_the_master() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut subscriber = proxy.client();
    call(&mut subscriber, "SUBSCRIBE news");
    let mut client = proxy.client();
    for n in 0..20 {
        assert_eq!(call(&mut client, &format!("PUBLISH news {n}")), Reply::Int(1));
        let message = subscriber.read().expect("the message");
        assert_eq!(message.items().last().map(Reply::text), Some(n.to_string()));
    }
}

#[test]
fn a_name_that_nobody_knows_gets_the_masters_own_error() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    let errors = |node: usize| {
        let text = call(&mut stage.nodes[node].connect().expect("a node"), "INFO errorstats").text();
        let line = text.lines().find_map(|l| l.strip_prefix("errorstat_ERR:count=")?.parse::<u64>().ok());
        line.unwrap_or(0)
    };
    Counts::reset(&stage);
    let mut client = proxy.client();
    for _ in 0..TIMES {
        let reply = call(&mut client, "NOSUCH thing");
        assert_eq!(reply.text(), "ERR unknown command 'NOSUCH', with args beginning with: 'thing' ");
    }
    assert_eq!((errors(0), errors(1), errors(2)), (TIMES, 0, 0));
}

#[test]
fn role_and_info_show_a_master() {
    let stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(call(&mut client, "ROLE").items().first().map(Reply::text), Some("master".into()));
        assert!(call(&mut client, "INFO replication").text().contains("role:master"));
    }
}

#[test]
fn each_read_policy_reads_where_it_says() {
    // Policy, whether the master may be read from, whether replicas may be.
    let table = [
        ("replica", false, true),
        ("prefer-replica", false, true),
        ("any", true, true),
        ("prefer-master", true, false),
        ("master", true, false),
    ];
    let stage = filled(2);
    for (policy, master, replicas) in table {
        let proxy = Proxy::start(&stage, &["--read-policy", policy]);
        proxy.wait_readers(2);
        Counts::reset(&stage);
        let mut client = proxy.client();
        for _ in 0..200 {
            assert_eq!(call(&mut client, "GET s").text(), "value");
        }
        let counts = Counts::read(&stage);
        let (on_master, on_replicas) = (counts.on(0, "get"), counts.elsewhere(0, "get"));
        assert_eq!((on_master > 0, on_replicas > 0, on_master + on_replicas), (master, replicas, 200), "{policy}");
    }
}

#[test]
fn every_balancer_gives_each_replica_its_part() {
    let stage = filled(3);
    for balancer in ["least-in-flight", "round-robin", "random", "peak-ewma"] {
        let proxy = Proxy::start(&stage, &["--balancer", balancer]);
        proxy.wait_readers(3);
        Counts::reset(&stage);
        let mut client = proxy.client();
        let (mut asked, mut parts) = (0, vec![0; 3]);
        // A replica that hiccups once is left alone by peak-ewma for a while, so not every 300 reads are spread evenly.
        while asked < 300 || (parts.iter().any(|n| *n <= 15) && asked < 30_000) {
            for _ in 0..300 {
                assert_eq!(call(&mut client, "GET s").text(), "value");
            }
            asked += 300;
            let counts = Counts::read(&stage);
            parts = (1..=3).map(|n| counts.on(n, "get")).collect();
        }
        assert_eq!(parts.iter().sum::<u64>(), asked, "{balancer}: {parts:?}");
        assert!(parts.iter().all(|n| *n > 15), "{balancer}: {parts:?}");
        if balancer != "peak-ewma" {
            // One in 20 or fewer would be chance of less than 1 in 10^12 for an even spread.
            assert_eq!(asked, 300, "{balancer}: {parts:?}");
        }
    }
}

#[test]
fn a_crowd_s_reads_reach_each_replica_too() {
    let stage = filled(3);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(3);
    Counts::reset(&stage);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..300 {
                    assert_eq!(call(&mut client, "GET s").text(), "value");
                }
            });
        }
    });
    let counts = Counts::read(&stage);
    let parts: Vec<u64> = (1..=3).map(|n| counts.on(n, "get")).collect();
    assert_eq!(parts.iter().sum::<u64>(), 9_000, "{parts:?}");
    assert!(parts.iter().all(|n| *n > 900), "{parts:?}");
}

#[test]
fn weights_are_kept_by_clients_that_read_at_once() {
    let stage = filled(3);
    let weight = format!("{}=20", stage.nodes[1].address());
    for level in ["session", "eventual"] {
        let flags = ["--node-weight", &weight, "--balancer", "round-robin", "--workers", "1", "--consistency", level];
        let proxy = Proxy::start(&stage, &flags);
        proxy.wait_readers(3);
        Counts::reset(&stage);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    (0..550).for_each(|_| assert_eq!(call(&mut client, "GET s").text(), "value"));
                });
            }
        });
        let counts = Counts::read(&stage);
        let parts: Vec<u64> = (1..=3).map(|n| counts.on(n, "get")).collect();
        assert_eq!(parts.iter().sum::<u64>(), 4_400, "{parts:?}");
        // 200 of 4,400 each.
        assert!(parts[1..].iter().all(|n| (100..=300).contains(n)), "{level}: {parts:?}");
    }
}

#[test]
fn a_weight_of_nothing_takes_a_replica_out_of_the_reads() {
    let stage = filled(2);
    let weight = format!("{}=0", stage.nodes[1].address());
    let proxy = Proxy::start(&stage, &["--node-weight", &weight]);
    wait("the other replica", || {
        let body = proxy.nodes();
        let found = body.iter().any(|n| n["address"] == stage.nodes[2].address() && n["in_rotation"] == true);
        if found { Ok(()) } else { Err(format!("{body:?}")) }
    });
    Counts::reset(&stage);
    let mut client = proxy.client();
    for _ in 0..50 {
        call(&mut client, "GET s");
    }
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(0, "get"), counts.on(1, "get"), counts.on(2, "get")), (0, 0, 50));
}

#[test]
fn replicas_of_the_own_zone_are_read_from_first_and_those_of_another_when_they_are_gone() {
    let mut stage = filled(2);
    let zones = format!("{}=near,{}=far", stage.nodes[1].address(), stage.nodes[2].address());
    let proxy = Proxy::start(&stage, &["--zone", "near", "--node-zone", &zones]);
    proxy.wait_readers(2);
    let read = |stage: &Stage, by: usize| {
        Counts::reset(stage);
        let mut client = proxy.client();
        for _ in 0..50 {
            assert_eq!(call(&mut client, "GET s").text(), "value");
        }
        let counts = Counts::read(stage);
        assert_eq!((counts.on(by, "get"), counts.elsewhere(by, "get")), (50, 0));
    };
    read(&stage, 1);
    // Its data is gone from the reads, the process stays.
    call(&mut connect(&stage.nodes[1].address()), "REPLICAOF 127.0.0.1 1");
    proxy.wait_readers(1);
    read(&stage, 2);
    let master = stage.nodes[0].port;
    call(&mut connect(&stage.nodes[1].address()), &format!("REPLICAOF 127.0.0.1 {master}"));
    proxy.wait_readers(2);
    settle(&mut stage, 0);
    read(&stage, 1);
}

#[test]
fn without_a_replica_reads_go_to_the_master_unless_the_policy_forbids_it() {
    let mut stage = filled(1);
    let prefer = Proxy::start(&stage, &[]);
    let strict = Proxy::start(&stage, &["--read-policy", "replica"]);
    stage.nodes[1].kill();
    prefer.wait_readers(0);
    strict.wait_readers(0);
    let mut master = connect(&stage.nodes[0].address());
    call(&mut master, "CONFIG RESETSTAT");
    assert_eq!(call(&mut prefer.client(), "GET s").text(), "value");
    assert!(call(&mut strict.client(), "GET s").is_error());
    let text = call(&mut master, "INFO commandstats").text();
    assert!(text.contains("cmdstat_get:calls=1,"), "{text}");
}

#[test]
fn a_replica_that_does_not_follow_its_master_is_not_read_from() {
    let stage = filled(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    // A master that nobody answers at: the link goes down, the data stays.
    call(&mut connect(&stage.nodes[1].address()), "REPLICAOF 127.0.0.1 1");
    proxy.wait_readers(1);
    Counts::reset(&stage);
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(call(&mut client, "GET s").text(), "value");
    }
    let counts = Counts::read(&stage);
    assert_eq!((counts.on(1, "get"), counts.on(2, "get")), (0, 50));
}
