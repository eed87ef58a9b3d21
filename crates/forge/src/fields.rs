//! Fields in a row: integers little-endian, byte strings and lists with a u32 in front.

use crate::{Hash, VERSION};

/// Takes fields from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// After the header, of a message of this type.
    pub(crate) fn of(message: &'a [u8], kind: u16) -> Option<(Self, Hash)> {
        let mut fields = Self(message);
        let is_of_kind = fields.array()? == VERSION.to_le_bytes() && fields.array()? == kind.to_le_bytes();
        let context = fields.array()?;
        is_of_kind.then_some((fields, context))
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// Items until one is missing: a count that lies costs no memory.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    pub(crate) fn path(&mut self) -> Option<Vec<Hash>> {
        self.list(Self::array)
    }

    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

pub(crate) fn header(kind: u16, context: &Hash) -> Vec<u8> {
    [&VERSION.to_le_bytes()[..], &kind.to_le_bytes()[..], context].concat()
}

pub(crate) fn count(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("lists of a test are short").to_le_bytes()
}

pub(crate) fn byte_string(bytes: &[u8]) -> Vec<u8> {
    [&count(bytes.len())[..], bytes].concat()
}

pub(crate) fn path_bytes(path: &[Hash]) -> Vec<u8> {
    [&count(path.len())[..], &path.concat()].concat()
}

/// What stands before all that is signed or hashed for one purpose.
pub(crate) fn label(purpose: &str) -> Vec<u8> {
    format!("sordino/secagg/v{VERSION}/{purpose}").into_bytes()
}

/// The beginning of a statement that is not a message: label, version, context.
pub(crate) fn statement(purpose: &str, context: &Hash) -> Vec<u8> {
    [&byte_string(&label(purpose))[..], &VERSION.to_le_bytes(), context].concat()
}
