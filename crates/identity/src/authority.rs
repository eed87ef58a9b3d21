//! The federation's certificate authority: a root that is kept offline, and intermediates that issue.
//!
//! Profiles follow [RFC 5280] and [X509-SVID]: authorities carry the trust domain's SPIFFE id, `keyCertSign` and a
//! path length; leaves carry one principal's SPIFFE id, `digitalSignature`, `CA:FALSE` and one extended usage.
//!
//! [RFC 5280]: https://www.rfc-editor.org/rfc/rfc5280
//! [X509-SVID]: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use zeroize::{Zeroize as _, Zeroizing};

use crate::keys::{KeyError, decode_private_key};
use crate::trust::uri_names;
use crate::{CsrError, FederationId, Fingerprint, Principal, PrincipalId, Role, SerialNumber, Utc, Validity, csr, pem};

/// A certificate authority of one federation: its certificate and its key, which is wiped on drop.
///
/// The key is ECDSA P-256 (so that browsers accept what it signs) or Ed25519. A root issues intermediates only, an
/// intermediate issues leaves only; each certificate lives at most as long as its issuer.
pub struct Authority {
    federation: FederationId,
    tier: Tier,
    certificate: CertificateDer<'static>,
    validity: Validity,
    key: KeyPair,
}

/// Where an authority stands in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Self-signed, path length 1: what participants pin.
    Root,
    /// Signed by a root, path length 0: what the service issues with.
    Intermediate,
}

