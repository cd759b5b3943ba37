//! One session's replies that wait until enough replicas have what they acknowledge. No I/O.
//!
//! Must not know how offsets are learnt. Invariant: replies leave in the order they came, and one is let go only when a
//! master's offset taken after its write was executed has been shown by as many replicas as it needs, within one lineage.

use std::collections::VecDeque;
use std::rc::Rc;

use tokio::time::{Duration, Instant};

use super::copies::Copies;
use crate::topology::Kept;
use crate::upstream::Conn;

/// A run that writes, on its way on a shared connection.
#[derive(Clone)]
pub struct Run {
    pub conn: Rc<Conn>,
    pub serial: u64,
    pub term: u64,
}

/// What is known of the offset a reply waits for.
///
/// `Run` -> `At` by the reading that covers it, `Question` when none will come; `Question` -> `At` by the answer.
pub enum Mark {
    /// The ROLE behind this run tells.
    Run(Run),
    /// The master tells when it is asked again: questions after this one come after the write.
    Question(u64),
    At(u64),
}

/// Neighbouring replies that wait for the same.
pub struct Part {
    mark: Mark,
    term: u64,
    need: u32,
    pub bytes: Vec<u8>,
    /// How many replies these are.
    pub replies: u32,
    /// How many of them acknowledge a write on a connection of the session's own.
    pub apart: u32,
    /// What waits for nothing, but came behind them.
    pub behind: Vec<u8>,
    /// What the first of them had taken when it came; `None`: that was counted then.
    pub took: Option<Duration>,
    pub since: Instant,
    /// Holds part of a reply: nothing else can take its place.
    pub torn: bool,
}

/// What a pass over those who wait knows.
pub struct World<'a> {
    pub term: u64,
    /// What the master of this term has of the one before.
    pub kept: Kept,
    pub copies: &'a Copies,
    /// Questions the master was asked so far; the last it answered in this term, and what it said.
    pub questions: u64,
    pub told: Option<(u64, u64)>,
    /// When the last question was sent that it answered: it lived, and was the master, later than that.
    pub alive: Option<Instant>,
    pub now: Instant,
    pub timeout: Duration,
    /// How long beyond that a reply waits for the verdict over a master that does not answer.
    pub hold: Duration,
}

/// What those who wait want to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asks {
    /// Replicas are asked until they show this offset.
    pub above: Option<u64>,
    /// The master is asked.
    pub master: bool,
    /// When to look again, whatever comes.
    pub at: Option<Instant>,
}

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Wait,
    /// Enough replicas have it.
    Confirmed,
    /// Not in time, but the master that executed it is well.
    Expired,
    /// The new master does not have it, or nobody knows.
    Lost,
}

pub struct Held {
    need: u32,
    /// The last run that writes; `None`: all that was written is answered and released.
    written: Option<Run>,
    parts: VecDeque<Part>,
    bytes: usize,
    replies: u32,
    /// Whoever looks after those who wait knows of this one.
    pub listed: bool,
}

impl Held {
    pub fn new(need: u32) -> Self {
        Self { need, written: None, parts: VecDeque::new(), bytes: 0, replies: 0, listed: false }
    }

    pub fn set_need(&mut self, need: u32) {
        self.need = need;
    }

