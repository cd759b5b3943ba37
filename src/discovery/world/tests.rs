//! What observations and switches leave behind in the world.

use super::super::roster::FORGET_AFTER;
use super::*;
use crate::config::{Failover, NodeSettings, Share, Source};
use crate::metrics::MAX_NODES;
use crate::upstream::control::Error;

const MS: Duration = Duration::from_millis(1);

fn set(nodes: &[&str]) -> Arc<SetConfig> {
    Arc::new(SetConfig {
        name: "m".into(),
        source: Source::Nodes(nodes.iter().map(|n| (*n).to_owned()).collect()),
        node_login: None,
        address_map: vec![("10.0.0.9:1".into(), "localhost:9001".into())],
        poll: 100 * MS,
        poll_fast: 5 * MS,
        down_after: 1000 * MS,
        connect_timeout: 1000 * MS,
        max_lag: None,
        max_lag_bytes: None,
        max_lag_return: Share(8000),
        nodes: vec![NodeSettings { address: "b:1".into(), weight: 3, zone: Some("z".into()) }],
        failover: Failover::default(),
    })
}

fn info(run_id: &str, id: &str, previous: &str, branch: i64) -> Info {
    Info {
        run_id: run_id.into(),
        lineage: Lineage { id: id.into(), previous: previous.into(), branch },
        ..Info::default()
    }
}

fn master(offset: i64, replicas: &[&str]) -> Role {
    Role::Master { offset, replicas: replicas.iter().map(|r| (*r).to_owned()).collect() }
}

fn replica(of: &str, link: Link, offset: i64) -> Role {
    Role::Replica { of: of.into(), link, offset }
}

fn world(nodes: &[&str], now: Instant) -> World {
    let mut world = World::new(set(nodes));
    world.list_configured(now);
    world
}

fn tell(world: &mut World, node: NodeId, role: Role, info: Info, now: Instant) -> Outcome {
    let probe = world.member(node).map_or(0, |m| m.probe);
    let seen = Seen::Role { role, info: Some(Box::new(info)) };
    world.observe(Observation { node, probe, asked: now, seen }, now)
}

fn lose(world: &mut World, node: NodeId, e: Error, now: Instant) -> Outcome {
    let probe = world.member(node).map_or(0, |m| m.probe);
    world.observe(Observation { node, probe, asked: now, seen: Seen::Lost(e) }, now)
}

fn generation(world: &World, node: NodeId) -> u64 {
    world.member(node).unwrap().generation
}

/// a:1 reigns over b:1.
fn pair(now: Instant) -> World {
    let mut world = world(&["a:1", "b:1"], now);
    tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now);
    tell(&mut world, 1, replica("a:1", Link::Connected, 100), info("rb", "line", "", -1), now);
    world.enthrone(0, (0, false), None, now).unwrap();
    world
}

#[test]
fn slots_are_stable_and_reused_only_after_they_were_left() {
    let now = Instant::now();
    let mut world = world(&["a:1", "b:1"], now);
    assert_eq!(world.list("c:1", false, now), Some(2));
    assert_eq!(world.list("c:1", false, now), None, "known");
    assert_eq!(world.list("10.0.0.9:1", false, now), Some(3));
    assert_eq!(&*world.member(3).unwrap().dial, "localhost:9001");
    assert_eq!(world.resolve("localhost:9001"), Some(3));
    assert_eq!((world.member(1).unwrap().weight, world.member(0).unwrap().weight), (3, 1));
    let first = generation(&world, 2);
    let later = now + FORGET_AFTER;
    world.list("10.0.0.9:1", false, later);
    assert_eq!(world.age(later), [2], "configured and listed ones stay");
    assert_eq!(world.list("d:1", false, later), Some(2));
    assert!(generation(&world, 2) > first, "a connection to the earlier owner is never taken for one to this");
    let stale = Observation { node: 2, probe: 3, asked: now, seen: Seen::Lost(Error::Refused) };
    world.observe(stale, later);
    assert_eq!(world.member(2).unwrap().health, Health::Unknown, "what the earlier owner said late");
}

