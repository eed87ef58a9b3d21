//! The coordinator's interface over HTTPS: one connection pool, the access token kept fresh, and retries with jittered
//! backoff of what may be retried, and of nothing else.
//!
//! Every request of ours may be sent twice: reads change nothing, chunks say where they belong, protocol messages are
//! taken once whatever comes after, and `POST` to a collection carries an `Idempotency-Key`. So a lost connection, an
//! answer that is cut off or does not begin in time, 429, 502, 503, 504 and 507 are retried until the budget is spent; any
//! other answer is an answer.

use crate::credentials::Credentials;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RANGE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sordino_store::crash_point;
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
    /// The coordinator, or the way to it, was silent for too long.
    #[error("the coordinator at {url} said nothing for {seconds} seconds")]
    Silent {
        /// Its address.
        url: String,
        /// How long it was waited for.
        seconds: u64,
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
        json(path, &self.send(Method::GET, path, &[], &Body::None, ANSWER_TIMEOUT, JSON_MAX).await?.body)
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
        // Some take their time: a policy for a large cohort is checked, a model read.
        let answer = self.post_within(SLOW_TIMEOUT, path, body).await?;
        answer.ok_or(ClientError::Status { status: StatusCode::NO_CONTENT.as_u16() })
    }

    /// `POST` of JSON to a path that has something to say within `wait`, or answers without content then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_poll<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
        body: &B,
    ) -> Result<Option<T>, ClientError> {
        self.post_within(wait + POLL_SLACK, &polled(path, wait), body).await
    }

    async fn post_within<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        within: Duration,
        path: &str,
        body: &B,
    ) -> Result<Option<T>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|source| ClientError::Answer { path: path.to_owned(), source })?;
        let headers = [("idempotency-key", idempotency_key()?)];
        let answer = self.send(Method::POST, path, &headers, &Body::Json(body), within, JSON_MAX).await?;
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        json(path, &answer.body).map(Some)
    }

    /// `POST` of bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_bytes(&self, path: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let within = sending(bytes.len());
        self.send(Method::POST, path, &[], &Body::Octets(bytes.to_vec()), within, JSON_MAX).await.map(drop)
    }

    /// `GET` of bytes, at most `limit`, from a path that has something to say within `wait`; `None` for an answer without
    /// content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll_bytes(&self, path: &str, wait: Duration, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let answer = self.send(Method::GET, &polled(path, wait), &[], &Body::None, wait + POLL_SLACK, limit).await?;
        Ok((answer.status != StatusCode::NO_CONTENT).then_some(answer.body))
    }

    /// `GET` of bytes, at most `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>, ClientError> {
        let answer = self.send(Method::GET, path, &[], &Body::None, ANSWER_TIMEOUT, limit).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Err(ClientError::Status { status: answer.status.as_u16() }),
            _ => Ok(answer.body),
        }
    }

    /// Downloads a model and checks its digest; a download that was cut goes on where it stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_model(&self, digest: Digest, limit: usize) -> Result<Vec<u8>, ClientError> {
        let bytes = self.get_file(&format!("/v1/models/{digest}"), limit).await?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(ClientError::WrongDigest { digest }) }
    }

    /// Downloads a file that does not change, of `limit` bytes at most; a download that was cut goes on where it stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_file(&self, path: &str, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        let mut retry = Retry::new(self.budget);
        loop {
            let had = bytes.len();
            let Err(failure) = self.get_rest(path, &mut bytes, limit).await else { return Ok(bytes) };
            // As long as each attempt brings something, it is worth another one.
            if bytes.len() > had {
                retry = Retry::new(self.budget);
            }
            self.wait(&mut retry, path, failure).await?;
        }
    }

    /// Asks for what is behind `bytes` and appends what comes, also where it is cut off.
    async fn get_rest(&self, path: &str, bytes: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
        let range = format!("bytes={}-", bytes.len());
        let headers: &[_] = if bytes.is_empty() { &[] } else { &[(RANGE.as_str(), range)] };
        let response = self.send_once(Method::GET, path, headers, &Body::None, ANSWER_TIMEOUT).await?;
        if response.status() == StatusCode::OK {
            bytes.clear();
        }
        append(&self.inner.base, path, response, bytes, limit).await
    }

    /// Uploads a model; its digest is its name. An upload that was cut off earlier goes on where it stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model(&self, bytes: &[u8]) -> Result<Digest, ClientError> {
        let digest = Digest::of(bytes);
        let progress = format!("/v1/models/{digest}/upload?length={}", bytes.len());
        let path = format!("/v1/models/{digest}?length={}&", bytes.len());
        let mut uploads = 0;
        loop {
            self.put_chunks(&path, &progress, bytes).await?;
            uploads += 1;
            // Whether the file was taken is told with the last chunk. That answer may have been lost, or given to a process
            // before this one: an empty chunk at the end changes nothing and is answered in the same way.
            match self.put_chunk(&path, bytes.len(), &[]).await {
                Ok(_) => return Ok(digest),
                // It was all there, and is gone.
                Err(error) if error.code() == Some(Code::OffsetMismatch) && uploads < UPLOADS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Uploads what the coordinator does not have yet, in chunks, and goes on from wherever it says it is.
    ///
    /// A connection that is lost costs the chunk that was under way. So the next one is half as large, down to
    /// [`PIECE_BYTES_MIN`]: a network that hardly ever carries a large chunk carries small ones. With each one that
    /// arrives they grow by so much again.
    ///
    /// `path` ends in `?` or `&`; `progress` is where [`UploadStatus`] can be asked for.
    pub(crate) async fn put_chunks(&self, path: &str, progress: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let (mut chunk_bytes, mut chunk_bytes_max) = (CHUNK_BYTES, CHUNK_BYTES);
        let mut received = position(self.get(progress).await?, bytes)?;
        let (mut furthest, mut returns) = (received, 0);
        let mut retry = Retry::new(self.budget);
        while received < bytes.len() {
            let end = bytes.len().min(received.saturating_add(chunk_bytes));
            let sent = match self.put_chunk_once(path, received, &bytes[received..end]).await {
                Ok(status) => Ok(status),
                Err(failure) => {
                    if failure.is_lost() {
                        chunk_bytes = ((end - received) / 2).max(PIECE_BYTES_MIN);
                    }
                    match self.wait(&mut retry, path, failure).await {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    }
                }
            };
            received = match sent {
                Ok(status) => match position(status, bytes)? {
                    next if next > received => {
                        chunk_bytes = (chunk_bytes + PIECE_BYTES_MIN).min(chunk_bytes_max);
                        next
                    }
                    _ => return Err(ClientError::Status { status: StatusCode::CONFLICT.as_u16() }),
                },
                // The answer to this chunk was lost and it is in, or the coordinator has lost what it had.
                Err(error) if error.code() == Some(Code::OffsetMismatch) && returns < RETURNS_MAX => {
                    returns += 1;
                    position(self.get(progress).await?, bytes)?
                }
                Err(error) if is_too_large(&error) && chunk_bytes > CHUNK_BYTES_MIN => {
                    chunk_bytes_max = (chunk_bytes / 2).max(CHUNK_BYTES_MIN);
                    chunk_bytes = chunk_bytes_max;
                    received
                }
                Err(error) => return Err(error),
            };
            crash_point!("chunk:sent");
            retry = Retry::new(self.budget);
            if received > furthest {
                (furthest, returns) = (received, 0);
            }
        }
        Ok(())
    }

    async fn put_chunk_once(&self, path: &str, offset: usize, chunk: &[u8]) -> Result<UploadStatus, Failure> {
        let path = format!("{path}offset={offset}");
        let body = Body::Octets(chunk.to_vec());
        let response = self.send_once(Method::PUT, &path, &chunk_headers(chunk), &body, sending(chunk.len())).await?;
        let body = limited(&self.inner.base, &path, response, JSON_MAX).await?;
        json(&path, &body).map_err(Failure::Final)
    }

    async fn put_chunk(&self, path: &str, offset: usize, chunk: &[u8]) -> Result<UploadStatus, ClientError> {
        let path = format!("{path}offset={offset}");
        let body = Body::Octets(chunk.to_vec());
        // A model that is whole is read before the answer.
        json(&path, &self.send(Method::PUT, &path, &chunk_headers(chunk), &body, SLOW_TIMEOUT, JSON_MAX).await?.body)
    }

    /// Sends until there is a whole answer, a refusal, or no budget left.
    ///
    /// - `within`: how long each answer may take to begin.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &Body,
        within: Duration,
        limit: usize,
    ) -> Result<Answer, ClientError> {
        let mut retry = Retry::new(self.budget);
        loop {
            let outcome = match self.send_once(method.clone(), path, headers, body, within).await {
                Ok(response) => {
                    let status = response.status();
                    limited(&self.inner.base, path, response, limit).await.map(|body| Answer { status, body })
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.wait(&mut retry, path, failure).await?,
            }
        }
    }

    /// Returns when the request is to be sent again.
    async fn wait(&self, retry: &mut Retry, path: &str, failure: Failure) -> Result<(), ClientError> {
        match failure {
            // A token can end early: the coordinator has a new key, or our clock runs ahead.
            Failure::Final(error) if error.code() == Some(Code::TokenRequired) && !retry.renewed => {
                retry.renewed = true;
                *self.inner.token.lock().await = None;
                Ok(())
            }
            Failure::Final(error) => Err(error),
            Failure::Passing { error, after } => {
                let wait = after.unwrap_or_default().max(jittered(retry.backoff));
                if retry.started.elapsed().saturating_add(wait) > retry.budget {
                    return Err(error);
                }
                tracing::debug!(path, error = %error, ?wait, "will try again");
                tokio::time::sleep(wait).await;
                retry.backoff = (retry.backoff * 2).min(BACKOFF_MAX);
                Ok(())
            }
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &Body,
        within: Duration,
    ) -> Result<Response, Failure> {
        let token = self.token().await?;
        let request = self.inner.http.request(method, format!("{}{path}", self.inner.base)).bearer_auth(token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = match body {
            Body::None => request,
            Body::Json(bytes) => request.header(CONTENT_TYPE, "application/json").body(bytes.clone()),
            Body::Octets(bytes) => request.header(CONTENT_TYPE, "application/octet-stream").body(bytes.clone()),
        };
        answer(&self.inner.base, request, within).await
    }

    async fn token(&self) -> Result<String, Failure> {
        let mut token = self.inner.token.lock().await;
        if let Some((token, _)) = token.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at) {
            return Ok(token.clone());
        }
        let path = "/v1/token";
        let request = self.inner.http.post(format!("{}{path}", self.inner.base));
        let response = answer(&self.inner.base, request, ANSWER_TIMEOUT).await?;
        let body = limited(&self.inner.base, path, response, JSON_MAX).await?;
        let answer: TokenAnswer = json(path, &body).map_err(Failure::Final)?;
        // Renewed when four fifths of its life are over.
        let renew_at = Instant::now() + Duration::from_secs(answer.expires_in).min(TOKEN_LIFE_MAX) * 4 / 5;
        *token = Some((answer.access_token.clone(), renew_at));
        Ok(answer.access_token)
    }
}

/// A whole answer that is no refusal.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// How long a request has been tried, and how long to wait before it is sent again.
struct Retry {
    started: Instant,
    budget: Duration,
    backoff: Duration,
    /// Whether a new access token has been tried.
    renewed: bool,
}

impl Retry {
    fn new(budget: Duration) -> Self {
        Self { started: Instant::now(), budget, backoff: BACKOFF_FIRST, renewed: false }
    }
}

pub(crate) enum Failure {
    /// Trying again may help.
    Passing { error: ClientError, after: Option<Duration> },
    /// It will not.
    Final(ClientError),
}

impl Failure {
    /// Whether the connection was lost, or never there.
    fn is_lost(&self) -> bool {
        matches!(self, Self::Passing { error: ClientError::Unreachable { .. } | ClientError::Silent { .. }, .. })
    }

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
        // A connection over which nothing comes any more is given up, and with it all that waits on it.
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .user_agent(concat!("sordino/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ClientError::Setup(error.into()))
}

/// Sends, and tells answers from refusals and passing failures.
///
/// - `within`: how long the answer may take to begin, the sending of the request included.
pub(crate) async fn answer(url: &str, request: RequestBuilder, within: Duration) -> Result<Response, Failure> {
    let sent = tokio::time::timeout(within, request.send()).await.map_err(|_| silent(url, within))?;
    let response = sent.map_err(|source| {
        let passing = !source.is_builder() && !source.is_redirect();
        let error = ClientError::Unreachable { url: url.to_owned(), source };
        if passing { Failure::Passing { error, after: None } } else { Failure::Final(error) }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let body = match limited(url, url, response, PROBLEM_MAX).await {
        Err(Failure::Passing { error, .. }) => return Err(Failure::Passing { error, after }),
        body => body.unwrap_or_default(),
    };
    let error = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Status { status: status.as_u16() },
    };
    if PASSING.contains(&status.as_u16()) { Err(Failure::Passing { error, after }) } else { Err(Failure::Final(error)) }
}

/// The whole body of an answer of the coordinator at `url`. One that is cut off is a lost connection.
pub(crate) async fn limited(url: &str, path: &str, response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    append(url, path, response, &mut bytes, limit).await?;
    Ok(bytes)
}

/// Appends the body of an answer to `bytes`, up to `limit` in all; what came before it was cut off stays.
async fn append(
    url: &str,
    path: &str,
    mut response: Response,
    bytes: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Failure> {
    while let Some(chunk) = next_chunk(url, &mut response, STALL_TIMEOUT).await? {
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(Failure::Final(ClientError::TooLarge { path: path.to_owned(), limit }));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(())
}

/// What comes next of an answer that has begun; nothing at its end.
async fn next_chunk(url: &str, response: &mut Response, within: Duration) -> Result<Option<Bytes>, Failure> {
    let chunk = tokio::time::timeout(within, response.chunk()).await.map_err(|_| silent(url, within))?;
    chunk.map_err(|source| {
        let error = ClientError::Unreachable { url: url.to_owned(), source };
        Failure::Passing { error, after: None }
    })
}

fn silent(url: &str, within: Duration) -> Failure {
    let error = ClientError::Silent { url: url.to_owned(), seconds: within.as_secs() };
    Failure::Passing { error, after: None }
}

/// How long the answer to a request with a body may take to begin.
fn sending(bytes: usize) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes as u64 / SENDING_RATE_MIN)
}

/// A path that is asked to wait.
fn polled(path: &str, wait: Duration) -> String {
    format!("{path}?wait={}", wait.as_secs())
}

/// Where an upload goes on; a count beyond its end is no answer.
fn position(status: UploadStatus, bytes: &[u8]) -> Result<usize, ClientError> {
    usize::try_from(status.received)
        .ok()
        .filter(|received| *received <= bytes.len())
        .ok_or(ClientError::Status { status: StatusCode::CONFLICT.as_u16() })
}

/// From the coordinator, or from something between it and us.
fn is_too_large(error: &ClientError) -> bool {
    error.code() == Some(Code::TooLarge)
        || matches!(error, ClientError::Status { status } if *status == StatusCode::PAYLOAD_TOO_LARGE.as_u16())
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

fn chunk_headers(chunk: &[u8]) -> [(&'static str, String); 2] {
    // The length is said in any case: of an empty body the HTTP client says nothing, and the coordinator wants to know.
    [("content-digest", content_digest(chunk)), ("content-length", chunk.len().to_string())]
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
/// How long an answer may take to begin: the coordinator waits for a commit, and for a step that is being closed.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for what takes its time: a policy is checked, a model is read.
pub(crate) const SLOW_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a long poll, beyond what it asked for.
const POLL_SLACK: Duration = Duration::from_secs(5);
/// How long an answer that has begun may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes in a second that a request's body is given time for.
const SENDING_RATE_MIN: u64 = 64 * 1024;
/// After so long without a word a connection in use is asked for a sign of life,
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// which has so long to come.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Statuses after which the same request may succeed.
const PASSING: [u16; 5] = [429, 502, 503, 504, 507];
const PROBLEM_MAX: usize = 64 * 1024;
const JSON_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an upload's chunk: the coordinator's default maximum.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The smallest chunk that is tried where larger ones are refused for their size.
const CHUNK_BYTES_MIN: usize = 64 * 1024;
/// The smallest chunk after connections were lost: above what a handshake carries.
const PIECE_BYTES_MIN: usize = 16 * 1024;
/// How often an upload asks where it stands before it gets any further.
const RETURNS_MAX: u32 = 8;
/// How often the same bytes are uploaded before that is given up.
pub(crate) const UPLOADS_MAX: u32 = 3;
/// A coordinator that asks for a longer wait is asked again after this one.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// A token that lives longer is renewed all the same.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
pub(crate) mod tests;
