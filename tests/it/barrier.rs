//! WAIT counts what the session wrote, over whatever connection and as whatever user it did.

use std::time::Duration;

use crate::support::link::{Link, reroute};
use crate::support::load::Load;
use crate::support::{Plan, Proxy, Reply, Stage, call, ok, plain_stage, settle, stage, wait};

/// Users: one as Redis 7 makes them, without any channel; one that may not WAIT; redweir's own without PUBLISH.
fn users(stage: &Stage) {
    for node in &stage.nodes {
        let mut client = node.connect().unwrap();
        for line in [
            "ACL SETUSER app on >pw ~* +@all resetchannels",
            "ACL SETUSER hasty on >pw ~* +@all -wait resetchannels",
            "ACL SETUSER redweir on >pw ~* resetchannels +role +info +command +ping",
        ] {
            assert_eq!(call(&mut client, line), ok());
        }
    }
}

/// The replica stands still while something is written: WAIT must not count it, and counts it once it has caught up.
#[track_caller]
fn is_a_barrier(stage: &mut Stage, proxy: &Proxy, login: Option<&str>) {
    let mut client = proxy.client();
    if let Some(login) = login {
        assert_eq!(call(&mut client, login), ok());
    }
    // From here on there is a connection of its own that has seen an offset.
    assert_eq!(call(&mut client, "SET k 1"), ok());
    assert_eq!(call(&mut client, "WAIT 1 10000"), Reply::Int(1));
    stage.nodes[1].stop();
    assert_eq!(call(&mut client, "SET k 2"), ok());
    assert_eq!(call(&mut client, "WAIT 1 50"), Reply::Int(0), "{login:?}");
    stage.nodes[1].cont();
    assert_eq!(call(&mut client, "WAIT 1 10000"), Reply::Int(1), "{login:?}");
}

#[test]
fn wait_does_not_count_a_replica_that_lacks_what_the_session_wrote() {
    let mut stage = plain_stage(1);
    settle(&mut stage, 0);
    users(&stage);
    // A replica that stands still is not to be taken for dead in between.
    let proxy = Proxy::start(&stage, &["--down-after", "20s"]);
    proxy.wait_readers(1);
    is_a_barrier(&mut stage, &proxy, None);
    is_a_barrier(&mut stage, &proxy, Some("AUTH app pw"));
    let mut hasty = proxy.client();
    assert_eq!(call(&mut hasty, "AUTH hasty pw"), ok());
    assert_eq!(call(&mut hasty, "SET k 3"), ok());
    assert!(call(&mut hasty, "WAIT 1 100").text().starts_with("NOPERM"));
}

