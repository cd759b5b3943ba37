//! Network namespaces: one for redweir, its clients and the test (the hub, with a bridge), one a node, one for all Sentinels.
//!
//! A cut is silent: both ends send to a hardware address that nobody has, so that nothing arrives and nobody is told. Needs root and
//! iproute2. Must not touch the machine's own interfaces. Invariant: nothing outlives the net, whose guard (a shell whose input
//! ends with this process) removes the namespaces, and with them all that was in them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use redweir::demo::stage::Place;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Who is cut from whom. Nodes are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Redweir,
    Node(usize),
    Sentinels,
}

pub struct Net {
    name: String,
    nodes: usize,
    guard: Child,
}

/// Of nobody.
const NOWHERE: &str = "02:00:5e:10:00:00";

impl Net {
    /// # Errors
    /// Why this machine has none.
    pub fn new(nodes: usize) -> Result<Net, String> {
        static NETS: AtomicU32 = AtomicU32::new(0);
        let name = format!("redweir-{}-{}", std::process::id(), NETS.fetch_add(1, Relaxed));
        let sides: Vec<Side> = (0..nodes).map(Side::Node).chain([Side::Sentinels]).chain([Side::Redweir]).collect();
        let spaces: Vec<String> = sides.iter().map(|side| space(&name, *side)).collect();
        let net = Net { guard: guard(&spaces)?, name, nodes };
        for space in &spaces {
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        let hub = net.space(Side::Redweir);
        ip(&format!("-n {hub} link add bridge type bridge"))?;
        for (side, space) in sides.iter().zip(&spaces).filter(|(side, _)| **side != Side::Redweir) {
            let end = format!("to-{}", net.number(*side));
            ip(&format!("-n {hub} link add {end} type veth peer name bridge netns {space}"))?;
            ip(&format!("-n {hub} link set {end} master bridge up"))?;
        }
        for (side, space) in sides.iter().zip(&spaces) {
            ip(&format!("-n {space} addr add {}/24 dev bridge", net.host(*side)))?;
            ip(&format!("-n {space} link set bridge up"))?;
        }
        Ok(net)
    }

    fn space(&self, side: Side) -> String {
        space(&self.name, side)
    }

    fn number(&self, side: Side) -> usize {
        match side {
            Side::Redweir => 1,
            Side::Node(n) => 2 + n,
            Side::Sentinels => 2 + self.nodes,
        }
    }

    /// The same in every net: each is alone with itself.
    fn host(&self, side: Side) -> String {
        format!("10.77.0.{}", self.number(side))
    }

    /// Where the nodes are, and behind them the Sentinels.
    pub fn places(&self) -> Vec<Place> {
        let place = |side| Place {
            host: self.host(side),
            through: vec!["nsenter".into(), format!("--net={}", file(&self.space(side)))],
        };
        (0..self.nodes).map(Side::Node).chain([Side::Sentinels]).map(place).collect()
    }

    /// Takes the calling thread there, with all threads and processes that it begins.
    #[track_caller]
    pub fn enter(&self, side: Side) {
        let file = File::open(file(&self.space(side))).expect("a namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root");
    }

    /// From now on nothing gets from one to the other.
    #[track_caller]
    pub fn cut(&self, one: Side, other: Side) {
        for (from, to) in [(one, other), (other, one)] {
            let (space, host) = (self.space(from), self.host(to));
            ip(&format!("-n {space} neigh replace {host} lladdr {NOWHERE} dev bridge nud permanent")).expect("cut");
        }
    }

    #[track_caller]
    pub fn heal(&self, one: Side, other: Side) {
        for (from, to) in [(one, other), (other, one)] {
            ip(&format!("-n {} neigh del {} dev bridge", self.space(from), self.host(to))).expect("healed");
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn space(net: &str, side: Side) -> String {
    match side {
        Side::Redweir => format!("{net}-hub"),
        Side::Node(n) => format!("{net}-node{n}"),
        Side::Sentinels => format!("{net}-sentinels"),
    }
}

fn file(space: &str) -> String {
    format!("/var/run/netns/{space}")
}

fn ip(line: &str) -> Result<(), String> {
    let done = Command::new("ip").args(line.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("ip {line}: {}", said.trim())) }
}

/// A shell that waits for the end of its input, then removes `spaces`.
fn guard(spaces: &[String]) -> Result<Child, String> {
    const SCRIPT: &str = "trap '' INT TERM HUP; read -r _; for n; do ip netns del \"$n\" 2>/dev/null; done";
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh"]).args(spaces).current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().map_err(|e| format!("sh: {e}"))
}
