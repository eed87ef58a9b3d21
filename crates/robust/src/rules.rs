//! The rules as functions, each by its definition; [`Rule`](crate::Rule) names them for policies.
//!
//! All outputs are `f64`, `[dimension]`. Rows are [`Mixed`]: updates, or what stages in front have made of them.

use std::num::NonZeroUsize;

use crate::columns::{Columnwise, combine};
use crate::numbers::median;
use crate::{Bound, Element, Gram, Mixed, Updates, Weights, geometric, parallel, select, spectral};

/// The mean; weighted where there are weights (McMahan et al. 2017). Withstands nobody.
///
/// # Panics
/// Weights are for another number of rows.
#[must_use]
pub fn mean<T: Element>(rows: &Mixed<'_, '_, T>, weights: Option<&Weights>, threads: NonZeroUsize) -> Vec<f64> {
    let equal = vec![1.0; rows.rows()];
    let weights = weights.map_or(equal.as_slice(), Weights::as_slice);
    assert_eq!(weights.len(), rows.rows(), "weights are for these rows");
    rows.combine(weights, weights.iter().sum(), threads)
}

/// The median of each coordinate (Yin et al. 2018).
#[must_use]
pub fn coordinate_median<T: Element>(rows: &Mixed<'_, '_, T>, threads: NonZeroUsize) -> Vec<f64> {
    rows.columnwise(Columnwise::Median, None, threads)
}

/// The mean of each coordinate without its `f` smallest and `f` largest values (Yin et al. 2018).
///
/// # Errors
/// `2f >= n`.
pub fn trimmed_mean<T: Element>(rows: &Mixed<'_, '_, T>, f: usize, threads: NonZeroUsize) -> Result<Vec<f64>, Bound> {
    Bound::minority("the trimmed mean", rows.rows(), f)?;
    Ok(rows.columnwise(Columnwise::TrimmedMean { dropped: f }, None, threads))
}

/// The mean of the `n - f` values of each coordinate that are closest to its median (Xie et al. 2018).
///
/// # Errors
/// `2f >= n`.
pub fn mean_around_median<T: Element>(
    rows: &Mixed<'_, '_, T>,
    f: usize,
    threads: NonZeroUsize,
) -> Result<Vec<f64>, Bound> {
    Bound::minority("the mean around the median", rows.rows(), f)?;
    Ok(rows.columnwise(Columnwise::AroundMedian { kept: rows.rows() - f }, None, threads))
}

/// Bulyan: per coordinate the mean of the `n - 4f` selected values that are closest to their median. Beside the vector, who was
/// selected, in order.
///
/// # Errors
/// `n < 4f + 3`.
pub fn bulyan<T: Element>(
    rows: &Mixed<'_, '_, T>,
    gram: &Gram,
    f: usize,
    threads: NonZeroUsize,
) -> Result<(Vec<f64>, Vec<usize>), Bound> {
    let selected = select::bulyan(gram, f)?;
    let kept = selected.len() - 2 * f;
    Ok((rows.columnwise(Columnwise::AroundMedian { kept }, Some(&selected), threads), selected))
}

/// Coefficients of the mean of some rows.
#[must_use]
pub fn mean_of(selected: &[usize], rows: usize) -> Vec<f64> {
    let mut coefficients = vec![0.0; rows];
    selected.iter().for_each(|&row| coefficients[row] = 1.0 / selected.len() as f64);
    coefficients
}

/// Centred clipping (Karimireddy et al. 2021): `iterations` times `v <- v + mean_i (x_i - v) min(1, tau / ||x_i - v||)`, from
/// the start of the Gram matrix. Coefficients on all its points: rows, the origin, and the start.
///
/// # Errors
/// `tau` is not positive and finite.
pub fn centered_clipping(gram: &Gram, tau: f64, iterations: u32) -> Result<Vec<f64>, Bound> {
    if !(tau > 0.0 && tau.is_finite()) {
        return Err(Bound::parameter("tau", tau, "positive and finite"));
    }
    let n = gram.len();
    let mut point = vec![0.0; gram.points()];
    point[gram.start()] = 1.0;
    for _ in 0..iterations {
        let distances = gram.squared_distances_to(&point);
        let steps: Vec<f64> = distances[..n]
            .iter()
            .map(|squared| {
                let distance = squared.sqrt();
                // Where a row is, nothing is clipped.
                (if distance > tau { tau / distance } else { 1.0 }) / n as f64
            })
            .collect();
        let stays = 1.0 - steps.iter().sum::<f64>();
        point.iter_mut().for_each(|coefficient| *coefficient *= stays);
        point.iter_mut().zip(&steps).for_each(|(coefficient, step)| *coefficient += step);
    }
    Ok(point)
}

/// The median distance of the rows to the start; a clipping radius that adapts itself.
#[must_use]
pub fn median_distance(gram: &Gram) -> f64 {
    let squared: Vec<f64> = (0..gram.len()).map(|i| gram.squared_distance(i, gram.start())).collect();
    median(&squared).sqrt()
}

