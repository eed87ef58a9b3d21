//! The key in a participant's certificate.

use crate::message::is_plain;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use ed25519_dalek::{Signature, VerifyingKey};

/// What a participant's signatures are verified with: an Ed25519 key (RFC 8032), or a P-256 key for ECDSA with SHA-256
/// (FIPS 186-5), which is what many smart cards and organisations have.
///
/// Only checked keys exist: canonically encoded, and a point that is on its curve and not of small order. Both kinds
/// sign in 64 bytes; under one name there is one key, so a signature is only ever tried as what its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateKey(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519(VerifyingKey),
    P256([u8; POINT_LEN]),
}

/// Bytes that are no key of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid Ed25519 or P-256 key in its one encoding")]
pub struct BadCertificateKey;

impl CertificateKey {
    /// Bytes of [`Self::to_bytes`], at most.
    pub const MAX_LEN: usize = 1 + POINT_LEN;

    /// A P-256 key, from its point in the uncompressed form of SEC 1, section 2.3.3: 0x04, x, y; 65 bytes.
    ///
    /// # Errors
    /// [`BadCertificateKey`]: another form, or no point of the curve.
    pub fn p256(point: &[u8]) -> Result<Self, BadCertificateKey> {
        let point: [u8; POINT_LEN] = point.try_into().map_err(|_| BadCertificateKey)?;
        if point[0] != UNCOMPRESSED || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_err() {
            return Err(BadCertificateKey);
        }
        Ok(Self(Kind::P256(point)))
    }

    /// Reads what [`Self::to_bytes`] gives.
    ///
    /// # Errors
    /// [`BadCertificateKey`], whatever is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadCertificateKey> {
        match bytes.split_first() {
            Some((&ED25519, key)) => VerifyingKey::try_from(key).map_err(|_| BadCertificateKey)?.try_into(),
            Some((&P256, point)) => Self::p256(point),
            _ => Err(BadCertificateKey),
        }
    }

    /// The form in which it is stored: the byte 1 and the 32 bytes of an Ed25519 key, or the byte 2 and the 65 bytes of
    /// a P-256 key's point.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Kind::Ed25519(key) => [&[ED25519][..], key.as_bytes()].concat(),
            Kind::P256(point) => [&[P256][..], point].concat(),
        }
    }

    pub(crate) fn ed25519(&self) -> Option<&VerifyingKey> {
        match &self.0 {
            Kind::Ed25519(key) => Some(key),
            Kind::P256(_) => None,
        }
    }

    /// Whether the signature is this key's, strictly: of what two signatures could stand for, one is refused.
    ///
    /// Of (r, s) and (r, n - s), which ECDSA takes both, only the one with the smaller s counts. A coordinator that turns
    /// one into the other would change no statement; but messages are compared and hashed with their signatures, and
    /// nobody but the signer is to be able to make a second one.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match &self.0 {
            Kind::Ed25519(key) => key.verify_strict(message, &Signature::from_bytes(signature)).is_ok(),
            Kind::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                signature[32..] <= P256_HALF_ORDER[..] && key.verify(message, signature).is_ok()
            }
        }
    }
}

impl TryFrom<VerifyingKey> for CertificateKey {
    type Error = BadCertificateKey;

    fn try_from(key: VerifyingKey) -> Result<Self, BadCertificateKey> {
        if is_plain(key.as_bytes()) { Ok(Self(Kind::Ed25519(key))) } else { Err(BadCertificateKey) }
    }
}

/// Kinds of keys; they are stored and never change.
const ED25519: u8 = 1;
const P256: u8 = 2;

const POINT_LEN: usize = 65;
/// First byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;
/// (n - 1) / 2 for the order n of P-256 (SP 800-186, section 3.2.1.3), big-endian.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    /// The base point of P-256 (SP 800-186, section 3.2.1.3).
    fn base_point() -> Vec<u8> {
        let (x, y) = (
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        );
        hex::decode(format!("04{x}{y}")).expect("hex")
    }

    #[test]
    fn both_kinds_are_read_as_they_were_stored() {
        let ed25519 = CertificateKey::try_from(SigningKey::from_bytes(&[7; 32]).verifying_key()).expect("a key");
        let p256 = CertificateKey::p256(&base_point()).expect("a point of the curve");
        assert_eq!((ed25519.to_bytes().len(), p256.to_bytes().len()), (33, 66));
        for key in [ed25519, p256] {
            assert_eq!(CertificateKey::from_bytes(&key.to_bytes()), Ok(key));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let point = base_point();
        let changed = |at: usize, to: u8| {
            let mut point = point.clone();
            point[at] = to;
            point
        };
        // x = 0 with y^2 = b is a point; x = p stands for the same.
        let prime = hex::decode("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff").expect("hex");
        let root = hex::decode("66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4").expect("hex");
        assert!(CertificateKey::p256(&[&[4][..], &[0; 32], &root].concat()).is_ok());
        let unreduced = [&[4][..], &prime, &root].concat();
        for (name, bad) in [
            ("off the curve", changed(64, 0xf4)),
            ("infinity", vec![0]),
            ("all zero", [&[4][..], &[0; 64]].concat()),
            ("unreduced", unreduced),
            ("compressed", [&[3], &point[1..33]].concat()),
            ("hybrid", changed(0, 7)),
            ("short", point[..64].to_vec()),
            ("long", [&point[..], &[0]].concat()),
        ] {
            assert_eq!(CertificateKey::p256(&bad), Err(BadCertificateKey), "{name}");
            assert_eq!(CertificateKey::from_bytes(&[&[2], &bad[..]].concat()), Err(BadCertificateKey), "{name}");
        }
        let mut neutral = [0; 32];
        neutral[0] = 1;
        // y = p + 3, which a lax decoder takes for 3: a point of the curve, and not of small order.
        let mut unreduced = [0xff; 32];
        (unreduced[0], unreduced[31]) = (0xf0, 0x7f);
        assert!(VerifyingKey::from_bytes(&unreduced).is_ok());
        for (name, bad) in [("small order", neutral), ("unreduced", unreduced)] {
            assert_eq!(CertificateKey::from_bytes(&[&[1], &bad[..]].concat()), Err(BadCertificateKey), "{name}");
        }
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        for (name, bad) in [
            ("nothing", vec![]),
            ("no kind", key.as_bytes().to_vec()),
            ("another kind", [&[0], &key.as_bytes()[..]].concat()),
            ("Ed25519 as P-256", [&[2], &key.as_bytes()[..]].concat()),
            ("P-256 as Ed25519", [&[1], &point[..]].concat()),
        ] {
            assert_eq!(CertificateKey::from_bytes(&bad), Err(BadCertificateKey), "{name}");
        }
    }
}
