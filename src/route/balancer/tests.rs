//! Picks by table, and of a simulated crowd.

use super::turn::{CHEAP_NS, MOMENT_NS, TURN};
use super::*;

/// In flight and latency by node; those in flight are answered one after another.
struct Fixed(Vec<(u32, u64)>);

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

const ALL: [Balancer; 4] = [Balancer::LeastInFlight, Balancer::RoundRobin, Balancer::Random, Balancer::PeakEwma];

fn readers(weights: &[u32]) -> Vec<Reader> {
    weights.iter().enumerate().map(|(i, &weight)| Reader { node: i as NodeId, weight, zone: None }).collect()
}

/// Picks per node out of `n`.
fn counts(picker: &mut Picker, readers: &[Reader], loads: &Fixed, n: usize) -> Vec<usize> {
    let mut counts = vec![0; readers.len()];
    for _ in 0..n {
        let node = picker.pick(Candidates { readers, master: None }, loads, None).unwrap();
        counts[usize::from(node)] += 1;
    }
    counts
}

#[test]
fn idle_readers_share_by_weight_and_weight_0_gets_none() {
    let (uneven, even) = (readers(&[1, 0, 2, 5]), readers(&[3, 0, 3, 3]));
    for (balancer, (readers, shares)) in [Balancer::LeastInFlight, Balancer::RoundRobin, Balancer::Random]
        .into_iter()
        .flat_map(|b| [(b, (&uneven, [1000usize, 0, 2000, 5000])), (b, (&even, [2667, 0, 2667, 2667]))])
    {
        let mut picker = Picker::seeded(balancer, None, 42);
        let counts = counts(&mut picker, readers, &Fixed(vec![]), 8000);
        for (count, share) in counts.iter().zip(shares) {
            assert!(count.abs_diff(share) <= share / 10, "{balancer:?} {counts:?}");
        }
    }
}

#[test]
fn round_robin_takes_turns_and_spreads_the_heavy_one() {
    let mut picker = Picker::seeded(Balancer::RoundRobin, None, 1);
    let mut order = |weights: &[u32], n: usize| -> Vec<NodeId> {
        let readers = readers(weights);
        let from = Candidates { readers: &readers, master: None };
        (0..n).map(|_| picker.pick(from, &Fixed(vec![]), None).unwrap()).collect()
    };
    assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(order(&[4, 1, 1], 6), [0, 0, 1, 0, 2, 0]);
    assert_eq!(order(&[7, 7], 4), [0, 1, 0, 1]);
}

#[test]
fn least_in_flight_takes_the_emptier_of_two() {
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 7);
    assert_eq!(counts(&mut picker, &readers(&[1, 1]), &Fixed(vec![(3, 0), (2, 0)]), 100), [0, 100]);
    // Of three, the fullest is always the worse of any two; both others are used.
    let three = counts(&mut picker, &readers(&[1, 1, 1]), &Fixed(vec![(9, 0), (2, 0), (1, 0)]), 300);
    assert!(three[0] == 0 && three[1] > 50 && three[2] > 100, "{three:?}");
    // Four in flight at weight 4 are as much as one at weight 1, and less than two.
    assert_eq!(counts(&mut picker, &readers(&[4, 1]), &Fixed(vec![(4, 0), (2, 0)]), 100), [100, 0]);
}

#[test]
fn load_follows_weights_when_replies_take_time() {
    let readers = readers(&[1, 3]);
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 3);
    let mut loads = Fixed(vec![(0, MOMENT_NS), (0, MOMENT_NS)]);
    for _ in 0..400 {
        let node = picker.pick(Candidates { readers: &readers, master: None }, &loads, None).unwrap();
        loads.0[usize::from(node)].0 += 1;
    }
    assert!(loads.0[0].0.abs_diff(100) <= 1, "{:?}", loads.0);
}

