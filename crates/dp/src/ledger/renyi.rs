//! The ledger's accounts: sums of Rényi curves at the default orders.
//!
//! One account is a few kilobytes, and an event's curve is computed once for a scope and all its participants: rounds
//! with thousands of participants cost microseconds each. [`crate::Accountant`] composes the same curves for callers that
//! have one account and want its events too.

use std::sync::Arc;

use super::account::Account;
use crate::convert::Conversion;
use crate::error::DpError;
use crate::event::{Relation, Unit};
use crate::events::Events;
use crate::numeric::{add_up, product};
use crate::rdp;

/// An account of a scope or a participant.
#[derive(Debug, Clone)]
pub struct RenyiAccount {
    conversion: Arc<Conversion>,
    /// Divergences of everything, one for each order, rounded up.
    total: Vec<f64>,
    promise: Option<(Unit, Relation)>,
}

/// What an event costs.
#[derive(Debug, Clone)]
pub struct RenyiCost {
    /// Divergences of all its releases, one for each order, rounded up.
    divergences: Arc<[f64]>,
    promise: (Unit, Relation),
}

impl RenyiAccount {
    /// Events with different units or relations do not add up to one promise.
    fn composes(&self, cost: &RenyiCost) -> Result<(), DpError> {
        if self.promise.is_some_and(|promise| promise != cost.promise) {
            return Err(DpError::NoTheorem("events with different units or relations do not compose to one promise"));
        }
        Ok(())
    }
}

impl Account for RenyiAccount {
    type Event = Events;
    type Cost = RenyiCost;
    type Error = DpError;

    fn with_delta(delta: f64) -> Result<Self, DpError> {
        let conversion = Conversion::new(rdp::default_orders(), delta)?;
        let total = vec![0.0; conversion.orders().as_slice().len()];
        Ok(Self { conversion: Arc::new(conversion), total, promise: None })
    }

    fn cost(events: &Events) -> Result<RenyiCost, DpError> {
        let orders = rdp::default_orders();
        let mut divergences = vec![0.0; orders.as_slice().len()];
        for event in events.iter() {
            let curve = rdp::curve(event, &orders);
            for (total, one) in divergences.iter_mut().zip(curve) {
                *total = add_up(*total, product(one, event.count() as f64));
            }
        }
        Ok(RenyiCost { divergences: divergences.into(), promise: events.promise() })
    }

    fn epsilon_with(&self, extra: Option<&RenyiCost>) -> Result<f64, DpError> {
        let Some(cost) = extra else { return Ok(self.conversion.epsilon(self.total.iter().copied()).epsilon) };
        self.composes(cost)?;
        let sums = self.total.iter().zip(&*cost.divergences).map(|(&total, &more)| add_up(total, more));
        Ok(self.conversion.epsilon(sums).epsilon)
    }

    fn add(&mut self, cost: &RenyiCost) -> Result<(), DpError> {
        self.composes(cost)?;
        for (total, &more) in self.total.iter_mut().zip(&*cost.divergences) {
            *total = add_up(*total, more);
        }
        self.promise = Some(cost.promise);
        Ok(())
    }

