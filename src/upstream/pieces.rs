//! The memory that a worker's clients are read into, and that a large run of requests is kept in without a copy.
//!
//! Everything is read into one piece again and again, which so stays in the core's cache; a run that fills much of it keeps it
//! ([`Share`]), and the next piece is read into. A SET of 16 KiB at pipeline 16 costs an eighth less so (10.3 -> 9.0 us, with
//! pieces of 128 KiB). Must not know what a request is. Invariant: a piece that somebody has a share of is never written to, and
//! there are no more pieces than [`OTHERS`] and one.

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Poll, ready};

/// Eight requests of 16 KiB at once: with 64 KiB each of them was a seventh dearer. A little more than a power of two, since values
/// often have the size of one: with 128 KiB seven fit, and of the eighth nearly all was copied to the next piece
/// (such a SET at pipeline 16 cost 8.5 instead of 8.0 us).
pub const PIECE: usize = 132 * 1024;
/// A run of fewer bytes is not worth a piece: it would hold several times its size.
const LEAST: usize = 32 * 1024;
/// Pieces beside the one that is read into, per listener and worker: 4 MiB, twice of what is before a node.
const OTHERS: usize = 32;

/// Bytes that stay as they are while this lives.
pub struct Share {
    piece: Rc<[u8]>,
    at: usize,
    len: usize,
}

impl Deref for Share {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.piece[self.at..self.at + self.len]
    }
}

pub struct Pieces {
    current: RefCell<Rc<[u8]>>,
    others: RefCell<Vec<Rc<[u8]>>>,
}

fn new_piece() -> Rc<[u8]> {
    std::iter::repeat_n(0, PIECE).collect()
}

impl Default for Pieces {
    fn default() -> Self {
        Self { current: RefCell::new(new_piece()), others: RefCell::default() }
    }
}

impl Pieces {
    /// Has `read` fill the room behind `before`, up to `most` bytes in all, and returns both together. `before` is to fit.
    ///
    /// # Errors
    /// Those of `read`.
    #[inline]
    pub fn fill(
        &self,
        before: &[u8],
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Share>> {
        let mut current = self.current.borrow_mut();
        let Some(bytes) = Rc::get_mut(&mut current) else {
            self.change(&mut current);
            drop(current);
            return self.fill(before, most, read);
        };
        let had = before.len();
        let n = ready!(read(&mut bytes[had..most]))?;
        if had > 0 {
            bytes[..had].copy_from_slice(before);
        }
        Poll::Ready(Ok(Share { piece: Rc::clone(&current), at: 0, len: had + n }))
    }

    /// The current piece is in use; goes on with the first of the others that is not, as that was in use most often.
    #[cold]
    fn change(&self, current: &mut Rc<[u8]>) {
        let mut others = self.others.borrow_mut();
        match others.iter_mut().find(|piece| Rc::strong_count(piece) == 1) {
            Some(free) => std::mem::swap(free, current),
            None => others.push(std::mem::replace(current, new_piece())),
        }
    }

    /// A share of `run`, if that lies in what is being read, is worth it, and there is another piece to read into.
    #[inline]
    pub fn share(&self, run: &[u8]) -> Option<Share> {
        if run.len() < LEAST { None } else { self.share_large(run) }
    }

    #[cold]
    fn share_large(&self, run: &[u8]) -> Option<Share> {
        let piece = self.current.try_borrow().ok()?;
        let at = run.as_ptr().addr().checked_sub(piece.as_ptr().addr())?;
        let others = self.others.borrow();
        let spare = others.len() < OTHERS || others.iter().any(|piece| Rc::strong_count(piece) == 1);
        (spare && at + run.len() <= piece.len()).then(|| Share { piece: Rc::clone(&piece), at, len: run.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pieces: &Pieces, before: &[u8], n: usize, byte: u8) -> Share {
        let filled = pieces.fill(before, PIECE, |room| {
            room[..n].fill(byte);
            Poll::Ready(Ok(n))
        });
        let Poll::Ready(Ok(share)) = filled else { panic!("nothing read") };
        share
    }

    #[test]
    fn one_piece_is_read_into_again_and_again() {
        let pieces = Pieces::default();
        let first = fill(&pieces, b"", 10, 1).as_ptr();
        for byte in 2..10 {
            let read = fill(&pieces, b"ab", PIECE - 2, byte);
            assert_eq!((&read[..3], read.len(), read.as_ptr()), ([b'a', b'b', byte].as_slice(), PIECE, first));
            assert!(pieces.share(&read[..LEAST - 1]).is_none(), "not worth it");
            assert!(pieces.share(&vec![byte; LEAST]).is_none(), "lies elsewhere");
        }
    }

    #[test]
    fn what_is_shared_stays_as_it_was_and_its_piece_is_used_again_when_it_is_over() {
        let pieces = Pieces::default();
        let mut shares = Vec::new();
        for byte in 0..OTHERS as u8 {
            let read = fill(&pieces, b"", PIECE, byte);
            shares.push(pieces.share(&read[usize::from(byte)..][..LEAST]).unwrap());
        }
        let read = fill(&pieces, b"", PIECE, 99);
        assert!(pieces.share(&read[..]).is_none(), "nothing would be left to read into");
        drop(read);
        for (byte, share) in shares.iter().enumerate() {
            assert!(share.len() == LEAST && share.iter().all(|b| usize::from(*b) == byte), "{byte}");
        }
        let over = shares.swap_remove(7);
        let place = over.piece.as_ptr();
        drop(over);
        let read = fill(&pieces, b"", PIECE, 9);
        let share = pieces.share(&read[..]).unwrap();
        drop(read);
        let next = fill(&pieces, b"", 1, 8);
        assert!(next.as_ptr() == place && share.iter().all(|b| *b == 9));
        assert_eq!(pieces.others.borrow().len(), OTHERS);
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let filled = Pieces::default().fill(b"abc", 10, |room| Poll::Ready(Ok(room.len())));
        assert!(matches!(filled, Poll::Ready(Ok(read)) if read.len() == 10));
    }

    #[test]
    fn a_read_that_brings_nothing_changes_nothing() {
        let pieces = Pieces::default();
        let read = fill(&pieces, b"", PIECE, 1);
        let share = pieces.share(&read[..]).unwrap();
        drop(read);
        assert!(pieces.fill(b"abc", PIECE, |_| Poll::Pending).is_pending());
        let failed = pieces.fill(b"abc", PIECE, |_| Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())));
        assert!(matches!(failed, Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset));
        assert!(share.iter().all(|b| *b == 1));
    }
}
