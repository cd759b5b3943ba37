//! Scripts wherever they run: what redweir has seen, a node that lacks it is given.
//!
//! A connection to the master begins with the scripts that are called by their SHA-1, so after a failover they are there
//! before the first call. A call that is refused all the same (somebody flushed the node) is sent again on such a
//! connection, or, where that cannot be or did not help, after the node was given the script.
//!
//! Must not make a request wait that is no script. Invariant: EVALSHA is sent again only when the node said that it has
//! no such script; a script that might say so by itself, only when the node, asked, has none.

mod known;
mod store;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::commands::Bound;
use super::kind::{self, Kind};
use super::state::State;
use crate::command::{self, Class, Command, Verdict};
use crate::metrics::{Count, Tick};
use crate::resp::{Args, encode};
use crate::route::Want;
use crate::topology::NodeId;
use crate::upstream::refusal::{self, Refusal};
use crate::upstream::{Conn, Lease};

pub use known::Known;
use store::Script;
pub use store::Store;

/// Bodies a connection begins with.
const ALONG: usize = 256 * 1024;
/// Times a request is given another try before the node's own answer counts.
const TRIES: u32 = 3;

/// How long a node may take to say whether it has a script.
const PATIENCE: Duration = Duration::from_secs(2);

/// A node's word that it has no such script, about the next EVALSHA of the session.
pub struct Missing {
    node: NodeId,
    reply: Vec<u8>,
}

impl Session {
    /// Whether the session must see to something before this request goes its way.
    pub(super) fn needs_turn(&self, verdict: &Verdict, request: &[u8]) -> bool {
        match verdict.class {
            Class::Script | Class::ScriptRead => self.must_heal(request),
            Class::Cursor => self.must_check_cursor(),
            _ => false,
        }
    }

    /// The way of a request, whatever must be seen to before.
    pub(super) fn plain_kind(&self, request: &[u8]) -> Kind {
        let verdict = command::classify(Args::new(request));
        let kind = kind::of(&verdict, || self.runtime_class(request));
        match verdict.command {
            Some(command) if command.name.starts_with("eval") => self.script_kind(command, request, kind),
            Some(command) if verdict.class != Class::Cursor => {
                self.front.memo.put(request, command, kind);
                kind
            }
            _ => kind,
        }
    }

    /// The kind of a request within a transaction: there nobody sees that a script is missing, so it is called where the
    /// connection brings it.
    pub(super) fn kind_in_unit(&self, request: &[u8]) -> Kind {
        match self.kind(request) {
            Kind::Read if Args::new(request).next().is_some_and(is_evalsha) => Kind::Script,
            kind => kind,
        }
    }

    /// The way of an EVAL or EVALSHA, whose class says `kind`.
    fn script_kind(&self, command: &Command, request: &[u8], kind: Kind) -> Kind {
        let scripts = &self.front.scripts;
        let subject = Args::new(request).nth(1).unwrap_or_default();
        match command.name {
            "evalsha" if scripts.cannot_write(subject) => Kind::Read,
            "eval" | "eval_ro" => {
                scripts.see(subject);
                kind
            }
            _ => kind,
        }
    }

    /// A script on its way to a connection of the session's own.
    pub(super) fn notice_script(&self, verdict: &Verdict, request: &[u8]) {
        let Some(command) = verdict.command else { return };
        match command.name {
            "script|load" => _ = self.front.scripts.store().put(Args::new(request).nth(2).unwrap_or_default(), true),
            _ => _ = self.script_kind(command, request, Kind::Script),
        }
    }

    /// Whether `request` asks for a script that redweir could give to the node.
    pub(super) fn can_heal(&self, request: &[u8]) -> bool {
        let mut words = Args::new(request);
        let by_name = words.next().is_some_and(is_evalsha);
        by_name && words.next().is_some_and(|sha| self.front.scripts.find(sha).is_some())
    }

    /// A connection begins with the scripts its node may be asked for: so a node that has just become master, or was
    /// flushed, has them before the first call, and what is written behind a call is never executed before it.
    #[cold]
    pub(super) fn brief(&self, conn: &Conn, now: Tick) {
        conn.briefed.set(true);
        self.front.scripts.briefed.set((conn.target.node, conn.target.generation));
        let scripts = self.front.scripts.store().called(ALONG.min(self.front.limits.upstream_bytes / 4));
        conn.append_scripts(&loads(&scripts), scripts.len() as u32, now);
    }

    /// Likewise a connection of a session's own, the first of a worker in each life of a master.
    pub(super) async fn brief_lease(&self, lease: &mut Lease, want: Want) {
        let life = (lease.target.node, lease.target.generation);
        if want != Want::Master || self.front.scripts.briefed.replace(life) == life {
            return;
        }
        for script in self.front.scripts.store().called(ALONG) {
            if self.exchange(lease, want, &loads(&[script])).await.is_err() {
                return;
            }
        }
    }

