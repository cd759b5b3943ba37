//! Several sets and several listeners in one process: each address serves its own servers in its own way.

use crate::support::{Counts, Plan, Proxy, call, connect, plain_stage, settle, stage};
use redweir::demo::node::free_port;

#[test]
fn each_listener_serves_its_own_set_with_its_own_policy() {
    let mut first = plain_stage(1);
    let second = stage(Plan { replicas: 0, sentinels: 1, quorum: 1, master_name: "other".into(), ..Plan::default() });
    let [port, strict, other, admin] = [(); 4].map(|()| free_port().expect("a port"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("redweir.toml");
    let text = format!(
        "admin = \"127.0.0.1:{admin}\"\nworkers = 1\nlog = \"warn\"\n\
         [[set]]\nname = \"first\"\nnode = {:?}\n\
         [[set]]\nname = \"second\"\nsentinel = {:?}\nmaster-name = \"other\"\n\
         [[listener]]\nlisten = \"127.0.0.1:{port}\"\nset = \"first\"\n\
         [[listener]]\nlisten = \"127.0.0.1:{strict}\"\nset = \"first\"\nread-policy = \"master\"\n\
         [[listener]]\nlisten = \"127.0.0.1:{other}\"\nset = \"second\"\n",
        first.node_addresses(),
        second.sentinel_addresses(),
    );
    std::fs::write(&path, text).expect("written");
    let proxy = Proxy::launch(port, admin, &["--config".to_owned(), path.to_string_lossy().into_owned()]);
    proxy.wait_ready();
    let [mut a, mut b, mut c] = [port, strict, other].map(|p| connect(&format!("127.0.0.1:{p}")));
    call(&mut a, "SET where first");
    call(&mut c, "SET where second");
    settle(&mut first, 0);
    assert_eq!(call(&mut connect(&first.nodes[0].address()), "GET where").text(), "first");
    assert_eq!(call(&mut connect(&second.nodes[0].address()), "GET where").text(), "second");
    proxy.wait_readers(1);
    Counts::reset(&first);
    // Who wrote asks the master first, so another one reads.
    let mut a = connect(&format!("127.0.0.1:{port}"));
    assert_eq!(
        [call(&mut a, "GET where"), call(&mut b, "GET where"), call(&mut b, "GET where")].map(|r| r.text()),
        ["first"; 3]
    );
    let counts = Counts::read(&first);
    assert_eq!((counts.on(0, "get"), counts.on(1, "get")), (2, 1));
}

#[test]
fn logins_nobody_uses_any_more_make_room_and_nobody_becomes_somebody_else() {
    let stage = plain_stage(1);
    let proxy = Proxy::start(&stage, &[]);
    proxy.wait_readers(1);
    let mut admin = proxy.client();
    let mut settled: Vec<_> = (0..20)
        .map(|n| {
            assert_eq!(call(&mut admin, &format!("ACL SETUSER user-{n} on >secret ~* +@all")).text(), "OK");
            let mut client = proxy.client();
            assert_eq!(call(&mut client, &format!("AUTH user-{n} secret")).text(), "OK");
            client
        })
        .collect();
    // A default user without a password takes any: each is a login of its own.
    let mut other = proxy.client();
    for n in 0..2500 {
        assert_eq!(call(&mut other, &format!("AUTH default {n}")).text(), "OK", "{n}");
        if n % 100 == 0 {
            call(&mut other, "SET k v");
            assert_eq!(call(&mut other, "GET k").text(), "v");
        }
    }
    for (n, client) in settled.iter_mut().enumerate() {
        for _ in 0..2 {
            assert_eq!(call(client, "ACL WHOAMI").text(), format!("user-{n}"));
            call(client, "WATCH k");
            assert_eq!(call(client, "ACL WHOAMI").text(), format!("user-{n}"));
            call(client, "UNWATCH");
        }
    }
    assert_eq!(call(&mut other, "ACL WHOAMI").text(), "default");
}
