//! The reference numbers of `vectors/dp`, every case of every file that is about accounting.
//!
//! `DP_VECTORS_DIR` names another folder of the same form; without it the project's own is read.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod file;

use file::{Case, File, orders};
use serde_json::Value;
use sordino_dp::calibrate::{self, Plan};
use sordino_dp::rdp;
use sordino_dp::{
    Accountant, Budget, DpError, Event, Mechanism, Relation, Sampling, Unit, convert, gaussian, inversion, pld, zcdp,
};

fn event(relation: Relation, sampling: Sampling, mechanism: Mechanism, count: u64) -> Event {
    Event::new(Unit::Participant, relation, sampling, mechanism, count).unwrap()
}

fn sampled(q: f64, sigma: f64, count: u64) -> Event {
    event(Relation::AddRemove, Sampling::Poisson { q }, Mechanism::Gaussian { sigma }, count)
}

fn plain(mechanism: Mechanism, count: u64) -> Event {
    event(Relation::AddRemove, Sampling::None, mechanism, count)
}

#[test]
fn rdp_sgm() {
    File::read("rdp_sgm.json").each(|case| {
        let (q, sigma, alpha) = (case.f("q"), case.f("sigma"), case.f("alpha"));
        let got = rdp::sampled_gaussian(q, sigma, alpha).unwrap();
        case.close("rdp", got, case.f("rdp"), 1e-11);
        let charged = rdp::divergence(&sampled(q, sigma, 1), alpha).unwrap();
        assert!(charged >= case.f("rdp") * (1.0 - 1e-12), "{case}: {charged:e} is charged");
        case.close("rdp that is charged", charged, case.f("rdp"), 1e-9);
    });
}

#[test]
fn eps_sgm() {
    let file = File::read("eps_sgm.json");
    let orders = file.orders();
    file.each(|case| {
        let (delta, steps) = (case.f("delta"), case.u("steps"));
        let event = sampled(case.f("q"), case.f("sigma"), steps);
        let spent = Accountant::with_orders(delta, orders.clone()).unwrap().add(&event).unwrap();
        case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
        case.order("eps_rdp_order", spent.order);
        let (exact, error) = (case.f("eps_exact"), case.f("eps_exact_error"));
        case.epsilon("epsilon", pld::epsilon(&[event], delta).unwrap().epsilon, exact, error);
        match inversion::epsilon(&[event], delta) {
            Ok(opinion) => case.close("second opinion", opinion.value, exact, 1e-9 + error / exact),
            Err(DpError::NotConverging { .. }) => {
                assert_eq!(case.value["eps_exact_source"], "tilted FFT", "{case}: no second opinion");
            }
            Err(error) => panic!("{case}: {error}"),
        }
    });
}

/// The checks above can fail: a formula in wide use is below the truth in many of these cases.
#[test]
fn a_formula_that_is_too_low_is_noticed() {
    let below = std::cell::Cell::new(0);
    File::read("eps_sgm.json").each(|case| {
        let popular = case.f("q") * (2.0 * case.f("steps") * -case.f("delta").ln()).sqrt() / case.f("sigma");
        below.set(below.get() + u32::from(popular < case.f("eps_exact") * (1.0 - 1e-6)));
    });
    assert!(below.get() >= 32, "{}", below.get());
}

#[test]
fn delta_sgm() {
    let file = File::read("delta_sgm.json");
    let orders = file.orders();
    file.each(|case| {
        let event = sampled(case.f("q"), case.f("sigma"), case.u("steps"));
        let epsilon = case.f("epsilon");
        let mut accountant = Accountant::with_orders(0.5, orders.clone()).unwrap();
        accountant.add(&event).unwrap();
        let rdp = convert::delta_from_rdp(&orders, accountant.divergences(), epsilon).unwrap();
        case.close("delta_rdp", rdp.delta, case.f("delta_rdp"), 1e-9);
        case.order("delta_rdp_order", rdp.order);
        let (got, exact) = (pld::delta(&[event], epsilon).unwrap().delta, case.f("delta_exact"));
        assert!(got >= exact * (1.0 - 1e-6), "{case}: {got:e} is below the truth");
        assert!(got <= exact * 1.001, "{case}: {got:e} is too far above");
        case.close("second opinion", inversion::delta(&[event], epsilon).unwrap().value, exact, 1e-9);
    });
}

