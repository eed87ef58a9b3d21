//! The one encoding of every message and stored state: fields in order, little-endian integers, byte strings with a
//! u32 length and a stated maximum, trailing bytes refused. Nothing is allocated by a length that is only claimed.

use crate::merkle::Hash;

/// Why bytes are not a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Another version of the protocol.
    #[error("message version {got}, this is version {expected}")]
    Version {
        /// What stands in the message.
        got: u16,
        /// What this program speaks.
        expected: u16,
    },
    /// Another kind of message than this place takes.
    #[error("message type {got} where type {expected} belongs")]
    Type {
        /// What stands in the message.
        got: u16,
        /// What belongs here.
        expected: u16,
    },
    /// The message ends inside a field.
    #[error("{field} is cut short")]
    Truncated {
        /// The field that is not whole.
        field: &'static str,
    },
    /// A length or count above its maximum.
    #[error("{field} has length {len}, at most {max} is allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// What is claimed.
        len: usize,
        /// The maximum.
        max: usize,
    },
    /// A value that its field cannot have.
    #[error("{field} has a value that is not allowed")]
    Value {
        /// The field.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("{extra} bytes follow the last field")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// Appends fields in order.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A buffer that never moves while at most `capacity` bytes are written: moves would leave copies of secrets.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Bytes of a length that the format fixes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A count of items that follow, or the length of a byte string.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        // Every list and byte string of ours has a maximum far below 2^32, checked where it is made.
        self.u32(u32::try_from(count).expect("lengths are bounded below 2^32 where they are made"))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields in order; each read names its field for the error.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn raw(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N, field)?);
        Ok(array)
    }

    pub(crate) fn hash(&mut self, field: &'static str) -> Result<Hash, Malformed> {
        self.array(field)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A byte string of at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.u32(field)? as usize;
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        self.raw(len, field)
    }

    /// A byte string of no bytes or of exactly N.
    pub(crate) fn bytes_or_none<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a [u8; N]>, Malformed> {
        let bytes = self.bytes(N, field)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        bytes.try_into().map(Some).map_err(|_| Malformed::Value { field })
    }

    /// What has not been read yet.
    pub(crate) fn rest_len(&self) -> usize {
        self.rest.len()
    }

    /// A count of at most `max` items, each of at least `item_len` bytes, which must still be there.
    pub(crate) fn count(&mut self, max: usize, item_len: usize, field: &'static str) -> Result<usize, Malformed> {
        let len = self.u32(field)? as usize;
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        if self.rest.len() / item_len.max(1) < len {
            return Err(Malformed::Truncated { field });
        }
        Ok(len)
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing { extra: self.rest.len() }) }
    }
}
