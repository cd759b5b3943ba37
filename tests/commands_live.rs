//! The command table against a real server's own `COMMAND`: same names, same write and readonly flags.
//!
//! Starts a redis-server on loopback and stops it. Needs redis-server in `PATH`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redweir::command::{Command, Flags, Rules, Ruling, lookup};
use redweir::config::CommandSettings;

struct Server {
    process: Child,
    port: u16,
    /// Two at a time might be given the same port.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Server {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir();
        let process = Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed (Debian: apt-get install redis-server)");
        Server { process, port, _turn }
    }

    fn connect(&mut self) -> TcpStream {
        for _ in 0..500 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                return stream;
            }
            assert!(self.process.try_wait().unwrap().is_none(), "redis-server ended by itself");
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server does not listen");
    }
}

/// As much of RESP2 as `COMMAND` answers.
enum Value {
    Text(String),
    Number(i64),
    List(Vec<Value>),
}

impl Value {
    fn read(from: &mut impl BufRead) -> Value {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let rest = line[1..].trim_end();
        match &line[..1] {
            "+" => Value::Text(rest.to_owned()),
            ":" => Value::Number(rest.parse().unwrap()),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                from.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Value::Text(String::from_utf8(bytes).unwrap())
            }
            "*" => Value::List((0..rest.parse().unwrap()).map(|_| Value::read(from)).collect()),
            _ => panic!("unexpected reply {line:?}"),
        }
    }
    fn text(&self) -> &str {
        let Value::Text(text) = self else { panic!("not a text") };
        text
    }
    fn number(&self) -> i64 {
        let Value::Number(number) = self else { panic!("not a number") };
        *number
    }
    fn list(&self) -> &[Value] {
        let Value::List(list) = self else { panic!("not a list") };
        list
    }
}

fn compare(entry: &Value, command: &Command) {
    let entry = entry.list();
    let name = entry[0].text();
    let flags: Vec<&str> = entry[2].list().iter().map(Value::text).collect();
    assert_eq!(command.name, name);
    assert_eq!(command.flags.has(Flags::WRITE), flags.contains(&"write"), "write flag of {name}");
    assert_eq!(command.flags.has(Flags::READONLY), flags.contains(&"readonly"), "readonly flag of {name}");
    // Later versions only ever took more arguments (ZRANK ... WITHSCORE).
    let (table, live) = (i64::from(command.arity), entry[1].number());
    assert!(table == live || (table < 0 && -table <= live.abs()), "arity of {name}: {table}, live {live}");
    let subcommands = entry[9].list();
    for sub in subcommands {
        let full = sub.list()[0].text();
        let (_, own) = full.split_once('|').unwrap();
        compare(sub, command.child(own.as_bytes()).unwrap_or_else(|| panic!("{full} is not in the table")));
    }
    assert!(subcommands.is_empty() || !command.children.is_empty(), "{name} is a container");
}

#[test]
fn every_command_of_the_live_server_is_in_the_table() {
    let mut server = Server::start();
    let mut stream = server.connect();
    stream.write_all(b"*1\r\n$7\r\nCOMMAND\r\n").unwrap();
    let reply = Value::read(&mut BufReader::new(stream));
    assert!(reply.list().len() > 200, "COMMAND lists {} names", reply.list().len());
    for entry in reply.list() {
        let name = entry.list()[0].text();
        compare(entry, lookup(name.as_bytes()).unwrap_or_else(|| panic!("{name} is not in the table")));
    }
}

/// Sends a request of one line and reads its reply.
fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> Value {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    Value::read(stream)
}

#[test]
fn categories_of_the_deny_list_are_those_of_the_live_servers_acls() {
    let mut server = Server::start();
    let mut stream = BufReader::new(server.connect());
    let mut names = Vec::new();
    for entry in ask(&mut stream, "COMMAND").list() {
        let subcommands = entry.list()[9].list();
        names.extend(subcommands.iter().map(|sub| sub.list()[0].text().to_owned()));
        if subcommands.is_empty() {
            names.push(entry.list()[0].text().to_owned());
        }
    }
    let mut odd = Vec::new();
    for category in redweir::config::CATEGORIES {
        let deny = vec![category.to_owned()];
        let rules = Rules::new(&CommandSettings { deny, ..CommandSettings::default() });
        let theirs = ask(&mut stream, &format!("ACL CAT {}", &category[1..]));
        let theirs: Vec<&str> = theirs.list().iter().map(Value::text).collect();
        assert!(!theirs.is_empty(), "{category}");
        let differs = |name: &&String| {
            let words: Vec<&str> = name.split('|').collect();
            let bulks: String = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
            let request = format!("*{}\r\n{bulks}", words.len());
            (rules.judge(request.as_bytes()) == Ruling::Denied) != theirs.contains(&name.as_str())
        };
        // Later versions say so of these.
        let later = |name: &&String| category == "@blocking" && name.as_str() == "wait";
        odd.extend(names.iter().filter(differs).filter(|n| !later(n)).map(|name| format!("{category} {name}")));
    }
    assert!(odd.is_empty(), "{odd:?}");
}
