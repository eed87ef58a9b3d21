//! The same figures by another way: inverting the transform of the composed loss.
//!
//! With `K(s) = sum T ln E[e^(sL)]`, delta is the integral over u of
//! `exp(K(c+iu) - (c+iu) eps) / ((c+iu)(c+iu+1)) / (2 pi)` for any `c > 0`, best at the saddle point (Alghamdi et al. 2023,
//! "The saddle-point method in differential privacy"). The trapezoid rule converges geometrically. There is no grid of
//! losses, no truncation of mass and no rounding to one side: the figure is an estimate of the truth with an estimated
//! error, and serves as a second opinion on the pessimistic one. It shares nothing with [`crate::pld`] but the formula of
//! the loss.
//!
//! It needs the transform to fall off, so it gives up where few large losses decide (small sigma with a small expected
//! number of draws), and on lattices. One release of a sampled Gaussian has a closed form instead.

use std::f64::consts::{PI, TAU};

use crate::error::{DpError, check_delta, in_range};
use crate::event::{Event, Mechanism, Sampling};
use crate::numeric::{ln_normal_tail, normal_tail};

/// An estimate of the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opinion {
    /// Epsilon, or delta, whichever was asked for.
    pub value: f64,
    /// Estimated absolute error of it: what a coarser rule changes.
    pub error: f64,
}

/// Epsilon of Gaussian releases, sampled or not, at `delta`.
///
/// # Errors
/// [`DpError::NoLossDistribution`] for other mechanisms; [`DpError::NotConverging`] where the transform falls off too
/// slowly; [`DpError::OutOfRange`] for a delta outside of (0, 1).
pub fn epsilon(events: &[Event], delta: f64) -> Result<Opinion, DpError> {
    check_delta(delta)?;
    largest(events, |line| line.epsilon(delta), |q, sigma| one_step_epsilon(q, sigma, delta))
}

/// Delta of Gaussian releases, sampled or not, at `epsilon`.
///
/// # Errors
/// As [`epsilon()`].
pub fn delta(events: &[Event], epsilon: f64) -> Result<Opinion, DpError> {
    in_range("epsilon", epsilon, 0.0, f64::MAX)?;
    largest(events, |line| line.delta_at(epsilon), |q, sigma| one_step_delta(q, sigma, epsilon))
}

/// Delta of one release of a Poisson-sampled Gaussian at `epsilon >= 0`, exactly; the larger direction is removing a unit.
pub(crate) fn one_step_delta(q: f64, sigma: f64, epsilon: f64) -> f64 {
    let z = mixture_root(q, sigma, epsilon);
    let (far, near) = (normal_tail(z / sigma), normal_tail((z - 1.0) / sigma));
    // (1-q) Q(z/s) + q Q((z-1)/s) - e^eps Q(z/s)
    let taken_off =
        if epsilon < 30.0 { epsilon.exp_m1() * far } else { (epsilon + ln_normal_tail(z / sigma)).exp() - far };
    (q * (near - far) - taken_off).max(0.0)
}

/// Where the loss is `epsilon`: `s^2 ln((e^eps - 1 + q) / q) + 1/2`.
fn mixture_root(q: f64, sigma: f64, epsilon: f64) -> f64 {
    let t = if epsilon > 600.0 { epsilon - q.ln() } else { (epsilon.exp_m1() / q).ln_1p() };
    sigma * sigma * t + 0.5
}

