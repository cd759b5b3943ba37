//! Does at nodes and Sentinel what a switchover decides, and undoes it.
//!
//! Must not decide what comes next. Invariant: what would have to be put back is noted before it is done, so that a step
//! that is broken off can be undone.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::order::News;
use super::{Act, Message, Plan, Post, Report};
use crate::discovery::seen::{Info, Link, Role, address};
use crate::upstream::control::{Client, Error, Reply};

mod priority;
mod sentinel;

/// Nodes are asked this often whether something has happened.
const LOOK: Duration = Duration::from_millis(1);
/// The same where nobody waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The master's own pause outlasts the time that writes may be held by this, should redweir itself stop in the middle.
const PAUSE_MARGIN: Duration = Duration::from_secs(2);
/// Replicas may take this long to follow the new master.
const RELINK: Duration = Duration::from_secs(10);
/// A node that was cut off by its own change of role may take this long to answer again.
const RECONNECT: Duration = Duration::from_secs(1);

pub(super) type Done = Result<String, String>;
type Answer = Result<Reply, String>;

/// What is to be put back.
#[derive(Debug, Default)]
struct Marks {
    paused: bool,
    /// FAILOVER was sent.
    failing_over: bool,
    /// Sentinel was told to fail over.
    called: bool,
    /// The target may have become master.
    promoting: bool,
    /// Nodes whose replica-priority was changed, and what it was.
    steered: Vec<(Post, String)>,
    /// The new master was verified: there is no way back.
    switched: bool,
}

pub struct Hands {
    plan: Plan,
    number: u64,
    tell: mpsc::Sender<Message>,
    marks: Marks,
    /// The server has no FAILOVER: the roles are changed one after the other.
    by_steps: bool,
    /// What the old master had when it held all writes.
    end_of_line: i64,
    master: Option<Client>,
    target: Option<Client>,
    ear: Option<Client>,
}

/// Carries acts out until there are no more; the newest ends the one before it. Without an end to its liking (redweir
/// stops) it puts things back.
pub async fn run(plan: Plan, number: u64, mut acts: mpsc::Receiver<Act>, tell: mpsc::Sender<Message>) {
    let mut hands = Hands::new(plan, number, tell);
    let mut next = acts.recv().await;
    let mut last = None;
    while let Some(act) = next {
        last = Some(act);
        tokio::select! {
            biased;
            newer = acts.recv() => next = newer,
            done = hands.carry_out(act) => {
                hands.report(News::Did(act, done)).await;
                next = acts.recv().await;
            }
        }
    }
    if !matches!(last, Some(Act::Settle | Act::Undo)) {
        let _ = hands.undo().await;
    }
}

/// `host` and `port` of an address.
pub fn split(address: &str) -> (String, String) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']).to_owned(), port.to_owned())
}

impl Hands {
    fn new(plan: Plan, number: u64, tell: mpsc::Sender<Message>) -> Self {
        let marks = Marks::default();
        Self { plan, number, tell, marks, by_steps: false, end_of_line: 0, master: None, target: None, ear: None }
    }

    async fn report(&self, news: News) {
        let _ = self.tell.send(Message::Report(Report { number: self.number, news })).await;
    }

    async fn say(&self, what: String) {
        self.report(News::Said(what)).await;
    }

    async fn carry_out(&mut self, act: Act) -> Done {
        match act {
            Act::Prepare => self.prepare().await,
            Act::Call => self.call().await,
            Act::Watch => self.hear_choice().await.map(|()| String::new()),
            Act::Pause => self.pause().await,
            Act::Follow => self.follow().await,
            Act::Promote => self.promote().await,
            Act::Settle => self.settle().await,
            Act::Undo => self.undo().await,
        }
    }

    async fn connect(&self, post: &Post) -> Result<Client, Error> {
        Client::connect(&post.dial, self.plan.login.as_ref(), self.plan.connect_timeout).await
    }

