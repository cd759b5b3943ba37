//! Holds the house rules over `src/**/*.rs`: what each file opens with, how long it may be, who may import whom, and which
//! texts live where. Each rule is a pure function over one file's text and is seen to fire on a bad sample below.

use std::path::{Path, PathBuf};

const HARD_LINES: usize = 400;
const SOFT_LINES: usize = 250;
const FUNCTION_LINES: usize = 70;
/// Never import each other: they meet in `topology`.
const STRANGERS: (&str, &str) = ("discovery", "session");
/// The only homes of texts such as `-ERR ...`: what clients are told, and what nodes say that redweir acts upon.
const ERROR_TEXTS: [&str; 2] = ["session/errors.rs", "upstream/refusal.rs"];
const BAD_NAMES: [&str; 6] = ["Manager", "Helper", "Helpers", "Util", "Utils", "Context"];
const BAD_CALLS: [&str; 5] = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!"];
const BAD_ANYWHERE: [&str; 2] = ["unbounded_channel", "allow(dead_code)"];

#[test]
fn the_house_is_tidy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = rooms(&std::fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs"));
    assert!(rooms.len() > 5, "lib.rs names its rooms: {rooms:?}");
    let mut faults = Vec::new();
    for path in files(&src) {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(&src).expect("inside src").to_string_lossy().into_owned();
        let source = Source::new(&name, &text);
        faults.extend(source.faults(&rooms));
        let lines = source.code_lines();
        if lines > SOFT_LINES {
            println!("warning: src/{name} has {lines} code lines (soft limit {SOFT_LINES})");
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The modules of lib.rs in their order, which is the order of imports.
fn rooms(lib: &str) -> Vec<String> {
    let names = lib.lines().filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// One file, taken apart.
struct Source<'a> {
    /// Path below `src/`.
    name: &'a str,
    text: &'a str,
    /// The code without comments, string contents and test modules; same lines as `text`.
    code: String,
    /// Every string literal outside comments and test modules, with its line.
    strings: Vec<(usize, String)>,
}

impl<'a> Source<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let (code, strings) = strip(text);
        // A test module in files of its own is a test altogether; `gates` sees to it that it is one.
        let tests = match name.ends_with("/tests.rs") || name.contains("/tests/") {
            true => std::iter::once((1, text.lines().count() + 1)).collect(),
            false => test_modules(&code),
        };
        let is_test = |line: usize| tests.iter().any(|(from, to)| (*from..=*to).contains(&line));
        let kept = code.lines().enumerate().map(|(i, l)| if is_test(i + 1) { "" } else { l });
        let code = kept.collect::<Vec<_>>().join("\n");
        let strings = strings.into_iter().filter(|(line, _)| !is_test(*line)).collect();
        Self { name, text, code, strings }
    }

    fn faults(&self, rooms: &[String]) -> Vec<String> {
        let mut faults = self.opening();
        faults.extend(self.gates());
        faults.extend(self.size());
        faults.extend(self.functions());
        faults.extend(self.imports(rooms));
        faults.extend(self.words());
        faults.extend(self.type_names());
        faults.extend(self.texts());
        faults
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("src/{}:{line}: {what}", self.name)
    }

    fn opening(&self) -> Vec<String> {
        match self.text.starts_with("//!") {
            true => vec![],
            false => vec![self.fault(1, "does not open with `//!`: what it is for, must not do, and keeps")],
        }
    }

    /// `mod tests;` is compiled for tests only.
    fn gates(&self) -> Vec<String> {
        let lines: Vec<&str> = self.code.lines().map(str::trim).collect();
        let open = |i: &usize| {
            let declared = lines[*i].strip_suffix("mod tests;").is_some_and(|before| !before.ends_with(is_word));
            declared && (*i == 0 || lines[i - 1] != "#[cfg(test)]")
        };
        (0..lines.len()).filter(open).map(|i| self.fault(i + 1, "`mod tests;` without `#[cfg(test)]`")).collect()
    }

    fn code_lines(&self) -> usize {
        self.code.lines().filter(|l| !l.trim().is_empty()).count()
    }

    fn size(&self) -> Vec<String> {
        let lines = self.code_lines();
        match lines > HARD_LINES {
            true => vec![self.fault(1, format!("{lines} code lines, more than {HARD_LINES}"))],
            false => vec![],
        }
    }

    fn functions(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for at in words_at(&self.code, "fn") {
            let Some(end) = body_end(&self.code, at) else { continue };
            let lines = self.code[at..end].lines().count();
            if lines > FUNCTION_LINES {
                let name: String = self.code[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
                faults.push(self.fault(
                    line_of(&self.code, at),
                    format!("fn {name} has {lines} lines, more than {FUNCTION_LINES}"),
                ));
            }
        }
        faults
    }

    fn imports(&self, rooms: &[String]) -> Vec<String> {
        let room = self.name.split(['/', '.']).next().unwrap_or_default();
        let rank = |name: &str| rooms.iter().position(|r| r == name);
        // lib.rs and main.rs stand above all rooms.
        let Some(own) = rank(room) else { return vec![] };
        let mut faults = Vec::new();
        for (at, other) in crate_paths(&self.code) {
            let Some(theirs) = rank(&other) else { continue };
            let strangers = (room, other.as_str()) == STRANGERS || (other.as_str(), room) == STRANGERS;
            if theirs > own || strangers {
                faults.push(self.fault(line_of(&self.code, at), format!("`{room}` may not import `{other}`")));
            }
        }
        faults
    }

    fn words(&self) -> Vec<String> {
        let mut bad: Vec<&str> = BAD_ANYWHERE.to_vec();
        // A build script may stop the build.
        if !self.name.ends_with("build.rs") {
            bad.extend(BAD_CALLS);
        }
        let mut faults = Vec::new();
        for (i, line) in self.code.lines().enumerate() {
            let packed: String = line.split_whitespace().collect();
            let hits = bad.iter().filter(|b| match packed.find(**b) {
                Some(at) => b.starts_with('.') || !packed[..at].ends_with(is_word),
                None => false,
            });
            faults.extend(hits.map(|b| self.fault(i + 1, format!("`{b}` outside tests"))));
        }
        faults
    }

    fn type_names(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for keyword in ["struct", "enum", "trait", "type", "union"] {
            for at in words_at(&self.code, keyword) {
                let name: String =
                    self.code[at + keyword.len()..].trim_start().chars().take_while(|c| is_word(*c)).collect();
                if let Some(bad) = camel_parts(&name).into_iter().find(|p| BAD_NAMES.contains(&p.as_str())) {
                    faults.push(self.fault(line_of(&self.code, at), format!("`{name}`: a {bad} says nothing")));
                }
            }
        }
        faults
    }

    fn texts(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (line, text) in &self.strings {
            if is_error_text(text) && !ERROR_TEXTS.contains(&self.name) {
                faults.push(self.fault(*line, format!("{text:?}: client error texts live in src/{}", ERROR_TEXTS[0])));
            }
            if text.contains("redweir_") && !self.name.starts_with("metrics") {
                faults.push(self.fault(*line, format!("{text:?}: metric names live in metrics")));
            }
        }
        faults
    }
}

/// `-ERR ...`, `-NOAUTH`: a minus and a word in capitals.
fn is_error_text(text: &str) -> bool {
    let capitals = text.strip_prefix('-').map_or(0, |t| t.bytes().take_while(u8::is_ascii_uppercase).count());
    capitals >= 2
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Where `word` stands by itself.
fn words_at(code: &str, word: &str) -> Vec<usize> {
    let alone = |at: &usize| {
        !code[..*at].ends_with(|c: char| is_word(c) || c == '#') && !code[at + word.len()..].starts_with(is_word)
    };
    code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

/// The end of the braces that open after `at`; `None` when a `;` comes first (a declaration without a body).
fn body_end(code: &str, at: usize) -> Option<usize> {
    let (mut depth, mut nested) = (0usize, 0usize);
    for (i, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            ';' if depth == 0 && nested == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// First and last line of every `#[cfg(test)] mod name { … }`.
fn test_modules(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let after = code[at + attribute.len()..].trim_start();
        if !after.starts_with("mod ") && !after.starts_with("pub mod ") {
            continue;
        }
        if let Some(end) = body_end(code, at + attribute.len()) {
            found.push((line_of(code, at), line_of(code, end)));
        }
    }
    found
}

/// The rooms named by `crate::room` and `crate::{room::…, room}` (and `redweir::`), with where.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "redweir::"] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(heads(list).into_iter().map(|head| (at, head))),
                None => found.push((at, rest.chars().take_while(|c| is_word(*c)).collect())),
            }
        }
    }
    found
}

/// The first segment of each element of a `{a::b, c::{d, e}}` list, given what follows its brace.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut heads, mut fresh) = (1, vec![String::new()], true);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                heads.push(String::new());
                fresh = true;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if fresh && is_word(c) {
            heads.last_mut().expect("one was pushed").push(c);
        } else if !c.is_whitespace() {
            fresh = false;
        }
    }
    heads
}

