//! What every handler shares: the configuration, the store, the keys, the clock, and where the service stands.

use crate::{
    access::Routes,
    budget,
    clock::Clock,
    config::ServerConfig,
    enrolment, health,
    keyfile::{KeyFileError, read_public, read_secret},
    lifecycle::Lifecycle,
    models, participants,
    rounds::{self, LocalRegistrar, Rounds},
    tasks,
    tls::{Tls, TlsError},
    tokens::{self, Tokens},
};
use ed25519_dalek::VerifyingKey;
use metrics_exporter_prometheus::PrometheusHandle;
use sordino_codec::FileLimits;
use sordino_identity::{
    Authority, AuthorityError, FederationId, IdentityKey, KeyError, Tier, TrustAnchors, TrustError,
};
use sordino_store::{LedgerStoreError, PrivacyLedger, Store, StoreError};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{Semaphore, watch};

/// The service without its sockets.
pub struct App {
    /// As it was read.
    pub config: ServerConfig,
    /// What must survive a crash.
    pub store: Store,
    /// What was charged for privacy.
    pub ledger: PrivacyLedger,
    /// Whom certificates must lead to.
    pub anchors: TrustAnchors,
    /// What joining participants' certificates are signed with: the online intermediate.
    pub issuer: Authority,
    /// Access tokens, signed and verified.
    pub tokens: Tokens,
    /// What the registrar's signatures are verified with.
    pub registrar_key: VerifyingKey,
    /// Where the time of day comes from.
    pub clock: Arc<dyn Clock>,
    /// Starting, ready, stopping.
    pub lifecycle: Lifecycle,
    /// Marked as changed when a task was created, for whoever runs rounds.
    pub tasks_changed: watch::Sender<()>,
    /// The rounds of all active tasks.
    pub rounds: Rounds,
    pub(crate) tls: Tls,
    pub(crate) invitations: enrolment::InvitationKey,
    pub(crate) metrics: PrometheusHandle,
    /// Models being parsed: each needs its file and its values in memory.
    pub(crate) model_checks: Semaphore,
    port: OnceLock<u16>,
}

