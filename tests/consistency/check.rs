//! The judge: which reads broke a promise, which writes were lost, doubled or invented. Pure.
//!
//! The model. A master's data is a prefix of one stream of writes. When a master is lost its successor has a prefix of that stream, the
//! *base*, and goes on from there. What is at the master in the end is therefore the base and everything after it: a write
//! that is not there although somebody saw it, or was told so, is on the *dead branch*. One round has one lossy switch at most, so a key has one
//! dead branch at most, and every read must be a prefix of the key's end, or the base and a piece of the dead branch.
//!
//! A session must see, in any key: what it wrote, and of everybody whose write it has seen, that one's earlier writes too (all came
//! earlier in the stream). "As far as the new master has it" means: what is on the dead branch may be missing once the old master may be
//! gone; whoever has missed it, or has seen a write that only the new master can have, must never see the dead branch again. What is not on the
//! dead branch was in the base, and must be seen by who knows of it before, during and after the switch.
//!
//! What a master lost must be the *end* of its stream: a write that survived although it began after a lost one was
//! acknowledged proves that the lost one was lost by redweir.

use std::collections::{BTreeMap, HashMap};

use super::history::{End, History, Id, Level, Loss, Op, Session, Time, number_of, session_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read that shows a write which its session sent later.
    Future,
    /// A read of the dead branch after the new one.
    DeadBranch,
    /// A read without one's own write.
    OwnWrite,
    /// A read of less than the session was shown before.
    WentBack,
    /// A read older than the level allows.
    Stale,
    /// A state that the master never had, a half transaction, or an order other than that of the sessions.
    Torn,
    /// An acknowledged write is gone that no master took along.
    Dropped,
    /// Applied more than once.
    Twice,
    /// Refused, or never sent, but there.
    Phantom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// Whose read or write; `None`: found in what was there in the end.
    pub level: Option<Level>,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Reads that brought something to judge, by level.
    pub reads: BTreeMap<Level, u64>,
    /// Writes acknowledged.
    pub written: u64,
    /// Operations that were refused, and those cut off without an answer.
    pub refused: u64,
    pub unknown: u64,
    /// Acknowledged writes that are gone, and writes applied more than once.
    pub lost: u64,
    pub twice: u64,
    pub violations: Vec<Violation>,
}

/// Where a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the end's log, at this index.
    Live(usize),
    Dead,
}

/// A read, taken apart: so much of the end's log, then a piece of the dead branch.
#[derive(Clone, Copy)]
struct Seen<'a> {
    live: usize,
    dead: &'a [Id],
}

impl Seen<'_> {
    fn shows(&self, id: Id, place: Place) -> bool {
        match place {
            Place::Live(at) => at < self.live,
            Place::Dead => self.dead.contains(&id),
        }
    }
}

struct Judge<'a> {
    history: &'a History,
    writes: HashMap<Id, &'a Op>,
    places: HashMap<Id, (u32, Place)>,
    /// The executed writes of a session to a key, in order: number and place.
    of: HashMap<(u32, u32), Vec<(u32, Place)>>,
    /// Acknowledged writes by key and time of acknowledgement: with the greatest index among those up to there.
    acknowledged: HashMap<u32, Vec<(Time, usize)>>,
    lost: HashMap<u32, Vec<(Time, Id)>>,
    verdict: Verdict,
}

/// Judges a round.
pub fn judge(history: &History) -> Verdict {
    let writes = history.sessions.iter().flat_map(|s| &s.ops).filter(|op| op.id > 0).map(|op| (op.id, op)).collect();
    let mut judge = Judge {
        history,
        writes,
        places: HashMap::new(),
        of: HashMap::new(),
        acknowledged: HashMap::new(),
        lost: HashMap::new(),
        verdict: Verdict::default(),
    };
    judge.the_end();
    judge.branches();
    judge.fates();
    judge.losses();
    for session in &history.sessions {
        judge.session(session);
    }
    judge.verdict
}

impl<'a> Judge<'a> {
    fn blame(&mut self, kind: Kind, level: Option<Level>, text: String) {
        self.verdict.twice += u64::from(kind == Kind::Twice);
        self.verdict.violations.push(Violation { kind, level, text });
    }

    /// What was there in the end: each once, only what was sent, in the order of the sessions and of time.
    fn the_end(&mut self) {
        let history = self.history;
        for (key, log) in &history.last {
            for (at, id) in log.iter().enumerate() {
                if let Some((other, before)) = self.places.insert(*id, (*key, Place::Live(at))) {
                    self.blame(
                        Kind::Twice,
                        None,
                        format!("key {key}: {id} at {at} and, in key {other}, at {before:?}"),
                    );
                }
            }
            self.order(*key, log);
        }
    }