/// FLTrust's trust in each row: its cosine to the server's own update, at least 0 (Cao et al. 2021). A zero row has none.
///
/// # Errors
/// The server's update is zero or of another length.
pub fn fltrust<T: Element>(updates: &Updates<'_, T>, root: &[f64], threads: NonZeroUsize) -> Result<Trust, Bound> {
    let root_norm = root_norm(root, updates.dimension())?;
    let along = products_with(updates, root, threads);
    let cosines = along
        .iter()
        .zip(updates.norms())
        .map(|(along, &norm)| if norm > 0.0 { (along / norm / root_norm).clamp(0.0, 1.0) } else { 0.0 });
    Ok(Trust::new(cosines.collect(), updates.norms(), root_norm))
}

/// How FLTrust weighs rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Trust {
    /// In each row, from 0 to 1.
    pub trust: Vec<f64>,
    /// `trust_i ||root|| / ||x_i|| / sum trust`; all 0 where nobody is trusted.
    pub coefficients: Vec<f64>,
}

impl Trust {
    pub(crate) fn new(trust: Vec<f64>, norms: &[f64], root_norm: f64) -> Self {
        let sum: f64 = trust.iter().sum();
        let weigh = |(trust, norm): (&f64, &f64)| if *trust > 0.0 { trust / sum * root_norm / norm } else { 0.0 };
        let coefficients = trust.iter().zip(norms).map(weigh).collect();
        Self { trust, coefficients }
    }
}

/// The norm of a vector of the server's own.
pub(crate) fn root_norm(root: &[f64], want: usize) -> Result<f64, Bound> {
    if root.len() != want {
        return Err(Bound::DimensionMismatch { what: "server's own update".to_owned(), got: root.len(), want });
    }
    crate::door::norm(root).filter(|norm| *norm > 0.0).ok_or(Bound::ZeroRoot)
}

/// Products of all rows with one vector, in `f64`.
pub(crate) fn products_with<T: Element>(updates: &Updates<'_, T>, vector: &[f64], threads: NonZeroUsize) -> Vec<f64> {
    parallel::map(threads, updates.len(), |at| {
        let mut lanes = [0.0; 8];
        let (blocks, rest) = updates.rows()[at].as_chunks::<8>();
        let (others, others_rest) = vector.as_chunks::<8>();
        for (block, other) in blocks.iter().zip(others) {
            for ((lane, value), other) in lanes.iter_mut().zip(block).zip(other) {
                *lane += value.wide() * other;
            }
        }
        let rest: f64 = rest.iter().zip(others_rest).map(|(value, other)| value.wide() * other).sum();
        lanes.iter().sum::<f64>() + rest
    })
}

/// Where [`smoothed_weiszfeld`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// At the mean.
    Mean,
    /// At the origin.
    Zero,
    /// At the coordinate median.
    CoordinateMedian,
}

/// Exactly `iterations` smoothed Weiszfeld steps from a point of which only the distances matter.
///
/// # Errors
/// `nu` is not positive; there are no steps.
pub fn smoothed_weiszfeld<T: Element>(
    updates: &Updates<'_, T>,
    gram: &Gram,
    init: Init,
    nu: f64,
    iterations: u32,
    threads: NonZeroUsize,
) -> Result<Vec<f64>, Bound> {
    let n = updates.len();
    let first = match init {
        Init::Zero => gram.norms().to_vec(),
        Init::Mean => {
            let mut mean = vec![1.0 / n as f64; n];
            mean.resize(gram.points(), 0.0);
            gram.squared_distances_to(&mean)[..n].iter().map(|squared| squared.sqrt()).collect()
        }
        Init::CoordinateMedian => distances_to(updates, &coordinate_median(&updates.into(), threads), threads),
    };
    let coefficients = geometric::smoothed_weiszfeld(gram, &first, &vec![1.0; n], nu, iterations)?;
    Ok(combine(updates, &coefficients, 1.0, threads))
}

/// Distances of all rows to a vector.
pub fn distances_to<T: Element>(updates: &Updates<'_, T>, vector: &[f64], threads: NonZeroUsize) -> Vec<f64> {
    parallel::map(threads, updates.len(), |at| {
        let squares = updates.rows()[at].iter().zip(vector).map(|(value, other)| (value.wide() - other).powi(2));
        squares.sum::<f64>().sqrt()
    })
}

/// The geometric median of all rows, iterated until it stands still.
///
/// # Errors
/// The schedule's numbers make no sense.
pub fn geometric_median(
    gram: &Gram,
    weights: Option<&Weights>,
    schedule: geometric::Schedule,
) -> Result<Vec<f64>, Bound> {
    let equal = vec![1.0; gram.len()];
    schedule.run(gram, weights.map_or(equal.as_slice(), Weights::as_slice))
}

pub use select::krum;
pub use spectral::dnc;
