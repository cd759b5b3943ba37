//! Replies found in the read buffer -> the receivers that wait for them, oldest first.
//!
//! Must not copy a reply. Invariant: no slice of the buffer outlives the call that found it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::account::Question;
use super::line::Line;
use super::{Conn, End, Shared};
use crate::metrics::{Count, Tick};
use crate::resp::{Found, ReplyScanner};
use crate::upstream::clock::Reading;
use crate::upstream::flight::{Entry, Own};
use crate::upstream::{Bound, Receiver, refusal};

/// In ns, when known.
type Wait = Option<u64>;

impl Conn {
    /// Delivers every reply that is whole. `Err`: the stream cannot be understood.
    pub(super) fn deliver(&self, line: &mut Line) -> Result<(), End> {
        let shared = &mut *self.shared.borrow_mut();
        let answered = self.tally.clock.now();
        let (owed, mut oldest_ns) = (self.in_flight.get(), None);
        let done = self.hand_on(shared, line, answered, &mut oldest_ns);
        if let Some(latency_ns) = oldest_ns {
            self.note_answers(latency_ns, owed.saturating_sub(self.in_flight.get()), answered);
        }
        done
    }

    /// `oldest`: set to how long the first took that is answered.
    #[inline]
    fn hand_on(&self, shared: &mut Shared, line: &mut Line, answered: Tick, oldest: &mut Wait) -> Result<(), End> {
        let mut as_it_is = false;
        loop {
            let input = line.buffer.front(line.readable);
            if input.is_empty() {
                return Ok(());
            }
            // A push answers nobody. Shared connections do not ask for any; one is dropped, not taken for a reply.
            if input[0] == b'>' && !shared.torn {
                match line.scanner.scan(input) {
                    Found::Whole { len } => line.consume(len),
                    Found::Part { .. } if !line.buffer.is_full() => return Ok(()),
                    _ => return Err(End::Garbage),
                }
                continue;
            }
            let Some(head) = shared.flight.entries.front() else { return Err(End::Garbage) };
            if head.manner.bound.floor > 0 && self.is_stale(head) {
                self.give_back_stale(shared);
                as_it_is = false;
                continue;
            }
            let single = shared.spoiled || shared.torn || as_it_is;
            let batch = match head.manner.whole && head.done == 0 && !single {
                true => collect_whole(&mut line.scanner, input, head.left, line.buffer.is_full()),
                false => collect(&mut line.scanner, input, head.left, single),
            };
            let times = self.times(head, answered);
            if batch.n > 0 {
                let replies = &input[..batch.len];
                if head.manner.written.term > 0 && !shared.doubtful {
                    self.note_answered(head, batch.n, batch.errors, &mut shared.faults);
                }
                match &head.to {
                    Some(to) if shared.torn => _ = to.piece(replies, true, &times),
                    Some(to) if shared.spoiled => {
                        to.settle(shared.flight.head_request(), replies, self.target.node, shared.doubtful);
                    }
                    Some(to) => to.replies(replies, batch.n, &times),
                    // A SELECT of ours that failed would leave strangers' requests in the wrong database.
                    None if head.own == Own::Select && replies.first() == Some(&b'-') => return Err(End::Garbage),
                    None => self.note_role(head.own, &mut shared.roles, &mut shared.mute, &mut shared.unread, replies),
                }
                self.note_errors(head, batch.errors);
                (shared.torn, as_it_is) = (false, false);
                oldest.get_or_insert(times.upstream_ns);
                self.in_flight.set(self.in_flight.get().saturating_sub(batch.n));
                line.consume(batch.len);
                shared.flight.answered(batch.n).then_some(()).ok_or(End::Garbage)?;
            }
            match batch.then {
                Then::Next => {}
                Then::Spoiled if !as_it_is && !is_taken_back(shared, line.buffer.filled()) => as_it_is = true,
                Then::Spoiled => {
                    shared.spoiled = true;
                    self.open.set(false);
                }
                Then::More { ready } => {
                    if batch.n == 0 && ready > 0 && (line.buffer.is_full() || shared.torn) {
                        self.pass_piece(shared, line, ready, answered)?;
                        continue;
                    }
                    return Ok(());
                }
                Then::Garbage => return Err(End::Garbage),
            }
        }
    }

    #[inline]
    fn note_errors(&self, head: &Entry, errors: u32) {
        if errors > 0 && head.own == Own::No {
            self.tally.cells.count(Count::NodeErrors, u64::from(errors));
        }
    }

    /// The answer to the oldest ROLE, if it is one; what that was to tell of and did not is `unread` again.
    #[inline]
    fn note_role(&self, own: Own, asked: &mut VecDeque<Question>, mute: &mut bool, unread: &mut u32, reply: &[u8]) {
        let question = if own == Own::Role { asked.pop_front() } else { None };
        let Some(question) = question else { return };
        let (term, covers) = (u64::from(question.term), question.covers);
        match self.tally.origins.read(self.target.node, term, reply) {
            Some(offset) => {
                self.reading.set(Reading { term, offset, covers });
                self.note_offset(question, offset);
            }
            // It does not show that it still is in line: what it has shown before does not count either.
            None if self.tally.origins.is_strict() => self.reading.set(Reading::default()),
            None => {}
        }
        if self.tally.watched.get() {
            self.tally.readings.notify_one();
        }
        *mute |= self.tally.origins.bars(reply);
        // A node that is busy with a script answers later; what stands in the wrong line answers nothing.
        if question.wrote && reply.first() == Some(&b'-') && !*mute {
            *unread = (*unread).max(question.term);
            self.tally.owe(self.target.node);
        }
    }

