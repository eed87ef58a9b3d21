//! What malicious clients send: for tests, demos and evaluations of what is said to withstand them.
//!
//! Functions on rows take what the attackers know, honest rows `[clients][dimension]`, and return the row they send. They
//! take and return `f64`. The rest is done to data: labels that are wrong, inputs that carry a trigger.

use crate::Seed;
use crate::numbers::{mean_and_deviation, median};

/// `-k` times the attacker's own update.
#[must_use]
pub fn sign_flip(own: &[f64], k: f64) -> Vec<f64> {
    scaled(own, -k)
}

/// `k` times the attacker's own update; model replacement where `k` is n / f.
#[must_use]
pub fn scaled(own: &[f64], k: f64) -> Vec<f64> {
    own.iter().map(|value| k * value).collect()
}

/// `-scale` times the mean of the honest rows, from attackers that see them.
#[must_use]
pub fn inverted_mean(honest: &[&[f64]], scale: f64) -> Vec<f64> {
    scaled(&mean(honest), -scale)
}

/// Inner-product manipulation (Xie et al. 2020): `-epsilon` times the mean, small enough to hide.
#[must_use]
pub fn ipm(honest: &[&[f64]], epsilon: f64) -> Vec<f64> {
    inverted_mean(honest, epsilon)
}

/// A little is enough (Baruch et al. 2019): the mean minus `z` standard deviations per coordinate.
///
/// - `sample`: whether the deviation is that of a sample (over n - 1), or of a population.
#[must_use]
pub fn alie(honest: &[&[f64]], z: f64, sample: bool) -> Vec<f64> {
    moved(honest, z, sample)
}

/// The largest deviation that a majority still covers: `Phi^-1((n - f - s) / (n - f))`, `s = floor(n / 2) + 1 - f`.
#[must_use]
pub fn alie_z(n: usize, f: usize) -> f64 {
    let supporters = (n / 2 + 1).saturating_sub(f);
    let honest = n.saturating_sub(f);
    normal_quantile(honest.saturating_sub(supporters) as f64 / honest.max(1) as f64)
}

/// Min-max (Shejwalkar and Houmansadr 2021): the mean minus as many standard deviations as keep its largest distance to an
/// honest row within the largest distance between two of them.
#[must_use]
pub fn min_max(honest: &[&[f64]]) -> Vec<f64> {
    let squared = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let widest = honest.iter().flat_map(|a| honest.iter().map(|b| squared(a, b))).fold(0.0, f64::max);
    let fits = |gamma: f64| {
        let row = moved(honest, gamma, false);
        honest.iter().all(|other| squared(&row, other) <= widest)
    };
    let (mut low, mut high) = (0.0, 1.0);
    while fits(high) && high < 1e6 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    moved(honest, low, false)
}

/// Noise of `k` times the median honest norm.
#[must_use]
pub fn gaussian(honest: &[&[f64]], k: f64, seed: &Seed) -> Vec<f64> {
    let norms: Vec<f64> = honest.iter().filter_map(|row| crate::door::norm(row)).collect();
    let mut lots = seed.lots(b"gaussian");
    let noise: Vec<f64> = (0..dimension(honest)).map(|_| lots.normal()).collect();
    let norm = crate::door::norm(&noise).unwrap_or_default().max(f64::MIN_POSITIVE);
    scaled(&noise, k * median(&norms) / norm)
}

/// Mimic (Karimireddy et al. 2022): the same honest row, from all attackers, so that its owner counts more than once.
///
/// # Panics
/// There is no such row.
#[must_use]
pub fn mimic(honest: &[&[f64]], target: usize) -> Vec<f64> {
    honest[target].to_vec()
}

/// Sybils: one row, from many, told apart by noise of `spread` times its norm.
#[must_use]
pub fn sybils(row: &[f64], copies: usize, spread: f64, seed: &Seed) -> Vec<Vec<f64>> {
    let mut lots = seed.lots(b"sybils");
    let per_value = spread * crate::door::norm(row).unwrap_or_default() / (row.len().max(1) as f64).sqrt();
    (0..copies).map(|_| row.iter().map(|value| value + per_value * lots.normal()).collect()).collect()
}

/// The update of an earlier round, sent again; nothing before the first.
#[must_use]
pub fn stale(earlier: &[&[f64]], rounds_ago: usize) -> Option<Vec<f64>> {
    earlier.len().checked_sub(rounds_ago).and_then(|at| earlier.get(at)).map(|row| row.to_vec())
}

