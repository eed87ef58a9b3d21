//! What many releases cost together.
//!
//! An accountant holds the sum of the Renyi curves of its events and converts it at one fixed delta. It never adds epsilons.
//! Orders are picked after the fact, so its figures hold for events that were planned from public state; noise that is
//! chosen from private outputs needs a filter (zCDP, or one fixed order).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::convert::Conversion;
use crate::error::{DpError, check_delta, in_range};
use crate::event::{COUNT_MAX, Event, Relation, Unit};
use crate::events::Events;
use crate::inversion;
use crate::numeric::{add_up, product};
use crate::pld::{self, Tight};
use crate::rdp::{self, Orders};

/// How much may be spent: at most `epsilon` at `delta`, in total.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "BudgetParts")]
pub struct Budget {
    epsilon: f64,
    delta: f64,
}

impl Budget {
    /// # Errors
    /// [`DpError::OutOfRange`] unless epsilon lies in (0, 10^6] and delta in (0, 1).
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, DpError> {
        in_range("epsilon", epsilon, f64::MIN_POSITIVE, EPSILON_MAX)?;
        Ok(Self { epsilon, delta: check_delta(delta)? })
    }

    /// In nats.
    pub fn epsilon(self) -> f64 {
        self.epsilon
    }

    /// A probability, of the whole composition.
    pub fn delta(self) -> f64 {
        self.delta
    }

    /// Whether this much may be spent: exactly the budget may.
    pub fn allows(self, spent: &Spent) -> bool {
        spent.delta <= self.delta && spent.epsilon <= self.epsilon
    }

    /// Epsilon that is left, rounded down, never below 0.
    pub fn left(self, spent: &Spent) -> f64 {
        let left = self.epsilon - spent.epsilon;
        if left > 0.0 { left.next_down().max(0.0) } else { 0.0 }
    }
}

/// A budget as it travels, before it is checked.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetParts {
    epsilon: f64,
    delta: f64,
}

impl TryFrom<BudgetParts> for Budget {
    type Error = DpError;

    fn try_from(parts: BudgetParts) -> Result<Self, DpError> {
        Self::new(parts.epsilon, parts.delta)
    }
}

/// What is spent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    /// In nats, rounded up.
    pub epsilon: f64,
    /// A probability, of the whole composition.
    pub delta: f64,
    /// The Renyi order that gave the least epsilon.
    pub order: f64,
    /// Whether that order is an end of the list: valid, but other orders might give less.
    pub at_the_end: bool,
}

/// Adds up events and says what they cost at one delta.
///
/// All events speak of one unit and one relation: those of the first one.
#[derive(Debug)]
pub struct Accountant {
    conversion: Conversion,
    /// Divergences of all events, one for each order, rounded up.
    total: Vec<f64>,
    /// Events with equal kinds, as one; by the bytes of the kind.
    events: BTreeMap<Vec<u8>, Event>,
    promise: Option<(Unit, Relation)>,
    releases: u64,
    curves: Mutex<Curves>,
}

/// Curves of one release, by the bytes of the kind of event.
type Curves = BTreeMap<Vec<u8>, Arc<[f64]>>;

impl Accountant {
    /// An accountant that has seen nothing, over the default orders.
    ///
    /// # Errors
    /// [`DpError::OutOfRange`] for a delta outside of (0, 1).
    pub fn new(delta: f64) -> Result<Self, DpError> {
        Self::with_orders(delta, rdp::default_orders())
    }

    /// The same over orders of the caller's choice.
    ///
    /// # Errors
    /// As [`Accountant::new`].
    pub fn with_orders(delta: f64, orders: Orders) -> Result<Self, DpError> {
        let total = vec![0.0; orders.as_slice().len()];
        let conversion = Conversion::new(orders, delta)?;
        Ok(Self {
            conversion,
            total,
            events: BTreeMap::new(),
            promise: None,
            releases: 0,
            curves: Mutex::new(Curves::new()),
        })
    }

    /// What would be spent if `event` were added; nothing changes.
    ///
    /// # Errors
    /// [`DpError::NoTheorem`] if the event speaks of another unit or relation than those before it;
    /// [`DpError::CountOutOfRange`] if there would be too many releases.
    pub fn with(&self, event: &Event) -> Result<Spent, DpError> {
        self.check(event)?;
        let curve = self.curve_of(event);
        let count = event.count() as f64;
        Ok(self.convert(self.total.iter().zip(&*curve).map(|(&total, &cost)| add_up(total, product(cost, count)))))
    }

    /// What would be spent if all of `events` were added; nothing changes.
    ///
    /// # Errors
    /// As [`Accountant::with`].
    pub fn with_all(&self, events: &Events) -> Result<Spent, DpError> {
        let mut total = self.total.clone();
        for event in events.iter() {
            self.check(event)?;
            let (curve, count) = (self.curve_of(event), event.count() as f64);
            total.iter_mut().zip(&*curve).for_each(|(total, &cost)| *total = add_up(*total, product(cost, count)));
        }
        Ok(self.convert(total.into_iter()))
    }

