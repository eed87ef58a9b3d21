//! HTTP written by hand over a TLS connection: for requests that no client library would send.

use crate::common::{TestClient, TestFederation};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use sordino_coordinator::tls::provider;
use std::{fs, sync::Arc};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An HTTP/1.1 connection that shows the client's certificate.
pub(crate) async fn connect(federation: &TestFederation, client: &TestClient) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = fs::read(federation.root_pem()).unwrap();
    roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(client.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(client.key_pem.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(("127.0.0.1", federation.port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Head and body of the one answer on a connection that the other side closes or leaves idle.
pub(crate) async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // An answer of ours always has its body in the same breath as its head.
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") || !bytes.ends_with(b"}") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(bytes).unwrap()
}
