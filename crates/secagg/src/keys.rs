//! Secrets of one attempt and what is derived from them.
//!
//! Each secret is a type of its own, boxed so that moving it leaves no copy, wiped when dropped, and printed as its name
//! only. The root and the self-mask seed are independent uniform scalars; the channel key depends on neither: from a
//! revealed root neither a sealed share nor a self mask can be computed.

use crate::canonical::{Malformed, Reader, Writer};
use crate::context::{ContextDigest, ParticipantId};
use crate::labels;
use crate::merkle::Hash;
use crate::prg::{MaskKey, Sign};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A uniform element of the scalar field, to be shared among neighbours.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SecretScalar(Box<Scalar>);

impl SecretScalar {
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Box::new(Scalar::random(rng)))
    }

    pub(crate) fn new(scalar: Scalar) -> Self {
        Self(Box::new(scalar))
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.0
    }

    pub(crate) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// `None` for bytes that are not below the group's order.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        Option::<Scalar>::from(Scalar::from_canonical_bytes(*bytes)).map(Self::new)
    }
}

impl fmt::Debug for SecretScalar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretScalar")
    }
}

/// What a dropout's neighbours can reconstruct: all of its pairwise masks derive from it, and nothing else does.
#[derive(Clone, Debug, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Root(pub(crate) SecretScalar);

impl Root {
    /// The key for pairwise masks, HKDF-SHA256 of the root.
    pub(crate) fn mask_secret(&self, context: &ContextDigest) -> MaskSecret {
        let mut secret = Zeroizing::new([0; 32]);
        expand(&self.0.bytes()[..], context, labels::MASK_X25519, &[], &mut secret[..]);
        MaskSecret(Box::new(StaticSecret::from(*secret)))
    }
}

/// What a survivor's neighbours can reconstruct: its self mask derives from it.
#[derive(Clone, Debug, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SelfSeed(pub(crate) SecretScalar);

impl SelfSeed {
    pub(crate) fn mask(&self, context: &ContextDigest, owner: &ParticipantId) -> MaskKey {
        mask_key(&self.0.bytes()[..], context, labels::SELF_MASK, &[owner.as_str().as_bytes()])
    }

    /// A hash that hides it: the seed has 252 bits of entropy.
    pub(crate) fn commitment(&self, context: &ContextDigest, owner: &ParticipantId) -> Hash {
        let mut out = Writer::with_capacity(LABELLED_MAX);
        out.bytes(labels::SELF_SEED_COMMITMENT).raw(&context.0).bytes(owner.as_str().as_bytes());
        out.raw(&self.0.bytes()[..]);
        Sha256::digest(Zeroizing::new(out.finish())).into()
    }
}

/// X25519 key that pairwise masks are agreed with.
pub(crate) struct MaskSecret(Box<StaticSecret>);

impl MaskSecret {
    pub(crate) fn public(&self) -> [u8; 32] {
        PublicKey::from(&*self.0).to_bytes()
    }

    /// The mask of the pair and its sign at `own`: the one place where the sign is decided.
    ///
    /// The participant with the lower roster index adds, the other one takes away. `None` if the peer's key has a small
    /// order, so that the secret would be public.
    pub(crate) fn pair_mask(
        &self,
        context: &ContextDigest,
        own: (u32, &ParticipantId),
        peer: (u32, &ParticipantId, &[u8; 32]),
    ) -> Option<(MaskKey, Sign)> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*peer.2));
        if !shared.was_contributory() {
            return None;
        }
        let own_key = self.public();
        let ends = [(own.1, &own_key), (peer.1, peer.2)];
        let (low, high) = if own.0 < peer.0 { (ends[0], ends[1]) } else { (ends[1], ends[0]) };
        let info = [low.0.as_str().as_bytes(), &low.1[..], high.0.as_str().as_bytes(), &high.1[..]];
        let key = mask_key(shared.as_bytes(), context, labels::PAIR_MASK, &info);
        Some((key, if own.0 < peer.0 { Sign::Plus } else { Sign::Minus }))
    }
}

impl fmt::Debug for MaskSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MaskSecret")
    }
}

/// X25519 key of the channels to the neighbours; independent of the root.
#[derive(Clone)]
pub(crate) struct ChannelSecret(Box<StaticSecret>);

