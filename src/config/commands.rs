//! What an operator says of commands: which are denied, which pass after all, which go by another name.
//!
//! Names only; what a command is, is not known here. Invariant: names clients say are lower case, a subcommand follows its
//! container behind a `|`, and no name stands for two commands.

use super::assemble::Draft;
use super::fault::{Faults, did_you_mean};
use super::settings::ListenerParts;

/// A listener's rules for commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandSettings {
    /// The REDWEIR commands answer.
    pub redweir: bool,
    /// Names (`config|set` for a subcommand) and categories (`@admin`).
    pub deny: Vec<String>,
    /// Let through although refused by default, or by more general words of `deny`.
    pub allow: Vec<String>,
    /// Command, and what clients must say for it; empty: it is gone.
    pub rename: Vec<(String, String)>,
    /// Command, and what the nodes call it (`rename-command` in redis.conf).
    pub upstream_names: Vec<(String, String)>,
}

/// Words of `deny` that stand for many commands, as Redis' ACL categories of the same name.
pub const CATEGORIES: [&str; 6] = ["@admin", "@blocking", "@dangerous", "@pubsub", "@read", "@write"];

/// They change what a connection is, or what replies it gets: no proxy can pass them on.
const IMPASSABLE: [&str; 4] = ["psync", "replconf", "script|debug", "sync"];

/// redweir itself says these to nodes, or must know them when it hears them: they need their own names there.
const NEEDED: [&str; 33] = [
    "auth",
    "client",
    "command",
    "discard",
    "echo",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "exec",
    "fcall",
    "fcall_ro",
    "function",
    "hello",
    "info",
    "monitor",
    "multi",
    "ping",
    "psubscribe",
    "publish",
    "punsubscribe",
    "quit",
    "reset",
    "role",
    "script",
    "select",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
    "unwatch",
    "wait",
    "watch",
];

const LONGEST: usize = 64;

/// A command without a subcommand.
pub(super) fn command(text: &str) -> Result<String, String> {
    let text = text.trim();
    match is_word(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("`{text}` is no name of a command, write one word such as FLUSHALL")),
    }
}

/// A command or a subcommand.
pub(super) fn any_command(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split(|c: char| c == '|' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    match words[..] {
        [name] | [name, _] if is_word(name) && words.iter().all(|w| is_word(w)) => {
            Ok(words.join("|").to_ascii_lowercase())
        }
        _ => Err(format!("`{text}` is no name of a command, write e.g. FLUSHALL or CONFIG SET")),
    }
}

/// A command, a subcommand or a category.
pub(super) fn denied(text: &str) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    if !lower.starts_with('@') {
        return any_command(text);
    }
    if CATEGORIES.contains(&lower.as_str()) {
        return Ok(lower);
    }
    let near = did_you_mean(&lower, CATEGORIES);
    Err(format!("`{}` is unknown, use one of: {}{near}", text.trim(), CATEGORIES.join(", ")))
}

/// What clients say instead; empty: nothing.
pub(super) fn alias(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Ok(String::new()) } else { command(text) }
}

/// What nodes say instead.
pub(super) fn upstream_name(text: &str) -> Result<String, String> {
    match is_word(text.trim()) {
        true => Ok(text.trim().to_owned()),
        false => Err(format!("`{}` is no name of a command, write the one of rename-command", text.trim())),
    }
}

fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'|' | b'"' | b'\'' | b'*' | b',' | b'=');
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain) && !text.starts_with('@')
}

/// What no single value can tell.
pub(super) fn check(draft: &Draft<ListenerParts>, faults: &mut Faults) {
    let CommandSettings { deny, allow, rename, upstream_names, .. } = &draft.parts.commands;
    for name in allow.iter().filter(|name| deny.contains(name)) {
        faults.add(draft.at("allow"), "allow", format!("`{name}` is in deny too, drop it from one of them"));
    }
    for name in allow.iter().filter(|name| IMPASSABLE.contains(&name.as_str())) {
        faults.add(draft.at("allow"), "allow", format!("`{name}` cannot pass through a proxy, drop it"));
    }
    for (i, (name, alias)) in rename.iter().enumerate().filter(|(_, (_, alias))| !alias.is_empty()) {
        let mut fault = |text: String| faults.add(draft.at("rename"), "rename", text);
        if name == alias {
            fault(format!("`{name}` is its own new name, drop it"));
        }
        if rename.iter().take(i).any(|(_, other)| other == alias) {
            fault(format!("`{alias}` is the new name of two commands, choose another for one of them"));
        }
    }
    for (i, (name, theirs)) in upstream_names.iter().enumerate() {
        let mut fault = |text: String| faults.add(draft.at("upstream-names"), "upstream-names", text);
        if NEEDED.contains(&name.as_str()) {
            fault(format!("redweir needs `{name}` under its own name at the nodes, drop its rename-command there"));
        }
        if upstream_names.iter().take(i).any(|(_, other)| other.eq_ignore_ascii_case(theirs)) {
            fault(format!("`{theirs}` is the name of two commands, correct one of them"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, name) in [
            ("FLUSHALL", "flushall"),
            (" Config  Set ", "config|set"),
            ("client|kill", "client|kill"),
            ("JSON.SET", "json.set"),
        ] {
            assert_eq!(denied(text), Ok(name.to_owned()), "{text}");
        }
        assert_eq!(denied("@Admin"), Ok("@admin".to_owned()));
        for text in ["", "a b c", "a\"", "@", "a,b", "*1", &"x".repeat(65)] {
            assert!(any_command(text).is_err(), "{text}");
        }
        let fault = "`@admins` is unknown, use one of: @admin, @blocking, @dangerous, @pubsub, @read, @write, did you mean `@admin`?";
        assert_eq!(denied("@admins"), Err(fault.to_owned()));
        assert_eq!(command("CONFIG SET").map_err(|_| ()), Err(()));
        assert_eq!((alias(""), alias("X")), (Ok(String::new()), Ok("x".to_owned())));
        assert_eq!(upstream_name("b840FC"), Ok("b840FC".to_owned()));
    }
}
