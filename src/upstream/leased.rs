//! A connection lent to one session: transactions, blocking commands, subscriptions, large values.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::Target;
use super::dial::{SHORT, exchange};
use crate::resp::encode;

/// Held by one session; dropping it closes the connection.
pub struct Lease {
    pub stream: TcpStream,
    pub target: Target,
    /// The connection's id at the node, as far as it was asked for; a node that will not tell is not asked twice.
    pub id: Option<u64>,
    db: u32,
    out: Rc<Cell<usize>>,
}

impl Lease {
    pub(super) fn new(stream: TcpStream, target: Target, out: Rc<Cell<usize>>) -> Self {
        out.set(out.get() + 1);
        Self { stream, target, id: None, db: 0, out }
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

    /// One request, one reply (at most 1 MiB, and what an error may repeat of the request), with nothing else outstanding.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        exchange(&mut self.stream, request, SHORT + request.len()).await
    }

    /// As [`Lease::exchange`], for a reply of up to `most` bytes.
    ///
    /// # Errors
    /// As there.
    pub async fn exchange_large(&mut self, request: &[u8], most: usize) -> io::Result<Vec<u8>> {
        exchange(&mut self.stream, request, most).await
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
