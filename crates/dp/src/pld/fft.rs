//! A plain fast Fourier transform of real values, whose error can be bounded.
//!
//! Radix 2, factors from the libraries' sine and cosine. Every output is a sum over inputs, each multiplied by at most
//! `log2(n)` factors of absolute value 1; one multiplication by a rounded factor and one addition err by less than
//! `5 * 2^-53` of the absolute values that go in. So each output errs by at most `log2(n) * 5 * 2^-53` times the sum of the
//! absolute values of the inputs (to first order; [`error_bound`] has room for the rest).
//!
//! Of two frequencies with conjugate values one is computed. With `r_m = x_m - x_(m + n/2)`, the value at `4j + 1` is
//! output j of the complex transform of `(r_m - i r_(m + n/4)) e^(-i tau m / n)`, m below n/4; those at `4j + 3` are
//! their conjugates, and those at even places are the transform of the `n/2` real values `x_m + x_(m + n/2)`. These are
//! steps of the complex transform that are not taken twice, so the bound above holds for them.

use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

/// A complex number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
    pub(crate) fn from_polar(radius: f64, angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self { re: radius * cos, im: radius * sin }
    }

    fn conj(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    /// Times `-i`.
    fn quarter_turned(self) -> Self {
        Self { re: self.im, im: -self.re }
    }
}

