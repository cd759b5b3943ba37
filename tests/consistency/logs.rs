//! Keys that are logs, in four shapes: a list, a string, and a list beside a register and a counter that are written together, in a
//! transaction or by a script. The pure part of how they are written, read and understood.

use super::history::{End, Id};
use super::support::Reply;

/// Keys of each database; `key % 4` is the shape.
pub const KEYS: u32 = 96;

/// KEYS: register, counter, list.
pub const WRITE: &str = "redis.call('SET', KEYS[1], ARGV[1]) local n = redis.call('INCR', KEYS[2]) \
    return {n, redis.call('RPUSH', KEYS[3], ARGV[1])}";
pub const READ: &str =
    "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1)}";

/// Digits of an id in a string.
const WIDTH: usize = 10;

/// One operation. `other`: in the second of the two ways, where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    key: u32,
    id: Id,
    other: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    List,
    Text,
    Transaction,
    Script,
}

impl Access {
    pub fn read(key: u32, other: bool) -> Self {
        Self { key, id: 0, other }
    }

    pub fn write(key: u32, id: Id, other: bool) -> Self {
        Self { key, id, other }
    }

    pub fn key(self) -> u32 {
        self.key
    }

    /// 0: a read.
    pub fn id(self) -> Id {
        self.id
    }

    fn shape(self) -> Shape {
        match self.key % 4 {
            0 => Shape::List,
            1 => Shape::Text,
            2 => Shape::Transaction,
            _ => Shape::Script,
        }
    }

    /// What is sent; the last one's reply is what counts.
    pub fn commands(self, round: u32) -> Vec<Vec<String>> {
        let name = |part: &str| format!("{part}:{round}:{}", self.key);
        let (list, register, counter) = (name("list"), name("register"), name("counter"));
        let id = self.id.to_string();
        let script = |body: &str| -> Vec<String> {
            // Both ways of calling one.
            let (how, what) = match self.other {
                true => ("EVALSHA", sha1_smol::Sha1::from(body).digest().to_string()),
                false => ("EVAL", body.to_owned()),
            };
            let how = if self.id == 0 { format!("{how}_RO") } else { how.to_owned() };
            let mut words = vec![how, what, "3".into(), register.clone(), counter.clone(), list.clone()];
            words.extend((self.id > 0).then(|| id.clone()));
            words
        };
        let range = || words(&["LRANGE", &list, "0", "-1"]);
        match (self.shape(), self.id > 0) {
            (Shape::List, true) => vec![words(&["RPUSH", &list, &id])],
            (Shape::Text, true) => vec![words(&["APPEND", &register, &format!("{:0WIDTH$}", self.id)])],
            (Shape::Text, false) => vec![words(&["GET", &register])],
            (Shape::Transaction, true) => vec![
                words(&["MULTI"]),
                words(&["SET", &register, &id]),
                words(&["INCR", &counter]),
                words(&["RPUSH", &list, &id]),
                words(&["EXEC"]),
            ],
            (Shape::Transaction, false) if self.other => vec![
                words(&["MULTI"]),
                words(&["GET", &register]),
                words(&["GET", &counter]),
                range(),
                words(&["EXEC"]),
            ],
            (Shape::Script, true) => vec![script(WRITE)],
            (Shape::Script, false) if self.other => vec![script(READ)],
            _ => vec![range()],
        }
    }

