//! Finds where a client's next request ends. Strict where Redis is strict, with Redis' own protocol errors.
//!
//! Source: networking.c processMultibulkBuffer, processInlineBuffer. Must not decode arguments or know commands.
//! Invariant: over all calls for one request each byte is looked at once (plus at most one unfinished header line), and
//! nothing is allocated.

use super::number;

/// Longest header or inline line (`PROTO_INLINE_MAX_SIZE`).
const LINE_MAX: usize = 64 * 1024;
/// Most arguments, and most bytes of one, before a login where one is needed (processMultibulkBuffer, since 6.2.6).
const STRANGER_ARGS: u16 = 10;
const STRANGER_BULK: u64 = 16 * 1024;

/// What is at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A whole multibulk request of `len` bytes.
    Request { len: usize },
    /// The same, but an argument is not followed by a line end. Redis reads over those two bytes, Valkey 9 closes the
    /// connection: it must not be passed on as it is.
    Ragged { len: usize },
    /// A whole inline line of `len` bytes, line end included.
    Inline { len: usize },
    /// Something Redis swallows without a reply: `*0`, `*-1`.
    Nothing { len: usize },
    /// More bytes are needed. The request is known to have at least `needs` bytes in all.
    Incomplete { needs: usize },
    /// Redis answers this and closes the connection.
    Invalid(Violation),
}

/// A protocol error, as Redis names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    MultibulkLength,
    BulkLength,
    ExpectedDollar(u8),
    MultibulkTooBig,
    BulkTooBig,
    InlineTooBig,
    UnbalancedQuotes,
    /// More than a client may send before it has logged in, where it has to.
    StrangerMultibulk,
    StrangerBulk,
}

impl Violation {
    /// No violation for a client that has logged in or need not.
    pub fn is_strangers(self) -> bool {
        matches!(self, Violation::StrangerMultibulk | Violation::StrangerBulk)
    }
}

/// Resumable: call [`RequestScanner::scan`] again with more bytes from the same start.
#[derive(Debug, Clone)]
pub struct RequestScanner {
    /// Arguments of the current request still to come; 0 between requests.
    left: u32,
    /// Where the next unread header begins, from the start of the request.
    at: usize,
    ragged: bool,
    /// In force now: those of a stranger, or for everybody. [`u16::MAX`]: any number of arguments.
    most_args: u16,
    most_bulk: u64,
    max_bulk: u64,
}

impl RequestScanner {
    /// `max_bulk`: Redis' `proto-max-bulk-len`.
    pub fn new(max_bulk: u64) -> Self {
        Self { left: 0, at: 0, ragged: false, most_args: u16::MAX, most_bulk: max_bulk, max_bulk }
    }

    /// The client has not logged in: it may have to, and what is large is a violation until [`RequestScanner::trust`].
    pub fn doubt(&mut self) {
        (self.most_args, self.most_bulk) = (STRANGER_ARGS, STRANGER_BULK.min(self.max_bulk));
    }

    /// It need not, or has: a scan that ended in a violation of a stranger's bounds goes on where it was.
    pub fn trust(&mut self) {
        (self.most_args, self.most_bulk) = (u16::MAX, self.max_bulk);
    }

    /// Forgets a request begun; the next scan starts a new one.
    pub fn reset(&mut self) {
        self.left = 0;
        self.at = 0;
        self.ragged = false;
    }

    /// No request is begun.
    #[inline]
    pub fn is_between(&self) -> bool {
        self.left == 0
    }

    /// A request is begun whose first bytes, up to `at`, need no look: `args` arguments follow them. None: it is looked at all
    /// the same.
    #[inline]
    pub fn begin_behind(&mut self, args: u32, at: usize) {
        if args <= u32::from(self.most_args) {
            (self.left, self.at) = (args, at);
        }
    }

