//! What a scope and its participants have spent.

use std::collections::BTreeMap;

use super::account::Account;
use super::entry::Warning;
use super::error::{PrivacyBudgetExhausted, Refusal};
use super::names::{Name, ReservationId, Scope, Terms};
use super::{Granted, Standing};

/// A report of a scope's budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spending {
    /// Epsilon of all releases reserved and made since the last reset, rounded up.
    pub spent: f64,
    /// What of the total is left, rounded down; 0 if none. Not a price list: what a release costs depends on those before.
    pub remaining: f64,
    /// The budget.
    pub terms: Terms,
    /// The highest warning so far.
    pub warning: Option<Warning>,
    /// The last request was refused.
    pub exhausted: bool,
    /// Reservations that are neither committed nor aborted.
    pub open: usize,
    /// Reservations committed since the last reset.
    pub committed: u64,
}

/// A reservation and what became of it.
pub(super) struct Reservation {
    pub(super) scope: Scope,
    /// The event's canonical bytes.
    pub(super) event: Vec<u8>,
    /// In order.
    pub(super) participants: Vec<Name>,
    /// Epsilon of the scope when it was granted.
    pub(super) spent: f64,
    /// The budget when it was granted.
    pub(super) terms: Terms,
    pub(super) status: Status,
    /// A reset came after it was settled: it is in no account any more.
    pub(super) forgotten: bool,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Neither committed nor aborted: it counts as spent.
    Open,
    /// Its release was made, with this digest.
    Committed([u8; 32]),
    /// It was given back: nothing of it may be released.
    Aborted,
}

impl Reservation {
    /// The answer that was given.
    pub(super) fn granted(&self, id: ReservationId) -> Granted {
        let (total, delta) = (self.terms.epsilon(), self.terms.delta());
        let standing = match self.status {
            Status::Committed(release) => Standing::Committed(release),
            Status::Open | Status::Aborted => Standing::Open,
        };
        Granted { id, spent: self.spent, total, delta, warning: None, standing }
    }
}

/// A scope's budget and all that was charged to it.
pub(super) struct Budget<A: Account> {
    terms: Terms,
    /// Without events; clones share what depends on delta alone.
    blank: A,
    all: Charges<A>,
    participants: BTreeMap<Name, Charges<A>>,
    committed: u64,
    warned: Option<Warning>,
    exhausted: bool,
}

