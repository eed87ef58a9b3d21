//! Small statistics of a few numbers, one per client.

use std::cmp::Ordering;

/// The median; of an even number the mean of the two in the middle, which cannot overflow. 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The mean of two numbers, without overflow.
#[inline(always)]
pub(crate) fn midpoint(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if sum.is_finite() { sum / 2.0 } else { a / 2.0 + b / 2.0 }
}

/// The median of absolute deviations from the median.
pub(crate) fn mad(values: &[f64], median_of_values: f64) -> f64 {
    median(&values.iter().map(|value| (value - median_of_values).abs()).collect::<Vec<_>>())
}

/// Mean and standard deviation of a population; `(0, 0)` of nobody.
pub(crate) fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (count, sum) = values.clone().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let mean = sum / count;
    let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// By value, and by lowest index where values are equal.
pub(crate) fn by_value_then_index(values: &[f64]) -> impl Fn(&usize, &usize) -> Ordering + '_ {
    |&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b))
}

/// The largest whole number that is at most `value`, up to a hair of rounding: 0.29 of 100 are 29.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative and NaN become 0, infinity the most"
)]
pub(crate) fn floor(value: f64) -> usize {
    (value + 1e-9).floor() as usize
}

/// The least whole number that is at least `value`, up to a hair of rounding.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative and NaN become 0, infinity the most"
)]
pub(crate) fn ceil(value: f64) -> usize {
    (value - 1e-9).ceil() as usize
}

/// A dot product in an order that does not depend on the CPU.
#[inline(always)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut lanes, (a, a_rest), (b, b_rest)) = ([0.0; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[1.5e308, 1e308]), 1.25e308);
        assert_eq!(mad(&[1.0, 2.0, 10.0], 2.0), 1.0);
    }

    #[test]
    fn fractions_of_clients() {
        assert_eq!((floor(0.2 * 5.0), floor(0.29 * 100.0), floor(0.2 * 4.0)), (1, 29, 0));
        assert_eq!((floor(f64::NAN), floor(-1.0), ceil(1.5 * 2.0), ceil(2.1)), (0, 0, 3, 3));
    }
}
