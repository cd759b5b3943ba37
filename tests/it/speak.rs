//! redweir speaks as one direct Redis would, byte for byte: the same script sent to both must bring the same answer.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Proxy, Reply, Stage, call, connect, ok, plain_stage, raw, settle, wait};

/// Name, and the writes it is sent in.
type Script = (&'static str, Vec<Vec<u8>>);

fn one(name: &'static str, bytes: impl AsRef<[u8]>) -> Script {
    (name, vec![bytes.as_ref().to_vec()])
}

/// Scripts of text: sent as they stand.
const TEXTS: &[(&str, &str)] = &[
    ("an array", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
    ("inline", "PING\r\n"),
    ("inline without a carriage return", "PING\nPING\n"),
    ("inline with blanks", "  PING   \r\n"),
    ("inline values", "SET a b\r\nGET a\r\n"),
    ("inline double quotes", "SET a \"hello \\x41\\n\\\"world\\\"\"\r\nGET a\r\n"),
    ("inline single quotes", "SET a 'it\\'s \\x41'\r\nGET a\r\n"),
    ("inline empty value", "SET a \"\"\r\nGET a\r\n"),
    ("empty lines", "\r\n\r\nPING\r\n\r\n"),
    ("empty arrays", "*0\r\n*-1\r\nPING\r\n*0\r\n"),
    ("mixed framing", "PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n"),
    ("unbalanced quotes", "SET a \"foo\r\nPING\r\n"),
    ("text after a quote", "SET a \"foo\"bar\r\n"),
    ("no dollar", "*1\r\n!4\r\nPING\r\n"),
    ("an integer for a bulk", "*1\r\n:4\r\n"),
    ("negative bulk length", "*2\r\n$3\r\nGET\r\n$-1\r\n"),
    ("bulk length of letters", "*1\r\n$abc\r\n"),
    ("bulk length of nothing", "*1\r\n$\r\n"),
    ("bulk length with a plus", "*1\r\n$+4\r\nPING\r\n"),
    ("bulk length with a zero before it", "*1\r\n$04\r\nPING\r\n"),
    ("bulk beyond the largest", "*2\r\n$3\r\nGET\r\n$536870913\r\n"),
    ("array length of letters", "*abc\r\n"),
    ("array length of nothing", "*\r\n"),
    ("array length with a blank", "* 1\r\n$4\r\nPING\r\n"),
    ("array beyond the largest", "*2147483648\r\n"),
    ("array length beyond a number", "*99999999999999999999\r\n"),
    ("replies before a protocol error", "PING\r\nSET a b\r\nGET a\r\n*1\r\n!\r\nPING\r\n"),
    ("bulk longer than it says", "*1\r\n$4\r\nPINGxx\r\nPING\r\n"),
    ("empty command", "*1\r\n$0\r\n\r\n"),
    ("unknown command", "NOSUCH\r\nnosuch a b\r\n*2\r\n$3\r\na'b\r\n$3\r\nc\nd\r\n"),
    ("unknown subcommand", "OBJECT FOO a\r\nCLIENT FOO\r\nXINFO FOO\r\nCONFIG FOO\r\nSCRIPT FOO\r\n"),
    (
        "wrong number of arguments",
        "GET\r\nSET a\r\nGET a b\r\nMGET\r\nECHO\r\nECHO a b\r\nPING a b\r\nOBJECT\r\nCLIENT\r\n",
    ),
    ("upper and lower case", "pInG\r\nset a B\r\ngEt a\r\n"),
    ("ping and echo", "PING hello\r\nECHO hello\r\nECHO \"\"\r\n"),
    ("wrong type", "RPUSH l 1\r\nGET l\r\nINCR l\r\nSET s x\r\nINCR s\r\nLPUSH s 1\r\n"),
    ("syntax errors", "SET a b XX NX\r\nSET a b EX 0\r\nEXPIRE a x\r\nZADD z x y\r\nSETRANGE a -1 x\r\n"),
    (
        "nothing there",
        "GET none\r\nHGETALL none\r\nLRANGE none 0 -1\r\nZSCORE none a\r\nLPOP none\r\nMGET none none\r\n",
    ),
    (
        "nested replies",
        "XADD x 1-1 a b\r\nXRANGE x - +\r\nXINFO STREAM x FULL\r\nGEOADD g 13 38 p\r\nGEOPOS g p none\r\n",
    ),
    ("databases", "SELECT 1\r\nSET a 1\r\nGET a\r\nSELECT 0\r\nGET a\r\nSELECT 1\r\nGET a\r\nDEL a\r\n"),
    ("databases that do not exist", "SELECT 99\r\nSELECT -1\r\nSELECT x\r\nSELECT\r\nGET a\r\n"),
    ("swapped databases", "SET a 0\r\nSELECT 1\r\nSET a 1\r\nSWAPDB 0 1\r\nGET a\r\nSELECT 0\r\nGET a\r\n"),
    ("a transaction", "MULTI\r\nSET a 1\r\nINCR a\r\nGET a\r\nEXEC\r\nGET a\r\n"),
    ("an empty transaction", "MULTI\r\nEXEC\r\n"),
    ("a discarded transaction", "SET a 0\r\nMULTI\r\nINCR a\r\nDISCARD\r\nGET a\r\n"),
    ("transactions out of place", "EXEC\r\nDISCARD\r\nMULTI\r\nMULTI\r\nWATCH a\r\nEXEC\r\nUNWATCH\r\n"),
    ("a transaction with a bad command", "MULTI\r\nSET a\r\nSET a 1\r\nEXEC\r\nGET a\r\n"),
    ("a transaction with an unknown command", "MULTI\r\nNOSUCH\r\nEXEC\r\n"),
    ("a transaction with a failing command", "SET a x\r\nMULTI\r\nINCR a\r\nSET a 1\r\nEXEC\r\nGET a\r\n"),
    (
        "a transaction that changes the database",
        "MULTI\r\nSELECT 2\r\nSET a 2\r\nEXEC\r\nGET a\r\nDEL a\r\nSELECT 0\r\nGET a\r\n",
    ),
    ("a transaction of reads", "SET a 1\r\nMULTI\r\nGET a\r\nSTRLEN a\r\nEXEC\r\n"),
    ("a watch that holds", "SET a 1\r\nWATCH a\r\nMULTI\r\nINCR a\r\nEXEC\r\n"),
    ("a watch that breaks", "SET a 1\r\nWATCH a\r\nSET a 2\r\nMULTI\r\nINCR a\r\nEXEC\r\nGET a\r\n"),
    ("a watch forgotten", "WATCH a\r\nUNWATCH\r\nSET a 2\r\nMULTI\r\nINCR a\r\nEXEC\r\n"),
    ("a transaction cut by reset", "MULTI\r\nSET a 1\r\nRESET\r\nEXEC\r\nGET a\r\n"),
    ("a transaction of blocking commands", "RPUSH l a\r\nMULTI\r\nBLPOP l 0\r\nBLPOP l 0\r\nEXEC\r\n"),
    (
        "names of clients",
        "CLIENT GETNAME\r\nCLIENT SETNAME me\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"a b\"\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\nCLIENT GETNAME\r\n",
    ),
    (
        "replies off and on",
        "CLIENT REPLY OFF\r\nPING\r\nSET a 1\r\nCLIENT REPLY ON\r\nGET a\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\n",
    ),
    ("reply modes that are none", "CLIENT REPLY\r\nCLIENT REPLY FOO\r\nCLIENT REPLY ON OFF\r\nPING\r\n"),
    ("replies off until reset", "CLIENT REPLY OFF\r\nPING\r\nRESET\r\nPING\r\n"),
    ("a transaction that cannot begin", "MULTI x\r\nSET a 1\r\nGET a\r\nEXEC\r\nGET a\r\n"),
    ("reset", "SELECT 3\r\nCLIENT SETNAME me\r\nRESET\r\nCLIENT GETNAME\r\nPING\r\n"),
    ("no password set", "AUTH secret\r\nAUTH default secret\r\nAUTH nobody secret\r\nAUTH\r\nAUTH a b c\r\n"),
    ("who", "ACL WHOAMI\r\nACL WHOAMI x\r\n"),
    (
        "hello that is wrong",
        "HELLO 4\r\nHELLO 1\r\nHELLO x\r\nHELLO 3 FOO\r\nHELLO 3 AUTH a\r\nHELLO 2 SETNAME \"a b\"\r\nPING\r\n",
    ),
    ("hello", "HELLO\r\nHELLO 2\r\nHELLO 3\r\nHELLO\r\nHELLO 2 SETNAME me\r\nCLIENT GETNAME\r\n"),
    (
        "the third protocol",
        "HELLO 3\r\nHSET h f v\r\nHGETALL h\r\nGET none\r\nZADD z 1.5 a\r\nZSCORE z a\r\nZRANGE z 0 -1 WITHSCORES\r\nSADD s a\r\nSMEMBERS s\r\n\
         LPOP none\r\nEXISTS h\r\nEVAL \"redis.setresp(3) return {map={a=1}}\" 0\r\nEVAL \"return true\" 0\r\nCONFIG GET maxmemory\r\nMULTI\r\nHGETALL h\r\nEXEC\r\n",
    ),
    (
        "both protocols in turn",
        "HSET h f v\r\nHGETALL h\r\nHELLO 3\r\nHGETALL h\r\nHELLO 2\r\nHGETALL h\r\nRESET\r\nHGETALL h\r\n",
    ),
    (
        "subscribing",
        "SUBSCRIBE a b\r\nPSUBSCRIBE a*\r\nPING\r\nPING x\r\nGET a\r\nSET a 1\r\nUNSUBSCRIBE a\r\nUNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nGET none\r\n",
    ),
    ("subscribing in the third protocol", "HELLO 3\r\nSUBSCRIBE a\r\nGET none\r\nPING\r\nUNSUBSCRIBE a\r\n"),
    (
        "scripts",
        "EVAL \"return {1,'a',false,{2}}\" 0\r\nEVAL \"return redis.error_reply('MY error')\" 0\r\nEVAL \"return redis.call('NOSUCH')\" 0\r\nEVAL \"syntax(\" 0\r\nEVAL \"return 1\" x\r\nEVALSHA ffffffffffffffffffffffffffffffffffffffff 0\r\n",
    ),
    (
        "read-only scripts",
        "SET a 1\r\nEVAL_RO \"return redis.call('GET',KEYS[1])\" 1 a\r\nEVAL_RO \"return redis.call('SET',KEYS[1],2)\" 1 a\r\n",
    ),
    ("blocking with something there", "RPUSH l a b\r\nBLPOP l 0\r\nBRPOP l 1\r\nBLPOP l 0.01\r\nPING\r\n"),
    ("blocking with bad timeouts", "BLPOP l -1\r\nBLPOP l x\r\nBLPOP l\r\n"),
    (
        "command table",
        "COMMAND COUNT\r\nCOMMAND INFO get nosuch\r\nCOMMAND GETKEYS MSET a b c d\r\nCOMMAND GETKEYS GET\r\n",
    ),
    ("cluster commands", "READONLY\r\nREADWRITE\r\nASKING\r\nCLUSTER INFO\r\nCLUSTER MYID\r\n"),
    (
        "numbers of every size",
        "SET a 9223372036854775807\r\nINCR a\r\nDECR a\r\nINCRBYFLOAT f 10.5\r\nHINCRBYFLOAT h f -0.1\r\n",
    ),
    ("quit", "PING\r\nQUIT\r\nPING\r\n"),
    ("a browser", "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
];

/// Scripts whose bytes are made.
fn made() -> Vec<Script> {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut binary = b"*3\r\n$3\r\nSET\r\n$256\r\n".to_vec();
    binary.extend(&all_bytes);
    binary.extend(b"\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$256\r\n");
    binary.extend(&all_bytes);
    binary.extend(b"\r\n");
    let hundred_arguments = format!("NOSUCH {}\r\n", "argument ".repeat(100));
    let long_name = format!("{} a\r\n", "N".repeat(300));
    vec![
        one("keys of any byte", binary),
        one("a long inline line", format!("ECHO {}\r\n", "a".repeat(60_000))),
        one("many arguments for nobody", hundred_arguments),
        one("a long name for nobody", long_name),
        one("a deep pipeline", "INCR n\r\n".repeat(3000)),
        one(
            "a pipeline of every kind",
            "SET a 1\r\nGET a\r\nNOSUCH\r\nPING\r\nINCR a\r\nSELECT 1\r\nGET a\r\nSELECT 0\r\n".repeat(100),
        ),
        one("many arguments", {
            let pairs: String = (0..5000).map(|n| format!("$5\r\nk{n:04}\r\n$1\r\nv\r\n")).collect();
            let keys: String = (0..5000).map(|n| format!("$5\r\nk{n:04}\r\n")).collect();
            format!("*10001\r\n$4\r\nMSET\r\n{pairs}*5001\r\n$4\r\nMGET\r\n{keys}")
        }),
    ]
}

/// Lines that have no end: refused as soon as they are too long, and closed.
fn endless() -> Vec<Script> {
    vec![
        one("an inline line without an end", "a".repeat(70_000)),
        one("an array length without an end", format!("*{}", "1".repeat(70_000))),
        one("a bulk length without an end", format!("*1\r\n${}", "1".repeat(70_000))),
        one("an endless line behind a good one", format!("PING\r\n{}", "a".repeat(70_000))),
    ]
}

/// Scripts whose pieces travel by themselves.
fn in_pieces() -> Vec<Script> {
    let bytes = |text: &str| text.as_bytes().chunks(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let cut = |text: &str, at: usize| vec![text.as_bytes()[..at].to_vec(), text.as_bytes()[at..].to_vec()];
    let large = "v".repeat(1 << 20);
    let set = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{large}\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nSTRLEN a\r\n",
        large.len()
    );
    vec![
        ("a request byte by byte", bytes("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n")),
        ("inline byte by byte", bytes("SET a \"b c\"\r\nGET a\r\n")),
        ("an error byte by byte", bytes("PING\r\n*1\r\n!")),
        ("a megabyte", vec![set.clone().into_bytes()]),
        ("a megabyte in two", cut(&set, 300_000)),
        (
            "a transaction in steps",
            ["MULTI\r\n", "SET a 1\r\n", "NOSUCH\r\n", "EXEC\r\n"].map(|s| s.as_bytes().to_vec()).to_vec(),
        ),
        (
            "a good transaction in steps",
            ["MULTI\r\n", "SET a 1\r\n", "INCR a\r\n", "EXEC\r\n"].map(|s| s.as_bytes().to_vec()).to_vec(),
        ),
        (
            "watching in steps",
            ["WATCH a\r\n", "GET a\r\n", "MULTI\r\n", "SET a 1\r\n", "EXEC\r\n", "GET a\r\n"]
                .map(|s| s.as_bytes().to_vec())
                .to_vec(),
        ),
    ]
}

/// The connection's own number in the reply to HELLO is not the same on any two connections.
fn without_id(answer: &raw::Answer) -> String {
    let text = format!("{answer:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    const MARK: &str = "id\\r\\n:";
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

/// How a script is sent: with a mark behind it, or without.
type Talk = fn(u16, &[&[u8]]) -> raw::Answer;

/// Sends every script to the master itself and to `port`, each to an empty database.
#[track_caller]
fn compare(stage: &mut Stage, port: u16, scripts: &[Script], talk: Talk) {
    let mut differences = Vec::new();
    for (name, pieces) in scripts {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let [direct, through] = [stage.nodes[0].port, port].map(|port| {
            let mut direct = connect(&stage.nodes[0].address());
            call(&mut direct, "FLUSHALL");
            call(&mut direct, "SCRIPT FLUSH");
            settle(stage, 0);
            without_id(&talk(port, &pieces))
        });
        if direct != through || direct.ends_with("(Silent)") {
            differences.push(format!("{name}:\n{}", difference(&direct, &through)));
        }
    }
    assert!(differences.is_empty(), "{} of {} scripts:\n{}", differences.len(), scripts.len(), differences.join("\n"));
}

/// Both, from shortly before they part.
fn difference(direct: &str, through: &str) -> String {
    let same = direct.bytes().zip(through.bytes()).take_while(|(a, b)| a == b).count();
    let shown = |text: &str| text.chars().skip(same.saturating_sub(200)).take(600).collect::<String>();
    format!("  direct  {}\n  redweir {}", shown(direct), shown(through))
}

fn all() -> Vec<Script> {
    let texts = TEXTS.iter().map(|(name, text)| one(name, text));
    texts.chain(made()).chain(in_pieces()).collect()
}

/// Else a difference would say nothing of redweir.
#[test]
fn every_script_brings_the_same_bytes_twice_from_a_direct_redis() {
    let mut stage = plain_stage(0);
    let port = stage.nodes[0].port;
    compare(&mut stage, port, &all(), raw::talk);
    compare(&mut stage, port, &endless(), raw::talk_unmarked);
}

#[test]
fn every_script_brings_the_bytes_of_a_direct_redis_when_the_master_reads() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--read-policy", "master"]);
    compare(&mut stage, proxy.port, &all(), raw::talk);
    compare(&mut stage, proxy.port, &endless(), raw::talk_unmarked);
}

#[test]
fn every_script_brings_the_bytes_of_a_direct_redis_when_replicas_read() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(2);
    let scripts: Vec<Script> = TEXTS.iter().map(|(name, text)| one(name, text)).collect();
    compare(&mut stage, proxy.port, &scripts, raw::talk);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_replies() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let answer = raw::say_and_leave(proxy.port, &b"SET a 1\r\nINCR a\r\nPING\r\n".repeat(200));
    assert_eq!(answer.escape_ascii().to_string(), b"+OK\r\n:2\r\n+PONG\r\n".repeat(200).escape_ascii().to_string());
}

#[test]
fn each_connection_has_its_own_id_and_name() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    let (mut a, mut b) = (proxy.client(), proxy.client());
    let (id_a, id_b) = (call(&mut a, "CLIENT ID"), call(&mut b, "CLIENT ID"));
    assert!(id_a.int().is_some() && id_a != id_b, "{id_a:?} {id_b:?}");
    assert_eq!(call(&mut a, "CLIENT ID"), id_a);
    call(&mut a, "CLIENT SETNAME first");
    assert_eq!(call(&mut b, "CLIENT GETNAME"), Reply::Nil);
    assert_eq!(call(&mut a, "CLIENT GETNAME").text(), "first");
}

#[test]
fn a_large_value_does_not_stall_other_clients() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let large = "v".repeat(32 << 20);
    let mut a = proxy.client();
    assert_eq!(a.call(&["SET", "large", &large]).expect("a reply"), Reply::Status("OK".into()));
    settle(&mut stage, 0);
    // Asks for it and does not read: nobody else may notice.
    let mut idle = proxy.client();
    idle.send(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n").expect("sent");
    let mut b = proxy.client();
    for n in 0..200 {
        assert_eq!(call(&mut b, &format!("SET k {n}")), Reply::Status("OK".into()));
        assert!(!call(&mut b, "GET none").is_error());
    }
    assert_eq!(idle.read().expect("the value"), Reply::Bulk(large.into_bytes()));
}

#[test]
fn a_reply_of_a_million_elements_is_passed_on_in_bounded_memory_while_others_are_served() {
    let mut stage = plain_stage(1);
    let script = "local v = string.rep('v', 64) for i = 1, 1000000 do redis.call('RPUSH', KEYS[1], v) end return 1";
    let mut master = connect(&stage.nodes[0].address());
    assert_eq!(master.call(&["EVAL", script, "1", "list"]).expect("a reply"), Reply::Int(1));
    settle(&mut stage, 0);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let before = proxy.peak_memory();
    let mut reader = proxy.client();
    reader.send(b"LRANGE list 0 -1\r\nPING\r\n").expect("sent");
    let other = proxy.client();
    let others = std::thread::spawn(move || {
        let mut other = other;
        for n in 0..200 {
            assert_eq!(call(&mut other, &format!("SET k {n}")), Reply::Status("OK".into()));
            // The same replica: it must not wait behind the list, nor make redweir hold it.
            assert!(!call(&mut other, "GET none").is_error());
        }
    });
    // However slowly it reads: what it leaves unread stays at the node.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut answer = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    while !answer.ends_with(b"+PONG\r\n") {
        let n = reader.socket().read(&mut buffer).expect("more of the list");
        assert!(n > 0, "closed after {} bytes", answer.len());
        answer.extend_from_slice(&buffer[..n]);
    }
    let element = format!("$64\r\n{}\r\n", "v".repeat(64));
    assert!(answer == format!("*1000000\r\n{}+PONG\r\n", element.repeat(1_000_000)).into_bytes());
    others.join().expect("the other client was served");
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "a reply of 70 MB took {} MB of redweir", grown >> 20);
}

