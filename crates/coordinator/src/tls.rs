//! TLS 1.3 and nothing else, with client certificates of our own CA.
//!
//! Versions and suites are set in code: other crates in the tree switch TLS 1.2 on through feature unification. The
//! server's certificate can be replaced while connections are open; the trust anchor cannot, it is for a restart.

use crate::{
    config::Keys,
    keyfile::{KeyFileError, read_public, read_secret},
};
use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs, aws_lc_rs::cipher_suite},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sordino_identity::TrustAnchors;
use std::{path::PathBuf, sync::Arc};

/// The TLS side of the listener.
#[derive(Debug)]
pub struct Tls {
    keys: Keys,
    roots: Arc<RootCertStore>,
    current: ArcSwap<ServerConfig>,
}

/// Why the listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file of `[keys]`.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Not PEM, or nothing in it.
    #[error("{path} holds no {wanted} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A certificate and a key that do not belong together, or a root that is none.
    #[error("the certificates in [keys] do not work together: {0}")]
    Unfit(String),
}

impl Tls {
    /// Reads the server's certificate and key.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(keys: &Keys, anchors: &TrustAnchors) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in anchors.certificates() {
            roots.add(root.clone()).map_err(|error| TlsError::Unfit(error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let current = ArcSwap::from_pointee(build(keys, &roots)?);
        Ok(Self { keys: keys.clone(), roots, current })
    }

    /// Reads certificate and key again; connections that are open keep the old ones.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate then stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(build(&self.keys, &self.roots)?));
        Ok(())
    }

    /// What the next connection uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

/// The three suites of TLS 1.3; key exchange X25519MLKEM768 first, as rustls orders them.
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn build(keys: &Keys, roots: &Arc<RootCertStore>) -> Result<ServerConfig, TlsError> {
    let unfit = |error: &dyn std::fmt::Display| TlsError::Unfit(error.to_string());
    let no_pem = |path: &PathBuf, wanted| TlsError::Pem { path: path.clone(), wanted };
    let chain = read_public(&keys.server_certificate)?;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| no_pem(&keys.server_certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(read_secret(&keys.server_key)?.as_bytes())
        .map_err(|_| no_pem(&keys.server_key, "private key"))?;
    let provider = Arc::new(provider());
    // Enrolment is for those who have no certificate yet. Every other route asks for one itself, see `access`.
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unfit(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unfit(&error))?;
    // No tickets: every connection proves its client's key anew, and no ticket key can leak.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_key_exchange_comes_first() {
        let provider = provider();
        assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
        assert!(provider.cipher_suites.iter().all(|suite| suite.version().version == rustls::ProtocolVersion::TLSv1_3));
    }
}
