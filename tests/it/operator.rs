//! People who run redweir see from inside a connection what it does, and may forbid what clients must not do.

use crate::support::{
    Client, Counts, Plan, Proxy, Reply, Stage, bulk, call, ok, plain_stage, proxy, raw, settle, stage, wait,
};

/// The lines of a REDWEIR answer.
#[track_caller]
fn lines(client: &mut Client, line: &str) -> Vec<String> {
    match call(client, line) {
        Reply::Array(items) => items.iter().map(Reply::text).collect(),
        other => panic!("{line}: {other:?}"),
    }
}

/// `name: value` of a REDWEIR answer.
#[track_caller]
fn line_of(client: &mut Client, line: &str, name: &str) -> String {
    let all = lines(client, line);
    let found = all.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {all:?}")).to_owned()
}

#[track_caller]
fn error(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => text.clone(),
        other => panic!("no error: {other:?}"),
    }
}

fn error_of(client: &mut Client, line: &str) -> String {
    error(&call(client, line))
}

/// `field:value` lines of INFO, and the sections' names in their order.
fn fields(text: &str) -> (Vec<String>, std::collections::BTreeMap<String, String>) {
    assert!(text.lines().all(|l| l.is_empty() || l.starts_with('#') || l.contains(':')), "{text}");
    let sections = text.lines().filter_map(|l| l.strip_prefix("# ")).map(str::to_owned).collect();
    let pairs = text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    (sections, pairs)
}

/// Nodes with a line of their own in their configuration.
#[track_caller]
fn stage_with(replicas: usize, line: &str) -> Stage {
    stage(Plan { replicas, sentinels: 0, extra: vec![line.to_owned()], ..Plan::default() })
}

#[test]
fn topology_and_whoami_say_what_is_so() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--name", "shop"]);
    proxy.wait_readers(2);
    settle(&mut stage, 0);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = proxy.client();
        call(&mut client, hello);
        let said = lines(&mut client, "redweir Topology");
        assert!(said[0].starts_with("set shop, epoch "), "{said:?}");
        let master = stage.nodes[0].address();
        assert!(said[1].contains(&format!("master {master}, writes open, replicas in rotation 2")), "{said:?}");
        assert_eq!(said.len(), 5, "{said:?}");
        for (n, address) in stage.node_addresses().iter().enumerate() {
            let role = if n == 0 { "master, master" } else { "replica, replica" };
            let begin = format!("node {address}: {role}, in rotation, offset ");
            assert!(said.iter().any(|l| l.starts_with(&begin)), "{begin} in {said:?}");
        }
        call(&mut client, "CLIENT SETNAME me");
        call(&mut client, "SELECT 3");
        let id = call(&mut client, "CLIENT ID").text();
        let address = client.socket().local_addr().expect("an address").to_string();
        for (name, value) in [
            ("client id", id.as_str()),
            ("address", address.as_str()),
            ("set", "shop"),
            ("worker", "1 of 1"),
            ("user", "default"),
            ("name", "me"),
            ("db", "3"),
            ("resp", &hello[6..]),
            ("connection to nodes", "shared"),
            ("has written", "no"),
        ] {
            assert_eq!(line_of(&mut client, "REDWEIR WHOAMI", name), value, "{name}");
        }
    }
    let replica = stage.nodes[1].address();
    stage.nodes[1].kill();
    proxy.wait_readers(1);
    let said = lines(&mut proxy.client(), "REDWEIR TOPOLOGY");
    assert!(said.iter().any(|l| l.contains(&replica) && l.contains("out of rotation (does not answer)")), "{said:?}");
}

