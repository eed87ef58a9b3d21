//! What a participant's message has to be to count, step by step. A message that does not changes nothing.

use super::helped::Helped;
use super::roster::Roster;
use super::{Receipt, Rejection, Revealed, Setup, Sharing};
use crate::context::{Context, ContextDigest, ParticipantId};
use crate::merkle::Hash;
use crate::message::{
    AdvertiseKeys, ConsistencySignature, MaskedInput, RevealedShare, ShareKeys, Step, Unmasking, dealers_digest,
    survivors_statement, verify, verify_message,
};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Tells a repetition from a second, different message.
fn receipt(before: Option<&[u8]>, now: &[u8], step: Step) -> Result<Receipt, Rejection> {
    match before {
        None => Ok(Receipt::Accepted),
        Some(before) if before == now => Ok(Receipt::Duplicate),
        Some(_) => Err(Rejection::AlreadySubmitted { step }),
    }
}

fn check_sender(expected: &ContextDigest, context: &ContextDigest, sender: u32, named: u32) -> Result<(), Rejection> {
    if context != expected {
        return Err(Rejection::WrongContext);
    }
    if named != sender {
        return Err(Rejection::ForeignName);
    }
    Ok(())
}

pub(super) fn advertise_keys(
    setup: &Setup,
    context: &ContextDigest,
    advertised: &mut BTreeMap<ParticipantId, Vec<u8>>,
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::AdvertiseKeys;
    let key = setup.cohort.get(from).ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let decoded = AdvertiseKeys::decode(bytes)?;
    if decoded.context != *context {
        return Err(Rejection::WrongContext);
    }
    if decoded.id != *from {
        return Err(Rejection::ForeignName);
    }
    let receipt = receipt(advertised.get(from).map(Vec::as_slice), bytes, step)?;
    if !verify_message(key, bytes) {
        return Err(Rejection::BadSignature);
    }
    // One such key in the roster would cost every neighbour its attempt.
    decoded.channel.check(setup.context.pq)?;
    decoded.mask.check(setup.context.pq)?;
    advertised.insert(from.clone(), bytes.to_vec());
    Ok(receipt)
}

pub(super) fn share_keys(
    context: &ContextDigest,
    roster: &Roster,
    shared: &mut BTreeMap<u32, ShareKeys>,
    terms: &Context,
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::ShareKeys;
    let index = roster.index_of(from).ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let (message, named) = ShareKeys::decode(bytes)?;
    check_sender(context, &named, index, message.index)?;
    let receipt = receipt(shared.get(&index).map(ShareKeys::bytes), bytes, step)?;
    if !message.holders().eq(roster.graph.neighbours(index)) {
        return Err(Rejection::WrongHolders);
    }
    let (got, expected) = (message.commitments().len(), terms.commitments_len());
    if got != expected {
        return Err(Rejection::CommitmentsLength { got, expected });
    }
    let pq = terms.pq;
    if let Some(sealed) = message.sealed().find(|sealed| !sealed.has_encapsulations(index, pq)) {
        return Err(Rejection::WrongEncapsulations { holder: sealed.holder });
    }
    if !message.is_signed_by(&roster.member(index).key, context) {
        return Err(Rejection::BadSignature);
    }
    shared.insert(index, message);
    Ok(receipt)
}

/// An input's header that counts, once its bytes are there.
pub(super) struct CheckedInput {
    pub(super) index: u32,
    pub(super) receipt: Receipt,
    pub(super) decoded: MaskedInput,
    /// The dealers whose shares its sender says to be good, ascending.
    pub(super) opened: Vec<u32>,
}

