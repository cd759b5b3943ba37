//! The files operators copy say nothing that redweir does not: metric names and labels of dashboard and alerts exist on a
//! rendered page, and the image, its probe and the manifests agree on user and ports.
//!
//! Nothing here reads YAML: names are found by scanning. That the rules parse is promtool's word, not this test's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redweir::metrics::{self, Cause, Cells, Kind, NodeGauges, Phase, Reason, Registry, SetGauges, ShardGauges};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every sample name redweir can show, with the labels it carries.
fn shown() -> BTreeMap<String, BTreeSet<String>> {
    let registry = Registry::new(1).unwrap();
    let cells = Arc::new(Cells::default());
    cells.routed(0, Kind::Read, Reason::Replica, 1);
    registry.register("s", "l", 0, cells);
    metrics::failover("s", Cause::Sentinel, &[(Phase::Total, Duration::from_secs(1))]);
    metrics::master_emptied("s");
    metrics::telling("s", metrics::Telling::Done);
    metrics::probe_error("s", "n:1", "timeout");
    metrics::sentinel_up("s", "n:2", true);
    metrics::sentinel_event("s", "+sdown");
    let node = NodeGauges {
        address: "n:1".into(),
        role: "replica",
        state: "replica",
        version: "7".into(),
        offset: Some(1),
        lag_bytes: Some(1),
        lag_seconds: Some(1.0),
        ..NodeGauges::default()
    };
    let shard = ShardGauges { slots: "0-16383".into(), ..ShardGauges::default() };
    let set = SetGauges { set: "s".into(), epoch: 1, shards: vec![shard], nodes: vec![node] };
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in registry.render(&[set]).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let name: String = line.chars().take_while(|c| *c != '{' && *c != ' ').collect();
        let labels = shown.entry(name.clone()).or_default();
        if let Some(inside) = line[name.len()..].strip_prefix('{') {
            labels.extend(inside.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())));
        }
    }
    shown
}

/// The metrics a text names, each with the labels it selects by.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices("redweir_") {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let after = &text[at + name.len()..];
        let inside = after.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = inside.split(',').filter_map(|pair| {
            let label: String = pair.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            (!label.is_empty()).then_some(label)
        });
        named.push((name, labels.collect()));
    }
    named
}

/// What is named but does not exist.
fn missing(text: &str, shown: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, labels) in named(text) {
        // In a description a histogram may go by its family's name.
        let family = format!("{name}_count");
        let Some(known) = shown.get(&name).or_else(|| shown.get(&family)) else {
            missing.push(name);
            continue;
        };
        // The scraper adds these two.
        let unknown =
            labels.into_iter().filter(|label| !known.contains(label) && label != "instance" && label != "job");
        missing.extend(unknown.map(|label| format!("{name}{{{label}}}")));
    }
    missing
}

/// All texts in a JSON value.
fn texts(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| texts(field, into)),
        _ => {}
    }
}

#[test]
fn the_scan_finds_what_is_not_there() {
    let shown = shown();
    assert_eq!(missing("rate(redweir_held_total{set=\"a\",instance=~\"b\"}[1m])", &shown), Vec::<String>::new());
    assert_eq!(missing("redweir_healed_total > 0", &shown), ["redweir_healed_total"]);
    assert_eq!(missing("redweir_node_up{set=\"a\",nod=\"b\"}", &shown), ["redweir_node_up{nod}"]);
}

#[test]
fn every_metric_of_the_alerts_exists() {
    let rules = read("config/prometheus/alerts.yml");
    assert!(named(&rules).len() >= 12, "the scan finds too little");
    assert_eq!(missing(&rules, &shown()), Vec::<String>::new());
}

#[test]
fn every_metric_of_the_dashboard_exists_and_every_metric_matters_somewhere() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("config/grafana/redweir.json")).unwrap();
    let mut all = Vec::new();
    texts(&dashboard, &mut all);
    let all = all.join("\n");
    let shown = shown();
    assert_eq!(missing(&all, &shown), Vec::<String>::new());

    // What neither dashboard nor alerts use, on purpose.
    let apart = ["redweir_build_info", "redweir_start_time_seconds", "redweir_workers"];
    let used: BTreeSet<_> = named(&(all + &read("config/prometheus/alerts.yml"))).into_iter().map(|n| n.0).collect();
    let unused: Vec<_> = shown
        .keys()
        .filter(|name| !used.contains(*name) && !apart.contains(&name.as_str()))
        .filter(|name| !["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix)))
        .collect();
    assert!(unused.is_empty(), "shown to nobody: {unused:?}");
}

#[test]
fn dashboard_panels_are_distinct_and_have_queries() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("config/grafana/redweir.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        assert!(targets.iter().all(|target| target["expr"].as_str().is_some_and(|e| e.contains("redweir_"))));
    }
}

#[test]
fn image_probe_and_manifests_agree() {
    let image = read("Dockerfile");
    let kubernetes = read("config/kubernetes/redweir.yaml");
    let compose = read("config/compose.yaml");
    assert!(image.contains("USER 65532:65532") && kubernetes.contains("runAsUser: 65532"));
    assert!(image.contains(r#"CMD ["redweir", "healthcheck", "--admin", "127.0.0.1:9736"]"#));
    for file in [&kubernetes, &compose] {
        assert!(file.contains("--admin=0.0.0.0:9736") && file.contains("--listen=0.0.0.0:6379"));
    }
    assert!(kubernetes.contains("containerPort: 9736") && read("config/prometheus/prometheus.yml").contains(":9736"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(kubernetes.contains(&format!("path: {path}")), "{path}");
    }
    // The files compose mounts must be there.
    for line in compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")) {
        let source = line.split(':').next().unwrap();
        assert!(!read(&format!("config/{source}")).is_empty());
    }
}
