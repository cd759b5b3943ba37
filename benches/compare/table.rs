//! The comparison itself: interleaved rounds over all targets, medians, ratios and bars in one table.
//!
//! Must not start targets. Invariant: within a round every target meets a workload before any meets the next one, and
//! each round begins with another target, so that a slow minute of the machine falls on all alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::figures::{Load, aligned, keeps, median};
use crate::picture::Nodes;
use crate::process::Result;
use crate::target::Target;
use crate::workload::Workload;

const PATIENCE: Duration = Duration::from_secs(180);

/// One workload against one target, once. Times are microseconds per request.
#[derive(Debug, Clone, Copy)]
struct Sample {
    load: Load,
    proxy: Option<f64>,
    proxy_user: Option<f64>,
    nodes: f64,
}

/// All rounds of one workload against one target.
struct Cell {
    target: String,
    samples: Vec<Sample>,
}

pub struct Table {
    rows: Vec<(Workload, Vec<Cell>)>,
}

impl Table {
    /// Measures everything. `scale` divides the requests of each run.
    pub async fn measure(
        nodes: &Nodes,
        targets: &[Target],
        workloads: &[Workload],
        rounds: usize,
        scale: u64,
    ) -> Result<Table> {
        let empty = |target: &Target| Cell { target: target.name.clone(), samples: Vec::new() };
        let row = |workload: &Workload| (*workload, targets.iter().map(empty).collect::<Vec<_>>());
        let mut table = Table { rows: workloads.iter().map(row).collect() };
        for round in 0..rounds {
            eprintln!("round {} of {rounds}", round + 1);
            for (workload, cells) in &mut table.rows {
                for step in 0..targets.len() {
                    let at = (step + round) % targets.len();
                    if let (Some(target), Some(cell)) = (targets.get(at), cells.get_mut(at)) {
                        let sample = sample(nodes, target, workload, workload.requests / scale).await;
                        cell.samples.push(sample.map_err(|error| format!("{}: {error}", target.name))?);
                    }
                }
            }
        }
        Ok(table)
    }

    pub fn text(&self) -> String {
        let heading =
            "workload|target|req/s|p50 ms|p99 ms|proxy us/req|user|redis us/req|/haproxy|bar (aim)||/floor|bar|";
        let mut rows = vec![heading.split('|').map(str::to_owned).collect::<Vec<_>>()];
        for (workload, cells) in &self.rows {
            for cell in cells {
                rows.push(line(workload, cell, cells));
            }
            rows.push(vec![String::new()]);
        }
        aligned(&rows)
    }

    /// The bars that redweir does not keep; `Err` if it was not measured.
    pub fn misses(&self) -> Result<Vec<String>> {
        let mut misses = Vec::new();
        for (workload, cells) in &self.rows {
            let redweir = cells.iter().find(|cell| cell.target == "redweir").ok_or("redweir was not measured")?;
            let ratio = ratio(redweir, "haproxy", cells);
            if !keeps(ratio, workload.haproxy.must) {
                misses.push(format!("{}: {} of haproxy, bar {}", workload.name, two(ratio), workload.haproxy.must));
            }
            let ratio = self::ratio(redweir, "floor", cells);
            if let Some(bar) = workload.floor.filter(|bar| !keeps(ratio, *bar)) {
                misses.push(format!("{}: {} of floor, bar {bar}", workload.name, two(ratio)));
            }
        }
        Ok(misses)
    }

    /// Least and greatest ratio of two processes of one binary: a difference within these says nothing.
    pub fn noise(&self) -> Option<(f64, f64)> {
        let again = |cells: &[Cell]| {
            let cell = cells.iter().find(|cell| cell.target == "redweir-again")?;
            ratio(cell, "redweir", cells)
        };
        let ratios: Vec<f64> = self.rows.iter().filter_map(|(_, cells)| again(cells)).collect();
        let (least, greatest) = (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max));
        least.zip(greatest)
    }

    pub fn json(&self) -> Value {
        let sample = |sample: &Sample| {
            json!({
                "requests_per_second": sample.load.per_second, "p50_ms": sample.load.p50_ms,
                "p99_ms": sample.load.p99_ms, "proxy_us": sample.proxy, "proxy_user_us": sample.proxy_user,
                "redis_us": sample.nodes,
            })
        };
        let cell = |workload: &Workload, cell: &Cell| {
            json!({
                "workload": workload.name, "target": cell.target, "proxy_us_median": cell.proxy(),
                "rounds": cell.samples.iter().map(sample).collect::<Vec<_>>(),
            })
        };
        let cells = self.rows.iter().flat_map(|(workload, cells)| cells.iter().map(|it| cell(workload, it)));
        Value::Array(cells.collect())
    }
}

