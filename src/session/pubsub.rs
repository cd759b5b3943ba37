//! Tells subscription frames from replies. Pure.
//!
//! Source: pubsub.c addReplyPubsubMessage and friends: the first element names the frame, the last one of a
//! confirmation counts the subscriptions left.

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Channel,
    Pattern,
    Shard,
}

/// The sort a subscription command (or the frame that confirms one) is about; `None` for any other name.
pub fn sort(name: &[u8]) -> Option<Sort> {
    match name {
        b"subscribe" | b"unsubscribe" => Some(Sort::Channel),
        b"psubscribe" | b"punsubscribe" => Some(Sort::Pattern),
        b"ssubscribe" | b"sunsubscribe" => Some(Sort::Shard),
        _ => None,
    }
}

/// What a frame from a node is to a pinned session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The reply to a request.
    Reply,
    /// Sent on the node's own account: a message, an invalidation.
    Push,
    /// Confirms one (un)subscription; this many are left of its sort. Sharded channels are counted by themselves.
    Confirmed { sort: Sort, left: i64 },
}

/// `frame` is a whole frame, or the beginning of one too large to be a confirmation. In RESP2 a frame is only taken for
/// more than a reply when the session `listens`.
pub fn frame(frame: &[u8], listens: bool) -> Frame {
    let push = frame.first() == Some(&b'>');
    let maybe = push || (listens && frame.first() == Some(&b'*'));
    if !maybe {
        return Frame::Reply;
    }
    let word = first_word(frame);
    if let (Some(sort), Some(left)) = (word.and_then(sort), last_integer(frame)) {
        return Frame::Confirmed { sort, left };
    }
    match word {
        Some(b"message" | b"pmessage" | b"smessage") => Frame::Push,
        _ if push => Frame::Push,
        _ => Frame::Reply,
    }
}

/// Notes in `subscribed` (channels, patterns, sharded channels) what a confirmation says: pubsub.c counts channels and
/// patterns together, sharded channels by themselves.
pub fn count(subscribed: &mut [i64; 3], sort: Sort, left: i64) {
    let [channels, patterns, shards] = subscribed;
    match sort {
        Sort::Channel => *channels = left - *patterns,
        Sort::Pattern => *patterns = left - *channels,
        Sort::Shard => *shards = left,
    }
}

/// Whether a frame is a line of MONITOR (replication.c replicationFeedMonitors): a time with a fraction, and ` [`.
pub fn is_monitor_line(frame: &[u8]) -> bool {
    let Some(line) = frame.strip_prefix(b"+") else { return false };
    let time = line.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    time > 7 && line.get(time..time + 2) == Some(b" [")
}

/// Whether the first bytes of a frame are those of a confirmation.
pub fn begins_confirmation(frame: &[u8]) -> bool {
    first_word(frame).and_then(sort).is_some()
}

fn first_word(frame: &[u8]) -> Option<&[u8]> {
    let mut lines = frame.split(|b| *b == b'\n');
    let _count = lines.next()?;
    let _length = lines.next()?.strip_prefix(b"$")?;
    lines.next()?.strip_suffix(b"\r")
}

fn last_integer(frame: &[u8]) -> Option<i64> {
    let line = frame.strip_suffix(b"\r\n")?.rsplit(|b| *b == b'\n').next()?;
    std::str::from_utf8(line.strip_prefix(b":")?).ok()?.parse().ok()
}

/// What a confirmation is about: its sort, whether it begins a subscription (or ends one), and the name. `None` also when
/// nothing was subscribed to and no name is given.
pub fn confirmation(frame: &[u8]) -> Option<(Sort, bool, &[u8])> {
    let word = first_word(frame)?;
    let sort = sort(word)?;
    // Behind the count and the word: the name's length, the name, the number of subscriptions left.
    let mut at = 0;
    for _ in 0..3 {
        at += 1 + frame.get(at..)?.iter().position(|b| *b == b'\n')?;
    }
    let rest = frame.get(at..)?.strip_prefix(b"$")?.strip_suffix(b"\r\n")?;
    let begin = 1 + rest.iter().position(|b| *b == b'\n')?;
    let end = rest.iter().rposition(|b| *b == b'\n')?;
    let name = rest.get(begin..end)?.strip_suffix(b"\r")?;
    Some((sort, !word.starts_with(b"unsub") && word.get(1..6) != Some(&b"unsub"[..]), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_says_which_name_begins_or_ends() {
        type Case<'a> = (&'a [u8], Option<(Sort, bool, &'a [u8])>);
        let table: &[Case] = &[
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", Some((Sort::Channel, true, b"a"))),
            (b">3\r\n$12\r\npunsubscribe\r\n$3\r\n\r\n*\r\n:1\r\n", Some((Sort::Pattern, false, b"\r\n*"))),
            (b">3\r\n$10\r\nssubscribe\r\n$0\r\n\r\n:1\r\n", Some((Sort::Shard, true, b""))),
            (b">3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n", Some((Sort::Shard, false, b"s"))),
            (b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n", None),
            (b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", None),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(confirmation(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_of_monitor_is_no_reply() {
        assert!(is_monitor_line(b"+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n"));
        for reply in [&b"+OK\r\n"[..], b"+RESET\r\n", b"+12 [\r\n", b"$2\r\n+1\r\n"] {
            assert!(!is_monitor_line(reply));
        }
    }

    #[test]
    fn tells_frames_apart() {
        let table: &[(&[u8], bool, Frame)] = &[
            (b"+OK\r\n", true, Frame::Reply),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", true, Frame::Confirmed { sort: Sort::Channel, left: 1 }),
            (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", false, Frame::Reply),
            (b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n", false, Frame::Confirmed { sort: Sort::Channel, left: 0 }),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", true, Frame::Push),
            (b"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:2\r\n", true, Frame::Confirmed { sort: Sort::Shard, left: 2 }),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", true, Frame::Reply),
            (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", false, Frame::Push),
        ];
        for (bytes, listens, expected) in table {
            assert_eq!(frame(bytes, *listens), *expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
