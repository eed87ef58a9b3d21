//! Ed25519 keys of principals and of the federation itself, and the one function that verifies their signatures.

use std::fmt;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::pem;

/// An Ed25519 secret ([RFC 8032]): of the federation, for tokens and rosters, or of a principal. It is made where it is used and never sent.
///
/// Wiped on drop, boxed so that moves leave no copies, printed as its type name only.
///
/// [RFC 8032]: https://www.rfc-editor.org/rfc/rfc8032
pub struct IdentityKey(Box<SigningKey>);

impl IdentityKey {
    /// The key that belongs to 32 secret, uniform bytes: the same seed gives the same key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed)))
    }

    /// A fresh key from 32 bytes of `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(&seed)
    }

    /// Reads PKCS#8 in PEM, version 1 or 2, as [`IdentityKey::to_pkcs8_pem`] or OpenSSL write it.
    ///
    /// # Errors
    /// [`KeyError`]: not one unencrypted `PRIVATE KEY` block, not Ed25519, or a public half that does not belong.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_pkcs8_der(&decode_private_key(text)?)
    }

    pub(crate) fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_der(der).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self(Box::new(key)))
    }

    /// PKCS#8 in DER, version 1 ([RFC 8410] section 7): 48 bytes.
    ///
    /// Version 1, without the public half, because OpenSSL 3.0 and what is built on it refuse version 2.
    ///
    /// [RFC 8410]: https://www.rfc-editor.org/rfc/rfc8410
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let document = bytes.to_pkcs8_der().expect("a 32-byte key always has a PKCS#8 form");
        Zeroizing::new(document.as_bytes().to_vec())
    }

    /// [`IdentityKey::to_pkcs8_der`] in PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, &self.to_pkcs8_der())
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    /// The signature of `message`, checked by [`verify`]. Deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The same key for [`crate::Authority`]. The copy inside is wiped by the authority, not by `rcgen` itself; to
    /// sign a request or a certificate once, pass the `IdentityKey`, which is an [`rcgen::SigningKey`] without copies.
    pub fn rcgen_key_pair(&self) -> rcgen::KeyPair {
        let der = self.to_pkcs8_der();
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &rcgen::PKCS_ED25519)
            .expect("every Ed25519 seed is a key for AWS-LC")
    }
}

/// Verifies an Ed25519 signature strictly: canonical encodings, and neither the key nor the signature's point of small
/// order, so that no two keys or messages share a signature (`verify_strict` of ed25519-dalek; compare [CGN20]).
///
/// # Errors
/// [`BadSignature`], without saying what was wrong: there is nothing to do about it but refuse.
///
/// [CGN20]: https://eprint.iacr.org/2020/1244
pub fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
    key.verify_strict(message, &signature).map_err(|_| BadSignature)
}

/// The signature was not made by this key over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Ed25519 signature does not verify")]
pub struct BadSignature;

/// A private key's text that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key file.
    #[error("a private key file holds at most {MAX_KEY_PEM_LEN} bytes, this one {bytes}")]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// Encrypted keys and older formats need converting: `openssl pkcs8 -topk8 -nocrypt`.
    #[error("not a single PEM block \"PRIVATE KEY\" (PKCS#8, not encrypted)")]
    NotPem,
    /// Give an Ed25519 key.
    #[error("the private key is not a valid Ed25519 key")]
    NotEd25519,
    /// Give an Ed25519 or a P-256 key.
    #[error("the private key is neither a valid Ed25519 key nor a valid P-256 key")]
    Unsupported,
}

/// The PKCS#8 content of a private key's PEM text, bounded before it is decoded.
pub(crate) fn decode_private_key(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if text.len() > MAX_KEY_PEM_LEN {
        return Err(KeyError::TooLong { bytes: text.len() });
    }
    pem::decode_secret(pem::PRIVATE_KEY, text).ok_or(KeyError::NotPem)
}

/// Ed25519 and P-256 keys take below 250 bytes.
const MAX_KEY_PEM_LEN: usize = 4096;

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey")
    }
}

