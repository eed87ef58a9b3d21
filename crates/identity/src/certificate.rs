//! What certificates are made of: validity, serial number, fingerprint.

use std::fmt;
use std::time::Duration;

use rand_core::CryptoRng;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

/// How far a certificate's beginning lies before the moment it was issued, so that a peer whose clock is behind
/// accepts it at once.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// From when until when a certificate holds, both ends included, in whole seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: Duration,
    not_after: Duration,
}

impl Validity {
    /// Holds from [`BACKDATE`] before `now` until `lifetime` after it.
    ///
    /// # Errors
    /// [`InvalidValidity`]: a lifetime below a second, or an end after the year 9999, which X.509 cannot write.
    pub fn starting(now: Duration, lifetime: Duration) -> Result<Self, InvalidValidity> {
        if lifetime < Duration::from_secs(1) {
            return Err(InvalidValidity::Empty);
        }
        let not_after = now.checked_add(lifetime).ok_or(InvalidValidity::TooLate)?.as_secs();
        if not_after > X509_TIME_MAX {
            return Err(InvalidValidity::TooLate);
        }
        let not_before = now.saturating_sub(BACKDATE).as_secs();
        Ok(Self { not_before: Duration::from_secs(not_before), not_after: Duration::from_secs(not_after) })
    }

    /// The first moment, since the Unix epoch.
    pub fn not_before(&self) -> Duration {
        self.not_before
    }

    /// The last moment, since the Unix epoch.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }

    /// Whether `now` lies inside.
    pub fn contains(&self, now: Duration) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// When both hold; never, if they do not overlap.
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self { not_before: self.not_before.max(other.not_before), not_after: self.not_after.min(other.not_after) }
    }

    /// The validity of a parsed certificate. Times before 1970 become 1970: nothing of ours is that old.
    pub(crate) fn of(parsed: &x509_parser::certificate::X509Certificate<'_>) -> Self {
        let seconds = |time: x509_parser::time::ASN1Time| Duration::from_secs(time.timestamp().try_into().unwrap_or(0));
        let validity = parsed.validity();
        Self { not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) }
    }

    pub(crate) fn write_to(self, params: &mut rcgen::CertificateParams) {
        let date = |at: Duration| {
            let seconds = i64::try_from(at.as_secs()).expect("bounded by X509_TIME_MAX");
            OffsetDateTime::from_unix_timestamp(seconds).expect("bounded by X509_TIME_MAX")
        };
        params.not_before = date(self.not_before);
        params.not_after = date(self.not_after);
    }
}

/// A validity that no certificate can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidValidity {
    /// Ask for a longer life.
    #[error("a certificate must live for at least a second")]
    Empty,
    /// Ask for a shorter life, or set the clock.
    #[error("a certificate must end before the year 10000")]
    TooLate,
}

/// The serial number of a certificate: 16 bytes, 126 of their bits random, positive ([RFC 5280] section 4.1.2.2 allows
/// up to 20 bytes).
///
/// Random rather than counted, so that issuing needs no state and nobody can guess the next one.
///
/// [RFC 5280]: https://www.rfc-editor.org/rfc/rfc5280
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// Draws one.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        // Below 0x80 it is a positive INTEGER of 16 bytes; the bit below it keeps the number from being zero or short.
        bytes[0] = (bytes[0] & 0x7f) | 0x40;
        Self(bytes)
    }

    /// The number, most significant byte first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// SHA-256 of a certificate's DER; what access tokens are bound to (`x5t#S256`, [RFC 8705] section 3.1).
///
/// Public, yet compared in constant time, since it stands in for a credential there.
///
/// [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// A fingerprint that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

/// 9999-12-31T23:59:59Z, the last moment of a `GeneralizedTime`.
const X509_TIME_MAX: u64 = 253_402_300_799;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn validity_has_bounds() {
        let now = Duration::from_millis(1_800_000_000_900);
        let validity = Validity::starting(now, Duration::from_secs(3600)).unwrap();
        assert_eq!(validity.not_before(), Duration::from_secs(1_799_999_700));
        assert_eq!(validity.not_after(), Duration::from_secs(1_800_003_600));
        assert!(validity.contains(now) && !validity.contains(now + Duration::from_secs(3600)));
        assert_eq!(Validity::starting(now, Duration::from_millis(999)), Err(InvalidValidity::Empty));
        assert_eq!(Validity::starting(now, Duration::MAX), Err(InvalidValidity::TooLate));
        assert_eq!(Validity::starting(now, Duration::from_secs(X509_TIME_MAX)), Err(InvalidValidity::TooLate));
        assert_eq!(Validity::starting(Duration::ZERO, BACKDATE).unwrap().not_before(), Duration::ZERO);
    }

    #[test]
    fn serial_numbers_are_positive_and_sixteen_bytes() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for _ in 0..1000 {
            let first = SerialNumber::random(&mut rng).as_bytes()[0];
            assert!((0x40..0x80).contains(&first));
        }
    }
}
