//! The centred Gram matrix: all that distance rules ever ask of the data, in one pass over it.
//!
//! Rows `x_i` are moved by a centre `c` and multiplied with one another: `G_ij = <x_i - c, x_j - c>`. Distances, norms, cosines,
//! the geometric median, singular directions and clipping are then arithmetic on `n x n` numbers. The origin and, where a rule
//! starts somewhere else, that point are further rows of the matrix, so that whatever is an affine combination of these points
//! has its products with all others.
//!
//! # Precision
//! Differences are taken before anything is multiplied: `||a||^2 + ||b||^2 - 2<a, b>` of rows far from the origin cancels, and a
//! Krum that is computed so keeps the attacker (vector `krum_large_offset`). Blocks of [`BLOCK`] columns are multiplied as they
//! are stored, and added up in `f64`. Any centre gives the same distances, up to rounding that grows with the distance to it:
//! a single row of norm 10^6 moves the mean so far that differences between the others drown. So rows far larger than the median
//! are left out of the first mean, and where the closest half of the rows still is far from the centre, compared with its
//! spread, the pass is made again around that half. An attacker can cost the server two further passes so, and nothing else.

use std::num::NonZeroUsize;

use crate::door::{exponent, power_of_two};
use crate::layer::Layer;
use crate::numbers::{by_value_then_index, dot, median};
use crate::{Bound, Element, Updates, parallel};

/// Products of all rows with one another, and with the origin. See the module's text.
#[derive(Debug, Clone)]
pub struct Gram {
    rows: usize,
    /// Rows, the origin, and a start if there is one.
    points: usize,
    /// `[points][points]`.
    products: Vec<f64>,
    /// L2 norms of the rows.
    norms: Vec<f64>,
    /// What two equal directions may differ by in their cosine.
    resolution: f64,
}

impl Gram {
    /// Of all rows.
    ///
    /// - `start`: one more point, for rules that begin elsewhere than at the origin.
    ///
    /// Costs `n^2 d / 2` multiplications; memory beside the result is one such matrix and a block of rows per thread.
    ///
    /// # Errors
    /// [`Bound::TooLarge`], [`Bound::DimensionMismatch`].
    pub fn of<T: Element>(
        updates: &Updates<'_, T>,
        start: Option<&[f64]>,
        threads: NonZeroUsize,
    ) -> Result<Self, Bound> {
        let norms = updates.norms();
        if let Some(client) = norms.iter().position(|norm| *norm > T::NORM_MAX) {
            return Err(Bound::TooLarge { client, norm: norms[client], max: T::NORM_MAX });
        }
        if let Some(start) = start
            && start.len() != updates.dimension()
        {
            let (got, want) = (start.len(), updates.dimension());
            return Err(Bound::DimensionMismatch { what: "start".to_owned(), got, want });
        }
        let typical = median(norms);
        let mut centre: Vec<usize> = (0..norms.len()).filter(|&at| norms[at] <= OUTSIZED * typical).collect();
        let mut gram = Self::around(updates, start, &centre, threads);
        for _ in 0..RECENTRINGS_MAX {
            let (closest, sharp) = gram.closest_half::<T>();
            if sharp || closest == centre {
                break;
            }
            centre = closest;
            gram = Self::around(updates, start, &centre, threads);
        }
        Ok(gram)
    }

    /// One pass around the mean of some rows.
    fn around<T: Element>(
        updates: &Updates<'_, T>,
        start: Option<&[f64]>,
        centre: &[usize],
        threads: NonZeroUsize,
    ) -> Self {
        let norms = updates.norms();
        let rows = updates.len();
        let points = rows + 1 + usize::from(start.is_some());
        let radius = centre.iter().map(|&at| norms[at]).fold(0.0, f64::max);
        let start_norm = start.map(|start| start.iter().map(|value| value * value).sum::<f64>().sqrt());
        let scales: Vec<f64> =
            norms.iter().copied().chain([0.0]).chain(start_norm).map(|norm| scale::<T>(norm + radius)).collect();
        let pass = Pass { updates, start, centre, scales: &scales, points };
        let mut products = vec![0.0; points * points];
        parallel::fold(
            threads,
            updates.dimension().div_ceil(PIECE),
            |piece| pass.piece(piece),
            |piece: Vec<f64>| products.iter_mut().zip(piece).for_each(|(sum, product)| *sum += product),
        );
        // The kernel fills the lower triangle of scaled rows.
        for i in 0..points {
            for j in 0..=i {
                let product = products[i * points + j] / scales[i] / scales[j];
                products[i * points + j] = product;
                products[j * points + i] = product;
            }
        }
        Self { rows, points, products, norms: norms.to_vec(), resolution: RESOLUTION * T::ROUNDING }
    }