/// The epsilon of one release, from above.
pub(crate) fn one_step_epsilon(q: f64, sigma: f64, delta: f64) -> f64 {
    if one_step_delta(q, sigma, 0.0) <= delta {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while one_step_delta(q, sigma, high) > delta {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if one_step_delta(q, sigma, middle) > delta { low = middle } else { high = middle }
    }
    high
}

/// The larger figure of both directions.
fn largest(
    events: &[Event],
    invert: impl Fn(&Line<'_>) -> Result<Opinion, DpError>,
    closed: impl Fn(f64, f64) -> f64,
) -> Result<Opinion, DpError> {
    let steps = events.iter().map(Step::of).collect::<Result<Vec<_>, _>>()?;
    if steps.is_empty() {
        return Err(DpError::CountOutOfRange { what: "kinds of events", value: 0, least: 1, most: u64::MAX });
    }
    if let [Step { q, sigma, count: 1.0 }] = steps[..] {
        let value = closed(q, sigma);
        return Ok(Opinion { value, error: value * 1e-13 });
    }
    let directions = if steps.iter().all(|step| step.q == 1.0) { &[true][..] } else { &[true, false] };
    let mut largest: Option<Opinion> = None;
    for &remove in directions {
        let opinion = invert(&Line { steps: &steps, remove })?;
        if largest.is_none_or(|largest| opinion.value > largest.value) {
            largest = Some(opinion);
        }
    }
    largest.ok_or(STALLED)
}

/// Equal Gaussian releases.
#[derive(Debug, Clone, Copy)]
struct Step {
    q: f64,
    sigma: f64,
    count: f64,
}

impl Step {
    fn of(event: &Event) -> Result<Self, DpError> {
        let q = match event.sampling() {
            Sampling::None => 1.0,
            Sampling::Poisson { q } => q,
            Sampling::FixedWor { .. } => return Err(NO_TRANSFORM),
        };
        match event.effective_mechanism() {
            Mechanism::Gaussian { sigma } if sigma >= 0.05 => Ok(Self { q, sigma, count: event.count() as f64 }),
            _ => Err(NO_TRANSFORM),
        }
    }
}

/// One direction of a composition.
struct Line<'a> {
    steps: &'a [Step],
    remove: bool,
}

/// A point of the quadrature over the noise: a loss, and its weight tilted by c.
struct Node {
    loss: f64,
    weight: f64,
}

/// A step of the composition at one tilt.
struct Tilted {
    count: f64,
    nodes: Vec<Node>,
}

/// The integrand along a line of constant real part, without the factor of epsilon.
struct Samples {
    c: f64,
    /// `K(c)`.
    k: f64,
    spacing: f64,
    /// `K(c + iu) - K(c)` as real and imaginary part, at u = 0, spacing, 2 spacing...
    values: Vec<(f64, f64)>,
}

impl Line<'_> {
    /// Tilted nodes and `[K, K', K'']`.
    fn tilt(&self, c: f64, fineness: f64) -> Result<(Vec<Tilted>, [f64; 3]), DpError> {
        let mut tilted = Vec::new();
        let mut cumulants = [0.0; 3];
        for &Step { q, sigma, count } in self.steps {
            // The exponent of 1 + q w, over N(0, sigma^2).
            let power = if self.remove { c + 1.0 } else { -c };
            let step = (sigma / 2.5).min(0.35 * sigma * sigma).min(TAU * sigma * sigma / fineness);
            let (low, high) = (power.min(0.0) - REACH * sigma, power.max(0.0).max(1.0) + REACH * sigma);
            let len = ((high - low) / step).ceil();
            if len.is_nan() || len > NODES_MAX {
                return Err(STALLED);
            }
            let precision = 1.0 / (sigma * sigma);
            let mut points = Vec::new();
            let mut at = 0.0;
            while at <= len {
                let z = low + at * step;
                let t = (z - 0.5) * precision;
                let ln = if q == 1.0 {
                    t
                } else if t > 600.0 {
                    q.ln() + t
                } else {
                    (q * t.exp_m1()).ln_1p()
                };
                points.push((ln, power * ln - 0.5 * z * z * precision));
                at += 1.0;
            }
            let top = points.iter().fold(f64::NEG_INFINITY, |top, point| top.max(point.1));
            let sign = if self.remove { 1.0 } else { -1.0 };
            let nodes = points.iter().filter(|point| point.1 > top - 46.0);
            let mut nodes: Vec<_> =
                nodes.map(|&(ln, exponent)| Node { loss: sign * ln, weight: (exponent - top).exp() }).collect();
            let total: f64 = nodes.iter().map(|node| node.weight).sum();
            nodes.iter_mut().for_each(|node| node.weight /= total);
            let mean: f64 = nodes.iter().map(|node| node.weight * node.loss).sum();
            let variance: f64 = nodes.iter().map(|node| node.weight * (node.loss - mean).powi(2)).sum();
            cumulants[0] += count * (top + total.ln() + (step / (sigma * (2.0 * PI).sqrt())).ln());
            cumulants[1] += count * mean;
            cumulants[2] += count * variance;
            tilted.push(Tilted { count, nodes });
        }
        Ok((tilted, cumulants))
    }

    /// Saddle for a delta (`Ok`) or an epsilon (`Err`), by halving; returns c and epsilon.
    fn saddle(&self, target: Result<f64, f64>) -> Result<(f64, f64), DpError> {
        let (mut from, mut to) = (-7.0_f64, 14.0_f64);
        let mut epsilon = 0.0;
        for _ in 0..40 {
            let middle = 0.5 * (from + to);
            let c = middle.exp();
            let above = match self.tilt(c, 1.0) {
                Ok((_, [k, slope, curve])) => {
                    epsilon = slope - 1.0 / c - 1.0 / (c + 1.0);
                    let curve = curve + 1.0 / (c * c) + 1.0 / ((c + 1.0) * (c + 1.0));
                    let ln_delta = k - c * epsilon - (c * (c + 1.0)).ln() - 0.5 * (TAU * curve).ln();
                    match target {
                        Ok(delta) => ln_delta <= delta.ln(),
                        Err(wanted) => epsilon >= wanted,
                    }
                }
                // Too many nodes: far beyond any saddle.
                Err(_) => true,
            };
            if above { to = middle } else { from = middle }
        }
        Ok((to.exp(), epsilon))
    }

    /// A line for epsilons near `epsilon`, where delta is about `e^ln_delta`: at the saddle, or short of it where that
    /// allows a shorter period.
    fn samples(&self, saddle: f64, epsilon: f64, ln_delta: f64) -> Result<Samples, DpError> {
        let (mut c, mut period) = (saddle, f64::INFINITY);
        for share in SHARES {
            let tilt = saddle * share;
            let mut above = f64::INFINITY;
            for factor in STEEPER {
                let steeper = tilt * factor;
                if let Ok((_, [k, ..])) = self.tilt(steeper, 1.0) {
                    above = above.min((k - steeper * epsilon - ln_delta + ACCURACY) / (steeper - tilt));
                }
            }
            let needed = above.max((ACCURACY - ln_delta) / tilt);
            if needed < 0.8 * period {
                (c, period) = (tilt, needed);
            }
        }
        if !period.is_finite() {
            return Err(STALLED);
        }
        let (_, [_, _, curve]) = self.tilt(c, 1.0)?;
        // Where a normal distribution of this variance would be done; where large losses decide, it takes longer.
        let mut fineness = 9.0 / curve.sqrt().max(1e-300) + c;
        let mut samples = Samples { c, k: 0.0, spacing: TAU / period, values: Vec::new() };
        for _ in 0..ATTEMPTS {
            let (tilted, cumulants) = self.tilt(c, fineness)?;
            samples.k = cumulants[0];
            if samples.fill(&tilted, fineness)? {
                return Ok(samples);
            }
            fineness *= 3.0;
        }
        Err(STALLED)
    }

    fn epsilon(&self, delta: f64) -> Result<Opinion, DpError> {
        let (mut c, mut guess) = self.saddle(Ok(delta))?;
        if guess <= 0.0 {
            if self.delta_at(0.0)?.value <= delta {
                return Ok(Opinion { value: 0.0, error: 0.0 });
            }
            guess = 0.0;
            c = self.saddle(Err(guess))?.0;
        }
        for _ in 0..ATTEMPTS {
            let samples = self.samples(c, guess, delta.ln())?;
            // Near the guess, delta is known to the same relative accuracy on this line; farther off it tells where to look.
            let (mut low, mut high) = ((guess - FAR / c).max(0.0), guess + FAR / c);
            if samples.delta(high).0 > delta {
                return Err(STALLED);
            }
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if samples.delta(middle).0 > delta { low = middle } else { high = middle }
            }
            let value = 0.5 * (low + high);
            if (value - guess).abs() * samples.c < NEAR {
                let (at, error) = samples.delta(value);
                // d ln(delta) / d epsilon is about -c, or steeper.
                return Ok(Opinion { value, error: error / (at * samples.c) + (high - low) + 1e-13 * value });
            }
            guess = value;
            c = self.saddle(Err(guess))?.0;
        }
        Err(STALLED)
    }

    fn delta_at(&self, epsilon: f64) -> Result<Opinion, DpError> {
        let (c, _) = self.saddle(Err(epsilon))?;
        let (_, [k, _, curve]) = self.tilt(c, 1.0)?;
        let ln_delta = k - c * epsilon - (c * (c + 1.0)).ln() - 0.5 * (TAU * (curve + 1.0 / (c * c))).ln();
        let (value, error) = self.samples(c, epsilon, ln_delta.min(0.0))?.delta(epsilon);
        Ok(Opinion { value, error })
    }
}

