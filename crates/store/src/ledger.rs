//! The privacy ledger on disk: what [`sordino_dp::ledger`] decides is durable before anybody hears of it.
//!
//! Two files belong to one ledger. The *entries* are appended, each after its length, chained and authenticated by the
//! rules. The *counter* says how many were acknowledged and which was the last; it is kept in another place, so that a
//! restored older copy of the entries is found out. For each append, in this order: the entries are written with one write
//! and synced; the counter is replaced, and that is synced; the callers are answered.
//!
//! **Promised.** A charge that was answered survives the death of the process and the loss of power. After a crash, entries
//! that were written and not counted are kept, and what is not whole behind the counter, which nobody was told of, is cut
//! off. Anything else that is not as it was written stops the ledger: [`LedgerStoreError`] says what and which file. After a
//! write that failed, a full disk say, the ledger is read again from its files before anything is decided, as soon as they
//! can be written again.
//!
//! **Trusted.** Whoever holds the key. Whoever can write to both places can set both back to older copies, which is not
//! noticed here: they should be under different hands, or at least on different disks and not in one backup.
//!
//! **Only one program** charges a ledger: the entries are locked, and so is the counter (by a file beside it), which also
//! covers copies of the entries. That needs a file system with locks; where they don't work, a counter that moved
//! underneath is noticed at the next charge.
//!
//! Time is an argument, since the Unix epoch; it is for people, and no rule depends on it.

mod books;
mod counter;
mod error;
mod files;
mod frames;
mod site;
#[cfg(test)]
mod tests;
mod writer;

pub use error::LedgerStoreError;
pub use site::SiteLedger;

use crate::folder;
use books::{Books, Rules};
use sordino_dp::ledger::{
    Account, Ask, Authorisation, Decision, Entry, Evidence, LedgerKey, Name, Refusal, RenyiAccount, ReservationId,
    Scope, Spending, Status, Terms,
};
use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use writer::{Change, Message};

/// What a release did, as the product's accounts take it.
pub type LedgerEvent = <RenyiAccount as Account>::Event;

/// A ledger that many tasks charge at once. Clones share it; what waits together shares one append.
#[derive(Clone)]
pub struct PrivacyLedger {
    queue: mpsc::Sender<Message>,
}

impl PrivacyLedger {
    /// Opens a ledger and verifies all of it; makes both files where there is neither. Must be called inside a tokio
    /// runtime; a thread of its own then does the writing.
    ///
    /// - `ledger`: the file of entries.
    /// - `counter`: the file that shows when an older copy of the entries was restored; best kept on another disk, and out of
    ///   the backup that has the entries.
    ///
    /// # Errors
    /// [`LedgerStoreError`], all but `Refused` and `Closed`.
    pub async fn open(ledger: &Path, counter: &Path, key: LedgerKey) -> Result<Self, LedgerStoreError> {
        let (ledger, counter) = (ledger.to_owned(), counter.to_owned());
        folder::blocking(move || {
            let books = Books::open(&ledger, &counter, key)?;
            let (queue, messages) = mpsc::channel(writer::QUEUE_LEN);
            std::thread::Builder::new()
                .name("privacy-ledger".into())
                .spawn(move || writer::serve(books, messages))
                .map_err(|source| LedgerStoreError::io(&ledger, source))?;
            Ok(Self { queue })
        })
        .await
    }

    /// Gives a scope its budget. Repeating it with the same terms changes nothing.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] where the scope has another budget; whatever a write may say.
    pub async fn open_scope(&self, scope: Scope, terms: Terms, now: Duration) -> Result<(), LedgerStoreError> {
        self.change(Box::new(move |rules| rules.open_scope(scope, terms, now))).await
    }

    /// Charges one release; participants may be contacted once this returns a grant. Asking again for the same id charges
    /// once, so a caller that does not know what became of its request repeats it.
    ///
    /// # Errors
    /// Whatever a write may say: [`LedgerStoreError::Full`], [`LedgerStoreError::Io`] and the like. Refusals, such as
    /// [`sordino_dp::ledger::PrivacyBudgetExhausted`], are in the decision.
    pub async fn reserve(&self, ask: Ask<LedgerEvent>, now: Duration) -> Result<Decision, LedgerStoreError> {
        let ask = Box::new(ask);
        self.ask(|reply| Message::Reserve { ask, now, reply }).await
    }

    /// Records that a reserved release was made; it stays spent for good. Repeating it with the same release changes
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for a reservation that is unknown, aborted, or committed with another release;
    /// whatever a write may say.
    pub async fn commit(&self, id: ReservationId, release: [u8; 32], now: Duration) -> Result<(), LedgerStoreError> {
        self.change(Box::new(move |rules| rules.commit(&id, release, now))).await
    }

    /// Gives a reservation back: nothing of it was or will be opened. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for a reservation that is unknown or committed; whatever a write may say.
    pub async fn abort(&self, id: ReservationId, evidence: Evidence, now: Duration) -> Result<(), LedgerStoreError> {
        self.change(Box::new(move |rules| rules.abort(&id, evidence, now))).await
    }

    /// Begins a scope again, with a budget that may differ. Reservations that are open stay charged.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for an unknown scope; whatever a write may say.
    pub async fn reset(
        &self,
        scope: Scope,
        terms: Terms,
        authorisation: Authorisation,
        now: Duration,
    ) -> Result<(), LedgerStoreError> {
        self.change(Box::new(move |rules| rules.reset(&scope, terms, authorisation, now))).await
    }

