//! What happens to the servers in a cell.
//!
//! Must not touch the clients. Invariant: when a fault returns, redweir knows one living master, which is the one returned.

use std::time::Duration;

use super::support::{Plan, Proxy, Stage, call, proxy, wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; the old master returns later.
    Kill,
    /// SIGSTOP until another is master, then SIGCONT.
    Hang,
    /// SENTINEL FAILOVER.
    Planned,
    /// `redweir switchover`.
    Switchover,
    /// REPLICAOF NO ONE at a replica while the master lives; the others and the old master are re-pointed.
    ByHand,
    /// Two changes in a row: two kills under Sentinel, FAILOVER TO and back without.
    Double,
    /// A replica dies and returns, again and again.
    Flap,
    /// All Sentinels but one die and return.
    Sentinels,
}

pub const TOKEN: &str = "open sesame";

impl Fault {
    /// The others do not exist: Sentinel reverts a promotion by hand.
    pub const WITH_SENTINEL: [Fault; 7] =
        [Fault::Kill, Fault::Hang, Fault::Planned, Fault::Switchover, Fault::Double, Fault::Flap, Fault::Sentinels];
    /// The others need a Sentinel; that a master hangs replicas do not see before repl-timeout, so that nobody may promote one.
    pub const WITHOUT: [Fault; 5] = [Fault::Kill, Fault::Switchover, Fault::ByHand, Fault::Double, Fault::Flap];

    pub fn promotes(self) -> bool {
        !matches!(self, Fault::Flap | Fault::Sentinels)
    }

    pub fn plan(sentinel: bool) -> Plan {
        let sentinels = if sentinel { 3 } else { 0 };
        Plan { replicas: 2, sentinels, failover_timeout: Duration::from_millis(2000), ..Plan::default() }
    }

    pub fn flags(self, sentinel: bool) -> Vec<&'static str> {
        let mut flags = vec!["--admin-token", TOKEN, "--workers", "2"];
        if self == Fault::Kill && !sentinel {
            flags.extend(["--promote", "on"]);
        }
        flags
    }

    pub fn play(self, stage: &mut Stage, proxy: &Proxy) -> usize {
        match self {
            Fault::Kill => kill(stage, proxy),
            Fault::Hang => {
                let old = master(stage, proxy);
                stage.nodes[old].stop();
                let new = wait_other(stage, proxy, old);
                stage.nodes[old].cont();
                new
            }
            Fault::Planned => planned(stage, proxy),
            Fault::Switchover => switchover(stage, proxy),
            Fault::ByHand => by_hand(stage, proxy),
            Fault::Double if stage.sentinels.is_empty() => {
                failover_to(stage, proxy);
                proxy.wait_readers(2);
                failover_to(stage, proxy)
            }
            Fault::Double => {
                kill(stage, proxy);
                kill(stage, proxy)
            }
            Fault::Flap => {
                for _ in 0..4 {
                    stage.nodes[1].kill();
                    proxy.wait_readers(1);
                    stage.nodes[1].resume().expect("started");
                    proxy.wait_readers(2);
                }
                master(stage, proxy)
            }
            Fault::Sentinels => {
                for _ in 0..2 {
                    stage.sentinels.iter_mut().skip(1).for_each(|s| s.kill());
                    std::thread::sleep(Duration::from_millis(1500));
                    stage.sentinels.iter_mut().skip(1).for_each(|s| s.resume().expect("started"));
                    std::thread::sleep(Duration::from_millis(500));
                }
                master(stage, proxy)
            }
        }
    }
}

/// The node that redweir takes for the master.
pub fn master(stage: &Stage, proxy: &Proxy) -> usize {
    let mut found = 0;
    wait("a master", || {
        let set = proxy.set();
        let named = set["shards"][0]["master"].as_str();
        found = stage.nodes.iter().position(|n| named == Some(&n.address())).ok_or_else(|| set.to_string())?;
        Ok(())
    });
    found
}

fn wait_other(stage: &Stage, proxy: &Proxy, old: usize) -> usize {
    wait("another master", || if master(stage, proxy) == old { Err(proxy.set().to_string()) } else { Ok(()) });
    master(stage, proxy)
}

fn kill(stage: &mut Stage, proxy: &Proxy) -> usize {
    let old = master(stage, proxy);
    stage.nodes[old].kill();
    let new = wait_other(stage, proxy, old);
    stage.nodes[old].resume().expect("started");
    proxy.wait_readers(2);
    new
}

/// Sentinel refuses while it thinks that no replica is good.
fn planned(stage: &Stage, proxy: &Proxy) -> usize {
    let old = master(stage, proxy);
    wait("a Sentinel that begins", || {
        let mut sentinel = stage.sentinels[0].connect().map_err(|e| e.to_string())?;
        match call(&mut sentinel, &format!("SENTINEL FAILOVER {}", stage.plan.master_name)) {
            reply if !reply.is_error() => Ok(()),
            reply => Err(reply.text()),
        }
    });
    wait_other(stage, proxy, old)
}

fn switchover(stage: &Stage, proxy: &Proxy) -> usize {
    let old = master(stage, proxy);
    let admin = format!("127.0.0.1:{}", proxy.admin);
    let ended = proxy::command().args(["switchover", "--admin", &admin, "--token", TOKEN]).output().expect("redweir");
    assert!(
        ended.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    wait_other(stage, proxy, old)
}

fn by_hand(stage: &Stage, proxy: &Proxy) -> usize {
    let old = master(stage, proxy);
    let new = (old + 1) % stage.nodes.len();
    let say = |node: usize, line: &str| {
        let reply = call(&mut stage.nodes[node].connect().expect("a node"), line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    };
    say(new, "REPLICAOF NO ONE");
    for other in (0..stage.nodes.len()).filter(|n| *n != new) {
        say(other, &format!("REPLICAOF 127.0.0.1 {}", stage.nodes[new].port));
    }
    wait_other(stage, proxy, old)
}

/// To node 1, and from there back: the others stay replicas of the first master. Refused until the target is in sync.
fn failover_to(stage: &Stage, proxy: &Proxy) -> usize {
    let old = master(stage, proxy);
    let to = &stage.nodes[usize::from(old != 1)];
    let line = format!("FAILOVER TO 127.0.0.1 {}", to.port);
    wait("FAILOVER", || {
        let reply = call(&mut stage.nodes[old].connect().expect("the master"), &line);
        if reply.is_error() { Err(format!("{reply:?}")) } else { Ok(()) }
    });
    wait_other(stage, proxy, old)
}
