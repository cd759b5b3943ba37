//! Bytes that wait for a socket to take them.
//!
//! Invariant: what was taken does not stay in memory, however long the queue never runs empty; empty, it owns nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Taken bytes that may stay before the rest is moved to the front.
const SLACK: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Outbox {
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        // At least half is free then, so each byte is moved once at most on average.
        if self.at > SLACK && self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as much as `stream` takes. Ready when nothing is left.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.at += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most 1000 bytes at a time.
    struct Slow(Vec<u8>, bool);

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Pending;
            }
            let n = bytes.len().min(1000);
            self.0.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_queue_that_never_runs_empty_does_not_grow() {
        let (mut outbox, mut slow) = (Outbox::default(), Slow(Vec::new(), false));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sent = Vec::new();
        outbox.push(&[7; 5000]);
        sent.extend_from_slice(&[7; 5000]);
        for round in 0..10_000u32 {
            let piece = [round as u8; 1000];
            outbox.push(&piece);
            sent.extend_from_slice(&piece);
            while slow.0.len() < sent.len() - 5000 {
                let _ = outbox.poll_write(&mut slow, &mut cx);
            }
            assert!(outbox.bytes.capacity() < 1 << 19);
        }
        while outbox.poll_write(&mut slow, &mut cx).is_pending() {}
        assert!(slow.0 == sent && outbox.bytes.capacity() == 0);
    }
}
