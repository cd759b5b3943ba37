//! What goes wrong in a round, and how it is put right again.
//!
//! Must not touch clients. Invariant: when a fault returns, there is one master that redweir knows, and every other node follows it
//! and is read from.

use std::time::Duration;

use super::history::{Loss, Time};
use super::support::{Client, Faults, Linked, Proxy, call, proxy, wait};

/// Of the door that a switchover is asked for at.
pub const TOKEN: &str = "consistency";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    None,
    /// Replicas get the stream late, each by another time.
    Delay,
    /// The stream comes in pieces.
    Chop,
    /// Links to the master break.
    Cut,
    /// Nothing arrives at replicas for a while.
    Stall,
    /// Replicas read their stream and apply nothing (CLIENT PAUSE WRITE).
    Pause,
    /// Replicas hang (SIGSTOP).
    Stop,
    /// Replicas fall out of the backlog and are sent everything anew.
    Resync,
    /// Replicas are killed and come back empty.
    Restart,
    /// FAILOVER TO at the master.
    FailoverTo,
    /// The master is killed, an operator promotes the best replica.
    ByHand,
    /// The master is killed, Sentinel promotes one.
    Kill,
    /// SENTINEL FAILOVER.
    Planned,
    /// The master hangs until Sentinel has promoted another.
    Hang,
    /// `redweir switchover`.
    Switchover,
}

impl Fault {
    pub const WITHOUT_SENTINEL: [Fault; 12] = [
        Fault::None,
        Fault::Delay,
        Fault::Chop,
        Fault::Cut,
        Fault::Stall,
        Fault::Pause,
        Fault::Stop,
        Fault::Resync,
        Fault::Restart,
        Fault::FailoverTo,
        Fault::ByHand,
        Fault::Switchover,
    ];
    pub const WITH_SENTINEL: [Fault; 4] = [Fault::Kill, Fault::Planned, Fault::Hang, Fault::Switchover];

    /// Nothing dies and nobody is surprised: no acknowledged write may go.
    pub fn is_planned(self) -> bool {
        !matches!(self, Fault::ByHand | Fault::Kill | Fault::Hang)
    }
}

