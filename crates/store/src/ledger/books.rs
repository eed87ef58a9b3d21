//! The rules with their files: what the ledgers of coordinator and site have in common.

use super::{LedgerStoreError, files::LedgerFiles};
use sordino_dp::ledger::{Counter, Ledger, LedgerError, LedgerKey, RenyiAccount, Staged};
use std::path::Path;

/// The rules over the product's accounts.
pub(super) type Rules = Ledger<RenyiAccount>;

/// A ledger, open.
pub(super) struct Books {
    pub(super) files: LedgerFiles,
    /// None after a failure: what is in memory may not be what is stored. It is read again before anything is decided.
    rules: Option<Rules>,
}

impl Books {
    /// # Errors
    /// All that is said of [`LedgerFiles::open`] and [`LedgerFiles::replay`].
    pub(super) fn open(ledger: &Path, counter: &Path, key: LedgerKey) -> Result<Self, LedgerStoreError> {
        let mut books = Self { files: LedgerFiles::open(ledger, counter, key)?, rules: None };
        books.rules()?;
        Ok(books)
    }

    /// The rules, with all that is stored.
    ///
    /// # Errors
    /// After a failure, what is said of [`LedgerFiles::replay`].
    pub(super) fn rules(&mut self) -> Result<&mut Rules, LedgerStoreError> {
        let rules = match self.rules.take() {
            Some(rules) => rules,
            None => self.files.replay()?,
        };
        Ok(self.rules.insert(rules))
    }

    /// Decides something. After [`LedgerStoreError::Undecided`] what was staged before can still be written, and then
    /// everything has to be read again: [`Books::forget`].
    pub(super) fn stage<T>(
        &mut self,
        decide: impl FnOnce(&mut Rules) -> Result<Staged<T>, LedgerError>,
    ) -> Result<Staged<T>, LedgerStoreError> {
        decide(self.rules()?).map_err(LedgerStoreError::of_call)
    }

    /// Makes what was staged durable and counts it, all at once.
    ///
    /// - `before`, `after`: of the first and of the last.
    pub(super) fn write(
        &mut self,
        entries: &[&[u8]],
        before: &Counter,
        after: &Counter,
    ) -> Result<(), LedgerStoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let written = self.files.append(entries, before, after);
        if let Err(why) = &written {
            tracing::error!(error = why as &dyn std::error::Error, "the privacy ledger was not written");
            self.forget();
        }
        written
    }

    /// The outcome of what was written.
    pub(super) fn acknowledge<T>(&mut self, staged: Staged<T>) -> Result<T, LedgerStoreError> {
        // Without rules the write failed, and nobody comes here.
        let rules = self.rules.as_mut().ok_or(LedgerStoreError::Closed)?;
        rules.acknowledge(staged).map_err(LedgerStoreError::of_call)
    }

    /// Decides, writes and acknowledges one thing.
    pub(super) fn change<T>(
        &mut self,
        decide: impl FnOnce(&mut Rules) -> Result<Staged<T>, LedgerError>,
    ) -> Result<T, LedgerStoreError> {
        let staged = match self.stage(decide) {
            Err(why @ LedgerStoreError::Undecided(_)) => {
                self.forget();
                return Err(why);
            }
            staged => staged?,
        };
        let entries: Vec<&[u8]> = staged.entries().iter().map(Vec::as_slice).collect();
        self.write(&entries, &staged.before(), &staged.after())?;
        self.acknowledge(staged)
    }

    /// Reads everything again before the next decision.
    pub(super) fn forget(&mut self) {
        self.rules = None;
    }
}
