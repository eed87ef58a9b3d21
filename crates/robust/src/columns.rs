//! Rows as rules see them, and what is computed column by column.

use std::num::NonZeroUsize;

use crate::layer::Layer;
use crate::network::{self, Network, Rank};
use crate::numbers::midpoint;
use crate::{Element, Gram, Updates, parallel};

/// Updates behind the stages that were applied to them. Nothing is stored but what each stage does: columns pass through all
/// stages a strip at a time, so that no second copy of the updates is ever made.
#[derive(Debug, Clone)]
pub struct Mixed<'u, 'a, T> {
    updates: &'u Updates<'a, T>,
    layers: Vec<Layer>,
}

/// A rule that looks at one column at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columnwise {
    /// The value in the middle.
    Median,
    /// The mean without the `dropped` smallest and the `dropped` largest.
    TrimmedMean {
        /// On each side.
        dropped: usize,
    },
    /// The mean of the `kept` values that are closest to the median; of equally close ones the smaller.
    AroundMedian {
        /// How many.
        kept: usize,
    },
}

impl<'u, 'a, T: Element> From<&'u Updates<'a, T>> for Mixed<'u, 'a, T> {
    fn from(updates: &'u Updates<'a, T>) -> Self {
        Self { updates, layers: Vec::new() }
    }
}

impl<'u, 'a, T: Element> Mixed<'u, 'a, T> {
    /// Adds one more stage.
    pub(crate) fn then(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// The updates themselves.
    pub(crate) fn updates(&self) -> &'u Updates<'a, T> {
        self.updates
    }

    /// Rows that come out of the last stage.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layers.last().map_or(self.updates.len(), Layer::rows)
    }

    /// Coefficients on the updates, of coefficients on the rows that come out.
    pub(crate) fn back(&self, coefficients: &[f64]) -> Vec<f64> {
        let mut coefficients = coefficients.to_vec();
        for (at, layer) in self.layers.iter().enumerate().rev() {
            let from = at.checked_sub(1).map_or(self.updates.len(), |before| self.layers[before].rows());
            coefficients = layer.back(&coefficients, from);
        }
        coefficients
    }

    /// A linear function of rows, of its values on the updates.
    pub(crate) fn forth(&self, values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        for layer in &self.layers {
            let origin = values.len();
            values = (0..layer.rows())
                .map(|row| {
                    let mut sum = 0.0;
                    // It is 0 at the origin.
                    layer.terms(row, origin, |at, share| sum += share * values.get(at).copied().unwrap_or_default());
                    sum
                })
                .collect();
        }
        values
    }

    /// One row as it comes out, `[dimension]`; for tests and for people who want to look.
    #[must_use]
    pub fn row(&self, row: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.updates.dimension()];
        let mut strips = Strips::new();
        for (block, part) in out.chunks_mut(BLOCK).enumerate() {
            strips.load(self.updates, block * BLOCK, part.len());
            for (strip, part) in part.chunks_mut(WIDTH).enumerate() {
                let rows = strips.mixed(strip, &self.layers);
                part.iter_mut().zip(&rows[row]).for_each(|(out, value)| *out = value.wide());
            }
        }
        out
    }

    /// One value per column, of some of the rows that come out (all where none are named).
    pub(crate) fn columnwise(&self, rule: Columnwise, of: Option<&[usize]>, threads: NonZeroUsize) -> Vec<f64> {
        let rows = of.map_or(self.rows(), <[usize]>::len);
        let sorter = Sorter::new(rule, rows);
        let mut out = vec![0.0; self.updates.dimension()];
        parallel::columns(threads, &mut out, BLOCK, |blocks| {
            let (mut strips, mut chosen) = (Strips::new(), Vec::new());
            for (first, part) in blocks {
                strips.load(self.updates, first, part.len());
                for (strip, part) in part.chunks_mut(WIDTH).enumerate() {
                    let mut rows = strips.mixed(strip, &self.layers);
                    if let Some(of) = of {
                        chosen.clear();
                        chosen.extend(of.iter().map(|&row| rows[row]));
                        rows = &mut chosen;
                    }
                    let mut values = [0.0; WIDTH];
                    sorter.apply(rows, &mut values);
                    part.copy_from_slice(&values[..part.len()]);
                }
            }
        });
        out
    }

    /// The Gram matrix of the rows that come out, of that of the updates.
    #[must_use]
    pub fn gram(&self, of_updates: &Gram) -> Gram {
        self.layers.iter().fold(of_updates.clone(), |gram, layer| gram.through(layer))
    }

    /// The sum of all rows that come out, each times its coefficient, `[dimension]`.
    #[must_use]
    pub fn sum(&self, coefficients: &[f64], threads: NonZeroUsize) -> Vec<f64> {
        self.combine(coefficients, 1.0, threads)
    }

    /// The sum of all rows that come out, each times its coefficient, over `divisor`.
    pub(crate) fn combine(&self, coefficients: &[f64], divisor: f64, threads: NonZeroUsize) -> Vec<f64> {
        combine(self.updates, &self.back(coefficients), divisor, threads)
    }
}

