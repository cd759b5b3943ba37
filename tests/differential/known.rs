//! The differences that are known, each with its reason: `known.txt`. What is not in it fails a test.

use std::collections::BTreeSet;

/// A line of `known.txt`.
pub struct Known {
    /// A part of the place (`file.txt:12 A RESP2 redis-7.0.15`), where the line begins with `@`.
    place: String,
    /// Words that a command line begins with; `*` stands for any one word, `$` for the end.
    words: Vec<String>,
    /// Which part of redweir it belongs to; `design`: it stays.
    pub area: String,
    pub reason: String,
}

pub fn list() -> Vec<Known> {
    let lines = include_str!("known.txt").lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let known = lines.map(|line| {
        let mut columns = line.splitn(3, '|').map(|c| c.trim().to_owned());
        let mut column = || columns.next().filter(|c| !c.is_empty()).unwrap_or_else(|| panic!("known.txt: {line:?}"));
        let first = column();
        let (place, command) = first.strip_prefix('@').and_then(|f| f.split_once(' ')).unwrap_or(("", &first));
        let words = command.to_ascii_uppercase().split(' ').map(String::from).collect();
        Known { place: place.to_owned(), words, area: column(), reason: column() }
    });
    known.collect()
}

impl Known {
    pub fn fits(&self, difference: &Difference) -> bool {
        let line = difference.command.to_ascii_uppercase();
        let mut words = line.split(' ');
        difference.place.contains(&self.place)
            && self.words.iter().all(|own| match words.next() {
                Some(word) => own == "*" || own == word,
                None => own == "$",
            })
    }

    fn shown(&self) -> String {
        format!("{} {} ({}: {})", self.place, self.words.join(" "), self.area, self.reason)
    }
}

/// A difference, ready to be read.
pub struct Difference {
    /// File and line, or seed and step.
    pub place: String,
    pub command: String,
    pub text: String,
}

/// Prints the known ones in short; panics with all of the others.
#[track_caller]
pub fn judge(what: &str, steps: usize, differences: &[Difference]) {
    let known = list();
    let mut met = BTreeSet::new();
    let mut unknown = Vec::new();
    for difference in differences {
        match known.iter().find(|k| k.fits(difference)) {
            Some(k) => {
                met.insert(k.shown());
            }
            None => unknown.push(format!("{}  {}\n{}", difference.place, difference.command, difference.text)),
        }
    }
    println!("{what}: {steps} steps, {} differences, of these known:", differences.len());
    met.iter().for_each(|m| println!("  {m}"));
    let whole = what == "written cases" && std::env::var_os("REDWEIR_CASES").is_none();
    let unmet = known.iter().filter(|k| whole && k.area != "design" && !met.contains(&k.shown())).map(Known::shown);
    unmet.for_each(|shown| println!("  not met here, perhaps mended: {shown}"));
    assert!(unknown.is_empty(), "{what}: {} differences that are not known:\n{}", unknown.len(), unknown.join("\n"));
}
