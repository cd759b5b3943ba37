//! The names a session is subscribed to, so that another node can be told them.
//!
//! Invariant: exactly what the server has confirmed; beyond the bound it owns up to not knowing.

use std::collections::BTreeSet;

use crate::resp::encode;
use crate::session::pubsub::{self, Sort};

/// One command subscribes to so many names at most, and to so many bytes of them.
const NAMES: usize = 512;
const BYTES: usize = 64 * 1024;
/// What a name costs beyond its bytes.
const OVERHEAD: usize = 48;

#[derive(Debug, Default)]
pub struct Heard {
    /// Channels, patterns, sharded channels.
    names: [BTreeSet<Box<[u8]>>; 3],
    bytes: usize,
    /// There were too many, or one was too long to be seen whole.
    forgotten: bool,
}

impl Heard {
    /// `frame` confirms a subscription, or its end; at most `limit` bytes are remembered.
    pub fn note(&mut self, frame: &[u8], limit: usize) {
        if self.forgotten {
            return;
        }
        let Some((sort, begins, name)) = pubsub::confirmation(frame) else { return };
        let names = &mut self.names[sort as usize];
        let cost = name.len() + OVERHEAD;
        match begins {
            true if names.insert(name.into()) => self.bytes += cost,
            false if names.remove(name) => self.bytes = self.bytes.saturating_sub(cost),
            _ => {}
        }
        if self.bytes > limit {
            self.forget();
        }
    }

    /// What is subscribed to is not known from here on.
    pub fn forget(&mut self) {
        *self = Self { forgotten: true, ..Self::default() };
    }

    pub fn is_known(&self) -> bool {
        !self.forgotten
    }

    /// The commands that subscribe to all of it, each with the number of confirmations it brings.
    pub fn requests(&self) -> Vec<(Vec<u8>, u64)> {
        let mut out = Vec::new();
        for (sort, names) in [Sort::Channel, Sort::Pattern, Sort::Shard].into_iter().zip(&self.names) {
            let word: &[u8] = match sort {
                Sort::Channel => b"SUBSCRIBE",
                Sort::Pattern => b"PSUBSCRIBE",
                Sort::Shard => b"SSUBSCRIBE",
            };
            let mut words = vec![word];
            let mut bytes = 0;
            for name in names {
                if words.len() > NAMES || (bytes > 0 && bytes + name.len() > BYTES) {
                    out.push(request(&words));
                    (words, bytes) = (vec![word], 0);
                }
                words.push(name);
                bytes += name.len();
            }
            if words.len() > 1 {
                out.push(request(&words));
            }
        }
        out
    }
}

fn request(words: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    encode::request(&mut out, words.iter().copied());
    (out, words.len() as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirm(heard: &mut Heard, word: &str, name: &str, limit: usize) {
        let frame = format!("*3\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n:1\r\n", word.len(), name.len());
        heard.note(frame.as_bytes(), limit);
    }

    #[test]
    fn what_is_confirmed_and_not_left_is_subscribed_to_again() {
        let mut heard = Heard::default();
        for (word, name) in [
            ("subscribe", "a"),
            ("subscribe", "b\r\n:7"),
            ("psubscribe", "a"),
            ("ssubscribe", "s"),
            ("unsubscribe", "a"),
            ("subscribe", "b\r\n:7"),
            ("punsubscribe", "never"),
        ] {
            confirm(&mut heard, word, name, 1000);
        }
        heard.note(b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n", 1000);
        let again: Vec<_> =
            heard.requests().into_iter().map(|(r, n)| (String::from_utf8_lossy(&r).into_owned(), n)).collect();
        let line =
            |word: &str, name: &str| (format!("*2\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n", word.len(), name.len()), 1);
        assert_eq!(again, [line("SUBSCRIBE", "b\r\n:7"), line("PSUBSCRIBE", "a"), line("SSUBSCRIBE", "s")]);
    }

    #[test]
    fn many_names_are_several_commands_and_too_many_are_not_remembered() {
        let mut heard = Heard::default();
        for i in 0..1300 {
            confirm(&mut heard, "subscribe", &format!("channel-{i}"), 1 << 20);
        }
        let again = heard.requests();
        assert_eq!(again.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [512, 512, 276]);
        confirm(&mut heard, "subscribe", &"x".repeat(1 << 20), 1 << 20);
        assert!(!heard.is_known() && heard.requests().is_empty());
    }
}
