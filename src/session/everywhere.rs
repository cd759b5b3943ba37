//! Commands that concern every node: ACL SETUSER, SCRIPT LOAD, SCRIPT KILL and their like.
//!
//! Must not wait for a replica longer than a moment. Invariant: the answer is the master's, and what the master refused no
//! replica hears of, whether it came alone, on a connection of the session's own or in a transaction; only a running script
//! is looked for everywhere at once.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Answer;
use super::filter::Filter;
use super::roll::What;
use super::{Session, errors};
use crate::metrics::Count;
use crate::resp::Args;
use crate::route::Want;
use crate::upstream::{Refused, Target};

/// A replica that did not do as the master did within this time is reported.
const REPLICA_WAIT: Duration = Duration::from_secs(2);
/// A node runs a script this long before it listens to anybody (Redis' busy-reply-threshold, 5 s), and a little more.
const BUSY_WAIT: Duration = Duration::from_secs(7);
/// Between two tries to reach a node that is busy.
const PAUSE: Duration = Duration::from_millis(20);

impl Session {
    /// The answer is the master's; the replicas follow if it did what was asked.
    pub(super) async fn everywhere(self: &Rc<Self>, name: &str, request: &[u8]) -> Answer {
        let asked = match name {
            "script|exists" => return self.script_exists(request).await.into(),
            "script|kill" | "function|kill" => return self.kill_script(request).await.into(),
            // The same when done twice.
            "script|load" | "script|flush" => self.ask(Want::Master, request).await.map(|(reply, lease)| {
                self.front.pool.give_back(self.state.borrow().lane, lease);
                reply
            }),
            _ => self.once(request).await,
        };
        let reply = asked.unwrap_or_else(|text| text);
        let last = self.followed(name, request, &reply).await;
        Answer { reply, last }
    }

    /// The master has answered `request`: the others do as it did. True: it was the last thing this session may do.
    pub(super) async fn followed(self: &Rc<Self>, name: &str, request: &[u8], reply: &[u8]) -> bool {
        if reply.first() == Some(&b'-') || matches!(name, "script|exists" | "script|kill" | "function|kill") {
            return false;
        }
        match name {
            "script|load" => _ = self.front.scripts.store().put(Args::new(request).nth(2).unwrap_or_default(), true),
            "script|flush" => self.front.scripts.store().clear(),
            _ => {}
        }
        self.on_each(self.front.replicas(), request).await;
        name == "acl|deluser" && self.expel(Args::new(request).skip(2)).await
    }

    /// Sessions of users that are gone end at once (acl.c ACLFreeUserAndKillClients). True: this is one of them.
    async fn expel<'a>(&self, users: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut last = false;
        // Nobody deletes the default user.
        for user in users.filter(|user| *user != b"default") {
            let filter = Filter::of_user(user);
            last |= filter.matches(&self.card(&self.state.borrow()));
            self.front.shared.common.roll.call(What::Kill(filter, self.id)).await;
        }
        last
    }

    /// A request to each of these nodes, all at once.
    pub(super) async fn on_each(self: &Rc<Self>, targets: Vec<Target>, request: &[u8]) {
        let request: Rc<[u8]> = request.into();
        let mut nodes = JoinSet::new();
        for target in targets {
            let (session, request) = (Rc::clone(self), Rc::clone(&request));
            nodes.spawn_local(async move { session.on_one(&target, &request).await });
        }
        while nodes.join_next().await.is_some() {}
    }

    async fn on_one(&self, target: &Target, request: &[u8]) {
        let done = tokio::time::timeout(REPLICA_WAIT, self.at(target, request)).await;
        let why = match done {
            Ok(Ok(reply)) if reply.first() != Some(&b'-') => return,
            // Only the code: a text may repeat what was asked, and with it a password.
            Ok(Ok(reply)) => {
                String::from_utf8_lossy(reply.split(|b| *b == b' ').next().unwrap_or_default()).into_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REPLICA_WAIT:?}"),
        };
        self.front.cells.count(Count::ReplicaFailures, 1);
        let command = Args::new(request).next().unwrap_or_default().escape_ascii().to_string();
        tracing::warn!(
            node = &*target.dial,
            command,
            why,
            "a node did not do what concerns every node; repeat the command when the node is well"
        );
    }

    async fn at(&self, target: &Target, request: &[u8]) -> io::Result<Vec<u8>> {
        let lane = self.state.borrow().lane;
        let mut lease = self.front.pool.lease(lane, target).await.map_err(io::Error::other)?;
        let reply = self.exchange(&mut lease, Want::Read, request).await?;
        self.front.pool.give_back(lane, lease);
        Ok(reply)
    }

    /// SCRIPT KILL, FUNCTION KILL: wherever the script runs. A node that runs one looks dead, so each that is known is asked.
    async fn kill_script(self: &Rc<Self>, request: &[u8]) -> Vec<u8> {
        let request: Rc<[u8]> = request.into();
        let master = self.front.target(Want::Master).map(|t| t.node);
        let mut nodes = JoinSet::new();
        for target in self.front.everyone() {
            let (session, request) = (Rc::clone(self), Rc::clone(&request));
            nodes.spawn_local(async move {
                let reply = session.patiently(&target, &request).await;
                reply.map(|reply| (rank(&reply, Some(target.node) == master), reply))
            });
        }
        let mut best: Option<(u8, Vec<u8>)> = None;
        while let Some(answer) = nodes.join_next().await {
            if let Ok(Ok(answer)) = answer
                && best.as_ref().is_none_or(|(rank, _)| *rank < answer.0)
            {
                best = Some(answer);
            }
            if matches!(best, Some((KILLED, _))) {
                break;
            }
        }
        best.map(|(_, reply)| reply).unwrap_or_else(|| errors::no_connection(&"no node answers"))
    }

    async fn patiently(&self, target: &Target, request: &[u8]) -> io::Result<Vec<u8>> {
        let lane = self.state.borrow().lane;
        let deadline = Instant::now() + BUSY_WAIT;
        loop {
            match self.front.pool.lease(lane, target).await {
                Ok(mut lease) => {
                    let reply = tokio::time::timeout_at(deadline, lease.exchange(request)).await??;
                    self.front.pool.give_back(lane, lease);
                    return Ok(reply);
                }
                Err(Refused::Handshake(text)) => return Ok(format!("-{text}\r\n").into_bytes()),
                Err(Refused::Io(e)) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Err(e) if Instant::now() >= deadline => return Err(io::Error::other(e)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Rank of the answer of a node that did kill a script.
const KILLED: u8 = 3;

/// Which of several nodes' answers to SCRIPT KILL is the client's.
fn rank(reply: &[u8], master: bool) -> u8 {
    match reply {
        [b'+', ..] => KILLED,
        // There is one, and it has written already.
        [b'-', b'U', b'N', ..] => 2,
        _ => u8::from(master),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_script_counts_more_than_one_that_may_not_be_killed_and_that_more_than_none() {
        let answers: [(&[u8], bool); 4] = [
            (b"-NOTBUSY No scripts in execution right now.\r\n", false),
            (b"-NOTBUSY No scripts in execution right now.\r\n", true),
            (b"-UNKILLABLE Sorry the script already executed write commands.\r\n", false),
            (b"+OK\r\n", false),
        ];
        assert!(answers.map(|(reply, master)| rank(reply, master)).is_sorted_by(|a, b| a < b));
    }
}
