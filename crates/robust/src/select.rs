//! Rules that choose rows by their distances: Krum, Multi-Krum, Bulyan's selection, nearest-neighbour mixing.

use crate::layer::Means;
use crate::numbers::by_value_then_index;
use crate::{Bound, Gram};

/// What Krum chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Indices of the chosen rows, rising.
    pub selected: Vec<usize>,
    /// Scores of all rows; lower is better.
    pub scores: Vec<f64>,
}

/// Krum and Multi-Krum (Blanchard et al. 2017): the `m` rows with the lowest scores; a score is the sum of the squared
/// distances to the `n - f - 2` nearest **other** rows. Ties go to the lower index.
///
/// - `neighbours`: counts otherwise than the paper does, without its bound; other libraries take `n - f - 1`.
///
/// # Errors
/// `n < 2f + 3`; `m` is not from 1 to `n - f`.
pub fn krum(gram: &Gram, f: usize, m: usize, neighbours: Option<usize>) -> Result<Selection, Bound> {
    let n = gram.len();
    let neighbours = match neighbours {
        Some(neighbours) if (1..n).contains(&neighbours) => neighbours,
        Some(neighbours) => return Err(Bound::parameter("neighbours", neighbours as f64, "from 1 to n - 1")),
        None => {
            krum_needs("Krum", n, f)?;
            n - f - 2
        }
    };
    selection_size(m, n, f)?;
    let all: Vec<usize> = (0..n).collect();
    let scores: Vec<f64> = (0..n).map(|i| score(gram, i, &all, neighbours)).collect();
    let mut selected = all;
    selected.sort_unstable_by(by_value_then_index(&scores));
    selected.truncate(m);
    selected.sort_unstable();
    Ok(Selection { selected, scores })
}

pub(crate) fn krum_needs(rule: &str, n: usize, f: usize) -> Result<(), Bound> {
    if n >= 2 * f + 3 { Ok(()) } else { Err(Bound::byzantine(rule, "n >= 2f + 3", n, f)) }
}

pub(crate) fn bulyan_needs(n: usize, f: usize) -> Result<(), Bound> {
    if n >= 4 * f + 3 { Ok(()) } else { Err(Bound::byzantine("Bulyan", "n >= 4f + 3", n, f)) }
}

pub(crate) fn selection_size(m: usize, n: usize, f: usize) -> Result<(), Bound> {
    let most = n.saturating_sub(f);
    if (1..=most).contains(&m) { Ok(()) } else { Err(Bound::BadSelectionSize { m, most, n, f }) }
}

/// Sum of squared distances to the nearest others among `among`.
fn score(gram: &Gram, i: usize, among: &[usize], neighbours: usize) -> f64 {
    let mut distances: Vec<f64> = among.iter().filter(|&&j| j != i).map(|&j| gram.squared_distance(i, j)).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances.iter().take(neighbours).sum()
}

/// Bulyan's first half (El Mhamdi et al. 2018): `n - 2f` times the best row by Krum among those that are left, in that order.
/// With `r` left, `max(1, r - f - 2)` neighbours count, at most `r - 1`.
///
/// # Errors
/// `n < 4f + 3`.
pub(crate) fn bulyan(gram: &Gram, f: usize) -> Result<Vec<usize>, Bound> {
    let n = gram.len();
    bulyan_needs(n, f)?;
    let mut left: Vec<usize> = (0..n).collect();
    let mut chosen = Vec::new();
    while chosen.len() < n - 2 * f {
        let neighbours = left.len().saturating_sub(f + 2).max(1).min(left.len() - 1);
        let scores: Vec<f64> = left.iter().map(|&i| score(gram, i, &left, neighbours)).collect();
        let best = (0..left.len()).min_by(by_value_then_index(&scores)).unwrap_or_default();
        chosen.push(left.remove(best));
    }
    Ok(chosen)
}

/// Nearest-neighbour mixing (Allouah et al. 2023): the `n - f` rows nearest to each row, itself among them; ties go to the
/// lower index.
///
/// # Errors
/// `2f >= n`.
pub(crate) fn nearest_neighbours(gram: &Gram, f: usize) -> Result<Means, Bound> {
    let n = gram.len();
    Bound::minority("NNM", n, f)?;
    let sets = (0..n).map(|i| {
        let distances: Vec<f64> = (0..n).map(|j| gram.squared_distance(i, j)).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_unstable_by(by_value_then_index(&distances));
        order.truncate(n - f);
        order.sort_unstable();
        order
    });
    Ok(Means::new(n, sets.collect()))
}