/// The sum of updates, each times its coefficient, over `divisor`: in `f64`, by rising client.
pub(crate) fn combine<T: Element>(
    updates: &Updates<'_, T>,
    coefficients: &[f64],
    divisor: f64,
    threads: NonZeroUsize,
) -> Vec<f64> {
    // What does not count is not read: it might be out of range, and 0 times that is not 0.
    let terms: Vec<(&[T], f64)> =
        updates.rows().iter().copied().zip(coefficients.iter().copied()).filter(|(_, factor)| *factor != 0.0).collect();
    let mut out = vec![0.0; updates.dimension()];
    parallel::columns(threads, &mut out, SUM_BLOCK, |blocks| {
        for (first, part) in blocks {
            let columns = first..first + part.len();
            let (fours, rest) = terms.as_chunks::<4>();
            for [a, b, c, d] in fours {
                let rows = [&a.0[columns.clone()], &b.0[columns.clone()], &c.0[columns.clone()], &d.0[columns.clone()]];
                for (at, sum) in part.iter_mut().enumerate() {
                    *sum = *sum
                        + a.1 * rows[0][at].wide()
                        + b.1 * rows[1][at].wide()
                        + c.1 * rows[2][at].wide()
                        + d.1 * rows[3][at].wide();
                }
            }
            for (row, factor) in rest {
                part.iter_mut().zip(&row[columns.clone()]).for_each(|(sum, value)| *sum += factor * value.wide());
            }
            part.iter_mut().for_each(|sum| *sum /= divisor);
            if !part.iter().all(|sum| sum.is_finite()) {
                // Sums of numbers near the largest: divided first.
                part.fill(0.0);
                for (row, factor) in &terms {
                    let factor = factor / divisor;
                    part.iter_mut().zip(&row[columns.clone()]).for_each(|(sum, value)| *sum += factor * value.wide());
                }
            }
        }
    });
    out
}

/// A block of columns, in strips, each `[rows][WIDTH]`.
struct Strips<T> {
    /// `[strips][rows]`.
    loaded: Vec<[T; WIDTH]>,
    rows: usize,
    strip: Vec<[T; WIDTH]>,
    spare: Vec<[T; WIDTH]>,
}

impl<T: Element> Strips<T> {
    fn new() -> Self {
        Self { loaded: Vec::new(), rows: 0, strip: Vec::new(), spare: Vec::new() }
    }

    /// Reads columns row by row, since rows are far apart in memory and columns are not.
    fn load(&mut self, updates: &Updates<'_, T>, first: usize, width: usize) {
        self.rows = updates.len();
        let strips = width.div_ceil(WIDTH);
        self.loaded.clear();
        self.loaded.resize(strips * self.rows, [T::default(); WIDTH]);
        for (at, row) in updates.rows().iter().enumerate() {
            for (strip, values) in row[first..first + width].chunks(WIDTH).enumerate() {
                self.loaded[strip * self.rows + at][..values.len()].copy_from_slice(values);
            }
        }
    }

    /// One strip behind all layers.
    fn mixed(&mut self, strip: usize, layers: &[Layer]) -> &mut Vec<[T; WIDTH]> {
        self.strip.clear();
        self.strip.extend_from_slice(&self.loaded[strip * self.rows..(strip + 1) * self.rows]);
        layers.iter().for_each(|layer| layer.apply(&mut self.strip, &mut self.spare));
        &mut self.strip
    }
}

/// A rule prepared for so many rows.
struct Sorter {
    rule: Columnwise,
    rows: usize,
    /// Where there are few enough rows.
    network: Option<Network>,
}

