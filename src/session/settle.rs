//! What to do when a node refused some of the requests on their way to it. Pure.
//!
//! A refused request was not executed and may be sent again, but not behind a later write of the same session that the
//! node did execute: then the client gets the refusal itself, and order is kept.

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
            let settled: Vec<Settled> = letters
                .chars()
                .map(|c| Settled {
                    request: Vec::new(),
                    reply: if c == '(' { b"+OK\r\n".to_vec() } else { Vec::new() },
                    refused: c.is_uppercase(),
                    idempotent: !c.eq_ignore_ascii_case(&'w'),
                    opens: c == '(',
                    closes: c == ')',
                })
                .collect();
            assert_eq!(answered(&settled), expected, "{letters}");
        }
    }
}
