//! Bytes in, bytes out: the same script sent to two servers must bring the same bytes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the reply to the mark behind the script.
    Marked,
    /// The server closed.
    Closed,
    /// Nothing came for a long time.
    Silent,
}

/// What came back.
#[derive(PartialEq, Eq)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub end: End,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.bytes.escape_ascii(), self.end)
    }
}

/// Sent after a script: its reply shows that everything before has been answered.
const MARK: &[u8] = b"*2\r\n$4\r\nECHO\r\n$13\r\nend-of-script\r\n";
const MARK_REPLY: &[u8] = b"$13\r\nend-of-script\r\n";
const SILENCE: Duration = Duration::from_secs(10);

/// Sends `pieces` one write after the other, then a mark, and reads until the mark's reply or the close.
#[track_caller]
pub fn talk(port: u16, pieces: &[&[u8]]) -> Answer {
    let mut all = pieces.to_vec();
    all.push(MARK);
    exchange(port, &all)
}

/// The same without a mark, for a script whose answer must be a close.
#[track_caller]
pub fn talk_unmarked(port: u16, pieces: &[&[u8]]) -> Answer {
    exchange(port, pieces)
}

fn exchange(port: u16, pieces: &[&[u8]]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
    for piece in pieces {
        // A server that closed early makes later writes fail: what it said before counts.
        if stream.write_all(piece).is_err() {
            break;
        }
        if pieces.len() > 2 {
            // Lets the piece travel by itself. Nothing is asserted on it: joined pieces must give the same answer.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Answer { bytes, end: End::Closed },
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Answer { bytes, end: End::Closed },
            Err(_) => return Answer { bytes, end: End::Silent },
        }
        if bytes.ends_with(MARK_REPLY) {
            bytes.truncate(bytes.len() - MARK_REPLY.len());
            return Answer { bytes, end: End::Marked };
        }
    }
}

/// Sends bytes, ends our side, and reads everything until the other side closes.
#[track_caller]
pub fn say_and_leave(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("written");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    // A reset after the answer is a close, too.
    let _ = stream.read_to_end(&mut answer);
    answer
}
