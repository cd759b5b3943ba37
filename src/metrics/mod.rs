//! Every metric: name, help, labels and handle. Nothing else names a metric.
//!
//! The data path counts into [`Cells`]: plain numbers with one writer (the worker that owns them), so no lock, no
//! read-modify-write and no allocation per request. The control runtime counts its rare events through the `metrics`
//! recorder. [`Registry::render`] puts both, and the figures of the topology that admin hands it, on one page at scrape
//! time. Must not know sessions or topology.
//! Invariant: labels are bounded (node slots, kinds, reasons); a key or a client is never a label.

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            pub const fn label(self) -> &'static str { match self { $($name::$variant => $text),+ } }
        }
    };
}

mod cells;
mod clock;
mod events;
mod exposition;
mod families;
mod gauges;
mod registry;
mod tenants;

pub use cells::{BUCKETS, Cell, Cells, Count, Histogram, Kind, Queue, Reason};
pub use clock::{Clock, Tick};
pub use events::{
    Cause, Kept, Outcome, Phase, Telling, failover, master_emptied, probe_error, sentinel_event, sentinel_up, switched,
    switchover, telling,
};
pub use gauges::{NodeGauges, SetGauges, ShardGauges};
pub use registry::Registry;

/// Node slots per replication set; `topology::NodeId` stays below it.
pub const MAX_NODES: usize = 64;
