//! Asks a running redweir whether it lives: for a container's HEALTHCHECK, so that the image needs no HTTP client.
//!
//! Must not need a runtime. Invariant: ends within a bounded time, whatever the other side does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a process does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error("{0} cannot be asked: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("{0} answered {1:?} instead of 200")]
    Answered(SocketAddr, String),
}

/// `GET /healthz` at a redweir's admin address. Blocks for three seconds at most.
pub fn healthcheck(admin: SocketAddr) -> Result<(), Unhealthy> {
    let line = status_line(admin, PATIENCE).map_err(|error| Unhealthy::Unreachable(admin, error))?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(Unhealthy::Answered(admin, line)),
    }
}

fn status_line(admin: SocketAddr, patience: Duration) -> io::Result<String> {
    let end = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_write_timeout(Some(patience))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // Byte-wise trickling must not keep us: the time left shrinks with every read, and a status line is short.
    let (mut head, mut piece) = (Vec::new(), [0; 256]);
    while !head.contains(&b'\n') && head.len() < 1024 {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            n => head.extend(piece.iter().take(n)),
        }
    }
    let text = String::from_utf8_lossy(&head);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers one connection with `answer` and closes.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    #[test]
    fn only_200_is_healthy() {
        assert!(healthcheck(answering("HTTP/1.1 200 OK\r\n\r\n")).is_ok());
        for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "-ERR no\r\n", ""] {
            let found = healthcheck(answering(answer));
            assert!(matches!(found, Err(Unhealthy::Answered(..))), "{answer:?}: {found:?}");
        }
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(healthcheck(address), Err(Unhealthy::Unreachable(..))));
    }

    #[test]
    fn a_server_that_says_nothing_does_not_keep_us() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = status_line(listener.local_addr().unwrap(), Duration::from_millis(30));
        assert!(matches!(found.unwrap_err().kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    }
}