    fn is_stale(&self, head: &Entry) -> bool {
        let Bound { term, floor, .. } = head.manner.bound;
        head.done == 0 && head.to.is_some() && !self.reading().reaches(term, floor)
    }

    /// The node has not got as far as the head's receiver needs: everything it has here is asked for elsewhere.
    #[cold]
    fn give_back_stale(&self, shared: &mut Shared) {
        let Some(who) = shared.flight.entries.front().and_then(|e| e.to.clone()) else { return };
        let is_his = |to: &Option<Rc<dyn Receiver>>| to.as_ref().is_some_and(|to| Rc::ptr_eq(to, &who));
        for (entry, (written, unwritten)) in shared.flight.entries.iter().zip(shared.flight.unanswered()) {
            if is_his(&entry.to) {
                who.stale(&[written, unwritten].concat(), self.target.node);
            }
        }
        for entry in shared.flight.entries.iter_mut().filter(|entry| is_his(&entry.to)) {
            entry.to = None;
        }
    }

    /// A reply larger than the buffer goes on in pieces, but none begins that nobody believes.
    fn pass_piece(&self, shared: &mut Shared, line: &mut Line, ready: usize, answered: Tick) -> Result<(), End> {
        if shared.doubtful && !shared.torn {
            return Err(End::Killed);
        }
        shared.torn = true;
        if let Some(head) = shared.flight.entries.front() {
            let times = self.times(head, answered);
            let piece = &line.buffer.filled()[..ready];
            shared.backlog = head.to.as_ref().map_or(0, |to| to.piece(piece, false, &times));
        }
        line.consume(ready);
        line.scanner.passed(ready);
        if shared.backlog > self.tally.large {
            self.leave_to_head(shared);
        }
        Ok(())
    }

    /// The head's receiver is slow with a large reply: the connection becomes its own. Reads behind it are sent elsewhere
    /// at once, so that nobody waits for it; what may not be repeated stays, and so does what its receiver sent before it.
    fn leave_to_head(&self, shared: &mut Shared) {
        self.open.set(false);
        if shared.spoiled {
            return;
        }
        let mut staying: Vec<*const ()> = Vec::new();
        let mut leaving = std::collections::BTreeSet::new();
        for (index, entry) in shared.flight.entries.iter().enumerate().skip(1).rev() {
            let Some(to) = &entry.to else { continue };
            let who = Rc::as_ptr(to).cast::<()>();
            match entry.manner.idempotent && !staying.contains(&who) {
                true => _ = leaving.insert(index),
                false => staying.push(who),
            }
        }
        for (index, (written, unwritten)) in shared.flight.unanswered().enumerate() {
            if let (true, Some(to)) = (leaving.contains(&index), &shared.flight.entries[index].to) {
                to.returned(&[written, unwritten].concat(), self.target.node);
            }
        }
        for index in leaving {
            shared.flight.entries[index].to = None;
        }
    }
}

/// Whether a refusal of the oldest unanswered request goes back to its receiver to be sent again.
#[cold]
fn is_taken_back(shared: &Shared, reply: &[u8]) -> bool {
    let head = shared.flight.entries.front().and_then(|head| head.to.as_ref());
    let names_script = refusal::of(reply) == Some(refusal::Refusal::NoScript);
    !names_script || head.is_some_and(|to| to.takes_back(shared.flight.head_request()))
}

/// What was found at the front of the buffer.
struct Batch {
    n: u32,
    len: usize,
    errors: u32,
    then: Then,
}

enum Then {
    Next,
    /// The next reply is a refusal.
    Spoiled,
    More {
        ready: usize,
    },
    Garbage,
}

/// All `left` replies of a transaction, or none yet; none either when one of them is a refusal, for then all of it may be sent
/// again. What the buffer has no room for goes on as it comes.
fn collect_whole(scanner: &mut ReplyScanner, input: &[u8], left: u32, full: bool) -> Batch {
    let mut probe = ReplyScanner::default();
    let batch = collect(&mut probe, input, left, false);
    match batch.then {
        Then::Spoiled => Batch { n: 0, len: 0, errors: 0, then: Then::Spoiled },
        Then::More { .. } if !full => Batch { n: 0, len: 0, errors: 0, then: Then::More { ready: 0 } },
        _ => {
            *scanner = probe;
            batch
        }
    }
}

/// Up to `left` whole replies (one, when `single`), stopping before the first refusal unless `single`.
#[inline]
fn collect(scanner: &mut ReplyScanner, input: &[u8], left: u32, single: bool) -> Batch {
    let (mut n, mut len, mut errors) = (0, 0, 0);
    let most = if single { 1 } else { left };
    while n < most {
        match scanner.scan(&input[len..]) {
            Found::Whole { len: one } => {
                let kind = input[len];
                if kind == b'>' && !single {
                    // Not a reply: looked at again as the first of the next batch.
                    return Batch { n, len, errors, then: Then::Next };
                }
                if kind == b'-' {
                    if !single && refusal::of(&input[len..len + one]).is_some() {
                        return Batch { n, len, errors, then: Then::Spoiled };
                    }
                    errors += 1;
                }
                len += one;
                n += 1;
            }
            Found::Part { ready } => return Batch { n, len, errors, then: Then::More { ready } },
            Found::Garbage => return Batch { n, len, errors, then: Then::Garbage },
        }
    }
    Batch { n, len, errors, then: Then::Next }
}