#[test]
fn reads_join_a_reader_at_work_for_a_turn_unless_they_would_wait_there() {
    let readers = readers(&[1, 1, 1]);
    let from = Candidates { readers: &readers, master: None };
    // (in flight, latency) of the one picked last; how often it is picked again at once.
    for (at_work, again) in [
        ((1, 1), TURN - 1),
        ((1, CHEAP_NS - 1), TURN - 1),
        ((1, CHEAP_NS), 0),
        ((50, MOMENT_NS / 50 - 1), TURN - 1),
        ((50, MOMENT_NS / 50), 0),
    ] {
        let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 9);
        let first = picker.pick(from, &Fixed(vec![]), None).unwrap();
        let mut loads = Fixed(vec![(0, 0); 3]);
        loads.0[usize::from(first)] = at_work;
        let mut follow = || picker.pick(from, &loads, None).unwrap();
        for _ in 0..again {
            assert_eq!(follow(), first, "{at_work:?}");
        }
        // Two idle ones are there, and it is never the emptier of two.
        assert_ne!(follow(), first, "{at_work:?}");
    }
}

#[test]
fn without_a_crowd_reads_are_spread_one_by_one() {
    let (readers, idle) = (readers(&[1, 1, 1]), Fixed(vec![(0, 1000); 3]));
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 9);
    let from = Candidates { readers: &readers, master: None };
    let picks: Vec<NodeId> = (0..300).map(|_| picker.pick(from, &idle, None).unwrap()).collect();
    let changes = picks.windows(2).filter(|two| two[0] != two[1]).count();
    assert!((150..250).contains(&changes), "two of three times to another: {changes}");
}

/// Picks per reader of `n` clients that each ask again when they are answered, where a reader of `cost` ns a request answers
/// all it was sent together, as Redis does.
fn crowd(picker: &mut Picker, readers: &[Reader], costs: &[u64], n: usize) -> Vec<u64> {
    let from = Candidates { readers, master: None };
    let mut loads = Fixed(costs.iter().map(|cost| (0, *cost)).collect());
    let (mut picks, mut busy_until) = (vec![0; readers.len()], vec![0u64; readers.len()]);
    let (mut now, mut waiting) = (0, n);
    for _ in 0..20_000 {
        while waiting > 0 {
            let i = usize::from(picker.pick(from, &loads, None).unwrap());
            // Every other one joins what was sent in its round.
            let joins = 2.min(waiting);
            loads.0[i].0 += joins as u32;
            (picks[i], waiting) = (picks[i] + joins as u64, waiting - joins);
            busy_until[i] = now.max(busy_until[i]) + joins as u64 * costs[i];
        }
        let next = (0..readers.len()).filter(|&i| loads.0[i].0 > 0).min_by_key(|&i| busy_until[i]).unwrap();
        now = now.max(busy_until[next]);
        waiting += std::mem::take(&mut loads.0[next].0) as usize;
    }
    picks.iter().map(|n| n * 1_000_000 / now).collect()
}

#[test]
fn a_crowd_s_dear_reads_keep_all_readers_busy() {
    // 50 us a read: three readers can do 60 each ms, and one of them 20.
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 4);
    let each_ms: u64 = crowd(&mut picker, &readers(&[1, 1, 1]), &[50_000; 3], 12).iter().sum();
    assert!(each_ms >= 45, "{each_ms}");
}

#[test]
fn a_lighter_reader_s_turn_is_shorter() {
    for (weights, expected) in [([5, 5], TURN), ([1, 4], TURN / 4), ([3, 4], TURN * 3 / 4), ([1, 100], 1)] {
        let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 4);
        let readers = readers(&weights);
        // The heavier one has much to do.
        let (from, loads) = (Candidates { readers: &readers, master: None }, Fixed(vec![(1, 1), (1000, 1)]));
        assert_eq!(picker.pick(from, &loads, None), Some(0), "{weights:?}");
        assert_eq!(picker.turn.left, expected - 1, "{weights:?}");
    }
}

#[test]
fn a_crowd_leaves_a_slow_reader_alone() {
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 4);
    let far = crowd(&mut picker, &readers(&[1, 1]), &[5_000, 100_000], 8);
    assert!(far[0] > 5 * far[1], "{far:?}");
}

