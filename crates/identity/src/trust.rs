//! From a certificate chain to evidence of who is talking.

mod seen;

pub use seen::VerifiedChains;

use std::ops::RangeInclusive;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs::{ECDSA_P256_SHA256, ED25519};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::{FederationId, Fingerprint, InvalidName, Principal, PublicKey, Role, Utc, Validity};

/// The root certificates of one federation: what a chain must lead to.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    federation: FederationId,
    roots: Vec<Root>,
}

#[derive(Clone, Debug)]
struct Root {
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    validity: Validity,
}

impl TrustAnchors {
    /// Most roots: the current one and those it replaces.
    pub const MAX_ROOTS: usize = 16;

    /// Trusts the roots of `federation` given in DER. More than one where a root is being replaced.
    ///
    /// # Errors
    /// [`TrustError::Roots`] without a root or with more than 16; [`TrustError::BadRoot`] if one is not a certificate
    /// of an authority; [`TrustError::ForeignFederation`] if one names another federation.
    pub fn from_der(
        federation: FederationId,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TrustError> {
        let certificates: Vec<_> = roots.into_iter().take(Self::MAX_ROOTS + 1).collect();
        if !(1..=Self::MAX_ROOTS).contains(&certificates.len()) {
            return Err(TrustError::Roots { count: certificates.len() });
        }
        let roots = certificates.into_iter().map(|der| read_root(&federation, der)).collect::<Result<_, _>>()?;
        Ok(Self { federation, roots })
    }

    /// Trusts the roots of `federation` in a PEM text.
    ///
    /// # Errors
    /// As [`TrustAnchors::from_der`]; a block that cannot be read is a [`TrustError::BadRoot`].
    pub fn from_pem(federation: FederationId, text: &str) -> Result<Self, TrustError> {
        if text.len() > Self::MAX_ROOTS * MAX_CERTIFICATE_LEN {
            return Err(TrustError::CertificateTooLarge { bytes: text.len() });
        }
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        Self::from_der(federation, roots.map_err(|_| TrustError::BadRoot)?)
    }

    /// The federation these roots speak for.
    pub fn federation(&self) -> &FederationId {
        &self.federation
    }

    /// The root certificates, for a TLS stack's own store.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.certificate)
    }

