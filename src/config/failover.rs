//! How far redweir goes by itself when the master changes: the values, their settings, and which of them need a Sentinel.
//!
//! Must not know other settings of a set. Invariant: the defaults change nothing at the nodes and trust what is proven.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Source;
use super::assemble::Draft;
use super::catalogue::{MS, one};
use super::fault::{At, Faults};
use super::settings::{SetParts, Setting};
use super::value::{LONGEST, choice, duration, or_off, switch};

/// What happens around a change of master.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failover {
    pub trust: Trust,
    /// Without a majority of the Sentinels for this long writes stop. `None`: they go on.
    pub minority_stop: Option<Duration>,
    pub on_empty_master: OnEmptyMaster,
    /// Without Sentinel: redweir promotes a replica when the master is gone.
    pub promote: bool,
    /// Without Sentinel: redweir makes the others follow a new master.
    pub repoint_replicas: bool,
    pub notify: Notify,
}

/// Who is told of a switch, of nodes that go down and come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Called with event and description, as Sentinel's `notification-script`.
    pub script: Option<PathBuf>,
    /// Called at a switch, as Sentinel's `client-reconfig-script`.
    pub reconfig_script: Option<PathBuf>,
    /// `http://HOST[:PORT]/PATH`, which gets JSON by POST.
    pub url: Option<String>,
    /// A script or hook that takes longer is stopped, and tried again later.
    pub timeout: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        // As Sentinel's SENTINEL_SCRIPT_MAX_RUNTIME.
        Self { script: None, reconfig_script: None, url: None, timeout: Duration::from_secs(60) }
    }
}

impl Notify {
    /// Nobody is told.
    pub fn is_off(&self) -> bool {
        self.script.is_none() && self.reconfig_script.is_none() && self.url.is_none()
    }
}

/// Whose word opens writes to a node that was promoted, beside Sentinel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Trust {
    /// Its own, with its lineage: milliseconds after the promotion.
    #[default]
    Immediate,
    /// The Sentinels', under the highest config-epoch: up to a second later.
    Confirmed,
}

/// What follows when the master's process restarted without the data it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnEmptyMaster {
    /// The operator is told.
    #[default]
    Alarm,
    /// Writes stop as well, until it has keys or another node is master.
    Stop,
}

pub(super) const FAILOVER: &[Setting<SetParts>] = &[
    one(
        "trust",
        "HOW",
        "immediate",
        "Beside Sentinel, when writes open to a promoted node: immediate (as soon as it proves to be the master's \
        successor) or confirmed (when the Sentinels name it, up to a second later)",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.trust, f, choice),
    ),
    one(
        "minority-stop",
        "DURATION",
        "off",
        "Writes stop when fewer than half of the Sentinels answer for this long, until most do again; off: they go on",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.minority_stop, f, or_off(duration(MS..=LONGEST))),
    ),
    one(
        "on-empty-master",
        "WHAT",
        "alarm",
        "When the master's process restarted without the keys it had (its replicas then drop theirs): alarm (log, metric, \
        /topology) or stop (no writes either, until it has keys again or another node is master)",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.on_empty_master, f, choice),
    ),
    one(
        "promote",
        "on|off",
        "off",
        "Without Sentinel, and with one redweir for the set only: promote the best replica when the master is gone for \
        down-after and most of its replicas say that they lost it, too; includes repoint-replicas",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.promote, f, switch),
    ),
    one(
        "repoint-replicas",
        "on|off",
        "off",
        "Without Sentinel: after a switch make the other replicas, and the old master when it is back, follow the new one",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.repoint_replicas, f, switch),
    ),
    one(
        "notification-script",
        "FILE",
        "",
        "Called as Sentinel's notification-script (event, description) when the master changes (+switch-master), a node \
        goes down (+sdown) or comes back (-sdown), or the master lost its data (+reboot)",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.notify.script, f, file),
    ),
    one(
        "client-reconfig-script",
        "FILE",
        "",
        "Called as Sentinel's client-reconfig-script (name, role, state, from-ip, from-port, to-ip, to-port) when the \
        master changes",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.notify.reconfig_script, f, file),
    ),
    one(
        "notify-url",
        "URL",
        "",
        "The same events by HTTP POST as JSON: http://HOST[:PORT]/PATH",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.notify.url, f, url),
    ),
    one(
        "notify-timeout",
        "DURATION",
        "60s",
        "A script or hook that takes longer is stopped and tried again later, as one that ends with exit code 1 or a \
        signal; at most 10 times",
        |s: &mut SetParts, g, f| g.put(&mut s.failover.notify.timeout, f, duration(100 * MS..=LONGEST)),
    ),
];

fn file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(text)).filter(|_| !text.is_empty()))
}

fn url(text: &str) -> Result<Option<String>, String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return match text {
            "" => Ok(None),
            _ => Err(format!("`{text}` does not begin with http://; for https use notification-script with curl")),
        };
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let plain = !authority.is_empty() && !authority.contains('@');
    match plain && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Some(text.to_owned())),
        false => Err(format!("`{text}` is no URL, write http://HOST:PORT/PATH, in ASCII, without a user or blanks")),
    }
}

/// What a set's values are together; reports those that do not go with its source, and scripts that cannot be run.
pub(super) fn finish(
    draft: &Draft<SetParts>,
    source: Option<&Source>,
    path: Option<&Path>,
    faults: &mut Faults,
) -> Failover {
    let mut failover = draft.parts.failover.clone();
    if let Some(source) = source {
        check(draft, matches!(source, Source::Sentinel { .. }), faults);
    }
    let scripts = [
        ("notification-script", &mut failover.notify.script),
        ("client-reconfig-script", &mut failover.notify.reconfig_script),
    ];
    for (key, script) in scripts {
        let Some(script) = script else { continue };
        let at = draft.at(key);
        // A path in the file is meant from where the file is.
        if let Some(base) = path.and_then(Path::parent).filter(|_| matches!(at, At::Line(_))) {
            *script = base.join(&script);
        }
        let may_run = std::fs::metadata(&script).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if !may_run {
            faults.add(at, key, format!("`{}` is no file that may be executed, check it (chmod +x)", script.display()));
        }
    }
    failover
}

fn check(draft: &Draft<SetParts>, by_sentinel: bool, faults: &mut Faults) {
    let Failover { trust, minority_stop, promote, repoint_replicas, .. } = draft.parts.failover;
    let with = [("trust", trust != Trust::default()), ("minority-stop", minority_stop.is_some())];
    let without = [("promote", promote), ("repoint-replicas", repoint_replicas)];
    for (key, _) in with.into_iter().filter(|(_, set)| *set && !by_sentinel) {
        faults.add(draft.at(key), key, "is about Sentinels, and this set has none, drop it");
    }
    for (key, _) in without.into_iter().filter(|(_, set)| *set && by_sentinel) {
        faults.add(draft.at(key), key, "is for sets without Sentinel, here Sentinel does that, drop it");
    }
}
