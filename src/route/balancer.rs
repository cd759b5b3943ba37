//! Which of several fit readers: balancers, weights, zones.
//!
//! Must not know policies or roles. Invariant: a reader of weight 0 or one to avoid is never picked, and a reader of the
//! own zone is picked as long as there is one. No allocation per pick, no clock.

mod turn;

use std::sync::Arc;

use super::Loads;
use super::guard::Guard;
use crate::config::{Balancer, LagGuard};
use crate::metrics::MAX_NODES;
use crate::topology::{NodeId, Reader};
use turn::Turn;

/// A balancer's state: one per worker and listener.
#[derive(Clone)]
pub struct Picker {
    balancer: Balancer,
    zone: Option<Arc<str>>,
    /// Xorshift state, never 0.
    random: u64,
    /// Round robin: turns a node is owed, in units of weight.
    credits: [i64; MAX_NODES],
    /// Least in flight.
    turn: Turn,
    pub(super) guard: Guard,
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

    /// The reader of the last pick, while reads join it.
    fn at_work(&mut self, from: Candidates<'_>, fit: Fit, loads: &impl Loads) -> Option<usize> {
        let node = self.turn.joined(loads)?;
        let (position, _) = from.among(fit.positions).find(|(_, reader)| reader.node == node)?;
        self.turn.take();
        Some(position)
    }

    fn new_turn(&mut self, from: Candidates<'_>, fit: Fit, loads: &impl Loads) -> Option<usize> {
        let position = self.better_of_two(from, fit, |a, b| busier(loads, a, b))?;
        let reader = from.get(position)?;
        let heaviest = match fit.even {
            true => reader.weight,
            false => from.among(fit.positions).map(|(_, r)| r.weight).max().unwrap_or(reader.weight),
        };
        self.turn = Turn::begun(reader, heaviest);
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
mod tests;