    /// Verifies a client's chain, leaf first, at the moment `now` since the Unix epoch.
    ///
    /// Path and signatures (ECDSA P-256, Ed25519) by `rustls-webpki`; then, as [X509-SVID] section 5.2 asks: a leaf
    /// that is no authority, may sign, is meant for `clientAuth`, and holds exactly one URI, the SPIFFE id of a
    /// principal of this federation. Revocation is the caller's to check.
    ///
    /// # Errors
    /// [`TrustError`], one variant per reason.
    ///
    /// [X509-SVID]: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now: Duration) -> Result<VerifiedPrincipal, TrustError> {
        self.verify(chain, now, Usage::Client).map(|(verified, _)| verified)
    }

    /// As [`TrustAnchors::verify_client`], for what was signed at a time that has passed: the moment is the last one in
    /// `during` before any of the certificates ended.
    ///
    /// # Errors
    /// As [`TrustAnchors::verify_client`]: for no moment in `during` were all certificates valid.
    pub fn verify_client_during(
        &self,
        chain: &[CertificateDer<'_>],
        during: &RangeInclusive<Duration>,
    ) -> Result<VerifiedPrincipal, TrustError> {
        let mut at = *during.end();
        loop {
            match self.verify_client(chain, at) {
                // Each turn looks at an earlier moment, and there are no more of them than certificates.
                Err(TrustError::Expired { not_after, now }) => {
                    let end = Duration::from_secs(not_after);
                    if end >= at || !during.contains(&end) {
                        return Err(TrustError::Expired { not_after, now });
                    }
                    at = end;
                }
                verified => return verified,
            }
        }
    }

    /// Verifies the chain of the server that was reached by `name`: as [`TrustAnchors::verify_client`] but for
    /// `serverAuth`, for the name, and for the role `coordinator`.
    ///
    /// # Errors
    /// [`TrustError`], one variant per reason.
    pub fn verify_server(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Duration,
    ) -> Result<VerifiedPrincipal, TrustError> {
        let (verified, _) = self.verify(chain, now, Usage::Server)?;
        let leaf = chain.first().ok_or(TrustError::NoCertificate)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(TrustError::Malformed)?;
        leaf.verify_is_valid_for_subject_name(name).map_err(|_| TrustError::WrongName { name: name.to_owned() })?;
        match verified.principal.role {
            Role::Coordinator => Ok(verified),
            role => Err(TrustError::NotACoordinator { role }),
        }
    }

    /// Whose chain it is, and when the root that it leads to is valid.
    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Duration,
        usage: Usage,
    ) -> Result<(VerifiedPrincipal, Validity), TrustError> {
        if chain.len() > MAX_CHAIN_LEN {
            return Err(TrustError::ChainTooLong { certificates: chain.len() });
        }
        if let Some(large) = chain.iter().find(|certificate| certificate.len() > MAX_CERTIFICATE_LEN) {
            return Err(TrustError::CertificateTooLarge { bytes: large.len() });
        }
        let (leaf, intermediates) = chain.split_first().ok_or(TrustError::NoCertificate)?;
        // webpki does not look at a root's validity, nor does RFC 5280 section 6.1; OpenSSL does, and so do we.
        let roots = || self.roots.iter().filter(|root| root.validity.contains(now));
        let anchors: Vec<_> = roots().map(|root| root.anchor.clone()).collect();
        if anchors.is_empty() {
            return Err(TrustError::RootsExpired { now: now.as_secs() });
        }
        let end_entity = EndEntityCert::try_from(leaf).map_err(TrustError::Malformed)?;
        let path = end_entity
            .verify_for_usage(
                SIGNATURE_ALGORITHMS,
                &anchors,
                intermediates,
                UnixTime::since_unix_epoch(now),
                usage.for_path(),
                None,
                None,
            )
            .map_err(|why| path_error(why, usage))?;
        let root = roots().find(|root| root.anchor == *path.anchor()).ok_or(TrustError::UnknownIssuer)?;
        Ok((self.read_leaf(leaf, usage)?, root.validity))
    }

    /// Reads the leaf of a chain whose path has been verified.
    fn read_leaf(&self, leaf: &CertificateDer<'_>, usage: Usage) -> Result<VerifiedPrincipal, TrustError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| TrustError::UnreadableLeaf)?;
        // A path is verified for a usage only where a certificate states one; ours must.
        let stated =
            parsed.extended_key_usage().ok().flatten().ok_or(TrustError::WrongUsage { usage: usage.name() })?;
        let fits = match usage {
            Usage::Client => stated.value.client_auth,
            Usage::Server => stated.value.server_auth,
        };
        if !fits {
            return Err(TrustError::WrongUsage { usage: usage.name() });
        }
        // X509-SVID 4.3: leaves MUST set digitalSignature and MUST NOT set keyCertSign or cRLSign.
        let key_usage = parsed.key_usage().ok().flatten().ok_or(TrustError::WrongKeyUsage)?.value;
        if !key_usage.digital_signature() || key_usage.key_cert_sign() || key_usage.crl_sign() {
            return Err(TrustError::WrongKeyUsage);
        }
        let principal = named_in(&parsed)?;
        if principal.federation != self.federation {
            return Err(TrustError::ForeignFederation {
                ours: self.federation.clone(),
                theirs: principal.federation.to_string(),
            });
        }
        let public_key = PublicKey::of(parsed.public_key()).map_err(|_| TrustError::BadKey)?;
        let not_after = Validity::of(&parsed).not_after();
        Ok(VerifiedPrincipal { principal, fingerprint: Fingerprint::of(leaf), public_key, not_after })
    }
}

/// Evidence that a peer is a principal: only [`TrustAnchors`] make one.
///
/// It says that the certificate is good; that the peer holds its key is what the TLS handshake proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPrincipal {
    principal: Principal,
    fingerprint: Fingerprint,
    public_key: Option<PublicKey>,
    not_after: Duration,
}