#[test]
fn calibration() {
    let file = File::read("calibration.json");
    let orders = file.orders();
    file.each(|case| {
        let budget = Budget::new(case.f("epsilon"), case.f("delta")).unwrap();
        let plan = Plan {
            unit: Unit::Record,
            relation: Relation::AddRemove,
            sampling: Sampling::Poisson { q: case.f("q") },
            rounds: case.u("steps"),
        };
        let by_rdp = calibrate::sigma(&plan, budget, &orders).unwrap();
        case.close("sigma_rdp", by_rdp.sigma, case.f("sigma_rdp"), 1e-6);
        let again = Accountant::with_orders(budget.delta(), orders.clone()).unwrap();
        let again = again.with(&plan.event(by_rdp.sigma).unwrap()).unwrap();
        assert!(again.epsilon <= budget.epsilon() && again.epsilon == by_rdp.epsilon, "{case}: {again:?}");

        let tight = calibrate::sigma_tight(&plan, budget).unwrap();
        let exact = case.f("sigma_exact");
        assert!(tight.sigma >= exact * (1.0 - 1e-6), "{case}: sigma {} is too little", tight.sigma);
        assert!(tight.sigma <= exact * 1.0005, "{case}: sigma {} is too much", tight.sigma);
        assert!(tight.epsilon <= budget.epsilon(), "{case}: {tight:?}");
    });
}

#[test]
fn gaussian_mechanism() {
    let file = File::read("gaussian.json");
    let orders = file.orders();
    file.each(|case| match case.kind() {
        "epsilon" => {
            let (sigma, steps, delta) = (case.f("sigma"), case.u("steps"), case.f("delta"));
            let got = gaussian::epsilon(sigma, steps, delta).unwrap();
            case.close("eps_exact", got, case.f("eps_exact"), 1e-9);
            let event = plain(Mechanism::Gaussian { sigma }, steps);
            let spent = Accountant::with_orders(delta, orders.clone()).unwrap().add(&event).unwrap();
            case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
            case.order("eps_rdp_order", spent.order);
            let rho = zcdp::rho_gaussian(sigma, steps).unwrap();
            case.close("rho", rho, case.f("rho"), 1e-9);
            case.close("eps_zcdp", zcdp::epsilon(rho, delta).unwrap().epsilon, case.f("eps_zcdp"), 1e-9);
            case.epsilon("pld", pld::epsilon(&[event], delta).unwrap().epsilon, case.f("eps_exact"), 1e-12);
        }
        "sigma" => {
            let (epsilon, delta) = (case.f("epsilon"), case.f("delta"));
            let sigma = gaussian::sigma(epsilon, delta, 1).unwrap();
            case.close("sigma_exact", sigma, case.f("sigma_exact"), 1e-9);
            assert!(gaussian::epsilon(sigma, 1, delta).unwrap() <= epsilon, "{case}: {sigma}");
            let classic = gaussian::delta(case.f("sigma_classic"), 1, epsilon).unwrap();
            case.close("delta_classic_true", classic, case.f("delta_classic_true"), 1e-9);
        }
        "delta" => {
            let got = gaussian::delta(case.f("sigma"), 1, case.f("epsilon")).unwrap();
            case.close("delta_exact", got, case.f("delta_exact"), 1e-9);
        }
        "clipped_sum" => {
            let relation = match case.value["relation"].as_str().unwrap() {
                "add_remove" => Relation::AddRemove,
                "zero_out" => Relation::ZeroOut,
                "replace_one" => Relation::ReplaceOne,
                other => panic!("{case}: relation {other}"),
            };
            let (clip, std) = (case.f("clip_norm"), case.f("noise_std"));
            case.close("l2_sensitivity", relation.sensitivity(clip), case.f("l2_sensitivity"), 1e-9);
            let event = Event::clipped_sum(Unit::Participant, relation, clip, std).unwrap();
            let Mechanism::Gaussian { sigma } = event.mechanism() else { panic!("{case}: {event:?}") };
            let got = gaussian::epsilon(sigma, case.u("steps"), case.f("delta")).unwrap();
            case.close("eps_exact", got, case.f("eps_exact"), 1e-9);
        }
        kind => panic!("{case}: unknown kind {kind}"),
    });
}

