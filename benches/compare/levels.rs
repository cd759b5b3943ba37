//! What freshness and copies cost: nine reads to one write at each level, and with `acks = 1`, side by side.
//!
//! redis-benchmark mixes nothing, so the load is ours: clients that wait for each reply, the same for every row. Must not
//! compare figures of different rounds. Invariant: within a round every level meets the same requests, and each round
//! begins with another level.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Client, request};
use crate::figures::{aligned, keeps, median};
use crate::picture::{KEYS, Nodes, key};
use crate::process::Result;
use crate::table::{two, verdict};
use crate::target::{Stage, Target};

const CLIENTS: u32 = 50;
/// Requests of one client in one round; every tenth is a write.
const REQUESTS: u32 = 1000;
const VALUE_BYTES: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// redweir's CPU at `session` over that at `eventual`.
const CPU_BAR: f64 = 1.15;
/// Share of the reads at `session` that replicas answer, in percent.
const SHARE_BAR: f64 = 90.0;

/// Rows, and what redweir is started with.
const LEVELS: [(&str, &[&str]); 4] = [
    ("eventual", &["--consistency", "eventual"]),
    ("session", &["--consistency", "session"]),
    ("strong", &["--consistency", "strong"]),
    ("session, acks 1", &["--consistency", "session", "--acks", "1", "--acks-timeout", "1m"]),
];

/// One level in one round.
struct Sample {
    cpu_us: f64,
    per_second: f64,
    share: f64,
}

/// Prints the rows; true if both bars are kept.
pub async fn measure(stage: &mut Stage<'_>, rounds: usize) -> Result<bool> {
    let given = stage.redweir_arguments.clone();
    let mut targets = Vec::new();
    for (number, (level, flags)) in LEVELS.into_iter().enumerate() {
        stage.redweir_arguments = given.iter().cloned().chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
        let target = stage.start_redweir(&format!("redweir-level-{number}"), level != "strong").await?;
        targets.push((level, target, Vec::new()));
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for step in 0..targets.len() {
            let at = (step + round) % targets.len();
            if let Some((level, target, samples)) = targets.get_mut(at) {
                let one = sample(stage.nodes, target, round as u64).await;
                samples.push(one.map_err(|error| format!("{level}: {error}"))?);
            }
        }
    }
    let figure = |level: &str, of: fn(&Sample) -> f64| {
        let (_, _, samples) = targets.iter().find(|(name, ..)| *name == level)?;
        median(&samples.iter().map(of).collect::<Vec<_>>())
    };
    let base = figure("eventual", |s| s.cpu_us);
    let over = |level: &str| Some(figure(level, |s| s.cpu_us)? / base?);
    println!(
        "90 % GET, 10 % SET, {CLIENTS} clients that wait for each reply; medians of {rounds} interleaved rounds\n"
    );
    let heading = "level|req/s|proxy us/req|/eventual|bar||reads on replicas %|bar|";
    let mut rows = vec![heading.split('|').map(str::to_owned).collect::<Vec<_>>()];
    let (ratio, share) = (over("session"), figure("session", |s| s.share));
    let kept = (keeps(ratio, CPU_BAR), share.is_some_and(|share| share >= SHARE_BAR));
    for (level, ..) in &targets {
        let judged = *level == "session";
        let only = |text: String| if judged { text } else { String::new() };
        rows.push(vec![
            (*level).to_owned(),
            figure(level, |s| s.per_second).map(|it| format!("{it:.0}")).unwrap_or_default(),
            two(figure(level, |s| s.cpu_us)),
            two(over(level)),
            only(format!("<={CPU_BAR}")),
            only(verdict(kept.0)),
            figure(level, |s| s.share).map(|it| format!("{it:.1}")).unwrap_or_default(),
            only(format!(">={SHARE_BAR}")),
            only(verdict(kept.1)),
        ]);
    }
    print!("{}", aligned(&rows));
    Ok(kept.0 && kept.1)
}

async fn sample(nodes: &Nodes, target: &Target, round: u64) -> Result<Sample> {
    let port = target.endpoint(VALUE_BYTES).ok_or("no endpoint")?.port;
    let (cpu, reads) = (target.cpu(VALUE_BYTES)?.ok_or("no process")?, nodes.master_reads().await?);
    let began = std::time::Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(async move { mix(port, fastrand::Rng::with_seed(round << 32 | u64::from(number))).await });
    }
    let all = async {
        while let Some(done) = clients.join_next().await {
            done??;
        }
        Result::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.map_err(|_| format!("no end within {PATIENCE:?}"))??;
    let took = began.elapsed();
    let requests = f64::from(CLIENTS * REQUESTS);
    let cpu_nanos = target.cpu(VALUE_BYTES)?.ok_or("no process")?.nanos.saturating_sub(cpu.nanos);
    let at_master = nodes.master_reads().await?.saturating_sub(reads);
    nodes.settle().await?;
    Ok(Sample {
        cpu_us: cpu_nanos as f64 / 1000.0 / requests,
        per_second: requests / took.as_secs_f64(),
        share: 100.0 * (1.0 - at_master as f64 / (requests * 0.9)),
    })
}

/// One client's share: random keys, and a write at a random place of every ten requests.
async fn mix(port: u16, mut random: fastrand::Rng) -> std::io::Result<()> {
    let mut client = Client::open(port).await?;
    let value = [b'y'; VALUE_BYTES];
    let mut write_at = 0;
    for number in 0..REQUESTS {
        if number % 10 == 0 {
            write_at = number + random.u32(..10);
        }
        let key = key(VALUE_BYTES, random.u32(..KEYS));
        let bytes = match number == write_at {
            true => request(&[b"SET", key.as_bytes(), &value]),
            false => request(&[b"GET", key.as_bytes()]),
        };
        client.send(&bytes).await?;
        client.reply().await?;
    }
    Ok(())
}
