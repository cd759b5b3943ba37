//! The admin port over real HTTP, against a topology and counters made by hand.
//!
//! Proves: every path and status, the JSON, and that the metrics page is strictly valid and shows what was counted.

mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redweir::admin::{self, AdminState, Switchovers};
use redweir::metrics::{self, Cause, Cells, Count, Kind, Phase, Reason, Registry};
use redweir::topology::{self, Lineage, Live, Node, NodeState, Publisher, Reader, Topology, Writes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A running admin port and the hands on what it shows.
struct Port {
    address: SocketAddr,
    registry: Arc<Registry>,
    publisher: Publisher,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// `set` must differ between tests: the recorder of rare events is one per process.
async fn start(set: &str) -> Port {
    let (publisher, view, _hints) = topology::channel();
    let registry = Arc::new(Registry::new(2).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let state = AdminState {
        registry: Arc::clone(&registry),
        sets: vec![(set.to_owned(), view)],
        switchovers: Switchovers::default(),
    };
    let served = tokio::spawn(admin::serve(listener, state, stop.clone()));
    Port { address, registry, publisher, stop, served }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Port {
    async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: redweir\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        // Reads to the end: the port must close after one answer.
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn metrics(&self) -> exposition::Page {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
        exposition::parse(&answer.body).unwrap_or_else(|fault| panic!("{fault}\n{}", answer.body))
    }
}

fn node(id: u16, address: &str, state: NodeState, offset: i64, lag_bytes: u64, lag: Duration) -> Arc<Node> {
    let live = Live::default();
    live.set(offset, lag_bytes, lag);
    Arc::new(Node {
        id,
        address: address.into(),
        dial: address.into(),
        generation: 1,
        priority: 100,
        state,
        run_id: Some("f00d".into()),
        version: Some("7.0.15".into()),
        live: Arc::new(live),
    })
}

/// A master, a reader 1.5 s behind, a replica too far behind, and a dead node.
fn picture(writes: Writes) -> Topology {
    let mut topology = Topology::empty();
    topology.nodes = vec![
        node(0, "10.0.0.1:6379", NodeState::Master, 1000, 0, Duration::ZERO),
        node(1, "10.0.0.2:6379", NodeState::Replica, 900, 100, Duration::from_millis(1500)),
        node(2, "10.0.0.3:6379", NodeState::Lagging, 100, 900, Duration::from_secs(60)),
        node(3, "10.0.0.4:6379", NodeState::Down, 500, 500, Duration::from_secs(9)),
    ];
    let shard = &mut topology.shards[0];
    shard.term = 4;
    shard.lineage = Lineage { id: "aaaa".into(), previous: "bbbb".into(), branch: 77 };
    shard.writes = writes;
    shard.readers = vec![Reader { node: 1, weight: 2, zone: Some("zone-a".into()) }];
    shard.lagging = 1;
    topology
}

#[tokio::test]
async fn health_and_unknown_paths() {
    let port = start("health").await;
    let alive = port.get("/healthz").await;
    assert_eq!((alive.status, alive.body.as_str()), (200, "ok\n"));

    let lost = port.get("/metric").await;
    assert_eq!(lost.status, 404);
    for path in ["/metrics", "/healthz", "/readyz", "/topology"] {
        assert!(lost.body.contains(path), "{path} is not in {}", lost.body);
    }

    let off = port.ask("POST", "/switchover?to=10.0.0.2:6379").await;
    assert_eq!(off.status, 403);
    assert!(off.body.contains("admin-token"), "{}", off.body);
    assert_eq!(port.get("/switchover").await.status, 405);

    for path in ["/", "/metrics", "/healthz", "/readyz", "/topology"] {
        assert_eq!(port.ask("POST", path).await.status, 405, "POST {path}");
        let head = port.ask("HEAD", path).await;
        assert_eq!(head.body, "", "HEAD {path}");
        assert_eq!(head.status, port.get(path).await.status, "HEAD {path}");
    }
    let checked = tokio::task::spawn_blocking(move || admin::healthcheck(port.address)).await.unwrap();
    assert!(checked.is_ok(), "{checked:?}");
}

#[tokio::test]
async fn ready_follows_the_snapshot() {
    let port = start("orders").await;
    let answer = port.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "orders: not ready, nothing was learnt of this set yet\n"));

    port.publisher.publish(picture(Writes::Open(0)));
    let answer = port.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "orders: ready\n"));

    port.publisher.publish(picture(Writes::Held));
    let answer = port.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("orders: not ready, no verified master"), "{}", answer.body);
}

