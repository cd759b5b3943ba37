//! What redweir does to the nodes by itself, where the operator asked for it: promotes when the master is gone, and makes
//! the others follow after a switch.
//!
//! Part of [`Keeper`]. Invariant: never beside Sentinel, and one promotion at a time: the next one only after it is known
//! that the last one failed, or its node has been silent for `down-after`.

use std::sync::Arc;
use std::time::Instant;

use super::detector::Verdict;
use super::journal;
use super::keeper::Keeper;
use super::member::Member;
use super::orders::{Addressee, Order, Orders};
use super::promotion::{self, Doubt};
use super::world::World;
use crate::config::Failover;
use crate::topology::{Hold, NodeId};

/// What was begun.
#[derive(Default)]
pub struct Initiative {
    orders: Orders,
    /// Who was told to be master, and when.
    promoting: Option<(NodeId, Instant)>,
    /// Why nobody was, as last logged.
    doubt: Option<Doubt>,
}

impl Initiative {
    /// Whether this one was told to be master, by redweir.
    pub fn promoted(&self, id: NodeId) -> bool {
        self.promoting.is_some_and(|(node, _)| node == id)
    }
}

impl Keeper {
    /// Does what is due and allowed.
    pub(super) fn act(&mut self, now: Instant) {
        let Failover { promote, repoint_replicas, .. } = self.world.set.failover;
        // A switchover does both by itself, and has its way back.
        if self.voices.is_some() || !(promote || repoint_replicas) || self.planned.goes_on() {
            return;
        }
        if promote {
            self.replace_master(now);
        }
        if self.is_open() {
            self.gather(now);
        }
    }

    /// Promotes a replica when the master has been gone for `down-after` and its replicas confirm it.
    fn replace_master(&mut self, now: Instant) {
        if self.verdict != Verdict::Hold(Hold::Lost) || !self.world.master_silent(now) {
            if self.is_open() {
                self.initiative.promoting = None;
                self.initiative.doubt = None;
            }
            return;
        }
        if !self.last_promotion_failed(now) {
            return;
        }
        match promotion::choose(&self.world.replicas_of_master()) {
            Ok(node) => {
                self.initiative.doubt = None;
                if self.order(node, Order::Promote, now) {
                    self.initiative.promoting = Some((node, now));
                    journal::promotion(&self.world, node);
                }
            }
            Err(doubt) if self.initiative.doubt != Some(doubt) => {
                self.initiative.doubt = Some(doubt);
                journal::doubt(&self.world, doubt);
            }
            Err(_) => {}
        }
    }

    /// Whether nobody is about to become master by an earlier order.
    fn last_promotion_failed(&mut self, now: Instant) -> bool {
        let Some((node, since)) = self.initiative.promoting else { return true };
        if self.initiative.orders.is_busy(node, now) {
            return false;
        }
        let down_after = self.world.set.down_after;
        let Some(member) = self.world.member_mut(node) else { return true };
        let said_since = member.examined_at.is_some_and(|at| at > since);
        let failed = member.is_up() && said_since && !member.says_master();
        let silent = member.is_silent_for(now, down_after);
        if silent {
            // It may have obeyed all the same: then it has to follow whoever is promoted instead.
            member.superseded = true;
        }
        failed || silent
    }

    /// Makes everybody follow the master.
    fn gather(&mut self, now: Instant) {
        let Some(reign) = &self.world.reign else { return };
        let Some(master) = self.world.member(reign.node).map(|m| Arc::clone(&m.address)) else { return };
        for node in promotion::strays(reign, &self.world.sights(now)) {
            self.order(node, Order::Follow(Arc::clone(&master)), now);
        }
    }

    fn order(&mut self, node: NodeId, order: Order, now: Instant) -> bool {
        let Some(to) = self.world.member(node).map(|member| addressee(&self.world, member)) else { return false };
        self.initiative.orders.give(to, order, now)
    }
}

fn addressee(world: &World, member: &Member) -> Addressee {
    Addressee {
        set: world.set.name.clone(),
        node: member.id,
        address: Arc::clone(&member.address),
        dial: Arc::clone(&member.dial),
        login: world.set.node_login.clone(),
        connect_timeout: world.set.connect_timeout,
        limit: world.set.down_after,
    }
}
