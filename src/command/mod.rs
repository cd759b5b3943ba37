//! What a command is: its class, and the arguments that change it. Data and pure functions; no I/O, no state.
//!
//! Invariant: a name that nobody vouches for is never a read.

mod classify;
#[cfg(test)]
mod generate;
mod names;
mod pack;
mod table;

pub use classify::{cannot_write, classify};
pub use names::{Described, Names, class_from_flags};
pub use table::{COMMANDS, Command, Flags, Keys, Refine, lookup};

/// What may be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Any node that fits may answer.
    Read,
    /// Reads, but the answer depends on the node: the master's.
    MasterRead,
    /// The master, on a shared connection.
    Write,
    /// EVAL and friends that may write: the master, on a shared connection.
    Script,
    /// A script that cannot write (`*_RO`, `#!lua flags=no-writes`): like a read, but a node may lack its body.
    ScriptRead,
    /// SCAN family: sticky to one node for the life of a cursor. Today that node is the master.
    Cursor,
    /// Administration: forwarded to the master.
    Admin,
    /// Node-local administration that must reach every node (SCRIPT FLUSH, SCRIPT KILL, ACL SETUSER).
    AllNodes,
    /// Blocks its connection, or takes another number of replies: a connection of its own.
    Blocking,
    /// Reads or sets per-connection state; the session acts by the command's name.
    Session,
    /// redweir answers by itself, by the command's name.
    Local,
    /// Refused.
    Forbidden,
    /// In no table: see [`Names`], else the master.
    Unknown,
}

/// What a request is.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The subcommand where there is one; the container when its subcommand is unknown or missing.
    pub command: Option<&'static Command>,
    /// The command's own class unless an argument changed it.
    pub class: Class,
}

#[cfg(test)]
mod tests;
