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
}

/// How many of `settled`, from the front, are answered with the replies that came; the rest is to be sent again.
pub fn answered(settled: &[Settled]) -> usize {
    let Some(first) = settled.iter().position(|s| s.refused) else { return settled.len() };
    let executed_behind = settled.iter().skip(first).rposition(|s| !s.refused && !s.idempotent);
    executed_behind.map_or(first, |_| settled.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_by_what_the_node_executed_behind_the_first_refusal() {
        // w: write executed, W: write refused, r: read answered, R: read refused.
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
        ];
        for (letters, expected) in table {
            let settled: Vec<Settled> = letters
                .chars()
                .map(|c| Settled {
                    request: Vec::new(),
                    reply: Vec::new(),
                    refused: c.is_uppercase(),
                    idempotent: c.eq_ignore_ascii_case(&'r'),
                })
                .collect();
            assert_eq!(answered(&settled), expected, "{letters}");
        }
    }
}
