//! Who is master: a pure decision over what is known of every node and what the Sentinels say.
//!
//! No clock and no I/O: what has lasted too long is told by [`Patience`]. Lineage decides, never an offset (a stale
//! master may have the larger one), and between two claims that lineage cannot order nobody is chosen.
//! Invariant: only a node that says master, shown by ROLE and INFO of one connection, is ever chosen.

use crate::metrics::Cause;
use crate::topology::{Hold, Lineage, NodeId, Relation, relation};

/// What a node is, as far as it has been proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not asked yet. -> any.
    Unknown,
    /// Its connection just ended and it did not answer again so far. -> any.
    Suspect,
    /// Nothing listens there, or nothing answers. -> any.
    Gone,
    /// Alive, loading its data set. -> `Master`, `Replica`, `Gone`.
    Loading,
    /// Says master, loaded. -> any.
    Master,
    /// Says replica. -> any.
    Replica,
}

/// One node as the detector sees it.
#[derive(Debug, Clone)]
pub struct Sight {
    pub id: NodeId,
    pub standing: Standing,
    pub lineage: Lineage,
    pub run_id: String,
    /// The known node that it says it replicates.
    pub follows: Option<NodeId>,
    /// Was master, another one took over, and it has not been seen as a replica of the new line since.
    pub superseded: bool,
    /// Said master already while the accepted master lived and was kept: no answer to the master's absence.
    pub bystander: bool,
}

/// The accepted master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reign {
    pub node: NodeId,
    pub run_id: String,
    pub lineage: Lineage,
    /// The Sentinels' config-epoch when it was accepted, or confirmed.
    pub config_epoch: u64,
    /// The Sentinels named this node under `config_epoch`.
    pub confirmed: bool,
}

/// What the Sentinels say together; absent when none is configured or none can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Council {
    /// The master under the highest config-epoch ever seen.
    pub word: Option<(NodeId, u64)>,
    /// Failovers that go on.
    pub failovers: Vec<Failing>,
    /// Every known Sentinel was heard, or found to be away.
    pub complete: bool,
}

/// A failover that Sentinel carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Of this master, where it is known.
    pub master: Option<NodeId>,
    /// The replica to be promoted, where Sentinel told it and it is known.
    pub chosen: Option<NodeId>,
    /// Writes were held for it long enough.
    pub overdue: bool,
}

/// What has lasted too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// Writes were held long enough for two claims to be resolved.
    pub conflict_over: bool,
    /// Sentinels and nodes had time to answer since the start.
    pub start_over: bool,
    /// The master answered nothing for `down_after`, and no Sentinel is configured that would have to say so.
    pub master_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The master stands.
    Keep,
    /// The master stands although this node says master too.
    KeepDespite(NodeId),
    Hold(Hold),
    Switch {
        to: NodeId,
        cause: Cause,
    },
}

/// Decides. `sights` has every known node once.
pub fn judge(reign: Option<&Reign>, sights: &[Sight], council: Option<&Council>, patience: Patience) -> Verdict {
    let room = Room { sights, council, patience };
    let Some(reign) = reign else { return room.at_start() };
    let Some(old) = room.sight(reign.node) else { return Verdict::Hold(Hold::Lost) };
    if let Some(verdict) = room.newer_word(reign, old) {
        return verdict;
    }
    match old.standing {
        Standing::Master if old.run_id == reign.run_id && old.lineage.id == reign.lineage.id => {
            room.despite_word(reign, room.reigning(reign))
        }
        Standing::Master => room.reborn(reign),
        Standing::Replica => room.demoted(reign, old),
        Standing::Suspect => match room.successors(reign).as_slice() {
            [] => Verdict::Hold(Hold::Suspect),
            claims => room.choose(claims, Cause::Detector),
        },
        Standing::Loading => room.gone(reign, Hold::Loading),
        Standing::Gone | Standing::Unknown => room.gone(reign, Hold::Lost),
    }
}

