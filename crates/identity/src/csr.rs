//! Certificate signing requests (PKCS #10, [RFC 2986]): made by whoever joins, read by the authority.
//!
//! [RFC 2986]: https://www.rfc-editor.org/rfc/rfc2986

use ed25519_dalek::VerifyingKey;
use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::{PrincipalId, PublicKey};

/// Most bytes of a request's PEM text. One of ours takes about 400.
pub const MAX_CSR_LEN: usize = 8 * 1024;

/// The request of `id` for a certificate over `key`, a [`PrincipalKey`](crate::PrincipalKey) or an
/// [`IdentityKey`](crate::IdentityKey), in PEM.
///
/// The name in it is a courtesy to whoever looks at it: the authority certifies the principal that the join secret
/// admits, and takes nothing but the key from the request.
pub fn make_csr(key: &impl rcgen::SigningKey, id: &PrincipalId) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, id.as_str());
    let request = params.serialize_request(key).expect("these parameters have a DER form, and our keys sign");
    request.pem().expect("DER always has a PEM form")
}

/// The key that a request in PEM asks a certificate for, once the request proves that its sender holds the key's
/// secret half. Requested names and extensions are not even returned.
pub(crate) fn verified_key(csr_pem: &str) -> Result<PublicKey, CsrError> {
    if csr_pem.len() > MAX_CSR_LEN {
        return Err(CsrError::TooLong { bytes: csr_pem.len() });
    }
    let mut requests = CertificateSigningRequestDer::pem_slice_iter(csr_pem.as_bytes());
    let (Some(Ok(der)), None) = (requests.next(), requests.next()) else {
        return Err(CsrError::NotPem);
    };
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let info = &csr.certification_request_info;
    let key = PublicKey::of(&info.subject_pki).ok().flatten().ok_or(CsrError::UnsupportedKey)?;
    if csr.signature_value.unused_bits != 0 {
        return Err(CsrError::BadSignature);
    }
    let (algorithm, signature) = (&csr.signature_algorithm, &csr.signature_value.data);
    key.verify_x509(algorithm, info.raw, signature).map_err(|_| CsrError::BadSignature)?;
    Ok(key)
}

/// The Ed25519 key inside a subject's key info ([RFC 8410] section 4), unless it is another kind of key, does not
/// encode a point, or encodes one of small order.
///
/// [RFC 8410]: https://www.rfc-editor.org/rfc/rfc8410
pub(crate) fn ed25519_key(info: &SubjectPublicKeyInfo<'_>) -> Option<VerifyingKey> {
    if !is_ed25519(&info.algorithm) || info.subject_public_key.unused_bits != 0 {
        return None;
    }
    let bytes: &[u8; 32] = info.subject_public_key.data.as_ref().try_into().ok()?;
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}

/// Whether the algorithm is Ed25519. RFC 8410 section 3: "the parameters MUST be absent".
pub(crate) fn is_ed25519(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    // id-Ed25519 names the key and the signature alike.
    algorithm.algorithm == OID_SIG_ED25519 && algorithm.parameters.is_none()
}

