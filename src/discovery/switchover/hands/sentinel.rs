//! Has Sentinel do the promotion, so that it agrees with it, and holds writes only for the last part of its way there.
//!
//! Part of [`Hands`]. Sentinel takes one step with each tick of its clock (50 to 100 ms): told, selects, promotes.
//! Invariant: writes are held at least one whole tick before the promotion, for they are held from the event before it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Done, Hands, LOOK_AGAIN, split};
use crate::discovery::events::{self, Event};
use crate::discovery::seen::{address, is_tilted};
use crate::discovery::switchover::{Post, Watchers};
use crate::upstream::control::{Client, Error, Reply};

/// Sentinel sees the promotion within a second, by its own INFO.
const AGREE: Duration = Duration::from_secs(10);

impl Hands {
    fn watchers(&self) -> Result<&Watchers, String> {
        self.plan.sentinel.as_ref().ok_or_else(|| "no Sentinel is configured".into())
    }

    pub(super) async fn at_sentinel(&self, args: &[&[u8]]) -> Result<Reply, String> {
        let watchers = self.watchers()?;
        let told = async {
            Client::connect(&watchers.dial, watchers.login.as_ref(), self.plan.connect_timeout).await?.call(args).await
        };
        told.await.map_err(|e| self.sentinel_says(e))
    }

    fn sentinel_says(&self, what: impl Display) -> String {
        let dial = self.plan.sentinel.as_ref().map_or("", |s| s.dial.as_str());
        format!("Sentinel {dial}: {what}")
    }

    /// `priority`: the target's own.
    pub(super) async fn prepare_sentinel(&mut self, priority: Option<&str>) -> Done {
        let name = self.watchers()?.master_name.clone();
        let known = self.at_sentinel(&[b"SENTINEL", b"MASTER", name.as_bytes()]).await?;
        let flags = known.field("flags").and_then(Reply::text).unwrap_or_default();
        if flags.contains("failover_in_progress") {
            return Err("Sentinel is failing over already".into());
        }
        self.at_sentinel(&[b"SENTINEL", b"CKQUORUM", name.as_bytes()]).await?;
        // Who may not ask is not told; a failover that does not begin is noticed all the same.
        let state = self.at_sentinel(&[b"INFO", b"sentinel"]).await.unwrap_or(Reply::Nil);
        if is_tilted(state.text().unwrap_or_default()) {
            return Err(self.tilts());
        }
        if self.plan.wanted {
            if priority == Some("0") {
                return Err(format!("{} has replica-priority 0: Sentinel never promotes it", self.plan.target.address));
            }
            self.steer().await?;
        }
        let aim = if self.plan.wanted { &*self.plan.target.address } else { "a replica of its choice" };
        Ok(format!("Sentinel {} is to promote {aim}", self.watchers()?.dial))
    }

    /// Tells Sentinel, and returns when it is about to select: from here on writes must be held.
    pub(super) async fn call(&mut self) -> Done {
        let watchers = self.watchers()?.clone();
        let name = watchers.master_name.as_bytes();
        let open = async {
            let login = watchers.login.as_ref();
            let mut ear = Client::connect(&watchers.dial, login, self.plan.connect_timeout).await?;
            ear.send(&[b"PSUBSCRIBE", b"*"]).await?;
            ear.receive().await?;
            Ok(ear)
        };
        let mut ear = open.await.map_err(|e: Error| self.sentinel_says(e))?;
        (self.marks.called, self.marks.promoting) = (true, true);
        if let Err(refused) = self.at_sentinel(&[b"SENTINEL", b"FAILOVER", name]).await {
            (self.marks.called, self.marks.promoting) = (false, false);
            return Err(refused);
        }
        loop {
            let (channel, event) = heard(&mut ear, &watchers.master_name).await.map_err(|e| self.sentinel_says(e))?;
            match event {
                Event::Failover { .. } if channel == "+failover-state-select-slave" => break,
                Event::Aborted { .. } => return Err(self.aborted(&channel)),
                Event::Tilt { begins: true } => return Err(self.tilts()),
                _ => {}
            }
        }
        self.ear = Some(ear);
        Ok("Sentinel begins; writes are held from now on".into())
    }

    fn aborted(&mut self, channel: &str) -> String {
        self.marks.called = false;
        format!("Sentinel gave up ({channel})")
    }

    /// What it began it would go on with in half a minute: it is to be recalled.
    fn tilts(&self) -> String {
        self.sentinel_says("it distrusts its clock (TILT) and fails over nobody for 30 s; try again then")
    }

    /// Whom Sentinel chose: the target, or (where any will do) it becomes the target.
    pub(super) async fn hear_choice(&mut self) -> Result<(), String> {
        let Some(ear) = &mut self.ear else { return Ok(()) };
        let name = self.plan.sentinel.as_ref().map_or("", |s| s.master_name.as_str());
        let chosen = loop {
            // Broken off by the next step it goes on there, with nothing lost.
            let (channel, event) = match heard(ear, name).await {
                Ok(heard) => heard,
                Err(e) => return Err(self.sentinel_says(e)),
            };
            match event {
                Event::Failover { chosen: Some(chosen), .. } => break chosen,
                Event::Aborted { .. } => return Err(self.aborted(&channel)),
                Event::Tilt { begins: true } => return Err(self.tilts()),
                _ => {}
            }
        };
        self.ear = None;
        let is_it = |post: &Post| *post.address == *chosen || *post.dial == *chosen;
        if is_it(&self.plan.target) {
            return Ok(());
        }
        if self.plan.wanted {
            return Err(format!("Sentinel chose {chosen}, not {}", self.plan.target.address));
        }
        let found = self.plan.others.iter_mut().find(|post| is_it(post));
        std::mem::swap(found.ok_or(format!("Sentinel chose {chosen}, unknown here"))?, &mut self.plan.target);
        self.plan.named = split(&chosen);
        self.target = None;
        Ok(())
    }

    /// Sentinel forgets the failover; it learns replicas and other Sentinels anew within seconds.
    pub(super) async fn recall(&mut self) -> Result<(), String> {
        let name = self.watchers()?.master_name.clone();
        self.at_sentinel(&[b"SENTINEL", b"RESET", name.as_bytes()]).await?;
        self.marks.called = false;
        Ok(())
    }

    /// Until Sentinel names the new master; what it should not have kept is put back.
    pub(super) async fn settle_sentinel(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.agreed().await {
            Ok(()) => self.say(format!("Sentinel agrees: the master is {}", self.plan.target.address)).await,
            Err(fault) => faults.push(fault),
        }
        faults.extend(self.restore_priorities().await);
        faults
    }

    async fn agreed(&self) -> Result<(), String> {
        let name = self.watchers()?.master_name.clone();
        let end = Instant::now() + AGREE;
        loop {
            let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()];
            let named = timeout_at(end, self.at_sentinel(&question))
                .await
                .map_err(|_| "Sentinel does not answer".to_owned())??;
            let named = match named.items() {
                [host, port] => address(host.text().unwrap_or_default(), port.text().unwrap_or_default()),
                _ => String::new(),
            };
            if *named == *self.plan.target.address || *named == *self.plan.target.dial {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!("Sentinel still names {named}"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// The next event about this master, with its channel.
async fn heard(ear: &mut Client, master_name: &str) -> Result<(String, Event), Error> {
    loop {
        let message = ear.receive().await?;
        let [_, _, channel, payload] = message.items() else { continue };
        let (Some(channel), Some(payload)) = (channel.text(), payload.text()) else { continue };
        if let Some(event) = events::parse(channel, payload, master_name) {
            return Ok((channel.to_owned(), event));
        }
    }
}
