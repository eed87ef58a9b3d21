//! The budget ledger: charges before anybody is asked for anything, and is never talked out of it.
//!
//! The rules are a state machine without files or clocks. Every change is a list of entries that the caller makes
//! durable; the answer comes out when it says that they are:
//!
//! ```text
//! let staged = ledger.reserve(asks, now)?;        // decided, in order; nothing granted yet
//! store.append(staged.entries())?;                // one fsync for all of them
//! counter.compare_and_swap(staged.before(), staged.after())?;   // kept apart from the entries
//! let decisions = ledger.acknowledge(staged)?;    // now participants may be contacted
//! ```
//!
//! Several calls may be staged before the first is acknowledged, and share an fsync. Where storing fails, the ledger is
//! dropped and opened again.
//!
//! # Rules
//! 1. The state is a list of events. Epsilon is computed for all of them together; epsilons are never added.
//! 2. [`Ledger::reserve`] evaluates all events *with the new one*. More than the budget is refused with
//!    [`PrivacyBudgetExhausted`], nothing is charged; exactly the budget is granted.
//! 3. [`Ledger::commit`] ends a reservation for good. [`Ledger::abort`] gives it back, with [`Evidence`] that nothing was
//!    opened. A reservation of which nothing is known, as after a crash, stays spent.
//! 4. Asking twice for the same [`ReservationId`] charges once and gives the first answer. Another attempt is another
//!    charge.
//! 5. Entries are chained, authenticated and counted: see below.
//! 6. [`Warning`]s at 80 % and 95 % are entries of their own, once each; being exhausted is another state, which can come
//!    before them.
//! 7. Budgets belong to a [`Scope`], whatever tasks use it, and may limit each participant beside it. A reset is an entry
//!    with its order, and does not forget open reservations.
//!
//! # Threat model
//! - *Crashes* at any point: an entry that was cut short and never acknowledged is dropped; whatever was acknowledged
//!   counts. Spending can be overstated, never understated.
//! - *Whoever writes to the storage, without the key*: can destroy the ledger, and change nothing unnoticed. A single
//!   flipped bit in what was acknowledged stops every task.
//! - *Whoever restores an older copy*: is found out by the [`Counter`], which therefore lives elsewhere. Who can set back
//!   both is not held up here; entries also go to the evidence log.
//! - *Two programs on one ledger*: the second one's counter does not move, and its entries fork the chain. Only one may
//!   write, which is the caller's lock to hold.
//! - *The holder of the key* is trusted, and so is who makes [`Evidence`].

#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        clippy::panic,
        clippy::cast_possible_truncation,
        reason = "tests fail by panicking and cast what they chose"
    )
)]

mod account;
mod bytes;
mod chain;
mod entry;
mod error;
mod names;
mod renyi;
mod spending;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use account::{Account, EVENT_MAX};
pub use bytes::Malformed;
pub use chain::{COUNTER_LEN, Counter, Hash, LedgerKey, frame, split};
pub use entry::{Entry, PARTICIPANTS_MAX, Record, Warning};
pub use error::{Damage, Invalid, LedgerError, PrivacyBudgetExhausted, Refusal};
pub use names::{Authorisation, Evidence, Finding, NAME_MAX, Name, ReservationId, Scope, Terms};
pub use renyi::{RenyiAccount, RenyiCost};
pub use spending::{Spending, Status};

use spending::{Budget, Costs, Reservation};

/// The ledger of all scopes that one program charges.
pub struct Ledger<A: Account> {
    key: LedgerKey,
    /// After everything staged.
    staged: Counter,
    /// After everything acknowledged.
    durable: Counter,
    scopes: BTreeMap<Scope, Budget<A>>,
    reservations: BTreeMap<ReservationId, Reservation>,
    costs: Costs<A>,
    /// A call failed halfway: memory is ahead of what can be written.
    broken: bool,
}

/// A request for one release.
#[derive(Debug, Clone)]
pub struct Ask<E> {
    /// Which charge.
    pub id: ReservationId,
    /// Whose budget.
    pub scope: Scope,
    /// What the release will do.
    pub event: E,
    /// Who is to be invited; may be empty where a site charges for itself.
    pub participants: Vec<Name>,
}

/// A charge that was made: the release may go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Which charge.
    pub id: ReservationId,
    /// Epsilon of everything in the scope when this was granted, this included; rounded up.
    pub spent: f64,
    /// The scope's budget when this was granted.
    pub total: f64,
    /// At this delta.
    pub delta: f64,
    /// A warning that this charge set off.
    pub warning: Option<Warning>,
    /// Whether this is the first answer.
    pub standing: Standing,
}

