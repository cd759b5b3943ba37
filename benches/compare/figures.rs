//! Turns what other programs and the kernel print into numbers, and numbers into verdicts.
//!
//! Pure: must not touch files, sockets or clocks, so that every rule here is tested by `tests.rs` beside it.
//! Invariant: text that cannot be read gives `None`, never a zero that would look like a good result.

/// The unit of `utime` and `stime` in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux Debian ships.
const TICK_NANOS: u64 = 10_000_000;

/// One line of `redis-benchmark --csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Reads the last line of `redis-benchmark --csv`; its first column, the command, may itself hold commas.
/// Columns from the right: max, p99, p95, p50, min, avg (all ms), requests per second.
pub fn load_from_csv(text: &str) -> Option<Load> {
    let line = text.lines().rev().find(|line| line.trim_end().ends_with('"'))?;
    let mut columns = line.trim().trim_matches('"').rsplit("\",\"").map(|column| column.parse::<f64>().ok());
    let mut next = || columns.next().flatten();
    let (_max, p99_ms, _p95, p50_ms, _min, _avg) = (next()?, next()?, next()?, next()?, next()?, next()?);
    Some(Load { per_second: next()?, p50_ms, p99_ms })
}

/// Nanoseconds on a processor, from one `/proc/PID/task/TID/schedstat`.
pub fn schedstat_nanos(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Nanoseconds in user mode, from `/proc/PID/stat` (steps of 10 ms). The name in parentheses may hold spaces.
pub fn user_nanos(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(11)?.parse::<u64>().ok().map(|ticks| ticks * TICK_NANOS)
}

/// A `Name:  123 kB` line of `/proc/PID/status`, in bytes.
pub fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// `name:value` of an INFO reply.
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Calls of one command, from INFO commandstats; none seen is 0, because Redis leaves such a line out.
pub fn command_calls(info: &str, command: &str) -> u64 {
    let line = info_field(info, &format!("cmdstat_{command}"));
    let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// User instructions of a whole run, from a callgrind output file.
pub fn callgrind_total(file: &str) -> Option<u64> {
    let field = |name: &str| file.lines().rev().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    field("totals:").or_else(|| field("summary:"))
}

/// Counts by event from `perf stat -x,` (a tracepoint's name holds a colon, never a comma).
pub fn perf_counts(text: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let mut fields = line.split(',');
        let count = fields.next()?.trim().parse().ok()?;
        Some((fields.nth(1)?.to_owned(), count))
    };
    text.lines().filter_map(row).collect()
}

/// Calls by system call from `strace -c`; the line of the sum is left out.
pub fn strace_counts(text: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        let name = fields.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), fields.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// The middle value; the mean of the two middle ones of an even number. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(sorted.len() / 2 - 1).map(|lower| (lower + upper) / 2.0)
}

/// Whether a figure keeps its bar. A figure that is missing does not.
pub fn keeps(figure: Option<f64>, bar: f64) -> bool {
    figure.is_some_and(|figure| figure <= bar)
}

/// A table with its columns aligned: the first to the left, the others to the right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