impl<A: Account> Budget<A> {
    pub(super) fn new(terms: Terms) -> Result<Self, A::Error> {
        let blank = A::with_delta(terms.delta())?;
        let all = Charges::new(&blank);
        Ok(Self { terms, blank, all, participants: BTreeMap::new(), committed: 0, warned: None, exhausted: false })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Epsilon with this event, if scope and participants have it to spend.
    pub(super) fn allows(&self, scope: &Scope, cost: &A::Cost, participants: &[Name]) -> Result<f64, Refusal> {
        let refused = |why: A::Error| Refusal::Event(Box::new(why));
        let asked = self.all.total.epsilon_with(Some(cost)).map_err(refused)?;
        // Not `asked > total`: a NaN is no permission.
        if !within(asked, self.terms.epsilon()) {
            let spent = number(self.all.total.epsilon_with(None).map_err(refused)?);
            let asked = number(asked);
            let (total, delta) = (self.terms.epsilon(), self.terms.delta());
            return Err(PrivacyBudgetExhausted { scope: scope.clone(), spent, asked, total, delta }.into());
        }
        // Whoever took part in some of the scope's releases has spent no more than the scope.
        let Some(limit) = self.terms.participant_epsilon().filter(|limit| !within(asked, *limit)) else {
            return Ok(asked);
        };
        let mut names = Vec::new();
        for name in participants {
            let account = self.participants.get(name).map_or(&self.blank, |charges| &charges.total);
            if !within(account.epsilon_with(Some(cost)).map_err(refused)?, limit) {
                names.push(name.clone());
            }
        }
        if names.is_empty() { Ok(asked) } else { Err(Refusal::Participants { names }) }
    }

    pub(super) fn charge(&mut self, id: &ReservationId, cost: &A::Cost, participants: &[Name]) -> Result<(), A::Error> {
        self.exhausted = false;
        self.all.charge(id, cost)?;
        for name in participants {
            if let Some(charges) = self.participants.get_mut(name) {
                charges.charge(id, cost)?;
                continue;
            }
            let mut charges = Charges::new(&self.blank);
            charges.charge(id, cost)?;
            self.participants.insert(name.clone(), charges);
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, id: &ReservationId, participants: &[Name]) -> Result<(), A::Error> {
        self.committed += 1;
        self.each(participants, |charges| charges.settle(id))
    }

    pub(super) fn give_back(&mut self, id: &ReservationId, participants: &[Name]) -> Result<(), A::Error> {
        self.each(participants, |charges| charges.give_back(id))
    }

    /// Forgets what is settled; what is open stays charged.
    pub(super) fn reset(&mut self, terms: Terms) -> Result<(), A::Error> {
        self.blank = A::with_delta(terms.delta())?;
        self.terms = terms;
        (self.committed, self.warned, self.exhausted) = (0, None, false);
        self.all.reset(&self.blank)?;
        self.participants.retain(|_, charges| !charges.open.is_empty());
        self.participants.values_mut().try_for_each(|charges| charges.reset(&self.blank))
    }

    /// The warning that a spending sets off, if it is a new one.
    pub(super) fn warn(&mut self, spent: f64) -> Option<Warning> {
        let level = Warning::of(spent, self.terms.epsilon()).filter(|level| self.warned < Some(*level))?;
        self.warned = Some(level);
        Some(level)
    }

    pub(super) fn note_warning(&mut self, level: Warning) {
        self.warned = self.warned.max(Some(level));
    }

    /// Whether this is news.
    pub(super) fn note_exhausted(&mut self) -> bool {
        !std::mem::replace(&mut self.exhausted, true)
    }

    pub(super) fn spending(&self) -> Result<Spending, A::Error> {
        let spent = self.all.total.epsilon_with(None)?;
        Ok(Spending {
            spent,
            remaining: (self.terms.epsilon() - spent).next_down().max(0.0),
            terms: self.terms,
            warning: self.warned,
            exhausted: self.exhausted,
            open: self.all.open.len(),
            committed: self.committed,
        })
    }

    pub(super) fn spent_by(&self, participant: &Name) -> Result<f64, A::Error> {
        self.participants.get(participant).map_or(Ok(0.0), |charges| charges.total.epsilon_with(None))
    }

    /// The participant that has spent most, and how much.
    pub(super) fn worst_participant(&self) -> Result<Option<(&Name, f64)>, A::Error> {
        let mut worst: Option<(&Name, f64)> = None;
        for (name, charges) in &self.participants {
            let spent = charges.total.epsilon_with(None)?;
            if worst.is_none_or(|(_, most)| spent > most) {
                worst = Some((name, spent));
            }
        }
        Ok(worst)
    }

    fn each(
        &mut self,
        participants: &[Name],
        mut change: impl FnMut(&mut Charges<A>) -> Result<(), A::Error>,
    ) -> Result<(), A::Error> {
        change(&mut self.all)?;
        for name in participants {
            change(self.participants.get_mut(name).expect("whoever was charged has an account until it is settled"))?;
        }
        Ok(())
    }
}

/// Charges of one account. Accounts only ever grow; to give one charge back, the settled ones, which are for good, are
/// taken as they are and the few open ones are added again.
struct Charges<A: Account> {
    settled: A,
    total: A,
    open: BTreeMap<ReservationId, A::Cost>,
}

impl<A: Account> Charges<A> {
    fn new(blank: &A) -> Self {
        Self { settled: blank.clone(), total: blank.clone(), open: BTreeMap::new() }
    }

    fn charge(&mut self, id: &ReservationId, cost: &A::Cost) -> Result<(), A::Error> {
        self.total.add(cost)?;
        self.open.insert(id.clone(), cost.clone());
        Ok(())
    }

    fn settle(&mut self, id: &ReservationId) -> Result<(), A::Error> {
        self.open.remove(id).map_or(Ok(()), |cost| self.settled.add(&cost))
    }

    fn give_back(&mut self, id: &ReservationId) -> Result<(), A::Error> {
        self.open.remove(id);
        self.count_again()
    }

    fn reset(&mut self, blank: &A) -> Result<(), A::Error> {
        self.settled = blank.clone();
        self.count_again()
    }

    fn count_again(&mut self) -> Result<(), A::Error> {
        self.total = self.settled.clone();
        self.open.values().try_for_each(|cost| self.total.add(cost))
    }
}

/// Costs by the bytes of their events: rounds repeat, and a curve can take a millisecond.
pub(super) struct Costs<A: Account>(BTreeMap<Vec<u8>, A::Cost>);

impl<A: Account> Costs<A> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn of(
        &mut self,
        event: &[u8],
        compute: impl FnOnce() -> Result<A::Cost, A::Error>,
    ) -> Result<A::Cost, A::Error> {
        if let Some(cost) = self.0.get(event) {
            return Ok(cost.clone());
        }
        let cost = compute()?;
        if self.0.len() >= COSTS_MAX {
            self.0.clear();
        }
        self.0.insert(event.to_vec(), cost.clone());
        Ok(cost)
    }
}

/// Costs that are kept; more kinds of rounds are computed anew.
const COSTS_MAX: usize = 256;

/// Exactly the budget is within it; what is not a number is not.
fn within(epsilon: f64, total: f64) -> bool {
    epsilon <= total
}

/// For entries, which have no place for NaN.
fn number(epsilon: f64) -> f64 {
    if epsilon.is_nan() { f64::INFINITY } else { epsilon }
}