    /// Of rows whose products are known, without an origin.
    pub(crate) fn of_products(products: Vec<f64>, rows: usize) -> Self {
        let norms = (0..rows).map(|i| products[i * rows + i].sqrt()).collect();
        Self { rows, points: rows, products, norms, resolution: 0.0 }
    }

    /// The half of the rows that is closest together, and whether products tell its rows apart.
    fn closest_half<T: Element>(&self) -> (Vec<usize>, bool) {
        let half = self.rows / 2;
        let nearest = |i: usize| {
            let distances: Vec<f64> = (0..self.rows).map(|j| self.squared_distance(i, j)).collect();
            let mut order: Vec<usize> = (0..self.rows).collect();
            order.sort_unstable_by(by_value_then_index(&distances));
            order.truncate(half + 1);
            (distances[order[half]], order)
        };
        let mut best = nearest(0);
        for i in 1..self.rows {
            let other = nearest(i);
            if other.0.total_cmp(&best.0).is_lt() {
                best = other;
            }
        }
        let (spread, mut half) = best;
        let offset = self.product(half[0], half[0]);
        // The centre is rounded to what rows are stored as: equal rows have no spread, and an offset of that rounding.
        let rounding = (4.0 * T::ROUNDING * self.norms[half[0]]).powi(2);
        let sharp = spread >= DIGITS * T::ROUNDING * offset || offset <= rounding;
        half.sort_unstable();
        (half, sharp)
    }

    /// Rows, without the origin.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows, which no check lets through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// L2 norms of the rows.
    #[must_use]
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// Squared distance of two rows; never below 0.
    #[must_use]
    pub fn squared_distance(&self, i: usize, j: usize) -> f64 {
        if i == j {
            return 0.0;
        }
        (self.product(i, i) + self.product(j, j) - 2.0 * self.product(i, j)).max(0.0)
    }

    /// Cosine of two rows, both not zero, within -1 and 1.
    #[must_use]
    pub fn cosine(&self, i: usize, j: usize) -> f64 {
        (self.uncentred(i, j) / self.norms[i] / self.norms[j]).clamp(-1.0, 1.0)
    }

    /// What two equal directions may differ by in their cosine.
    pub(crate) fn resolution(&self) -> f64 {
        self.resolution
    }

    /// Product of two centred points.
    pub(crate) fn product(&self, i: usize, j: usize) -> f64 {
        self.products[i * self.points + j]
    }

    /// Products of a centred point with all.
    pub(crate) fn products_of(&self, i: usize) -> &[f64] {
        &self.products[i * self.points..(i + 1) * self.points]
    }

    /// Product of two points as they are, `<x_i, x_j>`.
    pub(crate) fn uncentred(&self, i: usize, j: usize) -> f64 {
        let origin = self.origin();
        self.product(i, j) - self.product(i, origin) - self.product(j, origin) + self.product(origin, origin)
    }

    /// Number of points: rows, the origin, and a start if there is one.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// The point that is the origin.
    pub(crate) fn origin(&self) -> usize {
        self.rows
    }

    /// The point that was given as start, or else the origin.
    pub(crate) fn start(&self) -> usize {
        self.points - 1
    }

    /// Squared distances of all points to an affine combination of points.
    pub(crate) fn squared_distances_to(&self, coefficients: &[f64]) -> Vec<f64> {
        let along: Vec<f64> = (0..self.points).map(|i| dot(self.products_of(i), coefficients)).collect();
        let own = dot(&along, coefficients);
        (0..self.points).map(|i| (own - 2.0 * along[i] + self.product(i, i)).max(0.0)).collect()
    }

