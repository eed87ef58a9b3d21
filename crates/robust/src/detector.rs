//! Who stands out: tests on norms and directions.
//!
//! A test on the mean and the standard deviation cannot work in small groups: the largest z-score that one value among `n` can
//! have is `sqrt(n - 1)`, so that with three deviations nobody among ten or fewer is ever flagged, and `k` equal outliers reach
//! `sqrt((n - k) / k)`, so that a tenth of colluders is never flagged at any size. Medians do not have this flaw. `classic` is
//! kept by name for those who compare.
//!
//! Detection is no defence by itself: ALIE and min-max stay inside the honest cloud. The rule behind it carries those.

use serde::{Deserialize, Serialize};

use crate::geometric::{self, Schedule};
use crate::numbers::{dot, mad, mean_and_deviation, median};
use crate::{Bound, Gram};

/// A test for who stands out. Defaults are the parameters that `vectors/byzantine` pins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Detector {
    /// Norm above mean + k standard deviations, or cosine to the geometric median below a threshold. For comparison.
    Classic(#[serde(default)] Classic),
    /// Norm far above the median.
    NormMad(#[serde(default)] NormMad),
    /// Norm far above the mean of all others. Finds one outlier among three or more; two hide each other.
    NormLoo(#[serde(default)] NormLoo),
    /// Direction against the geometric median of directions.
    Cosine(#[serde(default)] Cosine),
    /// `norm-mad` or `cosine`.
    Combined(#[serde(default)] Combined),
}

/// Parameters of [`Detector::Classic`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classic {
    /// Standard deviations above the mean.
    pub norm_multiplier: f64,
    /// Least cosine.
    pub cosine_threshold: f64,
}

/// Parameters of [`Detector::NormMad`]: flags `r > max(med + k max(1.4826 MAD, floor med, 1e-12), ratio med)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormMad {
    /// Deviations above the median.
    pub norm_multiplier: f64,
    /// Nobody below so many medians is flagged: honest norms have heavy tails where data are uneven.
    pub min_ratio: f64,
    /// The least deviation, in medians: clipped norms have no spread.
    pub relative_floor: f64,
}

/// Parameters of [`Detector::NormLoo`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormLoo {
    /// Standard deviations of the others above their mean.
    pub norm_multiplier: f64,
}

/// Parameters of [`Detector::Cosine`]: flags `c < threshold`, or `c < adaptive_max` and
/// `c < med - k max(1.4826 MAD, scale_floor)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Least cosine in any case.
    pub cosine_threshold: f64,
    /// Deviations below the median.
    pub adaptive_multiplier: f64,
    /// Nobody above this is flagged for being below others.
    pub adaptive_max: f64,
    /// The least deviation.
    pub scale_floor: f64,
}

/// Parameters of [`Detector::Combined`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Combined {
    /// The norm test.
    pub norm: NormMad,
    /// The direction test.
    pub cosine: Cosine,
}

impl Default for Classic {
    fn default() -> Self {
        Self { norm_multiplier: 3.0, cosine_threshold: -0.5 }
    }
}

impl Default for NormMad {
    fn default() -> Self {
        Self { norm_multiplier: 3.0, min_ratio: 2.5, relative_floor: 0.1 }
    }
}

impl Default for NormLoo {
    fn default() -> Self {
        Self { norm_multiplier: 3.0 }
    }
}

impl Default for Cosine {
    fn default() -> Self {
        Self { cosine_threshold: -0.5, adaptive_multiplier: 3.0, adaptive_max: 0.0, scale_floor: 0.1 }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::Combined(Combined::default())
    }
}

/// Which test somebody failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Test {
    /// Norm above mean + k standard deviations.
    ClassicNorm,
    /// Cosine to the geometric median.
    ClassicCosine,
    /// Norm far above the median.
    NormMad,
    /// Norm far above all others'.
    NormLoo,
    /// Direction against everybody's.
    Cosine,
}

/// Somebody who stands out, why, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flag {
    /// Index of the client.
    pub client: usize,
    /// The test that it failed.
    pub test: Test,
    /// What was measured: a norm, a z-score or a cosine.
    pub value: f64,
    /// What it was compared with.
    pub threshold: f64,
}

/// What a detector found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// By client, then by test; a client may fail several.
    pub flags: Vec<Flag>,
    /// Cosine of each client to the group's direction, where the detector measures it: what [`Evidence`](crate::Evidence) is
    /// made of. 0 for a zero update.
    pub cosines: Option<Vec<f64>>,
}

impl Findings {
    /// Clients with a flag, rising.
    #[must_use]
    pub fn clients(&self) -> Vec<usize> {
        let mut clients: Vec<usize> = self.flags.iter().map(|flag| flag.client).collect();
        clients.sort_unstable();
        clients.dedup();
        clients
    }
}

impl Detector {
    /// Whether it needs the Gram matrix, or norms only.
    #[must_use]
    pub fn measures(&self) -> bool {
        !matches!(self, Self::NormMad(_) | Self::NormLoo(_))
    }

