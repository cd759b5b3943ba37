//! Why the demo or a stage could not do what it was asked: one line each, with what to do about it.

/// See the texts.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "{0} not found: install it with `apt-get install redis-server redis-sentinel` (or set REDIS_SERVER and REDIS_SENTINEL)"
    )]
    Missing(String),
    #[error("{what} was not ready after {seconds} s: {why}")]
    NotReady { what: String, seconds: u64, why: String },
    #[error("redweir ended by itself ({status}): {log}")]
    ProxyGone { status: String, log: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Verdict(String),
}