#[test]
fn who_is_listed_no_more_leaves_unless_it_still_follows() {
    let now = Instant::now();
    let mut world = world(&["a:1"], now);
    tell(&mut world, 0, master(100, &[]), info("ra", "line", "", -1), now);
    world.enthrone(0, (0, false), None, now).unwrap();
    for address in ["b:1", "c:1", "d:1"] {
        world.list(address, false, now);
    }
    let later = now + FORGET_AFTER;
    tell(&mut world, 0, master(100, &[]), info("ra", "line", "", -1), later);
    tell(&mut world, 1, replica("a:1", Link::Connected, 100), info("rb", "line", "", -1), later);
    tell(&mut world, 2, replica("x:1", Link::Connected, 100), info("rc", "other", "", -1), later);
    lose(&mut world, 3, Error::Refused, later);
    assert!(world.age(later - MS).is_empty(), "not yet");
    assert_eq!(world.age(later), [2, 3]);
    lose(&mut world, 1, Error::Refused, later);
    assert_eq!(world.age(later), [1]);
    assert_eq!(world.members.len(), 1, "the master stays");
}

#[test]
fn there_are_never_more_members_than_slots() {
    let now = Instant::now();
    let mut world = world(&["a:1"], now);
    for i in 0..2 * MAX_NODES {
        world.list(&format!("n{i}:1"), false, now);
    }
    assert_eq!(world.members.len(), MAX_NODES);
    assert!(world.members.iter().all(|m| usize::from(m.id) < MAX_NODES));
}

#[test]
fn the_reigning_masters_list_names_replicas_and_another_masters_does_not() {
    let now = Instant::now();
    let mut world = pair(now);
    let named = tell(&mut world, 0, master(110, &["b:1", "c:1"]), info("ra", "line", "", -1), now).named;
    assert_eq!(named, ["c:1"]);
    let named = tell(&mut world, 1, master(110, &["x:1"]), info("rb", "other", "line", 101), now).named;
    assert!(named.is_empty());
    let dead = replica("dead:1", Link::Down, -1);
    assert!(tell(&mut world, 1, dead, info("rb", "line", "", -1), now).named.is_empty(), "nobody answers there");
    let alive = replica("new:1", Link::Connected, 100);
    assert_eq!(tell(&mut world, 1, alive, info("rb", "line", "", -1), now).named, ["new:1"]);
}

#[test]
fn two_names_of_one_process_are_one_member() {
    let now = Instant::now();
    let mut world = pair(now);
    world.list("127.0.0.1:1", false, now);
    let outcome = tell(&mut world, 2, master(100, &[]), info("ra", "line", "", -1), now);
    assert_eq!(outcome.doubles, [2], "the one that reigns stays");
    assert_eq!((world.members.len(), world.resolve("127.0.0.1:1")), (2, Some(0)));
    assert_eq!(world.list("127.0.0.1:1", false, now), None);
    lose(&mut world, 0, Error::Closed, now);
    world.age(now);
    assert_eq!(world.list("127.0.0.1:1", false, now), None, "a lost connection is no lost name");
    lose(&mut world, 0, Error::Refused, now);
    world.age(now);
    assert_eq!(world.list("127.0.0.1:1", false, now), Some(2), "when the first name fails the second is tried");
}

#[test]
fn a_bystander_is_one_until_it_follows_or_reigns() {
    let now = Instant::now();
    let mut world = pair(now);
    let promoted = || info("rb", "next", "line", 100);
    let marked = |w: &World| w.members.iter().filter(|m| m.bystander).map(|m| m.id).collect::<Vec<_>>();
    world.note_bystanders();
    assert!(marked(&world).is_empty(), "the master and its replica are none");
    tell(&mut world, 1, master(100, &[]), promoted(), now);
    assert!(marked(&world).is_empty(), "not by the claim alone");
    world.note_bystanders();
    assert_eq!(marked(&world), [1]);
    lose(&mut world, 1, Error::Refused, now);
    tell(&mut world, 1, master(100, &[]), promoted(), now);
    assert_eq!(marked(&world), [1], "it was away, and claims the same");
    tell(&mut world, 1, replica("a:1", Link::Down, -1), info("rb", "next", "line", 100), now);
    assert!(marked(&world).is_empty());
    tell(&mut world, 1, master(100, &[]), promoted(), now);
    world.note_bystanders();
    world.enthrone(1, (0, false), None, now).unwrap();
    assert!(marked(&world).is_empty());
}

