//! Real servers, on loopback unless told otherwise: a master, its replicas and their Sentinels, for the demo and for the tests.
//!
//! Starts them in a temporary directory on free ports, waits until they work together, and lets them be killed, stopped and
//! restarted by index. Must not know redweir. Invariant: nothing outlives the stage. Dropping it kills all; and should this process
//! die without a drop (kill -9), a guard shell whose input ends with it kills what runs in the stage's directory and removes that.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::client::Reply;
pub use super::failure::Failure;
pub use super::node::Place;
use super::node::{Node, Program, free_port};

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub replicas: usize,
    pub sentinels: usize,
    pub quorum: usize,
    pub master_name: String,
    /// Sentinel's `down-after-milliseconds`.
    pub down_after: Duration,
    /// Sentinel's `failover-timeout`; it also refuses a second failover within twice this time.
    pub failover_timeout: Duration,
    /// `requirepass` and `masterauth` of every node.
    pub password: Option<String>,
    /// `requirepass` of every Sentinel.
    pub sentinel_password: Option<String>,
    /// More lines for every node's config file.
    pub extra: Vec<String>,
    /// Where the nodes run, in order, and behind them where all Sentinels do; who has no place there is on loopback.
    pub places: Vec<Place>,
}

impl Default for Plan {
    /// The classic picture: one master, three replicas, three Sentinels, quorum 2.
    fn default() -> Self {
        Self {
            replicas: 3,
            sentinels: 3,
            quorum: 2,
            master_name: "mymaster".into(),
            down_after: Duration::from_millis(1000),
            failover_timeout: Duration::from_millis(6000),
            password: None,
            sentinel_password: None,
            extra: Vec::new(),
            places: Vec::new(),
        }
    }
}

/// The running servers. Node 0 is the first master, the others began as its replicas.
pub struct Stage {
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub sentinels: Vec<Node>,
    dir: PathBuf,
    guard: Child,
}

const READY_WITHIN: Duration = Duration::from_secs(40);

impl Stage {
    /// Starts everything and waits until replicas are in sync and the Sentinels know all nodes and each other.
    ///
    /// # Errors
    /// A binary is missing, a process did not start, or it was not ready within 40 s.
    pub fn start(plan: Plan) -> Result<Stage, Failure> {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let name = format!("redweir-stage-{}-{}", std::process::id(), STAGES.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        // The processes' working directories are compared with it.
        let dir = dir.canonicalize()?;
        let guard = guard(&dir)?;
        let mut stage = Stage { plan, nodes: Vec::new(), sentinels: Vec::new(), dir, guard };
        stage.start_node(None)?;
        for _ in 0..stage.plan.replicas {
            stage.start_node(Some(0))?;
        }
        stage.wait_linked(0)?;
        // Only now: a Sentinel's first INFO must list every replica, the next one comes 10 s later.
        let master = (stage.place(0).host, stage.nodes.first().map_or(0, |n| n.port));
        for _ in 0..stage.plan.sentinels {
            stage.start_sentinel((&master.0, master.1))?;
        }
        stage.wait_sentinels()?;
        Ok(stage)
    }

    /// Where its files are; a process started here is ended with the stage.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Another replica of the present master; returns its index when it is in sync.
    ///
    /// # Errors
    /// As [`Stage::start`].
    pub fn spawn_replica(&mut self) -> Result<usize, Failure> {
        let master = self.master()?;
        self.start_node(Some(master))?;
        let index = self.nodes.len() - 1;
        self.wait_replica(index, master)?;
        Ok(index)
    }

    /// Another Sentinel, with nothing but the port of 127.0.0.1 it is given: what it says of a master that is dead stays as old as that.
    ///
    /// # Errors
    /// The process could not be started, or does not answer.
    pub fn spawn_sentinel(&mut self, master: u16) -> Result<String, Failure> {
        self.start_sentinel(("127.0.0.1", master))?;
        let Some(sentinel) = self.sentinels.last() else { return Ok(String::new()) };
        wait(READY_WITHIN, "a Sentinel", || {
            let answer = sentinel.connect().and_then(|mut c| c.call(&["PING"]));
            answer.map(drop).map_err(|e| e.to_string())
        })?;
        Ok(sentinel.address())
    }

    /// The node that answers ROLE with `master` and has most connected replicas (a superseded one has none).
    ///
    /// # Errors
    /// None does.
    pub fn master(&self) -> Result<usize, Failure> {
        let followers = |node: &Node| {
            let role = node.connect().and_then(|mut c| c.call(&["ROLE"])).ok()?;
            let items = role.items();
            (items.first()?.text() == "master").then(|| items.get(2).map_or(0, |replicas| replicas.items().len()))
        };
        let found = self.nodes.iter().enumerate().filter_map(|(i, node)| Some((followers(node)?, i)));
        found.max_by_key(|(n, i)| (*n, std::cmp::Reverse(*i))).map(|(_, i)| i).ok_or_else(|| Failure::NotReady {
            what: "the master".into(),
            seconds: 0,
            why: "no node says that it is one".into(),
        })
    }

    /// `host:port` of every node, in order.
    pub fn node_addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// `host:port` of every Sentinel, in order.
    pub fn sentinel_addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(Node::address).collect()
    }

