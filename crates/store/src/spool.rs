//! Uploads in progress: one file per participant and attempt, filled chunk by chunk.
//!
//! The length of the file is how far the upload got, so there is nothing that could disagree with it. A finished upload
//! is synced before it is acknowledged. Before that, a crash may cut the file anywhere: what is there is still the
//! beginning of what was sent, and the upload continues from it. Should power fail, the digest of the whole tells
//! whether the bytes made it; if not, [`Spool::remove`] starts the upload over.

use crate::{SpoolError, StoreError, folder};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OwnedMutexGuard;

/// The uploads of a data folder. Clones share it.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    /// Uploads being written to right now, so that each has one writer.
    busy: Mutex<BTreeMap<SpoolKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// Which upload: names are checked, so that they cannot leave the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolKey {
    task: String,
    round: u64,
    attempt: u32,
    participant: String,
}

impl SpoolKey {
    /// The upload of a participant for an attempt.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where a name is not 1 to 128 of `A-Z a-z 0-9 _ . -`, or starts with a dot.
    pub fn new(
        task: impl Into<String>,
        round: u64,
        attempt: u32,
        participant: impl Into<String>,
    ) -> Result<Self, StoreError> {
        let (task, participant) = (task.into(), participant.into());
        check_name("task", &task)?;
        check_name("participant", &participant)?;
        Ok(Self { task, round, attempt, participant })
    }

    /// The participant that uploads.
    #[must_use]
    pub fn participant(&self) -> &str {
        &self.participant
    }

    fn folder_name(&self) -> String {
        folder_name(&self.task, self.round, self.attempt)
    }
}

impl fmt::Display for SpoolKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.folder_name(), self.participant)
    }
}

impl Spool {
    pub(crate) fn open_folder(data: &Path) -> Result<Self, StoreError> {
        let folder = data.join("spool");
        folder::create(&folder)?;
        Ok(Self { inner: Arc::new(Inner { folder, busy: Mutex::default() }) })
    }

    /// Bytes received so far; 0 for an upload that has not begun.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub async fn received(&self, key: &SpoolKey) -> Result<u64, SpoolError> {
        // Behind the lock: in the middle of an append, the length of the file is not yet a promise.
        let (guard, path) = (self.lock(key).await, self.path(key));
        folder::blocking(move || {
            let received = len(&path);
            drop(guard);
            received.map_err(|source| SpoolError::io(path, source))
        })
        .await
    }

    /// Appends a chunk and returns how many bytes were received in all. It counts wholly or not at all. With the last
    /// byte, the upload is durable when this returns.
    ///
    /// - `offset`: where the chunk starts; must be what was received.
    /// - `expected_total`: bytes of the whole upload.
    ///
    /// Appends to one upload run one after the other, and to their end even when the caller stops waiting.
    ///
    /// # Errors
    /// [`SpoolError::OffsetMismatch`] (also for a chunk that is there already: go on from `received`),
    /// [`SpoolError::TooLong`], [`SpoolError::Full`] or [`SpoolError::Io`].
    pub async fn append(
        &self,
        key: &SpoolKey,
        offset: u64,
        chunk: &[u8],
        expected_total: u64,
    ) -> Result<u64, SpoolError> {
        let end = u64::try_from(chunk.len()).ok().and_then(|len| offset.checked_add(len)).unwrap_or(u64::MAX);
        if end > expected_total {
            return Err(SpoolError::TooLong { end, expected: expected_total });
        }
        let (guard, path, chunk) = (self.lock(key).await, self.path(key), chunk.to_vec());
        let spool = self.inner.folder.clone();
        folder::blocking(move || {
            let done = append(&spool, &path, offset, &chunk, end == expected_total);
            drop(guard);
            done
        })
        .await
    }

    /// Opens an upload for reading, from its start.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Io`].
    pub async fn reader(&self, key: &SpoolKey) -> Result<tokio::fs::File, StoreError> {
        let (path, title) = (self.path(key), title(key));
        let file = folder::blocking(move || open(&path, title)).await?;
        Ok(tokio::fs::File::from_std(file))
    }

    /// Removes one upload; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn remove(&self, key: &SpoolKey) -> Result<(), StoreError> {
        let (guard, path) = (self.lock(key).await, self.path(key));
        folder::blocking(move || {
            let removed = folder::remove_file(&path).map_err(|source| StoreError::io(path, source));
            drop(guard);
            removed
        })
        .await
    }

    /// Removes all uploads of an attempt; one that has none is no error. Uploads still under way may fail with
    /// [`SpoolError::Io`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that cannot be one, [`StoreError::Io`].
    pub async fn remove_attempt(&self, task: &str, round: u64, attempt: u32) -> Result<(), StoreError> {
        check_name("task", task)?;
        let path = self.inner.folder.join(folder_name(task, round, attempt));
        folder::blocking(move || folder::remove_tree(&path).map_err(|source| StoreError::io(path, source))).await
    }

    /// Removes the uploads of every attempt but those named (task, round, attempt): for the start of the coordinator.
    /// Returns how many attempts were removed.
    ///
    /// # Errors
    /// [`StoreError::Io`]; some may then be removed already.
    pub async fn sweep(&self, keep: &[(String, u64, u32)]) -> Result<usize, StoreError> {
        let keep: Vec<_> = keep.iter().map(|(task, round, attempt)| folder_name(task, *round, *attempt)).collect();
        let folder = self.inner.folder.clone();
        folder::blocking(move || sweep(&folder, &keep).map_err(|source| StoreError::io(folder, source))).await
    }

    /// Keeps what came out of one group of an attempt: durable and whole when this returns, or not there. It goes with the
    /// attempt's uploads.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that cannot be one, [`StoreError::Full`], [`StoreError::Io`].
    pub async fn keep_outcome(
        &self,
        (task, round, attempt): (&str, u64, u32),
        group: u32,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        check_name("task", task)?;
        let spool = self.inner.folder.clone();
        let folder = spool.join(folder_name(task, round, attempt));
        folder::blocking(move || {
            folder::create(&folder)?;
            let name = outcome_name(group);
            let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
            let written = (|| {
                let mut file = folder::private_file().create(true).truncate(true).open(&new)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
                folder::sync(&folder)?;
                folder::sync(&spool)
            })();
            written.map_err(|source| StoreError::io(path, source))
        })
        .await
    }

    /// What was kept of a group of an attempt, if anything was.
    ///
    /// - `len`: its length in bytes, which it must have.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that cannot be one, [`StoreError::Corrupt`] for one of another length,
    /// [`StoreError::Io`].
    pub async fn outcome(
        &self,
        (task, round, attempt): (&str, u64, u32),
        group: u32,
        len: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        check_name("task", task)?;
        let path = self.inner.folder.join(folder_name(task, round, attempt)).join(outcome_name(group));
        folder::blocking(move || match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io(path, source)),
            Ok(found) if found.len() != len => Err(StoreError::corrupt(path.display().to_string())),
            Ok(_) => fs::read(&path).map(Some).map_err(|source| StoreError::io(path, source)),
        })
        .await
    }

    fn path(&self, key: &SpoolKey) -> PathBuf {
        self.inner.folder.join(key.folder_name()).join(&key.participant)
    }

    async fn lock(&self, key: &SpoolKey) -> Busy {
        let lock = Arc::clone(self.busy().entry(key.clone()).or_default());
        // The entry goes when this is dropped, even if the caller stops waiting right here.
        let mut busy = Busy { spool: self.clone(), key: key.clone(), guard: None };
        busy.guard = Some(lock.lock_owned().await);
        busy
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, BTreeMap<SpoolKey, Arc<tokio::sync::Mutex<()>>>> {
        // A panic elsewhere leaves the map as good as it was: each change is one call.
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use an upload. The last one to hold or await it takes its entry out of the map.
struct Busy {
    spool: Spool,
    key: SpoolKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.spool.busy();
        self.guard = None;
        // Every waiter holds a count, taken while the map was locked; the map itself holds the last one.
        if busy.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            busy.remove(&self.key);
        }
    }
}

