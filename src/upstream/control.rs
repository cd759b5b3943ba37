//! The control plane's connection: one request, one reply, each within a time limit (ROLE, INFO, COMMAND, SENTINEL).
//!
//! Speaks RESP2 only, so no push frame can come between a request and its reply. Must not carry a client's command.
//! Invariant: a reply is bounded in bytes and in nesting before anything decodes it, for the decoder recurses without a
//! limit of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, RangeFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Login;

/// Largest reply accepted, in bytes; COMMAND of a server full of modules stays below 1 MiB.
pub const MAX_REPLY_BYTES: usize = 4 << 20;
/// Deepest nesting accepted; COMMAND with its subcommands and key specifications needs about 8.
pub const MAX_DEPTH: usize = 32;

/// Why a connection or a request failed. After anything but `Auth`, `Loading` and `Server` the connection is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("connection refused")]
    Refused,
    #[error("no answer in time")]
    Timeout,
    #[error("connection closed")]
    Closed,
    /// The name does not resolve, or the network says no.
    #[error("{0}")]
    Unreachable(String),
    #[error("login refused: {0}")]
    Auth(String),
    #[error("the node is loading its data set")]
    Loading,
    #[error("not understood: {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Server(String),
}

impl Error {
    /// For metrics: one of a few words.
    pub fn label(&self) -> &'static str {
        match self {
            Error::Refused => "refused",
            Error::Timeout => "timeout",
            Error::Closed => "closed",
            Error::Unreachable(_) => "unreachable",
            Error::Auth(_) => "auth",
            Error::Loading => "loading",
            Error::Protocol(_) => "protocol",
            Error::Server(_) => "server",
        }
    }

    /// Whether the connection can still be used.
    pub fn leaves_connection(&self) -> bool {
        matches!(self, Error::Auth(_) | Error::Loading | Error::Server(_))
    }

    fn of_io(e: &std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::ConnectionRefused => Error::Refused,
            std::io::ErrorKind::TimedOut => Error::Timeout,
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::NotConnected
            | std::io::ErrorKind::UnexpectedEof => Error::Closed,
            _ => Error::Unreachable(e.to_string()),
        }
    }

    fn of_text(text: String) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Error::Auth(text),
            "LOADING" => Error::Loading,
            _ => Error::Server(text),
        }
    }
}

/// One decoded reply; an error reply is an [`Error`] instead, except inside an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(Bytes),
    Integer(i64),
    Bulk(Bytes),
    Array(Vec<Reply>),
    Nil,
    Failed(Error),
}

impl Reply {
    /// Text of a status or bulk; `None` for other kinds and for bytes that are not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Status(b) | Reply::Bulk(b) => Some(b),
            _ => None,
        }
    }

    /// An integer, or a bulk that spells one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(n) => Some(*n),
            _ => self.text()?.parse().ok(),
        }
    }

    /// The elements of an array; none for anything else.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) => items,
            _ => &[],
        }
    }

    /// The value behind `name` in a flat list of names and values.
    pub fn field(&self, name: &str) -> Option<&Reply> {
        self.items().chunks_exact(2).find_map(|pair| match pair {
            [key, value] if key.text() == Some(name) => Some(value),
            _ => None,
        })
    }

    fn build(all: &Bytes, frame: &RangeFrame) -> Self {
        let cut = |&(from, to): &(usize, usize)| all.slice(from.min(all.len())..to.clamp(from, all.len()));
        match frame {
            RangeFrame::SimpleString(r) => Reply::Status(cut(r)),
            RangeFrame::BulkString(r) => Reply::Bulk(cut(r)),
            RangeFrame::Error(r) => Reply::Failed(Error::of_text(String::from_utf8_lossy(&cut(r)).into_owned())),
            RangeFrame::Integer(n) => Reply::Integer(*n),
            RangeFrame::Null => Reply::Nil,
            RangeFrame::Array(items) => Reply::Array(items.iter().map(|f| Reply::build(all, f)).collect()),
        }
    }

    fn outcome(self) -> Result<Reply, Error> {
        match self {
            Reply::Failed(e) => Err(e),
            reply => Ok(reply),
        }
    }
}

/// A connection of the control plane.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    inbox: BytesMut,
    extent: Extent,
    limit: Duration,
}

impl Client {
    /// Resolves `address` (`host:port`), connects and logs in; all of it within `limit`, which is also the limit of each
    /// later call.
    pub async fn connect(address: &str, login: Option<&Login>, limit: Duration) -> Result<Self, Error> {
        let open = async {
            let stream = TcpStream::connect(address).await.map_err(|e| Error::of_io(&e))?;
            stream.set_nodelay(true).map_err(|e| Error::of_io(&e))?;
            let mut client = Self { stream, inbox: BytesMut::new(), extent: Extent::default(), limit };
            if let Some(login) = login {
                client.log_in(login).await?;
            }
            Ok(client)
        };
        timeout(limit, open).await.map_err(|_| Error::Timeout)?
    }

