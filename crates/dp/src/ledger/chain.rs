//! The chain of entries: each has a keyed code over its bytes, and the next one names its hash.

use std::time::Duration;

use hkdf::hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::entry::{Entry, Record};
use super::error::{Damage, Invalid};

/// SHA-256 of an entry with its code.
pub type Hash = [u8; 32];

/// The key that authenticates entries. Wiped when dropped.
pub struct LedgerKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl LedgerKey {
    /// From 32 random bytes, which belong to this ledger alone.
    ///
    /// # Errors
    /// [`Invalid::Key`] for zeros.
    pub fn new(bytes: &[u8; KEY_LEN]) -> Result<Self, Invalid> {
        if *bytes == [0; KEY_LEN] {
            return Err(Invalid::Key);
        }
        Ok(Self(Box::new(Zeroizing::new(*bytes))))
    }

    /// HMAC-SHA-256 (RFC 2104) over a label and the bytes.
    fn code_of(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.0[..]).expect("HMAC takes keys of any length");
        code.update(LABEL);
        code.update(bytes);
        code
    }
}

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("LedgerKey")
    }
}

/// How far a ledger has come: how many entries, and the hash of the last. The copy that is kept apart from the entries
/// shows a restored older ledger for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Entries.
    pub entries: u64,
    /// Hash of the last one.
    pub head: Hash,
}

impl Counter {
    /// Of a ledger without entries.
    #[must_use]
    pub fn start() -> Self {
        Self { entries: 0, head: Sha256::digest(LABEL).into() }
    }
}

/// Writes the next entry and moves the counter.
pub(super) fn seal(key: &LedgerKey, counter: &mut Counter, at: Duration, record: Record) -> Vec<u8> {
    let mut bytes = Entry { number: counter.entries, at, before: counter.head, record }.encode();
    let code = key.code_of(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&code);
    *counter = Counter { entries: counter.entries + 1, head: Sha256::digest(&bytes).into() };
    bytes
}

/// Checks that bytes are the next entry and moves the counter.
pub(super) fn check(key: &LedgerKey, counter: &mut Counter, bytes: &[u8]) -> Result<Entry, Damage> {
    // The code first: what it does not cover is nobody's entry, and is not parsed.
    let body = bytes.len().checked_sub(CODE_LEN).ok_or(Damage::Code)?;
    let (body, code) = bytes.split_at(body);
    key.code_of(body).verify_slice(code).map_err(|_| Damage::Code)?;
    let entry = Entry::decode(body)?;
    if entry.number != counter.entries {
        return Err(Damage::Place { got: entry.number });
    }
    if entry.before != counter.head {
        return Err(Damage::Chain);
    }
    *counter = Counter { entries: counter.entries + 1, head: Sha256::digest(bytes).into() };
    Ok(entry)
}

/// For a ledger in a plain file: the entry after its length. [`split`] reads them back.
#[must_use]
pub fn frame(entry: &[u8]) -> Vec<u8> {
    let len = u32::try_from(entry.len()).expect("entries are bounded far below 2^32");
    [&len.to_le_bytes(), entry].concat()
}

/// The entries of a plain file. Whatever is left over, which a write that was cut short leaves behind, comes as the last
/// one, and [`super::Ledger::open`] judges it.
#[must_use]
pub fn split(mut file: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    while !file.is_empty() {
        let whole =
            file.split_first_chunk().and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
        let (entry, rest) = whole.unwrap_or((file, &[]));
        entries.push(entry);
        file = rest;
    }
    entries
}

/// Bytes of an authentication code.
pub(super) const CODE_LEN: usize = 32;
const KEY_LEN: usize = 32;
const LABEL: &[u8] = b"sordino privacy ledger v1";
