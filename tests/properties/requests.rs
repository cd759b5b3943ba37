//! Requests of a client: found whole at any split, streamed in any pieces, and never more than was sent.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;
use redweir::resp::{Args, RequestScanner, Scan, encode, inline, request};

use super::bytes::{any_bytes, cut, cuts};

const MAX_BULK: u64 = 1 << 20;

#[derive(Debug, Clone)]
enum Item {
    Array(Vec<Vec<u8>>),
    Line(Vec<u8>),
    /// `*0`, `*-1` and so on.
    Nothing(i32),
}

impl Item {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Item::Array(args) => array(args),
            Item::Line(line) => line.clone(),
            Item::Nothing(n) => format!("*{n}\r\n").into_bytes(),
        }
    }

    fn scan(&self) -> Scan {
        let len = self.bytes().len();
        match self {
            Item::Array(_) => Scan::Request { len },
            Item::Line(_) => Scan::Inline { len },
            Item::Nothing(_) => Scan::Nothing { len },
        }
    }
}

fn array(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(&mut out, args.iter().map(Vec::as_slice));
    out
}

/// Lengths around every change in the width of a header, contents that look like headers themselves.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..20),
        2 => any_bytes(),
        1 => (95..105usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
        1 => (995..1005usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
        1 => (9_990..10_010usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ]
}

fn arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![8 => vec(argument(), 1..6), 1 => vec(vec(any::<u8>(), 0..3), 8..130)]
}

fn item() -> impl Strategy<Value = Item> {
    let line = (vec(any::<u8>(), 0..30), any::<bool>()).prop_map(|(mut line, cr)| {
        line.retain(|b| !matches!(b, 0 | b'\n'));
        if line.first() == Some(&b'*') {
            line[0] = b'+';
        }
        line.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
        line
    });
    prop_oneof![
        6 => arguments().prop_map(Item::Array),
        2 => line.prop_map(Item::Line),
        1 => (-3..=0).prop_map(Item::Nothing),
        1 => Just(Item::Line(b"\r\n".to_vec())),
    ]
}

