//! Bodies of scripts by their SHA-1, for all workers that serve one set. No I/O.
//!
//! Nodes keep scripts for themselves and do not replicate them; here they outlive a node. Bounded by count and by bytes:
//! what was only seen in an EVAL leaves before what a client has loaded, what is not used before what is. Must not be
//! asked on the path of every request: workers have a memory of their own ([`super::known`]).
//! Invariant: a script marked as kept is in the store, and one that leaves is unmarked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command;

pub type Sha = [u8; 20];

/// What a server says of a script it does not have; a body with this word may say so by itself.
const CODE: &[u8] = b"NOSCRIPT";

pub struct Script {
    pub sha: Sha,
    pub body: Box<[u8]>,
    /// Declares in its first line that it does not write.
    pub cannot_write: bool,
    /// Might end in a server's own -NOSCRIPT, having been executed.
    pub may_pretend: bool,
    kept: AtomicBool,
    /// Since the store last looked for what to drop.
    used: AtomicBool,
    /// By SCRIPT LOAD: its client counts on it.
    loaded: AtomicBool,
    /// Called by its SHA-1: worth bringing along when a node is found to lack another.
    called: AtomicBool,
}

impl Script {
    fn new(body: &[u8]) -> Self {
        Self {
            sha: sha1_smol::Sha1::from(body).digest().bytes(),
            body: body.into(),
            cannot_write: command::cannot_write(body),
            may_pretend: body.windows(CODE.len()).any(|w| w == CODE),
            kept: AtomicBool::new(false),
            used: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            called: AtomicBool::new(false),
        }
    }

    pub fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    /// Notes a use. Writes only what changes: the script is shared by all cores.
    pub fn note_use(&self, by_sha: bool) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        if by_sha && !self.called.load(Relaxed) {
            self.called.store(true, Relaxed);
        }
    }
}

pub struct Store {
    most: usize,
    most_bytes: usize,
    shelf: Mutex<Shelf>,
    /// Grows when a script comes: what was unknown before may be known now.
    version: AtomicU64,
}

#[derive(Default)]
struct Shelf {
    scripts: HashMap<Sha, Arc<Script>>,
    /// Oldest first.
    seen: VecDeque<Arc<Script>>,
    loaded: VecDeque<Arc<Script>>,
    bytes: usize,
}

impl Store {
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, shelf: Mutex::default(), version: AtomicU64::new(0) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    pub fn get(&self, sha: &Sha) -> Option<Arc<Script>> {
        self.shelf().scripts.get(sha).cloned()
    }

    /// Keeps a body; `loaded` by SCRIPT LOAD. `None`: it is larger than all of the store.
    pub fn put(&self, body: &[u8], loaded: bool) -> Option<Arc<Script>> {
        if body.len() > self.most_bytes {
            return None;
        }
        let new = Arc::new(Script::new(body));
        let script = self.shelf().scripts.get(&new.sha).cloned().unwrap_or(new);
        if loaded {
            script.loaded.store(true, Relaxed);
        }
        self.keep(&script);
        Some(script)
    }

    /// Keeps a script that left (or never was there).
    pub fn keep(&self, script: &Arc<Script>) {
        let mut shelf = self.shelf();
        if shelf.scripts.contains_key(&script.sha) {
            return;
        }
        // Room first: the newest is not among those to leave.
        shelf.shrink(self.most.saturating_sub(1), self.most_bytes.saturating_sub(script.body.len()));
        shelf.add(script);
        self.version.fetch_add(1, Relaxed);
    }

    /// SCRIPT FLUSH.
    pub fn clear(&self) {
        let mut shelf = self.shelf();
        for script in std::mem::take(&mut *shelf).scripts.into_values() {
            script.kept.store(false, Relaxed);
        }
    }

    /// Scripts that are called by their SHA-1, up to `bytes` of bodies.
    pub fn called(&self, bytes: usize) -> Vec<Arc<Script>> {
        let mut left = bytes;
        let shelf = self.shelf();
        let fits = |script: &&Arc<Script>| {
            let fits = script.called.load(Relaxed) && script.body.len() <= left;
            if fits {
                left -= script.body.len();
            }
            fits
        };
        shelf.scripts.values().filter(fits).cloned().collect()
    }
}

