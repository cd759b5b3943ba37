//! The text of one value -> the value: durations, sizes, counts, addresses, choices.
//!
//! Pure. Invariant: every parser is total (no text makes it panic), bounded, and its error says what to write instead.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::fault::did_you_mean;
use super::reads::Share;

/// Longest duration accepted: far above any sense, far below what overflows a clock.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Turns off what can be off.
pub(super) const OFF: &str = "off";

pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` has no unit, write e.g. {text}s or {text}ms"));
        }
        let value = humantime::parse_duration(text)
            .map_err(|_| format!("`{text}` is no duration, write e.g. 10s, 250ms or 1m 30s"))?;
        if range.contains(&value) {
            return Ok(value);
        }
        let show = humantime::format_duration;
        Err(format!("`{text}` is out of range, use {} to {}", show(*range.start()), show(*range.end())))
    }
}

/// Bytes, as Redis writes them: `1k` is 1000, `1kb` is 1024; likewise m, mb, g, gb; no unit or `b` is bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" => 1000,
            "kb" => 1 << 10,
            "m" => 1_000_000,
            "mb" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" => 1 << 30,
            _ => return Err(no_size(text)),
        };
        if number.is_empty() {
            return Err(no_size(text));
        }
        // Only digits are left: what does not parse is too large, and so out of range.
        let value = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            format!("`{text}` is out of range, use {} to {}", show_size(*range.start()), show_size(*range.end()))
        })
    }
}

fn no_size(text: &str) -> String {
    format!("`{text}` is no size, write e.g. 1048576, 64kb or 1mb")
}

fn show_size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{}gb", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{}mb", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{}kb", b >> 10),
        b => b.to_string(),
    }
}

/// Bytes that this machine can address.
pub(super) fn memory(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let bytes = size(range.clone())(text)?;
        usize::try_from(bytes).map_err(|_| format!("`{text}` is more than this machine can address, use less"))
    }
}

/// `0%` to `100%`, to a hundredth of a percent.
pub(super) fn share(text: &str) -> Result<Share, String> {
    let text = text.trim();
    let number = text.strip_suffix('%').map(str::trim_end);
    let plain = number.filter(|n| n.len() <= 8 && n.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let percent = plain.and_then(|n| n.parse::<f64>().ok()).filter(|n| (0.0..=100.0).contains(n));
    let share = percent.map(|n| Share((n * 100.0).round() as u32));
    share.ok_or_else(|| format!("`{text}` is no part of all, write e.g. 50% or 0.5%, at most 100%"))
}

pub(super) fn count<N: FromStr + PartialOrd + Display>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> {
    move |text| match text.trim().parse::<N>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("`{}` is no whole number from {} to {}, use one", text.trim(), range.start(), range.end())),
    }
}

/// `cores`, or a number of threads.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    if text.trim() == "cores" {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from));
    }
    count(1..=1024)(text).map_err(|_| format!("`{}` is no number of threads, use 1 to 1024 or `cores`", text.trim()))
}

/// `off`, or what `parse` makes of it.
pub(super) fn or_off<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text.trim() {
        OFF => Ok(None),
        text => parse(text).map(Some).map_err(|fault| format!("{fault}, or `{OFF}`")),
    }
}

/// An own address to listen on: `IP:PORT`, port 0 for any free one.
pub(super) fn bind(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        let hint = match host_port(text) {
            Some((_, Ok(port))) => format!("127.0.0.1:{port} or 0.0.0.0:{port}"),
            _ => "127.0.0.1:7379 or [::]:7379".to_owned(),
        };
        format!("`{text}` is no IP:PORT to listen on, write e.g. {hint}")
    })
}

/// Somebody else's address, to dial: `HOST:PORT`, where HOST is a name, an IPv4 or an IPv6 address in brackets. Given back as written.
pub(super) fn address(port: u16) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let text = text.trim();
        if text.contains("://") {
            return Err(format!("`{text}` is a URL, write only HOST:PORT"));
        }
        let Some((host, written)) = host_port(text) else {
            let host = match text {
                "" => "10.0.0.1".to_owned(),
                v6 if v6.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{v6}]"),
                host => host.to_owned(),
            };
            return Err(format!("`{text}` has no port, write HOST:PORT, e.g. {host}:{port}"));
        };
        if !written.is_ok_and(|port| port != 0) {
            return Err(format!("`{text}` has no valid port, use 1 to 65535, e.g. {host}:{port}"));
        }
        let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
        };
        match is_host && !host.is_empty() && host.len() <= 253 {
            true => Ok(text.to_owned()),
            false => Err(format!("`{text}` has no valid host, write HOST:PORT, e.g. 10.0.0.1:{port}")),
        }
    }
}

/// `None` where there is no single colon between host and port (as in a bare IPv6 address).
fn host_port(text: &str) -> Option<(&str, Result<u16, std::num::ParseIntError>)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare_v6 = host.contains(':') && !host.ends_with(']');
    // `+80` is a number to Rust, not a port.
    let port = if port.starts_with('+') { "".parse() } else { port.parse() };
    (!bare_v6).then_some((host, port))
}

/// One of the values of an enum, by its name in kebab case.
pub(super) fn choice<E: clap::ValueEnum>(text: &str) -> Result<E, String> {
    let text = text.trim();
    let found =
        E::value_variants().iter().find(|v| v.to_possible_value().is_some_and(|name| name.matches(text, false)));
    if let Some(found) = found {
        return Ok(found.clone());
    }
    let names: Vec<String> =
        E::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
    let near = did_you_mean(text, names.iter().map(String::as_str));
    Err(format!("`{text}` is unknown, use one of: {}{near}", names.join(", ")))
}

/// A word for labels and for Sentinel: no blanks, no control characters, at most 128 bytes; may be empty.
pub(super) fn word(text: &str) -> Result<String, String> {
    match text.len() <= 128 && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Ok(text.to_owned()),
        false => Err("must be at most 128 bytes without blanks, shorten or correct it".to_owned()),
    }
}

pub(super) fn optional_word(text: &str) -> Result<Option<String>, String> {
    word(text).map(|word| Some(word).filter(|word| !word.is_empty()))
}

/// Anything: a password.
pub(super) fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// `text` or `json`, as whether it is json.
pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text.trim() {
        "text" => Ok(false),
        "json" => Ok(true),
        other => Err(format!("`{other}` is unknown, use one of: text, json")),
    }
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        other => Err(format!("`{other}` is unknown, use one of: on, off")),
    }
}

/// A tracing filter.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    // tracing takes any lone word for the name of a module: a level misspelt would pass and turn the log silent.
    let lone = !text.contains(['=', '[', ',']);
    let valid = match lone {
        true => LEVELS.contains(&text.to_ascii_lowercase().as_str()),
        false => tracing_subscriber::EnvFilter::builder().parse(text).is_ok(),
    };
    match valid {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no filter, use {} or e.g. `info,redweir=debug`", LEVELS.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Balancer, ReadPolicy};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn durations() {
        let parse = duration(MS..=LONGEST);
        for (text, millis) in [("10s", 10_000), ("250ms", 250), ("1m 30s", 90_000), (" 1s ", 1000), ("24h", 86_400_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, fault) in [
            ("10", "`10` has no unit, write e.g. 10s or 10ms"),
            ("", "`` is no duration, write e.g. 10s, 250ms or 1m 30s"),
            ("soon", "`soon` is no duration, write e.g. 10s, 250ms or 1m 30s"),
            ("-1s", "`-1s` is no duration, write e.g. 10s, 250ms or 1m 30s"),
            ("1us", "`1us` is out of range, use 1ms to 1day"),
            ("25h", "`25h` is out of range, use 1ms to 1day"),
        ] {
            assert_eq!(parse(text), Err(fault.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let parse = size(0..=4 << 30);
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17b", 17),
            ("1k", 1000),
            ("1kb", 1024),
            ("1K", 1000),
            ("1KB", 1024),
            ("64mb", 64 << 20),
            ("3m", 3_000_000),
            ("1g", 1_000_000_000),
            ("4gb", 4 << 30),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "mb", "1.5mb", "-1", "1tb", "1 mb", "0x10"] {
            assert_eq!(parse(text), Err(format!("`{text}` is no size, write e.g. 1048576, 64kb or 1mb")));
        }
        for text in ["5gb", "99999999999999999999", "18446744073709551615gb"] {
            assert_eq!(parse(text), Err(format!("`{text}` is out of range, use 0 to 4gb")));
        }
    }

    #[test]
    fn shares() {
        for (text, hundredths) in [("100%", 10_000), ("0%", 0), (" 0.5% ", 50), ("1 %", 100), ("33.33%", 3333)] {
            assert_eq!(share(text), Ok(Share(hundredths)), "{text}");
        }
        for text in ["", "%", "50", "101%", "-1%", "1e1%", "1.2.3%", "0.000000000001%", "inf%"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(Share(2500).of(Duration::from_secs(2)), 500 * MS);
        assert_eq!((Share(8000).of_bytes(1000), Share::ALL.of_bytes(u64::MAX)), (800, u64::MAX));
    }

    #[test]
    fn addresses() {
        let parse = address(6379);
        for text in ["10.0.0.1:6379", "redis-0.redis.svc:6379", "localhost:1", "[::1]:65535", "my_redis:7000"] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
        for (text, fault) in [
            ("10.0.0.1", "`10.0.0.1` has no port, write HOST:PORT, e.g. 10.0.0.1:6379"),
            ("", "`` has no port, write HOST:PORT, e.g. 10.0.0.1:6379"),
            ("::1", "`::1` has no port, write HOST:PORT, e.g. [::1]:6379"),
            ("a:0", "`a:0` has no valid port, use 1 to 65535, e.g. a:6379"),
            ("a:65536", "`a:65536` has no valid port, use 1 to 65535, e.g. a:6379"),
            ("a:+80", "`a:+80` has no valid port, use 1 to 65535, e.g. a:6379"),
            (":6379", "`:6379` has no valid host, write HOST:PORT, e.g. 10.0.0.1:6379"),
            ("a b:6379", "`a b:6379` has no valid host, write HOST:PORT, e.g. 10.0.0.1:6379"),
            ("[zz]:6379", "`[zz]:6379` has no valid host, write HOST:PORT, e.g. 10.0.0.1:6379"),
            ("redis://a:6379", "`redis://a:6379` is a URL, write only HOST:PORT"),
        ] {
            assert_eq!(parse(text), Err(fault.to_owned()), "{text}");
        }
    }

    #[test]
    fn binds() {
        assert_eq!(bind("127.0.0.1:0").map(|a| a.port()), Ok(0));
        assert_eq!(bind("[::]:7379").map(|a| a.port()), Ok(7379));
        let fault = "`localhost:7000` is no IP:PORT to listen on, write e.g. 127.0.0.1:7000 or 0.0.0.0:7000";
        assert_eq!(bind("localhost:7000"), Err(fault.to_owned()));
        assert_eq!(
            bind(":70"),
            Err("`:70` is no IP:PORT to listen on, write e.g. 127.0.0.1:70 or 0.0.0.0:70".to_owned())
        );
        assert!(bind("7379").is_err_and(|fault| fault.ends_with("127.0.0.1:7379 or [::]:7379")));
    }

    #[test]
    fn choices() {
        assert_eq!(choice("prefer-replica"), Ok(ReadPolicy::PreferReplica));
        assert_eq!(choice("peak-ewma"), Ok(Balancer::PeakEwma));
        let fault = "`prefer-replicas` is unknown, use one of: replica, prefer-replica, any, prefer-master, master, did you mean `prefer-replica`?";
        assert_eq!(choice::<ReadPolicy>("prefer-replicas"), Err(fault.to_owned()));
        assert!(choice::<Balancer>("Random").is_err());
    }

    #[test]
    fn others() {
        assert_eq!(workers("3"), Ok(3));
        assert!(workers("cores").is_ok_and(|n| n >= 1));
        assert_eq!(workers("0"), Err("`0` is no number of threads, use 1 to 1024 or `cores`".to_owned()));
        assert_eq!(count(0..=1000)("1001"), Err("`1001` is no whole number from 0 to 1000, use one".to_owned()));
        assert_eq!(or_off(bind)("off"), Ok(None));
        assert_eq!(or_off(count(1..=2))("3"), Err("`3` is no whole number from 1 to 2, use one, or `off`".to_owned()));
        assert!(word("a b").is_err() && word("é").is_ok() && optional_word("") == Ok(None));
        for filter in ["info", "OFF", "redweir=debug", "warn,redweir::discovery=trace"] {
            assert_eq!(log_filter(filter), Ok(filter.to_owned()));
        }
        for filter in ["", "verbos", "redweir=loud"] {
            assert!(log_filter(filter).is_err(), "{filter}");
        }
    }
}
