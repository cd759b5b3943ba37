//! redweir: one port in front of a Redis or Valkey master and its replicas.
//!
//! # Architecture map
//!
//! A request's way, in hops: accept ([`server`]) -> bytes to a request ([`resp`]) -> what it is ([`command`]) -> what the
//! session's state makes of it ([`session`]) -> which node ([`route`]) -> one memcpy into that node's shared connection
//! ([`upstream`]) -> the reply is found by its length, not decoded ([`resp`]) -> and handed on, in order ([`session`]).
//!
//! Who is master is decided elsewhere: [`discovery`] watches Sentinels and nodes on a runtime of its own and is the only
//! owner of the [`topology`] publisher. Sessions and discovery never call each other: they meet in the snapshot, and trouble
//! seen on the data path travels back as a hint ([`topology::View::suspect`]).
//!
//! Imports point one way, in the order of the `mod` lines below; `tests/tidy.rs` enforces it.
//!
//! # One client's pipeline
//!
//! A session has requests on at most one shared connection at a time, so that connection's order is the order of its
//! replies and no reply is ever put aside. Neighbouring requests of one read travel as one *run*: a run that holds a write
//! goes to the master as a whole, a run of reads goes to one replica; a write behind reads of an earlier batch waits for
//! them, a read behind a write follows it. A run's bytes stay in the connection's buffer until it is answered: what a node
//! refused, or what was never written, is sent again from there; what was written and may have been executed never is.
//!
//! A transaction that arrives whole, MULTI to EXEC, is a run of its own: answered, and sent again, only as a whole.
//!
//! What needs more than that (an interactive MULTI, WATCH, SUBSCRIBE, blocking commands, names nobody vouches for, requests too large to be
//! held) takes a leased connection for as long as it must (`session/pin.rs`, `session/relay`). When that
//! connection is lost, what waits, listens or tracks goes on at the new master (`session/relay/renew.rs`); a transaction or a
//! watch ends with its node.
//!
//! # What an old master still says
//!
//! From the first sign of a switch on, what the last master answers is read and kept back. If it stays master all of it is handed
//! on; if another took over, only what had been received when a ROLE still showed an offset that the new one has
//! (`discovery/stands.rs`, `upstream/conn/line.rs`, `session/relay/withheld.rs`).
//!
//! A master that answers nothing may be at something long: its connections stand, and what is on them waits, until it answers,
//! another is master, they break, or the time is up that writes are held for (`session/front/judge.rs`).
//!
//! # A crowd's reads
//!
//! go to the least busy of two replicas (the default balancer), and small ones that come while it is at work join it for a while,
//! as long as they hardly wait there (`route/balancer.rs`): they travel together, and an idle replica need not be woken for each.
//!
//! # A node that has enough to do
//!
//! is sent more when it answers (`upstream/conn/line.rs`); until then its worker gives its core to others before it sleeps
//! (`upstream/give_way.rs`). A session with requests on a connection that has 2 MiB before its node reads on when there is room
//! (`upstream/room.rs`): what its client sends stays in the socket, as it would with Redis.
//!
//! # What a session has seen
//!
//! At level `session` a run is followed by a ROLE on its connection: the offset in the answer bounds what the run saw, and is
//! the session's floor. A later read goes to a replica that has shown that offset, or behind a ROLE that must show it; else
//! it comes back and goes to the master. While the offset is not known the session stays where it was; where nodes have weights
//! each flush asks for it, since staying gives light ones more than their share (`upstream/conn/own.rs`). Offsets hold within
//! one term; in a new one the first read is the master's (`session/floor.rs`, `upstream/clock.rs`). While there is no master the
//! question is INFO: by ROLE a replica without a link shows no offset. A read that comes back unanswered leaves the floor as it was.
//!
//! At level `bounded` the floor is the master's own offset of as long ago as the bound (`topology/tide.rs`), and nothing of
//! what the session did (`session/level.rs`). With `strict` each question is INFO instead of ROLE, and only an answer
//! with the term's replication id counts.
//!
//! # What a switch cost
//!
//! Each connection notes how many writes it acknowledged between two ROLEs (`upstream/ledger.rs`). With the new master each
//! worker compares that with the offset up to which both lines are one, and adds what is above to the switch
//! (`session/front/follow.rs`, `topology/switch.rs`); discovery tells the sum (`discovery/keeper.rs`). A session knows the
//! place of its own last write (`session/own.rs`).
//!
//! # Replies that wait for copies
//!
//! With `acks` a reply that acknowledges a write counts as one that has not come until enough replicas have shown its offset
//! (`session/acks.rs`), so all that must stay behind it does by the rules above.
//!
//! # Where the code departs from the design
//!
//! * A room more than the design has: [`socket`], one read or write with nothing around the system call.
//! * PING and ECHO are forwarded like reads, not answered here: only a node knows whether the user may use them.
//! * A name that is in no table goes to the master on a connection of its own: it may be a renamed MULTI.
//! * Nothing is read ahead of a session that waits; the kernel's buffer does that. So there is no such setting.
//! * A large reply makes its connection the reader's own, and what others had behind it is sent elsewhere, except writes
//!   already on the wire: for their sake the rest is read on, up to `max-client-output`.
//! * SCAN's cursors are the master's, and signed after a switch; SORT, GEORADIUS and BITFIELD without a store clause are not rewritten to their `_RO`
//!   forms. Both only cost reads on the master.
//! * Replicas are asked for what they have by INFO, on connections of our own, not by the ROLE of a read's flush: an answer
//!   that acknowledges must carry its lineage with it.
//! * CLUSTER is the master's to answer: without cluster mode it refuses all of it in its own words.
//! * CLIENT NO-EVICT is remembered and shown, and not told to shared connections: they are redweir's to keep small.
//! * Offsets of one line are void in another, not rebased: a session that saw more than a new master's line is known to
//!   have reads at the master, whose answers can only be newer.
//! * Sessions that only read pay a ROLE for each 16 runs or millisecond of their connection: what they were shown binds
//!   them, too.
//! * The replication ids of former masters are not kept over a restart of redweir. COMMAND is asked when a node becomes
//!   master and when an unknown name comes by, not every 30 s.
//! * Scrapes read the workers' counters directly; the `metrics` registry holds the control plane's events only.

#![forbid(unsafe_code)]

pub mod config;
pub mod metrics;
pub mod resp;
pub mod socket;

pub mod command;

pub mod upstream;

pub mod topology;

pub mod route;

pub mod discovery;
pub mod session;

pub mod admin;
pub mod server;

pub mod app;
pub mod demo;
