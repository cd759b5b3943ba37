//! One worker: a thread with a local runtime that accepts, serves and drains.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{Limits, ListenerConfig, Login};
use crate::metrics::{Cells, Count};
use crate::session::{self, Front, Session, Shared};
use crate::topology::View;
use crate::upstream::give_way;

/// As the default of Redis' `tcp-keepalive`.
const CLIENT_KEEPALIVE: Duration = Duration::from_secs(300);
/// After a failed accept (out of file descriptors, mostly) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker needs to serve one listener.
pub struct Plan {
    pub socket: TcpListener,
    pub listener: ListenerConfig,
    pub limits: Limits,
    pub connect_timeout: Duration,
    pub node_login: Option<Login>,
    pub view: Arc<View>,
    pub cells: Arc<Cells>,
    pub shared: Arc<Shared>,
}

pub struct Worker {
    thread: JoinHandle<()>,
}

impl Worker {
    /// Waits for the worker's end; false: it panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Starts worker `index`. It runs until `stop`, then drains for at most `drain`.
///
/// # Errors
/// The thread or its runtime could not be made.
pub fn start(index: usize, plans: Vec<Plan>, stop: CancellationToken, drain: Duration) -> io::Result<Worker> {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().on_thread_park(give_way::before_sleep).build_local(Default::default())
    };
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || match runtime() {
        Ok(runtime) => runtime.block_on(run(plans, stop, drain)),
        Err(error) => tracing::error!(index, %error, "a worker has no runtime"),
    })?;
    Ok(Worker { thread })
}

async fn run(plans: Vec<Plan>, stop: CancellationToken, drain: Duration) {
    let mut fronts = Vec::new();
    for plan in plans {
        let front = Front::new(
            plan.listener,
            plan.limits,
            plan.connect_timeout,
            plan.node_login,
            plan.view,
            plan.cells,
            plan.shared,
        );
        tokio::task::spawn_local(Rc::clone(&front).follow());
        tokio::task::spawn_local(Rc::clone(&front).attend());
        tokio::task::spawn_local(Rc::clone(&front).keep_warm());
        tokio::task::spawn_local(Rc::clone(&front.pool).audit());
        if front.listener.acks.are_wanted() {
            tokio::task::spawn_local(Rc::clone(&front).testify());
        }
        tokio::task::spawn_local(accept(plan.socket, Rc::clone(&front), stop.clone()));
        fronts.push(front);
    }
    stop.cancelled().await;
    let drained = async {
        for front in &fronts {
            front.drain();
        }
        while !fronts.iter().all(|front| front.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(?drain, "sessions were cut: they did not finish within the drain time");
    }
}

async fn accept(socket: TcpListener, front: Rc<Front>, stop: CancellationToken) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "a listener cannot be used"),
    };
    let lane = front.pool.lane(front.first_lane(2));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                admit(&front, stream, lane);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "connections cannot be accepted; raise the limit of open files (ulimit -n)");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(front: &Rc<Front>, stream: tokio::net::TcpStream, lane: crate::upstream::LaneId) {
    let _ = stream.set_nodelay(true);
    // As Redis' own tcp-keepalive: a client that vanished does not stay for ever.
    let keepalive = socket2::TcpKeepalive::new().with_time(CLIENT_KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    if front.shared.sessions.fetch_add(1, Relaxed) >= front.limits.sessions {
        front.shared.sessions.fetch_sub(1, Relaxed);
        front.cells.count(Count::ConnectionsRefused, 1);
        session::turn_away(&stream);
        return;
    }
    front.cells.count(Count::ConnectionsAccepted, 1);
    let front = Rc::clone(front);
    tokio::task::spawn_local(Session::serve(front, stream, lane));
}
