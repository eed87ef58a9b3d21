//! Input that must be refused with a typed error, and extreme input that must give a right number; never a panic.

#![expect(clippy::unwrap_used, reason = "tests")]

use sordino_dp::calibrate::{self, Plan};
use sordino_dp::rdp::Orders;
use sordino_dp::{
    Accountant, Budget, DpError, Event, Mechanism, Relation, Sampling, Unit, convert, gaussian, inversion, pld, rdp,
    zcdp,
};

const GAUSSIAN: Mechanism = Mechanism::Gaussian { sigma: 1.0 };
const NOT_POSITIVE: [f64; 6] = [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn event(sampling: Sampling, mechanism: Mechanism, count: u64) -> Result<Event, DpError> {
    Event::new(Unit::Record, Relation::AddRemove, sampling, mechanism, count)
}

#[test]
fn reals_that_are_no_parameters() {
    for bad in NOT_POSITIVE.into_iter().chain([1e-300, f64::MAX, f64::MIN_POSITIVE]) {
        for mechanism in [
            Mechanism::Gaussian { sigma: bad },
            Mechanism::Laplace { scale: bad },
            Mechanism::Pure { epsilon: bad },
            Mechanism::DiscreteGaussian { sigma2: bad, l2: 1.0, dim: 1 },
            Mechanism::DiscreteGaussian { sigma2: 1.0, l2: bad, dim: 1 },
            Mechanism::DiscreteGaussianSum { parties: 2, sigma2: bad, l1: 1.0, l2: 1.0, dim: 1 },
            Mechanism::DiscreteGaussianSum { parties: 2, sigma2: 1.0, l1: bad, l2: 1.0, dim: 1 },
            Mechanism::DiscreteGaussianSum { parties: 2, sigma2: 1.0, l1: 1.0, l2: bad, dim: 1 },
            Mechanism::Skellam { mu: bad, l1: 1.0, l2: 1.0 },
            Mechanism::Skellam { mu: 1.0, l1: bad, l2: 1.0 },
            Mechanism::Skellam { mu: 1.0, l1: 1.0, l2: bad },
        ] {
            let refused = event(Sampling::None, mechanism, 1);
            assert!(matches!(refused, Err(DpError::OutOfRange { .. })), "{mechanism:?}: {refused:?}");
        }
    }
    for q in [0.0, -0.1, 1.0 + f64::EPSILON, 2.0, 1e-300, f64::NAN, f64::INFINITY] {
        let refused = event(Sampling::Poisson { q }, GAUSSIAN, 1);
        assert!(matches!(refused, Err(DpError::OutOfRange { what: "q", .. })), "{q}: {refused:?}");
    }
    for delta in [0.0, 1.0, -1e-5, 2.0, 1e-320, f64::NAN, f64::INFINITY] {
        assert!(matches!(Accountant::new(delta), Err(DpError::OutOfRange { what: "delta", .. })), "{delta}");
        assert!(matches!(Budget::new(1.0, delta), Err(DpError::OutOfRange { what: "delta", .. })), "{delta}");
        assert!(gaussian::epsilon(1.0, 1, delta).is_err() && gaussian::sigma(1.0, delta, 1).is_err(), "{delta}");
        assert!(zcdp::epsilon(0.1, delta).is_err(), "{delta}");
        let one = [event(Sampling::None, GAUSSIAN, 1).unwrap()];
        assert!(pld::epsilon(&one, delta).is_err() && inversion::epsilon(&one, delta).is_err(), "{delta}");
    }
    for epsilon in NOT_POSITIVE {
        assert!(Budget::new(epsilon, 1e-5).is_err(), "{epsilon}");
    }
    for epsilon in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(gaussian::delta(1.0, 1, epsilon).is_err() && gaussian::sigma(epsilon, 1e-5, 1).is_err(), "{epsilon}");
        assert!(pld::delta(&[event(Sampling::None, GAUSSIAN, 1).unwrap()], epsilon).is_err(), "{epsilon}");
    }
    for alpha in [1.0, 0.5, -2.0, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY, 1e300] {
        assert!(rdp::sampled_gaussian(0.1, 1.0, alpha).is_err() && rdp::gaussian(1.0, alpha).is_err(), "{alpha}");
        assert!(rdp::laplace(1.0, alpha).is_err() && rdp::skellam(1.0, 1.0, 1.0, alpha).is_err(), "{alpha}");
        assert!(rdp::skellam_exact(1.0, 1.0, alpha).is_err(), "{alpha}");
        assert!(rdp::wor_gaussian(1, 10, 1.0, alpha).is_err(), "{alpha}");
    }
}

