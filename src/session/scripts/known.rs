//! One worker's memory of the scripts it sees go by, so that the store is not asked each time. No I/O.
//!
//! Two small tables, looked at only for EVAL and EVALSHA: a body seen before is known by comparison and costs no SHA-1, a
//! SHA-1 asked for before costs no lock. Invariant: what it says is what the store would say, or did a moment ago.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::store::{Script, Sha, Store};
use crate::topology::NodeId;

/// Slots of each table.
const SLOTS: usize = 256;

pub struct Known {
    store: Arc<Store>,
    /// The master, in this life, that this worker brought the scripts to.
    pub briefed: Cell<(NodeId, u64)>,
    bodies: RefCell<Vec<Option<Arc<Script>>>>,
    asked: RefCell<Vec<Option<Asked>>>,
}

/// What the store said of a SHA-1.
struct Asked {
    sha: Sha,
    script: Option<Arc<Script>>,
    version: u64,
}

impl Known {
    pub fn new(store: Arc<Store>) -> Self {
        let asked = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self { store, briefed: Cell::default(), bodies: RefCell::new(vec![None; SLOTS]), asked: RefCell::new(asked) }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// An EVAL's body went by.
    pub fn see(&self, body: &[u8]) {
        let slot = &mut self.bodies.borrow_mut()[place(body)];
        match slot {
            Some(script) if *script.body == *body => {
                script.note_use(false);
                if !script.is_kept() {
                    self.store.keep(script);
                }
            }
            _ => *slot = self.store.put(body, false),
        }
    }

    /// The script that an EVALSHA names, in hex.
    pub fn find(&self, name: &[u8]) -> Option<Arc<Script>> {
        self.with(name, |script| script.cloned())
    }

    /// Whether it is known, and known not to write.
    pub fn cannot_write(&self, name: &[u8]) -> bool {
        self.with(name, |script| script.is_some_and(|s| s.cannot_write))
    }

    fn with<T>(&self, name: &[u8], tell: impl FnOnce(Option<&Arc<Script>>) -> T) -> T {
        let Some(sha) = from_hex(name) else { return tell(None) };
        let slot = &mut self.asked.borrow_mut()[usize::from(sha[0]) % SLOTS];
        let fresh = slot.as_ref().is_some_and(|asked| {
            asked.sha == sha
                && match &asked.script {
                    Some(script) => script.is_kept(),
                    None => asked.version == self.store.version(),
                }
        });
        if !fresh {
            let version = self.store.version();
            *slot = Some(Asked { sha, script: self.store.get(&sha), version });
        }
        let script = slot.as_ref().and_then(|asked| asked.script.as_ref());
        if let Some(script) = script {
            script.note_use(true);
        }
        tell(script)
    }
}

/// A slot by the length and a few words of the body; the comparison that follows is what counts.
fn place(body: &[u8]) -> usize {
    let mut hash = body.len() as u64;
    let step = (body.len() / 8).max(8);
    for at in (0..body.len()).step_by(step).chain([body.len().saturating_sub(8)]) {
        if let Some(word) = body[at..].first_chunk::<8>() {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }
    (hash >> 17) as usize % SLOTS
}

/// 40 hexadecimal digits in any case (script.c takes both).
pub fn from_hex(name: &[u8]) -> Option<Sha> {
    let mut sha = [0; 20];
    if name.len() != 40 {
        return None;
    }
    for (byte, pair) in sha.iter_mut().zip(name.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(sha: &Sha) -> String {
        sha.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn what_was_evaluated_is_found_by_name_in_any_case_by_every_worker() {
        let store = Arc::new(Store::new(10, 1000));
        let (one, other) = (Known::new(Arc::clone(&store)), Known::new(store));
        let name = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert!(other.find(name.as_bytes()).is_none());
        one.see(b"return 1");
        assert_eq!(&*other.find(name.to_uppercase().as_bytes()).unwrap().body, b"return 1");
        for odd in ["", "x", &name[1..], &name.replace('e', "g")] {
            assert!(one.find(odd.as_bytes()).is_none(), "{odd}");
        }
    }

    #[test]
    fn what_left_the_store_is_unknown_until_it_is_seen_again() {
        let known = Known::new(Arc::new(Store::new(10, 1000)));
        known.see(b"return 1");
        let name = hex(&known.store.put(b"return 1", false).unwrap().sha);
        assert!(known.find(name.as_bytes()).is_some());
        known.store.clear();
        assert!(known.find(name.as_bytes()).is_none());
        known.see(b"return 1");
        assert!(known.find(name.as_bytes()).is_some());
    }

    #[test]
    fn bodies_that_share_a_slot_are_told_apart() {
        let known = Known::new(Arc::new(Store::new(10_000, 1 << 20)));
        let bodies: Vec<String> = (0..2 * SLOTS).map(|n| format!("return '{n:0100}'")).collect();
        for body in &bodies {
            known.see(body.as_bytes());
        }
        for body in &bodies {
            let name = hex(&known.store.put(body.as_bytes(), false).unwrap().sha);
            assert_eq!(*known.find(name.as_bytes()).unwrap().body, *body.as_bytes());
        }
    }

    #[test]
    fn only_a_known_script_can_be_known_not_to_write() {
        let known = Known::new(Arc::new(Store::new(10, 1000)));
        let body: &[u8] = b"#!lua flags=no-writes\nreturn 1";
        let name = hex(&Store::new(1, 1000).put(body, false).unwrap().sha);
        assert!(!known.cannot_write(name.as_bytes()));
        known.see(body);
        assert!(known.cannot_write(name.as_bytes()));
    }
}