impl Samples {
    /// Evaluates the transform until it has fallen off; false if it has not by `u_max`, an error if it takes too long.
    fn fill(&mut self, tilted: &[Tilted], u_max: f64) -> Result<bool, DpError> {
        let nodes: usize = tilted.iter().map(|step| step.nodes.len()).sum();
        self.values.clear();
        loop {
            let u = self.spacing * self.values.len() as f64;
            if u > u_max {
                return Ok(false);
            }
            if (self.values.len() * nodes) as f64 > WORK_MAX {
                return Err(STALLED);
            }
            let (mut re, mut im) = (0.0, 0.0);
            for Tilted { count, nodes } in tilted {
                // The transform less 1: `cos x - 1 = -2 sin^2(x/2)` keeps what matters when the count is large.
                let (mut less_one, mut sine) = (0.0, 0.0);
                for node in nodes {
                    let (sin, cos) = (0.5 * u * node.loss).sin_cos();
                    less_one -= 2.0 * node.weight * sin * sin;
                    sine += 2.0 * node.weight * sin * cos;
                }
                re += count * 0.5 * (2.0 * less_one + less_one * less_one + sine * sine).ln_1p();
                im += count * sine.atan2(1.0 + less_one);
            }
            self.values.push((re, im));
            let kernel = self.c * (self.c + 1.0) / (u.hypot(self.c) * u.hypot(self.c + 1.0));
            if re + kernel.ln() < -ACCURACY - 4.0 {
                return Ok(true);
            }
        }
    }