    /// `input` begins at the first byte of the current request.
    #[inline]
    pub fn scan(&mut self, input: &[u8]) -> Scan {
        if self.left == 0 {
            match number::short(input, 0, b'*') {
                Some((n, next)) if n > 0 && n <= usize::from(self.most_args) => (self.left, self.at) = (n as u32, next),
                _ => {
                    if let Some(scan) = self.begin(input) {
                        return scan;
                    }
                }
            }
        }
        // Arguments with a short header, nearly all there are, without leaving the registers.
        let (mut left, mut at) = (self.left, self.at);
        while left > 0 {
            let Some((len, next)) = number::short(input, at, b'$') else { break };
            let end = next + len + 2;
            if end > input.len() || len as u64 > self.most_bulk || input[end - 2..end] != *b"\r\n" {
                break;
            }
            at = end;
            left -= 1;
        }
        (self.left, self.at) = (left, at);
        if left == 0 && !self.ragged { Scan::Request { len: at } } else { self.arguments(input) }
    }

    /// The first line, when it is not a short header; `None` once it was one after all.
    #[inline(never)]
    fn begin(&mut self, input: &[u8]) -> Option<Scan> {
        match input.first() {
            None => return Some(Scan::Incomplete { needs: 1 }),
            Some(b'*') => {}
            Some(_) => return Some(inline(input)),
        }
        Some(match number::header(input, 0) {
            number::Header::Number(n, next) if n <= 0 => Scan::Nothing { len: next },
            number::Header::Number(n, _)
                if self.most_args < u16::MAX && n > i64::from(self.most_args) && n <= i64::from(i32::MAX) =>
            {
                Scan::Invalid(Violation::StrangerMultibulk)
            }
            number::Header::Number(n, next) if n <= i64::from(i32::MAX) => {
                (self.left, self.at) = (n as u32, next);
                return None;
            }
            number::Header::Partial if input.len() > LINE_MAX => Scan::Invalid(Violation::MultibulkTooBig),
            number::Header::Partial => Scan::Incomplete { needs: input.len() + 1 },
            _ => Scan::Invalid(Violation::MultibulkLength),
        })
    }

    #[inline(never)]
    fn arguments(&mut self, input: &[u8]) -> Scan {
        while self.left > 0 {
            match self.argument(input) {
                Ok(Some(end)) if end > input.len() => return Scan::Incomplete { needs: end },
                Ok(Some(end)) => {
                    self.ragged |= input[end - 2..end] != *b"\r\n";
                    self.at = end;
                    self.left -= 1;
                }
                Ok(None) => return Scan::Incomplete { needs: input.len().max(self.at) + 1 },
                Err(violation) => return Scan::Invalid(violation),
            }
        }
        match std::mem::take(&mut self.ragged) {
            true => Scan::Ragged { len: self.at },
            false => Scan::Request { len: self.at },
        }
    }

    /// Where the argument at hand ends, line end included; it may lie beyond the input. `None`: its header is not whole.
    #[inline]
    fn argument(&self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let Some(&kind) = input.get(self.at) else { return Ok(None) };
        let have = input.len() - self.at;
        // Redis looks for the line end from the type byte on, and at the type byte only once the line is there.
        if kind == b'\r' && have > 1 {
            return Err(Violation::ExpectedDollar(kind));
        }
        let header = if kind == 0 { number::Header::Partial } else { number::header(input, self.at) };
        match header {
            number::Header::Partial if have > LINE_MAX => Err(Violation::BulkTooBig),
            number::Header::Partial => Ok(None),
            _ if kind != b'$' => Err(Violation::ExpectedDollar(kind)),
            number::Header::Number(n, next) => match u64::try_from(n) {
                Ok(len) if len <= self.most_bulk => Ok(Some(next + len as usize + 2)),
                Ok(len) if len <= self.max_bulk => Err(Violation::StrangerBulk),
                _ => Err(Violation::BulkLength),
            },
            number::Header::Invalid => Err(Violation::BulkLength),
        }
    }
}

impl RequestScanner {
    /// Walks a request too large to be held, after [`RequestScanner::scan`] called it incomplete: the first bytes of `input`
    /// that belong to it, and whether it ends there. They must leave the input before the next call.
    ///
    /// # Errors
    /// The protocol violation found in it.
    pub fn stream(&mut self, input: &[u8]) -> Result<(usize, bool), Violation> {
        if self.left == 0 && self.at == 0 {
            // Large without one whole line: never a request.
            let multibulk = input.first() == Some(&b'*');
            return Err(if multibulk { Violation::MultibulkTooBig } else { Violation::InlineTooBig });
        }
        loop {
            if self.at >= input.len() && (self.left > 0 || self.at > input.len()) {
                self.at -= input.len();
                return Ok((input.len(), false));
            }
            if self.left == 0 {
                let len = self.at;
                self.reset();
                return Ok((len, true));
            }
            match self.argument(input)? {
                Some(end) => {
                    self.at = end;
                    self.left -= 1;
                }
                None => {
                    let len = self.at;
                    self.at = 0;
                    return Ok((len, false));
                }
            }
        }
    }
}

