//! Properties of everything that parses: any input, any split; and what the real Redis makes of the same bytes.
//!
//! `live.rs` starts a redis-server on loopback and stops it. Its cases are random: `REDWEIR_SEED=n` repeats a run (the seed
//! is printed), `REDWEIR_CASES=n` sets how many. The pages under `tests/fuzz` ask the same questions without an end.

mod bytes;
mod commands;
mod live;
mod replies;
mod requests;