    /// Whether its parameters are numbers that a threshold can be.
    ///
    /// # Errors
    /// [`Bound::BadParameter`].
    pub fn check(&self) -> Result<(), Bound> {
        let norm = |norm: &NormMad| {
            positive("norm_multiplier", norm.norm_multiplier)?;
            positive("min_ratio", norm.min_ratio)?;
            positive("relative_floor", norm.relative_floor)
        };
        let direction = |cosine: &Cosine| {
            between("cosine_threshold", cosine.cosine_threshold)?;
            between("adaptive_max", cosine.adaptive_max)?;
            positive("adaptive_multiplier", cosine.adaptive_multiplier)?;
            positive("scale_floor", cosine.scale_floor)
        };
        match self {
            Self::Classic(classic) => {
                positive("norm_multiplier", classic.norm_multiplier)?;
                between("cosine_threshold", classic.cosine_threshold)
            }
            Self::NormMad(parameters) => norm(parameters),
            Self::NormLoo(loo) => positive("norm_multiplier", loo.norm_multiplier),
            Self::Cosine(cosine) => direction(cosine),
            Self::Combined(combined) => norm(&combined.norm).and_then(|()| direction(&combined.cosine)),
        }
    }

    /// Who stands out. The matrix is needed where [`Self::measures`] says so; without it no direction is judged.
    ///
    /// # Errors
    /// [`Bound::BadParameter`].
    pub fn run(&self, norms: &[f64], gram: Option<&Gram>) -> Result<Findings, Bound> {
        self.check()?;
        let mut findings = Findings::default();
        match (self, gram) {
            (Self::Classic(parameters), Some(gram)) => {
                let report = classic(gram, parameters);
                findings.above(Test::ClassicNorm, norms, &report.flagged_by_norm, report.norm_threshold);
                let threshold = parameters.cosine_threshold;
                findings.above(Test::ClassicCosine, &report.cosines, &report.flagged_by_cosine, threshold);
                findings.cosines = Some(report.cosines);
            }
            (Self::NormMad(parameters), _) => findings.norm(norms, parameters),
            (Self::NormLoo(parameters), _) => {
                let report = norm_loo(norms, parameters);
                findings.above(Test::NormLoo, &report.scores, &report.flagged, parameters.norm_multiplier);
            }
            (Self::Cosine(parameters), Some(gram)) => findings.direction(gram, parameters),
            (Self::Combined(parameters), gram) => {
                findings.norm(norms, &parameters.norm);
                if let Some(gram) = gram {
                    findings.direction(gram, &parameters.cosine);
                }
            }
            (Self::Classic(_) | Self::Cosine(_), None) => {}
        }
        findings.flags.sort_unstable_by_key(|flag| (flag.client, flag.test));
        Ok(findings)
    }
}

impl Findings {
    fn above(&mut self, test: Test, values: &[f64], clients: &[usize], threshold: f64) {
        self.flags.extend(clients.iter().map(|&client| Flag { client, test, value: values[client], threshold }));
    }

    fn norm(&mut self, norms: &[f64], parameters: &NormMad) {
        let report = norm_mad(norms, parameters);
        self.above(Test::NormMad, norms, &report.flagged, report.threshold);
    }

    fn direction(&mut self, gram: &Gram, parameters: &Cosine) {
        let report = cosine(gram, parameters);
        self.above(Test::Cosine, &report.cosines, &report.flagged, report.threshold);
        self.cosines = Some(report.cosines);
    }
}

fn positive(what: &str, value: f64) -> Result<(), Bound> {
    if value >= 0.0 && value.is_finite() { Ok(()) } else { Err(Bound::parameter(what, value, "finite and at least 0")) }
}

fn between(what: &str, value: f64) -> Result<(), Bound> {
    if (-1.0..=1.0).contains(&value) { Ok(()) } else { Err(Bound::parameter(what, value, "from -1 to 1")) }
}

/// What the classic test measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicReport {
    /// Mean + k (population standard deviation + 1e-8).
    pub norm_threshold: f64,
    /// To the geometric median by 100 steps; 0 for a zero update.
    pub cosines: Vec<f64>,
    /// Rising.
    pub flagged_by_norm: Vec<usize>,
    /// Rising.
    pub flagged_by_cosine: Vec<usize>,
}

/// The classic test. Nobody is too few for it to judge, and nobody among ten is ever flagged by their norm.
#[must_use]
pub fn classic(gram: &Gram, parameters: &Classic) -> ClassicReport {
    let norms = gram.norms();
    let n = gram.len();
    let (mean, deviation) = mean_and_deviation(norms.iter().copied());
    let norm_threshold = mean + parameters.norm_multiplier * (deviation + 1e-8);
    let steps = Schedule::Steps { iterations: 100, nu: 1e-8 };
    // A schedule with a positive nu has no error.
    let median = steps.run(gram, &vec![1.0; n]).unwrap_or_else(|_| vec![0.0; n]);
    let products: Vec<f64> = (0..n * n).map(|at| gram.uncentred(at / n, at % n)).collect();
    let cosines = cosines_to(&products, norms, &median);
    ClassicReport {
        norm_threshold,
        flagged_by_norm: which(norms, |norm| norm > norm_threshold),
        flagged_by_cosine: (0..n).filter(|&at| norms[at] > 0.0 && cosines[at] < parameters.cosine_threshold).collect(),
        cosines,
    }
}