impl Add for Complex {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

/// The factors for one length.
///
/// A spectrum of `len` real values has `len / 2 + 1` places. The first is frequency 0 and the last `len / 2`; what is
/// between stands for two frequencies each, with conjugate values, in the order of [`Self::frequency`].
#[derive(Debug)]
pub(crate) struct Fft {
    len: usize,
    /// `e^(-i tau k / 2^level)`, by level: for the first half of the circle, or of the three longest for the first quarter.
    factors: Vec<Vec<Complex>>,
}

impl Fft {
    /// `len`: a power of two, at least 4.
    pub(crate) fn new(len: usize) -> Self {
        debug_assert!(len.is_power_of_two() && len >= 4);
        // An eighth of the circle is computed, the next one is its mirror image.
        let mut longest = vec![Complex::default(); len / 4];
        for k in 0..=len / 8 {
            let factor = Complex::from_polar(1.0, -TAU * (k as f64 / len as f64));
            longest[k] = factor;
            if k > 0 {
                longest[len / 4 - k] = Complex { re: -factor.im, im: -factor.re };
            }
        }
        let mut factors = vec![longest];
        for level in (2..len.ilog2()).rev() {
            let above = &factors[factors.len() - 1][..1 << (level - 1)];
            let mut next: Vec<_> = above.iter().step_by(2).copied().collect();
            if level + 3 <= len.ilog2() {
                next.extend_from_within(..);
                let quarter = next.len() / 2;
                next[quarter..].iter_mut().for_each(|factor| *factor = factor.quarter_turned());
            }
            factors.push(next);
        }
        // A single value stays, of two the factor is 1.
        factors.extend([vec![Complex { re: 1.0, im: 0.0 }], Vec::new()]);
        factors.reverse();
        Self { len, factors }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The frequency f at a place of the spectrum, or that of its conjugate.
    pub(crate) fn frequency(&self, place: usize) -> usize {
        if place == 0 || place == self.len / 2 {
            return place;
        }
        // Places from one power of two to the next: `4j + 1`, in units of their own, in bit-reversed order.
        let first = 1 << place.ilog2();
        (4 * reversed(place - first, first) + 1) * (self.len / (4 * first))
    }

    /// The place of a frequency that [`Self::frequency`] names.
    pub(crate) fn place(&self, frequency: usize) -> usize {
        if frequency == 0 || frequency == self.len / 2 {
            return frequency;
        }
        let unit = 1 << frequency.trailing_zeros();
        let first = self.len / (4 * unit);
        first + reversed(frequency / (4 * unit), first)
    }

    /// `e^(-i tau f / len)` for a frequency f below `len`.
    pub(crate) fn turn(&self, frequency: usize) -> Complex {
        let quarter = self.len / 4;
        let factor = self.factors[self.len.ilog2() as usize][frequency % quarter];
        (0..frequency / quarter).fold(factor, |factor, _| factor.quarter_turned())
    }

    /// The spectrum; of the values, sums stay.
    pub(crate) fn forward(&self, values: &mut [f64]) -> Vec<Complex> {
        debug_assert_eq!(values.len(), self.len);
        let mut spectrum = vec![Complex::default(); self.len / 2 + 1];
        let mut rest = values;
        while rest.len() > 2 {
            let quarter = rest.len() / 4;
            let factors = &self.factors[rest.len().ilog2() as usize];
            let (low, high) = rest.split_at_mut(2 * quarter);
            let block = &mut spectrum[quarter..2 * quarter];
            let (near, far) = low.split_at_mut(quarter);
            let pairs = near.iter_mut().zip(far).zip(high[..quarter].iter().zip(&high[quarter..]));
            for ((((near, far), (near_half, far_half)), factor), out) in pairs.zip(factors).zip(block.iter_mut()) {
                *out = Complex { re: *near - near_half, im: far_half - *far } * *factor;
                *near += near_half;
                *far += far_half;
            }
            self.complex_forward(block);
            rest = low;
        }
        spectrum[0].re = rest[0] + rest[1];
        spectrum[self.len / 2].re = rest[0] - rest[1];
        spectrum
    }

    /// Values from a spectrum, `len` times too large.
    pub(crate) fn backward(&self, spectrum: &mut [Complex]) -> Vec<f64> {
        debug_assert_eq!(spectrum.len(), self.len / 2 + 1);
        let mut values = vec![0.0; self.len];
        values[0] = spectrum[0].re + spectrum[self.len / 2].re;
        values[1] = spectrum[0].re - spectrum[self.len / 2].re;
        let mut len = 4;
        while len <= self.len {
            let quarter = len / 4;
            let block = &mut spectrum[quarter..2 * quarter];
            self.complex_backward(block);
            let (low, high) = values[..len].split_at_mut(2 * quarter);
            let (near, far) = low.split_at_mut(quarter);
            let (near_half, far_half) = high.split_at_mut(quarter);
            let pairs = near.iter_mut().zip(far).zip(near_half.iter_mut().zip(far_half));
            let factors = &self.factors[len.ilog2() as usize];
            for ((((near, far), (near_half, far_half)), factor), value) in pairs.zip(factors).zip(block) {
                let turned = *value * factor.conj();
                // The conjugates count too.
                (*near, *near_half) = (*near + 2.0 * turned.re, *near - 2.0 * turned.re);
                (*far, *far_half) = (*far - 2.0 * turned.im, *far + 2.0 * turned.im);
            }
            len *= 2;
        }
        values
    }

    /// Of a part of the spectrum, into bit-reversed order: two steps at once, then each quarter, which stays in the cache.
    fn complex_forward(&self, values: &mut [Complex]) {
        if let [a, b] = values {
            (*a, *b) = (*a + *b, *a - *b);
        }
        let quarter = values.len() / 4;
        if quarter == 0 {
            return;
        }
        let (low, high) = values.split_at_mut(2 * quarter);
        let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
        let level = quarter.ilog2() as usize + 2;
        // Of the quarter's own step, one factor for a length of 2.
        let (long, short) = (&self.factors[level][..quarter], &self.factors[level - 1][..quarter]);
        for k in 0..quarter {
            let (near, far) = (a[k] + c[k], b[k] + d[k]);
            let near_turned = (a[k] - c[k]) * long[k];
            let far_turned = ((b[k] - d[k]) * long[k]).quarter_turned();
            (a[k], b[k]) = (near + far, (near - far) * short[k]);
            (c[k], d[k]) = (near_turned + far_turned, (near_turned - far_turned) * short[k]);
        }
        if quarter > 1 {
            for part in [a, b, c, d] {
                self.complex_forward(part);
            }
        }
    }

    /// From bit-reversed order.
    fn complex_backward(&self, values: &mut [Complex]) {
        if let [a, b] = values {
            (*a, *b) = (*a + *b, *a - *b);
        }
        let quarter = values.len() / 4;
        if quarter == 0 {
            return;
        }
        let (low, high) = values.split_at_mut(2 * quarter);
        let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
        if quarter > 1 {
            for part in [&mut *a, &mut *b, &mut *c, &mut *d] {
                self.complex_backward(part);
            }
        }
        let level = quarter.ilog2() as usize + 2;
        let (long, short) = (&self.factors[level][..quarter], &self.factors[level - 1][..quarter]);
        for k in 0..quarter {
            let (b_turned, d_turned) = (b[k] * short[k].conj(), d[k] * short[k].conj());
            let (near, far) = (a[k] + b_turned, a[k] - b_turned);
            let near_turned = (c[k] + d_turned) * long[k].conj();
            let far_turned = ((c[k] - d_turned) * long[k].conj()).quarter_turned();
            (a[k], c[k]) = (near + near_turned, near - near_turned);
            // Turned the other way.
            (b[k], d[k]) = (far - far_turned, far + far_turned);
        }
    }
}

/// The bits of a number below `end`, a power of two, from the other side.
fn reversed(value: usize, end: usize) -> usize {
    value.reverse_bits().checked_shr(usize::BITS - end.ilog2()).unwrap_or_default()
}

/// How far any output of a transform of `len` values may be off, when the absolute values of the inputs sum to `total`.
pub(crate) fn error_bound(len: usize, total: f64) -> f64 {
    (f64::from(len.ilog2()) + 2.0) * ERROR_PER_LEVEL * total
}

/// Above `5 * 2^-53`, for the terms of higher order and a libm that errs by more than one unit.
const ERROR_PER_LEVEL: f64 = 7e-16;

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: Complex, b: Complex) -> f64 {
        (a.re - b.re).hypot(a.im - b.im)
    }

