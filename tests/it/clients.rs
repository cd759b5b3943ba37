//! CLIENT: redweir's clients see and end one another as one Redis' clients do, whatever thread and listener serves them, and
//! whoever may not gets the node's own refusal.

use std::io::Read;

use crate::support::proxy::source;
use crate::support::raw;
use crate::support::{Client, Proxy, Reply, Stage, call, connect, http, ok, plain_stage, wait};
use redweir::demo::node::free_port;

/// One process with two workers, two listeners of one set and one of another.
struct House {
    proxy: Proxy,
    /// The first two serve `stage`, the third `other`.
    ports: [u16; 3],
    stage: Stage,
    _other: Stage,
    _dir: tempfile::TempDir,
}

impl House {
    fn start() -> Self {
        let (stage, other) = (plain_stage(1), plain_stage(0));
        let [a, b, c, admin] = [(); 4].map(|()| free_port().expect("a port"));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("redweir.toml");
        let text = format!(
            "admin = \"127.0.0.1:{admin}\"\nworkers = 2\nlog = \"warn\"\n\
             [[set]]\nname = \"one\"\nnode = {:?}\n[[set]]\nname = \"other\"\nnode = {:?}\n\
             [[listener]]\nlisten = \"127.0.0.1:{a}\"\nset = \"one\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{b}\"\nset = \"one\"\n\
             [[listener]]\nlisten = \"127.0.0.1:{c}\"\nset = \"other\"\n",
            stage.node_addresses(),
            other.node_addresses(),
        );
        std::fs::write(&path, text).expect("written");
        let proxy = Proxy::launch(a, admin, &["--config".to_owned(), path.to_string_lossy().into_owned()]);
        proxy.wait_ready();
        Self { proxy, ports: [a, b, c], stage, _other: other, _dir: dir }
    }

    fn client(&self, port: usize) -> Client {
        connect(&format!("127.0.0.1:{}", self.ports[port]))
    }
}

fn id(client: &mut Client) -> i64 {
    call(client, "CLIENT ID").int().expect("an id")
}

fn lines(list: &Reply) -> Vec<String> {
    list.text().lines().map(str::to_owned).collect()
}

/// The value of one field of a line.
fn field(line: &str, name: &str) -> String {
    let found = line.split(' ').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} in {line}")).to_owned()
}

fn line_of(list: &Reply, id: i64) -> String {
    lines(list).into_iter().find(|l| l.starts_with(&format!("id={id} "))).unwrap_or_else(|| panic!("{id} in {list:?}"))
}