impl Shelf {
    fn add(&mut self, script: &Arc<Script>) {
        script.kept.store(true, Relaxed);
        self.bytes += script.body.len();
        self.scripts.insert(script.sha, Arc::clone(script));
        let queue = if script.loaded.load(Relaxed) { &mut self.loaded } else { &mut self.seen };
        queue.push_back(Arc::clone(script));
    }

    /// Drops the oldest that was not used since it was last looked at. Each is passed over at most once.
    fn shrink(&mut self, most: usize, most_bytes: usize) {
        let mut chances = self.seen.len() + self.loaded.len();
        while self.scripts.len() > most || self.bytes > most_bytes {
            let (script, loaded) = match self.seen.pop_front() {
                Some(script) => (script, false),
                None => match self.loaded.pop_front() {
                    Some(script) => (script, true),
                    None => return,
                },
            };
            if !loaded && script.loaded.load(Relaxed) {
                self.loaded.push_back(script);
            } else if chances > 0 && script.used.swap(false, Relaxed) {
                chances -= 1;
                let queue = if loaded { &mut self.loaded } else { &mut self.seen };
                queue.push_back(script);
            } else {
                self.scripts.remove(&script.sha);
                self.bytes -= script.body.len();
                script.kept.store(false, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(body: &str) -> Sha {
        Script::new(body.as_bytes()).sha
    }

    fn has(store: &Store, body: &str) -> bool {
        store.get(&sha(body)).is_some()
    }

    #[test]
    fn keeps_no_more_than_its_bounds() {
        let store = Store::new(3, 1000);
        for n in 0..10 {
            store.put(format!("return {n}").as_bytes(), false);
        }
        assert_eq!(store.shelf().scripts.len(), 3);
        assert!(has(&store, "return 9"));
        let bytes = Store::new(100, 20);
        for n in 0..10 {
            bytes.put(format!("return {n}").as_bytes(), n % 2 == 0);
        }
        let shelf = bytes.shelf();
        assert_eq!((shelf.scripts.len(), shelf.bytes, shelf.seen.len() + shelf.loaded.len()), (2, 16, 2));
        drop(shelf);
        assert!(bytes.put(&[b'x'; 21], true).is_none());
    }

    #[test]
    fn what_is_used_or_was_loaded_stays_longest() {
        let store = Store::new(3, 1000);
        let used = store.put(b"return 'used'", false).unwrap();
        store.put(b"return 'loaded'", true);
        for n in 0..20 {
            used.note_use(false);
            store.put(format!("return {n}").as_bytes(), false);
        }
        assert!(has(&store, "return 'used'") && has(&store, "return 'loaded'") && used.is_kept());
    }

    #[test]
    fn an_evaluated_script_that_is_loaded_later_counts_as_loaded() {
        let store = Store::new(2, 1000);
        store.put(b"return 'both'", false);
        store.put(b"return 'both'", true);
        for n in 0..20 {
            store.put(format!("return {n}").as_bytes(), false);
        }
        assert!(has(&store, "return 'both'"));
    }

    #[test]
    fn a_flush_forgets_all_and_says_so() {
        let store = Store::new(10, 1000);
        let script = store.put(b"return 1", true).unwrap();
        store.clear();
        assert!(!has(&store, "return 1") && !script.is_kept());
        assert_eq!(store.shelf().bytes, 0);
        store.keep(&script);
        assert!(has(&store, "return 1") && script.is_kept());
    }

    #[test]
    fn only_what_is_called_by_name_is_brought_along() {
        let store = Store::new(10, 1000);
        for (body, called) in [("return 1", true), ("return 2", false), ("return 3", true)] {
            store.put(body.as_bytes(), false).unwrap().note_use(called);
        }
        assert_eq!(store.called(1000).len(), 2);
        assert_eq!(store.called(8).len(), 1);
    }

    #[test]
    fn a_body_tells_whether_it_writes_and_whether_it_may_pretend() {
        for (body, cannot_write, may_pretend) in [
            ("return 1", false, false),
            ("#!lua flags=no-writes\nreturn 1", true, false),
            ("return redis.error_reply('NOSCRIPT No matching script.')", false, true),
        ] {
            let script = Script::new(body.as_bytes());
            assert_eq!((script.cannot_write, script.may_pretend), (cannot_write, may_pretend), "{body}");
        }
        // `redis-cli script load 'return 1'`
        assert_eq!(sha("return 1")[..4], [0xe0, 0xe1, 0xf9, 0xfa]);
    }
}