    fn order(&mut self, key: u32, log: &[Id]) {
        let (mut last_of, mut newest): (HashMap<u32, u32>, (Time, Id)) = (HashMap::new(), (0, 0));
        for id in log {
            let Some(op) = self.writes.get(id).copied() else {
                self.blame(Kind::Phantom, None, format!("key {key}: {id} was never sent"));
                continue;
            };
            if matches!(op.end, End::Refused(_)) || op.key != key {
                self.blame(Kind::Phantom, None, format!("key {key}: {op:?} is there"));
            }
            let before = last_of.insert(session_of(*id), number_of(*id));
            if before.is_some_and(|before| before >= number_of(*id)) || op.ended < newest.0 {
                self.blame(Kind::Torn, None, format!("key {key}: {op:?} stands behind later ones ({})", newest.1));
            }
            newest = newest.max((op.began, *id));
        }
    }

    /// The dead branch of each key is what anybody saw beyond the base. All must have seen pieces of one.
    fn branches(&mut self) {
        let history = self.history;
        let mut branches: HashMap<u32, (usize, &[Id])> = HashMap::new();
        for (session, op, seen) in reads(history) {
            let part = self.part(op.key, seen);
            let known = branches.entry(op.key).or_insert((part.live, part.dead));
            let one = part.dead.is_empty()
                || known.1.is_empty()
                || (part.live == known.0 && (known.1.starts_with(part.dead) || part.dead.starts_with(known.1)));
            if part.dead.len() > known.1.len() {
                *known = (part.live, part.dead);
            }
            let strange = part.dead.iter().any(|id| matches!(self.places.get(id), Some((_, Place::Live(_)))));
            if !one || strange {
                let kind = if has_double(seen) { Kind::Twice } else { Kind::Torn };
                self.blame(kind, Some(session.level), format!("session {}: {op:?} is no state of key", session.number));
            }
        }
        for (key, (_, dead)) in branches {
            self.order(key, dead);
            for id in dead {
                self.places.entry(*id).or_insert((key, Place::Dead));
            }
        }
    }

