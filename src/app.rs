//! Wires the parts, owns the tasks, drains on a signal.
//!
//! Must not decide anything a part decides. Invariant: whatever cannot work is said in one line before anything is
//! served; whatever may still come (nodes not up yet) is waited for while serving.

mod check;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminState, Switchovers};
use crate::command::Rules;
use crate::config::{Config, ListenerConfig};
use crate::discovery;
use crate::discovery::switchover::Door;
use crate::metrics::{Cells, Registry};
use crate::server::{self, Bound, Plan, Worker};
use crate::session::{Common, Place, Shared};
use crate::topology::{self, View};

pub use check::check;

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

impl Fatal {
    fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// File descriptors wanted beyond one per session: upstream connections, listeners, logs.
const SPARE_FILES: u64 = 1024;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// An address that cannot be bound, or a resource the system refuses.
pub fn run(config: Config) -> Result<(), Fatal> {
    log(&config)?;
    raise_file_limit(&config);
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|e| Fatal(format!("no runtime: {e}")))?;
    control.block_on(serve(config))
}

/// Whether the commands' rules can hold; the configuration does not know which commands there are.
fn fit(config: &Config) -> Result<(), Fatal> {
    let faults: Vec<String> = config.listeners.iter().flat_map(|listener| Rules::faults(&listener.commands)).collect();
    if faults.is_empty() { Ok(()) } else { Err(Fatal(faults.join("; "))) }
}

async fn serve(config: Config) -> Result<(), Fatal> {
    fit(&config)?;
    let stop = CancellationToken::new();
    let registry = Registry::new(config.workers).map_err(Fatal::new)?;
    let bound = bind(&config)?;
    let admin = bind_admin(&config).await?;
    // Sessions that finish what they have sent need to be told of a switch, and of copies.
    let end = CancellationToken::new();
    let (views, doors) = discover(&config, &end);
    let workers = start_workers(&config, &registry, bound, &views, &stop)?;
    let registry = Arc::new(registry);
    let sets = config.sets.iter().map(|set| set.name.clone()).zip(views).collect();
    let http = admin.map(|listener| {
        let switchovers = Switchovers { doors, token: config.admin_token.clone() };
        let state = AdminState { registry, sets, switchovers };
        tokio::spawn(admin::serve(listener, state, stop.clone()))
    });
    wait_for_signal().await?;
    tracing::info!(drain = ?config.drain, "stopping: no new connections, sessions finish what they have sent");
    stop.cancel();
    let joined = tokio::task::spawn_blocking(|| workers.into_iter().all(Worker::join));
    let all_well = joined.await.unwrap_or(false);
    end.cancel();
    if let Some(http) = http {
        let _ = http.await;
    }
    if all_well { Ok(()) } else { Err(Fatal("a worker ended in a panic".into())) }
}

/// Where the logs go: stderr, structured, filtered as configured.
fn log(config: &Config) -> Result<(), Fatal> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .map_err(|e| Fatal(format!("log filter '{}': {e}", config.log.filter)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let done = if config.log.json { builder.json().try_init() } else { builder.try_init() };
    done.map_err(|e| Fatal(format!("logging: {e}")))
}

fn raise_file_limit(config: &Config) {
    let wanted = config.limits.sessions as u64 + SPARE_FILES;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(got) if got < wanted => tracing::warn!(
            got,
            wanted,
            "fewer open files are allowed than max-sessions needs; raise the limit (ulimit -n) or lower max-sessions"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

fn bind(config: &Config) -> Result<Vec<Bound>, Fatal> {
    let bind = |listener: &ListenerConfig| {
        server::bind(listener.bind, config.workers).map_err(|e| {
            Fatal(format!("cannot listen on {}: {e}; choose another address with --listen", listener.bind))
        })
    };
    config.listeners.iter().map(bind).collect()
}

async fn bind_admin(config: &Config) -> Result<Option<tokio::net::TcpListener>, Fatal> {
    let Some(address) = config.admin else { return Ok(None) };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        Fatal(format!("cannot listen on {address} for admin: {e}; choose another with --admin, or --admin off"))
    })?;
    let address = listener.local_addr().map_err(Fatal::new)?;
    tracing::info!(%address, "admin: /metrics /healthz /readyz /topology");
    Ok(Some(listener))
}

/// One discovery per set; they run until `stop`.
fn discover(config: &Config, stop: &CancellationToken) -> (Vec<Arc<View>>, Vec<(String, Door)>) {
    let start = |set: &crate::config::SetConfig| {
        let (publisher, view, hints) = topology::channel();
        let (_, door) = discovery::start(set.clone(), publisher, hints, stop.clone());
        (view, (set.name.clone(), door))
    };
    config.sets.iter().map(start).unzip()
}

fn start_workers(
    config: &Config,
    registry: &Registry,
    bound: Vec<Bound>,
    views: &[Arc<View>],
    stop: &CancellationToken,
) -> Result<Vec<Worker>, Fatal> {
    let ids = Arc::new(AtomicU64::new(0));
    let commons: Vec<_> = config.sets.iter().map(|_| Arc::new(Common::new(&config.limits))).collect();
    let mut plans: Vec<Vec<Plan>> = std::iter::repeat_with(Vec::new).take(config.workers).collect();
    for (listener, bound) in config.listeners.iter().zip(bound) {
        let set = config.sets.get(listener.set).ok_or_else(|| Fatal("a listener without a set".into()))?;
        let view = views.get(listener.set).ok_or_else(|| Fatal("a set without a view".into()))?;
        let common = commons.get(listener.set).ok_or_else(|| Fatal("a set without scripts".into()))?;
        tracing::info!(address = %bound.address, set = set.name, policy = ?listener.read_policy, "listening");
        for remark in Rules::new(&listener.commands).remarks() {
            tracing::warn!(address = %bound.address, "{remark}");
        }
        let cells: Vec<Arc<Cells>> = bound.sockets.iter().map(|_| Arc::default()).collect();
        let place = Place { set: set.name.clone(), address: bound.address, cells: cells.clone() };
        let shared = Arc::new(Shared::new(Arc::clone(&ids), Arc::clone(common), place));
        for (index, ((socket, plans), cells)) in bound.sockets.into_iter().zip(&mut plans).zip(cells).enumerate() {
            registry.register(&set.name, &bound.address.to_string(), index, Arc::clone(&cells));
            plans.push(Plan {
                socket,
                listener: listener.clone(),
                limits: config.limits.clone(),
                connect_timeout: set.connect_timeout,
                node_login: set.node_login.clone(),
                view: Arc::clone(view),
                cells,
                shared: Arc::clone(&shared),
            });
        }
    }
    let start = |(index, plans)| server::start(index, plans, stop.clone(), config.drain).map_err(Fatal::new);
    plans.into_iter().enumerate().map(start).collect()
}

async fn wait_for_signal() -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::new)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::new)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
