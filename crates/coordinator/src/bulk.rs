//! Bulk bytes over HTTP: chunks that are checked before they count, files that are streamed in ranges.
//!
//! `Content-Digest` is that of RFC 9530: a dictionary of algorithms, of which `sha-256` is the one that counts.

use crate::{
    answer::{ApiError, content_length, read_body, require_type},
    config::Limits,
};
use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use sordino_wire::{Code, Digest};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncSeekExt, ReadBuf},
};

mod range;

pub use range::ByteRange;

/// `Content-Digest` (RFC 9530, section 2): of the bytes of one message.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// `Repr-Digest` (RFC 9530, section 3): of the whole, whatever range of it was asked for.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Reads one chunk of an upload: it is of the type `application/octet-stream`, announces its length, is not longer
/// than `limits.chunk_bytes`, and has the digest that it announces.
///
/// Nothing is stored here. A connection that is cut in the middle of a chunk leaves no trace.
///
/// # Errors
/// 415 another media type; 400 no length, no digest, or a body that ends early; 413 too long, before a byte is read;
/// 422 (`digest_mismatch`) other bytes than announced.
pub async fn chunk(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    require_type(headers, OCTETS)?;
    let announced = content_digest(headers)?
        .ok_or_else(|| ApiError::new(Code::Malformed, "a chunk needs Content-Digest: sha-256=:BASE64:"))?;
    let length =
        content_length(headers)?.ok_or_else(|| ApiError::new(Code::Malformed, "a chunk needs Content-Length"))?;
    let bytes = read_body(headers, body, limits.chunk_bytes, limits.body_timeout.into()).await?;
    if bytes.len() as u64 != length {
        return Err(ApiError::new(Code::Malformed, "the body ended before its length"));
    }
    if Digest(sha256(&bytes)) != announced {
        let detail = "the chunk's bytes are not those of its Content-Digest; nothing was kept, send it again";
        return Err(ApiError::new(Code::DigestMismatch, detail));
    }
    Ok(bytes)
}

/// The SHA-256 that a message announces for its content; `None` where it announces none.
///
/// # Errors
/// 400 when the header is there and cannot be read, or names SHA-256 twice.
pub fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, ApiError> {
    let malformed = || ApiError::new(Code::Malformed, "Content-Digest cannot be read; write sha-256=:BASE64:");
    let mut found = None;
    for value in headers.get_all(CONTENT_DIGEST) {
        for member in value.to_str().map_err(|_| malformed())?.split(',') {
            let (algorithm, value) = member.trim().split_once('=').ok_or_else(malformed)?;
            let value = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).ok_or_else(malformed)?;
            if algorithm != "sha-256" {
                continue;
            }
            let digest = STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
            if found.replace(Digest(digest)).is_some() {
                return Err(malformed());
            }
        }
    }
    Ok(found)
}

/// A digest as `Content-Digest` and `Repr-Digest` write it.
///
/// # Panics
/// Never: base64 is ASCII.
#[must_use]
pub fn digest_value(digest: Digest) -> HeaderValue {
    let text = format!("sha-256=:{}:", STANDARD.encode(digest.0));
    HeaderValue::try_from(text).expect("base64 is ASCII")
}

/// SHA-256 with the widest instructions of the machine: bulk bytes are hashed here, short ones anywhere.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Answers with a content-addressed file or the part of it that was asked for. It is read as it is sent.
///
/// `ETag` is the digest; `If-None-Match`, `If-Range` and single ranges work; several ranges at once are answered with
/// the whole, as RFC 9110 (section 14.2) allows.
///
/// # Errors
/// 416 when the range lies outside of the file.
pub async fn file(headers: &HeaderMap, mut file: File, length: u64, digest: Digest) -> Result<Response, ApiError> {
    let tag = HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal digits are ASCII");
    let response = Response::builder()
        .header(header::ETAG, &tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, IMMUTABLE)
        .header(REPR_DIGEST, digest_value(digest));
    let build = |response: http::response::Builder, body| response.body(body).map_err(ApiError::internal);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| names_tag(given, &tag)) {
        return build(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let whole_wanted = headers.get(header::IF_RANGE).is_some_and(|given| given != tag);
    let range = headers.get(header::RANGE).filter(|_| !whole_wanted).map(|value| ByteRange::parse(value, length));
    let response = response.header(header::CONTENT_TYPE, OCTETS);
    match range {
        Some(range::Asked::Outside) => {
            let value = HeaderValue::try_from(format!("bytes */{length}")).expect("digits are ASCII");
            Err(ApiError::new(Code::RangeNotSatisfiable, format!("there are {length} bytes"))
                .header(header::CONTENT_RANGE, value))
        }
        Some(range::Asked::Part(part)) => {
            file.seek(io::SeekFrom::Start(part.first)).await.map_err(ApiError::internal)?;
            let response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {}-{}/{length}", part.first, part.last))
                .header(header::CONTENT_LENGTH, part.len());
            build(response, Body::new(FileBody { file, left: part.len() }))
        }
        Some(range::Asked::Whole) | None => {
            let response = response.status(StatusCode::OK).header(header::CONTENT_LENGTH, length);
            build(response, Body::new(FileBody { file, left: length }))
        }
    }
}

/// Whether a list of entity tags names `tag` (or everything).
fn names_tag(given: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(given), Ok(tag)) = (given.to_str(), tag.to_str()) else { return false };
    given.split(',').map(str::trim).any(|each| each == "*" || each.trim_start_matches("W/") == tag)
}