    /// The value at any frequency, by its place or by that of its conjugate.
    fn at(fft: &Fft, spectrum: &[Complex], frequency: usize) -> Complex {
        let place = |frequency| (0..spectrum.len()).find(|&place| fft.frequency(place) == frequency);
        match place(frequency) {
            Some(place) => spectrum[place],
            None => spectrum[place(fft.len() - frequency).expect("every frequency has a place")].conj(),
        }
    }

    #[test]
    fn a_spectrum_is_the_sum_by_its_definition() {
        for len in [4, 8, 64] {
            let input: Vec<_> = (0..len).map(|k| (k * k % 17) as f64 - (k % 5) as f64).collect();
            let fft = Fft::new(len);
            let mut spectrum = fft.forward(&mut input.clone());
            for j in 0..len {
                let slow = input.iter().enumerate().fold(Complex::default(), |sum, (k, &value)| {
                    sum + Complex::from_polar(value, -TAU * ((j * k % len) as f64) / len as f64)
                });
                let fast = at(&fft, &spectrum, j);
                assert!(distance(fast, slow) < 1e-11, "{len} {j}: {fast:?} {slow:?}");
            }
            for (back, value) in fft.backward(&mut spectrum).iter().zip(&input) {
                assert!((back / len as f64 - value).abs() < 1e-13, "{len}");
            }
        }
    }

    #[test]
    fn errors_stay_below_their_bound() {
        // A unit mass far out: each output is a power of a root of unity, known exactly.
        let len = 1 << 12;
        let fft = Fft::new(len);
        for at in [1, 777, len - 1] {
            let mut values = vec![0.0; len];
            values[at] = 1.0;
            let mut spectrum = fft.forward(&mut values);
            for (place, &got) in spectrum.iter().enumerate() {
                let turns = (fft.frequency(place) * at % len) as f64;
                assert_eq!(fft.place(fft.frequency(place)), place);
                let exact = Complex::from_polar(1.0, -TAU * (turns / len as f64));
                assert!(distance(got, exact) < error_bound(len, 1.0), "{at} {place}");
                let turn = fft.turn(fft.frequency(place));
                let exact = Complex::from_polar(1.0, -TAU * fft.frequency(place) as f64 / len as f64);
                assert!(distance(turn, exact) < 1e-15, "{place}");
            }
            // And back: every frequency is an input of absolute value 1.
            for (back, &got) in fft.backward(&mut spectrum).iter().enumerate() {
                let exact = if back == at { len as f64 } else { 0.0 };
                assert!((got - exact).abs() < 2.0 * error_bound(len, len as f64), "{at} {back}");
            }
        }
    }
}
