//! Why the privacy ledger's files did not do what they were asked.

use crate::error::is_full;
use sordino_dp::ledger::{Damage, LedgerError};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a request to the ledger failed. Nobody may be contacted for it and nothing released.
///
/// Of a request that failed, nothing is charged or all of it: asking again for the same [`ReservationId`] charges once.
/// Several callers may share one failure, hence the clones.
///
/// [`ReservationId`]: sordino_dp::ledger::ReservationId
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerStoreError {
    /// No space, quota or file-size limit left. Free some space and repeat the request; no restart is needed.
    #[error("{path} was not written because the disk is full: free space there, then try again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused a file. Worth a retry once the cause is gone.
    #[error("cannot use {path}: check that the disk works and that its owner is this user")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another program works with this ledger, or with a copy of it that has the same counter.
    #[error(
        "{path} is locked by another program that charges this privacy ledger or a copy of it: stop it; one ledger has \
         one program"
    )]
    Locked {
        /// The ledger's file, or the lock beside the counter.
        path: PathBuf,
    },
    /// The ledger or its counter is not as this program left it, although both are locked: a file system without working
    /// locks, or somebody restored files under a program that runs. Nothing was written. The ledger is verified anew before
    /// anything else is granted.
    #[error(
        "{path} was changed by another program while this one charges the privacy ledger: stop all but one, keep both \
         files on a file system with working locks, and restore copies of them only while no program runs"
    )]
    Changed {
        /// The ledger's file or the counter's.
        path: PathBuf,
    },
    /// The ledger was given the place of the counter, or of a file that the counter has beside it.
    #[error(
        "{path} was given for the privacy ledger, and its counter needs that file: give them two folders, best on two \
         disks"
    )]
    SamePlace {
        /// The path.
        path: PathBuf,
    },
    /// An entry is not what was written.
    #[error("{path} is damaged: no task may go on; {}", THE_WAY_OUT)]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// Where, and how that shows.
        #[source]
        source: Arc<LedgerError>,
    },
    /// Entries that were acknowledged are missing, or are not those that the counter has counted: an older copy of the
    /// ledger was restored, or the counter belongs to another one.
    #[error("{ledger} is not the privacy ledger that {counter} has counted: no task may go on; {}", THE_WAY_OUT)]
    RolledBack {
        /// The ledger's file.
        ledger: PathBuf,
        /// The counter's file.
        counter: PathBuf,
        /// Both numbers.
        #[source]
        source: Arc<LedgerError>,
    },
    /// There are entries and no counter, so nobody can tell whether they are all.
    #[error(
        "{counter} is missing, and {ledger} has entries that it should have counted: no task may go on; {}",
        THE_WAY_OUT
    )]
    CounterMissing {
        /// Where the counter should be.
        counter: PathBuf,
        /// The ledger's file.
        ledger: PathBuf,
    },
    /// The counter has counted, and there is no ledger.
    #[error(
        "{ledger} is missing, and {counter} has counted {entries} entries in it: no task may go on; {}",
        THE_WAY_OUT
    )]
    LedgerMissing {
        /// Where the ledger should be.
        ledger: PathBuf,
        /// The counter's file.
        counter: PathBuf,
        /// Entries counted.
        entries: u64,
    },
    /// The counter is not what was written.
    #[error("{path} is damaged: no task may go on; {}", THE_WAY_OUT)]
    CounterDamaged {
        /// The counter's file.
        path: PathBuf,
        /// How that shows.
        #[source]
        source: Damage,
    },
    /// The ledger's file is longer than this program reads.
    #[error("{path} would have {len} bytes, at most {max} are read: start a new ledger for new data versions", max = super::files::LEDGER_MAX)]
    TooLong {
        /// The ledger's file.
        path: PathBuf,
        /// Its length, in bytes.
        len: u64,
    },
    /// The request contradicts what was charged; a repetition would fail alike.
    #[error(transparent)]
    Refused(Arc<LedgerError>),
    /// The rules or the accountant failed. The ledger is opened again from its files before anything else is granted.
    #[error("the privacy ledger could not decide")]
    Undecided(#[source] Arc<LedgerError>),
    /// The ledger was closed; only seen while the program stops.
    #[error("the privacy ledger is closed: the program is stopping, try again when it is back")]
    Closed,
}

impl LedgerStoreError {
    /// Sorts an error of the file system.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::Full { path } } else { Self::Io { path, source: Arc::new(source) } }
    }

    /// Sorts what a call of the rules said.
    pub(super) fn of_call(error: LedgerError) -> Self {
        match error {
            LedgerError::UnknownScope(_)
            | LedgerError::OtherTerms(_)
            | LedgerError::UnknownReservation(_)
            | LedgerError::Committed(_)
            | LedgerError::Aborted(_) => Self::Refused(Arc::new(error)),
            _ => Self::Undecided(Arc::new(error)),
        }
    }
}

/// The same for all that cannot be read any more.
const THE_WAY_OUT: &str = "restore the newest intact copy of both files, the ledger and its counter (docs/privacy.md), \
                           and if none is intact treat every budget in it as spent";
