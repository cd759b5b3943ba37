//! One socket and the frames that come over it, kept byte for byte.
//!
//! Must not judge what a frame means. Invariant: a frame leaves the buffer whole; encoding it again gives the bytes it came as.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A frame of either protocol version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// `+ - : , # ( _` and nulls: everything up to the line's end, its first byte included.
    Line(Vec<u8>),
    /// `$ = !`
    Bulk(u8, Vec<u8>),
    /// `* ~ > %`; a map's keys and values in turn.
    Many(u8, Vec<Frame>),
}

impl Frame {
    /// The first frame in `bytes` and its length; `None` while it is not whole.
    pub fn take(bytes: &[u8]) -> Option<(Frame, usize)> {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let (line, mut at) = (&bytes[..end], end + 2);
        let kind = *line.first()?;
        let count = std::str::from_utf8(&line[1..]).ok().and_then(|n| n.parse::<i64>().ok());
        match (kind, count) {
            (b'$' | b'=' | b'!', Some(n)) if n >= 0 => {
                let body = bytes.get(at..at + n as usize)?.to_vec();
                bytes.get(at + n as usize + 1)?;
                Some((Frame::Bulk(kind, body), at + n as usize + 2))
            }
            (b'*' | b'~' | b'>' | b'%', Some(n)) if n >= 0 => {
                let n = if kind == b'%' { 2 * n } else { n };
                let mut items = Vec::new();
                for _ in 0..n {
                    let (item, len) = Frame::take(&bytes[at..])?;
                    items.push(item);
                    at += len;
                }
                Some((Frame::Many(kind, items), at))
            }
            _ => Some((Frame::Line(line.to_vec()), at)),
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Frame::Line(line) if line.starts_with(b"-"))
    }

    /// The text of a bulk string or a line.
    pub fn text(&self) -> String {
        match self {
            Frame::Line(line) => String::from_utf8_lossy(line).into_owned(),
            Frame::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Frame::Many(..) => String::new(),
        }
    }

    pub fn items(&self) -> &[Frame] {
        if let Frame::Many(_, items) = self { items } else { &[] }
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Frame::Line(line) => write!(f, "{}", line.escape_ascii()),
            Frame::Bulk(kind, body) if body.len() > 300 => {
                write!(f, "{}\"{}...\"({})", *kind as char, body[..300].escape_ascii(), body.len())
            }
            Frame::Bulk(kind, body) => write!(f, "{}\"{}\"", *kind as char, body.escape_ascii()),
            Frame::Many(kind, items) => {
                write!(f, "{}[", *kind as char)?;
                for (i, item) in items.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    if i == 40 {
                        return write!(f, ", ...]({})", items.len());
                    }
                    write!(f, "{comma}{item}")?;
                }
                write!(f, "]")
            }
        }
    }
}

/// One end of a conversation.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    pub closed: bool,
}

impl Wire {
    #[track_caller]
    pub fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        stream.set_nodelay(true).expect("nodelay");
        Wire { stream, buffer: Vec::new(), closed: false }
    }

    /// Of this end.
    pub fn address(&self) -> String {
        self.stream.local_addr().map(|a| a.to_string()).unwrap_or_default()
    }

    /// A side that closed is found out by reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The whole frames that are here by now.
    pub fn here(&mut self) -> Vec<Frame> {
        let _ = self.stream.set_nonblocking(true);
        while self.read() {}
        let _ = self.stream.set_nonblocking(false);
        let mut frames = Vec::new();
        while let Some(frame) = self.take() {
            frames.push(frame);
        }
        frames
    }

    /// Nothing but whole frames has been read.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    /// As many frames as asked for (and the close, if so asked), or what came of them within `limit`.
    pub fn wait(&mut self, count: usize, close: bool, limit: Duration) -> Vec<Frame> {
        let until = Instant::now() + limit;
        let mut frames = Vec::new();
        loop {
            while frames.len() < count
                && let Some(frame) = self.take()
            {
                frames.push(frame);
            }
            let left = until.saturating_duration_since(Instant::now());
            let complete = frames.len() == count && !close;
            if complete || self.closed || left.is_zero() {
                return frames;
            }
            let _ = self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            self.read();
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (frame, len) = Frame::take(&self.buffer)?;
        self.buffer.drain(..len);
        Some(frame)
    }

    /// One read; false when it brought nothing.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(n) => {
                self.buffer.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => self.closed = true,
        }
        false
    }
}
