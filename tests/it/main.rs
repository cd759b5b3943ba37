//! What redweir does, seen from outside: the real binary between real clients and real servers.
//!
//! Each file is one paragraph of what is promised; each test is named by the sentence that it shows.

mod acks;
mod barrier;
mod bounds;
mod bulky;
mod clients;
mod cursors;
mod everywhere;
mod failover;
mod fresh;
mod held;
mod hung;
mod inside;
mod lag;
mod late;
mod levels;
mod links;
mod lost;
mod many;
mod modules;
mod operator;
mod pinned;
mod pipeline;
mod redirect;
mod refused;
mod scripts;
mod see;
mod speak;
mod split;
mod support;
mod switchover;
mod touch;
mod transactions;
mod trouble;
