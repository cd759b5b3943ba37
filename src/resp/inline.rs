//! Inline commands: a line as typed by a person, turned into the array a client would have sent.
//!
//! Source: sds.c sdssplitargs.

use super::{Violation, encode};

/// The words of `line` (without its line end) as a multibulk request; empty when there are none.
///
/// # Errors
/// Unbalanced quotes, as Redis judges them.
pub fn to_array(line: &[u8]) -> Result<Vec<u8>, Violation> {
    let words = split(line).ok_or(Violation::UnbalancedQuotes)?;
    let mut out = Vec::new();
    if !words.is_empty() {
        encode::request(&mut out, words.iter().map(Vec::as_slice));
    }
    Ok(out)
}

fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blank = rest.iter().take_while(|b| is_space(**b)).count();
        rest = &rest[blank..];
        if rest.is_empty() || rest[0] == 0 {
            return Some(words);
        }
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c)
}

/// One word and what follows it; `None`: a quote is not closed, or is followed by something other than a space.
fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [0, ..] => return Some((word, rest)),
            // Vertical tab and form feed part words but do not end one.
            [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some((word, rest)),
            [b'"', tail @ ..] => return quoted(tail, word, true),
            [b'\'', tail @ ..] => return quoted(tail, word, false),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
        }
    }
}

fn quoted(mut rest: &[u8], mut word: Vec<u8>, double: bool) -> Option<(Vec<u8>, &[u8])> {
    let quote = if double { b'"' } else { b'\'' };
    loop {
        rest = match rest {
            [] | [0, ..] => return None,
            [b'\\', b'x', h, l, tail @ ..] if double && h.is_ascii_hexdigit() && l.is_ascii_hexdigit() => {
                word.push(hex(*h) << 4 | hex(*l));
                tail
            }
            [b'\\', c, tail @ ..] if double && *c != 0 => {
                word.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [b'\\', b'\'', tail @ ..] if !double => {
                word.push(b'\'');
                tail
            }
            [b, tail @ ..] if *b == quote => {
                let closed = tail.first().is_none_or(|b| is_space(*b) || *b == 0);
                return closed.then_some((word, tail));
            }
            [b, tail @ ..] => {
                word.push(*b);
                tail
            }
        };
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_redis_does() {
        type Words<'a> = Option<&'a [&'a [u8]]>;
        let table: &[(&[u8], Words)] = &[
            (b"", Some(&[])),
            (b"   ", Some(&[])),
            (b"GET  k", Some(&[b"GET", b"k"])),
            (b"SET k \"a b\\x41\\n\"", Some(&[b"SET", b"k", b"a bA\n"])),
            (b"SET k 'a\\'b'", Some(&[b"SET", b"k", b"a'b"])),
            (b"SET k \"a", None),
            (b"SET k \"a\"b", None),
            (b"SET k 'a", None),
            (b"\x0bGET\x0bk\x0c \x0c\x0bl", Some(&[b"GET\x0bk\x0c", b"l"])),
            (b"GET \"a\"\x0bb", Some(&[b"GET", b"a", b"b"])),
            (b"GET a\0b", Some(&[b"GET", b"a"])),
            (b"GET \"a\0\"", None),
        ];
        for (line, expected) in table {
            let got = split(line);
            let expected = expected.map(|words| words.iter().map(|w| w.to_vec()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
