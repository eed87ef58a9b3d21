//! What handlers take and give: JSON bodies inside their limits, and errors as problem details (RFC 9457).
//!
//! Callers get a stable code and what they can do about it; an internal cause goes to the log only.

use crate::app::App;
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sordino_store::StoreError;
use sordino_wire::{
    Code, Problem,
    api::{PAGE_DEFAULT, PAGE_MAX, Page},
};
use std::{error::Error, sync::Arc, time::Duration};

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub struct ApiError(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    problem: Problem,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A problem that the caller can do something about; `detail` says what.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Problem::new(code, detail);
        Self(Box::new(Refusal { problem, retry_after: None, headers: Vec::new(), cause: None }))
    }

    /// A problem of ours. The caller learns that it is ours, the log learns the cause.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "the coordinator could not do this; its log has the cause";
        Self::new(Code::Internal, detail).because(cause)
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Says when to try again (`Retry-After`, rounded up to seconds).
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// What the caller will see.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => {
                Self::new(Code::StorageFull, "the coordinator's disk is full; nothing was changed, retry later")
                    .retry_after(BUSY_RETRY)
            }
            StoreError::Busy => {
                Self::new(Code::Unavailable, "the coordinator's database is busy; retry").retry_after(BUSY_RETRY)
            }
            other => return Self::internal(other),
        }
        .because(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Refusal { problem, retry_after, headers, cause } = *self.0;
        if let Some(cause) = cause {
            let chain = chain(cause.as_ref());
            if problem.status >= 500 {
                tracing::error!(code = problem.code.as_str(), cause = chain, "request failed");
            } else {
                tracing::debug!(code = problem.code.as_str(), cause = chain, "request refused");
            }
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a struct of strings and a number is JSON");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.headers_mut().extend(headers);
        response
    }
}

/// The causes of an error, outermost first, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A JSON body: of the right type, inside the limit before it is read, without unknown fields where `T` refuses them.
#[derive(Debug, Clone)]
pub struct Json<T> {
    /// What was read.
    pub value: T,
    /// The bytes it was read from, for digests.
    pub bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        require_type(&parts.headers, JSON)?;
        let limits = &app.config.limits;
        let bytes = read_body(&parts.headers, body, limits.json_body_max, limits.body_timeout.into()).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let code = if error.is_data() { Code::Invalid } else { Code::Malformed };
            ApiError::new(code, format!("the JSON body is refused: {error}"))
        })?;
        Ok(Self { value, bytes })
    }
}

/// Parameters after the `?`, all of them known.
#[derive(Debug, Clone, Copy)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let refuse = |error: axum::extract::rejection::QueryRejection| {
            ApiError::new(Code::Malformed, format!("the parameters of the address are refused: {}", chain(&error)))
        };
        Query::<T>::from_request_parts(parts, app).await.map(|Query(value)| Self(value)).map_err(refuse)
    }
}

/// The variable part of a path. One that cannot be an id names nothing: 404.
#[derive(Debug, Clone, Copy)]
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let refuse = |error: axum::extract::rejection::PathRejection| ApiError::new(Code::NotFound, chain(&error));
        axum::extract::Path::<T>::from_request_parts(parts, app)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(refuse)
    }
}

/// `?limit=&cursor=` of every listing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// Items on the page, at most.
    #[serde(default = "page_default")]
    limit: u32,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn page_default() -> u32 {
    PAGE_DEFAULT
}

impl PageParams {
    /// Items to ask the store for: one more than the page holds shows whether there is a next page.
    ///
    /// # Errors
    /// 400 when the limit is 0 or above [`PAGE_MAX`].
    pub fn fetch(&self) -> Result<u32, ApiError> {
        if (1..=PAGE_MAX).contains(&self.limit) {
            return Ok(self.limit + 1);
        }
        Err(ApiError::new(Code::Malformed, format!("limit is {}, it must be 1 to {PAGE_MAX}", self.limit)))
    }

    /// Where the page starts: after this item.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The page from the rows that were fetched; `key` is what the listing is ordered by.
    pub fn page<Row, T>(&self, mut rows: Vec<Row>, key: impl Fn(&Row) -> String, item: impl Fn(Row) -> T) -> Page<T> {
        let held = self.limit as usize;
        let more = rows.len() > held;
        rows.truncate(held);
        let next = if more { rows.last().map(&key) } else { None };
        Page { items: rows.into_iter().map(item).collect(), next }
    }
}

/// An answer in JSON.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(status, body),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// An answer that is JSON already.
#[must_use]
pub fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Refuses a body of another media type than `wanted`; parameters such as `charset` are ignored.
pub(crate) fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType, format!("Content-Type is {given:?}, this takes {wanted}")))
}

/// Reads a body of at most `limit` bytes; one that announces more is refused before a byte of it is read.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::new(Code::TooLarge, format!("the body is larger than {limit} bytes"));
    if content_length(headers)?.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::new(Code::Malformed, "the body ended before its length").because(error)),
        Err(_) => Err(ApiError::new(Code::Malformed, format!("the body was not there after {} s", timeout.as_secs()))),
    }
}

/// The announced length of a body.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| ApiError::new(Code::Malformed, "Content-Length is not a number"))
}

/// Answer to a path that does not exist.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such path; the interface lives under /v1")
}

/// Answer to a method that a path does not have.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "this path does not take that method")
}

const JSON: &str = "application/json";
/// After which a caller may try again when the disk or the database could not.
const BUSY_RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_after_the_last_item_does_not_exist() {
        let params = PageParams { limit: 2, cursor: None };
        assert_eq!(params.fetch().expect("in range"), 3);
        let page = |rows: &[u32]| params.page(rows.to_vec(), ToString::to_string, |row| row);
        assert_eq!(page(&[1, 2, 3]), Page { items: vec![1, 2], next: Some("2".into()) });
        assert_eq!(page(&[1, 2]), Page { items: vec![1, 2], next: None });
        assert_eq!(page(&[]), Page { items: vec![], next: None });
        for limit in [0, PAGE_MAX + 1] {
            assert!(PageParams { limit, cursor: None }.fetch().is_err());
        }
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let error = ApiError::new(Code::Unavailable, "busy").retry_after(Duration::from_millis(1));
        let response = error.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_full_disk_is_said_to_be_one() {
        let full = StoreError::Full { what: "/srv/data/blobs/tmp/0".into() };
        let response = ApiError::from(full).into_response();
        assert_eq!(response.status(), 507);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        let other = StoreError::Corrupt { what: "the database".into() };
        assert_eq!(ApiError::from(other).into_response().status(), 500);
    }

    #[tokio::test]
    async fn an_internal_cause_stays_inside() {
        let response = ApiError::internal("database password is hunter2").into_response();
        let body = response.into_body().collect().await.expect("in memory").to_bytes();
        let problem = serde_json::from_slice::<Problem>(&body).expect("a problem");
        assert_eq!(problem.code, Code::Internal);
        assert!(!problem.detail.contains("hunter2"));
    }

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_a_length() {
        let read = |headers: HeaderMap, body: Body| async move {
            read_body(&headers, body, 4, Duration::from_secs(1)).await.map_err(|error| error.problem().code)
        };
        let length =
            |text: &'static str| HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static(text))]);
        assert_eq!(read(HeaderMap::new(), Body::from("1234")).await, Ok(Bytes::from("1234")));
        assert_eq!(read(HeaderMap::new(), Body::from("12345")).await, Err(Code::TooLarge));
        assert_eq!(read(length("5"), Body::from("1")).await, Err(Code::TooLarge));
        assert_eq!(read(length("-1"), Body::from("1")).await, Err(Code::Malformed));
    }
}
