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
        let mut farther = vec![0.0; len];
        let mut near = [0.0; NEAR_LEN];
        for &(place, mass) in &tilted {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a remainder, a short distance"
            )]
            if place.abs() > reach {
                farther[place.rem_euclid(len as i64) as usize] += mass;
            } else {
                near[(place + NEIGHBOURS) as usize] += mass;
            }
        }
        let mut less_one = fft.forward(&mut farther);
        let far = if reach == 0 { off_bulk } else { far };
        less_one.iter_mut().for_each(|value| value.re -= far);
        let error = error_bound(len, far) + 24.0 * UNIT * off_bulk;
        let least = ((NEGLIGIBLE - 10.0) / count).exp() - error - 8.0 * UNIT;
        let least_norm2 = least.max(0.0).powi(2);
        if reach > 0 {
            // Where what is negligible cannot be told, nothing is left out.
            let most = if least_norm2 > 0.0 { frequency_max(&near, 1.0 - off_bulk, count, len) } else { len };
            add_neighbours(&near, most, fft, &mut less_one);
        }
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

/// Adds `sum_k m_k (e^(-i k angle) - 1)` for the masses next to the bulk, up to a frequency; sets all to 0 from there on.
fn add_neighbours(near: &[f64; NEAR_LEN], most: usize, fft: &Fft, less_one: &mut [Complex]) {
    let (below, above) = (near[..NEAR_LEN / 2].iter().rev(), near[NEAR_LEN / 2 + 1..].iter());
    let pairs: Vec<_> = above.zip(below).map(|(above, below)| (above + below, above - below)).collect();
    for (place, value) in less_one.iter_mut().enumerate() {
        let frequency = fft.frequency(place);
        if frequency.min(fft.len() - frequency) > most {
            *value = Complex { re: -1.0, im: 0.0 };
            continue;
        }
        let turn = fft.turn(frequency);
        let mut turned = turn;
        for &(sum, difference) in &pairs {
            value.re += sum * (turned.re - 1.0);
            value.im += difference * turned.im;
            turned = turned * turn;
        }
    }
}

/// A frequency beyond which the power is below `e^(NEGLIGIBLE - 10)`, up to half the circle.
///
/// The bulk m and the larger of its neighbours, n, alone keep the absolute value of the spectrum down: all masses sum to 1,
/// and these two to at most `m + n - m n (1 - cos angle) / (m + n)`, where `1 - cos angle >= 2 angle^2 / pi^2`.
fn frequency_max(near: &[f64; NEAR_LEN], bulk: f64, count: f64, len: usize) -> usize {
    let neighbour = near[NEAR_LEN / 2 - 1].max(near[NEAR_LEN / 2 + 1]);
    let decline = count * bulk * neighbour / (bulk + neighbour);
    // As a part of half the circle.
    let part = (0.5 * (10.0 - NEGLIGIBLE) / decline).sqrt();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most len")]
    if part < 1.0 { (0.5 * part * len as f64).ceil() as usize } else { len }
}

/// A product of powers of spectra, in the making.
pub(super) struct Product<'a> {
    fft: &'a Fft,
    /// In the places of a spectrum.
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

/// The masses of a sum, and bounds on their errors.
pub(super) struct Composed {
    /// In every `stride`-th place.
    pub(super) masses: Vec<f64>,
    pub(super) stride: usize,
    /// How far any mass may be off.
    pub(super) each: f64,
    /// How far the masses may be off, as the root of the sum of squares.
    pub(super) together: f64,
}

