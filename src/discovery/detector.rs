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
mod tests {
    use super::*;
    use Standing::{Gone, Loading, Master, Replica, Suspect, Unknown};

    const O: NodeId = 0;
    const N: NodeId = 1;
    const M: NodeId = 2;
    const R: NodeId = 3;

    fn line(id: &str, previous: &str) -> Lineage {
        Lineage { id: id.into(), previous: previous.into(), branch: if previous.is_empty() { -1 } else { 100 } }
    }

    /// The reign of O over the line `o`, confirmed under epoch 5.
    fn reign() -> Reign {
        Reign { node: O, run_id: "run0".into(), lineage: line("o", ""), config_epoch: 5, confirmed: true }
    }

    fn sight(id: NodeId, standing: Standing, lineage: Lineage) -> Sight {
        Sight { id, standing, lineage, run_id: format!("run{id}"), follows: None, superseded: false, bystander: false }
    }

    fn old(standing: Standing) -> Sight {
        sight(O, standing, line("o", ""))
    }

    fn promoted(id: NodeId, name: &str) -> Sight {
        sight(id, Master, line(name, "o"))
    }

    fn stranger(id: NodeId) -> Sight {
        sight(id, Master, line("stranger", ""))
    }

    fn follower(id: NodeId, of: NodeId) -> Sight {
        Sight { follows: Some(of), ..sight(id, Replica, line("o", "")) }
    }

    fn superseded(s: Sight) -> Sight {
        Sight { superseded: true, ..s }
    }

    /// Was promoted by hand beside the living master.
    fn bystander(id: NodeId, name: &str) -> Sight {
        Sight { bystander: true, ..promoted(id, name) }
    }

    fn word(node: NodeId, epoch: u64) -> Council {
        Council { word: Some((node, epoch)), complete: true, ..Council::default() }
    }

    fn failing(node: NodeId, council: Council) -> Council {
        Council { failovers: vec![Failing { master: Some(node), chosen: None, overdue: false }], ..council }
    }

    fn choosing(master: NodeId, chosen: NodeId, council: Council) -> Council {
        let failing = Failing { master: Some(master), chosen: Some(chosen), overdue: false };
        Council { failovers: vec![failing], ..council }
    }

    fn overdue(node: NodeId, council: Council) -> Council {
        Council { failovers: vec![Failing { master: Some(node), chosen: None, overdue: true }], ..council }
    }

    fn to(to: NodeId, cause: Cause) -> Verdict {
        Verdict::Switch { to, cause }
    }

    const BRIEF: Patience = Patience { conflict_over: false, start_over: false, master_gone: false };
    const OVER: Patience = Patience { conflict_over: true, start_over: true, master_gone: false };
    const GONE: Patience = Patience { master_gone: true, ..BRIEF };

