//! Why writes wait. A word for the operator; nothing is decided by it but who may still finish, and what is still believed.

/// Why there is nobody to write to. -> none, when a master is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Not everybody was heard yet.
    Starting,
    /// No node says that it is master.
    NoMaster,
    /// The master's connection ended; it may be back at once.
    Suspect,
    /// The master is gone and nobody took over yet.
    Lost,
    /// The master is loading its data set.
    Loading,
    /// The master says replica, and the one it follows does not say master yet.
    Demoted,
    /// A Sentinel failover of this master goes on.
    Failover,
    /// Another node says master as well; waiting for what resolves it.
    Conflict,
    /// Several nodes say master and nothing orders them: the operator must.
    Ambiguous,
    /// A successor was promoted; the Sentinels are to name it first (`trust = confirmed`).
    Unconfirmed,
    /// Most Sentinels have been silent for too long (`minority-stop`).
    Minority,
    /// The master restarted without its data set (`on-empty-master = stop`).
    Emptied,
    /// A switchover begins: what is open on a connection of its own (a transaction, a large value) may finish.
    Draining,
    /// A switchover goes on.
    Switchover,
}

impl Hold {
    pub const ALL: [Hold; 14] = [
        Hold::Starting,
        Hold::NoMaster,
        Hold::Suspect,
        Hold::Lost,
        Hold::Loading,
        Hold::Demoted,
        Hold::Failover,
        Hold::Conflict,
        Hold::Ambiguous,
        Hold::Unconfirmed,
        Hold::Minority,
        Hold::Emptied,
        Hold::Draining,
        Hold::Switchover,
    ];

    /// Whether the last master may have been replaced without redweir's knowledge: what it still answers is then to be
    /// judged first. None of these lasts: they end with a master, or with the node's connections.
    pub const fn is_doubt(self) -> bool {
        matches!(self, Hold::Suspect | Hold::Lost | Hold::Failover | Hold::Conflict | Hold::Unconfirmed)
    }

    pub const fn label(self) -> &'static str {
        match self {
            Hold::Starting => "starting",
            Hold::NoMaster => "no_master",
            Hold::Suspect => "suspect",
            Hold::Lost => "lost",
            Hold::Loading => "loading",
            Hold::Demoted => "demoted",
            Hold::Failover => "failover",
            Hold::Conflict => "conflict",
            Hold::Ambiguous => "ambiguous",
            Hold::Unconfirmed => "unconfirmed",
            Hold::Minority => "minority",
            Hold::Emptied => "emptied",
            Hold::Draining => "draining",
            Hold::Switchover => "switchover",
        }
    }
}
