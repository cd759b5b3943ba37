//! What happens to the servers in a cell.
//!
//! Must not touch the clients. Invariant: when a fault returns, redweir knows one living master, which is the one returned.

use std::time::{Duration, Instant};

use super::net::{Net, Side};
use super::support::{Plan, Proxy, Stage, call, proxy, settle, wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9; the old master returns later.
    Kill,
    /// SIGSTOP until another is master, then SIGCONT; without Sentinel until requests were refused for a while.
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
    /// The master and the Sentinels do not reach each other; both reach all others.
    CutSentinels,
    /// Likewise the master and its replicas.
    CutReplicas,
    /// Likewise the master and redweir.
    CutRedweir,
    /// kill -9 and a new start of one after the other, in random order and after random pauses.
    Restart,
    /// Everything dies at once and is started in random order.
    Blackout,
}

pub const TOKEN: &str = "open sesame";
pub const NODES: usize = 3;
/// Sentinel's and redweir's.
pub const DOWN_AFTER: Duration = Duration::from_secs(1);

/// Where a fault is played.
pub struct Scene<'a> {
    pub stage: &'a mut Stage,
    pub proxy: &'a Proxy,
    pub net: Option<&'a Net>,
    /// When something was done to the master of the time that it cannot know of before.
    pub struck: Vec<Instant>,
    pub seed: u64,
}

impl Fault {
    /// By hand is not among them: Sentinel reverts a promotion by hand.
    pub const WITH_SENTINEL: [Fault; 12] = {
        use Fault::*;
        [
            Kill,
            Hang,
            Planned,
            Switchover,
            Double,
            Flap,
            Sentinels,
            CutSentinels,
            CutReplicas,
            CutRedweir,
            Restart,
            Blackout,
        ]
    };
    /// The others need a Sentinel.
    pub const WITHOUT: [Fault; 10] = {
        use Fault::*;
        [Kill, Hang, Switchover, ByHand, Double, Flap, CutReplicas, CutRedweir, Restart, Blackout]
    };

    /// Whether another node becomes master; `None`: it may.
    pub fn promotes(self, sentinel: bool) -> Option<bool> {
        match self {
            Fault::Restart | Fault::Blackout => None,
            Fault::Flap | Fault::Sentinels | Fault::CutReplicas | Fault::CutRedweir => Some(false),
            // That a master hangs replicas do not see before repl-timeout, so that nobody may promote one.
            Fault::Hang => Some(sentinel),
            _ => Some(true),
        }
    }

    pub fn cuts(self) -> bool {
        matches!(self, Fault::CutSentinels | Fault::CutReplicas | Fault::CutRedweir)
    }

    pub fn plan(self, sentinel: bool, net: Option<&Net>) -> Plan {
        let kept = ["appendonly yes", "appendfsync no"].map(String::from);
        Plan {
            replicas: NODES - 1,
            sentinels: if sentinel { 3 } else { 0 },
            down_after: DOWN_AFTER,
            failover_timeout: Duration::from_millis(2000),
            // What dies with its process must be there again with the next.
            extra: if matches!(self, Fault::Restart | Fault::Blackout) { kept.into() } else { Vec::new() },
            places: net.map(Net::places).unwrap_or_default(),
            ..Plan::default()
        }
    }

    /// How long redweir holds a write.
    pub fn hold(self, sentinel: bool) -> Duration {
        Duration::from_secs(if self == Fault::Hang && !sentinel { 1 } else { 10 })
    }

    pub fn flags(self, sentinel: bool) -> Vec<&'static str> {
        let mut flags = vec!["--admin-token", TOKEN, "--workers", "2"];
        flags.extend(["--hold", if self.hold(sentinel) > DOWN_AFTER { "10s" } else { "1s" }]);
        // Who alone misses the master must not take it for dead.
        if matches!(self, Fault::Kill | Fault::CutRedweir) && !sentinel {
            flags.extend(["--promote", "on"]);
        }
        flags
    }

    pub fn play(self, scene: &mut Scene) -> usize {
        match self {
            Fault::Kill => kill(scene),
            Fault::Hang => hang(scene),
            Fault::Planned => planned(scene.stage, scene.proxy),
            Fault::Switchover => switchover(scene.stage, scene.proxy),
            Fault::ByHand => by_hand(scene.stage, scene.proxy),
            Fault::Double if scene.stage.sentinels.is_empty() => {
                failover_to(scene.stage, scene.proxy);
                scene.proxy.wait_readers(2);
                failover_to(scene.stage, scene.proxy)
            }
            Fault::Double => {
                kill(scene);
                kill(scene)
            }
            Fault::Flap => {
                for _ in 0..4 {
                    scene.stage.nodes[1].kill();
                    scene.proxy.wait_readers(1);
                    scene.stage.nodes[1].resume().expect("started");
                    scene.proxy.wait_readers(2);
                }
                master(scene.stage, scene.proxy)
            }
            Fault::Sentinels => {
                for _ in 0..2 {
                    scene.stage.sentinels.iter_mut().skip(1).for_each(|s| s.kill());
                    std::thread::sleep(Duration::from_millis(1500));
                    scene.stage.sentinels.iter_mut().skip(1).for_each(|s| s.resume().expect("started"));
                    std::thread::sleep(Duration::from_millis(500));
                }
                master(scene.stage, scene.proxy)
            }
            Fault::CutSentinels => cut_sentinels(scene),
            Fault::CutReplicas => cut_replicas(scene),
            Fault::CutRedweir => cut_redweir(scene),
            Fault::Restart => restart(scene),
            Fault::Blackout => blackout(scene),
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

fn kill(scene: &mut Scene) -> usize {
    let old = master(scene.stage, scene.proxy);
    scene.struck.push(Instant::now());
    scene.stage.nodes[old].kill();
    let new = wait_other(scene.stage, scene.proxy, old);
    scene.stage.nodes[old].resume().expect("started");
    scene.proxy.wait_readers(2);
    new
}

fn hang(scene: &mut Scene) -> usize {
    let old = master(scene.stage, scene.proxy);
    scene.struck.push(Instant::now());
    scene.stage.nodes[old].stop();
    let new = if scene.stage.sentinels.is_empty() {
        std::thread::sleep(3 * DOWN_AFTER + DOWN_AFTER / 2);
        old
    } else {
        wait_other(scene.stage, scene.proxy, old)
    };
    scene.stage.nodes[old].cont();
    wait_open(scene.proxy);
    new
}

fn wait_open(proxy: &Proxy) {
    wait("writes", || match proxy.set()["shards"][0].clone() {
        shard if shard["writes"] == "open" => Ok(()),
        shard => Err(shard.to_string()),
    });
}

fn net<'a>(scene: &Scene<'a>) -> &'a Net {
    scene.net.expect("namespaces")
}

