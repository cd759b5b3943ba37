//! What a routing decision costs: each balancer over three replicas, and the master. Pure CPU; starts nothing.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use redweir::config::{Balancer, ReadPolicy};
use redweir::route::{Loads, Picker, Want, route};
use redweir::topology::{NodeId, Reader, Shard, Topology, Writes};

struct Fixed([(u32, u64); 8]);

impl Loads for Fixed {
    fn in_flight(&self, node: NodeId) -> u32 {
        self.0.get(usize::from(node)).map_or(0, |l| l.0)
    }
    fn latency_ns(&self, node: NodeId) -> u64 {
        self.0.get(usize::from(node)).map_or(0, |l| l.1)
    }
    fn wait_ns(&self, node: NodeId) -> (u64, u64) {
        match (self.in_flight(node), self.latency_ns(node)) {
            (0, _) => (0, 0),
            (ahead, each) => (each, u64::from(ahead) * each),
        }
    }
}

fn shard() -> Option<Shard> {
    let mut shard = Topology::empty().shards.pop()?;
    shard.writes = Writes::Open(0);
    shard.readers = (1..=3).map(|node| Reader { node, weight: 1, zone: None }).collect();
    Some(shard)
}

fn decisions(c: &mut Criterion) {
    let Some(shard) = shard() else { return };
    let loads = Fixed([(3, 90_000); 8]);
    let cases = [
        ("master", Want::Master, Balancer::LeastInFlight),
        ("least in flight", Want::Read, Balancer::LeastInFlight),
        ("round robin", Want::Read, Balancer::RoundRobin),
        ("random", Want::Read, Balancer::Random),
        ("peak ewma", Want::Read, Balancer::PeakEwma),
    ];
    for (name, want, balancer) in cases {
        let mut picker = Picker::seeded(balancer, None, 1);
        c.bench_function(&format!("route {name}"), |b| {
            b.iter(|| route(black_box(want), ReadPolicy::PreferReplica, black_box(&shard), &mut picker, &loads, None))
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
