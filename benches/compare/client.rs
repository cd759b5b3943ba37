//! A plain connection for preparing and checking: one request, one reply.
//!
//! The load comes from `redis-benchmark`, but for the mix of `levels`. Invariant: an error reply is an `Err`.

use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// One client connection to 127.0.0.1.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub async fn open(port: u16) -> Result<Client> {
        Client::open_from(IpAddr::V4(Ipv4Addr::LOCALHOST), port).await
    }

    /// From another source address, for more connections than one address has ports.
    pub async fn open_from(source: IpAddr, port: u16) -> Result<Client> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::with_capacity(512, stream) })
    }

    /// Sends one request and returns the text of its reply: a line without its type, or the bytes of a bulk.
    pub async fn call(&mut self, arguments: &[&[u8]]) -> Result<Vec<u8>> {
        self.send(&request(arguments)).await?;
        self.reply().await
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Reads one simple, integer, error or bulk reply; of an array only the header (`*3` gives `3`).
    pub async fn reply(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let Some(kind) = text.chars().next() else {
            return Err(Error::other("the connection was closed"));
        };
        let rest = text.get(kind.len_utf8()..).unwrap_or_default();
        match kind {
            '-' => Err(Error::other(rest.to_owned())),
            '$' if rest == "-1" => Ok(Vec::new()),
            '$' => {
                let length: usize = rest.parse().map_err(Error::other)?;
                let mut value = vec![0; length + 2];
                self.stream.read_exact(&mut value).await?;
                value.truncate(length);
                Ok(value)
            }
            _ => Ok(rest.as_bytes().to_vec()),
        }
    }

    /// The bytes as they come, for replies that must not be kept.
    pub async fn read_some(&mut self, into: &mut [u8]) -> Result<usize> {
        self.stream.read(into).await
    }
}

/// A request as an array of bulks.
pub fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