#[tokio::test]
async fn topology_as_json_and_as_page() {
    let port = start("carts").await;
    port.publisher.publish(picture(Writes::Open(0)));
    let answer = port.get("/topology").await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let set = &json["sets"][0];
    assert_eq!(set["name"], "carts");
    assert_eq!(set["epoch"], 1);
    let shard = serde_json::json!({
        "slots": "0-16383", "term": 4, "lineage": {"id": "aaaa", "previous": "bbbb", "branch": 77},
        "master": "10.0.0.1:6379", "writes": "open", "held_for": null, "readers": 1, "lagging": 1, "emptied": false,
        "last_switch": null,
    });
    assert_eq!(set["shards"], serde_json::json!([shard]));
    let reader = serde_json::json!({
        "id": 1, "address": "10.0.0.2:6379", "dial": null, "role": "replica", "state": "replica", "in_rotation": true,
        "generation": 1, "run_id": "f00d", "version": "7.0.15", "offset": 900, "lag_bytes": 100, "lag_seconds": 1.5,
        "weight": 2, "zone": "zone-a",
    });
    assert_eq!(set["nodes"][1], reader);
    assert_eq!(set["nodes"][0]["role"], "master");
    assert_eq!(set["nodes"][2]["in_rotation"], false);
    // Of a dead node nothing is known now.
    assert_eq!(set["nodes"][3]["lag_seconds"], serde_json::Value::Null);

    let page = port.get("/").await;
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    for text in ["carts", "10.0.0.1:6379", "10.0.0.4:6379", "zone-a", "1.500 s", "writes open"] {
        assert!(page.body.contains(text), "{text} is not on the page");
    }
    assert!(!page.body.contains("src="), "the page fetches something");
}