/// The other side has closed, with nothing more said.
#[track_caller]
fn closed(client: &Client) {
    let mut byte = [0];
    match client.socket().read(&mut byte) {
        Ok(0) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

#[track_caller]
fn lives(client: &mut Client) {
    assert_eq!(call(client, "PING"), Reply::Status("PONG".into()));
}

#[test]
fn a_list_shows_the_clients_of_all_workers_and_listeners_of_a_set_and_of_no_other() {
    let house = House::start();
    let mut clients: Vec<Client> = (0..24).map(|n| house.client(n % 2)).collect();
    let mut stranger = house.client(2);
    let mut ids: Vec<i64> = clients.iter_mut().map(id).collect();
    let stranger_id = id(&mut stranger);
    let (_, metrics) = http::get(house.proxy.admin, "/metrics").expect("/metrics");
    let serving = |worker: &str| {
        let of_it = |l: &&str| l.starts_with("redweir_sessions{") && l.contains(worker) && !l.ends_with(" 0");
        metrics.lines().filter(of_it).count()
    };
    // 24 connections at one of two workers: once in eight million.
    assert!(serving("worker=\"0\"") > 0 && serving("worker=\"1\"") > 0, "{metrics}");
    ids.sort_unstable();
    for client in &mut clients {
        let shown: Vec<i64> =
            lines(&call(client, "CLIENT LIST")).iter().map(|l| field(l, "id").parse().expect("a number")).collect();
        assert_eq!(shown, ids);
    }
    assert_eq!(lines(&call(&mut stranger, "CLIENT LIST")).len(), 1);
    assert_eq!(call(&mut stranger, &format!("CLIENT KILL ID {}", ids[0])), Reply::Int(0));
    assert_eq!(call(&mut clients[0], &format!("CLIENT KILL ID {stranger_id}")), Reply::Int(0));
    drop(clients.pop());
    wait("one client less", || match lines(&call(&mut clients[0], "CLIENT LIST")).len() {
        23 => Ok(()),
        n => Err(n.to_string()),
    });
}

#[test]
fn a_line_says_what_its_client_is_doing() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--workers", "2"]);
    let [mut me, mut plain, mut listener, mut third, mut open] = [(); 5].map(|()| proxy.client());
    call(&mut plain, "CLIENT SETNAME worker-1");
    call(&mut plain, "SELECT 3");
    call(&mut plain, "GET k");
    call(&mut plain, "CLIENT NO-EVICT on");
    let [plain_id, listener_id, third_id, open_id] = [&mut plain, &mut listener, &mut third, &mut open].map(id);
    call(&mut listener, "SUBSCRIBE a");
    call(&mut listener, "SUBSCRIBE b");
    call(&mut listener, "PSUBSCRIBE p*");
    call(&mut third, "HELLO 3");
    call(&mut third, "SSUBSCRIBE s");
    for line in ["MULTI", "SET k 1", "SET k 2"] {
        call(&mut open, line);
    }
    let list = call(&mut me, "CLIENT LIST");
    let shows = |id: i64, fields: &[(&str, &str)]| {
        let line = line_of(&list, id);
        for (name, value) in fields {
            assert_eq!(field(&line, name), *value, "{name}: {line}");
        }
    };
    shows(plain_id, &[("name", "worker-1"), ("db", "3"), ("flags", "e"), ("sub", "0"), ("multi", "-1"), ("resp", "2")]);
    shows(listener_id, &[("flags", "P"), ("sub", "2"), ("psub", "1"), ("ssub", "0"), ("cmd", "psubscribe")]);
    shows(third_id, &[("flags", "P"), ("ssub", "1"), ("resp", "3"), ("user", "default")]);
    shows(open_id, &[("flags", "x"), ("multi", "2"), ("redir", "-1"), ("cmd", "set")]);
    let mine = lines(&list).into_iter().find(|l| field(l, "cmd") == "client|list").expect("mine");
    let address = me.socket().local_addr().expect("an address").to_string();
    assert_eq!((field(&mine, "addr"), field(&mine, "laddr")), (address, format!("127.0.0.1:{}", proxy.port)));
    // Picked by type, and by id in the order asked for.
    let ids =
        |list: &Reply| lines(list).iter().map(|l| field(l, "id").parse().expect("a number")).collect::<Vec<i64>>();
    let mut pubsub = [listener_id, third_id];
    pubsub.sort_unstable();
    assert_eq!(ids(&call(&mut me, "CLIENT LIST TYPE pubsub")), pubsub);
    assert_eq!(ids(&call(&mut me, "CLIENT LIST TYPE normal")).len(), 3);
    assert_eq!(ids(&call(&mut me, "CLIENT LIST TYPE replica")), [0; 0]);
    let some = call(&mut me, &format!("CLIENT LIST ID {open_id} 999 {plain_id}"));
    assert_eq!(ids(&some), [open_id, plain_id]);
    // The same lines for themselves; one who is subscribed in the third protocol is asked as well, and in a transaction's
    // end everything is as before.
    assert!(call(&mut plain, "CLIENT INFO").text().starts_with(&format!("id={plain_id} ")));
    assert_eq!(call(&mut third, "CLIENT LIST").text().lines().count(), 5);
    call(&mut open, "EXEC");
    call(&mut plain, "RESET");
    let list = call(&mut me, "CLIENT LIST");
    let (open, plain) = (line_of(&list, open_id), line_of(&list, plain_id));
    assert_eq!((field(&open, "flags"), field(&open, "multi")), ("N".into(), "-1".into()));
    assert_eq!(
        (field(&plain, "flags"), field(&plain, "name"), field(&plain, "db")),
        ("N".into(), "".into(), "0".into())
    );
}

#[test]
fn each_filter_ends_exactly_the_clients_it_is_for() {
    let house = House::start();
    let mut me = house.client(0);
    call(&mut connect(&house.stage.nodes[0].address()), "ACL SETUSER ann on >pw ~* +@all");
    let table: [(&str, usize, &str); 7] = [
        ("ID {id}", 1, ""),
        ("ADDR {addr}", 1, ""),
        ("LADDR {laddr}", 2, ""),
        ("USER ann", 2, "AUTH ann pw"),
        ("TYPE pubsub", 2, "SUBSCRIBE a"),
        ("ID {id} USER default SKIPME no", 1, ""),
        ("ID {id} TYPE pubsub", 0, ""),
    ];
    for (filter, expected, before) in table {
        // All at the second listener, which `me` is not.
        let mut victims = [(); 2].map(|()| house.client(1));
        let ids: Vec<i64> = victims.iter_mut().map(id).collect();
        let mut bystander = house.client(0);
        if !before.is_empty() {
            victims.iter_mut().for_each(|v| assert!(!call(v, before).is_error()));
        }
        let line = format!("CLIENT KILL {filter}")
            .replace("{id}", &ids[0].to_string())
            .replace("{addr}", &victims[0].socket().local_addr().expect("an address").to_string())
            .replace("{laddr}", &victims[0].socket().peer_addr().expect("an address").to_string());
        assert_eq!(call(&mut me, &line), Reply::Int(expected as i64), "{line}");
        victims[..expected].iter().for_each(closed);
        // Nobody else, and they are gone from the list at once.
        lives(&mut bystander);
        victims[expected..].iter_mut().for_each(lives);
        let list = call(&mut me, "CLIENT LIST").text();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(list.contains(&format!("id={id} ")), n >= expected, "{line}: {list}");
        }
    }
    assert!(house.proxy.nodes().iter().all(|node| node["state"] != "down"), "no node was touched");
}

