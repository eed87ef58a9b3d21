//! Keys that certificates of principals are issued for: Ed25519, or P-256 for organisations whose keys are of that kind.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    KeyPair as _, ParsedPublicKey, Signature, UnparsedPublicKey,
};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::PrivateKeyInfoRef;
use rand_core::CryptoRng;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::csr::{ed25519_key, is_ed25519};
use crate::keys::decode_private_key;
use crate::{BadSignature, IdentityKey, KeyError, keys, pem};

/// The secret key of a principal's certificate, of either kind. It is made where it is used and never sent.
///
/// The keys of the federation itself, for tokens and rosters, are [`IdentityKey`]s.
#[derive(Debug)]
pub enum PrincipalKey {
    /// Signs without randomness, and is verified in batches.
    Ed25519(IdentityKey),
    /// ECDSA on P-256 with SHA-256.
    P256(P256Key),
}

/// Which kind of key; `ed25519` or `p256` as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// RFC 8032.
    #[default]
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5).
    P256,
}

/// A P-256 secret for ECDSA with SHA-256 ([FIPS 186-5]).
///
/// Wiped on drop, boxed so that moves leave no copies, printed as its type name only. AWS-LC signs, with nonces from its
/// own randomness, and keeps a copy that it wipes itself.
///
/// [FIPS 186-5]: https://doi.org/10.6028/NIST.FIPS.186-5
pub struct P256Key {
    secret: Box<Zeroizing<[u8; SECRET_LEN]>>,
    pair: EcdsaKeyPair,
}

/// The key that a certificate is issued for: a point of its curve, in its one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(Point);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Ed25519(VerifyingKey),
    P256([u8; POINT_LEN]),
}

impl PrincipalKey {
    /// A fresh key from bytes of `rng`.
    pub fn generate(key_type: KeyType, rng: &mut impl CryptoRng) -> Self {
        match key_type {
            KeyType::Ed25519 => Self::Ed25519(IdentityKey::generate(rng)),
            KeyType::P256 => Self::P256(P256Key::generate(rng)),
        }
    }

    /// Reads PKCS#8 in PEM, as [`PrincipalKey::to_pkcs8_pem`] or OpenSSL write it.
    ///
    /// # Errors
    /// [`KeyError`]: not one unencrypted `PRIVATE KEY` block, neither Ed25519 nor P-256, or a public half that does not
    /// belong.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, KeyError> {
        let der = decode_private_key(text)?;
        if let Ok(key) = IdentityKey::from_pkcs8_der(&der) {
            return Ok(Self::Ed25519(key));
        }
        P256Key::from_pkcs8_der(&der).map(Self::P256).ok_or(KeyError::Unsupported)
    }

    /// PKCS#8 in DER, version 1. The same bytes for the same key, whatever file it was read from.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Ed25519(key) => key.to_pkcs8_der(),
            Self::P256(key) => key.to_pkcs8_der(),
        }
    }

    /// [`PrincipalKey::to_pkcs8_der`] in PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, &self.to_pkcs8_der())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        match self {
            Self::Ed25519(key) => PublicKey::ed25519(key.verifying_key()),
            Self::P256(key) => PublicKey(Point::P256(key.point())),
        }
    }

    /// The signature of `message` in 64 bytes: Ed25519, or r and s of ECDSA with the smaller of the two values of s.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            Self::Ed25519(key) => key.sign(message),
            Self::P256(key) => key.sign(message),
        }
    }
}

impl From<IdentityKey> for PrincipalKey {
    fn from(key: IdentityKey) -> Self {
        Self::Ed25519(key)
    }
}

