//! A ledger's file, read entry by entry: memory for one at a time.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

/// Entries as [`sordino_dp::ledger::split`] gives them. What is no frame, at the end or because a length was damaged, comes
/// as one empty entry, and nothing after it: the rules judge it, and an empty one has no code that fits.
pub(super) struct Frames<'a> {
    file: BufReader<&'a File>,
    at: u64,
    len: u64,
    starts: Vec<u64>,
    failed: Option<io::Error>,
}

impl<'a> Frames<'a> {
    /// The first `len` bytes of a file.
    pub(super) fn new(file: &'a File, len: u64) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { file, at: 0, len, starts: Vec::new(), failed: None })
    }

    /// Where the entries that were given out start, in bytes; or why there were not more.
    pub(super) fn finish(self) -> io::Result<Vec<u64>> {
        self.failed.map_or(Ok(self.starts), Err)
    }

    /// The next entry, or none where there is no whole frame.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let left = self.len - self.at;
        let Some(left) = left.checked_sub(LENGTH_LEN) else { return Ok(None) };
        let mut len = [0; 4];
        self.file.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        // Both before memory is asked for.
        if len > ENTRY_MAX || u64::from(len) > left {
            return Ok(None);
        }
        let mut entry = vec![0; len as usize];
        self.file.read_exact(&mut entry)?;
        self.at += LENGTH_LEN + u64::from(len);
        Ok(Some(entry))
    }
}

impl Iterator for Frames<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.at == self.len || self.failed.is_some() {
            return None;
        }
        self.starts.push(self.at);
        match self.read() {
            Ok(Some(entry)) => Some(entry),
            Ok(None) => {
                self.at = self.len;
                Some(Vec::new())
            }
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}

/// Longest entry, in bytes: a reservation for 100,000 participants with the longest names has 13.2 million.
const ENTRY_MAX: u32 = 16 << 20;
/// Bytes of the length in front of an entry.
pub(super) const LENGTH_LEN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sordino_dp::ledger::{PARTICIPANTS_MAX, frame, split};
    use std::io::Write;

    fn frames_of(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u64>) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for it");
        let mut frames = Frames::new(&file, bytes.len() as u64).expect("it can be read");
        let entries = frames.by_ref().collect();
        (entries, frames.finish().expect("it was read"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The same entries as the rules' own reader, but that what is no frame comes empty.
        #[test]
        fn the_same_as_split(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
            keep in any::<prop::sample::Index>(),
        ) {
            let file: Vec<u8> = entries.iter().flat_map(|entry| frame(entry)).collect();
            for file in [&file[..], &file[..keep.index(file.len() + 1)]] {
                let (read, starts) = frames_of(file);
                let expected = split(file);
                prop_assert_eq!(read.len(), expected.len());
                let mut at = 0;
                for ((read, expected), start) in read.iter().zip(&expected).zip(&starts) {
                    prop_assert_eq!(*start, at);
                    at += 4 + read.len() as u64;
                    let whole = file.get(index(*start) + 4..).is_some_and(|rest| rest.starts_with(read)) && at <= file.len() as u64;
                    prop_assert!(whole && read == expected || read.is_empty());
                }
            }
        }
    }

    fn index(at: u64) -> usize {
        usize::try_from(at).expect("short")
    }

    /// A length that is only claimed costs no memory.
    #[test]
    fn lengths_are_bounded() {
        for claimed in [ENTRY_MAX, ENTRY_MAX + 1, u32::MAX] {
            let (entries, starts) = frames_of(&[&claimed.to_le_bytes()[..], &[1; 100]].concat());
            assert_eq!((entries, starts), (vec![Vec::new()], vec![0]));
        }
    }

    #[test]
    fn the_longest_reservation_fits() {
        let names = PARTICIPANTS_MAX * (4 + sordino_dp::ledger::NAME_MAX);
        assert!(names + sordino_dp::ledger::EVENT_MAX + 1024 <= ENTRY_MAX as usize);
    }
}
