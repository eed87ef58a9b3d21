//! Stages in front of a rule: norm clipping, nearest-neighbour mixing, bucketing.

use serde::{Deserialize, Serialize};

use crate::layer::{Layer, Means};
use crate::numbers::{floor, median};
use crate::seed::Seed;
use crate::{Bound, Element, Gram, Mixed, select};

/// What is done to rows before a rule combines them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// Rows are scaled to at most some norm.
    NormClip {
        /// Which norm.
        radius: Radius,
    },
    /// Nearest-neighbour mixing (Allouah et al. 2023): each row becomes the mean of the `n - f` rows nearest to it. Makes any
    /// rule behind it order-optimal where honest data differ. Needs `2f < n`.
    Nnm {},
    /// Bucketing (Karimireddy et al. 2022): rows in a random order, in buckets of `s`, averaged. Needs `s < n / (2f)`, since one
    /// attacker spoils its whole bucket.
    Bucketing {
        /// Rows in a bucket.
        s: usize,
    },
}

/// The norm that rows are clipped to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Radius {
    /// The same in all rounds; the one that differential privacy can count on.
    Static(f64),
    /// The median of the norms.
    Median,
    /// The `(k + 1)`-th largest norm, `k = floor(2 f (n - f) / n)` (ARC, Allouah et al. 2024).
    Adaptive,
}

impl Stage {
    /// Whether it withstands `f` attackers among `n` rows.
    ///
    /// # Errors
    /// [`Bound`], with what it needs.
    pub fn needs(&self, n: usize, f: usize) -> Result<(), Bound> {
        match *self {
            Self::NormClip { radius } => radius.check(n, f),
            Self::Nnm {} => Bound::minority("NNM", n, f),
            Self::Bucketing { s } => {
                bucket(s)?;
                if f == 0 || 2 * f * s < n {
                    Ok(())
                } else {
                    Err(Bound::byzantine(&format!("bucketing by s = {s}"), "s < n / (2f)", n, f))
                }
            }
        }
    }

    /// Rows that come out of `n`.
    #[must_use]
    pub fn rows(&self, n: usize) -> usize {
        match self {
            Self::Bucketing { s } => n.div_ceil((*s).max(1)),
            Self::NormClip { .. } | Self::Nnm {} => n,
        }
    }

    /// Whether it needs distances.
    pub(crate) fn measures(&self) -> bool {
        matches!(self, Self::Nnm {})
    }

    /// What it does with these rows. `norms` are those of the rows.
    pub(crate) fn layer(&self, norms: &[f64], gram: Option<&Gram>, f: usize, seed: &Seed) -> Result<Layer, Bound> {
        let n = norms.len();
        self.needs(n, f)?;
        match (self, gram) {
            (Self::NormClip { radius }, _) => Ok(Layer::Scale(factors(norms, radius.of(norms, f)))),
            (Self::Nnm {}, Some(gram)) => Ok(Layer::Means(select::nearest_neighbours(gram, f)?)),
            // The pipeline makes a matrix for every stage that measures.
            (Self::Nnm {}, None) => Err(Bound::byzantine("NNM", "distances", n, f)),
            (Self::Bucketing { s }, _) => Ok(Layer::Means(buckets(&seed.permutation(n), *s)?)),
        }
    }
}

impl Radius {
    fn check(self, n: usize, f: usize) -> Result<(), Bound> {
        match self {
            Self::Static(c) if c >= 0.0 && c.is_finite() => Ok(()),
            Self::Static(c) => Err(Bound::parameter("the clipping norm", c, "finite and at least 0")),
            Self::Median => Ok(()),
            Self::Adaptive => Bound::minority("adaptive clipping", n, f),
        }
    }

    fn of(self, norms: &[f64], f: usize) -> f64 {
        match self {
            Self::Static(c) => c,
            Self::Median => median(norms),
            Self::Adaptive => {
                let (n, mut sorted) = (norms.len(), norms.to_vec());
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                sorted[floor(2.0 * f as f64 * (n - f) as f64 / n as f64).min(n - 1)]
            }
        }
    }
}

/// Rows scaled by `min(1, c / ||x||)`, and `c`.
///
/// # Errors
/// The radius is not finite or negative, or too many may be attackers.
pub fn norm_clip<T: Element>(
    rows: &mut Mixed<'_, '_, T>,
    norms: &[f64],
    radius: Radius,
    f: usize,
) -> Result<f64, Bound> {
    radius.check(norms.len(), f)?;
    let c = radius.of(norms, f);
    rows.then(Layer::Scale(factors(norms, c)));
    Ok(c)
}

/// Each row the mean of the `n - f` rows nearest to it. The Gram matrix is that of these rows; comes back that of the mixed ones.
///
/// # Errors
/// `2f >= n`.
pub fn nnm<T: Element>(rows: &mut Mixed<'_, '_, T>, gram: &Gram, f: usize) -> Result<Gram, Bound> {
    let layer = Layer::Means(select::nearest_neighbours(gram, f)?);
    let mixed = gram.through(&layer);
    rows.then(layer);
    Ok(mixed)
}

/// Rows in the order of a permutation, in buckets of `s` (the last may be smaller), averaged.
///
/// # Errors
/// `s` is 0, or the order is not a permutation of the rows.
pub fn bucketing<T: Element>(rows: &mut Mixed<'_, '_, T>, permutation: &[usize], s: usize) -> Result<(), Bound> {
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rows.rows()) {
        return Err(Bound::parameter("the permutation's length", permutation.len() as f64, "each row once"));
    }
    rows.then(Layer::Means(buckets(permutation, s)?));
    Ok(())
}

fn bucket(s: usize) -> Result<(), Bound> {
    if s == 0 { Err(Bound::parameter("s", 0.0, "at least 1")) } else { Ok(()) }
}

fn buckets(permutation: &[usize], s: usize) -> Result<Means, Bound> {
    bucket(s)?;
    let sets = permutation.chunks(s).map(|bucket| {
        let mut bucket = bucket.to_vec();
        bucket.sort_unstable();
        bucket
    });
    Ok(Means::new(permutation.len(), sets.collect()))
}

fn factors(norms: &[f64], c: f64) -> Vec<f64> {
    norms.iter().map(|&norm| if norm > c { c / norm } else { 1.0 }).collect()
}
