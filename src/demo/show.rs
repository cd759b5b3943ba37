//! The course of the demo: start all, watch, kill when asked to, report.
//!
//! Must not draw or count by itself. Invariant: the order of fields in [`Show`] is the order of their end: screen, load, proxy, stage.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::config::DemoArgs;

use super::failure::Failure;
use super::load::Load;
use super::proxy::Proxy;
use super::report::{self, Report};
use super::screen::{Key, Scene, Screen};
use super::signals;
use super::stage::{Plan, Stage};
use super::watch::Watch;

/// How often redweir is asked and the screen drawn.
const TICK: Duration = Duration::from_millis(250);
/// A dead node is started again after this long, as a supervisor would.
const REVIVE_AFTER: Duration = Duration::from_secs(15);
/// The unattended failover must be over by then.
const FAILOVER_WITHIN: Duration = Duration::from_secs(60);
/// ... and is watched this much longer.
const AFTERMATH: Duration = Duration::from_secs(5);

struct Show {
    screen: Option<Screen>,
    load: Option<Load>,
    proxy: Proxy,
    stage: Stage,
    watch: Watch,
    /// Since when each node is dead.
    dead: Vec<Option<Instant>>,
    killed: Option<Killed>,
    asked_to_end: Arc<AtomicBool>,
    next_line: Instant,
}

/// The unattended kill.
struct Killed {
    at: Instant,
    address: String,
    /// When another master took writes.
    replaced: Option<Instant>,
}

pub(super) fn run(options: &DemoArgs) -> Result<(), Failure> {
    let asked_to_end = signals::listen()?;
    println!("Starting a master, three replicas and three Sentinels on 127.0.0.1 ...");
    let mut stage = Stage::start(Plan::default())?;
    if asked_to_end.load(Relaxed) {
        return Ok(());
    }
    let proxy = Proxy::start(&stage, options.port)?;
    Load::prepare(&proxy.address())?;
    // Readers expect what was just written.
    stage.wait_linked(0)?;
    let master = stage.nodes.first().map(|n| n.address()).unwrap_or_default();
    let load = Some(Load::start(&proxy.address(), &master));
    let dead = vec![None; stage.nodes.len()];
    let next_line = Instant::now();
    let mut show =
        Show { screen: None, load, proxy, stage, watch: Watch::new(), dead, killed: None, asked_to_end, next_line };
    for line in show.guide() {
        println!("{line}");
    }
    if !options.plain && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        show.screen = Some(Screen::open()?);
    }
    let failed_over = show.play(options);
    show.screen = None;
    let verdict = show.conclude();
    failed_over.and(verdict)
}