pub(super) fn input(
    context: &ContextDigest,
    (roster, shared): (&Roster, &BTreeMap<u32, ShareKeys>),
    (inputs, refused): (&BTreeMap<u32, Vec<u8>>, &BTreeSet<u32>),
    expected: u64,
    from: &ParticipantId,
    header: &[u8],
) -> Result<CheckedInput, Rejection> {
    let step = Step::MaskedInput;
    let index = roster.index_of(from).filter(|index| shared.contains_key(index));
    let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    if refused.contains(&index) {
        return Err(Rejection::RefusedInput { id: from.clone() });
    }
    let decoded = MaskedInput::decode(header)?;
    check_sender(context, &decoded.context, index, decoded.index)?;
    let receipt = receipt(inputs.get(&index).map(Vec::as_slice), header, step)?;
    if decoded.len != expected {
        return Err(Rejection::InputLength { announced: decoded.len, expected });
    }
    if !verify_message(&roster.member(index).key, header) {
        return Err(Rejection::BadSignature);
    }
    let dealers = roster.graph.neighbours(index).into_iter().filter(|dealer| shared.contains_key(dealer));
    let mut opened: Vec<u32> = dealers.collect();
    if decoded.dealers != dealers_digest(context, &opened) {
        return Err(Rejection::WrongDealers);
    }
    if let Some(&dealer) = decoded.complaints.iter().find(|dealer| opened.binary_search(dealer).is_err()) {
        return Err(Rejection::ForeignComplaint { dealer });
    }
    opened.retain(|dealer| decoded.complaints.binary_search(dealer).is_err());
    Ok(CheckedInput { index, receipt, decoded, opened })
}

pub(super) fn sign_survivors(
    context: &ContextDigest,
    sharing: &Sharing,
    (signatures, helped): (&mut BTreeMap<u32, [u8; 64]>, &mut Helped),
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::ConsistencyCheck;
    let roster = &sharing.signed.roster;
    let index = roster.index_of(from).filter(|&index| sharing.survivors.contains(index));
    let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let message = ConsistencySignature::decode(bytes)?;
    check_sender(context, &message.context, index, message.index)?;
    let receipt = receipt(signatures.get(&index).map(|signature| &signature[..]), &message.signature, step)?;
    let statement = survivors_statement(context, &roster.tree.root(), &sharing.survivors);
    if !verify(&roster.member(index).key, &statement, &message.signature) {
        return Err(Rejection::BadSignature);
    }
    if receipt == Receipt::Accepted {
        helped.note(sharing.opened_by(index));
        signatures.insert(index, message.signature);
    }
    Ok(receipt)
}

pub(super) fn reveal(
    context: &ContextDigest,
    sharing: &Sharing,
    signatures: &BTreeMap<u32, [u8; 64]>,
    (revealed, helped): (&mut BTreeMap<u32, Revealed>, &mut Helped),
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::Unmasking;
    let roster = &sharing.signed.roster;
    let index = roster.index_of(from).filter(|index| signatures.contains_key(index));
    let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let message = Unmasking::decode(bytes)?;
    check_sender(context, &message.context, index, message.index)?;
    let digest: Hash = Sha256::digest(bytes).into();
    let receipt = receipt(revealed.get(&index).map(|revealed| &revealed.digest[..]), &digest, step)?;
    if !verify_message(&roster.member(index).key, bytes) {
        return Err(Rejection::BadSignature);
    }
    let mut last = None;
    for RevealedShare { dealer, role, salted } in &message.shares {
        // Only what this holder was dealt, of the secret that is to be opened, once.
        let dealt = sharing.dealt.get(dealer).and_then(|dealt| dealt.to(index));
        let dealt = dealt.filter(|_| *role == sharing.role(*dealer) && Some(*dealer) > last);
        let dealt = dealt.filter(|_| !sharing.complaints.stands(index, *dealer));
        let dealt = dealt.ok_or(Rejection::ForeignShare { dealer: *dealer })?;
        let opened = salted.commitment(context, &roster.member(*dealer).id, from, *role);
        if opened != *dealt.commitments.of_role(*role) {
            return Err(Rejection::BadShare { dealer: *dealer });
        }
        last = Some(*dealer);
    }
    // All are of dealers that it said to be good, each once: where one is left out, they are not all of those.
    let mut revealed_of = message.shares.iter().map(|share| share.dealer);
    if let Some(dealer) = sharing.opened_by(index).find(|dealer| revealed_of.next() != Some(*dealer)) {
        return Err(Rejection::MissingShare { dealer });
    }
    if receipt == Receipt::Accepted {
        helped.note(message.shares.iter().map(|share| share.dealer));
        revealed.insert(index, Revealed { digest, shares: message.shares });
    }
    Ok(receipt)
}