#[test]
fn wrong_redweir_commands_get_the_errors_redis_would_give() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    for (line, text) in [
        ("REDWEIR", "ERR wrong number of arguments for 'redweir' command"),
        ("REDWEIR NOSUCH x", "ERR unknown subcommand 'NOSUCH'. Try REDWEIR HELP."),
        ("REDWEIR TOPOLOGY x", "ERR wrong number of arguments for 'redweir|topology' command"),
        ("REDWEIR ROUTE", "ERR wrong number of arguments for 'redweir|route' command"),
        ("REDWEIR CONSISTENCY a b", "ERR wrong number of arguments for 'redweir|consistency' command"),
        (
            "REDWEIR CONSISTENCY fast",
            "ERR redweir: the levels are EVENTUAL, BOUNDED [MS milliseconds] [BYTES bytes], SESSION and STRONG",
        ),
    ] {
        assert_eq!(error_of(&mut client, line), text, "{line}");
    }
    assert_eq!(line_of(&mut client, "REDWEIR CONSISTENCY", "read policy"), "prefer-replica");
    assert_eq!(
        lines(&mut client, "REDWEIR HELP")[0],
        "REDWEIR <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    );
    // In a transaction it is a name the server does not know.
    call(&mut client, "MULTI");
    assert!(error_of(&mut client, "REDWEIR HELP").starts_with("ERR unknown command 'REDWEIR'"));
    assert!(error_of(&mut client, "EXEC").starts_with("EXECABORT"));
    // Switched off it is one anywhere.
    let proxy = Proxy::start(&stage, &["--redweir-commands", "false"]);
    let mut client = proxy.client();
    let theirs = call(&mut stage.nodes[0].connect().expect("a node"), "REDWEIR HELP");
    assert_eq!(call(&mut client, "REDWEIR HELP"), theirs);
    assert!(!call(&mut client, "INFO").text().contains("# Redweir"));
}

#[test]
fn before_a_login_only_help_answers() {
    let stage = stage(Plan { replicas: 1, sentinels: 0, password: Some("secret".into()), ..Plan::default() });
    let proxy = Proxy::start(&stage, &["--node-password", "secret"]);
    let mut client = proxy.client();
    assert_eq!(lines(&mut client, "REDWEIR HELP").len(), 13);
    for line in ["REDWEIR TOPOLOGY", "REDWEIR WHOAMI", "REDWEIR ROUTE GET a", "REDWEIR CONSISTENCY", "INFO redweir"] {
        assert_eq!(error_of(&mut client, line), "NOAUTH Authentication required.", "{line}");
    }
    // Nor through a connection of its own.
    call(&mut client, "WATCH k");
    assert!(error_of(&mut client, "REDWEIR TOPOLOGY").starts_with("ERR unknown command"));
    let mut client = proxy.client();
    call(&mut client, "AUTH secret");
    assert!(lines(&mut client, "REDWEIR TOPOLOGY")[0].contains("epoch"));
    assert_eq!(fields(&call(&mut client, "INFO redweir").text()).0, ["Redweir"]);
}

#[test]
fn route_names_the_node_that_then_gets_it() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    call(&mut proxy.client(), "SET a 1");
    settle(&mut stage, 0);
    let (master, replica) = (stage.nodes[0].address(), stage.nodes[1].address());
    let mut client = proxy.client();
    for (line, name) in [
        ("GET a", "get"),
        ("SET a 1", "set"),
        ("DBSIZE", "dbsize"),
        ("TOUCH a", "touch"),
        ("EVAL return 0", "eval"),
        ("CONFIG GET maxmemory", "config|get"),
        ("EXISTS a", "exists"),
    ] {
        Counts::reset(&stage);
        let to = line_of(&mut client, &format!("REDWEIR ROUTE {line}"), "to");
        let before = Counts::read(&stage);
        assert_eq!((before.on(0, name), before.on(1, name)), (0, 0), "{line} was not run");
        call(&mut client, line);
        let counts = Counts::read(&stage);
        // A write also runs on the replica, as replication.
        let at = if counts.on(0, name) > 0 { format!("{master} (master)") } else { format!("{replica} (replica)") };
        assert!(counts.on(0, name) + counts.on(1, name) > 0, "{line}");
        assert_eq!(to, at, "{line}");
    }
    assert_eq!(line_of(&mut client, "REDWEIR ROUTE MULTI", "why"), "pins a connection: transaction");
    let why = line_of(&mut client, "REDWEIR ROUTE SHUTDOWN NOSAVE", "why");
    assert!(why.starts_with("refused: it would stop the master"), "{why}");
    // With no master it says so, at once.
    stage.nodes[0].kill();
    wait("writes held", || match line_of(&mut client, "REDWEIR ROUTE SET a 1", "why") {
        why if why == "held: no verified master" => Ok(()),
        why => Err(why),
    });
}

