//! The chain of entries: each has a keyed code over its bytes, and the next one names its hash.

use std::time::Duration;

use hkdf::hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::bytes::{Malformed, Reader, Writer};
use super::entry::{Entry, Record};
use super::error::{Damage, Invalid};

/// SHA-256 of an entry with its code.
pub type Hash = [u8; 32];

/// The key that authenticates entries and counters. Wiped when dropped; a ledger that is opened again takes a clone.
#[derive(Clone)]
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

    /// For the place where it is kept: with the key's code, so that nobody else makes one. Whoever has an older copy can
    /// still put it back.
    #[must_use]
    pub fn to_bytes(&self, key: &LedgerKey) -> [u8; COUNTER_LEN] {
        let mut bytes = [0; COUNTER_LEN];
        let mut out = Writer::default();
        out.raw(MAGIC).u16(VERSION).u64(self.entries).raw(&self.head);
        let (body, code) = bytes.split_at_mut(COUNTER_LEN - CODE_LEN);
        body.copy_from_slice(&out.finish());
        code.copy_from_slice(&key.code_of(body).finalize().into_bytes());
        bytes
    }

    /// Reads what [`Counter::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Damage::Code`] for anything that this key did not write, [`Damage::Malformed`] for another version.
    pub fn from_bytes(bytes: &[u8], key: &LedgerKey) -> Result<Self, Damage> {
        let body = bytes.len().checked_sub(CODE_LEN).ok_or(Damage::Code)?;
        let (body, code) = bytes.split_at(body);
        key.code_of(body).verify_slice(code).map_err(|_| Damage::Code)?;
        let mut reader = Reader::new(body);
        // No entry can stand here, nor a counter among the entries: each begins with its own magic.
        if &reader.array::<4>("magic")? != MAGIC {
            return Err(Malformed::Value { field: "magic" }.into());
        }
        match reader.u16("version")? {
            VERSION => {}
            got => return Err(Malformed::Version { got, expected: VERSION }.into()),
        }
        let counter = Self { entries: reader.u64("entries")?, head: reader.array("head")? };
        reader.finish()?;
        Ok(counter)
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
/// Bytes of a counter where it is kept.
pub const COUNTER_LEN: usize = 4 + 2 + 8 + 32 + CODE_LEN;
const MAGIC: &[u8; 4] = b"sdpc";
const VERSION: u16 = 1;
const LABEL: &[u8] = b"sordino privacy ledger v1";
