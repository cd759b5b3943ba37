//! Replies of a node: delimited at any split, passed on in pieces unchanged, and no count or depth too hostile.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use redis_protocol::{resp2, resp3};
use redweir::resp::{Found, ReplyScanner};

use super::bytes::{any_bytes, cut, cuts};

/// One reply of either RESP version; `line` kinds hold no line end.
#[derive(Debug, Clone)]
enum Value {
    /// `+ - : , # ( _`
    Line(u8, String),
    /// `$ = !`
    Bulk(u8, Vec<u8>),
    /// `$-1`, `*-1`
    Null(u8),
    /// `* ~ >`
    List(u8, Vec<Value>),
    Map(Vec<(Value, Value)>),
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    fn encode(&self, out: &mut Vec<u8>) {
        let head = |out: &mut Vec<u8>, kind: u8, n: &dyn std::fmt::Display| {
            out.push(kind);
            out.extend_from_slice(format!("{n}\r\n").as_bytes());
        };
        match self {
            Value::Line(kind, text) => head(out, *kind, text),
            Value::Null(kind) => head(out, *kind, &-1),
            Value::Bulk(kind, bytes) => {
                head(out, *kind, &bytes.len());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Value::List(kind, items) => {
                head(out, *kind, &items.len());
                items.iter().for_each(|item| item.encode(out));
            }
            Value::Map(pairs) | Value::Attribute(pairs, _) => {
                head(out, if matches!(self, Value::Map(_)) { b'%' } else { b'|' }, &pairs.len());
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
                if let Value::Attribute(_, described) = self {
                    described.encode(out);
                }
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn bulk() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..24),
        2 => any_bytes(),
        1 => (990..1010usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ]
}

fn resp2_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        (prop::sample::select(b"+-".to_vec()), "[ -~]{0,20}").prop_map(|(kind, text)| Value::Line(kind, text)),
        any::<i64>().prop_map(|n| Value::Line(b':', n.to_string())),
        (100..2000usize).prop_map(|n| Value::Line(b'+', "x".repeat(n))),
        bulk().prop_map(|bytes| Value::Bulk(b'$', bytes)),
        prop::sample::select(b"$*".to_vec()).prop_map(Value::Null),
    ]
}

fn resp3_leaf() -> impl Strategy<Value = Value> {
    let line = |kind: u8| move |text: String| Value::Line(kind, text);
    prop_oneof![
        "[ -~]{0,20}".prop_map(line(b'+')),
        "[A-Z]{3} [ -~]{0,20}".prop_map(line(b'-')),
        any::<i64>().prop_map(|n| Value::Line(b':', n.to_string())),
        (-1e9..1e9f64).prop_map(|n| Value::Line(b',', n.to_string())),
        prop::sample::select(vec!["inf", "-inf"]).prop_map(|n| Value::Line(b',', n.to_owned())),
        "[1-9][0-9]{0,60}".prop_map(line(b'(')),
        prop::sample::select(vec!["t", "f"]).prop_map(|b| Value::Line(b'#', b.to_owned())),
        Just(Value::Line(b'_', String::new())),
        bulk().prop_map(|bytes| Value::Bulk(b'$', bytes)),
        "[A-Z]{3} [ -~]{0,20}".prop_map(|text| Value::Bulk(b'!', text.into_bytes())),
        bulk().prop_map(|bytes| Value::Bulk(b'=', [&b"txt:"[..], &bytes].concat())),
    ]
}

fn resp2_value() -> impl Strategy<Value = Value> {
    resp2_leaf().prop_recursive(5, 60, 8, |inner| vec(inner, 0..8).prop_map(|items| Value::List(b'*', items)))
}

fn resp3_value() -> impl Strategy<Value = Value> {
    resp3_leaf().prop_recursive(5, 60, 8, |inner| {
        let pairs = vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            3 => (prop::sample::select(b"*~".to_vec()), vec(inner.clone(), 0..8)).prop_map(|(k, items)| Value::List(k, items)),
            1 => vec(inner.clone(), 1..4).prop_map(|items| Value::List(b'>', items)),
            2 => pairs.clone().prop_map(Value::Map),
            1 => (pairs, inner).prop_map(|(pairs, described)| Value::Attribute(pairs, Box::new(described))),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![resp2_value(), resp3_value()]
}

/// What arrives, passed on as early as the scanner allows: the bytes of each whole reply, and whether all was understood.
fn pass_on(pieces: &[&[u8]]) -> Result<(Vec<Vec<u8>>, bool), TestCaseError> {
    let mut scanner = ReplyScanner::default();
    let (mut input, mut replies, mut current) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match scanner.scan(&input) {
                Found::Whole { len } => {
                    prop_assert!(len <= input.len());
                    current.extend(input.drain(..len));
                    prop_assert!(!current.is_empty(), "a reply of no bytes");
                    replies.push(std::mem::take(&mut current));
                }
                Found::Part { ready } => {
                    prop_assert!(ready <= input.len());
                    current.extend(input.drain(..ready));
                    scanner.passed(ready);
                    // What may not go on yet is a header or a line end, whatever the reply.
                    prop_assert!(input.len() <= 64, "{} bytes are kept", input.len());
                    break;
                }
                Found::Garbage => return Ok((replies, false)),
            }
        }
    }
    current.extend(input);
    replies.push(current);
    Ok((replies, true))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_reply_is_delimited_at_any_split(value in value(), behind in any_bytes(), cuts in cuts()) {
        let reply = value.bytes();
        let mut scanner = ReplyScanner::default();
        let mut have = 0;
        for piece in cut(&reply[..reply.len() - 1], &cuts) {
            have += piece.len();
            let waits = matches!(scanner.scan(&reply[..have]), Found::Part { .. });
            prop_assert!(waits);
        }
        prop_assert_eq!(scanner.scan(&[&reply[..], &behind].concat()), Found::Whole { len: reply.len() });
    }

    #[test]
    fn replies_go_on_in_pieces_unchanged(values in vec(value(), 0..5), cuts in cuts()) {
        let mut replies: Vec<Vec<u8>> = values.iter().map(Value::bytes).collect();
        let whole = replies.concat();
        replies.push(Vec::new());
        prop_assert_eq!(pass_on(&cut(&whole, &cuts))?, (replies, true));
    }

    #[test]
    fn any_bytes_mean_the_same_at_any_split(bytes in any_bytes(), cuts in cuts()) {
        let whole = pass_on(&[&bytes])?;
        prop_assert_eq!(pass_on(&cut(&bytes, &cuts))?, whole);
    }

    #[test]
    fn redis_protocol_agrees_on_resp2(value in resp2_value()) {
        let reply = value.bytes();
        let (_, amount) = resp2::decode::decode_range(&reply).unwrap().unwrap();
        prop_assert_eq!(ReplyScanner::default().scan(&reply), Found::Whole { len: amount });
    }

    #[test]
    fn redis_protocol_agrees_on_any_resp2_it_takes(bytes in any_bytes()) {
        if let Ok(Some((_, amount))) = resp2::decode::decode_range(&bytes) {
            let found = ReplyScanner::default().scan(&bytes);
            // It takes `$+1` and `$01` for numbers, which no server writes.
            let odd = bytes.windows(2).any(|w| matches!(w, b"$+" | b"*+" | b"$0" | b"*0" | b"-0"));
            prop_assert!(found == Found::Whole { len: amount } || (odd && found == Found::Garbage), "{:?}", found);
        }
    }
}

/// It knows no attributes inside of aggregates and merges equal keys, so not every value is understood; most are.
#[test]
fn redis_protocol_agrees_on_resp3() {
    let mut runner = TestRunner::deterministic();
    let (mut understood, cases) = (0, 500);
    for _ in 0..cases {
        let reply = resp3_value().new_tree(&mut runner).unwrap().current().bytes();
        if let Ok(Some((_, amount))) = resp3::decode::complete::decode_range(&reply) {
            assert_eq!(ReplyScanner::default().scan(&reply), Found::Whole { len: amount }, "{reply:?}");
            understood += 1;
        }
    }
    assert!(understood * 2 > cases, "only {understood} of {cases} were understood");
}

#[test]
fn hostile_counts_end_in_waiting_or_garbage() {
    for kind in *b"*~>%|$=!" {
        for count in ["9223372036854775807", "4611686018427387904", "9223372036854775808", "-9223372036854775808"] {
            let line = format!("{}{count}\r\n", char::from(kind)).into_bytes();
            for nested in [1, 2, 3, 1000] {
                let bytes = line.repeat(nested);
                let mut scanner = ReplyScanner::default();
                // A negative length is a null, and a whole reply.
                match scanner.scan(&bytes) {
                    Found::Part { ready } => assert!(ready <= bytes.len()),
                    Found::Whole { len } => assert!(count.starts_with('-') && len <= bytes.len()),
                    Found::Garbage => continue,
                }
                scanner.scan(&bytes);
            }
        }
    }
}

/// Nothing declared is ever allocated: there is nothing in the scanners that could own it.
#[test]
fn scanners_own_no_memory() {
    assert!(!std::mem::needs_drop::<ReplyScanner>() && size_of::<ReplyScanner>() <= 32);
    assert!(
        !std::mem::needs_drop::<redweir::resp::RequestScanner>() && size_of::<redweir::resp::RequestScanner>() <= 32
    );
}

#[test]
fn no_depth_is_too_deep() {
    for header in ["*1\r\n", "%1\r\n:1\r\n", "|1\r\n", "~1\r\n", ">1\r\n"] {
        let mut bytes = header.as_bytes().repeat(300_000);
        assert!(matches!(ReplyScanner::default().scan(&bytes), Found::Part { .. }));
        bytes.extend_from_slice(b":1\r\n");
        if header.starts_with(['*', '~', '>', '%']) {
            assert_eq!(ReplyScanner::default().scan(&bytes), Found::Whole { len: bytes.len() }, "{header:?}");
        }
    }
}
