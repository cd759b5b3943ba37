//! An operator's rules for commands, made ready for the look-up: denied, let through, renamed on either side.
//!
//! Pure; knows no session. Must not cost anything where there are no rules. Invariant: a request is judged by the words the
//! client said, once; what a ruling says to send is not judged again.

use std::collections::{BTreeSet, HashMap};

use super::table::{COMMANDS, Command, Flags, lookup};
use super::{Class, classify};
use crate::config::CommandSettings;
use crate::resp::{Args, encode};

/// No rule has a longer name.
const LONGEST: usize = 64;

/// In a category by name (`acl_categories` of src/commands/*.json), not by a flag.
const ADMIN_TOO: [&str; 2] = ["lastsave", "role"];
const DANGEROUS_TOO: [&str; 10] =
    ["flushall", "flushdb", "info", "keys", "migrate", "restore", "restore-asking", "sort", "sort_ro", "swapdb"];

/// All rules of a listener, by the names clients say.
#[derive(Debug, Default)]
pub struct Rules {
    by_name: HashMap<Vec<u8>, Rule>,
    transactions: bool,
    remarks: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Rule {
    /// No command is called so.
    gone: bool,
    /// The command it is, where clients say another name.
    real: Option<Vec<u8>>,
    /// What nodes call it.
    upstream: Option<Vec<u8>>,
    denied: Denied,
    /// Subcommands (`""`: the whole) to which neither `denied` nor a default refusal applies.
    allowed: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Denied {
    #[default]
    Nothing,
    Subcommands(BTreeSet<String>),
    Whole,
}

/// What the rules say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling<'r> {
    /// Nothing.
    Plain,
    Denied,
    /// No command has this name.
    Gone,
    Passed(Passed<'r>),
}

/// A request that goes on as something else than it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed<'r> {
    /// The name of the command it is, if that is another.
    pub real: Option<&'r [u8]>,
    /// The name to send to nodes, if that is another.
    pub upstream: Option<&'r [u8]>,
    /// Let through although refused by default.
    pub allowed: bool,
}

impl Rules {
    pub fn new(settings: &CommandSettings) -> Self {
        let mut by_real: HashMap<String, Rule> = HashMap::new();
        for word in settings.allow.iter().filter(|word| !is_empty(word)) {
            let (name, sub) = split(word);
            by_real.entry(name.to_owned()).or_default().allowed.insert(sub.to_owned());
        }
        for word in settings.deny.iter().filter(|word| !is_empty(word)).flat_map(|word| expanded(word)) {
            let (name, sub) = split(&word);
            by_real.entry(name.to_owned()).or_default().deny(sub);
        }
        for (name, theirs) in &settings.upstream_names {
            by_real.entry(name.clone()).or_default().upstream = Some(theirs.clone().into_bytes());
        }
        let mut by_name: HashMap<Vec<u8>, Rule> = HashMap::new();
        let mut gone: Vec<&str> = settings.upstream_names.iter().map(|(_, theirs)| theirs.as_str()).collect();
        for (name, said) in &settings.rename {
            let rule = by_real.remove(name).unwrap_or_default();
            gone.push(name);
            if !said.is_empty() {
                by_name.insert(said.clone().into_bytes(), Rule { real: Some(name.clone().into_bytes()), ..rule });
            }
        }
        for (name, rule) in by_real {
            // What is said of a name that stands for another command now holds for nobody.
            by_name.entry(name.into_bytes()).or_insert(rule);
        }
        for name in gone {
            by_name.entry(name.to_ascii_lowercase().into_bytes()).or_insert(Rule { gone: true, ..Rule::default() });
        }
        let transactions = ["multi", "exec", "discard"].iter().any(|name| by_name.contains_key(name.as_bytes()));
        Self { by_name, transactions, remarks: remarks(settings) }
    }

    /// Why nothing is to be served by such rules. Redis refuses them, too (`rename-command`: "Target command name already exists").
    pub fn faults(settings: &CommandSettings) -> Vec<String> {
        let gone = |said: &String| settings.rename.iter().any(|(other, _)| other == said);
        let taken = settings.rename.iter().filter(|(_, said)| lookup(said.as_bytes()).is_some() && !gone(said));
        let fault = |(name, said): &(String, String)| {
            format!("rename: `{said}` is a command itself: rename that one, too, or choose another name for `{name}`")
        };
        taken.map(fault).collect()
    }

    /// What an operator should be told: the rules hold all the same.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether a request must be looked at with the rules in hand.
    #[inline]
    pub fn concern(&self, request: &[u8]) -> bool {
        !self.by_name.is_empty() && self.judge(request) != Ruling::Plain
    }