/// Where a reservation stands when it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was made by this request.
    New,
    /// It was made before and is open. Go on with what is stored of this attempt; running it again from the beginning
    /// would draw other noise for the same charge, and takes a new attempt.
    Open,
    /// Its release was made, with this digest: serve what is stored.
    Committed([u8; 32]),
}

/// The answer to an [`Ask`].
pub type Decision = Result<Granted, Refusal>;

/// What was decided and is not durable yet. The outcome is out of reach until [`Ledger::acknowledge`].
#[must_use = "make the entries durable, move the counter, then acknowledge"]
#[derive(Debug)]
pub struct Staged<T> {
    before: Counter,
    after: Counter,
    entries: Vec<Vec<u8>>,
    outcome: T,
}

impl<T> Staged<T> {
    /// To be appended in this order. None where nothing changed.
    #[must_use]
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// Where the counter has to stand before.
    #[must_use]
    pub fn before(&self) -> Counter {
        self.before
    }

    /// Where the counter has to stand after the entries are durable and before the outcome is used.
    #[must_use]
    pub fn after(&self) -> Counter {
        self.after
    }
}

/// What [`Ledger::open`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Where the counter has to be set before anything is reserved: entries that were written and not yet counted when
    /// the program ended are kept.
    pub counter: Counter,
    /// The last entry given was cut short, never acknowledged, and is to be removed from the storage; why it is no entry.
    pub discarded: Option<Damage>,
}

impl<A: Account> Ledger<A> {
    /// Opens a ledger and verifies all of it.
    ///
    /// - `entries`: as stored, in order.
    /// - `counter`: the copy that is kept apart; [`Counter::start`] for a new ledger.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], [`LedgerError::RolledBack`], [`LedgerError::Forked`], [`LedgerError::Inconsistent`],
    /// [`LedgerError::Account`]: no task of this ledger may go on.
    pub fn open<B: AsRef<[u8]>>(
        entries: impl IntoIterator<Item = B>,
        counter: Counter,
        key: LedgerKey,
    ) -> Result<(Self, Recovered), LedgerError> {
        let start = Counter::start();
        let mut ledger = Self {
            key,
            staged: start,
            durable: start,
            scopes: BTreeMap::new(),
            reservations: BTreeMap::new(),
            costs: Costs::new(),
            broken: false,
        };
        let mut discarded = None;
        let mut entries = entries.into_iter().peekable();
        // A counter at the start has a head too.
        ledger.compare(&counter)?;
        while let Some(bytes) = entries.next() {
            let at = ledger.staged.entries;
            match chain::check(&ledger.key, &mut ledger.staged, bytes.as_ref()) {
                Ok(entry) => {
                    ledger.compare(&counter)?;
                    ledger.replay(at, entry.record)?;
                }
                // Only the last write can have been cut short, and only before it was counted.
                Err(damage) if at >= counter.entries && entries.peek().is_none() => discarded = Some(damage),
                Err(damage) => return Err(LedgerError::Damaged { at, damage }),
            }
        }
        if ledger.staged.entries < counter.entries {
            return Err(LedgerError::RolledBack { entries: ledger.staged.entries, counter: counter.entries });
        }
        ledger.durable = ledger.staged;
        let recovered = Recovered { counter: ledger.durable, discarded };
        Ok((ledger, recovered))
    }

    /// Gives a scope its budget. Repeating it with the same terms changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::OtherTerms`] where the scope has another budget; [`LedgerError::Account`] for a delta that the
    /// accountant does not take.
    pub fn open_scope(&mut self, scope: Scope, terms: Terms, now: Duration) -> Result<Staged<()>, LedgerError> {
        self.intact()?;
        match self.scopes.get(&scope) {
            Some(budget) if *budget.terms() == terms => return Ok(self.stage(Vec::new(), now, ())),
            Some(_) => return Err(LedgerError::OtherTerms(scope)),
            None => {}
        }
        let budget = Budget::new(terms).map_err(account)?;
        self.scopes.insert(scope.clone(), budget);
        Ok(self.stage(vec![Record::Opened { scope, terms }], now, ()))
    }

    /// Decides a batch of requests in order, each knowing those before it. One refusal leaves the others as they are.
    ///
    /// # Errors
    /// [`LedgerError::Broken`]; [`LedgerError::Account`] where the accountant takes back what it said: open again.
    pub fn reserve(&mut self, asks: Vec<Ask<A::Event>>, now: Duration) -> Result<Staged<Vec<Decision>>, LedgerError> {
        self.intact()?;
        let mut records = Vec::new();
        // Until the batch is whole, nothing of it can be written.
        self.broken = true;
        let mut decisions = Vec::with_capacity(asks.len());
        for ask in asks {
            decisions.push(self.decide(ask, &mut records)?);
        }
        self.broken = false;
        Ok(self.stage(records, now, decisions))
    }

