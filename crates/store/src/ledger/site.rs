//! The ledger of a site, which does one thing at a time.

use super::{Books, LedgerEvent, LedgerStoreError};
use sordino_dp::ledger::{
    Ask, Authorisation, Decision, Entry, Evidence, LedgerKey, Refusal, ReservationId, Scope, Spending, Status, Terms,
};
use std::{path::Path, time::Duration};

/// A privacy ledger without concurrency: each call returns when it is durable. The same files as [`super::PrivacyLedger`].
pub struct SiteLedger(Books);

impl SiteLedger {
    /// Opens a ledger and verifies all of it; makes both files where there is neither.
    ///
    /// - `ledger`: the file of entries.
    /// - `counter`: the file that shows when an older copy of the entries was restored; best kept on another disk, and out of
    ///   the backup that has the entries.
    ///
    /// # Errors
    /// [`LedgerStoreError`], all but `Refused` and `Closed`.
    pub fn open(ledger: &Path, counter: &Path, key: LedgerKey) -> Result<Self, LedgerStoreError> {
        Books::open(ledger, counter, key).map(Self)
    }

    /// Gives a scope its budget. Repeating it with the same terms changes nothing.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] where the scope has another budget; whatever a write may say.
    pub fn open_scope(&mut self, scope: Scope, terms: Terms, now: Duration) -> Result<(), LedgerStoreError> {
        self.0.change(|rules| rules.open_scope(scope, terms, now))
    }

    /// Charges one release, before anything of it is done. Asking again for the same id charges once.
    ///
    /// # Errors
    /// Whatever a write may say; refusals are in the decision.
    pub fn reserve(&mut self, ask: Ask<LedgerEvent>, now: Duration) -> Result<Decision, LedgerStoreError> {
        let mut decisions = self.reserve_all(vec![ask], now)?;
        Ok(decisions.pop().expect("one decision for each request"))
    }

    /// Charges several, in order, with one write; one refusal leaves the others as they are.
    ///
    /// # Errors
    /// Whatever a write may say.
    pub fn reserve_all(
        &mut self,
        asks: Vec<Ask<LedgerEvent>>,
        now: Duration,
    ) -> Result<Vec<Decision>, LedgerStoreError> {
        self.0.change(|rules| rules.reserve(asks, now))
    }

    /// Records that a reserved release was made; it stays spent for good.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for a reservation that is unknown, aborted, or committed with another release;
    /// whatever a write may say.
    pub fn commit(&mut self, id: &ReservationId, release: [u8; 32], now: Duration) -> Result<(), LedgerStoreError> {
        self.0.change(|rules| rules.commit(id, release, now))
    }

    /// Gives a reservation back: nothing of it was or will be opened.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for a reservation that is unknown or committed; whatever a write may say.
    pub fn abort(&mut self, id: &ReservationId, evidence: Evidence, now: Duration) -> Result<(), LedgerStoreError> {
        self.0.change(|rules| rules.abort(id, evidence, now))
    }

    /// Begins a scope again, with a budget that may differ. Reservations that are open stay charged.
    ///
    /// # Errors
    /// [`LedgerStoreError::Refused`] for an unknown scope; whatever a write may say.
    pub fn reset(
        &mut self,
        scope: &Scope,
        terms: Terms,
        authorisation: Authorisation,
        now: Duration,
    ) -> Result<(), LedgerStoreError> {
        self.0.change(|rules| rules.reset(scope, terms, authorisation, now))
    }

    /// Epsilon of a scope if this release were charged too, or why it would be refused; nothing changes.
    ///
    /// # Errors
    /// After a write that failed, whatever opening may say.
    pub fn preview(&mut self, scope: &Scope, event: &LedgerEvent) -> Result<Result<f64, Refusal>, LedgerStoreError> {
        Ok(self.0.rules()?.preview(scope, event))
    }

    /// What a scope has spent; none for a scope without a budget.
    ///
    /// # Errors
    /// After a write that failed, whatever opening may say.
    pub fn spent(&mut self, scope: &Scope) -> Result<Option<Spending>, LedgerStoreError> {
        self.0.rules()?.spent(scope).map_err(LedgerStoreError::of_call)
    }

    /// Whether anything is charged that was neither committed nor aborted, to any scope. A site does neither, so this is
    /// whether it ever charged anything.
    ///
    /// # Errors
    /// As [`SiteLedger::spent`].
    pub fn is_charged(&mut self) -> Result<bool, LedgerStoreError> {
        Ok(self.0.rules()?.open_reservations().next().is_some())
    }

    /// What became of a reservation; none where nothing was reserved under this id.
    ///
    /// # Errors
    /// As [`SiteLedger::spent`].
    pub fn status(&mut self, id: &ReservationId) -> Result<Option<Status>, LedgerStoreError> {
        Ok(self.0.rules()?.status(id))
    }

    /// Reservations that are neither committed nor aborted, in order.
    ///
    /// # Errors
    /// As [`SiteLedger::spent`].
    pub fn open_reservations(&mut self) -> Result<Vec<(ReservationId, Scope)>, LedgerStoreError> {
        Ok(super::open_reservations(self.0.rules()?))
    }

    /// The history, from entry `from` on, `limit` entries at most; fewer come where they are long, one at least.
    ///
    /// # Errors
    /// As [`SiteLedger::spent`]; [`LedgerStoreError::Damaged`] for what is no entry any more.
    pub fn entries(&mut self, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerStoreError> {
        self.0.rules()?;
        self.0.files.entries(from, limit)
    }
}