/// Appends under the upload's lock; `last` where the chunk completes the upload.
fn append(spool: &Path, path: &Path, offset: u64, chunk: &[u8], last: bool) -> Result<u64, SpoolError> {
    let received = len(path).map_err(|source| SpoolError::io(path, source))?;
    if received != offset {
        return Err(SpoolError::OffsetMismatch { received });
    }
    if chunk.is_empty() && !last {
        return Ok(received);
    }
    let attempt = path.parent().unwrap_or(spool);
    folder::create(attempt).map_err(|error| match error {
        StoreError::Full { .. } => SpoolError::Full { path: attempt.into() },
        StoreError::Io { path, source } => SpoolError::Io { path, source },
        other => SpoolError::io(attempt, io::Error::other(other)),
    })?;
    let file = folder::private_file().append(true).create(true).open(path);
    let mut file = file.map_err(|source| SpoolError::io(path, source))?;
    let written = file.write_all(chunk).and_then(|()| {
        if last {
            file.sync_all()?;
            folder::sync(attempt)?;
            folder::sync(spool)?;
        }
        Ok(())
    });
    if let Err(source) = written {
        // Should this fail too, what stays is a piece of a chunk that was sent in full: resuming after it is sound.
        if let Err(error) = file.set_len(received) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = %path.display(), error, "part of a chunk stays");
        }
        return Err(SpoolError::io(path, source));
    }
    Ok(received.saturating_add(chunk.len() as u64))
}

fn len(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn open(path: &Path, title: String) -> Result<File, StoreError> {
    OpenOptions::new().read(true).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { what: title },
        _ => StoreError::io(path, source),
    })
}

fn sweep(folder: &Path, keep: &[String]) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What does not look like ours is not ours to remove.
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_folder_name(name)) else { continue };
        if !keep.iter().any(|kept| kept == name) {
            folder::remove_tree(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folder_name(task: &str, round: u64, attempt: u32) -> String {
    format!("{task}.{round}.{attempt}")
}

/// What came out of a group, beside the attempt's uploads: no participant's name starts with a dot.
fn outcome_name(group: u32) -> String {
    format!(".outcome-{group}")
}

fn is_folder_name(name: &str) -> bool {
    let mut parts = name.rsplitn(3, '.');
    let attempt = parts.next().is_some_and(|part| part.parse::<u32>().is_ok());
    let round = parts.next().is_some_and(|part| part.parse::<u64>().is_ok());
    attempt && round && parts.next().is_some_and(|task| check_name("task", task).is_ok())
}

/// A name that is one plain component of a path, whatever it says.
fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_MAX).collect();
    Err(StoreError::Invalid {
        what: format!("{what} {shown:?} must be 1 to {NAME_MAX} of A-Z a-z 0-9 _ . - and not start with a dot"),
    })
}

fn title(key: &SpoolKey) -> String {
    format!("upload {key}")
}

/// Characters of a name; with two numbers it stays below the 255 bytes of a file name.
const NAME_MAX: usize = 128;
