//! Who waits for copies, on one worker of one listener, and who is asked for their sake.
//!
//! Asks on connections of its own, only while somebody waits, and again as soon as one answer is in; the pace is that of the
//! nodes. INFO rather than ROLE: lineage, offset and priority come in one answer, so no change of data set between two
//! questions can pass for progress (offsets.md section 3, hole 1). A shared connection's ROLE is read for the offset of a
//! write alone. Must not hold up a request that waits for nothing. Invariant: a question to the master is numbered before it
//! is sent, so what is executed before it has a lower number.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::copies::{self, Copies};
use super::held::{Asks, World};
use crate::session::{Front, Session};
use crate::topology::{Hold, Kept, NodeId, Topology, Writes};
use crate::upstream::Target;
use crate::upstream::control::{Client, Reply};

/// A node that failed is asked again this much later.
const RETRY: Duration = Duration::from_millis(20);
/// A node that shows nothing new so many times is asked this often only, and after more times still less often.
const PATIENT: (u32, Duration) = (8, Duration::from_millis(1));
const RESIGNED: (u32, Duration) = (200, Duration::from_millis(10));
/// The longest a node may take for an answer before another connection is tried.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Witness {
    waiting: RefCell<Vec<Weak<Session>>>,
    copies: RefCell<Copies>,
    asks: Cell<Asks>,
    master: Cell<Option<NodeId>>,
    /// Questions the master was asked.
    questions: Cell<u64>,
    told: Cell<Option<Told>>,
    stir: Notify,
    askers: RefCell<Vec<Asker>>,
}

/// What the master last answered.
#[derive(Clone, Copy)]
struct Told {
    term: u64,
    question: u64,
    offset: u64,
    sent: Instant,
}

/// The task that asks one node, for as long as this lives.
struct Asker {
    target: Target,
    wake: Rc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node's INFO replication.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    master: bool,
    lineage: String,
    /// Written, or applied.
    offset: u64,
}

impl Word {
    fn of(info: &str) -> Option<Self> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let master = field("role")? == "master";
        let offset = field(if master { "master_repl_offset" } else { "slave_repl_offset" })?;
        Some(Self { master, lineage: field("master_replid")?.to_owned(), offset: offset.parse().ok()? })
    }
}

impl Witness {
    /// `session` has replies that wait.
    pub fn enlist(&self, session: Weak<Session>) {
        self.waiting.borrow_mut().push(session);
        self.stir.notify_one();
    }

    /// Something came that waits for more.
    pub fn stir(&self) {
        self.stir.notify_one();
    }

    pub fn questions(&self) -> u64 {
        self.questions.get()
    }

    fn wants(&self, node: NodeId) -> bool {
        let asks = self.asks.get();
        match self.master.get() == Some(node) {
            true => asks.master,
            false => asks.above.is_some_and(|above| self.copies.borrow().shown(node) < Some(above)),
        }
    }
}

impl Front {
    /// Lets replies go as their writes are copied, until the topology ends.
    pub async fn testify(self: Rc<Self>) {
        let mut epochs = self.view.subscribe();
        loop {
            let at = self.witness.asks.get().at;
            let time = async {
                match at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = epochs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.witness.stir.notified() => {}
                () = self.pool.read_on() => {}
                () = time => {}
            }
            self.look_after();
        }
    }

    /// One pass over all who wait.
    fn look_after(self: &Rc<Self>) {
        let topology = self.topology();
        let Some(shard) = topology.shards.first() else { return };
        let witness = &self.witness;
        witness.master.set(match shard.writes {
            Writes::Open(master) => Some(master),
            // It is master until the switchover moves that, and what was written before may still be waited for.
            Writes::Held if matches!(shard.held, Some(Hold::Draining | Hold::Switchover)) => witness.master.get(),
            Writes::Held => None,
        });
        let mut waiting = witness.waiting.take();
        {
            let mut copies = witness.copies.borrow_mut();
            copies.enter(shard.term);
            copies.choose(topology.nodes.iter().map(|n| (n.id, n.state, n.priority)));
            let told = witness.told.get().filter(|told| told.term == shard.term);
            let world = World {
                term: shard.term,
                kept: shard.switch.as_ref().map_or(Kept::Unknown, |switch| switch.kept),
                copies: &copies,
                questions: witness.questions.get(),
                told: told.map(|told| (told.question, told.offset)),
                alive: told.map(|told| told.sent),
                now: Instant::now(),
                timeout: self.listener.acks.timeout,
                hold: self.listener.hold,
            };
            let mut asks = Asks::default();
            waiting.retain(|session| session.upgrade().is_some_and(|session| session.confirm(&world, &mut asks)));
            witness.asks.set(asks);
        }
        let waits = !waiting.is_empty();
        witness.waiting.borrow_mut().append(&mut waiting);
        if waits {
            self.follow_nodes(&topology);
        }
        for asker in witness.askers.borrow().iter().filter(|asker| witness.wants(asker.target.node)) {
            asker.wake.notify_one();
        }
    }