impl VerifiedPrincipal {
    /// Whom the certificate names.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The leaf's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The leaf's key, to verify signatures outside TLS with; `None` if it is neither Ed25519 nor P-256, as one from
    /// another authority's tools may be.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// The last moment the certificate holds, since the Unix epoch.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }
}

/// Why a chain, or a root, is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Configure a root.
    #[error("a federation has 1 to {} root certificates, got {count}", TrustAnchors::MAX_ROOTS)]
    Roots {
        /// Roots given.
        count: usize,
    },
    /// Give the federation's root certificate.
    #[error("a root certificate is not the certificate of an authority")]
    BadRoot,
    /// Renew the root, or set the clock.
    #[error("no root certificate of the federation is valid at {}: renew it, or set the clock", Utc(*.now))]
    RootsExpired {
        /// The moment of the check, in seconds since the Unix epoch.
        now: u64,
    },
    /// Present a certificate.
    #[error("no certificate was presented")]
    NoCertificate,
    /// Present the certificates, leaf first, each behind its length.
    #[error("the certificate chain cannot be read")]
    UnreadableChain,
    /// Present the leaf and its intermediate only.
    #[error("a chain has at most {MAX_CHAIN_LEN} certificates, this one {certificates}")]
    ChainTooLong {
        /// Certificates presented.
        certificates: usize,
    },
    /// Not a certificate of ours.
    #[error("a certificate has at most {MAX_CERTIFICATE_LEN} bytes, this one {bytes}")]
    CertificateTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a certificate.
    #[error("the certificate is malformed")]
    Malformed(#[source] webpki::Error),
    /// Renew it, or set the clock.
    #[error("a certificate ended at {}, it is {}: renew it, or set the clock", Utc(*.not_after), Utc(*.now))]
    Expired {
        /// Its end, in seconds since the Unix epoch.
        not_after: u64,
        /// The moment of the check, in seconds since the Unix epoch.
        now: u64,
    },
    /// Wait, or set the clock.
    #[error("a certificate begins at {}, it is {}: set the clock", Utc(*.not_before), Utc(*.now))]
    NotYetValid {
        /// Its beginning, in seconds since the Unix epoch.
        not_before: u64,
        /// The moment of the check, in seconds since the Unix epoch.
        now: u64,
    },
    /// Enrol with this federation, or present the intermediate as well.
    #[error("the certificate was not issued by an authority of this federation, or its intermediate is missing")]
    UnknownIssuer,
    /// A forged or damaged certificate.
    #[error("a signature in the certificate chain does not verify")]
    BadSignature,
    /// Present a certificate for this purpose.
    #[error("the certificate is not meant for {usage}")]
    WrongUsage {
        /// The extended usage that was needed, as X.509 calls it.
        usage: &'static str,
    },
    /// Present a leaf certificate.
    #[error("the certificate's key usage must be digitalSignature, and neither keyCertSign nor cRLSign")]
    WrongKeyUsage,
    /// Present a chain of leaf, intermediate and root.
    #[error("the certificate chain breaks a rule of X.509")]
    BadPath(#[source] webpki::Error),
    /// Not a certificate of ours.
    #[error("the certificate's fields cannot be read")]
    UnreadableLeaf,
    /// Not a certificate of ours.
    #[error("the certificate names nobody: it has no URI in its subject alternative names")]
    NoSpiffeId,
    /// Not a certificate of ours.
    #[error("the certificate has {count} URIs in its subject alternative names, exactly one is allowed")]
    SeveralSpiffeIds {
        /// URIs found.
        count: usize,
    },
    /// Not a certificate of ours.
    #[error("the certificate's URI is no principal's SPIFFE id")]
    BadSpiffeId(#[source] InvalidName),
    /// Enrol with this federation.
    #[error("the certificate belongs to the federation {theirs:?}, this is {ours}")]
    ForeignFederation {
        /// This federation.
        ours: FederationId,
        /// The one the certificate names.
        theirs: String,
    },
    /// The certificate's key is no valid Ed25519 or P-256 key.
    #[error("the certificate's key is not a valid point of its curve")]
    BadKey,
    /// Check the address, or have the server's certificate name it.
    #[error("the server's certificate is not valid for {}", name.to_str())]
    WrongName {
        /// The name the server was reached by.
        name: ServerName<'static>,
    },
    /// Somebody else answers at the coordinator's address.
    #[error("the server's certificate names a {role}, not a coordinator")]
    NotACoordinator {
        /// The role it names.
        role: Role,
    },
}

/// Whom a certificate names. Nothing of it is verified: it is for one's own.
///
/// # Errors
/// [`TrustError`]: it cannot be read, or names no principal.
pub fn named_by(certificate: &CertificateDer<'_>) -> Result<Principal, TrustError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| TrustError::UnreadableLeaf)?;
    named_in(&parsed)
}

/// X509-SVID 2: "An X.509 SVID MUST contain exactly one URI SAN".
fn named_in(parsed: &X509Certificate<'_>) -> Result<Principal, TrustError> {
    match uri_names(parsed).as_slice() {
        [] => Err(TrustError::NoSpiffeId),
        [name] => Principal::parse_spiffe(name).map_err(TrustError::BadSpiffeId),
        names => Err(TrustError::SeveralSpiffeIds { count: names.len() }),
    }
}

/// The URIs among a certificate's subject alternative names. A name that cannot be read counts as an empty URI, so that
/// it hides nothing: other software might read it.
pub(crate) fn uri_names<'a>(parsed: &'a X509Certificate<'_>) -> Vec<&'a str> {
    // An extension that occurs twice is an error in x509-parser, and read as no name at all.
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let uri = |name: &GeneralName<'a>| match name {
        GeneralName::URI(uri) => Some(*uri),
        GeneralName::Invalid(..) => Some(""),
        _ => None,
    };
    names.into_iter().flatten().filter_map(uri).collect()
}

fn read_root(federation: &FederationId, certificate: CertificateDer<'static>) -> Result<Root, TrustError> {
    if certificate.len() > MAX_CERTIFICATE_LEN {
        return Err(TrustError::CertificateTooLarge { bytes: certificate.len() });
    }
    let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|_| TrustError::BadRoot)?.to_owned();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| TrustError::BadRoot)?;
    if !parsed.is_ca() {
        return Err(TrustError::BadRoot);
    }
    // A root that an organisation already had may name no trust domain; one that does must name this one.
    if let Some(name) = uri_names(&parsed).into_iter().find(|name| *name != federation.spiffe_id()) {
        return Err(TrustError::ForeignFederation { ours: federation.clone(), theirs: name.to_owned() });
    }
    let validity = Validity::of(&parsed);
    Ok(Root { anchor, validity, certificate })
}

#[derive(Clone, Copy)]
enum Usage {
    Client,
    Server,
}

impl Usage {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }

    /// For the whole path: a usage must fit where it is stated. Intermediates need not state one.
    fn for_path(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

fn path_error(why: webpki::Error, usage: Usage) -> TrustError {
    match why {
        webpki::Error::CertExpired { time, not_after } => {
            TrustError::Expired { not_after: not_after.as_secs(), now: time.as_secs() }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            TrustError::NotYetValid { not_before: not_before.as_secs(), now: time.as_secs() }
        }
        webpki::Error::UnknownIssuer => TrustError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => TrustError::BadSignature,
        webpki::Error::RequiredEkuNotFoundContext(_) => TrustError::WrongUsage { usage: usage.name() },
        other => TrustError::BadPath(other),
    }
}

/// What our authorities sign with; RSA and the other curves are not trusted at all.
const SIGNATURE_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[ECDSA_P256_SHA256, ED25519];
/// Leaf, intermediate, root, and one to spare for a cross-signed root.
const MAX_CHAIN_LEN: usize = 4;
/// Certificates of ours take below 1 kB; one with 64 long server names stays below this.
const MAX_CERTIFICATE_LEN: usize = 20 * 1024;

#[cfg(test)]
mod tests;
