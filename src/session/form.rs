//! What a line of CLIENT LIST is made of: which fields, in which order, as the nodes' version has them. Pure but for its memory.
//!
//! Learnt from a node's own CLIENT INFO, once a term. Invariant: until one was seen it is that of Redis 7.0.

use std::sync::{Arc, Mutex, PoisonError};

/// Redis 7.0 (networking.c catClientInfoString).
const SEVEN: &str = "id=0 addr= laddr= fd=0 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 \
                     argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|info user=default \
                     redir=-1 resp=2";

/// The fields of a line, each with what a node said of a connection of redweir's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Default for Form {
    fn default() -> Self {
        Self(fields(SEVEN))
    }
}

fn fields(line: &str) -> Vec<(String, String)> {
    let field = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    line.split_whitespace().filter_map(field).collect()
}

impl Form {
    /// Of a node's answer to CLIENT INFO.
    pub fn of_reply(reply: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(reply).ok()?;
        let line = text.get(text.find("id=")?..)?.lines().next()?;
        let form = Self(fields(line));
        let has = |name: &str| form.0.iter().any(|(known, _)| known == name);
        (has("addr") && has("cmd")).then_some(form)
    }

    /// A line, with its end; what `known` does not tell is a neutral figure.
    pub fn line(&self, known: impl Fn(&str) -> Option<String>) -> String {
        let word = |(name, theirs): &(String, String)| {
            let neutral = || if theirs.parse::<i64>().is_ok() { "0".to_owned() } else { theirs.clone() };
            let mut value = known(name).unwrap_or_else(neutral);
            if name == "cmd" && !theirs.contains('|') {
                // Before 7.0 a command was shown without its subcommand.
                value.truncate(value.find('|').unwrap_or(value.len()));
            }
            format!("{name}={value}")
        };
        self.0.iter().map(word).collect::<Vec<_>>().join(" ") + "\n"
    }
}

/// The form that the nodes of a set were seen to have last, and in which term.
#[derive(Default)]
pub struct Forms(Mutex<(u64, Arc<Form>)>);

impl Forms {
    pub fn note(&self, term: u64, form: Form) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (term, Arc::new(form));
    }

    /// Whether it was seen in this term.
    pub fn is_of(&self, term: u64) -> bool {
        term > 0 && self.0.lock().unwrap_or_else(PoisonError::into_inner).0 == term
    }

    pub fn last(&self) -> Arc<Form> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_of_the_nodes_version_in_their_order() {
        let known = |name: &str| match name {
            "id" => Some("7".into()),
            "flags" => Some("P".into()),
            "cmd" => Some("client|list".into()),
            "resp" => Some("3".into()),
            "lib-name" => Some("py".into()),
            _ => None,
        };
        // As the servers printed it (shortened).
        for (theirs, ours) in [
            (
                "$9\r\nid=3 addr=1:2 flags=N multi=5 cmd=client user=x redir=-1\n\r\n",
                "id=7 addr=1:2 flags=P multi=0 cmd=client user=x redir=0\n",
            ),
            (
                "=9\r\ntxt:id=4 addr=1:2 flags=N watch=0 cmd=client|info resp=2 lib-name= lib-ver= io-thread=0 tot-net-in=52\n\r\n",
                "id=7 addr=1:2 flags=P watch=0 cmd=client|list resp=3 lib-name=py lib-ver= io-thread=0 tot-net-in=0\n",
            ),
            (
                "$9\r\nid=3 addr=1:2 flags=N capa= events=r cmd=client|info\n\r\n",
                "id=7 addr=1:2 flags=P capa= events=r cmd=client|list\n",
            ),
        ] {
            assert_eq!(Form::of_reply(theirs.as_bytes()).unwrap().line(known), ours);
        }
        for none in ["-NOPERM no\r\n", "$-1\r\n", "", "$4\r\nid=3\r\n"] {
            assert_eq!(Form::of_reply(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn what_was_seen_in_another_term_may_be_another_version() {
        let forms = Forms::default();
        assert!(!forms.is_of(0) && !forms.is_of(1));
        let other = Form(fields("id=1 cmd=client"));
        forms.note(1, other.clone());
        assert!(forms.is_of(1) && !forms.is_of(2));
        assert_eq!(*forms.last(), other);
    }
}