/// Everything found in `pieces` as they arrive one by one, up to the first violation, and what is left of the bytes.
fn arrive(pieces: &[&[u8]]) -> Result<(Vec<Scan>, Vec<u8>), TestCaseError> {
    let mut scanner = RequestScanner::new(MAX_BULK);
    let (mut input, mut found, mut needed) = (Vec::new(), Vec::new(), 1);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let scan = scanner.scan(&input);
            match scan {
                Scan::Request { len } | Scan::Ragged { len } | Scan::Inline { len } | Scan::Nothing { len } => {
                    prop_assert!(0 < len && len <= input.len(), "{len} of {}", input.len());
                    prop_assert!(len >= needed, "{needed} bytes were said to be needed, {len} were enough");
                    input.drain(..len);
                    needed = 1;
                    found.push(scan);
                }
                Scan::Incomplete { needs } => {
                    prop_assert!(needs > input.len());
                    needed = needs;
                    break;
                }
                Scan::Invalid(_) => {
                    found.push(scan);
                    return Ok((found, input));
                }
            }
        }
    }
    Ok((found, input))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_pipeline_is_found_as_it_was_sent(items in vec(item(), 0..8), cuts in cuts()) {
        let whole: Vec<u8> = items.iter().flat_map(Item::bytes).collect();
        let (found, rest) = arrive(&cut(&whole, &cuts))?;
        prop_assert_eq!(found, items.iter().map(Item::scan).collect::<Vec<_>>());
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_mean_the_same_at_any_split(bytes in any_bytes(), cuts in cuts()) {
        let (whole, rest) = arrive(&[&bytes])?;
        let (found, left) = arrive(&cut(&bytes, &cuts))?;
        prop_assert_eq!(&found, &whole);
        if !matches!(found.last(), Some(Scan::Invalid(_))) {
            prop_assert_eq!(left, rest);
        }
    }

    #[test]
    fn canonical_requests_are_what_redis_protocol_says(requests in vec(arguments(), 1..4)) {
        let whole: Vec<u8> = requests.iter().flat_map(|r| array(r)).collect();
        let mut rest = &whole[..];
        for args in &requests {
            let (frame, amount) = decode_range(rest).unwrap().unwrap();
            prop_assert_eq!(RequestScanner::new(MAX_BULK).scan(rest), Scan::Request { len: amount });
            let RangeFrame::Array(parts) = frame else { panic!("not an array") };
            let ours: Vec<&[u8]> = Args::new(&rest[..amount]).collect();
            let theirs: Vec<&[u8]> = parts.iter().map(|part| match part {
                RangeFrame::BulkString((from, to)) => &rest[*from..*to],
                _ => panic!("not a bulk"),
            }).collect();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(ours, args.iter().map(Vec::as_slice).collect::<Vec<_>>());
            rest = &rest[amount..];
        }
        let each: Vec<Vec<u8>> = request::each(&whole).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(each, requests.iter().map(|r| array(r)).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_request_is_streamed_to_its_last_byte(args in arguments(), behind in any_bytes(), cuts in cuts(), held: Index) {
        let request = array(&args);
        let whole = [&request[..], &behind].concat();
        // As a session does: some of it is looked at as a whole first; at least the first line, at most all but the end.
        let line = request.iter().position(|&b| b == b'\n').unwrap() + 1;
        let held = line + held.index(request.len() - line);
        let mut scanner = RequestScanner::new(MAX_BULK);
        let waits = matches!(scanner.scan(&whole[..held]), Scan::Incomplete { .. });
        prop_assert!(waits);

        let (mut input, mut out) = (whole[..held].to_vec(), Vec::new());
        let mut done = false;
        for piece in std::iter::once(&b""[..]).chain(cut(&whole[held..], &cuts)) {
            input.extend_from_slice(piece);
            while !done {
                let (n, end) = scanner.stream(&input).unwrap();
                out.extend(input.drain(..n));
                done = end;
                if n == 0 {
                    break;
                }
            }
        }
        prop_assert!(done);
        prop_assert_eq!(out, request);
        prop_assert_eq!(input, behind);
    }

    #[test]
    fn streaming_any_bytes_ends_or_waits(bytes in any_bytes(), cuts in cuts()) {
        let mut scanner = RequestScanner::new(MAX_BULK);
        let mut input = b"*20\r\n$3\r\nSET\r\n".to_vec();
        let waits = matches!(scanner.scan(&input), Scan::Incomplete { .. });
        prop_assert!(waits);
        'pieces: for piece in cut(&bytes, &cuts) {
            input.extend_from_slice(piece);
            loop {
                match scanner.stream(&input) {
                    Ok((n, done)) => {
                        prop_assert!(n <= input.len());
                        input.drain(..n);
                        if done { break 'pieces; }
                        if n == 0 { break; }
                    }
                    Err(_) => break 'pieces,
                }
            }
        }
    }

    #[test]
    fn any_line_becomes_a_request_or_none(line in vec(any::<u8>(), 0..60), quoted in "[ a-c\"'\\\\x0-9n\t]{0,30}") {
        for line in [&line[..], quoted.as_bytes()] {
            if let Ok(request) = inline::to_array(line) {
                let whole = request.is_empty() || RequestScanner::new(MAX_BULK).scan(&request) == Scan::Request { len: request.len() };
                prop_assert!(whole, "{:?}", request);
            }
        }
    }

    #[test]
    fn words_written_with_quotes_come_back(words in vec(vec(any::<u8>(), 0..12), 1..6)) {
        let mut line = Vec::new();
        for word in &words {
            line.extend_from_slice(b" \"");
            line.extend(word.iter().flat_map(|b| format!("\\x{b:02x}").into_bytes()));
            line.push(b'"');
        }
        prop_assert_eq!(inline::to_array(&line), Ok(array(&words)));
    }
}
