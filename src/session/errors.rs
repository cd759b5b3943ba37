//! Every text a client can see from redweir itself, in one place.
//!
//! Where the meaning is Redis' own, so are code and text (networking.c, server.c). Others begin with a code client
//! libraries know how to treat, and say what to do.

use std::time::Duration;

use crate::resp::{Args, Violation};

pub const OK: &[u8] = b"+OK\r\n";
pub const RESET: &[u8] = b"+RESET\r\n";
pub const MAX_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
pub const NO_REPLICA: &[u8] =
    b"-MASTERDOWN redweir: the read policy allows replicas only and none is fit to read from; nothing was executed\r\n";
pub const LAG_GUARD: &[u8] =
    b"-TRYAGAIN redweir: every replica lags and the master has its share of their reads (lag-guard-share); nothing was executed\r\n";
pub const UPSTREAM_FULL: &[u8] =
    b"-TRYAGAIN redweir: too many bytes wait for this node (max-upstream); nothing was executed\r\n";
pub const HOLD_FULL: &[u8] =
    b"-MASTERDOWN redweir: no verified master and the queue of held requests is full (hold-bytes, hold-session-bytes); nothing was executed\r\n";
/// server.c shared.noreplicaserr.
pub const NO_GOOD_REPLICAS: &[u8] = b"-NOREPLICAS Not enough good replicas to write.\r\n";
pub const PINNED_FULL: &[u8] =
    b"-ERR redweir: too many connections of their own in use (max-pinned); nothing was executed\r\n";
pub const LOGINS_FULL: &[u8] =
    b"-ERR redweir: too many different users and passwords are in use; you are still who you were\r\n";
pub const LOGIN_NOT_TEXT: &[u8] =
    b"-ERR redweir: user names and passwords must be UTF-8; you are still who you were\r\n";
pub const NAME_INVALID: &[u8] = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
pub const NOAUTH: &[u8] = b"-NOAUTH";
pub const NOBODY_TO_ASK: &[u8] = b"-MASTERDOWN redweir: no node answers, so nobody can say whether this client may know; the admin port (/topology) answers\r\n";
pub const LARGE_RENAMED: &[u8] =
    b"-ERR redweir: a renamed command this large cannot be sent (stream-above); nothing was executed\r\n";
pub const NO_SUCH_CLIENT: &[u8] = b"-ERR No such client\r\n";
pub const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
pub const SYNTAX: &[u8] = b"-ERR syntax error\r\n";
pub const EXECABORT: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";

/// blocked.c, networking.c clientCommand: CLIENT UNBLOCK … ERROR.
pub const UNBLOCKED: &[u8] = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";

/// It was on the wire when its connection ended. A code that no client library takes for a reason to try again.
pub const UNKNOWN_OUTCOME: &[u8] = b"-UNKNOWNOUTCOME redweir: the connection to the master ended before it answered; this may have been executed, or not: look before you send it again\r\n";

/// A held request's time is up.
pub fn hold_expired(after: Duration) -> Vec<u8> {
    // `{:?}` says 0ns.
    let after = if after.is_zero() { "0s".to_owned() } else { format!("{after:?}") };
    format!("-MASTERDOWN redweir: no verified master within {after}; nothing was executed, try again\r\n").into_bytes()
}

/// A write that too few replicas have applied in time.
pub fn unacked(after: Duration) -> Vec<u8> {
    format!("-UNACKED redweir: written, but not on enough replicas within {after:?}; a failover may lose it\r\n")
        .into_bytes()
}

/// A command redweir does not let through.
pub fn forbidden(name: &str) -> Vec<u8> {
    let why = why_forbidden(name);
    let name = name.replace('|', " ").to_uppercase();
    format!("-ERR redweir: '{name}' is refused: {why}; send it to the node itself\r\n").into_bytes()
}

pub fn why_forbidden(name: &str) -> &'static str {
    match name {
        "debug" => "it can stall or break the master under every client",
        "failover" => "it would move the master behind the back of whoever decides on it",
        "replicaof" | "slaveof" => "it would make the master a replica under every client",
        "shutdown" => "it would stop the master under every client",
        "psync" | "sync" | "replconf" => "a replica's link cannot pass through a proxy",
        "monitor" => "it shows the connections of redweir, not those of clients",
        "script|debug" => "a debugger takes over its connection",
        _ => "it would break the replication set or a shared connection",
    }
}

/// Like acl.c's getAclErrorMessage: client libraries know the code.
pub fn denied(name: &str) -> Vec<u8> {
    one_line("-NOPERM redweir: the deny list of this listener forbids the '", name.as_bytes(), "' command")
}

