//! Which sessions CLIENT LIST and CLIENT KILL are about, from their arguments. Pure.
//!
//! Read after a node has judged the same arguments ([`harmless_kill`]), so a node's own errors come first. Invariant: a form
//! that is not understood picks nobody.

use super::card::{Card, Sort};

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// One of these; in the order asked for.
    pub ids: Option<Vec<u64>>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    sort: Option<Sort>,
    /// Connected for so many seconds at least.
    max_age: u64,
    /// Whoever asks is not meant.
    pub skip_me: bool,
}

impl Filter {
    fn all() -> Self {
        Self { ids: None, addr: None, laddr: None, user: None, sort: None, max_age: 0, skip_me: false }
    }

    /// All sessions of one user.
    pub fn of_user(user: &[u8]) -> Self {
        Self { user: Some(user.to_vec()), ..Self::all() }
    }

    /// CLIENT LIST [TYPE type] [ID id ...]; `words` begin with CLIENT.
    pub fn of_list(words: &[&[u8]]) -> Option<Self> {
        let all = Self::all();
        match words.get(2..)? {
            [] => Some(all),
            [option, sort] if is(option, "type") => Some(Self { sort: Some(Sort::named(sort)?), ..all }),
            [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
                // There is no session below 1, but asking for one is no error.
                let ids: Option<Vec<i64>> = ids.iter().map(|id| integer(id)).collect();
                Some(Self { ids: Some(ids?.into_iter().filter_map(|id| u64::try_from(id).ok()).collect()), ..all })
            }
            _ => None,
        }
    }

    /// CLIENT KILL, in its old form (an address) and its new one. Of an option given twice the last counts, as in Redis.
    pub fn of_kill(words: &[&[u8]]) -> Option<Self> {
        let options = words.get(2..)?;
        if let [addr] = options {
            return Some(Self { addr: Some(addr.to_vec()), ..Self::all() });
        }
        let mut filter = Self { skip_me: true, ..Self::all() };
        let mut rest = options.iter().copied().peekable();
        while let Some(option) = rest.next() {
            let value = rest.next()?;
            if is(option, "id") {
                let mut ids = vec![u64::try_from(integer(value)?).ok().filter(|id| *id > 0)?];
                // Valkey 8.1 takes several.
                while let Some(id) = rest.peek().and_then(|word| integer(word)) {
                    ids.push(u64::try_from(id).ok()?);
                    rest.next();
                }
                filter.ids = Some(ids);
            } else if is(option, "type") {
                filter.sort = Some(Sort::named(value)?);
            } else if is(option, "addr") {
                filter.addr = Some(value.to_vec());
            } else if is(option, "laddr") {
                filter.laddr = Some(value.to_vec());
            } else if is(option, "user") {
                filter.user = Some(value.to_vec());
            } else if is(option, "maxage") {
                filter.max_age = u64::try_from(integer(value)?).ok()?;
            } else if is(option, "skipme") {
                filter.skip_me = is(value, "yes");
                if !filter.skip_me && !is(value, "no") {
                    return None;
                }
            } else {
                return None;
            }
        }
        (!options.is_empty()).then_some(filter)
    }

    pub fn matches(&self, card: &Card) -> bool {
        let same = |wanted: &Option<Vec<u8>>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is.as_bytes());
        self.ids.as_ref().is_none_or(|ids| ids.contains(&card.id))
            && same(&self.addr, &card.addr)
            && same(&self.laddr, &card.laddr)
            && same(&self.user, &card.user)
            && self.sort.is_none_or(|sort| sort == card.sort())
            && card.age >= self.max_age
    }
}

/// No connection of a node has this address.
pub const NOWHERE: &[u8] = b"none";
/// No client of a node has this id.
pub const NOBODY: &[u8] = b"9223372036854775807";

/// The same CLIENT KILL in a form that a node judges in full and that kills nobody. `None`: there is none, and no server
/// takes it.
pub fn harmless_kill<'a>(words: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let (head, options) = words.split_at_checked(2)?;
    if options.len() == 1 {
        return Some([head, &[NOWHERE]].concat());
    }
    let nowhere: [&[u8]; 2] = [b"LADDR", NOWHERE];
    if options.len().is_multiple_of(2) {
        // Of an option given twice the last counts.
        return Some([head, options, &nowhere].concat());
    }
    // A value is missing, or it is Valkey's list of ids.
    (!options.iter().any(|option| is(option, "laddr"))).then(|| [head, &nowhere, options].concat())
}

