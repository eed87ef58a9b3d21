//! Canonical bytes of entries: fields in order, little-endian integers, byte strings with a u32 length and a stated
//! maximum, trailing bytes refused. Nothing is allocated by a length that is only claimed.

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Another format.
    #[error("format {got}, this program reads {expected}")]
    Version {
        /// What stands in the entry.
        got: u16,
        /// What this program reads.
        expected: u16,
    },
    /// The entry ends inside a field.
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
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn f64(&mut self, value: f64) -> &mut Self {
        self.u64(value.to_bits())
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("lengths are bounded far below 2^32 where they are made"))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields in order; each read names its field for the error.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn raw(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated { field })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Any but NaN, which has many encodings and no meaning.
    pub(super) fn f64(&mut self, field: &'static str) -> Result<f64, Malformed> {
        let value = f64::from_bits(self.u64(field)?);
        if value.is_nan() { Err(Malformed::Value { field }) } else { Ok(value) }
    }

    pub(super) fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.u32(field)? as usize;
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        self.raw(len, field)
    }

    /// A count of at most `max` items, each of at least `item_len` bytes, which must still be there.
    pub(super) fn count(&mut self, max: usize, item_len: usize, field: &'static str) -> Result<usize, Malformed> {
        let len = self.u32(field)? as usize;
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        if self.0.len() / item_len < len {
            return Err(Malformed::Truncated { field });
        }
        Ok(len)
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing { extra: self.0.len() }) }
    }
}
