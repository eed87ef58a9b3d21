//! The data folder: who may read it, who works in it, and when a file in it is safe.

use crate::StoreError;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Makes a folder that only its owner may enter, parents included. One that exists stays as it is.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    create_private(path).map_err(|source| StoreError::io(path, source))
}

/// The same, for those with errors of their own.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)
}

/// How files here are opened for writing: created for their owner alone.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(PRIVATE_FILE);
    options
}

/// Takes the folder for this process. The lock lives as long as the file, and dies with the process even on SIGKILL.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = private_file().create(true).truncate(false).open(path).map_err(|source| StoreError::io(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(StoreError::io(path, source)),
    }
}

/// Makes the names in a folder durable: a synced file that was just created or renamed may else lose its name.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes what is there, and is content where nothing is.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes a folder with all that is in it, and is content where there is none.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Runs blocking file work where it may block. It goes on to its end even when the caller stops waiting.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime refuses blocking work only while it is being torn down, and no future is polled to the end
            // there.
            Err(_) => std::future::pending().await,
        },
    }
}

const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