/// Its time is its own although redweir asks twice, and who is let go is let go.
#[test]
fn wait_ends_in_time_and_by_client_unblock_whoever_asks_for_it() {
    let mut stage = plain_stage(1);
    settle(&mut stage, 0);
    users(&stage);
    let proxy = Proxy::start(&stage, &["--down-after", "20s"]);
    proxy.wait_readers(1);
    let mut other = proxy.client();
    for login in ["AUTH app pw", "PING"] {
        let mut client = proxy.client();
        assert!(!call(&mut client, login).is_error());
        let id = call(&mut client, "CLIENT ID").text();
        for (short, unblock, expected) in [
            // The replica is counted at once; a second one never comes.
            ("WAIT 2 0", "TIMEOUT", Reply::Int(1)),
            ("WAIT 2 0", "ERROR", Reply::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
        ] {
            assert_eq!(call(&mut client, "SET k v"), ok());
            settle(&mut stage, 0);
            // A replica that is starved of its core says too late that it has it: asked again then.
            wait(&format!("{login} {unblock}"), || {
                client.send(format!("{short}\r\n").as_bytes()).map_err(|e| e.to_string())?;
                wait("it to block", || match call(&mut other, &format!("CLIENT UNBLOCK {id} {unblock}")) {
                    Reply::Int(1) => Ok(()),
                    other => Err(format!("{other:?}")),
                });
                match client.read().map_err(|e| e.to_string())? {
                    Reply::Int(0) if expected == Reply::Int(1) => Err("not counted".into()),
                    answer => {
                        assert_eq!(answer, expected, "{login} {unblock}");
                        Ok(())
                    }
                }
            });
        }
        // Stale by its own connection it is satisfied at once, and truly it waits: there it is let go, too.
        assert_eq!(call(&mut client, "WAIT 1 10000"), Reply::Int(1));
        stage.nodes[1].stop();
        assert_eq!(call(&mut client, "SET k w"), ok());
        client.send(b"WAIT 1 0\r\n").unwrap();
        wait("it to block", || match call(&mut other, &format!("CLIENT UNBLOCK {id}")) {
            Reply::Int(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(client.read().unwrap(), Reply::Int(0), "{login}");
        assert_eq!(call(&mut client, "GET k").text(), "w");
        stage.nodes[1].cont();
        // Nor does it wait for a second replica when its client has left.
        client.send(b"WAIT 2 0\r\n").unwrap();
        let mut is = |what: &str, yes: fn(&str) -> bool| {
            wait(what, || match call(&mut other, &format!("CLIENT LIST ID {id}")).text() {
                line if yes(&line) => Ok(()),
                line => Err(line),
            });
        };
        is("it to block", |line| line.contains(" flags=b "));
        drop(client);
        is("its end", str::is_empty);
    }
}

#[test]
fn wait_that_is_over_still_counts_a_replica_further_away() {
    let mut stage = plain_stage(1);
    let link = Link::to(stage.nodes[0].port);
    reroute(&stage, 1, &link);
    settle(&mut stage, 0);
    users(&stage);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "AUTH app pw"), ok());
    link.delay(Duration::from_millis(2));
    assert_eq!(call(&mut client, "SET k v"), ok());
    assert_eq!(call(&mut client, "WAIT 1 10000"), Reply::Int(1));
    // A master with other things to do ends a WAIT in time; an idle one looks at it when something comes, be it the answer.
    let _load = Load::on(stage.nodes[0].address());
    // The second one never comes; the first has had the write all the time. It may be kept from its core for once.
    for line in ["WAIT 2 1", "WAIT 2 60"] {
        let counted = (0..20).filter(|_| call(&mut client, line) == Reply::Int(1)).count();
        assert!(counted >= 10, "{line}: {counted} of 20");
    }
}

#[test]
fn wait_is_an_error_where_nobody_may_send_what_it_counts_from() {
    let stage = plain_stage(1);
    users(&stage);
    let proxy = Proxy::start(&stage, &["--node-username", "redweir", "--node-password", "pw"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "AUTH app pw"), ok());
    assert_eq!(call(&mut client, "WAIT 0 0"), Reply::Int(1), "nothing was written yet");
    assert_eq!(call(&mut client, "SET k 1"), ok());
    let refused = call(&mut client, "WAIT 1 100");
    assert!(
        refused.is_error() && refused.text().contains("give the client's user or redweir's own +publish"),
        "{refused:?}"
    );
    // Nothing else suffers.
    assert_eq!(call(&mut client, "GET k").text(), "1");
}

#[test]
fn a_client_that_leaves_while_it_waits_takes_its_connections_along() {
    let stage = stage(Plan { replicas: 1, sentinels: 0, ..Plan::default() });
    users(&stage);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "AUTH app pw"), ok());
    assert_eq!(call(&mut client, "SET k 1"), ok());
    client.send(b"WAIT 9 0\r\n").unwrap();
    let blocked = |n: &str| {
        let mut node = stage.nodes[0].connect().unwrap();
        let clients = call(&mut node, "INFO clients").text();
        let found = clients.lines().find_map(|l| l.strip_prefix("blocked_clients:")).unwrap_or_default().to_owned();
        if found == n { Ok(()) } else { Err(found) }
    };
    wait("it to block", || blocked("1"));
    drop(client);
    wait("nobody to block", || blocked("0"));
}
