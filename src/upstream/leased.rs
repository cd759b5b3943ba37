//! A connection lent to one session: transactions, blocking commands, subscriptions, large values.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Target;
use super::dial::exchange;
use crate::resp::{Found, ReplyScanner, encode};

/// Held by one session; dropping it closes the connection.
pub struct Lease {
    pub stream: TcpStream,
    pub target: Target,
    db: u32,
    out: Rc<Cell<usize>>,
}

impl Lease {
    pub(super) fn new(stream: TcpStream, target: Target, out: Rc<Cell<usize>>) -> Self {
        out.set(out.get() + 1);
        Self { stream, target, db: 0, out }
    }

    /// Brings the connection to `db`.
    ///
    /// # Errors
    /// The socket's; a refused SELECT is `InvalidInput`.
    pub async fn select(&mut self, db: u32) -> io::Result<()> {
        if self.db != db {
            let mut request = Vec::new();
            encode::request(&mut request, [&b"SELECT"[..], db.to_string().as_bytes()].into_iter());
            if self.exchange(&request).await?.first() == Some(&b'-') {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            self.db = db;
        }
        Ok(())
    }

    /// The client changed the database by itself.
    pub fn set_db(&mut self, db: u32) {
        self.db = db;
    }

    /// One request, one reply (at most 64 KiB), with nothing else outstanding.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        exchange(&mut self.stream, request).await
    }

    /// `n` requests at once and their `n` replies, at most `most` bytes of them.
    ///
    /// # Errors
    /// Those of the socket; replies that are no RESP, or too long, are `InvalidData`.
    pub async fn exchange_many(&mut self, requests: &[u8], n: usize, most: usize) -> io::Result<Vec<u8>> {
        self.stream.write_all(requests).await?;
        let mut scanner = ReplyScanner::default();
        let (mut replies, mut whole, mut left) = (Vec::new(), 0, n);
        while left > 0 {
            match scanner.scan(&replies[whole..]) {
                Found::Whole { len } => (whole, left) = (whole + len, left - 1),
                Found::Part { .. } if replies.len() >= most => return Err(io::ErrorKind::InvalidData.into()),
                Found::Part { .. } => {
                    if self.stream.read_buf(&mut replies).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Found::Garbage => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        if whole == replies.len() { Ok(replies) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Idle means: nothing to read, not even the end.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.out.set(self.out.get().saturating_sub(1));
    }
}
