//! What a session does with a request, by its class and name alone. Pure.

use crate::command::{Class, Verdict};

/// The ways a request can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any fit node, over a shared connection.
    Read,
    /// The master, over a shared connection, and harmless when executed twice.
    MasterRead,
    /// The master, over a shared connection; executed at most once.
    Write,
    Script,
    /// Not for a shared connection: the session stops, lets everything before it be answered, and acts.
    Alone,
}

/// The way of a request with this verdict. `names` gives the class of a name beyond the table.
#[inline]
pub fn of(verdict: &Verdict, names: impl FnOnce() -> Option<Class>) -> Kind {
    match verdict.class {
        Class::Read => Kind::Read,
        Class::Write => Kind::Write,
        Class::MasterRead | Class::Cursor => Kind::MasterRead,
        Class::Script => Kind::Script,
        // A CLIENT subcommand nobody knows may set a connection's state.
        Class::Admin if named(verdict, "client") => Kind::Alone,
        Class::Admin => Kind::Write,
        Class::ScriptRead => Kind::Read,
        // Answered by a node like any read: the user's rights and the node's own errors count.
        Class::Local if named(verdict, "ping") || named(verdict, "echo") => Kind::Read,
        Class::Local if named(verdict, "acl|whoami") => Kind::MasterRead,
        // Without a transaction these are one error or one +OK; the session's own ones are pinned already.
        Class::Session if named(verdict, "exec") || named(verdict, "discard") => Kind::MasterRead,
        Class::Session if named(verdict, "unwatch") => Kind::MasterRead,
        Class::Session if named(verdict, "readonly") || named(verdict, "readwrite") => Kind::MasterRead,
        Class::Session | Class::Local | Class::Blocking | Class::AllNodes | Class::Forbidden => Kind::Alone,
        Class::Unknown => match names() {
            Some(Class::Read) => Kind::Read,
            Some(Class::MasterRead) => Kind::MasterRead,
            Some(Class::Write | Class::Script | Class::Admin) => Kind::Write,
            // Nobody vouches for it: it may be a renamed MULTI.
            _ => Kind::Alone,
        },
    }
}

fn named(verdict: &Verdict, name: &str) -> bool {
    verdict.command.is_some_and(|command| command.name == name)
}

impl Kind {
    /// May be executed twice, so it may be sent again whatever became of it.
    #[inline]
    pub fn is_idempotent(self) -> bool {
        matches!(self, Kind::Read | Kind::MasterRead)
    }
}
