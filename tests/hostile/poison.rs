//! What would spoil a connection for those who share it: each is sent while others work on beside it, on one worker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::support::raw::{self, End};
use crate::support::{Client, Plan, Proxy, call, ok, plain_stage, stage, wait};
use crate::{script, soon};

/// Works with a key of its own until it is over; any reply that is not exactly its own is a panic.
fn work(client: &mut Client, me: usize, rounds: &AtomicU64, over: &AtomicBool) {
    while !over.load(Relaxed) {
        let n = rounds.load(Relaxed);
        let lines = [
            format!("SET own:{me} {n}"),
            format!("GET own:{me}"),
            format!("ECHO {me}:{n}"),
            format!("STRLEN own:{me}"),
        ];
        client.send(&script(&lines.each_ref().map(String::as_str))).expect("sent");
        assert_eq!(soon(client), ok());
        assert_eq!(soon(client).text(), n.to_string());
        assert_eq!(soon(client).text(), format!("{me}:{n}"));
        assert_eq!(soon(client).int(), Some(n.to_string().len() as i64));
        rounds.store(n + 1, Relaxed);
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Does `harm` once per poison; after each, all others get whole rounds done.
fn beside<P>(others: &mut [Client], poisons: impl IntoIterator<Item = P>, mut harm: impl FnMut(P)) {
    let over = &AtomicBool::new(false);
    let rounds: &Vec<AtomicU64> = &others.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let _over = Over(over);
        let spawn = |(me, client)| scope.spawn(move || work(client, me, &rounds[me], over));
        let workers: Vec<_> = others.iter_mut().enumerate().map(spawn).collect();
        for poison in poisons {
            harm(poison);
            let seen: Vec<u64> = rounds.iter().map(|r| r.load(Relaxed)).collect();
            wait("the others to go on", || {
                assert!(workers.iter().all(|worker| !worker.is_finished()), "one of the others was disturbed");
                let still = rounds.iter().zip(&seen).filter(|(now, seen)| now.load(Relaxed) < **seen + 2).count();
                if still == 0 { Ok(()) } else { Err(format!("{still} stand still")) }
            });
        }
    });
}

#[test]
fn no_poison_reaches_those_who_share_its_connection() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--workers", "1", "--monitor", "on"]);
    proxy.wait_readers(1);
    let mut others = [(); 4].map(|()| proxy.client());
    let poisons: [&[u8]; 36] = [
        b"POST / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"Host: here\r\n",
        b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
        b"*2\r\n$3\r\nGET\r\n$999999999999999\r\n",
        b"*2147483648\r\n",
        b"*1\r\n$-5\r\n",
        b"*1\r\n:3\r\n",
        b"*2\r\n$3\r\nGETxx$1\r\nkxx",
        b"\"unbalanced\r\n",
        b"CLIENT REPLY OFF\r\nSET a 1\r\nGET a\r\n",
        b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n",
        b"REPLCONF ACK 100\r\n",
        b"REPLCONF GETACK *\r\n",
        b"REPLCONF listening-port 1\r\nSYNC\r\n",
        b"SYNC\r\n",
        b"PSYNC ? -1\r\n",
        b"SUBSCRIBE a\r\nPSUBSCRIBE a*\r\n",
        b"SSUBSCRIBE a\r\nGET a\r\n",
        b"MONITOR\r\n",
        b"MULTI\r\nSET a 1\r\n",
        b"MULTI\r\nEXEC x\r\nSET a 1\r\nEXEC\r\n",
        b"WATCH a\r\nMULTI\r\n",
        b"BLPOP nothing 0\r\n",
        b"XREAD BLOCK 0 STREAMS nothing $\r\n",
        b"WAIT 9 0\r\n",
        b"SELECT 5\r\nSET own:0 stolen\r\nGET own:0\r\n",
        b"HELLO 3\r\nHGETALL a\r\n",
        b"HELLO 3 AUTH nobody wrong\r\n",
        b"AUTH nobody wrong\r\nGET a\r\n",
        b"CLIENT TRACKING ON BCAST\r\n",
        b"CLIENT NO-EVICT ON\r\nCLIENT SETNAME other\r\n",
        b"READONLY\r\nASKING\r\nREADWRITE\r\n",
        b"SHUTDOWN NOSAVE\r\nREPLICAOF NO ONE\r\nFAILOVER\r\nDEBUG SEGFAULT\r\n",
        b"EVAL \"return redis.error_reply('READONLY You can\\'t write against a read only replica.')\" 0\r\n",
        b"EVAL \"return {redis.status_reply('a b'), false, 1, {2}}\" 0\r\nRESET\r\nQUIT\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$900\r\nhalf of a val",
    ];
    beside(&mut others, poisons, |poison| drop(raw::say_and_leave(proxy.port, poison)));
    assert_eq!(proxy.metric("redweir_errors_total", &["source=\"connection_lost\""]), 0.0, "one was lost");
    assert_eq!(proxy.metric("redweir_unknown_outcome_total", &[]), 0.0);
}

#[test]
fn who_has_not_logged_in_may_send_little_and_disturbs_nobody() {
    let stage = stage(Plan { replicas: 1, sentinels: 0, password: Some("secret".into()), ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--workers", "1", "--node-password", "secret"]);
    proxy.wait_readers(1);
    let mut others = [(); 4].map(|()| proxy.client());
    for other in &mut others {
        // Refused first: where a login is needed is known from then on.
        assert!(call(other, "GET a").text().starts_with("NOAUTH"));
        assert_eq!(call(other, "AUTH secret"), ok());
    }
    let wide = |args: usize| [format!("*{args}\r\n"), "$1\r\nx\r\n".repeat(args)];
    let long = |len: usize| [format!("*2\r\n$3\r\nGET\r\n${len}\r\n"), format!("{}\r\n", "x".repeat(len))];
    let login = |[header, body]: [String; 2]| [format!("AUTH secret\r\n{header}"), body];
    // The mark behind it is for who has logged in.
    let refused_as_any = |[header, body]: [String; 2]| [header, format!("{body}AUTH secret\r\n")];
    let refused = [wide(11), wide(1000), long(16385), long(3 << 20)];
    let allowed = [
        refused_as_any(wide(10)),
        refused_as_any(long(16384)),
        login(wide(11)),
        login(wide(1000)),
        login(long(16385)),
        login(long(3 << 20)),
    ];
    beside(&mut others, refused.iter().chain(&allowed), |request| {
        // A header is refused before its body comes; bytes that nobody reads would make a reset of the close.
        let is_refused = refused.contains(request);
        let sent = if is_refused { request[0].clone() } else { request.concat() };
        let [direct, through] = [stage.nodes[0].port, proxy.port].map(|port| raw::talk(port, &[sent.as_bytes()]));
        assert_eq!(direct, through, "{}", request[0].escape_debug());
        assert_eq!(through.end == End::Closed, is_refused, "{through:?}");
    });
    assert_eq!(proxy.metric("redweir_errors_total", &["source=\"connection_lost\""]), 0.0, "one was lost");
}