    /// Records that a reserved release was made; it stays spent for good. Repeating it with the same release changes
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownReservation`]; [`LedgerError::Aborted`]: nothing may be released;
    /// [`LedgerError::Committed`] for another release under the same id: it needs a reservation of its own.
    pub fn commit(&mut self, id: &ReservationId, release: [u8; 32], now: Duration) -> Result<Staged<()>, LedgerError> {
        self.intact()?;
        match self.reservation(id)?.status {
            Status::Committed(made) if made == release => return Ok(self.stage(Vec::new(), now, ())),
            Status::Committed(_) => return Err(LedgerError::Committed(id.clone())),
            Status::Aborted => return Err(LedgerError::Aborted(id.clone())),
            Status::Open => {}
        }
        self.settle(id, release)?;
        Ok(self.stage(vec![Record::Committed { id: id.clone(), release }], now, ()))
    }

    /// Gives a reservation back: nothing of it was or will be opened. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::UnknownReservation`]; [`LedgerError::Committed`]: a release is never given back.
    pub fn abort(&mut self, id: &ReservationId, evidence: Evidence, now: Duration) -> Result<Staged<()>, LedgerError> {
        self.intact()?;
        match self.reservation(id)?.status {
            Status::Aborted => return Ok(self.stage(Vec::new(), now, ())),
            Status::Committed(_) => return Err(LedgerError::Committed(id.clone())),
            Status::Open => {}
        }
        self.give_back(id)?;
        Ok(self.stage(vec![Record::Aborted { id: id.clone(), evidence }], now, ()))
    }

    /// Begins a scope again, with a budget that may differ. Reservations that are open stay charged.
    ///
    /// # Errors
    /// [`LedgerError::UnknownScope`], [`LedgerError::Account`].
    pub fn reset(
        &mut self,
        scope: &Scope,
        terms: Terms,
        authorisation: Authorisation,
        now: Duration,
    ) -> Result<Staged<()>, LedgerError> {
        self.intact()?;
        self.begin_again(scope, terms)?;
        let record = Record::Reset { scope: scope.clone(), terms, authorisation };
        Ok(self.stage(vec![record], now, ()))
    }

    /// The outcome of a call whose entries are durable and counted.
    ///
    /// # Errors
    /// [`LedgerError::Order`] where an earlier call was not acknowledged: its entries may be missing.
    pub fn acknowledge<T>(&mut self, staged: Staged<T>) -> Result<T, LedgerError> {
        if staged.before != self.durable {
            let (durable, staged) = (self.durable.entries, staged.before.entries);
            return Err(LedgerError::Order { durable, staged });
        }
        self.durable = staged.after;
        Ok(staged.outcome)
    }

    /// What a scope has spent, everything staged included; none for a scope without a budget.
    ///
    /// # Errors
    /// [`LedgerError::Account`].
    pub fn spent(&self, scope: &Scope) -> Result<Option<Spending>, LedgerError> {
        self.scopes.get(scope).map(|budget| budget.spending().map_err(account)).transpose()
    }

    /// Epsilon of the releases of a scope that a participant was invited to, everything staged included; 0 for somebody
    /// who never was, none for a scope without a budget.
    ///
    /// # Errors
    /// [`LedgerError::Account`].
    pub fn spent_by(&self, scope: &Scope, participant: &Name) -> Result<Option<f64>, LedgerError> {
        self.scopes.get(scope).map(|budget| budget.spent_by(participant).map_err(account)).transpose()
    }

    /// The participant of a scope that has spent most, and how much; none where no participant is known. Asks every
    /// participant's account: for reports, not for rounds.
    ///
    /// # Errors
    /// [`LedgerError::Account`].
    pub fn worst_participant(&self, scope: &Scope) -> Result<Option<(&Name, f64)>, LedgerError> {
        self.scopes.get(scope).map_or(Ok(None), |budget| budget.worst_participant().map_err(account))
    }

    /// What a scope is charged for: all that is reserved or committed and not forgotten by a reset, in the order of ids,
    /// with the bytes of the event. An accountant that is slower and tighter can be asked about these.
    pub fn charges(&self, scope: &Scope) -> impl Iterator<Item = (&ReservationId, &[u8])> {
        let charged = self.reservations.iter().filter(move |(_, reservation)| {
            reservation.scope == *scope && reservation.status != Status::Aborted && !reservation.forgotten
        });
        charged.map(|(id, reservation)| (id, &reservation.event[..]))
    }

    /// Epsilon of a scope if this event were charged too, or why it would not be granted; nothing changes. What is granted
    /// then is decided when it is asked for.
    ///
    /// # Errors
    /// A [`Refusal`], as [`Ledger::reserve`] would give it.
    pub fn preview(&mut self, scope: &Scope, event: &A::Event) -> Result<f64, Refusal> {
        let budget = self.scopes.get(scope).ok_or_else(|| Refusal::UnknownScope(scope.clone()))?;
        let cost = self.costs.of(&A::encode(event), || A::cost(event));
        budget.allows(scope, &cost.map_err(|why| Refusal::Event(Box::new(why)))?, &[])
    }

    /// All scopes with a budget, in order.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    /// What became of a reservation, everything staged included; none where nothing was reserved under this id.
    #[must_use]
    pub fn status(&self, id: &ReservationId) -> Option<Status> {
        self.reservations.get(id).map(|reservation| reservation.status)
    }

    /// Reservations that are neither committed nor aborted, in order. After a crash these are the ones to look into; they
    /// stay spent until somebody does.
    pub fn open_reservations(&self) -> impl Iterator<Item = (&ReservationId, &Scope)> {
        let open = self.reservations.iter().filter(|(_, reservation)| reservation.status == Status::Open);
        open.map(|(id, reservation)| (id, &reservation.scope))
    }

    /// Whether and how a request is granted; charges it and writes what happened.
    fn decide(&mut self, ask: Ask<A::Event>, records: &mut Vec<Record>) -> Result<Decision, LedgerError> {
        let Ask { id, scope, event, mut participants } = ask;
        let bytes = A::encode(&event);
        if bytes.len() > EVENT_MAX {
            return Ok(Err(Invalid::Event { len: bytes.len(), max: EVENT_MAX }.into()));
        }
        let count = participants.len();
        participants.sort();
        participants.dedup();
        if participants.len() != count || count > PARTICIPANTS_MAX {
            return Ok(Err(Invalid::Participants { count, max: PARTICIPANTS_MAX }.into()));
        }
        if let Some(known) = self.reservations.get(&id) {
            let same = known.scope == scope && known.event == bytes && known.participants == participants;
            return Ok(match known.status {
                _ if !same => Err(Refusal::Conflict(id)),
                Status::Aborted => Err(Refusal::Aborted(id)),
                Status::Open | Status::Committed(_) => Ok(known.granted(id)),
            });
        }
        let Some(budget) = self.scopes.get_mut(&scope) else { return Ok(Err(Refusal::UnknownScope(scope))) };
        let cost = match self.costs.of(&bytes, || A::cost(&event)) {
            Ok(cost) => cost,
            Err(why) => return Ok(Err(Refusal::Event(Box::new(why)))),
        };
        let spent = match budget.allows(&scope, &cost, &participants) {
            Ok(spent) => spent,
            Err(refusal) => {
                if let Refusal::Exhausted(why) = &refusal
                    && budget.note_exhausted()
                {
                    let (spent, asked) = (why.spent, why.asked);
                    records.push(Record::Exhausted { scope, id, spent, asked });
                }
                return Ok(Err(refusal));
            }
        };
        budget.charge(&id, &cost, &participants).map_err(account)?;
        records.push(Record::Reserved {
            id: id.clone(),
            scope: scope.clone(),
            event: bytes.clone(),
            participants: participants.clone(),
            epsilon: spent,
        });
        let warning = budget.warn(spent);
        if let Some(level) = warning {
            records.push(Record::Warning { scope: scope.clone(), level, epsilon: spent });
        }
        let terms = *budget.terms();
        let reservation =
            Reservation { scope, event: bytes, participants, spent, terms, status: Status::Open, forgotten: false };
        let granted = Granted { warning, standing: Standing::New, ..reservation.granted(id.clone()) };
        self.reservations.insert(id, reservation);
        Ok(Ok(granted))
    }

    /// Takes an entry that was written before.
    fn replay(&mut self, at: u64, record: Record) -> Result<(), LedgerError> {
        let inconsistent = |what| LedgerError::Inconsistent { at, what };
        match record {
            Record::Opened { scope, terms } => {
                let budget = Budget::new(terms).map_err(account)?;
                if self.scopes.insert(scope, budget).is_some() {
                    return Err(inconsistent("a scope was opened twice"));
                }
            }
            Record::Reserved { id, scope, event: bytes, participants, epsilon: spent } => {
                let cost = self.costs.of(&bytes, || A::cost(&A::decode(&bytes)?)).map_err(account)?;
                let budget = self.scopes.get_mut(&scope).ok_or_else(|| inconsistent("no budget was opened for it"))?;
                // Charged whatever the budget says now: it was promised.
                budget.charge(&id, &cost, &participants).map_err(account)?;
                let terms = *budget.terms();
                let reservation = Reservation {
                    scope,
                    event: bytes,
                    participants,
                    spent,
                    terms,
                    status: Status::Open,
                    forgotten: false,
                };
                if self.reservations.insert(id, reservation).is_some() {
                    return Err(inconsistent("it was reserved twice"));
                }
            }
            Record::Committed { id, release } => {
                if self.reservation(&id).map_or(true, |known| known.status != Status::Open) {
                    return Err(inconsistent("what it commits is not open"));
                }
                self.settle(&id, release)?;
            }
            Record::Aborted { id, .. } => {
                if self.reservation(&id).map_or(true, |known| known.status != Status::Open) {
                    return Err(inconsistent("what it aborts is not open"));
                }
                self.give_back(&id)?;
            }
            Record::Warning { scope, level, .. } => {
                let budget = self.scopes.get_mut(&scope).ok_or_else(|| inconsistent("no budget was opened for it"))?;
                budget.note_warning(level);
            }
            Record::Exhausted { scope, .. } => {
                let budget = self.scopes.get_mut(&scope).ok_or_else(|| inconsistent("no budget was opened for it"))?;
                budget.note_exhausted();
            }
            Record::Reset { scope, terms, .. } => self.begin_again(&scope, terms)?,
        }
        Ok(())
    }

    /// Where the counter names the entry just read, its hash must be that entry's.
    fn compare(&self, counter: &Counter) -> Result<(), LedgerError> {
        if self.staged.entries == counter.entries && self.staged.head != counter.head {
            return Err(LedgerError::Forked { at: counter.entries.saturating_sub(1) });
        }
        Ok(())
    }

    fn settle(&mut self, id: &ReservationId, release: [u8; 32]) -> Result<(), LedgerError> {
        let (reservation, budget) = self.charged(id)?;
        let settled = budget.settle(id, &reservation.participants);
        reservation.status = Status::Committed(release);
        self.unless_broken(settled)
    }

    fn give_back(&mut self, id: &ReservationId) -> Result<(), LedgerError> {
        let (reservation, budget) = self.charged(id)?;
        reservation.status = Status::Aborted;
        let given_back = budget.give_back(id, &reservation.participants);
        self.unless_broken(given_back)
    }

    fn begin_again(&mut self, scope: &Scope, terms: Terms) -> Result<(), LedgerError> {
        let budget = self.scopes.get_mut(scope).ok_or_else(|| LedgerError::UnknownScope(scope.clone()))?;
        let begun = budget.reset(terms);
        for reservation in self.reservations.values_mut().filter(|reservation| reservation.scope == *scope) {
            reservation.forgotten = reservation.status != Status::Open;
        }
        self.unless_broken(begun)
    }

    /// An accountant that failed in the middle of a change leaves a ledger that must not go on.
    fn unless_broken(&mut self, change: Result<(), A::Error>) -> Result<(), LedgerError> {
        change.map_err(|why| {
            self.broken = true;
            account(why)
        })
    }

    fn reservation(&self, id: &ReservationId) -> Result<&Reservation, LedgerError> {
        self.reservations.get(id).ok_or_else(|| LedgerError::UnknownReservation(id.clone()))
    }

    /// A reservation and the budget that it is charged to.
    fn charged(&mut self, id: &ReservationId) -> Result<(&mut Reservation, &mut Budget<A>), LedgerError> {
        let reservation = self.reservations.get_mut(id).ok_or_else(|| LedgerError::UnknownReservation(id.clone()))?;
        let budget = self
            .scopes
            .get_mut(&reservation.scope)
            .ok_or_else(|| LedgerError::UnknownScope(reservation.scope.clone()))?;
        Ok((reservation, budget))
    }

    fn intact(&self) -> Result<(), LedgerError> {
        if self.broken { Err(LedgerError::Broken) } else { Ok(()) }
    }

    fn stage<T>(&mut self, records: Vec<Record>, now: Duration, outcome: T) -> Staged<T> {
        let before = self.staged;
        let entries = records.into_iter().map(|record| chain::seal(&self.key, &mut self.staged, now, record)).collect();
        Staged { before, after: self.staged, entries, outcome }
    }
}

fn account<E: std::error::Error + Send + Sync + 'static>(why: E) -> LedgerError {
    LedgerError::Account(Box::new(why))
}
