//! The arguments of one complete request, as slices of its bytes.

use super::number;

/// Iterates over the arguments of a complete, valid `*N\r\n$len\r\n...\r\n` request. Allocates nothing; stops early on
/// anything malformed (which the scanner does not let through).
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Args<'a> {
    /// `request` begins with `*N`.
    #[inline]
    pub fn new(request: &'a [u8]) -> Self {
        let begun = header(request, b'*').and_then(|(n, at)| Some(Self { rest: request.get(at..)?, left: n }));
        begun.unwrap_or(Self { rest: &[], left: 0 })
    }
    /// Arguments still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let (len, at) = header(self.rest, b'$')?;
        let (arg, behind) = self.rest.get(at..)?.split_at_checked(len)?;
        self.rest = behind.get(2..)?;
        self.left -= 1;
        Some(arg)
    }
}

/// `<kind><digits>\r\n` at the start of `bytes`: the number and where the rest begins.
#[inline]
fn header(bytes: &[u8], kind: u8) -> Option<(usize, usize)> {
    number::short(bytes, 0, kind).or_else(|| long_header(bytes, kind))
}

#[inline(never)]
fn long_header(bytes: &[u8], kind: u8) -> Option<(usize, usize)> {
    if bytes.first() != Some(&kind) {
        return None;
    }
    let mut n = 0usize;
    for (i, &b) in bytes.iter().enumerate().skip(1) {
        match b {
            b'0'..=b'9' => n = n.checked_mul(10)?.checked_add(usize::from(b - b'0'))?,
            b'\r' => return Some((n, i + 2)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_each_argument_and_then_none() {
        let mut args = Args::new(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        assert_eq!(args.remaining(), 3);
        assert_eq!(args.next(), Some(&b"SET"[..]));
        assert_eq!(args.next(), Some(&b"k"[..]));
        assert_eq!(args.next(), Some(&b""[..]));
        assert_eq!(args.next(), None);
    }

    #[test]
    fn malformed_bytes_end_it_early() {
        let hostile: &[&[u8]] =
            &[b"", b"*1\r", b"*1\r\n", b"*1\r\n$18446744073709551615\r\nab", b"*1\r\n$1\r\na\r", b"*1\r\n:1\r\n"];
        for bytes in hostile {
            assert_eq!(Args::new(bytes).count(), 0, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