    fn encode(events: &Events) -> Vec<u8> {
        events.to_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Events, DpError> {
        Events::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Event, Mechanism, Sampling};
    use crate::ledger::{
        Ask, Counter, Evidence, Finding, Ledger, LedgerKey, Name, Refusal, ReservationId, Scope, Terms, Warning,
    };
    use crate::noise::vectors;
    use crate::{Accountant, Budget};

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn gaussian(q: f64, sigma: f64) -> Event {
        let sampling = if q < 1.0 { Sampling::Poisson { q } } else { Sampling::None };
        Event::new(Unit::Participant, Relation::AddRemove, sampling, Mechanism::Gaussian { sigma }, 1).unwrap()
    }

    fn scope() -> Scope {
        let name = |name: &str| Name::new(name).unwrap();
        Scope { population: name("sites"), unit: name("participant"), data_version: name("1") }
    }

    fn id(round: u64) -> ReservationId {
        ReservationId { task: Name::new("task").unwrap(), round, attempt: 1 }
    }

    fn ledger(epsilon: f64, delta: f64) -> Ledger<RenyiAccount> {
        let key = LedgerKey::new(&[7; 32]).unwrap();
        let (mut ledger, _) = Ledger::open(Vec::<Vec<u8>>::new(), Counter::start(), key).unwrap();
        let staged = ledger.open_scope(scope(), Terms::new(epsilon, delta, None).unwrap(), NOW).unwrap();
        ledger.acknowledge(staged).unwrap();
        ledger
    }

    fn reserve(
        ledger: &mut Ledger<RenyiAccount>,
        round: u64,
        event: Event,
        participants: &[Name],
    ) -> super::super::Decision {
        let ask = Ask { id: id(round), scope: scope(), event: event.into(), participants: participants.to_vec() };
        let staged = ledger.reserve(vec![ask], NOW).unwrap();
        ledger.acknowledge(staged).unwrap().remove(0)
    }

    /// All `ledger_rdp` cases, through the ledger itself.
    #[test]
    fn ledger_vectors() {
        let file = vectors::load("composition.json");
        let mut seen = 0;
        for case in file.cases("ledger_rdp") {
            let (budget, delta) = (case.f64("budget"), case.f64("delta"));
            let event = gaussian(case.f64("q"), case.f64("sigma"));
            let mut ledger = ledger(budget, delta);
            let (mut allowed, mut at_95_percent) = (0, None);
            for round in 1..=case.count("rounds") {
                match reserve(&mut ledger, round, event, &[]) {
                    Ok(granted) => {
                        allowed = round;
                        if granted.warning == Some(Warning::Percent95) {
                            at_95_percent = Some(round);
                        }
                    }
                    Err(Refusal::Exhausted(why)) => {
                        vectors::close(why.asked, case.f64("eps_if_one_more"), "one more");
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(allowed, case.count::<u64>("rounds_allowed"));
            assert_eq!(at_95_percent, Some(case.count("first_round_at_95_percent")));
            let spent = ledger.spent(&scope()).unwrap().unwrap().spent;
            vectors::close(spent, case.f64("eps_at_allowed"), "all allowed");
            seen += 1;
        }
        assert!(seen > 0);
    }

    /// Whatever is reserved, aborted and committed: the ledger and an accountant of the events that are left agree.
    #[test]
    fn the_ledger_agrees_with_the_accountant() {
        let mut ledger = ledger(50.0, 1e-6);
        let mut accountant = Accountant::new(1e-6).unwrap();
        for round in 1..=60 {
            let event = gaussian([1.0, 0.1, 0.01][round as usize % 3], 1.0 + round as f64 / 20.0);
            reserve(&mut ledger, round, event, &[]).unwrap();
            if round % 4 == 0 {
                let evidence = Evidence { finding: Finding::NothingSent, digest: [1; 32] };
                let staged = ledger.abort(&id(round), evidence, NOW).unwrap();
                ledger.acknowledge(staged).unwrap();
                continue;
            }
            accountant.add(&event).unwrap();
            if round % 4 != 1 {
                let staged = ledger.commit(&id(round), [2; 32], NOW).unwrap();
                ledger.acknowledge(staged).unwrap();
            }
            vectors::close(ledger.spent(&scope()).unwrap().unwrap().spent, accountant.spent().epsilon, "epsilon");
        }
        assert!(Budget::new(50.0, 1e-6).unwrap().allows(&accountant.spent()));
    }

    #[test]
    fn units_do_not_mix() {
        let mut ledger = ledger(50.0, 1e-6);
        reserve(&mut ledger, 1, gaussian(1.0, 2.0), &[]).unwrap();
        let record =
            Event::new(Unit::Record, Relation::AddRemove, Sampling::None, Mechanism::Gaussian { sigma: 2.0 }, 1)
                .unwrap();
        assert!(matches!(reserve(&mut ledger, 2, record, &[]), Err(Refusal::Event(_))));
    }
}
