//! A plain fast Fourier transform, whose error can be bounded.
//!
//! Radix 2, in place, factors from the libraries' sine and cosine. Every output is a sum over inputs, each multiplied by at
//! most `log2(n)` factors of absolute value 1; one multiplication by a rounded factor and one addition err by less than
//! `5 * 2^-53` of the absolute values that go in. So each output errs by at most `log2(n) * 5 * 2^-53` times the sum of the
//! absolute values of the inputs (to first order; [`error_bound`] has room for the rest). Outputs of the forward
//! transform are in bit-reversed order, inputs of the backward one too: a product of spectra does not care.

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
#[derive(Debug)]
pub(crate) struct Fft {
    len: usize,
    /// `e^(-i tau k / len)` for the first half of the circle.
    factors: Vec<Complex>,
}

impl Fft {
    /// `len`: a power of two, at least 2.
    pub(crate) fn new(len: usize) -> Self {
        debug_assert!(len.is_power_of_two() && len >= 2);
        let factors = (0..len / 2).map(|k| Complex::from_polar(1.0, -TAU * (k as f64 / len as f64))).collect();
        Self { len, factors }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The spectrum, in bit-reversed order.
    pub(crate) fn forward(&self, values: &mut [Complex]) {
        let mut half = self.len / 2;
        let mut stride = 1;
        while half >= 1 {
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((a, b), factor) in low.iter_mut().zip(high).zip(self.factors.iter().step_by(stride)) {
                    let difference = *a - *b;
                    *a = *a + *b;
                    *b = difference * *factor;
                }
            }
            half /= 2;
            stride *= 2;
        }
    }

    /// Values from a spectrum in bit-reversed order, `len` times too large.
    pub(crate) fn backward(&self, values: &mut [Complex]) {
        let mut half = 1;
        let mut stride = self.len / 2;
        while half < self.len {
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((a, b), factor) in low.iter_mut().zip(high).zip(self.factors.iter().step_by(stride)) {
                    let turned = *b * factor.conj();
                    *b = *a - turned;
                    *a = *a + turned;
                }
            }
            half *= 2;
            stride /= 2;
        }
    }
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

    #[test]
    fn a_spectrum_is_the_sum_by_its_definition() {
        let len = 64;
        let input: Vec<_> = (0..len).map(|k| Complex { re: f64::from(k * k % 17), im: f64::from(k % 5) }).collect();
        let mut spectrum = input.clone();
        let fft = Fft::new(input.len());
        fft.forward(&mut spectrum);
        for j in 0..input.len() {
            let slow = input.iter().enumerate().fold(Complex::default(), |sum, (k, &value)| {
                sum + value * Complex::from_polar(1.0, -TAU * ((j * k % input.len()) as f64) / input.len() as f64)
            });
            let fast = spectrum[j.reverse_bits() >> (usize::BITS - 6)];
            assert!(distance(fast, slow) < 1e-11, "{j}: {fast:?} {slow:?}");
        }
        fft.backward(&mut spectrum);
        for (back, value) in spectrum.iter().zip(&input) {
            assert!((back.re / 64.0 - value.re).abs() < 1e-13 && (back.im / 64.0 - value.im).abs() < 1e-13);
        }
    }

    #[test]
    fn errors_stay_below_their_bound() {
        // A unit mass far out: each output is a power of a root of unity, known exactly.
        let len = 1 << 12;
        let fft = Fft::new(len);
        for at in [1, 777, len - 1] {
            let mut values = vec![Complex::default(); len];
            values[at] = Complex { re: 1.0, im: 0.0 };
            fft.forward(&mut values);
            for j in 0..len {
                let exact = Complex::from_polar(1.0, -TAU * ((j * at % len) as f64 / len as f64));
                let got = values[j.reverse_bits() >> (usize::BITS - 12)];
                assert!(distance(got, exact) < error_bound(len, 1.0));
            }
        }
    }
}
