//! From shares to secrets to masks, and off with them.

use super::{Abort, Revealed, RunningSum, Sharing};
use crate::context::{Context, ContextDigest};
use crate::keys::{MaskSecret, Role, Root, SecretScalar, SelfSeed};
use crate::prg::{self, MaskKey, Sign};
use crate::shamir;
use curve25519_dalek::scalar::Scalar;
use sordino_codec::RingVector;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The shares of one dealer, by holder; a threshold of them, those of the lowest holders.
type Shares = BTreeMap<u32, SecretScalar>;

/// Reconstructs one secret of everybody who shared keys, computes the masks that are left in the sum, and takes them off.
///
/// Survivors: their self masks. Dropouts that shared keys: the pairwise masks between them and surviving neighbours,
/// which cancel against nothing.
pub(super) fn open(
    context: &Context,
    digest: &ContextDigest,
    sharing: &Sharing,
    revealed: &BTreeMap<u32, Revealed>,
    sum: RunningSum,
    threads: NonZeroUsize,
) -> Result<RingVector, Abort> {
    let roster = &sharing.signed.roster;
    let (mut sum, included) = sum.into_parts().ok_or(Abort::SumMismatch)?;
    if !included.iter().eq(sharing.survivors.iter().map(|index| &roster.member(index).id)) {
        return Err(Abort::SumMismatch);
    }
    let mut culprits = Vec::new();
    let mut masks = Vec::new();
    for (dealer, secret) in reconstruct(sharing, revealed) {
        let found = match sharing.role(dealer) {
            Role::SelfSeed => self_mask(digest, sharing, dealer, &SelfSeed(secret)).map(|mask| vec![mask]),
            Role::Root => pair_masks(context, digest, sharing, dealer, &Root(secret)),
        };
        match found {
            Some(found) => masks.extend(found),
            None => culprits.push(roster.member(dealer).id.clone()),
        }
        if masks.len() >= MASKS_AT_ONCE {
            prg::apply(context.prg, &masks, &mut sum, threads);
            masks.clear();
        }
    }
    if !culprits.is_empty() {
        return Err(Abort::BadDealers { culprits });
    }
    prg::apply(context.prg, &masks, &mut sum, threads);
    Ok(sum)
}

/// Masks whose expanded keys are held at a time: about 300 bytes each.
const MASKS_AT_ONCE: usize = 4_096;

fn reconstruct<'a>(
    sharing: &'a Sharing,
    revealed: &'a BTreeMap<u32, Revealed>,
) -> impl Iterator<Item = (u32, SecretScalar)> + use<'a> {
    let threshold = sharing.signed.roster.graph.topology().t as usize;
    let mut by_dealer: BTreeMap<u32, Shares> = BTreeMap::new();
    for (&holder, revealed) in revealed {
        for share in &revealed.shares {
            let shares = by_dealer.entry(share.dealer).or_default();
            if shares.len() < threshold {
                shares.insert(holder, share.salted.share.clone());
            }
        }
    }
    // Dealers with the same holders share the coefficients.
    let mut lagrange: BTreeMap<Vec<u32>, Vec<Scalar>> = BTreeMap::new();
    by_dealer.into_iter().map(move |(dealer, shares)| {
        let holders: Vec<u32> = shares.keys().copied().collect();
        let coefficients = lagrange.entry(holders).or_insert_with_key(|holders| shamir::lagrange(holders));
        (dealer, SecretScalar::new(shamir::reconstruct(coefficients, shares.values().map(SecretScalar::scalar))))
    })
}

/// The self mask of a survivor, to be taken away; `None` if the seed is not the one it committed to.
fn self_mask(digest: &ContextDigest, sharing: &Sharing, dealer: u32, seed: &SelfSeed) -> Option<(MaskKey, Sign)> {
    let id = &sharing.signed.roster.member(dealer).id;
    let committed = sharing.dealt.get(&dealer)?.self_seed_commitment;
    (seed.commitment(digest, id) == committed).then(|| (seed.mask(digest, id), Sign::Minus))
}

/// The masks that surviving neighbours share with a dropout; `None` if the root is not that of its advertised key.
///
/// What a neighbour put on is the opposite of what the dropout would have put on: so the dropout's own masks, with its
/// own signs, take them away.
fn pair_masks(
    context: &Context,
    digest: &ContextDigest,
    sharing: &Sharing,
    dealer: u32,
    root: &Root,
) -> Option<Vec<(MaskKey, Sign)>> {
    let roster = &sharing.signed.roster;
    let secret: MaskSecret = root.mask_secret(digest, context.pq);
    if secret.public() != roster.member(dealer).keys().mask {
        return None;
    }
    let neighbours = roster.graph.neighbours(dealer).into_iter().filter(|&other| sharing.survivors.contains(other));
    neighbours
        .map(|other| {
            // The encapsulation travelled from the lower index: where that is the dealer, its root has to make it again.
            let (low, high) = (dealer.min(other), dealer.max(other));
            let sent = sharing.dealt.get(&low)?.to(high)?.mask_encapsulation.as_deref();
            let keys = roster.member(other).keys().mask;
            secret.pair_mask(digest, &roster.end(dealer), &roster.end(other), &keys, sent)
        })
        .collect()
}