/// The next `left` bytes of a file, a block at a time.
struct FileBody {
    file: File,
    left: u64,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let want = usize::try_from(self.left).map_or(BLOCK, |left| left.min(BLOCK));
        let mut block = BytesMut::zeroed(want);
        let mut filled = ReadBuf::new(&mut block);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut filled))?;
        let got = filled.filled().len();
        if got == 0 {
            // The length was promised in the header; ending the body here would look like a whole file.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        block.truncate(got);
        self.left -= got as u64;
        Poll::Ready(Some(Ok(Frame::data(block.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Media type of chunks and files.
pub const OCTETS: &str = "application/octet-stream";
/// A digest names its content forever; only the caller may keep it.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";
const BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|&value| (CONTENT_DIGEST, HeaderValue::from_static(value))).collect()
    }

    /// RFC 9530, section 2: the digest of `{"hello": "world"}` and a line feed.
    const HELLO: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    #[test]
    fn the_example_of_the_rfc_is_read_and_written() {
        let digest = Digest(sha256(b"{\"hello\": \"world\"}\n"));
        assert_eq!(content_digest(&headers(&[HELLO])).expect("the example"), Some(digest));
        assert_eq!(digest_value(digest), HELLO);
    }

    #[test]
    fn other_algorithms_are_ignored_and_nonsense_is_not() {
        let found = |values: &[&'static str]| content_digest(&headers(values)).map_err(|error| error.problem().code);
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&["sha-512=:AAAA:"]), Ok(None));
        assert!(matches!(found(&["sha-512=:AAAA:", HELLO]), Ok(Some(_))));
        for bad in ["", "sha-256", "sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!:", "sha-256=:AAAA"] {
            assert_eq!(found(&[bad]), Err(Code::Malformed), "{bad:?}");
        }
        assert_eq!(found(&[HELLO, HELLO]), Err(Code::Malformed));
    }

    #[tokio::test]
    async fn a_chunk_is_what_it_announces_or_nothing() {
        let limits = Limits { chunk_bytes: 8, ..Limits::default() };
        let announce = |length: &'static str, of: &[u8]| {
            HeaderMap::from_iter([
                (header::CONTENT_TYPE, HeaderValue::from_static(OCTETS)),
                (header::CONTENT_LENGTH, HeaderValue::from_static(length)),
                (CONTENT_DIGEST, digest_value(Digest(sha256(of)))),
            ])
        };
        let refused = async |headers: HeaderMap, body: &'static str| {
            chunk(&headers, body.into(), &limits).await.map_err(|error| error.problem().code)
        };
        assert_eq!(refused(announce("3", b"abc"), "abc").await, Ok(Bytes::from("abc")));
        assert_eq!(refused(announce("3", b"abd"), "abc").await, Err(Code::DigestMismatch));
        assert_eq!(refused(announce("4", b"abc"), "abc").await, Err(Code::Malformed));
        assert_eq!(refused(announce("9", b"abc"), "abc").await, Err(Code::TooLarge));
        for (missing, code) in [
            (header::CONTENT_TYPE, Code::UnsupportedMediaType),
            (header::CONTENT_LENGTH, Code::Malformed),
            (CONTENT_DIGEST, Code::Malformed),
        ] {
            let mut headers = announce("3", b"abc");
            headers.remove(missing);
            assert_eq!(refused(headers, "abc").await, Err(code));
        }
    }
}