/// The same CLIENT LIST with none of the clients it is about.
pub fn harmless_list<'a>(words: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let head = words.get(..2).unwrap_or_default();
    match words.get(2..).unwrap_or_default() {
        [option, ids @ ..] if is(option, "id") => {
            // Whether there is an id 0 is the server's to say.
            let none = |id: &&'a [u8]| if integer(id).is_some_and(|id| id > 0) { NOBODY } else { *id };
            head.iter().copied().chain([*option]).chain(ids.iter().map(none)).collect()
        }
        _ => [head, &[b"ID", NOBODY]].concat(),
    }
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// util.c string2ll: digits in the one form that they are printed in.
pub fn integer(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?;
    text.parse::<i64>().ok().filter(|n| n.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::card::Bound;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn cards() -> Vec<Card> {
        let card = |id: u64, user: &str, age, subscribed| Card {
            id,
            addr: format!("127.0.0.1:{id}"),
            laddr: format!("127.0.0.1:{}", 6000 + id % 2),
            user: user.into(),
            age,
            bound: Bound { subscribed, ..Bound::default() },
            ..Card::default()
        };
        vec![card(1, "default", 100, [0; 3]), card(2, "ann", 10, [1, 0, 0]), card(3, "ann", 0, [0, 0, 1])]
    }

    fn picked(filter: &Filter) -> Vec<u64> {
        cards().iter().filter(|card| filter.matches(card)).map(|card| card.id).collect()
    }

    #[test]
    fn list_picks_by_type_or_ids() {
        let table: &[(&str, Option<&[u64]>)] = &[
            ("CLIENT LIST", Some(&[1, 2, 3])),
            ("CLIENT LIST TYPE normal", Some(&[1])),
            ("CLIENT LIST type PUBSUB", Some(&[2, 3])),
            ("CLIENT LIST TYPE replica", Some(&[])),
            ("CLIENT LIST TYPE slave", Some(&[])),
            ("CLIENT LIST TYPE master", Some(&[])),
            ("CLIENT LIST ID 3 1 9 -4 0", Some(&[1, 3])),
            ("CLIENT LIST TYPE other", None),
            ("CLIENT LIST TYPE", None),
            ("CLIENT LIST ID", None),
            ("CLIENT LIST ID +1", None),
            ("CLIENT LIST ID 01", None),
            ("CLIENT LIST ID x", None),
            ("CLIENT LIST ALL", None),
            ("CLIENT LIST TYPE normal ID 1", None),
        ];
        for (line, expected) in table {
            let filter = Filter::of_list(&words(line));
            assert_eq!(filter.as_ref().map(picked).as_deref(), *expected, "{line}");
        }
        assert_eq!(Filter::of_list(&words("CLIENT LIST ID 3 1")).unwrap().ids, Some(vec![3, 1]));
    }

    #[test]
    fn kill_picks_by_every_filter_and_by_all_of_them_together() {
        type Row = (&'static str, Option<(&'static [u64], bool)>);
        let table: &[Row] = &[
            ("CLIENT KILL 127.0.0.1:2", Some((&[2], false))),
            ("CLIENT KILL 127.0.0.1:9", Some((&[], false))),
            ("CLIENT KILL ID 2", Some((&[2], true))),
            ("CLIENT KILL ID 2 3", Some((&[2, 3], true))),
            ("CLIENT KILL ID 2 ID 3", Some((&[3], true))),
            ("CLIENT KILL ADDR 127.0.0.1:3", Some((&[3], true))),
            ("CLIENT KILL LADDR 127.0.0.1:6001", Some((&[1, 3], true))),
            ("CLIENT KILL USER ann", Some((&[2, 3], true))),
            ("CLIENT KILL USER ANN", Some((&[], true))),
            ("CLIENT KILL TYPE normal SKIPME no", Some((&[1], false))),
            ("CLIENT KILL TYPE pubsub LADDR 127.0.0.1:6001", Some((&[3], true))),
            ("CLIENT KILL MAXAGE 10", Some((&[1, 2], true))),
            ("CLIENT KILL SKIPME yes", Some((&[1, 2, 3], true))),
        ];
        for (line, expected) in table {
            let filter = Filter::of_kill(&words(line));
            let found = filter.as_ref().map(|f| (picked(f), f.skip_me));
            assert_eq!(found, expected.map(|(ids, skip)| (ids.to_vec(), skip)), "{line}");
        }
        for line in [
            "CLIENT KILL",
            "CLIENT KILL ID 0",
            "CLIENT KILL ID -1",
            "CLIENT KILL ID x",
            "CLIENT KILL TYPE other",
            "CLIENT KILL TYPE normal ID",
            "CLIENT KILL SKIPME maybe",
            "CLIENT KILL NAME me",
            "CLIENT KILL MAXAGE -1",
        ] {
            assert_eq!(Filter::of_kill(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn what_a_node_is_asked_lists_nobody() {
        for (line, expected) in [
            ("CLIENT LIST", "CLIENT LIST ID 9223372036854775807"),
            ("client list TYPE normal", "client list ID 9223372036854775807"),
            ("CLIENT LIST ID 0 7 -1", "CLIENT LIST ID 0 9223372036854775807 -1"),
        ] {
            assert_eq!(harmless_list(&words(line)), words(expected), "{line}");
        }
    }

    #[test]
    fn what_a_node_is_asked_kills_nobody() {
        for (line, expected) in [
            ("CLIENT KILL 127.0.0.1:2", Some("CLIENT KILL none")),
            ("client kill ID 2", Some("client kill ID 2 LADDR none")),
            ("CLIENT KILL TYPE normal LADDR a:1", Some("CLIENT KILL TYPE normal LADDR a:1 LADDR none")),
            ("CLIENT KILL ID 1 2", Some("CLIENT KILL LADDR none ID 1 2")),
            ("CLIENT KILL ID 1 TYPE", Some("CLIENT KILL LADDR none ID 1 TYPE")),
            ("CLIENT KILL ID 1 LADDR x TYPE", None),
        ] {
            assert_eq!(harmless_kill(&words(line)), expected.map(words), "{line}");
        }
    }
}