    /// Waits until every running node other than `master` follows it and has everything it has.
    ///
    /// # Errors
    /// Not within 40 s.
    pub fn wait_linked(&mut self, master: usize) -> Result<(), Failure> {
        for i in (0..self.nodes.len()).filter(|i| *i != master) {
            if self.nodes.get_mut(i).is_some_and(|n| n.pid().is_some()) {
                self.wait_replica(i, master)?;
            }
        }
        Ok(())
    }

    /// The same for one replica, which its master counts among those that have what it wrote, too: it does so a little after the
    /// replica calls its link up, and until then a WAIT counts it out.
    ///
    /// # Errors
    /// Not within 40 s.
    pub fn wait_replica(&self, replica: usize, master: usize) -> Result<(), Failure> {
        let produced = self.offset(master, "master_repl_offset").map_err(Failure::Verdict)?;
        wait(READY_WITHIN, "replication", || {
            let applied = self.offset(replica, "slave_repl_offset")?;
            match self.info(replica, "master_link_status")?.as_str() {
                "up" if applied >= produced => {}
                status => return Err(format!("node {replica}: link {status}, at {applied} of {produced}")),
            }
            let online = format!("port={},state=online,", self.announced_port(replica)?);
            let named = self.replication(master)?.contains(&online);
            named.then_some(()).ok_or_else(|| format!("node {replica}: node {master} has no {online} yet"))
        })
    }

    /// The port by which its master names it.
    fn announced_port(&self, index: usize) -> Result<u16, String> {
        let node = self.node(index)?;
        let reply = node.connect().and_then(|mut c| c.call(&["CONFIG", "GET", "replica-announce-port"]));
        let items = reply.map_err(|e| format!("{}: {e}", node.address()))?;
        let announced = items.items().get(1).and_then(|port| port.text().parse().ok()).filter(|port| *port != 0);
        Ok(announced.unwrap_or(node.port))
    }

