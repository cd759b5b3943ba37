//! Commands beyond the table (modules, newer servers), classified by the flags a master's own `COMMAND` gives them.
//!
//! Must not overrule the table. Invariant: what no flag proves harmless on a replica goes to the master, and what may
//! block or take another number of replies never goes to a shared connection.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Class, lookup};

/// Names beyond the table with the class their flags give, from a master's own `COMMAND`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// By lower-case name.
    pub classes: HashMap<Vec<u8>, Class>,
}

/// One entry of a `COMMAND` reply, as far as its class depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    pub name: Vec<u8>,
    /// `readonly`, `fast`, ... without a leading `+`.
    pub flags: Vec<String>,
    /// `nondeterministic_output`, `request_policy:...`; servers before 7.0 give none.
    pub tips: Vec<String>,
}

/// Names are rarely longer; those that are cost an allocation.
const SHORT: usize = 64;

impl Names {
    /// Keeps what the table does not have.
    pub fn from_command_reply(entries: impl IntoIterator<Item = Described>) -> Self {
        // Redis 6.2 lists two that close the connection without a reply (server.c securityWarningCommand).
        let closes = |name: &[u8]| name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:");
        let unknown = entries.into_iter().filter(|e| lookup(&e.name).is_none() && !closes(&e.name));
        let classes = unknown.map(|e| {
            let words: Vec<&str> = e.flags.iter().chain(&e.tips).map(String::as_str).collect();
            (e.name.to_ascii_lowercase(), class_from_flags(&words))
        });
        Self { classes: classes.collect() }
    }

    /// The class of a name in any case; allocates nothing for names of usual length.
    pub fn lookup(&self, name: &[u8]) -> Option<Class> {
        if self.classes.is_empty() {
            return None;
        }
        let mut buffer = [0u8; SHORT];
        let lower: Cow<[u8]> = match buffer.get_mut(..name.len()) {
            Some(short) => {
                short.copy_from_slice(name);
                short.make_ascii_lowercase();
                Cow::Borrowed(short)
            }
            None => Cow::Owned(name.to_ascii_lowercase()),
        };
        self.classes.get(&*lower).copied()
    }
}

/// The class that flags and tips of a `COMMAND` entry allow.
///
/// A module's read may depend on the node (search indexes are built per node), so its own word `readonly` gets it no
/// further than the master.
pub fn class_from_flags(flags: &[&str]) -> Class {
    let has = |flag: &str| flags.contains(&flag);
    if has("blocking") || has("pubsub") {
        // Also when it writes: it may stop its connection, or answer more than once.
        Class::Blocking
    } else if has("write") || has("may_replicate") {
        Class::Write
    } else if has("readonly") && !has("admin") {
        if has("module") || has("nondeterministic_output") { Class::MasterRead } else { Class::Read }
    } else {
        Class::Admin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_decide_on_the_side_of_the_master() {
        let cases: [(&[&str], Class); 16] = [
            (&["readonly", "fast"], Class::Read),
            (&["readonly"], Class::Read),
            (&["readonly", "nondeterministic_output_order"], Class::Read),
            (&["readonly", "nondeterministic_output"], Class::MasterRead),
            (&["readonly", "module"], Class::MasterRead),
            (&["readonly", "blocking", "module"], Class::Blocking),
            (&["readonly", "write"], Class::Write),
            (&["readonly", "may_replicate"], Class::Write),
            (&["readonly", "admin"], Class::Admin),
            (&["write", "denyoom"], Class::Write),
            (&["write", "blocking"], Class::Blocking),
            (&["pubsub", "loading"], Class::Blocking),
            (&["pubsub", "may_replicate"], Class::Blocking),
            (&["admin", "noscript"], Class::Admin),
            (&["noscript"], Class::Admin),
            (&[], Class::Admin),
        ];
        for (flags, class) in cases {
            assert_eq!(class_from_flags(flags), class, "{flags:?}");
        }
    }

    fn described(name: &str, flags: &[&str], tips: &[&str]) -> Described {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Described { name: name.as_bytes().to_vec(), flags: own(flags), tips: own(tips) }
    }

    #[test]
    fn a_reply_adds_what_the_table_lacks_and_overrules_nothing() {
        let long = "x".repeat(SHORT + 1);
        let names = Names::from_command_reply([
            described("get", &["write"], &[]),
            described("Digest", &["readonly", "fast"], &[]),
            described("new.random", &["readonly"], &["nondeterministic_output"]),
            described("json.set", &["write", "module"], &[]),
            described(&long, &["write"], &[]),
        ]);
        assert_eq!(names.classes.len(), 4);
        assert_eq!(names.lookup(b"GET"), None);
        assert_eq!(names.lookup(b"digest"), Some(Class::Read));
        assert_eq!(names.lookup(b"DIGEST"), Some(Class::Read));
        assert_eq!(names.lookup(b"NEW.RANDOM"), Some(Class::MasterRead));
        assert_eq!(names.lookup(b"Json.Set"), Some(Class::Write));
        assert_eq!(names.lookup(long.to_ascii_uppercase().as_bytes()), Some(Class::Write));
        assert_eq!(names.lookup(b"nosuch"), None);
        assert_eq!(names.lookup(b""), None);
        assert_eq!(Names::default().lookup(b"digest"), None);
    }
}