    /// Whether a word that frames a transaction is not simply itself: then each request is to be looked at by itself.
    pub fn concern_transactions(&self) -> bool {
        self.transactions
    }

    /// `request` may be the beginning of one.
    pub fn judge(&self, request: &[u8]) -> Ruling<'_> {
        let mut args = Args::new(request);
        let Some(rule) = args.next().and_then(|name| self.rule(name)) else { return Ruling::Plain };
        if rule.gone {
            return Ruling::Gone;
        }
        let sub = args.next().map(|sub| String::from_utf8_lossy(sub).to_ascii_lowercase()).unwrap_or_default();
        let allowed = rule.allowed.contains("") || rule.allowed.contains(&sub);
        let denied = match &rule.denied {
            Denied::Nothing => false,
            Denied::Subcommands(subs) => subs.contains(&sub),
            Denied::Whole => true,
        };
        if denied && !allowed {
            return Ruling::Denied;
        }
        let passed = Passed { real: rule.real.as_deref(), upstream: rule.upstream.as_deref(), allowed };
        match passed {
            Passed { real: None, upstream: None, allowed: false } => Ruling::Plain,
            // Allowed what nobody refuses: by a category that does not hold for it, for example.
            Passed { real: None, upstream: None, .. } if !refused_by_default(request) => Ruling::Plain,
            _ => Ruling::Passed(passed),
        }
    }

    fn rule(&self, name: &[u8]) -> Option<&Rule> {
        let mut buffer = [0u8; LONGEST];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower)
    }
}

impl Rule {
    fn deny(&mut self, sub: &str) {
        match &mut self.denied {
            _ if sub.is_empty() => self.denied = Denied::Whole,
            Denied::Whole => {}
            Denied::Subcommands(subs) => drop(subs.insert(sub.to_owned())),
            Denied::Nothing => self.denied = Denied::Subcommands(BTreeSet::from([sub.to_owned()])),
        }
    }
}

/// The request with `name` as its first word.
pub fn renamed(request: &[u8], name: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = std::iter::once(name).chain(Args::new(request).skip(1)).collect();
    let mut out = Vec::with_capacity(request.len() + name.len());
    encode::request(&mut out, words.into_iter());
    out
}

/// Refused to every client that no `allow` speaks for.
pub fn refused_by_default(request: &[u8]) -> bool {
    let verdict = classify(Args::new(request));
    verdict.class == Class::Forbidden || verdict.command.is_some_and(|c| c.name == "monitor")
}

fn split(word: &str) -> (&str, &str) {
    word.split_once('|').unwrap_or((word, ""))
}

/// A subcommand of what has none: the look-up goes by the name alone there.
fn is_empty(word: &str) -> bool {
    let (name, sub) = split(word);
    let whole = |command: &Command| command.children.is_empty() && command.class != Class::Forbidden;
    !sub.is_empty() && lookup(name.as_bytes()).is_some_and(whole)
}

/// A word of `deny` as the commands it stands for.
fn expanded(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let all = COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.children));
    all.filter(|command| belongs(command, word)).map(|command| command.name.to_owned()).collect()
}

/// server.c setImplicitACLCategories: by flag, and by name.
fn belongs(command: &Command, category: &str) -> bool {
    let has = |flag| command.flags.has(flag);
    let admin = || has(Flags::ADMIN) || ADMIN_TOO.contains(&command.name);
    match category {
        "@admin" => admin(),
        "@blocking" => has(Flags::BLOCKING),
        "@dangerous" => admin() || DANGEROUS_TOO.contains(&command.name),
        "@pubsub" => has(Flags::PUBSUB),
        "@read" => has(Flags::READONLY) && command.class != Class::ScriptRead,
        "@write" => has(Flags::WRITE),
        _ => false,
    }
}

