//! redweir from outside, judged by what clients saw: many write and read at random, at every level at the same time, while replicas
//! lag, links break and masters change; afterwards each read is held against what the session was promised, and each write
//! against what is there (`check` has the model).
//!
//! Environment: REDWEIR_SEED (printed by each run; the same seed gives the same faults and the same requests, though not the same
//! interleaving), REDWEIR_ROUNDS (rounds of each fault), REDWEIR_FAULTS (names, by comma), REDWEIR_PACE_US (mean pause of a client),
//! REDWEIR_LEAST_READS (of each run, at the levels `session` and `strong`).

mod actor;
mod check;
mod faults;
mod history;
mod judged;
mod logs;
mod report;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use actor::{Actor, Round};
use faults::{Fault, Theatre};
use history::{History, Level};
use report::Report;
use support::{Linked, Plan};

/// A bound that replicas break often enough for the level `bounded` to have work to do.
const BOUND: u64 = 20_000_000;

fn environment<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value}")),
        Err(_) => default,
    }
}

/// Every level, and each in both databases.
fn cast(seed: u64) -> Vec<Actor> {
    let level = |me: u32| match me % 5 {
        0 => Level::Eventual,
        1 => Level::Bounded(BOUND),
        2 | 3 => Level::Session,
        _ => Level::Strong,
    };
    (0..20).map(|me| Actor::new(me, level(me), seed)).collect()
}

/// The clients go on until the fault is over and everything is whole again.
fn round(theatre: &mut Theatre, cast: &mut [Actor], fault: Fault, round: &Round) -> History {
    let mut history = History::default();
    let before = theatre.term();
    std::thread::scope(|scope| {
        let players: Vec<_> = cast.iter_mut().map(|actor| scope.spawn(move || actor.play(round))).collect();
        let stop = StopOnDrop(round);
        more(round, 500);
        history.loss = theatre.play(fault, &|| round.now());
        more(round, 500);
        drop(stop);
        history.sessions = players.into_iter().flat_map(|p| p.join().expect("a client")).collect();
    });
    let master = theatre.master();
    let mut node = theatre.linked.stage.nodes[master].connect().expect("the master");
    history.last = actor::survey(&mut node, round.number).expect("the master's data").into_iter().collect();
    let switches = theatre.term() - before;
    assert!(switches <= 1, "{fault:?}: {switches} changes of master in one round: nobody could judge that");
    history
}

struct StopOnDrop<'a>(&'a Round);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}

fn more(round: &Round, ops: u64) {
    let before = round.done.load(Relaxed);
    support::wait("clients", || match round.done.load(Relaxed) - before {
        done if done >= ops => Ok(()),
        done => Err(format!("{done} operations")),
    });
}

fn run(plan: Plan, faults: &[Fault], flags: &[&str], seed: u64) -> Report {
    let wanted = std::env::var("REDWEIR_FAULTS").unwrap_or_default().to_lowercase();
    let chosen = |f: &&Fault| wanted.is_empty() || wanted.split(',').any(|w| w == format!("{f:?}").to_lowercase());
    let faults: Vec<Fault> = faults.iter().filter(chosen).copied().collect();
    let mut report = Report::default();
    if faults.is_empty() {
        return report;
    }
    let pace = Duration::from_micros(environment("REDWEIR_PACE_US", 2_000));
    println!("REDWEIR_SEED={seed}");
    let linked = Linked::start(plan, seed);
    let proxy = linked.proxy(&[&["--workers", "2", "--admin-token", faults::TOKEN][..], flags].concat());
    let mut theatre = Theatre { linked, proxy, random: fastrand::Rng::with_seed(seed) };
    let mut cast = cast(seed);
    let address = format!("127.0.0.1:{}", theatre.proxy.port);
    actor::prepare(&mut theatre.proxy.client()).expect("scripts");
    for number in 0..environment("REDWEIR_ROUNDS", 1) * faults.len() as u32 {
        let fault = faults[number as usize % faults.len()];
        let began = Instant::now();
        let this = Round::new(number, address.clone(), began, pace);
        let history = round(&mut theatre, &mut cast, fault, &this);
        let verdict = check::judge(&history);
        println!("round {number}, {fault:?}, {:.1} s: {}", began.elapsed().as_secs_f64(), report::line(&verdict));
        report.add(fault, verdict);
    }
    report
}

fn seed() -> u64 {
    environment("REDWEIR_SEED", fastrand::u64(..))
}

#[test]
fn reads_keep_their_promise_while_replicas_suffer_and_masters_change_without_sentinel() {
    let _turn = support::turn();
    let plan = Plan { replicas: 2, sentinels: 0, ..Plan::default() };
    let report = run(plan, &Fault::WITHOUT_SENTINEL, &[], seed());
    report.print();
    report.judge();
    report.read_enough(environment("REDWEIR_LEAST_READS", 1000));
}

#[test]
fn reads_keep_their_promise_while_sentinel_changes_masters() {
    let _turn = support::turn();
    let plan = Plan { replicas: 2, failover_timeout: Duration::from_millis(3000), ..Plan::default() };
    let report = run(plan, &Fault::WITH_SENTINEL, &[], seed());
    report.print();
    report.judge();
    report.read_enough(environment("REDWEIR_LEAST_READS", 1000));
}

/// The same with every write held until a replica has it, and every offset asked together with its replication id.
#[test]
fn with_acks_nothing_acknowledged_is_lost_whatever_becomes_of_the_master() {
    let _turn = support::turn();
    let plan = Plan { replicas: 2, failover_timeout: Duration::from_millis(3000), ..Plan::default() };
    let report = run(plan, &Fault::WITH_SENTINEL, &["--acks", "1", "--acks-timeout", "30s", "--strict", "on"], seed());
    report.print();
    report.judge();
    report.lost_nothing();
}