impl Authority {
    /// A new root, self-signed over `key`.
    ///
    /// # Errors
    /// [`AuthorityError::UnsupportedKey`], [`AuthorityError::Sign`].
    pub fn root(
        federation: &FederationId,
        key: KeyPair,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<Self, AuthorityError> {
        let params = authority_params(federation, Tier::Root, validity, serial)?;
        check_algorithm(&key)?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?.der().clone();
        Ok(Self { federation: federation.clone(), tier: Tier::Root, certificate, validity, key })
    }

    /// A new intermediate over `key`, signed by this root.
    ///
    /// # Errors
    /// [`AuthorityError::WrongTier`] unless this is a root; [`AuthorityError::OutlivesIssuer`],
    /// [`AuthorityError::UnsupportedKey`], [`AuthorityError::Sign`].
    pub fn intermediate(&self, key: KeyPair, validity: Validity, serial: SerialNumber) -> Result<Self, AuthorityError> {
        self.expect_tier(Tier::Root)?;
        let params = authority_params(&self.federation, Tier::Intermediate, validity, serial)?;
        let certificate = self.sign(&params, &key, validity)?;
        Ok(Self { federation: self.federation.clone(), tier: Tier::Intermediate, certificate, validity, key })
    }

    /// Reads what [`Authority::certificate_pem`] and [`Authority::key_pem`] write.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] if it is not a certificate of ours for an authority, [`AuthorityError::Key`] or
    /// [`AuthorityError::KeyMismatch`] if the key cannot be read or belongs to another certificate.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        if certificate_pem.len() > MAX_CERTIFICATE_PEM_LEN {
            return Err(AuthorityError::Certificate("it is too long"));
        }
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::Certificate("it holds no PEM block \"CERTIFICATE\""))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| AuthorityError::Certificate("it is not X.509"))?;
        let (federation, tier) = read_authority(&parsed)?;
        let der = decode_private_key(key_pem).map_err(AuthorityError::Key)?;
        let key = KeyPair::try_from(der.as_slice()).map_err(|_| AuthorityError::UnsupportedKey)?;
        check_algorithm(&key)?;
        if key.subject_public_key_info() != parsed.public_key().raw {
            return Err(AuthorityError::KeyMismatch);
        }
        let validity = Validity::of(&parsed);
        Ok(Self { federation, tier, certificate, validity, key })
    }

    /// The federation it speaks for.
    pub fn federation(&self) -> &FederationId {
        &self.federation
    }

    /// Root or intermediate.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// How long it holds; nothing it issues lives longer.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.certificate).to_string()
    }

    /// Its private key, PKCS#8 in PEM. To be stored where only its owner reads it.
    pub fn key_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, self.key.serialized_der())
    }

    /// A certificate for the coordinator's TLS server.
    ///
    /// - `public_key`: of the server's key pair, P-256 or Ed25519; only the public half is used.
    /// - `names`: the DNS names and addresses clients reach it by, 1 to 64.
    /// - `id`: goes into the SPIFFE id, in the role `coordinator`.
    ///
    /// # Errors
    /// [`AuthorityError::WrongTier`] unless this is an intermediate; [`AuthorityError::Names`],
    /// [`AuthorityError::OutlivesIssuer`], [`AuthorityError::UnsupportedKey`], [`AuthorityError::Sign`].
    pub fn issue_server(
        &self,
        public_key: &impl PublicKeyData,
        names: &[ServerName<'_>],
        id: &PrincipalId,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<IssuedCertificate, AuthorityError> {
        if !(1..=MAX_SERVER_NAMES).contains(&names.len()) {
            return Err(AuthorityError::Names { count: names.len() });
        }
        let principal = Principal { federation: self.federation.clone(), role: Role::Coordinator, id: id.clone() };
        let mut params = leaf_params(&principal, ExtendedKeyUsagePurpose::ServerAuth, validity, serial)?;
        for name in names {
            params.subject_alt_names.push(match name {
                ServerName::DnsName(name) => SanType::DnsName(name.as_ref().try_into().map_err(AuthorityError::Sign)?),
                ServerName::IpAddress(address) => SanType::IpAddress((*address).into()),
                _ => return Err(AuthorityError::Names { count: names.len() }),
            });
        }
        self.issue(&params, public_key, principal, validity, serial)
    }

    /// A certificate for whoever sent the signing request `csr_pem`, under the name that *we* know it by.
    ///
    /// The request must be signed by the Ed25519 or P-256 key it carries. That key is all that is taken from it: names and
    /// extensions it asks for are ignored.
    ///
    /// # Errors
    /// [`AuthorityError::Csr`] says what is wrong with the request; [`AuthorityError::ForeignPrincipal`] if
    /// `principal` belongs to another federation; [`AuthorityError::WrongTier`] unless this is an intermediate;
    /// [`AuthorityError::OutlivesIssuer`], [`AuthorityError::Sign`].
    pub fn issue_client(
        &self,
        csr_pem: &str,
        principal: &Principal,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<IssuedCertificate, AuthorityError> {
        if principal.federation != self.federation {
            return Err(AuthorityError::ForeignPrincipal {
                ours: self.federation.clone(),
                theirs: principal.federation.clone(),
            });
        }
        let key = csr::verified_key(csr_pem).map_err(AuthorityError::Csr)?;
        let params = leaf_params(principal, ExtendedKeyUsagePurpose::ClientAuth, validity, serial)?;
        self.issue(&params, &key, principal.clone(), validity, serial)
    }

    fn issue(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
        principal: Principal,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<IssuedCertificate, AuthorityError> {
        self.expect_tier(Tier::Intermediate)?;
        let certificate = self.sign(params, public_key, validity)?;
        let issuer = self.certificate.clone();
        Ok(IssuedCertificate { certificate, issuer, principal, validity, serial })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        check_algorithm(public_key)?;
        if validity.not_after() > self.validity.not_after() {
            return Err(AuthorityError::OutlivesIssuer {
                wanted: validity.not_after().as_secs(),
                issuer: self.validity.not_after().as_secs(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(AuthorityError::Sign)?;
        Ok(params.signed_by(public_key, &issuer).map_err(AuthorityError::Sign)?.der().clone())
    }

    fn expect_tier(&self, needed: Tier) -> Result<(), AuthorityError> {
        if self.tier == needed { Ok(()) } else { Err(AuthorityError::WrongTier { needed, is: self.tier }) }
    }
}

/// A leaf certificate that was just issued, with what a register of certificates wants to know about it.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    certificate: CertificateDer<'static>,
    issuer: CertificateDer<'static>,
    principal: Principal,
    validity: Validity,
    serial: SerialNumber,
}

impl IssuedCertificate {
    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate and the intermediate that issued it, as a TLS peer presents them.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.issuer.clone()]
    }

    /// [`IssuedCertificate::chain`] in PEM.
    pub fn chain_pem(&self) -> String {
        let leaf = pem::encode(pem::CERTIFICATE, &self.certificate);
        leaf.to_string() + &pem::encode(pem::CERTIFICATE, &self.issuer)
    }

    /// Whom it names.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// How long it holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its serial number.
    pub fn serial(&self) -> SerialNumber {
        self.serial
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

/// Why an authority was not made, not read, or did not issue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Give the right file, or run `init` again.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(&'static str),
    /// Give the right file.
    #[error("the authority's key cannot be read")]
    Key(#[source] KeyError),
    /// Give the key that belongs to the certificate.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
    /// Use a key of one of the two kinds.
    #[error("a key in a certificate must be ECDSA P-256 or Ed25519")]
    UnsupportedKey,
    /// Ask the other authority.
    #[error("this takes an authority of tier {needed:?}, this one is {is:?}")]
    WrongTier {
        /// The tier that may do it.
        needed: Tier,
        /// The tier of this one.
        is: Tier,
    },
    /// Ask for a shorter life, or renew the issuer first.
    #[error(
        "the certificate would end at {}, its issuer ends at {}: renew the issuer", Utc(*.wanted), Utc(*.issuer)
    )]
    OutlivesIssuer {
        /// The end asked for, in seconds since the Unix epoch.
        wanted: u64,
        /// The end of the issuer, in seconds since the Unix epoch.
        issuer: u64,
    },
    /// The sender of the request has to fix it.
    #[error("no certificate for this signing request")]
    Csr(#[source] CsrError),
    /// Ask that federation's authority.
    #[error("this authority speaks for the federation {ours}, not for {theirs}")]
    ForeignPrincipal {
        /// The authority's federation.
        ours: FederationId,
        /// The principal's federation.
        theirs: FederationId,
    },
    /// Give 1 to 64 DNS names or addresses.
    #[error("a server certificate takes 1 to {MAX_SERVER_NAMES} DNS names or addresses, got {count}")]
    Names {
        /// Names given.
        count: usize,
    },
    /// Encoding or signing failed; the key may be unusable.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
}

fn authority_params(
    federation: &FederationId,
    tier: Tier,
    validity: Validity,
    serial: SerialNumber,
) -> Result<CertificateParams, AuthorityError> {
    let (name, path_len) = match tier {
        Tier::Root => ("root", ROOT_PATH_LEN),
        Tier::Intermediate => ("intermediate", INTERMEDIATE_PATH_LEN),
    };
    let mut params = base_params(&format!("Sordino {name} {federation}"), &federation.spiffe_id(), validity, serial)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A root identifies itself by its subject key identifier alone.
    params.use_authority_key_identifier_extension = tier == Tier::Intermediate;
    Ok(params)
}

fn leaf_params(
    principal: &Principal,
    usage: ExtendedKeyUsagePurpose,
    validity: Validity,
    serial: SerialNumber,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = base_params(principal.id.as_str(), &principal.spiffe_id(), validity, serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(
    common_name: &str,
    spiffe_id: &str,
    validity: Validity,
    serial: SerialNumber,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    // X.520 ends a common name at 64 characters (ub-common-name), which OpenSSL enforces when it makes requests.
    let common_name: String = common_name.chars().take(MAX_COMMON_NAME_LEN).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into().map_err(AuthorityError::Sign)?)];
    params.serial_number = Some(serial.as_bytes().to_vec().into());
    validity.write_to(&mut params);
    Ok(params)
}

fn check_algorithm(key: &impl PublicKeyData) -> Result<(), AuthorityError> {
    if [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519].contains(&key.algorithm()) {
        Ok(())
    } else {
        Err(AuthorityError::UnsupportedKey)
    }
}

/// What an authority's certificate says about itself. It comes from our own storage: this catches mix-ups of files.
fn read_authority(parsed: &X509Certificate<'_>) -> Result<(FederationId, Tier), AuthorityError> {
    let constraints = parsed.basic_constraints().ok().flatten().filter(|found| found.value.ca);
    let tier = match constraints.and_then(|found| found.value.path_len_constraint) {
        Some(len) if len == u32::from(ROOT_PATH_LEN) => Tier::Root,
        Some(len) if len == u32::from(INTERMEDIATE_PATH_LEN) => Tier::Intermediate,
        _ => return Err(AuthorityError::Certificate("it is no authority with path length 0 or 1")),
    };
    if !parsed.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(AuthorityError::Certificate("its key may not sign certificates"));
    }
    let no_federation = AuthorityError::Certificate("it names no federation (one URI \"spiffe://<federation>\")");
    let Ok([name]) = <[&str; 1]>::try_from(uri_names(parsed)) else {
        return Err(no_federation);
    };
    match name.strip_prefix("spiffe://").map(str::parse) {
        Some(Ok(federation)) => Ok((federation, tier)),
        _ => Err(no_federation),
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // The encoded key; the parsed one inside AWS-LC wipes itself.
        self.key.zeroize();
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("federation", &self.federation)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

/// Room for one intermediate below the root.
const ROOT_PATH_LEN: u8 = 1;
/// Leaves only.
const INTERMEDIATE_PATH_LEN: u8 = 0;
/// X.520 `ub-common-name`.
const MAX_COMMON_NAME_LEN: usize = 64;
/// More names than any coordinator has.
const MAX_SERVER_NAMES: usize = 64;
/// Certificates of ours take below 1 kB; an explanatory text may stand before the block.
const MAX_CERTIFICATE_PEM_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
