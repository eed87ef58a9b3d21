//! The state of a run as bytes, so that a shell can seal and store it: little-endian words and what they count.

use zeroize::Zeroizing;

use crate::noise::error::NoiseError;

/// Appends words. The buffer never moves while it stays within its capacity: moves would leave copies of secrets.
pub(super) struct StateWriter(Zeroizing<Vec<u8>>);

impl StateWriter {
    pub(super) fn with_words(words: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(words * WORD)))
    }

    pub(super) fn word(&mut self, word: u64) -> &mut Self {
        self.0.extend_from_slice(&word.to_le_bytes());
        self
    }

    /// Bytes in multiples of a word.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Takes words.
pub(super) struct StateReader<'a>(&'a [u8]);

impl<'a> StateReader<'a> {
    pub(super) fn new(bytes: &'a [u8], tag: u64) -> Result<Self, NoiseError> {
        let mut reader = Self(bytes);
        if reader.word()? == tag { Ok(reader) } else { Err(NoiseError::BadState) }
    }

    pub(super) fn word(&mut self) -> Result<u64, NoiseError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A word that fits a smaller type.
    pub(super) fn count<T: TryFrom<u64>>(&mut self) -> Result<T, NoiseError> {
        self.word()?.try_into().map_err(|_| NoiseError::BadState)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NoiseError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(NoiseError::BadState)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// So many words, if they are there.
    pub(super) fn words(&mut self, count: usize) -> Result<impl Iterator<Item = u64> + 'a, NoiseError> {
        let len = count.checked_mul(WORD).ok_or(NoiseError::BadState)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(NoiseError::BadState)?;
        self.0 = rest;
        let (words, _) = taken.as_chunks();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)))
    }

    pub(super) fn finish(self) -> Result<(), NoiseError> {
        if self.0.is_empty() { Ok(()) } else { Err(NoiseError::BadState) }
    }
}

const WORD: usize = 8;