    /// One request on a connection of its own.
    async fn ask(&self, post: &Post, args: &[&[u8]]) -> Result<Reply, Error> {
        self.connect(post).await?.call(args).await
    }

    /// The same, until the node answers at all.
    async fn insist(&self, post: &Post, args: &[&[u8]]) -> Result<Reply, Error> {
        let end = Instant::now() + RECONNECT;
        loop {
            match self.ask(post, args).await {
                Err(Error::Closed | Error::Refused) if Instant::now() < end => sleep(LOOK).await,
                answer => return answer,
            }
        }
    }

    async fn role(&self, post: &Post) -> Result<Role, Error> {
        role(&self.insist(post, &[b"ROLE"]).await?)
    }

    /// The old master's connection, or the target's.
    async fn at_master(&mut self, args: &[&[u8]]) -> Answer {
        let mut client = match self.master.take() {
            Some(client) => client,
            None => self.connect(&self.plan.master).await.map_err(|e| refusal(&self.plan.master, args, &e))?,
        };
        let answer = client.call(args).await.map_err(|e| refusal(&self.plan.master, args, &e))?;
        self.master = Some(client);
        Ok(answer)
    }

    async fn at_target(&mut self, args: &[&[u8]]) -> Answer {
        let mut client = match self.target.take() {
            Some(client) => client,
            None => self.connect(&self.plan.target).await.map_err(|e| refusal(&self.plan.target, args, &e))?,
        };
        let answer = client.call(args).await.map_err(|e| refusal(&self.plan.target, args, &e))?;
        self.target = Some(client);
        Ok(answer)
    }

    /// Whether everything that will be needed is there and allowed.
    async fn prepare(&mut self) -> Done {
        let (master, target) = (self.plan.master.clone(), self.plan.target.clone());
        let text = self.at_master(&[b"INFO", b"replication"]).await?;
        let text = text.text().unwrap_or_default().to_owned();
        if let Some(state) = field(&text, "master_failover_state").filter(|state| *state != "no-failover") {
            return Err(format!("{} is failing over already ({state})", master.address));
        }
        // Says nothing for no time; a server before 6.2 does not know it, and cannot hold writes.
        self.at_master(&[b"CLIENT", b"PAUSE", b"0", b"WRITE"]).await?;
        self.allowed_to_follow(&master).await?;
        let text = self.at_target(&[b"INFO", b"replication"]).await?;
        let text = text.text().unwrap_or_default().to_owned();
        if field(&text, "master_link_status") != Some("up") {
            return Err(format!("{} is not linked to its master", target.address));
        }
        if self.plan.sentinel.is_some() {
            return self.prepare_sentinel(field(&text, "slave_priority")).await;
        }
        if field(&text, "slave_priority") == Some("0") {
            return Err(format!("{} has replica-priority 0: it must not be promoted", target.address));
        }
        // Answered with an error that says that there is none to abort.
        match self.at_master(&[b"FAILOVER", b"ABORT"]).await {
            Err(text) if text.contains("unknown command") => {
                self.by_steps = true;
                self.allowed_to_follow(&target).await?;
            }
            Err(text) if !text.contains("No failover") => return Err(text),
            _ => {}
        }
        let how = if self.by_steps { "REPLICAOF, for the server has no FAILOVER" } else { "FAILOVER" };
        Ok(format!("{} can take over from {}, by {how}", target.address, master.address))
    }

    /// A REPLICAOF that cannot mean anything is refused for its argument where it is allowed.
    async fn allowed_to_follow(&self, post: &Post) -> Result<(), String> {
        let nonsense: [&[u8]; 3] = [b"REPLICAOF", b"redweir", b"none"];
        match self.ask(post, &nonsense).await {
            Err(Error::Server(text)) if text.contains("port") || text.contains("integer") => Ok(()),
            Ok(_) => Ok(()),
            Err(e) => Err(refusal(post, &nonsense, &e)),
        }
    }

