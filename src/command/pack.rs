//! A command name as two machine words, lower-cased, and the hash that finds it in the table.
//!
//! Shared by the build script, which lays the table out, and by the lookup: both must agree on every bit.
//! Invariant: for names of equal length, equal words mean equal names (ASCII case aside).

/// Longest name that fits; longer ones are found by comparison.
pub const LONGEST: usize = 16;
/// Second-level buckets of the perfect hash.
pub const BUCKETS: usize = 128;
/// Slots of the table: a power of two, above the number of names.
pub const SLOTS: usize = 512;

/// Both words of a name. The two halves overlap when the name is not 16 long, which is why its length is compared too.
#[inline(always)]
pub fn pack(name: &[u8]) -> Option<(u64, u64)> {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        if name.len() > LONGEST {
            return None;
        }
        return Some((lower(u64::from_le_bytes(*first)), lower(u64::from_le_bytes(*last))));
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        let word = u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
        return Some((lower(word), 0));
    }
    let (first, middle, last) = (*name.first()?, *name.get(name.len() / 2)?, *name.last()?);
    Some((lower(u64::from(first) | u64::from(middle) << 8 | u64::from(last) << 16), 0))
}

/// Lower-cases the eight ASCII letters of a word at once; every other byte stays as it is.
#[inline(always)]
const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (ONES * 0x7f);
    // The top bit of each byte: set when it is at least 'A', and when it is beyond 'Z'.
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let beyond_z = low + ONES * (0x7f - b'Z' as u64);
    let upper = (from_a & !beyond_z) & !word & (ONES * 0x80);
    word | upper >> 2
}

/// Bucket, and place before the bucket's displacement is added (modulo [`SLOTS`]).
#[inline(always)]
pub const fn hash(words: (u64, u64), seed: u64) -> (usize, usize) {
    let mixed = (words.0 ^ words.1.rotate_left(29)).wrapping_mul(seed);
    ((mixed >> 57) as usize % BUCKETS, (mixed >> 40) as usize % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_folds_letters_only() {
        for b in 0..=255u8 {
            let word = u64::from_le_bytes([b, b'A', b, b'z', b, b'Z', b, b'@']);
            let l = b.to_ascii_lowercase();
            assert_eq!(lower(word).to_le_bytes(), [l, b'a', l, b'z', l, b'z', l, b'@'], "byte {b}");
        }
    }

    #[test]
    fn names_of_one_length_differ_when_any_byte_differs() {
        for len in 1..=LONGEST {
            let name = vec![b'a'; len];
            for i in 0..len {
                let mut other = name.clone();
                other[i] = b'b';
                assert_ne!(pack(&name), pack(&other), "length {len}, byte {i}");
            }
        }
        assert_eq!(pack(b""), None);
        assert_eq!(pack(&[b'a'; LONGEST + 1]), None);
    }
}
