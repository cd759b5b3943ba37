//! The files of `cases/`: what is sent, by whom, in which section.
//!
//! One command per line, its words split at blanks, `"..."` with the escapes of redis-cli around what holds a blank. `B> GET k`
//! is client B's (A's without a mark); clients connect at their first line. `#` begins a comment. A blank line ends a section:
//! the next one begins with everything empty and new clients. Besides commands:
//! `B< wait`  B will hear something without sending (the end of a timeout)    `B< leave`  B closes its connection
//! `B< raw "..."`  these very bytes    `B< all CMD / CMD / CMD`  several commands in one write    `!pause 50`  milliseconds

/// A line.
#[derive(Debug, Clone)]
pub struct Step {
    /// `lists.txt:12`
    pub place: String,
    pub who: char,
    pub deed: Deed,
    /// Left out while the client is blocked: when what waits behind a blocked command runs is nobody's promise.
    pub unless_blocked: bool,
}

#[derive(Debug, Clone)]
pub enum Deed {
    /// Commands in one write, in words.
    Send(Vec<Vec<Vec<u8>>>),
    Raw(Vec<u8>),
    /// Commands in several writes, cut at these bytes.
    Cut(Vec<Vec<Vec<u8>>>, Vec<usize>),
    Wait,
    Leave,
    Pause(u64),
}

impl Step {
    /// As it is shown and looked up: the first command counts.
    pub fn line(&self) -> String {
        match &self.deed {
            Deed::Send(commands) => commands.iter().map(|c| show(c)).collect::<Vec<_>>().join(" / "),
            Deed::Cut(commands, cuts) => {
                format!("{}   (cut at {cuts:?})", commands.iter().map(|c| show(c)).collect::<Vec<_>>().join(" / "))
            }
            Deed::Raw(bytes) => bytes.escape_ascii().to_string(),
            other => format!("{other:?}"),
        }
    }

    /// What is written, one write after the other.
    pub fn writes(&self) -> Vec<Vec<u8>> {
        match &self.deed {
            Deed::Send(commands) => vec![commands.iter().flat_map(|c| encode(c)).collect()],
            Deed::Raw(bytes) => vec![bytes.clone()],
            Deed::Cut(commands, cuts) => {
                let bytes: Vec<u8> = commands.iter().flat_map(|c| encode(c)).collect();
                let ends = cuts.iter().copied().chain([bytes.len()]);
                let starts = std::iter::once(0).chain(cuts.iter().copied());
                starts.zip(ends).map(|(from, to)| bytes[from..to].to_vec()).collect()
            }
            _ => Vec::new(),
        }
    }
}

pub fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    redweir::demo::client::encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn show(words: &[Vec<u8>]) -> String {
    words
        .iter()
        .map(|w| if w.len() > 200 { format!("({} bytes)", w.len()) } else { w.escape_ascii().to_string() })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Words of a plain line, for generated cases.
pub fn command(line: &str) -> Vec<Vec<u8>> {
    split(line).unwrap_or_else(|| panic!("unbalanced quotes: {line}"))
}

/// The sections of a file.
pub fn parse(file: &str, text: &str) -> Vec<Vec<Step>> {
    let mut sections = vec![Vec::new()];
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            sections.push(Vec::new());
        } else if !line.starts_with('#') {
            let place = format!("{file}:{}", i + 1);
            let step = step(place, line).unwrap_or_else(|| panic!("{file}:{}: {line}", i + 1));
            sections.last_mut().expect("one").push(step);
        }
    }
    sections.retain(|s| !s.is_empty());
    sections
}

fn step(place: String, line: &str) -> Option<Step> {
    if let Some(pause) = line.strip_prefix("!pause ") {
        return Some(Step { place, who: 'A', deed: Deed::Pause(pause.parse().ok()?), unless_blocked: false });
    }
    let (who, mark, rest) = match line.as_bytes() {
        [who @ b'A'..=b'Z', mark @ (b'>' | b'<'), b' ', ..] => (*who as char, *mark, &line[3..]),
        _ => ('A', b'>', line),
    };
    let deed = match (mark, rest.split_once(' ').unwrap_or((rest, ""))) {
        (b'>', _) => Deed::Send(vec![split(rest)?]),
        (_, ("wait", "")) => Deed::Wait,
        (_, ("leave", "")) => Deed::Leave,
        (_, ("raw", bytes)) => Deed::Raw(split(bytes)?.pop()?),
        (_, ("all", commands)) => Deed::Send(commands.split(" / ").map(split).collect::<Option<_>>()?),
        _ => return None,
    };
    Some(Step { place, who, deed, unless_blocked: false })
}

fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut word = Vec::new();
    let mut at = 0;
    let bytes = text.as_bytes();
    loop {
        match bytes.get(at)? {
            b'"' => return Some((word, &text[at + 1..])),
            b'\\' => {
                at += 1;
                match bytes.get(at)? {
                    b'n' => word.push(b'\n'),
                    b'r' => word.push(b'\r'),
                    b't' => word.push(b'\t'),
                    b'x' => {
                        word.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
                        at += 2;
                    }
                    other => word.push(*other),
                }
            }
            other => word.push(*other),
        }
        at += 1;
    }
}
