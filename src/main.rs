//! Parses, loads the config, runs, sets the exit code. No logic.
//!
//! Exit codes: 0 done, 1 could not start or go on, 2 the command line or the configuration is at fault.

use std::process::ExitCode;

use redweir::config::{self, Refusal, Request};
use redweir::{admin, app, demo};

fn main() -> ExitCode {
    let request = match config::from_command_line(std::env::args_os()) {
        Ok(request) => request,
        Err(Refusal::Answer(answer)) => return ExitCode::from(u8::from(answer.print().is_err())),
        Err(Refusal::Faults(lines)) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return ExitCode::from(2);
        }
    };
    let done = match request {
        Request::Run(config) => app::run(config).map_err(|e| e.to_string()),
        Request::Check(config) => app::check(config).map_err(|e| e.to_string()),
        Request::Demo(args) => demo::run(args).map_err(|e| e.to_string()),
        Request::Switchover(args) => admin::switchover(&args).map_err(|e| e.to_string()),
        Request::Healthcheck(admin) => admin::healthcheck(admin).map_err(|e| e.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("redweir: {fatal}");
            ExitCode::FAILURE
        }
    }
}
