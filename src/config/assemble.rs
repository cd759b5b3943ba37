//! Values in layers -> one [`Config`], or every fault.
//!
//! A setting's value is the last given of: default, environment, top of the file, its own table, flag. Then what no single
//! value can tell is checked: a missing master name, two listeners on one port. Opens no socket; of files it reads only
//! those that hold passwords.
//! Invariant: a `Config` is returned only when there was no fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::fault::{At, Faults};
use super::file::{FileValues, Table};
use super::given::Given;
use super::settings::{
    self, LIMITS, LISTENER, ListenerParts, LoginParts, PROCESS, Process, SET, Scope, SetParts, Setting,
};
use super::{ClientAuth, Config, Limits, ListenerConfig, Log, Login, NodeSettings, SetConfig, Source};

/// Everything that was given.
#[derive(Default)]
pub(super) struct Inputs<'a> {
    pub path: Option<&'a Path>,
    pub file: FileValues,
    pub env: Vec<Given>,
    pub flags: Vec<Given>,
}

/// The parts of a process, set or listener, and where each was given.
struct Draft<T> {
    parts: T,
    seen: BTreeMap<&'static str, Seen>,
    /// Where the whole stands, for faults of no single value.
    home: At,
}

/// The layer that gave a setting its value; higher overrides lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    layer: usize,
    at: At,
}

impl<T> Draft<T> {
    fn of(parts: T, tables: &[&[Setting<T>]], home: At, layers: &[&[Given]], faults: &mut Faults) -> Self {
        let mut draft = Self { parts, seen: BTreeMap::new(), home };
        let settings = || tables.iter().copied().flatten();
        for setting in settings() {
            let about = &setting.about;
            let default = Given::text(about.key, about.kind, At::Default, about.default, faults);
            (setting.apply)(&mut draft.parts, &default, faults);
        }
        for (layer, values) in layers.iter().enumerate() {
            for given in *values {
                let Some(setting) = settings().find(|setting| setting.about.key == given.key) else { continue };
                // An empty credential is as good as none: the environment may still give it.
                if setting.about.env && given.is_empty() {
                    continue;
                }
                (setting.apply)(&mut draft.parts, given, faults);
                match given.is_empty() {
                    true => draft.seen.remove(given.key),
                    false => draft.seen.insert(given.key, Seen { layer, at: given.at }),
                };
            }
        }
        draft
    }

    fn seen(&self, key: &str) -> Option<Seen> {
        self.seen.get(key).copied()
    }

    /// Where a setting was given, or the whole where it was not.
    fn at(&self, key: &str) -> At {
        self.seen(key).map_or(self.home, |seen| seen.at)
    }
}

pub(super) fn assemble(inputs: &Inputs<'_>, mut faults: Faults) -> Result<Config, Faults> {
    let Inputs { path, file, env, flags } = inputs;
    check_places(file, flags, &mut faults);
    let home = if path.is_some() { At::File } else { At::Flag };

    let whole = [Table { at: home, values: Vec::new() }];
    // In the order of the help, so that faults of flags come in that order.
    let tables = if file.listeners.is_empty() { &whole[..] } else { &file.listeners };
    let mut drafts = Vec::new();
    for table in tables {
        let layers: [&[Given]; 4] = [env, &file.top, &table.values, flags_for(flags, tables)];
        drafts.push(Draft::of(ListenerParts::default(), &[LISTENER], table.at, &layers, &mut faults));
    }

    let tables = if file.sets.is_empty() { &whole[..] } else { &file.sets };
    let mut sets = Vec::new();
    for table in tables {
        let layers: [&[Given]; 4] = [env, &file.top, &table.values, flags_for(flags, tables)];
        let draft = Draft::of(SetParts::default(), &[SET], table.at, &layers, &mut faults);
        sets.push(finish_set(draft, *path, &mut faults));
    }

    let process = process(home, &[env, &file.top, flags], &mut faults);
    check_names(&sets, &mut faults);
    check_binds(&process, &drafts, &mut faults);
    let listeners = drafts.into_iter().filter_map(|draft| finish_listener(draft, &sets, &mut faults)).collect();

    if !faults.is_empty() {
        return Err(faults);
    }
    let Process { workers, admin, log, limits, drain } = process.parts;
    let sets = sets.into_iter().map(|set| set.config).collect();
    Ok(Config { workers, admin, log, limits, sets, listeners, drain, file: path.map(Path::to_path_buf) })
}

/// Flags override the one table there is; with several they would be ambiguous, which [`check_places`] reports.
fn flags_for<'a>(flags: &'a [Given], tables: &[Table]) -> &'a [Given] {
    if tables.len() > 1 { &[] } else { flags }
}

/// Values where several tables make them ambiguous.
fn check_places(file: &FileValues, flags: &[Given], faults: &mut Faults) {
    let tables = |scope| match scope {
        Scope::Process => ("", 0),
        Scope::Set => ("set", file.sets.len()),
        Scope::Listener => ("listener", file.listeners.len()),
    };
    for given in flags {
        let (name, count) = settings::find(given.key).map_or(("", 0), |(scope, _)| tables(scope));
        if count > 1 {
            let text = format!("cannot choose between the {count} [[{name}]] tables of the file, set it there");
            faults.add(given.at, given.key, text);
        }
    }
    for given in &file.top {
        let (name, count) = settings::find(given.key).map_or(("", 0), |(scope, _)| tables(scope));
        // What names one thing cannot hold for several.
        if count > 0 && !given.is_empty() && matches!(given.key, "listen" | "name" | "master-name" | "node") {
            faults.add(given.at, given.key, format!("belongs in the [[{name}]] below, move it there"));
        }
    }
}

