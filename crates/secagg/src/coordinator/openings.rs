//! What the coordinator tells participants when a step opens, and whom it has heard.

use super::roster::Roster;
use super::{Coordinator, Sharing, Signed, State};
use crate::context::ParticipantId;
use crate::message::{AnnouncedNeighbour, DeliveredShares, RosterAnnouncement, SignatureList, Step, SurvivorList};
use std::collections::BTreeMap;

impl Coordinator {
    /// The message that opens the current step for a participant that has a part in it.
    pub(super) fn opening(&self, to: &ParticipantId) -> Option<Vec<u8>> {
        if !self.is_member(to) {
            return None;
        }
        let context = self.digest;
        match &self.state {
            State::AdvertiseKeys { .. }
            | State::RosterSignature { .. }
            | State::SurvivorsSignature { .. }
            | State::Opening { .. } => None,
            State::ShareKeys { signed: Signed { roster, registrar_signature }, .. } => {
                let index = roster.index_of(to)?;
                let announced = |other: u32| {
                    let advertisement = roster.member(other).advertisement.clone();
                    Some(AnnouncedNeighbour { index: other, advertisement, path: roster.tree.path(other as usize)? })
                };
                let neighbours = roster.graph.neighbours(index).into_iter().map(announced).collect::<Option<_>>()?;
                let announcement = RosterAnnouncement {
                    context,
                    index,
                    n: roster.len(),
                    root: roster.tree.root(),
                    path: roster.tree.path(index as usize)?,
                    registrar_signature: *registrar_signature,
                    neighbours,
                };
                Some(announcement.encode())
            }
            State::MaskedInput { signed, shared, .. } => {
                let index = signed.roster.index_of(to)?;
                let dealers = signed.roster.graph.neighbours(index).into_iter();
                let deliveries = dealers.filter_map(|dealer| shared.get(&dealer)?.delivery(index)).collect();
                Some(DeliveredShares { context, deliveries }.encode())
            }
            State::ConsistencyCheck { sharing, registrar_signature, .. } => {
                let (survivors, registrar_signature) = (sharing.survivors.clone(), *registrar_signature);
                Some(SurvivorList { context, survivors, registrar_signature }.encode())
            }
            State::Unmasking { sharing: Sharing { signed, .. }, signatures, .. } => {
                let neighbours = signed.roster.graph.neighbours(signed.roster.index_of(to)?).into_iter();
                let signatures = neighbours.filter_map(|signer| Some((signer, *signatures.get(&signer)?))).collect();
                Some(SignatureList { context, signatures }.encode())
            }
        }
    }

    /// Those in the cohort, by the last step they were heard in; `None` for those who never were.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<ParticipantId, Option<Step>> {
        let mut heard: BTreeMap<_, _> = self.setup.cohort.keys().map(|id| (id.clone(), None)).collect();
        let mut note = |id: &ParticipantId, step| {
            heard.insert(id.clone(), Some(step));
        };
        let members = |roster: &Roster, indices: &mut dyn Iterator<Item = u32>| -> Vec<ParticipantId> {
            indices.map(|index| roster.member(index).id.clone()).collect()
        };
        if let State::AdvertiseKeys { advertised } = &self.state {
            advertised.keys().for_each(|id| note(id, Step::AdvertiseKeys));
            return heard;
        }
        fn keys<V>(of: &BTreeMap<u32, V>) -> Vec<u32> {
            of.keys().copied().collect()
        }
        let none = Vec::new;
        let (roster, shared, inputs, signatures, revealed) = match &self.state {
            State::AdvertiseKeys { .. } => return heard,
            State::RosterSignature { roster } => (roster, none(), none(), none(), none()),
            State::ShareKeys { signed, shared } => (&signed.roster, keys(shared), none(), none(), none()),
            State::MaskedInput { signed, shared, inputs, .. } => {
                (&signed.roster, keys(shared), keys(inputs), none(), none())
            }
            State::SurvivorsSignature { sharing } => {
                let inputs = sharing.survivors.iter().collect();
                (&sharing.signed.roster, keys(&sharing.dealt), inputs, none(), none())
            }
            State::ConsistencyCheck { sharing, signatures, .. } => {
                let inputs = sharing.survivors.iter().collect();
                (&sharing.signed.roster, keys(&sharing.dealt), inputs, keys(signatures), none())
            }
            State::Unmasking { sharing, signatures, revealed, .. }
            | State::Opening { sharing, signatures, revealed } => {
                let inputs = sharing.survivors.iter().collect();
                (&sharing.signed.roster, keys(&sharing.dealt), inputs, keys(signatures), keys(revealed))
            }
        };
        roster.members.iter().for_each(|member| note(&member.id, Step::AdvertiseKeys));
        let later = [
            (Step::ShareKeys, shared),
            (Step::MaskedInput, inputs),
            (Step::ConsistencyCheck, signatures),
            (Step::Unmasking, revealed),
        ];
        for (step, indices) in later {
            members(roster, &mut indices.into_iter()).iter().for_each(|id| note(id, step));
        }
        heard
    }
}