    /// Somebody asks each node that matters, in its present life.
    fn follow_nodes(self: &Rc<Self>, topology: &Topology) {
        let master = self.witness.master.get();
        let matters = |node: NodeId| {
            topology.node(node).filter(|n| master == Some(n.id) || copies::may_be_promoted(n.state, n.priority))
        };
        let mut askers = self.witness.askers.borrow_mut();
        askers.retain(|asker| matters(asker.target.node).is_some_and(|n| n.generation == asker.target.generation));
        for node in topology.nodes.iter().filter(|n| matters(n.id).is_some()) {
            if askers.iter().any(|asker| asker.target.node == node.id) {
                continue;
            }
            self.witness.copies.borrow_mut().forget(node.id);
            let target = Target { node: node.id, generation: node.generation, dial: node.dial.clone() };
            let wake = Rc::new(Notify::new());
            let task = tokio::task::spawn_local(Rc::clone(self).ask_on(target.clone(), Rc::clone(&wake)));
            askers.push(Asker { target, wake, task });
        }
    }

    /// Asks one node whenever somebody wants to know.
    async fn ask_on(self: Rc<Self>, target: Target, wake: Rc<Notify>) {
        let mut client = None;
        let (mut shown, mut unmoved) = (0, 0);
        loop {
            while !self.witness.wants(target.node) {
                wake.notified().await;
                unmoved = 0;
            }
            let question = self.witness.questions.get() + 1;
            if self.witness.master.get() == Some(target.node) {
                self.witness.questions.set(question);
            }
            let sent = Instant::now();
            let Some(word) = self.inquire(&mut client, &target).await else {
                client = None;
                self.witness.copies.borrow_mut().forget(target.node);
                sleep(RETRY).await;
                continue;
            };
            unmoved = if word.offset == shown { unmoved + 1 } else { 0 };
            shown = word.offset;
            self.hear(target.node, &word, question, sent);
            self.look_after();
            match unmoved {
                n if n > RESIGNED.0 => sleep(RESIGNED.1).await,
                n if n > PATIENT.0 => sleep(PATIENT.1).await,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// `None`: no use asking on this connection.
    async fn inquire(&self, client: &mut Option<Client>, target: &Target) -> Option<Word> {
        let client = match client {
            Some(client) => client,
            None => {
                let limit = self.connect_timeout.min(LIMIT);
                let mut fresh = Client::connect(&target.dial, self.node_login.as_ref(), limit).await.ok()?;
                fresh.set_limit(LIMIT);
                client.insert(fresh)
            }
        };
        let reply = client.call(&[b"INFO", b"replication"]).await.ok()?;
        Reply::text(&reply).and_then(Word::of)
    }

    /// Believes what fits the present lineage.
    fn hear(&self, node: NodeId, word: &Word, question: u64, sent: Instant) {
        let topology = self.topology();
        let Some(shard) = topology.shards.first().filter(|shard| shard.lineage.id == word.lineage) else { return };
        let witness = &self.witness;
        if !word.master {
            let mut copies = witness.copies.borrow_mut();
            copies.enter(shard.term);
            copies.show(node, word.offset);
        } else if witness.master.get() == Some(node) {
            witness.told.set(Some(Told { term: shard.term, question, offset: word.offset, sent }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_role_line_and_offset_of_one_answer() {
        let replica = "# Replication\r\nrole:slave\r\nmaster_host:h\r\nslave_read_repl_offset:90\r\nslave_repl_offset:70\r\n\
                       slave_priority:100\r\nmaster_replid:aaa\r\nmaster_repl_offset:70\r\n";
        let word = |master, offset| Word { master, lineage: "aaa".into(), offset };
        assert_eq!(Word::of(replica), Some(word(false, 70)));
        let master = "role:master\r\nmaster_replid:aaa\r\nmaster_replid2:bbb\r\nmaster_repl_offset:80\r\n";
        assert_eq!(Word::of(master), Some(word(true, 80)));
        for odd in ["", "role:slave\r\nmaster_replid:aaa\r\nslave_repl_offset:-1\r\n", "role:sentinel\r\n"] {
            assert_eq!(Word::of(odd), None, "{odd:?}");
        }
    }
}
