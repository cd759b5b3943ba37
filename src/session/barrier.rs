//! WAIT and WAITAOF for a user who may not publish: the fence that makes them count the session's writes is another's then.
//!
//! What a session wrote went over shared connections, and WAIT counts what its own connection wrote. A message on
//! [`FENCE`]'s channel before it makes that the same (offsets.md section 5). A user without that channel (the default for
//! new ones since Redis 7) gets the count from a connection of redweir's own user, once its own has shown that it may WAIT.
//! Must not pass on a count that no fence stands before. Invariant: a client that leaves takes its waiting connection along.

use std::io;
use std::time::{Duration, Instant};

use super::pin::timeout;
use super::pubsub::Frame;
use super::state::{State, Unblock};
use super::{Session, errors, filter};
use crate::command::{self, Verdict};
use crate::resp::{Args, encode};
use crate::route::Want;
use crate::upstream::Lease;

/// Raises the connection's replication offset to the master's present one.
pub const FENCE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$13\r\nredweir:fence\r\n$0\r\n\r\n";
/// That a client left, or is let go, is noticed within this.
const LOOK: Duration = Duration::from_millis(50);
/// How long what is over may still take, in ms: a replica that has the write has the fence, too, a way there and back later. 0
/// would be for ever; with 1 none was counted that is further away than that.
const GRACE_MS: &[u8] = b"20";

/// What WAIT tells a session of whose acknowledged writes a switch has lost some, or may have: no replica has them all. Once,
/// for what it asks next is about what it wrote since. `None`: it is no WAIT, or none that a node would take.
pub fn none(verdict: &Verdict, request: &[u8]) -> Option<&'static [u8]> {
    let wanted = Args::new(request).skip(1).map(number).collect::<Option<Vec<_>>>()?;
    let none = nobody(verdict.command?.name)?;
    // A number for each that it counts, and the timeout.
    (wanted.len() == none.iter().filter(|b| **b == b':').count() + 1).then_some(none)
}

/// That none have acknowledged, as WAIT and WAITAOF say it.
pub fn nobody(name: &str) -> Option<&'static [u8]> {
    match name {
        "wait" => Some(b":0\r\n"),
        "waitaof" => Some(b"*2\r\n:0\r\n:0\r\n"),
        _ => None,
    }
}

fn number(word: &[u8]) -> Option<i64> {
    filter::integer(word).filter(|n| *n >= 0)
}

/// Fewer have answered than were asked for: time was up, or somebody let it go.
fn is_short(reply: &[u8], request: &[u8]) -> bool {
    let counted = reply.split(|b| *b == b'\n').filter_map(|line| number(line.trim_ascii_end().strip_prefix(b":")?));
    counted.zip(Args::new(request).skip(1).filter_map(number)).any(|(counted, wanted)| counted < wanted)
}

/// The same without patience: what there is now.
fn at_once(request: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = Args::new(request).collect();
    if let Some(last) = words.last_mut() {
        *last = GRACE_MS;
    }
    let mut out = Vec::new();
    encode::request(&mut out, words.into_iter());
    out
}

/// Why there is no count.
enum Disturbed {
    Gone,
    Unblocked(Unblock),
}

