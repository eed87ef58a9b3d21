//! Joining a federation: the key is made here and stays here; a one-time invitation and a CSR give a certificate.

use crate::client::{ClientError, SLOW_TIMEOUT, answer, http_client, idempotency_key, json, limited};
use crate::credentials::{
    CHAIN_FILE, KEY_FILE, ROOT_FILE, SETTINGS_FILE, Settings, data_version, delta, max_epsilon, max_sums_per_model,
    min_cohort, parse_chain, tls_builder,
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use reqwest::header::CONTENT_TYPE;
use sordino_identity::{Invitation, KeyError, KeyType, PrincipalId, PrincipalKey, TrustError, make_csr};
use sordino_wire::api::{EnrollAnswer, EnrollRequest};
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// Why joining failed. The invitation can be used again unless the coordinator says that it was used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The folder belongs to a principal already.
    #[error("{path} exists: this folder has joined; choose another one")]
    Joined {
        /// The file that says so.
        path: PathBuf,
    },
    /// A file could not be written or read.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key of an earlier attempt, or one that was put there.
    #[error("{path} is not a key to join with")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The key that is there is of another kind than the one asked for.
    #[error("{path} holds a key of the type {found}, not {wanted}: leave the type out to join with it")]
    KeyType {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: KeyType,
        /// What was asked for.
        wanted: KeyType,
    },
    /// The invitation's root certificate is of no use.
    #[error("the invitation's root certificate cannot be used")]
    Root(#[source] rustls::Error),
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The certificate that came is not one for this site and key.
    #[error("the certificate that the coordinator sent is not one for {id} and its key")]
    Certificate {
        /// Who joins.
        id: PrincipalId,
        /// Why, where the chain itself is at fault.
        source: Option<TrustError>,
    },
}

/// Joins the federation of the invitation as `id`; afterwards `folder` holds key, certificate, root and settings.
///
/// A key that is in the folder already, of an earlier attempt or an organisation's own, is the one that is used: PKCS#8 in
/// PEM, in `client.key`. Otherwise one of `key_type` is made, Ed25519 where nothing is asked for.
///
/// # Errors
/// [`JoinError`]. After a lost connection the same call goes on with the same key.
pub async fn join(
    folder: &Path,
    invitation: &Invitation,
    id: &PrincipalId,
    key_type: Option<KeyType>,
) -> Result<(), JoinError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| JoinError::File { path, source }
    };
    let settings_path = folder.join(SETTINGS_FILE);
    if settings_path.exists() {
        return Err(JoinError::Joined { path: settings_path });
    }
    private_folder(folder).map_err(file(folder))?;
    let key = own_key(&folder.join(KEY_FILE), key_type)?;
    let root_pem = pem("CERTIFICATE", invitation.root());

    let tls = tls_builder(&root_pem).map_err(JoinError::Root)?.with_no_client_auth();
    let http = http_client(tls)?;
    let base = invitation.url().as_str().trim_end_matches('/');
    let request = EnrollRequest {
        token: invitation.secret().to_text().to_string(),
        csr: make_csr(&key, id),
        principal: id.clone(),
    };
    let body =
        serde_json::to_vec(&request).map_err(|source| ClientError::Answer { path: "/v1/enroll".into(), source })?;
    let request = http
        .post(format!("{base}/v1/enroll"))
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", idempotency_key()?)
        .body(body);
    let response = answer(base, request, SLOW_TIMEOUT).await.map_err(crate::client::Failure::into_error)?;
    let body = limited(base, "/v1/enroll", response, ANSWER_MAX).await.map_err(crate::client::Failure::into_error)?;
    let enrolled: EnrollAnswer = json("/v1/enroll", &body)?;

    check(invitation, &key, id, &enrolled.certificate_chain)?;
    let settings = Settings {
        url: invitation.url().clone(),
        federation: invitation.federation().clone(),
        id: id.clone(),
        registrar: hex::encode(invitation.registrar_key().as_bytes()),
        min_cohort: min_cohort(),
        max_sums_per_model: max_sums_per_model(),
        require_privacy: None,
        max_epsilon: max_epsilon(),
        delta: delta(),
        data_version: data_version(),
        ledger_counter: None,
    };
    let settings = toml::to_string(&settings).map_err(|error| JoinError::File {
        path: settings_path.clone(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })? + NOT_SET;
    // The settings come last: a folder that has them is whole.
    for (name, content) in
        [(CHAIN_FILE, &enrolled.certificate_chain), (ROOT_FILE, &root_pem), (SETTINGS_FILE, &settings)]
    {
        let path = folder.join(name);
        write_private(&path, content.as_bytes()).map_err(file(&path))?;
    }
    Ok(())
}

/// The key that is there, or a new one, durable before its public part leaves.
fn own_key(path: &Path, key_type: Option<KeyType>) -> Result<PrincipalKey, JoinError> {
    let file = |source| JoinError::File { path: path.to_owned(), source };
    if path.exists() {
        let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
        let key = PrincipalKey::from_pkcs8_pem(&text);
        let key = key.map_err(|source| JoinError::Key { path: path.to_owned(), source })?;
        let found = key.public_key().key_type();
        return match key_type {
            Some(wanted) if wanted != found => Err(JoinError::KeyType { path: path.to_owned(), found, wanted }),
            _ => Ok(key),
        };
    }
    let key = PrincipalKey::generate(key_type.unwrap_or_default(), &mut UnwrapErr(SysRng));
    write_private(path, key.to_pkcs8_pem().as_bytes()).map_err(file)?;
    Ok(key)
}

/// The certificate has to lead to the invitation's root, to name `id`, and to hold our key.
fn check(invitation: &Invitation, key: &PrincipalKey, id: &PrincipalId, chain: &str) -> Result<(), JoinError> {
    let refuse = |source| JoinError::Certificate { id: id.clone(), source };
    let chain = parse_chain(chain).ok_or_else(|| refuse(None))?;
    let anchors = invitation.trust_anchors();
    let verified = anchors.verify_client(&chain, since_epoch()).map_err(|error| refuse(Some(error)))?;
    let ours = verified.principal().id == *id && verified.public_key() == Some(&key.public_key());
    if ours { Ok(()) } else { Err(refuse(None)) }
}

pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes a file that only its owner can read: under a temporary name, synced, then renamed.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

const ANSWER_MAX: usize = 64 * 1024;
/// What the owner of a site may add to its settings.
const NOT_SET: &str = "\
# require_privacy: whether tasks with privacy switched off are refused. As long as it is not set, they are once this site
# has paid for privacy. true: always. false: never, on purpose.
";
