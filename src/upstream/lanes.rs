//! Which lanes there are, and their connections.
//!
//! A lane that no session uses makes room when there are too many. Must not decide who uses one. Invariant: an id names one
//! lane for ever: when its place is given to another lane, the id names nothing any more.

use std::collections::HashSet;
use std::rc::Rc;

use super::dial::Lane;
use super::{Conn, Lease};
use crate::metrics::MAX_NODES;

/// Lanes at most, in use at once. Each costs some KiB, and a node whose default user needs no password accepts any: without
/// a bound one client could make as many as it likes.
const MAX_LANES: usize = 1024;

/// A lane of its pool: its place, and which of the lanes that have had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LaneId {
    place: u16,
    life: u32,
}

/// The connections of one lane.
pub(super) struct Slots {
    /// `None`: the place is free.
    lane: Option<Lane>,
    life: u32,
    /// It was there from the start and stays.
    lasts: bool,
    pub shared: Vec<Vec<Rc<Conn>>>,
    pub idle: Vec<Vec<Lease>>,
}

#[derive(Default)]
pub(super) struct Lanes(Vec<Slots>);

impl Slots {
    fn new() -> Self {
        Self {
            lane: None,
            life: 0,
            lasts: false,
            shared: std::iter::repeat_with(Vec::new).take(MAX_NODES).collect(),
            idle: std::iter::repeat_with(Vec::new).take(MAX_NODES).collect(),
        }
    }

    pub fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    /// Makes the place free: the shared connections it had.
    fn vacate(&mut self) -> Vec<Rc<Conn>> {
        self.lane = None;
        self.life += 1;
        self.idle.iter_mut().for_each(Vec::clear);
        self.shared.iter_mut().flat_map(std::mem::take).collect()
    }
}

impl Lanes {
    #[inline]
    pub fn get(&self, id: LaneId) -> Option<&Slots> {
        self.0.get(usize::from(id.place)).filter(|slots| slots.life == id.life)
    }

    #[inline]
    pub fn get_mut(&mut self, id: LaneId) -> Option<&mut Slots> {
        self.0.get_mut(usize::from(id.place)).filter(|slots| slots.life == id.life)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slots> {
        self.0.iter_mut()
    }

    /// The id of a lane that stays, new or known.
    pub fn lasting(&mut self, lane: &Lane) -> LaneId {
        let place = self.place_of(lane).unwrap_or_else(|| self.settle(lane));
        self.0[place].lasts = true;
        self.id(place)
    }

    /// The id of a lane that is known, or for which there is room.
    pub fn fitting(&mut self, lane: &Lane) -> Option<LaneId> {
        let place = self.place_of(lane).or_else(|| self.has_room().then(|| self.settle(lane)))?;
        Some(self.id(place))
    }

    /// Makes room: all lanes go that are not among `used`. Returns their shared connections.
    pub fn recycle(&mut self, used: &HashSet<LaneId>) -> Vec<Rc<Conn>> {
        let mut left = Vec::new();
        for place in 0..self.0.len() {
            let id = self.id(place);
            let slots = &mut self.0[place];
            // A place whose lives are used up stays what it is.
            if slots.lane.is_some() && !slots.lasts && slots.life < u32::MAX && !used.contains(&id) {
                left.append(&mut slots.vacate());
            }
        }
        left
    }

    fn has_room(&self) -> bool {
        self.0.len() < MAX_LANES || self.0.iter().any(|slots| slots.lane.is_none())
    }

    fn place_of(&self, lane: &Lane) -> Option<usize> {
        self.0.iter().position(|slots| slots.lane.as_ref() == Some(lane))
    }

    fn settle(&mut self, lane: &Lane) -> usize {
        let place = self.0.iter().position(|slots| slots.lane.is_none()).unwrap_or_else(|| {
            self.0.push(Slots::new());
            self.0.len() - 1
        });
        self.0[place].lane = Some(lane.clone());
        place
    }

    fn id(&self, place: usize) -> LaneId {
        LaneId { place: place as u16, life: self.0[place].life }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Login;

    fn lane(user: usize) -> Lane {
        let login = Login { username: Some(format!("user-{user}")), password: "secret".into() };
        Lane { login: Some(login), resp: 2, no_touch: false, import_source: false }
    }

    #[test]
    fn lanes_nobody_uses_make_room_and_their_ids_name_nothing_any_more() {
        let mut lanes = Lanes::default();
        let first = lanes.lasting(&lane(0));
        let ids: Vec<LaneId> = (1..MAX_LANES).map(|user| lanes.fitting(&lane(user)).unwrap()).collect();
        assert_eq!(lanes.fitting(&lane(MAX_LANES)), None);
        assert_eq!(lanes.fitting(&lane(7)), Some(ids[6]), "one that is known is no new one");
        let used: HashSet<LaneId> = ids.iter().copied().filter(|id| id.place != 5).collect();
        lanes.recycle(&used);
        let stale = ids[4];
        assert!(lanes.get(stale).is_none() && lanes.get_mut(stale).is_none());
        let new = lanes.fitting(&lane(MAX_LANES)).unwrap();
        assert_eq!((new.place, new == stale), (stale.place, false));
        assert!(lanes.get(stale).is_none());
        assert_eq!(lanes.get(new).and_then(Slots::lane), Some(&lane(MAX_LANES)));
        assert_eq!(lanes.fitting(&lane(MAX_LANES + 1)), None, "the others are in use");
        // One that stays is never in the way.
        lanes.recycle(&HashSet::new());
        assert_eq!(lanes.get(first).and_then(Slots::lane), Some(&lane(0)));
        assert!(ids.iter().all(|id| lanes.get(*id).is_none()));
    }
}
