//! The one writer: a task that drains a queue and commits many callers' writes in one transaction.
//!
//! A commit waits for the disk (milliseconds with `synchronous=FULL`), whatever it carries. So all writes that came in
//! while the last commit was waiting go into the next one ("group commit"). Each runs in a savepoint of its own: one
//! that fails is undone alone. A caller hears of success only after the commit, and a caller that stops waiting does
//! not stop its write.

use crate::StoreError;
use sqlx::{Connection, SqliteConnection};
use std::{fs::File, future::Future, pin::Pin, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// What a write returns while it runs.
pub(crate) type Running<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// One write: all it needs is in its arguments, so that it can be run again.
pub(crate) type Write<A, T> = for<'c> fn(&'c A, &'c mut SqliteConnection) -> Running<'c, T>;

/// The way to the writer task.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

impl Writer {
    /// Starts the task. It owns the connection and the lock of the folder, and lets go of both when it ends: after
    /// [`Writer::close`], or when the last sender is gone.
    pub(crate) fn start(connection: SqliteConnection, lock: File) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(serve(connection, messages, lock));
        Self { queue }
    }

    /// Runs a write and waits until it is durable.
    pub(crate) async fn write<A, T>(&self, arguments: A, run: Write<A, T>) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call { arguments, run, result: None, reply };
        self.queue.send(Message::Write(Box::new(call))).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes the log back into the database and empties it: what was deleted is in neither any more. Where a reader is in
    /// the middle of something, this returns before it is so, and it is tried again until it is.
    pub(crate) async fn empty_log(&self) {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Message::EmptyLog(reply)).await.is_ok() {
            answer.await.ok();
        }
    }

    /// Commits what is queued, then closes the connection. Later writes are refused.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        // Either failure means that it is closed already.
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            answer.await.ok();
        }
    }
}

enum Message {
    Write(Box<dyn Job>),
    EmptyLog(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

async fn serve(mut connection: SqliteConnection, mut messages: mpsc::Receiver<Message>, lock: File) {
    let mut closing = Vec::new();
    let mut emptying: Vec<oneshot::Sender<()>> = Vec::new();
    let mut batch: Vec<Box<dyn Job>> = Vec::new();
    let mut received = Vec::new();
    let mut unemptied = false;
    loop {
        let next = messages.recv_many(&mut received, BATCH_MAX);
        let count = if unemptied { tokio::time::timeout(EMPTY_AGAIN, next).await } else { Ok(next.await) };
        match count {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => {
                unemptied = !empty_log(&mut connection).await;
                continue;
            }
        }
        for message in received.drain(..) {
            match message {
                Message::Write(job) => batch.push(job),
                Message::EmptyLog(reply) => emptying.push(reply),
                Message::Close(reply) => {
                    // What is queued is still taken, and `recv_many` answers 0 after it.
                    messages.close();
                    closing.push(reply);
                }
            }
        }
        commit(&mut connection, std::mem::take(&mut batch)).await;
        if unemptied || !emptying.is_empty() {
            unemptied = !empty_log(&mut connection).await;
            for reply in emptying.drain(..) {
                reply.send(()).ok();
            }
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the database did not close cleanly");
    }
    drop(lock);
    for reply in closing {
        reply.send(()).ok();
    }
}

/// Whether the log is empty now. It waits for no reader: whatever is queued would wait as well.
async fn empty_log(connection: &mut SqliteConnection) -> bool {
    let emptied = async {
        execute(connection, "PRAGMA busy_timeout = 0").await?;
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
        Ok::<_, StoreError>(busy == 0)
    }
    .await;
    let patient = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {}", crate::BUSY_TIMEOUT.as_millis()));
    if let Err(error) = sqlx::query(patient).execute(connection).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the database does not wait for others any more");
    }
    emptied.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "the database's log was not emptied");
        false
    })
}

