//! A stage whose nodes reach each other through links: every node announces its link, and replicas and Sentinels use what is
//! announced, also after a failover. redweir, by an address map, and the tests go to the nodes directly.
//!
//! Must not touch what goes through the links by itself. Invariant: link `n` leads to node `n`, and no replica follows a node but
//! through its link.

use super::link::Link;
use super::{Plan, Proxy, Stage, call, settle, stage, wait};

/// The links come first: they are cut before the nodes end.
pub struct Linked {
    pub links: Vec<Link>,
    pub stage: Stage,
}

impl Linked {
    #[track_caller]
    pub fn start(plan: Plan, seed: u64) -> Linked {
        let mut stage = stage(Plan { sentinels: 0, ..plan.clone() });
        let link = |(n, node): (u64, &redweir::demo::node::Node)| Link::seeded(node.port, seed.wrapping_add(n));
        let links: Vec<Link> = (0..).zip(&stage.nodes).map(link).collect();
        for (n, (node, link)) in stage.nodes.iter().zip(&links).enumerate() {
            let mut node = node.connect().expect("a node");
            call(&mut node, &format!("CONFIG SET replica-announce-port {}", link.port));
            if n > 0 {
                call(&mut node, &format!("REPLICAOF 127.0.0.1 {}", links[0].port));
            }
            assert_eq!(call(&mut node, "CONFIG REWRITE").text(), "OK");
        }
        settle(&mut stage, 0);
        let mut linked = Linked { links, stage };
        for n in 1..=plan.replicas {
            linked.wait_announced(n);
        }
        for _ in 0..plan.sentinels {
            linked.stage.spawn_sentinel(linked.links[0].port).expect("a Sentinel");
        }
        linked.wait_sentinels(0);
        linked
    }

    /// Sentinel learns of replicas from the master's INFO, and asks for that again only after a while.
    fn wait_announced(&self, n: usize) {
        let wanted = format!("port={},state=online", self.links[n].port);
        wait("a replica's announcement", || {
            let text = call(&mut self.stage.nodes[0].connect().expect("the master"), "INFO replication").text();
            if text.contains(&wanted) { Ok(()) } else { Err(text) }
        });
    }

    /// Every Sentinel knows this node for the master, all replicas and its like, and none is in the middle of a failover: one that
    /// is may refuse the next for long, and is not told of a master that it takes for its own already.
    #[track_caller]
    pub fn wait_sentinels(&self, master: usize) {
        let port = self.links[master].port.to_string();
        let others = self.stage.sentinels.len().saturating_sub(1).to_string();
        let replicas = (self.stage.nodes.len() - 1).to_string();
        for sentinel in &self.stage.sentinels {
            wait("a Sentinel", || {
                let mut client = sentinel.connect().map_err(|e| e.to_string())?;
                let said = call(&mut client, &format!("SENTINEL MASTER {}", self.stage.plan.master_name));
                let field = |name: &str| {
                    let at = said.items().iter().step_by(2).position(|item| item.text() == name)?;
                    Some(said.items().get(at * 2 + 1)?.text())
                };
                let wanted = [
                    ("port", port.as_str()),
                    ("flags", "master"),
                    ("num-slaves", &replicas),
                    ("num-other-sentinels", &others),
                ];
                match wanted.iter().find(|(name, value)| field(name).as_deref() != Some(*value)) {
                    Some((name, value)) => Err(format!("{name} is {:?}, not {value}", field(name))),
                    None => Ok(()),
                }
            });
        }
    }

    /// redweir in front of it, ready.
    #[track_caller]
    pub fn proxy(&self, flags: &[&str]) -> Proxy {
        let nodes = self.stage.nodes.iter().zip(&self.links);
        let map: Vec<String> = nodes.map(|(node, link)| format!("{}={}", link.address(), node.address())).collect();
        let announced: Vec<String> = self.links.iter().map(Link::address).collect();
        let mut source = super::proxy::source(&self.stage);
        if self.stage.sentinels.is_empty() {
            source[1] = announced.join(",");
        }
        source.extend(["--address-map".to_owned(), map.join(",")]);
        let proxy = Proxy::start_unready(&source, flags);
        proxy.wait_ready();
        proxy.wait_readers(self.stage.nodes.len() - 1);
        proxy
    }

    /// The node whose link has this address.
    pub fn node_at(&self, announced: &str) -> Option<usize> {
        self.links.iter().position(|link| link.address() == announced)
    }
}
