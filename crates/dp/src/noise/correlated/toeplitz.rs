//! Lower-triangular Toeplitz factors of the prefix-sum matrix and their sensitivities.

use crate::noise::error::{NoiseError, at_least_one, up};

/// A factor C of `A = B C`, A the matrix of prefix sums over `n` rounds: lower-triangular, Toeplitz, its coefficients
/// positive and not increasing. The mechanism releases `C x + z`; its error is that of `B z`.
#[derive(Debug, Clone, PartialEq)]
pub struct Toeplitz {
    /// First column down to the last band.
    coefficients: Vec<f64>,
    n: usize,
}

impl Toeplitz {
    /// From the first column, as far as it is not 0.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for no or too many coefficients, [`NoiseError::NoTheorem`] where they are not positive or
    /// increase: then the sensitivity is not known.
    pub fn new(coefficients: Vec<f64>, n: usize) -> Result<Self, NoiseError> {
        at_least_one("the number of rounds", n as u64)?;
        at_least_one("the number of bands", coefficients.len() as u64)?;
        if coefficients.len() > n {
            let got = coefficients.len() as u64;
            return Err(NoiseError::Count { name: "the number of bands", got, want: "at most the number of rounds" });
        }
        let positive = coefficients.iter().all(|c| c.is_finite() && *c > 0.0);
        if !positive || coefficients.windows(2).any(|pair| pair[1] > pair[0]) {
            return Err(NoiseError::NoTheorem { why: "the coefficients have to be positive and may not increase" });
        }
        Ok(Self { coefficients, n })
    }

    /// The square root of A, coefficients `C(2j, j)/4^j`, cut after so many bands (Fichtenberger, Henzinger, Upadhyay
    /// 2023, arXiv:2202.11205).
    ///
    /// # Errors
    /// [`NoiseError::Count`] unless `1 <= bands <= n`.
    pub fn sqrt(n: usize, bands: usize) -> Result<Self, NoiseError> {
        let mut coefficients = Vec::with_capacity(bands.min(n));
        let mut coefficient = 1.0;
        for j in 1..=bands.min(n.saturating_add(1)) {
            coefficients.push(coefficient);
            coefficient *= (2 * j - 1) as f64 / (2 * j) as f64;
        }
        Self::new(coefficients, n)
    }

    /// The same with first columns of norm 1. The last columns, cut by the matrix, are shorter.
    ///
    /// # Errors
    /// None for a factor whose squares stay within f64.
    pub fn normalised(&self) -> Result<Self, NoiseError> {
        let norm = norm(&self.coefficients);
        Self::new(self.coefficients.iter().map(|c| c / norm).collect(), self.n)
    }

    /// Coefficients of the first column, as far as they are not 0.
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.n
    }

    /// L2 sensitivity of `C x`, rounded up, where one participant contributes a vector of norm 1 to at most
    /// `participations` rounds, at least `min_separation` apart. For these coefficients the worst rounds are the earliest:
    /// 0, s, 2s and so on (Kalinin, Lampert 2024, arXiv:2405.13763, theorem 2).
    ///
    /// # Errors
    /// [`NoiseError::Count`] where one of them is 0.
    pub fn sensitivity(&self, participations: usize, min_separation: usize) -> Result<f64, NoiseError> {
        let column = sum_of_columns(&self.coefficients, self.n, participations, min_separation)?;
        Ok(up(norm(&column) * (1.0 + column.len() as f64 * f64::EPSILON)))
    }

    /// Norms of the rows of `B = A C^-1`: the standard deviations of the noise on the prefix sums, per unit of z.
    #[must_use]
    pub fn row_norms(&self) -> Vec<f64> {
        // B is Toeplitz too; its coefficients are prefix sums of the inverse's.
        let mut inverse: Vec<f64> = Vec::with_capacity(self.n);
        let leading = self.coefficients[0];
        for at in 0..self.n {
            let reach = self.coefficients.len().min(at + 1);
            let carried: f64 = (1..reach).map(|j| self.coefficients[j] * inverse[at - j]).sum();
            let unit = if at == 0 { 1.0 } else { 0.0 };
            inverse.push((unit - carried) / leading);
        }
        let (mut prefix, mut squared) = (0.0, 0.0);
        let rows = inverse.into_iter().map(|c| {
            prefix += c;
            squared += prefix * prefix;
            f64::sqrt(squared)
        });
        rows.collect()
    }
}

