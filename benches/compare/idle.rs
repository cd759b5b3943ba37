//! Resident memory with many idle clients.
//!
//! Must not keep them busy: each is opened, later asks for one value, and is idle again. Invariant: memory is read only
//! after the target has accepted every connection.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::figures::{aligned, keeps};
use crate::picture::key;
use crate::process::{Process, Result};
use crate::table::verdict;
use crate::target::Stage;

/// The bar: all resident memory of redweir with 10,000 idle clients.
const BAR_BYTES: f64 = 30e6;
const BAR_CLIENTS: usize = 10_000;
/// Well below the ports one address has, so that TIME_WAIT of earlier runs does not matter.
const PER_ADDRESS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// What a target may need to give buffers back.
const REST: Duration = Duration::from_secs(2);

/// Prints the memory of `floor` and redweir; true if redweir keeps the bar (judged up to 10,000 clients only).
pub async fn measure(stage: &Stage<'_>, clients: usize) -> Result<bool> {
    let mut rows = vec!["target|clients|start MB|accepted MB|after a GET each MB|bytes/client|bar MB|"];
    let mut lines = Vec::new();
    let mut kept = false;
    for name in ["floor", "redweir"] {
        let target = stage.start(name).await?;
        let endpoint = target.endpoint(64).ok_or("no endpoint")?;
        let process = endpoint.process.as_ref().ok_or("no process")?;
        let start = process.memory("VmRSS")?;
        let mut open = connect(endpoint.port, process, clients).await?;
        sleep(REST).await;
        let accepted = process.memory("VmRSS")?;
        for client in &mut open {
            client.call(&[b"GET", key(64, 1).as_bytes()]).await?;
        }
        sleep(REST).await;
        let used = process.memory("VmRSS")?;
        let per_client = used.saturating_sub(start) / clients.max(1) as u64;
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let mut line =
            format!("{name}|{clients}|{}|{}|{}|{per_client}", megabytes(start), megabytes(accepted), megabytes(used));
        if name == "redweir" {
            kept = keeps(Some(used.max(accepted) as f64), BAR_BYTES) || clients > BAR_CLIENTS;
            line.push_str(&format!("|<={:.0}|{}", BAR_BYTES / 1e6, verdict(kept)));
        }
        lines.push(line);
    }
    rows.extend(lines.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.split('|').map(str::to_owned).collect()).collect();
    print!("{}", aligned(&rows));
    Ok(kept)
}

/// Opens the connections from as many source addresses as they need and waits until the target has them all.
async fn connect(port: u16, process: &Process, clients: usize) -> Result<Vec<Client>> {
    let mut open = Vec::with_capacity(clients);
    for number in 0..clients {
        let address = Ipv4Addr::LOCALHOST.to_bits() + 1 + (number / PER_ADDRESS) as u32;
        let client = Client::open_from(IpAddr::V4(Ipv4Addr::from_bits(address)), port).await;
        open.push(client.map_err(|error| format!("connection {number}: {error}"))?);
    }
    let deadline = Instant::now() + PATIENCE;
    while process.open_files()? < clients {
        if Instant::now() > deadline {
            return Err(format!("only {} of {clients} connections are held", process.open_files()?).into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(open)
}
