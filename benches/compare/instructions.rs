//! `make bench-instructions`: user instructions per GET under callgrind, free of the machine's noise.
//!
//! Each figure is the difference of two runs of different length, so that start and end cost nothing. Repeats within
//! about 3 %, which is why this one gates. Must not be read as time: most of a request's time is spent in the kernel.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::figures::{aligned, callgrind_total, keeps};
use crate::process::Result;
use crate::table::verdict;
use crate::target::Stage;
use crate::workload::{WORKLOADS, Workload};

/// valgrind is some fifty times slower than the machine.
const PATIENCE: Duration = Duration::from_secs(600);
const START: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(120);

/// One row: the workload, the requests of the short and the long run, and redweir's bar.
struct Measured {
    workload: &'static str,
    requests: [u64; 2],
    bar: f64,
}

const MEASURED: [Measured; 2] = [
    Measured { workload: "get_p1_c50", requests: [20_000, 100_000], bar: 2_600.0 },
    Measured { workload: "get_p16_c50", requests: [64_000, 256_000], bar: 900.0 },
];

/// Prints instructions per GET of `floor` and redweir; true if redweir keeps its bars. The callgrind files of all runs
/// are copied to `keep`, for `callgrind_annotate`.
pub async fn measure(stage: &mut Stage<'_>, names: &[String], keep: Option<&Path>) -> Result<bool> {
    let output = format!("--callgrind-out-file={}/callgrind.%p", stage.dir.display());
    stage.under = vec!["valgrind".to_owned(), "--tool=callgrind".to_owned(), output];
    stage.patience = START;
    let heading = "workload|target|instructions/GET|bar|";
    let mut rows = vec![heading.split('|').map(str::to_owned).collect::<Vec<_>>()];
    let mut kept = true;
    for measured in &MEASURED {
        let workload = WORKLOADS.iter().find(|workload| workload.name == measured.workload);
        let workload = workload.ok_or("no such workload")?;
        for name in names.iter().filter(|name| matches!(name.as_str(), "floor" | "redweir")) {
            eprintln!("{name}, {}", workload.name);
            let [short, long] = measured.requests;
            let difference =
                run(stage, name, workload, long, keep).await? - run(stage, name, workload, short, keep).await?;
            let each = difference / (long - short) as f64;
            let mut row = vec![workload.name.to_owned(), name.clone(), format!("{each:.0}")];
            if name == "redweir" {
                let keeps = keeps(Some(each), measured.bar);
                kept &= keeps;
                row.extend([format!("<={}", measured.bar), verdict(keeps)]);
            }
            rows.push(row);
        }
    }
    println!("user instructions per GET, one worker (callgrind, difference of two run lengths)\n");
    print!("{}", aligned(&rows));
    Ok(kept)
}

/// All user instructions of a target that is started, loaded once and ended.
async fn run(stage: &Stage<'_>, name: &str, workload: &Workload, requests: u64, keep: Option<&Path>) -> Result<f64> {
    let target = stage.start(name).await?;
    let port = target.endpoint(workload.value_bytes).ok_or("no endpoint for values of this size")?.port;
    workload.run(port, requests, PATIENCE).await?;
    let process = target.into_process(workload.value_bytes).ok_or("no process")?;
    let file = stage.dir.join(format!("callgrind.{}", process.pid));
    process.terminate(END).await?;
    if let Some(keep) = keep {
        fs::copy(&file, keep.join(format!("callgrind.{name}.{}.{requests}", workload.name)))?;
    }
    let text = fs::read_to_string(&file).map_err(|error| format!("{name} left no callgrind file: {error}"))?;
    let total = callgrind_total(&text).ok_or("no total in the callgrind file")?;
    Ok(total as f64)
}