#[test]
fn the_old_form_ends_one_address_and_a_client_may_end_itself_with_its_reply() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let [mut me, victim, mut itself, mut pinned] = [(); 4].map(|()| proxy.client());
    let address = |client: &Client| client.socket().local_addr().expect("an address").to_string();
    assert_eq!(call(&mut me, &format!("CLIENT KILL {}", address(&victim))), ok());
    closed(&victim);
    assert_eq!(call(&mut me, &format!("CLIENT KILL {}", address(&victim))), Reply::Error("ERR No such client".into()));
    let line = format!("CLIENT KILL {}", address(&itself));
    assert_eq!(call(&mut itself, &line), ok());
    closed(&itself);
    // The same in a subscriber of the third protocol, by id.
    call(&mut pinned, "HELLO 3");
    call(&mut pinned, "SUBSCRIBE a");
    let own = id(&mut pinned);
    assert_eq!(call(&mut pinned, &format!("CLIENT KILL ID {own}")), Reply::Int(0));
    assert_eq!(call(&mut pinned, &format!("CLIENT KILL ID {own} SKIPME no")), Reply::Int(1));
    closed(&pinned);
    lives(&mut me);
}

#[test]
fn a_client_that_is_ended_while_it_blocks_takes_nothing() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let [mut me, mut blocked] = [(); 2].map(|()| proxy.client());
    let mut node = connect(&stage.nodes[0].address());
    let victim = id(&mut blocked);
    blocked.send(b"BLPOP list 0\r\n").expect("sent");
    let mut waiting = |n: usize| {
        wait("the blocked client", || match call(&mut node, "INFO clients").text() {
            text if text.contains(&format!("blocked_clients:{n}\r\n")) => Ok(()),
            text => Err(text),
        });
    };
    waiting(1);
    assert_eq!(call(&mut me, &format!("CLIENT KILL ID {victim}")), Reply::Int(1));
    closed(&blocked);
    waiting(0);
    assert_eq!(call(&mut me, "RPUSH list a"), Reply::Int(1));
    assert_eq!(call(&mut me, "LLEN list"), Reply::Int(1));
}

