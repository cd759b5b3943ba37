//! Classification of any request: no panic, and a read only where the table vouches for the very name.

use proptest::collection::vec;
use proptest::prelude::*;
use redweir::command::{COMMANDS, Class, classify};
use redweir::resp::{Args, encode};

use super::bytes::any_bytes;

/// A name as a client may write it, mostly a real one; options that matter somewhere.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&'static str> =
        COMMANDS.iter().flat_map(|c| std::iter::once(c).chain(c.children)).flat_map(|c| c.name.split('|')).collect();
    let options =
        vec!["block", "streams", "group", "count", "claim", "full", "0", "#!lua flags=no-writes\n", "#!lua\n", "ro"];
    prop_oneof![
        6 => (prop::sample::select(names), any::<u64>()).prop_map(|(name, mask)| mixed_case(name, mask)),
        3 => (prop::sample::select(options), any::<u64>()).prop_map(|(name, mask)| mixed_case(name, mask)),
        1 => vec(any::<u8>(), 0..24),
    ]
}

fn mixed_case(name: &str, mask: u64) -> Vec<u8> {
    let flip = |(i, b): (usize, u8)| if mask >> (i % 64) & 1 == 1 { b.to_ascii_uppercase() } else { b };
    name.bytes().enumerate().map(flip).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_read_is_vouched_for_by_name(words in vec(word(), 0..7)) {
        let mut request = Vec::new();
        encode::request(&mut request, words.iter().map(Vec::as_slice));
        let verdict = classify(Args::new(&request));
        let Some(command) = verdict.command else {
            prop_assert_eq!(verdict.class, Class::Unknown);
            return Ok(());
        };
        let spelled = words.iter().take(command.name.split('|').count()).map(|w| String::from_utf8_lossy(w).to_lowercase());
        prop_assert_eq!(spelled.collect::<Vec<_>>().join("|"), command.name);
        match verdict.class {
            Class::Read => prop_assert_eq!(command.class, Class::Read),
            Class::ScriptRead if command.class != Class::ScriptRead => {
                prop_assert!(words[1].starts_with(b"#!") || words[1].starts_with(b"#!lua"), "{:?}", words);
                prop_assert_eq!(command.class, Class::Script);
            }
            _ => {}
        }
    }

    #[test]
    fn any_bytes_are_classified(bytes in any_bytes(), header in any::<bool>()) {
        let bytes = if header { [&b"*3\r\n"[..], &bytes].concat() } else { bytes };
        let args = Args::new(&bytes);
        prop_assert!(args.map(<[u8]>::len).sum::<usize>() <= bytes.len());
        let verdict = classify(args);
        prop_assert!(verdict.command.is_some() || verdict.class == Class::Unknown);
    }
}
