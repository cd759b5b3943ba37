//! What the operator reads: one line for each thing that changed, with the node, the set, the cause, and what to do where
//! somebody must act. Never one per check.

use tracing::{error, info, warn};

use super::council::Complaint;
use super::detector::Verdict;
use super::member::{Health, Member};
use super::picture::{Picture, Portrait};
use super::promotion::Doubt;
use super::world::{Succession, World};
use crate::metrics::{self, Cause};
use crate::topology::{Hold, Lost, NodeId, NodeState, Switch};
use crate::upstream::control::Error;

/// Logs every node that came, left or changed its state between two pictures.
pub fn nodes(world: &World, before: &Picture, now: &Picture) {
    for node in &now.nodes {
        match before.portrait(node.id).filter(|old| old.address == node.address) {
            Some(old) if old.state == node.state => {}
            old => flip(world, old.map(|o| o.state), node),
        }
    }
    for old in &before.nodes {
        if now.portrait(old.id).is_none_or(|node| node.address != old.address) {
            match world.resolve(&old.address).and_then(|id| world.member(id)) {
                Some(same) => {
                    info!(set = %world.set.name, node = %old.address, is = %same.address, "another name of a node")
                }
                None => info!(set = %world.set.name, node = %old.address, "node left: nobody lists it any more"),
            }
        }
    }
}

fn flip(world: &World, before: Option<NodeState>, node: &Portrait) {
    let (set, address, state) = (&world.set.name, &node.address, node.state.label());
    let was = before.map_or("new", NodeState::label);
    let member = world.member(node.id);
    let cause = member.map(cause).unwrap_or_default();
    match node.state {
        NodeState::Rejected => error!(
            %set, node = %address, was, state, %cause,
            "node refuses redweir: check the address, and the node login (it needs ROLE, INFO and COMMAND)"
        ),
        // Before anybody is master, saying so is no offence.
        NodeState::Fenced if world.reign.is_none() => info!(%set, node = %address, "node says master"),
        NodeState::Down | NodeState::Silent | NodeState::Fenced | NodeState::Lagging => {
            warn!(%set, node = %address, was, state, %cause, "node state changed");
        }
        NodeState::Unknown => info!(%set, node = %address, "node found"),
        _ => info!(%set, node = %address, was, state, %cause, "node state changed"),
    }
    if node.state == NodeState::Replica && member.and_then(|m| m.info.as_ref()).is_some_and(|info| info.takes_writes) {
        warn!(
            %set, node = %address,
            "replica takes writes of its own: what is read there may never have been at the master; CONFIG SET replica-read-only yes"
        );
    }
}

fn cause(member: &Member) -> String {
    match &member.health {
        Health::Down(e) | Health::Rejected(e) => e.to_string(),
        Health::Suspect(_) => "connection lost".into(),
        _ if member.superseded && member.says_master() => "superseded, still says master".into(),
        _ if member.says_master() => "says master".into(),
        _ => String::new(),
    }
}

/// Logs that the master was found, or another took over.
pub fn succession(world: &World, what: &Succession, cause: Cause) {
    let (set, to, term) = (&world.set.name, &what.to, world.term);
    let cause = cause.label();
    let Some(from) = &what.from else {
        info!(%set, master = %to, term, cause, "master verified");
        return;
    };
    metrics::switched(set, what.lost.kept(), what.lost.bytes().unwrap_or(0));
    if let Some(keys) = what.emptied {
        metrics::master_emptied(set);
        error!(
            %set, master = %to, term, keys,
            "the master restarted WITHOUT its data set: it had that many keys and has none; its replicas drop theirs when they follow it. Restore it, or promote a replica that is still whole"
        );
        return;
    }
    match what.lost {
        _ if what.same_process => info!(%set, master = %to, term, cause, "the master began another line of offsets"),
        Lost::Nothing => info!(%set, %from, %to, term, cause, "new master, nothing lost"),
        Lost::AtLeast(0) => info!(
            %set, %from, %to, term, cause,
            "new master, it has all that the old one was seen to have: nothing lost, unless it was written after the old one was last asked"
        ),
        Lost::AtLeast(bytes) => warn!(
            %set, %from, %to, term, cause, bytes,
            "new master without at least that many bytes of the old stream: writes among them are lost, acknowledged or not"
        ),
        Lost::Unknown => warn!(
            %set, %from, %to, term, cause,
            "what was lost is unknown: nothing shows that the master's data set descends from the one before; check that it holds your data (restart without persistence?)"
        ),
    }
}

/// Logs what a switch cost in writes that were acknowledged through this redweir.
pub fn toll(set: &str, switch: &Switch) {
    let to = &switch.to;
    match switch.writes() {
        None => {}
        Some((0, 0)) => info!(%set, %to, "no write that was acknowledged here is lost"),
        Some((0, uncertain)) => warn!(
            %set, %to, uncertain,
            "no write that was acknowledged here is known to be lost; of so many nothing shows whether the new master has them"
        ),
        Some((lost, uncertain)) => error!(
            %set, %to, lost, uncertain,
            "writes that were acknowledged here are LOST: the new master does not have them, and may lack the uncertain ones, too"
        ),
    }
}