#[tokio::test]
async fn metrics_show_what_was_counted() {
    let port = start("stock").await;
    let workers = [Arc::new(Cells::default()), Arc::new(Cells::default())];
    for (i, cells) in workers.iter().enumerate() {
        port.registry.register("stock", "0.0.0.0:6379", i, Arc::clone(cells));
        cells.routed(1, Kind::Read, Reason::Replica, 10);
        cells.count(Count::BytesToNodes, 100);
        cells.count(Count::RefusedHold, 1);
        cells.sessions.add(3);
        cells.request.observe(Duration::from_micros(100), 10);
        cells.upstream.observe(Duration::from_micros(90), 10);
    }
    workers[0].routed(0, Kind::Write, Reason::Master, 5);
    workers[0].request.observe(Duration::from_secs(120), 1);
    port.publisher.publish(picture(Writes::Open(0)));
    // Seen at zero before it happens, or Prometheus would miss the first one.
    let before = port.metrics().await;
    let first = [("set", "stock"), ("cause", "detector")];
    assert_eq!(before.value("redweir_failovers_total", &first), Some(0.0));
    let first = [("set", "stock"), ("cause", "detector"), ("phase", "total")];
    assert_eq!(before.value("redweir_failover_seconds_count", &first), Some(0.0));

    metrics::failover("stock", Cause::Detector, &[(Phase::Total, Duration::from_millis(300))]);
    metrics::sentinel_up("stock", "10.0.0.9:26379", true);
    metrics::sentinel_event("stock", "+switch-master");
    metrics::probe_error("stock", "10.0.0.4:6379", "timeout");

    let page = port.metrics().await;
    let stock = |name: &str, labels: &[(&str, &str)]| {
        let labels: Vec<_> = labels.iter().copied().chain([("set", "stock")]).collect();
        page.value(name, &labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    };
    let (master, reader, far, dead) = ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379", "10.0.0.4:6379");
    assert_eq!(stock("redweir_requests_total", &[("node", reader), ("kind", "read"), ("reason", "replica")]), 20.0);
    assert_eq!(stock("redweir_requests_total", &[("node", master), ("kind", "write"), ("reason", "master")]), 5.0);
    assert_eq!(stock("redweir_sent_bytes_total", &[("peer", "node")]), 200.0);
    assert_eq!(stock("redweir_refused_total", &[("reason", "hold")]), 2.0);
    assert_eq!(stock("redweir_sessions", &[("worker", "1")]), 3.0);
    assert_eq!(stock("redweir_request_seconds_count", &[]), 21.0);
    assert_eq!(stock("redweir_request_seconds_bucket", &[("le", "0.000131072")]), 20.0);
    assert!((stock("redweir_request_seconds_sum", &[]) - 120.002).abs() < 1e-9);
    assert_eq!(stock("redweir_upstream_seconds_count", &[]), 20.0);
    assert_eq!(stock("redweir_node_role", &[("node", master), ("role", "master")]), 1.0);
    assert_eq!(stock("redweir_node_role", &[("node", far), ("role", "replica")]), 1.0);
    assert_eq!(stock("redweir_node_in_rotation", &[("node", reader)]), 1.0);
    assert_eq!(stock("redweir_node_in_rotation", &[("node", far)]), 0.0);
    assert_eq!(stock("redweir_node_up", &[("node", dead)]), 0.0);
    assert_eq!(stock("redweir_node_lag_seconds", &[("node", reader)]), 1.5);
    assert_eq!(stock("redweir_node_lag_bytes", &[("node", far)]), 900.0);
    assert_eq!(page.value("redweir_node_lag_seconds", &[("set", "stock"), ("node", dead)]), None);
    assert_eq!(stock("redweir_writes_open", &[]), 1.0);
    assert_eq!(stock("redweir_readers", &[]), 1.0);
    assert_eq!(stock("redweir_topology_term", &[]), 4.0);
    assert_eq!(stock("redweir_failovers_total", &[("cause", "detector")]), 1.0);
    assert_eq!(stock("redweir_failovers_total", &[("cause", "sentinel")]), 0.0);
    assert_eq!(
        stock("redweir_failover_seconds_bucket", &[("cause", "detector"), ("phase", "total"), ("le", "0.25")]),
        0.0
    );
    assert_eq!(
        stock("redweir_failover_seconds_bucket", &[("cause", "detector"), ("phase", "total"), ("le", "0.5")]),
        1.0
    );
    assert_eq!(stock("redweir_sentinel_up", &[("sentinel", "10.0.0.9:26379")]), 1.0);
    assert_eq!(stock("redweir_sentinel_events_total", &[("event", "+switch-master")]), 1.0);
    assert_eq!(stock("redweir_probe_errors_total", &[("node", dead), ("error", "timeout")]), 1.0);
    assert_eq!(page.value("redweir_workers", &[]), Some(2.0));
}

#[tokio::test]
async fn a_node_that_left_leaves_the_page_and_its_slot_starts_anew() {
    let port = start("moved").await;
    let cells = Arc::new(Cells::default());
    port.registry.register("moved", "l", 0, Arc::clone(&cells));
    cells.routed(1, Kind::Read, Reason::Replica, 10);
    port.publisher.publish(picture(Writes::Open(0)));
    let name = "redweir_requests_total";
    assert_eq!(port.metrics().await.value(name, &[("node", "10.0.0.2:6379")]), Some(10.0));

    let mut next = picture(Writes::Open(0));
    next.nodes[1] = node(1, "10.9.9.9:6379", NodeState::Replica, 0, 0, Duration::ZERO);
    port.publisher.publish(next);
    cells.routed(1, Kind::Read, Reason::Replica, 4);
    let page = port.metrics().await;
    assert_eq!(page.value(name, &[("node", "10.9.9.9:6379")]), Some(4.0));
    assert_eq!(page.value(name, &[("node", "10.0.0.2:6379")]), None);
    assert_eq!(page.value("redweir_node_up", &[("node", "10.0.0.2:6379")]), None);
}

#[tokio::test]
async fn hostile_names_stay_in_their_label() {
    let evil = "a\"} 1\nredweir_writes_open{set=\"x\\";
    let port = start(evil).await;
    port.registry.register(evil, "l", 0, Arc::new(Cells::default()));
    port.publisher.publish(picture(Writes::Held));
    let page = port.metrics().await;
    assert_eq!(page.value("redweir_writes_open", &[("set", evil)]), Some(0.0));
    assert_eq!(page.value("redweir_connections_accepted_total", &[("set", evil)]), Some(0.0));
}

#[tokio::test]
async fn stop_ends_it_though_a_client_hangs() {
    let port = start("stop").await;
    let mut hanging = TcpStream::connect(port.address).await.unwrap();
    hanging.write_all(b"GET /metr").await.unwrap();
    assert_eq!(port.get("/healthz").await.status, 200);
    port.stop.cancel();
    assert!(port.served.await.unwrap().is_ok());
    assert!(TcpStream::connect(port.address).await.is_err());
}

#[test]
fn the_reader_of_these_tests_is_strict() {
    let head = "# HELP a_total x\n# TYPE a_total counter\n";
    let histogram = "# HELP h x\n# TYPE h histogram\n";
    let faults = [
        "a_total 1\n".to_owned(),
        format!("{head}a_total 1\na_total 1\n"),
        format!("{head}a_total 1"),
        format!("{head}a_total one\n"),
        format!("{head}a_total{{b=\"c}} 1\n"),
        format!("{head}a_total{{b=\"c\"}}1\n"),
        format!("{head}b_total 1\n"),
        format!("{head}{head}"),
        "# TYPE a_total counter\na_total 1\n".to_owned(),
        format!("{histogram}h_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 1\n"),
        format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 2\n"),
        format!("{histogram}h_bucket{{le=\"1\"}} 1\nh_sum 1\nh_count 1\n"),
        format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_count 1\n"),
    ];
    for fault in faults {
        assert!(exposition::parse(&fault).is_err(), "let pass:\n{fault}");
    }
    let good =
        format!("{head}a_total{{b=\"c\\\"\\n\"}} 1\n\n{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 1\n");
    assert_eq!(exposition::parse(&good).unwrap().value("a_total", &[("b", "c\"\n")]), Some(1.0));
}
