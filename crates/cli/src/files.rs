//! Files that commands read and write: bounded when read, never overwritten when written.

use crate::failure::Failure;
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

/// Reads a file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { what: "read", path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more shows whether there is more, also where the size is not known before.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        let bytes = std::fs::metadata(path).map_or(bytes.len() as u64, |metadata| metadata.len());
        return Err(Failure::FileTooLarge { path: path.into(), bytes, max });
    }
    Ok(bytes)
}

/// Reads a text file of at most `max` bytes.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String, Failure> {
    String::from_utf8(read(path, max)?).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        Failure::File { what: "read", path: path.into(), source }
    })
}

/// Writes a file that must not exist yet; what was written of it is removed again if it cannot be written whole.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: path.into(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed)
}

/// Writes or replaces a file in one step: whoever reads it sees all of it or nothing.
pub(crate) fn publish(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn reads_are_bounded_and_writes_never_replace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(matches!(read(&path, 4), Err(Failure::FileTooLarge { bytes: 5, max: 4, .. })));
        assert!(matches!(write_new(&path, b"other"), Err(Failure::File { what: "write", .. })));
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        publish(&path, "6").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"6");
    }
}
