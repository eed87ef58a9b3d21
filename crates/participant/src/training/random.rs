//! Draws from named distributions out of any source of random bits: a few lines each, so that a seed means the same
//! split and the same model whatever version of a sampling library is in the tree.

use rand_core::Rng;

/// Uniform in the open interval (0, 1): 53 random bits, centred in their cell so that neither end comes up.
pub(super) fn uniform(rng: &mut impl Rng) -> f64 {
    const CELLS: f64 = (1u64 << 53) as f64;
    ((rng.next_u64() >> 11) as f64 + 0.5) / CELLS
}

/// Uniform in `0..bound`, without bias (Lemire 2019, "Fast Random Integer Generation in an Interval", Algorithm 5).
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted; the high half is below a usize")]
pub(super) fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let bound = bound as u64;
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        if wide as u64 >= rejected {
            return (wide >> 64) as usize;
        }
    }
}

/// Puts the items into uniformly random order (Fisher and Yates).
pub(super) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

/// Standard normal, by the polar method (Marsaglia and Bray 1964). The second value of each pair is thrown away: the
/// function has no state, and nothing here draws enough of them to notice.
pub(super) fn normal(rng: &mut impl Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * uniform(rng) - 1.0, 2.0 * uniform(rng) - 1.0);
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}

/// Gamma with the given shape and scale 1 (Marsaglia and Tsang 2000, "A Simple Method for Generating Gamma Variables").
/// Shapes below 1 are drawn one higher and multiplied by `U^(1 / shape)`, as in their section 6; for tiny shapes the
/// result may underflow to 0.
pub(super) fn gamma(rng: &mut impl Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = uniform(rng).powf(1.0 / shape);
        return gamma(rng, shape + 1.0) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    const DRAWS: usize = 200_000;

    fn mean_and_variance(draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = std::iter::repeat_with(draw).take(DRAWS).collect();
        let mean = draws.iter().sum::<f64>() / DRAWS as f64;
        (mean, draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / DRAWS as f64)
    }

    /// Mean and variance lie within about six standard errors of the theory, for a fixed seed.
    #[test]
    fn moments() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mean, variance) = mean_and_variance(|| uniform(&mut rng));
        assert!((mean - 0.5).abs() < 0.004 && (variance - 1.0 / 12.0).abs() < 0.002, "uniform {mean} {variance}");
        let (mean, variance) = mean_and_variance(|| normal(&mut rng));
        assert!(mean.abs() < 0.014 && (variance - 1.0).abs() < 0.02, "normal {mean} {variance}");
        for shape in [0.1, 0.5, 1.0, 2.5, 30.0] {
            let (mean, variance) = mean_and_variance(|| gamma(&mut rng, shape));
            let error = 6.0 * (shape / DRAWS as f64).sqrt();
            assert!((mean - shape).abs() < error, "gamma {shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.12, "gamma {shape}: variance {variance}");
        }
    }

    #[test]
    fn every_value_below_the_bound_comes_up_equally_often() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 600), "{counts:?}");
        assert_eq!(below(&mut rng, 1), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut ChaCha8Rng::seed_from_u64(3), &mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
