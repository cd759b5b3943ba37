//! Values in layers -> one [`Config`], or every fault.
//!
//! A setting's value is the last given of: default, environment, top of the file, its own table, flag. Then what no single
//! value can tell is checked: two listeners on one port, a set that is not there. Opens no socket.
//! Invariant: a `Config` is returned only when there was no fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::acks::ACKS;
use super::catalogue::{LIMITS, LISTENER, PROCESS, SET};
use super::failover::FAILOVER;
use super::fault::{At, Faults};
use super::file::{FileValues, Table};
use super::given::Given;
use super::holding::HOLDING;
use super::reads::{self, READS};
use super::servers::{Finished, admin_token, finish_set};
use super::settings::{self, ListenerParts, LoginParts, Process, Scope, SetParts, Setting};
use super::{ClientAuth, Config, Limits, ListenerConfig, Log, commands};

/// Everything that was given.
#[derive(Default)]
pub(super) struct Inputs<'a> {
    pub path: Option<&'a Path>,
    pub file: FileValues,
    pub env: Vec<Given>,
    pub flags: Vec<Given>,
}

/// The parts of a process, set or listener, and where each was given.
pub(super) struct Draft<T> {
    pub parts: T,
    seen: BTreeMap<&'static str, Seen>,
    /// Where the whole stands, for faults of no single value.
    pub home: At,
}

/// The layer that gave a setting its value; higher overrides lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub layer: usize,
    pub at: At,
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

    pub fn seen(&self, key: &str) -> Option<Seen> {
        self.seen.get(key).copied()
    }

    /// Where a setting was given, or the whole where it was not.
    pub fn at(&self, key: &str) -> At {
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
        drafts.push(Draft::of(
            ListenerParts::default(),
            &[LISTENER, READS, ACKS, HOLDING],
            table.at,
            &layers,
            &mut faults,
        ));
    }

    let tables = if file.sets.is_empty() { &whole[..] } else { &file.sets };
    let mut sets = Vec::new();
    for table in tables {
        let layers: [&[Given]; 4] = [env, &file.top, &table.values, flags_for(flags, tables)];
        let draft = Draft::of(SetParts::default(), &[SET, FAILOVER], table.at, &layers, &mut faults);
        sets.push(finish_set(draft, *path, &mut faults));
    }

    let process = process(home, &[env, &file.top, flags], &mut faults);
    let admin_token = admin_token(&process, *path, &mut faults);
    check_names(&sets, &mut faults);
    check_binds(&process, &drafts, &mut faults);
    let listeners = drafts.into_iter().filter_map(|draft| finish_listener(draft, &sets, &mut faults)).collect();

    if !faults.is_empty() {
        return Err(faults);
    }
    let Process { workers, admin, log, limits, drain, .. } = process.parts;
    let sets = sets.into_iter().map(|set| set.config).collect();
    Ok(Config { workers, admin, admin_token, log, limits, sets, listeners, drain, file: path.map(Path::to_path_buf) })
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
    let token = LoginParts::default();
    let blank = Process { workers: 0, admin: None, token, log, limits: blank_limits(), drain: Duration::ZERO };
    Draft::of(blank, &[PROCESS, LIMITS], home, layers, faults)
}

/// Nothing allowed: what the defaults are written over.
fn blank_limits() -> Limits {
    Limits {
        sessions: 0,
        pipeline: 0,
        large_bytes: 0,
        max_bulk_bytes: 0,
        client_output_bytes: 0,
        upstream_bytes: 0,
        pinned: 0,
        connections_per_node: 0,
        pace_nodes: false,
        scripts: 0,
        script_bytes: 0,
    }
}

impl Default for Limits {
    /// The limits of a configuration that sets none.
    fn default() -> Self {
        process(At::File, &[], &mut Faults::default()).parts.limits
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
    commands::check(&draft, faults);
    reads::check(&draft, faults);
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
        consistency: parts.consistency?,
        reads: parts.reads,
        balancer: parts.balancer?,
        zone: parts.zone,
        auth: parts.auth?,
        hold: parts.hold,
        hold_bytes: parts.hold_bytes,
        holding: parts.holding,
        commands: parts.commands,
        acks: parts.acks,
        monitor: parts.monitor,
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
