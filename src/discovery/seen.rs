//! What a node says of itself: ROLE and INFO replies as values. Pure; believes nothing and decides nothing.

use std::time::Instant;

use crate::topology::Lineage;
use crate::upstream::control::{Error, Reply};

/// Joins what Redis reports separately; an IPv6 address gets its brackets.
pub fn address(host: &str, port: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether a Sentinel says in its `INFO` that it distrusts its clock: it takes no step of a failover then.
pub fn is_tilted(info: &str) -> bool {
    info.lines().any(|line| line.trim_end() == "sentinel_tilt:1")
}

/// A replica's link to its master, as ROLE names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// `none`, `connect`, `connecting`, `handshake`. -> `Sync`, `Connected`.
    Down,
    /// Receiving a whole data set. -> `Down`, `Connected`.
    Sync,
    /// Following the stream. -> `Down`.
    Connected,
}

/// A ROLE reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `offset` in bytes produced; `replicas` as `host:port`.
    Master { offset: i64, replicas: Vec<String> },
    /// `offset` in bytes applied, -1 while the link is down; `of` is `host:port` of its master.
    Replica { of: String, link: Link, offset: i64 },
}

impl Role {
    /// `None` for anything that is not a data node's ROLE (a Sentinel's, for instance).
    pub fn parse(reply: &Reply) -> Option<Role> {
        match reply.items() {
            [kind, offset, replicas, ..] if kind.text() == Some("master") => {
                let replicas = replicas.items().iter().filter_map(|r| match r.items() {
                    [host, port, ..] => Some(address(host.text()?, port.text()?)),
                    _ => None,
                });
                Some(Role::Master { offset: offset.integer()?, replicas: replicas.collect() })
            }
            [kind, host, port, link, offset, ..] if kind.text() == Some("slave") => Some(Role::Replica {
                of: address(host.text()?, &port.integer()?.to_string()),
                link: match link.text()? {
                    "connected" => Link::Connected,
                    "sync" => Link::Sync,
                    _ => Link::Down,
                },
                offset: offset.integer()?,
            }),
            _ => None,
        }
    }

    pub fn offset(&self) -> i64 {
        match self {
            Role::Master { offset, .. } | Role::Replica { offset, .. } => *offset,
        }
    }

    /// Whether only the figures moved since `before`: then INFO need not be asked again.
    pub fn same_standing(&self, before: &Role) -> bool {
        match (self, before) {
            (Role::Master { offset: a, replicas: x }, Role::Master { offset: b, replicas: y }) => a >= b && x == y,
            (Role::Replica { of: a, link: x, offset: p }, Role::Replica { of: b, link: y, offset: q }) => {
                a == b && x == y && (p >= q || *x != Link::Connected)
            }
            _ => false,
        }
    }
}

/// The parts of INFO that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub run_id: String,
    pub version: String,
    pub lineage: Lineage,
    pub says_master: bool,
    pub loading: bool,
    pub link_up: bool,
    /// `replica-priority`; a master has none.
    pub priority: Option<u32>,
    /// `replica-read-only no`: what it answers may never have been at its master.
    pub takes_writes: bool,
    /// In all databases.
    pub keys: u64,
    /// What a replica has applied, also while its link is down.
    pub applied: Option<i64>,
    /// `master_repl_offset`: produced, or applied by a replica whether it is linked or not.
    pub offset: i64,
}

impl Info {
    /// From the text of one or several INFO sections (replication, server, persistence, keyspace). `None` without a replication id.
    pub fn parse(sections: &[&str]) -> Option<Info> {
        let mut info = Info::default();
        for line in sections.iter().flat_map(|s| s.lines()) {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key {
                "run_id" => info.run_id = value.into(),
                "redis_version" if info.version.is_empty() => info.version = value.into(),
                // Valkey reports a redis_version for compatibility; its own is the one an operator knows.
                "valkey_version" => info.version = value.into(),
                "role" => info.says_master = value == "master",
                "loading" => info.loading = value != "0",
                "master_link_status" => info.link_up = value == "up",
                "slave_priority" => info.priority = value.parse().ok(),
                "slave_read_only" => info.takes_writes = value == "0",
                "slave_repl_offset" => info.applied = value.parse().ok(),
                // `db0:keys=3,expires=0,avg_ttl=0`; an empty database has no line.
                db if db.strip_prefix("db").is_some_and(|n| n.parse::<u16>().is_ok()) => {
                    let keys = value.strip_prefix("keys=").and_then(|v| v.split(',').next()?.parse().ok());
                    info.keys = info.keys.saturating_add(keys.unwrap_or(0));
                }
                "master_repl_offset" => info.offset = value.parse().unwrap_or(i64::MAX),
                "master_replid" => info.lineage.id = value.into(),
                "master_replid2" if value.bytes().any(|b| b != b'0') => info.lineage.previous = value.into(),
                "second_repl_offset" => info.lineage.branch = value.parse().unwrap_or(-1),
                _ => {}
            }
        }
        (!info.lineage.id.is_empty()).then_some(info)
    }
}