#[test]
fn counts_that_are_none() {
    for count in [0, (1 << 40) + 1, u64::MAX] {
        let refused = event(Sampling::None, GAUSSIAN, count);
        assert!(matches!(refused, Err(DpError::CountOutOfRange { .. })), "{count}: {refused:?}");
    }
    let mut accountant = Accountant::new(1e-5).unwrap();
    let most = event(Sampling::None, GAUSSIAN, 1 << 40).unwrap();
    let before = accountant.add(&most).unwrap();
    assert!(matches!(accountant.add(&most), Err(DpError::CountOutOfRange { .. })));
    assert!(matches!(accountant.with(&most), Err(DpError::CountOutOfRange { .. })));
    assert_eq!(accountant.spent(), before);
    for (sample, population) in [(0, 10), (11, 10), (1, 0), (1, u64::MAX)] {
        let sampling = Sampling::FixedWor { sample, population };
        assert!(Event::new(Unit::Record, Relation::ReplaceOne, sampling, GAUSSIAN, 1).is_err(), "{sampling:?}");
        assert!(rdp::wor_gaussian(sample, population, 1.0, 2.0).is_err(), "{sampling:?}");
    }
    for unit in [Unit::Group(0), Unit::Group(u32::MAX)] {
        assert!(Event::new(unit, Relation::AddRemove, Sampling::None, GAUSSIAN, 1).is_err(), "{unit:?}");
    }
    assert!(matches!(pld::epsilon(&[], 1e-5), Err(DpError::CountOutOfRange { .. })));
    assert!(matches!(inversion::epsilon(&[], 1e-5), Err(DpError::CountOutOfRange { .. })));
}

#[test]
fn combinations_without_a_theorem() {
    let poisson = Sampling::Poisson { q: 0.1 };
    let fixed = Sampling::FixedWor { sample: 1, population: 10 };
    let laplace = Mechanism::Laplace { scale: 1.0 };
    for (unit, relation, sampling, mechanism) in [
        (Unit::Record, Relation::ReplaceOne, poisson, GAUSSIAN),
        (Unit::Group(2), Relation::AddRemove, poisson, GAUSSIAN),
        (Unit::Record, Relation::AddRemove, fixed, GAUSSIAN),
        (Unit::Record, Relation::ZeroOut, fixed, GAUSSIAN),
        (Unit::Group(2), Relation::ReplaceOne, fixed, GAUSSIAN),
        (Unit::Record, Relation::ReplaceOne, fixed, laplace),
    ] {
        let refused = Event::new(unit, relation, sampling, mechanism, 1);
        assert!(matches!(refused, Err(DpError::NoTheorem(_))), "{unit:?} {relation:?} {sampling:?}: {refused:?}");
    }
    let mut accountant = Accountant::new(1e-5).unwrap();
    let before = accountant.add(&event(poisson, GAUSSIAN, 1).unwrap()).unwrap();
    for (unit, relation) in [(Unit::Participant, Relation::AddRemove), (Unit::Record, Relation::ZeroOut)] {
        let other = Event::new(unit, relation, Sampling::None, GAUSSIAN, 1).unwrap();
        assert!(matches!(accountant.add(&other), Err(DpError::NoTheorem(_))), "{other:?}");
        assert!(matches!(
            pld::epsilon(&[event(poisson, GAUSSIAN, 1).unwrap(), other], 1e-5),
            Err(DpError::NoTheorem(_))
        ));
    }
    assert_eq!(accountant.spent(), before);
    // Where no loss distribution is known, none is made up, and the accountant says what it knows.
    let sum = Mechanism::DiscreteGaussianSum { parties: 5, sigma2: 9.0, l1: 3.0, l2: 2.0, dim: 9 };
    for (relation, sampling, mechanism) in [
        (Relation::AddRemove, Sampling::None, sum),
        (Relation::AddRemove, poisson, laplace),
        (Relation::ReplaceOne, fixed, GAUSSIAN),
    ] {
        let event = Event::new(Unit::Record, relation, sampling, mechanism, 1).unwrap();
        assert!(matches!(pld::epsilon(&[event], 1e-5), Err(DpError::NoLossDistribution(_))), "{event:?}");
        assert!(matches!(inversion::epsilon(&[event], 1e-5), Err(DpError::NoLossDistribution(_))), "{event:?}");
        let mut accountant = Accountant::new(1e-5).unwrap();
        let spent = accountant.add(&event).unwrap();
        assert_eq!(accountant.tight().unwrap().epsilon, spent.epsilon);
    }
}