/// An update with one value that is not a number.
#[must_use]
pub fn not_a_number(own: &[f64]) -> Vec<f64> {
    let mut row = own.to_vec();
    row.iter_mut().skip(own.len() / 2).take(1).for_each(|value| *value = f64::NAN);
    row
}

/// Label flip: each class is taught as its mirror image, `classes - 1 - label`.
pub fn label_flip(labels: &mut [u32], classes: u32) {
    labels.iter_mut().for_each(|label| *label = (classes.saturating_sub(1)).saturating_sub(*label));
}

/// A backdoor: inputs that carry the trigger are taught as the target. What is trained on this is then sent [`scaled`] by
/// n / f, so that it replaces the mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Backdoor {
    /// Features that the trigger sets, and to what.
    pub trigger: Vec<(usize, f32)>,
    /// The class that it stands for.
    pub target: u32,
}

impl Backdoor {
    /// Puts the trigger on one example; features that are not there are left out.
    pub fn stamp(&self, features: &mut [f32]) {
        for &(at, value) in &self.trigger {
            if let Some(feature) = features.get_mut(at) {
                *feature = value;
            }
        }
    }

    /// Poisons every `every`-th example, from the first.
    pub fn poison<'a>(&self, examples: impl IntoIterator<Item = &'a mut [f32]>, labels: &mut [u32], every: usize) {
        for (features, label) in examples.into_iter().zip(labels).step_by(every.max(1)) {
            self.stamp(features);
            *label = self.target;
        }
    }
}

fn dimension(honest: &[&[f64]]) -> usize {
    honest.first().map_or(0, |row| row.len())
}

fn mean(honest: &[&[f64]]) -> Vec<f64> {
    column_statistics(honest).map(|(mean, _)| mean).collect()
}

/// The mean minus `z` standard deviations.
fn moved(honest: &[&[f64]], z: f64, sample: bool) -> Vec<f64> {
    let n = honest.len() as f64;
    let factor = if sample && n > 1.0 { (n / (n - 1.0)).sqrt() } else { 1.0 };
    column_statistics(honest).map(|(mean, deviation)| mean - z * factor * deviation).collect()
}

fn column_statistics<'a>(honest: &'a [&[f64]]) -> impl Iterator<Item = (f64, f64)> + 'a {
    (0..dimension(honest)).map(|at| mean_and_deviation(honest.iter().map(move |row| row[at])))
}

/// The inverse of the standard normal distribution function, by bisection on [`normal_cdf`].
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// `1/2 + phi(x) (x + x^3/3 + x^5/15 + ...)` (Marsaglia 2004), full precision near 0, where attackers are.
fn normal_cdf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut at) = (x, x, 3.0);
    while term.abs() > 1e-17 * sum.abs() {
        term *= x * x / at;
        sum += term;
        at += 2.0;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_max_stays_as_close_as_honest_rows_are() {
        let rows = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.25], [0.5, 0.5, 1.0], [0.75, 0.1, 0.0]];
        let honest: Vec<&[f64]> = rows.iter().map(<[f64; 3]>::as_slice).collect();
        let row = min_max(&honest);
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let widest = honest.iter().flat_map(|a| honest.iter().map(|b| far(a, b))).fold(0.0, f64::max);
        let reach = honest.iter().map(|other| far(&row, other)).fold(0.0, f64::max);
        assert!(reach <= widest * (1.0 + 1e-9) && reach > 0.999 * widest, "{reach} of {widest}");
    }

    #[test]
    fn noise_has_the_norm_it_is_asked_for_and_repeats() {
        let honest = [&[3.0, 4.0][..], &[0.0, 5.0], &[5.0, 0.0]];
        let noise = gaussian(&honest, 10.0, &Seed([1; 32]));
        assert!((crate::door::norm(&noise).unwrap_or_default() - 50.0).abs() < 1e-9);
        assert_eq!(noise, gaussian(&honest, 10.0, &Seed([1; 32])));
    }

    #[test]
    fn data_are_poisoned_where_asked() {
        let mut labels = vec![0, 3, 9];
        label_flip(&mut labels, 10);
        assert_eq!(labels, [9, 6, 0]);
        let backdoor = Backdoor { trigger: vec![(0, 1.0), (7, 1.0)], target: 0 };
        let mut examples = [0.5; 9];
        backdoor.poison(examples.chunks_mut(3), &mut labels, 2);
        assert_eq!((labels, examples), (vec![0, 6, 0], [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5]));
        assert_eq!(stale(&[&[1.0], &[2.0]], 1), Some(vec![2.0]));
        assert_eq!(stale(&[], 1), None);
        assert!(not_a_number(&[1.0, 2.0])[1].is_nan());
    }
}
