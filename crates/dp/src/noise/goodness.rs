//! Goodness of fit, for tests: chi-square against an exact pmf, with a stated failure probability.
//!
//! A statistic of k degrees of freedom exceeds `k + 2 sqrt(k x) + 2 x` with a chance of at most `e^-x` (Laurent, Massart
//! 2000, lemma 1). x is 20.7, so a right sampler fails with a chance of 1e-9 per test; the seeds are fixed all the same.

use super::error::NoiseError;
use super::rng::NoiseRng;

/// A range of integers and its exact probability.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bin {
    /// First integer that is not below.
    pub(super) from: i64,
    pub(super) probability: f64,
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) statistic: f64,
    pub(super) limit: f64,
}

/// Draws a million numbers and compares them with bins that cover all integers, in order.
pub(super) fn chi_square(
    seed: u64,
    bins: &[Bin],
    add_to: impl FnMut(&mut [i64], &mut NoiseRng) -> Result<(), NoiseError>,
) {
    let found = chi_square_statistic(seed, bins, add_to);
    assert!(found.statistic <= found.limit, "{found:?}");
}

pub(super) fn chi_square_statistic(
    seed: u64,
    bins: &[Bin],
    mut add_to: impl FnMut(&mut [i64], &mut NoiseRng) -> Result<(), NoiseError>,
) -> Found {
    let total: f64 = bins.iter().map(|bin| bin.probability).sum();
    assert!((total - 1.0).abs() < 1e-9, "bins cover everything: {total}");
    let mut values = vec![0; DRAWS];
    add_to(&mut values, &mut NoiseRng::predictable(seed)).unwrap();
    let mut counts = vec![0_u32; bins.len()];
    for value in values {
        counts[bins.partition_point(|bin| bin.from <= value) - 1] += 1;
    }
    let statistic = bins
        .iter()
        .zip(counts)
        .map(|(bin, count)| {
            let expected = bin.probability * DRAWS as f64;
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum();
    let k = (bins.len() - 1) as f64;
    Found { statistic, limit: k + 2.0 * (k * FAILURE).sqrt() + 2.0 * FAILURE }
}

/// Bins of a symmetric pmf on `-max..=max`: single integers where enough draws are expected, the tails together.
pub(super) fn pmf_of(pmf: impl Fn(i64) -> f64, max: i64) -> Vec<Bin> {
    let mut inner = 0;
    while inner < max && pmf(inner + 1) * DRAWS as f64 >= EXPECTED_MIN {
        inner += 1;
    }
    let tail: f64 = (inner + 1..=max).rev().map(&pmf).sum();
    let mut bins: Vec<_> = (-inner..=inner).map(|k| Bin { from: k, probability: pmf(k) }).collect();
    if tail * DRAWS as f64 >= EXPECTED_MIN {
        bins.insert(0, Bin { from: i64::MIN, probability: tail });
        bins.push(Bin { from: inner + 1, probability: tail });
    } else {
        // Too rare for a bin of its own; it counts with its neighbour.
        bins[0] = Bin { from: i64::MIN, probability: bins[0].probability + tail };
        let last = bins.len() - 1;
        bins[last].probability += tail;
    }
    bins
}

/// The discrete Gaussian's pmf, normalised by its sum, smallest terms first.
pub(super) fn gaussian_pmf(sigma2: f64) -> impl Fn(i64) -> f64 {
    let weight = move |k: i64| (-((k * k) as f64) / (2.0 * sigma2)).exp();
    #[expect(clippy::cast_possible_truncation, reason = "small in tests")]
    let reach = (40.0 * sigma2.sqrt()) as i64 + 2;
    let sum = 2.0 * (1..=reach).rev().map(weight).sum::<f64>() + 1.0;
    move |k| weight(k) / sum
}

/// 100 bins of about equal probability under a wide discrete Gaussian. A sum over integers is the integral over
/// half-integers here, up to 1/(24 sigma^2) relative (midpoint rule), below what a million draws can show for sigma >= 100.
pub(super) fn quantile_bins(sigma: f64) -> Vec<Bin> {
    #[expect(clippy::cast_possible_truncation, reason = "within four sigma")]
    let edges: Vec<i64> = (1..100).map(|at| (sigma * normal_quantile(f64::from(at) / 100.0)).round() as i64).collect();
    let cdf = |edge: i64| normal_cdf((edge as f64 - 0.5) / sigma);
    let mut bins = vec![Bin { from: i64::MIN, probability: cdf(edges[0]) }];
    for (at, &from) in edges.iter().enumerate() {
        let upper = edges.get(at + 1).map_or(1.0, |&next| cdf(next));
        bins.push(Bin { from, probability: upper - cdf(from) });
    }
    bins
}

/// Frequency within six standard deviations: a chance of 2e-9.
pub(super) fn within(frequency: f64, p: f64, draws: u32) {
    let deviation = 6.0 * (p * (1.0 - p) / f64::from(draws)).sqrt();
    assert!((frequency - p).abs() <= deviation, "{frequency} against {p} +- {deviation}");
}

fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    low
}

/// Simpson's rule on the density from 0: 1e-12 is more than enough here.
fn normal_cdf(x: f64) -> f64 {
    const STEPS: u32 = 2000;
    let h = x / f64::from(STEPS);
    let density = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let inner: f64 = (1..STEPS).map(|at| if at % 2 == 1 { 4.0 } else { 2.0 } * density(h * f64::from(at))).sum::<f64>();
    0.5 + h / 3.0 * (density(0.0) + inner + density(x))
}

const DRAWS: usize = 1_000_000;
/// `-ln` of the failure probability 1e-9.
const FAILURE: f64 = 20.723;
/// Draws that a bin must expect for the statistic to be close to chi-square.
const EXPECTED_MIN: f64 = 50.0;