impl Cell {
    fn median(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(&self.samples.iter().filter_map(figure).collect::<Vec<_>>())
    }

    fn proxy(&self) -> Option<f64> {
        self.median(|sample| sample.proxy)
    }

    /// The user part comes in steps of 10 ms, so it is the mean over all rounds.
    fn user(&self) -> Option<f64> {
        let parts: Vec<f64> = self.samples.iter().filter_map(|sample| sample.proxy_user).collect();
        (!parts.is_empty()).then(|| parts.iter().sum::<f64>() / parts.len() as f64)
    }
}

async fn sample(nodes: &Nodes, target: &Target, workload: &Workload, requests: u64) -> Result<Sample> {
    let port = target.endpoint(workload.value_bytes).ok_or("no endpoint for values of this size")?.port;
    let (proxy_before, nodes_before) = (target.cpu(workload.value_bytes)?, nodes.cpu_nanos()?);
    let load = workload.run(port, requests, PATIENCE).await?;
    // Closing the connections belongs to the run as much as opening them.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let proxy_after = target.cpu(workload.value_bytes)?;
    // What replicas still have to apply would fall on the next target.
    nodes.settle().await?;
    let micros = |nanos: u64| nanos as f64 / 1000.0 / requests as f64;
    let both = proxy_before.zip(proxy_after);
    Ok(Sample {
        load,
        proxy: both.map(|(before, after)| micros(after.nanos.saturating_sub(before.nanos))),
        proxy_user: both.map(|(before, after)| micros(after.user_nanos.saturating_sub(before.user_nanos))),
        nodes: micros(nodes.cpu_nanos()?.saturating_sub(nodes_before)),
    })
}

fn ratio(cell: &Cell, over: &str, cells: &[Cell]) -> Option<f64> {
    let base = cells.iter().find(|other| other.target == over)?.proxy()?;
    cell.proxy().map(|proxy| proxy / base)
}

fn line(workload: &Workload, cell: &Cell, cells: &[Cell]) -> Vec<String> {
    let judged = cell.target == "redweir";
    let against_haproxy = ratio(cell, "haproxy", cells);
    let against_floor = ratio(cell, "floor", cells);
    let mut line = vec![
        workload.name.to_owned(),
        cell.target.clone(),
        cell.median(|sample| Some(sample.load.per_second)).map(|it| format!("{it:.0}")).unwrap_or_default(),
        cell.median(|sample| Some(sample.load.p50_ms)).map(|it| format!("{it:.3}")).unwrap_or_default(),
        cell.median(|sample| Some(sample.load.p99_ms)).map(|it| format!("{it:.3}")).unwrap_or_default(),
        two(cell.proxy()),
        two(cell.user()),
        if cell.target == "floor" { "-".to_owned() } else { two(cell.median(|sample| Some(sample.nodes))) },
        two(against_haproxy),
    ];
    if judged {
        let bar = workload.haproxy;
        line.push(format!("<={:.2} ({:.2})", bar.must, bar.aim));
        line.push(verdict(keeps(against_haproxy, bar.must)));
    } else {
        line.extend([String::new(), String::new()]);
    }
    line.push(two(against_floor));
    if let Some(bar) = workload.floor.filter(|_| judged) {
        line.push(format!("<={bar:.2}"));
        line.push(verdict(keeps(against_floor, bar)));
    }
    line
}

pub fn verdict(kept: bool) -> String {
    if kept { "PASS" } else { "FAIL" }.to_owned()
}

pub fn two(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"))
}