    /// The session's writes need no copies any more.
    pub fn is_off(&self) -> bool {
        self.need == 0
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Replies that have come and wait.
    pub fn replies(&self) -> u32 {
        self.replies
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A run that writes went out.
    pub fn wrote(&mut self, run: Run) {
        self.written = Some(run);
    }

    /// Nothing is on its way any more.
    pub fn all_answered(&mut self) {
        self.written = None;
    }

    /// What a reply that comes now waits for: the last write sent, for this may be its reply. `None`: for nothing.
    pub fn owed(&self) -> Option<Run> {
        self.written.clone()
    }

    /// What has come waits for no reading any more: the master is asked after `questions`.
    pub fn ask_instead(&mut self, questions: u64) {
        for part in self.parts.iter_mut().filter(|part| matches!(part.mark, Mark::Run(_))) {
            part.mark = Mark::Question(questions);
        }
    }

    /// Keeps `replies` replies behind those that wait already.
    pub fn add(&mut self, term: u64, mark: Mark, bytes: &[u8], replies: u32, took: Option<Duration>) {
        let may_join = |last: &Part| last.need == self.need && last.behind.is_empty() && last.mark.is(&mark);
        if !self.parts.back().is_some_and(may_join) {
            let (need, since) = (self.need, Instant::now());
            let (bytes, behind) = (Vec::new(), Vec::new());
            self.parts.push_back(Part {
                mark,
                term,
                need,
                bytes,
                replies: 0,
                apart: 0,
                behind,
                took,
                since,
                torn: false,
            });
        }
        if let Some(last) = self.parts.back_mut() {
            last.bytes.extend_from_slice(bytes);
            last.replies += replies;
        }
        self.bytes += bytes.len();
        self.replies += replies;
    }

    /// Keeps what waits for nothing but those before it.
    pub fn follow(&mut self, bytes: &[u8]) {
        if let Some(last) = self.parts.back_mut() {
            last.behind.extend_from_slice(bytes);
            self.bytes += bytes.len();
        }
    }

    /// What was kept last acknowledges a write that no run on its way stands for.
    pub fn apart(&mut self) {
        if let Some(last) = self.parts.back_mut() {
            last.apart += 1;
        }
    }

    pub fn torn(&mut self) {
        if let Some(last) = self.parts.back_mut() {
            last.torn = true;
        }
    }

    /// What is known settles what it can: the next part to leave, and why.
    pub fn next(&mut self, world: &World<'_>) -> Option<(Part, Fate)> {
        let fate = self.parts.front_mut()?.judge(world);
        if fate == Fate::Wait {
            return None;
        }
        let part = self.parts.pop_front()?;
        self.bytes -= part.bytes.len() + part.behind.len();
        self.replies -= part.replies;
        Some((part, fate))
    }

    /// What would let the rest go.
    pub fn ask(&mut self, world: &World<'_>, asks: &mut Asks) {
        for part in &mut self.parts {
            part.locate(world);
            part.ask(world, asks);
        }
    }
}

impl Mark {
    fn is(&self, other: &Mark) -> bool {
        match (self, other) {
            (Mark::Run(a), Mark::Run(b)) => a.serial == b.serial && Rc::ptr_eq(&a.conn, &b.conn),
            (Mark::Question(a), Mark::Question(b)) => a == b,
            _ => false,
        }
    }
}

impl Part {
    /// Finds its offset, if it can be known by now.
    fn locate(&mut self, world: &World<'_>) {
        if let Mark::Run(run) = &self.mark {
            let reading = run.conn.reading();
            if reading.term > 0 && reading.covers >= run.serial {
                (self.term, self.mark) = (reading.term, Mark::At(reading.offset));
            } else if run.conn.tells_no_more() {
                self.mark = Mark::Question(world.questions);
            }
        }
        if let (Mark::Question(asked), Some((answered, offset))) = (&self.mark, world.told)
            && answered > *asked
            && self.term == world.term
        {
            self.mark = Mark::At(offset);
        }
    }

    /// Its term, and an offset that its writes do not exceed.
    pub fn within(&self) -> (u64, u64) {
        let offset = if let Mark::At(offset) = self.mark { offset } else { u64::MAX };
        (self.term, offset)
    }

    /// Takes it to the present term. False: it does not reach it.
    fn cross(&mut self, world: &World<'_>) -> bool {
        if self.term == world.term {
            return true;
        }
        let next = self.term + 1 == world.term;
        match (world.kept, &self.mark) {
            (Kept::All, _) if next => {}
            // The new master is itself one of those that had to have it.
            (Kept::UpTo(common), Mark::At(offset)) if next && *offset <= common => {
                self.need = self.need.saturating_sub(1);
            }
            _ => return false,
        }
        self.term = world.term;
        true
    }

    fn judge(&mut self, world: &World<'_>) -> Fate {
        self.locate(world);
        if !self.cross(world) {
            return Fate::Lost;
        }
        if let Mark::At(offset) = self.mark
            && world.copies.confirmed(self.need).is_some_and(|confirmed| confirmed >= offset)
        {
            return Fate::Confirmed;
        }
        let due = self.since + world.timeout;
        if world.alive.is_some_and(|alive| alive >= due) {
            return Fate::Expired;
        }
        if world.now >= due + world.hold { Fate::Lost } else { Fate::Wait }
    }

    fn ask(&self, world: &World<'_>, asks: &mut Asks) {
        match self.mark {
            Mark::At(offset) => asks.above = asks.above.max(Some(offset)),
            Mark::Question(_) => asks.master = true,
            Mark::Run(_) => {}
        }
        // A reply is never let go for want of time while the master that executed it may be dead.
        let due = self.since + world.timeout;
        let late = world.now >= due;
        asks.master |= late;
        let next = if late { due + world.hold } else { due };
        asks.at = Some(asks.at.map_or(next, |at| at.min(next)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::NodeState::Replica;

    const MS: Duration = Duration::from_millis(1);

    fn copies(term: u64, shown: &[(u16, u64)]) -> Copies {
        let mut copies = Copies::default();
        copies.enter(term);
        copies.choose(shown.iter().map(|(node, _)| (*node, Replica, 100)));
        shown.iter().for_each(|(node, offset)| copies.show(*node, *offset));
        copies
    }

    fn world<'a>(copies: &'a Copies, term: u64, kept: Kept, now: Instant) -> World<'a> {
        World { term, kept, copies, questions: 5, told: None, alive: None, now, timeout: 1000 * MS, hold: 5000 * MS }
    }

    fn part(mark: Mark, term: u64, need: u32, since: Instant) -> Part {
        Part {
            mark,
            term,
            need,
            bytes: Vec::new(),
            replies: 1,
            apart: 0,
            behind: Vec::new(),
            took: None,
            since,
            torn: false,
        }
    }

    #[test]
    fn a_reply_is_let_go_when_as_many_replicas_have_it_as_it_needs() {
        let now = Instant::now();
        let copies = copies(1, &[(1, 500), (2, 400)]);
        for (offset, need, fate) in [
            (500, 1, Fate::Confirmed),
            (501, 1, Fate::Wait),
            (400, 2, Fate::Confirmed),
            (401, 2, Fate::Wait),
            (1, 3, Fate::Wait),
        ] {
            let judged = part(Mark::At(offset), 1, need, now).judge(&world(&copies, 1, Kept::Unknown, now));
            assert_eq!(judged, fate, "{offset} on {need}");
        }
    }

    #[test]
    fn over_a_switch_only_what_the_new_master_has_goes_on() {
        let now = Instant::now();
        let none = copies(2, &[]);
        let one = copies(2, &[(1, 500)]);
        let at = Mark::At;
        for (what, mark, term, need, copies, kept, fate) in [
            ("the new master is the one that had to have it", at(328), 1, 1, &none, Kept::UpTo(328), Fate::Confirmed),
            ("beyond the common part", at(329), 1, 1, &none, Kept::UpTo(328), Fate::Lost),
            ("numerically passed by the new line is no proof", at(362), 1, 1, &one, Kept::UpTo(328), Fate::Lost),
            ("one of two", at(328), 1, 2, &none, Kept::UpTo(328), Fate::Wait),
            ("and the other", at(328), 1, 2, &one, Kept::UpTo(328), Fate::Confirmed),
            ("unrelated", at(1), 1, 1, &one, Kept::Unknown, Fate::Lost),
            ("the same process", at(400), 1, 1, &one, Kept::All, Fate::Confirmed),
            ("the same process, not replicated yet", at(501), 1, 1, &one, Kept::All, Fate::Wait),
            ("its offset was never learnt", Mark::Question(9), 1, 1, &one, Kept::UpTo(900), Fate::Lost),
            ("two switches", at(1), 0, 1, &one, Kept::UpTo(900), Fate::Lost),
        ] {
            assert_eq!(part(mark, term, need, now).judge(&world(copies, 2, kept, now)), fate, "{what}");
        }
    }

    #[test]
    fn time_runs_out_only_beside_a_master_that_lives() {
        let now = Instant::now();
        let copies = copies(1, &[(1, 10)]);
        let at = |ms: u32| now + ms * MS;
        for (ms, alive, fate) in [
            (999, Some(998), Fate::Wait),
            (1001, None, Fate::Wait),
            (1001, Some(999), Fate::Wait),
            (1001, Some(1000), Fate::Expired),
            (5999, Some(999), Fate::Wait),
            (6000, Some(999), Fate::Lost),
        ] {
            let mut world = world(&copies, 1, Kept::Unknown, at(ms));
            world.alive = alive.map(at);
            assert_eq!(part(Mark::At(11), 1, 1, now).judge(&world), fate, "{ms} ms, alive at {alive:?}");
        }
    }

    #[test]
    fn a_question_asked_after_the_write_tells_its_offset_and_an_earlier_one_does_not() {
        let now = Instant::now();
        let copies = copies(1, &[(1, 700)]);
        let mut world = world(&copies, 1, Kept::Unknown, now);
        for (told, fate) in [(None, Fate::Wait), (Some((5, 600)), Fate::Wait), (Some((6, 600)), Fate::Confirmed)] {
            world.told = told;
            assert_eq!(part(Mark::Question(5), 1, 1, now).judge(&world), fate, "{told:?}");
        }
    }

    #[test]
    fn replies_leave_in_order_and_what_follows_waits() {
        let now = Instant::now();
        let mut held = Held::new(1);
        held.add(1, Mark::Question(1), b"+a\r\n", 1, None);
        held.add(1, Mark::Question(1), b"+b\r\n", 1, None);
        held.add(1, Mark::Question(2), b"+c\r\n", 1, None);
        held.follow(b"$1\r\nd\r\n");
        assert_eq!((held.replies(), held.bytes()), (3, 19));
        let behind = copies(1, &[(1, 50)]);
        let mut first = world(&behind, 1, Kept::Unknown, now);
        first.told = Some((2, 50));
        let (part, fate) = held.next(&first).unwrap();
        assert_eq!((part.bytes.as_slice(), part.replies, fate), (&b"+a\r\n+b\r\n"[..], 2, Fate::Confirmed));
        assert!(held.next(&first).is_none());
        let mut asks = Asks::default();
        held.ask(&first, &mut asks);
        assert_eq!((asks.above, asks.master), (None, true));
        first.told = Some((3, 60));
        assert!(held.next(&first).is_none());
        held.ask(&first, &mut asks);
        assert_eq!(asks.above, Some(60));
        let caught_up = copies(1, &[(1, 60)]);
        let (part, _) = held.next(&world(&caught_up, 1, Kept::Unknown, now)).unwrap();
        assert_eq!((held.replies(), held.bytes()), (0, 0));
        assert_eq!((part.bytes.as_slice(), part.behind.as_slice()), (&b"+c\r\n"[..], &b"$1\r\nd\r\n"[..]));
    }
}
