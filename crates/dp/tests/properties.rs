//! What must hold for every figure, whatever the parameters.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use sordino_dp::calibrate::{self, Plan};
use sordino_dp::{Accountant, Budget, Event, Mechanism, Relation, Sampling, Unit, gaussian, pld, rdp, zcdp};

fn logarithmic(least: f64, most: f64) -> impl Strategy<Value = f64> + Clone {
    (least.ln()..most.ln()).prop_map(move |ln| ln.exp().clamp(least, most))
}

/// Any event that is accepted for the relation add/remove.
fn events() -> impl Strategy<Value = Event> {
    let mechanism = prop_oneof![
        4 => logarithmic(0.3, 100.0).prop_map(|sigma| Mechanism::Gaussian { sigma }),
        1 => logarithmic(0.5, 100.0).prop_map(|scale| Mechanism::Laplace { scale }),
        1 => logarithmic(1e-3, 3.0).prop_map(|epsilon| Mechanism::Pure { epsilon }),
        1 => (logarithmic(0.5, 1e6), 1..20u32, 1..1000u64)
            .prop_map(|(sigma2, l2, dim)| Mechanism::DiscreteGaussian { sigma2, l2: l2.into(), dim }),
        1 => (1..1000u64, logarithmic(1.0, 1e6), 1.0..100.0f64, 1.0..10.0f64, 1..1000u64).prop_map(
            |(parties, sigma2, l2, wider, dim)| Mechanism::DiscreteGaussianSum {
                parties, sigma2, l1: l2 * wider, l2, dim
            }
        ),
        1 => (logarithmic(1.0, 1e8), 1.0..100.0f64, 1.0..10.0f64)
            .prop_map(|(mu, l2, wider)| Mechanism::Skellam { mu, l1: l2 * wider, l2 }),
    ];
    let sampling = prop_oneof![Just(Sampling::None), logarithmic(1e-5, 1.0).prop_map(|q| Sampling::Poisson { q })];
    (sampling, mechanism, 1..5000u64).prop_map(|(sampling, mechanism, count)| {
        Event::new(Unit::Record, Relation::AddRemove, sampling, mechanism, count).unwrap()
    })
}

fn sampled(q: f64, sigma: f64, count: u64) -> Event {
    let sampling = Sampling::Poisson { q };
    Event::new(Unit::Record, Relation::AddRemove, sampling, Mechanism::Gaussian { sigma }, count).unwrap()
}

fn spent(events: &[Event], delta: f64) -> f64 {
    let mut accountant = Accountant::new(delta).unwrap();
    for event in events {
        accountant.add(event).unwrap();
    }
    accountant.spent().epsilon
}

