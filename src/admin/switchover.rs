//! `POST /switchover`: the one thing that can be changed over HTTP, and only with the token.
//!
//! Must not log or show the token. Invariant: the switchover belongs to discovery; a client that goes away, or reads slowly,
//! changes nothing about it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::AdminState;
use super::bounded::Peer;
use crate::config::Secret;
use crate::discovery::switchover::{Door, Line, Wish};

/// Held writes wait no longer than this, unless it is said.
const LIMIT: Duration = Duration::from_secs(5);
const LIMITS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// Lines on their way to a client.
const ROOM: usize = 4096;

/// Where switchovers are asked for.
#[derive(Debug, Clone, Default)]
pub struct Switchovers {
    /// By the name of the set.
    pub doors: Vec<(String, Door)>,
    pub token: Option<Secret>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    set: Option<String>,
    to: Option<String>,
    timeout: Option<String>,
}

const OFF: &str =
    "switchovers are off: set admin-token, or better admin-token-file, and show it as `Authorization: Bearer TOKEN`\n";
const WRONG: &str = "wrong token: show the admin-token as `Authorization: Bearer TOKEN`\n";

impl Switchovers {
    fn admit(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let token = self.token.as_ref().ok_or((StatusCode::FORBIDDEN, OFF))?;
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if shown.is_some_and(|shown| token.is(shown)) { Ok(()) } else { Err((StatusCode::UNAUTHORIZED, WRONG)) }
    }

    fn door(&self, set: Option<&str>) -> Result<&Door, String> {
        let names = || self.doors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        match (set, self.doors.as_slice()) {
            (None, [(_, door)]) => Ok(door),
            (None, _) => Err(format!("say which set: {}\n", names())),
            (Some(set), doors) => {
                let found = doors.iter().find(|(name, _)| name == set);
                found.map(|(_, door)| door).ok_or_else(|| format!("there is no set {set}, but {}\n", names()))
            }
        }
    }
}

fn limit(asked: Option<&str>) -> Result<Duration, String> {
    let Some(text) = asked else { return Ok(LIMIT) };
    let limit = humantime::parse_duration(text).map_err(|e| format!("timeout: {e}\n"))?;
    if LIMITS.contains(&limit) { Ok(limit) } else { Err("timeout: from 10ms to 60s\n".into()) }
}

pub(super) async fn order(
    State(state): State<AdminState>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    if let Err(refused) = state.switchovers.admit(&headers) {
        return refused.into_response();
    }
    let (door, limit) = match (state.switchovers.door(asked.set.as_deref()), limit(asked.timeout.as_deref())) {
        (Ok(door), Ok(limit)) => (door, limit),
        (Err(text), _) | (_, Err(text)) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let to = asked.to.filter(|to| !to.is_empty());
    let Some(mut lines) = door.ask(Wish { to, limit }).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "redweir is stopping\n").into_response();
    };
    let first = match lines.recv().await {
        Some(Line::Refused(why)) => return (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
        first => first,
    };
    peer.stay();
    let (reader, writer) = tokio::io::duplex(ROOM);
    tokio::spawn(tell(writer, first, lines));
    Body::from_stream(ReaderStream::new(reader)).into_response()
}

/// One line for each thing that happens, the outcome last.
async fn tell(mut writer: DuplexStream, first: Option<Line>, mut lines: mpsc::Receiver<Line>) {
    let mut next = first;
    while let Some(line) = next {
        let text = match line {
            Line::Said(what) => format!("{what}\n"),
            Line::Done(what) => format!("done: {what}\n"),
            Line::Refused(what) | Line::Failed(what) => format!("failed: {what}\n"),
        };
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        next = lines.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(limit(None), Ok(LIMIT));
        assert_eq!(limit(Some("250ms")), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "1ms", "2m", "soon"] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }
}
