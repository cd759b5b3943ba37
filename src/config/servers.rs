//! The values of one replication set -> a [`SetConfig`]: where its members are learnt from, logins, times that fit together.
//!
//! Opens no socket; of files it reads only those that hold passwords. Must not know other sets or listeners.
//! Invariant: what it returns for a set without fault is complete.

use std::collections::BTreeMap;
use std::path::Path;

use super::assemble::Draft;
use super::fault::{At, Faults};
use super::settings::{LoginParts, Process, SetParts};
use super::{Login, NodeSettings, Secret, SetConfig, Share, Source, failover};

/// A set with what the checks between tables need.
pub(super) struct Finished {
    pub config: SetConfig,
    /// Where its name was given. `None`: it has none because of a fault that was reported.
    pub named: Option<At>,
}

pub(super) fn finish_set(draft: Draft<SetParts>, path: Option<&Path>, faults: &mut Faults) -> Finished {
    check_times(&draft, faults);
    let node_login = login(&draft, NODE_KEYS, &draft.parts.node_login, path, faults);
    let sentinel_login = login(&draft, SENTINEL_KEYS, &draft.parts.sentinel_login, path, faults);
    let source = source(&draft, sentinel_login, faults);
    let failover = failover::finish(&draft, source.as_ref(), path, faults);
    let given = |key| draft.seen(key).map(|seen| seen.at);
    let named = match &source {
        _ if given("name").is_some() => given("name"),
        Some(Source::Sentinel { .. }) => given("master-name"),
        Some(Source::Nodes(_)) => Some(draft.home),
        None => None,
    };
    let parts = draft.parts;
    let source = source.unwrap_or(Source::Nodes(Vec::new()));
    let name = match &source {
        _ if !parts.name.is_empty() => parts.name,
        Source::Sentinel { master_name, .. } => master_name.clone(),
        Source::Nodes(_) => "default".to_owned(),
    };
    let config = SetConfig {
        name,
        source,
        node_login,
        address_map: parts.address_map,
        poll: parts.poll,
        poll_fast: parts.poll_fast,
        down_after: parts.down_after,
        connect_timeout: parts.connect_timeout,
        max_lag: parts.max_lag,
        max_lag_bytes: parts.max_lag_bytes,
        max_lag_return: parts.max_lag_return.unwrap_or(Share::ALL),
        nodes: nodes(parts.weights, parts.zones),
        failover,
    };
    Finished { config, named }
}

fn nodes(weights: Vec<(String, u32)>, zones: Vec<(String, String)>) -> Vec<NodeSettings> {
    let mut nodes: BTreeMap<String, (u32, Option<String>)> = BTreeMap::new();
    for (address, weight) in weights {
        nodes.entry(address).or_insert((1, None)).0 = weight;
    }
    for (address, zone) in zones.into_iter().filter(|(_, zone)| !zone.is_empty()) {
        nodes.entry(address).or_insert((1, None)).1 = Some(zone);
    }
    nodes.into_iter().map(|(address, (weight, zone))| NodeSettings { address, weight, zone }).collect()
}

fn check_times(draft: &Draft<SetParts>, faults: &mut Faults) {
    let SetParts { poll, poll_fast, down_after, .. } = draft.parts;
    let show = humantime::format_duration;
    if poll_fast > poll {
        let at = draft.at("poll-fast").max(draft.at("poll"));
        faults.add(at, "poll-fast", format!("{} is slower than poll ({}), use less", show(poll_fast), show(poll)));
    }
    if down_after < poll {
        let at = draft.at("down-after").max(draft.at("poll"));
        faults.add(at, "down-after", format!("{} is less than poll ({}), use more", show(down_after), show(poll)));
    }
}

/// Where the members are learnt from: what the highest layer says, and only one of the two.
fn source(draft: &Draft<SetParts>, login: Option<Login>, faults: &mut Faults) -> Option<Source> {
    let parts = &draft.parts;
    let master_name = draft.seen("master-name");
    match (draft.seen("node"), draft.seen("sentinel")) {
        (Some(node), Some(sentinel)) if node.layer == sentinel.layer => {
            faults.add(node.at.max(sentinel.at), "node", "excludes sentinel in the same set, drop one of them");
            None
        }
        (Some(node), sentinel) if sentinel.is_none_or(|sentinel| sentinel.layer < node.layer) => {
            match master_name.filter(|name| name.layer >= node.layer) {
                Some(name) => {
                    faults.add(name.at, "master-name", "is of no use without sentinel, drop it or give the Sentinels");
                    None
                }
                None => Some(Source::Nodes(parts.node.clone())),
            }
        }
        (_, Some(sentinel)) => {
            if master_name.is_none() {
                // Sentinels given once for several sets: it is the set that lacks a name.
                let at = if matches!(draft.home, At::Line(_)) { draft.home } else { sentinel.at };
                faults.add(at, "sentinel", "needs master-name too, the NAME of `sentinel monitor NAME ...`");
            }
            let (sentinels, master_name) = (parts.sentinel.clone(), parts.master_name.clone());
            (!master_name.is_empty()).then_some(Source::Sentinel { sentinels, master_name, login })
        }
        _ => {
            match master_name {
                Some(name) => faults.add(name.at, "master-name", "needs sentinel too, the addresses of the Sentinels"),
                None => faults.add(draft.home, None, NO_SERVERS),
            }
            None
        }
    }
}

const NO_SERVERS: &str = "no servers, give sentinel and master-name, or node without Sentinel";

/// The settings of a login: username, password, file.
type LoginKeys = [&'static str; 3];
const NODE_KEYS: LoginKeys = ["node-username", "node-password", "node-password-file"];
const SENTINEL_KEYS: LoginKeys = ["sentinel-username", "sentinel-password", "sentinel-password-file"];

/// The token of the admin port.
pub(super) fn admin_token(draft: &Draft<Process>, path: Option<&Path>, faults: &mut Faults) -> Option<Secret> {
    // There is no user name to it.
    login(draft, ["", "admin-token", "admin-token-file"], &draft.parts.token, path, faults).map(|l| Secret(l.password))
}

fn login<T>(
    draft: &Draft<T>,
    [user_key, password_key, file_key]: LoginKeys,
    parts: &LoginParts,
    path: Option<&Path>,
    faults: &mut Faults,
) -> Option<Login> {
    let password = match (draft.seen(password_key), draft.seen(file_key)) {
        (Some(text), Some(file)) if text.layer == file.layer => {
            faults.add(text.at.max(file.at), file_key, format!("excludes {password_key}, drop one of them"));
            None
        }
        (text, Some(file)) if text.is_none_or(|text| text.layer < file.layer) => {
            // A path in the file is meant from where the file is.
            let base = path.and_then(Path::parent).filter(|_| matches!(file.at, At::Line(_)));
            let path = base.unwrap_or(Path::new("")).join(&parts.file);
            read_password(&path).map_err(|fault| faults.add(file.at, file_key, fault)).ok()
        }
        (Some(_), _) => Some(parts.password.clone()),
        _ => {
            if let Some(user) = draft.seen(user_key) {
                faults.add(user.at, user_key, format!("needs {password_key} or {file_key} too"));
            }
            None
        }
    };
    Some(Login { username: parts.username.clone(), password: password? })
}

fn read_password(path: &Path) -> Result<String, String> {
    let text = super::read_bounded(path).map_err(|fault| format!("`{}` {fault}", path.display()))?;
    let text = String::from_utf8(text).map_err(|_| format!("`{}` is not UTF-8 text", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("`{}` is empty, write the password in it", path.display())),
        password => Ok(password.to_owned()),
    }
}