fn camel_parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for c in name.chars() {
        match parts.last_mut() {
            Some(part) if !c.is_uppercase() => part.push(c),
            _ => parts.push(c.to_string()),
        }
    }
    parts
}

/// Blanks comments and the insides of strings and chars, keeping every line; returns the strings beside it.
fn strip(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut strings, mut rest) = (String::new(), Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |e| e + 2);
            code.extend(rest[..end].chars().filter(|c| *c == '\n'));
            rest = &rest[end..];
        } else if let Some((open, close, escapes)) = string_start(rest, &code) {
            let inside = &rest[open..];
            let length = string_length(inside, &close, escapes);
            strings.push((1 + code.matches('\n').count(), inside[..length].to_owned()));
            // A line of a long text is a line of code.
            code.push('"');
            code.extend(inside[..length].chars().map(|c| if c == '\n' { '\n' } else { '_' }));
            code.push('"');
            rest = &inside[(length + close.len()).min(inside.len())..];
        } else if let Some(length) = char_length(rest) {
            code.push_str("'_'");
            rest = &rest[length..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    (code, strings)
}

/// Length of what opens a string here, what closes it, and whether a backslash escapes.
fn string_start(rest: &str, before: &str) -> Option<(usize, String, bool)> {
    if before.ends_with(is_word) && !rest.starts_with('"') {
        return None;
    }
    let body = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - body.len();
    if prefix > 1 {
        return None;
    }
    if body.starts_with('"') {
        return Some((prefix + 1, "\"".into(), true));
    }
    let raw = body.strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    raw[hashes..].starts_with('"').then(|| (prefix + 1 + hashes + 1, format!("\"{}", "#".repeat(hashes)), false))
}

fn string_length(inside: &str, close: &str, escapes: bool) -> usize {
    let mut skip = false;
    for (i, c) in inside.char_indices() {
        if skip {
            skip = false;
        } else if escapes && c == '\\' {
            skip = true;
        } else if inside[i..].starts_with(close) {
            return i;
        }
    }
    inside.len()
}

/// Length of a char literal, `None` for anything else (a lifetime).
fn char_length(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escaped) = inside.strip_prefix('\\') {
        let first = escaped.chars().next()?.len_utf8();
        return escaped[first..].find('\'').map(|end| 2 + first + end + 1);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..].starts_with('\'').then(|| 2 + c.len_utf8())
}

