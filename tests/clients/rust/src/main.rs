//! The crates `redis` and `fred` through redweir. Argument: which. Prints the line that `run.py` reads.
//!
//! What was acknowledged is compared with what the set holds in the end; no write is repeated.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fred::prelude::*;

/// Counts operations and errors, and knows which writes were acknowledged.
#[derive(Default)]
struct Ledger {
    operations: Mutex<u64>,
    errors: Mutex<Vec<(String, f64)>>,
    acknowledged: Mutex<Vec<String>>,
}

impl Ledger {
    fn done(&self, entry: Option<String>, operations: u64) {
        *self.operations.lock().expect("no panic") += operations;
        self.acknowledged.lock().expect("no panic").extend(entry);
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        self.errors.lock().expect("no panic").push((error.to_string(), now()));
    }

    /// `heard`: how many messages came of those that were said; `watching`: connections that use WATCH.
    fn report(&self, client: &str, did: &str, connections: u32, there: &[String], heard: Option<(u64, u64)>, watching: u32) {
        let unique: HashSet<&String> = there.iter().collect();
        let lost = self.acknowledged.lock().expect("no panic").iter().filter(|e| !unique.contains(e)).count();
        let errors = self.errors.lock().expect("no panic");
        let mut line = serde_json::json!({
            "client": client, "did": did, "operations": *self.operations.lock().expect("no panic"), "errors": errors.len(),
            "lost": lost, "twice": there.len() - unique.len(), "connections": connections,
            "first_errors": errors.iter().take(5).map(|(text, _)| text).collect::<Vec<_>>(),
            "error_times": errors.iter().map(|(_, at)| at).collect::<Vec<_>>(),
        });
        if let Some((heard, said)) = heard {
            (line["heard"], line["said"]) = (heard.into(), said.into());
        }
        line["watching"] = watching.into();
        println!("{line}");
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64()
}

fn setting(name: &str) -> f64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{name} is not set"))
}

fn until() -> Instant {
    Instant::now() + Duration::from_secs_f64(setting("REDWEIR_SECONDS"))
}

fn url() -> String {
    format!("redis://127.0.0.1:{}", setting("REDWEIR_PORT"))
}

/// Calls `act` with a connection until the time is up; after an error with a new one.
fn looped(ledger: &Ledger, act: impl Fn(&mut redis::Connection, u64) -> redis::RedisResult<(Option<String>, u64)>) {
    let (until, client) = (until(), redis::Client::open(url()).expect("a URL"));
    let mut connection = None;
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let outcome = match connection.take() {
            Some(open) => Ok(open),
            None => client.get_connection(),
        };
        let outcome = outcome.and_then(|mut open| act(&mut open, n).map(|done| (open, done)));
        match outcome {
            Ok((open, (entry, operations))) => {
                ledger.done(entry, operations);
                connection = Some(open);
            }
            Err(error) => ledger.failed(&error),
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn with_redis() {
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            looped(&ledger, |c, n| {
                let (_, counted, back): (u64, u64, u64) =
                    redis::pipe().atomic().rpush("rs:ledger", format!("t{n}")).incr("rs:c", 1).get("rs:c").query(c)?;
                assert_eq!(counted, back, "INCR and GET in one transaction");
                Ok((Some(format!("t{n}")), 5))
            });
        });
        scope.spawn(|| {
            looped(&ledger, |c, n| {
                let (own, _): (u64, u64) =
                    redis::pipe().set("rs:own", n).ignore().get("rs:own").rpush("rs:ledger", format!("p{n}")).query(c)?;
                assert_eq!(own, n, "SET and GET in one pipeline");
                Ok((Some(format!("p{n}")), 3))
            });
        });
        scope.spawn(|| {
            let script = redis::Script::new("redis.call('rpush', KEYS[1], ARGV[1]) return redis.call('incr', KEYS[2])");
            looped(&ledger, |c, n| {
                let _: u64 = script.key("rs:ledger").key("rs:s").arg(format!("s{n}")).invoke(c)?;
                Ok((Some(format!("s{n}")), 1))
            });
        });
        scope.spawn(|| {
            looped(&ledger, |c, n| {
                let entry = format!("w{n}");
                redis::transaction(c, &["rs:watched"], |c, pipe| {
                    let now: Option<u64> = redis::Commands::get(c, "rs:watched")?;
                    pipe.set("rs:watched", now.unwrap_or(0) + 1).rpush("rs:ledger", &entry).query::<Option<(String, u64)>>(c)
                })?;
                Ok((Some(entry), 6))
            });
        });
    });
    // A read may come from a replica that is a moment behind.
    std::thread::sleep(Duration::from_secs(1));
    let mut connection = redis::Client::open(url()).and_then(|c| c.get_connection()).expect("a connection");
    let there: Vec<String> = redis::Commands::lrange(&mut connection, "rs:ledger", 0, -1).expect("the ledger");
    ledger.report("redis-rs", "pipelines, transactions, scripts, WATCH", 4, &there, None, 1);
}