/// The sum of columns 0, s, 2s and so on, as many as fit.
pub(super) fn sum_of_columns<C: Copy + Default + std::ops::AddAssign>(
    coefficients: &[C],
    n: usize,
    participations: usize,
    min_separation: usize,
) -> Result<Vec<C>, NoiseError> {
    at_least_one("the number of participations", participations as u64)?;
    at_least_one("the separation of participations", min_separation as u64)?;
    let mut column = vec![C::default(); n];
    for start in (0..n).step_by(min_separation).take(participations) {
        for (sum, &c) in column[start..].iter_mut().zip(coefficients) {
            *sum += c;
        }
    }
    Ok(column)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|c| c * c).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::vectors;

    /// All `sqrt_toeplitz` and `banded_normalised` cases.
    #[test]
    fn matrix_vectors() {
        let file = vectors::load("correlated_noise.json");
        let mut seen = [0; 2];
        for case in file.cases("sqrt_toeplitz") {
            let n = case.count("n");
            let root = Toeplitz::sqrt(n, n).unwrap();
            for (got, want) in root.coefficients().iter().zip(case.list("first_coefficients")) {
                vectors::close(*got, want, "coefficient");
            }
            let sensitivity = root.sensitivity(case.count("participations"), case.count("min_separation")).unwrap();
            vectors::close(sensitivity, case.f64("sensitivity"), "sensitivity");
            assert!(sensitivity >= case.f64("sensitivity"), "rounded up");
            let rows = root.row_norms();
            vectors::close(rows.iter().copied().fold(0.0, f64::max), case.f64("max_row_norm"), "max row");
            let mean = rows.iter().map(|norm| norm * norm).sum::<f64>() / n as f64;
            vectors::close(mean.sqrt(), case.f64("rms_row_norm"), "rms row");
            seen[0] += 1;
        }
        for case in file.cases("banded_normalised") {
            let banded = Toeplitz::sqrt(case.count("n"), case.count("bands")).unwrap().normalised().unwrap();
            let separation = case.count("min_separation_at_least");
            let sensitivity = banded.sensitivity(case.count("participations"), separation).unwrap();
            vectors::close(sensitivity, case.f64("sensitivity"), "sensitivity");
            seen[1] += 1;
        }
        assert!(seen.into_iter().all(|seen| seen > 0));
    }

    /// No pattern of participations in a small matrix is worse than the one that the theorem names.
    #[test]
    fn the_earliest_rounds_are_the_worst() {
        let n = 12;
        for bands in [1, 2, 3, 5, 12] {
            let factor = Toeplitz::sqrt(n, bands).unwrap();
            for (participations, separation) in [(1, 1), (2, 1), (3, 2), (4, 3), (12, 1), (2, 11)] {
                let bound = factor.sensitivity(participations, separation).unwrap();
                for pattern in 0_u32..1 << n {
                    let rounds: Vec<usize> = (0..n).filter(|at| pattern >> at & 1 == 1).collect();
                    let apart = rounds.windows(2).all(|pair| pair[1] - pair[0] >= separation);
                    if rounds.len() > participations || !apart {
                        continue;
                    }
                    let mut column = vec![0.0; n];
                    for start in rounds {
                        for (sum, c) in column[start..].iter_mut().zip(factor.coefficients()) {
                            *sum += c;
                        }
                    }
                    assert!(norm(&column) <= bound, "{pattern:b}");
                }
            }
        }
    }

    #[test]
    fn factors_without_a_theorem_are_refused() {
        assert!(matches!(Toeplitz::new(vec![1.0, -0.5], 4), Err(NoiseError::NoTheorem { .. })));
        assert!(matches!(Toeplitz::new(vec![1.0, 1.5], 4), Err(NoiseError::NoTheorem { .. })));
        assert!(matches!(Toeplitz::new(vec![1.0, f64::NAN], 4), Err(NoiseError::NoTheorem { .. })));
        assert!(Toeplitz::new(vec![], 4).is_err());
        assert!(Toeplitz::sqrt(4, 5).is_err());
        assert!(Toeplitz::sqrt(4, usize::MAX).is_err());
        assert!(Toeplitz::sqrt(0, 0).is_err());
        let factor = Toeplitz::sqrt(4, 2).unwrap();
        assert!(factor.sensitivity(0, 1).is_err());
        assert!(factor.sensitivity(1, 0).is_err());
    }
}