    /// What a scope has spent; none for a scope without a budget.
    ///
    /// # Errors
    /// As for all questions: [`LedgerStoreError::Closed`]; and after a write that failed, whatever opening may say.
    pub async fn spending(&self, scope: &Scope) -> Result<Option<Spending>, LedgerStoreError> {
        let scope = scope.clone();
        self.question(move |rules| rules.spent(&scope).map_err(LedgerStoreError::of_call)).await
    }

    /// Epsilon of the releases of a scope that a participant was invited to; 0 for somebody who never was, none for a
    /// scope without a budget.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn spent_by(&self, scope: &Scope, participant: &Name) -> Result<Option<f64>, LedgerStoreError> {
        let (scope, participant) = (scope.clone(), participant.clone());
        self.question(move |rules| rules.spent_by(&scope, &participant).map_err(LedgerStoreError::of_call)).await
    }

    /// Epsilon of a scope if this release were charged too, or why it would be refused; nothing changes.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn preview(&self, scope: &Scope, event: LedgerEvent) -> Result<Result<f64, Refusal>, LedgerStoreError> {
        let scope = scope.clone();
        self.question_of_books(move |books| Ok(books.rules()?.preview(&scope, &event))).await
    }

    /// The participant of a scope that has spent most, and how much; none where no participant is known. Asks every
    /// participant's account while charges wait: for reports, not for rounds.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn worst_participant(&self, scope: &Scope) -> Result<Option<(Name, f64)>, LedgerStoreError> {
        let scope = scope.clone();
        self.question(move |rules| {
            let worst = rules.worst_participant(&scope).map_err(LedgerStoreError::of_call)?;
            Ok(worst.map(|(name, spent)| (name.clone(), spent)))
        })
        .await
    }

    /// All scopes with a budget, in order.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn scopes(&self) -> Result<Vec<Scope>, LedgerStoreError> {
        self.question(|rules| Ok(rules.scopes().cloned().collect())).await
    }

    /// Reservations that are neither committed nor aborted, in order. After a crash these are the ones to look into; they
    /// stay spent until somebody does.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn open_reservations(&self) -> Result<Vec<(ReservationId, Scope)>, LedgerStoreError> {
        self.question(|rules| Ok(open_reservations(rules))).await
    }

    /// What a scope is charged for, in the order of ids, with the canonical bytes of the event.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn charges(&self, scope: &Scope) -> Result<Vec<(ReservationId, Vec<u8>)>, LedgerStoreError> {
        let scope = scope.clone();
        self.question(move |rules| Ok(rules.charges(&scope).map(|(id, event)| (id.clone(), event.to_vec())).collect()))
            .await
    }

    /// What became of a reservation; none where nothing was reserved under this id.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`].
    pub async fn status(&self, id: &ReservationId) -> Result<Option<Status>, LedgerStoreError> {
        let id = id.clone();
        self.question(move |rules| Ok(rules.status(&id))).await
    }

    /// The history, from entry `from` (the first is 0) on, `limit` entries at most; fewer come where they are long, one at
    /// least. Where it is empty, there are no more.
    ///
    /// # Errors
    /// As [`PrivacyLedger::spending`]; [`LedgerStoreError::Damaged`] for what is no entry any more.
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerStoreError> {
        self.question_of_books(move |books| {
            // After a failure, the files have to be made whole first.
            books.rules()?;
            books.files.entries(from, limit)
        })
        .await
    }

    /// Does what is queued, then unlocks the files. Later calls, on clones too, get [`LedgerStoreError::Closed`]. Where it is
    /// not called, the same happens in the background some time after the last clone is dropped.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        // Either failure means that it is closed already.
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            answer.await.ok();
        }
    }

    async fn change(&self, change: Change) -> Result<(), LedgerStoreError> {
        self.ask(|reply| Message::Change { change, reply }).await
    }

    async fn question<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Rules) -> Result<T, LedgerStoreError> + Send + 'static,
    ) -> Result<T, LedgerStoreError> {
        self.question_of_books(move |books| question(books.rules()?)).await
    }

    async fn question_of_books<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Books) -> Result<T, LedgerStoreError> + Send + 'static,
    ) -> Result<T, LedgerStoreError> {
        self.ask(|reply| {
            Message::Question(Box::new(move |books| {
                // A caller that is gone does not need the answer.
                reply.send(question(books)).ok();
            }))
        })
        .await
    }

    async fn ask<T>(&self, message: impl FnOnce(writer::Reply<T>) -> Message) -> Result<T, LedgerStoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(message(reply)).await.map_err(|_| LedgerStoreError::Closed)?;
        answer.await.map_err(|_| LedgerStoreError::Closed)?
    }
}

fn open_reservations(rules: &Rules) -> Vec<(ReservationId, Scope)> {
    rules.open_reservations().map(|(id, scope)| (id.clone(), scope.clone())).collect()
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create_folder_of(path: &Path) -> Result<(), LedgerStoreError> {
    folder::create_private(folder_of(path)).map_err(|source| LedgerStoreError::io(folder_of(path), source))
}

fn sync_folder_of(path: &Path) -> Result<(), LedgerStoreError> {
    folder::sync(folder_of(path)).map_err(|source| LedgerStoreError::io(folder_of(path), source))
}

/// Takes a file for this program, as long as it is open. The lock dies with the process even on SIGKILL.
fn take(file: &File, path: &Path) -> Result<(), LedgerStoreError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => LedgerStoreError::Locked { path: path.to_owned() },
        TryLockError::Error(source) => LedgerStoreError::io(path, source),
    })
}
