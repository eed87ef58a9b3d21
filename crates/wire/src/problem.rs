//! Errors as callers see them: problem details (RFC 9457) with a stable code.

use serde::{Deserialize, Serialize};

/// `application/problem+json`: what happened, where, and what to do. `code` is stable, `detail` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI reference that names the kind of problem: `urn:sordino:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status, repeated for those who only keep the body.
    pub status: u16,
    /// What programs decide by.
    pub code: Code,
    /// What happened this time, with values, and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem of the given kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:sordino:problem:{}", code.as_str()),
            title: code.as_str().replace('_', " "),
            status: code.status(),
            code,
            detail: detail.into(),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// Stable codes of problems, each with its HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it stands in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read: not the expected form, a bad parameter, a missing header.
    Malformed = "malformed", 400;
    /// No client certificate was shown, or one that is not ours.
    ClientCertificateRequired = "client_certificate_required", 401;
    /// No access token, or one that is expired, forged or bound to another certificate.
    TokenRequired = "token_required", 401;
    /// The join token is unknown, used or expired.
    JoinTokenRefused = "join_token_refused", 401;
    /// Known, but not allowed to do this.
    Forbidden = "forbidden", 403;
    /// No such resource, or not for this caller.
    NotFound = "not_found", 404;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The round or attempt is over, or is not the current one.
    StaleRound = "stale_round", 409;
    /// The step is over, or has not begun.
    WrongStep = "wrong_step", 409;
    /// A different message was already accepted in this place; the first one stands.
    AlreadySubmitted = "already_submitted", 409;
    /// An upload continues at another offset than the one that was sent.
    OffsetMismatch = "offset_mismatch", 409;
    /// The same `Idempotency-Key` was used for another request.
    IdempotencyConflict = "idempotency_conflict", 409;
    /// Something of that name or state exists and rules this out.
    Conflict = "conflict", 409;
    /// The body is larger than this resource takes.
    TooLarge = "too_large", 413;
    /// The content is not of the type this resource takes.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The range lies outside of what there is.
    RangeNotSatisfiable = "range_not_satisfiable", 416;
    /// The digest that was announced is not the digest of what arrived.
    DigestMismatch = "digest_mismatch", 422;
    /// Understood, and refused: a value breaks a rule.
    Invalid = "invalid", 422;
    /// A message of the aggregation protocol was refused; the detail says why.
    Rejected = "rejected", 422;
    /// A policy that cannot work, or asks for what this version does not have yet.
    PolicyRefused = "policy_refused", 422;
    /// Too many requests; `Retry-After` says when.
    TooManyRequests = "too_many_requests", 429;
    /// Our fault; the log has the cause.
    Internal = "internal", 500;
    /// The disk cannot take it; nothing was changed. Retry later.
    StorageFull = "storage_full", 507;
    /// Starting, stopping or overloaded; `Retry-After` says when.
    Unavailable = "unavailable", 503;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_json_is_the_code_in_text() {
        for &code in Code::ALL {
            let json = serde_json::to_value(code).expect("a unit variant");
            assert_eq!(json, code.as_str());
            assert!((400..600).contains(&code.status()));
        }
    }
}