#[test]
fn with_several_replicas_route_knows_whose_turn_it_is() {
    let mut stage = plain_stage(2);
    let proxy = Proxy::start(&stage, &["--balancer", "round-robin"]);
    proxy.wait_readers(2);
    settle(&mut stage, 0);
    let mut client = proxy.client();
    for turn in 0..6 {
        Counts::reset(&stage);
        let to = line_of(&mut client, "REDWEIR ROUTE GET a", "to");
        call(&mut client, "GET a");
        let counts = Counts::read(&stage);
        let node = (0..3).find(|n| counts.on(*n, "get") > 0).expect("somebody answered");
        assert_eq!(to, format!("{} (replica)", stage.nodes[node].address()), "turn {turn}");
    }
}

#[test]
fn a_session_on_a_connection_of_its_own_is_answered_in_its_turn() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    let said = client.pipeline(&[vec!["WATCH", "a"], vec!["REDWEIR", "WHOAMI"], vec!["GET", "a"], vec!["UNWATCH"]]);
    let said = said.expect("replies");
    let who: Vec<String> = said[1].items().iter().map(Reply::text).collect();
    let own = format!("connection to nodes: its own, to {}", stage.nodes[0].address());
    assert!(who.contains(&own), "{who:?}");
    assert_eq!((&said[0], &said[2], &said[3]), (&ok(), &Reply::Nil, &ok()));
    assert_eq!(line_of(&mut client, "REDWEIR WHOAMI", "connection to nodes"), "shared");
    call(&mut client, "HELLO 3");
    client.send(b"SUBSCRIBE c\r\nREDWEIR WHOAMI\r\n").expect("sent");
    assert!(matches!(client.read(), Ok(Reply::Push(_))));
    let who = client.read().expect("an answer");
    assert!(who.items().iter().any(|l| l.text() == own), "{who:?}");
}

#[test]
fn info_is_the_masters_with_a_section_of_our_own() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--name", "shop"]);
    proxy.wait_readers(1);
    settle(&mut stage, 0);
    let mut client = proxy.client();
    let mut watcher = proxy.client();
    call(&mut watcher, "WATCH k");
    for hello in ["HELLO 2", "HELLO 3"] {
        call(&mut client, hello);
        for line in ["INFO", "INFO default", "INFO everything", "info ALL"] {
            let (sections, fields) = fields(&call(&mut client, line).text());
            assert_eq!(sections.last().map(String::as_str), Some("Redweir"), "{line}: {sections:?}");
            assert_eq!(sections.first().map(String::as_str), Some("Server"), "{line}");
            assert_eq!((&*fields["role"], &*fields["tcp_port"]), ("master", &*stage.nodes[0].port.to_string()));
            assert_eq!(fields["redweir_master"], stage.nodes[0].address());
            assert_eq!(fields["redweir_version"], env!("CARGO_PKG_VERSION"));
            for (name, value) in [
                ("set", "shop"),
                ("writes", "open"),
                ("replicas_in_rotation", "1"),
                ("clients", "2"),
                ("pinned", "1"),
                ("held", "0"),
            ] {
                assert_eq!(fields[&format!("redweir_{name}")], value, "{line}: {name}");
            }
            assert!(fields["redweir_epoch"].parse::<u64>().is_ok());
        }
        let sections = |line: &str, client: &mut Client| fields(&call(client, line).text()).0;
        assert_eq!(sections("INFO server", &mut client), ["Server"]);
        assert_eq!(sections("INFO redweir", &mut client), ["Redweir"]);
        assert_eq!(sections("INFO redweir Server", &mut client), ["Server", "Redweir"]);
        assert_eq!(sections("INFO nosuch", &mut client), Vec::<String>::new());
    }
    // The node's own type, and a length that is right.
    let answer = raw::talk(proxy.port, &[b"INFO redweir\r\nHELLO 3\r\nINFO redweir\r\n"]);
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let verbatim = text.rsplit_once("\r\n=").expect("a verbatim string").1;
    assert!(text.starts_with('$') && verbatim.contains("\r\ntxt:# Redweir\r\n"), "{text}");
}