impl P256Key {
    /// The key that belongs to 32 secret bytes, a number from 1 to n - 1 in big-endian order; `None` for another number.
    pub fn from_secret(secret: &[u8; SECRET_LEN]) -> Option<Self> {
        let point = agreement::PrivateKey::from_private_key(&ECDH_P256, secret).ok()?.compute_public_key().ok()?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, point.as_ref()).ok()?;
        Some(Self { secret: Box::new(Zeroizing::new(*secret)), pair })
    }

    /// A fresh key from bytes of `rng`: numbers are drawn until one is below n (FIPS 186-5, A.2.2), which one in 2^32 is
    /// not.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        loop {
            rng.fill_bytes(&mut *secret);
            if let Some(key) = Self::from_secret(&secret) {
                return key;
            }
        }
    }

    fn from_pkcs8_der(der: &[u8]) -> Option<Self> {
        // AWS-LC checks the whole of it, and that the public half belongs.
        let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        // RFC 5915: SEQUENCE { INTEGER 1, OCTET STRING of 32 bytes, ... }, below 128 bytes. It is read here because what
        // AWS-LC gives out is not wiped.
        let inner = PrivateKeyInfoRef::try_from(der).ok()?.private_key;
        let [0x30, 0..0x80, rest @ ..] = inner.as_bytes() else { return None };
        let key = Self::from_secret(rest.strip_prefix(&[2, 1, 1, 4, 32])?.first_chunk()?)?;
        (key.point()[..] == *read.public_key().as_ref()).then_some(key)
    }

    fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_HEAD.len() + SECRET_LEN + PKCS8_POINT.len() + POINT_LEN));
        der.extend_from_slice(&PKCS8_HEAD);
        der.extend_from_slice(&self.secret[..]);
        der.extend_from_slice(&PKCS8_POINT);
        der.extend_from_slice(&self.point());
        der
    }

    fn point(&self) -> [u8; POINT_LEN] {
        self.pair.public_key().as_ref().try_into().expect("AWS-LC gives P-256 points uncompressed")
    }

    /// r and s, 32 bytes each; of s and n - s the smaller one. Two signatures of one message differ.
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = sign(&self.pair, message);
        let mut signature: [u8; 64] = signature.as_ref().try_into().expect("fixed signatures of P-256 have 64 bytes");
        let (_, s) = signature.split_at_mut(SECRET_LEN);
        let s: &mut [u8; SECRET_LEN] = s.try_into().expect("the other half");
        if *s > HALF_ORDER {
            *s = order_minus(s);
        }
        signature
    }

    /// In DER, as X.509 and PKCS #10 want it.
    fn sign_asn1(&self, message: &[u8]) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.to_pkcs8_der());
        sign(&pair.expect("it is a key for AWS-LC"), message).as_ref().to_vec()
    }
}

/// The one place where this core's result depends on randomness that it was not given.
#[allow(
    clippy::disallowed_types,
    reason = "AWS-LC draws the nonces of ECDSA itself, takes none from outside, and ignores this argument"
)]
fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Signature {
    pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message).expect("AWS-LC signs with every key that it has taken")
}

/// n - s for s below the order n. Signatures are public: nothing here has to take constant time.
fn order_minus(s: &[u8; SECRET_LEN]) -> [u8; SECRET_LEN] {
    let mut difference = [0; SECRET_LEN];
    let mut borrow = false;
    for at in (0..SECRET_LEN).rev() {
        let (once, under) = ORDER[at].overflowing_sub(s[at]);
        let (twice, again) = once.overflowing_sub(u8::from(borrow));
        (difference[at], borrow) = (twice, under || again);
    }
    difference
}

impl PublicKey {
    pub(crate) fn ed25519(key: VerifyingKey) -> Self {
        Self(Point::Ed25519(key))
    }