/// Commits all jobs at once, or, where the transaction as a whole fails, one by one.
async fn commit(connection: &mut SqliteConnection, mut jobs: Vec<Box<dyn Job>>) {
    if jobs.len() > 1 {
        match together(connection, &mut jobs).await {
            Ok(()) => return jobs.into_iter().for_each(|job| job.settle(Ok(()))),
            Err(error) => {
                // A full disk, say: each caller gets its own chance, since a smaller write may still fit.
                tracing::warn!(error = &error as &dyn std::error::Error, jobs = jobs.len(), "a group commit failed");
                rollback(connection).await;
            }
        }
    }
    for mut job in jobs {
        let outcome = alone(connection, job.as_mut()).await;
        if outcome.is_err() {
            rollback(connection).await;
        }
        job.settle(outcome);
    }
}

async fn together(connection: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    execute(connection, "BEGIN IMMEDIATE").await?;
    for job in jobs {
        execute(connection, "SAVEPOINT job").await?;
        if !job.run(connection).await {
            // Fails where the error ended the whole transaction, as a full disk may.
            execute(connection, "ROLLBACK TO job").await?;
        }
        execute(connection, "RELEASE job").await?;
    }
    execute(connection, "COMMIT").await
}

async fn alone(connection: &mut SqliteConnection, job: &mut dyn Job) -> Result<(), StoreError> {
    execute(connection, "BEGIN IMMEDIATE").await?;
    if job.run(connection).await {
        execute(connection, "COMMIT").await
    } else {
        rollback(connection).await;
        Ok(())
    }
}

async fn rollback(connection: &mut SqliteConnection) {
    // Its only failure is that there is no transaction any more, which is what is wanted.
    execute(connection, "ROLLBACK").await.ok();
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}

/// A write with its waiting caller.
trait Job: Send {
    /// Runs inside a transaction and remembers the result; true where it is to be kept.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Pin<Box<dyn Future<Output = bool> + Send + 'c>>;

    /// Answers the caller: with what `run` remembered, or with why it was not committed.
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Call<A, T> {
    arguments: A,
    run: Write<A, T>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<A: Send + Sync, T: Send> Job for Call<A, T> {
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Pin<Box<dyn Future<Output = bool> + Send + 'c>> {
        Box::pin(async move {
            let result = (self.run)(&self.arguments, connection).await;
            self.result.insert(result).is_ok()
        })
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // A job is settled as committed only after it ran.
        let result = committed.and_then(|()| result.unwrap_or(Err(StoreError::Closed)));
        // A caller that is gone does not need the answer.
        reply.send(result).ok();
    }
}

/// After a reader stood in the way of emptying the log.
const EMPTY_AGAIN: Duration = Duration::from_millis(500);
/// Writes that wait; further callers wait for a place.
const QUEUE_LEN: usize = 1024;
/// Writes of one commit: bounds how much one failure can throw back.
const BATCH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use crate::{Store, StoreError};
    use tempfile::tempdir;

    /// One write that the disk has no room for is thrown back alone, though it ends the transaction of all.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_database_throws_back_only_what_does_not_fit() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempdir()?;
        let store = Store::open(folder.path()).await?;
        let pages = store
            .writer()
            .write((), |(), connection| {
                Box::pin(async move {
                    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await?;
                    let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 8));
                    sqlx::query(limit).execute(connection).await?;
                    Ok(pages)
                })
            })
            .await?;
        assert!(pages > 1);
        let keys = (0..32_u8).map(|at| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = if at % 8 == 5 { "x".repeat(1_000_000) } else { format!("key-{at}") };
                store.idempotent("site-a", &key, [at; 32], 0).await
            })
        });
        for (at, reserved) in keys.collect::<Vec<_>>().into_iter().enumerate() {
            match reserved.await? {
                Ok(_) => assert_ne!(at % 8, 5),
                Err(StoreError::Full { .. }) => assert_eq!(at % 8, 5),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }
}
