//! The same bytes to redweir's scanner and to a real redis-server: as many requests, the same protocol error, the same words.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
use redweir::resp::{Args, Found, ReplyScanner, RequestScanner, Scan, Violation, encode, inline};

/// Redis' `proto-max-bulk-len` unless set.
const MAX_BULK: u64 = 512 << 20;

struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed (Debian: apt-get install redis-server)");
        let mut server = Server { process, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.process.try_wait().unwrap().is_none(), "redis-server ended by itself");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Everything the server says to `bytes`, after which it sees the end of the stream.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("redis-server is gone");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        // A protocol error may have closed it already.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("the server ends the connection");
        said
    }
}

/// How many requests get a reply, and the protocol error that ends them.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    replies: usize,
    error: Option<Vec<u8>>,
}

fn text(violation: Violation) -> Vec<u8> {
    let what = match violation {
        Violation::MultibulkLength => "invalid multibulk length",
        Violation::BulkLength => "invalid bulk length",
        Violation::MultibulkTooBig => "too big mbulk count string",
        Violation::BulkTooBig => "too big bulk count string",
        Violation::InlineTooBig => "too big inline request",
        Violation::UnbalancedQuotes => "unbalanced quotes in request",
        Violation::StrangerMultibulk => "unauthenticated multibulk length",
        Violation::StrangerBulk => "unauthenticated bulk length",
        Violation::ExpectedDollar(b'\r' | b'\n') => "expected '$', got ' '",
        Violation::ExpectedDollar(got) => {
            return [b"-ERR Protocol error: expected '$', got '", &[got][..], b"'\r\n"].concat();
        }
    };
    format!("-ERR Protocol error: {what}\r\n").into_bytes()
}

/// redweir's side, as a session walks through its input.
fn ours(mut bytes: &[u8]) -> Outcome {
    let mut replies = 0;
    loop {
        let violation = match RequestScanner::new(MAX_BULK).scan(bytes) {
            Scan::Incomplete { .. } => return Outcome { replies, error: None },
            Scan::Nothing { len } => {
                bytes = &bytes[len..];
                continue;
            }
            Scan::Request { len } | Scan::Ragged { len } => {
                replies += 1;
                bytes = &bytes[len..];
                continue;
            }
            Scan::Inline { len } => {
                let line = &bytes[..len - 1];
                match inline::to_array(line.strip_suffix(b"\r").unwrap_or(line)) {
                    Ok(request) => {
                        replies += usize::from(!request.is_empty());
                        bytes = &bytes[len..];
                        continue;
                    }
                    Err(violation) => violation,
                }
            }
            Scan::Invalid(violation) => violation,
        };
        return Outcome { replies, error: Some(text(violation)) };
    }
}

/// Redis' side, from all it said.
fn theirs(mut said: &[u8]) -> Outcome {
    let mut outcome = Outcome { replies: 0, error: None };
    while !said.is_empty() {
        assert_eq!(outcome.error, None, "something follows a protocol error");
        let Found::Whole { len } = ReplyScanner::default().scan(said) else { panic!("not a reply: {said:?}") };
        match said[..len].starts_with(b"-ERR Protocol error") {
            true => outcome.error = Some(said[..len].to_vec()),
            false => outcome.replies += 1,
        }
        said = &said[len..];
    }
    outcome
}

/// A request in parts that can be spoiled one by one.
fn request(rng: &mut Rng, out: &mut Vec<u8>) {
    let requests: &[&[&str]] = &[
        &["PING"],
        &["GET", "k"],
        &["ECHO", "a b"],
        &["SET", "k", "12345678901234567890"],
        &["NOSUCH"],
        &["EXISTS", "", "x"],
        &[""],
    ];
    let args = requests[rng.usize(..requests.len())];
    match rng.u8(..10) {
        0 => out.extend_from_slice(b"\r\n"),
        1 => out.extend_from_slice(b"*0\r\n"),
        2 | 3 => {
            out.extend_from_slice(args.join(" ").as_bytes());
            out.extend_from_slice(if rng.bool() { b"\r\n" } else { b"\n" });
        }
        _ => encode::request(out, args.iter().map(|a| a.as_bytes())),
    }
}

fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const COUNTS: [&str; 22] = [
        "",
        "0",
        "1",
        "2",
        "3",
        "00",
        "01",
        "+1",
        "-1",
        "-0",
        "-",
        " 1",
        "1 ",
        "1a",
        "99",
        "100",
        "2147483647",
        "2147483648",
        "536870913",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
    ];
    const ODD: &[u8] = b"$*:+-\r\n\0 \"'\\\t\x0b\x0c0919az\xff\x80";
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.u8(..10) {
        // A count in the place of another.
        0..=3 => {
            let heads: Vec<usize> = (0..bytes.len()).filter(|&i| matches!(bytes[i], b'*' | b'$')).collect();
            if heads.is_empty() {
                return;
            }
            let head = heads[rng.usize(..heads.len())] + 1;
            let end = bytes[head..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| head + n);
            bytes.splice(head..end, COUNTS[rng.usize(..COUNTS.len())].bytes());
        }
        // A line end in the place of another.
        4 => {
            let ends: Vec<usize> = (1..bytes.len()).filter(|&i| bytes[i - 1..=i] == *b"\r\n").collect();
            if !ends.is_empty() {
                let end = ends[rng.usize(..ends.len())];
                let other: &[u8] = [&b"\n"[..], b"\r", b"\rx", b"\r\r", b"\r\n\r\n", b"\0\r\n"][rng.usize(..6)];
                bytes.splice(end - 1..=end, other.iter().copied());
            }
        }
        5 | 6 => bytes[at] = ODD[rng.usize(..ODD.len())],
        7 => bytes.insert(at, ODD[rng.usize(..ODD.len())]),
        8 => _ = bytes.remove(at),
        _ => bytes.truncate(at),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    bytes.escape_ascii().for_each(|b| write!(out, "{}", char::from(b)).unwrap());
    out
}

fn seeded() -> Rng {
    let seed = setting("REDWEIR_SEED", fastrand::u64(..));
    println!("REDWEIR_SEED={seed}");
    Rng::with_seed(seed)
}

#[test]
fn protocol_errors_are_those_of_redis() {
    let server = Server::start();
    let mut rng = seeded();
    let (cases, mut invalid, mut valid) = (setting("REDWEIR_CASES", 3000), 0, 0);
    for case in 0..cases {
        let mut bytes = Vec::new();
        (0..rng.usize(1..4)).for_each(|_| request(&mut rng, &mut bytes));
        (0..rng.usize(..4)).for_each(|_| spoil(&mut rng, &mut bytes));
        let ours = ours(&bytes);
        invalid += u64::from(ours.error.is_some());
        valid += u64::from(ours.error.is_none() && ours.replies > 0);
        assert_eq!(ours, theirs(&server.ask(&bytes)), "case {case}: {}", shown(&bytes));
    }
    println!("{cases} cases, {invalid} with a protocol error, {valid} without");
    assert!(invalid > cases / 10 && valid > cases / 10, "the cases are one-sided");
}

#[test]
fn endless_lines_are_refused_as_redis_does() {
    let server = Server::start();
    for (before, byte) in [("", b'a'), ("*", b'1'), ("*1\r\n$", b'1'), ("*1\r\n", b'x')] {
        let mut bytes = before.as_bytes().to_vec();
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        // One byte more than Redis waits for.
        bytes.resize(line + 64 * 1024 + 1, byte);
        let ours = ours(&bytes);
        assert!(ours.error.is_some(), "{before:?}");
        assert_eq!(ours, theirs(&server.ask(&bytes)), "{before:?}");
    }
}

#[test]
fn quoted_words_are_those_of_redis() {
    let server = Server::start();
    let mut load = Vec::new();
    encode::request(&mut load, [&b"SCRIPT"[..], b"LOAD", b"return ARGV"].into_iter());
    let said = server.ask(&load);
    let sha = String::from_utf8(said[5..45].to_vec()).unwrap();

    let mut rng = seeded();
    let pieces: &[&[u8]] = &[
        b" ", b"  ", b"\t", b"\x0b", b"\x0c", b"\r", b"\"", b"\"", b"\"", b"'", b"'", b"\\", b"\\n", b"\\x41",
        b"\\xz1", b"\\xff", b"\\x4", b"\\'", b"\\\"", b"\\\\", b"\\a", b"a", b"B", b"7", b"\xff", b"\" ", b"' ",
        b" \"", b" '",
    ];
    let (cases, mut split) = (setting("REDWEIR_CASES", 3000), 0);
    for case in 0..cases {
        let mut line = format!("EVALSHA {sha} 0 ").into_bytes();
        (0..rng.usize(..14)).for_each(|_| line.extend_from_slice(pieces[rng.usize(..pieces.len())]));
        line.extend_from_slice(if rng.bool() { b"\r\n" } else { b"\n" });

        assert_eq!(RequestScanner::new(MAX_BULK).scan(&line), Scan::Inline { len: line.len() });
        let bare = &line[..line.len() - 1];
        let expected = match inline::to_array(bare.strip_suffix(b"\r").unwrap_or(bare)) {
            Ok(request) => {
                split += 1;
                let words: Vec<&[u8]> = Args::new(&request).skip(3).collect();
                let mut reply = Vec::new();
                encode::request(&mut reply, words.into_iter());
                reply
            }
            Err(violation) => text(violation),
        };
        let said = server.ask(&line);
        assert_eq!(shown(&said), shown(&expected), "case {case}: {}", shown(&line));
    }
    assert!(split > cases / 10 && split < cases, "the cases are one-sided: {split} of {cases}");
}
