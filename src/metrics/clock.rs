//! The data path's clock: plain numbers, read from the processor's counter where that can be trusted.
//!
//! A read costs 11 ns against 28 ns for the system's (limit.md section 7) and a difference is one subtraction. Only for
//! latencies: deadlines use tokio's clock. Invariant: within one process all clocks agree.

/// A point in time, in units that only [`Clock`] knows.
pub type Tick = u64;

/// Cheap to clone; calibrated once per process.
#[derive(Debug, Clone)]
pub struct Clock {
    counter: quanta::Clock,
    /// Nanoseconds in 2^32 units.
    scale: u64,
}

impl Default for Clock {
    fn default() -> Self {
        let counter = quanta::Clock::default();
        let scale = counter.delta_as_nanos(0, 1 << 32);
        Self { counter, scale }
    }
}

impl Clock {
    #[inline]
    pub fn now(&self) -> Tick {
        self.counter.raw()
    }

    /// Nanoseconds from `start` to `end`; 0 when they are not in that order.
    #[inline]
    pub fn ns(&self, start: Tick, end: Tick) -> u64 {
        // As quanta does it, with a shift that is known here.
        ((u128::from(end.saturating_sub(start)) * u128::from(self.scale)) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_same_as_its_source() {
        let clock = Clock::default();
        let start = clock.now();
        assert_eq!((clock.ns(start, start), clock.ns(start, start - 1)), (0, 0));
        for ticks in [1, 1_000, 1 << 20, 1 << 32, 1 << 44] {
            let (ours, theirs) = (clock.ns(start, start + ticks), clock.counter.delta_as_nanos(start, start + ticks));
            assert!(ours.abs_diff(theirs) <= 1 + theirs / 1_000_000_000, "{ticks}: {ours} {theirs}");
        }
    }
}