    /// Notes what a refused request, to be sent again, must have before.
    pub(super) fn note_missing(&self, s: &State, request: &[u8], reply: &[u8]) {
        let (Some(Refusal::NoScript), Some(node)) = (refusal::of(reply), s.avoid) else { return };
        self.front.cells.count(Count::ScriptsMissing, 1);
        let script = Args::new(request).nth(1).and_then(|name| self.front.scripts.find(name));
        let pretends = script.is_none_or(|script| script.may_pretend);
        if pretends || s.tries > 1 || self.plain_kind(request) != Kind::Script {
            *self.missing.borrow_mut() = Some(Missing { node, reply: reply.to_vec() });
        }
        // Else nothing: it goes to another connection now, which begins with the scripts.
    }

    /// Is this the request that was refused?
    pub(super) fn must_heal(&self, request: &[u8]) -> bool {
        self.missing.borrow().is_some() && Args::new(request).next().is_some_and(is_evalsha)
    }

    /// Gives the script to the nodes that may be asked for it; the request then goes its way again.
    pub(super) async fn heal(self: &Rc<Self>, request: &[u8]) -> bool {
        let Some(missing) = self.missing.take() else {
            self.put_back(request);
            return true;
        };
        let failed = match self.bring(request, &missing).await {
            Ok(true) => {
                self.put_back(request);
                return true;
            }
            Ok(false) => missing.reply,
            Err(text) => text,
        };
        self.reply(&failed);
        let s = &mut *self.state.borrow_mut();
        (s.tries, s.stuck_since) = (0, None);
        s.silence.end_next();
        true
    }

    /// False: it is not to be sent again, or the script cannot be had.
    async fn bring(self: &Rc<Self>, request: &[u8], missing: &Missing) -> Result<bool, Vec<u8>> {
        let name = Args::new(request).nth(1).unwrap_or_default();
        let tries = self.state.borrow().tries;
        let Some(script) = self.front.scripts.find(name).filter(|_| tries <= TRIES) else { return Ok(false) };
        // That a script without the word says it all the same is left to a third try: others may have brought it by now.
        if (script.may_pretend || tries >= TRIES) && !self.lacks(missing.node, name).await {
            return Ok(false);
        }
        let load = loads(&[script]);
        let (lane, deadline) = (self.state.borrow().lane, Instant::now() + self.front.listener.hold);
        if self.plain_kind(request) == Kind::Read {
            // Any of them may be asked next.
            let nodes = self.front.replicas().into_iter().chain(self.front.target(Want::Master));
            self.on_each(nodes.collect(), &load).await;
            return Ok(true);
        }
        let mut lease = self.lease_until(lane, Want::Master, deadline, Bound::Wait).await?;
        match self.exchange(&mut lease, Want::Master, &load).await {
            Ok(reply) => {
                self.front.pool.give_back(lane, lease);
                Ok(reply.first() == Some(&b'$'))
            }
            // The next try finds out.
            Err(_) => Ok(true),
        }
    }

    /// The node has no such script, by its own word.
    async fn lacks(&self, node: NodeId, name: &[u8]) -> bool {
        let lane = self.state.borrow().lane;
        let Some(target) = self.front.target_of(node) else { return false };
        let mut request = Vec::new();
        encode::request(&mut request, [&b"SCRIPT"[..], b"EXISTS", name].into_iter());
        let Ok(mut lease) = self.front.pool.lease(lane, &target).await else { return false };
        let asked = tokio::time::timeout(PATIENCE, lease.exchange(&request)).await;
        let lacks = matches!(&asked, Ok(Ok(reply)) if reply == b"*1\r\n:0\r\n");
        if matches!(asked, Ok(Ok(_))) {
            self.front.pool.give_back(lane, lease);
        }
        lacks
    }

    /// SCRIPT EXISTS: what a node can be given when it is needed is there.
    pub(super) async fn script_exists(&self, request: &[u8]) -> Vec<u8> {
        let lane = self.state.borrow().lane;
        match self.ask(Want::Master, request).await {
            Ok((mut reply, mut lease)) => {
                if self.complete(request, &mut reply, &mut lease).await {
                    self.front.pool.give_back(lane, lease);
                }
                reply
            }
            Err(text) => text,
        }
    }

    /// Loads what `reply` says is missing and redweir has. False: the connection is of no more use.
    async fn complete(&self, request: &[u8], reply: &mut [u8], lease: &mut Lease) -> bool {
        let zeros = reply.windows(2).enumerate().filter(|(_, w)| w[0] == b':').map(|(at, w)| (at + 1, w[1]));
        let zeros: Vec<(usize, u8)> = zeros.collect();
        for (name, (at, digit)) in Args::new(request).skip(2).zip(zeros) {
            let Some(script) = self.front.scripts.find(name).filter(|_| digit == b'0') else { continue };
            match self.exchange(lease, Want::Master, &loads(&[script])).await {
                Ok(loaded) if loaded.first() == Some(&b'$') => reply[at] = b'1',
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// SCRIPT LOAD of each.
fn loads(scripts: &[Arc<Script>]) -> Vec<u8> {
    let mut requests = Vec::new();
    for script in scripts {
        encode::request(&mut requests, [&b"SCRIPT"[..], b"LOAD", &script.body].into_iter());
    }
    requests
}

fn is_evalsha(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"evalsha") || name.eq_ignore_ascii_case(b"evalsha_ro")
}
