//! X25519 (RFC 7748), the classical half of every secret that two participants agree on.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A secret key; wiped when dropped.
pub(crate) struct X25519Secret {
    bytes: Box<[u8; 32]>,
    /// The same, as the library holds it, which wipes it too.
    key: PrivateKey,
}

impl X25519Secret {
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let key = PrivateKey::from_private_key(&X25519, bytes).expect("any 32 bytes are a key");
        Self { bytes: Box::new(*bytes), key }
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        let public = self.key.compute_public_key().expect("every secret key has one");
        public.as_ref().try_into().expect("32 bytes")
    }

    /// What both ends agree on; `None` if the peer's key has a small order, so that it would be public.
    pub(crate) fn agree(&self, peer: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let copy = |shared: &[u8]| {
            let mut copy = Zeroizing::new([0; 32]);
            copy.copy_from_slice(shared);
            Ok(copy)
        };
        agree(&self.key, UnparsedPublicKey::new(&X25519, peer), (), copy).ok()
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn dangerous_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl Clone for X25519Secret {
    fn clone(&self) -> Self {
        Self::from_bytes(&self.bytes)
    }
}

impl Drop for X25519Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl ZeroizeOnDrop for X25519Secret {}

impl fmt::Debug for X25519Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("X25519Secret")
    }
}

/// Whether a public key has a small order: whatever secret it is combined with, the result is public.
///
/// The bit that X25519 ignores is ignored here too (RFC 7748, section 5).
pub(crate) fn has_small_order(public: &[u8; 32]) -> bool {
    let mut public = *public;
    public[31] &= 0x7f;
    SMALL_ORDER.contains(&public)
}

/// Coordinates of the points of the curve and of its twist whose order divides 8, as all their 255-bit encodings: 0, 1,
/// two of order 8, then p - 1, p and p + 1 for p = 2^255 - 19.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

const fn with_ends(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use x25519_dalek::x25519;

    /// A clamped scalar is a multiple of the cofactor and of no large prime order, so any of them tells.
    fn gives_zero(public: &[u8; 32]) -> bool {
        x25519([7; 32], *public) == [0; 32]
    }

    /// Every key whose coordinate is near an end of the field, and the listed ones with each bit flipped, judged by what
    /// another implementation of X25519 makes of them.
    #[test]
    fn small_orders_are_those_that_give_zero() {
        let mut keys: Vec<[u8; 32]> = SMALL_ORDER.to_vec();
        for low in 0..=0xff {
            keys.extend([with_ends(low, 0, 0), with_ends(low, 0xff, 0x7f)]);
        }
        for small in SMALL_ORDER {
            for bit in 0..256 {
                let mut key = small;
                key[bit / 8] ^= 1 << (bit % 8);
                keys.push(key);
            }
        }
        let mut small = 0;
        for key in keys {
            assert_eq!(has_small_order(&key), gives_zero(&key), "{key:02x?}");
            assert_eq!(X25519Secret::from_bytes(&[9; 32]).agree(&key).is_none(), gives_zero(&key), "{key:02x?}");
            small += usize::from(gives_zero(&key));
        }
        assert!(small >= 14);
    }

    #[test]
    fn agrees_with_another_implementation() {
        for fill in 0..20 {
            let (ours, theirs) = (X25519Secret::from_bytes(&[fill; 32]), [fill ^ 0x55; 32]);
            let public = x25519(theirs, x25519_dalek::X25519_BASEPOINT_BYTES);
            assert_eq!(ours.public(), x25519([fill; 32], x25519_dalek::X25519_BASEPOINT_BYTES));
            assert_eq!(*ours.agree(&public).expect("an ordinary key"), x25519(theirs, ours.public()));
        }
    }
}
