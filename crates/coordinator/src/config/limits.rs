//! `[limits]`: a bound on everything a peer can make the service hold or wait for.

use super::ConfigError;
use serde::Deserialize;
use std::{fmt, ops::RangeInclusive, path::Path, time::Duration};

/// `[limits]`. Bytes and connections are counts; times are seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; further ones are closed before the handshake.
    pub max_connections: usize,
    /// Connections at once from one address (one /64 of IPv6).
    pub max_connections_per_address: usize,
    /// From the first packet to the end of the TLS handshake.
    pub handshake_timeout: Seconds,
    /// For the header of a request; also the longest a connection without requests is kept on HTTP/1.1.
    pub header_timeout: Seconds,
    /// For the body of a request.
    pub body_timeout: Seconds,
    /// HTTP/2: an idle peer is asked after this time whether it is still there.
    pub idle_timeout: Seconds,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes of all headers of one request.
    pub header_bytes_max: u32,
    /// Bytes of a JSON body.
    pub json_body_max: usize,
    /// Bytes of one chunk of an upload.
    pub chunk_bytes: usize,
    /// Bytes of one message of an aggregation protocol; inputs are uploads and do not count here.
    pub message_bytes_max: usize,
    /// Bytes of a model file.
    pub model_bytes_max: u64,
    /// Longest a long poll is held.
    pub long_poll_max: Seconds,
    /// Longest a graceful stop waits for requests under way.
    pub shutdown_grace: Seconds,
    /// Longest life of a join token.
    pub join_token_max: Seconds,
    /// Life of a client certificate.
    pub certificate_lifetime: Seconds,
    /// Life of an access token.
    pub token_lifetime: Seconds,
}

/// A time span, written in seconds: finite and not negative.
#[derive(Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(Duration);

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_connections_per_address: 256,
            handshake_timeout: Seconds::new(10),
            header_timeout: Seconds::new(75),
            body_timeout: Seconds::new(60),
            idle_timeout: Seconds::new(75),
            max_streams: 64,
            header_bytes_max: 16 * KIB,
            json_body_max: 64 * KIB as usize,
            chunk_bytes: MIB,
            message_bytes_max: 2 * MIB,
            model_bytes_max: GIB,
            long_poll_max: Seconds::new(30),
            shutdown_grace: Seconds::new(30),
            join_token_max: Seconds::new(7 * DAY),
            certificate_lifetime: Seconds::new(3 * DAY),
            token_lifetime: Seconds::new(600),
        }
    }
}

impl Limits {
    /// Refuses bounds under which the service could not work, and bounds that bound nothing.
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let within = |ok: bool, key, value: &dyn fmt::Display, range| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::OutOfRange { path: path.into(), key, value: value.to_string(), range })
            }
        };
        let connections = 1..=MAX_CONNECTIONS_MAX;
        within(
            connections.contains(&self.max_connections),
            "limits.max_connections",
            &self.max_connections,
            "1 to 1,000,000",
        )?;
        within(
            connections.contains(&self.max_connections_per_address),
            "limits.max_connections_per_address",
            &self.max_connections_per_address,
            "1 to 1,000,000",
        )?;
        within((1..=10_000).contains(&self.max_streams), "limits.max_streams", &self.max_streams, "1 to 10,000")?;
        within(
            HEADER_BYTES.contains(&self.header_bytes_max),
            "limits.header_bytes_max",
            &self.header_bytes_max,
            "8,192 to 1,048,576 bytes",
        )?;
        within(
            JSON_BYTES.contains(&self.json_body_max),
            "limits.json_body_max",
            &self.json_body_max,
            "16,384 to 16,777,216 bytes",
        )?;
        within(
            CHUNK_BYTES.contains(&self.chunk_bytes),
            "limits.chunk_bytes",
            &self.chunk_bytes,
            "65,536 to 67,108,864 bytes",
        )?;
        within(
            CHUNK_BYTES.contains(&self.message_bytes_max),
            "limits.message_bytes_max",
            &self.message_bytes_max,
            "65,536 to 67,108,864 bytes",
        )?;
        within(
            (1..=MODEL_BYTES_MAX).contains(&self.model_bytes_max),
            "limits.model_bytes_max",
            &self.model_bytes_max,
            "1 to 1,099,511,627,776 bytes",
        )?;
        let times = [
            (self.handshake_timeout, "limits.handshake_timeout", 1..=120, "1 to 120 seconds"),
            (self.header_timeout, "limits.header_timeout", 1..=600, "1 to 600 seconds"),
            (self.body_timeout, "limits.body_timeout", 1..=3_600, "1 to 3,600 seconds"),
            (self.idle_timeout, "limits.idle_timeout", 1..=3_600, "1 to 3,600 seconds"),
            (self.long_poll_max, "limits.long_poll_max", 1..=300, "1 to 300 seconds"),
            (self.shutdown_grace, "limits.shutdown_grace", 0..=600, "0 to 600 seconds"),
            (self.join_token_max, "limits.join_token_max", 60..=30 * DAY, "60 to 2,592,000 seconds"),
            (self.certificate_lifetime, "limits.certificate_lifetime", 60..=90 * DAY, "60 to 7,776,000 seconds"),
            (self.token_lifetime, "limits.token_lifetime", 30..=HOUR, "30 to 3,600 seconds"),
        ];
        for (time, key, range, words) in times {
            within(time.within(&range), key, &time, words)?;
        }
        Ok(())
    }
}

impl Seconds {
    /// A number of whole seconds.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn within(self, range: &RangeInclusive<u64>) -> bool {
        Duration::from_secs(*range.start()) <= self.0 && self.0 <= Duration::from_secs(*range.end())
    }
}

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, &'static str> {
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| "a time is a number of seconds, 0 or more")
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} s", self.0.as_secs_f64())
    }
}

impl fmt::Debug for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

const KIB: u32 = 1024;
const MIB: usize = 1024 * 1024;
const GIB: u64 = 1024 * 1024 * 1024;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
const MAX_CONNECTIONS_MAX: usize = 1_000_000;
/// hyper needs 8 KiB for the smallest buffer of a request.
const HEADER_BYTES: RangeInclusive<u32> = 8 * KIB..=1024 * KIB;
/// A policy of the largest size must fit into the request that brings it.
const JSON_BYTES: RangeInclusive<usize> = 16 * 1024..=16 * MIB;
const CHUNK_BYTES: RangeInclusive<usize> = 64 * 1024..=64 * MIB;
const MODEL_BYTES_MAX: u64 = 1024 * GIB;
