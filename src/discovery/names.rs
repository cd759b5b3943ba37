//! Command names beyond the built-in table, from the master's own COMMAND. Pure.
//!
//! Until the command room judges flags itself, nothing learnt here is ever a read: a name is a write, or administration.

use std::collections::HashMap;

use crate::command::{Class, Names};
use crate::upstream::control::Reply;

/// One command as COMMAND lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub flags: Vec<String>,
    /// Redis 7.0 and later; e.g. `nondeterministic_output`.
    pub tips: Vec<String>,
}

/// The entries of a COMMAND reply; what is malformed is left out.
pub fn entries(reply: &Reply) -> Vec<Entry> {
    let texts = |r: Option<&Reply>| -> Vec<String> {
        r.map(|r| r.items().iter().filter_map(|t| t.text().map(str::to_owned)).collect()).unwrap_or_default()
    };
    let entry = |r: &Reply| {
        let items = r.items();
        let name = items.first()?.bytes()?.to_ascii_lowercase();
        Some(Entry { name, flags: texts(items.get(2)), tips: texts(items.get(7)) })
    };
    reply.items().iter().filter_map(entry).collect()
}

/// The classes these entries give.
pub fn names(entries: &[Entry]) -> Names {
    let class = |e: &Entry| if e.flags.iter().any(|f| f == "admin") { Class::Admin } else { Class::Write };
    let classes: HashMap<_, _> = entries.iter().map(|e| (e.name.clone(), class(e))).collect();
    Names { classes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn command(name: &'static str, flags: &[&'static str]) -> Reply {
        let flags = flags.iter().map(|f| Reply::Status(Bytes::from_static(f.as_bytes()))).collect();
        let mut items = vec![bulk(name), Reply::Integer(2), Reply::Array(flags)];
        items.extend([Reply::Integer(1), Reply::Integer(1), Reply::Integer(1), Reply::Array(vec![])]);
        items.push(Reply::Array(vec![bulk("nondeterministic_output")]));
        Reply::Array(items)
    }

    #[test]
    fn nothing_learnt_is_a_read() {
        let reply = Reply::Array(vec![
            command("JSON.GET", &["readonly"]),
            command("mod.admin", &["admin", "readonly"]),
            Reply::Nil,
            Reply::Array(vec![]),
        ]);
        let entries = entries(&reply);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].tips, ["nondeterministic_output"]);
        let names = names(&entries);
        assert_eq!(names.classes.get(&b"json.get"[..]), Some(&Class::Write));
        assert_eq!(names.classes.get(&b"mod.admin"[..]), Some(&Class::Admin));
    }
}
