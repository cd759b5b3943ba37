//! One read or one write on a client's or a node's socket, with as few instructions around the system call as it takes.
//!
//! The system call is made directly, not by libc, whose `send` and `recv` are points of cancellation: two locked
//! instructions and some 40 others each, for threads that nobody cancels. Saves about 100 of 2,700 user instructions a
//! GET. Must not keep bytes. Invariant: readiness is given up exactly when the socket is known to be empty (or full), so
//! the next poll neither spins nor sleeps through an event.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads once. `Ok(0)` is the end of the stream.
///
/// # Errors
/// Those of recv(2).
#[inline]
pub fn poll_recv(stream: &TcpStream, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        if let Some(done) = try_recv(stream, room) {
            return Poll::Ready(done);
        }
    }
}

/// As [`poll_recv`], but not counted towards the task's turn: for the first read after it was woken, where nearly always
/// something is there.
///
/// # Errors
/// Those of recv(2).
#[inline]
pub fn poll_first_recv(stream: &TcpStream, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
    match try_recv(stream, room) {
        Some(done) => Poll::Ready(done),
        None => poll_recv(stream, cx, room),
    }
}

/// Whether there may be something to read, without waiting for it.
#[inline]
pub fn is_readable(stream: &TcpStream) -> bool {
    stream.try_io(Interest::READABLE, || Ok(())).is_ok()
}

/// `None`: there is nothing now.
#[inline]
fn try_recv(stream: &TcpStream, room: &mut [u8]) -> Option<io::Result<usize>> {
    let mut n = 0;
    let done = stream.try_io(Interest::READABLE, || {
        n = rustix::net::recv(stream, &mut *room, RecvFlags::empty())?.0;
        // It gave less than there was room for: it is empty now, and asking again would be in vain.
        if n > 0 && n < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match done {
        _ if n > 0 => Some(Ok(n)),
        Ok(()) => Some(Ok(0)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
        Err(e) => Some(Err(e)),
    }
}

/// Writes once, as much as the socket takes.
///
/// # Errors
/// Those of send(2); never SIGPIPE.
#[inline]
pub fn poll_send(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        match try_send(stream, bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
            done => return Poll::Ready(done),
        }
    }
}

/// Likewise, now or not at all.
///
/// # Errors
/// Those of send(2), among them `WouldBlock`.
#[inline]
pub fn try_send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_and_then_the_end() {
        let (near, mut far) = pair().await;
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let feeder = tokio::spawn(async move {
            for piece in sent.chunks(777) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (mut got, mut room) = (Vec::new(), [0; 1000]);
        loop {
            match poll_fn(|cx| poll_recv(&near, cx, &mut room)).await.unwrap() {
                0 => break,
                n => got.extend_from_slice(&room[..n]),
            }
        }
        feeder.await.unwrap();
        assert!(got == expected);
    }

    #[tokio::test]
    async fn a_short_read_empties_the_socket_and_the_next_bytes_wake_again() {
        let (near, mut far) = pair().await;
        let mut room = [0; 64];
        for round in 0..3 {
            far.write_all(b"hello").await.unwrap();
            assert_eq!(poll_fn(|cx| poll_recv(&near, cx, &mut room)).await.unwrap(), 5, "round {round}");
            assert!(now(|cx| poll_recv(&near, cx, &mut room)).is_pending());
            assert!(now(|cx| poll_first_recv(&near, cx, &mut room)).is_pending());
            assert!(!is_readable(&near));
        }
        drop(far);
        assert_eq!(poll_fn(|cx| poll_first_recv(&near, cx, &mut room)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (near, mut far) = pair().await;
        let block = vec![7; 1 << 20];
        let mut sent = 0;
        while let Poll::Ready(n) = now(|cx| poll_send(&near, cx, &block)) {
            match n {
                Ok(n) => sent += n,
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(try_send(&near, &block).map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
        let mut all = vec![0; sent];
        far.read_exact(&mut all).await.unwrap();
        assert!(poll_fn(|cx| poll_send(&near, cx, b"more")).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (near, far) = pair().await;
        drop(far);
        let outcome = async {
            loop {
                poll_fn(|cx| poll_send(&near, cx, b"anybody there?")).await?;
            }
        };
        let error: io::Error = match outcome.await {
            Err(e) => e,
            Ok::<(), _>(()) => unreachable!(),
        };
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
    }
}
