//! The channel between two neighbours, through which shares travel: a key for each direction, for one message.

use super::{Agreement, Encapsulation, PlainShares, PublicKeys, ShareCommitments, expand};
use crate::canonical::Writer;
use crate::context::{ContextDigest, ParticipantId};
use crate::kem::{self, KemPublic, KemSecret};
use crate::labels;
use crate::merkle::Hash;
use crate::x25519::X25519Secret;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// Keys of the channels to the neighbours; independent of the root.
#[derive(Clone)]
pub(crate) struct ChannelSecret {
    /// 32 bytes of X25519, then the seed of the ML-KEM key.
    bytes: Box<Zeroizing<[u8; Self::LEN]>>,
    x25519: X25519Secret,
    kem: Option<KemSecret>,
}

/// A pair of shares, sealed to a neighbour.
pub(crate) struct Sealed {
    pub(crate) encapsulation: Option<Encapsulation>,
    pub(crate) ciphertext: [u8; PlainShares::SEALED_LEN],
}

impl ChannelSecret {
    pub(crate) const LEN: usize = 32 + kem::SEED_LEN;

    pub(crate) fn random(pq: bool, rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        rng.fill_bytes(&mut bytes[..]);
        Self::from_bytes(&bytes, pq)
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN], pq: bool) -> Self {
        let bytes = Box::new(Zeroizing::new(*bytes));
        let (x25519, seed) = bytes.split_first_chunk::<32>().expect("96 bytes");
        let seed = seed.first_chunk().expect("64 bytes");
        let (x25519, kem) = (X25519Secret::from_bytes(x25519), pq.then(|| KemSecret::from_seed(seed)));
        Self { bytes, x25519, kem }
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    pub(crate) fn public(&self) -> PublicKeys {
        PublicKeys { x25519: self.x25519.public(), kem: self.kem.as_ref().map(|kem| Box::new(kem.public())) }
    }

    /// Seals a pair of shares to a neighbour.
    ///
    /// The key belongs to this attempt and direction alone and seals one message, so its nonce can be derived with it.
    /// `None` if the peer's keys are of no use.
    pub(crate) fn seal(
        &self,
        edge: &Edge<'_>,
        peer: &PublicKeys,
        shares: &PlainShares,
        rng: &mut impl CryptoRng,
    ) -> Option<Sealed> {
        let mut secret = Agreement::x25519(&self.x25519, &peer.x25519)?;
        let mut encapsulation = None;
        if self.kem.is_some() {
            let mut coins = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut coins[..]);
            let (made, shared) = KemPublic::parse(peer.kem.as_deref()?)?.encapsulate(&coins);
            secret.add(&shared);
            encapsulation = Some(made);
        }
        let (key, nonce) = edge.key(&secret, encapsulation.as_ref());
        let mut plain = Zeroizing::new(Vec::with_capacity(PlainShares::SEALED_LEN));
        shares.write(&mut plain);
        key.seal_in_place_append_tag(nonce, Aad::from(edge.associated_data()), &mut *plain).ok()?;
        Some(Sealed { encapsulation, ciphertext: plain.first_chunk().copied()? })
    }

    /// Opens what a neighbour sealed. `None` if it was sealed by somebody else, to somebody else, in another attempt, or
    /// was changed on the way.
    pub(crate) fn open(
        &self,
        edge: &Edge<'_>,
        peer_x25519: &[u8; 32],
        encapsulation: Option<&Encapsulation>,
        sealed: &[u8],
    ) -> Option<PlainShares> {
        let mut secret = Agreement::x25519(&self.x25519, peer_x25519)?;
        match (&self.kem, encapsulation) {
            (Some(kem), Some(encapsulation)) => secret.add(&kem.decapsulate(encapsulation)),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return None,
        }
        let (key, nonce) = edge.key(&secret, encapsulation);
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let plain = key.open_in_place(nonce, Aad::from(edge.associated_data()), &mut buffer).ok()?;
        PlainShares::read(plain)
    }
}

impl fmt::Debug for ChannelSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ChannelSecret")
    }
}

#[cfg(feature = "test-util")]
impl ChannelSecret {
    pub(crate) fn dangerous_shared(&self, peer_x25519: &[u8; 32]) -> Vec<u8> {
        self.x25519.agree(peer_x25519).map(|shared| shared.to_vec()).unwrap_or_default()
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
    /// Key and nonce of this direction.
    fn key(&self, secret: &Agreement, encapsulation: Option<&Encapsulation>) -> (LessSafeKey, Nonce) {
        let info = [
            self.sender.as_str().as_bytes(),
            &self.advertised[0][..],
            self.receiver.as_str().as_bytes(),
            &self.advertised[1][..],
            encapsulation.map_or(&[][..], |encapsulation| &encapsulation[..]),
        ];
        let mut okm = Zeroizing::new([0; 44]);
        expand(secret.bytes(), self.context, labels::CHANNEL, &info, &mut okm[..]);
        let (key, nonce) = okm.split_at(32);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        (LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).expect("12 bytes are a nonce"))
    }

    fn associated_data(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(labels::SEALED_SHARES).u16(crate::VERSION).raw(&self.context.0);
        out.bytes(self.sender.as_str().as_bytes()).bytes(self.receiver.as_str().as_bytes());
        out.raw(self.advertised[0]).raw(self.advertised[1]);
        out.raw(&self.commitments.root).raw(&self.commitments.self_seed);
        out.finish()
    }
}
