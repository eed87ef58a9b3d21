//! The random projections that show that a committed vector is small, before anything is computed modulo the group order.
//!
//! `A` has [`ROWS`] rows of independent entries: 0 with probability 1/2, +1 and -1 with 1/4 each, two bits of an AES-256
//! keystream for an entry. The key is a challenge: nobody knows `A` before the vector is committed.
//!
//! Both directions go through the matrix four rows at a time, as one byte of keystream: `A x` adds an entry of `x` to one
//! of 256 buckets per byte, `c A` looks a byte up in a table of 256 sums. Neither multiplies.
//!
//! # Why it is enough
//! Let `z = y + A x` (modulo the order `l`) with `|z_t| <= T` for every row `t`, `x` and `y` committed before `A` is
//! drawn. Take the entry `x_j` of largest magnitude, in centred form. Given all other entries of row `t`, `z_t` is `u`,
//! `u + x_j` or `u - x_j` with probability 1/2, 1/4, 1/4. If `|x_j| > 2T`, then `u` and `u +- x_j` cannot both be within
//! `[-T, T]` (the distance modulo `l` of two such values is at most `2T`, and `2T < |x_j| <= l/2`), so the row passes with
//! probability at most 1/2, and all 128 with at most 2^-128. Hence `|x_j| <= 2T < 2^103.1` for every entry, whatever `l` is,
//! and a sum of `d` squares is below `d 2^206.2`, which is below `l / 2` for `d <= 2^44`: it did not wrap around.
//!
//! Basis: proofs of approximate shortness by random projections, with masks that drown them (Baum and Lyubashevsky 2017;
//! Lyubashevsky, Nguyen, Seiler 2020); this form is our own.
//!
//! # What it reveals
//! `y_t` is uniform in `[-2^102, 2^102)`, `|<a_t, x>| < 2^31`: `z_t` is within statistical distance 2^-71 of what it
//! would be for `x = 0`, all of them together within 2^-64.

use std::num::NonZeroUsize;
use std::ops::Range;

use sordino_kernel::{Backend, Bits, Cipher, Keystream, Sign, apply};
use zeroize::Zeroize as _;

use crate::parallel;

/// Projections.
pub(crate) const ROWS: usize = 128;

/// Masks are in `[-2^102, 2^102)`.
pub(crate) const MASK_BITS: u32 = 102;

/// What a projection of an honest vector is below.
pub(crate) const PROJECTED_MAX: i128 = 1 << 31;

/// `T`: no honest masked projection is greater.
pub(crate) const MASKED_MAX: i128 = (1 << MASK_BITS) + PROJECTED_MAX;

/// Bits of a projection's weight in the linear argument: a signed sum of 128 of them, and of one more, fits 128 bits.
pub(crate) const WEIGHT_BITS: u32 = 119;

/// Rows that one byte of keystream decides.
const ROWS_PER_BYTE: usize = 4;

/// Bytes of keystream for one column.
const BYTES: usize = ROWS / ROWS_PER_BYTE;

/// One column of `A`.
type Column = [u64; BYTES / 8];

/// Columns that are worked on at a time: their bits and sums stay in the cache.
const TILE: usize = 256;

/// `A`, `[ROWS][columns]`, as its seed.
pub(crate) struct Projection {
    key: [u8; 32],
    backend: Backend,
}

impl Projection {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { key: seed, backend: Backend::detect() }
    }

    #[cfg(test)]
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.key
    }

    fn columns(&self, first: usize, columns: &mut [Column]) {
        columns.fill(Column::default());
        let stream = (Keystream::new(Cipher::Aes256, &self.key, [0; 16]), Sign::Plus);
        let bits = Bits::new(64).expect("64 bits are a lane");
        let words = columns.as_flattened_mut();
        apply(&[stream], words, bits, (first * size_of::<Column>() / size_of::<u64>()) as u64, self.backend);
    }

    /// `A x`, each below `2^31 * len` in magnitude.
    pub(crate) fn project(&self, x: &[i32], threads: NonZeroUsize) -> [i128; ROWS] {
        let mut sums = [0; ROWS];
        for part in parallel::ranges(threads, x.len(), |range| self.project_range(x, range)) {
            for (sum, part) in sums.iter_mut().zip(part) {
                *sum += i128::from(part);
            }
        }
        sums
    }

    fn project_range(&self, x: &[i32], range: Range<usize>) -> [i64; ROWS] {
        let mut buckets = vec![[0i64; 256]; BYTES];
        let mut columns = [Column::default(); TILE];
        for start in range.clone().step_by(TILE) {
            let x = &x[start..(start + TILE).min(range.end)];
            let columns = &mut columns[..x.len()];
            self.columns(start, columns);
            for (word, buckets) in buckets.chunks_exact_mut(8).enumerate() {
                for (column, &entry) in columns.iter().zip(x) {
                    for (byte, buckets) in column[word].to_le_bytes().into_iter().zip(&mut *buckets) {
                        buckets[usize::from(byte)] += i64::from(entry);
                    }
                }
            }
        }
        let mut sums = [0; ROWS];
        for (row, sum) in sums.iter_mut().enumerate() {
            let in_byte = row % ROWS_PER_BYTE;
            *sum = (0u8..=255).zip(&buckets[row / ROWS_PER_BYTE]).map(|(byte, sum)| entry(byte, in_byte) * sum).sum();
        }
        buckets.as_flattened_mut().zeroize();
        sums
    }

    /// The entries of row `row` of `A` in the columns `first..first + len`.
    #[cfg(test)]
    pub(crate) fn row(&self, row: usize, len: usize) -> Vec<i64> {
        let mut columns = vec![Column::default(); len];
        self.columns(0, &mut columns);
        let byte = |column: &Column| column[row / 32].to_le_bytes()[row / ROWS_PER_BYTE % 8];
        columns.iter().map(|column| entry(byte(column), row % ROWS_PER_BYTE)).collect()
    }
}

