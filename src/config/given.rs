//! One value as an operator gave it: its text, where, and how it becomes a field.
//!
//! Must not know any setting. Invariant: a value that does not parse leaves the field as it was and adds a fault.

use super::fault::{At, Faults};
use super::settings;

/// A value given for a setting, not yet understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub key: &'static str,
    pub at: At,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    One(String),
    List(Vec<(At, String)>),
    Map(Vec<(At, String, String)>),
}

/// Which [`Value`] a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    /// In text: separated by commas.
    List,
    /// In text: `key=value`, separated by commas.
    Map,
}

impl Given {
    /// Reads the text of a flag, a variable or a default.
    pub fn text(key: &'static str, kind: Kind, at: At, text: &str, faults: &mut Faults) -> Self {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let value = match kind {
            Kind::One => Value::One(text.to_owned()),
            Kind::List => Value::List(items.map(|item| (at, item.to_owned())).collect()),
            Kind::Map => {
                let mut map = Vec::new();
                for item in items {
                    match item.split_once('=') {
                        Some((name, value)) => map.push((at, name.trim().to_owned(), value.trim().to_owned())),
                        None => faults.add(at, key, format!("`{item}` has no `=`, write {}=VALUE,...", item_of(key))),
                    }
                }
                Value::Map(map)
            }
        };
        Self { key, at, value }
    }

    /// An empty value means: not set.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::One(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(items) => items.is_empty(),
        }
    }

    /// Sets a field to one value.
    pub fn put<T>(&self, to: &mut T, faults: &mut Faults, parse: impl Fn(&str) -> Result<T, String>) {
        let Value::One(text) = &self.value else { return };
        match parse(text) {
            Ok(value) => *to = value,
            Err(fault) => faults.add(self.at, self.key, fault),
        }
    }

    /// Sets a field that has no value before its first.
    pub fn put_some<T>(&self, to: &mut Option<T>, faults: &mut Faults, parse: impl Fn(&str) -> Result<T, String>) {
        self.put(to, faults, |text| parse(text).map(Some));
    }

    /// Sets a field to a list; an item that is there already is a fault.
    pub fn put_list<T: PartialEq>(
        &self,
        to: &mut Vec<T>,
        faults: &mut Faults,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        let Value::List(items) = &self.value else { return };
        to.clear();
        for (at, text) in items {
            match parse(text) {
                Ok(item) if to.contains(&item) => {
                    faults.add(*at, self.key, format!("`{text}` is given twice, drop one"))
                }
                Ok(item) => to.push(item),
                Err(fault) => faults.add(*at, self.key, fault),
            }
        }
    }

    /// Sets a field to a map; a name that is there already is a fault.
    pub fn put_map<V>(
        &self,
        to: &mut Vec<(String, V)>,
        faults: &mut Faults,
        parse_name: impl Fn(&str) -> Result<String, String>,
        parse: impl Fn(&str) -> Result<V, String>,
    ) {
        let Value::Map(items) = &self.value else { return };
        to.clear();
        for (at, name, value) in items {
            match (parse_name(name), parse(value)) {
                (Ok(name), Ok(_)) if to.iter().any(|(other, _)| *other == name) => {
                    faults.add(*at, self.key, format!("`{name}` is given twice, drop one"));
                }
                (Ok(name), Ok(value)) => to.push((name, value)),
                (name, value) => {
                    for fault in [name.err(), value.err()].into_iter().flatten() {
                        faults.add(*at, self.key, fault);
                    }
                }
            }
        }
    }
}

fn item_of(key: &str) -> &'static str {
    settings::find(key).map_or("NAME", |(_, about)| about.item())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> (Value, Vec<String>) {
        let mut faults = Faults::default();
        let given = Given::text("node", kind, At::Flag, text, &mut faults);
        (given.value, faults.lines())
    }

    #[test]
    fn texts() {
        let item = |text: &str| (At::Flag, text.to_owned());
        assert_eq!(read(Kind::One, "a,b=c").0, Value::One("a,b=c".to_owned()));
        assert_eq!(read(Kind::List, "a, b,,").0, Value::List(vec![item("a"), item("b")]));
        let (map, faults) = read(Kind::Map, "a:1=2,b, c = 3 ");
        let pair = |name: &str, value: &str| (At::Flag, name.to_owned(), value.to_owned());
        assert_eq!(map, Value::Map(vec![pair("a:1", "2"), pair("c", "3")]));
        assert_eq!(faults, ["--node: `b` has no `=`, write HOST:PORT=VALUE,..."]);
    }

    #[test]
    fn a_fault_leaves_the_field() {
        let mut faults = Faults::default();
        let mut field = 7;
        let given = Given::text("poll", Kind::One, At::Flag, "x", &mut faults);
        given.put(&mut field, &mut faults, |_| Err("no".to_owned()));
        assert_eq!((field, faults.lines()), (7, vec!["--poll: no".to_owned()]));
    }

    #[test]
    fn doubles_are_faults() {
        let mut faults = Faults::default();
        let mut list = vec![String::from("old")];
        let given = Given::text("node", Kind::List, At::Flag, "a,b,a", &mut faults);
        given.put_list(&mut list, &mut faults, |t| Ok(t.to_owned()));
        assert_eq!(
            (list.join(","), faults.lines()),
            ("a,b".into(), vec!["--node: `a` is given twice, drop one".into()])
        );
    }
}
