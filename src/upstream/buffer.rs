//! A fixed read buffer: fill at the end, take from the front.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use crate::socket;

/// 64 KiB: 1.4 reads per 16 KiB reply were measured with it (limit.md section 6).
pub const READ_BUFFER: usize = 64 * 1024;

/// Holds the bytes read and not yet dealt with, always contiguous.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn new(size: usize) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }

    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// At most the first `most` of them.
    #[inline]
    pub fn front(&self, most: usize) -> &[u8] {
        let filled = self.filled();
        &filled[..filled.len().min(most)]
    }
    pub fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Makes it larger, up to `most` bytes. False: it is as large as that.
    pub fn grow(&mut self, most: usize) -> bool {
        let len = (self.bytes.len() * 2).min(most);
        let grows = len > self.bytes.len();
        if grows {
            let mut bytes = vec![0; len].into_boxed_slice();
            bytes[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = bytes;
        }
        grows
    }

    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// One read. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let n = ready!(socket::poll_recv(stream, cx, &mut self.bytes[self.end..]))?;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}
