//! A principal's folder: its key, its certificate chain, the root it trusts, and where the coordinator is.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use sordino_identity::{CoordinatorUrl, FederationId, PrincipalId, PrincipalKey, TrustError, named_by};
use sordino_wire::policy::{COHORT_MIN, SUMS_PER_MODEL_MAX};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Files of the folder.
pub(crate) const KEY_FILE: &str = "client.key";
pub(crate) const CHAIN_FILE: &str = "client.pem";
pub(crate) const ROOT_FILE: &str = "root.pem";
pub(crate) const SETTINGS_FILE: &str = "participant.toml";

/// What joining has settled (`participant.toml`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the coordinator is.
    pub url: CoordinatorUrl,
    /// The federation's trust domain.
    pub federation: FederationId,
    /// Who this is.
    pub id: PrincipalId,
    /// The registrar's Ed25519 key, 64 hexadecimal digits: only rosters that it signed are believed.
    pub registrar: String,
    /// Smallest `cohort.min` of a policy that this site takes part under: fewer inputs are never summed up with its own.
    #[serde(default = "min_cohort")]
    pub min_cohort: u32,
    /// Sums over one model, and of one round, that this site helps to open, at most: the difference of two sums of nearly
    /// the same cohort says much about those who are in one of them only. Each attempt that fails after shares were
    /// revealed costs one.
    #[serde(default = "max_sums_per_model")]
    pub max_sums_per_model: u32,
    /// Whether to take part under policies with differential privacy only. Absent: once this site's ledger holds a charge,
    /// since a sum without noise tells of the same people what noise was paid to hide. True: always. False: never, which
    /// is the owner's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_privacy: Option<bool>,
    /// What all rounds together may cost one record of this site, and what they may cost its whole contribution, whatever
    /// coordinator, task or population asks for them; and the largest `total_epsilon` of a policy that protects whole
    /// participants.
    #[serde(default = "max_epsilon")]
    pub max_epsilon: f64,
    /// At this delta; at most 1 over the number of records.
    #[serde(default = "delta")]
    pub delta: f64,
    /// Which state of this site's data that budget is for. New records of new people are a new version, and a new budget;
    /// new rows of the same people are not.
    #[serde(default = "data_version")]
    pub data_version: String,
    /// Where the counter is kept that shows that an older copy of the site's ledger was restored: best on another disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_counter: Option<PathBuf>,
}

/// As policies have it.
pub(crate) fn max_epsilon() -> f64 {
    10.0
}

/// As policies have it.
pub(crate) fn delta() -> f64 {
    1e-5
}

pub(crate) fn data_version() -> String {
    "1".into()
}

/// What every policy asks for at least.
pub(crate) fn min_cohort() -> u32 {
    COHORT_MIN
}

/// What coordinators reckon with.
pub(crate) fn max_sums_per_model() -> u32 {
    SUMS_PER_MODEL_MAX
}

/// A principal's key and certificates, and where to use them.
pub struct Credentials {
    pub(crate) url: CoordinatorUrl,
    pub(crate) root_pem: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrincipalKey,
}

/// Why a folder gives no credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file with something else in it.
    #[error("{path} is not {expected}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// A key that others can read is no secret.
    #[error("{path} can be read by other users; run chmod 600 on it")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Nothing says where the coordinator is.
    #[error("nothing says where the coordinator is: {path} is missing and no address was given")]
    NoAddress {
        /// The settings file.
        path: PathBuf,
    },
    /// Certificate and key do not go together, or TLS refuses them.
    #[error("the certificate and key in {path} cannot be used for TLS")]
    Tls {
        /// The folder.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

impl Settings {
    /// Reads `participant.toml`.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file.
    pub fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let path = folder.join(SETTINGS_FILE);
        let text = read(&path)?;
        toml::from_str(&text).map_err(|_| CredentialsError::Content {
            path,
            expected: "a participant.toml with the keys url, federation, id and registrar, and at most min_cohort, max_sums_per_model, require_privacy, max_epsilon, delta, data_version and ledger_counter beside them",
        })
    }
}

impl Credentials {
    /// Reads a folder that `sordino join` or `sordino init` made. `url` goes before the one in `participant.toml`.
    ///
    /// # Errors
    /// [`CredentialsError`] names the file and what to do.
    pub fn load(folder: &Path, url: Option<&CoordinatorUrl>) -> Result<Self, CredentialsError> {
        let url = match url {
            Some(url) => url.clone(),
            None if folder.join(SETTINGS_FILE).exists() => Settings::load(folder)?.url,
            None => return Err(CredentialsError::NoAddress { path: folder.join(SETTINGS_FILE) }),
        };
        let key_path = folder.join(KEY_FILE);
        refuse_exposed(&key_path)?;
        let key = PrincipalKey::from_pkcs8_pem(&Zeroizing::new(read(&key_path)?)).map_err(|_| {
            CredentialsError::Content { path: key_path, expected: "an Ed25519 or P-256 key in PKCS#8 PEM" }
        })?;
        let chain_path = folder.join(CHAIN_FILE);
        let chain = parse_chain(&read(&chain_path)?)
            .ok_or(CredentialsError::Content { path: chain_path, expected: "a certificate chain in PEM" })?;
        let root_pem = read(&folder.join(ROOT_FILE))?;
        let credentials = Self { url, root_pem, chain, key };
        credentials.tls().map_err(|source| CredentialsError::Tls { path: folder.to_owned(), source })?;
        Ok(credentials)
    }

    /// The root certificates that are trusted here, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The federation that the certificate is one of.
    ///
    /// # Errors
    /// [`TrustError`]: the certificate names nobody.
    pub fn federation(&self) -> Result<FederationId, TrustError> {
        Ok(named_by(self.chain.first().ok_or(TrustError::NoCertificate)?)?.federation)
    }

    /// TLS 1.3 with the client certificate, trusting the federation's root only.
    pub(crate) fn tls(&self) -> Result<ClientConfig, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_pkcs8_der().to_vec()));
        tls_builder(&self.root_pem)?.with_client_auth_cert(self.chain.clone(), key)
    }
}

/// TLS 1.3 that trusts one root, before it is settled whether a client certificate is shown.
pub(crate) fn tls_builder(
    root_pem: &str,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in parse_chain(root_pem).unwrap_or_default() {
        roots.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots))
}

/// The certificates of a PEM text, if there is at least one and all can be read.
pub(crate) fn parse_chain(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    fs::read_to_string(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

fn refuse_exposed(path: &Path) -> Result<(), CredentialsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = fs::metadata(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(CredentialsError::Exposed { path: path.to_owned() });
        }
    }
    Ok(())
}