mod rules {
    use super::*;

    fn house() -> Vec<String> {
        ["metrics", "topology", "discovery", "session", "app"].map(String::from).to_vec()
    }

    fn faults(name: &str, text: &str) -> Vec<String> {
        Source::new(name, text).faults(&house())
    }

    #[track_caller]
    fn fires(name: &str, text: &str, line: usize, what: &str) {
        let found = faults(name, text);
        let at = format!("src/{name}:{line}: ");
        assert!(found.len() == 1 && found[0].starts_with(&at) && found[0].contains(what), "{found:#?}");
    }

    #[track_caller]
    fn clean(name: &str, text: &str) {
        assert_eq!(faults(name, text), Vec::<String>::new());
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        fires("app.rs", "use std::io;\n//! late\n", 1, "//!");
        clean("app.rs", "//! Wires the parts.\nuse std::io;\n");
    }

    #[test]
    fn a_file_of_more_than_400_code_lines_is_too_long_whatever_its_comments_and_tests() {
        let code = "const A: u8 = 1;\n".repeat(400);
        let padding =
            "// why\n\n".repeat(200) + "#[cfg(test)]\nmod tests {\n" + &"const B: u8 = 1;\n".repeat(50) + "}\n";
        clean("app.rs", &format!("//! x\n{code}{padding}"));
        fires("app.rs", &format!("//! x\n{code}const C: u8 = 1;\n{padding}"), 1, "401 code lines");
        fires("app.rs", &format!("//! x\nconst T: &str = \"{}\";\n", "line\n".repeat(400)), 1, "401 code lines");
    }

    #[test]
    fn a_function_of_more_than_70_lines_is_too_long() {
        let function = |n: usize| format!("//! x\nfn long(a: [u8; 2]) {{\n{}}}\n", "    a();\n".repeat(n - 2));
        clean("app.rs", &function(70));
        fires("app.rs", &function(71), 2, "fn long has 71 lines");
        // A trait's declaration has no body; what follows is not its body.
        clean("app.rs", &format!("//! x\ntrait T {{ fn a(&self); }}\n{}", "const A: u8 = 1;\n".repeat(100)));
        // Braces in texts and chars are not braces.
        clean("app.rs", &format!("//! x\nfn a() {{ b(\"{{\", '{{', '\\''); }}\n{}", "const A: u8 = 1;\n".repeat(100)));
    }

