//! Files named by the SHA-256 of what is in them.
//!
//! A blob is written under a temporary name, synced, and only then renamed: under its own name there is never half of
//! one. `blobs/ab/cdef...` spreads them over 256 folders.

use crate::{StoreError, folder};
use aws_lc_rs::digest::{Context, SHA256, digest};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The blobs of a data folder. Clones share it.
#[derive(Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    temporary: PathBuf,
    /// Names of temporary files. The folder is emptied when it is opened, and locked, so a counter never repeats.
    next_name: AtomicU64,
}

/// A file to be filled and then handed to [`Blobs::keep`]. Dropped before that, it is removed.
pub struct TempFile {
    file: tokio::fs::File,
    path: RemoveOnDrop,
}

impl TempFile {
    /// Where to write.
    pub fn file(&mut self) -> &mut tokio::fs::File {
        &mut self.file
    }

    /// Its place, for code that opens files by name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path.0
    }
}

impl Blobs {
    pub(crate) fn open_folder(data: &Path) -> Result<Self, StoreError> {
        let folder = data.join("blobs");
        let temporary = folder.join("tmp");
        // What an earlier process left unfinished.
        folder::remove_tree(&temporary).map_err(|source| StoreError::io(&temporary, source))?;
        folder::create(&temporary)?;
        folder::sync(&folder).map_err(|source| StoreError::io(&folder, source))?;
        Ok(Self { inner: Arc::new(Inner { folder, temporary, next_name: AtomicU64::new(0) }) })
    }

    /// Stores bytes and returns their digest. What is stored already is written anew, which heals it if it was damaged.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`]; nothing is then visible under the digest that was not before.
    pub async fn put(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<[u8; 32], StoreError> {
        let blobs = self.clone();
        folder::blocking(move || {
            let name = array(digest(&SHA256, bytes.as_ref()));
            let (mut file, path) = blobs.create_temporary()?;
            file.write_all(bytes.as_ref()).map_err(|source| StoreError::io(&path.0, source))?;
            blobs.publish(&file, &path.0, &name)?;
            Ok(name)
        })
        .await
    }

    /// A temporary file in the same file system, empty.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`].
    pub async fn temp_file(&self) -> Result<TempFile, StoreError> {
        let blobs = self.clone();
        let (file, path) = folder::blocking(move || blobs.create_temporary()).await?;
        Ok(TempFile { file: tokio::fs::File::from_std(file), path })
    }

    /// Makes a blob of a temporary file and returns its digest.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`], also for a write that was still under way; the file is then gone.
    pub async fn keep(&self, temp: TempFile) -> Result<[u8; 32], StoreError> {
        let TempFile { mut file, path } = temp;
        // A tokio file writes in the background: only after this has everything reached the operating system.
        let flushed = tokio::io::AsyncWriteExt::flush(&mut file).await;
        flushed.map_err(|source| StoreError::io(&path.0, source))?;
        drop(file);
        self.put_file(&path.0).await
    }

    /// Makes a blob of a file in the same file system, which nobody writes to any more, by moving it to its place.
    /// Returns its digest. (A [`tokio::fs::File`] must be flushed before; see [`Blobs::keep`].)
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`]; the file is then still where it was.
    pub async fn put_file(&self, temp: &Path) -> Result<[u8; 32], StoreError> {
        let (blobs, path) = (self.clone(), temp.to_owned());
        folder::blocking(move || {
            // Opened for writing because some systems sync nothing else.
            let file = File::options().read(true).write(true).open(&path);
            let mut file = file.map_err(|source| StoreError::io(&path, source))?;
            let name = hash(&mut file).map_err(|source| StoreError::io(&path, source))?;
            blobs.publish(&file, &path, &name)?;
            Ok(name)
        })
        .await
    }

    /// Opens a blob for reading; returns it with its length in bytes. What is read is not verified: see
    /// [`Blobs::verify`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Io`].
    pub async fn open(&self, digest: &[u8; 32]) -> Result<(tokio::fs::File, u64), StoreError> {
        let (blobs, name) = (self.clone(), *digest);
        let (file, len) = folder::blocking(move || blobs.open_blob(&name)).await?;
        Ok((tokio::fs::File::from_std(file), len))
    }

