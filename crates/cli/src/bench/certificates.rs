//! Certificates of a measured cohort: real ones, because checking them is a part of what sharing keys costs.

use super::machine::Cost;
use crate::failure::BenchError;
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use sordino_coordinator::clock::{Clock as _, SystemClock};
use sordino_identity::{
    Authority, FederationId, IdentityKey, Principal, Role, SerialNumber, TrustAnchors, Validity, VerifiedChains,
    encode_chain, make_csr,
};
use sordino_secagg::{CertificateKey, NEIGHBOURS_MAX, ParticipantId, Signer, participant::Trust};
use std::{cell::Cell, error::Error, time::Duration};

/// A federation that lasts as long as the measurement.
pub(crate) struct Certificates {
    /// A memory of everybody that was met.
    known: VerifiedChains,
    registrar: IdentityKey,
    registrar_key: VerifyingKey,
    now: Duration,
    pub(crate) sites: Vec<Site>,
}

/// Whether participants have met their neighbours in an earlier round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbours {
    New,
    Known,
}

/// One participant of it.
pub(crate) struct Site {
    pub(crate) id: ParticipantId,
    pub(crate) key: SiteKey,
    /// The chain as it travels: each certificate behind its length.
    pub(crate) certificates: Vec<u8>,
}

/// Signs with the key of the certificate.
pub(crate) struct SiteKey(IdentityKey);

impl Certificates {
    /// Issues a certificate for each of `sites` participants, in the order of their names.
    pub(crate) fn issue(sites: u32) -> Result<Self, BenchError> {
        make(sites).map_err(BenchError::Certificates)
    }

    /// The checks of a participant that has met nobody before, or everybody that was [met](Self::meet).
    pub(crate) fn timed(&self, neighbours: Neighbours) -> TimedTrust<'_> {
        let own = match neighbours {
            Neighbours::New => Some(VerifiedChains::new(self.known.anchors().clone(), NEIGHBOURS_MAX)),
            Neighbours::Known => None,
        };
        TimedTrust { federation: self, own, spent: Cell::new(Cost::ZERO) }
    }

    /// Checks the first of the sites once, as an earlier round would have done.
    pub(crate) fn meet(&self, sites: &[Site]) -> Result<(), BenchError> {
        let met = sites.iter().try_for_each(|site| self.known.verify_client(&site.certificates, self.now).map(drop));
        met.map_err(|error| BenchError::Certificates(error.into()))
    }

    pub(crate) fn registrar_signature(&self, statement: &[u8]) -> [u8; 64] {
        self.registrar.sign(statement)
    }
}

fn make(sites: u32) -> Result<Certificates, Box<dyn Error + Send + Sync>> {
    let mut rng = UnwrapErr(SysRng);
    let now = SystemClock.now();
    let federation: FederationId = FEDERATION.parse()?;
    let validity = Validity::starting(now, LIFETIME)?;
    let pair = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let root = Authority::root(&federation, pair()?, validity, SerialNumber::random(&mut rng))?;
    let intermediate = root.intermediate(pair()?, validity, SerialNumber::random(&mut rng))?;
    let site = |at: u32| -> Result<Site, Box<dyn Error + Send + Sync>> {
        let name = format!("participant-{at:05}");
        let principal = Principal { federation: federation.clone(), role: Role::Client, id: name.parse()? };
        let key = IdentityKey::generate(&mut rng);
        let csr = make_csr(&key, &principal.id);
        let issued = intermediate.issue_client(&csr, &principal, validity, SerialNumber::random(&mut rng))?;
        let certificates = encode_chain(&issued.chain());
        Ok(Site { id: ParticipantId::new(&name)?, key: SiteKey(key), certificates })
    };
    let sites = (0..sites).map(site).collect::<Result<Vec<_>, _>>()?;
    let anchors = TrustAnchors::from_der(federation, [root.certificate().clone()])?;
    let known = VerifiedChains::new(anchors, NEIGHBOURS_MAX);
    let registrar = IdentityKey::generate(&mut UnwrapErr(SysRng));
    let registrar_key = registrar.verifying_key();
    Ok(Certificates { known, registrar, registrar_key, now, sites })
}

impl SiteKey {
    pub(crate) fn certificate_key(&self) -> CertificateKey {
        self.0.verifying_key().try_into().expect("a key that was made here")
    }
}

impl Signer for SiteKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// One participant's checks, with what they take: those of its client, with what it has in memory.
pub(crate) struct TimedTrust<'a> {
    federation: &'a Certificates,
    /// Of a participant that meets its neighbours for the first time.
    own: Option<VerifiedChains>,
    spent: Cell<Cost>,
}

impl TimedTrust<'_> {
    /// All of them so far.
    pub(crate) fn spent(&self) -> Cost {
        self.spent.get()
    }

    fn check(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let chains = self.own.as_ref().unwrap_or(&self.federation.known);
        let verified = chains.verify_client(certificates, self.federation.now).map_err(|error| error.to_string())?;
        let principal = verified.principal();
        if principal.role != Role::Client || principal.id.as_str() != id.as_str() {
            return Err(format!("the certificate is that of {principal}"));
        }
        let key = verified.public_key().and_then(|key| CertificateKey::from_bytes(&key.to_bytes()).ok());
        key.ok_or_else(|| "the certificate's key is neither Ed25519 nor P-256".into())
    }
}

impl Trust for TimedTrust<'_> {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        let (key, cost) = Cost::of(|| self.check(id, certificates));
        let mut spent = self.spent.get();
        spent += cost;
        self.spent.set(spent);
        key
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.federation.registrar_key
    }
}

/// Name of the federation of measured cohorts.
pub(crate) const FEDERATION: &str = "bench.example";
const LIFETIME: Duration = Duration::from_secs(86_400);