impl Sorter {
    fn new(rule: Columnwise, rows: usize) -> Self {
        let middle = (rows - 1) / 2..rows / 2 + 1;
        let network = (rows <= network::ROWS_MAX).then(|| {
            Network::new(rows, |rank| {
                let kept = match rule {
                    Columnwise::Median => middle.contains(&rank),
                    Columnwise::TrimmedMean { dropped } => (dropped..rows - dropped).contains(&rank),
                    Columnwise::AroundMedian { .. } => return Rank::Placed,
                };
                if kept { Rank::Kept } else { Rank::Dropped }
            })
        });
        Self { rule, rows, network }
    }

    /// One value per column; rows are left in another order.
    fn apply<T: Element>(&self, rows: &mut [[T; WIDTH]], out: &mut [f64; WIDTH]) {
        match &self.network {
            Some(network) => {
                network.sort(rows);
                match self.rule {
                    Columnwise::Median => {
                        let (low, high) = (&rows[(self.rows - 1) / 2], &rows[self.rows / 2]);
                        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                            *out = midpoint(low.wide(), high.wide());
                        }
                    }
                    Columnwise::TrimmedMean { dropped } => mean(&rows[dropped..self.rows - dropped], out),
                    Columnwise::AroundMedian { kept } => {
                        let mut column = vec![0.0; self.rows];
                        for (at, out) in out.iter_mut().enumerate() {
                            column.iter_mut().zip(rows.iter()).for_each(|(value, row)| *value = row[at].wide());
                            *out = around_median(&column, kept);
                        }
                    }
                }
            }
            None => {
                let mut column = vec![0.0; self.rows];
                for (at, out) in out.iter_mut().enumerate() {
                    column.iter_mut().zip(rows.iter()).for_each(|(value, row)| *value = row[at].wide());
                    *out = self.select(&mut column);
                }
            }
        }
    }

    /// One column by selection.
    fn select(&self, column: &mut [f64]) -> f64 {
        let rows = self.rows;
        match self.rule {
            Columnwise::Median => {
                let (below, high, _) = column.select_nth_unstable_by(rows / 2, f64::total_cmp);
                let high = *high;
                if rows % 2 == 1 { high } else { midpoint(below.iter().copied().fold(f64::MIN, f64::max), high) }
            }
            Columnwise::TrimmedMean { dropped } => {
                let mut kept = column;
                if dropped > 0 {
                    kept = kept.select_nth_unstable_by(dropped - 1, f64::total_cmp).2;
                    let last = rows - 2 * dropped;
                    kept = kept.select_nth_unstable_by(last, f64::total_cmp).0;
                    // Which order selection leaves is its own business; the sum must not depend on it.
                    kept.sort_unstable_by(f64::total_cmp);
                }
                mean_of(kept)
            }
            Columnwise::AroundMedian { kept } => {
                column.sort_unstable_by(f64::total_cmp);
                around_median(column, kept)
            }
        }
    }
}

/// Means of columns.
fn mean<T: Element>(rows: &[[T; WIDTH]], out: &mut [f64; WIDTH]) {
    let mut sum = [0.0; WIDTH];
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.wide());
    }
    let count = rows.len() as f64;
    for (at, (out, sum)) in out.iter_mut().zip(sum).enumerate() {
        *out = sum / count;
        if !sum.is_finite() {
            *out = rows.iter().map(|row| row[at].wide() / count).sum();
        }
    }
}

fn mean_of(values: &[f64]) -> f64 {
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    if sum.is_finite() { sum / count } else { values.iter().map(|value| value / count).sum() }
}

/// The mean of the `kept` values of a sorted column that are closest to its median. They are next to each other.
fn around_median(sorted: &[f64], kept: usize) -> f64 {
    let n = sorted.len();
    let middle = midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
    let (mut low, mut high) = (0, n);
    while high - low > kept {
        // Of equally close values the smaller is kept.
        if sorted[high - 1] - middle >= middle - sorted[low] { high -= 1 } else { low += 1 }
    }
    mean_of(&sorted[low..high])
}

/// Columns that a sorting network works on at once.
const WIDTH: usize = 64;
/// Columns that are read at once.
const BLOCK: usize = 16 * WIDTH;
/// Columns of a weighted sum that are worked on at once.
const SUM_BLOCK: usize = 2048;
