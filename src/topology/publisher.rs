//! One writer, many readers: swaps the snapshot and wakes who waits for it. Hints travel the other way.
//!
//! Invariant: an epoch is published once, and epochs only grow.

use std::sync::Arc;

use std::sync::atomic::{AtomicU64, Ordering::Release};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::muster::{Muster, Seat};
use super::{NodeId, Topology};
use crate::upstream::Furthest;

/// Trouble seen on the data path: wakes discovery, decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A connection to this node died or could not be made.
    Lost(NodeId),
    /// The node answered -READONLY / -REDIRECT to a write: it is no master.
    Demoted(NodeId),
    /// The node answered -LOADING or -MASTERDOWN.
    Unready(NodeId),
    /// A name nobody knows: the master's COMMAND should be asked again.
    UnknownName,
}

/// Where discovery receives hints.
pub type Hints = mpsc::Receiver<Hint>;

/// The reading side, shared by every worker and the admin port.
pub struct View {
    snapshot: Arc<ArcSwap<Topology>>,
    epoch: watch::Receiver<u64>,
    /// The same epoch, for who looks often.
    newest: Arc<AtomicU64>,
    hints: mpsc::Sender<Hint>,
    muster: Muster,
}

/// The writing side; there is one, and discovery owns it.
pub struct Publisher {
    view: Arc<View>,
    epoch: watch::Sender<u64>,
}

/// A publisher, its view, and the hints that come back.
pub fn channel() -> (Publisher, Arc<View>, Hints) {
    let (epoch_tx, epoch_rx) = watch::channel(0);
    // A full queue drops the hint: 64 that say "look" are as good as 65.
    let (hint_tx, hint_rx) = mpsc::channel(64);
    let view = Arc::new(View {
        snapshot: Arc::new(ArcSwap::from_pointee(Topology::empty())),
        epoch: epoch_rx,
        newest: Arc::default(),
        hints: hint_tx,
        muster: Muster::default(),
    });
    (Publisher { view: Arc::clone(&view), epoch: epoch_tx }, view, hint_rx)
}

impl View {
    pub fn load(&self) -> Arc<Topology> {
        self.snapshot.load_full()
    }
    /// The swap itself, for a per-thread `arc_swap::Cache`.
    pub fn snapshot(&self) -> Arc<ArcSwap<Topology>> {
        Arc::clone(&self.snapshot)
    }
    pub fn newest(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.newest)
    }
    /// Resolves each time a newer epoch is published.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.epoch.clone()
    }
    /// A worker's seat, by which it tells when it has let go of the master, and what it was told in which term.
    pub fn enlist(&self, furthest: Arc<Furthest>, term: u64) -> Arc<Seat> {
        self.muster.enlist(furthest, term)
    }
    pub fn suspect(&self, hint: Hint) {
        let _ = self.hints.try_send(hint);
    }
}

impl Publisher {
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
    /// Whether nothing of any worker is on its way to a master since `epoch`, in which a switchover holds writes.
    pub fn has_let_go(&self, epoch: u64) -> bool {
        self.view.muster.has_let_go(epoch)
    }
    /// Whether every worker has counted what the switch to the master of `term` cost.
    pub fn has_reckoned(&self, term: u64) -> bool {
        self.view.muster.has_reckoned(term)
    }
    /// The largest offset that any worker was told in `term`.
    pub fn furthest(&self, term: u64) -> Option<u64> {
        self.view.muster.furthest(term)
    }
    /// The epoch published last.
    pub fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }
    /// Publishes `next` under the next epoch and returns it.
    pub fn publish(&self, mut next: Topology) -> u64 {
        next.epoch = *self.epoch.borrow() + 1;
        let epoch = next.epoch;
        self.view.snapshot.store(Arc::new(next));
        self.view.newest.store(epoch, Release);
        self.epoch.send_replace(epoch);
        epoch
    }
}
