//! `make bench`: redweir beside what it competes with, on one machine, in one table.
//!
//! Starts a master, three replicas and the targets on loopback, sends the same load to each in turn and reads their CPU
//! time from /proc. Other modes count what is free of noise (system calls, instructions) or looks at memory.
//! Must not touch a server it did not start. Invariant: everything it started is gone when it ends, also on Ctrl-C.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

mod big_reply;
mod client;
mod figures;
mod floor;
mod idle;
mod instructions;
mod levels;
mod picture;
mod process;
mod requests;
mod syscalls;
mod table;
mod target;
mod workload;

use picture::Nodes;
use process::Result;
use table::Table;
use target::Stage;
use workload::{WORKLOADS, Workload};

const OPEN_FILES: u64 = 65_536;

/// Compares redweir with haproxy (tcp), nutcracker, Redis itself and a server that only answers.
#[derive(Parser)]
struct Arguments {
    /// Times each cell is measured; the table gives medians
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only workloads with this in their names
    #[arg(long, default_value = "")]
    only: String,
    /// What to compare
    #[arg(long, value_delimiter = ',', default_value = "direct,haproxy,nutcracker,redweir,floor,redweir-again")]
    targets: Vec<String>,
    /// Three rounds of a quarter of the requests
    #[arg(long)]
    quick: bool,
    /// Write every sample to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 if a bar is missed
    #[arg(long = "assert")]
    enforce: bool,
    /// System calls per request instead of time
    #[arg(long)]
    syscalls: bool,
    /// User instructions per GET (callgrind) instead of time; exits with 1 if a bar is missed
    #[arg(long)]
    instructions: bool,
    /// With --instructions: copy callgrind's files to this directory (for callgrind_annotate)
    #[arg(long, value_name = "DIRECTORY", requires = "instructions")]
    keep: Option<PathBuf>,
    /// Resident memory with this many idle clients
    #[arg(long, value_name = "CLIENTS")]
    idle: Option<usize>,
    /// A reply of a million elements beside a client that only wants GETs
    #[arg(long)]
    big_reply: bool,
    /// Nine reads to one write at each level of consistency, and with acks, instead of the comparison
    #[arg(long)]
    levels: bool,
    /// One more argument for redweir; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    redweir_argument: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// Answers every command itself: +OK, and GET with a value
    Floor {
        #[arg(long)]
        port: u16,
        #[arg(long, default_value_t = 64)]
        value_bytes: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.mode {
        Some(Mode::Floor { port, value_bytes }) => floor::run(port, value_bytes).map(|()| true).map_err(Into::into),
        None => run(arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs a mode until it is done or a signal ends it; either way its processes are dropped, and so killed, in here.
fn run(arguments: Arguments) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = measure(arguments) => done,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

/// True if every bar that counts was kept.
async fn measure(arguments: Arguments) -> Result<bool> {
    if cfg!(debug_assertions) {
        // `cargo test --all-targets` comes here too.
        println!("nothing measured: this is a debug build (make bench)");
        return Ok(true);
    }
    process::raise_open_files(OPEN_FILES).await;
    let directory = tempfile::Builder::new().prefix("redweir-bench-").tempdir()?;
    let nodes = Nodes::start(directory.path()).await?;
    let mut stage = Stage {
        dir: directory.path(),
        nodes: &nodes,
        redweir: redweir_binary()?,
        redweir_arguments: arguments.redweir_argument.clone(),
        under: Vec::new(),
        patience: Duration::from_secs(20),
    };
    if arguments.instructions {
        return instructions::measure(&mut stage, &arguments.targets, arguments.keep.as_deref()).await;
    }
    if arguments.levels {
        let rounds = if arguments.quick { 3 } else { arguments.rounds };
        return Ok(levels::measure(&mut stage, rounds).await? || !arguments.enforce);
    }
    if arguments.syscalls {
        return Ok(syscalls::measure(&stage, &arguments.targets, &arguments.only).await? || !arguments.enforce);
    }
    if let Some(clients) = arguments.idle {
        return Ok(idle::measure(&stage, clients).await? || !arguments.enforce);
    }
    if arguments.big_reply {
        return Ok(big_reply::measure(&stage).await? || !arguments.enforce);
    }
    compare(&stage, &arguments).await
}

async fn compare(stage: &Stage<'_>, arguments: &Arguments) -> Result<bool> {
    let mut targets = Vec::new();
    for name in &arguments.targets {
        match stage.start(name).await {
            Ok(target) => targets.push(target),
            Err(error) if arguments.enforce => return Err(error),
            Err(error) => eprintln!("compare: {name} is left out: {error}"),
        }
    }
    let chosen: Vec<Workload> =
        WORKLOADS.into_iter().filter(|workload| workload.name.contains(&arguments.only)).collect();
    let (rounds, scale) = if arguments.quick { (3, 4) } else { (arguments.rounds, 1) };
    let table = Table::measure(stage.nodes, &targets, &chosen, rounds, scale).await?;
    println!("medians of {rounds} interleaved rounds (user part: mean); CPU of the process in us per request;");
    println!("redis: its four nodes together; bars are for redweir's CPU over haproxy's and over floor's\n");
    print!("{}", table.text());
    if let Some((least, greatest)) = table.noise() {
        println!("noise: redweir-again, the same binary, took {least:.2} to {greatest:.2} of redweir's CPU");
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, format!("{:#}\n", table.json()))?;
    }
    if !arguments.enforce {
        return Ok(true);
    }
    let misses = table.misses()?;
    for miss in &misses {
        println!("MISSED {miss}");
    }
    Ok(misses.is_empty())
}

/// `$REDWEIR`, or the binary cargo built together with this one (in the same profile).
fn redweir_binary() -> Result<PathBuf> {
    let path = std::env::var_os("REDWEIR").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_redweir")), PathBuf::from);
    // Absolute, because children start in the directory of the run.
    std::path::absolute(&path).map_err(Into::into)
}
