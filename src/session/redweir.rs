//! The REDWEIR commands: what people who run redweir ask from inside a client connection.
//!
//! Must not change anything. Invariant: only HELP answers a client that no node has accepted; the rest shows what an operator
//! may see. Every answer is lines of text, the same in both RESP versions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::explain::{Scene, explain};
use super::kind::Kind;
use super::level::Level;
use super::pubsub::Frame;
use super::state::State;
use super::{Session, errors};
use crate::config::{ClientAuth, Consistency, Staleness};
use crate::metrics::{Count, Reason};
use crate::resp::{Args, encode};
use crate::route::{Decision, Want};
use crate::topology::SetPicture;
use crate::upstream::Target;

const NAME: &[u8] = b"redweir";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Longest wait for a node's word on whether the client is somebody.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of milliseconds and of bytes: far above any sense, far below what overflows.
const MOST: u64 = 1 << 40;

const HELP: [&str; 13] = [
    "REDWEIR <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSISTENCY [EVENTUAL|SESSION|STRONG|BOUNDED [MS <milliseconds>] [BYTES <bytes>]]",
    "    Say what this connection's reads may rely on, or set it until RESET. BOUNDED: be so stale at most.",
    "ROUTE <command> [<arg> ...]",
    "    Say where a command would go and why, without running it.",
    "TOPOLOGY",
    "    Show the master and the replicas as redweir sees them.",
    "WHOAMI",
    "    Show what redweir knows of this connection.",
    "HELP",
    "    Print this help.",
    "INFO redweir shows the figures of this listener; the HTTP port of the setting admin",
    "shows everything: /topology, /metrics, /readyz.",
];

#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Help,
    Topology,
    /// The request to explain.
    Route(Vec<u8>),
    Consistency,
    Level(Level),
    WhoAmI,
}

impl Session {
    /// Whether a request is for redweir.
    pub(super) fn is_ours(&self, request: &[u8]) -> bool {
        let named = || Args::new(request).next().is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        self.front.listener.commands.redweir && named()
    }

    pub(super) async fn redweir(self: &Rc<Self>, request: &[u8]) -> bool {
        let reply = match self.parse(request) {
            Ok(Ask::Help) => lines(&HELP),
            Ok(ask) => match self.accepted().await {
                Ok(()) => self.answer(&mut self.state.borrow_mut(), ask, None),
                Err(text) => text,
            },
            Err(text) => text,
        };
        self.local(&reply)
    }

    /// Likewise for a session on a connection of its own, to `target`, which has accepted it.
    pub(super) fn answer_pinned(&self, s: &mut State, request: &[u8], target: &Target) {
        let reply = match self.parse(request) {
            Ok(ask) => self.answer(s, ask, Some(target)),
            Err(text) => text,
        };
        self.front.cells.count(Count::LocalReplies, 1);
        self.push_frame(s, Frame::Reply, &reply, false);
        s.silence.end_next();
    }

    /// Whether a node takes this client for somebody: nobody else can tell.
    async fn accepted(&self) -> Result<(), Vec<u8>> {
        let lane = self.state.borrow().lane;
        let login = self.front.pool.describe(lane).and_then(|lane| lane.login);
        // A login was checked when it was made; redweir's own is for everyone.
        if login.is_some() || self.front.listener.auth == ClientAuth::Proxy {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.ask(self.authority(), PING)).await {
            Ok(Ok((reply, _))) if reply.starts_with(errors::NOAUTH) => Err(reply),
            Ok(Ok((_, lease))) => {
                self.front.pool.give_back(lane, lease);
                self.front.accepted.set(true);
                Ok(())
            }
            // When nobody can be asked, which is when people ask, an earlier word holds.
            _ if self.front.accepted.get() => Ok(()),
            Ok(Err(text)) => Err(text),
            Err(_) => Err(errors::NOBODY_TO_ASK.to_vec()),
        }
    }