/// What they elect instead of a master that they miss is the master, whatever the old one says.
fn cut_sentinels(scene: &mut Scene) -> usize {
    let old = master(scene.stage, scene.proxy);
    net(scene).cut(Side::Node(old), Side::Sentinels);
    let new = wait_other(scene.stage, scene.proxy, old);
    net(scene).heal(Side::Node(old), Side::Sentinels);
    new
}

/// Nobody but the replicas misses the master, which stays; what they lack only the master shows.
fn cut_replicas(scene: &mut Scene) -> usize {
    let old = master(scene.stage, scene.proxy);
    let others: Vec<usize> = (0..NODES).filter(|n| *n != old).collect();
    others.iter().for_each(|n| net(scene).cut(Side::Node(old), Side::Node(*n)));
    std::thread::sleep(2 * DOWN_AFTER);
    for node in scene.proxy.nodes().iter().filter(|n| n["role"] == "replica") {
        let lags = node["lag_bytes"].as_u64().is_some_and(|n| n > 0) && node["lag_seconds"].as_f64() > Some(1.0);
        assert!(lags, "a replica that is cut off, and does not lag: {node}");
    }
    others.iter().for_each(|n| net(scene).heal(Side::Node(old), Side::Node(*n)));
    settle(scene.stage, old);
    scene.proxy.wait_readers(2);
    old
}

/// Nobody but redweir misses the master, which stays.
fn cut_redweir(scene: &mut Scene) -> usize {
    let old = master(scene.stage, scene.proxy);
    scene.struck.push(Instant::now());
    net(scene).cut(Side::Node(old), Side::Redweir);
    std::thread::sleep(2 * DOWN_AFTER + DOWN_AFTER / 2);
    let shard = scene.proxy.set()["shards"][0].clone();
    assert_eq!((&shard["writes"], &shard["readers"]), (&"held".into(), &2.into()), "{shard}");
    net(scene).heal(Side::Node(old), Side::Redweir);
    wait_open(scene.proxy);
    assert_eq!(master(scene.stage, scene.proxy), old);
    old
}

/// Nodes first, then Sentinels, shuffled.
fn shuffled(scene: &Scene, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scene.stage.nodes.len() + scene.stage.sentinels.len()).collect();
    random.shuffle(&mut order);
    order
}

fn process<'s>(scene: &'s mut Scene, index: usize) -> &'s mut redweir::demo::node::Node {
    let nodes = scene.stage.nodes.len();
    if index < nodes { &mut scene.stage.nodes[index] } else { &mut scene.stage.sentinels[index - nodes] }
}

fn restart(scene: &mut Scene) -> usize {
    let mut random = fastrand::Rng::with_seed(scene.seed);
    for index in shuffled(scene, &mut random) {
        // Some are back before anybody has taken them for dead.
        let pause = if random.bool() { random.u64(0..300) } else { random.u64(1300..2500) };
        if index == master(scene.stage, scene.proxy) {
            scene.struck.push(Instant::now());
        }
        process(scene, index).kill();
        std::thread::sleep(Duration::from_millis(pause));
        process(scene, index).resume().expect("started");
        wait_well(scene);
    }
    master(scene.stage, scene.proxy)
}

fn blackout(scene: &mut Scene) -> usize {
    let mut random = fastrand::Rng::with_seed(scene.seed);
    scene.struck.push(Instant::now());
    shuffled(scene, &mut random).into_iter().for_each(|index| process(scene, index).kill());
    for index in shuffled(scene, &mut random) {
        process(scene, index).resume().expect("started");
        // The last is back before a Sentinel may take it for dead.
        std::thread::sleep(Duration::from_millis(random.u64(0..100)));
    }
    wait_well(scene);
    master(scene.stage, scene.proxy)
}

/// Everybody answers, follows the master, and has on disk what it has.
fn wait_well(scene: &mut Scene) {
    wait_open(scene.proxy);
    scene.proxy.wait_readers(NODES - 1);
    for process in scene.stage.nodes.iter().chain(&scene.stage.sentinels) {
        wait("a node that is well", || {
            let mut client = process.connect().map_err(|e| e.to_string())?;
            let info = client.call(&["INFO"]).map_err(|e| e.to_string())?.text();
            match info.lines().find(|l| l.starts_with("aof_rewrite_") && l.ends_with(":1")) {
                Some(line) => Err(line.to_owned()),
                None => Ok(()),
            }
        });
    }
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
