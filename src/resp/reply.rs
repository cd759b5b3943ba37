//! Finds where a node's next reply ends, in RESP2 and RESP3 alike, without decoding it.
//!
//! Nesting is a counter of elements still to come, so no reply is too deep. Must not interpret content.
//! Invariant: linear over all calls; a reply larger than the buffer can be passed on in pieces.

use super::number::{self, Header};

/// No server sends a longer bulk (`proto-max-bulk-len` is an i64, but a node that says 1 TiB is not to be believed).
const LONGEST_BULK: i64 = 1 << 40;
/// A length or a count has at most 20 characters; what is longer without a line end never becomes one.
const HEADER_MAX: usize = 32;

/// What the buffer holds of the current reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A whole reply of `len` bytes.
    Whole { len: usize },
    /// The first `ready` bytes belong to it and may be passed on ([`ReplyScanner::passed`]); more must come.
    Part { ready: usize },
    /// Not RESP: the connection cannot be understood any more.
    Garbage,
}

/// Resumable: call [`ReplyScanner::scan`] again with more bytes from the same start.
#[derive(Debug, Clone)]
pub struct ReplyScanner {
    /// Elements still to come, the reply itself being the first.
    left: u64,
    /// Where the next element begins; may lie beyond the buffer, inside a bulk still arriving.
    at: usize,
    /// `at` is inside a line (a status, an error, a number), where the search for its end goes on.
    in_line: bool,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self { left: 1, at: 0, in_line: false }
    }
}

impl ReplyScanner {
    /// `input` begins at the first byte of the current reply not yet passed on.
    #[inline]
    pub fn scan(&mut self, input: &[u8]) -> Found {
        if self.left == 1
            && self.at == 0
            && !self.in_line
            && let Some(len) = plain(input)
        {
            return Found::Whole { len };
        }
        self.elements(input)
    }

    #[inline(never)]
    fn elements(&mut self, input: &[u8]) -> Found {
        while self.left > 0 {
            let Some(&kind) = input.get(self.at) else {
                return Found::Part { ready: self.at.min(input.len()) };
            };
            let step = match kind {
                _ if self.in_line => self.line_end(input, self.at),
                b'$' | b'=' | b'!' => self.bulk(input),
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.line_end(input, self.at + 1),
                b'*' | b'~' | b'>' => self.aggregate(input, 1, 0),
                b'%' => self.aggregate(input, 2, 0),
                // An attribute comes before the element it describes.
                b'|' => self.aggregate(input, 2, 1),
                _ => return Found::Garbage,
            };
            match step {
                Step::Next => {}
                Step::More => return Found::Part { ready: self.at.min(input.len()) },
                Step::Garbage => return Found::Garbage,
            }
        }
        if self.at > input.len() {
            return Found::Part { ready: input.len() };
        }
        let len = self.at;
        *self = Self::default();
        Found::Whole { len }
    }

    /// The first `n` bytes (at most what [`Found::Part`] said) left the buffer.
    pub fn passed(&mut self, n: usize) {
        self.at = self.at.saturating_sub(n);
    }

    #[inline]
    fn bulk(&mut self, input: &[u8]) -> Step {
        if let Some((n, next)) = number::short(input, self.at, b'$') {
            self.left -= 1;
            self.at = next + n + 2;
            return Step::Next;
        }
        match number::header(input, self.at) {
            Header::Number(n, _) if n > LONGEST_BULK => Step::Garbage,
            Header::Number(n, next) => {
                self.left -= 1;
                self.at = if n < 0 { next } else { next + n as usize + 2 };
                Step::Next
            }
            Header::Partial if input.len() - self.at <= HEADER_MAX => Step::More,
            Header::Partial | Header::Invalid => Step::Garbage,
        }
    }

    /// A line may be as long as a script likes, so its bytes can be passed on before its end is there.
    #[inline]
    fn line_end(&mut self, input: &[u8], from: usize) -> Step {
        let rest = input.get(from..).unwrap_or_default();
        let mut searched = 0;
        while let Some(end) = rest[searched..].iter().position(|&b| b == b'\n') {
            let end = searched + end;
            searched = end + 1;
            if end > 0 && rest[end - 1] == b'\r' {
                self.at = from + searched;
                self.in_line = false;
                self.left -= 1;
                return Step::Next;
            }
        }
        // A carriage return stays: it may be the first half of the end.
        self.at = input.len() - usize::from(rest.last() == Some(&b'\r'));
        self.in_line = true;
        Step::More
    }

