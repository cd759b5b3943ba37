//! Knows every worker's cells and writes the metrics page at scrape time.
//!
//! The page is computed from the cells and the snapshot, not mirrored into the recorder: its histograms would keep every
//! raw sample, and its series could not leave with their node. Must not be touched by the data path after start.
//! Invariant: one recorder per process, however many registries there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::cells::{Cell, Cells, Histogram, Kind, Queue, Reason};
use super::events;
use super::exposition::Page;
use super::families::{self as f, Family};
use super::gauges::{NodeGauges, SetGauges, ShardGauges};
use super::tenants::{Row, Tenants};

/// All that can be scraped of this process.
pub struct Registry {
    events: PrometheusHandle,
    workers: usize,
    started: SystemTime,
    lines: Mutex<Vec<Line>>,
}

/// One listener of one set, as all workers count it.
struct Line {
    set: String,
    listener: String,
    workers: Vec<(String, Arc<Cells>)>,
    tenants: Tenants,
}

impl Line {
    /// The sum of one number over all workers. Wraps as the cells do: a scrape must not fail over a miscount.
    fn total(&self, number: impl Fn(&Cells) -> u64) -> u64 {
        self.workers.iter().fold(0, |sum, (_, cells)| sum.wrapping_add(number(cells)))
    }
}

/// The recorder behind [`events`]; the `metrics` crate takes one per process.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

fn recorder() -> Result<PrometheusHandle, BuildError> {
    let mut installed = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new();
    let buckets = Matcher::Full(f::FAILOVER_SECONDS.name.to_owned());
    let handle = builder.set_buckets_for_metric(buckets, f::FAILOVER_BOUNDS)?.install_recorder()?;
    f::describe();
    Ok(installed.insert(handle).clone())
}

impl Registry {
    /// Installs the process's recorder, unless another registry did. Fails when something else has installed one.
    pub fn new(workers: usize) -> Result<Self, BuildError> {
        Ok(Self { events: recorder()?, workers, started: SystemTime::now(), lines: Mutex::default() })
    }

    /// When the process, or rather this registry, started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Version of redweir.
    pub const fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Data-plane threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Shows the cells of `worker` for `listener` (its bound address), which serves `set`.
    pub fn register(&self, set: &str, listener: &str, worker: usize, cells: Arc<Cells>) {
        events::introduce(set);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = (worker.to_string(), cells);
        match lines.iter_mut().find(|line| line.set == set && line.listener == listener) {
            Some(line) => line.workers.push(worker),
            None => lines.push(Line {
                set: set.to_owned(),
                listener: listener.to_owned(),
                workers: vec![worker],
                tenants: Tenants::default(),
            }),
        }
    }

    /// What waits for the master of a set.
    pub fn queue(&self, set: &str) -> Queue {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of_set = lines.iter().filter(|line| line.set == set);
        Queue::of(of_set.flat_map(|line| line.workers.iter().map(|(_, cells)| &**cells)))
    }

    /// The whole page, in the Prometheus text format.
    pub fn render(&self, sets: &[SetGauges]) -> String {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::with_capacity(16 * 1024);
        self.process(&mut page);
        for set in sets {
            events::introduce(&set.set);
        }
        shards(&mut page, sets);
        nodes(&mut page, sets);
        requests(&mut page, &mut lines, sets);
        counts(&mut page, &lines);
        now(&mut page, &lines);
        latencies(&mut page, &f::REQUEST_SECONDS, &lines, |cells| &cells.request);
        latencies(&mut page, &f::UPSTREAM_SECONDS, &lines, |cells| &cells.upstream);
        latencies(&mut page, &f::ACKS_SECONDS, &lines, |cells| &cells.acks_wait);
        let mut page = page.finish();
        // The exporter parts its families by empty lines, which the format allows.
        page.push_str(&self.events.render());
        page
    }

    fn process(&self, page: &mut Page) {
        page.family(&f::BUILD_INFO);
        page.sample(&f::BUILD_INFO, &[("version", self.version())], 1);
        page.family(&f::START_TIME);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.sample(&f::START_TIME, &[], started.as_secs_f64());
        page.family(&f::WORKERS);
        page.sample(&f::WORKERS, &[], self.workers);
    }
}

fn shards(page: &mut Page, sets: &[SetGauges]) {
    page.family(&f::EPOCH);
    for set in sets {
        page.sample(&f::EPOCH, &[("set", &set.set)], set.epoch);
    }
    type Figure = fn(&ShardGauges) -> u64;
    let figures: [(Family, Figure); 4] = [
        (f::TERM, |shard| shard.term),
        (f::WRITES_OPEN, |shard| shard.writes_open.into()),
        (f::READERS, |shard| shard.readers as u64),
        (f::READERS_LAGGING, |shard| shard.lagging as u64),
    ];
    for (family, figure) in &figures {
        page.family(family);
        for set in sets {
            for shard in &set.shards {
                page.sample(family, &[("set", &set.set), ("slots", &shard.slots)], figure(shard));
            }
        }
    }
    page.family(&f::WRITES_HELD);
    for set in sets {
        for (shard, why) in set.shards.iter().filter_map(|shard| Some((shard, shard.held_for?))) {
            page.sample(&f::WRITES_HELD, &[("set", &set.set), ("slots", &shard.slots), ("reason", why)], 1);
        }
    }
}

