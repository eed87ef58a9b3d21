//! What is left of the sealed shares once nobody can fetch them any more.

use crate::keys::{Encapsulation, ShareCommitments};
use crate::merkle::Hash;
use crate::message::ShareKeys;

/// Of one dealer: what opened secrets and shares are checked against.
pub(super) struct Dealt {
    pub(super) self_seed_commitment: Hash,
    /// Of its proof, with what its signature of them is checked with.
    pub(super) committed: Committed,
    /// Ascending by holder.
    to: Vec<DealtTo>,
}

/// What a dealer signed beside its self-mask seed.
pub(super) struct Committed {
    /// Empty where inputs carry no proof.
    pub(super) commitments: Vec<u8>,
    pub(super) holders: u32,
    /// Of the tree over its sealed shares.
    pub(super) root: Hash,
    pub(super) signature: [u8; 64],
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
        let committed = Committed {
            commitments: shared.commitments().to_vec(),
            holders: shared.holders_len(),
            root: shared.root(),
            signature: shared.signature,
        };
        Self { self_seed_commitment: shared.self_seed_commitment, committed, to: to.collect() }
    }

    pub(super) fn to(&self, holder: u32) -> Option<&DealtTo> {
        let at = self.to.binary_search_by_key(&holder, |dealt| dealt.holder).ok()?;
        self.to.get(at)
    }
}