/// The servers and redweir, as faults see them.
pub struct Theatre {
    pub linked: Linked,
    pub proxy: Proxy,
    pub random: fastrand::Rng,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Theatre {
    fn node(&self, n: usize) -> Client {
        self.linked.stage.nodes[n].connect().expect("a node")
    }

    pub fn term(&self) -> u64 {
        self.proxy.set()["shards"][0]["term"].as_u64().unwrap_or(0)
    }

    /// The node that redweir takes for the master.
    pub fn master(&self) -> usize {
        let mut found = 0;
        wait("a master", || {
            let set = self.proxy.set();
            let named = set["shards"][0]["master"].as_str().and_then(|address| self.linked.node_at(address));
            found = named.ok_or_else(|| set.to_string())?;
            Ok(())
        });
        found
    }

    fn wait_other_master(&self, old: usize) -> usize {
        wait("another master", || if self.master() == old { Err(self.proxy.set().to_string()) } else { Ok(()) });
        self.master()
    }

    fn replicas(&self) -> Vec<usize> {
        let master = self.master();
        (0..self.linked.stage.nodes.len()).filter(|n| *n != master).collect()
    }

    fn some_replica(&mut self) -> usize {
        let replicas = self.replicas();
        replicas[self.random.usize(..replicas.len())]
    }

    /// Trouble for the stream, from whichever node it comes.
    fn trouble(&self, faults: &Faults) {
        for link in &self.linked.links {
            link.set(Faults { replicas_only: true, ..faults.clone() });
        }
    }

    fn lag(&mut self, most: u64) {
        let least = ms(self.random.u64(..=most / 10));
        let chop = self.random.bool();
        self.trouble(&Faults { back: least..ms(most), chop, ..Faults::default() });
    }

    /// Has a node follow another, through that one's link. A node that has just started takes a moment to listen.
    fn follow(&self, node: usize, master: usize) {
        let command = format!("REPLICAOF 127.0.0.1 {}", self.linked.links[master].port);
        wait("a node that follows", || {
            let client = self.linked.stage.nodes[node].connect();
            let reply = client.and_then(|mut c| c.call(&command.split(' ').collect::<Vec<_>>()));
            match reply {
                Ok(reply) if !reply.is_error() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Everything follows the master and has what it has.
    pub fn mend(&mut self) {
        self.trouble(&Faults::default());
        let master = self.master();
        // Nobody re-points a node under Sentinel's hands.
        self.linked.wait_sentinels(master);
        for node in self.replicas() {
            let port = self.linked.links[master].port.to_string();
            if self.linked.stage.info(node, "master_port").ok() != Some(port) {
                self.follow(node, master);
            }
        }
        self.linked.stage.wait_linked(master).unwrap_or_else(|e| panic!("{e}"));
        self.proxy.wait_readers(self.linked.stage.nodes.len() - 1);
    }

    /// Lets it happen; tells when a master may have gone with writes.
    pub fn play(&mut self, fault: Fault, now: &dyn Fn() -> Time) -> Option<Loss> {
        let loss = match fault {
            Fault::None => {
                std::thread::sleep(ms(500));
                None
            }
            Fault::FailoverTo => {
                self.lag(20);
                self.failover_to();
                None
            }
            Fault::ByHand | Fault::Kill => {
                self.lag(40);
                std::thread::sleep(ms(300));
                Some(self.kill(fault == Fault::ByHand, now))
            }
            Fault::Planned => {
                self.lag(10);
                Some(self.planned(now))
            }
            Fault::Switchover => {
                self.lag(10);
                Some(self.switchover(now))
            }
            Fault::Hang => {
                self.lag(40);
                std::thread::sleep(ms(300));
                Some(self.hang(now))
            }
            _ => {
                self.replicas_suffer(fault);
                None
            }
        };
        self.mend();
        loss
    }

    fn replicas_suffer(&mut self, fault: Fault) {
        let master = self.master();
        match fault {
            Fault::Delay => {
                for most in [40, 10, 3] {
                    self.lag(most);
                    // Delays are drawn anew with each connection.
                    self.linked.links[master].cut();
                    std::thread::sleep(ms(600));
                }
            }
            Fault::Chop => {
                self.trouble(&Faults { chop: true, back: ms(0)..ms(5), ..Faults::default() });
                std::thread::sleep(ms(1500));
            }
            Fault::Cut => {
                for _ in 0..6 {
                    std::thread::sleep(ms(self.random.u64(50..400)));
                    self.linked.links[master].cut();
                }
            }
            Fault::Stall => {
                for _ in 0..3 {
                    self.trouble(&Faults { stall: true, ..Faults::default() });
                    std::thread::sleep(ms(self.random.u64(50..700)));
                    self.trouble(&Faults::default());
                    std::thread::sleep(ms(100));
                }
            }
            Fault::Pause => {
                for _ in 0..3 {
                    let replica = self.some_replica();
                    call(&mut self.node(replica), &format!("CLIENT PAUSE {} WRITE", self.random.u64(100..900)));
                    std::thread::sleep(ms(400));
                }
                for replica in self.replicas() {
                    call(&mut self.node(replica), "CLIENT UNPAUSE");
                }
            }
            Fault::Stop => {
                for _ in 0..2 {
                    let replica = self.some_replica();
                    self.linked.stage.nodes[replica].stop();
                    // Shorter and longer than redweir takes to call it down.
                    std::thread::sleep(ms(self.random.u64(100..1600)));
                    self.linked.stage.nodes[replica].cont();
                }
            }
            Fault::Resync => self.resync(master),
            _ => {
                let replica = self.some_replica();
                self.linked.stage.nodes[replica].kill();
                std::thread::sleep(ms(300));
                self.linked.stage.nodes[replica].resume().expect("started");
                std::thread::sleep(ms(700));
            }
        }
    }

    /// More is written than the backlog holds while replicas are away.
    fn resync(&mut self, master: usize) {
        let syncs = |t: &Theatre| {
            let text = call(&mut t.node(master), "INFO stats").text();
            let count = text.lines().find_map(|l| l.strip_prefix("sync_full:")?.trim().parse::<u64>().ok());
            count.expect("sync_full")
        };
        let before = syncs(self);
        let mut node = self.node(master);
        call(&mut node, "CONFIG SET repl-backlog-size 16kb");
        self.linked.links[master].set(Faults { refuse: true, ..Faults::default() });
        self.linked.links[master].cut();
        let filler = "x".repeat(16 * 1024);
        for n in 0..8 {
            node.call(&["SET", &format!("filler:{n}"), &filler]).expect("written");
        }
        std::thread::sleep(ms(200));
        self.trouble(&Faults::default());
        wait("full resyncs", || match syncs(self) - before {
            0 => Err("none".into()),
            _ => Ok(()),
        });
        std::thread::sleep(ms(300));
        call(&mut node, "CONFIG SET repl-backlog-size 1mb");
    }

    fn failover_to(&mut self) {
        let (old, to) = (self.master(), self.some_replica());
        let command = format!("FAILOVER TO 127.0.0.1 {}", self.linked.links[to].port);
        assert_eq!(call(&mut self.node(old), &command).text(), "OK");
        self.wait_other_master(old);
        // The others still follow the old one, which follows the new one.
        std::thread::sleep(ms(300));
    }

    fn kill(&mut self, by_hand: bool, now: &dyn Fn() -> Time) -> Loss {
        let old = self.master();
        let from = now();
        // What is on the link dies with it.
        self.linked.links[old].cut();
        self.linked.stage.nodes[old].kill();
        let loss = Loss { from, gone: Some(now()) };
        if by_hand {
            std::thread::sleep(ms(200));
            let others: Vec<usize> = (0..self.linked.stage.nodes.len()).filter(|n| *n != old).collect();
            let offset =
                |n: usize| self.linked.stage.info(n, "slave_repl_offset").ok().and_then(|o| o.parse::<i64>().ok());
            let best = others.iter().copied().max_by_key(|n| offset(*n)).expect("replicas");
            call(&mut self.node(best), "REPLICAOF NO ONE");
            others.iter().filter(|n| **n != best).for_each(|n| self.follow(*n, best));
        }
        self.wait_other_master(old);
        std::thread::sleep(ms(300));
        self.linked.stage.nodes[old].resume().expect("started");
        // It says that it is a master until somebody tells it otherwise.
        std::thread::sleep(ms(self.random.u64(100..700)));
        loss
    }

    fn planned(&mut self, now: &dyn Fn() -> Time) -> Loss {
        let old = self.master();
        let name = self.linked.stage.plan.master_name.clone();
        let mut from = now();
        // It refuses a while after the last one, and while it thinks that no replica is good.
        wait("a Sentinel that begins", || {
            let sentinel = &self.linked.stage.sentinels[0];
            from = now();
            let reply = sentinel.connect().and_then(|mut c| c.call(&["SENTINEL", "FAILOVER", &name]));
            match reply {
                Ok(reply) if !reply.is_error() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        self.wait_other_master(old);
        std::thread::sleep(ms(300));
        Loss { from, gone: None }
    }

    fn switchover(&mut self, now: &dyn Fn() -> Time) -> Loss {
        let old = self.master();
        let admin = format!("127.0.0.1:{}", self.proxy.admin);
        let mut from = now();
        // Sentinel may refuse a while after the last one.
        wait("a switchover", || {
            from = now();
            let asked = proxy::command().args(["switchover", "--admin", &admin, "--token", TOKEN]).output();
            let ended = asked.map_err(|e| e.to_string())?;
            let said = || String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
            if ended.status.success() { Ok(()) } else { Err(said()) }
        });
        assert_ne!(self.master(), old);
        Loss { from, gone: None }
    }

    fn hang(&mut self, now: &dyn Fn() -> Time) -> Loss {
        let old = self.master();
        let from = now();
        self.linked.stage.nodes[old].stop();
        self.wait_other_master(old);
        self.linked.stage.nodes[old].cont();
        // Awake again it still thinks that it is the master, and carries out what was in its sockets.
        std::thread::sleep(ms(self.random.u64(100..700)));
        Loss { from, gone: None }
    }
}
