//! The TOML file -> the values it gives, each with its line.
//!
//! Knows the shape of the file (what may stand where), not what a value means. Must not stop at the first fault.
//! Invariant: what is returned are known keys in places where they may stand; everything else is a fault with its line.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::fault::{At, Faults, did_you_mean};
use super::given::{Given, Kind, Value};
use super::settings::{self, About, Scope};

/// Largest file read: far above any sense, so that a wrong path cannot fill the memory.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The values of a file by the table they stand in.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    /// Above the first table: of the process, and for every set and listener that does not say otherwise.
    pub top: Vec<Given>,
    pub sets: Vec<Table>,
    pub listeners: Vec<Table>,
}

/// One `[[set]]` or `[[listener]]`.
#[derive(Debug)]
pub(super) struct Table {
    pub at: At,
    pub values: Vec<Given>,
}

/// Reads the bytes of a file. `None` where it is no TOML: only that is reported, the rest would be guesswork.
pub(super) fn read(bytes: &[u8], faults: &mut Faults) -> Option<FileValues> {
    let mut values = FileValues::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let line = 1 + bytes.iter().take(fault.valid_up_to()).filter(|b| **b == b'\n').count();
            faults.add(At::Line(line), None, "not UTF-8, is this the right file?");
            return None;
        }
    };
    // Windows editors put a mark in front.
    let lines = Lines::of(text.strip_prefix('\u{feff}').unwrap_or(text));
    let (root, errors) = DeTable::parse_recoverable(lines.text);
    for error in &errors {
        let at = error.span().map_or(At::File, |span| lines.at(&span));
        faults.add(at, None, format!("no valid TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        return None;
    }
    for (key, value) in root.get_ref() {
        let entry = Entry { lines: &lines, at: lines.at(&key.span()), key: key.get_ref(), value: value.get_ref() };
        entry.top(lines.at(&value.span()), &mut values, faults);
    }
    Some(values)
}

struct Lines<'t> {
    text: &'t str,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(i, _)| i + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn at(&self, span: &Range<usize>) -> At {
        At::Line(self.starts.partition_point(|start| *start <= span.start))
    }
}

/// A key with its value.
struct Entry<'a, 't> {
    lines: &'a Lines<'t>,
    at: At,
    key: &'a str,
    value: &'a DeValue<'t>,
}

impl Entry<'_, '_> {
    /// At the top of the file.
    fn top(&self, value_at: At, values: &mut FileValues, faults: &mut Faults) {
        let tables = match (self.key, self.value) {
            ("set", DeValue::Array(_) | DeValue::Table(_)) => Some((Scope::Set, &mut values.sets)),
            ("listener", _) => Some((Scope::Listener, &mut values.listeners)),
            _ => None,
        };
        if let Some((scope, tables)) = tables {
            return self.tables(scope, tables, faults);
        }
        match settings::find(self.key) {
            Some((_, about)) if about.everywhere => values.top.extend(self.given(about, value_at, faults)),
            Some(_) => faults.add(self.at, None, format!("`{}` belongs in a [[listener]], move it there", self.key)),
            None => self.unknown(true, faults),
        }
    }

    /// `[[set]]` or `[[listener]]`.
    fn tables(&self, scope: Scope, to: &mut Vec<Table>, faults: &mut Faults) {
        let DeValue::Array(items) = self.value else {
            return faults.add(self.at, None, format!("write [[{}]], with two brackets", self.key));
        };
        for item in items.iter() {
            let at = self.lines.at(&item.span());
            let DeValue::Table(table) = item.get_ref() else {
                faults.add(at, None, format!("write [[{}]] tables instead of a list", self.key));
                continue;
            };
            let mut values = Vec::new();
            for (key, value) in table {
                let entry = Entry {
                    lines: self.lines,
                    at: self.lines.at(&key.span()),
                    key: key.get_ref(),
                    value: value.get_ref(),
                };
                match settings::find(entry.key) {
                    Some((found, about)) if found == scope => {
                        values.extend(entry.given(about, self.lines.at(&value.span()), faults));
                    }
                    Some((found, _)) => faults.add(entry.at, None, entry.misplaced(found)),
                    None => entry.unknown(false, faults),
                }
            }
            to.push(Table { at, values });
        }
    }

