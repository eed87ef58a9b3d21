//! Where to tilt: the saddle point of the composed loss.
//!
//! With `K(c) = sum T ln E[e^(cL)]`, delta is about `exp(K(c) - c eps) / (c (c+1) sqrt(2 pi K''(c)))` at the c where
//! `K'(c) = eps + 1/c + 1/(c+1)`. This only chooses the parameters of a computation that is valid for any of them.

use std::f64::consts::TAU;

use super::loss::Loss;
use crate::error::DpError;

/// Composed losses as points with weights, good enough to choose parameters.
pub(crate) struct Sketch {
    parts: Vec<(f64, Vec<(f64, f64)>)>,
}

/// A tilt and what it was made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saddle {
    pub(crate) c: f64,
    pub(crate) epsilon: f64,
    pub(crate) ln_delta: f64,
}

impl Sketch {
    /// Of losses with their counts; mass beyond `e^ln_mass` is left out.
    pub(crate) fn new(losses: &[(Loss, f64)], ln_mass: f64) -> Result<Self, DpError> {
        let mut parts = Vec::new();
        for (loss, count) in losses {
            let mut points: Vec<(f64, f64)> =
                loss.atoms.iter().filter(|atom| atom.1 > 0.0).map(|&(loss, mass)| (loss, mass.ln())).collect();
            if let Some(density) = loss.density {
                let interval = density.interval(ln_mass);
                let step = 0.35 * density.scale();
                let panels = ((interval.high - interval.low) / step).ceil();
                if panels.is_nan() || panels > POINTS_MAX {
                    return Err(DpError::NotConverging {
                        method: "privacy loss distribution",
                        why: "sigma is too small",
                    });
                }
                let step = (interval.high - interval.low) / panels;
                let mut at = 0.0;
                while at < panels {
                    let z = interval.low + (at + 0.5) * step;
                    let mass = density.at(z) * step;
                    if mass > 0.0 {
                        points.push((density.loss(z), mass.ln()));
                    }
                    at += 1.0;
                }
            }
            parts.push((*count, points));
        }
        Ok(Self { parts })
    }