impl<'a> Product<'a> {
    pub(super) fn new(fft: &'a Fft) -> Self {
        let one = Factor { ln_radius: 0.0, angle: 0.0, ln_worst: 0.0, growth: 16.0 * UNIT };
        Self { fft, factors: vec![one; fft.len() / 2 + 1] }
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

    /// Back to masses; `tilt` and `step` are those of one place, and `count` is that of all losses.
    ///
    /// Sums of many losses are smooth: where high frequencies are negligible, masses are put onto a coarser grid on the way,
    /// by connecting its dots, which multiplies the spectrum by that of the shares.
    pub(super) fn compose(self, tilt: f64, step: f64, count: f64) -> Composed {
        let len = self.fft.len();
        let scale = 1.0 / len as f64;
        let stride = self.stride(count);
        let shares = shares(stride, tilt, step);
        let weight: f64 = shares.iter().map(|&(below, at)| below + at).sum();
        let coarse = Fft::new(len / stride);
        let mut product = vec![Complex::default(); coarse.len() / 2 + 1];
        let (mut total, mut error, mut error2) = (0.0, len as f64 * NEGLIGIBLE.exp(), 0.0);
        for (place, value) in product.iter_mut().enumerate() {
            let mut frequency = coarse.frequency(place);
            if frequency > coarse.len() / 2 {
                frequency += len - coarse.len();
            }
            let factor = &self.factors[self.fft.place(frequency)];
            if factor.ln_worst < NEGLIGIBLE {
                continue;
            }
            let radius = factor.ln_radius.exp();
            *value = Complex::from_polar(radius, factor.angle) * spectrum_of(&shares, self.fft.turn(frequency));
            let off = factor.ln_worst.exp() * (factor.growth + SHARE_ERROR * (stride - 1) as f64);
            // All but the first and the last stand for two frequencies.
            let frequencies = if place == 0 || place == coarse.len() / 2 { 1.0 } else { 2.0 };
            total += frequencies * radius;
            error += frequencies * off;
            error2 += frequencies * off * off;
        }
        let values = coarse.backward(&mut product);
        let backward = error_bound(coarse.len(), total * weight) * scale;
        let masses = values.iter().map(|value| value * scale).collect();
        // By Parseval, the root of the sum of squares shrinks by the root of the length.
        let root = (coarse.len() as f64).sqrt();
        let together = error2.sqrt() * weight * root * scale + (backward + NEGLIGIBLE.exp() * weight) * root;
        Composed { masses, stride, each: error * weight * scale + backward, together }
    }

    /// How many places may become one: frequencies of the coarser grid hold all that is not negligible, and one split more
    /// per sum is far less than was split for each loss.
    fn stride(&self, count: f64) -> usize {
        let len = self.fft.len();
        let there = self.factors.iter().enumerate().filter(|(_, factor)| factor.ln_worst >= NEGLIGIBLE);
        let highest = there.map(|(place, _)| self.fft.frequency(place)).map(|f| f.min(len - f)).max().unwrap_or(0);
        let mut stride = 1;
        while stride < STRIDE_MAX
            && len / stride > 2 * COARSE_MIN
            && len / stride > 4 * highest
            && 64.0 * square(stride) < count
        {
            stride *= 2;
        }
        stride
    }
}

/// Of tilted masses at `-r` and at `r` places from a dot, the shares that go to it; the next dots are `stride` places away.
///
/// Their rounding is far below what is added for that of the sums over the masses.
fn shares(stride: usize, tilt: f64, step: f64) -> Vec<(f64, f64)> {
    let upper = |above: usize| (-(above as f64) * step).exp_m1() / (-(stride as f64) * step).exp_m1();
    let lower = |below: usize| (below as f64 * step).exp_m1() / (stride as f64 * step).exp_m1();
    let of = |r: usize| {
        let tilted = tilt * r as f64;
        let below = if r == 0 { 0.0 } else { upper(stride - r) * tilted.exp() };
        (below, lower(stride - r) * (-tilted).exp())
    };
    (0..stride).map(of).collect()
}

/// What shares do to a frequency, by its `e^(-i angle)`.
fn spectrum_of(shares: &[(f64, f64)], turn: Complex) -> Complex {
    let mut turned = Complex { re: 1.0, im: 0.0 };
    let mut sum = Complex::default();
    for &(below, at) in shares {
        sum = sum + Complex { re: (below + at) * turned.re, im: (below - at) * turned.im };
        turned = turned * turn;
    }
    sum
}

fn square(count: usize) -> f64 {
    (count * count) as f64
}

/// Powers below this, as a logarithm, count as an error instead.
const NEGLIGIBLE: f64 = -80.0;
/// Half the distance of 1 from the next double: the rounding of one operation.
const UNIT: f64 = 0.5 * f64::EPSILON;
/// Exponentials of products of up to some hundred.
const TILT_ERROR: f64 = 2e-13;
/// Places on either side of the bulk that may be kept out of the transform.
const NEIGHBOURS: i64 = 8;
/// Places that may become one.
const STRIDE_MAX: usize = 64;
/// Places of the shortest grid that others are shortened to.
const COARSE_MIN: usize = 1 << 12;
/// Rounding of what shares do to a frequency, for each place more, in parts of their sum.
const SHARE_ERROR: f64 = 8.0 * UNIT;
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
            let composed = product.compose(tilt, 1e-3, f64::from(count));
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

    /// Masses on a coarser grid are those on the fine one, split among its dots.
    #[test]
    fn smooth_sums_are_split_among_fewer_places() {
        let (len, step, tilt, count) = (1 << 15, 2e-4, 1e-3, 40_000.0);
        let fft = Fft::new(len);
        let masses = (-12..=12)
            .map(|place| (place, 0.08 / (1.0 + f64::from(place * place).powi(2))))
            .map(|(place, mass)| (i64::from(place), mass));
        let gridded = Gridded { masses: masses.collect(), infinite: 0.0 };
        let compose = |quiet, count_of_sum| {
            let mut product = Product::new(&fft);
            product.multiply(&Spectrum::new(&gridded, count, tilt, quiet, &fft));
            product.compose(tilt, step, count_of_sum)
        };
        let (fine, coarse) = (compose(true, 1.0), compose(true, count));
        assert_eq!((fine.stride, coarse.stride), (1, 4));
        let wide = step * coarse.stride as f64;
        let mut split = vec![0.0; coarse.masses.len()];
        for (place, mass) in fine.masses.iter().enumerate() {
            let (below, offset) = (place / coarse.stride, place % coarse.stride);
            let upper = (-step * offset as f64).exp_m1() / (-wide).exp_m1();
            let up = tilt * (coarse.stride - offset) as f64;
            split[below] += mass * (1.0 - upper) * (-tilt * offset as f64).exp();
            split[(below + 1) % coarse.masses.len()] += mass * upper * up.exp();
        }
        let off = || coarse.masses.iter().zip(&split).map(|(coarse, split)| (coarse - split).abs());
        let bound = coarse.each + 16.0 * fine.each;
        assert!(off().all(|off| off <= bound) && bound < 1e-9, "{} {bound}", off().fold(0.0, f64::max));
        let together = off().map(|off| off * off).sum::<f64>().sqrt();
        let bound = coarse.together + 16.0 * fine.together;
        assert!(together <= bound && bound < 1e-7, "{together} {bound}");
        // Frequencies that were left out because of what is next to the bulk are negligible.
        let all = compose(false, 1.0);
        let off = all.masses.iter().zip(&fine.masses).map(|(all, fine)| (all - fine).abs()).fold(0.0, f64::max);
        assert!(off <= all.each + fine.each && all.each < 1e-9, "{off} {}", all.each);
    }
}
