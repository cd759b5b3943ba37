//! Bytes <-> frames for both RESP versions: the only place that knows a protocol version's syntax.
//!
//! Hot frames are delimited, not decoded. Must not know commands or sessions. Invariant: every scan is linear, resumable
//! and free of recursion, and allocates nothing that was only declared.

mod args;
pub mod encode;
pub mod inline;
mod number;
mod reply;
pub mod request;

pub use args::Args;
pub use reply::{Found, ReplyScanner};
pub use request::{RequestScanner, Scan, Violation};
