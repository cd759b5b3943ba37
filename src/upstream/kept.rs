//! The request bytes of a connection, from when they are appended until their replies are in.
//!
//! In pieces that are used again, the last one freed first: so what is written next lies in memory that was touched a
//! moment ago, and nothing is ever moved; a large run stays where it was read. Must not know where a request begins.
//! Invariant: a run lies in one piece; positions count all bytes ever appended and only grow, but for runs that are taken back.

use std::collections::VecDeque;
use std::ops::Deref;

use super::pieces::{PIECE, Share};

/// Capacity kept for later, per connection. Generous, for there are few: giving 50 requests of 16 KiB their pages anew
/// each round cost 1.4 page faults a request.
const KEEP: usize = 4 << 20;

enum Piece {
    Own(Vec<u8>),
    Shared(Share),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(share) => share,
        }
    }
}

#[derive(Default)]
pub struct Kept {
    /// Full pieces, oldest first, each with the position of its first byte.
    full: VecDeque<(usize, Piece)>,
    /// The piece that is appended to, and the position of its first byte.
    last: Vec<u8>,
    last_at: usize,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl Kept {
    /// The position behind the newest byte.
    #[inline]
    pub fn end(&self) -> usize {
        self.last_at + self.last.len()
    }

    #[inline]
    pub fn push(&mut self, run: &[u8]) {
        if self.last.len() + run.len() > PIECE {
            self.begin_piece();
        }
        self.last.extend_from_slice(run);
    }

    /// As [`Kept::push`], but without a copy where there is nothing against it.
    pub fn keep(&mut self, run: Share) {
        // Else little would be in a piece of our own.
        let closes = self.last.is_empty() || self.last.len() > PIECE / 2;
        if !closes {
            return self.push(&run);
        }
        self.begin_piece();
        let next = self.last_at + run.len();
        self.full.push_back((self.last_at, Piece::Shared(run)));
        self.last_at = next;
    }

    /// One that is empty grows to the size of a larger run.
    #[cold]
    fn begin_piece(&mut self) {
        if !self.last.is_empty() {
            let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE));
            self.spare_bytes = self.spare_bytes.saturating_sub(next.capacity());
            let end = self.end();
            let at = std::mem::replace(&mut self.last_at, end);
            self.full.push_back((at, Piece::Own(std::mem::replace(&mut self.last, next))));
        }
    }

    /// The bytes behind position `at`, as far as they lie in one piece. Empty at the end only.
    #[inline]
    pub fn behind(&self, at: usize) -> &[u8] {
        match at.checked_sub(self.last_at) {
            Some(skip) => &self.last[skip..],
            None => self.behind_in_full(at),
        }
    }

    fn behind_in_full(&self, at: usize) -> &[u8] {
        let index = self.full.partition_point(|(first, _)| *first <= at);
        let piece = index.checked_sub(1).and_then(|index| self.full.get(index));
        piece.map_or(&[], |(first, bytes)| &bytes[at - first..])
    }

    /// Nothing before `at` is needed any more.
    #[inline]
    pub fn free(&mut self, at: usize) {
        if !self.full.is_empty() {
            self.free_full(at);
        }
        if at == self.end() {
            self.last_at = at;
            self.last.clear();
            if self.last.capacity() > KEEP {
                self.last.shrink_to(KEEP);
            }
        }
    }

    fn free_full(&mut self, at: usize) {
        while self.full.front().is_some_and(|(first, bytes)| first + bytes.len() <= at)
            && let Some((_, piece)) = self.full.pop_front()
        {
            if let Piece::Own(mut piece) = piece
                && self.spare_bytes + piece.capacity() <= KEEP
            {
                piece.clear();
                self.spare_bytes += piece.capacity();
                self.spare.push(piece);
            }
        }
    }

    /// Takes the newest run back, which begins at `at`.
    pub fn take(&mut self, at: usize) -> Vec<u8> {
        if self.last.is_empty()
            && let Some((first, piece)) = self.full.pop_back()
        {
            self.last_at = first;
            match piece {
                Piece::Own(piece) => self.last = piece,
                Piece::Shared(run) => return run.to_vec(),
            }
        }
        self.last.split_off(at.saturating_sub(self.last_at))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::upstream::pieces::Pieces;

    /// Runs of these lengths, each of its own byte.
    fn kept(lengths: &[usize]) -> Kept {
        let mut kept = Kept::default();
        for (byte, len) in lengths.iter().enumerate() {
            kept.push(&vec![byte as u8; *len]);
        }
        kept
    }

    #[test]
    fn a_run_lies_in_one_piece_whatever_its_size() {
        let lengths = [1, PIECE - 1, 1, PIECE, 3 * PIECE, 5, PIECE - 4, 7];
        let kept = kept(&lengths);
        let mut at = 0;
        for (byte, len) in lengths.into_iter().enumerate() {
            assert!(kept.behind(at)[..len].iter().all(|b| *b == byte as u8), "run {byte}");
            at += len;
        }
        assert_eq!((kept.end(), kept.behind(at)), (at, b"".as_slice()));
    }

    #[test]
    fn following_the_pieces_gives_every_byte_once() {
        let kept = kept(&[PIECE - 1, 2, PIECE, 1, 1]);
        let (mut at, mut got) = (0, Vec::new());
        while !kept.behind(at).is_empty() {
            got.extend_from_slice(kept.behind(at));
            at += kept.behind(at).len();
        }
        let runs = [PIECE - 1, 2, PIECE, 1, 1];
        let expected: Vec<u8> = (0u8..).zip(runs).flat_map(|(byte, len)| vec![byte; len]).collect();
        assert!(got == expected);
    }

    #[test]
    fn freed_pieces_are_used_again_the_last_one_first_and_not_kept_without_bound() {
        let mut kept = kept(&[PIECE; 3]);
        let first = kept.behind(0).as_ptr();
        kept.free(PIECE - 1);
        assert_eq!(kept.spare.len(), 0, "still needed");
        kept.free(PIECE);
        kept.push(&[9; PIECE]);
        assert_eq!(kept.behind(3 * PIECE).as_ptr(), first);
        kept.free(4 * PIECE);
        assert_eq!((kept.end(), kept.full.len(), kept.last.len()), (4 * PIECE, 0, 0));
        for _ in 0..100 {
            kept.push(&[1; PIECE]);
        }
        kept.free(kept.end());
        let spare: usize = kept.spare.iter().map(Vec::capacity).sum();
        assert!(spare == kept.spare_bytes && spare <= KEEP && spare > KEEP / 2, "{spare}");
        kept.push(&[1; 2 * KEEP]);
        kept.free(kept.end());
        assert!(kept.last.capacity() <= KEEP);
    }

    /// Two runs of `len` bytes that were read by a client together.
    fn read(pieces: &Pieces, len: usize, byte: u8) -> [Share; 2] {
        let read = pieces.fill(b"", PIECE, |room| {
            room[..len].fill(byte);
            room[len..2 * len].fill(byte + 1);
            Poll::Ready(Ok(2 * len))
        });
        let Poll::Ready(Ok(read)) = read else { panic!("nothing read") };
        [&read[..len], &read[len..]].map(|run| pieces.share(run).unwrap())
    }

    #[test]
    fn a_large_run_stays_where_it_was_read_until_it_is_answered() {
        let (pieces, len) = (Pieces::default(), PIECE / 3);
        let mut kept = kept(&[PIECE / 2 + 1]);
        let [first, second] = read(&pieces, len, 7);
        let places = [first.as_ptr(), second.as_ptr()];
        kept.keep(first);
        kept.keep(second);
        kept.push(&[9; 3]);
        let at = PIECE / 2 + 1;
        assert_eq!([kept.behind(at).as_ptr(), kept.behind(at + len).as_ptr()], places);
        assert!(kept.behind(at + 5).iter().all(|b| *b == 7) && kept.behind(at + 5).len() == len - 5);
        assert_eq!(kept.behind(at + 2 * len), [9; 3]);
        // Others are read meanwhile, elsewhere.
        let [other, _] = read(&pieces, len, 1);
        assert!(kept.behind(at).iter().all(|b| *b == 7) && other.as_ptr() != places[0]);
        drop(other);
        kept.free(at + len);
        assert!(kept.behind(at + len).iter().all(|b| *b == 8));
        kept.free(kept.end());
        assert_eq!((kept.full.len(), kept.end()), (0, at + 2 * len + 3));
    }

    #[test]
    fn a_large_run_is_copied_where_it_would_waste_a_piece() {
        let (pieces, len) = (Pieces::default(), PIECE / 2);
        for (before, copied) in [(0, false), (1, true), (len, true), (len + 1, false)] {
            let mut kept = kept(&[before]);
            let [run, _] = read(&pieces, len, 7);
            let place = run.as_ptr();
            kept.keep(run);
            let there = kept.behind(before);
            assert!(there.iter().all(|b| *b == 7) && there.len() == len, "{before}");
            assert_eq!(there.as_ptr() != place, copied, "{before}");
        }
    }

    #[test]
    fn runs_that_were_not_copied_are_taken_back_too() {
        let (pieces, len) = (Pieces::default(), PIECE / 3);
        let mut kept = kept(&[]);
        for run in read(&pieces, len, 1) {
            kept.keep(run);
        }
        kept.push(b"last");
        assert_eq!(kept.take(2 * len), b"last");
        for (at, byte) in [(len, 2), (0, 1)] {
            assert_eq!(kept.take(at), vec![byte; len]);
            assert_eq!(kept.end(), at);
        }
        kept.push(b"again");
        assert_eq!(kept.behind(0), b"again");
    }

    #[test]
    fn runs_are_taken_back_newest_first_across_pieces() {
        let mut kept = kept(&[10, PIECE, 4, 6]);
        for (at, len) in [(PIECE + 14, 6), (PIECE + 10, 4), (10, PIECE), (0, 10)] {
            assert_eq!(kept.take(at).len(), len);
            assert_eq!(kept.end(), at);
        }
        kept.push(b"again");
        assert_eq!(kept.behind(0), b"again");
    }
}
