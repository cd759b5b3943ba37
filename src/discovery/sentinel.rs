//! Listens to one Sentinel: its events as they come, and its configuration every second as a net under them.
//!
//! Reports what it hears and believes nothing: the council weighs the Sentinels against each other. Invariant: after each
//! (re)connect the configuration is asked after the subscription stands, so no change falls between the two.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::events::{self, Event};
use super::seen::{address, is_tilted};
use crate::config::Login;
use crate::metrics;
use crate::upstream::control::{Client, Error, Reply};

/// First and longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A subscription that answered no PING for this long is dead (Sentinel never closes an idle one).
const SILENCE: Duration = Duration::from_secs(4);

/// One Sentinel's configuration of the watched master.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub epoch: u64,
    /// Where it sends clients: during a failover the promoted node, as soon as `epoch` counts it.
    pub master: String,
    /// The master it watches: during a failover the old one until all replicas follow the new one.
    pub watched: String,
    /// It says itself that the address may be wrong (`s_down`, `o_down`, `disconnected`).
    pub doubtful: bool,
    /// It leads a failover of this master.
    pub failover: bool,
    pub replicas: Vec<String>,
    /// The other Sentinels.
    pub sentinels: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Connected and subscribed. `my_id` is empty before Redis 6.2.
    Up {
        my_id: String,
    },
    Config(Config),
    Event(Event),
    /// It watches no master of that name, but these.
    UnknownMaster {
        watched: Vec<String>,
    },
    /// Its own word on the quorum (`SENTINEL CKQUORUM`), when it is bad.
    NoQuorum(String),
    Quorum,
    /// Whether it distrusts its clock (`INFO sentinel`).
    Tilt(bool),
    Down(Error),
}

/// What is said by which Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub sentinel: u64,
    pub news: News,
}

/// How often to ask; an increased `nudge` means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub every: Duration,
    pub nudge: u64,
}

#[derive(Debug, Clone)]
pub struct Target {
    pub sentinel: u64,
    pub address: String,
    pub dial: String,
    pub login: Option<Login>,
    pub set: String,
    pub master_name: String,
    pub limit: Duration,
}

/// Runs until `stop`, or until nobody listens.
pub async fn run(target: Target, pace: watch::Receiver<Pace>, reports: mpsc::Sender<Report>, stop: CancellationToken) {
    let (set, address) = (target.set.clone(), target.address.clone());
    let mut ear = Ear { target, pace, reports };
    tokio::select! {
        _ = stop.cancelled() => {}
        _ = ear.work() => {}
    }
    metrics::sentinel_up(&set, &address, false);
}

struct Ear {
    target: Target,
    pace: watch::Receiver<Pace>,
    reports: mpsc::Sender<Report>,
}

/// Why a conversation ended.
enum End {
    /// Nobody listens any more.
    Over,
    Lost(Error),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        End::Lost(e)
    }
}

impl Ear {
    async fn work(&mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let since = Instant::now();
            match self.converse().await {
                Ok(()) | Err(End::Over) => return,
                Err(End::Lost(e)) => {
                    metrics::sentinel_up(&self.target.set, &self.target.address, false);
                    if self.report(News::Down(e)).await.is_err() {
                        return;
                    }
                }
            }
            if since.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn converse(&mut self) -> Result<(), End> {
        let Target { dial, login, limit, .. } = &self.target;
        let mut ask = Client::connect(dial, login.as_ref(), *limit).await?;
        let mut listen = Client::connect(dial, login.as_ref(), *limit).await?;
        listen.send(&[b"PSUBSCRIBE", b"*"]).await?;
        timeout(*limit, listen.receive()).await.map_err(|_| Error::Timeout)??;
        let my_id = match ask.call(&[b"SENTINEL", b"MYID"]).await {
            Ok(id) => id.text().unwrap_or_default().to_owned(),
            Err(Error::Server(_)) => String::new(),
            Err(e) => return Err(e.into()),
        };
        self.report(News::Up { my_id }).await?;
        metrics::sentinel_up(&self.target.set, &self.target.address, true);
        self.attend(&mut ask, &mut listen).await
    }

    async fn attend(&mut self, ask: &mut Client, listen: &mut Client) -> Result<(), End> {
        let mut heard = Instant::now();
        let mut round = 0u32;
        self.reconcile(ask, round).await?;
        let mut asked = Instant::now();
        loop {
            let every = self.pace.borrow_and_update().every;
            let now = tokio::select! {
                message = listen.receive() => {
                    heard = Instant::now();
                    self.message(&message?).await?
                }
                e = ask.closed() => return Err(e.into()),
                changed = self.pace.changed() => changed.map(|()| true).map_err(|_| End::Over)?,
                _ = sleep_until((asked + every).into()) => true,
            };
            if heard.elapsed() > SILENCE {
                return Err(Error::Timeout.into());
            }
            if now {
                round = round.wrapping_add(1);
                asked = Instant::now();
                listen.send(&[b"PING"]).await?;
                self.reconcile(ask, round).await?;
            }
        }
    }

    /// Reports an event; true when it means that the configuration changed or is about to.
    async fn message(&self, message: &Reply) -> Result<bool, End> {
        let [kind, _, channel, payload] = message.items() else { return Ok(false) };
        let (Some("pmessage"), Some(channel), Some(payload)) = (kind.text(), channel.text(), payload.text()) else {
            return Ok(false);
        };
        let Some(event) = events::parse(channel, payload, &self.target.master_name) else { return Ok(false) };
        metrics::sentinel_event(&self.target.set, channel);
        let ask = !matches!(event, Event::Failover { .. } | Event::Doubt { .. });
        self.report(News::Event(event)).await?;
        Ok(ask)
    }

    /// Asks for the whole configuration.
    async fn reconcile(&self, ask: &mut Client, round: u32) -> Result<(), End> {
        let name = self.target.master_name.as_bytes();
        // In one flush, so that address and epoch belong together.
        let requests: [&[&[u8]]; 6] = [
            &[b"SENTINEL", b"MASTER", name],
            &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name],
            &[b"SENTINEL", b"REPLICAS", name],
            &[b"SENTINEL", b"SENTINELS", name],
            &[b"SENTINEL", b"CKQUORUM", name],
            &[b"INFO", b"sentinel"],
        ];
        // What it could do is no matter of seconds.
        let count = if round % 10 == 1 { 6 } else { 4 };
        let replies = ask.call_all(requests.get(..count).unwrap_or(&requests)).await?;
        let mut replies = replies.iter();
        let news = match replies.next() {
            Some(Reply::Failed(Error::Server(text))) if text.contains("No such master") => {
                News::UnknownMaster { watched: watched(ask).await? }
            }
            Some(Reply::Failed(e)) => return Err(e.clone().into()),
            Some(master) => {
                let named = replies.next();
                let (replicas, sentinels) = (listed(replies.next()), listed(replies.next()));
                match named.and_then(|named| config(master, named, replicas, sentinels)) {
                    Some(config) => News::Config(config),
                    None => return Err(Error::Protocol("SENTINEL MASTER without an address").into()),
                }
            }
            None => return Err(Error::Closed.into()),
        };
        self.report(news).await?;
        match replies.next() {
            Some(Reply::Failed(Error::Server(text))) if text.starts_with("NOQUORUM") => {
                self.report(News::NoQuorum(text.clone())).await?;
            }
            Some(Reply::Status(_)) => self.report(News::Quorum).await?,
            _ => {}
        }
        // A login may do without INFO.
        match replies.next().and_then(Reply::text) {
            Some(info) => self.report(News::Tilt(is_tilted(info))).await,
            None => Ok(()),
        }
    }