/// Up to the rounding of sums.
fn at_most(a: f64, b: f64) -> bool {
    a <= b * (1.0 + 1e-10) + 1e-13
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn more_rounds_more_of_the_sample_less_noise_and_less_delta_never_cost_less(
        q in logarithmic(1e-4, 1.0),
        sigma in logarithmic(0.4, 30.0),
        count in 1..10_000u64,
        delta in logarithmic(1e-12, 0.1),
        more in 1.01..3.0f64,
    ) {
        let base = spent(&[sampled(q, sigma, count)], delta);
        prop_assert!(at_most(base, spent(&[sampled(q, sigma, count + 1)], delta)));
        prop_assert!(at_most(base, spent(&[sampled((q * more).min(1.0), sigma, count)], delta)));
        prop_assert!(at_most(base, spent(&[sampled(q, sigma / more, count)], delta)));
        prop_assert!(at_most(base, spent(&[sampled(q, sigma, count)], delta / more)));
        // Nor does sampling.
        prop_assert!(at_most(base, spent(&[sampled(1.0, sigma, count)], delta)));
    }

    #[test]
    fn the_order_of_events_does_not_matter_and_with_is_add(
        mut events in prop::collection::vec(events(), 1..6),
        delta in logarithmic(1e-12, 0.1),
        turn in 0..6usize,
    ) {
        let base = spent(&events, delta);
        let by = turn % events.len();
        events.rotate_left(by);
        let turned = spent(&events, delta);
        prop_assert!(at_most(base, turned) && at_most(turned, base));
        let last = events.pop().unwrap();
        let mut accountant = Accountant::new(delta).unwrap();
        for event in &events {
            accountant.add(event).unwrap();
        }
        let before = accountant.spent();
        let asked = accountant.with(&last).unwrap();
        prop_assert_eq!(accountant.spent(), before);
        prop_assert!(at_most(before.epsilon, asked.epsilon));
        prop_assert_eq!(accountant.add(&last).unwrap(), asked);
    }

    #[test]
    fn a_count_is_as_many_events(event in events(), parts in 2..20u64, delta in logarithmic(1e-12, 0.1)) {
        let whole = spent(&[event.times(parts * 7).unwrap()], delta);
        let pieces = spent(&vec![event.times(7).unwrap(); usize::try_from(parts).unwrap()], delta);
        prop_assert!(at_most(whole, pieces) && at_most(pieces, whole), "{} {}", whole, pieces);
    }

    #[test]
    fn curves_rise_with_the_order_and_stay_below_their_unsampled_ones(event in events()) {
        let orders = rdp::default_orders();
        let curve = rdp::curve(&event, &orders);
        prop_assert!(curve.iter().all(|&cost| cost >= 0.0));
        for pair in curve.windows(2) {
            prop_assert!(at_most(pair[0], pair[1]), "{:?}", pair);
        }
        let plain = Event::new(event.unit(), event.relation(), Sampling::None, event.mechanism(), 1).unwrap();
        for (sampled, plain) in curve.iter().zip(rdp::curve(&plain, &orders)) {
            prop_assert!(at_most(*sampled, plain));
        }
    }

    #[test]
    fn quadrature_and_binomial_sum_agree(
        q in logarithmic(1e-6, 0.99), sigma in logarithmic(0.3, 50.0), alpha in 2..200u64,
    ) {
        let sum = rdp::poisson_amplified(q, alpha, |k| k as f64 / (2.0 * sigma * sigma)).unwrap();
        // Just beside the integer, where only the quadrature is used.
        let quadrature = rdp::sampled_gaussian(q, sigma, alpha as f64 + 1e-9).unwrap();
        let plain = alpha as f64 / (2.0 * sigma * sigma);
        prop_assert!((quadrature / sum.min(plain) - 1.0).abs() < 1e-6, "{} {}", quadrature, sum);
    }

    #[test]
    fn bytes_and_json_give_the_event_back(event in events(), other in events()) {
        prop_assert_eq!(Event::from_bytes(&event.to_bytes()).unwrap(), event);
        // Readers of JSON may be off by a unit of the last place, which is why a ledger keeps the bytes.
        let read: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        prop_assert_eq!((read.unit(), read.relation(), read.count()), (event.unit(), event.relation(), event.count()));
        let (cost, read) = (rdp::divergence(&event, 2.0).unwrap(), rdp::divergence(&read, 2.0).unwrap());
        prop_assert!((cost / read - 1.0).abs() < 1e-12);
        prop_assert_eq!(event == other, event.to_bytes() == other.to_bytes());
    }

    #[test]
    fn damaged_bytes_are_refused_or_another_event(event in events(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = event.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Event::from_bytes(&bytes) {
            prop_assert_ne!(read, event);
            prop_assert_eq!(read.to_bytes(), bytes.clone());
        }
        bytes.truncate(at);
        prop_assert!(Event::from_bytes(&bytes).is_err());
    }

    #[test]
    fn calibrated_rounds_fit_and_one_more_does_not(
        q in logarithmic(1e-3, 1.0), sigma in logarithmic(0.5, 20.0), epsilon in 0.1..20.0f64, before in 0..3u64,
    ) {
        let (budget, round) = (Budget::new(epsilon, 1e-6).unwrap(), sampled(q, sigma, 1));
        let mut accountant = Accountant::new(1e-6).unwrap();
        for _ in 0..before {
            accountant.add(&round).unwrap();
        }
        let rounds = calibrate::rounds(&accountant, &round.into(), budget).unwrap();
        let fits = |rounds: u64| budget.allows(&accountant.with(&round.times(rounds).unwrap()).unwrap());
        prop_assert!(rounds == 0 || fits(rounds));
        prop_assert!(!fits(rounds + 1));
    }

    #[test]
    fn calibrated_noise_fits_and_a_little_less_does_not(
        q in logarithmic(1e-3, 1.0), rounds in 1..5000u64, epsilon in 0.2..20.0f64,
    ) {
        let budget = Budget::new(epsilon, 1e-6).unwrap();
        let sampling = Sampling::Poisson { q };
        let plan = Plan { unit: Unit::Record, relation: Relation::ZeroOut, sampling, rounds };
        let orders = rdp::default_orders();
        let found = calibrate::sigma(&plan, budget, &orders).unwrap();
        prop_assert!(found.epsilon <= epsilon);
        let cost = |sigma: f64| spent(&[plan.event(sigma).unwrap()], 1e-6);
        prop_assert!(cost(found.sigma) <= epsilon);
        prop_assert!(cost(found.sigma * (1.0 - 1e-6)) > epsilon);
    }

    #[test]
    fn noise_that_follows_what_is_left_fits_exactly(
        sigma in logarithmic(1.0, 10.0), before in 1..20u64, rounds in 1..200u64, share in 0.05..0.95f64,
    ) {
        let sampling = Sampling::None;
        let plan = Plan { unit: Unit::Record, relation: Relation::ReplaceOne, sampling, rounds };
        let mut accountant = Accountant::new(1e-6).unwrap();
        let first = Event::new(plan.unit, plan.relation, sampling, Mechanism::Gaussian { sigma }, before).unwrap();
        let spent = accountant.add(&first).unwrap().epsilon;
        let budget = Budget::new(spent / share, 1e-6).unwrap();
        let found = calibrate::sigma_after(&accountant, &plan, budget).unwrap();
        let all = accountant.add(&plan.event(found.sigma).unwrap()).unwrap();
        prop_assert!(budget.allows(&all) && all.epsilon > budget.epsilon() * (1.0 - 1e-6));
        prop_assert!(calibrate::sigma_after(&accountant, &plan, Budget::new(spent, 1e-6).unwrap()).is_err());

        // The same as a standard deviation, and back as a clip norm: never more privacy than there is.
        for clip in [0.1, 1.0, 3.0] {
            let std = plan.noise_std(found.sigma, clip).unwrap();
            for clip in [clip, plan.clip_norm(found.sigma, plan.noise_std(found.sigma, clip).unwrap()).unwrap()] {
                let event = Event::clipped_sum(plan.unit, plan.relation, clip, std).unwrap();
                let Mechanism::Gaussian { sigma } = event.mechanism() else { unreachable!() };
                prop_assert!(sigma >= found.sigma * (1.0 - 1e-15) && sigma <= found.sigma * (1.0 + 1e-11));
            }
        }
    }

    #[test]
    fn closed_forms_of_the_gaussian_agree(
        sigma in logarithmic(0.05, 1e4), count in 1..1_000_000u64, delta in logarithmic(1e-100, 0.4),
    ) {
        let epsilon = gaussian::epsilon(sigma, count, delta).unwrap();
        prop_assert!(gaussian::delta(sigma, count, epsilon).unwrap() <= delta * (1.0 + 1e-9));
        if epsilon > 1e-9 {
            let least = gaussian::sigma(epsilon, delta, count).unwrap();
            prop_assert!((least / sigma - 1.0).abs() < 1e-6, "{} {}", least, sigma);
        }
        let rho = zcdp::rho_gaussian(sigma, count).unwrap();
        prop_assert!(at_most(epsilon, zcdp::epsilon(rho, delta).unwrap().epsilon));
        let event = Event::new(Unit::Record, Relation::ZeroOut, Sampling::None, Mechanism::Gaussian { sigma }, count);
        prop_assert!(at_most(epsilon, spent(&[event.unwrap()], delta)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_distribution_of_parts_is_that_of_the_whole(
        q in logarithmic(1e-3, 1.0), sigma in logarithmic(0.6, 20.0), count in 2..500u64, delta in logarithmic(1e-10, 1e-3),
    ) {
        let whole = pld::epsilon(&[sampled(q, sigma, count * 3)], delta).unwrap().epsilon;
        let parts = pld::epsilon(&[sampled(q, sigma, count), sampled(q, sigma, count * 2)], delta).unwrap().epsilon;
        prop_assert!((whole - parts).abs() <= 1e-3 * whole + 2e-5, "{} {}", whole, parts);
        // More releases never cost less, up to the tightness of both figures.
        let more = pld::epsilon(&[sampled(q, sigma, count * 3 + 1)], delta).unwrap().epsilon;
        prop_assert!(whole <= more * 1.0005 + 1e-5);
        // There and back.
        let back = pld::delta(&[sampled(q, sigma, count * 3)], whole).unwrap().delta;
        prop_assert!(back <= delta * (1.0 + 1e-2), "{} {}", back, delta);
    }

    #[test]
    fn a_tight_figure_is_never_above_the_other(events in prop::collection::vec(events(), 1..3)) {
        let mut accountant = Accountant::new(1e-6).unwrap();
        for event in &events {
            accountant.add(event).unwrap();
        }
        let tight = accountant.tight().unwrap();
        prop_assert!(tight.epsilon <= accountant.spent().epsilon && tight.delta == 1e-6);
    }
}
