//! The far end of a composed loss: delta and epsilon, with everything that was left out added to delta.

use super::discretise::{Dots, Gridded};
use super::fft::Fft;
use super::loss::Loss;
use super::saddle::{Saddle, Sketch, Window};
use super::spectrum::{Composed, Product, Spectrum};
use super::{MARGIN, TOO_FINE};
use crate::error::DpError;
use crate::numeric::LnSum;

/// The tilted distribution of the composed loss, in one period of the grid.
pub(super) struct Tail {
    /// Tilted masses; the index is the place modulo their number.
    composed: Composed,
    /// Places of the grid that losses were put onto.
    len: usize,
    /// Between the places of the composed loss.
    step: f64,
    /// Loss of place 0.
    origin: f64,
    c: f64,
    /// Logarithm of what undoes the tilt at loss 0.
    ln_scale: f64,
    /// Place that the window ends before.
    end: i64,
    /// Delta of all that is not in the window: infinite losses, losses from its end on.
    beyond: f64,
    saddle: Saddle,
}

impl Tail {
    /// `slope`: of `-ln(delta)` over epsilon; `slack`: how much the grid may add to `ln(delta)`, if that takes no
    /// more than `len_max` places.
    pub(super) fn new(
        losses: &[(Loss, f64)],
        sketch: &Sketch,
        saddle: Saddle,
        ln_mass: f64,
        slope: f64,
        slack: f64,
        len_max: usize,
    ) -> Result<Self, DpError> {
        let steps: f64 = losses.iter().map(|loss| loss.1).sum();
        let Window { c, low, high, noise } = sketch.window(saddle, REACH / saddle.c, MARGIN);
        // Splitting adds step^2 / 6 to the variance of each loss, on average, and step^2 / 12 to its mean, which together cost
        // T step^2 slope (slope + 1) / 12 in ln(delta).
        let bend = (slope * (slope + 1.0)).sqrt();
        let wanted = (12.0 * slack / steps).sqrt() / bend;
        let (step, len) = grid(high - low, wanted, len_max, losses)?;
        let fft = Fft::new(len);
        let width_max = (0.15 * slack.sqrt() / bend).max(step);
        let mut product = Product::new(&fft);
        let mut parts = Vec::new();
        let (mut origin, mut infinite, mut ln_scale) = (0.0, 0.0, 0.0);
        for (loss, count) in losses {
            let dots = Dots { origin: loss_origin(loss), step, width_max, ln_mass };
            let gridded = dots.connect(loss).ok_or(TOO_FINE)?;
            infinite += count * gridded.infinite;
            let spectrum = Spectrum::new(&gridded, *count, c * step, noise > NOISE_QUIET, &fft);
            let bulk = dots.origin + spectrum.bulk as f64 * step;
            origin += count * bulk;
            ln_scale += count * (spectrum.ln_total + c * bulk);
            product.multiply(&spectrum);
            parts.push((gridded, loss_origin(loss), *count));
        }
        let composed = product.compose(c * step, step, steps);
        let wide = step * composed.stride as f64;
        let end = ((low - origin) / wide).floor() + composed.masses.len() as f64;
        if end.abs() > 1e15 || !end.is_finite() {
            return Err(TOO_FINE);
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked")]
        let end = end as i64;
        // What lies between the last place and the end may have been split.
        let beyond = infinite + chernoff(&parts, step, c, origin + (end - 1) as f64 * wide);
        Ok(Self { composed, len, step: wide, origin, c, ln_scale, end, beyond, saddle })
    }

    /// Sums from the end of the window down, until `stop` says so; `stop` sees the next lower loss and both sums.
    ///
    /// The sums are of masses `p` and of `p e^(reference - loss)`: delta at `eps` is `first - e^(eps - reference) second`,
    /// with the error of the masses in `first`. That error is at most the sum of the weights times the largest error, and
    /// at most the root of the sum of squares of one times that of the other (Cauchy, Schwarz).
    fn walk<T>(&self, mut stop: impl FnMut(f64, f64, f64) -> Option<T>) -> Option<T> {
        let Composed { masses, each, together, .. } = &self.composed;
        let len = masses.len() as i64;
        let (mut first, mut second) = (self.beyond, 0.0);
        let tilt = self.c * self.step;
        let (up, down) = (tilt.exp(), self.step.exp());
        // Weights fall by `e^-tilt` from place to place.
        let error = (each / -(-tilt).exp_m1()).min(together / (-(-2.0 * tilt).exp_m1()).sqrt());
        // Of the sums themselves, and of the weights between two points where they are made anew.
        let rounding = (len as f64 + 4.0 * RESYNC as f64) * f64::EPSILON;
        let (mut weight, mut shrink) = (0.0, 0.0);
        for (steps, place) in (self.end - len..self.end).rev().enumerate() {
            if steps % RESYNC == 0 {
                let loss = self.origin + place as f64 * self.step;
                weight = (self.ln_scale - self.c * loss).exp();
                shrink = (self.saddle.epsilon - loss).exp();
            }
            // A remainder by a power of two.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below len")]
            let mass = masses[(place & (len - 1)) as usize] * weight;
            first += mass;
            second += mass * shrink;
            let most = first + first.abs() * rounding + error * weight;
            let least = second - second.abs() * rounding;
            // Beyond the doubles, nothing is known but that delta is at most 1.
            let (most, least) = if most.is_finite() && least.is_finite() { (most, least) } else { (f64::MAX, 0.0) };
            let found = stop(self.origin + (place - 1) as f64 * self.step, most, least);
            if found.is_some() {
                return found;
            }
            weight *= up;
            shrink *= down;
        }
        None
    }

    /// Delta at any epsilon above the window's lower end.
    pub(super) fn delta(&self, epsilon: f64) -> f64 {
        let relative = (epsilon - self.saddle.epsilon).exp();
        self.walk(|next, first, second| (next <= epsilon).then_some(first - relative * second))
            .map_or(1.0, |delta| delta.max(0.0))
    }

    /// The least epsilon with at most this delta; the window's lower end, not valid, if it lies below that; `None` if delta
    /// is smaller than what is beyond the window.
    pub(super) fn epsilon(&self, target: f64) -> Option<Found> {
        if self.beyond >= target {
            return None;
        }
        let reference = self.saddle.epsilon;
        let mut lowest = 0.0;
        let found = self.walk(|next, first, second| {
            let at = next.max(0.0);
            lowest = at;
            if first - (at - reference).exp() * second >= target {
                // Between two losses, delta is a line in e^eps; at the upper one it is below the target, as was seen before.
                let (line, upper) = (reference + ((first - target) / second).ln(), next + self.step);
                let epsilon = if line.is_nan() { upper } else { line.max(at).min(upper) };
                return Some(Found { epsilon, slope: (first - target) / target, valid: true });
            }
            (next <= 0.0).then_some(Found { epsilon: 0.0, slope: self.c, valid: true })
        });
        found.or(Some(Found { epsilon: lowest, slope: self.c, valid: false }))
    }

    /// Places of the grid that losses were put onto.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// What a look at a tail gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) epsilon: f64,
    /// Of `-ln(delta)` there.
    pub(super) slope: f64,
    /// Whether epsilon meets the target; else all that is known is that a smaller one does.
    pub(super) valid: bool,
}

/// The step and the number of places: a power of two.
fn grid(window: f64, wanted: f64, len_max: usize, losses: &[(Loss, f64)]) -> Result<(f64, usize), DpError> {
    let places = (window / wanted).max(LEN_MIN as f64);
    if !places.is_finite() || window <= 0.0 {
        return Err(TOO_FINE);
    }
    let mut len = LEN_MIN;
    while (len as f64) < places && len < len_max {
        len *= 2;
    }
    let mut step = window / len as f64;
    // Atoms on a lattice can all be dots.
    let spacing = losses.iter().map(|loss| loss.0.spacing).find(|&spacing| spacing > 0.0);
    if let Some(spacing) = spacing.filter(|&spacing| losses.iter().all(|loss| loss.0.spacing == spacing)) {
        step = spacing / (spacing / step).floor().max(1.0);
        while (len as f64) * step < window && len < len_max {
            len *= 2;
        }
        step = step.max(window / len as f64);
    }
    Ok((step, len))
}

/// A dot where most of the mass is, or where the lattice is.
fn loss_origin(loss: &Loss) -> f64 {
    match loss.density {
        Some(density) if loss.atoms.is_empty() => density.loss(density.interval(-1.0).centre),
        _ => loss.atoms.first().map_or(0.0, |atom| atom.0),
    }
}

/// A bound on the probability that the composed loss is at least `from`; of losses with their origins and counts.
fn chernoff(parts: &[(Gridded, f64, f64)], step: f64, c: f64, from: f64) -> f64 {
    let at = |steeper: f64| {
        let mut exponent = -steeper * from;
        for (gridded, origin, count) in parts {
            let mut sum = LnSum::new();
            for &(place, mass) in &gridded.masses {
                sum.add(mass.ln() + steeper * (origin + place as f64 * step));
            }
            exponent += count * sum.ln();
        }
        exponent
    };
    let least = [1.0, 1.2, 1.5, 2.0, 3.0, 6.0].iter().map(|factor| at(c * factor)).fold(f64::INFINITY, f64::min);
    // A sum drops terms below e^-46 of its largest: at most a billionth, per step, is far below this.
    let steps: f64 = parts.iter().map(|part| part.2).sum();
    (least + 1.0 + steps * 1e-12).exp().min(1.0)
}

pub(super) const LEN_MAX: usize = 1 << 20;
/// How far below the expected epsilon the window goes, in units of the tilt.
const REACH: f64 = 4.0;
const LEN_MIN: usize = 1 << 10;
/// Steps after which running products are made anew.
const RESYNC: usize = 64;
/// Predicted part of delta that is rounding, from which less of it is worth some time.
const NOISE_QUIET: f64 = 1e-5;
