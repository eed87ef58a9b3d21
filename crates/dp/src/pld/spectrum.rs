//! Spectra of tilted losses, their powers and products, with bounds on every error.

use super::discretise::Gridded;
use super::fft::{Complex, Fft, error_bound};

/// A spectrum of tilted masses that sum to 1.
pub(super) struct Spectrum {
    /// Less 1: relative to the place of the largest mass, most of a loss that is small hardly turns.
    less_one: Vec<Complex>,
    count: f64,
    /// The place of the largest mass, which counts as place 0.
    pub(super) bulk: i64,
    /// Logarithm of what the masses summed to, with the tilt relative to the bulk.
    pub(super) ln_total: f64,
    /// How far any value may be off, but for its last rounding.
    error: f64,
    /// Powers of values with a square below this are negligible.
    least_norm2: f64,
}

impl Spectrum {
    /// `tilt`: per place; `quiet`: whether it is worth some time to have less error.
    ///
    /// The largest mass, put at place 0, does not go through the transform, and neither do its neighbours if they hold
    /// most of the rest: their spectrum is written down. So the error is in proportion to what is farther off.
    pub(super) fn new(gridded: &Gridded, count: f64, tilt: f64, quiet: bool, fft: &Fft) -> Self {
        let len = fft.len();
        let exponent = |&(place, mass): &(i64, f64)| mass.ln() + tilt * place as f64;
        let points = || gridded.masses.iter().filter(|point| point.1 > 0.0);
        let (bulk, top) = points()
            .map(|point| (point.0, exponent(point)))
            .fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
        let mut tilted: Vec<_> =
            points().map(|point| (point.0 - bulk, (exponent(point) - top).exp() * (1.0 + TILT_ERROR))).collect();
        let total: f64 = tilted.iter().map(|point| point.1).sum();
        tilted.iter_mut().for_each(|point| point.1 /= total);
        let sum = |reach: i64| tilted.iter().filter(|point| point.0.abs() > reach).map(|point| point.1).sum::<f64>();
        let (off_bulk, far) = (sum(0), sum(NEIGHBOURS));
        let reach = if quiet && far < 0.3 * off_bulk { NEIGHBOURS } else { 0 };
        let mut less_one = vec![Complex::default(); len];
        let mut near = [0.0; NEAR_LEN];
        for &(place, mass) in &tilted {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a remainder, a short distance"
            )]
            if place.abs() > reach {
                less_one[place.rem_euclid(len as i64) as usize].re += mass;
            } else {
                near[(place + NEIGHBOURS) as usize] += mass;
            }
        }
        fft.forward(&mut less_one);
        let far = if reach == 0 { off_bulk } else { far };
        less_one.iter_mut().for_each(|value| value.re -= far);
        if reach > 0 {
            add_neighbours(&near, &mut less_one);
        }
        let error = error_bound(len, far) + 24.0 * UNIT * off_bulk;
        let least = ((NEGLIGIBLE - 10.0) / count).exp() - error - 8.0 * UNIT;
        let least_norm2 = least.max(0.0).powi(2);
        Self { less_one, count, bulk, ln_total: top + total.ln() - tilt * bulk as f64, error, least_norm2 }
    }

    /// Logarithm of the absolute value, the angle, and bounds: logarithm of the largest possible absolute value, and the
    /// relative error of the power. `None` for a power below `e^NEGLIGIBLE`, by far.
    fn power(&self, at: usize) -> Option<[f64; 4]> {
        let Complex { re, im } = self.less_one[at];
        let norm2_less_one = re * (2.0 + re) + im * im;
        if 1.0 + norm2_less_one < self.least_norm2 {
            return None;
        }
        let error = self.error + 4.0 * UNIT * (re.abs() + im.abs());
        let bound = (1.0 + norm2_less_one).max(0.0).sqrt() + error;
        let (ln, turn) = (0.5 * norm2_less_one.max(-1.0).ln_1p(), im.atan2(1.0 + re));
        let growth = error / bound + 3.0 * UNIT * (turn.abs() + ln.abs().min(100.0));
        let turned = (self.count * turn) % std::f64::consts::TAU;
        Some([self.count * ln, turned, self.count * bound.ln(), self.count * growth])
    }
}

/// Adds `sum_k m_k (e^(-i k angle) - 1)` for the masses next to the bulk, in the order of the transform.
fn add_neighbours(near: &[f64], less_one: &mut [Complex]) {
    let len = less_one.len();
    let bits = len.ilog2();
    let (below, above) = (near[..near.len() / 2].iter().rev(), near[near.len() / 2 + 1..].iter());
    let pairs: Vec<_> = above.zip(below).map(|(above, below)| (above + below, above - below)).collect();
    for (at, value) in less_one.iter_mut().enumerate() {
        let angle = std::f64::consts::TAU * ((at.reverse_bits() >> (usize::BITS - bits)) as f64 / len as f64);
        let turn = Complex::from_polar(1.0, -angle);
        let mut turned = turn;
        for &(sum, difference) in &pairs {
            value.re += sum * (turned.re - 1.0);
            value.im += difference * turned.im;
            turned = turned * turn;
        }
    }
}

/// A product of powers of spectra, in the making.
pub(super) struct Product<'a> {
    fft: &'a Fft,
    factors: Vec<Factor>,
}