fn nodes(page: &mut Page, sets: &[SetGauges]) {
    type Text = fn(&NodeGauges) -> (&'static str, &str);
    let texts: [(Family, Text); 3] = [
        (f::NODE_ROLE, |node| ("role", node.role)),
        (f::NODE_STATE, |node| ("state", node.state)),
        (f::NODE_INFO, |node| ("version", &node.version)),
    ];
    for (family, text) in &texts {
        page.family(family);
        for (set, node) in each(sets) {
            page.sample(family, &[("set", &set.set), ("node", &node.address), text(node)], 1);
        }
    }
    // What is not known is not shown: a wrong zero would look like "no lag".
    type Figure = fn(&NodeGauges) -> Option<f64>;
    let figures: [(Family, Figure); 5] = [
        (f::NODE_UP, |node| Some(f64::from(u8::from(node.up)))),
        (f::NODE_IN_ROTATION, |node| Some(f64::from(u8::from(node.in_rotation)))),
        (f::NODE_OFFSET, |node| node.offset.map(|n| n as f64)),
        (f::NODE_LAG_BYTES, |node| node.lag_bytes.map(|n| n as f64)),
        (f::NODE_LAG_SECONDS, |node| node.lag_seconds),
    ];
    for (family, figure) in &figures {
        page.family(family);
        for (set, node) in each(sets) {
            if let Some(value) = figure(node) {
                page.sample(family, &[("set", &set.set), ("node", &node.address)], value);
            }
        }
    }
}

fn each(sets: &[SetGauges]) -> impl Iterator<Item = (&SetGauges, &NodeGauges)> {
    sets.iter().flat_map(|set| set.nodes.iter().map(move |node| (set, node)))
}

/// Requests by node, kind and reason. Combinations that never happened are left out: most of 45 a node never do.
fn requests(page: &mut Page, lines: &mut [Line], sets: &[SetGauges]) {
    page.family(&f::REQUESTS);
    for line in lines {
        for (_, node) in each(sets).filter(|(set, _)| set.set == line.set) {
            let mut now = Row::default();
            for (k, kind) in Kind::ALL.iter().enumerate() {
                for (r, reason) in Reason::ALL.iter().enumerate() {
                    now[k][r] = line.total(|cells| cells.get_routed(node.slot, *kind, *reason));
                }
            }
            let own = line.tenants.own(node.slot, &node.address, now);
            for (kind, row) in Kind::ALL.iter().zip(&own) {
                for (reason, n) in Reason::ALL.iter().zip(row).filter(|(_, n)| **n > 0) {
                    let labels = [
                        ("set", line.set.as_str()),
                        ("listener", &line.listener),
                        ("node", &node.address),
                        ("kind", kind.label()),
                        ("reason", reason.label()),
                    ];
                    page.sample(&f::REQUESTS, &labels, n);
                }
            }
        }
    }
}

fn counts(page: &mut Page, lines: &[Line]) {
    for counted in f::COUNTED {
        page.family(&counted.family);
        for line in lines {
            for (label, count) in counted.samples {
                let total = line.total(|cells| cells.get(*count));
                let mut labels = vec![("set", line.set.as_str()), ("listener", line.listener.as_str())];
                labels.extend(*label);
                page.sample(&counted.family, &labels, total);
            }
        }
    }
}

/// What is open or waiting at this moment.
fn now(page: &mut Page, lines: &[Line]) {
    page.family(&f::SESSIONS);
    for line in lines {
        for (worker, cells) in &line.workers {
            let labels = [("set", line.set.as_str()), ("listener", &line.listener), ("worker", worker)];
            page.sample(&f::SESSIONS, &labels, cells.sessions.get());
        }
    }
    page.family(&f::HOLDING_SECONDS);
    for line in lines {
        let queue = Queue::of(line.workers.iter().map(|(_, cells)| &**cells));
        page.sample(&f::HOLDING_SECONDS, &[("set", &line.set), ("listener", &line.listener)], queue.oldest_seconds);
    }
    type Figure = fn(&Cells) -> &Cell;
    let figures: [(Family, Figure); 4] = [
        (f::ACKS_WAITING, |cells| &cells.acks_waiting),
        (f::HOLDING_SESSIONS, |cells| &cells.holding),
        (f::HOLDING_BYTES, |cells| &cells.holding_bytes),
        (f::PINNED_SESSIONS, |cells| &cells.pinned),
    ];
    for (family, figure) in &figures {
        page.family(family);
        for line in lines {
            let total = line.total(|cells| figure(cells).get());
            page.sample(family, &[("set", &line.set), ("listener", &line.listener)], total);
        }
    }
}

fn latencies(page: &mut Page, family: &Family, lines: &[Line], which: fn(&Cells) -> &Histogram) {
    page.family(family);
    for line in lines {
        let workers = line.workers.iter().map(|(_, cells)| which(cells));
        page.histogram(family, &line.set, &line.listener, workers);
    }
}
