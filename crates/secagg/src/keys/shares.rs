//! Shares of a root or of a self-mask seed, with the salts that open their commitments.

use super::{LABELLED_MAX, SecretScalar};
use crate::canonical::{Malformed, Reader, Writer};
use crate::context::{ContextDigest, ParticipantId};
use crate::labels;
use crate::merkle::Hash;
use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Which of the two secrets a share belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Of the root: revealed for dropouts.
    Root,
    /// Of the self-mask seed: revealed for survivors.
    SelfSeed,
}

impl Role {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Root => 0,
            Self::SelfSeed => 1,
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        match input.u8("role")? {
            0 => Ok(Self::Root),
            1 => Ok(Self::SelfSeed),
            _ => Err(Malformed::Value { field: "role" }),
        }
    }
}

/// A share with the salt that opens its commitment.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SaltedShare {
    pub(crate) share: SecretScalar,
    pub(crate) salt: Box<[u8; 32]>,
}

impl SaltedShare {
    pub(crate) fn new(share: Scalar, rng: &mut impl CryptoRng) -> Self {
        let mut salt = Box::new([0; 32]);
        rng.fill_bytes(&mut salt[..]);
        Self { share: SecretScalar::new(share), salt }
    }

    /// SHA-256 of the share and its salt, bound to dealer, holder and role. A hash, not `share * G` (Feldman): a quantum
    /// adversary would invert that one later.
    pub(crate) fn commitment(
        &self,
        context: &ContextDigest,
        dealer: &ParticipantId,
        holder: &ParticipantId,
        role: Role,
    ) -> Hash {
        let mut out = Writer::with_capacity(LABELLED_MAX);
        out.bytes(labels::SHARE_COMMITMENT).raw(&context.0);
        out.bytes(dealer.as_str().as_bytes()).bytes(holder.as_str().as_bytes()).u8(role.byte());
        out.raw(&self.salt[..]).raw(&self.share.bytes()[..]);
        Sha256::digest(Zeroizing::new(out.finish())).into()
    }
}

/// The public commitments to the two shares that a dealer gives to one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareCommitments {
    pub(crate) root: Hash,
    pub(crate) self_seed: Hash,
}

impl ShareCommitments {
    pub(crate) fn of_role(&self, role: Role) -> &Hash {
        match role {
            Role::Root => &self.root,
            Role::SelfSeed => &self.self_seed,
        }
    }
}

/// The two shares that a dealer gives to one holder.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct PlainShares {
    pub(crate) root: SaltedShare,
    pub(crate) self_seed: SaltedShare,
}

impl PlainShares {
    pub(crate) const LEN: usize = 4 * 32;
    pub(crate) const SEALED_LEN: usize = Self::LEN + 16;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for salted in [&self.root, &self.self_seed] {
            out.extend_from_slice(&salted.share.bytes()[..]);
            out.extend_from_slice(&salted.salt[..]);
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (parts, []) = bytes.as_chunks::<32>() else { return None };
        let [root, root_salt, seed, seed_salt] = parts else { return None };
        let salted = |share, salt: &[u8; 32]| {
            Some(SaltedShare { share: SecretScalar::from_bytes(share)?, salt: Box::new(*salt) })
        };
        Some(Self { root: salted(root, root_salt)?, self_seed: salted(seed, seed_salt)? })
    }

    pub(crate) fn commitments(
        &self,
        context: &ContextDigest,
        dealer: &ParticipantId,
        holder: &ParticipantId,
    ) -> ShareCommitments {
        ShareCommitments {
            root: self.root.commitment(context, dealer, holder, Role::Root),
            self_seed: self.self_seed.commitment(context, dealer, holder, Role::SelfSeed),
        }
    }

    pub(crate) fn of_role(&self, role: Role) -> &SaltedShare {
        match role {
            Role::Root => &self.root,
            Role::SelfSeed => &self.self_seed,
        }
    }
}

impl fmt::Debug for PlainShares {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PlainShares")
    }
}
