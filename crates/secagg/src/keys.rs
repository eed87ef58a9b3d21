//! Secrets of one attempt and what is derived from them.
//!
//! Each secret is a type of its own, boxed so that moving it leaves no copy, wiped when dropped, and printed as its name
//! only. The root and the self-mask seed are independent uniform scalars; the channel's keys and encapsulations depend on
//! neither: from a revealed root neither a sealed share nor a self mask can be computed.

mod channel;
mod shares;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use channel::Sealed;
pub(crate) use channel::{ChannelSecret, Edge};
pub(crate) use shares::{PlainShares, Role, SaltedShare, ShareCommitments};

use crate::canonical::{Malformed, Reader, Writer};
use crate::context::{ContextDigest, ParticipantId};
use crate::kem::{self, KemPublic, KemSecret, SharedSecret};
use crate::labels;
use crate::merkle::Hash;
use crate::prg::{MaskKey, Sign};
use crate::x25519::{X25519Secret, has_small_order};
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use std::fmt;
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
    /// The keys for pairwise masks, HKDF-SHA256 of the root.
    pub(crate) fn mask_secret(&self, context: &ContextDigest, pq: bool) -> MaskSecret {
        let mut secret = Zeroizing::new([0; 32]);
        expand(&self.0.bytes()[..], context, labels::MASK_X25519, &[], &mut secret[..]);
        let x25519 = X25519Secret::from_bytes(&secret);
        let kem = pq.then(|| {
            let mut seed = Zeroizing::new([0; kem::SEED_LEN]);
            expand(&self.0.bytes()[..], context, labels::MASK_KEM, &[], &mut seed[..]);
            KemSecret::from_seed(&seed)
        });
        MaskSecret { root: self.clone(), x25519, kem }
    }

    /// The coins of the encapsulation to one neighbour.
    fn coins(&self, context: &ContextDigest, peer: &End<'_>) -> Zeroizing<[u8; 32]> {
        let mut coins = Zeroizing::new([0; 32]);
        let info = [peer.id.as_str().as_bytes(), &peer.advertised[..]];
        expand(&self.0.bytes()[..], context, labels::MASK_COINS, &info, &mut coins[..]);
        coins
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

/// An encapsulation on its way to the holder of a key.
pub(crate) type Encapsulation = [u8; kem::ENCAPSULATION_LEN];

/// What a participant advertises for one purpose: an X25519 key, and an ML-KEM-768 key where the context asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKeys {
    pub(crate) x25519: [u8; 32],
    pub(crate) kem: Option<Box<[u8; kem::KEY_LEN]>>,
}

impl PublicKeys {
    /// Whether a secret can be agreed on with these keys; one that does not count would cost every neighbour its attempt.
    pub(crate) fn check(&self, pq: bool) -> Result<(), BadKeys> {
        if has_small_order(&self.x25519) {
            return Err(BadKeys::SmallOrder);
        }
        match &self.kem {
            None if !pq => Ok(()),
            Some(kem) if pq => KemPublic::parse(kem).map(drop).ok_or(BadKeys::NoKemKey),
            None | Some(_) => Err(BadKeys::OtherKind),
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.raw(&self.x25519).bytes(self.kem.as_ref().map_or(&[], |kem| &kem[..]));
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let x25519 = input.array("X25519 key")?;
        let kem = input.bytes_or_none("ML-KEM key")?.map(|kem: &[u8; kem::KEY_LEN]| Box::new(*kem));
        Ok(Self { x25519, kem })
    }
}

/// Why advertised keys are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKeys {
    /// Whatever secret it is combined with, the result is public.
    #[error("an advertised key has a small order")]
    SmallOrder,
    /// FIPS 203, section 7.2.
    #[error("an advertised ML-KEM key is not a key")]
    NoKemKey,
    /// The policy says whether there are ML-KEM keys.
    #[error("advertised keys are not of the kinds that the policy asks for")]
    OtherKind,
}

/// One end of a pair.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    /// Place in the roster.
    pub(crate) index: u32,
    pub(crate) id: &'a ParticipantId,
    /// SHA-256 of its advertisement, which holds all of its keys.
    pub(crate) advertised: &'a Hash,
}

/// The keys that pairwise masks are agreed with; all of them follow from the root.
pub(crate) struct MaskSecret {
    root: Root,
    x25519: X25519Secret,
    kem: Option<KemSecret>,
}

