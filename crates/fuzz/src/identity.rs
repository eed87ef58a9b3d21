//! Certificates, requests for them, invitations and tokens. The keys are made when the process starts: what they sign
//! differs from run to run, what a decoder has to keep does not.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rcgen::KeyPair;
use sordino_identity::{
    Audience, Authority, IdentityKey, Invitation, Principal, Role, SerialNumber, TokenVerifier, TrustAnchors, Validity,
    VerifiedPrincipal, decode_chain, encode_chain, make_csr,
};
use std::sync::LazyLock;
use std::time::Duration;

/// A federation with one participant.
struct Federation {
    intermediate: Authority,
    anchors: TrustAnchors,
    participant: Principal,
    verified: VerifiedPrincipal,
    tokens: TokenVerifier,
}

static FEDERATION: LazyLock<Federation> = LazyLock::new(Federation::new);

impl Federation {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let federation = "fuzz.example".parse().expect("a name");
        let days = |days: u64| Validity::starting(NOW, Duration::from_hours(24 * days)).expect("in range");
        let key = || KeyPair::generate().expect("randomness");
        let root = Authority::root(&federation, key(), days(30), SerialNumber::random(&mut rng)).expect("a root");
        let intermediate = root.intermediate(key(), days(10), SerialNumber::random(&mut rng)).expect("an intermediate");
        let anchors = TrustAnchors::from_der(federation.clone(), [root.certificate().clone()]).expect("our own root");
        let id = "site-0001".parse().expect("a name");
        let identity = IdentityKey::from_seed(&[7; 32]);
        let csr = make_csr(&identity, &id);
        let participant = Principal { federation: federation.clone(), role: Role::Client, id };
        let issued = intermediate.issue_client(&csr, &participant, days(1), SerialNumber::random(&mut rng));
        let chain = issued.expect("our own request").chain();
        let verified = anchors.verify_client(&chain, NOW).expect("just issued");
        let audience: Audience = "https://fuzz.example:8443".parse().expect("an origin");
        let tokens = TokenVerifier::new(&federation, audience, &identity.verifying_key());
        Self { intermediate, anchors, participant, verified, tokens }
    }
}

/// When everything happens.
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// Chains as peers send them; nobody but the federation's own authority is believed.
pub(crate) fn certificate_chain(bytes: &[u8]) {
    let Some(chain) = decode_chain(bytes) else { return };
    assert_eq!(encode_chain(&chain), bytes, "a chain has one encoding");
    assert!(
        FEDERATION.anchors.verify_client(&chain, NOW).is_err(),
        "keys of this process signed nothing in the corpus"
    );
}

/// PEM of a signing request: a certificate is issued for the key that signed it, under the name that we know.
pub(crate) fn signing_request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let validity = Validity::starting(NOW, Duration::from_hours(1)).expect("in range");
    let serial = SerialNumber::random(&mut ChaCha20Rng::seed_from_u64(2));
    if let Ok(issued) = FEDERATION.intermediate.issue_client(text, &FEDERATION.participant, validity, serial) {
        let verified = FEDERATION.anchors.verify_client(&issued.chain(), NOW).expect("our own certificate");
        assert_eq!(*verified.principal(), FEDERATION.participant);
    }
}

pub(crate) fn invitation(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(invitation) = text.parse::<Invitation>() {
        let again: Invitation = invitation.to_text().parse().expect("just written");
        assert_eq!(again.to_text(), invitation.to_text());
    }
}

/// No token in the corpus was signed with this process's key, except where the corpus says how.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(claims) = FEDERATION.tokens.verify(text, &FEDERATION.verified, NOW) {
        assert_eq!(*claims.principal(), FEDERATION.participant);
    }
}
