//! How much may be before a node on one connection until its sessions read no more from their clients.
//!
//! What is unanswered is kept, to be sent again if need be. Without a bound well below `max-upstream` clients that send large values
//! in deep pipelines fill it, and are refused what Redis itself would have left in its clients' sockets; and what outgrows the
//! cache costs more: 15.8 us a SET of 16 KiB at pipeline 16, 12.9 with this window, and 11 ms instead of 40 until it is answered.
//!
//! Must not refuse anything. Invariant: who waits is called when there is room, in turn while there is a little, and at the latest
//! when nothing is on its way or the connection takes nothing more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::Receiver;

/// Request bytes before a node: milliseconds of work for it, and more than a network of 10 ms and 1 Gbit/s has on its way.
const WINDOW: usize = 2 * 1024 * 1024;
/// Who is called reads about so much at once.
const SHARE: usize = super::PIECE;

pub(super) struct Room {
    window: usize,
    /// Of this much nobody may add to, who has nothing on its way either.
    crowd: usize,
    /// Bytes before the node.
    before: Cell<usize>,
    queue: RefCell<VecDeque<Rc<dyn Receiver>>>,
}

impl Room {
    /// `limit`: what is refused beyond, in bytes.
    pub fn new(limit: usize) -> Self {
        let crowd = limit / 4;
        Self { window: WINDOW.min(crowd), crowd, before: Cell::new(0), queue: RefCell::default() }
    }

    /// Whether there is enough before the node for somebody who has part in it (`busy`), or for anybody.
    #[inline]
    pub fn is_full(&self, busy: bool) -> bool {
        self.before.get() > if busy { self.window } else { self.crowd }
    }

    /// There are `bytes` before the node now.
    #[inline]
    pub fn note(&self, bytes: usize) {
        self.before.set(bytes);
    }

    /// Nobody waits, and nobody has to.
    #[inline]
    pub fn is_idle(&self) -> bool {
        !self.is_full(true) && self.queue.borrow().is_empty()
    }

    /// Calls `who` when there is room.
    pub fn wait(&self, who: Rc<dyn Receiver>) {
        self.queue.borrow_mut().push_back(who);
    }

    /// Answers have come, or requests went back: `bytes` are left before the node. Calls as many as there is room for, in the order in
    /// which they came.
    pub fn make(&self, bytes: usize) {
        self.note(bytes);
        if self.is_full(false) {
            return;
        }
        let waiting = self.queue.borrow().len();
        // Beyond the window one at a time: others, who have nothing on their way, may keep it so for long.
        let fit = if bytes == 0 { waiting } else { waiting.min(self.window.saturating_sub(bytes) / SHARE + 1) };
        for _ in 0..fit {
            // Not borrowed while it is called.
            let next = self.queue.borrow_mut().pop_front();
            next.iter().for_each(|who| who.room());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Lost, Times};

    struct Waiting {
        name: usize,
        called: Rc<RefCell<Vec<usize>>>,
    }

    impl Receiver for Waiting {
        fn replies(&self, _: &[u8], _: u32, _: &Times) {}
        fn piece(&self, _: &[u8], _: bool, _: &Times) -> usize {
            0
        }
        fn settle(&self, _: &[u8], _: &[u8], _: u16, _: bool) {}
        fn takes_back(&self, _: &[u8]) -> bool {
            false
        }
        fn rejected(&self) {}
        fn returned(&self, _: &[u8], _: u16) {}
        fn stale(&self, _: &[u8], _: u16) {}
        fn lost(&self, _: &Lost<'_>, _: u16) {}
        fn room(&self) {
            self.called.borrow_mut().push(self.name);
        }
    }

    #[test]
    fn as_many_are_called_as_there_is_room_for_in_order_and_all_when_nothing_is_left() {
        let called = Rc::new(RefCell::new(Vec::new()));
        let room = Room::new(32 * SHARE);
        assert!(room.is_idle());
        room.note(8 * SHARE);
        assert!(!room.is_full(true));
        room.note(8 * SHARE + 1);
        assert!(room.is_full(true) && !room.is_idle());
        for name in 0..10 {
            room.wait(Rc::new(Waiting { name, called: Rc::clone(&called) }));
        }
        // (bytes left, called by then)
        for (bytes, expected) in [(8 * SHARE, 1), (6 * SHARE, 4), (7 * SHARE + 1, 5), (0, 10)] {
            room.make(bytes);
            assert_eq!(*called.borrow(), (0..expected).collect::<Vec<_>>(), "{bytes}");
        }
        assert!(room.is_idle());
    }

    #[test]
    fn who_has_nothing_on_its_way_waits_only_where_many_do() {
        let limit = 16 * WINDOW;
        let room = Room::new(limit);
        for (before, busy, idle) in
            [(WINDOW, false, false), (WINDOW + 1, true, false), (limit / 4, true, false), (limit / 4 + 1, true, true)]
        {
            room.note(before);
            assert_eq!((room.is_full(true), room.is_full(false)), (busy, idle), "{before}");
        }
    }

    #[test]
    fn beyond_the_window_they_are_called_one_by_one_and_beyond_the_crowd_nobody_is() {
        let called = Rc::new(RefCell::new(Vec::new()));
        let limit = 16 * WINDOW;
        let room = Room::new(limit);
        room.note(limit);
        for name in 0..3 {
            room.wait(Rc::new(Waiting { name, called: Rc::clone(&called) }));
        }
        for (bytes, expected) in [(limit / 4 + 1, 0), (limit / 4, 1), (WINDOW + 1, 2)] {
            room.make(bytes);
            assert_eq!(*called.borrow(), (0..expected).collect::<Vec<_>>(), "{bytes}");
        }
    }
}