fn process(home: At, layers: &[&[Given]], faults: &mut Faults) -> Draft<Process> {
    let log = Log { filter: String::new(), json: false };
    let blank = Process { workers: 0, admin: None, log, limits: blank_limits(), drain: Duration::ZERO };
    Draft::of(blank, &[PROCESS, LIMITS], home, layers, faults)
}

/// Nothing allowed: what the defaults are written over.
fn blank_limits() -> Limits {
    Limits {
        sessions: 0,
        read_ahead_bytes: 0,
        pipeline: 0,
        large_bytes: 0,
        max_bulk_bytes: 0,
        client_output_bytes: 0,
        upstream_bytes: 0,
        pinned: 0,
        connections_per_node: 0,
    }
}

impl Default for Limits {
    /// The limits of a configuration that sets none.
    fn default() -> Self {
        process(At::File, &[], &mut Faults::default()).parts.limits
    }
}

/// A set with what the checks between tables need.
struct Finished {
    config: SetConfig,
    /// Where its name was given. `None`: it has none because of a fault that was reported.
    named: Option<At>,
}

fn finish_set(draft: Draft<SetParts>, path: Option<&Path>, faults: &mut Faults) -> Finished {
    check_times(&draft, faults);
    let node_login = login(&draft, NODE_KEYS, &draft.parts.node_login, path, faults);
    let sentinel_login = login(&draft, SENTINEL_KEYS, &draft.parts.sentinel_login, path, faults);
    let source = source(&draft, sentinel_login, faults);
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
        nodes: nodes(parts.weights, parts.zones),
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

fn login(
    draft: &Draft<SetParts>,
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

fn check_names(sets: &[Finished], faults: &mut Faults) {
    for (i, set) in sets.iter().enumerate() {
        let Some(at) = set.named else { continue };
        if sets.iter().take(i).any(|other| other.named.is_some() && other.config.name == set.config.name) {
            faults.add(
                at,
                "name",
                format!("`{}` is the name of another [[set]] already, give this one another", set.config.name),
            );
        }
    }
}

fn check_binds(process: &Draft<Process>, listeners: &[Draft<ListenerParts>], faults: &mut Faults) {
    let mut taken: Vec<(SocketAddr, &str)> = Vec::new();
    for draft in listeners {
        let Some(bind) = draft.parts.bind else { continue };
        if taken.iter().any(|(other, _)| overlap(*other, bind)) {
            let text = format!("`{bind}` is taken by another listener already, use another port");
            faults.add(draft.at("listen"), "listen", text);
        }
        taken.push((bind, "listen"));
    }
    if let Some(admin) = process.parts.admin.filter(|admin| taken.iter().any(|(other, _)| overlap(*other, *admin))) {
        let text = format!("`{admin}` is taken by a listener already, use another port or off");
        faults.add(process.at("admin"), "admin", text);
    }
}

/// Whether both cannot be listened on: the same port of the same address, or of all addresses.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

fn finish_listener(draft: Draft<ListenerParts>, sets: &[Finished], faults: &mut Faults) -> Option<ListenerConfig> {
    let set = find_set(&draft, sets, faults)?;
    let (auth_at, parts) = (draft.at("client-auth"), draft.parts);
    let served = sets.get(set)?;
    if parts.auth == Some(ClientAuth::Proxy) && served.config.node_login.is_none() {
        faults.add(auth_at, "client-auth", "proxy needs a login, give node-password or node-password-file");
    }
    Some(ListenerConfig {
        bind: parts.bind?,
        set,
        read_policy: parts.read_policy?,
        balancer: parts.balancer?,
        zone: parts.zone,
        auth: parts.auth?,
        hold: parts.hold,
        hold_bytes: parts.hold_bytes,
    })
}

fn find_set(draft: &Draft<ListenerParts>, sets: &[Finished], faults: &mut Faults) -> Option<usize> {
    let wanted = draft.parts.set.as_str();
    if wanted.is_empty() && sets.len() == 1 {
        return Some(0);
    }
    // A set without a name has a fault of its own; what it would have been called is not known.
    let names: Option<Vec<&str>> = sets.iter().map(|set| set.named.map(|_| set.config.name.as_str())).collect();
    let names = names?;
    if wanted.is_empty() {
        let text = match draft.home {
            At::Line(_) => format!("set is missing, say which one this listener serves: {}", names.join(", ")),
            _ => format!("{} [[set]] tables and no [[listener]], add one for each with `set = NAME`", sets.len()),
        };
        faults.add(draft.home, None, text);
        return None;
    }
    let found = names.iter().position(|name| *name == wanted);
    if found.is_none() {
        faults.add(
            draft.at("set"),
            "set",
            format!("there is no [[set]] named `{wanted}`, use one of: {}", names.join(", ")),
        );
    }
    found
}
