//! Random parameters: no figure is below the truth, and the tight one is not far above it.
//!
//! The truth is the transform inversion, which shares nothing with the privacy loss distribution but the formula of the
//! loss, or the closed form of one release. `cargo test -p sordino-dp --test sweep -- --ignored` runs 10,000 points.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sordino_dp::{Accountant, DpError, Event, Mechanism, Relation, Sampling, Unit, inversion, pld};

struct Draws(ChaCha20Rng);

impl Draws {
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn logarithmic(&mut self, least: f64, most: f64) -> f64 {
        (least.ln() + self.unit() * (most / least).ln()).exp().clamp(least, most)
    }

    fn event(&mut self) -> Event {
        let q = if self.unit() < 0.1 { 1.0 } else { self.logarithmic(1e-5, 1.0) };
        let sigma = self.logarithmic(0.4, 40.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 100,000")]
        let count = if self.unit() < 0.05 { 1 } else { self.logarithmic(1.0, 1e5).round() as u64 };
        let sampling = if q == 1.0 && self.unit() < 0.5 { Sampling::None } else { Sampling::Poisson { q } };
        Event::new(Unit::Record, Relation::AddRemove, sampling, Mechanism::Gaussian { sigma }, count).unwrap()
    }
}

/// What came of a sweep.
#[derive(Debug, Default)]
struct Tally {
    compared: u32,
    /// Above the goal of 0.05 %, though below 1 %.
    loose: u32,
    /// The truth is not known by this method.
    unknown: u32,
    /// The privacy loss distribution gave up; Renyi orders stand.
    gave_up: u32,
}

/// Points until so many could be compared.
fn sweep(seed: u64, compared: u32) -> Tally {
    let mut draws = Draws(ChaCha20Rng::seed_from_u64(seed));
    let mut tally = Tally::default();
    while tally.compared < compared {
        let kinds = if draws.unit() < 0.2 { 2 + u32::from(draws.unit() < 0.5) } else { 1 };
        let events: Vec<_> = (0..kinds).map(|_| draws.event()).collect();
        let delta = draws.logarithmic(1e-12, 1e-2);
        let point = tally.compared + tally.unknown;
        check(&events, delta, &format!("seed {seed} point {point}: {events:?} delta {delta:e}"), &mut tally);
    }
    tally
}

fn check(events: &[Event], delta: f64, what: &str, tally: &mut Tally) {
    let mut accountant = Accountant::new(delta).unwrap();
    for event in events {
        accountant.add(event).unwrap();
    }
    let renyi = accountant.spent().epsilon;
    let truth = match inversion::epsilon(events, delta) {
        Ok(truth) => Some(truth),
        Err(DpError::NotConverging { .. }) => {
            tally.unknown += 1;
            // What is only held against one release is looked at less often.
            if !tally.unknown.is_multiple_of(4) {
                return;
            }
            None
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let tight = match pld::epsilon(events, delta) {
        Ok(tight) => tight.epsilon,
        Err(DpError::NotConverging { .. }) => {
            tally.gave_up += 1;
            renyi
        }
        Err(error) => panic!("{what}: {error}"),
    };
    // Together they cannot cost less than one release of any of them.
    for event in events {
        let one = inversion::epsilon(&[event.times(1).unwrap()], delta).unwrap().value;
        assert!(tight.min(renyi) >= one * (1.0 - 1e-12), "{what}: {tight}, {renyi} for all, {one} for one");
    }
    let Some(truth) = truth else { return };
    tally.compared += 1;
    let least = truth.value * (1.0 - 1e-9) - truth.error;
    assert!(renyi >= least, "{what}: Renyi {renyi} is below {truth:?}");
    assert!(tight >= least, "{what}: {tight} is below {truth:?}");
    if tight != renyi {
        assert!(tight <= truth.value * 1.01 + 1e-3, "{what}: {tight} is far above {truth:?}");
        tally.loose += u32::from(tight > truth.value * 1.0005 + 1e-5);
    }
    // An opinion with a large error could not contradict anything.
    assert!(truth.error <= 1e-3 * truth.value + 1e-9, "{what}: {truth:?}");
}

/// Two, so that they run beside each other.
#[test]
fn no_figure_is_below_the_truth() {
    few_are_loose(&sweep(1, 500), 5);
}

#[test]
fn no_figure_is_below_the_truth_from_another_seed() {
    few_are_loose(&sweep(2, 500), 5);
}

#[test]
#[ignore = "some minutes"]
fn no_figure_is_below_the_truth_at_ten_thousand_points() {
    few_are_loose(&sweep(3, 10_000), 100);
}

fn few_are_loose(tally: &Tally, most: u32) {
    assert!(tally.unknown <= tally.compared, "{tally:?}");
    assert!(tally.loose + tally.gave_up <= most, "{tally:?}");
}