    /// The key inside a subject's key info; `Ok(None)` if it is of another kind.
    ///
    /// # Errors
    /// [`BadPoint`]: of one of the two kinds, and not a point of its curve in its one encoding, or of small order.
    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Option<Self>, BadPoint> {
        if is_ed25519(&info.algorithm) {
            return ed25519_key(info).map(|key| Some(Self::ed25519(key))).ok_or(BadPoint);
        }
        if !is_p256(&info.algorithm) {
            return Ok(None);
        }
        let point: [u8; POINT_LEN] = info.subject_public_key.data.as_ref().try_into().map_err(|_| BadPoint)?;
        let whole = info.subject_public_key.unused_bits == 0 && point[0] == UNCOMPRESSED;
        let on_curve = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).is_ok();
        if whole && on_curve { Ok(Some(Self(Point::P256(point)))) } else { Err(BadPoint) }
    }

    /// Which kind it is.
    pub fn key_type(&self) -> KeyType {
        match self.0 {
            Point::Ed25519(_) => KeyType::Ed25519,
            Point::P256(_) => KeyType::P256,
        }
    }

    /// The byte 1 and the 32 bytes of an Ed25519 key, or the byte 2 and the 65 bytes of a P-256 key's uncompressed point
    /// (SEC 1, section 2.3.3): the form in which keys are stored, and in which the protocol's core reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.0 {
            Point::Ed25519(_) => ED25519,
            Point::P256(_) => P256,
        };
        [&[kind], self.as_subject()].concat()
    }

    /// As it stands in a certificate.
    fn as_subject(&self) -> &[u8] {
        match &self.0 {
            Point::Ed25519(key) => key.as_bytes(),
            Point::P256(point) => point,
        }
    }

    /// Verifies the signature of a signing request or certificate by this key: of the algorithm that goes with the key.
    pub(crate) fn verify_x509(
        &self,
        algorithm: &AlgorithmIdentifier<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        match &self.0 {
            Point::Ed25519(key) if is_ed25519(algorithm) => keys::verify(key, message, signature),
            Point::P256(point) if is_ecdsa_with_sha256(algorithm) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
                key.verify(message, signature).map_err(|_| BadSignature)
            }
            _ => Err(BadSignature),
        }
    }
}

/// A key of a known kind that is no point of its curve.
#[derive(Debug)]
pub(crate) struct BadPoint;

/// RFC 5480 section 2.1.1: the parameters name the curve.
fn is_p256(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256)
}

/// RFC 5758 section 3.2: "the encoding MUST omit the parameters field".
fn is_ecdsa_with_sha256(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256 && algorithm.parameters.is_none()
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.as_subject()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.key_type() {
            KeyType::Ed25519 => &rcgen::PKCS_ED25519,
            KeyType::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl rcgen::PublicKeyData for PrincipalKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.der_bytes(),
            Self::P256(key) => key.pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.public_key().algorithm()
    }
}

impl rcgen::SigningKey for PrincipalKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Ed25519(key) => rcgen::SigningKey::sign(key, message),
            Self::P256(key) => Ok(key.sign_asn1(message)),
        }
    }
}

impl fmt::Debug for P256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P256Key")
    }
}

impl KeyType {
    /// As text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no kind of key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is ed25519 or p256")]
pub struct InvalidKeyType;

impl FromStr for KeyType {
    type Err = InvalidKeyType;

    fn from_str(text: &str) -> Result<Self, InvalidKeyType> {
        [Self::Ed25519, Self::P256].into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidKeyType)
    }
}

/// Kinds of keys; they are stored and never change.
const ED25519: u8 = 1;
const P256: u8 = 2;

const SECRET_LEN: usize = 32;
const POINT_LEN: usize = 65;
/// First byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;

/// n (SP 800-186, section 3.2.1.3), big-endian.
const ORDER: [u8; SECRET_LEN] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// (n - 1) / 2.
const HALF_ORDER: [u8; SECRET_LEN] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// PKCS#8 version 1 (RFC 5208) of an `ECPrivateKey` (RFC 5915) on P-256, as OpenSSL writes it: what stands before the
/// secret: version 0, id-ecPublicKey with prime256v1, and the inner version 1.
const PKCS8_HEAD: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
];
/// What stands between the secret and the point: `[1] BIT STRING`.
const PKCS8_POINT: [u8; 5] = [0xa1, 0x44, 0x03, 0x42, 0x00];

#[cfg(test)]
mod tests;