    /// Replaces the limit of each later call.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Error> {
        let password = login.password.as_bytes();
        let done = match &login.username {
            Some(user) => self.call(&[b"AUTH", user.as_bytes(), password]).await,
            None => self.call(&[b"AUTH", password]).await,
        };
        match done {
            // Whatever the node says against AUTH is a matter of credentials ("no password is set" included).
            Err(Error::Server(text)) => Err(Error::Auth(text)),
            done => done.map(|_| ()),
        }
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// An error reply is an error as well; see [`Error::leaves_connection`].
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, Error> {
        let limit = self.limit;
        let exchange = async {
            self.send(args).await?;
            self.receive().await?.outcome()
        };
        timeout(limit, exchange).await.map_err(|_| Error::Timeout)?
    }

    /// Sends several requests in one write and waits for all replies, an error reply being [`Reply::Failed`].
    ///
    /// # Errors
    /// Only what breaks the connection.
    pub async fn call_all(&mut self, requests: &[&[&[u8]]]) -> Result<Vec<Reply>, Error> {
        let limit = self.limit;
        let exchange = async {
            let mut out = BytesMut::new();
            for args in requests {
                encode(&mut out, args)?;
            }
            self.stream.write_all(&out).await.map_err(|e| Error::of_io(&e))?;
            let mut replies = Vec::with_capacity(requests.len());
            for _ in requests {
                replies.push(self.receive().await?);
            }
            Ok(replies)
        };
        timeout(limit, exchange).await.map_err(|_| Error::Timeout)?
    }

    /// Sends a request whose replies are fetched by [`Client::receive`], e.g. SUBSCRIBE. No time limit.
    pub async fn send(&mut self, args: &[&[u8]]) -> Result<(), Error> {
        let mut out = BytesMut::new();
        encode(&mut out, args)?;
        self.stream.write_all(&out).await.map_err(|e| Error::of_io(&e))
    }

    /// The next reply or message, however long it takes. May be dropped and called again without loss.
    pub async fn receive(&mut self) -> Result<Reply, Error> {
        loop {
            if let Some(len) = self.extent.scan(&self.inbox)? {
                self.extent = Extent::default();
                let frame = self.inbox.split_to(len).freeze();
                let decoded = decode_range(&frame).map_err(|_| Error::Protocol("malformed reply"))?;
                let (ranges, _) = decoded.ok_or(Error::Protocol("reply shorter than its frame"))?;
                return Ok(Reply::build(&frame, &ranges));
            }
            if self.inbox.len() > MAX_REPLY_BYTES {
                return Err(Error::Protocol("reply above 4 MiB"));
            }
            self.inbox.reserve(16 << 10);
            match self.stream.read_buf(&mut self.inbox).await {
                Ok(0) => return Err(Error::Closed),
                Ok(_) => {}
                Err(e) => return Err(Error::of_io(&e)),
            }
        }
    }

    /// Waits until the other side closes the connection (or says what nobody asked for). Returns why it is of no use
    /// any more. May be dropped and called again.
    pub async fn closed(&mut self) -> Error {
        match self.receive().await {
            Ok(_) => Error::Protocol("a reply nobody asked for"),
            Err(e) => e,
        }
    }
}

fn encode(out: &mut BytesMut, args: &[&[u8]]) -> Result<(), Error> {
    let bulks = args.iter().map(|a| BytesFrame::BulkString(Bytes::copy_from_slice(a))).collect();
    extend_encode(out, &BytesFrame::Array(bulks), false)
        .map(|_| ())
        .map_err(|_| Error::Protocol("request not encodable"))
}

/// Finds where a reply ends and refuses what nests too deep or declares too much, before the decoder sees it.
#[derive(Debug, Default)]
struct Extent {
    /// Where the next element begins; may lie beyond what has arrived.
    at: usize,
    /// Elements still to come in each open array, outermost first.
    open: Vec<usize>,
    /// The last element was reached; its end may still have to arrive.
    done: bool,
}