fn remarks(settings: &CommandSettings) -> Vec<String> {
    let mut remarks = Vec::new();
    let named = settings.deny.iter().filter(|word| !word.starts_with('@')).map(|word| ("deny", word));
    let named = named.chain(settings.allow.iter().map(|word| ("allow", word)));
    let named = named.chain(settings.rename.iter().map(|(name, _)| ("rename", name)));
    let named = named.chain(settings.upstream_names.iter().map(|(name, _)| ("upstream-names", name)));
    for (key, word) in named {
        let (name, sub) = split(word);
        let known = match lookup(name.as_bytes()) {
            Some(_) if is_empty(word) => {
                remarks.push(format!("{key}: `{name}` has no subcommands, `{word}` means nothing"));
                continue;
            }
            Some(command) => sub.is_empty() || command.children.is_empty() || command.child(sub.as_bytes()).is_some(),
            // redweir's own.
            None => name == "redweir",
        };
        if !known {
            remarks.push(format!("{key}: `{word}` is no command that redweir knows, it holds for that very name"));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::line as request;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn pairs(words: &[(&str, &str)]) -> Vec<(String, String)> {
        words.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    /// One letter for a ruling: `.` plain, `D` denied, `G` gone, else what it passes as.
    fn said(rules: &Rules, line: &str) -> String {
        match rules.judge(&request(line)) {
            Ruling::Plain => ".".into(),
            Ruling::Denied => "D".into(),
            Ruling::Gone => "G".into(),
            Ruling::Passed(Passed { real, upstream, allowed }) => {
                let text =
                    |name: Option<&[u8]>| name.map(|n| String::from_utf8_lossy(n).into_owned()).unwrap_or_default();
                format!("{}>{}{}", text(real), text(upstream), if allowed { "!" } else { "" })
            }
        }
    }

    #[test]
    fn a_word_denies_what_it_names_and_no_more() {
        let rules = Rules::new(&CommandSettings {
            deny: names(&["flushall", "config|set", "@blocking", "json.set", "script"]),
            allow: names(&["blpop", "debug", "script|load"]),
            ..CommandSettings::default()
        });
        for (line, expected) in [
            ("FLUSHALL", "D"),
            ("flushall ASYNC", "D"),
            ("FLUSHDB", "."),
            ("CONFIG SET a b", "D"),
            ("config set a b", "D"),
            ("CONFIG GET a", "."),
            ("CONFIG", "."),
            ("BRPOP k 0", "D"),
            ("BLPOP k 0", "."),
            ("Json.Set k", "D"),
            ("DEBUG SLEEP 0", ">!"),
            ("FAILOVER", "."),
            ("SCRIPT FLUSH", "D"),
            ("SCRIPT LOAD x", "."),
            ("GET k", "."),
        ] {
            assert_eq!(said(&rules, line), expected, "{line}");
        }
    }

    #[test]
    fn a_renamed_command_answers_to_its_new_name_alone() {
        let rules = Rules::new(&CommandSettings {
            deny: names(&["config|set"]),
            rename: pairs(&[
                ("flushall", "admin_flushall"),
                ("keys", ""),
                ("get", "set"),
                ("set", "get"),
                ("config", "cfg"),
            ]),
            upstream_names: pairs(&[("flushall", "X1"), ("bgsave", "y")]),
            ..CommandSettings::default()
        });
        for (line, expected) in [
            ("FLUSHALL", "G"),
            ("Admin_Flushall", "flushall>X1"),
            ("KEYS *", "G"),
            ("GET a", "set>"),
            ("SET a", "get>"),
            ("CONFIG GET a", "G"),
            ("CFG GET a", "config>"),
            ("CFG SET a b", "D"),
            ("x1", "G"),
            ("Y", "G"),
            ("BGSAVE", ">y"),
            ("PING", "."),
        ] {
            assert_eq!(said(&rules, line), expected, "{line}");
        }
        assert_eq!(renamed(&request("ADMIN_FLUSHALL ASYNC"), b"flushall"), request("flushall ASYNC"));
    }

    #[test]
    fn without_rules_nothing_is_concerned() {
        let rules = Rules::new(&CommandSettings::default());
        assert!(!rules.concern(&request("FLUSHALL")) && !rules.concern(b"") && rules.remarks().is_empty());
    }

    #[test]
    fn what_may_be_a_slip_is_remarked() {
        let rules = Rules::new(&CommandSettings {
            deny: names(&["flushal", "config|sett", "@admin", "object|freq", "redweir", "get|k"]),
            rename: pairs(&[("keys", "get")]),
            ..CommandSettings::default()
        });
        let expected = [
            "deny: `flushal` is no command that redweir knows, it holds for that very name",
            "deny: `config|sett` is no command that redweir knows, it holds for that very name",
            "deny: `get` has no subcommands, `get|k` means nothing",
        ];
        assert_eq!(rules.remarks(), expected);
        assert_eq!((said(&rules, "GET k"), said(&rules, "KEYS k")), ("keys>".into(), "G".into()));
        for (pairs_of, fault) in [
            (
                vec![("keys", "get")],
                "rename: `get` is a command itself: rename that one, too, or choose another name for `keys`",
            ),
            (vec![("keys", "get"), ("get", "keys")], ""),
            (vec![("keys", "get"), ("get", "")], ""),
            (vec![("keys", "mine")], ""),
        ] {
            let settings = CommandSettings { rename: pairs(&pairs_of), ..CommandSettings::default() };
            assert_eq!(Rules::faults(&settings).join("; "), fault, "{pairs_of:?}");
        }
    }
}