#[test]
fn text_and_bytes_that_are_no_events() {
    let good = r#"{"unit":"record","relation":"add_remove","sampling":{"poisson":{"q":0.5}},"mechanism":{"gaussian":{"sigma":1.0}},"count":3}"#;
    assert_eq!(serde_json::from_str::<Event>(good).unwrap().count(), 3);
    for (from, to) in [
        ("0.5", "1.5"),
        ("0.5", "null"),
        ("1.0", "0.0"),
        ("1.0", "-1.0"),
        ("\"count\":3", "\"count\":0"),
        ("\"count\":3", "\"count\":-1"),
        ("\"count\":3", "\"count\":3,\"more\":1"),
        ("add_remove", "replace_one"),
        ("record", "person"),
        ("\"sigma\":1.0", "\"sigma\":1.0,\"l2\":1.0"),
        (",\"count\":3", ""),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(serde_json::from_str::<Event>(&bad).is_err(), "{bad}");
    }
    for bad in [r#"{"epsilon":1.0,"delta":1.0}"#, r#"{"epsilon":0.0,"delta":0.1}"#, r#"{"epsilon":1.0}"#] {
        assert!(serde_json::from_str::<Budget>(bad).is_err(), "{bad}");
    }
    let bytes = event(Sampling::None, GAUSSIAN, 1).unwrap().to_bytes();
    assert!(matches!(Event::from_bytes(&[]), Err(DpError::NotAnEvent(_))));
    assert!(matches!(Event::from_bytes(&[bytes.clone(), vec![0]].concat()), Err(DpError::NotAnEvent(_))));
    for at in 0..bytes.len() {
        assert!(Event::from_bytes(&bytes[..at]).is_err());
        for value in 0..=255 {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Ok(read) = Event::from_bytes(&damaged) {
                assert_eq!(read.to_bytes(), damaged);
            }
        }
    }
}

#[test]
fn curves_that_are_none() {
    for bad in [vec![], vec![1.0], vec![0.5], vec![2.0, 2.0], vec![3.0, 2.0], vec![f64::NAN], vec![2.0, f64::INFINITY]]
    {
        assert!(matches!(Orders::new(bad.clone()), Err(DpError::BadOrders { .. })), "{bad:?}");
    }
    let orders = Orders::new(vec![2.0, 4.0]).unwrap();
    for bad in [vec![], vec![1.0], vec![1.0, 2.0, 3.0], vec![-1.0, 1.0], vec![f64::NAN, 1.0]] {
        assert!(convert::epsilon_from_rdp(&orders, &bad, 1e-5).is_err(), "{bad:?}");
        assert!(convert::delta_from_rdp(&orders, &bad, 1.0).is_err(), "{bad:?}");
    }
    // An order that costs everything says nothing; all of them together say that nothing is promised.
    assert!(convert::epsilon_from_rdp(&orders, &[f64::INFINITY, 1.0], 1e-5).unwrap().epsilon.is_finite());
    assert_eq!(convert::epsilon_from_rdp(&orders, &[f64::INFINITY; 2], 1e-5).unwrap().epsilon, f64::INFINITY);
    assert_eq!(convert::delta_from_rdp(&orders, &[f64::INFINITY; 2], 1.0).unwrap().delta, 1.0);
    let conversion = convert::Conversion::new(orders, 1e-5).unwrap();
    assert_eq!(conversion.epsilon([f64::NAN; 2].into_iter()).epsilon, f64::INFINITY);
    assert!(conversion.epsilon([f64::NAN, 1.0].into_iter()).epsilon > 1.0);
}

#[test]
fn targets_out_of_reach() {
    let plan =
        |rounds: u64| Plan { unit: Unit::Record, relation: Relation::AddRemove, sampling: Sampling::None, rounds };
    let tiny = Budget::new(1e-12, 1e-290).unwrap();
    let refused = calibrate::sigma(&plan(1 << 40), tiny, &rdp::default_orders());
    assert!(matches!(refused, Err(DpError::Unreachable { .. })), "{refused:?}");
    let refused = gaussian::sigma(0.0, 1e-200, 1 << 40);
    assert!(matches!(refused, Err(DpError::Unreachable { .. })), "{refused:?}");
    // A list of orders that ends too early is noticed.
    let budget = Budget::new(0.01, 1e-8).unwrap();
    let short = Orders::new(vec![2.0, 64.0, 1024.0]).unwrap();
    assert!(calibrate::sigma(&plan(1), budget, &short).unwrap().at_the_end);
    let long = calibrate::sigma(&plan(1), budget, &rdp::default_orders()).unwrap();
    assert!(!long.at_the_end && long.sigma < 1000.0, "{long:?}");
    let tight = calibrate::sigma_tight(&plan(1), budget).unwrap();
    assert!(tight.sigma < long.sigma && tight.sigma > 300.0, "{tight:?}");
    // One round that is too much.
    let round = event(Sampling::None, GAUSSIAN, 1).unwrap();
    let empty = Accountant::new(1e-8).unwrap();
    assert_eq!(calibrate::rounds(&empty, &round.into(), budget).unwrap(), 0);
    let other = Accountant::new(1e-7).unwrap();
    assert!(calibrate::rounds(&other, &round.into(), budget).is_err());
}