    /// That of some rows.
    pub(crate) fn only(&self, rows: &[usize]) -> Self {
        let points: Vec<usize> = rows.iter().copied().chain(self.rows..self.points).collect();
        let products = points.iter().flat_map(|&i| points.iter().map(move |&j| self.product(i, j))).collect();
        let norms = rows.iter().map(|&row| self.norms[row]).collect();
        Self { rows: rows.len(), points: points.len(), products, norms, resolution: self.resolution }
    }

    /// That of the rows which a layer makes of these.
    pub(crate) fn through(&self, layer: &Layer) -> Self {
        let others = self.points - self.rows;
        let rows = layer.rows();
        let points = rows + others;
        // First of new rows with old points, then with new ones.
        let mut half = vec![0.0; points * self.points];
        for (at, out) in half.chunks_mut(self.points).enumerate() {
            match at.checked_sub(rows) {
                Some(other) => out.copy_from_slice(self.products_of(self.rows + other)),
                None => layer.terms(at, self.origin(), |point, coefficient| {
                    out.iter_mut()
                        .zip(self.products_of(point))
                        .for_each(|(sum, product)| *sum += coefficient * product);
                }),
            }
        }
        let mut products = vec![0.0; points * points];
        for (i, row) in half.chunks(self.points).enumerate() {
            for j in 0..=i {
                let product = match j.checked_sub(rows) {
                    Some(other) => row[self.rows + other],
                    None => {
                        let mut sum = 0.0;
                        layer.terms(j, self.origin(), |point, coefficient| sum += coefficient * row[point]);
                        sum
                    }
                };
                products[i * points + j] = product;
                products[j * points + i] = product;
            }
        }
        let mut gram = Self { rows, points, products, norms: Vec::new(), resolution: self.resolution };
        gram.norms = match layer {
            // Exact, where they can be.
            Layer::Scale(factors) => factors.iter().zip(&self.norms).map(|(factor, norm)| factor * norm).collect(),
            Layer::Means(_) => (0..rows).map(|i| gram.squared_distance(i, gram.origin()).sqrt()).collect(),
        };
        gram
    }
}

/// What one pass needs.
struct Pass<'p, 'a, T> {
    updates: &'p Updates<'a, T>,
    start: Option<&'p [f64]>,
    centre: &'p [usize],
    scales: &'p [f64],
    points: usize,
}

impl<T: Element> Pass<'_, '_, T> {
    /// Products over the columns of one piece, lower triangle.
    fn piece(&self, piece: usize) -> Vec<f64> {
        let d = self.updates.dimension();
        let (first, end) = (piece * PIECE, ((piece + 1) * PIECE).min(d));
        // Rows of zeros fill the last tile.
        let padded = self.points.next_multiple_of(TILE_ROWS * TILE_COLUMNS);
        let mut sums = vec![0.0; padded * padded];
        let mut block = vec![[T::default(); BLOCK]; padded];
        for columns in (first..end).step_by(BLOCK) {
            self.centred(columns, (end - columns).min(BLOCK), &mut block);
            lower_triangle(&block, &mut sums);
        }
        let rows = sums.chunks(padded).take(self.points);
        rows.flat_map(|row| row[..self.points].iter().copied()).collect()
    }

    /// Moves and scales a block of columns; what is beyond `width` becomes 0.
    fn centred(&self, first: usize, width: usize, block: &mut [[T; BLOCK]]) {
        let rows = self.updates.rows();
        let columns = first..first + width;
        let mut sum = [0.0; BLOCK];
        for &row in self.centre {
            sum.iter_mut().zip(&rows[row][columns.clone()]).for_each(|(sum, value)| *sum += value.wide());
        }
        let share = 1.0 / self.centre.len().max(1) as f64;
        // Rounded to what rows are stored as, so that differences of close values are exact.
        let centre = sum.map(|sum| T::nearest(sum * share));
        let (of_rows, of_others) = block.split_at_mut(rows.len());
        for ((out, row), scale) in of_rows.iter_mut().zip(rows).zip(self.scales) {
            let scale = T::nearest(*scale);
            for ((out, value), centre) in out.iter_mut().zip(&row[columns.clone()]).zip(&centre) {
                *out = (*value - *centre) * scale;
            }
            out[width..].fill(T::default());
        }
        let scale = T::nearest(self.scales[rows.len()]);
        for (out, centre) in of_others[0][..width].iter_mut().zip(&centre) {
            *out = (T::default() - *centre) * scale;
        }
        of_others[0][width..].fill(T::default());
        if let Some(start) = self.start {
            let scale = T::nearest(self.scales[rows.len() + 1]);
            for ((out, value), centre) in of_others[1].iter_mut().zip(&start[columns]).zip(&centre) {
                *out = (T::nearest(*value) - *centre) * scale;
            }
            of_others[1][width..].fill(T::default());
        }
    }
}