    async fn report(&self, news: News) -> Result<(), End> {
        self.reports.send(Report { sentinel: self.target.sentinel, news }).await.map_err(|_| End::Over)
    }
}

/// The names a Sentinel does watch.
async fn watched(ask: &mut Client) -> Result<Vec<String>, Error> {
    let masters = ask.call(&[b"SENTINEL", b"MASTERS"]).await?;
    Ok(masters.items().iter().filter_map(|m| Some(m.field("name")?.text()?.to_owned())).collect())
}

fn config(master: &Reply, named: &Reply, replicas: Vec<String>, sentinels: Vec<String>) -> Option<Config> {
    let [host, port, ..] = named.items() else { return None };
    let flags = master.field("flags").and_then(Reply::text).unwrap_or_default();
    let has = |flag: &str| flags.split(',').any(|f| f == flag);
    Some(Config {
        epoch: master.field("config-epoch")?.integer()?.try_into().ok()?,
        master: address(host.text()?, port.text()?),
        watched: place(master)?,
        doubtful: has("s_down") || has("o_down") || has("disconnected"),
        failover: has("failover_in_progress"),
        replicas,
        sentinels,
    })
}

/// The addresses in a list of instances.
fn listed(instances: Option<&Reply>) -> Vec<String> {
    instances.map(|l| l.items().iter().filter_map(place).collect()).unwrap_or_default()
}

fn place(instance: &Reply) -> Option<String> {
    Some(address(instance.field("ip")?.text()?, instance.field("port")?.text()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn instance(fields: &[&'static str]) -> Reply {
        Reply::Array(fields.iter().map(|f| Reply::Bulk(Bytes::from_static(f.as_bytes()))).collect())
    }

    #[test]
    fn configurations() {
        let quiet = instance(&["ip", "10.0.0.1", "port", "6379", "flags", "master", "config-epoch", "7"]);
        let replica = Reply::Array(vec![instance(&["ip", "::1", "port", "6380"]), instance(&["ip", "10.0.0.3"])]);
        let named = instance(&["10.0.0.1", "6379"]);
        let told = config(&quiet, &named, listed(Some(&replica)), listed(None)).unwrap();
        let expected = Config {
            epoch: 7,
            master: "10.0.0.1:6379".into(),
            watched: "10.0.0.1:6379".into(),
            replicas: vec!["[::1]:6380".into()],
            ..Config::default()
        };
        assert_eq!(told, expected);
        let flags = "master,s_down,failover_in_progress";
        let busy = instance(&["ip", "10.0.0.1", "port", "6379", "flags", flags, "config-epoch", "7"]);
        // The leader of a failover names the promoted node and still watches the old one.
        let told = config(&busy, &instance(&["10.0.0.2", "6379"]), vec![], vec![]).unwrap();
        assert!(told.doubtful && told.failover);
        assert_eq!((told.master.as_str(), told.watched.as_str()), ("10.0.0.2:6379", "10.0.0.1:6379"));
        assert_eq!(config(&instance(&["ip", "10.0.0.1", "port", "6379"]), &named, vec![], vec![]), None);
        assert_eq!(config(&quiet, &Reply::Nil, vec![], vec![]), None);
    }
}