    fn misplaced(&self, scope: Scope) -> String {
        let place = match scope {
            Scope::Process => "above the first [[set]] or [[listener]]",
            Scope::Set => "in a [[set]]",
            Scope::Listener => "in a [[listener]]",
        };
        format!("`{}` belongs {place}, move it there", self.key)
    }

    fn unknown(&self, top: bool, faults: &mut Faults) {
        let tables: &[&str] = if top { &["set", "listener"] } else { &[] };
        let keys = settings::all().map(|(_, _, about)| about.key).chain(tables.iter().copied());
        let near = did_you_mean(self.key, keys);
        let end = if near.is_empty() { ", `redweir --help` lists all settings".to_owned() } else { near };
        let key: String = self.key.chars().take(64).collect();
        faults.add(self.at, None, format!("unknown key `{key}`{end}"));
    }

    fn given(&self, about: &'static About, at: At, faults: &mut Faults) -> Option<Given> {
        let key = about.key;
        let value = match (about.kind, self.value) {
            (Kind::One, value) => match scalar(value) {
                Some(text) => Value::One(text),
                None => return wrong(faults, at, key, "must be one value, such as \"...\""),
            },
            (Kind::List | Kind::Map, DeValue::String(text)) => {
                return Some(Given::text(key, about.kind, at, text, faults));
            }
            (Kind::List, DeValue::Array(items)) => {
                let mut list = Vec::new();
                for item in items.iter() {
                    let at = self.lines.at(&item.span());
                    match scalar(item.get_ref()) {
                        Some(text) => list.push((at, text)),
                        None => faults.add(
                            at,
                            key,
                            format!("must be a list of texts, such as [\"{0}\", \"{0}\"]", about.item()),
                        ),
                    }
                }
                Value::List(list)
            }
            (Kind::Map, DeValue::Table(items)) => {
                let mut map = Vec::new();
                for (name, value) in items {
                    let at = self.lines.at(&name.span());
                    match scalar(value.get_ref()) {
                        Some(text) => map.push((at, name.get_ref().to_string(), text)),
                        None => {
                            let item = about.item();
                            let text = format!("must have one value for each name, quote the name: \"{item}\" = ...");
                            faults.add(at, key, text);
                        }
                    }
                }
                Value::Map(map)
            }
            (Kind::List, _) => {
                let text = format!("must be a list, such as [\"{0}\", \"{0}\"]", about.item());
                return wrong(faults, at, key, &text);
            }
            (Kind::Map, _) => {
                let text = format!("must be a table, such as {{ \"{}\" = ... }}", about.item());
                return wrong(faults, at, key, &text);
            }
        };
        Some(Given { key, at, value })
    }
}

fn wrong(faults: &mut Faults, at: At, key: &'static str, text: &str) -> Option<Given> {
    faults.add(at, key, text);
    None
}

/// The text of a single value.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_offsets() {
        let lines = Lines::of("ab\ncd\n\ne");
        for (offset, line) in [(0, 1), (2, 1), (3, 2), (6, 3), (7, 4), (99, 4)] {
            assert_eq!(lines.at(&(offset..offset)), At::Line(line), "{offset}");
        }
    }

    #[test]
    fn values_keep_their_lines() {
        let mut faults = Faults::default();
        let text =
            "poll = '1s'\nsentinel = [\n 'a:1',\n 'b:2',\n]\n[[set]]\nmax-lag-bytes = 5\nnode-weight = { 'a:1' = 2 }\n";
        let values = read(text.as_bytes(), &mut faults).expect("TOML");
        assert_eq!(faults.lines(), Vec::<String>::new());
        let item = |line, text: &str| (At::Line(line), text.to_owned());
        let sentinel = values.top.iter().find(|given| given.key == "sentinel").map(|given| &given.value);
        assert_eq!(sentinel, Some(&Value::List(vec![item(3, "a:1"), item(4, "b:2")])));
        assert_eq!(values.sets[0].at, At::Line(6));
        assert_eq!(
            values.sets[0].values[0],
            Given { key: "max-lag-bytes", at: At::Line(7), value: Value::One("5".into()) }
        );
        let map = Value::Map(vec![(At::Line(8), "a:1".to_owned(), "2".to_owned())]);
        assert_eq!(values.sets[0].values[1].value, map);
    }
}
