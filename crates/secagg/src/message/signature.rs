//! Signatures of messages and statements: one at a time and strictly, or many at once.

use crate::certificate_key::CertificateKey;
use crate::labels;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, VerifyingKey, verify_batch};
use std::sync::LazyLock;

/// A certificate key that signs: the secret half of a [`CertificateKey`].
pub trait Signer {
    /// The signature of `message`: Ed25519 (RFC 8032), or ECDSA on P-256 with SHA-256 (FIPS 186-5) as r and s, 32 bytes
    /// each, big-endian, with s at most (n - 1) / 2. ECDSA signatures are made with randomness, and two of one message
    /// differ: a message is signed once, and those bytes are stored and sent again.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

impl Signer for ed25519_dalek::SigningKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(self, message).to_bytes()
    }
}

/// Strict verification: small-order keys and non-canonical signatures are refused.
pub(crate) fn verify(key: &CertificateKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verifies(message, signature)
}

/// The same for the registrar's key, which is Ed25519.
pub(crate) fn verify_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

/// A signature with what it is said to stand for.
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a CertificateKey,
    pub(crate) statement: Vec<u8>,
    pub(crate) signature: [u8; 64],
}

/// Verifies many signatures: those of Ed25519 at once, at about a third of the cost of one each, and those of P-256, for
/// which there is no such sum, one by one.
///
/// Whatever strict verification takes, this takes. It can take more only from a signer that made its own signature with
/// a point off the group of prime order: nobody else gains anything by it, and the coordinator has verified each message
/// strictly.
///
/// # Errors
/// The place of the first signature that does not verify.
pub(crate) fn verify_all(claims: &[Claim<'_>]) -> Result<(), usize> {
    let (mut statements, mut signatures, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (claim, key) in claims.iter().filter_map(|claim| Some((claim, claim.key.ed25519()?))) {
        statements.push(claim.statement.as_slice());
        signatures.push(Signature::from_bytes(&claim.signature));
        keys.push(*key);
    }
    // A certificate's key is plain itself.
    let plain = signatures.iter().all(|signature| is_plain(signature.r_bytes()));
    let batch = plain && verify_batch(&statements, &signatures, &keys).is_ok();
    let good = |claim: &Claim<'_>| {
        (batch && claim.key.ed25519().is_some()) || verify(claim.key, &claim.statement, &claim.signature)
    };
    claims.iter().position(|claim| !good(claim)).map_or(Ok(()), Err)
}

/// Whether a point is canonically encoded and not of small order, as far as its bytes tell: what strict verification asks
/// of the point R in a signature and [`verify_batch`] does not, and what we ask of a key.
pub(crate) fn is_plain(point: &[u8; 32]) -> bool {
    static SMALL: LazyLock<[[u8; 32]; 8]> = LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));
    let without_sign = |point: &[u8; 32]| {
        let mut y = *point;
        y[31] &= 0x7f;
        y
    };
    let y = without_sign(point);
    // At least 2^255 - 19.
    let unreduced = y[0] >= 0xed && y[1..31].iter().all(|&byte| byte == 0xff) && y[31] == 0x7f;
    !unreduced && SMALL.iter().all(|small| without_sign(small) != y)
}

/// A participant's message before its signature.
pub(super) struct Unsigned(pub(super) Vec<u8>);

impl Unsigned {
    pub(super) fn sign(mut self, signer: &impl Signer) -> Vec<u8> {
        let signature = signer.sign(&signed_bytes(&self.0));
        self.0.extend_from_slice(&signature);
        self.0
    }
}

pub(super) fn signed_bytes(message: &[u8]) -> Vec<u8> {
    [labels::MESSAGE_SIGNATURE, message].concat()
}

/// Whether a participant's message, which ends with its signature, was signed by `key`.
pub(crate) fn verify_message(key: &CertificateKey, bytes: &[u8]) -> bool {
    claim(key, bytes).is_some_and(|claim| verify(key, &claim.statement, &claim.signature))
}

/// The signature at the end of a participant's message.
pub(crate) fn claim<'a>(key: &'a CertificateKey, bytes: &[u8]) -> Option<Claim<'a>> {
    let (message, signature) = bytes.split_last_chunk()?;
    Some(Claim { key, statement: signed_bytes(message), signature: *signature })
}