impl rcgen::PublicKeyData for IdentityKey {
    fn der_bytes(&self) -> &[u8] {
        AsRef::<VerifyingKey>::as_ref(&*self.0).as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for IdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(IdentityKey::sign(self, message).to_vec())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use rcgen::{PublicKeyData as _, SigningKey as _};
    use serde_json::Value;

    use super::*;

    /// RFC 8032 section 7.1, TEST 2.
    #[test]
    fn signs_as_rfc_8032_says() {
        let seed = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = IdentityKey::from_seed(&seed.try_into().unwrap());
        let signature = key.sign(&[0x72]);
        assert_eq!(
            hex::encode(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(verify(&key.verifying_key(), &[0x72], &signature), Ok(()));
        assert_eq!(verify(&key.verifying_key(), &[0x73], &signature), Err(BadSignature));
        assert_eq!(verify(&key.verifying_key(), &[0x72], &signature[..63]), Err(BadSignature));
    }

    #[test]
    fn survives_pem_and_never_prints_itself() {
        let key = IdentityKey::from_seed(&[7; 32]);
        let text = key.to_pkcs8_pem();
        assert_eq!(IdentityKey::from_pkcs8_pem(&text).unwrap().verifying_key(), key.verifying_key());
        assert_eq!(key.to_pkcs8_der().len(), 48);
        assert_eq!(format!("{key:?}"), "IdentityKey");
        let p256 = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(IdentityKey::from_pkcs8_pem(&p256).unwrap_err(), KeyError::NotEd25519);
        assert_eq!(IdentityKey::from_pkcs8_pem("no").unwrap_err(), KeyError::NotPem);
        let long = "x".repeat(5000);
        assert_eq!(IdentityKey::from_pkcs8_pem(&long).unwrap_err(), KeyError::TooLong { bytes: 5000 });
    }

    /// Three libraries hold the key: all sign alike.
    #[test]
    fn rcgen_signs_with_the_same_key() {
        let key = IdentityKey::from_seed(&[9; 32]);
        let pair = key.rcgen_key_pair();
        assert_eq!(pair.der_bytes(), key.der_bytes());
        assert_eq!(pair.sign(b"m").unwrap(), key.sign(b"m"));
    }

    /// With the neutral point as key and as `R`, and `s = 0`, the plain equation of RFC 8032 holds for every message.
    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let key = VerifyingKey::from_bytes(&neutral).unwrap();
        let signature = [neutral, [0; 32]].concat();
        let lax = ed25519_dalek::Verifier::verify(&key, b"anything", &Signature::from_slice(&signature).unwrap());
        assert!(lax.is_ok());
        assert_eq!(verify(&key, b"anything", &signature), Err(BadSignature));
    }

    #[test]
    fn project_wycheproof_ed25519() {
        let vectors: Value =
            serde_json::from_str(include_str!("../tests/vectors/wycheproof/ed25519_test.json")).unwrap();
        let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
        let mut seen = 0;
        for group in vectors["testGroups"].as_array().unwrap() {
            let key: [u8; 32] = bytes(&group["publicKey"]["pk"]).try_into().unwrap();
            let key = VerifyingKey::from_bytes(&key);
            for test in group["tests"].as_array().unwrap() {
                let got = key.as_ref().is_ok_and(|key| verify(key, &bytes(&test["msg"]), &bytes(&test["sig"])).is_ok());
                assert_eq!(got, test["result"] == "valid", "tcId {} {}", test["tcId"], test["comment"]);
                seen += 1;
            }
        }
        assert_eq!(seen, vectors["numberOfTests"].as_u64().unwrap());
    }

    proptest! {
        #[test]
        fn arbitrary_key_files_are_an_answer_and_never_a_panic(
            text in ".{0,200}",
            der in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(IdentityKey::from_pkcs8_pem(&text).is_err());
            let _ = IdentityKey::from_pkcs8_pem(&pem::encode(pem::PRIVATE_KEY, &der));
        }
    }
}