/// The entry of a row in a byte of keystream: two bits, the one less the other.
fn entry(byte: u8, row_in_byte: usize) -> i64 {
    let bits = byte >> (2 * row_in_byte);
    i64::from(bits & 1) - i64::from(bits >> 1 & 1)
}

/// `c A` for one vector of weights: what the linear argument is about.
pub(crate) struct Combination<'a> {
    projection: &'a Projection,
    tables: Vec<[i128; 256]>,
}

impl<'a> Combination<'a> {
    /// - `weights`: each below `2^WEIGHT_BITS`.
    pub(crate) fn new(projection: &'a Projection, weights: &[u128; ROWS]) -> Self {
        let table = |weights: &[u128]| {
            std::array::from_fn(|byte| {
                let byte = u8::try_from(byte).expect("256 of them");
                let terms = weights.iter().enumerate().map(|(row, &weight)| {
                    let weight = i128::try_from(weight).expect("a weight has 119 bits");
                    i128::from(entry(byte, row)) * weight
                });
                terms.sum()
            })
        };
        Self { projection, tables: weights.chunks_exact(ROWS_PER_BYTE).map(table).collect() }
    }

    /// Entries `first..first + sums.len()` of `c A`, each below 2^126 in magnitude.
    pub(crate) fn fill(&self, first: usize, sums: &mut [i128]) {
        let mut columns = [Column::default(); TILE];
        for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
            let columns = &mut columns[..sums.len()];
            self.projection.columns(first + tile * TILE, columns);
            sums.fill(0);
            for (word, tables) in self.tables.chunks_exact(8).enumerate() {
                let tables: &[[i128; 256]; 8] = tables.try_into().expect("chunks of 8");
                for (column, sum) in columns.iter().zip(&mut *sums) {
                    let [a, b, c, d, e, f, g, h] = column[word].to_le_bytes().map(usize::from);
                    *sum += tables[0][a] + tables[1][b] + tables[2][c] + tables[3][d];
                    *sum += tables[4][e] + tables[5][f] + tables[6][g] + tables[7][h];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn both_directions_are_those_of_the_matrix(seed: [u8; 32], x in prop::collection::vec(-1000i32..1000, 1..700), key in 1u128..1 << 100, threads in 1usize..4) {
            let projection = Projection::new(seed);
            let rows: Vec<_> = (0..ROWS).map(|row| projection.row(row, x.len())).collect();
            let want: Vec<_> = rows.iter().map(|row| row.iter().zip(&x).map(|(&a, &x)| i128::from(a) * i128::from(x)).sum::<i128>()).collect();
            prop_assert_eq!(&projection.project(&x, NonZeroUsize::new(threads).expect("from 1"))[..], &want[..]);

            let weights: [u128; ROWS] = std::array::from_fn(|row| key.wrapping_mul(row as u128 * row as u128 + 1) >> 9);
            let mut sums = vec![0; x.len()];
            Combination::new(&projection, &weights).fill(0, &mut sums);
            for (column, sum) in sums.iter().enumerate() {
                let want: i128 = rows.iter().zip(&weights).map(|(row, &weight)| i128::from(row[column]) * i128::try_from(weight).expect("small")).sum();
                prop_assert_eq!(*sum, want);
            }
            let mut part = vec![0; x.len() / 2];
            Combination::new(&projection, &weights).fill(x.len() - part.len(), &mut part);
            prop_assert_eq!(&part[..], &sums[x.len() - part.len()..]);
        }
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let projection = Projection::new([7; 32]);
        let weights = [(1 << WEIGHT_BITS) - 1; ROWS];
        let mut sums = vec![0; 4096];
        Combination::new(&projection, &weights).fill(0, &mut sums);
        assert!(sums.iter().all(|sum: &i128| sum.unsigned_abs() < 1 << 126));
    }

    /// 2^20 entries: 0 half of the time, +1 and -1 a quarter each, within 6 standard deviations (a chance of 6e-9).
    #[test]
    fn entries_have_their_distribution() {
        let projection = Projection::new([1; 32]);
        let mut counts = [0i64; 3];
        for row in 0..ROWS {
            for entry in projection.row(row, 8192) {
                counts[usize::try_from(entry + 1).expect("-1, 0 or 1")] += 1;
            }
        }
        let [minus, zero, plus] = counts;
        let n = (ROWS * 8192) as f64;
        for (count, p) in [(minus, 0.25), (zero, 0.5), (plus, 0.25f64)] {
            let deviation = (count as f64 - p * n) / (n * p * (1.0 - p)).sqrt();
            assert!(deviation.abs() < 6.0, "{counts:?}");
        }
    }
}
