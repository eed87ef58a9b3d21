//! The first fold, over rows of small integers.
//!
//! A model's entries have a few bits, what the linear argument multiplies them with has 126. One fold of many rows into one
//! ([`ARITY`]) costs more cross terms than halving three times, but all its products are of machine words; after it an eighth
//! of the entries is left as full scalars.

use std::num::NonZeroUsize;

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use crate::field::{Accumulator, ByDouble, ByWord, Words, power_of_two, words};
use crate::parallel;

/// Rows that the first fold makes one of.
pub(crate) const ARITY: usize = 8;

/// Columns that are folded at a time.
const TILE: usize = 128;

/// Rows of small integers, `[rows][row_len]`.
#[derive(Clone, Copy)]
pub(crate) struct SmallRows<'a> {
    pub row_len: usize,
    pub entries: &'a [i32],
}

/// An entry moved to where none is negative.
#[inline(always)]
fn word(entry: i32) -> u64 {
    u64::from(entry.cast_unsigned() ^ (1 << 31))
}

/// As [`word`], for the linear argument's.
#[inline(always)]
fn double(entry: i128) -> u128 {
    entry.cast_unsigned() ^ (1 << 127)
}

/// What [`word`] and [`double`] add.
fn offsets() -> (Scalar, Scalar) {
    (power_of_two(31), power_of_two(127))
}

