//! HTTP for operators: metrics, health, readiness, topology, a status page, and (with a token) switchovers.
//!
//! Runs on the control runtime. Must not touch sessions or change anything itself: it reads the snapshot and the cells, and
//! leaves wishes at discovery's door.
//! Invariant: bounded like the rest: so many connections, so long for each, and one reply on each.

mod bounded;
mod healthcheck;
mod order;
mod page;
mod switchover;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Queue, Registry};
use crate::topology::{SetPicture, View};
use bounded::{Bounded, Peer};
pub use healthcheck::{Unhealthy, healthcheck};
pub use order::{NotDone, switchover};
pub use switchover::Switchovers;

/// How long answers under way may take after `stop`.
const GRACE: Duration = Duration::from_secs(1);

const PATHS: &str = "/          status page\n\
                     /metrics   Prometheus metrics\n\
                     /healthz   200 while the process lives\n\
                     /readyz    200 while every set has a verified master\n\
                     /topology  what redweir knows of its sets, as JSON\n\
                     /switchover  POST, with the admin-token: hands the master's role over\n";

/// What `/topology` answers.
#[derive(Debug, Serialize)]
struct Picture {
    version: &'static str,
    /// RFC 3339, UTC.
    started: String,
    uptime_seconds: u64,
    workers: usize,
    sets: Vec<Shown>,
}

/// A set, and what waits for its master.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    set: SetPicture,
    held: Queue,
}

/// What the admin port shows.
#[derive(Clone)]
pub struct AdminState {
    pub registry: Arc<Registry>,
    /// Name (the metrics label) and snapshot of every set that a listener serves.
    pub sets: Vec<(String, Arc<View>)>,
    pub switchovers: Switchovers,
}

impl AdminState {
    fn sets(&self) -> Vec<SetPicture> {
        self.sets.iter().map(|(name, view)| SetPicture::of(name, &view.load())).collect()
    }

    fn picture(&self) -> Picture {
        Picture {
            version: self.registry.version(),
            started: humantime::format_rfc3339_seconds(self.registry.started()).to_string(),
            uptime_seconds: SystemTime::now().duration_since(self.registry.started()).unwrap_or_default().as_secs(),
            workers: self.registry.workers(),
            sets: self.sets().into_iter().map(|set| Shown { held: self.registry.queue(&set.name), set }).collect(),
        }
    }
}

/// Serves until `stop`; answers under way get a second more. Fails when the listener cannot be used.
pub async fn serve(listener: TcpListener, state: AdminState, stop: CancellationToken) -> io::Result<()> {
    let app = router(state);
    let served = axum::serve(Bounded::new(listener), app.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        ended = served => ended,
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/topology", get(topology))
        .route("/switchover", post(switchover::order))
        .fallback(|| async { (StatusCode::NOT_FOUND, PATHS) })
        .layer(axum::middleware::map_response(last_and_fresh))
        .with_state(state)
}

/// Every answer is true only now, and the last on its connection.
async fn last_and_fresh(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let sets: Vec<_> = state.sets().into_iter().map(SetPicture::into_gauges).collect();
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, state.registry.render(&sets)).into_response()
}

async fn ready(State(state): State<AdminState>) -> Response {
    let sets = state.sets();
    let ready = sets.iter().all(SetPicture::is_ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body: String = sets.iter().map(|set| format!("{}: {}\n", set.name, set.readiness())).collect();
    (status, body).into_response()
}

async fn topology(State(state): State<AdminState>) -> Json<Picture> {
    Json(state.picture())
}

async fn status(State(state): State<AdminState>) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")];
    (policy, Html(page::render(&state.picture()))).into_response()
}