/// What redweir judges or passes on: the same errors as from the node itself.
const MISUSES: &[&str] = &[
    "CLIENT KILL",
    "CLIENT KILL a b",
    "CLIENT KILL ID 0",
    "CLIENT KILL ID x",
    "CLIENT KILL ID 1 TYPE",
    "CLIENT KILL TYPE foo",
    "CLIENT KILL TYPE",
    "CLIENT KILL USER nosuch",
    "CLIENT KILL SKIPME maybe",
    "CLIENT KILL ID 999999 LADDR x ADDR",
    "CLIENT KILL ID 999999",
    "CLIENT KILL MAXAGE 1000000",
    "CLIENT KILL 127.0.0.1:1",
    "CLIENT KILL TYPE replica",
    "CLIENT LIST foo",
    "CLIENT LIST ID",
    "CLIENT LIST ID x",
    "CLIENT LIST TYPE",
    "CLIENT LIST TYPE foo",
    "CLIENT LIST TYPE normal foo",
    "CLIENT LIST TYPE master",
    "CLIENT LIST ID 0 -1 999999",
    "CLIENT UNBLOCK",
    "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 0",
    "CLIENT UNBLOCK -1",
    "CLIENT UNBLOCK 999999 ERROR",
    "CLIENT UNBLOCK 999999 foo",
    "CLIENT UNBLOCK x foo",
    "CLIENT UNBLOCK 1 TIMEOUT x",
    "CLIENT ID x",
    "CLIENT INFO x",
    "CLIENT GETNAME x",
    "CLIENT GETNAME",
    "CLIENT SETNAME",
    "CLIENT SETNAME a b",
    "CLIENT SETNAME a\u{1}b",
    "CLIENT NO-EVICT",
    "CLIENT NO-EVICT foo",
    "CLIENT NO-EVICT ON",
    "CLIENT No-Touch on",
    "CLIENT NO-TOUCH",
    "CLIENT SETINFO lib-name x",
    "CLIENT SetInfo",
    "CLIENT CAPA redirect",
    "CLIENT GETREDIR",
    "CLIENT REPLY",
    "CLIENT REPLY foo",
    "CLIENT REPLY ON",
    "CLIENT PAUSE",
    "CLIENT PAUSE x",
    "CLIENT PAUSE 1 foo",
    "CLIENT PAUSE 0",
    "CLIENT UNPAUSE",
    "CLIENT UNPAUSE x",
    "CLIENT HELP",
    "CLIENT NOSUCH",
    "CLIENT NOSUCH a b",
    "CLIENT",
];

/// Each line under `first`, at the node and through redweir.
#[track_caller]
fn same(stage: &Stage, proxy: &Proxy, first: &str, then: &[&str]) {
    let mut differences = Vec::new();
    for line in then {
        let script = format!("{first}{line}\r\n");
        let [direct, through] = [stage.nodes[0].port, proxy.port].map(|port| raw::talk(port, &[script.as_bytes()]));
        if direct != through {
            differences.push(format!("{line}\n  direct  {direct:?}\n  redweir {through:?}"));
        }
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), then.len(), differences.join("\n"));
}

#[test]
fn every_misuse_gets_the_error_of_a_direct_redis() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    same(&stage, &proxy, "", MISUSES);
    // And from a connection of its own.
    same(&stage, &proxy, "WATCH k\r\n", MISUSES);
}