/// A power of two that brings a norm near 1, where that norm squared is at risk; else 1, so that nothing is changed.
fn scale<T: Element>(norm: f64) -> f64 {
    let exponent = exponent(norm.max(f64::MIN_POSITIVE)).clamp(-T::EXPONENT_MAX, T::EXPONENT_MAX);
    if exponent.abs() < T::EXPONENT_MAX / 4 { 1.0 } else { power_of_two(-exponent) }
}

/// Adds products of all pairs of rows, `[rows][rows]`, of which only `j <= i` and what shares a tile with it is used.
///
/// The order of additions is written out in lanes: wider vectors of other CPUs give the same bits.
fn lower_triangle<T: Element>(block: &[[T; BLOCK]], sums: &mut [f64]) {
    let rows = block.len();
    // Rows `j` of a panel stay in the first-level cache while all `i` pass by.
    for panel in (0..rows).step_by(PANEL) {
        for i in (panel - panel % TILE_ROWS..rows).step_by(TILE_ROWS) {
            let mut j = panel;
            while j < (panel + PANEL).min(i + TILE_ROWS).min(rows) {
                let products = tile([&block[i], &block[i + 1]], [&block[j], &block[j + 1], &block[j + 2]]);
                for (at, row) in products.iter().enumerate() {
                    let out = &mut sums[(i + at) * rows + j..][..TILE_COLUMNS];
                    out.iter_mut().zip(row).for_each(|(sum, product)| *sum += product);
                }
                j += TILE_COLUMNS;
            }
        }
    }
}

/// Products of a few rows with a few others.
#[inline(always)]
fn tile<T: Element>(
    left: [&[T; BLOCK]; TILE_ROWS],
    right: [&[T; BLOCK]; TILE_COLUMNS],
) -> [[f64; TILE_COLUMNS]; TILE_ROWS] {
    let mut lanes = [[[T::default(); LANES]; TILE_COLUMNS]; TILE_ROWS];
    for at in 0..BLOCK / LANES {
        let a: [&[T; LANES]; TILE_ROWS] = left.map(|row| &row.as_chunks::<LANES>().0[at]);
        let b: [&[T; LANES]; TILE_COLUMNS] = right.map(|row| &row.as_chunks::<LANES>().0[at]);
        for i in 0..TILE_ROWS {
            for j in 0..TILE_COLUMNS {
                for lane in 0..LANES {
                    lanes[i][j][lane] = lanes[i][j][lane] + a[i][lane] * b[j][lane];
                }
            }
        }
    }
    lanes.map(|row| row.map(|lanes| lanes.iter().map(|lane| lane.wide()).sum()))
}

/// Columns that are multiplied in one go, and whose products are added as they are stored.
const BLOCK: usize = 512;
/// Columns whose products are summed before they are added to those of other pieces; threads work on pieces.
const PIECE: usize = 64 * BLOCK;
const LANES: usize = 8;
const TILE_ROWS: usize = 2;
const TILE_COLUMNS: usize = 3;
/// Rows of a block that fit into half of a small first-level cache.
const PANEL: usize = 4 * TILE_COLUMNS;
/// Rows whose norm is above so many medians have no part in the first centre.
const OUTSIZED: f64 = 2.5;
/// How much larger than its rounding the spread of the closest half has to be.
const DIGITS: f64 = 1e4;
const RECENTRINGS_MAX: usize = 2;
/// Rounding errors, in units of one, that a cosine may have.
const RESOLUTION: f64 = 64.0;