/// Why the service does not start. Each names the file to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file of `[keys]` cannot be read, or can be read by others.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The listener's certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data folder.
    #[error("the data folder {path} cannot be used")]
    Store {
        /// The folder.
        path: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The root certificate.
    #[error("{path} is not the root certificate of this federation")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// The intermediate CA.
    #[error("{path} is not a CA that can sign participants")]
    Issuer {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: AuthorityError,
    },
    /// The intermediate CA is another one than `[federation]` says.
    #[error("{path} is of another federation, or not an intermediate; the configuration says {federation}")]
    ForeignIssuer {
        /// The certificate's file.
        path: PathBuf,
        /// What the configuration says.
        federation: FederationId,
    },
    /// A signing key.
    #[error("{path} is not an Ed25519 key in PKCS#8 PEM")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The key that invitations are derived from.
    #[error("{path} does not hold 64 hexadecimal digits")]
    InvitationKey {
        /// The file.
        path: PathBuf,
    },
    /// The key of the privacy ledger.
    #[error("{path} does not hold 64 hexadecimal digits that are not all zero")]
    LedgerKey {
        /// The file.
        path: PathBuf,
    },
    /// The privacy ledger: no task may go on.
    #[error("the privacy ledger cannot be used")]
    Ledger(#[from] LedgerStoreError),
    /// Charges of attempts that are over cannot be settled.
    #[error("the privacy charges of earlier attempts cannot be settled")]
    Settle(#[from] budget::BudgetError),
    /// The configured life of tokens is not one a token can have.
    #[error("limits.token_lifetime is refused: {0}")]
    TokenLifetime(#[from] sordino_identity::InvalidTtl),
}

impl App {
    /// Reads the keys and opens the store.
    ///
    /// # Errors
    /// [`StartError`], each naming the file to look at.
    pub async fn open(config: ServerConfig, clock: impl Clock) -> Result<Arc<Self>, StartError> {
        let federation = &config.federation.name;
        let keys = &config.keys;
        let root = read_public(&keys.root_certificate)?;
        let anchors = TrustAnchors::from_pem(federation.clone(), &root)
            .map_err(|source| StartError::Root { path: keys.root_certificate.clone(), source })?;
        let issuer = read_issuer(&config)?;
        let tls = Tls::load(keys, &anchors)?;
        let token_key = read_key(&keys.token_key)?;
        let tokens = Tokens::new(federation, &token_key, config.limits.token_lifetime.into())?;
        let registrar = read_key(&keys.registrar_key)?;
        let invitations = enrolment::InvitationKey::parse(&read_secret(&keys.invitation_key)?)
            .ok_or_else(|| StartError::InvitationKey { path: keys.invitation_key.clone() })?;
        let store = Store::open(&config.server.data)
            .await
            .map_err(|source| StartError::Store { path: config.server.data.clone(), source })?;
        let ledger_key = budget::key(&read_secret(&keys.ledger_key)?)
            .ok_or_else(|| StartError::LedgerKey { path: keys.ledger_key.clone() })?;
        let entries = config.server.data.join(LEDGER_FILE);
        let ledger = PrivacyLedger::open(&entries, &config.server.ledger_counter, ledger_key).await?;
        let data = config.server.data.clone();
        rounds::sweep(&store).await.map_err(|source| StartError::Store { path: data, source })?;
        let app = Arc::new(Self {
            config,
            anchors,
            issuer,
            tokens,
            registrar_key: registrar.verifying_key(),
            clock: Arc::new(clock),
            lifecycle: Lifecycle::new(),
            tasks_changed: watch::Sender::new(()),
            rounds: Rounds::new(LocalRegistrar::new(registrar, store.clone())),
            tls,
            invitations,
            metrics: health::recorder(),
            model_checks: Semaphore::new(1),
            port: OnceLock::new(),
            store,
            ledger,
        });
        budget::reconcile(&app).await?;
        Ok(app)
    }

    /// The federation's name.
    #[must_use]
    pub fn federation(&self) -> &FederationId {
        &self.config.federation.name
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The same, in milliseconds, as the store takes it.
    #[must_use]
    pub fn now_millis(&self) -> i64 {
        crate::clock::millis(self.clock.now())
    }

    /// The clock, for what outlives a request.
    #[must_use]
    pub fn shared_clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Where participants reach us.
    #[must_use]
    pub fn url(&self) -> String {
        self.config.url(self.port.get().copied().unwrap_or(self.config.server.listen.port()))
    }

    /// Reads the server's certificate and key again; open connections keep the old ones.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate then stays in use.
    pub fn reload_certificate(&self) -> Result<(), TlsError> {
        self.tls.reload()
    }

    /// The bounds of a model file.
    #[must_use]
    pub fn model_limits(&self) -> FileLimits {
        let max_file_bytes = usize::try_from(self.config.limits.model_bytes_max).unwrap_or(usize::MAX);
        FileLimits { max_file_bytes, ..FileLimits::default() }
    }

    /// Every route of the service.
    #[must_use]
    pub fn routes() -> Routes {
        Routes::new()
            .merge(enrolment::routes())
            .merge(tokens::routes())
            .merge(participants::routes())
            .merge(models::routes())
            .merge(tasks::routes())
            .merge(rounds::routes())
            .merge(budget::routes())
            .merge(health::routes())
    }

    /// All routes, `extra` included, each behind its guard.
    pub fn router(self: &Arc<Self>, extra: Routes) -> axum::Router {
        let routes = Self::routes().merge(extra).into_router(self.clone());
        routes.layer(axum::middleware::from_fn(health::observe))
    }

    /// Tells where we really listen, once: the port may have been left to the system.
    pub(crate) fn listens_on(&self, port: u16) {
        let _ = self.port.set(port);
    }
}

/// Entries of the privacy ledger, in the data folder.
const LEDGER_FILE: &str = "privacy.ledger";

fn read_issuer(config: &ServerConfig) -> Result<Authority, StartError> {
    let path = config.keys.intermediate_certificate.clone();
    let certificate = read_public(&path)?;
    let key = read_secret(&config.keys.intermediate_key)?;
    match Authority::from_pem(&certificate, &key) {
        Err(source) => Err(StartError::Issuer { path, source }),
        Ok(issuer) if *issuer.federation() != config.federation.name || issuer.tier() != Tier::Intermediate => {
            Err(StartError::ForeignIssuer { path, federation: config.federation.name.clone() })
        }
        Ok(issuer) => Ok(issuer),
    }
}

fn read_key(path: &Path) -> Result<IdentityKey, StartError> {
    let text = read_secret(path)?;
    IdentityKey::from_pkcs8_pem(&text).map_err(|source| StartError::Key { path: path.into(), source })
}
