//! A reply of a million elements beside a client that only wants GETs.
//!
//! Shows three things: time grows with the elements and not with their square, memory stays bounded also when the reader
//! is slow, and others are served meanwhile. Redis itself stands still while it builds such a reply, so the same is done
//! without redweir first. Must not keep the reply.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Client, request};
use crate::figures::aligned;
use crate::picture::key;
use crate::process::Result;
use crate::table::verdict;
use crate::target::{Endpoint, Stage};

const ELEMENTS: [usize; 2] = [250_000, 1_000_000];
/// Elements in one RPUSH.
const BATCH: usize = 1000;
/// How long the slow reader looks at the first bytes before it reads on.
const STALL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);
/// Four times the elements may take so many times as long: as far from a linear four as from a square's sixteen.
const TIMES_BAR: f64 = 8.0;
/// Memory redweir may take for a reply, a quarter of its size. It is a bound of its own if it does not grow with the reply.
const GROWTH_BAR: u64 = 3_500_000;

/// What one run showed.
struct Seen {
    reply_bytes: usize,
    took: Duration,
    longest_get: Duration,
    longest_ping: Duration,
    gets: u64,
    peak_growth: Option<u64>,
}

/// Prints what was seen; true if time and memory keep their bars.
pub async fn measure(stage: &Stage<'_>) -> Result<bool> {
    for elements in ELEMENTS {
        load(stage.nodes.master.port, elements).await?;
    }
    stage.nodes.settle().await?;
    let replica = stage.nodes.replicas.first().ok_or("no replica")?.port;
    let redweir = stage.start("redweir").await?;
    let endpoint = redweir.endpoint(64).ok_or("no endpoint")?;
    let direct = Endpoint::of_redis(replica);
    let heading =
        "target|elements|reader|reply MB|took ms|other clients: GETs|longest GET ms|longest PING ms|peak growth MB";
    let mut rows = vec![heading.split('|').map(str::to_owned).collect::<Vec<_>>()];
    let (mut times, mut growth) = (Vec::new(), 0);
    for (name, endpoint) in [("a replica, direct", &direct), ("redweir", endpoint)] {
        for (elements, stall) in [(ELEMENTS[0], None), (ELEMENTS[1], None), (ELEMENTS[1], Some(STALL))] {
            let seen = run(endpoint, elements, stall).await.map_err(|error| format!("{name}, {elements}: {error}"))?;
            if name == "redweir" && stall.is_none() {
                times.push(seen.took.as_secs_f64());
            }
            growth = growth.max(seen.peak_growth.unwrap_or_default());
            rows.push(row(name, elements, stall, &seen));
        }
    }
    print!("{}", aligned(&rows));
    let [quarter, whole] = times.as_slice() else { return Err("not measured".into()) };
    let (times, linear) = (whole / quarter, whole / quarter <= TIMES_BAR);
    let bounded = growth <= GROWTH_BAR;
    println!("\nredweir: four times the elements took {times:.1} times as long (bar {TIMES_BAR}): {}", verdict(linear));
    println!(
        "memory for them: {:.1} MB at most (bar {:.1}): {}",
        megabytes(growth),
        megabytes(GROWTH_BAR),
        verdict(bounded)
    );
    Ok(linear && bounded)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn row(name: &str, elements: usize, stall: Option<Duration>, seen: &Seen) -> Vec<String> {
    let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let megabytes = |bytes: u64| format!("{:.1}", megabytes(bytes));
    vec![
        name.to_owned(),
        elements.to_string(),
        stall.map_or("at once".to_owned(), |stall| format!("stops {} s", stall.as_secs())),
        megabytes(seen.reply_bytes as u64),
        millis(seen.took),
        seen.gets.to_string(),
        millis(seen.longest_get),
        millis(seen.longest_ping),
        seen.peak_growth.map_or("-".to_owned(), megabytes),
    ]
}

fn list(elements: usize) -> String {
    format!("big:{elements}")
}

async fn load(port: u16, elements: usize) -> Result<()> {
    let mut client = Client::open(port).await?;
    let list = list(elements);
    for start in (0..elements).step_by(BATCH) {
        let values: Vec<String> = (start..elements.min(start + BATCH)).map(|number| format!("e{number:07}")).collect();
        let mut arguments: Vec<&[u8]> = vec![b"RPUSH", list.as_bytes()];
        arguments.extend(values.iter().map(|value| value.as_bytes()));
        client.call(&arguments).await?;
    }
    Ok(())
}

async fn run(endpoint: &Endpoint, elements: usize, stall: Option<Duration>) -> Result<Seen> {
    if let Some(process) = &endpoint.process {
        process.forget_peak()?;
    }
    let before = endpoint.process.as_ref().map(|process| process.memory("VmRSS")).transpose()?;
    let done = Cell::new(false);
    let reader = async {
        // The others are in full swing when the reply begins.
        sleep(Duration::from_millis(100)).await;
        let read = tokio::time::timeout(PATIENCE, read_list(endpoint.port, elements, stall)).await;
        done.set(true);
        read
    };
    let key = key(64, 2);
    let get = request(&[b"GET", key.as_bytes()]);
    let ping = request(&[b"PING"]);
    let (read, gets, pings) = tokio::join!(reader, ask(endpoint.port, &get, &done), ask(endpoint.port, &ping, &done));
    let (reply_bytes, took) = read.map_err(|_| format!("no end of the reply within {PATIENCE:?}"))??;
    let ((longest_get, gets), (longest_ping, _)) = (gets?, pings?);
    let peak = endpoint.process.as_ref().map(|process| process.memory("VmHWM")).transpose()?;
    let peak_growth = peak.zip(before).map(|(peak, before)| peak.saturating_sub(before));
    Ok(Seen { reply_bytes, took, longest_get, longest_ping, gets, peak_growth })
}

/// Reads the whole list and checks that its length is right; its bytes, and the time without the stall.
async fn read_list(port: u16, elements: usize, stall: Option<Duration>) -> Result<(usize, Duration)> {
    let mut client = Client::open(port).await?;
    let list = list(elements);
    let start = Instant::now();
    client.send(&request(&[b"LRANGE", list.as_bytes(), b"0", b"-1"])).await?;
    let header = client.reply().await?;
    if header != elements.to_string().into_bytes() {
        return Err(format!("the reply is said to have {} elements", String::from_utf8_lossy(&header)).into());
    }
    let stalled = stall.unwrap_or_default();
    sleep(stalled).await;
    // Each element is `$8`, a line end, eight bytes, a line end.
    let expected = elements * "$8\r\ne0000000\r\n".len();
    let (mut read, mut buffer) = (0, vec![0; 256 * 1024]);
    while read < expected {
        match client.read_some(&mut buffer).await? {
            0 => return Err(format!("closed after {read} of {expected} bytes").into()),
            some => read += some,
        }
    }
    if read > expected {
        return Err(format!("{read} bytes instead of {expected}").into());
    }
    Ok((read, start.elapsed().saturating_sub(stalled)))
}

/// Asks one thing again and again until `done`: the longest wait for a reply, and how many came.
async fn ask(port: u16, request: &[u8], done: &Cell<bool>) -> Result<(Duration, u64)> {
    let mut client = Client::open(port).await?;
    let (mut longest, mut replies) = (Duration::ZERO, 0);
    while !done.get() {
        let start = Instant::now();
        client.send(request).await?;
        client.reply().await?;
        longest = longest.max(start.elapsed());
        replies += 1;
    }
    Ok((longest, replies))
}
