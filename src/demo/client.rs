//! A small blocking Redis client over one socket, for the demo's load and for the tests.
//!
//! Must not be used on the data path: it decodes every reply and blocks its thread. It keeps what it was told exactly as it came
//! (status, error, bulk and RESP3 types stay apart), so that tests can tell a proxy's reply from a node's.
//! Invariant: one reply is taken off the socket per command sent; a reply never answers another command.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A decoded reply of either protocol version.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Status(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Nil,
    /// An array, or a set of RESP3.
    Array(Vec<Reply>),
    /// RESP3 only.
    Map(Vec<(Reply, Reply)>),
    /// RESP3 only: came unasked.
    Push(Vec<Reply>),
    /// RESP3 only, as text: `,1.5` is `Double("1.5")`.
    Double(String),
    /// RESP3 only.
    Bool(bool),
}

impl Reply {
    /// The text of a status, an error or a bulk; a number in digits; empty for anything else.
    pub fn text(&self) -> String {
        match self {
            Reply::Status(text) | Reply::Error(text) | Reply::Double(text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Int(n) => n.to_string(),
            _ => String::new(),
        }
    }
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(n) => Some(*n),
            Reply::Bulk(_) | Reply::Status(_) => self.text().parse().ok(),
            _ => None,
        }
    }
    /// The elements of an array, set or push; none for anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Push(items) => items,
            _ => &[],
        }
    }
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to `host:port`; no call on it blocks longer than `timeout`.
    ///
    /// # Errors
    /// Of the operating system, when the address is wrong or nobody listens.
    pub fn connect(address: &str, timeout: Duration) -> io::Result<Client> {
        let address = std::net::ToSocketAddrs::to_socket_addrs(address)?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address}: no such address")))?;
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Sends one command and waits for its reply. An error reply is a [`Reply::Error`], not an `Err`.
    ///
    /// # Errors
    /// The connection was lost, timed out, or said something that is not RESP: the outcome of the command is unknown.
    pub fn call(&mut self, args: &[&str]) -> io::Result<Reply> {
        let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
        self.send(&encode(&args))?;
        self.read()
    }

    /// Sends all commands in one write, then collects as many replies.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pipeline(&mut self, commands: &[Vec<&str>]) -> io::Result<Vec<Reply>> {
        let mut bytes = Vec::new();
        for command in commands {
            let args: Vec<&[u8]> = command.iter().map(|a| a.as_bytes()).collect();
            bytes.extend_from_slice(&encode(&args));
        }
        self.send(&bytes)?;
        commands.iter().map(|_| self.read()).collect()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Takes the next reply (or push) off the socket.
    ///
    /// # Errors
    /// As [`Client::call`]; `UnexpectedEof` when the other side closed.
    pub fn read(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// The socket itself, for tests that write raw bytes or half-close.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

/// A command as the array of bulks that every server takes.
pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Decodes one reply from `stream`.
///
/// # Errors
/// Of the stream; `UnexpectedEof` when it ends, `InvalidData` when it is not RESP.
pub fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end_matches("\r\n");
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid(line))?;
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => Ok(Reply::Int(number(rest)?)),
        "," | "(" => Ok(Reply::Double(rest.to_owned())),
        "#" => Ok(Reply::Bool(rest == "t")),
        "_" => Ok(Reply::Nil),
        "$" | "=" | "!" => read_bulk(stream, kind, number(rest)?),
        "*" | "~" | ">" | "%" => read_aggregate(stream, kind, number(rest)?),
        _ => Err(invalid(line)),
    }
}

fn read_bulk(stream: &mut impl BufRead, kind: &str, len: i64) -> io::Result<Reply> {
    let Ok(len) = u64::try_from(len) else { return Ok(Reply::Nil) };
    let mut bytes = Vec::new();
    if (&mut *stream).take(len + 2).read_to_end(&mut bytes)? as u64 != len + 2 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(bytes.len() - 2);
    Ok(match kind {
        "!" => Reply::Error(String::from_utf8_lossy(&bytes).into_owned()),
        // `txt:` or `mkd:` before the text.
        "=" => Reply::Bulk(bytes.get(4..).unwrap_or_default().to_vec()),
        _ => Reply::Bulk(bytes),
    })
}

fn read_aggregate(stream: &mut impl BufRead, kind: &str, len: i64) -> io::Result<Reply> {
    if len < 0 {
        return Ok(Reply::Nil);
    }
    if kind == "%" {
        let pairs = (0..len).map(|_| Ok((read_reply(stream)?, read_reply(stream)?))).collect::<io::Result<_>>()?;
        return Ok(Reply::Map(pairs));
    }
    let items = (0..len).map(|_| read_reply(stream)).collect::<io::Result<Vec<_>>>()?;
    Ok(if kind == ">" { Reply::Push(items) } else { Reply::Array(items) })
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| invalid(text))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a RESP reply: {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mut bytes: &[u8]) -> io::Result<Reply> {
        let reply = read_reply(&mut bytes)?;
        assert!(bytes.is_empty(), "left over: {bytes:?}");
        Ok(reply)
    }

    #[test]
    fn every_type_keeps_its_kind() {
        let bulk = |s: &str| Reply::Bulk(s.as_bytes().to_vec());
        let table: &[(&str, Reply)] = &[
            ("+OK\r\n", Reply::Status("OK".into())),
            ("-ERR no\r\n", Reply::Error("ERR no".into())),
            (":-7\r\n", Reply::Int(-7)),
            ("$3\r\na\nb\r\n", bulk("a\nb")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("_\r\n", Reply::Nil),
            ("*2\r\n:1\r\n*0\r\n", Reply::Array(vec![Reply::Int(1), Reply::Array(vec![])])),
            ("~1\r\n+a\r\n", Reply::Array(vec![Reply::Status("a".into())])),
            (">1\r\n+a\r\n", Reply::Push(vec![Reply::Status("a".into())])),
            ("%1\r\n+k\r\n#t\r\n", Reply::Map(vec![(Reply::Status("k".into()), Reply::Bool(true))])),
            (",1.5\r\n", Reply::Double("1.5".into())),
            ("=7\r\ntxt:abc\r\n", bulk("abc")),
            ("!6\r\nERR no\r\n", Reply::Error("ERR no".into())),
        ];
        for (bytes, reply) in table {
            assert_eq!(decode(bytes.as_bytes()).ok().as_ref(), Some(reply), "{bytes:?}");
        }
    }

    #[test]
    fn a_cut_or_foreign_reply_is_an_error() {
        for bytes in ["", "$5\r\nabc\r\n", "*2\r\n:1\r\n", "HTTP/1.1 200 OK\r\n", ":x\r\n", "\r\n"] {
            assert!(decode(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulks() {
        assert_eq!(encode(&[b"GET", b""]), b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }
}
