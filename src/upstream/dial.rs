//! Opens a connection to a node and brings it to the state its lane wants: RESP version and user.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::config::Login;
use crate::resp::{Found, ReplyScanner, encode};

/// Longest reply that is believed where none is expected to be long: INFO with everything in it stays far below.
pub const SHORT: usize = 1024 * 1024;

/// Where to dial: a node in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: u16,
    pub generation: u64,
    /// `host:port`, resolved at each dial.
    pub dial: Arc<str>,
}

/// What cannot be set per command on a shared connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// `None`: the node's default user, not authenticated.
    pub login: Option<Login>,
    /// 2 or 3.
    pub resp: u8,
    /// Reads leave no trace in the keys' access times (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// Sees keys past their time at a master in import mode (Valkey's CLIENT IMPORT-SOURCE).
    pub import_source: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The node answered the handshake with this error line (without its line end).
    #[error("{0}")]
    Handshake(String),
}

impl Refused {
    /// The bound on leased connections is reached.
    pub fn is_full(&self) -> bool {
        matches!(self, Refused::Io(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// The node knows the user no more, or not with this password.
    pub fn is_login(&self) -> bool {
        matches!(self, Refused::Handshake(text) if ["WRONGPASS", "NOAUTH", "NOPERM"].iter().any(|code| text.starts_with(code)))
    }
}

/// A connection that its lane may use.
pub struct Dialled {
    pub stream: TcpStream,
    /// The lane has no login, and the node wants one.
    pub locked: bool,
}

/// Dials `target` and performs `lane`'s handshake within `limit`. Unless `paced` the kernel sends at once what it may send.
///
/// # Errors
/// The socket's, the time limit's, or the node's own refusal.
pub async fn dial(target: &Target, lane: &Lane, limit: Duration, paced: bool) -> Result<Dialled, Refused> {
    tokio::time::timeout(limit, async {
        let mut stream = connect(&target.dial, paced).await?;
        tune(&stream);
        let locked = handshake(&mut stream, lane).await?;
        Ok(Dialled { stream, locked })
    })
    .await
    .unwrap_or(Err(Refused::Timeout(limit)))
}

async fn connect(dial: &str, paced: bool) -> io::Result<TcpStream> {
    let open = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if !paced {
            unpace(&socket);
        }
        Ok(socket)
    };
    connect_first(lookup_host(dial).await?, open).await
}

/// A kernel without IPv6 makes no socket for an address of it: that is this address' failure, like any other.
async fn connect_first(
    addresses: impl Iterator<Item = SocketAddr>,
    open: impl Fn(SocketAddr) -> io::Result<TcpSocket>,
) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let connected = match open(address) {
            Ok(socket) => socket.connect(address).await,
            Err(e) => Err(e),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Takes a congestion control that does not pace, if the system's does. Only before it connects: who has paced once goes on.
fn unpace(socket: &TcpSocket) {
    let paces = sockopt::tcp_congestion(socket).is_ok_and(|name| name.starts_with("bbr"));
    // Not everybody may take cubic; reno is always there.
    let _ = paces && ["cubic", "reno"].iter().any(|name| sockopt::set_tcp_congestion(socket, name).is_ok());
}

/// No delay for small packets; a peer that vanished is noticed by the kernel even when nothing is sent.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(30)));
}

/// True: the node wants a login and the lane has none.
async fn handshake(stream: &mut TcpStream, lane: &Lane) -> Result<bool, Refused> {
    let mut locked = false;
    if let Some(login) = &lane.login {
        let user = login.username.as_deref();
        let words = ["AUTH"].into_iter().chain(user).chain([login.password.as_str()]);
        let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
        exchange_ok(stream, &words).await?;
    }
    if lane.resp >= 3 {
        exchange_ok(stream, &[b"HELLO", b"3"]).await?;
    } else if lane.login.is_none() {
        // A node that is full says so as if in answer to whatever comes first.
        match exchange_ok(stream, &[b"PING"]).await {
            Err(Refused::Handshake(text)) if !text.starts_with("ERR max number of clients") => {
                locked = text.starts_with("NOAUTH");
            }
            other => other?,
        }
    }
    let switches: [(bool, &[u8]); 2] = [(lane.no_touch, b"NO-TOUCH"), (lane.import_source, b"IMPORT-SOURCE")];
    for (_, switch) in switches.into_iter().filter(|(on, _)| *on) {
        // A node that does not take it is used all the same: the one that was asked did.
        match exchange_ok(stream, &[b"CLIENT", switch, b"ON"]).await {
            Err(Refused::Handshake(_)) => {}
            other => other?,
        }
    }
    Ok(locked)
}

async fn exchange_ok(stream: &mut TcpStream, words: &[&[u8]]) -> Result<(), Refused> {
    let mut request = Vec::new();
    encode::request(&mut request, words.iter().copied());
    let reply = exchange(stream, &request, SHORT).await?;
    match reply.strip_prefix(b"-") {
        Some(text) => Err(Refused::Handshake(String::from_utf8_lossy(text).trim_end().to_owned())),
        None => Ok(()),
    }
}

/// Sends one request on an idle connection and returns its one reply.
///
/// # Errors
/// Those of the socket; a reply that is no RESP, or longer than `most` bytes, is `InvalidData`.
pub async fn exchange(stream: &mut TcpStream, request: &[u8], most: usize) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut scanner = ReplyScanner::default();
    let mut reply = Vec::new();
    loop {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match scanner.scan(&reply) {
            Found::Whole { len } if len == reply.len() => return Ok(reply),
            Found::Part { .. } if reply.len() < most => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_connection_that_may_be_paced_is() {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = node.local_addr().unwrap().to_string();
        let systems = sockopt::tcp_congestion(TcpSocket::new_v4().unwrap()).unwrap();
        let taken = |stream: TcpStream| sockopt::tcp_congestion(&stream).unwrap();
        assert_eq!(taken(connect(&dial, true).await.unwrap()), systems);
        let unpaced = taken(connect(&dial, false).await.unwrap());
        assert!(!unpaced.starts_with("bbr"), "{unpaced}");
        assert!(unpaced == systems || systems.starts_with("bbr"), "{unpaced} instead of {systems}");
    }

    #[tokio::test]
    async fn an_address_without_a_socket_is_passed_over() {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = node.local_addr().unwrap();
        let open = |address: SocketAddr| match address.is_ipv4() {
            true => TcpSocket::new_v4(),
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        let v6: SocketAddr = "[::1]:1".parse().unwrap();
        let stream = connect_first([v6, address].into_iter(), open).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert_eq!(connect_first([v6].into_iter(), open).await.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[tokio::test]
    async fn who_paces_by_nature_stops() {
        let socket = TcpSocket::new_v4().unwrap();
        // Not every kernel has it, and only some may take it.
        if sockopt::set_tcp_congestion(&socket, "bbr").is_ok() {
            unpace(&socket);
            let name = sockopt::tcp_congestion(&socket).unwrap();
            assert!(["cubic", "reno"].contains(&&*name), "{name}");
        }
    }
}