fn client() -> Builder {
    let mut builder = Builder::from_config(Config::from_url(&url()).expect("a URL"));
    builder.with_connection_config(|c| c.max_command_attempts = 1);
    builder.with_performance_config(|c| c.default_command_timeout = Duration::from_secs(15));
    builder.set_policy(ReconnectPolicy::new_constant(0, 50));
    builder
}

async fn with_fred() {
    let ledger = Ledger::default();
    let until = until();
    let connect = async || {
        let client = client().build().expect("a client");
        client.init().await.expect("connected");
        client
    };
    let (plain, unit, publisher) = (connect().await, connect().await, connect().await);
    let subscriber = client().build_subscriber_client().expect("a client");
    subscriber.init().await.expect("connected");
    let mut messages = subscriber.message_rx();
    subscriber.subscribe("fred:news").await.expect("subscribed");
    let _resubscribe = subscriber.manage_subscriptions();
    let pause = || tokio::time::sleep(Duration::from_millis(3));
    let pushes = async {
        for n in 1.. {
            if Instant::now() > until {
                break;
            }
            let entry = format!("p{n}");
            match plain.rpush::<u64, _, _>("fred:ledger", entry.as_str()).await {
                Ok(_) => ledger.done(Some(entry), 1),
                Err(error) => ledger.failed(&error),
            }
            pause().await;
        }
    };
    let transactions = async {
        for n in 1.. {
            if Instant::now() > until {
                break;
            }
            let entry = format!("t{n}");
            let transaction = unit.multi();
            let outcome = async {
                let _: () = transaction.rpush("fred:ledger", entry.as_str()).await?;
                let _: () = transaction.incr("fred:c").await?;
                transaction.exec::<(u64, u64)>(true).await
            };
            match outcome.await {
                Ok(_) => ledger.done(Some(entry), 4),
                Err(error) => ledger.failed(&error),
            }
            pause().await;
        }
    };
    let said = Mutex::new(0);
    let news = async {
        while Instant::now() < until {
            match publisher.publish::<u64, _, _>("fred:news", "x").await {
                Ok(_) => {
                    *said.lock().expect("no panic") += 1;
                    ledger.done(None, 1);
                }
                Err(error) => ledger.failed(&error),
            }
            pause().await;
        }
    };
    let mut heard = 0;
    let listen = async {
        while Instant::now() < until {
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(100), messages.recv()).await {
                heard += 1;
            }
        }
    };
    tokio::join!(pushes, transactions, news, listen);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let there: Vec<String> = plain.lrange("fred:ledger", 0, -1).await.expect("the ledger");
    let said = *said.lock().expect("no panic");
    let did = format!("pushes, transactions, pub/sub {heard} of {said}");
    ledger.report("fred", &did, 4, &there, Some((heard, said)), 0);
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("redis") => with_redis(),
        Some("fred") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(with_fred());
        }
        other => panic!("redis or fred, not {other:?}"),
    }
}
