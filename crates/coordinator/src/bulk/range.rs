//! The `Range` header (RFC 9110, section 14): one range of bytes.

use http::HeaderValue;

/// A part of a file: `first..=last`, both inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte, counted from 0.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// One range that overlaps the file.
    Part(ByteRange),
    /// Nothing we know, or several ranges: the header is ignored, as the RFC allows.
    Whole,
    /// One range with no byte of the file in it.
    Outside,
}

impl ByteRange {
    /// Reads the header for a file of `length` bytes.
    pub(super) fn parse(value: &HeaderValue, length: u64) -> Asked {
        let text = value.to_str().ok().and_then(|text| text.strip_prefix("bytes="));
        let Some((first, last)) = text.and_then(|text| text.trim().split_once('-')) else { return Asked::Whole };
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let (first, last) = match (first, last) {
            ("", suffix) => match number(suffix) {
                Some(0) => return Asked::Outside,
                Some(suffix) => (length.saturating_sub(suffix), u64::MAX),
                None => return Asked::Whole,
            },
            (first, "") => match number(first) {
                Some(first) => (first, u64::MAX),
                None => return Asked::Whole,
            },
            (first, last) => match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => (first, last),
                _ => return Asked::Whole,
            },
        };
        if first >= length {
            return Asked::Outside;
        }
        Asked::Part(Self { first, last: last.min(length - 1) })
    }

    /// Bytes in the part; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a part is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        let part = |first, last| Asked::Part(ByteRange { first, last });
        for (header, want) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-4", part(2, 4)),
            ("bytes=2-", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=9-99", part(9, 9)),
            ("bytes=10-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=1-2", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
        ] {
            assert_eq!(ByteRange::parse(&HeaderValue::from_static(header), 10), want, "{header}");
        }
        assert_eq!(ByteRange::parse(&HeaderValue::from_static("bytes=0-"), 0), Asked::Outside);
    }
}