impl Session {
    /// Answers the WAIT `request`, sent at `since` and answered with `reply` for what its connection alone has written,
    /// while its relay takes no further request.
    pub(super) fn wait_aside(&self, s: &mut State, request: &[u8], reply: &[u8], since: Instant) {
        if request.is_empty() {
            let text = errors::no_connection(&"more is on its way than is kept");
            return self.push_frame(s, Frame::Reply, &text, false);
        }
        let (request, since) = match is_short(reply, request) {
            true => (at_once(request), Instant::now()),
            false => (request.to_vec(), since),
        };
        s.waits_aside = true;
        self.aside(s, async move |me| {
            let answer = tokio::select! {
                answer = me.wait_fenced(&request, since) => Ok(answer),
                disturbed = me.disturbed_aside() => Err(disturbed),
            };
            let s = &mut *me.state.borrow_mut();
            s.waits_aside = false;
            let none = none(&command::classify(Args::new(&request)), &request).unwrap_or(errors::SYNTAX);
            let answer = match answer {
                Err(Disturbed::Gone) => return true,
                Err(Disturbed::Unblocked(Unblock::Error)) => errors::UNBLOCKED.to_vec(),
                Err(Disturbed::Unblocked(Unblock::Timeout)) => none.to_vec(),
                // A switch came in between.
                Ok(_) if std::mem::take(&mut s.own.bereft) => none.to_vec(),
                Ok(answer) => answer.unwrap_or_else(|| none.to_vec()),
            };
            me.push_frame(s, Frame::Reply, &answer, false);
            s.silence.end_next();
            false
        });
    }

    /// `None`: there was no master to ask until its time was up.
    async fn wait_fenced(&self, request: &[u8], since: Instant) -> Option<Vec<u8>> {
        let name = command::classify(Args::new(request)).command.map_or("", |c| c.name);
        loop {
            let now = timeout::shortened(name, request, since.elapsed());
            match self.fenced(&now).await {
                Ok(answer) => return Some(answer),
                Err(_) if timeout::left(name, request, since.elapsed()) == Some(Duration::ZERO) => return None,
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn fenced(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let lane = self.front.pool.lane(self.front.own_lane());
        let target = self.front.target(Want::Master).ok_or(io::ErrorKind::NotConnected)?;
        let mut lease: Lease = self.front.pool.lease(lane, &target).await.map_err(io::Error::other)?;
        let fenced = self.exchange(&mut lease, Want::Master, FENCE).await?;
        if fenced.first() == Some(&b'-') {
            return Ok(errors::unfenced(&fenced));
        }
        let reply = self.exchange(&mut lease, Want::Master, request).await?;
        self.front.pool.give_back(lane, lease);
        Ok(reply)
    }

    async fn disturbed_aside(&self) -> Disturbed {
        loop {
            {
                let s = &mut *self.state.borrow_mut();
                if s.dead {
                    return Disturbed::Gone;
                }
                if let Some(how) = s.unblock.take() {
                    return Disturbed::Unblocked(how);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::line;

    #[test]
    fn only_what_a_node_would_take_is_told_that_nobody_has_it() {
        let table: [(&str, Option<&[u8]>); 7] = [
            ("WAIT 1 0", Some(b":0\r\n")),
            ("waitaof 0 1 5", Some(b"*2\r\n:0\r\n:0\r\n")),
            ("WAIT 1", None),
            ("WAIT 1 0 0", None),
            ("WAIT a 0", None),
            ("WAIT 1 -1", None),
            ("BLPOP k 0", None),
        ];
        for (text, expected) in table {
            let request = line(text);
            assert_eq!(none(&command::classify(Args::new(&request)), &request), expected, "{text}");
        }
    }

    #[test]
    fn fewer_than_asked_for_means_that_it_is_over() {
        let table: [(&str, &[u8], bool); 6] = [
            ("WAIT 2 100", b":1\r\n", true),
            ("WAIT 2 100", b":2\r\n", false),
            ("WAIT 0 0", b":0\r\n", false),
            ("WAITAOF 1 1 0", b"*2\r\n:1\r\n:0\r\n", true),
            ("WAITAOF 1 1 0", b"*2\r\n:0\r\n:3\r\n", true),
            ("WAITAOF 1 1 0", b"*2\r\n:1\r\n:3\r\n", false),
        ];
        for (text, reply, expected) in table {
            assert_eq!(is_short(reply, &line(text)), expected, "{text} {reply:?}");
        }
        assert_eq!(at_once(&line("WAIT 2 0")), line("WAIT 2 20"));
    }
}
