//! A session whose next request has to wait: for its own replies, for a master, or for room before its node.
//!
//! Part of what the session's one task does. Invariant: what it has reserved of the queue it gives back, whatever becomes of it.

use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::metrics::Count;
use crate::session::state::{Park, State};
use crate::session::{Session, errors};
use crate::upstream::Receiver;

/// A connection attempt to the master failed: look again this much later, even if nothing changes.
const RETRY: Duration = Duration::from_millis(20);

impl Session {
    pub(super) fn park(&self, s: &mut State, park: Park, bytes: usize) {
        s.park = park;
        if park != Park::Hold {
            return;
        }
        if s.stuck_since.is_none() {
            s.stuck_since = Some(Instant::now());
            s.stuck_at = self.front.clock.now();
        }
        if s.reserved == 0 {
            self.front.cells.count(Count::Held, 1);
            if bytes > self.front.listener.holding.session_bytes || !self.front.reserve_hold(bytes) {
                s.refusing = true;
                return;
            }
            s.reserved = bytes.max(1);
            self.front.cells.began_to_hold(s.reserved as u64);
        }
    }

    /// The connection of its last request has enough before it: what the client sends next stays in its socket.
    #[inline]
    pub(super) fn waits_for_room(self: &Rc<Self>, s: &mut State) -> bool {
        let Some(conn) = s.conn.as_ref().filter(|conn| conn.is_full(s.in_flight > 0)) else { return false };
        let place = Rc::as_ptr(conn);
        if s.awaits_room != Some(place) {
            s.awaits_room = Some(place);
            conn.wait_for_room(Rc::clone(self) as Rc<dyn Receiver>);
        }
        s.leave_unread();
        true
    }

    /// Whether what the session waited for has come.
    pub(super) fn poll_unpark(&self, s: &mut State, cx: &mut Context<'_>) -> bool {
        match s.park {
            Park::Not => {}
            Park::Drain if s.in_flight > 0 => return false,
            Park::Drain => s.silence.end_next(),
            Park::Hold => {
                let since = s.stuck_since.unwrap_or_else(Instant::now);
                if since.elapsed() >= self.front.listener.hold {
                    s.refusing = true;
                } else if s.timer.is_none() && !s.refusing {
                    self.front.wait_for_change(self.id, cx.waker(), &mut s.round);
                    let left = self.front.listener.hold.saturating_sub(since.elapsed());
                    // While writes are held only news can help; a node that could not be dialled is tried again.
                    let pause = if self.front.is_held() { left } else { left.min(RETRY) };
                    let mut timer = Box::pin(tokio::time::sleep(pause));
                    let early = timer.as_mut().poll(cx).is_ready();
                    s.timer = Some(timer);
                    return early;
                }
            }
        }
        s.timer = None;
        s.park = Park::Not;
        s.rescan = true;
        true
    }

    /// The session's requests go on (or are refused): give its place in the queue back.
    pub(in crate::session) fn unhold(&self, s: &mut State, released: bool) {
        if s.reserved > 0 {
            let cells = &self.front.cells;
            cells.ended_to_hold(s.reserved as u64);
            self.front.release_hold(if s.reserved > 1 { s.reserved } else { 0 });
            s.reserved = 0;
            if released {
                cells.count(Count::Released, 1);
            }
        }
    }

    /// Everything that was held is refused, and what could still go on its way is answered: what comes now has its own time.
    #[inline]
    pub(super) fn end_refusal(&self, s: &mut State) {
        if s.refusing && s.in_flight == 0 && !s.must_send_again() {
            self.unhold(s, false);
            (s.refusing, s.stuck_since, s.tries) = (false, None, 0);
            s.short_of_replicas = false;
        }
    }

    pub(super) fn refuse_held(&self, s: &mut State) {
        self.front.cells.count(Count::RefusedHold, 1);
        let text = match s.reserved {
            0 => errors::HOLD_FULL.to_vec(),
            _ if s.short_of_replicas => errors::NO_GOOD_REPLICAS.to_vec(),
            _ => errors::hold_expired(self.front.listener.hold),
        };
        self.push(s, &text);
        s.silence.end_next();
    }
}
