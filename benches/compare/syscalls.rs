//! System calls per request: steadier than CPU time, and what most of that time is spent on.
//!
//! `perf` counts tracepoints without slowing the target; `strace` is for machines where it cannot, and slows the target so
//! much that it finds larger batches. Must not be compared across the two.

use std::ffi::OsStr;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::figures::{aligned, keeps, perf_counts, strace_counts};
use crate::process::{Result, installed};
use crate::table::verdict;
use crate::target::Stage;
use crate::workload::{WORKLOADS, Workload};

const PATIENCE: Duration = Duration::from_secs(180);
/// Long enough for either program to attach before the first request.
const ATTACH: Duration = Duration::from_millis(500);

/// Workload and the most system calls per request that redweir may make.
const BARS: [(&str, f64); 2] = [("get_p1_c50", 2.7), ("get_p16_c50", 0.18)];
const ALL: &str = "raw_syscalls:sys_enter";
/// Shown one by one; what redweir's runtime and the others use.
const SHOWN: [&str; 7] = ["epoll_wait", "epoll_pwait", "recvfrom", "sendto", "read", "writev", "write"];

/// Prints calls per request of every target for workloads with `only` in their names; true if redweir keeps its bars.
pub async fn measure(stage: &Stage<'_>, names: &[String], only: &str) -> Result<bool> {
    let with_perf = perf_works().await;
    if !with_perf && !installed(OsStr::new("strace")) {
        return Err("perf cannot count system calls here and strace is not installed: apt-get install strace".into());
    }
    println!("system calls per request, counted by {}\n", if with_perf { "perf" } else { "strace (slows the target)" });
    let mut rows =
        vec![["workload", "target", "all", "bar", ""].iter().chain(&SHOWN).map(|it| it.to_string()).collect()];
    let mut kept = true;
    for name in names.iter().filter(|name| !matches!(name.as_str(), "direct" | "redweir-again")) {
        let target = match stage.start(name).await {
            Ok(target) => target,
            Err(error) => {
                eprintln!("compare: {name} is left out: {error}");
                kept &= name != "redweir";
                continue;
            }
        };
        for workload in WORKLOADS.iter().filter(|workload| workload.name.contains(only)) {
            let endpoint = target.endpoint(workload.value_bytes).ok_or("no endpoint for values of this size")?;
            let Some(process) = &endpoint.process else { continue };
            let calls = count(stage, with_perf, process.pid, endpoint.port, workload).await?;
            let bar = BARS.iter().find(|bar| name == "redweir" && bar.0 == workload.name).map(|bar| bar.1);
            kept &= bar.is_none_or(|bar| keeps(calls.first().copied().flatten(), bar));
            rows.push(row(workload.name, name, &calls, bar));
        }
    }
    rows.get_mut(1..).unwrap_or_default().sort_by_key(|row| position(row.first()));
    print!("{}", aligned(&rows));
    Ok(kept)
}

fn position(name: Option<&String>) -> Option<usize> {
    WORKLOADS.iter().position(|workload| Some(workload.name) == name.map(String::as_str))
}

fn row(workload: &str, target: &str, calls: &[Option<f64>], bar: Option<f64>) -> Vec<String> {
    let shown = |calls: &Option<f64>| calls.map_or(String::new(), |calls| format!("{calls:.3}"));
    let all = calls.first().copied().flatten();
    let mut row = vec![workload.to_owned(), target.to_owned(), shown(&all)];
    row.push(bar.map_or(String::new(), |bar| format!("<={bar}")));
    row.push(bar.map_or(String::new(), |bar| verdict(keeps(all, bar))));
    row.extend(calls.iter().skip(1).map(shown));
    row
}

/// Whether tracepoints can be counted (needs root or a low `perf_event_paranoid`, and tracefs).
async fn perf_works() -> bool {
    if !installed(OsStr::new("perf")) {
        return false;
    }
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", ALL, "--", "true"]).stdin(Stdio::null());
    let Ok(output) = command.output().await else { return false };
    perf_counts(&String::from_utf8_lossy(&output.stderr)).iter().any(|(event, count)| event == ALL && *count > 0)
}

/// All calls per request, then those [`SHOWN`].
async fn count(stage: &Stage<'_>, perf: bool, pid: u32, port: u16, workload: &Workload) -> Result<Vec<Option<f64>>> {
    let (pid, file) = (pid.to_string(), stage.dir.join("syscalls.txt"));
    let mut events = ALL.to_owned();
    SHOWN.iter().for_each(|name| events.push_str(&format!(",syscalls:sys_enter_{name}")));
    let mut command = Command::new(if perf { "perf" } else { "strace" });
    match perf {
        true => command.args(["stat", "-x,", "-e", &events, "-p", &pid, "-o"]).arg(&file),
        false => command.args(["-c", "-f", "-q", "-p", &pid, "-o"]).arg(&file),
    };
    let mut counter = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    tokio::time::sleep(ATTACH).await;
    workload.run(port, workload.requests, PATIENCE).await?;
    let counter_pid = counter.id().ok_or("the counting program ended early")?.to_string();
    Command::new("kill").args(["-INT", &counter_pid]).status().await?;
    counter.wait().await?;
    let text = fs::read_to_string(&file)?;
    let counts = if perf { perf_counts(&text) } else { strace_counts(&text) };
    let per_request = |calls: u64| calls as f64 / workload.requests as f64;
    let named = |name: &str| {
        let event = if perf { format!("syscalls:sys_enter_{name}") } else { name.to_owned() };
        counts.iter().find(|(counted, _)| *counted == event).map(|(_, calls)| per_request(*calls))
    };
    let all = match perf {
        true => counts.iter().find(|(event, _)| event == ALL).map(|(_, calls)| per_request(*calls)),
        false => Some(per_request(counts.iter().map(|(_, calls)| calls).sum())),
    };
    Ok(std::iter::once(all).chain(SHOWN.iter().map(|name| named(name))).collect())
}