    /// What the last reply says.
    pub fn end(self, reply: &Reply) -> End {
        let understood = match (reply, self.id > 0, self.shape()) {
            (Reply::Error(text), ..) => return End::Refused(text.clone()),
            (Reply::Nil, true, _) => return End::Refused("nil".into()),
            (Reply::Int(n), true, Shape::List) => u32::try_from(*n).ok().map(End::Written),
            (Reply::Int(n), true, Shape::Text) => match u32::try_from(*n) {
                Ok(n) if (n as usize).is_multiple_of(WIDTH) => Some(End::Written(n / WIDTH as u32)),
                _ => None,
            },
            (Reply::Array(items), true, Shape::Transaction | Shape::Script) => match items.as_slice() {
                [.., Reply::Int(counted), Reply::Int(length)] if counted == length => {
                    u32::try_from(*length).ok().map(End::Written)
                }
                _ => None,
            },
            (Reply::Nil, false, Shape::Text) => Some(End::Seen(vec![])),
            (Reply::Bulk(text), false, Shape::Text) => {
                text.chunks(WIDTH).map(number).collect::<Option<_>>().map(End::Seen)
            }
            (Reply::Array(items), false, _) => match items.as_slice() {
                [register, counter, Reply::Array(list)] => together(register, counter, list),
                list => ids(list).map(End::Seen),
            },
            _ => None,
        };
        understood.unwrap_or_else(|| End::Torn(format!("{self:?} was answered with {reply:?}")))
    }
}

/// The register holds the list's last, the counter its length.
fn together(register: &Reply, counter: &Reply, list: &[Reply]) -> Option<End> {
    let ids = ids(list)?;
    let last = register.int().unwrap_or(0);
    let whole = last == i64::from(ids.last().copied().unwrap_or(0)) && counter.int().unwrap_or(0) == ids.len() as i64;
    whole.then_some(End::Seen(ids))
}

fn ids(list: &[Reply]) -> Option<Vec<Id>> {
    list.iter().map(|item| if let Reply::Bulk(text) = item { number(text) } else { None }).collect()
}

fn number(text: &[u8]) -> Option<Id> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

#[test]
fn replies_are_understood_and_contradictions_noted() {
    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    let list = |texts: &[&str]| Reply::Array(texts.iter().map(|t| bulk(t)).collect());
    let (read, write) = (|key| Access::read(key, true), |key| Access::write(key, 7, true));
    let torn = None;
    let table = [
        (write(0), Reply::Int(3), Some(End::Written(3))),
        (write(1), Reply::Int(30), Some(End::Written(3))),
        (write(1), Reply::Int(31), torn.clone()),
        (write(2), Reply::Array(vec![Reply::Status("OK".into()), Reply::Int(3), Reply::Int(3)]), Some(End::Written(3))),
        (write(2), Reply::Array(vec![Reply::Status("OK".into()), Reply::Int(4), Reply::Int(3)]), torn.clone()),
        (write(3), Reply::Array(vec![Reply::Int(3), Reply::Int(3)]), Some(End::Written(3))),
        (write(0), Reply::Error("ERR".into()), Some(End::Refused("ERR".into()))),
        (read(0), list(&["7", "8"]), Some(End::Seen(vec![7, 8]))),
        (read(0), list(&[]), Some(End::Seen(vec![]))),
        (read(0), Reply::Status("OK".into()), torn.clone()),
        (read(1), Reply::Nil, Some(End::Seen(vec![]))),
        (read(1), bulk("00000000070000000008"), Some(End::Seen(vec![7, 8]))),
        (read(2), list(&["7"]), Some(End::Seen(vec![7]))),
        (read(2), Reply::Array(vec![Reply::Nil, Reply::Nil, list(&[])]), Some(End::Seen(vec![]))),
        (read(2), Reply::Array(vec![bulk("8"), bulk("2"), list(&["7", "8"])]), Some(End::Seen(vec![7, 8]))),
        (read(2), Reply::Array(vec![bulk("9"), bulk("2"), list(&["7", "8"])]), torn.clone()),
        (read(3), Reply::Array(vec![bulk("8"), bulk("3"), list(&["7", "8"])]), torn),
    ];
    for (access, reply, expected) in table {
        let end = access.end(&reply);
        assert_eq!(Some(end.clone()).filter(|e| !matches!(e, End::Torn(_))), expected, "{access:?} {reply:?}");
    }
}
