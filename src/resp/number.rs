//! The number in a header line (`*3`, `$5`, `:1`), read as strictly as Redis does (util.c string2ll).

/// A header line at some place of the input.
pub enum Header {
    /// The number, and where the next line begins.
    Number(i64, usize),
    /// The line is not whole yet.
    Partial,
    /// The line is whole and holds no number.
    Invalid,
}

/// A header line of type `kind` with one to three digits and at least two bytes behind it; where the next line begins.
/// `None` says nothing: [`header`] knows.
#[inline(always)]
pub fn short(input: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let &[first, a, b, c, end, _] = input.get(at..)?.first_chunk::<6>()?;
    let (x, y, z) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'), c.wrapping_sub(b'0'));
    if first != kind || x > 9 {
        return None;
    }
    if b == b'\r' {
        return Some((usize::from(x), at + 4));
    }
    // A leading zero is no number.
    if x == 0 || y > 9 {
        return None;
    }
    let two = usize::from(x) * 10 + usize::from(y);
    if c == b'\r' {
        return Some((two, at + 5));
    }
    (z <= 9 && end == b'\r').then_some((two * 10 + usize::from(z), at + 6))
}

/// Reads the line that begins at `at` with one type byte.
#[inline]
pub fn header(input: &[u8], at: usize) -> Header {
    let mut i = at + 1;
    let mut n: i64 = 0;
    // Up to 9 plain digits: nearly every header there is.
    while let Some(&b) = input.get(i) {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 || i > at + 9 {
            break;
        }
        n = n * 10 + i64::from(digit);
        i += 1;
    }
    let first = input.get(at + 1);
    if i > at + 1 && input.get(i) == Some(&b'\r') && i + 1 < input.len() && (first != Some(&b'0') || i == at + 2) {
        return Header::Number(n, i + 2);
    }
    slow(input, at)
}

#[cold]
fn slow(input: &[u8], at: usize) -> Header {
    let line = input.get(at + 1..).unwrap_or_default();
    // strchr: a NUL hides the rest of the line.
    let Some(end) = line.iter().position(|&b| b == b'\r' || b == 0).filter(|&e| line[e] == b'\r') else {
        return Header::Partial;
    };
    if end + 1 >= line.len() {
        return Header::Partial;
    }
    match strict_i64(&line[..end]) {
        Some(n) => Header::Number(n, at + 1 + end + 2),
        None => Header::Invalid,
    }
}

/// string2ll: no sign but `-`, no leading zero, no `-0`, no overflow.
fn strict_i64(digits: &[u8]) -> Option<i64> {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    let zero_led = unsigned.first() == Some(&b'0') && digits.len() > 1;
    if unsigned.is_empty() || zero_led || !unsigned.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_agrees_with_the_long_one() {
        for line in (0..100_000).map(|n| format!("${n}\r\n")).chain(["$00\r\n", "$-1\r\n", "$\r\n"].map(str::to_owned))
        {
            let mut input = line.clone().into_bytes();
            input.extend_from_slice(b"xx");
            match (short(&input, 0, b'$'), header(&input, 0)) {
                (Some((n, next)), Header::Number(m, then)) => assert_eq!((n as i64, next), (m, then), "{line:?}"),
                (Some(_), _) => panic!("{line:?} is no number"),
                (None, Header::Number(n, _)) => assert!(!(0..=999).contains(&n), "{line:?}"),
                (None, _) => {}
            }
            assert_eq!(short(&input, 0, b'*'), None);
        }
        assert_eq!(short(b"$1\r\nx", 0, b'$'), None);
        assert_eq!(short(b"$1", 7, b'$'), None);
    }

    #[test]
    fn reads_what_string2ll_reads() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"$0\r\n", Some(0)),
            (b"$7\r\n", Some(7)),
            (b"$-1\r\n", Some(-1)),
            (b"$123456789012\r\n", Some(123456789012)),
            (b"$00\r\n", None),
            (b"$-0\r\n", None),
            (b"$-\r\n", None),
            (b"$\r\n", None),
            (b"$1a\r\n", None),
            (b"$99999999999999999999\r\n", None),
        ];
        for (input, expected) in table {
            let got = match header(input, 0) {
                Header::Number(n, next) => {
                    assert_eq!(next, input.len());
                    Some(n)
                }
                Header::Invalid => None,
                Header::Partial => panic!("partial: {input:?}"),
            };
            assert_eq!(got, *expected, "{input:?}");
        }
        assert!(matches!(header(b"$12", 0), Header::Partial));
        assert!(matches!(header(b"$12\r", 0), Header::Partial));
    }
}