/// The product at one frequency.
#[derive(Clone)]
struct Factor {
    ln_radius: f64,
    angle: f64,
    /// Logarithm of the largest absolute value that is possible; minus infinity for a product that is negligible.
    ln_worst: f64,
    /// Relative error.
    growth: f64,
}

/// The masses of a sum, in their places, and bounds on their errors.
pub(super) struct Composed {
    pub(super) masses: Vec<f64>,
    /// How far any mass may be off.
    pub(super) each: f64,
    /// How far the masses may be off, as the root of the sum of squares.
    pub(super) together: f64,
}

impl<'a> Product<'a> {
    pub(super) fn new(fft: &'a Fft) -> Self {
        let one = Factor { ln_radius: 0.0, angle: 0.0, ln_worst: 0.0, growth: 16.0 * UNIT };
        Self { fft, factors: vec![one; fft.len()] }
    }

    /// Multiplies by a spectrum, as often as its count says.
    pub(super) fn multiply(&mut self, spectrum: &Spectrum) {
        for (at, factor) in self.factors.iter_mut().enumerate() {
            // Absolute values are at most 1, but for their errors: one small factor is enough.
            if factor.ln_worst < NEGLIGIBLE {
                continue;
            }
            let Some([ln, turn, worst, growth]) = spectrum.power(at) else {
                factor.ln_worst = f64::NEG_INFINITY;
                continue;
            };
            factor.ln_radius += ln;
            factor.angle += turn;
            factor.ln_worst += worst;
            factor.growth += growth;
        }
    }

    /// Back to masses.
    pub(super) fn compose(self) -> Composed {
        let len = self.fft.len();
        let scale = 1.0 / len as f64;
        let (mut total, mut error, mut error2) = (0.0, len as f64 * NEGLIGIBLE.exp(), 0.0);
        let mut product = vec![Complex::default(); len];
        for (value, factor) in product.iter_mut().zip(&self.factors) {
            if factor.ln_worst < NEGLIGIBLE {
                continue;
            }
            let radius = factor.ln_radius.exp();
            *value = Complex::from_polar(radius, factor.angle);
            total += radius;
            let off = factor.ln_worst.exp() * factor.growth;
            error += off;
            error2 += off * off;
        }
        self.fft.backward(&mut product);
        let backward = error_bound(len, total) * scale;
        let masses = product.iter().map(|value| value.re * scale).collect();
        // By Parseval, the root of the sum of squares shrinks by the root of the length.
        let together = (error2 * scale).sqrt() + (backward + NEGLIGIBLE.exp()) * (len as f64).sqrt();
        Composed { masses, each: error * scale + backward, together }
    }
}

/// Powers below this, as a logarithm, count as an error instead.
const NEGLIGIBLE: f64 = -80.0;
/// Half the distance of 1 from the next double: the rounding of one operation.
const UNIT: f64 = 0.5 * f64::EPSILON;
/// Exponentials of products of up to some hundred.
const TILT_ERROR: f64 = 2e-13;
/// Places on either side of the bulk that may be kept out of the transform.
const NEIGHBOURS: i64 = 8;
/// The bulk and what is on either side of it.
const NEAR_LEN: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    /// Powers of a spectrum against sums of products of masses, which are exact to some units of the last place.
    #[test]
    fn powers_are_convolutions_within_their_bounds() {
        let len = 1 << 10;
        let fft = Fft::new(len);
        // A bulk with close neighbours, and some mass far off.
        let mut masses: Vec<_> = (-4..=4).map(|place| (place + 7, 0.3 / (1.0 + (place * place) as f64))).collect();
        masses.extend([(-20, 1e-7), (33, 2e-5), (60, 1e-9)]);
        let gridded = Gridded { masses: masses.clone(), infinite: 0.0 };
        for (count, tilt, quiet) in [(1_u32, 0.0, true), (2, 0.1, true), (5, 0.2, false), (9, -0.05, true)] {
            let spectrum = Spectrum::new(&gridded, f64::from(count), tilt, quiet, &fft);
            let mut product = Product::new(&fft);
            product.multiply(&spectrum);
            let composed = product.compose();
            let total: f64 = masses.iter().map(|&(place, mass)| mass * (tilt * place as f64).exp()).sum();
            let ln_total = spectrum.ln_total + tilt * spectrum.bulk as f64;
            assert!((ln_total - total.ln()).abs() < 1e-12, "{count} {tilt}");
            let mut slow = vec![0.0; len];
            slow[0] = 1.0;
            for _ in 0..count {
                let mut next = vec![0.0; len];
                for (at, value) in slow.iter().enumerate() {
                    for &(place, mass) in &masses {
                        let to = (at as i64 + place - spectrum.bulk).rem_euclid(len as i64);
                        let to = usize::try_from(to).expect("a remainder");
                        next[to] += value * mass * (tilt * place as f64).exp() / total;
                    }
                }
                slow = next;
            }
            let off = |(fast, slow): (&f64, &f64)| (fast - slow).abs();
            let worst = composed.masses.iter().zip(&slow).map(off).fold(0.0, f64::max);
            let square: f64 = composed.masses.iter().zip(&slow).map(off).map(|off| off * off).sum();
            // Nor are the bounds so wide that anything would be within them; the slow sums err by some 1e-16 themselves.
            assert!(worst <= composed.each && composed.each < 1e-12, "{count} {tilt}: {worst} {}", composed.each);
            assert!(square.sqrt() <= composed.together, "{count} {tilt}: {} {}", square.sqrt(), composed.together);
        }
    }
}