    /// Every client's writes are held, redweir's or not; bounded in time, should redweir not be there to end it.
    async fn pause(&mut self) -> Done {
        let time = (self.plan.limit + PAUSE_MARGIN).as_millis().to_string();
        self.marks.paused = true;
        self.at_master(&[b"CLIENT", b"PAUSE", time.as_bytes(), b"WRITE"]).await?;
        match role(&self.at_master(&[b"ROLE"]).await?) {
            Ok(Role::Master { offset, .. }) => {
                self.end_of_line = offset;
                Ok(format!("{} holds writes of all clients, at offset {offset}", self.plan.master.address))
            }
            _ => Err(format!("{} is no master any more", self.plan.master.address)),
        }
    }

    /// Until the target has applied everything.
    async fn follow(&mut self) -> Done {
        self.hear_choice().await?;
        loop {
            let applied = match role(&self.at_target(&[b"ROLE"]).await?) {
                Ok(Role::Replica { link: Link::Connected, offset, .. }) => offset,
                Ok(Role::Replica { .. }) => -1,
                // Sentinel was quick: what it had when it was promoted counts.
                Ok(Role::Master { .. }) => {
                    let text = self.at_target(&[b"INFO", b"replication"]).await?;
                    let info = Info::parse(&[text.text().unwrap_or_default()]);
                    let branch = info.map_or(0, |info| info.lineage.branch);
                    if branch <= self.end_of_line {
                        return Err("the target was promoted before it had everything".into());
                    }
                    branch - 1
                }
                Err(e) => return Err(refusal(&self.plan.target, &[b"ROLE"], &e)),
            };
            if applied >= self.end_of_line {
                return Ok(format!("{} has applied everything", self.plan.target.address));
            }
            sleep(LOOK).await;
        }
    }

    async fn promote(&mut self) -> Done {
        let (host, port) = self.plan.named.clone();
        let (host, port) = (host.as_bytes(), port.as_bytes());
        self.marks.promoting = true;
        if self.plan.sentinel.is_none() && !self.by_steps {
            self.marks.failing_over = true;
            // Everything is there already: the time is only for the master's own look at acknowledgements, once a second.
            self.at_master(&[b"FAILOVER", b"TO", host, port, b"FORCE", b"TIMEOUT", b"1"]).await?;
        } else if self.by_steps {
            self.at_target(&[b"REPLICAOF", b"NO", b"ONE"]).await?;
            self.at_master(&[b"REPLICAOF", host, port]).await?;
        }
        loop {
            // Its own connections may be cut by the change.
            if let Ok(Role::Master { .. }) = self.role(&self.plan.target).await {
                return Ok(format!("{} is master", self.plan.target.address));
            }
            // The old master looks at the time of its FAILOVER when it is asked something.
            if self.marks.failing_over {
                let state = self.at_master(&[b"INFO", b"replication"]).await?;
                let state = state.text().unwrap_or_default();
                if field(state, "role") == Some("master")
                    && field(state, "master_failover_state") == Some("no-failover")
                {
                    return Err(format!("{} gave its FAILOVER up", self.plan.master.address));
                }
            }
            sleep(LOOK).await;
        }
    }

    /// The rest of the set behind the new master. Writes go on meanwhile.
    async fn settle(&mut self) -> Done {
        self.marks.switched = true;
        let (host, port) = self.plan.named.clone();
        let to: [&[u8]; 3] = [b"REPLICAOF", host.as_bytes(), port.as_bytes()];
        let mut faults = Vec::new();
        let (master, target) = (self.plan.master.clone(), self.plan.target.clone());
        if let Ok(Role::Master { .. }) = self.role(&master).await {
            // Sentinel does it after eleven seconds.
            faults.extend(self.insist(&master, &to).await.err().map(|e| refusal(&master, &to, &e)));
        }
        faults.extend(self.unpause().await.err());
        self.say(format!("{} follows {}", master.address, target.address)).await;
        match self.plan.sentinel.is_some() {
            true => faults.extend(self.settle_sentinel().await),
            false => {
                for other in self.plan.others.clone() {
                    faults.extend(self.repoint(&other, &to).await.err());
                }
            }
        }
        faults.extend(self.wait_linked(&master).await.err());
        match faults.is_empty() {
            true => Ok(format!("{} is master, the others follow it", target.address)),
            false => Err(faults.join("; ")),
        }
    }