struct Room<'a> {
    sights: &'a [Sight],
    council: Option<&'a Council>,
    patience: Patience,
}

impl Room<'_> {
    fn sight(&self, id: NodeId) -> Option<&Sight> {
        self.sights.iter().find(|s| s.id == id)
    }

    fn says_master(&self, id: NodeId) -> bool {
        self.sight(id).is_some_and(|s| s.standing == Standing::Master)
    }

    /// The Sentinels fail this master over, and may be waited for.
    fn fails_over(&self, master: NodeId) -> bool {
        self.council.is_some_and(|c| c.failovers.iter().any(|f| f.master == Some(master) && !f.overdue))
    }

    /// Whom Sentinel is about to make master in place of `master`.
    fn chosen(&self, master: NodeId) -> Option<NodeId> {
        let failovers = &self.council?.failovers;
        failovers.iter().filter(|f| f.master.is_none_or(|m| m == master)).find_map(|f| f.chosen)
    }

    /// Nodes that say master and that nothing disqualifies.
    fn claims(&self, reign: Option<&Reign>) -> Vec<&Sight> {
        let other = |s: &&Sight| reign.is_none_or(|r| s.id != r.node);
        let fit = |s: &&Sight| !s.superseded || reign.is_some_and(|r| descends(&r.lineage, s));
        self.sights.iter().filter(|s| s.standing == Standing::Master).filter(other).filter(fit).collect()
    }

    /// Claims that descend from the reign, or from one that does.
    fn descendants(&self, reign: &Reign) -> Vec<&Sight> {
        let (mut related, mut rest): (Vec<_>, Vec<_>) =
            self.claims(Some(reign)).into_iter().partition(|s| descends(&reign.lineage, s));
        while let Some(i) = rest.iter().position(|s| related.iter().any(|r| descends(&r.lineage, s))) {
            related.push(rest.swap_remove(i));
        }
        related
    }

    /// Descendants that may take over now. Sentinel's choice goes before all others. A bystander needs more than the
    /// master's absence of a moment: Sentinel's choice, the majority's, or an absence that lasted.
    fn successors(&self, reign: &Reign) -> Vec<&Sight> {
        let mut all = self.descendants(reign);
        if let Some(chosen) = self.chosen(reign.node)
            && (self.fails_over(reign.node) || all.iter().any(|s| s.id == chosen))
        {
            all.retain(|s| s.id == chosen);
            return all;
        }
        let elected = self.elected(&all, Some(reign.node)).filter(|_| self.council.is_none()).map(|s| s.id);
        all.retain(|s| !s.bystander || self.patience.master_gone || elected == Some(s.id));
        all
    }

    /// Replicas that follow `claim`, by name or by replication id (chained ones, NAT).
    fn followers(&self, claim: &Sight) -> usize {
        let follows = |s: &&Sight| s.follows == Some(claim.id) || s.lineage.id == claim.lineage.id;
        self.sights.iter().filter(|s| s.id != claim.id && s.standing == Standing::Replica).filter(follows).count()
    }

    /// The claim that more than half of all other known nodes follow. Nodes that are away count as against.
    fn elected<'s>(&self, claims: &[&'s Sight], except: Option<NodeId>) -> Option<&'s Sight> {
        let claims_it = |s: &&Sight| claims.iter().any(|c| c.id == s.id);
        let others = self.sights.iter().filter(|s| Some(s.id) != except && !claims_it(s)).count();
        claims.iter().copied().find(|c| 2 * self.followers(c) > others)
    }

    /// One claim, or the one that descends from all others, or the elected one, or nobody.
    fn choose(&self, claims: &[&Sight], cause: Cause) -> Verdict {
        let youngest = claims
            .iter()
            .find(|c| claims.iter().all(|o| o.id == c.id || descends(&o.lineage, c)))
            .or_else(|| claims.iter().find(|_| claims.len() == 1));
        match youngest.copied().or_else(|| self.elected(claims, None)) {
            Some(claim) => Verdict::Switch { to: claim.id, cause },
            None => Verdict::Hold(Hold::Ambiguous),
        }
    }

    /// Sentinel's word under a newer config-epoch than the reign's goes before everything else.
    fn newer_word(&self, reign: &Reign, old: &Sight) -> Option<Verdict> {
        let (node, epoch) = self.council?.word?;
        let newer = epoch > reign.config_epoch
            // A switch that the Sentinels never confirmed (they aborted) is undone when its master goes away.
            || (epoch == reign.config_epoch && !reign.confirmed && old.standing == Standing::Gone);
        if node == reign.node || !newer {
            return None;
        }
        if self.says_master(node) {
            return Some(Verdict::Switch { to: node, cause: Cause::Sentinel });
        }
        // Named but not (yet) master: the old one has lost its right unless the word proves empty.
        let stands = old.standing == Standing::Master && !self.patience.conflict_over;
        stands.then_some(Verdict::Hold(Hold::Conflict))
    }

    /// Sentinel's newer word proved empty for too long: the master stands, but not unnoticed.
    fn despite_word(&self, reign: &Reign, verdict: Verdict) -> Verdict {
        match self.council.and_then(|c| c.word) {
            Some((node, epoch)) if verdict == Verdict::Keep && node != reign.node && epoch > reign.config_epoch => {
                Verdict::KeepDespite(node)
            }
            _ => verdict,
        }
    }

    /// The master is alive and says so.
    fn reigning(&self, reign: &Reign) -> Verdict {
        let successors = self.successors(reign);
        if !successors.is_empty() && self.council.is_some_and(|c| !c.failovers.is_empty()) {
            return self.choose(&successors, Cause::Detector);
        }
        if self.fails_over(reign.node) {
            return Verdict::Hold(Hold::Failover);
        }
        let claims = self.claims(Some(reign));
        if self.council.is_none()
            && let Some(elected) = self.elected(&claims, Some(reign.node))
        {
            return Verdict::Switch { to: elected.id, cause: Cause::Detector };
        }
        let descendants = self.descendants(reign);
        if !self.patience.conflict_over && descendants.iter().any(|s| !s.bystander) {
            return Verdict::Hold(Hold::Conflict);
        }
        match descendants.first().or(claims.first()) {
            Some(claim) => Verdict::KeepDespite(claim.id),
            None => Verdict::Keep,
        }
    }

    /// The master's address says master, but it is another process or another data set.
    fn reborn(&self, reign: &Reign) -> Verdict {
        let successors = self.successors(reign);
        if !successors.is_empty() {
            return self.choose(&successors, Cause::Detector);
        }
        if self.fails_over(reign.node) {
            return Verdict::Hold(Hold::Failover);
        }
        Verdict::Switch { to: reign.node, cause: Cause::Restart }
    }

    /// The master says replica.
    fn demoted(&self, reign: &Reign, old: &Sight) -> Verdict {
        // Whom it follows overrides a fence: it may have been handed back to its predecessor.
        if let Some(next) = old.follows.filter(|&id| id != reign.node && self.says_master(id)) {
            return Verdict::Switch { to: next, cause: Cause::Detector };
        }
        let same_line = |s: &&Sight| s.lineage.id == old.lineage.id && s.id != old.id;
        let masters = self.sights.iter().filter(|s| s.standing == Standing::Master);
        if let Some(next) = masters.clone().find(same_line) {
            return Verdict::Switch { to: next.id, cause: Cause::Detector };
        }
        match self.successors(reign).as_slice() {
            [] => Verdict::Hold(Hold::Demoted),
            claims => self.choose(claims, Cause::Detector),
        }
    }

    /// The master does not answer, or not as one that could take writes.
    fn gone(&self, reign: &Reign, why: Hold) -> Verdict {
        let claims = self.claims(Some(reign));
        // The same process under another name.
        let same = |s: &&&Sight| s.run_id == reign.run_id && s.lineage.id == reign.lineage.id;
        if let Some(claim) = claims.iter().find(same) {
            return Verdict::Switch { to: claim.id, cause: Cause::Restart };
        }
        let successors = self.successors(reign);
        if !successors.is_empty() {
            return self.choose(&successors, Cause::Detector);
        }
        if self.council.is_some() || claims.is_empty() {
            return Verdict::Hold(why);
        }
        match self.elected(&claims, Some(reign.node)) {
            Some(claim) => Verdict::Switch { to: claim.id, cause: Cause::Detector },
            // Nothing new was claimed: the master may be back, and for good it is gone only after `down_after`.
            None if !self.patience.master_gone && claims.iter().all(|s| s.bystander) => Verdict::Hold(why),
            None => Verdict::Hold(Hold::Ambiguous),
        }
    }

    fn at_start(&self) -> Verdict {
        match self.council {
            Some(council) => self.start_with(council),
            None => self.start_alone(),
        }
    }

    fn start_with(&self, council: &Council) -> Verdict {
        let Some(named) = council.word.and_then(|(node, _)| self.sight(node)) else {
            return Verdict::Hold(Hold::Starting);
        };
        if !council.complete && !self.patience.start_over {
            return Verdict::Hold(Hold::Starting);
        }
        if named.standing != Standing::Master {
            // FAILOVER behind Sentinel's back: the named node itself says whom it follows.
            let next = named.follows.filter(|&id| named.standing == Standing::Replica && self.says_master(id));
            let standing_still = match named.standing {
                Standing::Unknown | Standing::Suspect => Hold::Starting,
                Standing::Loading => Hold::Loading,
                _ => Hold::NoMaster,
            };
            return next.map_or(Verdict::Hold(standing_still), |to| Verdict::Switch { to, cause: Cause::Start });
        }
        let mut descendants: Vec<&Sight> =
            self.claims(None).into_iter().filter(|s| descends(&named.lineage, s)).collect();
        if let Some(chosen) = self.chosen(named.id).filter(|_| self.fails_over(named.id)) {
            descendants.retain(|s| s.id == chosen);
        }
        match descendants.as_slice() {
            [] if self.fails_over(named.id) => Verdict::Hold(Hold::Failover),
            [] => Verdict::Switch { to: named.id, cause: Cause::Start },
            claims if !council.failovers.is_empty() => self.choose(claims, Cause::Start),
            _ if self.patience.conflict_over => Verdict::Switch { to: named.id, cause: Cause::Start },
            _ => Verdict::Hold(Hold::Conflict),
        }
    }

    fn start_alone(&self) -> Verdict {
        let unheard = |s: &Sight| matches!(s.standing, Standing::Unknown | Standing::Suspect);
        if self.sights.is_empty() || (self.sights.iter().any(unheard) && !self.patience.start_over) {
            return Verdict::Hold(Hold::Starting);
        }
        let claims = self.claims(None);
        match claims.as_slice() {
            [] if self.sights.iter().any(|s| s.standing == Standing::Loading) => Verdict::Hold(Hold::Loading),
            [] => Verdict::Hold(Hold::NoMaster),
            [only] => {
                let replicas = self.sights.iter().filter(|s| s.standing == Standing::Replica).count();
                let followers = self.followers(only);
                if followers >= replicas - followers {
                    Verdict::Switch { to: only.id, cause: Cause::Start }
                } else {
                    Verdict::Hold(Hold::Ambiguous)
                }
            }
            several => match self.elected(several, None) {
                Some(claim) => Verdict::Switch { to: claim.id, cause: Cause::Start },
                None => self.choose(several, Cause::Start),
            },
        }
    }
}

fn descends(old: &Lineage, new: &Sight) -> bool {
    matches!(relation(old, &new.lineage), Relation::Descends { .. })
}

#[cfg(test)]
mod tests;
