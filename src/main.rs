//! Parses, loads the config, runs, sets the exit code. No logic.

fn main() {}
