//! What CLIENT LIST shows of one session: its line, and by what it can be picked. Pure.
//!
//! Invariant: what redweir does not measure is a neutral figure, what it says of state is true.

use super::form::Form;

/// What a connection of its own keeps for a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// It has one.
    pub pinned: bool,
    /// Channels, patterns, sharded channels.
    pub subscribed: [u32; 3],
    /// Requests queued since MULTI.
    pub queued: Option<u32>,
    /// CLIENT TRACKING and MONITOR are on.
    pub tracks: bool,
    pub monitors: bool,
    /// Whom its invalidations go to (0: itself), and that this one is gone.
    pub redirect: u64,
    pub broken: bool,
}

/// What getClientType tells apart among a proxy's clients: replicas and masters are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Normal,
    Pubsub,
    /// Never met here.
    Replica,
    Master,
}

impl Sort {
    /// networking.c getClientTypeByName.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(Self::Normal),
            b"slave" | b"replica" => Some(Self::Replica),
            b"pubsub" => Some(Self::Pubsub),
            b"master" => Some(Self::Master),
            _ => None,
        }
    }
}

/// One session as it is at this moment.
#[derive(Debug, Clone, Default)]
pub struct Card {
    pub id: u64,
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub name: String,
    /// Seconds since it came, and since it was last heard.
    pub age: u64,
    pub idle: u64,
    pub db: u32,
    pub bound: Bound,
    pub blocked: bool,
    pub closing: bool,
    pub no_evict: bool,
    pub no_touch: bool,
    /// Bytes of requests not dealt with, and of replies its socket did not take.
    pub input: usize,
    pub output: usize,
    /// The last command, where that is known.
    pub command: &'static str,
    pub user: String,
    pub resp: u8,
    /// Name and version.
    pub library: (String, String),
}

impl Card {
    pub fn sort(&self) -> Sort {
        if self.bound.subscribed == [0; 3] { Sort::Normal } else { Sort::Pubsub }
    }

    fn flags(&self) -> String {
        let flags = [
            (self.bound.monitors, 'O'),
            (self.sort() == Sort::Pubsub, 'P'),
            (self.bound.queued.is_some(), 'x'),
            (self.blocked, 'b'),
            (self.bound.tracks, 't'),
            (self.bound.broken, 'R'),
            (self.closing, 'c'),
            (self.no_evict, 'e'),
            (self.no_touch, 'T'),
        ];
        let set: String = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        if set.is_empty() { "N".into() } else { set }
    }

    /// Its line in the nodes' form, with its end.
    pub fn line(&self, form: &Form) -> String {
        form.line(|name| self.field(name))
    }

    fn field(&self, name: &str) -> Option<String> {
        let [sub, psub, ssub] = self.bound.subscribed;
        Some(match name {
            "id" => self.id.to_string(),
            "addr" => self.addr.clone(),
            "laddr" => self.laddr.clone(),
            "fd" => self.fd.to_string(),
            "name" => self.name.clone(),
            "age" => self.age.to_string(),
            "idle" => self.idle.to_string(),
            "flags" => self.flags(),
            "db" => self.db.to_string(),
            "sub" => sub.to_string(),
            "psub" => psub.to_string(),
            "ssub" => ssub.to_string(),
            "multi" => self.bound.queued.map_or(-1, i64::from).to_string(),
            "qbuf" => self.input.to_string(),
            "oll" => u8::from(self.output > 0).to_string(),
            "omem" => self.output.to_string(),
            "tot-mem" => (self.input + self.output).to_string(),
            "events" => if self.output > 0 { "rw" } else { "r" }.to_owned(),
            "cmd" => if self.command.is_empty() { "NULL" } else { self.command }.to_owned(),
            "user" => self.user.clone(),
            "redir" => if self.bound.tracks { self.bound.redirect.cast_signed() } else { -1 }.to_string(),
            "resp" => self.resp.to_string(),
            "lib-name" => self.library.0.clone(),
            "lib-ver" => self.library.1.clone(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            id: 7,
            addr: "127.0.0.1:50424".into(),
            laddr: "127.0.0.1:6379".into(),
            fd: 8,
            user: "default".into(),
            command: "client|list",
            resp: 2,
            ..Card::default()
        }
    }

    #[test]
    fn a_line_has_the_fields_of_redis_7_in_their_order() {
        // As CLIENT LIST of 7.0.15 printed it.
        let theirs = "id=3 addr=127.0.0.1:50424 laddr=127.0.0.1:7991 fd=8 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 \
                      ssub=0 multi=-1 qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=16384 rbp=16384 obl=0 oll=0 \
                      omem=0 tot-mem=37658 events=r cmd=client|list user=default redir=-1 resp=2";
        let names = |line: &str| {
            line.split(' ').map(|f| f.split_once('=').map_or(f, |(n, _)| n).to_owned()).collect::<Vec<_>>()
        };
        let ours = card().line(&Form::default());
        assert_eq!(names(ours.trim_end()), names(theirs));
        for field in ["flags=N", "multi=-1", "cmd=client|list", "user=default", "redir=-1", "resp=2"] {
            assert!(ours.contains(field) && theirs.contains(field), "{field}");
        }
    }

    #[test]
    fn a_line_shows_what_the_session_does() {
        let bound = |subscribed, queued| Bound { pinned: true, subscribed, queued, ..Bound::default() };
        let table = [
            (Card { bound: bound([2, 1, 0], None), ..card() }, vec!["flags=P ", "sub=2 psub=1 ssub=0 multi=-1"]),
            (Card { bound: bound([0, 0, 3], None), ..card() }, vec!["flags=P ", "sub=0 psub=0 ssub=3"]),
            (Card { bound: bound([0; 3], Some(0)), ..card() }, vec!["flags=x ", "multi=0 "]),
            (Card { bound: bound([1, 0, 0], Some(4)), ..card() }, vec!["flags=Px ", "multi=4 "]),
            (Card { bound: Bound { tracks: true, ..Bound::default() }, ..card() }, vec!["flags=t ", "redir=0 "]),
            (
                Card { bound: Bound { tracks: true, redirect: 5, broken: true, ..Bound::default() }, ..card() },
                vec!["flags=tR ", "redir=5 "],
            ),
            (Card { bound: Bound { monitors: true, ..Bound::default() }, ..card() }, vec!["flags=O ", "redir=-1 "]),
            (Card { blocked: true, ..card() }, vec!["flags=b "]),
            (Card { no_evict: true, no_touch: true, ..card() }, vec!["flags=eT "]),
            (Card { output: 5, input: 2, ..card() }, vec!["qbuf=2 ", "oll=1 omem=5 tot-mem=7 events=rw "]),
            (Card { command: "", ..card() }, vec!["cmd=NULL "]),
            (Card { db: 9, name: "me".into(), age: 3, idle: 1, ..card() }, vec!["name=me age=3 idle=1", " db=9 "]),
        ];
        for (card, parts) in table {
            for part in parts {
                let line = card.line(&Form::default());
                assert!(line.contains(part), "{part}: {line}");
            }
        }
    }
}
