//! A federation whose keys never change: what they signed once, in the corpus, is believed by every later run.
//!
//! Its keys stand in this file and protect nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use sordino_identity::{
    Audience, Authority, IdentityKey, Principal, Role, SerialNumber, TokenSigner, TokenTtl, TokenVerifier,
    TrustAnchors, Validity, VerifiedChains, VerifiedPrincipal, make_csr,
};
use std::sync::LazyLock;
use std::time::Duration;

/// The federation of all targets.
pub static FEDERATION: LazyLock<Federation> = LazyLock::new(Federation::new);

/// When everything happens.
pub const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A federation with one participant and one server, and two roots: one signs with ECDSA over P-256, as the coordinator's
/// does, the other with Ed25519, so that its signatures are the same each time.
pub struct Federation {
    /// Whose certificates and tokens all of them are.
    pub participant: Principal,
    /// Both roots.
    pub anchors: TrustAnchors,
    /// The same, with a memory.
    pub chains: VerifiedChains,
    /// The Ed25519 root.
    pub root: Authority,
    /// What the Ed25519 root signed.
    pub intermediate: Authority,
    /// The participant, by its certificate of the Ed25519 intermediate.
    pub verified: VerifiedPrincipal,
    /// Believes the key that signs the corpus's tokens.
    pub tokens: TokenVerifier,
    token: String,
}

impl Federation {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let federation: sordino_identity::FederationId = "fuzz.example".parse().expect("a name");
        let key = |seed: u8| IdentityKey::from_seed(&[seed; 32]).rcgen_key_pair();
        let root = Authority::root(&federation, key(ROOT), days(30), SerialNumber::random(&mut rng)).expect("a root");
        let serial = SerialNumber::random(&mut rng);
        let intermediate = root.intermediate(key(INTERMEDIATE), days(10), serial).expect("an intermediate");
        let serial = SerialNumber::random(&mut rng);
        let p256 = Authority::root(&federation, p256_key(ROOT), days(30), serial).expect("a root");

        let roots = [root.certificate().clone(), p256.certificate().clone()];
        let anchors = TrustAnchors::from_der(federation.clone(), roots).expect("our own roots");
        let chains = VerifiedChains::new(anchors.clone(), REMEMBERED);
        let id = "site-0001".parse().expect("a name");
        let participant = Principal { federation: federation.clone(), role: Role::Client, id };
        let verified = anchors.verify_client(&client(&intermediate, &participant), NOW).expect("just issued");

        let audience: Audience = "https://fuzz.example:8443".parse().expect("an origin");
        let token_key = IdentityKey::from_seed(&[TOKENS; 32]);
        let signer = TokenSigner::new(&federation, audience.clone(), &token_key);
        let token = signer.issue(&verified, TokenTtl::default(), NOW, &mut rng).expect("the certificate lasts");
        let tokens = TokenVerifier::new(&federation, audience, &token_key.verifying_key());
        let token = token.as_str().to_owned();
        Self { participant, anchors, chains, root, intermediate, verified, tokens, token }
    }

    /// The participant's chain, the same each time.
    #[must_use]
    pub fn client(&self) -> Vec<CertificateDer<'static>> {
        client(&self.intermediate, &self.participant)
    }

    /// The server's chain, the same each time. It serves `localhost`.
    #[must_use]
    pub fn server(&self) -> Vec<CertificateDer<'static>> {
        let names = ["localhost", "127.0.0.1"].map(|name| ServerName::try_from(name).expect("a name"));
        let (key, id) = (IdentityKey::from_seed(&[SERVER; 32]), "coordinator-1".parse().expect("a name"));
        let issued = self.intermediate.issue_server(&key, &names, &id, days(1), serial(SERVER));
        issued.expect("a server of ours").chain()
    }

    /// The participant's chain as the coordinator issues it: P-256 signs with fresh randomness each time.
    #[must_use]
    pub fn client_of_p256(&self) -> Vec<CertificateDer<'static>> {
        let federation = self.anchors.federation();
        let root = Authority::root(federation, p256_key(ROOT), days(30), serial(ROOT)).expect("a root");
        let intermediate = root.intermediate(p256_key(INTERMEDIATE), days(10), serial(INTERMEDIATE));
        client(&intermediate.expect("an intermediate"), &self.participant)
    }

    /// The participant's token, the same each time.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A chain whose leaf holds these fields, a `TBSCertificate` of RFC 5280, under the intermediate's true signature:
    /// what a careless or hostile intermediate could issue.
    #[must_use]
    pub fn certified(&self, fields: &[u8]) -> Vec<CertificateDer<'static>> {
        let signature = IdentityKey::from_seed(&[INTERMEDIATE; 32]).sign(fields);
        let content = [fields, &ED25519, &[BIT_STRING, 1 + 64, 0], &signature].concat();
        let length = u32::try_from(content.len()).expect("inputs are shorter than that").to_be_bytes();
        // The shortest form that DER has for such a length; a certificate has at least a hundred bytes.
        let length = match content.len() {
            ..0x80 => [&length[3..]].concat(),
            0x80..0x100 => [&[0x81], &length[3..]].concat(),
            0x100..0x1_0000 => [&[0x82], &length[2..]].concat(),
            _ => [&[0x84], &length[..]].concat(),
        };
        let leaf = [&[SEQUENCE], &length[..], &content].concat();
        vec![leaf.into(), self.intermediate.certificate().clone()]
    }

    /// A token that makes these claims under the true signature, with the true header.
    #[must_use]
    pub fn claimed(&self, claims: &[u8]) -> String {
        let header = self.token.split('.').next().unwrap_or_default();
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = IdentityKey::from_seed(&[TOKENS; 32]).sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn client(intermediate: &Authority, participant: &Principal) -> Vec<CertificateDer<'static>> {
    let csr = make_csr(&IdentityKey::from_seed(&[PARTICIPANT; 32]), &participant.id);
    let issued = intermediate.issue_client(&csr, participant, days(1), serial(PARTICIPANT));
    issued.expect("our own request").chain()
}

fn days(days: u64) -> Validity {
    Validity::starting(NOW, Duration::from_hours(24 * days)).expect("in range")
}

fn serial(seed: u8) -> SerialNumber {
    SerialNumber::random(&mut ChaCha20Rng::seed_from_u64(u64::from(seed)))
}

/// The P-256 key of 32 equal bytes: PKCS #8 around RFC 5915 without the public half.
fn p256_key(seed: u8) -> KeyPair {
    let der = [&P256_PKCS8[..], &[seed; 32]].concat();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256).expect("a key")
}

/// Seeds of keys and serial numbers.
const ROOT: u8 = 1;
const INTERMEDIATE: u8 = 2;
const PARTICIPANT: u8 = 7;
const SERVER: u8 = 8;
const TOKENS: u8 = 9;
/// Chains in memory: few, so that some are forgotten.
const REMEMBERED: usize = 16;
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// `AlgorithmIdentifier` of Ed25519, RFC 8410 section 3.
const ED25519: [u8; 7] = [SEQUENCE, 5, 0x06, 3, 0x2b, 0x65, 0x70];
/// All of such a key but its secret: version 0, id-ecPublicKey on prime256v1, version 1, 32 bytes.
const P256_PKCS8: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];
