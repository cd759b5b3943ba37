//! What a Sentinel publishes, as values. Pure: a payload that is not understood is no event.

use super::seen::address;

/// An event about one watched master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `+switch-master`.
    Switched { from: String, to: String },
    /// A failover of the master at `master` goes on: from `+try-failover` to `+promoted-slave`. `chosen` is the replica.
    Failover { master: String, chosen: Option<String> },
    /// `-failover-abort-*`, `+reset-master`: the master at `master` stays.
    Aborted { master: String },
    /// `+failover-end*`.
    Ended { master: String },
    /// `+tilt`: the Sentinel distrusts its clock, and takes no further step of any failover until `-tilt`, 30 s later at least.
    Tilt { begins: bool },
    /// `+sdown`, `+odown`, `-sdown`, `-odown`, `+reboot`, `+role-change` ... of the node at `node`: look at it.
    Doubt { node: String },
    /// A node or Sentinel came, or the Sentinel's configuration of this master changed: ask again.
    Changed,
}

/// The instance a payload is about: `<kind> <name> <ip> <port> [@ <master> <ip> <port>] [more]`.
struct Instance {
    is_sentinel: bool,
    address: String,
    master_name: String,
    master: String,
}

impl Instance {
    fn parse(payload: &str) -> Option<Instance> {
        let words: Vec<&str> = payload.split(' ').collect();
        match *words.as_slice() {
            ["master", name, ip, port, ..] => {
                let address = address(ip, port);
                Some(Instance { is_sentinel: false, master: address.clone(), address, master_name: name.into() })
            }
            [kind @ ("slave" | "sentinel"), _, ip, port, "@", name, master_ip, master_port, ..] => Some(Instance {
                is_sentinel: kind == "sentinel",
                address: address(ip, port),
                master_name: name.into(),
                master: address(master_ip, master_port),
            }),
            _ => None,
        }
    }
}

/// The event in a message, when it concerns the master named `master_name` or the Sentinel itself.
pub fn parse(channel: &str, payload: &str, master_name: &str) -> Option<Event> {
    if channel == "+switch-master" {
        let words: Vec<&str> = payload.split(' ').collect();
        return match *words.as_slice() {
            [name, from, from_port, to, to_port] if name == master_name => {
                Some(Event::Switched { from: address(from, from_port), to: address(to, to_port) })
            }
            _ => None,
        };
    }
    if let "+tilt" | "-tilt" = channel {
        return Some(Event::Tilt { begins: channel == "+tilt" });
    }
    let about = Instance::parse(payload).filter(|i| i.master_name == master_name)?;
    Some(match channel {
        "+try-failover" | "+elected-leader" | "+failover-state-select-slave" => {
            Event::Failover { master: about.master, chosen: None }
        }
        "+selected-slave"
        | "+failover-state-send-slaveof-noone"
        | "+failover-state-wait-promotion"
        | "+promoted-slave" => Event::Failover { master: about.master, chosen: Some(about.address) },
        "-failover-abort-not-elected"
        | "-failover-abort-no-good-slave"
        | "-failover-abort-slave-timeout"
        // SENTINEL RESET forgets the failover with everything else.
        | "+reset-master" => {
            Event::Aborted { master: about.master }
        }
        "+failover-end" | "+failover-end-for-timeout" => Event::Ended { master: about.master },
        "+sdown" | "-sdown" | "+odown" | "-odown" | "+reboot" | "+role-change" | "-role-change"
        | "+convert-to-slave" | "+fix-slave-config"
            if !about.is_sentinel =>
        {
            Event::Doubt { node: about.address }
        }
        _ => Event::Changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        let replica = "slave 127.0.0.1:7001 127.0.0.1 7001 @ m 127.0.0.1 7000";
        let failover = |chosen: Option<&str>| {
            Some(Event::Failover { master: "127.0.0.1:7000".into(), chosen: chosen.map(str::to_owned) })
        };
        let doubt = |node: &str| Some(Event::Doubt { node: node.into() });
        let table = [
            (
                "+switch-master",
                "m 127.0.0.1 7000 ::1 7001",
                Some(Event::Switched { from: "127.0.0.1:7000".into(), to: "[::1]:7001".into() }),
            ),
            ("+switch-master", "other 127.0.0.1 7000 127.0.0.1 7001", None),
            ("+try-failover", "master m 127.0.0.1 7000", failover(None)),
            ("+try-failover", "master other 127.0.0.1 7000", None),
            ("+selected-slave", replica, failover(Some("127.0.0.1:7001"))),
            ("+failover-state-send-slaveof-noone", replica, failover(Some("127.0.0.1:7001"))),
            ("+promoted-slave", replica, failover(Some("127.0.0.1:7001"))),
            (
                "-failover-abort-not-elected",
                "master m 127.0.0.1 7000",
                Some(Event::Aborted { master: "127.0.0.1:7000".into() }),
            ),
            ("+reset-master", "master m 127.0.0.1 7000", Some(Event::Aborted { master: "127.0.0.1:7000".into() })),
            ("+failover-end", "master m 127.0.0.1 7000", Some(Event::Ended { master: "127.0.0.1:7000".into() })),
            ("+odown", "master m 127.0.0.1 7000 #quorum 2/2", doubt("127.0.0.1:7000")),
            ("-role-change", &format!("{replica} new reported role is master"), doubt("127.0.0.1:7001")),
            ("+sdown", "sentinel abc 127.0.0.1 26380 @ m 127.0.0.1 7000", Some(Event::Changed)),
            ("+slave", replica, Some(Event::Changed)),
            ("+vote-for-leader", "abc 5", None),
            ("+new-epoch", "5", None),
            ("+tilt", "#tilt mode entered", Some(Event::Tilt { begins: true })),
            ("-tilt", "#tilt mode exited", Some(Event::Tilt { begins: false })),
            ("+switch-master", "m 127.0.0.1 7000", None),
            ("+try-failover", "", None),
        ];
        for (channel, payload, event) in table {
            assert_eq!(parse(channel, payload, "m"), event, "{channel} {payload}");
        }
    }
}
