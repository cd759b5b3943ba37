//! Runs sections on both sides and notes where they part.
//!
//! Invariant: after a difference in what a client heard, the rest of its section proves nothing and is left out; a difference
//! in content alone lets the section go on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::known::Difference;
use crate::normal::{Rule, goodbyes, rule, same};
use crate::pair::{Links, Pair, Said};
use crate::script::{Deed, Step};
use crate::wire::Frame;

pub const RESP2: u8 = 2;
pub const RESP3: u8 = 3;

/// Runs one section with new clients of one protocol version.
#[track_caller]
pub fn section(pair: &mut Pair, steps: &[Step], resp: u8) -> Vec<Difference> {
    pair.clear();
    let mut links = Links::new();
    let mut differences = Vec::new();
    for step in steps {
        connect(pair, &mut links, step.who, resp);
        if step.unless_blocked && pair.is_blocked(&links[&step.who]) {
            continue;
        }
        let heard = act(pair, &mut links, step);
        let (mut found, aligned) = differ(step, &heard, resp);
        found.iter_mut().for_each(|d| d.place += &format!(" {}", pair.version));
        differences.extend(found);
        if !aligned {
            break;
        }
    }
    links.keys().copied().collect::<Vec<_>>().into_iter().for_each(|who| pair.leave(&mut links, who));
    differences
}

fn connect(pair: &mut Pair, links: &mut Links, who: char, resp: u8) {
    if links.get(&who).is_some_and(|l| !l.direct.closed && !l.through.closed) {
        return;
    }
    links.insert(who, pair.link());
    if resp == RESP3 {
        let heard = pair.step(links, who, b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
        let said = &heard[&who];
        assert!(said.direct.len() == 1 && said.through.len() == 1, "HELLO 3: {said:?}");
    }
}

fn act(pair: &mut Pair, links: &mut Links, step: &Step) -> BTreeMap<char, Said> {
    match &step.deed {
        Deed::Send(_) | Deed::Raw(_) | Deed::Cut(..) => {
            let mut heard: BTreeMap<char, Said> = BTreeMap::new();
            for bytes in step.writes() {
                for (who, said) in pair.step(links, step.who, &bytes) {
                    heard.entry(who).or_default().and_then(said);
                }
            }
            heard
        }
        Deed::Wait => pair.await_direct(links, step.who),
        Deed::Pause(millis) => {
            std::thread::sleep(Duration::from_millis(*millis));
            pair.collect(links, step.who)
        }
        Deed::Leave => {
            pair.leave(links, step.who);
            BTreeMap::new()
        }
    }
}

/// The differences of one step, and whether both sides still say the same number of things.
fn differ(step: &Step, heard: &BTreeMap<char, Said>, resp: u8) -> (Vec<Difference>, bool) {
    let line = step.line();
    let mut aligned = true;
    let mut differences = Vec::new();
    for (who, said) in heard {
        let rules = rules(step, *who);
        let counts = said.direct.len() == said.through.len() && said.closed.0 == said.closed.1;
        aligned &= counts;
        let differ = |(i, (d, t)): (usize, (&Frame, &Frame))| !same(rules(i, said.direct.len()), d, t);
        let (direct, through) = (goodbyes(&said.direct), goodbyes(&said.through));
        if counts && !direct.iter().zip(&through).enumerate().any(differ) {
            continue;
        }
        differences.push(Difference {
            place: format!("{} {who} RESP{resp}", step.place),
            command: line.clone(),
            text: format!(
                "  direct:  {}\n  through: {}",
                show(&said.direct, said.closed.0),
                show(&said.through, said.closed.1)
            ),
        });
    }
    (differences, aligned)
}

/// The rule for the reply at a place: that of its command where there are as many replies as commands.
fn rules(step: &Step, who: char) -> impl Fn(usize, usize) -> Rule {
    let commands: Vec<String> = match &step.deed {
        Deed::Send(commands) | Deed::Cut(commands, _) if who == step.who => {
            let text = |c: &Vec<Vec<u8>>| c.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect::<Vec<_>>();
            commands.iter().map(|c| text(c).join(" ")).collect()
        }
        _ => Vec::new(),
    };
    move |at, replies| match commands.len() {
        0 => Rule::Exact,
        1 => rule(&commands[0]),
        n if n == replies => rule(&commands[at]),
        _ => Rule::Exact,
    }
}

pub fn show(frames: &[Frame], closed: bool) -> String {
    let mut parts: Vec<String> = frames.iter().map(Frame::to_string).collect();
    if closed {
        parts.push("(closed)".into());
    }
    if parts.is_empty() { "(nothing)".into() } else { parts.join("  ") }
}
