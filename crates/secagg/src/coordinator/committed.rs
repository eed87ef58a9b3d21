//! What dealers committed to: for whoever checks proofs, and for those who were not there.

use super::dealt::Committed;
use super::{Coordinator, State};
use crate::context::ParticipantId;
use crate::message::{ShareKeys, SignedCommitments};

impl Coordinator {
    /// The commitments of a participant's proof, from the moment its shares were accepted until the end; `None` for those
    /// who have shared no keys or were left out, and where inputs carry no proof.
    #[must_use]
    pub fn commitments(&self, id: &ParticipantId) -> Option<&[u8]> {
        self.setup.context.proof?;
        match &self.state {
            State::AdvertiseKeys { .. } | State::RosterSignature { .. } => None,
            State::ShareKeys { signed, shared } | State::MaskedInput { signed, shared, .. } => {
                shared.get(&signed.roster.index_of(id)?).map(ShareKeys::commitments)
            }
            State::SurvivorsSignature { sharing }
            | State::ConsistencyCheck { sharing, .. }
            | State::Unmasking { sharing, .. }
            | State::Opening { sharing, .. } => {
                let dealt = sharing.dealt.get(&sharing.signed.roster.index_of(id)?)?;
                Some(&dealt.committed.commitments)
            }
        }
    }

    /// What the survivors committed to, ascending, so that an outsider can check who committed to what; empty until the
    /// survivors are known, and where inputs carry no proof.
    #[must_use]
    pub fn signed_commitments(&self) -> Vec<SignedCommitments> {
        let (State::SurvivorsSignature { sharing }
        | State::ConsistencyCheck { sharing, .. }
        | State::Unmasking { sharing, .. }
        | State::Opening { sharing, .. }) = &self.state
        else {
            return Vec::new();
        };
        if self.setup.context.proof.is_none() {
            return Vec::new();
        }
        let of_survivor = |index: u32| {
            let member = sharing.signed.roster.member(index);
            let dealt = sharing.dealt.get(&index)?;
            let Committed { commitments, holders, root, signature } = &dealt.committed;
            Some(SignedCommitments {
                id: member.id.clone(),
                certificates: member.keys().certificates,
                index,
                self_seed_commitment: dealt.self_seed_commitment,
                commitments: commitments.clone(),
                holders: *holders,
                root: *root,
                signature: *signature,
            })
        };
        sharing.survivors.iter().filter_map(of_survivor).collect()
    }
}