#[test]
fn conversion() {
    File::read("conversion.json").each(|case| match case.kind() {
        "zcdp" => {
            let got = zcdp::epsilon(case.f("rho"), case.f("delta")).unwrap();
            case.close("eps", got.epsilon, case.f("eps"), 1e-9);
            case.close("order", got.order, case.f("order"), 1e-4);
            assert!(got.epsilon < case.f("eps_classic"), "{case}: {got:?}");
        }
        "rdp" => {
            let orders = orders(&case.value["orders"]);
            let rdp: Vec<_> = case.value["rdp"].as_array().unwrap().iter().map(|r| r.as_f64().unwrap()).collect();
            let got = convert::epsilon_from_rdp(&orders, &rdp, case.f("delta")).unwrap();
            case.close("eps", got.epsilon, case.f("eps"), 1e-9);
            if case.f("eps") > 0.0 {
                case.order("order", got.order);
            }
            assert!(got.epsilon < case.f("eps_classic"), "{case}: {got:?}");
            let delta = convert::delta_from_rdp(&orders, &rdp, case.f("epsilon_in")).unwrap();
            case.close("delta_out", delta.delta, case.f("delta_out"), 1e-9);
        }
        kind => panic!("{case}: unknown kind {kind}"),
    });
}

#[test]
fn laplace() {
    let file = File::read("laplace.json");
    let orders = file.orders();
    file.each(|case| {
        let scale = case.f("b");
        match case.kind() {
            "rdp" => case.close("rdp", rdp::laplace(scale, case.f("alpha")).unwrap(), case.f("rdp"), 1e-11),
            "epsilon_single" => {
                let (delta, exact) = (case.f("delta"), case.f("eps_exact"));
                let event = plain(Mechanism::Laplace { scale }, 1);
                // A delta of 0 is not accepted; the least one that is must give the same.
                let got = pld::epsilon(&[event], delta.max(1e-15)).unwrap().epsilon;
                case.epsilon("epsilon", got, exact, 1e-12);
                assert!(got <= (1.0 / scale) * (1.0 + 1e-9), "{case}: {got}");
            }
            "epsilon_composed" => {
                let (delta, event) = (case.f("delta"), plain(Mechanism::Laplace { scale }, case.u("steps")));
                let spent = Accountant::with_orders(delta, orders.clone()).unwrap().add(&event).unwrap();
                case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
                case.order("eps_rdp_order", spent.order);
                let got = pld::epsilon(&[event], delta).unwrap().epsilon;
                let (low, high) = (case.f("eps_lower"), case.f("eps_upper"));
                assert!(got >= low * (1.0 - 1e-6), "{case}: {got} is below the truth");
                assert!(got <= high * 1.0005 + 1e-5, "{case}: {got} is too far above");
                assert!(got <= case.f("eps_pure") * (1.0 + 1e-9), "{case}: {got}");
            }
            // Of the sampler: see the tests of the noise.
            "discrete_pmf" => {}
            kind => panic!("{case}: unknown kind {kind}"),
        }
    });
}

#[test]
fn discrete_gaussian() {
    File::read("discrete_gaussian.json").each(|case| {
        let sigma2 = case.f("sigma2");
        match case.kind() {
            "rdp" => {
                let (l2, alpha) = (case.f("shift"), case.f("alpha"));
                let exact = rdp::discrete_gaussian_exact(sigma2, l2, alpha).unwrap();
                case.close("rdp_exact", exact, case.f("rdp_exact"), 1e-11);
                let charged = plain(Mechanism::DiscreteGaussian { sigma2, l2, dim: 1 }, 1);
                let charged = rdp::divergence(&charged, alpha).unwrap();
                case.close("rdp_bound", charged, case.f("rdp_bound"), 1e-9);
                assert!(charged >= exact, "{case}: {charged} is charged");
            }
            "epsilon" => {
                let event = Mechanism::DiscreteGaussian { sigma2, l2: case.f("shift"), dim: 1 };
                let got = pld::epsilon(&[plain(event, case.u("steps"))], case.f("delta")).unwrap();
                case.epsilon("epsilon", got.epsilon, case.f("eps_exact"), 1e-12);
            }
            "rdp_sampled" => {
                let (shift, alpha) = (case.f("shift"), case.u("alpha"));
                let bound = |k: u64| k as f64 * shift * shift / (2.0 * sigma2);
                let got = rdp::poisson_amplified(case.f("q"), alpha, bound).unwrap();
                case.close("rdp_formula", got, case.f("rdp_formula"), 1e-9);
                let mechanism = Mechanism::DiscreteGaussian { sigma2, l2: shift, dim: 1 };
                let event = event(Relation::ZeroOut, Sampling::Poisson { q: case.f("q") }, mechanism, 1);
                case.close("charged", rdp::divergence(&event, alpha as f64).unwrap(), case.f("rdp_formula"), 1e-9);
            }
            // Of the sampler.
            "pmf" => {}
            kind => panic!("{case}: unknown kind {kind}"),
        }
    });
}

