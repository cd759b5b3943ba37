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
    /// Bytes of the argument and its line end still to skip.
    skip: usize,
    /// Whether the next argument is the command's name, and its length and first letter once seen.
    name: Name,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Name {
    #[default]
    Awaited,
    Starts(usize),
    Known(Answer),
}

impl Requests {
    /// Reads on, calling `answer` once for each request that became complete.
    pub fn scan(&mut self, bytes: &[u8], mut answer: impl FnMut(Answer)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.skip > 0 {
                if let Name::Starts(length) = self.name {
                    self.name = Name::Known(classify(length, byte));
                }
                let step = self.skip.min(rest.len());
                self.skip -= step;
                rest = rest.get(step..).unwrap_or_default();
                if self.skip == 0 {
                    self.argument_done(&mut answer);
                }
                continue;
            }
            rest = after;
            match byte {
                b'0'..=b'9' => self.number = self.number * 10 + usize::from(byte - b'0'),
                b'\n' => self.header_done(),
                _ => {}
            }
        }
    }

    fn header_done(&mut self) {
        let number = std::mem::take(&mut self.number);
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

    fn argument_done(&mut self, answer: &mut impl FnMut(Answer)) {
        self.arguments -= 1;
        if let (0, Name::Known(what)) = (self.arguments, self.name) {
            answer(what);
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
