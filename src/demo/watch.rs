//! What redweir says of the world (`/topology`) and of its own traffic (`/metrics`), as figures for the screen.
//!
//! Parsing and differences are pure. Must not start or stop anything. Invariant: a rate is a difference of two counters of the same
//! node over the time between them; a counter that went back (redweir restarted) gives no rate.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Rates are taken over this many looks.
const WINDOW: usize = 5;
/// Lines of history kept.
const EVENTS: usize = 100;

/// One node, as redweir sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub address: String,
    pub state: String,
    pub in_rotation: bool,
    /// `None` for the master, and for a node that does not say.
    pub lag: Option<Lag>,
    pub reads_per_second: f64,
    pub writes_per_second: f64,
}

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lag {
    pub bytes: u64,
    pub time: Duration,
}

/// The set, as redweir sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    pub master: Option<String>,
    pub term: u64,
    pub writes_open: bool,
    pub nodes: Vec<Seen>,
}

/// Requests sent to each node: reads, writes.
type Traffic = BTreeMap<String, (u64, u64)>;

/// The latest picture and what led to it.
pub struct Watch {
    began: Instant,
    pub world: World,
    /// Time since the start, and what happened then.
    pub events: VecDeque<(Duration, String)>,
    /// Masters that replaced another one.
    pub failovers: u32,
    last_master: Option<String>,
    traffic: VecDeque<(Instant, Traffic)>,
}

impl Watch {
    pub fn new() -> Watch {
        Watch {
            began: Instant::now(),
            world: World::default(),
            events: VecDeque::new(),
            failovers: 0,
            last_master: None,
            traffic: VecDeque::new(),
        }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn note(&mut self, text: String) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((self.elapsed(), text));
    }

    /// Takes in the bodies of `/topology` and `/metrics`.
    pub fn look(&mut self, topology: &str, metrics: &str) {
        let Some(mut world) = parse_world(topology) else { return };
        let now = Instant::now();
        let traffic = parse_traffic(metrics);
        if let Some((then, before)) = self.traffic.front() {
            for node in &mut world.nodes {
                let (reads, writes) = rates(&node.address, before, &traffic, now - *then);
                node.reads_per_second = reads;
                node.writes_per_second = writes;
            }
        }
        self.traffic.push_back((now, traffic));
        if self.traffic.len() > WINDOW {
            self.traffic.pop_front();
        }
        for text in changes(&self.world, &world) {
            self.note(text);
        }
        if let Some(master) = &world.master {
            if self.last_master.as_ref().is_some_and(|last| last != master) {
                self.failovers += 1;
                self.note(format!("FAILOVER {}: {master} is the master now (term {})", self.failovers, world.term));
            }
            self.last_master = Some(master.clone());
        }
        self.world = world;
    }
}

/// Reads and writes a second of one node between two counts.
fn rates(address: &str, before: &Traffic, after: &Traffic, time: Duration) -> (f64, f64) {
    let of = |traffic: &Traffic| traffic.get(address).copied().unwrap_or_default();
    let ((r0, w0), (r1, w1)) = (of(before), of(after));
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / time.as_secs_f64().max(0.001);
    (rate(r0, r1), rate(w0, w1))
}

/// What an onlooker would say had happened between two pictures; the change of master is told apart.
fn changes(before: &World, after: &World) -> Vec<String> {
    let mut found = Vec::new();
    for node in &after.nodes {
        match before.nodes.iter().find(|n| n.address == node.address) {
            Some(old) if old.state != node.state => {
                found.push(format!("{}: {} -> {}", node.address, old.state, node.state));
            }
            None if !before.nodes.is_empty() => found.push(format!("{}: new, {}", node.address, node.state)),
            _ => {}
        }
    }
    match (before.writes_open, after.writes_open) {
        (true, false) => found.push("no verified master: writes are held".to_owned()),
        (false, true) if !before.nodes.is_empty() => found.push("writes go on".to_owned()),
        _ => {}
    }
    found
}

/// The first set of `/topology`.
fn parse_world(text: &str) -> Option<World> {
    let json: Value = serde_json::from_str(text).ok()?;
    let set = json.get("sets")?.get(0)?;
    // Under Sentinel a set is one shard.
    let shard = set.get("shards").and_then(|s| s.get(0)).unwrap_or(set);
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let nodes = set.get("nodes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let node = |node: &Value| Seen {
        address: word(node, "address"),
        state: word(node, "state"),
        in_rotation: node.get("in_rotation").and_then(Value::as_bool).unwrap_or_default(),
        lag: lag(node),
        ..Seen::default()
    };
    let mut nodes: Vec<Seen> = nodes.iter().map(node).collect();
    nodes.sort_by(|a, b| a.address.cmp(&b.address));
    Some(World {
        master: shard.get("master").and_then(Value::as_str).map(str::to_owned),
        term: shard.get("term").and_then(Value::as_u64).unwrap_or_default(),
        writes_open: word(shard, "writes") == "open",
        nodes,
    })
}

