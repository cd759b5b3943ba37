//! Who is to become master, and whether it may begin at all. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Login;
use crate::topology::NodeId;

/// A node to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub id: NodeId,
    /// As it is known to others.
    pub address: Arc<str>,
    pub dial: Arc<str>,
}

/// The Sentinel that is told.
#[derive(Debug, Clone)]
pub struct Watchers {
    pub dial: String,
    pub master_name: String,
    pub login: Option<Login>,
}

/// Everything the hands need to know.
#[derive(Debug, Clone)]
pub struct Plan {
    pub master: Post,
    pub target: Post,
    /// The target and no other.
    pub wanted: bool,
    /// The target as the master names it: host and port.
    pub named: (String, String),
    /// All other known nodes.
    pub others: Vec<Post>,
    pub sentinel: Option<Watchers>,
    pub login: Option<Login>,
    pub connect_timeout: Duration,
    pub limit: Duration,
}

/// A replica as the world knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub post: Post,
    /// Why it is no reader: what [`crate::topology::NodeState`] calls it.
    pub unfit: Option<&'static str>,
    /// As the master names it; `None`: it is not among the master's own replicas.
    pub named: Option<(String, String)>,
    pub applied: i64,
}

/// The one to promote: the one wanted, or the most advanced.
///
/// # Errors
/// Why not, for the operator.
pub fn choose(candidates: &[Candidate], wanted: Option<NodeId>) -> Result<&Candidate, String> {
    let name = |c: &Candidate| c.post.address.to_string();
    if let Some(id) = wanted {
        let found = candidates.iter().find(|c| c.post.id == id).ok_or("it is no replica of this set")?;
        return match (found.unfit, &found.named) {
            (Some(state), _) => Err(format!("{} is {state}: only a replica in rotation can take over", name(found))),
            (None, None) => Err(format!("{} follows another replica, not the master itself", name(found))),
            (None, Some(_)) => Ok(found),
        };
    }
    let fit = candidates.iter().filter(|c| c.unfit.is_none() && c.named.is_some());
    fit.max_by_key(|c| (c.applied, std::cmp::Reverse(c.post.id))).ok_or_else(|| {
        let all: Vec<_> = candidates
            .iter()
            .map(|c| format!("{} is {}", name(c), c.unfit.unwrap_or("not named by the master")))
            .collect();
        let all = if all.is_empty() { "there are none".to_owned() } else { all.join(", ") };
        format!("no replica can take over: {all}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: NodeId, unfit: Option<&'static str>, linked: bool, applied: i64) -> Candidate {
        let address: Arc<str> = format!("n:{id}").into();
        let named = linked.then(|| ("n".to_owned(), id.to_string()));
        Candidate { post: Post { id, dial: Arc::clone(&address), address }, unfit, named, applied }
    }

    #[test]
    fn who_may_take_over() {
        let all = [
            candidate(1, None, true, 90),
            candidate(2, None, true, 100),
            candidate(3, None, true, 100),
            candidate(4, Some("lagging"), true, 100),
            candidate(5, None, false, 100),
        ];
        let table = [
            (None, Ok(2)),
            (Some(1), Ok(1)),
            (Some(3), Ok(3)),
            (Some(4), Err("n:4 is lagging: only a replica in rotation can take over")),
            (Some(5), Err("n:5 follows another replica, not the master itself")),
            (Some(6), Err("it is no replica of this set")),
        ];
        for (wanted, expected) in table {
            let found = choose(&all, wanted).map(|c| c.post.id);
            assert_eq!(found, expected.map_err(str::to_owned), "{wanted:?}");
        }
        let none = choose(&all[3..], None).unwrap_err();
        assert_eq!(none, "no replica can take over: n:4 is lagging, n:5 is not named by the master");
        assert_eq!(choose(&[], None).unwrap_err(), "no replica can take over: there are none");
    }
}
