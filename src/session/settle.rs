//! What to do when a node refused some of the requests on their way to it. Pure.
//!
//! A refused request was not executed and may be sent again, but not behind a later write of the same session that the
//! node did execute: then the client gets the refusal itself, and order is kept.

use crate::command::{self, Class};
use crate::resp::Args;
use crate::upstream::refusal::{self, Refusal};

/// One request that came back with its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    pub refused: bool,
    pub idempotent: bool,
    /// The first and the last request of a transaction.
    pub opens: bool,
    pub closes: bool,
    /// Its node may have been replaced before it answered.
    pub late: bool,
}

/// How many of `settled`, from the front, are answered with the replies that came; the rest is to be sent again. A
/// transaction with a refusal in it did nothing as a whole, for EXEC was aborted.
pub fn answered(settled: &[Settled]) -> usize {
    let mut first = None;
    let mut at = 0;
    while let Some(rest) = settled.get(at..).filter(|rest| !rest.is_empty()) {
        let step = length(rest);
        let (step, refused) = (step, rest[..step].iter().any(|s| s.refused));
        match first {
            None if refused => first = Some(at),
            Some(_) if !refused && rest[..step].iter().any(|s| !s.idempotent) => return settled.len(),
            _ => {}
        }
        at += step;
    }
    first.unwrap_or(settled.len())
}

/// The script that may have made up its refusal: nothing that is no script was refused before it, by which the node would have
/// said what it is.
pub fn doubtful(settled: &[Settled]) -> Option<&Settled> {
    // Of a script that the node does not have there is no doubt.
    let refused = settled.iter().filter(|s| s.refused && refusal::of(&s.reply) != Some(Refusal::NoScript));
    let is_script =
        |s: &&Settled| matches!(command::classify(Args::new(&s.request)).class, Class::Script | Class::ScriptRead);
    refused.take_while(is_script).find(|s| !s.idempotent)
}

/// How many of `settled`, from the front, come before the first late one, and whether one that is, and was not refused,
/// may have been executed for nothing: then nobody knows its outcome.
pub fn before_late(settled: &[Settled]) -> (usize, bool) {
    let mut at = settled.iter().position(|s| s.late).unwrap_or(settled.len());
    let certain = at;
    while let Some(rest) = settled.get(at..).filter(|rest| !rest.is_empty()) {
        let step = &rest[..length(rest)];
        if !step.iter().any(|s| s.refused) && !step.iter().all(|s| s.idempotent) {
            return (certain, true);
        }
        at += step.len();
    }
    (certain, false)
}

/// How many requests belong together at the front: all of a transaction, else one.
fn length(settled: &[Settled]) -> usize {
    match settled.first() {
        Some(first) if first.opens && first.reply == b"+OK\r\n" => {
            settled.iter().position(|s| s.closes).map_or(1, |end| end + 1)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(letters: &str) -> Vec<Settled> {
        letters
            .chars()
            .map(|c| Settled {
                request: Vec::new(),
                reply: if c == '(' { b"+OK\r\n".to_vec() } else { Vec::new() },
                refused: c.is_uppercase(),
                idempotent: !c.eq_ignore_ascii_case(&'w'),
                opens: c == '(',
                closes: c == ')',
                late: false,
            })
            .collect()
    }

    #[test]
    fn what_was_executed_in_doubt_is_unknown_and_nothing_else() {
        // As below; behind | all is doubtful.
        let table = [
            ("", (0, false)),
            ("wr|", (2, false)),
            ("w|w", (1, true)),
            ("w|r", (1, false)),
            ("w|rWR", (1, false)),
            ("|Wrw", (0, true)),
            ("|(w)", (0, true)),
            ("|(r)", (0, false)),
            ("w|(wW)", (1, false)),
        ];
        for (letters, expected) in table {
            let (certain, doubtful) = letters.split_once('|').unwrap_or((letters, ""));
            let mut settled = settled(&[certain, doubtful].concat());
            settled.iter_mut().skip(certain.len()).for_each(|s| s.late = true);
            assert_eq!(before_late(&settled), expected, "{letters}");
        }
    }

    #[test]
    fn decides_by_what_the_node_executed_behind_the_first_refusal() {
        // w: write executed, W: write refused, r: read answered, R: read refused, (: MULTI, ): EXEC.
        let table = [
            ("", 0),
            ("w", 1),
            ("W", 0),
            ("wW", 1),
            ("rWr", 1),
            ("WW", 0),
            ("Wr", 0),
            ("wwWrW", 2),
            ("Ww", 2),
            ("rWrw", 4),
            ("RR", 0),
            ("(w)", 3),
            ("(W)", 0),
            ("w(wW)", 1),
            ("W(w)", 4),
            ("W(r)", 0),
            ("(W)(w)", 6),
            ("(wW)r", 0),
        ];
        for (letters, expected) in table {
            let settled = settled(letters);
            assert_eq!(answered(&settled), expected, "{letters}");
        }
    }

    #[test]
    fn a_script_is_doubted_unless_something_else_was_refused_before_it() {
        /// Requests, each with whether it was refused, and which of them is doubted.
        type Row = (&'static [(&'static str, bool)], Option<usize>);
        let table: [Row; 7] = [
            (&[("EVAL x 0", true)], Some(0)),
            (&[("GET k", false), ("FCALL f 0", true), ("SET k v", true)], Some(1)),
            (&[("SET k v", true), ("EVAL x 0", true)], None),
            (&[("EVAL_RO x 0", true), ("EVALSHA x 0", true)], Some(1)),
            (&[("EVAL_RO x 0", true)], None),
            (&[("EVAL x 0", false), ("SET k v", true)], None),
            (&[], None),
        ];
        for (lines, expected) in table {
            let settled: Vec<Settled> = lines
                .iter()
                .map(|(line, refused)| Settled {
                    request: crate::resp::encode::line(line),
                    reply: b"-READONLY You can't write against a read only replica.\r\n".to_vec(),
                    refused: *refused,
                    idempotent: line.contains("_RO") || line.starts_with("GET"),
                    opens: false,
                    closes: false,
                    late: false,
                })
                .collect();
            assert_eq!(doubtful(&settled), expected.map(|at| &settled[at]), "{lines:?}");
        }
    }
}
