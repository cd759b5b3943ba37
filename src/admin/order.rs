//! `redweir switchover`: asks a running redweir for one and shows how it goes.
//!
//! Must not need a runtime, and must not print the token. Invariant: ends well only when redweir said that it is done.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::SwitchoverArgs;

/// For a connection, and for each line of the answer.
const CONNECT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    #[error("{0} cannot be asked: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("the token file {0} cannot be read: {1}")]
    Token(String, io::Error),
    #[error("refused: {0}")]
    Refused(String),
    #[error("switchover failed: {0}")]
    Failed(String),
    #[error("redweir's answer ended before the switchover did; it goes on, or back, by itself: see /topology")]
    Cut,
}

/// Asks, and prints each line as it comes.
pub fn switchover(args: &SwitchoverArgs) -> Result<(), NotDone> {
    let token = token(args)?;
    let unreachable = |error| NotDone::Unreachable(args.admin, error);
    let mut answer = ask(args, &token).map_err(unreachable)?;
    let status = line(&mut answer).map_err(unreachable)?.unwrap_or_default();
    while line(&mut answer).map_err(unreachable)?.is_some_and(|header| !header.is_empty()) {}
    if status.split(' ').nth(1) != Some("200") {
        let mut said = Vec::new();
        while let Ok(Some(text)) = line(&mut answer) {
            said.push(text);
        }
        return Err(NotDone::Refused(if said.is_empty() { status } else { said.join(" ") }));
    }
    while let Ok(Some(text)) = line(&mut answer) {
        if let Some(why) = text.strip_prefix("failed: ") {
            return Err(NotDone::Failed(why.to_owned()));
        }
        println!("{text}");
        if text.starts_with("done: ") {
            return Ok(());
        }
    }
    Err(NotDone::Cut)
}

fn token(args: &SwitchoverArgs) -> Result<String, NotDone> {
    let Some(path) = &args.token_file else { return Ok(args.token.clone().unwrap_or_default()) };
    let text = std::fs::read_to_string(path).map_err(|e| NotDone::Token(path.display().to_string(), e))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask(args: &SwitchoverArgs, token: &str) -> io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&args.admin, CONNECT)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(CONNECT))?;
    let mut query = format!("timeout={}", encoded(&humantime::format_duration(args.timeout).to_string()));
    for (name, value) in [("set", &args.set), ("to", &args.to)] {
        query.extend(value.as_ref().map(|value| format!("&{name}={}", encoded(value))));
    }
    // HTTP/1.0: the answer comes in no chunks and ends with the connection.
    let head = format!("POST /switchover?{query} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n", args.admin);
    let login = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    stream.write_all(format!("{head}{login}\r\n").as_bytes())?;
    Ok(BufReader::new(stream))
}

/// The next line without its end; `None` behind the last.
fn line(answer: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    let n = answer.read_line(&mut text)?;
    Ok((n > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// As a value in a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        assert_eq!(encoded("[::1]:6379"), "%5B::1%5D:6379");
        assert_eq!(encoded("a b&c=d"), "a%20b%26c%3Dd");
    }
}