/// Why a signing request got no certificate. All of them are the sender's to fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Send a plain request.
    #[error("a signing request holds at most {MAX_CSR_LEN} bytes, this one {bytes}")]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// Send one request in PEM.
    #[error("not a single PEM block \"CERTIFICATE REQUEST\"")]
    NotPem,
    /// Send a PKCS #10 request.
    #[error("the signing request is not valid PKCS #10 (RFC 2986)")]
    Malformed,
    /// Make an Ed25519 or a P-256 key.
    #[error("the signing request is not for a valid Ed25519 or P-256 key, the kinds that are certified")]
    UnsupportedKey,
    /// The request was altered, or its sender does not hold the key.
    #[error("the signing request is not signed by the key it asks a certificate for")]
    BadSignature,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, IsCa, KeyPair, SanType};

    use super::*;
    use crate::{IdentityKey, pem};

    fn key() -> IdentityKey {
        IdentityKey::from_seed(&[3; 32])
    }

    fn csr() -> String {
        make_csr(&key(), &"site-0001".parse().unwrap())
    }

    fn certified() -> PublicKey {
        PublicKey::ed25519(key().verifying_key())
    }

    fn der_of(pem_text: &str) -> Vec<u8> {
        CertificateSigningRequestDer::from_pem_slice(pem_text.as_bytes()).unwrap().to_vec()
    }

    #[test]
    fn a_request_proves_its_key() {
        assert_eq!(verified_key(&csr()).unwrap(), certified());
    }

    #[test]
    fn each_defect_has_its_error() {
        let der = der_of(&csr());
        let block = |der: &[u8]| pem::encode(pem::CERTIFICATE_REQUEST, der).to_string();
        let mut tampered = der.clone();
        *tampered.last_mut().unwrap() ^= 1;
        let name_at = der.windows(9).position(|w| w == b"site-0001").unwrap();
        let mut renamed = der.clone();
        renamed[name_at] = b'S';
        let mut trailing = der.clone();
        trailing.push(0);
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let p384 = CertificateParams::default().serialize_request(&p384).unwrap().pem().unwrap();
        for (name, text, want) in [
            ("tampered signature", block(&tampered), CsrError::BadSignature),
            ("tampered name", block(&renamed), CsrError::BadSignature),
            ("trailing byte", block(&trailing), CsrError::Malformed),
            ("truncated", block(&der[..der.len() - 1]), CsrError::Malformed),
            ("P-384", p384, CsrError::UnsupportedKey),
            ("two requests", csr() + &csr(), CsrError::NotPem),
            ("a certificate's label", csr().replace("CERTIFICATE REQUEST", "CERTIFICATE"), CsrError::NotPem),
            ("nothing", String::new(), CsrError::NotPem),
            ("oversized", " ".repeat(MAX_CSR_LEN + 1), CsrError::TooLong { bytes: MAX_CSR_LEN + 1 }),
        ] {
            assert_eq!(verified_key(&text).unwrap_err(), want, "{name}");
        }
    }

    /// Signed with one key over another key's request.
    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        struct Impostor(IdentityKey, IdentityKey);
        impl rcgen::PublicKeyData for Impostor {
            fn der_bytes(&self) -> &[u8] {
                rcgen::PublicKeyData::der_bytes(&self.0)
            }
            fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
                &rcgen::PKCS_ED25519
            }
        }
        impl rcgen::SigningKey for Impostor {
            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
                Ok(self.1.sign(message).to_vec())
            }
        }
        let impostor = Impostor(key(), IdentityKey::from_seed(&[4; 32]));
        let text = CertificateParams::default().serialize_request(&impostor).unwrap().pem().unwrap();
        assert_eq!(verified_key(&text).unwrap_err(), CsrError::BadSignature);
    }

    #[test]
    fn wishes_in_a_request_are_neither_granted_nor_fatal() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names.push(SanType::URI("spiffe://demo/admin/administrator".try_into().unwrap()));
        let text = params.serialize_request(&key()).unwrap().pem().unwrap();
        assert_eq!(verified_key(&text).unwrap(), certified());
    }

    proptest! {
        #[test]
        fn arbitrary_requests_are_an_answer_and_never_a_panic(
            text in ".{0,200}",
            noise in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            prop_assert!(verified_key(&text).is_err());
            prop_assert!(verified_key(&pem::encode(pem::CERTIFICATE_REQUEST, &noise)).is_err());
            let mut der = der_of(&csr());
            let at = at.index(der.len());
            der[at] ^= 1u8 << bit;
            // The parser takes a few odd encodings outside of what is signed; inside, a flipped bit shows.
            if let Ok(found) = verified_key(&pem::encode(pem::CERTIFICATE_REQUEST, &der)) {
                prop_assert_eq!(found, certified());
            }
        }
    }
}