/// Cosines of rows to a combination of them, from their products `[n][n]`; 0 where one of the two is zero.
fn cosines_to(products: &[f64], norms: &[f64], combination: &[f64]) -> Vec<f64> {
    let along: Vec<f64> = products.chunks(norms.len()).map(|row| dot(row, combination)).collect();
    let own = dot(&along, combination).max(0.0).sqrt();
    let cosine = |(along, norm): (&f64, &f64)| {
        if own > 0.0 && *norm > 0.0 { (along / norm / own).clamp(-1.0, 1.0) } else { 0.0 }
    };
    along.iter().zip(norms).map(cosine).collect()
}

fn which(values: &[f64], flagged: impl Fn(f64) -> bool) -> Vec<usize> {
    (0..values.len()).filter(|&at| flagged(values[at])).collect()
}

/// What the norm test measured.
#[derive(Debug, Clone, PartialEq)]
pub struct NormMadReport {
    /// Of the norms.
    pub median: f64,
    /// Median absolute deviation of the norms.
    pub mad: f64,
    /// Norms above are flagged.
    pub threshold: f64,
    /// Rising.
    pub flagged: Vec<usize>,
}

/// The norm test. Fewer than three clients are not judged.
#[must_use]
pub fn norm_mad(norms: &[f64], parameters: &NormMad) -> NormMadReport {
    let median = median(norms);
    let mad = mad(norms, median);
    let deviation = (NORMAL * mad).max(parameters.relative_floor * median).max(1e-12);
    let threshold = (median + parameters.norm_multiplier * deviation).max(parameters.min_ratio * median);
    let flagged = if norms.len() < JUDGED_MIN { Vec::new() } else { which(norms, |norm| norm > threshold) };
    NormMadReport { median, mad, threshold, flagged }
}

/// What the leave-one-out test measured.
#[derive(Debug, Clone, PartialEq)]
pub struct NormLooReport {
    /// Standard deviations of the others above their mean.
    pub scores: Vec<f64>,
    /// Rising.
    pub flagged: Vec<usize>,
}

/// The leave-one-out test. Fewer than three clients are not judged.
#[must_use]
pub fn norm_loo(norms: &[f64], parameters: &NormLoo) -> NormLooReport {
    let scores: Vec<f64> = (0..norms.len())
        .map(|at| {
            let others = norms.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, norm)| *norm);
            let (mean, deviation) = mean_and_deviation(others);
            (norms[at] - mean) / (deviation + 1e-8)
        })
        .collect();
    let judged = norms.len() >= JUDGED_MIN;
    let flagged = if judged { which(&scores, |score| score > parameters.norm_multiplier) } else { Vec::new() };
    NormLooReport { scores, flagged }
}

/// What the direction test measured.
#[derive(Debug, Clone, PartialEq)]
pub struct CosineReport {
    /// To the geometric median of directions; 0 for a zero update, and for all where fewer than three are not zero.
    pub cosines: Vec<f64>,
    /// Cosines below are flagged.
    pub threshold: f64,
    /// Rising.
    pub flagged: Vec<usize>,
}

/// The direction test: cosines to the geometric median of the unit rows, so that no large row turns it. Zero rows are left
/// out and never flagged; fewer than three others are not judged.
///
/// The vectors pin 200 Weiszfeld steps from the coordinate median; here they go on until they stand still, at the same point.
#[must_use]
pub fn cosine(gram: &Gram, parameters: &Cosine) -> CosineReport {
    let norms = gram.norms();
    let judged: Vec<usize> = which(norms, |norm| norm > 0.0);
    let m = judged.len();
    let mut cosines = vec![0.0; norms.len()];
    let nothing = parameters.cosine_threshold;
    if m < JUDGED_MIN {
        return CosineReport { cosines, threshold: nothing, flagged: Vec::new() };
    }
    let products: Vec<f64> =
        (0..m * m).map(|at| if at / m == at % m { 1.0 } else { gram.cosine(judged[at / m], judged[at % m]) }).collect();
    let centre = geometric::of_units(&products, m);
    let found = cosines_to(&products, &vec![1.0; m], &centre);
    let median = median(&found);
    let deviation = (NORMAL * mad(&found, median)).max(parameters.scale_floor);
    let adaptive = (median - parameters.adaptive_multiplier * deviation).min(parameters.adaptive_max);
    let threshold = adaptive.max(parameters.cosine_threshold);
    judged.iter().zip(&found).for_each(|(&at, &cosine)| cosines[at] = cosine);
    let flagged = judged.into_iter().filter(|&at| cosines[at] < threshold).collect();
    CosineReport { cosines, threshold, flagged }
}

/// A median absolute deviation times this is the standard deviation of a normal distribution.
pub(crate) const NORMAL: f64 = 1.4826;
/// Among fewer nobody can be told apart.
const JUDGED_MIN: usize = 3;
