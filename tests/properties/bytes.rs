//! Random bytes and random places to cut them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Bytes that look like RESP to a reader in a hurry.
pub fn almost_resp() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(b"*$:+-_,#(!=%~>|".to_vec()).prop_map(|b| vec![b]),
        4 => (0..40i64).prop_map(|n| n.to_string().into_bytes()),
        4 => Just(b"\r\n".to_vec()),
        1 => prop::sample::select(vec!["-1", "00", "2147483648", "9223372036854775807", "9223372036854775808", "-0", "1a"])
            .prop_map(|n| n.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["\r", "\n", "\0", "\"", "'", "\\x", "GET", "streams", "a b"])
            .prop_map(|n| n.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Any bytes at all, mostly those that come near to meaning something.
pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => almost_resp(), 1 => vec(any::<u8>(), 0..80)]
}

pub fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

/// `whole` in pieces, cut at the places named; some may be empty.
pub fn cut<'a>(whole: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|c| c.index(whole.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        pieces.push(&whole[from..place]);
        from = place;
    }
    pieces.push(&whole[from..]);
    pieces
}
