//! Which of several fit readers: balancers, weights, zones.
//!
//! Must not know policies or roles. Invariant: a reader of weight 0 or one to avoid is never picked, and a reader of the
//! own zone is picked as long as there is one. No allocation per pick, no clock.

use std::sync::Arc;

use super::Loads;
use super::guard::Guard;
use crate::config::{Balancer, LagGuard};
use crate::metrics::MAX_NODES;
use crate::topology::{NodeId, Reader};

/// Least in flight: picks in a row that the heaviest reader may get because it is at work, a lighter one fewer. Short, so that
/// each has its share of any second; longer brought nothing (16, 32 and 100 measured).
const TURN: u32 = 16;
/// Least in flight: a read waits at most so long behind others while there may be an idle reader. That is a few times what it takes
/// to wake one; with 150 us the gain was half of that with 250, and with 450 no more.
const MOMENT_NS: u64 = 250_000;
/// Least in flight: what a read costs its node at most, for it to wait behind others. A dearer one is better off with an idle
/// reader, and so is everybody behind it.
const CHEAP_NS: u64 = 20_000;

/// A balancer's state: one per worker and listener.
#[derive(Clone)]
pub struct Picker {
    balancer: Balancer,
    zone: Option<Arc<str>>,
    /// Xorshift state, never 0.
    random: u64,
    /// Round robin: turns a node is owed, in units of weight.
    credits: [i64; MAX_NODES],
    turn: Turn,
    pub(super) guard: Guard,
}

/// Least in flight: who was picked last, and how often it may be again at once.
#[derive(Clone, Copy, Default)]
struct Turn {
    node: NodeId,
    left: u32,
}

/// Readers to pick from: replicas, and perhaps the master behind them.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'a> {
    pub readers: &'a [Reader],
    pub master: Option<&'a Reader>,
}

/// Positions in [`Candidates`], as bits.
type Positions = u64;

/// The candidates that may be picked.
#[derive(Clone, Copy)]
struct Fit {
    positions: Positions,
    /// All have the same weight: no need to add weights up.
    even: bool,
}

impl<'a> Candidates<'a> {
    fn get(&self, position: usize) -> Option<&'a Reader> {
        self.readers.get(position).or(self.master.filter(|_| position == self.readers.len()))
    }
    fn all(self) -> impl Iterator<Item = (usize, &'a Reader)> {
        self.readers.iter().chain(self.master).enumerate().take(Positions::BITS as usize)
    }
    fn among(self, positions: Positions) -> impl Iterator<Item = (usize, &'a Reader)> {
        self.all().filter(move |(i, _)| positions >> i & 1 == 1)
    }
}

impl Picker {
    /// `zone`: readers of the same zone are preferred.
    pub fn new(balancer: Balancer, zone: Option<&str>) -> Self {
        Self::seeded(balancer, zone, fastrand::u64(..))
    }

    /// As [`Picker::new`], with its random numbers fixed by `seed`.
    pub fn seeded(balancer: Balancer, zone: Option<&str>, seed: u64) -> Self {
        Self {
            balancer,
            zone: zone.map(Into::into),
            random: seed | 1,
            credits: [0; MAX_NODES],
            turn: Turn::default(),
            guard: Guard::default(),
        }
    }

    /// Likewise, for reads while every replica lags.
    pub fn guarded(self, guard: LagGuard) -> Self {
        Self { guard: Guard::new(guard), ..self }
    }

    /// A reader that is not `avoid`, or `None` when no other has a weight.
    #[inline]
    pub(super) fn pick(&mut self, from: Candidates<'_>, loads: &impl Loads, avoid: Option<NodeId>) -> Option<NodeId> {
        let fit = self.fit(from, avoid);
        let position = match fit.positions.count_ones() {
            0 => return None,
            1 => fit.positions.trailing_zeros() as usize,
            _ => match self.balancer {
                Balancer::Random => self.draw(from, fit)?,
                Balancer::RoundRobin => self.richest(from, fit.positions)?,
                Balancer::LeastInFlight => match self.at_work(from, fit, loads) {
                    Some(position) => position,
                    None => self.new_turn(from, fit, loads)?,
                },
                Balancer::PeakEwma => self.better_of_two(from, fit, |a, b| slower(loads, a, b))?,
            },
        };
        from.get(position).map(|reader| reader.node)
    }

    /// The readers that may be picked: those of the own zone if there are any.
    fn fit(&self, from: Candidates<'_>, avoid: Option<NodeId>) -> Fit {
        let (mut near, mut fit, mut weight, mut even) = (0, 0, 0, true);
        from.all().for_each(|(i, reader)| {
            if reader.weight > 0 && Some(reader.node) != avoid {
                even &= fit == 0 || reader.weight == weight;
                weight = reader.weight;
                fit |= 1 << i;
                if self.zone.is_some() && reader.zone == self.zone {
                    near |= 1 << i;
                }
            }
        });
        Fit { positions: if near == 0 { fit } else { near }, even }
    }

