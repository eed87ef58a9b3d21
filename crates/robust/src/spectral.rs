//! Divide and conquer (DnC, Shejwalkar and Houmansadr 2021), over all coordinates: who stands out along the direction in which
//! the rows differ most.

use crate::numbers::{by_value_then_index, ceil, dot};
use crate::{Bound, Gram};

/// What DnC kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Filtered {
    /// Indices of the rows that are left, rising.
    pub kept: Vec<usize>,
    /// Squared projections of the centred rows on the top right-singular vector.
    pub scores: Vec<f64>,
}

/// Drops the `ceil(c f)` rows with the largest scores; of equal ones the higher index.
///
/// # Errors
/// `2f >= n`; `c` is not a positive number, or so large that nobody is left.
pub fn dnc(gram: &Gram, f: usize, c: f64) -> Result<Filtered, Bound> {
    let n = gram.len();
    let dropped = dnc_needs(n, f, c)?;
    let (value, vector) = top_eigenvector(&doubly_centred(gram), n);
    let scores: Vec<f64> = vector.iter().map(|entry| value * entry * entry).collect();
    let mut kept: Vec<usize> = (0..n).collect();
    kept.sort_unstable_by(by_value_then_index(&scores));
    kept.truncate(n - dropped);
    kept.sort_unstable();
    Ok(Filtered { kept, scores })
}

/// How many are dropped.
pub(crate) fn dnc_needs(n: usize, f: usize, c: f64) -> Result<usize, Bound> {
    if !(c > 0.0 && c.is_finite()) {
        return Err(Bound::parameter("c", c, "positive and finite"));
    }
    Bound::minority("DnC", n, f)?;
    let dropped = ceil(c * f as f64);
    if dropped < n { Ok(dropped) } else { Err(Bound::byzantine("DnC", "ceil(c f) < n", n, f)) }
}

/// Products of rows centred by their mean, `[n][n]`.
fn doubly_centred(gram: &Gram) -> Vec<f64> {
    let n = gram.len();
    let means: Vec<f64> = (0..n).map(|i| gram.products_of(i)[..n].iter().sum::<f64>() / n as f64).collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    (0..n * n).map(|at| gram.product(at / n, at % n) - means[at / n] - means[at % n] + mean).collect()
}

/// The largest eigenvalue of a positive semidefinite matrix and its unit vector, by restarted Lanczos iteration with full
/// reorthogonalisation. The first vector is fixed and meets every direction.
fn top_eigenvector(matrix: &[f64], n: usize) -> (f64, Vec<f64>) {
    let mut start: Vec<f64> = (0..n).map(|i| 1.0 + ((i as f64 + 1.0) * 0.618_033_988_749_895).fract()).collect();
    let mut best = (0.0, start.clone());
    for _ in 0..RESTARTS_MAX {
        if !unit(&mut start) {
            break;
        }
        let mut basis: Vec<Vec<f64>> = vec![start];
        let mut images: Vec<Vec<f64>> = Vec::new();
        while basis.len() <= n.min(KRYLOV) {
            let last = &basis[basis.len() - 1];
            let image: Vec<f64> = matrix.chunks(n).map(|row| dot(row, last)).collect();
            let mut next = image.clone();
            images.push(image);
            let before = dot(&next, &next).sqrt();
            // Twice is enough (Kahan).
            for _ in 0..2 {
                for vector in &basis {
                    let along = dot(&next, vector);
                    next.iter_mut().zip(vector).for_each(|(entry, other)| *entry -= along * other);
                }
            }
            let left = dot(&next, &next).sqrt();
            if left <= 1e-14 * before || !unit(&mut next) || basis.len() == n.min(KRYLOV) {
                break;
            }
            basis.push(next);
        }
        let size = images.len();
        let small: Vec<f64> = (0..size * size).map(|at| dot(&basis[at / size], &images[at % size])).collect();
        let (value, weights) = jacobi(small, size);
        let mix = |vectors: &[Vec<f64>]| -> Vec<f64> {
            (0..n).map(|i| weights.iter().zip(vectors).map(|(weight, vector)| weight * vector[i]).sum()).collect()
        };
        let (mut vector, image) = (mix(&basis), mix(&images));
        let residual =
            image.iter().zip(&vector).map(|(image, entry)| (image - value * entry).powi(2)).sum::<f64>().sqrt();
        unit(&mut vector);
        best = (value.max(0.0), vector.clone());
        if residual <= 1e-13 * value {
            break;
        }
        start = vector;
    }
    best
}

/// Scales to length 1, unless there is none.
fn unit(vector: &mut [f64]) -> bool {
    let norm = dot(vector, vector).sqrt();
    if !(norm > 0.0 && norm.is_finite()) {
        return false;
    }
    vector.iter_mut().for_each(|entry| *entry /= norm);
    true
}

/// The largest eigenvalue of a small symmetric matrix and its vector, by cyclic Jacobi rotations.
fn jacobi(mut a: Vec<f64>, n: usize) -> (f64, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| a[at] * a[at]).sum();
        let all: f64 = a.iter().map(|entry| entry * entry).sum();
        if off <= 1e-32 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let between = a[p * n + q];
                if between == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * between);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (vectors[k * n + p], vectors[k * n + q]);
                    (vectors[k * n + p], vectors[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let top = (0..n).max_by(|&i, &j| a[i * n + i].total_cmp(&a[j * n + j])).unwrap_or_default();
    (a[top * n + top], (0..n).map(|k| vectors[k * n + top]).collect())
}

/// Vectors of one Lanczos run.
const KRYLOV: usize = 40;
const RESTARTS_MAX: usize = 30;