fn lag(node: &Value) -> Option<Lag> {
    if !matches!(node.get("state").and_then(Value::as_str), Some("replica" | "lagging" | "unlinked")) {
        return None;
    }
    let bytes = node.get("lag_bytes").and_then(Value::as_u64)?;
    let seconds = node.get("lag_seconds").and_then(Value::as_f64).unwrap_or_default();
    Some(Lag { bytes, time: Duration::try_from_secs_f64(seconds).unwrap_or_default() })
}

/// The samples of the family that counts requests by node; it is known by its end, its full name is the metrics' own.
fn parse_traffic(text: &str) -> Traffic {
    let mut traffic = Traffic::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let Some((_, sample)) = line.split_once("_requests_total{") else { continue };
        let Some((labels, count)) = sample.rsplit_once("} ") else { continue };
        let (Some(node), Some(kind), Ok(count)) = (label(labels, "node"), label(labels, "kind"), count.parse::<f64>())
        else {
            continue;
        };
        let entry = traffic.entry(node.to_owned()).or_default();
        match kind {
            "read" | "master_read" => entry.0 += count as u64,
            _ => entry.1 += count as u64,
        }
    }
    traffic
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = labels.match_indices(name).find(|(at, _)| {
        let before = &labels[..*at];
        (before.is_empty() || before.ends_with(',')) && labels[at + name.len()..].starts_with("=\"")
    })?;
    labels[at.0 + name.len() + 2..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPOLOGY: &str = r#"{"version":"1","sets":[{"name":"m","epoch":7,
        "shards":[{"slots":"0-16383","term":2,"master":"a:1","writes":"open"}],
        "nodes":[{"address":"a:1","state":"master","in_rotation":true,"lag_bytes":null,"lag_seconds":null},
                 {"address":"a:2","state":"replica","in_rotation":true,"lag_bytes":30,"lag_seconds":0.25}]}]}"#;

    #[test]
    fn the_world_is_read_from_topology() {
        let world = parse_world(TOPOLOGY).unwrap();
        assert_eq!((world.master.as_deref(), world.term, world.writes_open), (Some("a:1"), 2, true));
        let lag = Lag { bytes: 30, time: Duration::from_millis(250) };
        assert_eq!((world.nodes[0].lag, world.nodes[1].lag, world.nodes[1].in_rotation), (None, Some(lag), true));
        assert_eq!(parse_world("{}"), None);
    }

    #[test]
    fn traffic_is_summed_by_node_over_reasons_and_listeners() {
        let text = "# TYPE x_requests_total counter\n\
            x_requests_total{set=\"m\",node=\"a:1\",kind=\"read\",reason=\"replica\"} 5\n\
            x_requests_total{set=\"m\",node=\"a:1\",kind=\"master_read\",reason=\"master\"} 2\n\
            x_requests_total{set=\"m\",node=\"a:1\",kind=\"write\",reason=\"master\"} 3\n\
            x_requests_total{node=\"a:2\",kind=\"script\"} 1\n\
            x_other_total{node=\"a:2\",kind=\"read\"} 9\n";
        let expected = Traffic::from([("a:1".into(), (7, 3)), ("a:2".into(), (0, 1))]);
        assert_eq!(parse_traffic(text), expected);
    }

    #[test]
    fn a_rate_is_a_difference_over_time_and_never_negative() {
        let before = Traffic::from([("a".into(), (10, 4))]);
        let after = Traffic::from([("a".into(), (30, 2)), ("b".into(), (6, 0))]);
        assert_eq!(rates("a", &before, &after, Duration::from_secs(2)), (10.0, 0.0));
        assert_eq!(rates("b", &before, &after, Duration::from_secs(2)), (3.0, 0.0));
    }

    #[test]
    fn a_failover_is_counted_once_and_a_first_master_is_none() {
        let mut watch = Watch::new();
        watch.look(TOPOLOGY, "");
        assert_eq!((watch.failovers, watch.events.len()), (0, 0));
        let held = TOPOLOGY.replace("\"open\"", "\"held\"").replace("\"master\":\"a:1\"", "\"master\":null");
        watch.look(&held, "");
        let next = TOPOLOGY.replace("\"master\":\"a:1\"", "\"master\":\"a:2\"");
        watch.look(&next, "");
        watch.look(&next, "");
        assert_eq!(watch.failovers, 1);
        let texts: Vec<&str> = watch.events.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[2].starts_with("FAILOVER 1: a:2"), "{texts:?}");
    }
}
