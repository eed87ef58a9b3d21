//! Certificates of a measured cohort: real ones, because checking them is a part of what sharing keys costs.

use super::machine::Cost;
use crate::failure::BenchError;
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use sordino_coordinator::clock::{Clock as _, SystemClock};
use sordino_identity::{
    Authority, FederationId, IdentityKey, Principal, Role, SerialNumber, TrustAnchors, Validity, make_csr,
};
use sordino_secagg::{ParticipantId, Signer, participant::Trust};
use std::{cell::Cell, error::Error, time::Duration};

/// A federation that lasts as long as the measurement.
pub(crate) struct Certificates {
    anchors: TrustAnchors,
    registrar: IdentityKey,
    registrar_key: VerifyingKey,
    now: Duration,
    pub(crate) sites: Vec<Site>,
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

    /// The same checks, with what they take.
    pub(crate) fn timed(&self) -> TimedTrust<'_> {
        TimedTrust { checks: self, spent: Cell::new(Cost::ZERO) }
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
        let mut certificates = Vec::new();
        for certificate in issued.chain() {
            certificates.extend(u32::try_from(certificate.len())?.to_le_bytes());
            certificates.extend_from_slice(&certificate);
        }
        Ok(Site { id: ParticipantId::new(&name)?, key: SiteKey(key), certificates })
    };
    let sites = (0..sites).map(site).collect::<Result<Vec<_>, _>>()?;
    let anchors = TrustAnchors::from_der(federation, [root.certificate().clone()])?;
    let registrar = IdentityKey::generate(&mut UnwrapErr(SysRng));
    let registrar_key = registrar.verifying_key();
    Ok(Certificates { anchors, registrar, registrar_key, now, sites })
}

impl SiteKey {
    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }
}

impl Signer for SiteKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// The checks of a participant's client.
impl Trust for Certificates {
    fn participant(&self, id: &ParticipantId, mut certificates: &[u8]) -> Result<VerifyingKey, String> {
        let mut chain = Vec::new();
        while let Some((len, rest)) = certificates.split_first_chunk::<4>() {
            let len = u32::from_le_bytes(*len) as usize;
            let (certificate, rest) = rest.split_at_checked(len).ok_or("the chain is cut off")?;
            chain.push(CertificateDer::from(certificate));
            certificates = rest;
        }
        let verified = self.anchors.verify_client(&chain, self.now).map_err(|error| error.to_string())?;
        let principal = verified.principal();
        if principal.role != Role::Client || principal.id.as_str() != id.as_str() {
            return Err(format!("the certificate is that of {principal}"));
        }
        verified.verifying_key().copied().ok_or_else(|| "the certificate's key is not Ed25519".into())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar_key
    }
}

/// One participant's checks.
pub(crate) struct TimedTrust<'a> {
    checks: &'a Certificates,
    spent: Cell<Cost>,
}

impl TimedTrust<'_> {
    /// All of them so far.
    pub(crate) fn spent(&self) -> Cost {
        self.spent.get()
    }
}

impl Trust for TimedTrust<'_> {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<VerifyingKey, String> {
        let (key, cost) = Cost::of(|| self.checks.participant(id, certificates));
        let mut spent = self.spent.get();
        spent += cost;
        self.spent.set(spent);
        key
    }

    fn registrar(&self) -> &VerifyingKey {
        self.checks.registrar()
    }
}

/// Name of the federation of measured cohorts.
pub(crate) const FEDERATION: &str = "bench.example";
const LIFETIME: Duration = Duration::from_secs(86_400);
