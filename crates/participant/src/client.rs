//! The coordinator's interface over HTTPS: one connection pool, the access token kept fresh, and retries with jittered
//! backoff of what may be retried, and of nothing else.
//!
//! Every request of ours may be sent twice: reads change nothing, chunks say where they belong, protocol messages are
//! taken once whatever comes after, and `POST` to a collection carries an `Idempotency-Key`. So a lost connection, a
//! time-out, 429, 502, 503, 504 and 507 are retried until the budget is spent; any other answer is an answer.

use crate::credentials::Credentials;
use reqwest::header::{CONTENT_TYPE, RANGE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sordino_wire::api::{TokenAnswer, UploadStatus};
use sordino_wire::{Code, Digest, Problem};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A principal's connection to the coordinator. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// How long a request is retried.
    budget: Duration,
}

struct Inner {
    http: reqwest::Client,
    base: String,
    token: Mutex<Option<(String, Instant)>>,
}

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The coordinator cannot be reached, or the connection was lost until the budget was spent.
    #[error("the coordinator at {url} cannot be reached")]
    Unreachable {
        /// Its address.
        url: String,
        /// What happened last.
        source: reqwest::Error,
    },
    /// The coordinator refused, and says why.
    #[error("the coordinator refused ({}): {}", .0.code.as_str(), .0.detail)]
    Refused(Box<Problem>),
    /// An answer without a problem that could be read.
    #[error("the coordinator answered with status {status} and nothing that can be read")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// An answer of another form than its path has.
    #[error("the coordinator's answer to {path} cannot be read")]
    Answer {
        /// The path.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// More bytes than were asked for.
    #[error("the coordinator's answer to {path} is larger than {limit} bytes")]
    TooLarge {
        /// The path.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// Other bytes than those the digest names.
    #[error("what came for {digest} is something else")]
    WrongDigest {
        /// What was asked for.
        digest: Digest,
    },
    /// The client itself could not be made.
    #[error("the HTTPS client cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ClientError {
    /// The coordinator's code, if it refused with one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }
}

/// An answer's body.
enum Body {
    None,
    Json(Vec<u8>),
    Octets(Vec<u8>),
}

impl Client {
    /// A client with these credentials. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(credentials: &Credentials) -> Result<Self, ClientError> {
        let tls = credentials.tls().map_err(|error| ClientError::Setup(error.into()))?;
        let http = http_client(tls)?;
        let base = credentials.url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { inner: Arc::new(Inner { http, base, token: Mutex::new(None) }), budget: BUDGET })
    }

    /// The same connection with another time to keep trying.
    #[must_use]
    pub fn with_budget(&self, budget: Duration) -> Self {
        Self { inner: self.inner.clone(), budget }
    }

    /// `GET`, a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, &[], &Body::None).await?;
        json(path, &limited(path, response, JSON_MAX).await?)
    }

    /// `POST` of JSON with an `Idempotency-Key`, a JSON answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let answer = self.post_or_nothing(path, body).await?;
        answer.ok_or(ClientError::Status { status: StatusCode::NO_CONTENT.as_u16() })
    }

    /// `POST` of JSON; `None` for an answer without content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_or_nothing<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Option<T>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|source| ClientError::Answer { path: path.to_owned(), source })?;
        let key = idempotency_key()?;
        let response = self.send(Method::POST, path, &[("idempotency-key", key)], &Body::Json(body)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        json(path, &limited(path, response, JSON_MAX).await?).map(Some)
    }

    /// `POST` of bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_bytes(&self, path: &str, bytes: &[u8]) -> Result<(), ClientError> {
        self.send(Method::POST, path, &[], &Body::Octets(bytes.to_vec())).await.map(drop)
    }

    /// `GET` of bytes, at most `limit`; `None` for an answer without content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll_bytes(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let response = self.send(Method::GET, path, &[], &Body::None).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        limited(path, response, limit).await.map(Some)
    }

    /// `GET` of bytes, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>, ClientError> {
        let bytes = self.poll_bytes(path, limit).await?;
        bytes.ok_or(ClientError::Status { status: StatusCode::NO_CONTENT.as_u16() })
    }

    /// Downloads a model and checks its digest; a download that was cut goes on where it stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_model(&self, digest: Digest, limit: usize) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/models/{digest}");
        let mut bytes = Vec::new();
        loop {
            let range = format!("bytes={}-", bytes.len());
            let headers: &[_] = if bytes.is_empty() { &[] } else { &[(RANGE.as_str(), range)] };
            let mut response = self.send(Method::GET, &path, headers, &Body::None).await?;
            if response.status() == StatusCode::OK {
                bytes.clear();
            }
            let had = bytes.len();
            let cut = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => {
                        return Err(ClientError::TooLarge { path, limit });
                    }
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            match cut {
                None if Digest::of(&bytes) == digest => return Ok(bytes),
                None => return Err(ClientError::WrongDigest { digest }),
                // As long as each attempt brings something, it is worth another one.
                Some(_) if bytes.len() > had => {}
                Some(source) => return Err(ClientError::Unreachable { url: self.inner.base.clone(), source }),
            }
        }
    }

    /// Uploads a model; its digest is its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model(&self, bytes: &[u8]) -> Result<Digest, ClientError> {
        let digest = Digest::of(bytes);
        let path = format!("/v1/models/{digest}?length={}&", bytes.len());
        self.put_chunks(&path, bytes, 0).await?;
        Ok(digest)
    }

    /// Uploads bytes from `received` on, in chunks; where the coordinator has another count, it goes on from there.
    ///
    /// `path` ends in `?` or `&`.
    pub(crate) async fn put_chunks(&self, path: &str, bytes: &[u8], mut received: usize) -> Result<(), ClientError> {
        while received < bytes.len() {
            let chunk = &bytes[received..bytes.len().min(received + CHUNK_BYTES)];
            let digest = content_digest(chunk);
            let path = format!("{path}offset={received}");
            let body = Body::Octets(chunk.to_vec());
            let response = self.send(Method::PUT, &path, &[("content-digest", digest)], &body).await?;
            let status: UploadStatus = json(&path, &limited(&path, response, JSON_MAX).await?)?;
            let next = usize::try_from(status.received).unwrap_or(usize::MAX);
            if next <= received || next > bytes.len() {
                return Err(ClientError::Status { status: StatusCode::CONFLICT.as_u16() });
            }
            received = next;
        }
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &Body,
    ) -> Result<Response, ClientError> {
        let started = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        let mut renewed = false;
        loop {
            let outcome = self.send_once(method.clone(), path, headers, body).await;
            let wait = match outcome {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => {
                    // A token can end early: the coordinator has a new key, or our clock runs ahead.
                    if error.code() == Some(Code::TokenRequired) && !renewed {
                        renewed = true;
                        *self.inner.token.lock().await = None;
                        continue;
                    }
                    return Err(error);
                }
                Err(Failure::Passing { error, after }) => {
                    let wait = after.unwrap_or_default().max(jittered(backoff));
                    if started.elapsed() + wait > self.budget {
                        return Err(error);
                    }
                    tracing::debug!(path, error = %error, ?wait, "will try again");
                    wait
                }
            };
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &Body,
    ) -> Result<Response, Failure> {
        let token = self.token().await?;
        let request = self.inner.http.request(method, format!("{}{path}", self.inner.base)).bearer_auth(token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        self.answer(match body {
            Body::None => request,
            Body::Json(bytes) => request.header(CONTENT_TYPE, "application/json").body(bytes.clone()),
            Body::Octets(bytes) => request.header(CONTENT_TYPE, "application/octet-stream").body(bytes.clone()),
        })
        .await
    }

    async fn token(&self) -> Result<String, Failure> {
        let mut token = self.inner.token.lock().await;
        if let Some((token, _)) = token.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at) {
            return Ok(token.clone());
        }
        let path = "/v1/token";
        let response = self.answer(self.inner.http.post(format!("{}{path}", self.inner.base))).await?;
        let body = limited(path, response, JSON_MAX).await.map_err(Failure::Final)?;
        let answer: TokenAnswer = json(path, &body).map_err(Failure::Final)?;
        // Renewed when four fifths of its life are over.
        let renew_at = Instant::now() + Duration::from_secs(answer.expires_in) * 4 / 5;
        *token = Some((answer.access_token.clone(), renew_at));
        Ok(answer.access_token)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, Failure> {
        answer(&self.inner.base, request).await
    }
}

pub(crate) enum Failure {
    /// Trying again may help.
    Passing { error: ClientError, after: Option<Duration> },
    /// It will not.
    Final(ClientError),
}

impl Failure {
    pub(crate) fn into_error(self) -> ClientError {
        match self {
            Self::Passing { error, .. } | Self::Final(error) => error,
        }
    }
}

/// An HTTPS client with these TLS settings. `HTTPS_PROXY` is honoured.
pub(crate) fn http_client(tls: rustls::ClientConfig) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("sordino/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ClientError::Setup(error.into()))
}

/// Sends, and tells answers from refusals and passing failures.
pub(crate) async fn answer(url: &str, request: RequestBuilder) -> Result<Response, Failure> {
    let response = request.send().await.map_err(|source| {
        let passing = !source.is_builder() && !source.is_redirect();
        let error = ClientError::Unreachable { url: url.to_owned(), source };
        if passing { Failure::Passing { error, after: None } } else { Failure::Final(error) }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = limited(url, response, PROBLEM_MAX).await.unwrap_or_default();
    let error = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Status { status: status.as_u16() },
    };
    if PASSING.contains(&status.as_u16()) {
        Err(Failure::Passing { error, after: after.map(Duration::from_secs) })
    } else {
        Err(Failure::Final(error))
    }
}

pub(crate) async fn limited(path: &str, mut response: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let lost = |source| ClientError::Unreachable { url: path.to_owned(), source };
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if bytes.len() + chunk.len() > limit {
            return Err(ClientError::TooLarge { path: path.to_owned(), limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

pub(crate) fn json<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|source| ClientError::Answer { path: path.to_owned(), source })
}

/// 128 random bits in hexadecimal.
pub(crate) fn idempotency_key() -> Result<String, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ClientError::Setup(error.into()))?;
    Ok(hex::encode(bytes))
}

/// `Content-Digest` (RFC 9530) of a chunk.
fn content_digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    format!("sha-256=:{}:", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest))
}

/// Between nothing and the whole backoff: clients that failed together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness the full backoff is waited.
    let part = getrandom::fill(&mut bytes).map_or(1.0, |()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
    backoff.mul_f64(0.25 + 0.75 * part)
}

/// How long a request is retried where the caller says nothing.
const BUDGET: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any long poll.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Statuses after which the same request may succeed.
const PASSING: [u16; 5] = [429, 502, 503, 504, 507];
const PROBLEM_MAX: usize = 64 * 1024;
const JSON_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an upload's chunk: the coordinator's default maximum.
const CHUNK_BYTES: usize = 1024 * 1024;
