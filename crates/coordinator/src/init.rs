//! `sordino init`: everything a new federation needs, in one folder, made once and never overwritten.
//!
//! ```text
//! sordino.toml                 the configuration
//! root/root.key, root.pem      the root CA: to be moved offline
//! keys/                        root certificate; intermediate CA, server, token, invitation and ledger keys
//! registrar/registrar.key      says who belongs; may live apart from the coordinator
//! admin/, auditor/             key, certificate chain and root certificate of the first two principals
//! data/                        database, models, uploads, the privacy ledger
//! counter/                     what shows that an older copy of that ledger was restored; made at the first start
//! ```

use crate::{
    clock::millis,
    config::{ConfigError, ServerConfig},
    keyfile::{KeyFileError, NewFiles, absent},
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::ServerName;
use sordino_identity::{
    Authority, AuthorityError, FederationId, IdentityKey, InvalidValidity, KeyType, Principal, PrincipalId,
    PrincipalKey, Role, SerialNumber, TrustAnchors, TrustError, Validity, make_csr,
};
use sordino_store::{NewPrincipal, Store, StoreError};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// What a new federation is called, and who runs it.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The trust domain of every SPIFFE id.
    pub federation: FederationId,
    /// Names and addresses by which the coordinator is reached; the first one stands in invitations.
    pub names: Vec<String>,
    /// Address and port of the listener.
    pub listen: SocketAddr,
    /// The coordinator's own id.
    pub coordinator: PrincipalId,
    /// The first administrator.
    pub admin: PrincipalId,
    /// The first auditor.
    pub auditor: PrincipalId,
}

/// Where things are after `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialized {
    /// `sordino.toml`.
    pub config: PathBuf,
    /// The folder with the root CA's key, to be moved offline.
    pub root: PathBuf,
    /// The folder with the registrar's key.
    pub registrar: PathBuf,
    /// The folder of the first administrator: `client.key`, `client.pem`, `root.pem`.
    pub admin: PathBuf,
    /// The folder of the first auditor, alike.
    pub auditor: PathBuf,
}

