//! What operators' scripts and hooks are told, in the words of Sentinel. Pure.
//!
//! Invariant: event, description and arguments are those of Sentinel's notification-script and client-reconfig-script
//! (sentinelEvent, sentinelCallClientReconfScript in sentinel.c), so that existing scripts need no change.

use serde_json::json;

use super::picture::Picture;
use crate::config::Notify;
use crate::topology::{NodeId, NodeState};

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `from` and `to` are `host:port`. `leader`: redweir itself promoted the new one.
    Switched {
        from: String,
        to: String,
        leader: bool,
    },
    Down(Instance),
    Up(Instance),
    /// The master's process restarted without the data it had.
    Emptied(Instance),
}

/// A node, and the master it belongs to, as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub node: String,
    pub master: String,
}

/// One way to tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Script { path: std::path::PathBuf, args: Vec<String> },
    Post { url: String, body: String },
}

impl Notice {
    fn event(&self) -> &'static str {
        match self {
            Notice::Switched { .. } => "+switch-master",
            Notice::Down(_) => "+sdown",
            Notice::Up(_) => "-sdown",
            Notice::Emptied(_) => "+reboot",
        }
    }

    fn description(&self, set: &str) -> String {
        match self {
            Notice::Switched { from, to, .. } => {
                let ((from, from_port), (to, to_port)) = (parts(from), parts(to));
                format!("{set} {from} {from_port} {to} {to_port}")
            }
            Notice::Down(instance) | Notice::Up(instance) | Notice::Emptied(instance) => instance.describe(set),
        }
    }

    /// Everything to be sent for this, by what is configured.
    pub fn messages(&self, set: &str, notify: &Notify) -> Vec<Message> {
        let mut messages = Vec::new();
        let (event, description) = (self.event(), self.description(set));
        if let Some(path) = &notify.script {
            messages.push(Message::Script { path: path.clone(), args: vec![event.into(), description.clone()] });
        }
        if let (Some(path), Notice::Switched { from, to, leader }) = (&notify.reconfig_script, self) {
            let ((from, from_port), (to, to_port)) = (parts(from), parts(to));
            let role = if *leader { "leader" } else { "observer" };
            let args = [set, role, "start", from, from_port, to, to_port].map(str::to_owned).to_vec();
            messages.push(Message::Script { path: path.clone(), args });
        }
        if let Some(url) = &notify.url {
            let mut body = json!({ "set": set, "event": event, "description": description });
            let more = match self {
                Notice::Switched { from, to, .. } => [("from", from), ("to", to)],
                Notice::Down(i) | Notice::Up(i) | Notice::Emptied(i) => [("node", &i.node), ("master", &i.master)],
            };
            for (key, value) in more {
                body[key] = json!(value);
            }
            messages.push(Message::Post { url: url.clone(), body: body.to_string() });
        }
        messages
    }
}

impl Instance {
    fn describe(&self, set: &str) -> String {
        let ((host, port), (master, master_port)) = (parts(&self.node), parts(&self.master));
        match self.node == self.master {
            true => format!("master {set} {host} {port}"),
            false => format!("slave {host}:{port} {host} {port} @ {set} {master} {master_port}"),
        }
    }
}

/// Host and port apart, as Sentinel gives them: an IPv6 address without its brackets.
fn parts(address: &str) -> (&str, &str) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// Who went down and who is back between two pictures. Nothing before there is a master: nobody was up before.
pub fn changes(before: &Picture, now: &Picture, reign: Option<NodeId>) -> Vec<Notice> {
    let Some(master) = reign.and_then(|id| now.portrait(id)) else { return Vec::new() };
    let change = |node: &super::picture::Portrait| {
        let was = before.portrait(node.id).filter(|old| old.address == node.address).map(|old| old.state);
        let instance = || Instance { node: node.address.to_string(), master: master.address.to_string() };
        match (was, node.state) {
            (Some(was), is) if was.is_down() && (is.is_down() || is == NodeState::Unknown) => None,
            (None, NodeState::Unknown) => None,
            (_, is) if is.is_down() => Some(Notice::Down(instance())),
            (Some(was), _) if was.is_down() => Some(Notice::Up(instance())),
            _ => None,
        }
    };
    now.nodes.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Notify {
        Notify {
            script: Some("/n".into()),
            reconfig_script: Some("/r".into()),
            url: Some("http://h/".into()),
            ..Notify::default()
        }
    }

    fn instance(node: &str) -> Instance {
        Instance { node: node.into(), master: "10.0.0.1:6379".into() }
    }

    #[test]
    fn scripts_get_the_arguments_that_sentinel_gives() {
        let switched = |leader| Notice::Switched { from: "10.0.0.1:6379".into(), to: "[::2]:6380".into(), leader };
        let table = [
            (Notice::Down(instance("10.0.0.1:6379")), "+sdown", "master m 10.0.0.1 6379"),
            (Notice::Up(instance("10.0.0.1:6379")), "-sdown", "master m 10.0.0.1 6379"),
            (Notice::Emptied(instance("10.0.0.1:6379")), "+reboot", "master m 10.0.0.1 6379"),
            (Notice::Down(instance("10.0.0.2:6379")), "+sdown", "slave 10.0.0.2:6379 10.0.0.2 6379 @ m 10.0.0.1 6379"),
            (switched(false), "+switch-master", "m 10.0.0.1 6379 ::2 6380"),
        ];
        let script = |path: &str, args: &[&str]| Message::Script {
            path: path.into(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
        };
        for (notice, event, description) in table {
            let messages = notice.messages("m", &all());
            assert_eq!(messages.first(), Some(&script("/n", &[event, description])));
            let reconfigures = matches!(notice, Notice::Switched { .. });
            assert_eq!(messages.len(), if reconfigures { 3 } else { 2 }, "{notice:?}");
        }
        for (leader, role) in [(false, "observer"), (true, "leader")] {
            let args = ["m", role, "start", "10.0.0.1", "6379", "::2", "6380"];
            assert_eq!(switched(leader).messages("m", &all()).get(1), Some(&script("/r", &args)));
        }
        assert!(switched(true).messages("m", &Notify::default()).is_empty());
    }

    #[test]
    fn a_hook_gets_the_same_as_json() {
        let only = Notify { url: Some("http://h/x".into()), ..Notify::default() };
        let [Message::Post { url, body }] = &Notice::Down(instance("10.0.0.2:6379")).messages("m", &only)[..] else {
            panic!("one POST");
        };
        let expected = json!({
            "set": "m", "event": "+sdown", "node": "10.0.0.2:6379", "master": "10.0.0.1:6379",
            "description": "slave 10.0.0.2:6379 10.0.0.2 6379 @ m 10.0.0.1 6379",
        });
        assert_eq!((url.as_str(), serde_json::from_str::<serde_json::Value>(body).unwrap()), ("http://h/x", expected));
    }
}