    /// Delta at an epsilon, and what a rule of twice the spacing changes.
    fn delta(&self, epsilon: f64) -> (f64, f64) {
        let (mut even, mut odd) = (0.0, 0.0);
        for (at, &(re, im)) in self.values.iter().enumerate() {
            let u = self.spacing * at as f64;
            // Over (c+iu)(c+1+iu), by its absolute value and angle.
            let (near, far) = (u.hypot(self.c), u.hypot(self.c + 1.0));
            let angle = im - u * epsilon - u.atan2(self.c) - u.atan2(self.c + 1.0);
            let term = re.exp() * angle.cos() / (near * far);
            match at {
                0 => even += 0.5 * term,
                _ if at % 2 == 0 => even += term,
                _ => odd += term,
            }
        }
        let scale = self.spacing / PI * (self.k - self.c * epsilon).exp();
        let (fine, coarse) = (scale * (even + odd), scale * 2.0 * even);
        // The coarse rule has half the period: its error is about the square root of the fine one's. Where it is no longer
        // small, that says nothing, and the period was made for `ACCURACY`, with room for an estimate that is off.
        let off = ((coarse - fine) / fine).abs();
        let error = if off < 0.03 { off * off } else { 1e-7 };
        (fine, (error + 1e-12) * fine.abs())
    }
}

const STALLED: DpError =
    DpError::NotConverging { method: "transform inversion", why: "the transform falls off too slowly" };
const NO_TRANSFORM: DpError = DpError::NoLossDistribution("the transform is only inverted for Gaussian noise");
/// Standard deviations of the noise.
const REACH: f64 = 9.5;
/// Logarithm of the relative accuracy.
const ACCURACY: f64 = 32.0;
const NODES_MAX: f64 = 20_000.0;
/// Evaluations of sine and cosine: a tenth of a second.
const WORK_MAX: f64 = 4e6;
/// Lines, or resolutions, that are tried.
const ATTEMPTS: u32 = 5;
/// How far from the guess a line is searched, in units of the tilt.
const FAR: f64 = 14.0;
/// How near the guess a line is trusted.
const NEAR: f64 = 2.0;
/// Parts of the saddle's tilt that are tried.
const SHARES: &[f64] = &[1.0, 0.85, 0.7, 0.55, 0.4, 0.3];
/// Factors on the tilt that are tried for a bound on the far end.
const STEEPER: &[f64] = &[1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0, 5.0, 10.0];