    /// `K`, `K'`, `K''` at c.
    pub(crate) fn cumulants(&self, c: f64) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for (count, points) in &self.parts {
            let top = points.iter().fold(f64::NEG_INFINITY, |top, &(loss, ln)| top.max(c * loss + ln));
            let (mut zeroth, mut first, mut second) = (0.0, 0.0, 0.0);
            for &(loss, ln) in points {
                let exponent = c * loss + ln - top;
                if exponent > -46.0 {
                    let weight = exponent.exp();
                    zeroth += weight;
                    first += weight * loss;
                    second += weight * loss * loss;
                }
            }
            let mean = first / zeroth;
            sums[0] += count * (top + zeroth.ln());
            sums[1] += count * mean;
            sums[2] += count * (second / zeroth - mean * mean).max(0.0);
        }
        sums
    }

    fn at(&self, c: f64) -> Saddle {
        let [k0, k1, k2] = self.cumulants(c);
        let epsilon = k1 - 1.0 / c - 1.0 / (c + 1.0);
        let curvature = k2 + 1.0 / (c * c) + 1.0 / ((c + 1.0) * (c + 1.0));
        Saddle { c, epsilon, ln_delta: k0 - c * epsilon - (c * (c + 1.0)).ln() - 0.5 * (TAU * curvature).ln() }
    }

    /// The tilt for an epsilon.
    pub(crate) fn for_epsilon(&self, epsilon: f64) -> Saddle {
        let mut saddle = self.search(|saddle| saddle.epsilon < epsilon);
        // Not quite there if the loss is bounded below epsilon; the estimate is for the epsilon that is asked for.
        saddle.ln_delta = (saddle.ln_delta + saddle.c * (saddle.epsilon - epsilon)).max(-690.0);
        saddle.epsilon = epsilon;
        saddle
    }

    /// The tilt for a delta; for epsilon 0 where that is already enough.
    pub(crate) fn for_delta(&self, ln_delta: f64) -> Saddle {
        let saddle = self.search(|saddle| saddle.ln_delta > ln_delta);
        if saddle.epsilon > 0.0 { Saddle { ln_delta, ..saddle } } else { Saddle { ln_delta, ..self.for_epsilon(0.0) } }
    }

    /// The tilt at which `low` stops to hold, by halving on a logarithmic scale.
    fn search(&self, low: impl Fn(&Saddle) -> bool) -> Saddle {
        let (mut from, mut to) = (C_MIN.ln(), C_MAX.ln());
        for _ in 0..HALVINGS {
            let middle = 0.5 * (from + to);
            if low(&self.at(middle.exp())) { from = middle } else { to = middle }
        }
        self.at((0.5 * (from + to)).exp())
    }

    /// A tilt and a window of losses around the saddle's epsilon, such that what wraps around it is at most `e^-margin` of
    /// delta; `reach` is how far below epsilon the window has to go.
    ///
    /// The circle adds to the window, tilted by c: from below, `P(S < low) e^(-c R)`, and from above at most
    /// `E[e^(c2 S)] e^(-c2 high + c R)` for any `c2 > c`, where R is the window's length.
    pub(crate) fn window(&self, saddle: Saddle, reach: f64, margin: f64) -> Window {
        let lowest = saddle.epsilon - reach;
        let mut lows = Vec::new();
        // Of the probability of a loss below the lowest.
        let mut ln_below = 0.0_f64;
        for factor in FLATTER {
            let turned = saddle.c * factor;
            let [k, slope, _] = self.cumulants(-turned);
            ln_below = ln_below.min(k + turned * lowest);
            if slope < lowest {
                lows.push((slope, k + turned * slope));
            }
        }
        lows.push((lowest, ln_below));
        let steps: f64 = self.parts.iter().map(|part| part.0).sum();
        let mut best = Window { c: saddle.c, low: lowest, high: f64::INFINITY, noise: 1.0 };
        let mut least = f64::INFINITY;
        for share in SHARES {
            let c = saddle.c * share;
            // A weaker tilt lifts the tail less above the rounding: about this part of delta.
            let noise = (ROUNDING * (steps + 10.0)).ln() + self.cumulants(c)[0] - c * saddle.epsilon - saddle.ln_delta;
            let noise = noise.min(600.0).exp();
            let steeper: Vec<_> =
                STEEPER.iter().map(|factor| c * factor).map(|steep| (steep, self.cumulants(steep)[0])).collect();
            for &(low, ln_below) in &lows {
                let from_below = low + (margin - saddle.ln_delta + ln_below) / c;
                let above = |&(steep, k): &(f64, f64)| (k - c * low - saddle.ln_delta + margin) / (steep - c);
                let from_above = steeper.iter().map(above).fold(f64::INFINITY, f64::min);
                let high = from_below.max(from_above).max(saddle.epsilon + reach);
                let price = (high - low) * (1.0 + NOISE_PRICE * noise);
                if price < least {
                    least = price;
                    best = Window { c, low, high, noise };
                }
            }
        }
        best
    }
}

/// A tilt, and losses from `low` to `high`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) c: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Predicted part of delta that is rounding.
    pub(crate) noise: f64,
}

/// Factors on the tilt that are tried for a bound on the far end.
const STEEPER: &[f64] = &[1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 30.0];
/// Factors on the turned tilt that are tried for a bound on the near end.
const FLATTER: &[f64] = &[0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// Parts of the saddle's tilt that are tried.
const SHARES: &[f64] = &[1.0, 0.8, 0.6, 0.45, 0.33, 0.25];
/// Rounding of one step, relative to the masses.
const ROUNDING: f64 = 1e-15;
/// How much longer the window may be for a part of delta that is rounding.
const NOISE_PRICE: f64 = 500.0;
const C_MIN: f64 = 1e-4;
const C_MAX: f64 = 1e9;
/// The bracket shrinks to `30 * 2^-36`.
const HALVINGS: u32 = 36;
const POINTS_MAX: f64 = 20_000.0;
