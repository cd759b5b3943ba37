//! The data path's clock: plain numbers, read from the processor's counter where that can be trusted.
//!
//! A read costs 11 ns against 28 ns for the system's (limit.md section 7) and a difference is one subtraction. Only for
//! latencies: deadlines use tokio's clock. Invariant: within one process all clocks agree.

/// A point in time, in units that only [`Clock`] knows.
pub type Tick = u64;

/// Cheap to clone; calibrated once per process.
#[derive(Debug, Clone, Default)]
pub struct Clock(quanta::Clock);

impl Clock {
    #[inline]
    pub fn now(&self) -> Tick {
        self.0.raw()
    }

    /// Nanoseconds from `start` to `end`; 0 when they are not in that order.
    #[inline]
    pub fn ns(&self, start: Tick, end: Tick) -> u64 {
        self.0.delta_as_nanos(start, end)
    }
}