    #[test]
    fn imports_point_one_way() {
        clean("session/mod.rs", "//! x\nuse crate::topology::View;\nuse crate::{metrics::{Cells, Count}, topology};\n");
        fires("topology/mod.rs", "//! x\n\nuse crate::session::Session;\n", 3, "`topology` may not import `session`");
        fires("topology.rs", "//! x\nuse crate::{metrics::{A, session}, app};\n", 2, "may not import `app`");
        fires("metrics.rs", "//! x\nfn a() { crate::topology::b() }\n", 2, "`metrics` may not import `topology`");
        clean("metrics.rs", "//! See [`crate::topology`].\n/* crate::app */\n");
    }

    #[test]
    fn session_and_discovery_never_meet() {
        fires("session/x.rs", "//! x\nuse crate::discovery::A;\n", 2, "`session` may not import `discovery`");
        fires("discovery/x.rs", "//! x\nuse crate::session::A;\n", 2, "`discovery` may not import `session`");
    }

    #[test]
    fn error_texts_have_one_home() {
        let text = "//! x\nconst A: &[u8] = b\"-ERR no\\r\\n\";\n";
        fires("topology/mod.rs", text, 2, "client error texts");
        fires("session/state.rs", "//! x\nconst A: &str = r#\"-NOAUTH a\"#;\n", 2, "client error texts");
        clean("session/errors.rs", text);
        clean("upstream/refusal.rs", text);
        clean("app.rs", "//! x\n// \"-ERR\"\nconst A: &str = \"-1 -ERR --LOG -a\";\nconst B: char = '-';\n");
        clean("app.rs", &format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", &text[6..]));
    }

    #[test]
    fn metric_names_have_one_home() {
        fires("app.rs", "//! x\nconst A: &str = \"redweir_up\";\n", 2, "metric names");
        clean("metrics/names.rs", "//! x\nconst A: &str = \"redweir_up\";\n");
        clean("app.rs", "//! x redweir_up\nconst A: &str = \"redweir=debug\";\n");
    }

    #[test]
    fn nothing_panics_outside_tests() {
        for bad in [
            "a.unwrap();",
            "a.expect(\"x\");",
            "panic!(\"x\");",
            "todo!();",
            "unimplemented!();",
            "b::unbounded_channel();",
        ] {
            fires("app.rs", &format!("//! x\nfn a() {{\n    {bad}\n}}\n"), 3, "outside tests");
            clean("app.rs", &format!("//! x\n#[cfg(test)]\nmod tests {{\n    fn a() {{ {bad} }}\n}}\n"));
            clean("topology/tests.rs", &format!("//! x\nfn a() {{ {bad} }}\n"));
        }
        fires("app.rs", "//! x\n#[allow(dead_code)]\nfn a() {}\n", 2, "dead_code");
        // After a test module, rules hold again.
        fires("app.rs", "//! x\n#[cfg(test)]\nmod tests {\n}\nfn a() { b.unwrap(); }\n", 5, "unwrap");
        clean("app.rs", "//! x\nfn a() { b.unwrap_or(1); c.expect_err(); resume_panic!(); } // .unwrap()\n");
        clean("command/build.rs", "//! x\nfn main() { a.expect(\"a table\"); }\n");
    }

    #[test]
    fn tests_in_files_of_their_own_are_gated() {
        fires("app.rs", "//! x\nmod tests;\n", 2, "without `#[cfg(test)]`");
        clean("app.rs", "//! x\n#[cfg(test)]\nmod tests;\nmod contests;\n");
        clean("topology/tests/a.rs", "//! x\nfn a() { b.unwrap() }\n");
    }

    #[test]
    fn a_type_is_named_for_what_it_is() {
        fires("app.rs", "//! x\npub struct ConnectionManager;\n", 2, "a Manager says nothing");
        fires("app.rs", "//! x\ntrait UtilThing {}\n", 2, "a Util says nothing");
        fires("app.rs", "//! x\nenum Context<'a> { A(&'a str) }\n", 2, "a Context says nothing");
        clean("app.rs", "//! x\nstruct Utility;\nfn poll(cx: &mut Context<'_>) {}\n");
    }

    #[test]
    fn the_rooms_are_read_from_lib_rs() {
        assert_eq!(rooms("//! x\npub mod config;\n\nmod resp;\n// mod no;\nuse a;\n"), ["config", "resp"]);
    }
}