    fn aggregate(&mut self, input: &[u8], per: u64, plus: u64) -> Step {
        match number::header(input, self.at) {
            Header::Number(n, next) => {
                let elements = u64::try_from(n).unwrap_or(0);
                match elements.checked_mul(per).and_then(|e| e.checked_add(self.left - 1 + plus)) {
                    Some(left) => self.left = left,
                    None => return Step::Garbage,
                }
                self.at = next;
                Step::Next
            }
            Header::Partial if input.len() - self.at <= HEADER_MAX => Step::More,
            Header::Partial | Header::Invalid => Step::Garbage,
        }
    }
}

/// The length of a whole `+OK`, null or short bulk: nearly every reply there is. `None` says nothing.
#[inline(always)]
fn plain(input: &[u8]) -> Option<usize> {
    let head = input.first_chunk::<5>()?;
    if head == b"+OK\r\n" || head == b"$-1\r\n" {
        return Some(5);
    }
    let (n, next) = number::short(input, 0, b'$')?;
    let end = next + n + 2;
    (end <= input.len()).then_some(end)
}

enum Step {
    Next,
    More,
    Garbage,
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$5\r\nhe\r\no\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+a\r\n#t\r\n",
        b"~2\r\n,1.5\r\n(123\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"_\r\n",
        b">2\r\n+a\r\n+b\r\n",
        b"!5\r\nERR x\r\n",
    ];

    #[test]
    fn every_type_is_delimited_at_every_split() {
        for reply in REPLIES {
            for split in 0..reply.len() {
                let mut scanner = ReplyScanner::default();
                assert!(matches!(scanner.scan(&reply[..split]), Found::Part { .. }));
                assert_eq!(scanner.scan(reply), Found::Whole { len: reply.len() }, "{reply:?} at {split}");
            }
        }
    }

    #[test]
    fn a_reply_can_be_passed_on_byte_by_byte() {
        for reply in REPLIES {
            let mut scanner = ReplyScanner::default();
            let (mut buffer, mut out) = (Vec::new(), Vec::new());
            for &b in *reply {
                buffer.push(b);
                match scanner.scan(&buffer) {
                    Found::Part { ready } => {
                        out.extend(buffer.drain(..ready));
                        scanner.passed(ready);
                    }
                    Found::Whole { len } => out.extend(buffer.drain(..len)),
                    Found::Garbage => panic!("garbage"),
                }
            }
            assert_eq!(out, *reply);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_long_line_goes_on_in_pieces_up_to_its_end() {
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.scan(b"+abc\n\r"), Found::Part { ready: 5 });
        scanner.passed(5);
        assert_eq!(scanner.scan(b"\rd\r"), Found::Part { ready: 2 });
        scanner.passed(2);
        assert_eq!(scanner.scan(b"\r\n+next"), Found::Whole { len: 2 });
        assert_eq!(scanner.scan(b"+next\r\n"), Found::Whole { len: 7 });
    }

    #[test]
    fn a_header_without_an_end_is_garbage() {
        for kind in *b"$*%>~|=!" {
            let mut line = vec![kind];
            line.extend([b'1'; HEADER_MAX]);
            assert_eq!(ReplyScanner::default().scan(&line), Found::Garbage);
        }
    }

    #[test]
    fn depth_is_no_problem_and_garbage_is_seen() {
        let mut deep = b"*1\r\n".repeat(100_000);
        deep.extend_from_slice(b":1\r\n");
        assert_eq!(ReplyScanner::default().scan(&deep), Found::Whole { len: deep.len() });
        assert_eq!(ReplyScanner::default().scan(b"HTTP/1.1"), Found::Garbage);
        assert_eq!(ReplyScanner::default().scan(b"*x\r\n"), Found::Garbage);
    }
}