impl<'a> SmallRows<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.entries.len() / self.row_len
    }

    pub(crate) fn row(&self, row: usize) -> &'a [i32] {
        &self.entries[row * self.row_len..][..self.row_len]
    }

    /// Rows after the fold.
    pub(crate) fn groups(&self) -> usize {
        self.rows().div_ceil(ARITY)
    }

    /// The cross terms of the fold `X(c) = sum_i c^i X_i`, `Y(c) = sum_j c^-j (q_j X_j + lambda_j)`, where `X_i` are the
    /// `i`th [`Self::groups`] rows: the coefficients of `c^1 .. c^7`, then of `c^-1 .. c^-7`, in `<X(c), Y(c)>`.
    ///
    /// The sum of the squares of all entries has to be below 2^63.
    pub(crate) fn cross_terms(&self, quadratic: &[Scalar], lambda: &[i128], threads: NonZeroUsize) -> Vec<Scalar> {
        let groups = self.groups();
        let parts = parallel::ranges(threads, groups, |range| {
            let mut terms = vec![Scalar::ZERO; 2 * (ARITY - 1)];
            for in_group in range {
                self.add_cross_terms(in_group, quadratic, lambda, &mut terms);
            }
            terms
        });
        let mut terms = vec![Scalar::ZERO; 2 * (ARITY - 1)];
        for part in parts {
            for (term, part) in terms.iter_mut().zip(part) {
                *term += part;
            }
        }
        terms
    }

    fn add_cross_terms(&self, in_group: usize, quadratic: &[Scalar], lambda: &[i128], terms: &mut [Scalar]) {
        let rows: Vec<_> = (in_group..self.rows()).step_by(self.groups()).collect();
        let (word_offset, double_offset) = offsets();
        let sums: Zeroizing<Vec<Scalar>> = Zeroizing::new(
            rows.iter().map(|&row| Scalar::from(self.row(row).iter().map(|&x| word(x)).sum::<u64>())).collect(),
        );
        let both = word_offset * double_offset * Scalar::from(self.row_len as u64);
        for (j, &row_j) in rows.iter().enumerate() {
            let lambda = &lambda[row_j * self.row_len..][..self.row_len];
            let lambda_sum = sum_of_doubles(lambda);
            for (i, &row_i) in rows.iter().enumerate().filter(|&(i, _)| i != j) {
                let squares: i64 =
                    self.row(row_i).iter().zip(self.row(row_j)).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
                // <x, lambda> from the sums over words: (x - 2^31)(lambda - 2^127), expanded.
                let linear =
                    words_by_doubles(self.row(row_i), lambda) - word_offset * lambda_sum - double_offset * sums[i]
                        + both;
                let at = if i > j { i - j - 1 } else { ARITY - 1 + (j - i - 1) };
                terms[at] += quadratic[row_j] * crate::field::signed(squares.into()) + linear;
            }
        }
    }

    /// For each group the sum of its rows, each with its weight: `[groups][row_len]`, where row `r` is in group
    /// `r % groups`.
    pub(crate) fn weighted(&self, weights: &[Scalar], groups: usize, threads: NonZeroUsize) -> Vec<Scalar> {
        let weights: Vec<_> = weights.iter().map(words).collect();
        let offset = offsets().0;
        self.fold(
            groups,
            threads,
            |tile: &mut [ByWord], row, start| {
                for (sum, &entry) in tile.iter_mut().zip(&self.row(row)[start..]) {
                    sum.add_word(&weights[row], word(entry));
                }
            },
            |row| offset * unwords(&weights[row]),
        )
    }

    /// The same for `x` and for the linear argument's entries, each with weights of its own, in one sum.
    pub(crate) fn weighted_with(
        &self,
        weights: &[Scalar],
        lambda: &[i128],
        lambda_weights: &[Scalar],
        groups: usize,
        threads: NonZeroUsize,
    ) -> Vec<Scalar> {
        let weights: Vec<_> = weights.iter().map(words).collect();
        let lambda_weights: Vec<_> = lambda_weights.iter().map(words).collect();
        let (word_offset, double_offset) = offsets();
        self.fold(
            groups,
            threads,
            |tile: &mut [ByDouble], row, start| {
                let lambda = &lambda[row * self.row_len + start..];
                for ((sum, &entry), &lambda) in tile.iter_mut().zip(&self.row(row)[start..]).zip(lambda) {
                    sum.add_word(&weights[row], word(entry));
                    sum.add_double(&lambda_weights[row], double(lambda));
                }
            },
            |row| word_offset * unwords(&weights[row]) + double_offset * unwords(&lambda_weights[row]),
        )
    }

    fn fold<const N: usize>(
        &self,
        groups: usize,
        threads: NonZeroUsize,
        add: impl Fn(&mut [Accumulator<N>], usize, usize) + Sync,
        offset: impl Fn(usize) -> Scalar,
    ) -> Vec<Scalar> {
        let tile = TILE.min(self.row_len);
        let tiles = self.row_len / tile;
        let in_group = |group: usize| (group..self.rows()).step_by(groups);
        let offsets: Vec<Scalar> = (0..groups).map(|group| in_group(group).map(&offset).sum()).collect();
        let mut folded = vec![Scalar::ZERO; groups * self.row_len];
        parallel::fill(threads, &mut folded, tile, |first, folded| {
            let mut sums = Zeroizing::new(vec![Accumulator::ZERO; tile]);
            for (piece, folded) in (first..).zip(folded.chunks_exact_mut(tile)) {
                let (group, start) = (piece / tiles, piece % tiles * tile);
                sums.fill(Accumulator::ZERO);
                for row in in_group(group) {
                    add(&mut sums, row, start);
                }
                for (entry, sum) in folded.iter_mut().zip(sums.iter()) {
                    *entry = sum.reduce() - offsets[group];
                }
            }
        });
        folded
    }
}

fn unwords(words: &Words) -> Scalar {
    let mut sum = ByWord::ZERO;
    sum.add_word(words, 1);
    sum.reduce()
}

/// `sum(double(lambda))`.
fn sum_of_doubles(lambda: &[i128]) -> Scalar {
    let (mut low, mut high) = (0u128, 0u128);
    for &entry in lambda {
        let entry = double(entry);
        low += entry & u128::from(u64::MAX);
        high += entry >> 64;
    }
    Scalar::from(low) + power_of_two(64) * Scalar::from(high)
}

