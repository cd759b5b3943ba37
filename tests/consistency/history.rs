//! What clients saw: every write and read of one round, in the order of each session, with the times at which it began and ended.
//!
//! Plain data; the judgement is in `check`. Every key is a log: a write appends an id that no other write has, a read brings
//! everything in the key. So a read shows exactly which writes it saw, and in which order. Invariant: a session's ops stand in the
//! order in which it sent them; a session is one connection.

use std::collections::BTreeMap;
use std::fmt;

/// A write's own mark: the session in the upper bits, its number within the session, from 1, below.
pub type Id = u32;
/// Nanoseconds since the beginning of everything.
pub type Time = u64;

const NUMBER_BITS: u32 = 20;

pub fn id(session: u32, number: u32) -> Id {
    assert!(session < 1 << (32 - NUMBER_BITS) && number < 1 << NUMBER_BITS, "a round too large");
    session << NUMBER_BITS | number
}

pub fn session_of(id: Id) -> u32 {
    id >> NUMBER_BITS
}

pub fn number_of(id: Id) -> u32 {
    id & ((1 << NUMBER_BITS) - 1)
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A write was acknowledged; where in the key it then stood, counted from 1.
    Written(u32),
    /// What a read brought.
    Seen(Vec<Id>),
    /// What came contradicts itself: half a transaction, a counter that counted twice.
    Torn(String),
    /// Answered with an error: not executed.
    Refused(String),
    /// The connection was lost first.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    pub key: u32,
    /// Of a write; 0: it reads.
    pub id: Id,
    pub began: Time,
    pub ended: Time,
    pub end: End,
}

/// What a session was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Eventual,
    /// No staler than this many nanoseconds.
    Bounded(Time),
    Session,
    Strong,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Eventual => "eventual",
            Level::Bounded(_) => "bounded",
            Level::Session => "session",
            Level::Strong => "strong",
        })
    }
}

#[derive(Debug, Clone)]
pub struct Session {
    pub number: u32,
    pub level: Level,
    pub ops: Vec<Op>,
}

/// One round: one fault, on keys that nobody used before, and what was there when all was over.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub sessions: Vec<Session>,
    /// Every key at the master in the end.
    pub last: BTreeMap<u32, Vec<Id>>,
    /// In this round one master may have taken acknowledged writes with it.
    pub loss: Option<Loss>,
}

/// When a master went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Until here it was there for certain.
    pub from: Time,
    /// From here on it acknowledged nothing for certain; `None`: nobody knows.
    pub gone: Option<Time>,
}
