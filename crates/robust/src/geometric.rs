//! The geometric median, by smoothed Weiszfeld steps on the Gram matrix (RFA, Pillutla et al. 2022, Algorithm 1).
//!
//! A point is a set of coefficients on the rows that sum to 1; a step costs `n^2` however large the model is.

use serde::{Deserialize, Serialize};

use crate::numbers::dot;
use crate::{Bound, Gram};

/// How far the geometric median is iterated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Until nothing moves, with a test whether a row itself is the minimiser (Vardi and Zhang 2000).
    #[default]
    Converged,
    /// A number of steps from the mean, each distance at least `nu`.
    Steps {
        /// How many.
        iterations: u32,
        /// The smoothing.
        nu: f64,
    },
}

impl Schedule {
    /// What RFA's authors run: three steps, from the mean.
    pub const RFA: Self = Self::Steps { iterations: 3, nu: 1e-6 };

    /// Whether its numbers make sense.
    pub(crate) fn check(self) -> Result<(), Bound> {
        match self {
            Self::Converged => Ok(()),
            Self::Steps { nu, .. } if nu > 0.0 && nu.is_finite() => Ok(()),
            Self::Steps { nu, .. } => Err(Bound::parameter("nu", nu, "positive and finite")),
        }
    }

    /// Coefficients of the geometric median of all rows, `[rows]`, which sum to 1.
    pub(crate) fn run(self, gram: &Gram, weights: &[f64]) -> Result<Vec<f64>, Bound> {
        self.check()?;
        Ok(match self {
            Self::Converged => converged(gram, weights),
            Self::Steps { iterations, nu } => {
                let mut point = normalised(weights.to_vec());
                for _ in 0..iterations {
                    point = step(&distances(gram, &point), weights, nu);
                }
                point
            }
        })
    }
}

/// Coefficients after a fixed number of steps from anywhere: `first` are the distances of all rows to where it begins.
///
/// # Errors
/// `nu` is not positive; there are no steps.
pub fn smoothed_weiszfeld(
    gram: &Gram,
    first: &[f64],
    weights: &[f64],
    nu: f64,
    iterations: u32,
) -> Result<Vec<f64>, Bound> {
    Schedule::Steps { iterations, nu }.check()?;
    if iterations == 0 {
        return Err(Bound::parameter("iterations", 0.0, "at least 1"));
    }
    let mut point = step(first, weights, nu);
    for _ in 1..iterations {
        point = step(&distances(gram, &point), weights, nu);
    }
    Ok(point)
}

/// `b_i = w_i / max(nu, ||x_i - z||)`, to a sum of 1.
fn step(distances: &[f64], weights: &[f64], nu: f64) -> Vec<f64> {
    normalised(distances.iter().zip(weights).map(|(distance, weight)| weight / distance.max(nu)).collect())
}

fn normalised(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

/// Distances of all rows to a combination of them.
fn distances(gram: &Gram, coefficients: &[f64]) -> Vec<f64> {
    let rows = gram.len();
    let along: Vec<f64> = (0..rows).map(|i| dot(&gram.products_of(i)[..rows], coefficients)).collect();
    let own = dot(&along, coefficients);
    (0..rows).map(|i| (own - 2.0 * along[i] + gram.product(i, i)).max(0.0).sqrt()).collect()
}

/// Coefficients of the geometric median of unit rows, given their cosines `[rows][rows]`.
pub(crate) fn of_units(cosines: &[f64], rows: usize) -> Vec<f64> {
    converged(&Gram::of_products(cosines.to_vec(), rows), &vec![1.0; rows])
}

/// The minimiser of `sum w_i ||x_i - z||`.
fn converged(gram: &Gram, weights: &[f64]) -> Vec<f64> {
    let rows = gram.len();
    let reach = |i: usize| gram.product(i, i).sqrt();
    let mut point = normalised(weights.to_vec());
    for at in 0..STEPS_MAX {
        let distances = distances(gram, &point);
        if at % CHECK_EVERY == 0
            && let Some(row) = (0..rows).min_by(|&a, &b| distances[a].total_cmp(&distances[b]))
            && is_minimiser(gram, weights, row)
        {
            point.fill(0.0);
            point[row] = 1.0;
            return point;
        }
        // Nothing is closer than rounding can tell.
        let smallest = distances.iter().fold(0.0, |most: f64, distance| most.max(*distance)) * CLOSEST;
        let next = step(&distances, weights, smallest.max(f64::MIN_POSITIVE));
        // An upper bound of how far it moved, beside how far the point is made of.
        let (mut moved, mut size) = (0.0, 0.0);
        for i in 0..rows {
            moved += (next[i] - point[i]).abs() * reach(i);
            size += next[i] * reach(i);
        }
        point = next;
        if moved <= STILL * size {
            break;
        }
    }
    point
}

/// Whether a row is the minimiser: the unit vectors to all others, weighted, pull no harder than it weighs.
fn is_minimiser(gram: &Gram, weights: &[f64], row: usize) -> bool {
    let rows = gram.len();
    let mut weight = 0.0;
    let mut pulls = vec![0.0; rows];
    for i in 0..rows {
        let distance = gram.squared_distance(row, i).sqrt();
        if distance > 0.0 { pulls[i] = weights[i] / distance } else { weight += weights[i] }
    }
    // || sum p_i (x_i - x_row) ||^2
    let all: f64 = pulls.iter().sum();
    let along: Vec<f64> = (0..rows).map(|i| dot(&gram.products_of(i)[..rows], &pulls)).collect();
    let squared = dot(&along, &pulls) - 2.0 * all * along[row] + all * all * gram.product(row, row);
    squared.max(0.0).sqrt() <= weight * (1.0 + 1e-12)
}

const STEPS_MAX: u32 = 10_000;
const CHECK_EVERY: u32 = 8;
/// Relative movement of a step that ends the iteration.
const STILL: f64 = 1e-14;
/// The least distance, beside the largest.
const CLOSEST: f64 = 1e-14;
