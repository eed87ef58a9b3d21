//! A federation to test against: made by `init` in a temporary folder, served on 127.0.0.1 in this process.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part of the harness")]

use getrandom::{SysRng, rand_core::UnwrapErr};
use http::StatusCode;
use reqwest::{Client, Method, RequestBuilder, Response};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sordino_coordinator::{
    App, Routes, Server, ServerConfig,
    bulk::{CONTENT_DIGEST, digest_value},
    clock::{Clock, SystemClock},
    init::{InitOptions, Initialized, init},
    server::Stopped,
    tls::provider,
};
use sordino_identity::{IdentityKey, Invitation, PrincipalId, Role, make_csr};
use sordino_wire::{
    Code, Digest, Problem,
    api::{EnrollAnswer, EnrollRequest, JoinTokenAnswer, JoinTokenRequest, Task, TaskRequest, TokenAnswer},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// A running federation. Dropping it ends the service without grace.
pub struct TestFederation {
    pub folder: TempDir,
    pub places: Initialized,
    pub app: Arc<App>,
    pub url: String,
    pub port: u16,
    /// The first administrator, with a token.
    pub admin: TestClient,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Stopped>,
}

/// A principal's side: key, certificate chain and token, and an HTTP client that shows the certificate.
#[derive(Clone)]
pub struct TestClient {
    pub id: PrincipalId,
    pub key_pem: String,
    pub chain_pem: String,
    pub token: Option<String>,
    pub http: Client,
    base: String,
}

impl TestFederation {
    pub async fn start() -> Self {
        Self::start_with("", |_| Routes::new()).await
    }

    /// - `extra_config`: appended to `sordino.toml`, such as `[limits]`.
    /// - `routes`: beside those of the app.
    pub async fn start_with(extra_config: &str, routes: impl FnOnce(&Arc<App>) -> Routes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = init(folder.path(), &options(), SystemClock.now()).await.unwrap();
        let text = fs::read_to_string(&places.config).unwrap() + "\n" + extra_config;
        fs::write(&places.config, text).unwrap();
        Self::serve(folder, places, routes).await
    }

    /// Serves a folder that is there, as after a restart.
    pub async fn serve(folder: TempDir, places: Initialized, routes: impl FnOnce(&Arc<App>) -> Routes) -> Self {
        Self::serve_by(SystemClock, folder, places, routes).await
    }

    /// By a clock of the test's own; the TLS stack itself goes by the system's.
    pub async fn serve_by(
        clock: impl Clock,
        folder: TempDir,
        places: Initialized,
        routes: impl FnOnce(&Arc<App>) -> Routes,
    ) -> Self {
        // What callers are not told is in the log: a test that fails shows it.
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_test_writer().try_init();
        let config = ServerConfig::load_with(&places.config, []).unwrap();
        let app = App::open(config, clock).await.unwrap();
        let routes = routes(&app);
        let server = Server::bind(app.clone(), routes).await.unwrap();
        let port = server.local_addr().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.run(async move {
            // An error means that the harness is gone, which is a reason to stop as well.
            let _ = stopped.await;
        }));
        let url = format!("https://localhost:{port}");
        let mut admin = TestClient::from_files(&places.admin, "first-admin", &url);
        admin.fetch_token().await;
        Self { folder, places, app, url, port, admin, stop: Some(stop), served }
    }

    pub fn root_pem(&self) -> PathBuf {
        self.folder.path().join("keys/root.pem")
    }

    /// Someone without a certificate.
    pub fn stranger(&self) -> TestClient {
        TestClient::new(&self.url, "nobody-at-all", &fs::read_to_string(self.root_pem()).unwrap(), None)
    }

    pub async fn auditor(&self) -> TestClient {
        let mut auditor = TestClient::from_files(&self.places.auditor, "first-auditor", &self.url);
        auditor.fetch_token().await;
        auditor
    }

    /// An invitation, as an administrator gets it.
    pub async fn invite(&self, id: &str, role: Role, expires_in: u64) -> Invitation {
        let request = JoinTokenRequest { principal: id.parse().unwrap(), role, expires_in };
        let answer = self.admin.post("/v1/join-tokens").json(&request).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json::<JoinTokenAnswer>().await.unwrap().invitation.parse().unwrap()
    }

    /// Invites, enrols and fetches a token: a participant that is ready.
    pub async fn participant(&self, id: &str) -> TestClient {
        let invitation = self.invite(id, Role::Client, 600).await;
        let key = IdentityKey::generate(&mut UnwrapErr(SysRng));
        let answer = self.enroll(&invitation, id, &key).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let chain = answer.json::<EnrollAnswer>().await.unwrap().certificate_chain;
        let root = fs::read_to_string(self.root_pem()).unwrap();
        let mut client = TestClient::new(&self.url, id, &root, Some((chain, key.to_pkcs8_pem().to_string())));
        client.fetch_token().await;
        client
    }

    /// `POST /v1/enroll` with the secret of the invitation.
    pub async fn enroll(&self, invitation: &Invitation, id: &str, key: &impl rcgen::SigningKey) -> Response {
        let id: PrincipalId = id.parse().unwrap();
        let token = invitation.secret().to_text().to_string();
        let request = EnrollRequest { token, csr: make_csr(key, &id), principal: id };
        self.stranger().post("/v1/enroll").json(&request).send().await.unwrap()
    }

    /// Uploads a model in one chunk; it may be there already.
    pub async fn upload(&self, model: &[u8]) -> Digest {
        let digest = Digest::of(model);
        let answer = self.admin.put_chunk(&format!("/v1/models/{digest}"), model).send().await.unwrap();
        assert!(matches!(answer.status(), StatusCode::CREATED | StatusCode::OK), "{}", answer.status());
        digest
    }

    pub async fn create_task(&self, policy: &str, model: Digest) -> Task {
        let request = TaskRequest { policy: policy.to_owned(), model };
        let answer = self.admin.post("/v1/tasks").json(&request).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Asks for a graceful stop; [`TestFederation::stopped`] waits for it.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits for the stop to end; returns how it went, and the folder for a restart.
    pub async fn stopped(mut self) -> (Stopped, TempDir, Initialized) {
        self.stop();
        let stopped = self.served.await.unwrap();
        self.app.store.close().await;
        (stopped, self.folder, self.places)
    }
}

impl TestClient {
    pub fn new(base: &str, id: &str, root_pem: &str, identity: Option<(String, String)>) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(root_pem.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let (chain_pem, key_pem) = identity.clone().unwrap_or_default();
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        let http = Client::builder().use_preconfigured_tls(tls).no_proxy().build().unwrap();
        Self { id: id.parse().unwrap(), key_pem, chain_pem, token: None, http, base: base.to_owned() }
    }

    /// A principal that `init` made.
    pub fn from_files(folder: &Path, id: &str, base: &str) -> Self {
        let read = |name| fs::read_to_string(folder.join(name)).unwrap();
        Self::new(base, id, &read("root.pem"), Some((read("client.pem"), read("client.key"))))
    }

    pub async fn fetch_token(&mut self) {
        let answer = self.request(Method::POST, "/v1/token").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
        self.token = Some(answer.json::<TokenAnswer>().await.unwrap().access_token);
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// `PUT` of one chunk with its digest.
    pub fn put_chunk(&self, path: &str, chunk: &[u8]) -> RequestBuilder {
        self.request(Method::PUT, path)
            .header("content-type", "application/octet-stream")
            .header(CONTENT_DIGEST, digest_value(Digest::of(chunk)))
            .body(chunk.to_vec())
    }

    /// Key and certificate chain as files for `curl` and `openssl`.
    pub fn write_identity(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (key, chain) = (folder.join(format!("{}.key", self.id)), folder.join(format!("{}.pem", self.id)));
        fs::write(&key, &self.key_pem).unwrap();
        fs::write(&chain, &self.chain_pem).unwrap();
        (key, chain)
    }
}

/// Who is in the test federation.
/// The same model with metadata in its file.
pub fn with_metadata(file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(*file.first_chunk().unwrap());
    let header = std::str::from_utf8(&file[8..8 + usize::try_from(length).unwrap()]).unwrap();
    let with = header.replacen('{', r#"{"__metadata__":{"format":"pt"},"#, 1);
    [&(with.len() as u64).to_le_bytes()[..], with.as_bytes(), &file[8 + header.len()..]].concat()
}

pub fn options() -> InitOptions {
    InitOptions {
        federation: "test.example".parse().unwrap(),
        names: vec!["localhost".into(), "127.0.0.1".into()],
        listen: "127.0.0.1:0".parse().unwrap(),
        coordinator: "coordinator".parse().unwrap(),
        admin: "first-admin".parse().unwrap(),
        auditor: "first-auditor".parse().unwrap(),
    }
}

/// The problem in an answer, with the headers every answer has.
pub async fn problem(answer: Response) -> Problem {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(header("content-type").as_deref(), Some("application/problem+json"), "{}", answer.status());
    assert_eq!(header("strict-transport-security").as_deref(), Some("max-age=31536000; includeSubDomains"));
    let status = answer.status().as_u16();
    let problem = answer.json::<Problem>().await.unwrap();
    assert_eq!((problem.status, problem.code.status()), (status, status));
    problem
}

/// The code of the problem in an answer.
pub async fn code(answer: Response) -> Code {
    problem(answer).await.code
}

/// A model file of one tensor with these values.
pub fn model(values: &[f32]) -> Vec<u8> {
    let header =
        format!(r#"{{"weight":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#, values.len(), values.len() * 4);
    let padded = header.len().next_multiple_of(8);
    let mut bytes = (padded as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(8 + padded, b' ');
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The smallest policy that this version accepts.
pub const POLICY: &str = "[task]\nname = \"sepsis-mlp\"\nrounds = 3\n[privacy]\nenabled = false\n";