    fn parse(&self, request: &[u8]) -> Result<Ask, Vec<u8>> {
        let mut args = Args::new(request).skip(1);
        let Some(sub) = args.next() else { return Err(errors::arity("redweir")) };
        let rest: Vec<&[u8]> = args.collect();
        let none = |ask: Ask, name: &str| if rest.is_empty() { Ok(ask) } else { Err(errors::arity(name)) };
        match &*sub.to_ascii_lowercase() {
            b"help" => none(Ask::Help, "redweir|help"),
            b"topology" => none(Ask::Topology, "redweir|topology"),
            b"whoami" => none(Ask::WhoAmI, "redweir|whoami"),
            b"consistency" if rest.is_empty() => Ok(Ask::Consistency),
            b"consistency" => level(&rest, self.front.listener.reads.staleness).map(Ask::Level),
            b"route" if rest.is_empty() => Err(errors::arity("redweir|route")),
            b"route" => {
                let mut request = Vec::new();
                encode::request(&mut request, rest.into_iter());
                Ok(Ask::Route(request))
            }
            _ => Err(errors::unknown_subcommand(sub, "REDWEIR")),
        }
    }

    fn answer(&self, s: &mut State, ask: Ask, pinned: Option<&Target>) -> Vec<u8> {
        let topology = self.front.topology();
        match ask {
            Ask::Help => lines(&HELP),
            Ask::Topology => lines(&SetPicture::of(&self.front.shared.place.set, &topology).lines()),
            Ask::Consistency => lines(&self.consistency(s)),
            Ask::Level(level) => {
                s.set_level(level);
                s.chosen = true;
                errors::OK.to_vec()
            }
            Ask::WhoAmI => lines(&self.who(s, pinned)),
            Ask::Route(request) => {
                let listener = &self.front.listener;
                let ours = listener.commands.redweir;
                let policy = listener.read_policy;
                let scene =
                    Scene { topology: &topology, policy, rules: &self.front.rules, ours, monitor: listener.monitor };
                let within = match s.level {
                    Consistency::Bounded => Some(self.front.floor_within(&topology, s.staleness)),
                    _ => None,
                };
                let why = if within.is_some() { Reason::Bound } else { Reason::Seen };
                let decide = |want| match want {
                    Want::Read if within == Some(None) || s.is_bound_to_master(self.front.term()) => {
                        match self.front.foresee(&topology, Want::Master, s.lane) {
                            Decision::To { node, .. } => Decision::To { node, reason: why },
                            none => none,
                        }
                    }
                    Want::Read => match s.stays_at(self.front.term()) {
                        Some(node) => Decision::To { node, reason: Reason::Replica },
                        None => self.front.foresee(&topology, want, s.lane),
                    },
                    Want::Master => self.front.foresee(&topology, want, s.lane),
                };
                let mut said = explain(&request, &scene, decide);
                let is_read = self.kind(&request) == Kind::Read;
                if s.level == Consistency::Session && is_read {
                    said.push(format!("now: {}", s.needs(self.front.term())));
                }
                if let Some(Some((_, floor))) = within.filter(|_| is_read) {
                    said.push(format!("now: a reader that shows offset {floor}, else the master"));
                }
                if let Some(target) = pinned {
                    said.push(format!("now: it would stay on this client's own connection, to {}", target.dial));
                }
                lines(&said)
            }
        }
    }

    fn consistency(&self, s: &State) -> [String; 4] {
        let policy = self.front.listener.read_policy;
        let holds = match s.level {
            Consistency::Strong => "every read is the master's",
            Consistency::Session => "a read shows at least what this connection wrote and was shown before",
            Consistency::Bounded => {
                "a read shows all but the master's last writes within the bound; this client's own may be among those"
            }
            Consistency::Eventual => "a replica that has yet to apply this client's last write may answer a read",
        };
        let offsets = match self.front.listener.reads.strict {
            true => "believed only together with the replication id (strict)",
            false => "believed within one term of the master",
        };
        let level = Level { consistency: s.level, staleness: s.staleness };
        let of = if s.chosen { "chosen by this connection" } else { "of the listener, or of the user" };
        [
            format!("level: {}: {holds} ({of})", level.label()),
            "pipelines: a read sent together with and behind a write sees it".to_owned(),
            format!("read policy: {}", policy.label()),
            format!("offsets: {offsets}"),
        ]
    }

