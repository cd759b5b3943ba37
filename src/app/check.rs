//! `redweir check`: what stands behind the addresses of a configuration that is valid by itself.
//!
//! Asks only, changes nothing. Invariant: one line per address, one for what no single one can tell, and failure if redweir could
//! not serve with what is there now.

use std::net::SocketAddr;

use crate::app::{Fatal, fit};
use crate::command::Rules;
use crate::config::{Config, Login, SetConfig, Source};
use crate::upstream::control::{Client, Error, Reply};

/// What was found in one set.
#[derive(Default)]
struct Findings {
    lines: Vec<String>,
    masters: Vec<String>,
    /// Replicas, each with whom it follows.
    replicas: Vec<(String, String)>,
    faults: usize,
    warnings: usize,
}

/// Asks every address of every set and prints what it finds.
///
/// # Errors
/// A set without exactly one master, an address that cannot be used, Sentinels that could not fail over, rules for commands
/// that cannot hold.
pub fn check(config: Config) -> Result<(), Fatal> {
    fit(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fatal::new)?;
    let (mut unfit, mut warnings) = (Vec::new(), 0);
    for set in &config.sets {
        let found = runtime.block_on(survey(set));
        println!("set {}:", set.name);
        found.lines.iter().for_each(|line| println!("  {line}"));
        warnings += found.warnings;
        if found.masters.len() != 1 || found.faults > 0 {
            unfit.push(format!("set {}: {} master(s), {} fault(s)", set.name, found.masters.len(), found.faults));
        }
    }
    for listener in &config.listeners {
        let set = config.sets.get(listener.set).map_or("?", |set| &set.name);
        println!("listener {}: set {set}, reads {:?} by {:?}", listener.bind, listener.read_policy, listener.balancer);
        for remark in Rules::new(&listener.commands).remarks() {
            println!("  warning: {remark}");
            warnings += 1;
        }
    }
    if unfit.is_empty() {
        match warnings {
            0 => println!("all is well"),
            _ => println!("it can be served, with {warnings} warning(s); see the lines above"),
        }
        return Ok(());
    }
    Err(Fatal(format!("{}; see the lines above", unfit.join("; "))))
}

async fn survey(set: &SetConfig) -> Findings {
    let mut found = Findings::default();
    let mut nodes = Vec::new();
    match &set.source {
        Source::Nodes(listed) => nodes.clone_from(listed),
        Source::Sentinel { sentinels, master_name, login } => {
            for sentinel in sentinels {
                match ask_sentinel(sentinel, master_name, login.as_ref(), set).await {
                    Ok((line, lacks_quorum, named)) => {
                        found.lines.push(format!("sentinel {sentinel}: {line}"));
                        found.faults += usize::from(lacks_quorum);
                        nodes.extend(named.into_iter().filter(|n| !nodes.contains(n)).collect::<Vec<_>>());
                    }
                    Err(error) => found.fault(format!("sentinel {sentinel}: {}", advice(&error, Some(master_name)))),
                }
            }
        }
    }
    let mut index = 0;
    while let Some(node) = nodes.get(index).cloned().or_else(|| found.leads_to(&nodes)) {
        if index == nodes.len() {
            nodes.push(node.clone());
        }
        index += 1;
        match ask_node(&node, set).await {
            Ok(Told { line, master, replicas, remarks }) => {
                found.lines.push(format!("node {node}: {line}"));
                remarks.iter().for_each(|remark| found.warn(&node, remark));
                match master {
                    None => found.masters.push(node),
                    Some(master) => found.replicas.push((node, master)),
                }
                nodes.extend(replicas.into_iter().filter(|n| !nodes.contains(n)).collect::<Vec<_>>());
            }
            Err(error) => found.fault(format!("node {node}: {}", advice(&error, None))),
        }
    }
    found.judge(&nodes, set).await;
    found
}

impl Findings {
    fn fault(&mut self, line: String) {
        self.lines.push(line);
        self.faults += 1;
    }

