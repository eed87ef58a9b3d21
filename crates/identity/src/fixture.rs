//! A federation for tests: P-256 root and intermediate, and whatever leaves a test asks for.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::{
    Authority, IdentityKey, Principal, Role, SerialNumber, TrustAnchors, Validity, VerifiedPrincipal, make_csr,
};

/// The moment at which all certificates of the fixture are issued.
pub(crate) const NOW: Duration = Duration::from_secs(1_800_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Fixture {
    pub(crate) rng: ChaCha20Rng,
    pub(crate) root: Authority,
    pub(crate) intermediate: Authority,
}

impl Fixture {
    pub(crate) fn new(federation: &str) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(11);
        let federation = federation.parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let root = Authority::root(&federation, key, validity(30), SerialNumber::random(&mut rng)).unwrap();
        let key = KeyPair::generate().unwrap();
        let intermediate = root.intermediate(key, validity(10), SerialNumber::random(&mut rng)).unwrap();
        Self { rng, root, intermediate }
    }

    pub(crate) fn anchors(&self) -> TrustAnchors {
        TrustAnchors::from_der(self.root.federation().clone(), [self.root.certificate().clone()]).unwrap()
    }

    pub(crate) fn principal(&self, role: Role, id: &str) -> Principal {
        Principal { federation: self.root.federation().clone(), role, id: id.parse().unwrap() }
    }

    /// The chain of a participant with the key of seed `[seed; 32]`, valid for a day.
    pub(crate) fn client(&mut self, seed: u8, id: &str) -> Vec<CertificateDer<'static>> {
        let csr = make_csr(&IdentityKey::from_seed(&[seed; 32]), &id.parse().unwrap());
        let serial = SerialNumber::random(&mut self.rng);
        self.intermediate.issue_client(&csr, &self.principal(Role::Client, id), validity(1), serial).unwrap().chain()
    }

    pub(crate) fn server(&mut self, names: &[&str]) -> Vec<CertificateDer<'static>> {
        let names: Vec<_> = names.iter().map(|name| ServerName::try_from(*name).unwrap()).collect();
        let id = "coordinator-1".parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::random(&mut self.rng);
        self.intermediate.issue_server(&key, &names, &id, validity(1), serial).unwrap().chain()
    }

    /// A verified participant.
    pub(crate) fn verified(&mut self, seed: u8, id: &str) -> VerifiedPrincipal {
        let chain = self.client(seed, id);
        self.anchors().verify_client(&chain, NOW).unwrap()
    }

    /// A chain whose leaf a careless or malicious intermediate signed as given.
    pub(crate) fn forged(&self, params: &CertificateParams) -> Vec<CertificateDer<'static>> {
        self.forged_for(params, &IdentityKey::from_seed(&[1; 32]))
    }

    /// The same for this key.
    pub(crate) fn forged_for(
        &self,
        params: &CertificateParams,
        key_of_leaf: &impl PublicKeyData,
    ) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::try_from(
            rustls_pki_types::pem::PemObject::from_pem_slice(self.intermediate.key_pem().as_bytes())
                .map(|der: rustls_pki_types::PrivateKeyDer<'static>| der)
                .unwrap()
                .secret_der(),
        )
        .unwrap();
        let issuer = Issuer::from_ca_cert_der(self.intermediate.certificate(), key).unwrap();
        let leaf = params.signed_by(key_of_leaf, &issuer).unwrap();
        vec![leaf.der().clone(), self.intermediate.certificate().clone()]
    }
}

/// Valid for `days` from [`NOW`] on.
pub(crate) fn validity(days: u32) -> Validity {
    Validity::starting(NOW, DAY * days).unwrap()
}
