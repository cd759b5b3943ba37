//! The table of commands and the lookup in it: on the path of every request.
//!
//! Filled by the build script from `commands.tsv`; nothing is added at run time. Invariant: a name is found in one probe
//! of a perfect hash and compared in full, so a name that is not there is never taken for another.

use super::Class;
use super::pack::{BUCKETS, SLOTS as SLOT_COUNT, hash, pack};

include!(concat!(env!("OUT_DIR"), "/commands.rs"));

/// One command or subcommand.
#[derive(Debug)]
pub struct Command {
    /// Lower case; a subcommand as `client|setname`.
    pub name: &'static str,
    /// The class as long as no argument changes it: see [`super::classify`].
    pub class: Class,
    /// Which arguments change the class.
    pub refine: Refine,
    /// Number of arguments, name included; negative: at least that many.
    pub arity: i16,
    /// As of Redis 8.2, or of Valkey 9.1 for what only Valkey has.
    pub flags: Flags,
    pub keys: Keys,
    /// Servers that have it, joined by `+`.
    pub origin: &'static str,
    /// Its subcommands; empty unless it is a container.
    pub children: &'static [Command],
}

/// What else must be looked at to know the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refine {
    None,
    /// The subcommand.
    Sub,
    /// A `BLOCK` option: `Blocking`.
    Block,
    /// `#!lua flags=no-writes`: `ScriptRead`.
    Shebang,
    /// `FULL` shows figures of the node: `MasterRead`.
    Full,
}

/// Where the keys are, as `COMMAND` gives it. All 0: none, or only `movable` ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub first: i16,
    /// Negative: counted from the last argument.
    pub last: i16,
    pub step: i16,
    /// There are keys at places that only the arguments tell.
    pub movable: bool,
}

impl Keys {
    /// Positions of keys in a request of so many words, its name included.
    pub fn places(self, words: usize) -> impl Iterator<Item = usize> {
        let last = i64::from(self.last);
        let last = if last < 0 { words as i64 + last } else { last.min(words as i64 - 1) };
        let from = if self.first > 0 { self.first as usize } else { usize::MAX };
        (from..=usize::try_from(last).unwrap_or(0)).step_by(usize::try_from(self.step).unwrap_or(1).max(1))
    }
}

/// A set of command flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const WRITE: Flags = Flags(1);
    pub const READONLY: Flags = Flags(1 << 1);
    /// Refused by a server that is out of memory.
    pub const DENYOOM: Flags = Flags(1 << 2);
    pub const ADMIN: Flags = Flags(1 << 3);
    pub const PUBSUB: Flags = Flags(1 << 4);
    pub const NOSCRIPT: Flags = Flags(1 << 5);
    pub const BLOCKING: Flags = Flags(1 << 6);
    pub const LOADING: Flags = Flags(1 << 7);
    pub const STALE: Flags = Flags(1 << 8);
    pub const FAST: Flags = Flags(1 << 9);
    /// Allowed before the client has authenticated.
    pub const NO_AUTH: Flags = Flags(1 << 10);
    /// Refused inside MULTI by every version.
    pub const NO_MULTI: Flags = Flags(1 << 11);
    pub const MOVABLE_KEYS: Flags = Flags(1 << 12);
    pub const ALLOW_BUSY: Flags = Flags(1 << 13);
    pub const MODULE: Flags = Flags(1 << 14);
    pub const ONLY_SENTINEL: Flags = Flags(1 << 15);

    /// Both sets together.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
    /// Are all flags of `other` in this set?
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

struct Slot {
    lo: u64,
    hi: u64,
    /// 0: the slot is empty.
    len: u64,
    command: &'static Command,
}

impl Command {
    /// Whether the name alone does not tell the class.
    pub fn depends_on_arguments(&self) -> bool {
        self.refine != Refine::None || !self.children.is_empty() || self.name.contains('|')
    }

    /// A subcommand by its own name, in any case.
    pub fn child(&self, name: &[u8]) -> Option<&'static Command> {
        let at = self.name.len() + 1;
        self.children.iter().find(|c| c.name.as_bytes().get(at..).is_some_and(|n| n.eq_ignore_ascii_case(name)))
    }
}

/// A command by its name, in any case. Subcommands: [`Command::child`].
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let Some(words) = pack(name) else {
        return long(name);
    };
    let (bucket, place) = hash(words, SEED);
    let displacement = usize::from(DISPLACEMENTS[bucket % BUCKETS]);
    let slot = &SLOTS[(place + displacement) % SLOT_COUNT];
    let differs = (slot.lo ^ words.0) | (slot.hi ^ words.1) | (slot.len ^ name.len() as u64);
    (differs == 0).then_some(slot.command)
}

#[cold]
fn long(name: &[u8]) -> Option<&'static Command> {
    LONG.iter().copied().find(|c| c.name.as_bytes().eq_ignore_ascii_case(name))
}
