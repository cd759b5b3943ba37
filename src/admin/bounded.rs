//! A listener with a bound on connections and on how long one may last, so that a forgotten or hostile HTTP client can
//! neither use up descriptors nor keep the scraper out for long.
//!
//! Must not know HTTP. Invariant: at most [`MOST`] connections are open, none longer than [`LIFE`], or [`STAY`] where its
//! answer takes its time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time; more wait in the kernel's queue.
const MOST: usize = 64;
/// From accept to the end, whatever happens.
const LIFE: Duration = Duration::from_secs(10);

/// The same for a connection whose answer comes bit by bit.
const STAY: Duration = Duration::from_secs(180);

/// The other side of a connection, as its handler sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer(Arc<AtomicBool>);

impl Peer {
    /// Lets the connection last longer.
    pub(super) fn stay(&self) {
        self.0.store(true, Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.remote_addr().clone()
    }
}

pub(super) struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    life: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, MOST, LIFE)
    }

    fn with(listener: TcpListener, most: usize, life: Duration) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(most)), life }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        // The semaphore is never closed; without a permit the connection would only go uncounted.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, _) = Listener::accept(&mut self.listener).await;
        let peer = Peer::default();
        let end = Box::pin(tokio::time::sleep(self.life));
        (Connection { stream, peer: peer.clone(), end, _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::default())
    }
}

/// A stream that fails once its time is over.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// `Err` when the time is over; otherwise the task is woken then.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) if self.peer.0.swap(false, Relaxed) => {
                self.end.as_mut().reset(Instant::now() + STAY);
                self.check(cx)
            }
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_silent_client_is_cut_and_makes_room_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::with(listener, 1, Duration::from_millis(20));
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let (mut one, _) = bounded.accept().await;
        {
            let waiting = bounded.accept();
            tokio::pin!(waiting);
            assert!(is_pending(waiting.as_mut()).await, "a second connection was let in beside the first");
        }
        let cut = one.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
        drop(one);
        bounded.accept().await;
    }

    /// Polls once.
    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