#[test]
fn a_value_that_is_only_declared_costs_nothing() {
    const CLIENTS: usize = 500;
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let before = proxy.peak_memory();
    let declared: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).expect("redweir");
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nten bytes.").expect("written");
            stream
        })
        .collect();
    let head = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nten bytes.".len();
    wait("all of them to be read", || {
        let received = proxy.metric("redweir_received_bytes_total", &["peer=\"client\""]);
        if received >= (CLIENTS * head) as f64 { Ok(()) } else { Err(received.to_string()) }
    });
    assert_eq!(call(&mut proxy.client(), "SET other v"), ok());
    let grown = proxy.peak_memory() - before;
    assert!(grown < (CLIENTS * 64) as u64 * 1024, "{CLIENTS} half gigabytes took {} kB", grown >> 10);
    drop(declared);
}

#[test]
fn a_large_value_passes_both_ways_whole_and_in_bounded_memory() {
    const SIZE: usize = 128 << 20;
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut value = vec![0; SIZE];
    fastrand::Rng::with_seed(1).fill(&mut value[..1 << 20]);
    for at in (1 << 20..SIZE).step_by(1 << 20) {
        value.copy_within(..1 << 20, at);
        // No two pieces are the same.
        value[at..at + 8].copy_from_slice(&at.to_be_bytes());
    }
    let mut client = proxy.client();
    let before = proxy.peak_memory();
    client.send(format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${SIZE}\r\n").as_bytes()).expect("sent");
    client.send(&value).expect("sent");
    client.send(b"\r\nGET large\r\n").expect("sent");
    assert_eq!(client.read().expect("a reply"), ok());
    // Not by assert_eq: nobody wants to read that.
    assert!(client.read().expect("the value") == Reply::Bulk(value), "another value came back");
    let grown = proxy.peak_memory() - before;
    assert!(grown < 16 << 20, "128 MB took {} MB of redweir", grown >> 20);
}
