//! The counter's file: how many entries were acknowledged, and which was the last.
//!
//! It stands in a place of its own, so that a ledger that was restored from an older copy is found out. One generation
//! replaces the last atomically: a temporary file is written, synced and renamed over it, and the folder is synced.

use super::LedgerStoreError;
use crate::{crash_point, folder};
use sordino_dp::ledger::{COUNTER_LEN, Counter, LedgerKey};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The counter of one ledger, which no other program can use meanwhile.
pub(super) struct CounterFile {
    path: PathBuf,
    /// Held, not read. It lives as long as this.
    _lock: File,
}

/// Why the counter did not move.
pub(super) enum Unmoved {
    /// It stands where it stood.
    Before(LedgerStoreError),
    /// It may stand in either place: the rename was asked for.
    Unknown(LedgerStoreError),
}

impl Unmoved {
    /// Where it does not matter.
    pub(super) fn why(self) -> LedgerStoreError {
        match self {
            Self::Before(why) | Self::Unknown(why) => why,
        }
    }
}

impl CounterFile {
    /// Takes the counter at this path, whether it exists or not, and makes its folder.
    pub(super) fn lock(path: &Path) -> Result<Self, LedgerStoreError> {
        super::create_folder_of(path)?;
        let lock_path = beside(path, LOCK_SUFFIX);
        let lock = folder::private_file()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|source| LedgerStoreError::io(&lock_path, source))?;
        super::take(&lock, &lock_path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All files that this makes and replaces.
    pub(super) fn places(&self) -> [PathBuf; 3] {
        [self.path.clone(), beside(&self.path, LOCK_SUFFIX), beside(&self.path, NEW_SUFFIX)]
    }

    /// What was counted; none where there is no file.
    pub(super) fn read(&self, key: &LedgerKey) -> Result<Option<Counter>, LedgerStoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LedgerStoreError::io(&self.path, source)),
        };
        let mut bytes = Vec::with_capacity(COUNTER_LEN + 1);
        // One byte more than a counter has shows that it is none.
        file.take(COUNTER_LEN as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| LedgerStoreError::io(&self.path, source))?;
        let damaged = |source| LedgerStoreError::CounterDamaged { path: self.path.clone(), source };
        Counter::from_bytes(&bytes, key).map(Some).map_err(damaged)
    }

    /// Replaces the counter.
    pub(super) fn replace(&self, counter: &Counter, key: &LedgerKey) -> Result<(), Unmoved> {
        let new = beside(&self.path, NEW_SUFFIX);
        let written = (|| {
            let mut file = folder::private_file().create(true).truncate(true).open(&new)?;
            file.write_all(&counter.to_bytes(key))?;
            file.sync_all()
        })();
        written.map_err(|source| Unmoved::Before(LedgerStoreError::io(&new, source)))?;
        crash_point!("counter:written");
        let unknown = |source| Unmoved::Unknown(LedgerStoreError::io(&self.path, source));
        std::fs::rename(&new, &self.path).map_err(unknown)?;
        crash_point!("counter:renamed");
        self.sync_name().map_err(Unmoved::Unknown)?;
        crash_point!("counter:synced");
        Ok(())
    }

    /// Makes the last rename durable.
    pub(super) fn sync_name(&self) -> Result<(), LedgerStoreError> {
        super::sync_folder_of(&self.path)
    }
}

/// A file whose name is another's with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

const LOCK_SUFFIX: &str = ".lock";
const NEW_SUFFIX: &str = ".new";