    fn warn(&mut self, node: &str, remark: &str) {
        self.lines.push(format!("node {node}: warning: {remark}"));
        self.warnings += 1;
    }

    /// Whom a replica follows that was not asked yet, where no master is listed: redweir finds it so, too.
    fn leads_to(&self, asked: &[String]) -> Option<String> {
        let mut followed = self.replicas.iter().map(|(_, master)| master);
        followed.find(|master| self.masters.is_empty() && !asked.contains(master)).cloned()
    }

    /// What no single node can tell. `nodes`: all that were asked.
    async fn judge(&mut self, nodes: &[String], set: &SetConfig) {
        match self.masters.as_slice() {
            [_] => {}
            [] if self.faults > 0 => self.lines.push("none of the nodes that answered says master: see the faults".into()),
            [] => self.lines.push(
                "no node says master: check the addresses; if the master is lost, promote a replica (REPLICAOF NO ONE)".into(),
            ),
            several => self.lines.push(format!(
                "several masters: {}; if they are not one under several names, take out what belongs to another set, or make all but one replicas of it (REPLICAOF)",
                several.join(", ")
            )),
        }
        for (node, master) in std::mem::take(&mut self.replicas) {
            if !is_among(&master, nodes, set).await {
                let remark = format!(
                    "it follows {master}, which is none of this set's nodes by that name; if it is another's, make it a replica of this master (REPLICAOF) or take it out"
                );
                self.warn(&node, &remark);
            }
        }
    }
}

/// Whether a node is one of `nodes`, perhaps by another name.
async fn is_among(node: &str, nodes: &[String], set: &SetConfig) -> bool {
    if nodes.iter().any(|other| other == node) {
        return true;
    }
    let here = places(node, set).await;
    for other in nodes {
        if places(other, set).await.iter().any(|place| here.contains(place)) {
            return true;
        }
    }
    false
}

/// Where a node is reached: by itself, or as mapped.
async fn places(node: &str, set: &SetConfig) -> Vec<SocketAddr> {
    let found = tokio::net::lookup_host(dialled(node, set)).await;
    found.map(Iterator::collect).unwrap_or_default()
}

/// What to dial for `node`.
fn dialled<'a>(node: &'a str, set: &'a SetConfig) -> &'a str {
    set.address_map.iter().find(|(announced, _)| announced == node).map_or(node, |(_, dial)| dial)
}

/// What one Sentinel says of the set, whether it lacks a quorum, and the nodes it names.
async fn ask_sentinel(
    address: &str,
    name: &str,
    login: Option<&Login>,
    set: &SetConfig,
) -> Result<(String, bool, Vec<String>), Error> {
    let mut client = Client::connect(address, login, set.connect_timeout).await?;
    let master = client.call(&[&b"SENTINEL"[..], b"MASTER", name.as_bytes()]).await?;
    let replicas = client.call(&[&b"SENTINEL"[..], b"REPLICAS", name.as_bytes()]).await?;
    let quorum = match client.call(&[&b"SENTINEL"[..], b"CKQUORUM", name.as_bytes()]).await {
        Ok(reply) => reply.text().unwrap_or_default().to_owned(),
        Err(Error::Server(text)) => text,
        Err(error) => return Err(error),
    };
    let lacks_quorum = quorum.starts_with("NOQUORUM");
    let quorum = match lacks_quorum {
        true => format!("it could not fail over: {quorum}; check that enough Sentinels run and reach each other"),
        false => quorum,
    };
    let field = |reply: &Reply, key: &str| reply.field(key).and_then(Reply::text).unwrap_or("?").to_owned();
    let place = |reply: &Reply| format!("{}:{}", field(reply, "ip"), field(reply, "port"));
    let line = format!(
        "master {name} is {}, config-epoch {}, {} replica(s), {quorum}",
        place(&master),
        field(&master, "config-epoch"),
        replicas.items().len()
    );
    let named = std::iter::once(&master).chain(replicas.items()).map(place).collect();
    Ok((line, lacks_quorum, named))
}

