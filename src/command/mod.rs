//! What a command is: its class, and the arguments that change it. Data and pure functions; no I/O, no state.
//!
//! Invariant: a name that nobody vouches for is never a read.

use std::collections::HashMap;

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
    /// Node-local administration that must reach every node (SCRIPT FLUSH, SCRIPT KILL, FUNCTION KILL).
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

/// Names beyond the table with the class their flags give, from a master's own `COMMAND`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub classes: HashMap<Vec<u8>, Class>,
}
