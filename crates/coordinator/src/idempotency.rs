//! `Idempotency-Key`: a repeated request gets the first one's answer and is not executed again.
//!
//! Keys belong to whoever sent them and live for a day. The same key with another body is a mistake of the caller's
//! and gets 409.

use crate::{answer::ApiError, app::App, bulk::sha256};
use http::{HeaderMap, HeaderName, StatusCode};
use sordino_store::Idempotency;
use sordino_wire::Code;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// The header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Does `work` once per key of `scope`, and returns its answer: status, and what was stored as its body.
///
/// Work that has begun goes on when the caller hangs up, so that the answer is there when it asks again. Work that
/// fails frees the key. Without the header it is simply done.
///
/// - `scope`: whose key it is; two scopes never meet.
/// - `request`: the bytes that a repetition must repeat.
///
/// # Errors
/// 400 for a key that is not 8 to 64 visible characters; 409 (`idempotency_conflict`) for another request under the
/// same key, or while the first one is under way; else what `work` fails with.
pub async fn once<F>(
    app: &Arc<App>,
    headers: &HeaderMap,
    scope: String,
    request: &[u8],
    work: F,
) -> Result<(StatusCode, Vec<u8>), ApiError>
where
    F: Future<Output = Result<(StatusCode, Vec<u8>), ApiError>> + Send + 'static,
{
    let key = key(headers)?.map(str::to_owned);
    if let Some(key) = &key {
        match app.store.idempotent(&scope, key, sha256(request), app.now_millis()).await? {
            Idempotency::New => {}
            Idempotency::Replay { status, body } => {
                return Ok((StatusCode::from_u16(status).map_err(ApiError::internal)?, body));
            }
            Idempotency::Conflict => {
                let detail = "this Idempotency-Key was used for another request; choose a new one";
                return Err(ApiError::new(Code::IdempotencyConflict, detail));
            }
            Idempotency::InProgress => {
                let detail = "the first request with this Idempotency-Key is still under way; ask again";
                return Err(ApiError::new(Code::IdempotencyConflict, detail).retry_after(IN_PROGRESS_RETRY));
            }
        }
    }
    let app = app.clone();
    let finished = tokio::spawn(async move {
        let outcome = work.await;
        let Some(key) = key else { return outcome };
        match &outcome {
            Ok((status, body)) => app.store.idempotent_done(&scope, &key, status.as_u16(), body.clone()).await?,
            Err(_) => app.store.idempotent_abandon(&scope, &key).await?,
        }
        outcome
    });
    finished.await.map_err(ApiError::internal)?
}

/// The key of a request, if it has one.
///
/// # Errors
/// 400 unless it is 8 to 64 visible ASCII characters.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key =
        value.to_str().ok().filter(|key| KEY_CHARS.contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    let malformed = || ApiError::new(Code::Malformed, "Idempotency-Key is 8 to 64 visible characters without spaces");
    key.map(Some).ok_or_else(malformed)
}

const KEY_CHARS: RangeInclusive<usize> = 8..=64;
const IN_PROGRESS_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_key_is_short_and_visible() {
        let headers = |value: &str| {
            HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_str(value).expect("a header value"))])
        };
        assert!(matches!(key(&HeaderMap::new()), Ok(None)));
        for good in ["12345678", &"k".repeat(64), "\"b51c-7e\""] {
            assert!(matches!(key(&headers(good)), Ok(Some(read)) if read == good));
        }
        for bad in ["1234567", &"k".repeat(65), "with space"] {
            assert!(key(&headers(bad)).is_err(), "{bad:?}");
        }
    }
}