#[test]
fn a_master_is_silent_after_down_after() {
    let now = Instant::now();
    let mut world = pair(now);
    lose(&mut world, 0, Error::Refused, now + 900 * MS);
    assert!(!world.master_silent(now + 999 * MS), "a refused connection is no silence yet");
    assert!(world.master_silent(now + 1000 * MS));
}

#[test]
fn the_masters_replicas_as_a_promotion_sees_them() {
    let now = Instant::now();
    let mut world = pair(now);
    for address in ["chained:1", "another:1", "silent:1"] {
        world.list(address, false, now);
    }
    let lost = Info { applied: Some(120), priority: Some(7), ..info("rb", "line", "", -1) };
    tell(&mut world, 1, replica("a:1", Link::Down, -1), lost, now);
    tell(&mut world, 2, replica("b:1", Link::Connected, 90), info("rc", "line", "", -1), now);
    tell(&mut world, 3, master(500, &[]), info("rd", "other", "", -1), now);
    let replicas = world.replicas_of_master();
    let ids: Vec<NodeId> = replicas.iter().map(|r| r.id).collect();
    assert_eq!(ids, [1, 4], "not the master, nor who follows another, nor another master; who was never heard is");
    let seen = promotion::Replica {
        id: 1,
        answers: true,
        link: Link::Down,
        in_line: true,
        priority: 7,
        offset: 120,
        run_id: "rb".into(),
    };
    assert_eq!(replicas[0], seen);
    assert_eq!((replicas[1].answers, replicas[1].in_line), (false, false));
}

#[test]
fn a_master_is_emptied_when_another_life_of_it_lacks_the_keys() {
    let now = Instant::now();
    let with = |run_id: &str, id: &str, previous: &str, keys| Info { keys, ..info(run_id, id, previous, 100) };
    for (what, next, keys, expected) in [
        ("nothing left", with("again", "z", "", 0), 5, true),
        ("had nothing", with("again", "z", "", 0), 0, false),
        ("restored from a file without its line", with("again", "z", "", 4), 5, false),
        ("its line goes on: it is what it was", with("again", "z", "line", 0), 5, false),
        ("the same process, flushed", with("ra", "z", "", 0), 5, false),
    ] {
        let mut world = pair(now);
        tell(&mut world, 0, master(100, &["b:1"]), with("ra", "line", "", keys), now);
        tell(&mut world, 0, master(0, &[]), next, now);
        let told = world.enthrone(0, (0, false), None, now).unwrap().emptied;
        assert_eq!((world.emptied, told), (expected, expected.then_some(keys)), "{what}");
        let life = world.reign.clone().unwrap().run_id;
        tell(&mut world, 0, master(0, &["b:1"]), with(&life, "y", "", 0), now);
        assert_eq!(world.enthrone(0, (0, false), None, now).unwrap().emptied, None, "{what}");
        assert_eq!(world.emptied, expected, "{what}, and its first replica came");
        // Another one is another matter.
        tell(&mut world, 1, master(0, &[]), with("rb", "n", "", 0), now);
        assert_eq!(world.enthrone(1, (0, false), None, now).unwrap().emptied, None, "{what}");
    }
}

#[test]
fn generations_grow_with_restarts_and_roles_only() {
    let now = Instant::now();
    let mut world = pair(now);
    let (a, b) = (generation(&world, 0), generation(&world, 1));
    // Its first replica: another line, the same process and the same connections.
    tell(&mut world, 0, master(0, &["b:1"]), info("ra", "line2", "", -1), now);
    world.enthrone(0, (0, false), None, now).unwrap();
    assert_eq!((generation(&world, 0), world.term), (a, 2));
    tell(&mut world, 1, replica("a:1", Link::Connected, 10), info("restarted", "line2", "", -1), now);
    assert!(generation(&world, 1) > b);
    let (a, b) = (generation(&world, 0), generation(&world, 1));
    tell(&mut world, 1, master(10, &[]), info("restarted", "line3", "line2", 11), now);
    world.enthrone(1, (0, false), None, now).unwrap();
    assert!(generation(&world, 0) > a && generation(&world, 1) > b);
}