#[test]
fn skellam() {
    File::read("skellam.json").each(|case| {
        let mu = case.f("mu");
        match case.kind() {
            "rdp_1d" => {
                let (shift, alpha) = (case.f("shift"), case.f("alpha"));
                let exact = rdp::skellam_exact(mu, shift, alpha).unwrap();
                case.close("rdp_exact", exact, case.f("rdp_exact"), 1e-10);
                let bound = rdp::skellam(mu, shift, shift, alpha).unwrap();
                case.close("rdp_bound", bound, case.f("rdp_bound"), 1e-9);
                assert!(bound >= exact, "{case}: {bound}");
            }
            "rdp_multi" => {
                let got = rdp::skellam(mu, case.f("l1"), case.f("l2"), case.f("alpha")).unwrap();
                case.close("rdp_bound", got, case.f("rdp_bound"), 1e-9);
            }
            "rdp_sampled" => {
                let (l1, l2, alpha) = (case.f("l1"), case.f("l2"), case.f("alpha"));
                let mechanism = Mechanism::Skellam { mu, l1, l2 };
                let event = event(Relation::ZeroOut, Sampling::Poisson { q: case.f("q") }, mechanism, 1);
                case.close("rdp_formula", rdp::divergence(&event, alpha).unwrap(), case.f("rdp_formula"), 1e-9);
            }
            "epsilon" => {
                let shift = case.f("shift");
                let event = plain(Mechanism::Skellam { mu, l1: shift, l2: shift }, case.u("steps"));
                let got = pld::epsilon(&[event], case.f("delta")).unwrap();
                case.epsilon("epsilon", got.epsilon, case.f("eps_exact"), 1e-12);
            }
            // Of the sampler.
            "pmf" => {}
            kind => panic!("{case}: unknown kind {kind}"),
        }
    });
}

#[test]
fn distributed() {
    File::read("distributed.json").each(|case| match case.kind() {
        "ddgauss_rdp" => {
            let mechanism = Mechanism::DiscreteGaussianSum {
                parties: case.u("clients"),
                sigma2: case.f("sigma2_per_client"),
                l1: case.f("l1"),
                l2: case.f("l2"),
                dim: case.u("dim"),
            };
            let got = rdp::divergence(&plain(mechanism, 1), case.f("alpha")).unwrap();
            case.close("rdp_bound", got, case.f("rdp_bound"), 1e-9);
            let tau = rdp::discrete_gaussian_tau(case.u("clients"), case.f("sigma2_per_client")).unwrap();
            case.close("tau", tau, case.f("tau"), 1e-9);
        }
        // Of the noise.
        "rounded_norm" | "noise_share" => {}
        kind => panic!("{case}: unknown kind {kind}"),
    });
}

#[test]
fn sampling_without_replacement() {
    let file = File::read("sampling_without_replacement.json");
    let orders = file.orders();
    file.each(|case| {
        let (sample, population, sigma) = (case.u("sample"), case.u("population"), case.f("sigma"));
        let sampling = Sampling::FixedWor { sample, population };
        match case.kind() {
            "rdp" => {
                let (alpha, want) = (case.f("alpha"), case.f("rdp_bound"));
                let got = rdp::wor_gaussian(sample, population, sigma, alpha).unwrap();
                case.close("rdp_bound", got, want, 1e-6);
                assert!(got >= want * (1.0 - 1e-6), "{case}: {got}");
            }
            "epsilon" => {
                let event = event(Relation::ReplaceOne, sampling, Mechanism::Gaussian { sigma }, case.u("steps"));
                let spent = Accountant::with_orders(case.f("delta"), orders.clone()).unwrap().add(&event).unwrap();
                if let Some(want) = case.maybe("eps_rdp") {
                    case.close("eps_rdp", spent.epsilon, want, 1e-6);
                }
                case.close("eps_rdp of the other package", spent.epsilon, case.f("eps_rdp_dp_accounting"), 1e-6);
                let plain = event_like(&event, Sampling::None);
                let plain = Accountant::with_orders(case.f("delta"), orders.clone()).unwrap().add(&plain).unwrap();
                case.close("eps_rdp_unamplified", plain.epsilon, case.f("eps_rdp_unamplified"), 1e-9);
            }
            kind => panic!("{case}: unknown kind {kind}"),
        }
    });
}

fn event_like(of: &Event, sampling: Sampling) -> Event {
    Event::new(of.unit(), of.relation(), sampling, of.mechanism(), of.count()).unwrap()
}

