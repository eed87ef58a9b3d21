//! What is left of the sealed shares once nobody can fetch them any more.

use crate::keys::{Encapsulation, ShareCommitments};
use crate::merkle::Hash;
use crate::message::ShareKeys;

/// Of one dealer: what opened secrets and shares are checked against.
pub(super) struct Dealt {
    pub(super) self_seed_commitment: Hash,
    /// Ascending by holder.
    to: Vec<DealtTo>,
}

/// Of one dealer for one holder.
pub(super) struct DealtTo {
    holder: u32,
    pub(super) commitments: ShareCommitments,
    pub(super) mask_encapsulation: Option<Box<Encapsulation>>,
}

impl Dealt {
    pub(super) fn of(shared: &ShareKeys) -> Self {
        let to = shared.sealed().map(|sealed| DealtTo {
            holder: sealed.holder,
            commitments: sealed.commitments,
            mask_encapsulation: sealed.mask_encapsulation.map(|encapsulation| Box::new(*encapsulation)),
        });
        Self { self_seed_commitment: shared.self_seed_commitment, to: to.collect() }
    }

    pub(super) fn to(&self, holder: u32) -> Option<&DealtTo> {
        let at = self.to.binary_search_by_key(&holder, |dealt| dealt.holder).ok()?;
        self.to.get(at)
    }
}
