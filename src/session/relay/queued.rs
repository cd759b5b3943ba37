//! Logins inside a transaction: which they are, and what EXEC says of them. Pure.
//!
//! Invariant: counts what the server has queued since MULTI, nothing else.

use crate::command;
use crate::resp::{Args, Found, ReplyScanner};
use crate::session::pin::Awaited;

pub const QUEUED: &[u8] = b"+QUEUED\r\n";

#[derive(Debug, Default)]
pub struct Queued {
    n: usize,
    /// AUTH and HELLO, each with its place in the transaction.
    logins: Vec<(usize, Vec<u8>)>,
    /// What each brings when carried out.
    brings: Vec<Awaited>,
    subscribes: bool,
}

/// Whether what it does, carried out in a transaction, outlives that.
pub fn leaves_traces(request: &[u8]) -> bool {
    let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
    matches!(name, "auth" | "hello") || Awaited::by(name, 1) != Awaited::Reply(None)
}

impl Queued {
    /// The server has queued `request`.
    pub fn note(&mut self, request: &[u8]) {
        let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
        if matches!(name, "auth" | "hello") {
            self.logins.push((self.n, request.to_vec()));
        }
        let brings = Awaited::by(name, Args::new(request).remaining());
        self.subscribes |= brings != Awaited::Reply(None);
        self.brings.push(brings);
        self.n += 1;
    }

    /// What a transaction with subscriptions in it brings, and the elements of `exec` that are the first of that.
    pub fn subscriptions<'a>(&mut self, exec: &'a [u8]) -> Option<(Vec<Awaited>, Vec<&'a [u8]>)> {
        let went = self.subscribes && exec.first() == Some(&b'*') && !exec.starts_with(b"*-");
        went.then(|| (std::mem::take(&mut self.brings), elements(exec)))
    }

    /// What EXEC says must be seen whole.
    pub fn must_be_seen(&self) -> bool {
        self.subscribes || !self.logins.is_empty()
    }

    /// The logins that went through, with the server's answers, as the reply to EXEC tells.
    pub fn logins(self, exec: &[u8]) -> Vec<(Vec<u8>, &[u8])> {
        if self.logins.is_empty() || exec.first() != Some(&b'*') {
            return Vec::new();
        }
        let answers = elements(exec);
        let went = |(at, request): (usize, Vec<u8>)| {
            let answer = answers.get(at).copied().filter(|a| a.first() != Some(&b'-'))?;
            Some((request, answer))
        };
        self.logins.into_iter().filter_map(went).collect()
    }
}

/// The elements of a whole array.
fn elements(array: &[u8]) -> Vec<&[u8]> {
    let header = array.iter().position(|b| *b == b'\n').map_or(array.len(), |end| end + 1);
    let mut rest = &array[header..];
    let mut out = Vec::new();
    while let (false, Found::Whole { len }) = (rest.is_empty(), ReplyScanner::default().scan(rest)) {
        let (element, behind) = rest.split_at(len);
        out.push(element);
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    fn request(line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        encode::request(&mut out, words.into_iter());
        out
    }

    #[test]
    fn exec_tells_which_logins_went_through() {
        let lines = ["SET k v", "AUTH ann wrong", "LRANGE l 0 -1", "AUTH ann secret"];
        let after = |exec: &[u8]| {
            let mut queued = Queued::default();
            lines.iter().for_each(|line| queued.note(&request(line)));
            queued.logins(exec).into_iter().map(|(r, a)| (r, a.to_vec())).collect::<Vec<_>>()
        };
        let exec = b"*4\r\n+OK\r\n-WRONGPASS no\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n";
        assert_eq!(after(exec), [(request("AUTH ann secret"), b"+OK\r\n".to_vec())]);
        assert!(after(b"*-1\r\n").is_empty());
        assert!(after(b"-EXECABORT no\r\n").is_empty());
    }
}