/// Logs that the detector's verdict changed.
pub fn verdict(world: &World, verdict: Verdict) {
    let set = &world.set.name;
    match verdict {
        Verdict::Keep => info!(%set, "writes open"),
        Verdict::KeepDespite(node) => {
            let other = world.member(node).map_or("?", |m| &m.address);
            warn!(
                %set, %other,
                "two masters: the old one stays; make the other a replica (REPLICAOF), or stop the one that must not write. If the other is another set's, let the replica that follows it follow this master again"
            );
        }
        Verdict::Hold(Hold::NoMaster) if world.members.iter().all(Member::is_mute) => error!(
            %set,
            "writes held: none of the known nodes answers; check the addresses, that the nodes run, and the node login. If they answer and none says master, promote one (REPLICAOF NO ONE)"
        ),
        Verdict::Hold(why) => hold(set, why),
        Verdict::Switch { .. } => {}
    }
}

fn hold(set: &str, why: Hold) {
    match why {
        Hold::Starting => info!(set, "writes held: looking for the master"),
        Hold::Suspect => warn!(set, "writes held: the master's connection ended"),
        Hold::Failover => warn!(set, "writes held: Sentinel fails over"),
        Hold::Conflict => {
            warn!(set, "writes held: another node says master or was named so; waiting for what resolves it")
        }
        Hold::Draining | Hold::Switchover => info!(set, reason = why.label(), "writes held: a switchover"),
        Hold::Loading => warn!(set, "writes held: the master is loading its data set"),
        Hold::Demoted => warn!(set, "writes held: the master became a replica of a node that does not say master"),
        Hold::Lost => warn!(set, "writes held: the master is gone and no replica was promoted yet"),
        Hold::NoMaster => {
            error!(set, "writes held: no known node says master; promote one (REPLICAOF NO ONE) or check the addresses")
        }
        Hold::Emptied => error!(
            set,
            "writes held: the master restarted without its data set (on-empty-master = stop); they go on when it has keys (restore it, or write one there to accept the loss) or another node is master"
        ),
        Hold::Unconfirmed => warn!(set, "writes held: a replica was promoted; waiting for the Sentinels to name it"),
        Hold::Minority => error!(
            set,
            "writes held: most Sentinels do not answer (minority-stop), and those may have another master; check the network between redweir and them"
        ),
        Hold::Ambiguous => error!(
            set,
            "writes held: several masters and nothing shows which one is right; make the wrong ones replicas (REPLICAOF), or take out what belongs to another set"
        ),
    }
}

/// Logs that redweir promotes a replica by itself.
pub fn promotion(world: &World, node: NodeId) {
    let set = &world.set.name;
    let node = world.member(node).map_or("?", |m| &m.address);
    warn!(%set, %node, "the master is gone, and most of its replicas say so: promoting this one");
}

/// Logs why redweir promotes nobody, although the master is gone as far as it sees.
pub fn doubt(world: &World, doubt: Doubt) {
    let set = &world.set.name;
    match doubt {
        Doubt::Heard { down, of } => error!(
            %set,
            "nobody is promoted: only {down} of {of} replicas say that they lost the master, so it may be redweir that is cut off, or too many nodes are away; promote one by hand (REPLICAOF NO ONE) if the master is really gone"
        ),
        Doubt::NoneFit { of } => error!(
            %set,
            "nobody is promoted: none of {of} replicas is fit (answering, of the master's data set, not of replica-priority 0); promote one by hand (REPLICAOF NO ONE)"
        ),
    }
}

/// Logs what is wrong with a Sentinel.
pub fn complaint(set: &str, master_name: &str, sentinel: &str, what: &Complaint) {
    match what {
        Complaint::Away(Error::Auth(text)) => {
            error!(set, sentinel, "Sentinel refuses the login ({text}): check the Sentinel login in the configuration");
        }
        Complaint::Away(Error::Server(text)) => error!(
            set,
            sentinel,
            "does not answer as a Sentinel ({text}): list Sentinels under sentinel and data nodes under node, and let the Sentinel login run SENTINEL"
        ),
        Complaint::Away(e) => warn!(set, sentinel, "Sentinel is away: {e}; check the address, and that it runs"),
        Complaint::UnknownMaster(watched) => error!(
            set,
            sentinel,
            "Sentinel knows no master named '{master_name}': set the master name to one it watches ({}), or add it there with SENTINEL MONITOR",
            if watched.is_empty() { "none".into() } else { watched.join(", ") }
        ),
        Complaint::NoQuorum(text) => {
            warn!(
                set,
                sentinel,
                "Sentinel could not fail over now: {text}; check that enough Sentinels run and reach each other"
            );
        }
        Complaint::Tilt => warn!(
            set,
            sentinel,
            "Sentinel distrusts its clock (TILT): for 30 s at least it fails over nobody; give its machine more room if that comes again"
        ),
    }
}