    /// Adds an event and returns what is spent with it. What it may cost is the caller's decision, before: see
    /// [`Accountant::with`] and [`Budget::allows`].
    ///
    /// # Errors
    /// As [`Accountant::with`]; then nothing has changed.
    pub fn add(&mut self, event: &Event) -> Result<Spent, DpError> {
        let releases = self.check(event)?;
        let kind = event.kind_bytes();
        let merged = match self.events.get(&kind) {
            Some(known) => known.times(known.count() + event.count())?,
            None => *event,
        };
        let curve = self.curve_of(event);
        let count = event.count() as f64;
        for (total, &cost) in self.total.iter_mut().zip(&*curve) {
            *total = add_up(*total, product(cost, count));
        }
        self.events.insert(kind, merged);
        self.promise = Some((event.unit(), event.relation()));
        self.releases = releases;
        Ok(self.spent())
    }

    /// What is spent by everything added so far.
    pub fn spent(&self) -> Spent {
        self.convert(self.total.iter().copied())
    }

    /// The least epsilon that is known for everything so far: by privacy loss distributions where all events have them, and
    /// by Renyi orders otherwise or where they are better. Some milliseconds for each kind of event.
    ///
    /// # Errors
    /// [`DpError::Disagreement`] if the figure lies below the second opinion: a defect, after which nothing may be released.
    pub fn tight(&self) -> Result<Tight, DpError> {
        let spent = self.spent();
        let renyi = Tight { epsilon: spent.epsilon, delta: spent.delta };
        if self.releases == 0 {
            return Ok(renyi);
        }
        let events: Vec<_> = self.events().copied().collect();
        let tight = match pld::epsilon(&events, self.delta()) {
            Ok(tight) => tight,
            Err(DpError::NoLossDistribution(_) | DpError::NotConverging { .. } | DpError::CountOutOfRange { .. }) => {
                return Ok(renyi);
            }
            Err(error) => return Err(error),
        };
        let tight = if tight.epsilon < renyi.epsilon { tight } else { renyi };
        match inversion::epsilon(&events, self.delta()) {
            Ok(opinion) if tight.epsilon < opinion.value * (1.0 - DISAGREEMENT) - opinion.error => {
                Err(DpError::Disagreement { pessimistic: tight.epsilon, opinion: opinion.value })
            }
            _ => Ok(tight),
        }
    }

    /// The events, those that differ only in their count as one, in a fixed order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.values()
    }

    /// Releases so far.
    pub fn releases(&self) -> u64 {
        self.releases
    }

    /// Divergences of everything so far, at [`Accountant::orders`].
    pub fn divergences(&self) -> &[f64] {
        &self.total
    }

    /// The orders.
    pub fn orders(&self) -> &Orders {
        self.conversion.orders()
    }

    /// The delta that all figures are for.
    pub fn delta(&self) -> f64 {
        self.conversion.delta()
    }

    /// Number of releases with the event.
    fn check(&self, event: &Event) -> Result<u64, DpError> {
        if self.promise.is_some_and(|promise| promise != (event.unit(), event.relation())) {
            return Err(DpError::NoTheorem("events with different units or relations do not compose to one promise"));
        }
        let releases = self.releases.saturating_add(event.count());
        crate::error::count_in_range("releases together", releases, 1, COUNT_MAX)
    }

    fn curve_of(&self, event: &Event) -> Arc<[f64]> {
        let kind = event.kind_bytes();
        // A panic while it was held cannot have left half a curve: they are inserted whole.
        let mut curves = self.curves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(curve) = curves.get(&kind) {
            return Arc::clone(curve);
        }
        if curves.len() >= CURVES_MAX {
            curves.clear();
        }
        let curve: Arc<[f64]> = rdp::curve(event, self.orders()).into();
        curves.insert(kind, Arc::clone(&curve));
        curve
    }

    fn convert(&self, divergences: impl Iterator<Item = f64>) -> Spent {
        let delta = self.delta();
        let converted = self.conversion.epsilon(divergences);
        Spent { epsilon: converted.epsilon, delta, order: converted.order, at_the_end: converted.at_the_end }
    }
}

impl Clone for Accountant {
    fn clone(&self) -> Self {
        let curves = self.curves.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            conversion: self.conversion.clone(),
            total: self.total.clone(),
            events: self.events.clone(),
            promise: self.promise,
            releases: self.releases,
            curves: Mutex::new(curves),
        }
    }
}

/// Relative distance below the second opinion that rounding cannot explain.
const DISAGREEMENT: f64 = 1e-9;
/// Far above what means anything.
const EPSILON_MAX: f64 = 1e6;
/// Curves that are kept; a ledger with more kinds of rounds makes them anew.
const CURVES_MAX: usize = 256;
