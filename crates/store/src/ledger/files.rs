//! The ledger's file with its counter: verified when opened, appended to, and mended after a failure.
//!
//! An append is one write of whole frames and one sync; then the counter is replaced; then the caller may be answered. So
//! whatever lies behind the counter is from one append at most, of which nobody was told.

use super::{
    LedgerStoreError,
    counter::{CounterFile, Unmoved},
    frames::{Frames, LENGTH_LEN},
};
use crate::{crash_point, folder};
use sordino_dp::ledger::{Account, Counter, Entry, Ledger, LedgerError, LedgerKey, Recovered, frame};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Both files of one ledger, locked for this program.
pub(super) struct LedgerFiles {
    path: PathBuf,
    file: File,
    counter: CounterFile,
    key: LedgerKey,
    /// Where entries start, in bytes; one more for the end of the last, where the next one goes.
    starts: Vec<u64>,
    /// An append failed before its entries were counted: everything from this entry on is to be cut off.
    cut: Option<usize>,
    /// Appends that wrote something.
    #[cfg(test)]
    pub(super) appends: usize,
}

impl LedgerFiles {
    /// Locks both files and makes what is missing, where nothing can have been lost.
    ///
    /// The folders are made for their owner alone (mode 0700), as are the files (0600).
    ///
    /// # Errors
    /// All but [`LedgerStoreError::Damaged`] and [`LedgerStoreError::RolledBack`], which [`LedgerFiles::replay`] finds.
    pub(super) fn open(path: &Path, counter_path: &Path, key: LedgerKey) -> Result<Self, LedgerStoreError> {
        let counter = CounterFile::lock(counter_path)?;
        super::create_folder_of(path)?;
        if same_place(path, counter_path) {
            return Err(LedgerStoreError::SamePlace { path: path.to_owned() });
        }
        let io = |source| LedgerStoreError::io(path, source);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                // Made only where it can be a new one: an empty file would hide that it was lost.
                if let Some(Counter { entries: entries @ 1.., .. }) = counter.read(&key)? {
                    let (ledger, counter) = (path.to_owned(), counter_path.to_owned());
                    return Err(LedgerStoreError::LedgerMissing { ledger, counter, entries });
                }
                folder::private_file().read(true).create_new(true).open(path).map_err(io)?
            }
            Err(source) => return Err(io(source)),
        };
        super::take(&file, path)?;
        super::sync_folder_of(path)?;
        if counter.read(&key)?.is_none() {
            // The counter is there before the first entry is: a ledger with entries and without one has lost it.
            if file.metadata().map_err(io)?.len() > 0 {
                let (counter, ledger) = (counter_path.to_owned(), path.to_owned());
                return Err(LedgerStoreError::CounterMissing { counter, ledger });
            }
            counter.replace(&Counter::start(), &key).map_err(Unmoved::why)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            counter,
            key,
            starts: Vec::new(),
            cut: None,
            #[cfg(test)]
            appends: 0,
        })
    }

    /// Verifies all that is stored and makes it whole: what an interrupted append left of its last entries is cut off, and
    /// those that it had written are counted.
    ///
    /// # Errors
    /// [`LedgerStoreError::Damaged`], [`LedgerStoreError::RolledBack`], [`LedgerStoreError::CounterDamaged`],
    /// [`LedgerStoreError::CounterMissing`], [`LedgerStoreError::TooLong`]; and where mending fails,
    /// [`LedgerStoreError::Full`], [`LedgerStoreError::Io`].
    pub(super) fn replay<A: Account>(&mut self) -> Result<Ledger<A>, LedgerStoreError> {
        if let Some(entries) = self.cut {
            self.cut_off(entries)?;
        }
        let counter = self.counted()?;
        let len = self.file.metadata().map_err(|source| LedgerStoreError::io(&self.path, source))?.len();
        if len > LEDGER_MAX {
            return Err(LedgerStoreError::TooLong { path: self.path.clone(), len });
        }
        let mut end = len;
        let mut verified = self.verify(end, counter)?;
        let first = match &verified {
            Err(LedgerError::Damaged { at: 0, damage }) => Some(*damage),
            Ok((_, Recovered { counter: Counter { entries: 0, .. }, discarded })) => *discarded,
            _ => None,
        };
        if let Some(damage) = first
            && self.begins_with_an_entry(len)?
        {
            // No write that was cut short: a ledger with another key, beside a counter that has counted nothing.
            return Err(self.unreadable(LedgerError::Damaged { at: 0, damage }));
        }
        if let Err(LedgerError::Damaged { at, damage }) = &verified
            && *at >= counter.entries
        {
            // A write that was cut short by a loss of power may lack any of its blocks, not only the last ones.
            tracing::warn!(at, %damage, "entries of the privacy ledger that were never counted are dropped");
            end = self.starts[index(*at)];
            verified = self.verify(end, counter)?;
        }
        let (ledger, recovered) = verified.map_err(|error| self.unreadable(error))?;
        let whole = index(recovered.counter.entries);
        if recovered.discarded.is_some() {
            tracing::warn!(
                at = whole,
                "an entry of the privacy ledger that was cut short and never counted is dropped"
            );
        }
        // The end of the last entry, if nothing follows it.
        self.starts.truncate(whole + 1);
        if self.starts.len() == whole {
            self.starts.push(end);
        }
        if self.starts[whole] < len {
            self.cut_off(whole)?;
        }
        if recovered.counter == counter {
            // It may have been renamed and not synced.
            self.counter.sync_name()?;
        } else {
            // What was read may be in memory only.
            self.file.sync_all().map_err(|source| LedgerStoreError::io(&self.path, source))?;
            self.counter.replace(&recovered.counter, &self.key).map_err(Unmoved::why)?;
        }
        Ok(ledger)
    }

    /// Makes entries durable and counts them. After a failure nothing may be appended before [`LedgerFiles::replay`].
    ///
    /// - `before`, `after`: where the counter has to stand, and where it goes.
    ///
    /// # Errors
    /// [`LedgerStoreError::Full`], [`LedgerStoreError::Io`], [`LedgerStoreError::TooLong`],
    /// [`LedgerStoreError::Changed`].
    pub(super) fn append(
        &mut self,
        entries: &[&[u8]],
        before: &Counter,
        after: &Counter,
    ) -> Result<(), LedgerStoreError> {
        if self.counted()? != *before || index(before.entries) + 1 != self.starts.len() {
            return Err(LedgerStoreError::Changed { path: self.counter.path().to_owned() });
        }
        if !self.is_as_it_was_left()? {
            return Err(LedgerStoreError::Changed { path: self.path.clone() });
        }
        let first = self.starts.len() - 1;
        let frames: Vec<_> = entries.iter().map(|entry| frame(entry)).collect();
        let end = self.starts[first] + frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        if end > LEDGER_MAX {
            return Err(LedgerStoreError::TooLong { path: self.path.clone(), len: end });
        }
        // Until they are counted: after a sync that failed, what the system would read back may not be on the disk.
        self.cut = Some(first);
        self.write(&frames.concat()).map_err(|source| LedgerStoreError::io(&self.path, source))?;
        match self.counter.replace(after, &self.key) {
            Ok(()) => {}
            Err(Unmoved::Before(why)) => return Err(why),
            Err(Unmoved::Unknown(why)) => {
                // It may have counted them. They are durable; whoever asks again finds out.
                self.cut = None;
                return Err(why);
            }
        }
        self.cut = None;
        for frame in frames {
            self.starts.push(self.end() + frame.len() as u64);
        }
        #[cfg(test)]
        {
            self.appends += 1;
        }
        Ok(())
    }

    /// Entries in order, as they are stored: without checking their codes, which opening did.
    ///
    /// - `from`: number of the first.
    /// - `limit`: how many at most; fewer come where they are long, one at least.
    ///
    /// # Errors
    /// [`LedgerStoreError::Io`]; [`LedgerStoreError::Damaged`] for what is no entry any more.
    pub(super) fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerStoreError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let bounds = self.starts.windows(2).zip(0..).skip(usize::try_from(from).unwrap_or(usize::MAX)).take(limit);
        for (bound, at) in bounds {
            let start = bound[0] + LENGTH_LEN;
            let len = index(bound[1] - start);
            bytes += len;
            if bytes > HISTORY_MAX && !entries.is_empty() {
                break;
            }
            let mut entry = vec![0; len];
            self.file.read_exact_at(&mut entry, start).map_err(|source| LedgerStoreError::io(&self.path, source))?;
            let damaged = |damage: sordino_dp::ledger::Malformed| LedgerError::Damaged { at, damage: damage.into() };
            entries.push(Entry::read(&entry).map_err(|malformed| self.unreadable(damaged(malformed)))?);
        }
        Ok(entries)
    }

    /// What stands in the counter's file.
    fn counted(&self) -> Result<Counter, LedgerStoreError> {
        self.counter.read(&self.key)?.ok_or_else(|| LedgerStoreError::CounterMissing {
            counter: self.counter.path().to_owned(),
            ledger: self.path.clone(),
        })
    }

    /// Reads the first bytes of the file as a ledger, and where its entries start.
    fn verify<A: Account>(
        &mut self,
        len: u64,
        counter: Counter,
    ) -> Result<Result<(Ledger<A>, Recovered), LedgerError>, LedgerStoreError> {
        let mut frames = Frames::new(&self.file, len).map_err(|source| LedgerStoreError::io(&self.path, source))?;
        let opened = Ledger::open(&mut frames, counter, self.key.clone());
        self.starts = frames.finish().map_err(|source| LedgerStoreError::io(&self.path, source))?;
        Ok(opened)
    }

    /// Whether the first entry is a whole one, whoever wrote it.
    fn begins_with_an_entry(&self, len: u64) -> Result<bool, LedgerStoreError> {
        let mut frames = Frames::new(&self.file, len).map_err(|source| LedgerStoreError::io(&self.path, source))?;
        let first = frames.next();
        frames.finish().map_err(|source| LedgerStoreError::io(&self.path, source))?;
        Ok(first.is_some_and(|entry| Entry::read(&entry).is_ok()))
    }

    /// One write and one sync, at the end of what is counted.
    fn write(&self, frames: &[u8]) -> io::Result<()> {
        crash_point!("ledger:decided");
        #[cfg(all(unix, feature = "test-util"))]
        if crate::crash::is_armed("ledger:half") {
            self.file.write_all_at(&frames[..frames.len() / 2], self.end())?;
        }
        crash_point!("ledger:half");
        self.file.write_all_at(frames, self.end())?;
        crash_point!("ledger:written");
        self.file.sync_data()?;
        crash_point!("ledger:synced");
        Ok(())
    }

    /// Cuts the file off behind so many entries. Only for entries that were never counted.
    fn cut_off(&mut self, entries: usize) -> Result<(), LedgerStoreError> {
        crash_point!("tail:found");
        let io = |source| LedgerStoreError::io(&self.path, source);
        self.file.set_len(self.starts[entries]).map_err(io)?;
        crash_point!("tail:cut");
        self.file.sync_all().map_err(io)?;
        self.starts.truncate(entries + 1);
        self.cut = None;
        Ok(())
    }

    /// Whether the file still ends where the last entry does, and still is the one at its path: a copy that was restored in
    /// place is shorter, one that was put there has another inode. Written behind such a copy, entries would be lost.
    fn is_as_it_was_left(&self) -> Result<bool, LedgerStoreError> {
        let io = |source| LedgerStoreError::io(&self.path, source);
        let held = self.file.metadata().map_err(io)?;
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok(held.len() == self.end() && (named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(io(source)),
        }
    }

    /// Where the next entry goes.
    fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    fn unreadable(&self, error: LedgerError) -> LedgerStoreError {
        match error {
            LedgerError::Damaged { .. } => {
                LedgerStoreError::Damaged { path: self.path.clone(), source: Arc::new(error) }
            }
            LedgerError::RolledBack { .. } | LedgerError::Forked { .. } => LedgerStoreError::RolledBack {
                ledger: self.path.clone(),
                counter: self.counter.path().to_owned(),
                source: Arc::new(error),
            },
            other => LedgerStoreError::of_call(other),
        }
    }
}

/// Whether two paths name one file, which need not exist.
fn same_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| Some((super::folder_of(path).canonicalize().ok()?, path.file_name()?.to_owned()));
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}

/// Entries are counted in memory.
fn index(entries: u64) -> usize {
    usize::try_from(entries).expect("a ledger's file is far shorter than memory is addressed")
}

/// Longest file of a ledger, in bytes: some millions of rounds.
pub(super) const LEDGER_MAX: u64 = 1 << 32;
/// Most bytes of entries that one answer about the history holds.
const HISTORY_MAX: usize = 16 << 20;