    fn who(&self, s: &State, pinned: Option<&Target>) -> Vec<String> {
        let place = &self.front.shared.place;
        let worker = place.cells.iter().position(|cells| Arc::ptr_eq(cells, &self.front.cells)).unwrap_or_default();
        let address = s.stream.peer_addr().map(|a| a.to_string()).unwrap_or_default();
        let user = self.front.pool.describe(s.lane).and_then(|lane| lane.login).and_then(|login| login.username);
        let on = pinned.map_or_else(|| "shared".to_owned(), |target| format!("its own, to {}", target.dial));
        vec![
            format!("client id: {}", self.id),
            format!("address: {address}"),
            format!("listener: {}", place.address),
            format!("set: {}", place.set),
            format!("worker: {} of {}", worker + 1, place.cells.len()),
            format!("user: {}", user.as_deref().unwrap_or("default")),
            format!("name: {}", String::from_utf8_lossy(&s.name)),
            format!("db: {}", s.db),
            format!("resp: {}", s.resp),
            format!("connection to nodes: {on}"),
            format!("has written: {}", if s.wrote { "yes" } else { "no" }),
            self.consistency(s)[0].clone(),
        ]
    }
}

/// A level as REDWEIR CONSISTENCY names it; `own` is the listener's bound.
fn level(words: &[&[u8]], own: Staleness) -> Result<Level, Vec<u8>> {
    let (consistency, options) = match words {
        [name, options @ ..] if name.eq_ignore_ascii_case(b"bounded") => (Consistency::Bounded, options),
        [name] if name.eq_ignore_ascii_case(b"eventual") => (Consistency::Eventual, [].as_slice()),
        [name] if name.eq_ignore_ascii_case(b"session") => (Consistency::Session, [].as_slice()),
        [name] if name.eq_ignore_ascii_case(b"strong") => (Consistency::Strong, [].as_slice()),
        [_] => return Err(errors::NO_SUCH_LEVEL.to_vec()),
        _ => return Err(errors::arity("redweir|consistency")),
    };
    let mut staleness = if options.is_empty() { own } else { Staleness::default() };
    for option in options.chunks(2) {
        let [name, value] = option else { return Err(errors::SYNTAX.to_vec()) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let number = number.filter(|n| *n <= MOST).ok_or_else(|| errors::NOT_AN_INTEGER.to_vec())?;
        match &*name.to_ascii_lowercase() {
            b"ms" if number > 0 && staleness.time.is_none() => staleness.time = Some(Duration::from_millis(number)),
            b"bytes" if staleness.bytes.is_none() => staleness.bytes = Some(number),
            _ => return Err(errors::SYNTAX.to_vec()),
        }
    }
    if consistency == Consistency::Bounded && !staleness.is_bound() {
        return Err(errors::NO_BOUND.to_vec());
    }
    Ok(Level { consistency, staleness })
}

/// As Redis' HELP replies: an array of status lines (networking.c addReplyHelp), which every client shows as lines.
fn lines(lines: &[impl AsRef<str>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", lines.len());
    for line in lines {
        out.push('+');
        out.extend(line.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }));
        out.push_str("\r\n");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_their_bounds() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let own = Staleness { time: ms(700), bytes: None };
        let bounded =
            |time, bytes| Ok(Level { consistency: Consistency::Bounded, staleness: Staleness { time, bytes } });
        let plain = |consistency| Ok(Level { consistency, staleness: own });
        let table = [
            ("SESSION", plain(Consistency::Session)),
            ("eventual", plain(Consistency::Eventual)),
            ("Strong", plain(Consistency::Strong)),
            ("BOUNDED", bounded(ms(700), None)),
            ("BOUNDED MS 50", bounded(ms(50), None)),
            ("bounded bytes 0", bounded(None, Some(0))),
            ("BOUNDED BYTES 9 MS 1", bounded(ms(1), Some(9))),
            ("BOUND", Err(errors::NO_SUCH_LEVEL)),
            ("BOUNDED 50", Err(errors::SYNTAX)),
            ("BOUNDED MS", Err(errors::SYNTAX)),
            ("BOUNDED MS 0", Err(errors::SYNTAX)),
            ("BOUNDED MS 1 MS 2", Err(errors::SYNTAX)),
            ("BOUNDED KEYS 1", Err(errors::SYNTAX)),
            ("BOUNDED MS -1", Err(errors::NOT_AN_INTEGER)),
            ("BOUNDED MS 99999999999999", Err(errors::NOT_AN_INTEGER)),
        ];
        for (line, expected) in table {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert_eq!(level(&words, own), expected.map_err(<[u8]>::to_vec), "{line}");
        }
        assert_eq!(level(&[b"SESSION", b"MS", b"1"], own), Err(errors::arity("redweir|consistency")));
        assert_eq!(level(&[b"BOUNDED"], Staleness::default()), Err(errors::NO_BOUND.to_vec()));
    }
}