/// What one node says of itself.
#[derive(Default)]
struct Told {
    line: String,
    /// Whom it follows; a master nobody.
    master: Option<String>,
    /// Whom it names.
    replicas: Vec<String>,
    /// What the operator should change.
    remarks: Vec<String>,
}

async fn ask_node(address: &str, set: &SetConfig) -> Result<Told, Error> {
    let mut client = Client::connect(dialled(address, set), set.node_login.as_ref(), set.connect_timeout).await?;
    let role = client.call(&[&b"ROLE"[..]]).await?;
    match role.items() {
        [kind, offset, replicas, ..] if kind.text() == Some("master") => {
            let place = |r: &Reply| match r.items() {
                [host, port, ..] => Some(format!("{}:{}", host.text()?, port.text()?)),
                _ => None,
            };
            let replicas: Vec<String> = replicas.items().iter().filter_map(place).collect();
            let offset = offset.integer().unwrap_or(-1);
            let line = format!("master at offset {offset}, {} replica(s) linked", replicas.len());
            Ok(Told { line, replicas, ..Told::default() })
        }
        [kind, host, port, link, offset, ..] if kind.text() == Some("slave") => {
            let of = format!("{}:{}", host.text().unwrap_or("?"), port.integer().unwrap_or(0));
            let link = link.text().unwrap_or("?");
            let offset = offset.integer().unwrap_or(-1);
            let line = format!("replica of {of}, {link} at offset {offset}");
            let mut remarks: Vec<String> = unequal(&mut client).await.into_iter().map(str::to_owned).collect();
            match link {
                "connected" => {}
                "sync" => remarks.push(format!("it is loading from {of} (sync): it is not taken into the rotation before it has all")),
                _ => remarks.push(format!(
                    "its link to {of} is not up ({link}): it is not taken into the rotation while so; check masterauth, and that it reaches its master"
                )),
            }
            Ok(Told { line, master: Some(of), remarks, ..Told::default() })
        }
        _ => Err(Error::Server("not a master or replica; list data nodes here and Sentinels under sentinel".into())),
    }
}

/// Settings by which a replica that has applied everything may still answer otherwise than its master (offsets.md section 3).
/// Nothing is said where redweir may not ask.
async fn unequal(client: &mut Client) -> Vec<&'static str> {
    let settings = [
        ("replica-read-only", "replica-read-only is no: it takes writes that its master never sees; set it to yes"),
        (
            "replica-ignore-maxmemory",
            "replica-ignore-maxmemory is no: it evicts keys that its master still has; set it to yes",
        ),
    ];
    let mut remarks = Vec::new();
    for (name, remark) in settings {
        let value = client.call(&[&b"CONFIG"[..], b"GET", name.as_bytes()]).await;
        if value.is_ok_and(|reply| reply.field(name).and_then(Reply::text) == Some("no")) {
            remarks.push(remark);
        }
    }
    remarks
}

/// An error with what to do about it. `master_name`: what a Sentinel was asked for; a node for nothing.
fn advice(error: &Error, master_name: Option<&str>) -> String {
    match (error, master_name) {
        (Error::Refused, _) => "nobody listens there; check the address, or start the server".into(),
        (Error::Timeout, _) => "no answer; check the address and the firewall, or raise connect-timeout".into(),
        (Error::Auth(text), _) => format!("{text}; set node-username/node-password (sentinel-... for a Sentinel)"),
        (Error::Server(text), Some(name)) if text.contains("No such master") => {
            format!("it knows no master '{name}'; check master-name (redis-cli SENTINEL MASTERS lists them)")
        }
        (Error::Server(text), Some(_)) => format!(
            "it does not answer as a Sentinel ({text}); list Sentinels under sentinel and data nodes under node, and let its login run SENTINEL"
        ),
        (other, _) => other.to_string(),
    }
}
