//! From the arguments of a request to its class. Pure; the fast path (a plain command) looks at the name alone.
//!
//! Invariant: an argument makes a request a read only where the server itself refuses to write, or to depend on the
//! node, when it is present.

use super::table::{Command, Refine, lookup};
use super::{Class, Verdict};
use crate::resp::Args;

/// What a request is. Its name is in no table: `command` is `None` and the class [`Class::Unknown`].
#[inline]
pub fn classify(mut args: Args<'_>) -> Verdict {
    let Some(command) = args.next().and_then(lookup) else {
        return Verdict { command: None, class: Class::Unknown };
    };
    match command.refine {
        Refine::None => Verdict { command: Some(command), class: command.class },
        _ => refine(command, args),
    }
}

/// `rest` begins behind the name of `command`.
fn refine(command: &'static Command, mut rest: Args<'_>) -> Verdict {
    let mut subject = command;
    if command.refine == Refine::Sub
        && let Some(child) = rest.next().and_then(|name| command.child(name))
    {
        subject = child;
    }
    let class = match subject.refine {
        Refine::Block if blocks(rest) => Class::Blocking,
        Refine::Shebang if rest.next().is_some_and(cannot_write) => Class::ScriptRead,
        // Behind the key.
        Refine::Full if rest.nth(1).is_some_and(|option| option.eq_ignore_ascii_case(b"full")) => Class::MasterRead,
        _ => subject.class,
    };
    Verdict { command: Some(subject), class }
}

/// Is there a BLOCK option before STREAMS (XREAD, XREADGROUP)? Names and values of other options do not count.
fn blocks(mut options: Args<'_>) -> bool {
    while let Some(option) = options.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"block") {
            return true;
        } else if is(b"streams") {
            return false;
        } else if is(b"group") {
            options.next();
            options.next();
        } else if is(b"count") || is(b"claim") {
            options.next();
        }
    }
    false
}

/// Does the body of a script declare, in its first line, that it does not write? A server then refuses every write in it.
pub fn cannot_write(body: &[u8]) -> bool {
    let Some(line) = body.iter().position(|&b| b == b'\n').and_then(|end| body.get(..end)) else {
        return false;
    };
    let mut words = line.split(u8::is_ascii_whitespace);
    words.next() == Some(b"#!lua")
        && words
            .filter_map(|word| word.strip_prefix(b"flags="))
            .flat_map(|f| f.split(|&b| b == b','))
            .any(|f| f == b"no-writes")
}
