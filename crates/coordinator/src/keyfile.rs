//! Files that hold keys: made for their owner's eyes only, never overwritten, refused when others can read them.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// What can go wrong with a key's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It is there already. Keys are never overwritten.
    #[error("{path} exists, and keys are never overwritten; choose another folder or move it away")]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{path} can be read by others (mode {mode:o}); run chmod 600 on it, and replace the key if they did")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Far too large to be a key or a certificate.
    #[error("{path} has {size} bytes, at most {FILE_BYTES_MAX} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// The system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a private key's file.
///
/// # Errors
/// [`KeyFileError`]; in particular when the file's mode lets anyone but its owner read it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.into(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & PERMISSION_BITS;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    bounded(path, metadata.len())?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Reads a certificate's file; certificates are public.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_public(path: &Path) -> Result<String, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.into(), source };
    bounded(path, fs::metadata(path).map_err(failed)?.len())?;
    fs::read_to_string(path).map_err(failed)
}

fn bounded(path: &Path, size: u64) -> Result<(), KeyFileError> {
    if size <= FILE_BYTES_MAX { Ok(()) } else { Err(KeyFileError::TooLarge { path: path.into(), size }) }
}

/// Refuses a path that exists.
pub(crate) fn absent(path: &Path) -> Result<(), KeyFileError> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(KeyFileError::Exists { path: path.into() }),
        Err(source) => Err(KeyFileError::Io { action: "look for", path: path.into(), source }),
    }
}

/// Files and folders of one `init`. Those that it made are removed again unless it is [kept](NewFiles::keep), so that
/// a failure in the middle leaves no half of a federation behind.
#[derive(Debug, Default)]
pub(crate) struct NewFiles {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl NewFiles {
    /// Makes a folder that only its owner enters; one that exists is used as it is.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), KeyFileError> {
        match DirBuilder::new().mode(PRIVATE_FOLDER).create(path) {
            Ok(()) => self.folders.push(path.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(source) => return Err(KeyFileError::Io { action: "make the folder", path: path.into(), source }),
        }
        Ok(())
    }

    /// Writes a file that did not exist, for its owner only, and waits until the disk has it.
    pub(crate) fn write(&mut self, path: &Path, contents: &str) -> Result<(), KeyFileError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
            _ => KeyFileError::Io { action: "write", path: path.into(), source },
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path).map_err(failed)?;
        self.files.push(path.into());
        file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Nothing is removed any more.
    pub(crate) fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
        // A folder that holds anything else stays.
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
const PERMISSION_BITS: u32 = 0o777;
const OTHERS: u32 = 0o077;
/// Keys and chains take a few kilobytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let mut files = NewFiles::default();
        files.write(&path, "secret").unwrap();
        assert_eq!(*read_secret(&path).unwrap(), "secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path), Err(KeyFileError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (old, sub, new) = (folder.path().join("old"), folder.path().join("sub"), folder.path().join("sub/new"));
        fs::write(&old, "old").unwrap();
        let mut files = NewFiles::default();
        files.folder(&sub).unwrap();
        files.write(&new, "new").unwrap();
        assert!(matches!(files.write(&old, "new"), Err(KeyFileError::Exists { path }) if path == old));
        drop(files);
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert!(!sub.exists());
    }
}