#[test]
fn a_superseded_master_is_fenced_until_it_follows_the_new_line() {
    let now = Instant::now();
    let mut world = pair(now);
    tell(&mut world, 0, master(150, &["b:1"]), info("ra", "line", "", -1), now);
    tell(&mut world, 1, master(120, &[]), info("rb", "next", "line", 121), now);
    let succession = world.enthrone(1, (0, false), None, now).unwrap();
    assert_eq!(succession.relation, Some(Relation::Descends { common: 120 }));
    assert_eq!(succession.lost, Lost::AtLeast(30));
    let fenced = |world: &World| world.sights(now).iter().any(|s| s.id == 0 && s.superseded);
    for (what, role, info, still) in [
        ("still a master", master(200, &[]), info("ra", "line", "", -1), true),
        ("restarted, still a master", master(0, &[]), info("rx", "other", "", -1), true),
        ("told to follow", replica("b:1", Link::Down, -1), info("rx", "other", "", -1), true),
        ("linked, its old line", replica("b:1", Link::Connected, 0), info("rx", "line", "", -1), true),
        ("linked, in line", replica("b:1", Link::Connected, 130), info("rx", "next", "line", 121), false),
    ] {
        tell(&mut world, 0, role, info, now);
        assert_eq!(fenced(&world), still, "{what}");
    }
    // Another address with the old replication id is as stale.
    world.list("c:1", false, now);
    tell(&mut world, 2, master(200, &[]), info("rc", "line", "", -1), now);
    assert!(world.sights(now).iter().any(|s| s.id == 2 && s.superseded));
}

#[test]
fn health() {
    let now = Instant::now();
    let mut world = pair(now);
    let health = |world: &World| world.member(0).unwrap().health.clone();
    assert!(lose(&mut world, 0, Error::Closed, now + MS).alarming);
    assert_eq!(health(&world), Health::Suspect(now + MS), "one lost connection is not a lost node");
    assert!(!lose(&mut world, 0, Error::Closed, now + 2 * MS).alarming, "alarmed already");
    assert_eq!(health(&world), Health::Suspect(now + MS));
    world.age(now + 1001 * MS);
    assert_eq!(health(&world), Health::Down(Error::Timeout));
    tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 1100 * MS);
    lose(&mut world, 0, Error::Timeout, now + 2200 * MS);
    assert_eq!(health(&world), Health::Down(Error::Timeout), "silent for down_after");
    tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 2210 * MS);
    lose(&mut world, 0, Error::Timeout, now + 3200 * MS);
    assert_eq!(health(&world), Health::Down(Error::Timeout), "its probe waited as long");
    tell(&mut world, 0, master(100, &["b:1"]), info("ra", "line", "", -1), now + 2300 * MS);
    lose(&mut world, 0, Error::Refused, now + 2301 * MS);
    assert_eq!(health(&world), Health::Down(Error::Refused), "nothing listens there");
    lose(&mut world, 0, Error::Auth("WRONGPASS".into()), now + 2400 * MS);
    assert!(matches!(health(&world), Health::Rejected(_)));
}

#[test]
fn readers_keep_their_place_when_the_master_dies_and_lose_it_with_the_line() {
    let now = Instant::now();
    let mut world = pair(now);
    let place = |world: &World| world.member(1).unwrap().rotation.place;
    world.rotate(false, now);
    assert_eq!(place(&world), Place::Reader);
    lose(&mut world, 0, Error::Refused, now);
    tell(&mut world, 1, replica("a:1", Link::Down, -1), info("rb", "line", "", -1), now);
    world.rotate(true, now + 5000 * MS);
    assert_eq!(place(&world), Place::Reader);
    assert_eq!(world.member(1).unwrap().live.offset(), 100, "the last offset it told");
    world.list("c:1", false, now);
    tell(&mut world, 2, master(100, &[]), info("rc", "next", "line", 101), now);
    world.enthrone(2, (0, false), None, now).unwrap();
    world.rotate(false, now);
    assert_eq!(place(&world), Place::Out);
}

#[test]
fn a_reader_that_hangs_is_another_generation() {
    let now = Instant::now();
    let mut world = pair(now);
    world.rotate(false, now);
    let before = generation(&world, 1);
    let later = now + 1500 * MS;
    lose(&mut world, 1, Error::Timeout, later);
    world.rotate(false, later);
    let after = generation(&world, 1);
    assert!(after > before);
    world.rotate(false, later);
    assert_eq!(generation(&world, 1), after, "once");
}