    /// A whole blob, verified.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above `limit` bytes, before anything is read; [`StoreError::Corrupt`] where the bytes
    /// do not have this digest; [`StoreError::NotFound`]; [`StoreError::Io`].
    pub async fn read(&self, digest: &[u8; 32], limit: u64) -> Result<Vec<u8>, StoreError> {
        let (blobs, name) = (self.clone(), *digest);
        folder::blocking(move || {
            let (file, len) = blobs.open_blob(&name)?;
            if len > limit {
                return Err(StoreError::TooLarge { what: title(&name), len, limit });
            }
            let mut bytes = Vec::new();
            // A file that grows while it is read does not get past the limit either.
            let read = file.take(limit).read_to_end(&mut bytes);
            read.map_err(|source| StoreError::io(blobs.path(&name), source))?;
            if array(self::digest(&SHA256, &bytes)) != name {
                return Err(blobs.damaged(&name));
            }
            Ok(bytes)
        })
        .await
    }

    /// Reads a blob through and checks its digest, in constant memory.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::NotFound`] or [`StoreError::Io`].
    pub async fn verify(&self, digest: &[u8; 32]) -> Result<(), StoreError> {
        let (blobs, name) = (self.clone(), *digest);
        folder::blocking(move || {
            let (mut file, _) = blobs.open_blob(&name)?;
            let got = hash(&mut file).map_err(|source| StoreError::io(blobs.path(&name), source))?;
            if got == name { Ok(()) } else { Err(blobs.damaged(&name)) }
        })
        .await
    }

    /// Whether there is a blob of this digest; it is not read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn contains(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let path = self.path(digest);
        folder::blocking(move || path.try_exists().map_err(|source| StoreError::io(path, source))).await
    }

    fn create_temporary(&self) -> Result<(File, RemoveOnDrop), StoreError> {
        let name = self.inner.next_name.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.temporary.join(name.to_string());
        match folder::private_file().create_new(true).open(&path) {
            Ok(file) => Ok((file, RemoveOnDrop(path))),
            Err(source) => Err(StoreError::io(path, source)),
        }
    }

    /// Syncs a file, moves it to its place, and syncs the names on the way there.
    fn publish(&self, file: &File, path: &Path, name: &[u8; 32]) -> Result<(), StoreError> {
        file.sync_all().map_err(|source| StoreError::io(path, source))?;
        let place = self.path(name);
        let shelf = place.parent().unwrap_or(&self.inner.folder);
        folder::create(shelf)?;
        fs::rename(path, &place).map_err(|source| StoreError::io(&place, source))?;
        folder::sync(shelf).map_err(|source| StoreError::io(shelf, source))?;
        // The shelf may be new, or made by a caller that has not synced it yet.
        folder::sync(&self.inner.folder).map_err(|source| StoreError::io(&self.inner.folder, source))
    }

    fn open_blob(&self, name: &[u8; 32]) -> Result<(File, u64), StoreError> {
        let path = self.path(name);
        let opened = File::open(&path).and_then(|file| {
            let len = file.metadata()?.len();
            Ok((file, len))
        });
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::not_found(title(name)),
            _ => StoreError::io(path, source),
        })
    }

    fn path(&self, name: &[u8; 32]) -> PathBuf {
        let name = hex::encode(name);
        let (shelf, rest) = name.split_at(2);
        self.inner.folder.join(shelf).join(rest)
    }

    fn damaged(&self, name: &[u8; 32]) -> StoreError {
        StoreError::corrupt(format!("the file {}", self.path(name).display()))
    }
}

/// A file that is removed unless it was moved away.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Err(error) = folder::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), error = &error as &dyn std::error::Error, "a temporary file stays");
        }
    }
}

/// SHA-256 of a file, from where it stands to its end.
pub(crate) fn hash(file: &mut File) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(array(context.finish())),
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn array(digest: aws_lc_rs::digest::Digest) -> [u8; 32] {
    digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

fn title(name: &[u8; 32]) -> String {
    format!("blob {}", hex::encode(name))
}

const BUFFER_LEN: usize = 256 * 1024;
