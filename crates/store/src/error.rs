//! What can go wrong between a caller and the disk.

use std::{io, path::PathBuf};

/// Why the store did not do what it was asked. Nothing of a refused write is kept, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space, quota or file-size limit left. Free some space and repeat the request.
    #[error("{what} was not written because the disk is full: free space in the data folder, then try again")]
    Full {
        /// What was being written, with its place where it is a file.
        what: String,
    },
    /// The database is held by another program. Worth a retry.
    #[error(
        "the database stayed busy for {} s: another program holds it, close it or try again",
        crate::BUSY_TIMEOUT.as_secs()
    )]
    Busy,
    /// What was read is not what was written. Call the operator.
    #[error("{what} is damaged: restore it from a backup, and check the disk")]
    Corrupt {
        /// What is damaged, and how that shows.
        what: String,
    },
    /// Another coordinator works in this data folder.
    #[error("{path} is locked by a running coordinator: stop it, or choose another data folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The request contradicts what is stored; a repetition would fail alike.
    #[error("{what}")]
    Conflict {
        /// Both sides of the contradiction.
        what: String,
    },
    /// There is no such thing.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// An argument that can be neither stored nor part of a file name.
    #[error("{what}")]
    Invalid {
        /// The argument, its value and the rule it breaks.
        what: String,
    },
    /// A blob that is larger than the caller was ready to hold.
    #[error("{what} has {len} bytes, at most {limit} were expected")]
    TooLarge {
        /// Which blob.
        what: String,
        /// Its length, in bytes.
        len: u64,
        /// What the caller allowed, in bytes.
        limit: u64,
    },
    /// The database was written by another version of this program.
    #[error(
        "the database in the data folder does not fit this version of the program: install the version that wrote it, or a newer one"
    )]
    Schema(#[source] Box<sqlx::migrate::MigrateError>),
    /// The store was closed; only seen while the program stops.
    #[error("the store is closed: the coordinator is stopping, try again when it is back")]
    Closed,
    /// The operating system refused a file.
    #[error("cannot use {path}: check that the disk works and that its owner is this user")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database refused for a reason that has no variant of its own.
    #[error("the database refused the operation: check the disk and the log")]
    Sql(#[source] Box<sqlx::Error>),
}

impl StoreError {
    /// Sorts an error of the file system.
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) { Self::Full { what: path.display().to_string() } } else { Self::Io { path, source } }
    }

    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict { what: what.into() }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// What was read is not what was written.
    #[must_use]
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        // The low byte is the primary code: https://www.sqlite.org/rescode.html
        match (code.map(|code| code & 0xff), &error) {
            (Some(SQLITE_FULL), _) => Self::Full { what: "the database".into() },
            (Some(SQLITE_BUSY | SQLITE_LOCKED), _) | (None, sqlx::Error::PoolTimedOut) => Self::Busy,
            (Some(SQLITE_CORRUPT | SQLITE_NOTADB), _) => Self::corrupt("the database"),
            (None, sqlx::Error::ColumnDecode { index, .. }) => Self::corrupt(format!("column {index} of the database")),
            (None, sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed) => Self::Closed,
            _ => Self::Sql(Box::new(error)),
        }
    }
}

/// Why a chunk of an upload was not taken. What was received before is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The chunk does not start where the upload ends. Continue from there.
    #[error("the chunk does not continue the upload: {received} bytes were received, send on from there")]
    OffsetMismatch {
        /// Bytes that count.
        received: u64,
    },
    /// More bytes than the whole has.
    #[error("the chunk ends at byte {end}, but the upload has {expected} bytes in all")]
    TooLong {
        /// Where the chunk would end.
        end: u64,
        /// What was announced.
        expected: u64,
    },
    /// No space, quota or file-size limit left; see [`StoreError::Full`].
    #[error("{path} was not written because the disk is full: free space in the data folder, then try again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused a file.
    #[error("cannot use {path}: check that the disk works and that its owner is this user")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SpoolError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) { Self::Full { path } } else { Self::Io { path, source } }
    }
}

impl From<SpoolError> for StoreError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Full { path } => Self::Full { what: path.display().to_string() },
            SpoolError::Io { path, source } => Self::Io { path, source },
            refused => Self::Conflict { what: refused.to_string() },
        }
    }
}

/// Whether somebody has to make room: the disk, a quota, or the limit on the size of a file.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;
