//! Chains that were verified before: a peer that is met every round costs one hash.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::{MAX_CERTIFICATE_LEN, TrustAnchors, TrustError, Usage, VerifiedPrincipal};
use crate::{CHAIN_MAX, Validity, decode_chain};

/// [`TrustAnchors`] that remember which clients' chains they have verified.
///
/// What an answer depends on besides the bytes of the chain is the time, and time enters through validities only: a
/// remembered answer is given while every certificate of the chain, and the root that it leads to, is valid. Outside of
/// that the chain is verified anew, and refused with the reason. What is not a valid chain is never remembered, so that
/// strangers cannot fill the memory.
///
/// Revocation is the caller's to check, each time; who revokes an authority, or anything else that a chain rests on, calls
/// [`VerifiedChains::clear`].
pub struct VerifiedChains {
    anchors: TrustAnchors,
    most: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By the SHA-256 of the encoded chain.
    chains: BTreeMap<[u8; 32], Chain>,
    /// Counts up with each use.
    uses: u64,
    /// How often all was forgotten: what was being verified meanwhile is not remembered.
    cleared: u64,
}

struct Chain {
    verified: VerifiedPrincipal,
    /// When all certificates of the chain, and its root, are valid.
    validity: Validity,
    used: u64,
}

impl VerifiedChains {
    /// Verifies by `anchors`, and remembers the `most` chains that were used last, at about half a kilobyte each.
    #[must_use]
    pub fn new(anchors: TrustAnchors, most: usize) -> Self {
        Self { anchors, most, seen: Mutex::default() }
    }

    /// What chains have to lead to.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// As [`TrustAnchors::verify_client`], of a chain in the form of [`crate::encode_chain`].
    ///
    /// # Errors
    /// [`TrustError::UnreadableChain`] for other bytes; else as there.
    pub fn verify_client(&self, chain: &[u8], now: Duration) -> Result<VerifiedPrincipal, TrustError> {
        if chain.len() > CHAIN_MAX * (MAX_CERTIFICATE_LEN + size_of::<u32>()) {
            return Err(TrustError::UnreadableChain);
        }
        let digest = Sha256::digest(chain).into();
        let cleared = {
            let mut seen = self.seen();
            if let Some(verified) = seen.recall(&digest, now) {
                return Ok(verified);
            }
            seen.cleared
        };
        let certificates = decode_chain(chain).ok_or(TrustError::UnreadableChain)?;
        let (verified, root) = self.anchors.verify(&certificates, now, Usage::Client)?;
        if let Some(validity) = common_validity(&certificates, root) {
            let mut seen = self.seen();
            if seen.cleared == cleared {
                seen.remember(digest, verified.clone(), validity, self.most);
            }
        }
        Ok(verified)
    }

    /// Forgets all chains: each is verified anew when it is seen again, also one that is being verified now.
    pub fn clear(&self) {
        let mut seen = self.seen();
        seen.chains.clear();
        seen.cleared += 1;
    }

    /// No holder of the lock leaves it half changed.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn recall(&mut self, digest: &[u8; 32], now: Duration) -> Option<VerifiedPrincipal> {
        let chain = self.chains.get_mut(digest).filter(|chain| chain.validity.contains(now))?;
        self.uses += 1;
        chain.used = self.uses;
        Some(chain.verified.clone())
    }

    fn remember(&mut self, digest: [u8; 32], verified: VerifiedPrincipal, validity: Validity, most: usize) {
        self.uses += 1;
        self.chains.insert(digest, Chain { verified, validity, used: self.uses });
        while self.chains.len() > most {
            let oldest = self.chains.iter().min_by_key(|(_, chain)| chain.used).map(|(digest, _)| *digest);
            oldest.and_then(|digest| self.chains.remove(&digest));
        }
    }
}

/// When all of these, and the root, are valid. Certificates that the path does not need count too: it may end early, never
/// late. `None` if there is one that cannot be read.
fn common_validity(chain: &[CertificateDer<'_>], root: Validity) -> Option<Validity> {
    chain.iter().try_fold(root, |common, certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(common.intersection(Validity::of(&parsed)))
    })
}

#[cfg(test)]
mod tests;
