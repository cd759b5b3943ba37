//! Whose requests a node slot counted: slots outlive nodes, and a series must not go from one node to another.
//!
//! Pure. Invariant: a count is shown for one address only, and never falls while that address keeps its slot.

use std::collections::HashMap;

use super::MAX_NODES;
use super::cells::{Kind, Reason};

/// Requests by kind and reason, in the order of their `ALL`.
pub(super) type Row = [[u64; Reason::ALL.len()]; Kind::ALL.len()];

/// Who had which slot of one listener at the last scrape.
#[derive(Default)]
pub(super) struct Tenants(HashMap<u16, Tenant>);

struct Tenant {
    address: String,
    /// What the slot had counted when this address moved in.
    before: Row,
    /// What it had counted at the last scrape.
    last: Row,
}

impl Tenants {
    /// What `address` itself was sent, given what its `slot` has counted so far (`now`).
    pub(super) fn own(&mut self, slot: u16, address: &str, now: Row) -> Row {
        if usize::from(slot) >= MAX_NODES {
            return Row::default();
        }
        let tenant = self.0.entry(slot).or_insert_with(|| Tenant {
            address: address.to_owned(),
            before: Row::default(),
            last: Row::default(),
        });
        if tenant.address != address {
            address.clone_into(&mut tenant.address);
            tenant.before = tenant.last;
        }
        tenant.last = now;
        let mut own = now;
        for (own, before) in own.iter_mut().flatten().zip(tenant.before.iter().flatten()) {
            *own = own.saturating_sub(*before);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> Row {
        let mut row = Row::default();
        row[1][2] = n;
        row
    }

    #[test]
    fn a_slot_let_again_starts_from_nothing() {
        let mut tenants = Tenants::default();
        assert_eq!(tenants.own(3, "a:1", row(5)), row(5));
        assert_eq!(tenants.own(3, "a:1", row(9)), row(9));
        assert_eq!(tenants.own(3, "b:1", row(10)), row(1));
        assert_eq!(tenants.own(3, "b:1", row(14)), row(5));
        assert_eq!(tenants.own(4, "a:1", row(2)), row(2));
        assert_eq!(tenants.own(3, "a:1", row(15)), row(1));
    }

    #[test]
    fn a_slot_beyond_the_cells_counts_nothing() {
        assert_eq!(Tenants::default().own(MAX_NODES as u16, "a:1", row(5)), row(0));
    }
}