impl ChannelSecret {
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Box::new(StaticSecret::random_from_rng(rng)))
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(StaticSecret::from(bytes)))
    }

    pub(crate) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        PublicKey::from(&*self.0).to_bytes()
    }

    /// Seals a pair of shares to a neighbour.
    ///
    /// The key belongs to this attempt and direction alone and seals one message, so its nonce can be derived with it.
    /// `None` if the peer's key has a small order.
    pub(crate) fn seal(&self, edge: &Edge<'_>, peer_key: &[u8; 32], shares: &PlainShares) -> Option<Vec<u8>> {
        let (key, nonce) = self.channel(edge, &self.public(), peer_key, peer_key)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(PlainShares::SEALED_LEN));
        shares.write(&mut sealed);
        key.seal_in_place_append_tag(nonce, Aad::from(edge.associated_data()), &mut *sealed).ok()?;
        Some(std::mem::take(&mut *sealed))
    }

    /// Opens what a neighbour sealed. `None` if it was sealed by somebody else, to somebody else, in another attempt, or
    /// was changed on the way.
    pub(crate) fn open(&self, edge: &Edge<'_>, peer_key: &[u8; 32], sealed: &[u8]) -> Option<PlainShares> {
        let (key, nonce) = self.channel(edge, peer_key, &self.public(), peer_key)?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let plain = key.open_in_place(nonce, Aad::from(edge.associated_data()), &mut buffer).ok()?;
        PlainShares::read(plain)
    }

    fn channel(
        &self,
        edge: &Edge<'_>,
        sender_key: &[u8; 32],
        receiver_key: &[u8; 32],
        peer_key: &[u8; 32],
    ) -> Option<(LessSafeKey, Nonce)> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*peer_key));
        if !shared.was_contributory() {
            return None;
        }
        let info =
            [edge.sender.as_str().as_bytes(), &sender_key[..], edge.receiver.as_str().as_bytes(), &receiver_key[..]];
        let mut okm = Zeroizing::new([0; 44]);
        expand(shared.as_bytes(), edge.context, labels::CHANNEL, &info, &mut okm[..]);
        let (key, nonce) = okm.split_at(32);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        Some((LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).expect("12 bytes are a nonce")))
    }
}

impl fmt::Debug for ChannelSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ChannelSecret")
    }
}

/// What must never be seen, for a test that looks for it.
#[cfg(feature = "test-util")]
impl MaskSecret {
    pub(crate) fn dangerous_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    pub(crate) fn dangerous_shared(&self, peer_key: &[u8; 32]) -> Vec<u8> {
        self.0.diffie_hellman(&PublicKey::from(*peer_key)).to_bytes().to_vec()
    }
}

#[cfg(feature = "test-util")]
impl ChannelSecret {
    pub(crate) fn dangerous_shared(&self, peer_key: &[u8; 32]) -> Vec<u8> {
        self.0.diffie_hellman(&PublicKey::from(*peer_key)).to_bytes().to_vec()
    }
}

/// One direction between two neighbours, as the associated data of a sealed pair of shares names it.
pub(crate) struct Edge<'a> {
    pub(crate) context: &'a ContextDigest,
    pub(crate) sender: &'a ParticipantId,
    pub(crate) receiver: &'a ParticipantId,
    /// SHA-256 of both advertisements, sender first: they hold all keys.
    pub(crate) advertised: [&'a Hash; 2],
    /// Commitments to the two shares: the receiver learns them from the sender, not from the coordinator.
    pub(crate) commitments: &'a ShareCommitments,
}

impl Edge<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(labels::SEALED_SHARES).u16(crate::VERSION).raw(&self.context.0);
        out.bytes(self.sender.as_str().as_bytes()).bytes(self.receiver.as_str().as_bytes());
        out.raw(self.advertised[0]).raw(self.advertised[1]);
        out.raw(&self.commitments.root).raw(&self.commitments.self_seed);
        out.finish()
    }
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
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

fn mask_key(secret: &[u8], context: &ContextDigest, label: &[u8], info: &[&[u8]]) -> MaskKey {
    let mut okm = Zeroizing::new([0; 48]);
    expand(secret, context, label, info, &mut okm[..]);
    let mut mask = MaskKey { key: Box::new([0; 32]), counter: [0; 16] };
    mask.key.copy_from_slice(&okm[..32]);
    mask.counter.copy_from_slice(&okm[32..]);
    mask
}

/// Whether an X25519 key has a small order: whatever secret it is combined with, the result is public.
///
/// A clamped scalar is a multiple of the cofactor and of no large prime order, so any of them tells.
pub(crate) fn has_small_order(public: &[u8; 32]) -> bool {
    x25519_dalek::x25519([0; 32], *public) == [0; 32]
}

/// HKDF-SHA256 (RFC 5869): the context is the salt; label and parts, each with its length, are the info.
fn expand(secret: &[u8], context: &ContextDigest, label: &[u8], parts: &[&[u8]], okm: &mut [u8]) {
    let mut info = Writer::new();
    info.bytes(label);
    for part in parts {
        info.bytes(part);
    }
    Hkdf::<Sha256>::new(Some(&context.0), secret)
        .expand(&info.finish(), okm)
        .expect("less than 255 blocks are asked for");
}

/// Bytes of a label with two names and a few fixed fields, at most.
const LABELLED_MAX: usize = 512;

#[cfg(test)]
mod tests;