    type Row = (&'static str, Vec<Sight>, Verdict);

    fn check(reign: Option<&Reign>, council: Option<&Council>, patience: Patience, rows: Vec<Row>) {
        for (what, mut sights, expected) in rows {
            assert_eq!(judge(reign, &sights, council, patience), expected, "{what}");
            // Nothing hangs on the order in which nodes are known.
            sights.reverse();
            assert_eq!(judge(reign, &sights, council, patience), expected, "{what}, reversed");
        }
    }

    #[test]
    fn without_sentinel() {
        let hold = Verdict::Hold;
        let rows = vec![
            ("all is well", vec![old(Master), follower(N, O), follower(R, O)], Verdict::Keep),
            ("its connection just ended", vec![old(Suspect), follower(N, O)], hold(Hold::Suspect)),
            ("gone, nobody took over", vec![old(Gone), follower(N, O)], hold(Hold::Lost)),
            ("loading again, nobody took over", vec![old(Loading), follower(N, O)], hold(Hold::Loading)),
            ("gone, one descendant", vec![old(Gone), promoted(N, "n"), follower(R, O)], to(N, Cause::Detector)),
            ("suspect, one descendant", vec![old(Suspect), promoted(N, "n")], to(N, Cause::Detector)),
            ("loading, one descendant", vec![old(Loading), promoted(N, "n")], to(N, Cause::Detector)),
            (
                "gone, a promoted one and its own successor",
                vec![old(Gone), promoted(N, "n"), Sight { lineage: line("m", "n"), ..promoted(M, "m") }],
                to(M, Cause::Detector),
            ),
            (
                "gone, two siblings, the majority follows one",
                vec![old(Gone), promoted(N, "n"), promoted(M, "m"), follower(R, M), follower(4, M)],
                to(M, Cause::Detector),
            ),
            (
                "gone, two siblings, nobody decides",
                vec![old(Gone), promoted(N, "n"), promoted(M, "m")],
                hold(Hold::Ambiguous),
            ),
            ("gone, a stranger says master", vec![old(Gone), stranger(N), follower(R, O)], hold(Hold::Ambiguous)),
            (
                "gone, a stranger (two promotions since) that the others follow",
                vec![old(Gone), stranger(N), follower(M, N), follower(R, N)],
                to(N, Cause::Detector),
            ),
            ("a superseded node says master", vec![old(Gone), superseded(stranger(N))], hold(Hold::Lost)),
            ("a superseded node promoted again", vec![old(Gone), superseded(promoted(N, "n"))], to(N, Cause::Detector)),
            (
                "demoted, follows one that says master",
                vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "demoted, follows its predecessor (a failover taken back)",
                vec![Sight { follows: Some(N), ..old(Replica) }, superseded(stranger(N))],
                to(N, Cause::Detector),
            ),
            (
                "demoted, follows another name of one with its replication id",
                vec![Sight { lineage: line("n", "o"), ..old(Replica) }, promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "demoted, the one it follows is not master yet",
                vec![Sight { follows: Some(N), ..old(Replica) }, follower(N, O)],
                hold(Hold::Demoted),
            ),
            ("demoted, a stranger says master", vec![old(Replica), stranger(N)], hold(Hold::Demoted)),
            (
                "alive, a descendant that nobody follows yet",
                vec![old(Master), promoted(N, "n"), follower(R, O)],
                hold(Hold::Conflict),
            ),
            (
                "alive, a descendant that most others follow",
                vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, N)],
                to(N, Cause::Detector),
            ),
            (
                "alive, half is no majority",
                vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, O)],
                hold(Hold::Conflict),
            ),
            (
                "alive, one that is away counts as against",
                vec![old(Master), promoted(N, "n"), follower(M, N), sight(R, Gone, line("o", ""))],
                hold(Hold::Conflict),
            ),
            ("alive, a stranger says master", vec![old(Master), stranger(N)], Verdict::KeepDespite(N)),
            ("alive, the old master is back", vec![old(Master), superseded(stranger(N))], Verdict::Keep),
            (
                "restarted: another process",
                vec![Sight { run_id: "again".into(), ..old(Master) }, follower(N, O)],
                to(O, Cause::Restart),
            ),
            (
                "same process, another line (its first replica came)",
                vec![sight(O, Master, line("p", "")), follower(N, O)],
                to(O, Cause::Restart),
            ),
            (
                "restarted, but one was promoted meanwhile",
                vec![Sight { run_id: "again".into(), ..stranger(O) }, promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "gone, and there again under another name",
                vec![old(Gone), Sight { run_id: "run0".into(), ..sight(N, Master, line("o", "")) }],
                to(N, Cause::Restart),
            ),
        ];
        check(Some(&reign()), None, BRIEF, rows);
        let rows = vec![
            ("the conflict lasted", vec![old(Master), promoted(N, "n"), follower(R, O)], Verdict::KeepDespite(N)),
            ("nothing else gets easier", vec![old(Gone), promoted(N, "n"), promoted(M, "m")], hold(Hold::Ambiguous)),
        ];
        check(Some(&reign()), None, OVER, rows);
    }

    #[test]
    fn beside_sentinel() {
        let hold = Verdict::Hold;
        let by_hand = || vec![old(Master), promoted(N, "n"), follower(M, N), follower(R, N)];
        let table = [
            ("all is well", word(O, 5), BRIEF, vec![old(Master)], Verdict::Keep),
            ("an old word", word(N, 4), BRIEF, vec![old(Master), stranger(N)], Verdict::KeepDespite(N)),
            ("a newer word, verified", word(N, 6), BRIEF, vec![old(Master), promoted(N, "n")], to(N, Cause::Sentinel)),
            ("a newer word names a stranger", word(N, 6), BRIEF, vec![old(Gone), stranger(N)], to(N, Cause::Sentinel)),
            (
                "a newer word brings a superseded one back",
                word(N, 6),
                BRIEF,
                vec![old(Gone), superseded(stranger(N))],
                to(N, Cause::Sentinel),
            ),
            (
                "a newer word, no master there",
                word(N, 6),
                BRIEF,
                vec![old(Master), follower(N, O)],
                hold(Hold::Conflict),
            ),
            ("and that for too long", word(N, 6), OVER, vec![old(Master), follower(N, O)], Verdict::KeepDespite(N)),
            (
                "before Sentinel says so: the old one is gone",
                word(O, 5),
                BRIEF,
                vec![old(Gone), promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "a failover begins",
                failing(O, word(O, 5)),
                BRIEF,
                vec![old(Master), follower(N, O)],
                hold(Hold::Failover),
            ),
            ("a failover that hangs", overdue(O, word(O, 5)), BRIEF, vec![old(Master), follower(N, O)], Verdict::Keep),
            (
                "a failover that hung, promoted at last",
                overdue(O, word(O, 5)),
                BRIEF,
                vec![old(Master), promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "a failover of the living master, promoted",
                failing(O, word(O, 5)),
                BRIEF,
                vec![old(Master), promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "the end of the failover that made this one master",
                failing(N, word(O, 5)),
                BRIEF,
                vec![old(Master), superseded(sight(N, Gone, line("z", "")))],
                Verdict::Keep,
            ),
            (
                "restarted while it is being failed over",
                failing(O, word(O, 5)),
                BRIEF,
                vec![stranger(O), follower(N, O)],
                hold(Hold::Failover),
            ),
            ("by hand, though all follow", word(O, 5), BRIEF, by_hand(), hold(Hold::Conflict)),
            ("by hand, for too long", word(O, 5), OVER, by_hand(), Verdict::KeepDespite(N)),
            (
                "FAILOVER behind Sentinel's back",
                word(O, 5),
                BRIEF,
                vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "gone, a stranger that Sentinel does not name",
                word(O, 5),
                OVER,
                vec![old(Gone), stranger(N), follower(R, N)],
                hold(Hold::Lost),
            ),
        ];
        for (what, council, patience, sights, expected) in table {
            check(Some(&reign()), Some(&council), patience, vec![(what, sights, expected)]);
        }
    }

    #[test]
    fn a_bystander_does_not_take_over_in_a_moment() {
        let hold = Verdict::Hold;
        let rows = vec![
            ("the master lives", vec![old(Master), bystander(N, "n"), follower(R, O)], Verdict::KeepDespite(N)),
            ("its connection ended", vec![old(Suspect), bystander(N, "n"), follower(R, O)], hold(Hold::Suspect)),
            ("it is restarting", vec![old(Gone), bystander(N, "n"), follower(R, O)], hold(Hold::Lost)),
            ("it is loading", vec![old(Loading), bystander(N, "n"), follower(R, O)], hold(Hold::Loading)),
            (
                "it restarted",
                vec![Sight { run_id: "again".into(), ..stranger(O) }, bystander(N, "n"), follower(R, O)],
                to(O, Cause::Restart),
            ),
            (
                "it became a replica of one that does not say master yet",
                vec![Sight { follows: Some(R), ..old(Replica) }, bystander(N, "n"), follower(R, O)],
                hold(Hold::Demoted),
            ),
            (
                "it became the bystander's replica",
                vec![Sight { follows: Some(N), ..old(Replica) }, bystander(N, "n")],
                to(N, Cause::Detector),
            ),
            (
                "it is restarting, and most others follow the bystander",
                vec![old(Gone), bystander(N, "n"), follower(M, N), follower(R, N)],
                to(N, Cause::Detector),
            ),
            (
                "its connection ended, and one was promoted since",
                vec![old(Suspect), bystander(N, "n"), promoted(M, "m"), follower(R, O)],
                to(M, Cause::Detector),
            ),
            (
                "it lives, and one more was promoted",
                vec![old(Master), bystander(N, "n"), promoted(M, "m"), follower(R, O)],
                hold(Hold::Conflict),
            ),
        ];
        check(Some(&reign()), None, BRIEF, rows);
        let rows = vec![
            ("it stopped", vec![old(Gone), bystander(N, "n"), follower(R, O)], to(N, Cause::Detector)),
            ("two and nobody decides", vec![old(Gone), bystander(N, "n"), bystander(M, "m")], hold(Hold::Ambiguous)),
        ];
        check(Some(&reign()), None, GONE, rows);
    }

    #[test]
    fn beside_sentinel_a_bystander_needs_its_word() {
        let hold = Verdict::Hold;
        let gone = || vec![old(Gone), bystander(N, "n"), follower(R, N)];
        let living = |m: Sight| vec![old(Master), bystander(N, "n"), m, follower(R, O)];
        let fails = || failing(O, word(O, 5));
        let chooses = |id| choosing(O, id, word(O, 5));
        let table = [
            ("the master is gone", word(O, 5), gone(), hold(Hold::Lost)),
            ("gone, a failover begins", fails(), gone(), hold(Hold::Lost)),
            ("gone, the word names it", word(N, 6), gone(), to(N, Cause::Sentinel)),
            ("gone, it is chosen", chooses(N), gone(), to(N, Cause::Detector)),
            ("living, a failover begins", fails(), living(follower(M, O)), hold(Hold::Failover)),
            ("living, another is chosen", chooses(M), living(follower(M, O)), hold(Hold::Failover)),
            ("living, another is chosen and promoted", chooses(M), living(promoted(M, "m")), to(M, Cause::Detector)),
            ("living, another is promoted", fails(), living(promoted(M, "m")), to(M, Cause::Detector)),
        ];
        for (what, council, sights, expected) in table {
            check(Some(&reign()), Some(&council), BRIEF, vec![(what, sights, expected)]);
        }
    }

    #[test]
    fn sentinels_choice_goes_before_other_claims() {
        let by_hand = |m: Sight| vec![old(Master), promoted(N, "n"), m];
        let table = [
            ("not promoted yet", BRIEF, by_hand(follower(M, O)), Verdict::Hold(Hold::Failover)),
            ("promoted", BRIEF, by_hand(promoted(M, "m")), to(M, Cause::Detector)),
            (
                "the other descends from it",
                BRIEF,
                vec![old(Master), promoted(M, "m"), Sight { lineage: line("n", "m"), ..promoted(N, "n") }],
                to(M, Cause::Detector),
            ),
            ("the master is gone", BRIEF, vec![old(Gone), promoted(N, "n"), follower(M, O)], Verdict::Hold(Hold::Lost)),
        ];
        for (what, patience, sights, expected) in table {
            check(Some(&reign()), Some(&choosing(O, M, word(O, 5))), patience, vec![(what, sights, expected)]);
        }
        let start = vec![old(Master), promoted(N, "n"), promoted(M, "m")];
        check(None, Some(&choosing(O, M, word(O, 5))), BRIEF, vec![("at the start", start, to(M, Cause::Start))]);
        let earlier = choosing(N, O, word(O, 5));
        let rows = vec![("of the failover that made it master", vec![old(Master), follower(N, O)], Verdict::Keep)];
        check(Some(&reign()), Some(&earlier), BRIEF, rows);
    }

    #[test]
    fn a_switch_that_sentinel_never_confirmed_is_undone_only_when_its_master_goes() {
        let early = Reign { confirmed: false, ..reign() };
        let former = |s| superseded(Sight { ..sight(N, s, line("before", "")) });
        let council = word(N, 5);
        let rows = vec![
            ("it works", vec![old(Master), former(Master)], Verdict::Keep),
            ("it is gone, its predecessor is master again", vec![old(Gone), former(Master)], to(N, Cause::Sentinel)),
            ("it is gone, its predecessor too", vec![old(Gone), former(Gone)], Verdict::Hold(Hold::Lost)),
        ];
        check(Some(&early), Some(&council), BRIEF, rows);
        let confirmed =
            vec![("confirmed: never by the same epoch", vec![old(Gone), former(Master)], Verdict::Hold(Hold::Lost))];
        check(Some(&reign()), Some(&council), BRIEF, confirmed);
    }

    #[test]
    fn at_the_start_without_sentinel() {
        let hold = Verdict::Hold;
        let rows = vec![
            ("nothing known", vec![], hold(Hold::Starting)),
            ("not everybody answered", vec![old(Master), sight(N, Unknown, line("", ""))], hold(Hold::Starting)),
            ("one master", vec![old(Master), follower(N, O)], to(O, Cause::Start)),
            ("one master, the others away", vec![old(Master), sight(N, Gone, line("", ""))], to(O, Cause::Start)),
            ("replicas only", vec![follower(N, O), sight(O, Gone, line("", ""))], hold(Hold::NoMaster)),
            ("loading", vec![old(Loading)], hold(Hold::Loading)),
            (
                "one master that most do not follow: the right one is away",
                vec![stranger(O), follower(N, 9), follower(M, 9)],
                hold(Hold::Ambiguous),
            ),
            (
                "a chained replica follows by its replication id",
                vec![old(Master), Sight { follows: Some(9), ..follower(N, O) }],
                to(O, Cause::Start),
            ),
            ("two, one descends from the other", vec![old(Master), promoted(N, "n")], to(N, Cause::Start)),
            (
                "two, the majority stays with the older",
                vec![old(Master), promoted(N, "n"), follower(M, O), follower(R, O)],
                to(O, Cause::Start),
            ),
            ("two strangers", vec![old(Master), stranger(N)], hold(Hold::Ambiguous)),
        ];
        check(None, None, BRIEF, rows);
        let waited = vec![old(Master), sight(N, Unknown, line("", ""))];
        check(None, None, OVER, vec![("somebody never answers", waited, to(O, Cause::Start))]);
    }

    #[test]
    fn at_the_start_beside_sentinel() {
        let hold = Verdict::Hold;
        let partial = Council { complete: false, ..word(O, 5) };
        let silent = Council { complete: true, ..Council::default() };
        let table = [
            ("nobody named anyone", silent, BRIEF, vec![old(Master)], hold(Hold::Starting)),
            ("a Sentinel was not heard yet", partial.clone(), BRIEF, vec![old(Master)], hold(Hold::Starting)),
            ("and never is", partial, OVER, vec![old(Master)], to(O, Cause::Start)),
            ("named and verified", word(O, 5), BRIEF, vec![old(Master), follower(N, O)], to(O, Cause::Start)),
            ("named, not asked yet", word(O, 5), BRIEF, vec![old(Unknown)], hold(Hold::Starting)),
            ("named and gone", word(O, 5), OVER, vec![old(Gone), promoted(N, "n")], hold(Hold::NoMaster)),
            (
                "named, demoted behind Sentinel's back",
                word(O, 5),
                BRIEF,
                vec![Sight { follows: Some(N), ..old(Replica) }, promoted(N, "n")],
                to(N, Cause::Start),
            ),
            (
                "promoted, and Sentinel at it",
                failing(O, word(O, 5)),
                BRIEF,
                vec![old(Master), promoted(N, "n")],
                to(N, Cause::Start),
            ),
            ("a failover just begins", failing(O, word(O, 5)), BRIEF, vec![old(Master)], hold(Hold::Failover)),
            (
                "a descendant without Sentinel's doing",
                word(O, 5),
                BRIEF,
                vec![old(Master), promoted(N, "n")],
                hold(Hold::Conflict),
            ),
            ("and that for long", word(O, 5), OVER, vec![old(Master), promoted(N, "n")], to(O, Cause::Start)),
        ];
        for (what, council, patience, sights, expected) in table {
            check(None, Some(&council), patience, vec![(what, sights, expected)]);
        }
    }
}