#[test]
fn a_turn_ends_where_its_reader_no_longer_fits() {
    let all = readers(&[1, 1, 1]);
    let mut picker = Picker::seeded(Balancer::LeastInFlight, None, 9);
    let node = picker.pick(Candidates { readers: &all, master: None }, &Fixed(vec![]), None).unwrap();
    let mut loads = Fixed(vec![(0, 0); 3]);
    loads.0[usize::from(node)] = (1, 1);
    let gone: Vec<Reader> = all.iter().filter(|r| r.node != node).cloned().collect();
    let mut of_no_weight = all.clone();
    of_no_weight[usize::from(node)].weight = 0;
    for (readers, avoid) in [(&gone, None), (&of_no_weight, None), (&all, Some(node))] {
        let picked = picker.clone().pick(Candidates { readers, master: None }, &loads, avoid);
        assert!(picked.is_some_and(|other| other != node), "{readers:?} {avoid:?}");
    }
    assert_eq!(picker.pick(Candidates { readers: &all, master: None }, &loads, None), Some(node));
}

#[test]
fn peak_ewma_weighs_latency_with_load() {
    let mut picker = Picker::seeded(Balancer::PeakEwma, None, 7);
    let two = readers(&[1, 1]);
    let cases = [
        // Slower but idle beats faster but loaded.
        ([(9, 100), (0, 500)], [0, 50]),
        ([(1, 100), (0, 500)], [50, 0]),
        ([(0, 100), (0, 101)], [50, 0]),
        // Never measured: load decides, so that it is not flooded before its first reply.
        ([(0, 100), (5, 0)], [50, 0]),
        ([(5, 100), (0, 0)], [0, 50]),
    ];
    for (loads, expected) in cases {
        assert_eq!(counts(&mut picker, &two, &Fixed(loads.to_vec()), 50), expected, "{loads:?}");
    }
    // Twice the weight stands for half the latency.
    let loads = Fixed(vec![(0, 100), (0, 150)]);
    assert_eq!(counts(&mut picker, &readers(&[1, 2]), &loads, 50), [0, 50]);
}

#[test]
fn own_zone_first_as_long_as_somebody_there_fits() {
    let zoned = |node, weight, zone: Option<&str>| Reader { node, weight, zone: zone.map(Into::into) };
    let here = [zoned(0, 1, Some("a")), zoned(1, 1, Some("b")), zoned(2, 1, Some("a")), zoned(3, 1, None)];
    let none_here = [zoned(0, 0, Some("a")), zoned(1, 1, Some("b")), zoned(3, 1, None)];
    let master = zoned(9, 1, Some("a"));
    for balancer in ALL {
        let seen = |readers: &[Reader], master: Option<&Reader>, zone: Option<&str>, avoid| {
            let mut picker = Picker::seeded(balancer, zone, 5);
            let mut nodes: Vec<NodeId> =
                (0..100).map(|_| picker.pick(Candidates { readers, master }, &Fixed(vec![]), avoid).unwrap()).collect();
            nodes.sort_unstable();
            nodes.dedup();
            nodes
        };
        assert_eq!(seen(&here, None, Some("a"), None), [0, 2], "{balancer:?}");
        assert_eq!(seen(&here, None, Some("a"), Some(2)), [0], "{balancer:?}");
        assert_eq!(seen(&here, None, Some("c"), None), [0, 1, 2, 3], "{balancer:?}");
        assert_eq!(seen(&here, None, None, None), [0, 1, 2, 3], "{balancer:?}");
        assert_eq!(seen(&none_here, None, Some("a"), None), [1, 3], "{balancer:?}");
        assert_eq!(seen(&none_here, Some(&master), Some("a"), None), [9], "{balancer:?}");
        assert_eq!(seen(&none_here, Some(&master), Some("a"), Some(9)), [1, 3], "{balancer:?}");
    }
}

#[test]
fn nothing_fits_is_none_and_the_most_nodes_work() {
    for balancer in ALL {
        let mut picker = Picker::seeded(balancer, None, 5);
        let mut pick = |weights: &[u32], avoid| {
            let readers = readers(weights);
            picker.pick(Candidates { readers: &readers, master: None }, &Fixed(vec![]), avoid)
        };
        assert_eq!(pick(&[], None), None);
        assert_eq!(pick(&[0, 0], None), None);
        assert_eq!(pick(&[1], Some(0)), None);
        assert_eq!(pick(&[0, 3], None), Some(1));
        assert!(pick(&[u32::MAX; MAX_NODES], None).is_some());
    }
}