    /// Those that followed the old master follow the new one, not the new one's replica.
    async fn repoint(&self, post: &Post, to: &[&[u8]; 3]) -> Result<(), String> {
        let target = address(&self.plan.named.0, &self.plan.named.1);
        match self.role(post).await {
            Ok(Role::Replica { of, .. }) if of != target => {
                self.ask(post, to).await.map_err(|e| refusal(post, to, &e))?;
                self.say(format!("{} follows {}", post.address, self.plan.target.address)).await;
                self.wait_linked(post).await
            }
            // Who is away, or is a master of something else, is not ours to move.
            _ => Ok(()),
        }
    }

    async fn wait_linked(&self, post: &Post) -> Result<(), String> {
        let end = Instant::now() + RELINK;
        loop {
            match timeout_at(end, self.role(post)).await {
                Ok(Ok(Role::Replica { link: Link::Connected, .. })) => return Ok(()),
                Ok(_) if Instant::now() < end => sleep(LOOK_AGAIN).await,
                _ => return Err(format!("{} has no link to the new master yet", post.address)),
            }
        }
    }

    async fn unpause(&mut self) -> Result<(), String> {
        let request: [&[u8]; 2] = [b"CLIENT", b"UNPAUSE"];
        let done = self.insist(&self.plan.master, &request).await;
        self.marks.paused &= done.is_err();
        done.map(drop).map_err(|e| refusal(&self.plan.master, &request, &e))
    }

    /// As it was, as far as that goes.
    async fn undo(&mut self) -> Done {
        if self.marks.switched {
            return Ok(String::new());
        }
        // What is on these connections may be half a request.
        (self.master, self.target, self.ear) = (None, None, None);
        let mut faults = Vec::new();
        if self.marks.called {
            faults.extend(self.recall().await.err());
        }
        let (master, target) = (self.plan.master.clone(), self.plan.target.clone());
        if self.marks.failing_over {
            // An error says that there is none any more.
            let _ = self.insist(&master, &[b"FAILOVER", b"ABORT"]).await;
        }
        if self.marks.paused {
            // Who was never told cannot be one; whom it hangs with is not waited for longer than once.
            let promoted = self.marks.promoting && {
                let says = self.ask(&target, &[b"ROLE"]).await;
                says.is_ok_and(|reply| matches!(role(&reply), Ok(Role::Master { .. })))
            };
            if promoted && matches!(self.role(&master).await, Ok(Role::Master { .. })) {
                let (host, port) = split(&master.address);
                let back: [&[u8]; 3] = [b"REPLICAOF", host.as_bytes(), port.as_bytes()];
                faults.extend(self.ask(&target, &back).await.err().map(|e| refusal(&target, &back, &e)));
            }
            faults.extend(self.unpause().await.err());
        }
        faults.extend(self.restore_priorities().await);
        if faults.is_empty() { Ok("everything is put back".into()) } else { Err(faults.join("; ")) }
    }
}

fn role(reply: &Reply) -> Result<Role, Error> {
    Role::parse(reply).ok_or(Error::Protocol("ROLE is not a data node's"))
}

/// A line of INFO.
pub(super) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// The node's own words, with what was asked and how to allow it.
pub(super) fn refusal(post: &Post, args: &[&[u8]], e: &Error) -> String {
    let asked: Vec<_> = args.iter().take(2).map(|arg| String::from_utf8_lossy(arg)).collect();
    let advice = match e {
        Error::Auth(_) => " (redweir.toml names the rights that redweir's login needs for a switchover)",
        _ => "",
    };
    format!("{} refuses {}: {e}{advice}", post.address, asked.join(" "))
}
