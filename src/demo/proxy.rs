//! The redweir that the demo shows: a child process of this same executable, asked over its own HTTP port like by anybody else.
//!
//! Must not reach into the process by any other way. Invariant: it is gone when this value is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::failure::Failure;
use super::node::free_port;
use super::stage::{Stage, wait};

const READY_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// redweir's own default, when it is free.
const ADMIN_PORT: u16 = 9736;

/// The child process.
pub struct Proxy {
    pub port: u16,
    pub admin: u16,
    child: Child,
    log: PathBuf,
}

impl Proxy {
    /// Starts redweir in front of the stage's Sentinels, on `port` (0: any) of 127.0.0.1, and waits until it is ready.
    ///
    /// # Errors
    /// The port is taken, the process ended, or it was not ready within 20 s.
    pub fn start(stage: &Stage, port: u16) -> Result<Proxy, Failure> {
        let port = if port == 0 { free_port()? } else { port };
        if let Err(e) = TcpListener::bind(("127.0.0.1", port)) {
            return Err(Failure::Verdict(format!("port {port} of 127.0.0.1: {e}; give another one with --port")));
        }
        let admin = match TcpListener::bind(("127.0.0.1", ADMIN_PORT)) {
            Ok(_) => ADMIN_PORT,
            Err(_) => free_port()?,
        };
        let log = stage.dir().join("redweir.log");
        let file = File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
            .args(["--sentinel", &stage.sentinel_addresses().join(",")])
            .args(["--master-name", &stage.plan.master_name, "--log", "warn"])
            .current_dir(stage.dir())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()?;
        let mut proxy = Proxy { port, admin, child, log };
        let mut gone = None;
        let ready = wait(READY_WITHIN, "redweir", || {
            if let Err(failure) = proxy.check() {
                gone = Some(failure);
                return Ok(());
            }
            match proxy.get("/readyz") {
                Ok((200, _)) => Ok(()),
                Ok((_, body)) => Err(body.trim().to_owned()),
                Err(e) => Err(e.to_string()),
            }
        });
        match gone {
            Some(failure) => Err(failure),
            None => ready.map(|()| proxy),
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// That it still runs.
    ///
    /// # Errors
    /// It ended by itself: its status and the end of its log.
    pub fn check(&mut self) -> Result<(), Failure> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it said nothing").to_owned();
        Err(Failure::ProxyGone { status: status.to_string(), log: last })
    }

    /// HTTP GET at its admin port: status and body.
    ///
    /// # Errors
    /// It does not answer within 2 s, or not in HTTP.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        // HTTP/1.0: the body ends with the connection and is not in chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
    }
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_is_status_and_body() {
        assert_eq!(
            super::parse("HTTP/1.0 503 no\r\na: b\r\n\r\nnot\r\n\r\nready"),
            Some((503, "not\r\n\r\nready".into()))
        );
        assert_eq!(super::parse("+PONG\r\n"), None);
    }
}