fn inline(input: &[u8]) -> Scan {
    // strchr, as in Redis: behind a NUL no line end is seen.
    match input.iter().take(LINE_MAX + 1).position(|&b| b == b'\n' || b == 0).filter(|&end| input[end] == b'\n') {
        Some(end) => Scan::Inline { len: end + 1 },
        None if input.len() > LINE_MAX => Scan::Invalid(Violation::InlineTooBig),
        None => Scan::Incomplete { needs: input.len() + 1 },
    }
}

/// How many bytes the first `n` requests of `requests` (complete, multibulk) take; fewer when there are fewer.
pub fn skip(requests: &[u8], n: usize) -> usize {
    let mut scanner = RequestScanner::new(u64::MAX);
    let mut at = 0;
    for _ in 0..n {
        match scanner.scan(&requests[at..]) {
            Scan::Request { len } => at += len,
            _ => break,
        }
    }
    at
}

/// Iterates over the complete multibulk requests of `requests`.
pub fn each(requests: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = requests;
    std::iter::from_fn(move || {
        let len = skip(rest, 1);
        let (one, more) = rest.split_at(len);
        rest = more;
        (len > 0).then_some(one)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(input: &[u8]) -> Scan {
        RequestScanner::new(512 << 20).scan(input)
    }

    #[test]
    fn a_stranger_is_believed_little_and_goes_on_where_it_was_once_trusted() {
        let bulk = |len: usize| {
            [format!("*2\r\n$3\r\nGET\r\n${len}\r\n").into_bytes(), vec![b'x'; len], b"\r\n".to_vec()].concat()
        };
        let args = |n: usize| [format!("*{n}\r\n").into_bytes(), b"$1\r\na\r\n".repeat(n)].concat();
        let table = [
            (args(10), None),
            (args(11), Some(Violation::StrangerMultibulk)),
            (args(2000), Some(Violation::StrangerMultibulk)),
            (bulk(16384), None),
            (bulk(16385), Some(Violation::StrangerBulk)),
            (bulk(100_000), Some(Violation::StrangerBulk)),
        ];
        for (request, violation) in table {
            let whole = Scan::Request { len: request.len() };
            let mut scanner = RequestScanner::new(512 << 20);
            assert_eq!(scanner.scan(&request), whole);
            scanner.reset();
            scanner.doubt();
            assert_eq!(scanner.scan(&request), violation.map_or(whole, Scan::Invalid));
            if violation.is_some() {
                // The header is enough.
                scanner.reset();
                assert_eq!(scanner.scan(&request[..24]), violation.map_or(whole, Scan::Invalid));
                scanner.trust();
                assert_eq!(scanner.scan(&request), whole);
            }
        }
        let mut scanner = RequestScanner::new(512 << 20);
        scanner.doubt();
        assert_eq!(scanner.scan(b"*1\r\n$536870913\r\n"), Scan::Invalid(Violation::BulkLength));
        scanner.reset();
        assert_eq!(scanner.scan(b"*2147483648\r\n"), Scan::Invalid(Violation::MultibulkLength));
    }

    #[test]
    fn names_every_shape_of_input() {
        let table: &[(&[u8], Scan)] = &[
            (b"*1\r\n$4\r\nPING\r\n", Scan::Request { len: 14 }),
            (b"*1\r\n$4\r\nPING\r\n*1\r\n", Scan::Request { len: 14 }),
            (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", Scan::Request { len: 19 }),
            (b"*1\r\n$4\r\nPINGxx*1\r\n", Scan::Ragged { len: 14 }),
            (b"*2\r\n$3\r\nGETxx$1\r\na\r\n", Scan::Ragged { len: 20 }),
            (b"*0\r\n", Scan::Nothing { len: 4 }),
            (b"*-1\r\n", Scan::Nothing { len: 5 }),
            (b"PING\r\n", Scan::Inline { len: 6 }),
            (b"\r\n", Scan::Inline { len: 2 }),
            (b"", Scan::Incomplete { needs: 1 }),
            (b"*1\r\n$4\r\nPI", Scan::Incomplete { needs: 14 }),
            (b"*1\r", Scan::Incomplete { needs: 4 }),
            (b"*+1\r\n", Scan::Invalid(Violation::MultibulkLength)),
            (b"*01\r\n", Scan::Invalid(Violation::MultibulkLength)),
            (b"*\r\n", Scan::Invalid(Violation::MultibulkLength)),
            (b"*3000000000\r\n", Scan::Invalid(Violation::MultibulkLength)),
            (b"*1\r\n:4\r\n", Scan::Invalid(Violation::ExpectedDollar(b':'))),
            (b"*1\r\n\r\n", Scan::Invalid(Violation::ExpectedDollar(b'\r'))),
            (b"*1\r\n\r", Scan::Incomplete { needs: 6 }),
            (b"*1\r\n\x004\r\n", Scan::Incomplete { needs: 9 }),
            (b"*1\r\n$4\x00\r\n", Scan::Incomplete { needs: 10 }),
            (b"PI\x00NG\r\n", Scan::Incomplete { needs: 8 }),
            (b"*1\r\n$-1\r\n", Scan::Invalid(Violation::BulkLength)),
            (b"*1\r\n$abc\r\n", Scan::Invalid(Violation::BulkLength)),
            (b"*1\r\n$536870913\r\n", Scan::Invalid(Violation::BulkLength)),
        ];
        for (input, expected) in table {
            assert_eq!(scan(input), *expected, "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn resumes_at_every_split() {
        let whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nva\r\nl\r\n";
        for split in 0..whole.len() {
            let mut scanner = RequestScanner::new(1024);
            assert!(matches!(scanner.scan(&whole[..split]), Scan::Incomplete { .. }), "split {split}");
            assert_eq!(scanner.scan(whole), Scan::Request { len: whole.len() }, "split {split}");
        }
    }

    #[test]
    fn a_large_request_streams_through_in_any_pieces() {
        let whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$20\r\naaaaaaaaaaaaaaaaaaaa\r\n";
        for step in 1..whole.len() {
            let mut scanner = RequestScanner::new(1024);
            let (mut input, mut out, mut done) = (Vec::new(), Vec::new(), false);
            let mut begun = false;
            for chunk in whole.chunks(step) {
                input.extend_from_slice(chunk);
                if !begun && input.len() < 10 {
                    continue;
                }
                if !begun && !matches!(scanner.scan(&input), Scan::Incomplete { .. }) {
                    break;
                }
                begun = true;
                let (n, end) = scanner.stream(&input).unwrap();
                out.extend(input.drain(..n));
                done = end;
            }
            if begun {
                assert!(done, "step {step}");
                assert_eq!(out, whole, "step {step}");
            }
        }
    }

    #[test]
    fn a_line_too_large_to_be_held_is_not_streamed() {
        for (input, violation) in [("*111", Violation::MultibulkTooBig), ("SET k aaaa", Violation::InlineTooBig)] {
            let mut scanner = RequestScanner::new(1024);
            assert!(matches!(scanner.scan(input.as_bytes()), Scan::Incomplete { .. }));
            assert_eq!(scanner.stream(input.as_bytes()), Err(violation));
        }
    }

    #[test]
    fn a_declared_length_is_only_announced() {
        assert_eq!(scan(b"*2\r\n$3\r\nSET\r\n$536870912\r\n"), Scan::Incomplete { needs: 13 + 12 + 536870912 + 2 });
    }

    #[test]
    fn endless_lines_are_refused() {
        assert_eq!(scan(&vec![b'a'; LINE_MAX + 1]), Scan::Invalid(Violation::InlineTooBig));
        let mut line = vec![b'*'];
        line.extend(std::iter::repeat_n(b'1', LINE_MAX + 1));
        assert_eq!(scan(&line), Scan::Invalid(Violation::MultibulkTooBig));
    }

    #[test]
    fn skip_and_each_walk_requests() {
        let two = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n";
        assert_eq!(skip(two, 1), 14);
        assert_eq!(skip(two, 5), 28);
        assert_eq!(each(two).count(), 2);
    }
}
