//! Signatures of messages and statements: one at a time and strictly, or many at once.

use crate::labels;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, VerifyingKey, verify_batch};
use std::sync::LazyLock;

/// A certificate key that signs; Ed25519 (RFC 8032).
pub trait Signer {
    /// The signature of `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

impl Signer for ed25519_dalek::SigningKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(self, message).to_bytes()
    }
}

/// Strict verification: small-order keys and non-canonical signatures are refused.
pub(crate) fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

/// A signature with what it is said to stand for.
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a VerifyingKey,
    pub(crate) statement: Vec<u8>,
    pub(crate) signature: [u8; 64],
}

/// Verifies many signatures at once, at about a third of the cost of one each.
///
/// Whatever strict verification takes, this takes. It can take more only from a signer that made its own signature with
/// a point off the group of prime order: nobody else gains anything by it, and the coordinator has verified each message
/// strictly.
///
/// # Errors
/// The place of the first signature that does not verify.
pub(crate) fn verify_all(claims: &[Claim<'_>]) -> Result<(), usize> {
    let statements: Vec<&[u8]> = claims.iter().map(|claim| claim.statement.as_slice()).collect();
    let signatures: Vec<Signature> = claims.iter().map(|claim| Signature::from_bytes(&claim.signature)).collect();
    let keys: Vec<VerifyingKey> = claims.iter().map(|claim| *claim.key).collect();
    let plain =
        keys.iter().all(|key| !key.is_weak()) && signatures.iter().all(|signature| is_plain(signature.r_bytes()));
    if plain && verify_batch(&statements, &signatures, &keys).is_ok() {
        return Ok(());
    }
    let good = |claim: &Claim<'_>| verify(claim.key, &claim.statement, &claim.signature);
    claims.iter().position(|claim| !good(claim)).map_or(Ok(()), Err)
}

/// Whether a point is canonically encoded and not of small order, as far as its bytes tell: what strict verification asks
/// of the point R in a signature and [`verify_batch`] does not.
fn is_plain(point: &[u8; 32]) -> bool {
    static SMALL: LazyLock<[[u8; 32]; 8]> = LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));
    let without_sign = |mut point: [u8; 32]| {
        point[31] &= 0x7f;
        point
    };
    let y = without_sign(*point);
    // At least 2^255 - 19.
    let unreduced = y[0] >= 0xed && y[1..31].iter().all(|&byte| byte == 0xff) && y[31] == 0x7f;
    !unreduced && SMALL.iter().all(|small| without_sign(*small) != y)
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
pub(crate) fn verify_message(key: &VerifyingKey, bytes: &[u8]) -> bool {
    claim(key, bytes).is_some_and(|claim| verify(key, &claim.statement, &claim.signature))
}

/// The signature at the end of a participant's message.
pub(crate) fn claim<'a>(key: &'a VerifyingKey, bytes: &[u8]) -> Option<Claim<'a>> {
    let (message, signature) = bytes.split_last_chunk()?;
    Some(Claim { key, statement: signed_bytes(message), signature: *signature })
}
