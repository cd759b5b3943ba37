//! What is left of a blocking command's time when it has to be sent again. Pure.
//!
//! Places and units are those of timeout.c getTimeoutFromObjectOrReply and its callers (t_list.c, t_zset.c, t_stream.c,
//! replication.c). What cannot be understood stays as it is: the server refuses it with its own words.

use std::time::Duration;

use crate::command::{Class, Verdict};
use crate::resp::{Args, encode};

/// Where a command has its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Last,
    First,
    /// Behind the option BLOCK.
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A decimal fraction.
    Seconds,
    Millis,
}

fn place(name: &str) -> Option<(Place, Unit)> {
    Some(match name {
        "blpop" | "brpop" | "bzpopmin" | "bzpopmax" | "blmove" | "brpoplpush" => (Place::Last, Unit::Seconds),
        "blmpop" | "bzmpop" => (Place::First, Unit::Seconds),
        "xread" | "xreadgroup" => (Place::Block, Unit::Millis),
        "wait" | "waitaof" => (Place::Last, Unit::Millis),
        _ => return None,
    })
}

/// Whether it waits at the node without effect until it is answered, so that it may be sent again as long as it is not.
pub fn waits(verdict: &Verdict) -> bool {
    let name = verdict.command.map_or("", |c| c.name);
    let is_wait = matches!(name, "wait" | "waitaof");
    (is_wait || verdict.class == Class::Blocking) && place(name).is_some()
}

/// Time left of `request` after it has waited for `waited`; `None`: it waits for ever, or its timeout is no number.
pub fn left(name: &str, request: &[u8], waited: Duration) -> Option<Duration> {
    let (at, unit) = find(name, request)?;
    let whole = read(Args::new(request).nth(at)?, unit)?;
    Some(whole.saturating_sub(waited))
}

/// `request` with what is left of its timeout, a millisecond at least: 0 would be for ever.
pub fn shortened(name: &str, request: &[u8], waited: Duration) -> Vec<u8> {
    let Some(((at, unit), left)) = find(name, request).zip(left(name, request, waited)) else {
        return request.to_vec();
    };
    let millis = left.as_millis().max(1);
    let text = match unit {
        Unit::Seconds => format!("{}.{:03}", millis / 1000, millis % 1000),
        Unit::Millis => millis.to_string(),
    };
    let mut words: Vec<&[u8]> = Args::new(request).collect();
    if let Some(word) = words.get_mut(at) {
        *word = text.as_bytes();
    }
    let mut out = Vec::with_capacity(request.len() + 8);
    encode::request(&mut out, words.into_iter());
    out
}

fn find(name: &str, request: &[u8]) -> Option<(usize, Unit)> {
    let (place, unit) = place(name)?;
    let args = Args::new(request);
    let at = match place {
        Place::Last => args.remaining().checked_sub(1)?,
        Place::First => 1,
        Place::Block => block(args)? + 1,
    };
    Some((at, unit))
}

/// Where BLOCK stands among the options of XREAD and XREADGROUP; names and values of other options do not count.
fn block(args: Args<'_>) -> Option<usize> {
    let mut words = args.enumerate().skip(1);
    while let Some((at, word)) = words.next() {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"block") {
            return Some(at);
        } else if is(b"streams") {
            return None;
        } else if is(b"group") {
            words.nth(1);
        } else if is(b"count") || is(b"claim") {
            words.next();
        }
    }
    None
}

/// `None` for 0, which is for ever, and for what no server takes.
fn read(word: &[u8], unit: Unit) -> Option<Duration> {
    let text = std::str::from_utf8(word).ok()?;
    let time = match unit {
        Unit::Millis => Duration::from_millis(text.parse().ok()?),
        Unit::Seconds => Duration::try_from_secs_f64(text.parse().ok()?).ok()?,
    };
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::resp::encode::line as request;

    #[test]
    fn each_command_keeps_what_is_left_of_its_time() {
        let table = [
            ("BLPOP k 5", 1200, "BLPOP k 3.800"),
            ("brpop a b c 0.5", 100, "brpop a b c 0.400"),
            ("BZPOPMIN z 1e1", 1000, "BZPOPMIN z 9.000"),
            ("BZPOPMAX z 1", 5000, "BZPOPMAX z 0.001"),
            ("BLMOVE a b LEFT RIGHT 2", 500, "BLMOVE a b LEFT RIGHT 1.500"),
            ("BRPOPLPUSH a b 2", 1999, "BRPOPLPUSH a b 0.001"),
            ("BLMPOP 3 1 k LEFT COUNT 5", 1000, "BLMPOP 2.000 1 k LEFT COUNT 5"),
            ("BZMPOP 3 1 k MIN", 1, "BZMPOP 2.999 1 k MIN"),
            ("XREAD COUNT 2 BLOCK 900 STREAMS s $", 400, "XREAD COUNT 2 BLOCK 500 STREAMS s $"),
            (
                "XREADGROUP GROUP block block block 900 STREAMS s >",
                950,
                "XREADGROUP GROUP block block block 1 STREAMS s >",
            ),
            ("WAIT 1 300", 100, "WAIT 1 200"),
            ("WAITAOF 1 1 300", 301, "WAITAOF 1 1 1"),
            // For ever stays for ever, and what is no number stays what it is.
            ("BLPOP k 0", 1200, "BLPOP k 0"),
            ("BLPOP k 0.0", 1200, "BLPOP k 0.0"),
            ("XREAD BLOCK 0 STREAMS s $", 1200, "XREAD BLOCK 0 STREAMS s $"),
            ("WAIT 1 0", 1200, "WAIT 1 0"),
            ("BLPOP k -1", 1200, "BLPOP k -1"),
            ("BLPOP k soon", 1200, "BLPOP k soon"),
            ("BLPOP k inf", 1200, "BLPOP k inf"),
            ("XREAD STREAMS block 5", 10, "XREAD STREAMS block 5"),
            ("GET k", 10, "GET k"),
        ];
        for (before, waited, after) in table {
            let request_before = request(before);
            let verdict = command::classify(Args::new(&request_before));
            let name = verdict.command.map_or("", |c| c.name);
            let got = shortened(name, &request_before, Duration::from_millis(waited));
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&request(after)), "{before}");
        }
    }

    #[test]
    fn only_what_waits_without_effect_counts_as_waiting() {
        let table = [
            ("BLPOP k 0", true),
            ("XREAD BLOCK 0 STREAMS s $", true),
            ("XREAD STREAMS s 0", false),
            ("XREADGROUP GROUP g c STREAMS s >", false),
            ("WAIT 1 0", true),
            ("MIGRATE h 1 k 0 5", false),
            ("SUBSCRIBE a", false),
            ("SET k v", false),
        ];
        for (line, expected) in table {
            assert_eq!(waits(&command::classify(Args::new(&request(line)))), expected, "{line}");
        }
    }
}