/// Why there is no new federation. Nothing is left behind of the attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// A file or folder; in particular one that exists.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A name that is neither a DNS name nor an address.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    Name {
        /// As it was given.
        name: String,
    },
    /// Two principals cannot share an id.
    #[error("administrator and auditor are both called {id}; give them different ids")]
    SameId {
        /// The id.
        id: PrincipalId,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system has no random bytes to give")]
    Random(#[from] getrandom::Error),
    /// A P-256 key could not be made.
    #[error("a key could not be made")]
    Key(#[source] rcgen::Error),
    /// A certificate could not be issued.
    #[error("a certificate could not be issued")]
    Issue(#[from] AuthorityError),
    /// A certificate's life cannot be written.
    #[error("a certificate's life cannot be written; check the clock")]
    Validity(#[from] InvalidValidity),
    /// A certificate that was just issued does not verify.
    #[error("a certificate that was just issued does not verify; check the clock")]
    Trust(#[from] TrustError),
    /// The database.
    #[error("the database could not be made")]
    Store(#[from] StoreError),
    /// The configuration that was written does not load.
    #[error("the configuration that was written does not load")]
    Config(#[from] ConfigError),
}

/// Makes a federation in `folder`, at the time `now` since the Unix epoch.
///
/// # Errors
/// [`InitError`]. A file that exists is named and left alone; what was made up to there is removed again.
pub async fn init(folder: &Path, options: &InitOptions, now: Duration) -> Result<Initialized, InitError> {
    if options.admin == options.auditor {
        return Err(InitError::SameId { id: options.admin.clone() });
    }
    let names = options
        .names
        .iter()
        .map(|name| ServerName::try_from(name.as_str()).map_err(|_| InitError::Name { name: name.clone() }));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let places = Initialized {
        config: folder.join("sordino.toml"),
        root: folder.join("root"),
        registrar: folder.join("registrar"),
        admin: folder.join("admin"),
        auditor: folder.join("auditor"),
    };
    let (keys, data) = (folder.join("keys"), folder.join("data"));
    let mut files = NewFiles::default();
    files.folder(folder)?;
    // The one file that marks a federation comes first: a folder that has one is refused before any key is made.
    files.write(&places.config, &config_text(options))?;
    absent(&data)?;
    for path in [&places.root, &places.registrar, &places.admin, &places.auditor, &keys] {
        files.folder(path)?;
    }

    let mut rng = UnwrapErr(SysRng);
    let mut serial = || SerialNumber::random(&mut rng);
    let root = Authority::root(&options.federation, p256()?, Validity::starting(now, ROOT_LIFE)?, serial())?;
    let intermediate = root.intermediate(p256()?, Validity::starting(now, INTERMEDIATE_LIFE)?, serial())?;
    let server_key = p256()?;
    let server_life = Validity::starting(now, SERVER_LIFE)?;
    let server = intermediate.issue_server(&server_key, &names, &options.coordinator, server_life, serial())?;

    files.write(&places.root.join("root.key"), &root.key_pem())?;
    files.write(&places.root.join("root.pem"), &root.certificate_pem())?;
    files.write(&keys.join("root.pem"), &root.certificate_pem())?;
    files.write(&keys.join("intermediate.key"), &intermediate.key_pem())?;
    files.write(&keys.join("intermediate.pem"), &intermediate.certificate_pem())?;
    files.write(&keys.join("server.key"), &Zeroizing::new(server_key.serialize_pem()))?;
    files.write(&keys.join("server.pem"), &server.chain_pem())?;
    files.write(&keys.join("token.key"), &IdentityKey::generate(&mut UnwrapErr(SysRng)).to_pkcs8_pem())?;
    files.write(&keys.join("invitation.key"), &random_key()?)?;
    files.write(&keys.join("ledger.key"), &random_key()?)?;
    let registrar = IdentityKey::generate(&mut UnwrapErr(SysRng));
    files.write(&places.registrar.join("registrar.key"), &registrar.to_pkcs8_pem())?;

    let anchors = TrustAnchors::from_pem(options.federation.clone(), &root.certificate_pem())?;
    let mut principals = Vec::new();
    for (role, id, place) in
        [(Role::Admin, &options.admin, &places.admin), (Role::Auditor, &options.auditor, &places.auditor)]
    {
        let principal = Principal { federation: options.federation.clone(), role, id: id.clone() };
        let (key, new) = certify(&intermediate, &anchors, &principal, now)?;
        files.write(&place.join("client.key"), &key.to_pkcs8_pem())?;
        files.write(&place.join("client.pem"), &String::from_utf8_lossy(&new.certificate_chain))?;
        files.write(&place.join("root.pem"), &root.certificate_pem())?;
        principals.push(new);
    }

    // Loaded as the service will load it, so that a mistake here shows now.
    ServerConfig::load_with(&places.config, [])?;
    let store = Store::open(&data).await?;
    for principal in principals {
        store.add_principal(principal, millis(now)).await?;
    }
    store.close().await;
    files.keep();
    Ok(places)
}

/// A fresh key for the principal, and its certificate as the store keeps it.
fn certify(
    issuer: &Authority,
    anchors: &TrustAnchors,
    principal: &Principal,
    now: Duration,
) -> Result<(PrincipalKey, NewPrincipal), InitError> {
    let key = PrincipalKey::generate(KeyType::Ed25519, &mut UnwrapErr(SysRng));
    let csr = make_csr(&key, &principal.id);
    let life = Validity::starting(now, OPERATOR_LIFE)?;
    let issued = issuer.issue_client(&csr, principal, life, SerialNumber::random(&mut UnwrapErr(SysRng)))?;
    let verified = anchors.verify_client(&issued.chain(), now)?;
    let new = NewPrincipal {
        id: principal.id.to_string(),
        role: principal.role.as_str().to_owned(),
        verifying_key: key.public_key().to_bytes(),
        certificate_chain: issued.chain_pem().into_bytes(),
        fingerprint: *verified.fingerprint().as_bytes(),
        not_after: millis(verified.not_after()),
    };
    Ok((key, new))
}

/// P-256: what browsers and every TLS stack accept in a certificate.
fn p256() -> Result<KeyPair, InitError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(InitError::Key)
}

/// 64 hexadecimal digits.
fn random_key() -> Result<Zeroizing<String>, InitError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(Zeroizing::new(format!("{}\n", hex::encode(*bytes))))
}

fn config_text(options: &InitOptions) -> String {
    let names = options.names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    format!(
        r#"# Configuration of the coordinator. Relative paths start at the folder of this file; every key can be
# overridden by an environment variable SORDINO__SECTION__KEY. Unknown keys are refused.

[federation]
name = "{federation}"

[server]
listen = "{listen}"
# Names and addresses of the server certificate; the first one stands in invitations.
names = [{names}]
data = "data"
# Shows when an older copy of the privacy ledger in `data` was restored: move it to another disk, out of that backup.
ledger_counter = "counter/privacy.counter"

[keys]
root_certificate = "keys/root.pem"
intermediate_certificate = "keys/intermediate.pem"
intermediate_key = "keys/intermediate.key"
server_certificate = "keys/server.pem"
server_key = "keys/server.key"
token_key = "keys/token.key"
invitation_key = "keys/invitation.key"
# The registrar says who belongs to the federation.
registrar_key = "registrar/registrar.key"
# Authenticates the privacy ledger.
ledger_key = "keys/ledger.key"
"#,
        federation = options.federation,
        listen = options.listen,
    )
}

const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = DAY.saturating_mul(3_650);
const INTERMEDIATE_LIFE: Duration = DAY.saturating_mul(730);
/// Browsers refuse server certificates that live longer than 398 days.
const SERVER_LIFE: Duration = DAY.saturating_mul(390);
/// The first administrator and auditor; participants' certificates live days.
const OPERATOR_LIFE: Duration = DAY.saturating_mul(90);

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::{app::App, clock::SystemClock};
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn options() -> InitOptions {
        InitOptions {
            federation: "hospitals.example".parse().unwrap(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            listen: "127.0.0.1:0".parse().unwrap(),
            coordinator: "coordinator".parse().unwrap(),
            admin: "first-admin".parse().unwrap(),
            auditor: "first-auditor".parse().unwrap(),
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn what_init_makes_is_private_and_starts() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("fed");
        let made = init(&home, &options(), SystemClock.now()).await.unwrap();
        for file in files(&home) {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
        }
        let config = ServerConfig::load_with(&made.config, []).unwrap();
        let app = App::open(config, SystemClock).await.unwrap();
        let rows = app.store.principals(None, 10).await.unwrap();
        let names: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.role.as_str())).collect();
        assert_eq!(names, [("first-admin", "admin"), ("first-auditor", "auditor")]);
    }

    #[tokio::test]
    async fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let made = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
        let before: Vec<_> = files(&made.root).iter().map(|file| fs::read(file).unwrap()).collect();
        let error = init(folder.path(), &options(), SystemClock.now()).await.unwrap_err();
        assert!(error.to_string().contains("sordino.toml"), "{error}");
        let after: Vec<_> = files(&made.root).iter().map(|file| fs::read(file).unwrap()).collect();
        assert_eq!(before, after);
        // A key that was left in the way stops it too, and nothing else appears beside it.
        let other = tempfile::tempdir().unwrap();
        fs::create_dir(other.path().join("keys")).unwrap();
        fs::write(other.path().join("keys/token.key"), "mine").unwrap();
        let error = init(other.path(), &options(), SystemClock.now()).await.unwrap_err();
        assert!(error.to_string().contains("token.key"), "{error}");
        assert_eq!(files(other.path()), [other.path().join("keys/token.key")]);
        assert_eq!(fs::read_to_string(other.path().join("keys/token.key")).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_key_that_leaked_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let made = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
        let key = folder.path().join("keys/server.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let config = ServerConfig::load_with(&made.config, []).unwrap();
        let Err(error) = App::open(config, SystemClock).await else { panic!("it started") };
        assert!(error.to_string().contains("server.key"), "{error}");
    }
}