    /// One field of a node's `INFO replication`.
    ///
    /// # Errors
    /// It does not answer or has no such field: in words, with the end of its log.
    pub fn info(&self, index: usize, field: &str) -> Result<String, String> {
        let text = self.replication(index)?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned).ok_or_else(|| format!("node {index}: no {field} yet"))
    }

    fn replication(&self, index: usize) -> Result<String, String> {
        let node = self.node(index)?;
        let reply = node.connect().and_then(|mut c| c.call(&["INFO", "replication"]));
        Ok(reply.map_err(|e| format!("{}: {e} ({})", node.address(), node.log_tail()))?.text())
    }

    fn node(&self, index: usize) -> Result<&Node, String> {
        self.nodes.get(index).ok_or_else(|| format!("there is no node {index}"))
    }

    fn offset(&self, index: usize, field: &str) -> Result<u64, String> {
        self.info(index, field)?.parse().map_err(|e| format!("{field}: {e}"))
    }

    fn place(&self, index: usize) -> Place {
        self.plan.places.get(index).cloned().unwrap_or_default()
    }

    fn start_node(&mut self, master: Option<usize>) -> Result<(), Failure> {
        let port = free_port()?;
        let place = self.place(self.nodes.len());
        let host = &place.host;
        let mut config = format!(
            "port {port}\nbind {host}\nprotected-mode no\nsave \"\"\nappendonly no\nreplica-announce-ip {host}\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
        );
        if let Some(password) = &self.plan.password {
            config += &format!("requirepass {password}\nmasterauth {password}\n");
        }
        if let Some(master) = master.and_then(|m| self.nodes.get(m)) {
            config += &format!("replicaof {}\n", master.address().replace(':', " "));
        }
        for line in &self.plan.extra {
            config += &format!("{line}\n");
        }
        let node = Node::start(Program::Server, &self.dir, (place, port), &config, self.plan.password.as_deref())?;
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        wait(READY_WITHIN, "a node", || self.info(index, "role").map(drop))
    }

    fn start_sentinel(&mut self, (host, master): (&str, u16)) -> Result<(), Failure> {
        let port = free_port()?;
        let place = self.place(self.plan.replicas + 1);
        let plan = &self.plan;
        let name = &plan.master_name;
        let mut config = format!(
            "port {port}\nbind {}\nprotected-mode no\nsentinel monitor {name} {host} {master} {}\n\
             sentinel down-after-milliseconds {name} {}\nsentinel failover-timeout {name} {}\n\
             sentinel parallel-syncs {name} 1\n",
            place.host,
            plan.quorum,
            plan.down_after.as_millis(),
            plan.failover_timeout.as_millis()
        );
        if let Some(password) = &plan.password {
            config += &format!("sentinel auth-pass {name} {password}\n");
        }
        if let Some(password) = &plan.sentinel_password {
            config += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
        }
        let node =
            Node::start(Program::Sentinel, &self.dir, (place, port), &config, plan.sentinel_password.as_deref())?;
        self.sentinels.push(node);
        Ok(())
    }

    fn wait_sentinels(&self) -> Result<(), Failure> {
        let expected = [
            ("num-slaves", self.plan.replicas.to_string()),
            ("num-other-sentinels", self.plan.sentinels.saturating_sub(1).to_string()),
        ];
        for sentinel in &self.sentinels {
            wait(READY_WITHIN, "a Sentinel", || {
                let reply =
                    sentinel.connect().and_then(|mut c| c.call(&["SENTINEL", "MASTER", &self.plan.master_name]));
                let reply = reply.map_err(|e| format!("{e} ({})", sentinel.log_tail()))?;
                match expected.iter().find(|(field, value)| sentinel_field(&reply, field).as_ref() != Some(value)) {
                    Some((field, value)) => Err(format!("{}: {field} is not yet {value}", sentinel.address())),
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.nodes.clear();
        self.sentinels.clear();
        // The end of its input tells the guard to look for what is left and to remove the directory.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// One field of Sentinel's flat list of fields and values.
fn sentinel_field(reply: &Reply, field: &str) -> Option<String> {
    let at = reply.items().iter().step_by(2).position(|name| name.text() == field)?;
    Some(reply.items().get(at * 2 + 1)?.text())
}

/// Asks `check` every 20 ms until it says yes; its last complaint goes into the error.
///
/// # Errors
/// `check` kept failing for `limit`.
pub fn wait(limit: Duration, what: &str, mut check: impl FnMut() -> Result<(), String>) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let Err(why) = check() else { return Ok(()) };
        if began.elapsed() > limit {
            return Err(Failure::NotReady { what: what.to_owned(), seconds: limit.as_secs(), why });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A shell that waits for the end of its input, then kills every process whose working directory is inside `dir` and removes it. Again
/// until both is done, for half a minute: what is killed ends a moment later, and may have begun a file or a child of its own.
fn guard(dir: &Path) -> Result<Child, Failure> {
    const SCRIPT: &str = r#"trap '' INT TERM HUP; read -r _
n=0
while [ -e "$1" ] && [ $n -lt 300 ]; do
  [ $n -gt 0 ] && sleep 0.1
  n=$((n + 1))
  for p in /proc/[0-9]*; do
    case "$(readlink "$p/cwd" 2>/dev/null)" in "$1"|"$1"/*) kill -9 "${p#/proc/}" 2>/dev/null ;; esac
  done
  rm -rf "$1" 2>/dev/null
done"#;
    let child = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_name_and_never_by_value() {
        let bulk = |s: &str| Reply::Bulk(s.as_bytes().to_vec());
        let reply = Reply::Array(["name", "port", "port", "26379"].map(bulk).to_vec());
        assert_eq!(sentinel_field(&reply, "port").as_deref(), Some("26379"));
        assert_eq!(sentinel_field(&reply, "26379"), None);
    }

    #[test]
    fn nothing_outlives_a_stage() -> Result<(), Failure> {
        let mut stage = Stage::start(Plan { replicas: 1, sentinels: 0, ..Plan::default() })?;
        let pids: Vec<u32> = stage.nodes.iter_mut().filter_map(Node::pid).collect();
        let dir = stage.dir().to_owned();
        assert_eq!((pids.len(), dir.exists(), stage.master()?), (2, true, 0));
        drop(stage);
        assert!(!dir.exists());
        assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "{pids:?}");
        Ok(())
    }
}