    fn part<'s>(&self, key: u32, seen: &'s [Id]) -> Seen<'s> {
        let log = self.history.last.get(&key).map_or(&[][..], Vec::as_slice);
        let live = log.iter().zip(seen).take_while(|(a, b)| a == b).count();
        Seen { live, dead: &seen[live..] }
    }

    /// Where every executed write is; those acknowledged and nowhere are on the dead branch, too.
    fn fates(&mut self) {
        let history = self.history;
        for session in &history.sessions {
            for op in session.ops.iter().filter(|op| op.id > 0) {
                match &op.end {
                    End::Written(at) => self.acknowledge(session, op, *at as usize),
                    End::Refused(_) => self.verdict.refused += 1,
                    End::Unknown => self.verdict.unknown += 1,
                    _ => {}
                }
                if let Some((_, place)) = self.places.get(&op.id) {
                    self.of.entry((session.number, op.key)).or_default().push((number_of(op.id), *place));
                }
            }
        }
        for acknowledged in self.acknowledged.values_mut() {
            acknowledged.sort_unstable();
            let mut greatest = 0;
            for (_, at) in acknowledged {
                greatest = greatest.max(*at);
                *at = greatest;
            }
        }
    }

    fn acknowledge(&mut self, session: &Session, op: &Op, at: usize) {
        self.verdict.written += 1;
        match *self.places.entry(op.id).or_insert((op.key, Place::Dead)) {
            (_, Place::Live(index)) => {
                self.acknowledged.entry(op.key).or_default().push((op.ended, index));
                if index + 1 != at {
                    self.blame(Kind::Torn, Some(session.level), format!("{op:?} stands at {}", index + 1));
                }
            }
            (_, Place::Dead) => {
                self.verdict.lost += 1;
                self.lost.entry(op.key).or_default().push((op.ended, op.id));
            }
        }
    }

    /// Lost writes must be the end of what a master had, and one must have gone.
    fn losses(&mut self) {
        let survived = |op: &&Op| {
            matches!(op.end, End::Written(_)) && matches!(self.places.get(&op.id), Some((_, Place::Live(_))))
        };
        let before = |op: &&Op, loss: Loss| op.ended < loss.from;
        let loss = self.history.loss;
        let ops = || self.history.sessions.iter().flat_map(|s| &s.ops).filter(|op| op.id > 0);
        let newest =
            loss.and_then(|loss| ops().filter(survived).filter(|op| before(op, loss)).map(|op| op.began).max());
        let dead: Vec<Id> =
            self.places.iter().filter(|(_, (_, place))| *place == Place::Dead).map(|(id, _)| *id).collect();
        for id in dead {
            let Some(op) = self.writes.get(&id).copied() else { continue };
            let why = match loss {
                None => "no master was lost",
                Some(Loss { gone: Some(gone), .. }) if op.began > gone => "its master was gone when it was sent",
                Some(_) if newest.is_some_and(|newest| op.ended < newest) => "later ones of the same master are there",
                Some(_) => continue,
            };
            self.blame(Kind::Dropped, None, format!("{op:?} is gone: {why}"));
        }
    }

    fn session(&mut self, session: &Session) {
        // What the session knows of each: the number of the last write.
        let mut known: HashMap<u32, u32> = HashMap::new();
        let mut moved = false;
        for op in &session.ops {
            match &op.end {
                End::Torn(what) => self.blame(Kind::Torn, Some(session.level), format!("{op:?}: {what}")),
                End::Seen(seen) => {
                    *self.verdict.reads.entry(session.level).or_default() += 1;
                    self.read(session, op, seen, &known, &mut moved);
                    for id in seen {
                        let last = known.entry(session_of(*id)).or_default();
                        *last = (*last).max(number_of(*id));
                    }
                }
                End::Refused(_) if op.id == 0 => self.verdict.refused += 1,
                End::Unknown if op.id == 0 => self.verdict.unknown += 1,
                _ => {}
            }
            if op.id > 0 {
                known.insert(session.number, number_of(op.id));
                moved |= matches!(op.end, End::Written(_)) && self.is_new(op);
            }
        }
    }

    /// Only a new master can have executed it.
    fn is_new(&self, op: &Op) -> bool {
        self.history.loss.and_then(|loss| loss.gone).is_some_and(|gone| op.began > gone)
    }

    fn read(&mut self, session: &Session, op: &Op, seen: &[Id], known: &HashMap<u32, u32>, moved: &mut bool) {
        let part = self.part(op.key, seen);
        let (me, level) = (session.number, session.level);
        let mut broken = Vec::new();
        let sent = known.get(&me).copied().unwrap_or(0);
        if seen.iter().any(|id| session_of(*id) == me && number_of(*id) > sent) {
            broken.push((Kind::Future, 0));
        }
        if *moved && !part.dead.is_empty() {
            broken.push((Kind::DeadBranch, part.dead[0]));
        }
        let excused = self.history.loss.is_some_and(|loss| op.ended > loss.from);
        if !matches!(level, Level::Bounded(_)) {
            for (who, last) in known {
                let Some(missing) = self.missing(part, (*who, op.key), *last, excused, moved) else { continue };
                broken.push((if *who == me { Kind::OwnWrite } else { Kind::WentBack }, missing));
            }
        }
        *moved |= seen.iter().any(|id| self.writes.get(id).is_some_and(|w| self.is_new(w)));
        let bound = match level {
            Level::Strong => Some(0),
            Level::Bounded(bound) => Some(bound),
            Level::Eventual | Level::Session => None,
        };
        if let Some(bound) = bound
            && let Some(missing) = self.overdue(part, op, op.began.saturating_sub(bound), excused)
        {
            broken.push((Kind::Stale, missing));
        }
        // A read is counted once, as the worst that it is.
        if let Some((kind, missing)) = broken.into_iter().min_by_key(|(kind, _)| *kind) {
            let (write, place) = (self.writes.get(&missing), self.places.get(&missing));
            let text = format!(
                "session {me}: read {} to {} of key {} showed {} of the end and {:?}, not {missing} ({place:?}, {write:?}); loss {:?}",
                op.began, op.ended, op.key, part.live, part.dead, self.history.loss
            );
            self.blame(kind, Some(level), text);
        }
    }

    /// A write of `of.0` to key `of.1`, up to its number `last`, that is not shown and has to be.
    fn missing(&self, part: Seen, of: (u32, u32), last: u32, excused: bool, moved: &mut bool) -> Option<Id> {
        let writes = self.of.get(&of)?;
        let upto = writes.partition_point(|(number, _)| *number <= last);
        for (number, place) in writes[..upto].iter().rev() {
            let id = super::history::id(of.0, *number);
            match place {
                _ if part.shows(id, *place) => return None,
                Place::Dead if excused => *moved = true,
                _ => return Some(id),
            }
        }
        None
    }

    /// A write acknowledged before `limit` that is not shown and has to be.
    fn overdue(&self, part: Seen, op: &Op, limit: Time, excused: bool) -> Option<Id> {
        let due = |list: &[(Time, usize)]| list[..list.partition_point(|(ended, _)| *ended < limit)].last().copied();
        if let Some((_, at)) = self.acknowledged.get(&op.key).and_then(|list| due(list))
            && at >= part.live
        {
            return self.history.last.get(&op.key).and_then(|log| log.get(at)).copied();
        }
        let lost = self.lost.get(&op.key).into_iter().flatten();
        lost.filter(|(ended, _)| *ended < limit && !excused).map(|(_, id)| *id).find(|id| !part.dead.contains(id))
    }
}

fn reads(history: &History) -> impl Iterator<Item = (&Session, &Op, &[Id])> {
    history.sessions.iter().flat_map(|session| {
        session.ops.iter().filter_map(move |op| match &op.end {
            End::Seen(seen) => Some((session, op, seen.as_slice())),
            _ => None,
        })
    })
}

fn has_double(seen: &[Id]) -> bool {
    let mut sorted = seen.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}