/// server.c processCommand: the texts of 7.0 and later.
pub fn unknown_command(request: &[u8]) -> Vec<u8> {
    let mut args = Args::new(request);
    let cut = |word: &[u8], most: usize| {
        let end = word.iter().position(|b| *b == 0).unwrap_or(word.len());
        word.get(..end.min(most)).unwrap_or_default().to_vec()
    };
    let mut middle = cut(args.next().unwrap_or_default(), 128);
    middle.extend_from_slice(b"', with args beginning with: ");
    let mut shown = Vec::new();
    while let Some(arg) = args.next().filter(|_| shown.len() < 128) {
        let arg = cut(arg, 128 - shown.len());
        shown.push(b'\'');
        shown.extend(arg);
        shown.extend_from_slice(b"' ");
    }
    middle.extend(shown);
    one_line("-ERR unknown command '", &middle, "")
}

/// networking.c addReplySubcommandSyntaxError.
pub fn unknown_subcommand(sub: &[u8], container: &str) -> Vec<u8> {
    let shown = sub.get(..128).unwrap_or(sub);
    one_line("-ERR unknown subcommand '", shown, &format!("'. Try {container} HELP."))
}

/// REDWEIR CONSISTENCY with a word that is none of its levels.
pub const NO_SUCH_LEVEL: &[u8] =
    b"-ERR redweir: the levels are EVENTUAL, BOUNDED [MS milliseconds] [BYTES bytes], SESSION and STRONG\r\n";
pub const NO_BOUND: &[u8] =
    b"-ERR redweir: this listener has no bound (max-staleness), say MS milliseconds, BYTES bytes, or both\r\n";

/// A command that redweir answers by itself, in a form it does not know yet.
pub fn unsupported(name: &str) -> Vec<u8> {
    let name = name.replace('|', " ").to_uppercase();
    format!("-ERR redweir: '{name}' is not supported through the proxy; send it to the node itself\r\n").into_bytes()
}

/// WAIT would count the writes of a connection that made none. `refused`: the node's word to redweir's own user.
pub fn unfenced(refused: &[u8]) -> Vec<u8> {
    let why = refused.trim_ascii().escape_ascii().to_string();
    let text = "redweir: WAIT counts a session's writes from a message on the channel redweir:fence; the node says";
    let advice = "give the client's user or redweir's own +publish and &redweir:fence";
    format!("-NOPERM {text} '{}'; {advice}\r\n", why.trim_start_matches('-')).into_bytes()
}

/// server.c, addReplySubcommandSyntaxError and the arity check.
pub fn arity(name: &str) -> Vec<u8> {
    format!("-ERR wrong number of arguments for '{name}' command\r\n").into_bytes()
}

/// A connection of its own could not be had.
pub fn no_connection(why: &dyn std::fmt::Display) -> Vec<u8> {
    let why: String = why.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("-MASTERDOWN redweir: no connection to the node: {why}; nothing was executed\r\n").into_bytes()
}

/// A node's refusal of a login, as it said it.
pub fn handshake(refused: &dyn std::fmt::Display) -> Vec<u8> {
    format!("-{refused}\r\n").into_bytes()
}

/// networking.c setProtocolError: the text, after which the connection is closed.
pub fn protocol(violation: Violation) -> Vec<u8> {
    let mut text = b"-ERR Protocol error: ".to_vec();
    match violation {
        Violation::MultibulkLength => text.extend_from_slice(b"invalid multibulk length"),
        Violation::BulkLength => text.extend_from_slice(b"invalid bulk length"),
        Violation::MultibulkTooBig => text.extend_from_slice(b"too big mbulk count string"),
        Violation::BulkTooBig => text.extend_from_slice(b"too big bulk count string"),
        Violation::InlineTooBig => text.extend_from_slice(b"too big inline request"),
        Violation::UnbalancedQuotes => text.extend_from_slice(b"unbalanced quotes in request"),
        Violation::StrangerMultibulk => text.extend_from_slice(b"unauthenticated multibulk length"),
        Violation::StrangerBulk => text.extend_from_slice(b"unauthenticated bulk length"),
        Violation::ExpectedDollar(got) => {
            text.extend_from_slice(b"expected '$', got '");
            // addReplyErrorFormat replaces line ends, so that an error stays one line.
            text.push(if matches!(got, b'\r' | b'\n') { b' ' } else { got });
            text.push(b'\'');
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// networking.c clientSetinfoCommand.
pub fn unknown_option(option: &[u8]) -> Vec<u8> {
    one_line("-ERR Unrecognized option '", option, "'")
}

pub fn info_invalid(option: &[u8]) -> Vec<u8> {
    one_line("-ERR ", option, " cannot contain spaces, newlines or special characters.")
}

fn one_line(before: &str, middle: &[u8], after: &str) -> Vec<u8> {
    let mut out = before.as_bytes().to_vec();
    out.extend(middle.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
    out.extend_from_slice(after.as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}