    /// One position at random, by weight.
    fn draw(&mut self, from: Candidates<'_>, fit: Fit) -> Option<usize> {
        if fit.even {
            let mut positions = fit.positions;
            for _ in 0..self.below(u64::from(positions.count_ones())) {
                positions &= positions - 1;
            }
            return Some(positions.trailing_zeros() as usize);
        }
        let total: u64 = from.among(fit.positions).map(|(_, r)| u64::from(r.weight)).sum();
        let mut left = self.below(total);
        for (i, reader) in from.among(fit.positions) {
            match left.checked_sub(u64::from(reader.weight)) {
                Some(rest) => left = rest,
                None => return Some(i),
            }
        }
        None
    }

    /// Two different positions at random, by weight; the first unless `worse(first, second)`.
    fn better_of_two(
        &mut self,
        from: Candidates<'_>,
        fit: Fit,
        worse: impl Fn(&Reader, &Reader) -> bool,
    ) -> Option<usize> {
        let first = self.draw(from, fit)?;
        let second = self.draw(from, Fit { positions: fit.positions & !(1 << first), ..fit })?;
        Some(if worse(from.get(first)?, from.get(second)?) { second } else { first })
    }

    /// The reader of the last pick, if its turn is not over and it is at work with little before it. A read that joins it travels
    /// with others and finds it awake, where an idle one must be woken for it: fewer and larger writes on both sides, and
    /// sooner answered. One that is idle, slow or silent is left to [`Self::new_turn`], so without a crowd reads are spread one
    /// by one, and dear ones go to whoever is idle.
    fn at_work(&mut self, from: Candidates<'_>, fit: Fit, loads: &impl Loads) -> Option<usize> {
        let Turn { node, left } = self.turn;
        if left == 0 {
            return None;
        }
        let (each, all) = loads.wait_ns(node);
        if !(1..CHEAP_NS).contains(&each) || all >= MOMENT_NS {
            return None;
        }
        let (position, _) = from.among(fit.positions).find(|(_, reader)| reader.node == node)?;
        self.turn.left -= 1;
        Some(position)
    }

    fn new_turn(&mut self, from: Candidates<'_>, fit: Fit, loads: &impl Loads) -> Option<usize> {
        let position = self.better_of_two(from, fit, |a, b| busier(loads, a, b))?;
        let reader = from.get(position)?;
        let picks = if fit.even { TURN } else { turn_by_weight(reader, from, fit) };
        self.turn = Turn { node: reader.node, left: picks.saturating_sub(1) };
        Some(position)
    }

    /// Smooth weighted round robin: each fit reader earns its weight, the richest is picked and pays for all. So a heavy
    /// reader's turns are spread out, and equal weights take turns in order.
    fn richest(&mut self, from: Candidates<'_>, positions: Positions) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(usize, NodeId, i64)> = None;
        for (i, reader) in from.among(positions) {
            let weight = i64::from(reader.weight);
            let credit = self.credits.get_mut(usize::from(reader.node))?;
            *credit += weight;
            total += weight;
            if richest.is_none_or(|(_, _, most)| *credit > most) {
                richest = Some((i, reader.node, *credit));
            }
        }
        let (position, node, _) = richest?;
        *self.credits.get_mut(usize::from(node))? -= total;
        Some(position)
    }

    /// Uniform in `0..bound`; 0 if `bound` is 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let mixed = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}

/// [`TURN`] for the heaviest, in proportion for others.
fn turn_by_weight(reader: &Reader, from: Candidates<'_>, fit: Fit) -> u32 {
    let heaviest = from.among(fit.positions).map(|(_, r)| r.weight).max().unwrap_or(1).max(1);
    // At most TURN, for the reader is one of them.
    (u64::from(TURN) * u64::from(reader.weight) / u64::from(heaviest)) as u32
}

/// Has `a` more requests in flight per weight than `b`? Two idle readers are equal, whatever their weights.
fn busier(loads: &impl Loads, a: &Reader, b: &Reader) -> bool {
    u64::from(loads.in_flight(a.node)) * u64::from(b.weight) > u64::from(loads.in_flight(b.node)) * u64::from(a.weight)
}

/// Is the answer of `a` expected later, per weight, than that of `b`? Until both have been measured their load decides.
fn slower(loads: &impl Loads, a: &Reader, b: &Reader) -> bool {
    if loads.latency_ns(a.node) == 0 || loads.latency_ns(b.node) == 0 {
        return busier(loads, a, b);
    }
    let score = |r: &Reader| u128::from(loads.latency_ns(r.node)) * (u128::from(loads.in_flight(r.node)) + 1);
    // 64 + 33 bits of score times 32 of weight could pass 128 bits only at latencies of years.
    score(a).saturating_mul(u128::from(b.weight)) > score(b).saturating_mul(u128::from(a.weight))
}

#[cfg(test)]
mod tests {
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
                let mut nodes: Vec<NodeId> = (0..100)
                    .map(|_| picker.pick(Candidates { readers, master }, &Fixed(vec![]), avoid).unwrap())
                    .collect();
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
}