impl MaskSecret {
    pub(crate) fn public(&self) -> PublicKeys {
        PublicKeys { x25519: self.x25519.public(), kem: self.kem.as_ref().map(|kem| Box::new(kem.public())) }
    }

    /// The encapsulation for the pair with a neighbour. The end with the lower index makes it, and could make it again;
    /// `None` at the other end, and without ML-KEM.
    pub(crate) fn encapsulation(
        &self,
        context: &ContextDigest,
        own: &End<'_>,
        peer: &End<'_>,
        peer_keys: &PublicKeys,
    ) -> Option<Encapsulation> {
        self.kem.as_ref().filter(|_| own.index < peer.index)?;
        self.encapsulate(context, peer, peer_keys).map(|(encapsulation, _)| encapsulation)
    }

    fn encapsulate(
        &self,
        context: &ContextDigest,
        peer: &End<'_>,
        peer_keys: &PublicKeys,
    ) -> Option<(Encapsulation, SharedSecret)> {
        let key = KemPublic::parse(peer_keys.kem.as_deref()?)?;
        Some(key.encapsulate(&self.root.coins(context, peer)))
    }

    /// The mask of the pair and its sign at `own`: the one place where the sign is decided. The participant with the
    /// lower roster index adds, the other one takes away.
    ///
    /// `sent` is the encapsulation that travelled, from the lower index to the higher one. The higher end needs it; at
    /// the lower end, where it is given, it must be the one that the root makes.
    ///
    /// `None` if the peer's keys are of no use, or for another encapsulation than belongs there.
    pub(crate) fn pair_mask(
        &self,
        context: &ContextDigest,
        own: &End<'_>,
        peer: &End<'_>,
        peer_keys: &PublicKeys,
        sent: Option<&Encapsulation>,
    ) -> Option<(MaskKey, Sign)> {
        let mut secret = Agreement::x25519(&self.x25519, &peer_keys.x25519)?;
        let adds = own.index < peer.index;
        let mut encapsulation = None;
        if let Some(kem) = &self.kem {
            let (made, shared) = if adds {
                self.encapsulate(context, peer, peer_keys)?
            } else {
                let sent = sent?;
                (*sent, kem.decapsulate(sent))
            };
            if sent.is_some_and(|sent| *sent != made) {
                return None;
            }
            secret.add(&shared);
            encapsulation = Some(made);
        }
        let (low, high) = if adds { (own, peer) } else { (peer, own) };
        let encapsulation = encapsulation.as_ref().map_or(&[][..], |encapsulation| &encapsulation[..]);
        let info = [
            low.id.as_str().as_bytes(),
            &low.advertised[..],
            high.id.as_str().as_bytes(),
            &high.advertised[..],
            encapsulation,
        ];
        let key = mask_key(secret.bytes(), context, labels::PAIR_MASK, &info);
        Some((key, if adds { Sign::Plus } else { Sign::Minus }))
    }
}

impl fmt::Debug for MaskSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MaskSecret")
    }
}

/// What two participants agreed on: the X25519 secret, then the ML-KEM secret. Both go into one derivation, whose info
/// names all keys and the encapsulation: breaking one half gives nothing.
struct Agreement {
    secret: Zeroizing<[u8; 64]>,
    len: usize,
}

impl Agreement {
    /// `None` if the peer's key has a small order, so that the secret would be public.
    fn x25519(own: &X25519Secret, peer: &[u8; 32]) -> Option<Self> {
        let shared = own.agree(peer)?;
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(&shared[..]);
        Some(Self { secret, len: 32 })
    }

    fn add(&mut self, shared: &SharedSecret) {
        self.secret[32..].copy_from_slice(&shared[..]);
        self.len = 64;
    }

    fn bytes(&self) -> &[u8] {
        &self.secret[..self.len]
    }
}

/// What must never be seen, for a test that looks for it.
#[cfg(feature = "test-util")]
impl MaskSecret {
    pub(crate) fn dangerous_bytes(&self) -> Vec<u8> {
        self.x25519.dangerous_bytes().to_vec()
    }

    pub(crate) fn dangerous_shared(&self, peer: &PublicKeys) -> Vec<u8> {
        self.x25519.agree(&peer.x25519).map(|shared| shared.to_vec()).unwrap_or_default()
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