#[test]
fn denied_commands_are_refused_wherever_they_come_from() {
    let mut stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &["--deny", "FLUSHALL,CONFIG SET,@pubsub", "--allow", "PUBLISH"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    let denied = |name: &str| format!("NOPERM redweir: the deny list of this listener forbids the '{name}' command");
    for (line, name) in [
        ("FLUSHALL", "flushall"),
        ("flushall ASYNC", "flushall"),
        ("CONFIG SET maxmemory 0", "config|set"),
        ("SUBSCRIBE a", "subscribe"),
    ] {
        assert_eq!(error_of(&mut client, line), denied(name), "{line}");
    }
    assert_eq!(proxy.metric("redweir_refused_total", &["reason=\"forbidden\""]), 4.0);
    assert_eq!(call(&mut client, "CONFIG GET maxmemory").items().len(), 2);
    assert_eq!(call(&mut client, "PUBLISH a b"), Reply::Int(0));
    assert_eq!(call(&mut client, "SET a 1"), ok());
    // In a line, between others, in order.
    client.send(b"SET a 2\r\nFLUSHALL\r\nGET a\r\nFLUSHALL\r\nflushall\r\nGET a\r\n").expect("sent");
    let said: Vec<Reply> = (0..6).map(|_| client.read().expect("a reply")).collect();
    assert_eq!((&said[0], &said[2], &said[5]), (&ok(), &bulk("2"), &bulk("2")));
    for n in [1, 3, 4] {
        assert_eq!(error(&said[n]), denied("flushall"));
    }
    // In a transaction, one by one and all at once: it must not run.
    for at_once in [false, true] {
        let words = [vec!["MULTI"], vec!["SET", "a", "3"], vec!["FLUSHALL"], vec!["EXEC"], vec!["GET", "a"]];
        let said: Vec<Reply> = match at_once {
            true => client.pipeline(&words).expect("replies"),
            false => words.iter().map(|w| client.call(w).expect("a reply")).collect(),
        };
        assert_eq!(error(&said[2]), denied("flushall"), "{said:?}");
        assert_eq!(error(&said[3]), "EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(said[4], bulk("2"));
    }
    // On a connection of its own.
    let said =
        client.pipeline(&[vec!["WATCH", "a"], vec!["FLUSHALL"], vec!["GET", "a"], vec!["UNWATCH"]]).expect("replies");
    assert_eq!((&said[0], &said[2], &said[3]), (&ok(), &bulk("2"), &ok()));
    assert_eq!(error(&said[1]), denied("flushall"));
    settle(&mut stage, 0);
    assert_eq!((call(&mut client, "GET a"), Counts::read(&stage).on(0, "flushall")), (bulk("2"), 0));
}

#[test]
fn a_denied_command_too_large_to_be_held_is_refused_too() {
    let stage = plain_stage(0);
    let proxy = Proxy::start(&stage, &["--deny", "SET", "--rename", "APPEND=ADD", "--stream-above", "64kb"]);
    for (name, begin) in
        [("SET", "-NOPERM"), ("APPEND", "-ERR unknown command 'APPEND'"), ("ADD", "-ERR redweir: a renamed")]
    {
        let head = format!("*3\r\n${}\r\n{name}\r\n$1\r\nk\r\n$200000\r\nand so on", name.len());
        for before in ["", "*2\r\n$5\r\nWATCH\r\n$1\r\nw\r\n"] {
            let answer = raw::talk_unmarked(proxy.port, &[format!("{before}{head}").as_bytes()]);
            assert_eq!(answer.end, raw::End::Closed, "{answer:?}");
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            let rest = if before.is_empty() { &*text } else { text.strip_prefix("+OK\r\n").expect("WATCH") };
            assert!(rest.starts_with(begin), "{name}: {text}");
        }
    }
    assert_eq!(call(&mut proxy.client(), "EXISTS k"), Reply::Int(0));
}

#[test]
fn a_renamed_command_answers_to_its_new_name_alone() {
    let mut stage = plain_stage(1);
    let rename = "FLUSHALL=ADMIN_FLUSHALL,KEYS=,MULTI=BEGIN,CLIENT=ME,INFO=ABOUT,SELECT=USE";
    let proxy = Proxy::start(&stage, &["--rename", rename, "--deny", "SAVE"]);
    proxy.wait_readers(1);
    let mut client = proxy.client();
    // What a server says that has been told the same by rename-command.
    for (line, text) in [
        ("FLUSHALL", "ERR unknown command 'FLUSHALL', with args beginning with: "),
        ("flushall ASYNC now", "ERR unknown command 'flushall', with args beginning with: 'ASYNC' 'now' "),
        ("KEYS *", "ERR unknown command 'KEYS', with args beginning with: '*' "),
        ("NOSUCH a b", "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
    ] {
        assert_eq!(error_of(&mut client, line), text, "{line}");
    }
    call(&mut client, "SET a 1");
    assert_eq!(call(&mut client, "admin_flushall"), ok());
    assert_eq!(call(&mut client, "EXISTS a"), Reply::Int(0));
    client.send(b"SET a 1\r\nADMIN_FLUSHALL\r\nEXISTS a\r\n").expect("sent");
    assert_eq!([(); 3].map(|()| client.read().expect("a reply")), [ok(), ok(), Reply::Int(0)]);
    // In a transaction that is itself called otherwise.
    assert_eq!(call(&mut client, "BEGIN"), ok());
    assert_eq!(call(&mut client, "SET a 1"), Reply::Status("QUEUED".into()));
    assert_eq!(call(&mut client, "ADMIN_FLUSHALL"), Reply::Status("QUEUED".into()));
    assert_eq!(call(&mut client, "EXEC"), Reply::Array(vec![ok(), ok()]));
    assert_eq!(call(&mut client, "BEGIN"), ok());
    assert!(error_of(&mut client, "FLUSHALL").starts_with("ERR unknown command 'FLUSHALL'"));
    assert!(error_of(&mut client, "EXEC").starts_with("EXECABORT"));
    let at_once = client.pipeline(&[vec!["MULTI"], vec!["SET", "a", "9"], vec!["EXEC"]]).expect("replies");
    assert!(error(&at_once[0]).starts_with("ERR unknown command 'MULTI'"), "{at_once:?}");
    assert_eq!((&at_once[1], error(&at_once[2])), (&ok(), "ERR EXEC without MULTI".to_owned()));
    let at_once = client.pipeline(&[vec!["BEGIN"], vec!["SET", "a", "9"], vec!["EXEC"]]).expect("replies");
    assert_eq!(at_once[2], Reply::Array(vec![ok()]));
    // What redweir answers by itself.
    assert!(call(&mut client, "ME ID").int() > Some(0));
    assert!(error_of(&mut client, "CLIENT ID").starts_with("ERR unknown command 'CLIENT'"));
    assert!(call(&mut client, "ABOUT").text().contains("# Redweir"));
    assert_eq!(call(&mut client, "USE 2"), ok());
    assert_eq!(line_of(&mut client, "REDWEIR WHOAMI", "db"), "2");
    settle(&mut stage, 0);
}

#[test]
fn a_renamed_transaction_that_cannot_begin_ends_the_session() {
    let source = ["--node", "127.0.0.1:1", "--log", "off"].map(String::from);
    let proxy = Proxy::start_unready(&source, &["--rename", "MULTI=BEGIN", "--hold", "0s"]);
    let answer = raw::talk_unmarked(proxy.port, &[b"BEGIN\r\nSET a 1\r\nSET b 1\r\n"]);
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert!(text.starts_with("-MASTERDOWN") && text.lines().count() == 1, "{answer:?}");
    assert_eq!(answer.end, raw::End::Closed);
}

#[test]
fn unknown_names_get_the_text_of_the_server() {
    let stage = plain_stage(0);
    let hidden = ["GETX", "a'b", &"n".repeat(200)];
    let proxy = Proxy::start(&stage, &["--rename", &format!("GET={},GETX=", "GOT")]);
    let long = "v".repeat(100);
    let tails: [&[&str]; 4] = [&[], &["a", "b"], &[&long, &long, "c"], &["x\r\ny", "z\0w"]];
    for tail in tails {
        let words: Vec<&str> = std::iter::once(hidden[0]).chain(tail.iter().copied()).collect();
        let ours = proxy.client().call(&words).expect("a reply");
        let theirs = stage.nodes[0].connect().expect("a node").call(&words).expect("a reply");
        assert_eq!(ours, theirs, "{words:?}");
    }
}

#[test]
fn nodes_may_know_a_command_by_another_name() {
    let stage = stage_with(0, "rename-command CONFIG b840fc02");
    let proxy = Proxy::start(&stage, &["--upstream-names", "CONFIG=b840fc02"]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "CONFIG GET maxmemory"), Reply::Array(vec![bulk("maxmemory"), bulk("0")]));
    call(&mut client, "MULTI");
    call(&mut client, "CONFIG GET maxmemory");
    assert_eq!(call(&mut client, "EXEC").items().len(), 1);
    assert!(error_of(&mut client, "b840fc02 GET maxmemory").starts_with("ERR unknown command 'b840fc02'"));
    let why = line_of(&mut client, "REDWEIR ROUTE CONFIG GET a", "why");
    assert_eq!(why, "pins a connection: nodes know it by another name");
}

#[test]
fn what_is_refused_by_default_says_why_and_may_be_allowed() {
    let stage = stage_with(1, "enable-debug-command yes");
    let proxy = Proxy::start(&stage, &[]);
    let mut client = proxy.client();
    for (line, text) in [
        (
            "SHUTDOWN NOSAVE",
            "ERR redweir: 'SHUTDOWN' is refused: it would stop the master under every client; send it to the node itself",
        ),
        (
            "DEBUG SLEEP 0",
            "ERR redweir: 'DEBUG' is refused: it can stall or break the master under every client; send it to the node itself",
        ),
    ] {
        assert_eq!(error_of(&mut client, line), text);
    }
    for line in [
        "REPLICAOF NO ONE",
        "SLAVEOF NO ONE",
        "FAILOVER",
        "PSYNC ? -1",
        "SYNC",
        "REPLCONF GETACK *",
        "MONITOR",
        "SCRIPT DEBUG YES",
    ] {
        assert!(error_of(&mut client, line).contains("' is refused: "), "{line}");
    }
    // A node without cluster support says so itself.
    let direct = call(&mut stage.nodes[0].connect().expect("a node"), "CLUSTER RESET HARD");
    assert_eq!(call(&mut client, "CLUSTER RESET HARD"), direct);
    let proxy = Proxy::start(&stage, &["--allow", "DEBUG", "--deny", "@admin"]);
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "DEBUG SLEEP 0"), ok());
    assert_eq!(call(&mut client, "MULTI"), ok());
    assert_eq!(call(&mut client, "DEBUG SLEEP 0"), Reply::Status("QUEUED".into()));
    assert_eq!(call(&mut client, "EXEC"), Reply::Array(vec![ok()]));
    assert!(error_of(&mut client, "SHUTDOWN").starts_with("NOPERM"));
}

#[test]
fn check_warns_of_names_nobody_knows() {
    let stage = plain_stage(0);
    let mut args = vec!["check".to_owned(), "--deny".to_owned(), "FLUSHAL".to_owned()];
    args.extend(proxy::source(&stage));
    let (status, text) = proxy::run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(status.success(), "{text}");
    let warning = "warning: deny: `flushal` is no command that redweir knows, it holds for that very name";
    assert!(text.contains(warning), "{text}");
}