#[test]
fn who_may_not_gets_the_refusal_of_a_direct_redis() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut node = connect(&stage.nodes[0].address());
    call(&mut node, "ACL SETUSER low on >pw ~* +@all -@dangerous -@admin");
    call(&mut node, "ACL SETUSER none on >pw ~* +@all -client");
    call(&mut node, "ACL SETUSER few on >pw ~* +@all -client|setname -client|kill");
    let all = [
        "CLIENT LIST",
        "CLIENT KILL ID 1",
        "CLIENT KILL 127.0.0.1:1",
        "CLIENT KILL ID 999999 SKIPME no",
        "CLIENT UNBLOCK 999999",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "CLIENT NO-EVICT on",
        "CLIENT PAUSE 0",
        "CLIENT REPLY ON",
        "CLIENT GETREDIR",
        "CLIENT NO-TOUCH on",
    ];
    let refused: Vec<&str> = all.iter().copied().filter(|l| *l != "CLIENT LIST").collect();
    let mut victim = proxy.client();
    let victim_line = format!("CLIENT KILL ID {}", id(&mut victim));
    for user in ["low", "few"] {
        same(&stage, &proxy, &format!("AUTH {user} pw\r\n"), &refused);
    }
    same(&stage, &proxy, "AUTH low pw\r\n", &["CLIENT LIST", &victim_line]);
    same(&stage, &proxy, "AUTH none pw\r\n", &[&all[..], &["CLIENT ID", "CLIENT INFO", "CLIENT REPLY SKIP"]].concat());
    same(&stage, &proxy, "AUTH few pw\r\n", &[&victim_line]);
    lives(&mut victim);
    // Rights that change hold for a connection that is there already.
    let mut few = proxy.client();
    call(&mut few, "AUTH few pw");
    assert!(call(&mut few, "CLIENT KILL ID 999999").is_error());
    call(&mut node, "ACL SETUSER few +client|kill");
    assert_eq!(call(&mut few, "CLIENT KILL ID 999999"), Reply::Int(0));
    // Nobody who is not logged in learns or ends anything.
    call(&mut node, "CONFIG SET requirepass secret");
    let unknown = Proxy::start_unready(&source(&stage), &["--node-password", "secret"]);
    unknown.wait_ready();
    let lines = [&all[..], &["CLIENT ID", "CLIENT INFO", "CLIENT REPLY OFF", "CLIENT ID x", "QUIT"]].concat();
    let script = lines.join("\r\n") + "\r\n";
    let [direct, through] = [stage.nodes[0].port, unknown.port].map(|p| raw::talk_unmarked(p, &[script.as_bytes()]));
    assert_eq!(direct, through);
    assert_eq!(through.bytes.escape_ascii().to_string().matches("-NOAUTH").count(), lines.len() - 3);
    same(&stage, &unknown, "AUTH secret\r\n", &refused);
}

#[test]
fn a_blocked_client_is_let_go_by_another() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--workers", "2"]);
    let mut me = proxy.client();
    let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
    for (how, expected) in [("", Reply::Nil), (" TIMEOUT", Reply::Nil), (" ERROR", Reply::Error(error.into()))] {
        let mut blocked = proxy.client();
        let line = format!("CLIENT UNBLOCK {}{how}", id(&mut blocked));
        assert_eq!(call(&mut me, &line), Reply::Int(0), "not blocked yet");
        blocked.send(b"BLPOP nothing 0\r\n").expect("sent");
        wait("to be let go", || match call(&mut me, &line) {
            Reply::Int(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(blocked.read().expect("a reply"), expected, "{how}");
        assert_eq!(call(&mut me, &line), Reply::Int(0), "no longer blocked");
        lives(&mut blocked);
    }
}

#[test]
fn clients_that_wait_for_a_master_can_be_ended() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--hold", "60s", "--down-after", "300ms"]);
    proxy.wait_readers(1);
    let [mut me, mut held, mut pinning] = [(); 3].map(|()| proxy.client());
    let ids = [&mut held, &mut pinning].map(id);
    stage.nodes[0].kill();
    wait("the master's end", || match proxy.nodes() {
        nodes if nodes.iter().any(|n| n["state"] == "master") => Err(format!("{nodes:?}")),
        _ => Ok(()),
    });
    held.send(b"SET k 1\r\n").expect("sent");
    pinning.send(b"BLPOP list 0\r\n").expect("sent");
    wait("the held write", || match proxy.metric("redweir_holding_sessions", &[]) {
        n if n > 0.0 => Ok(()),
        n => Err(n.to_string()),
    });
    // The replica says whether this client may.
    for id in ids {
        assert_eq!(call(&mut me, &format!("CLIENT KILL ID {id}")), Reply::Int(1));
    }
    closed(&held);
    closed(&pinning);
    lives(&mut me);
}

#[test]
fn a_pause_of_writes_ends_when_somebody_says_so() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let [mut me, mut writer] = [(); 2].map(|()| proxy.client());
    lives(&mut writer);
    assert_eq!(call(&mut me, "CLIENT PAUSE 3600000 WRITE"), ok());
    writer.send(b"SET k 1\r\n").expect("sent");
    let mut node = connect(&stage.nodes[0].address());
    wait("the write at the node", || match call(&mut node, "CLIENT LIST").text() {
        list if list.contains("cmd=set ") => Ok(()),
        list => Err(list),
    });
    // That connection is stuck, and everybody shares it.
    assert_eq!(call(&mut me, "CLIENT UNPAUSE"), ok());
    assert_eq!(writer.read().expect("a reply"), ok());
}