/// What a probe learnt.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// ROLE, and INFO where the probe asked for it (always when the standing changed).
    Role { role: Role, info: Option<Box<Info>> },
    /// The node lives but cannot say more (-BUSY, -LOADING without details).
    Busy { loading: bool },
    /// The connection ended or could not be made, or the node refuses to talk to us.
    Lost(Error),
    /// What COMMAND lists, as many entries as COMMAND COUNT said.
    Commands { count: i64, entries: Vec<crate::command::Described> },
}

/// One message of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub node: crate::topology::NodeId,
    /// Which probe of this slot: a slot's earlier owner may still have had something to say.
    pub probe: u64,
    /// Taken just before the question was sent.
    pub asked: Instant,
    pub seen: Seen,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn slave(of: (&str, i64), link: &str, offset: i64) -> Reply {
        Reply::Array(vec![bulk("slave"), bulk(of.0), Reply::Integer(of.1), bulk(link), Reply::Integer(offset)])
    }

    #[test]
    fn roles() {
        let replica = Reply::Array(vec![bulk("127.0.0.1"), bulk("7001"), bulk("40")]);
        let master = Reply::Array(vec![bulk("master"), Reply::Integer(42), Reply::Array(vec![replica])]);
        assert_eq!(Role::parse(&master), Some(Role::Master { offset: 42, replicas: vec!["127.0.0.1:7001".into()] }));
        for (text, link) in [("connected", Link::Connected), ("sync", Link::Sync), ("connecting", Link::Down)] {
            let expected = Role::Replica { of: "[::1]:7000".into(), link, offset: -1 };
            assert_eq!(Role::parse(&slave(("::1", 7000), text, -1)), Some(expected));
        }
        let sentinel = Reply::Array(vec![bulk("sentinel"), Reply::Array(vec![bulk("mymaster")])]);
        assert_eq!(Role::parse(&sentinel), None);
        assert_eq!(Role::parse(&Reply::Nil), None);
    }

    #[test]
    fn tilt_is_a_field_of_its_own() {
        let info =
            |tilt: &str| format!("# Sentinel\r\nsentinel_masters:1\r\n{tilt}\r\nsentinel_tilt_since_seconds:1\r\n");
        for (tilt, expected) in [("sentinel_tilt:1", true), ("sentinel_tilt:0", false), ("sentinel_tilt:10", false)] {
            assert_eq!(is_tilted(&info(tilt)), expected, "{tilt}");
        }
    }

    #[test]
    fn a_changed_standing_asks_for_info() {
        let at = |of: &str, link, offset| Role::Replica { of: of.into(), link, offset };
        let master = |offset, n: usize| Role::Master { offset, replicas: vec!["r:1".into(); n] };
        let table = [
            ("offset grew", at("a:1", Link::Connected, 5), at("a:1", Link::Connected, 9), true),
            ("offset fell: another data set", at("a:1", Link::Connected, 9), at("a:1", Link::Connected, 5), false),
            ("re-pointed", at("a:1", Link::Connected, 5), at("b:1", Link::Connected, 5), false),
            ("link lost", at("a:1", Link::Connected, 5), at("a:1", Link::Down, -1), false),
            ("promoted", at("a:1", Link::Connected, 5), master(5, 0), false),
            ("master moves on", master(5, 1), master(9, 1), true),
            ("replica attached: a first one may bring a new replication id", master(5, 0), master(5, 1), false),
            ("master restarted", master(500, 1), master(0, 1), false),
        ];
        for (what, before, now, same) in table {
            assert_eq!(now.same_standing(&before), same, "{what}");
        }
    }

    #[test]
    fn info_of_a_promoted_node() {
        let replication =
            "# Replication\r\nrole:master\r\nmaster_replid:bbb\r\nmaster_replid2:aaa\r\nsecond_repl_offset:329\r\n";
        let server = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:r1\r\n";
        let info =
            Info::parse(&[replication, server, "loading:0\r\ndb0:keys=3,expires=0\r\ndb11:keys=4,expires=1\r\n"])
                .unwrap();
        assert_eq!(info.keys, 7);
        assert_eq!(info.lineage, Lineage { id: "bbb".into(), previous: "aaa".into(), branch: 329 });
        assert_eq!((info.run_id.as_str(), info.version.as_str(), info.says_master), ("r1", "9.1.2", true));
        let never =
            Info::parse(&["master_replid:b\r\nmaster_replid2:0000\r\nsecond_repl_offset:-1\r\nloading:1\r\n"]).unwrap();
        assert_eq!((never.lineage.previous.as_str(), never.lineage.branch, never.loading), ("", -1, true));
        let replica = Info::parse(&["master_replid:b\r\nslave_repl_offset:42\r\nslave_priority:0\r\n"]).unwrap();
        assert_eq!((replica.applied, replica.priority, info.priority), (Some(42), Some(0), None));
        assert_eq!(Info::parse(&["role:master\r\n"]), None);
    }
}