/// A number that is right, though extreme, or a typed error.
#[test]
fn extremes() {
    // T = 10^9, as one event and beside another; between the exact answer and 1 % above.
    let billion = 1_000_000_000;
    for (q, sigma, delta) in [(1.0, 1e5, 1e-6), (1e-4, 5.0, 1e-9)] {
        let event = event(Sampling::Poisson { q }, Mechanism::Gaussian { sigma }, billion).unwrap();
        let truth = inversion::epsilon(&[event], delta).unwrap();
        let mut accountant = Accountant::new(delta).unwrap();
        let spent = accountant.add(&event).unwrap();
        assert!(spent.epsilon >= truth.value, "{event:?}: {spent:?} {truth:?}");
        let tight = accountant.tight().unwrap();
        assert!(tight.epsilon >= truth.value - truth.error, "{event:?}: {tight:?} {truth:?}");
        assert!(tight.epsilon <= truth.value * 1.01 + 1e-3, "{event:?}: {tight:?} {truth:?}");
    }
    // The ends of all ranges: no panic, and no figure below one that is known to be too low.
    for sigma in [1e-3, 0.05, 1e3, 1e12] {
        for q in [1e-12, 1e-6, 0.5, 1.0 - f64::EPSILON, 1.0] {
            for count in [1, 1000, 1 << 40] {
                for delta in [1e-300, 1e-12, 0.5] {
                    let event = event(Sampling::Poisson { q }, Mechanism::Gaussian { sigma }, count).unwrap();
                    let mut accountant = Accountant::new(delta).unwrap();
                    let spent = accountant.add(&event).unwrap();
                    assert!(spent.epsilon >= 0.0, "{event:?} {delta}: {spent:?}");
                    if count <= 1000 {
                        let tight = accountant.tight().unwrap();
                        assert!(tight.epsilon <= spent.epsilon && tight.epsilon >= 0.0, "{event:?} {delta}: {tight:?}");
                    }
                }
            }
        }
    }
    // Little noise on a sample of fixed size, many kinds of rounds.
    let fixed = Sampling::FixedWor { sample: 3, population: 1000 };
    for sigma in [1e-3, 0.05, 0.3, 1e12] {
        let event = Event::new(Unit::Record, Relation::ReplaceOne, fixed, Mechanism::Gaussian { sigma }, 9).unwrap();
        let plain = Event::new(Unit::Record, Relation::ReplaceOne, Sampling::None, event.mechanism(), 9).unwrap();
        let [sampled, plain] = [event, plain].map(|event| Accountant::new(1e-6).unwrap().add(&event).unwrap().epsilon);
        assert!(sampled <= plain, "{sigma}: {sampled} {plain}");
    }
    let mut accountant = Accountant::new(1e-6).unwrap();
    for at in 0..300 {
        accountant
            .add(&event(Sampling::None, Mechanism::Gaussian { sigma: 30.0 + f64::from(at) }, 1).unwrap())
            .unwrap();
    }
    assert!(accountant.tight().unwrap().epsilon <= accountant.spent().epsilon);
    // Far below what a transform without a tilt resolves; without sampling the answer is known.
    let (sigma, delta) = (40.0, 1e-250);
    let plain = event(Sampling::None, Mechanism::Gaussian { sigma }, 1000).unwrap();
    let (deep, truth) =
        (pld::epsilon(&[plain], delta).unwrap().epsilon, gaussian::epsilon(sigma, 1000, delta).unwrap());
    assert!(deep >= truth * (1.0 - 1e-9) && deep <= truth * 1.0005, "{deep} {truth}");
    let (deep, truth) = (pld::delta(&[plain], 20.0).unwrap().delta, gaussian::delta(sigma, 1000, 20.0).unwrap());
    assert!(deep >= truth * (1.0 - 1e-6) && deep <= truth * 1.001, "{deep} {truth}");
    // An epsilon whose exponential is no double.
    for sigma in [1e-3, 0.02] {
        let one = event(Sampling::Poisson { q: 1.0 }, Mechanism::Gaussian { sigma }, 1).unwrap();
        let (got, truth) = (pld::epsilon(&[one], 1e-9).unwrap().epsilon, gaussian::epsilon(sigma, 1, 1e-9).unwrap());
        assert!(truth > 1000.0 && (got / truth - 1.0).abs() < 1e-9, "{got} {truth}");
    }
}