#[test]
fn composition() {
    let file = File::read("composition.json");
    let orders = file.orders();
    file.each(|case| {
        let delta = case.f("delta");
        let mut accountant = Accountant::with_orders(delta, orders.clone()).unwrap();
        match case.kind() {
            "gaussian_sequence" => {
                let groups = case.value["groups"].as_array().unwrap();
                for group in groups {
                    let group = Case { file: case.file, at: case.at, value: group };
                    accountant.add(&sampled(group.f("q"), group.f("sigma"), group.u("steps"))).unwrap();
                }
                let spent = accountant.spent();
                case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
                case.order("eps_rdp_order", spent.order);
                assert!(spent.epsilon < case.f("eps_naive_sum"), "{case}: {spent:?}");
                let events: Vec<_> = accountant.events().copied().collect();
                let (exact, error) = (case.f("eps_exact"), case.f("eps_exact_error"));
                case.epsilon("epsilon", pld::epsilon(&events, delta).unwrap().epsilon, exact, error);
                case.epsilon("tight", accountant.tight().unwrap().epsilon, exact, error);
                case.close("second opinion", inversion::epsilon(&events, delta).unwrap().value, exact, 1e-9);
            }
            "gaussian_laplace" => {
                let (gaussian, laplace) = (&case.value["gaussian"], &case.value["laplace"]);
                let sigma = gaussian["sigma"].as_f64().unwrap();
                let scale = laplace["b"].as_f64().unwrap();
                let count = |part: &Value| part["steps"].as_u64().unwrap();
                accountant.add(&plain(Mechanism::Gaussian { sigma }, count(gaussian))).unwrap();
                accountant.add(&plain(Mechanism::Laplace { scale }, count(laplace))).unwrap();
                let spent = accountant.spent();
                case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
                case.order("eps_rdp_order", spent.order);
                // The other package's figure is a pessimistic one of about the same tightness.
                let other = case.f("eps_pld_dp_accounting");
                let tight = accountant.tight().unwrap().epsilon;
                assert!(tight < other * 1.001 && tight > other * 0.999, "{case}: {tight}");
            }
            "ledger_rdp" => ledger(case, accountant),
            kind => panic!("{case}: unknown kind {kind}"),
        }
    });
}

/// Reserves the same event until it no longer fits.
fn ledger(case: &Case<'_>, mut accountant: Accountant) {
    let budget = Budget::new(case.f("budget"), case.f("delta")).unwrap();
    let round = sampled(case.f("q"), case.f("sigma"), 1);
    let want = |rounds: u64| case.value["eps_after"].get(rounds.to_string()).and_then(Value::as_f64);
    let (mut allowed, mut at_95_percent) = (0, None);
    for rounds in 1..=case.u("rounds") {
        let asked = accountant.with(&round).unwrap();
        if let Some(want) = want(rounds) {
            case.close(&format!("eps_after {rounds}"), asked.epsilon, want, 1e-9);
        }
        if !budget.allows(&asked) {
            case.close("eps_if_one_more", asked.epsilon, case.f("eps_if_one_more"), 1e-9);
            break;
        }
        assert_eq!(accountant.add(&round).unwrap(), asked);
        allowed = rounds;
        if asked.epsilon >= 0.95 * budget.epsilon() && at_95_percent.is_none() {
            at_95_percent = Some(rounds);
        }
    }
    assert_eq!(allowed, case.u("rounds_allowed"), "{case}");
    assert_eq!(at_95_percent, case.value["first_round_at_95_percent"].as_u64(), "{case}");
    case.close("eps_at_allowed", accountant.spent().epsilon, case.f("eps_at_allowed"), 1e-9);
    let empty = Accountant::with_orders(budget.delta(), accountant.orders().clone()).unwrap();
    if allowed < case.u("rounds") {
        assert_eq!(calibrate::rounds(&empty, &round.into(), budget).unwrap(), allowed, "{case}");
    }
}

#[test]
fn correlated_noise() {
    let file = File::read("correlated_noise.json");
    let orders = file.orders();
    file.each(|case| match case.kind() {
        // A tree of noise is a Gaussian release: a unit moves `levels` nodes in each of its trees.
        "tree" => {
            let nodes = case.f("trees_a_client_appears_in") * case.f("levels");
            let sigma = case.f("sigma") / nodes.sqrt();
            let event = plain(Mechanism::Gaussian { sigma }, 1);
            let spent = Accountant::with_orders(case.f("delta"), orders.clone()).unwrap().add(&event).unwrap();
            case.close("eps_rdp", spent.epsilon, case.f("eps_rdp"), 1e-9);
            case.order("eps_rdp_order", spent.order);
        }
        // Of the noise.
        "adaptive_clip_noise" | "adaptive_clip_step" | "sqrt_toeplitz" | "banded_normalised" => {}
        kind => panic!("{case}: unknown kind {kind}"),
    });
}
