//! ML-KEM-768 (FIPS 203), the post-quantum half of every secret that two participants agree on.
//!
//! Encapsulation takes its coins as an argument: those of a pairwise mask derive from the participant's root, so that a
//! dropout's neighbours can repeat it.

use libcrux_ml_kem::mlkem768::{self, MlKem768PrivateKey, MlKem768PublicKey};
use std::fmt;
use std::hint::black_box;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Bytes of an encapsulation key.
pub(crate) const KEY_LEN: usize = 1_184;
/// Bytes of an encapsulation.
pub(crate) const ENCAPSULATION_LEN: usize = 1_088;
/// Bytes of the seed that a key pair derives from: d and z of FIPS 203, Algorithm 16.
pub(crate) const SEED_LEN: usize = 64;
/// Bytes of a decapsulation key.
const SECRET_LEN: usize = 2_400;

/// What both ends of an encapsulation know.
pub(crate) type SharedSecret = Zeroizing<[u8; 32]>;

/// A decapsulation key; wiped when dropped.
#[derive(Clone)]
pub(crate) struct KemSecret {
    secret: Box<MlKem768PrivateKey>,
    public: Box<[u8; KEY_LEN]>,
}

impl KemSecret {
    pub(crate) fn from_seed(seed: &[u8; SEED_LEN]) -> Self {
        let (secret, public) = mlkem768::generate_key_pair(*seed).into_parts();
        Self { secret: Box::new(secret), public: Box::new(*public.as_slice()) }
    }

    pub(crate) fn public(&self) -> [u8; KEY_LEN] {
        *self.public
    }

    /// The secret in an encapsulation; for one that nobody made for this key, a secret that nobody else knows
    /// (implicit rejection, FIPS 203, Algorithm 18).
    pub(crate) fn decapsulate(&self, encapsulation: &[u8; ENCAPSULATION_LEN]) -> SharedSecret {
        Zeroizing::new(mlkem768::decapsulate(&self.secret, &encapsulation.into()))
    }
}

impl Drop for KemSecret {
    fn drop(&mut self) {
        // The type lets nobody write into it, but it can be replaced where it is. Whoever looks at it keeps the
        // compiler from thinking that nobody does.
        *self.secret = MlKem768PrivateKey::from([0; SECRET_LEN]);
        black_box(&self.secret);
    }
}

impl ZeroizeOnDrop for KemSecret {}

impl fmt::Debug for KemSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KemSecret")
    }
}

/// A peer's encapsulation key.
pub(crate) struct KemPublic(MlKem768PublicKey);

impl KemPublic {
    /// `None` for bytes that are no key (FIPS 203, section 7.2: the modulus check).
    pub(crate) fn parse(bytes: &[u8; KEY_LEN]) -> Option<Self> {
        let key = MlKem768PublicKey::from(bytes);
        mlkem768::validate_public_key(&key).then_some(Self(key))
    }

    pub(crate) fn encapsulate(&self, coins: &[u8; 32]) -> ([u8; ENCAPSULATION_LEN], SharedSecret) {
        let (encapsulation, shared) = mlkem768::encapsulate(&self.0, *coins);
        (*encapsulation.as_slice(), Zeroizing::new(shared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::kem;

    /// What AWS-LC encapsulates to our key, we decapsulate, and the other way round.
    #[test]
    fn agrees_with_aws_lc() {
        for fill in 0..8 {
            let ours = KemSecret::from_seed(&[fill; SEED_LEN]);
            let theirs = kem::EncapsulationKey::new(&kem::ML_KEM_768, &ours.public()).expect("a key");
            let (ciphertext, shared) = theirs.encapsulate().expect("a key");
            let ciphertext: [u8; ENCAPSULATION_LEN] = ciphertext.as_ref().try_into().expect("of that length");
            assert_eq!(&ours.decapsulate(&ciphertext)[..], shared.as_ref());

            let theirs = kem::DecapsulationKey::generate(&kem::ML_KEM_768).expect("randomness");
            let public = theirs.encapsulation_key().expect("a key").key_bytes().expect("bytes");
            let public: [u8; KEY_LEN] = public.as_ref().try_into().expect("of that length");
            let (ciphertext, shared) = KemPublic::parse(&public).expect("a key").encapsulate(&[fill; 32]);
            let again = theirs.decapsulate(ciphertext[..].into()).expect("of that length");
            assert_eq!(again.as_ref(), &shared[..]);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let mut public = KemSecret::from_seed(&[7; SEED_LEN]).public();
        assert!(KemPublic::parse(&public).is_some());
        // A coefficient above q - 1 = 3328.
        (public[0], public[1]) = (0xff, 0xff);
        assert!(KemPublic::parse(&public).is_none());
    }
}
