//! What is wrong with a configuration, and where: one line each, all of them at once.
//!
//! Must not print or exit; must never hold the text of a password.
//! Invariant: a fault's line says where it is, what is wrong and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was given, and so where its fault is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// Built in.
    Default,
    /// The file as a whole.
    File,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Env,
    /// A flag, or the command line as a whole.
    Flag,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    at: At,
    /// The setting at fault; `None` for the file or the command line as a whole.
    key: Option<String>,
    text: String,
}

/// Every fault of one configuration; [`fmt::Display`] gives one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    file: Option<PathBuf>,
    list: Vec<Fault>,
}

impl Faults {
    pub(super) fn of(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_path_buf), list: Vec::new() }
    }

    pub(super) fn add(&mut self, at: At, key: impl Into<Option<&'static str>>, text: impl Into<String>) {
        let fault = Fault { at, key: key.into().map(str::to_owned), text: text.into() };
        // A value at the top of the file is read once for every set: one fault all the same.
        if !self.list.contains(&fault) {
            self.list.push(fault);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One line per fault: in the order of the file's lines, then of the file as a whole, the environment, the flags.
    pub fn lines(&self) -> Vec<String> {
        let mut list: Vec<&Fault> = self.list.iter().collect();
        // What is said of the file as a whole often follows from one of its lines: after them.
        list.sort_by_key(|fault| match fault.at {
            At::Default => (0, 0),
            At::Line(line) => (1, line),
            At::File => (2, 0),
            At::Env => (3, 0),
            At::Flag => (4, 0),
        });
        list.into_iter().map(|fault| self.line(fault)).collect()
    }

    fn line(&self, fault: &Fault) -> String {
        let file = self.file.as_deref().map_or("config".into(), Path::to_string_lossy);
        let key = fault.key.as_deref();
        let place = match (fault.at, key) {
            (At::File | At::Default, None) => format!("{file}: "),
            (At::File | At::Default, Some(key)) => format!("{file}: {key}: "),
            (At::Line(line), None) => format!("{file}:{line}: "),
            (At::Line(line), Some(key)) => format!("{file}:{line}: {key}: "),
            (At::Env, key) => format!("${}: ", env_name(key.unwrap_or_default())),
            (At::Flag, Some(key)) => format!("--{key}: "),
            (At::Flag, None) => "redweir: ".to_owned(),
        };
        // A fault is one line whatever the input held.
        format!("{place}{}", fault.text).replace(|c: char| c.is_control(), " ")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for Faults {}

/// The environment variable that stands in for a setting.
pub(super) fn env_name(key: &str) -> String {
    format!("REDWEIR_{}", key.replace('-', "_").to_uppercase())
}

/// `, did you mean ...?` for the candidate nearest to what was written, or nothing when none is near.
pub(super) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // Far above any key: keeps the comparison of a hostile file cheap.
    if written.len() > 64 {
        return String::new();
    }
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).max(1))
        .min();
    near.map_or_else(String::new, |(_, candidate)| format!(", did you mean `{candidate}`?"))
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let here = (corner + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            corner = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "", 0),
            ("poll", "poll", 0),
            ("pol", "poll", 1),
            ("sitting", "kitten", 3),
            ("", "ab", 2),
            ("ab", "", 2),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        let keys = ["poll", "poll-fast", "sentinel"];
        assert_eq!(did_you_mean("sentinels", keys), ", did you mean `sentinel`?");
        assert_eq!(did_you_mean("pol", keys), ", did you mean `poll`?");
        assert_eq!(did_you_mean("colour", keys), "");
        assert_eq!(did_you_mean(&"x".repeat(100_000), keys), "");
    }

    #[test]
    fn sorted_once_and_on_one_line() {
        let mut faults = Faults::of(Some(Path::new("r.toml")));
        faults.add(At::Flag, "hold", "bad");
        faults.add(At::Line(12), "poll", "two\nlines");
        faults.add(At::Line(2), None, "first");
        faults.add(At::Line(2), None, "first");
        faults.add(At::Env, "node-password", "empty");
        assert_eq!(
            faults.lines(),
            ["r.toml:2: first", "r.toml:12: poll: two lines", "$REDWEIR_NODE_PASSWORD: empty", "--hold: bad"]
        );
    }
}
