//! Bytes in, bytes out: the same script sent to two servers must bring the same bytes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// What came back, and how it ended.
#[derive(PartialEq, Eq)]
pub struct Answer {
    pub bytes: Vec<u8>,
    /// The server closed although the script did not ask for it (before our side was done).
    pub closed: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.bytes.escape_ascii().to_string();
        write!(f, "{}{}", shown.get(..4000).unwrap_or(&shown), if self.closed { " <closed>" } else { "" })
    }
}

/// Appended to every script: its reply shows that everything before it has been answered. Bytes that a client cannot
/// mistake for the answer to anything in a script.
const MARK: &[u8] = b"*2\r\n$4\r\nECHO\r\n$13\r\nend-of-script\r\n";
const MARK_REPLY: &[u8] = b"$13\r\nend-of-script\r\n";

/// Sends `pieces` one write after the other, then a mark, and reads until the mark's reply or the close.
#[track_caller]
pub fn talk(port: u16, pieces: &[&[u8]]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for piece in pieces.iter().copied().chain([MARK]) {
        // A server that closed early makes later writes fail: what it said before counts.
        if stream.write_all(piece).is_err() {
            break;
        }
        if pieces.len() > 1 {
            // Lets the piece travel by itself. Nothing is asserted on it: joined pieces must give the same answer.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Answer { bytes, closed: true },
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Answer { bytes, closed: true },
            Err(e) => panic!("no mark after {} bytes ({e}): {}", bytes.len(), bytes.escape_ascii()),
        }
        if bytes.ends_with(MARK_REPLY) {
            bytes.truncate(bytes.len() - MARK_REPLY.len());
            return Answer { bytes, closed: false };
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
