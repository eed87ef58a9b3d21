//! SQLite and files: what must survive a crash.
//!
//! One data folder holds `sordino.db` (principals, tasks, the journal of every round), `blobs/` (models and other
//! things named by their SHA-256) and `spool/` (uploads in progress). One process works in it at a time, which
//! `sordino.lock` ensures.
//!
//! **Promised.** When a write returns `Ok`, it survives the death of the process and the loss of power: commits wait
//! for the disk (`synchronous=FULL`), blobs and finished uploads are synced before they get their name or their
//! acknowledgement. A write that returns an error has left nothing behind, and one that was cut off is there as a
//! whole or not at all. Damage to a blob is found when it is read with a digest check.
//!
//! **Trusted.** Whoever can write to the folder can change what the coordinator believes: it is created for its owner
//! alone. Nothing here is encrypted, and nothing secret belongs here: tokens come as hashes, inputs come masked.
//!
//! **Best effort.** An upload in progress may lose its last bytes when power fails; its digest shows that.
//!
//! Time is an argument everywhere (`now`, in milliseconds since the Unix epoch); this crate never reads a clock.

mod blobs;
#[cfg(all(unix, feature = "test-util"))]
pub mod crash;
#[cfg(not(all(unix, feature = "test-util")))]
mod crash;
mod error;
mod folder;
mod idempotency;
mod journal;
pub mod ledger;
mod principals;
mod registrar;
mod rounds;
mod row;
mod spool;
mod standing;
mod tasks;
mod writer;

pub use blobs::{Blobs, TempFile};
pub use error::{SpoolError, StoreError};
pub use idempotency::{IDEMPOTENCY_KEY_LIFE_MS, Idempotency};
pub use journal::{AttemptRow, EventRow, NewEvent, attempt_state};
pub use ledger::{LedgerEvent, LedgerStoreError, PrivacyLedger, SiteLedger};
pub use principals::{Enrolled, JoinTokenRow, NewJoinToken, NewPrincipal, PrincipalRow, TOUCH_RESOLUTION_MS};
pub use registrar::Signing;
pub use rounds::{AttemptStart, RoundOutcome, RoundRow, Then, round_state};
pub use spool::{Spool, SpoolKey};
pub use standing::{
    CheckRow, CulpritRow, DisputeRow, Findings, NewCheck, NewCulprit, NewDispute, NewRefusal, RefusalRow,
};
pub use tasks::{ModelRow, NewTask, TaskRow, task_state};

use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use sqlx::{SqlSafeStr, migrate::MigrateError};
use std::{path::Path, sync::Arc, time::Duration};
use writer::Writer;

/// A data folder, open. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    readers: SqlitePool,
    blobs: Blobs,
    spool: Spool,
}

impl Store {
    /// Opens a data folder, and makes what is missing: the folder (mode 0700), the database (mode 0600), its tables.
    ///
    /// Leftovers of a process that died are cleared away: temporary files, and idempotency keys whose request nobody
    /// is executing any more. Must be called inside a tokio runtime, which then runs the writer.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has the folder open, [`StoreError::Schema`] where the database is
    /// newer than this program, [`StoreError::Corrupt`], [`StoreError::Full`] or [`StoreError::Io`].
    pub async fn open(data: &Path) -> Result<Self, StoreError> {
        let folder = data.to_owned();
        let (lock, blobs, spool) = folder::blocking(move || {
            folder::create(&folder)?;
            let lock = folder::lock(&folder.join(LOCK_FILE))?;
            let database = folder.join(DATABASE_FILE);
            // SQLite gives its `-wal` and `-shm` files the mode of the database.
            folder::private_file()
                .create(true)
                .truncate(false)
                .open(&database)
                .map_err(|source| StoreError::io(database, source))?;
            let (blobs, spool) = (Blobs::open_folder(&folder)?, Spool::open_folder(&folder)?);
            folder::sync(&folder).map_err(|source| StoreError::io(folder, source))?;
            Ok::<_, StoreError>((lock, blobs, spool))
        })
        .await?;

        let options = SqliteConnectOptions::new()
            .filename(data.join(DATABASE_FILE))
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // Deleted rows are overwritten: among them are the shares that opened a sum.
        let write = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let write = write.pragma("secure_delete", "ON");
        let mut connection = SqliteConnection::connect_with(&write).await?;
        migrate(&mut connection).await?;
        idempotency::forget_interrupted(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        let inner = Inner { writer: Writer::start(connection, lock), readers, blobs, spool };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Commits what is queued, closes the database and unlocks the folder. Later calls, on clones too, get
    /// [`StoreError::Closed`]. Where it is not called, the same happens in the background some time after the last
    /// clone is dropped.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }

    /// Models, by digest.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Uploads in progress.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.inner.spool
    }

    fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    fn writer(&self) -> &Writer {
        &self.inner.writer
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let steps = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    match Migrator::with_migrations(steps.collect()).run(connection).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(error.into()),
        Err(error) => Err(StoreError::Schema(Box::new(error))),
    }
}

/// Version, name and text of each step from an empty database to today's. A published step is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "start", include_str!("../migrations/0001_start.sql"))];

/// Rows that one listing returns at most, whatever was asked for.
pub const PAGE_MAX: u32 = 1000;

const DATABASE_FILE: &str = "sordino.db";
const LOCK_FILE: &str = "sordino.lock";
/// How long to wait for a lock on the database, or for a free reader. Only a foreign program, such as a backup, can
/// hold the former: our writes go through one connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read. SQLite's readers don't block each other, and each costs a thread and a page cache.
const READERS_MAX: u32 = 4;