impl Extent {
    /// The length of the reply at the start of `input`, `None` while it is not complete. Resumable.
    fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        loop {
            if self.done {
                return Ok((self.at <= input.len()).then_some(self.at));
            }
            let Some(rest) = input.get(self.at..) else { return Ok(None) };
            let Some(end) = rest.iter().position(|&b| b == b'\n') else { return Ok(None) };
            let line = rest.get(..end).and_then(|l| l.strip_suffix(b"\r"));
            let Some((&kind, text)) = line.and_then(|l| l.split_first()) else {
                return Err(Error::Protocol("line without a kind"));
            };
            let mut next = self.at + end + 1;
            let mut children = 0;
            match kind {
                b'+' | b'-' | b':' => {}
                b'$' => next += declared(text)?.map_or(0, |n| n + 2),
                b'*' => children = declared(text)?.unwrap_or(0),
                _ => return Err(Error::Protocol("unknown kind of reply")),
            }
            self.at = next;
            if children > 0 {
                if self.open.len() == MAX_DEPTH {
                    return Err(Error::Protocol("reply nested too deep"));
                }
                self.open.push(children);
            } else {
                self.done = self.element_done();
            }
        }
    }

    /// Counts one finished element; true when the whole reply is.
    fn element_done(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// A declared length or count; `None` for -1.
fn declared(text: &[u8]) -> Result<Option<usize>, Error> {
    let n: i64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(Error::Protocol("bad length"))?;
    match usize::try_from(n) {
        Ok(n) if n <= MAX_REPLY_BYTES => Ok(Some(n)),
        Ok(_) => Err(Error::Protocol("reply above 4 MiB")),
        Err(_) if n == -1 => Ok(None),
        Err(_) => Err(Error::Protocol("bad length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Every way to cut `input` in two gives the same answer as the whole.
    fn extents(input: &[u8]) -> Vec<Result<Option<usize>, Error>> {
        (0..=input.len())
            .map(|cut| {
                let mut extent = Extent::default();
                match extent.scan(&input[..cut]) {
                    Ok(None) => extent.scan(input),
                    early => early,
                }
            })
            .collect()
    }

    #[test]
    fn finds_the_end_however_the_bytes_arrive() {
        let table: [(&[u8], usize); 8] = [
            (b"+OK\r\n", 5),
            (b"$-1\r\n", 5),
            (b"*-1\r\n", 5),
            (b"*0\r\n", 4),
            (b"$5\r\na\r\nbc\r\n", 11),
            (b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", 19),
            (b"*2\r\n*0\r\n*1\r\n*1\r\n+a\r\n", 20),
            (b"-ERR \xff\r\n", 8),
        ];
        for (input, len) in table {
            for found in extents(input) {
                assert_eq!(found, Ok(Some(len)), "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn refuses_what_would_overflow_or_is_not_resp() {
        let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
        let table: [&[u8]; 6] = [&deep, b"$5000000\r\n", b"*5000000\r\n", b"$-2\r\n", b"%1\r\n", b"\r\n"];
        for input in table {
            assert!(matches!(Extent::default().scan(input), Err(Error::Protocol(_))), "{}", input.escape_ascii());
        }
    }

    /// A server that answers every read with the next of `replies`, then closes.
    async fn server(replies: Vec<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buf = [0; 4096];
            for reply in replies {
                if stream.read(&mut buf).await.unwrap_or(0) == 0 {
                    return;
                }
                let _ = stream.write_all(reply).await;
            }
        });
        address
    }

    async fn connect(address: &str) -> Result<Client, Error> {
        Client::connect(address, None, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn error_replies_are_told_apart() {
        let address = server(vec![
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-NOAUTH Authentication required.\r\n",
            b"-ERR No such master with that name \xff\r\n",
            b"*2\r\n$4\r\nrole\r\n:7\r\n",
        ])
        .await;
        let mut client = connect(&address).await.unwrap();
        assert_eq!(client.call(&[b"ROLE"]).await, Err(Error::Loading));
        assert!(matches!(client.call(&[b"ROLE"]).await, Err(Error::Auth(t)) if t.starts_with("NOAUTH")));
        assert!(matches!(client.call(&[b"ROLE"]).await, Err(Error::Server(t)) if t.starts_with("ERR No such")));
        let reply = client.call(&[b"ROLE"]).await.unwrap();
        assert_eq!(reply.field("role").and_then(Reply::integer), Some(7));
        assert_eq!(client.closed().await, Error::Closed);
    }

    #[tokio::test]
    async fn refused_silent_and_login() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert_eq!(connect(&free).await.unwrap_err(), Error::Refused);
        assert!(matches!(connect("no-such-host.invalid:1").await, Err(Error::Unreachable(_) | Error::Timeout)));

        // Never accepted: the kernel connects, nobody answers. So does a stopped process.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = connect(&silent.local_addr().unwrap().to_string()).await.unwrap();
        client.set_limit(Duration::from_millis(20));
        assert_eq!(client.call(&[b"ROLE"]).await, Err(Error::Timeout));

        let strict = server(vec![b"-ERR AUTH <password> called without any password configured\r\n"]).await;
        let login = Login { username: None, password: "x".into() };
        let refused = Client::connect(&strict, Some(&login), Duration::from_secs(5)).await;
        assert!(matches!(refused, Err(Error::Auth(_))), "{refused:?}");
    }
}
