//! Steers Sentinel's choice by the replica-priority of the nodes, and puts it back.
//!
//! Part of [`Hands`]. Invariant: no priority becomes 0, for such a node would never be promoted again.

use std::time::Duration;

use tokio::time::sleep;

use super::{Hands, refusal};
use crate::discovery::seen::address;
use crate::discovery::switchover::Post;
use crate::upstream::control::Reply;

/// Sentinel asks replicas every ten seconds.
const LOOK: Duration = Duration::from_millis(100);

/// The priorities to set, as (index, priority), so that `target` is chosen before all others; 0 is never chosen.
fn steering(priorities: &[i64], target: usize) -> Vec<(usize, i64)> {
    let own = priorities.get(target).copied().unwrap_or_default();
    let rivals = || priorities.iter().enumerate().filter(|(i, p)| *i != target && **p > 0);
    let lowest = rivals().map(|(_, p)| *p).min().unwrap_or(i64::MAX);
    if own < lowest {
        return Vec::new();
    }
    if lowest > 1 {
        return vec![(target, lowest - 1)];
    }
    let raised = rivals().filter(|(_, p)| **p <= 1).map(|(i, _)| (i, 2));
    std::iter::once((target, 1)).filter(|_| own != 1).chain(raised).collect()
}

impl Hands {
    /// What Sentinel knows of the replicas: address and priority.
    async fn replicas(&self) -> Result<Vec<(String, i64)>, String> {
        let name = self.plan.sentinel.as_ref().map_or("", |s| s.master_name.as_str());
        let listed = self.at_sentinel(&[b"SENTINEL", b"REPLICAS", name.as_bytes()]).await?;
        let one = |r: &Reply| {
            let place = address(r.field("ip")?.text()?, r.field("port")?.text()?);
            Some((place, r.field("slave-priority")?.integer()?))
        };
        Ok(listed.items().iter().filter_map(one).collect())
    }

    /// Has Sentinel choose the target: changes what must be changed and waits until it knows.
    pub(super) async fn steer(&mut self) -> Result<(), String> {
        let is = |post: &Post, place: &str| *post.address == *place || *post.dial == *place;
        let mut told = false;
        loop {
            let known = self.replicas().await?;
            let priorities: Vec<i64> = known.iter().map(|(_, priority)| *priority).collect();
            let target = known.iter().position(|(place, _)| is(&self.plan.target, place));
            let target = target.ok_or(format!("Sentinel does not know {}", self.plan.target.address))?;
            let changes = steering(&priorities, target);
            if changes.is_empty() {
                return Ok(());
            }
            if !told {
                told = true;
                self.say("Sentinel is steered by replica-priority, which it learns within ten seconds".into()).await;
                for (index, priority) in changes {
                    let place = known.get(index).map_or("", |(place, _)| place.as_str());
                    let posts = || std::iter::once(&self.plan.target).chain(&self.plan.others);
                    let post = posts().find(|post| is(post, place)).cloned();
                    self.change(post.ok_or(format!("Sentinel knows {place}, redweir does not"))?, priority).await?;
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn change(&mut self, post: Post, priority: i64) -> Result<(), String> {
        let get: [&[u8]; 3] = [b"CONFIG", b"GET", b"replica-priority"];
        let before = self.ask(&post, &get).await.map_err(|e| refusal(&post, &get, &e))?;
        let before = before.field("replica-priority").and_then(Reply::text).unwrap_or("100").to_owned();
        let to = priority.to_string();
        let set: [&[u8]; 4] = [b"CONFIG", b"SET", b"replica-priority", to.as_bytes()];
        self.marks.steered.push((post.clone(), before));
        self.ask(&post, &set).await.map_err(|e| refusal(&post, &set, &e))?;
        Ok(())
    }

    pub(super) async fn restore_priorities(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for (post, before) in std::mem::take(&mut self.marks.steered) {
            let set: [&[u8]; 4] = [b"CONFIG", b"SET", b"replica-priority", before.as_bytes()];
            match self.insist(&post, &set).await {
                // Sentinel has nodes write down their configuration when it moves them; without a file there is nothing to.
                Ok(_) if self.marks.switched => _ = self.ask(&post, &[b"CONFIG", b"REWRITE"]).await,
                Ok(_) => {}
                Err(e) => faults.push(refusal(&post, &set, &e)),
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Priorities, the target among them, what is to be set.
    type Row = (&'static [i64], usize, &'static [(usize, i64)]);

    #[test]
    fn the_target_goes_before_all_others_and_nobody_becomes_unpromotable() {
        let table: [Row; 8] = [
            (&[100, 100], 0, &[(0, 99)]),
            (&[10, 100], 0, &[]),
            (&[100, 10], 0, &[(0, 9)]),
            (&[100, 0], 0, &[]),
            (&[100], 0, &[]),
            (&[1, 1, 5], 0, &[(1, 2)]),
            (&[100, 1, 5], 0, &[(0, 1), (1, 2)]),
            (&[2, 2], 1, &[(1, 1)]),
        ];
        for (priorities, target, expected) in table {
            let changes = steering(priorities, target);
            assert_eq!(changes, expected, "{priorities:?} {target}");
            let mut after = priorities.to_vec();
            changes.iter().for_each(|(i, p)| after[*i] = *p);
            assert!(after.iter().enumerate().all(|(i, p)| i == target || *p == 0 || after[target] < *p), "{after:?}");
            assert!(changes.iter().all(|(_, p)| *p > 0));
        }
    }
}