/// `sum(word(x) * double(lambda))`: rows are shorter than 2^32.
fn words_by_doubles(x: &[i32], lambda: &[i128]) -> Scalar {
    let (mut low, mut high) = (0u128, 0u128);
    for (&x, &lambda) in x.iter().zip(lambda) {
        let (x, lambda) = (u128::from(word(x)), double(lambda));
        low += x * (lambda & u128::from(u64::MAX));
        high += x * (lambda >> 64);
    }
    Scalar::from(low) + power_of_two(64) * Scalar::from(high)
}

/// Folds rows of the linear argument as they are made: a verifier never has all of them.
pub(crate) struct LinearFold {
    sums: Vec<ByDouble>,
    offset: Scalar,
}

impl LinearFold {
    pub(crate) fn new(row_len: usize) -> Self {
        Self { sums: vec![ByDouble::ZERO; row_len], offset: Scalar::ZERO }
    }

    pub(crate) fn add(&mut self, weight: &Scalar, lambda: &[i128]) {
        let words = words(weight);
        for (sum, &lambda) in self.sums.iter_mut().zip(lambda) {
            sum.add_double(&words, double(lambda));
        }
        self.offset += offsets().1 * weight;
    }

    pub(crate) fn finish(&self) -> impl Iterator<Item = Scalar> + '_ {
        self.sums.iter().map(|sum| sum.reduce() - self.offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::field::{powers, signed};

    fn scalars(seed: u64, len: usize) -> Vec<Scalar> {
        (0..len as u64).map(|at| (Scalar::from(seed) + Scalar::from(at * at + 1)).invert()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// `<X(c), Y(c)>` is the sum of the products of each row with itself, and of the cross terms with their powers.
        #[test]
        fn cross_terms_make_up_the_difference(rows in 1usize..30, log_len in 0u32..9, seed in 1u64..1 << 60, threads in 1usize..4) {
            let row_len = 1usize << log_len;
            let threads = NonZeroUsize::new(threads).expect("from 1");
            let entries: Vec<i32> = (0..rows * row_len).map(|at| (seed.wrapping_mul(at as u64 * 77 + 5) >> 40) as i32 % 5000 - 2000).collect();
            let lambda: Vec<i128> = (0..rows * row_len).map(|at| (i128::from(seed) << 65).wrapping_mul(at as i128 * 9 + 1) >> 2).collect();
            let quadratic = scalars(seed, rows);
            let x = SmallRows { row_len, entries: &entries };
            let terms = x.cross_terms(&quadratic, &lambda, threads);

            let challenge = scalars(seed ^ 99, 1)[0];
            let groups = x.groups();
            let (up, down) = (powers(challenge, ARITY), powers(challenge.invert(), ARITY));
            let of = |powers: &[Scalar]| (0..rows).map(|row| powers[row / groups]).collect::<Vec<_>>();
            let folded_x = x.weighted(&of(&up), groups, threads);
            let down_rows = of(&down);
            let squared: Vec<_> = down_rows.iter().zip(&quadratic).map(|(a, b)| a * b).collect();
            let folded_y = x.weighted_with(&squared, &lambda, &down_rows, groups, threads);
            let got = crate::field::inner_product(&folded_x, &folded_y);

            let mut want = Scalar::ZERO;
            for at in 0..rows * row_len {
                let (x, lambda) = (signed(entries[at].into()), signed(lambda[at]));
                want += x * (quadratic[at / row_len] * x + lambda);
            }
            for e in 1..ARITY {
                want += up[e] * terms[e - 1] + down[e] * terms[ARITY - 1 + e - 1];
            }
            prop_assert_eq!(got, want);

            let mut streamed = LinearFold::new(row_len);
            for (row, weight) in down_rows.iter().enumerate() {
                streamed.add(weight, &lambda[row * row_len..][..row_len]);
            }
            let zeros = vec![Scalar::ZERO; rows];
            prop_assert_eq!(streamed.finish().collect::<Vec<_>>(), x.weighted_with(&zeros, &lambda, &down_rows, 1, threads));
        }
    }
}
