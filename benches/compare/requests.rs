//! Finds where requests end, as cheaply as can be: what `floor` does instead of being a proxy.
//!
//! Trusts its input (the load generators of this directory) and must never be used on anything else.
//! Invariant: state survives any split of the bytes, so each request is reported once.

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Value,
    Ok,
    Pong,
}

/// Where the scan stands between two reads.
#[derive(Debug, Default)]
pub struct Requests {
    /// The number of the header line being read.
    number: usize,
    /// Arguments still to come of this request, 0 between requests.
    arguments: usize,
    /// Bytes of the argument and its line end still to skip, 0 in a header line.
    skip: usize,
    name: Name,
}

/// What is known of the command's name, the first argument.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Name {
    #[default]
    Awaited,
    /// Its length; the next byte is its first.
    Starts(usize),
    Known(Answer),
}

impl Requests {
    /// Reads on, calling `answer` once for each request that became complete.
    pub fn scan(&mut self, bytes: &[u8], mut answer: impl FnMut(Answer)) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if self.skip == 0 {
                rest = self.header(rest);
                continue;
            }
            if let Name::Starts(length) = self.name {
                self.name = Name::Known(classify(length, first));
            }
            let (skipped, after) = rest.split_at(self.skip.min(rest.len()));
            self.skip -= skipped.len();
            rest = after;
            if self.skip == 0 {
                self.arguments -= 1;
                if let (0, Name::Known(what)) = (self.arguments, self.name) {
                    answer(what);
                }
            }
        }
    }

    /// Reads to the end of the header line, or of the bytes; what is left.
    fn header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut number = self.number;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte.is_ascii_digit() {
                number = number * 10 + usize::from(byte - b'0');
            } else if byte == b'\n' {
                self.number = 0;
                self.header_done(number);
                return bytes.get(at + 1..).unwrap_or_default();
            }
        }
        self.number = number;
        &[]
    }

    fn header_done(&mut self, number: usize) {
        if self.arguments == 0 {
            self.arguments = number;
            self.name = Name::Awaited;
            return;
        }
        self.skip = number + 2;
        if self.name == Name::Awaited {
            self.name = Name::Starts(number);
        }
    }
}

/// Length and first letter are enough for the commands the benchmarks send.
fn classify(length: usize, first: u8) -> Answer {
    match (length, first.to_ascii_lowercase()) {
        (3, b'g') => Answer::Value,
        (4, b'p') => Answer::Pong,
        _ => Answer::Ok,
    }
}
