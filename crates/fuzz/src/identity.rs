//! Certificates, requests for them, invitations and tokens: as they come from strangers, and behind signatures that are
//! true.

use crate::federation::{FEDERATION, Federation, NOW};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rustls_pki_types::{CertificateDer, ServerName};
use sordino_identity::{
    Claims, Invitation, LEEWAY, Role, SerialNumber, TokenTtl, TrustError, Validity, VerifiedPrincipal, decode_chain,
    encode_chain,
};
use std::time::Duration;

/// Chains as peers send them. The federation's authorities never signed for anybody but its participant.
pub(crate) fn certificate_chain(bytes: &[u8]) {
    let Some(chain) = decode_chain(bytes) else { return };
    assert_eq!(encode_chain(&chain), bytes, "a chain has one encoding");
    if let Ok(verified) = verified(&FEDERATION, &chain) {
        assert_eq!(*verified.principal(), FEDERATION.participant);
    }
}

/// The fields of a leaf, under the intermediate's true signature: what is behind it decides.
pub(crate) fn certificate_fields(bytes: &[u8]) {
    let chain = FEDERATION.certified(bytes);
    let named = |verified: &VerifiedPrincipal| {
        let name = verified.principal().spiffe_id();
        assert_eq!(&verified.principal().federation, FEDERATION.anchors.federation());
        assert!(bytes.windows(name.len()).any(|part| part == name.as_bytes()), "{name} stands in the certificate");
    };
    if let Ok(verified) = verified(&FEDERATION, &chain) {
        named(&verified);
    }
    let localhost = ServerName::try_from("localhost").expect("a name");
    if let Ok(verified) = FEDERATION.anchors.verify_server(&chain, &localhost, NOW) {
        assert_eq!(verified.principal().role, Role::Coordinator);
        named(&verified);
    }
}

/// Whose chain it is: with a memory, before and after it remembers, the answer is the same, also when time has passed.
fn verified(federation: &Federation, chain: &[CertificateDer<'_>]) -> Result<VerifiedPrincipal, TrustError> {
    let bytes = encode_chain(chain);
    let first = federation.anchors.verify_client(chain, NOW);
    for now in [NOW, NOW, NOW + Duration::from_hours(36), NOW] {
        let again = federation.chains.verify_client(&bytes, now);
        assert_eq!(again, if now == NOW { first.clone() } else { federation.anchors.verify_client(chain, now) });
    }
    first
}

/// PEM of a signing request: a certificate is issued for the key that signed it, under the name that we know.
pub(crate) fn signing_request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let validity = Validity::starting(NOW, Duration::from_hours(1)).expect("in range");
    let serial = SerialNumber::random(&mut ChaCha20Rng::seed_from_u64(2));
    if let Ok(issued) = FEDERATION.intermediate.issue_client(text, &FEDERATION.participant, validity, serial) {
        let verified = FEDERATION.anchors.verify_client(&issued.chain(), NOW).expect("our own certificate");
        assert_eq!(*verified.principal(), FEDERATION.participant);
        assert!(verified.public_key().is_some(), "only keys that can sign are certified");
    }
}

pub(crate) fn invitation(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(invitation) = text.parse::<Invitation>() {
        let again: Invitation = invitation.to_text().parse().expect("just written");
        assert_eq!(again.to_text(), invitation.to_text());
    }
}

/// Tokens as peers send them: the key signed for the participant only.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(claims) = FEDERATION.tokens.verify(text, &FEDERATION.verified, NOW) {
        accepted(&claims);
    }
}

/// The claims of a token, under a true signature: what is behind it decides.
pub(crate) fn token_claims(bytes: &[u8]) {
    if let Ok(claims) = FEDERATION.tokens.verify(&FEDERATION.claimed(bytes), &FEDERATION.verified, NOW) {
        accepted(&claims);
    }
}

/// Whatever a token says, it is for whoever presents it, for now, and not for long.
fn accepted(claims: &Claims) {
    assert_eq!(*claims.principal(), FEDERATION.participant);
    assert_eq!(claims.scope(), Role::Client.scope());
    assert!(claims.issued_at() <= claims.expires_at());
    assert!(claims.expires_at() - claims.issued_at() <= TokenTtl::MAX.as_duration());
    assert!(claims.issued_at() <= NOW + LEEWAY && NOW < claims.expires_at() + LEEWAY);
}