impl Show {
    /// Goes on until something ends it.
    fn play(&mut self, options: &DemoArgs) -> Result<(), Failure> {
        loop {
            self.proxy.check()?;
            self.look();
            self.tend_nodes();
            let elapsed = self.watch.elapsed();
            if self.killed.is_none() && options.kill_master_after.is_some_and(|after| elapsed >= after) {
                self.kill_master();
            }
            if self.tick()? || self.asked_to_end.load(Relaxed) || options.duration.is_some_and(|d| elapsed >= d) {
                return Ok(());
            }
            if let Some(killed) = &self.killed {
                match killed.replaced {
                    Some(at) if options.kill_master_after.is_some() && at.elapsed() > AFTERMATH => return Ok(()),
                    None if killed.at.elapsed() > FAILOVER_WITHIN => {
                        let limit = FAILOVER_WITHIN.as_secs();
                        return Err(Failure::Verdict(format!("no new master {limit} s after the old one was killed")));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks redweir how things are.
    fn look(&mut self) {
        // A look that fails is made up for by the next one; a redweir that is gone is noticed elsewhere.
        let (Ok((200, topology)), Ok((200, metrics))) = (self.proxy.get("/topology"), self.proxy.get("/metrics"))
        else {
            return;
        };
        let told = self.watch.events.len();
        self.watch.look(&topology, &metrics);
        if self.screen.is_none() {
            for (at, text) in self.watch.events.iter().skip(told) {
                println!("{:>4}s   {text}", at.as_secs());
            }
        }
        let world = &self.watch.world;
        let Some(master) = world.master.as_ref().filter(|_| world.writes_open) else { return };
        if let Some(load) = &self.load {
            load.master_is(master);
        }
        if let Some(killed) = self.killed.as_mut().filter(|k| k.replaced.is_none() && k.address != *master) {
            killed.replaced = Some(Instant::now());
        }
    }

    /// Notices dead nodes, and starts them again after a while.
    fn tend_nodes(&mut self) {
        for (node, dead) in self.stage.nodes.iter_mut().zip(&mut self.dead) {
            match (node.pid(), &dead) {
                (Some(_), _) => *dead = None,
                (None, None) => *dead = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() > REVIVE_AFTER => {
                    let outcome = match node.resume() {
                        Ok(()) => "started again, as a supervisor would".to_owned(),
                        Err(e) => e.to_string(),
                    };
                    self.watch.note(format!("{}: {outcome}", node.address()));
                    *dead = None;
                }
                _ => {}
            }
        }
    }

    fn kill_master(&mut self) {
        let Some(node) = self.stage.master().ok().and_then(|i| self.stage.nodes.get_mut(i)) else { return };
        let address = node.address();
        node.kill();
        let text = format!("{address}: kill -9 (the master)");
        if self.screen.is_none() {
            println!("{:>4}s   {text}", self.watch.elapsed().as_secs());
        }
        self.watch.note(text);
        self.killed = Some(Killed { at: Instant::now(), address, replaced: None });
    }

    /// Shows how things are and waits a moment; true when the user wants the end.
    fn tick(&mut self) -> Result<bool, Failure> {
        let Some(load) = &self.load else { return Ok(true) };
        let (reads, writes) = load.tallies();
        let guide = self.guide();
        let processes: Vec<_> = self.stage.nodes.iter_mut().map(|n| (n.address(), n.pid())).collect();
        let Some(screen) = &mut self.screen else {
            if self.next_line <= Instant::now() {
                println!("{}", report::line(&self.watch, &reads, &writes));
                self.next_line += Duration::from_secs(1);
            }
            std::thread::sleep(TICK);
            return Ok(false);
        };
        let scene = Scene { guide: &guide, watch: &self.watch, processes: &processes, reads: &reads, writes: &writes };
        screen.show(&scene)?;
        match screen.key(TICK)? {
            Some(Key::Quit) => return Ok(true),
            Some(Key::KillMaster) => self.kill_master(),
            None => {}
        }
        Ok(false)
    }

    /// What listens where, and what to try.
    fn guide(&mut self) -> Vec<String> {
        let (port, admin) = (self.proxy.port, self.proxy.admin);
        let master = self.watch.world.master.clone();
        let master = self.stage.nodes.iter_mut().find(|n| master.is_none() || Some(n.address()) == master);
        let pid = master.and_then(|n| n.pid()).map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
        vec![
            format!("redweir    127.0.0.1:{port}   one port for every client"),
            format!("nodes      {}", self.stage.node_addresses().join(" ")),
            format!("Sentinels  {} ({})", self.stage.sentinel_addresses().join(" "), self.stage.plan.master_name),
            format!("see        http://127.0.0.1:{admin}/  /metrics  /topology  /readyz"),
            format!("try        redis-cli -p {port} SET a 1;  redis-cli -p {port} GET a"),
            format!("           redis-benchmark -p {port} -t get,set -q"),
            format!("kill it    kill -9 {pid}   the master; it is started again {} s later", REVIVE_AFTER.as_secs()),
            "end        Ctrl-C   stops and removes everything".to_owned(),
        ]
    }

    /// Stops the load, reads everything back and reports.
    fn conclude(&mut self) -> Result<(), Failure> {
        let Some(load) = self.load.take() else { return Ok(()) };
        println!("Reading back from the master what was acknowledged ...");
        let master = self.stage.master()?;
        let address = self.stage.nodes.get(master).map(|n| n.address()).unwrap_or_default();
        let (reads, writes, verdict) = load.finish(&address)?;
        let report = Report { reads, writes, verdict, failovers: self.watch.failovers, elapsed: self.watch.elapsed() };
        println!("{report}");
        match report.is_good() {
            true => Ok(()),
            false => Err(Failure::Verdict("acknowledged writes were lost or applied twice".into())),
        }
    }
}
