//! Sorting networks over rows, for as many columns at once as a strip is wide.
//!
//! Batcher's odd-even merge sort compares rows in an order that does not depend on the values, so that each comparison is a
//! minimum and a maximum of whole vectors. Where only some ranks are wanted, comparisons that cannot change them are left out.

use crate::Element;

/// Comparisons `(i, j)`, `i < j`, that put the smaller values into row `i`.
#[derive(Debug, Clone)]
pub(crate) struct Network(Vec<(u16, u16)>);

/// What is done with a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// It is thrown away.
    Dropped,
    /// It is added to the others that are kept; which is which does not matter.
    Kept,
    /// It has to be in its place.
    Placed,
}

impl Network {
    /// One for `rows` rows, as far as the ranks that are asked for need it.
    pub(crate) fn new(rows: usize, rank: impl Fn(usize) -> Rank) -> Self {
        debug_assert!(rows <= ROWS_MAX, "larger ones are slower than selection");
        let mut classes: Vec<Rank> = (0..rows).map(rank).collect();
        let mut needed: Vec<(u16, u16)> = batcher(rows);
        // From the end: a comparison of two rows that meet the same end changes nothing; any other one fixes what is where.
        needed.reverse();
        needed.retain(|&(i, j)| {
            let (i, j) = (usize::from(i), usize::from(j));
            if classes[i] == classes[j] && classes[i] != Rank::Placed {
                return false;
            }
            (classes[i], classes[j]) = (Rank::Placed, Rank::Placed);
            true
        });
        needed.reverse();
        Self(needed)
    }

    /// Compares and exchanges.
    #[inline(always)]
    pub(crate) fn sort<T: Element, const W: usize>(&self, rows: &mut [[T; W]]) {
        for &(i, j) in &self.0 {
            let (head, tail) = rows.split_at_mut(usize::from(j));
            let (low, high) = (&mut head[usize::from(i)], &mut tail[0]);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (low.least(*high), high.most(*low));
            }
        }
    }
}

/// Batcher's odd-even merge sort (Knuth, TAOCP 3, 5.2.2, Algorithm M) for any number of rows.
fn batcher(rows: usize) -> Vec<(u16, u16)> {
    let mut comparisons = Vec::new();
    if rows < 2 {
        return comparisons;
    }
    let top = rows.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            for i in 0..rows - d {
                if i & p == r
                    && let (Ok(i), Ok(j)) = (u16::try_from(i), u16::try_from(i + d))
                {
                    comparisons.push((i, j));
                }
            }
            if q == p {
                break;
            }
            d = q - p;
            q /= 2;
            r = p;
        }
        p /= 2;
    }
    comparisons
}

/// Beyond, the network grows faster than selection: n log^2 n comparisons.
pub(crate) const ROWS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of 0 and 1: a network that sorts those sorts everything (Knuth, Theorem Z).
    #[test]
    fn networks_sort() {
        for rows in 1..=12usize {
            let network = Network::new(rows, |_| Rank::Placed);
            for bits in 0..1u32 << rows {
                let mut values: Vec<[f32; 1]> = (0..rows).map(|at| [((bits >> at) & 1) as f32]).collect();
                network.sort(&mut values);
                assert!(values.is_sorted(), "{rows} rows, {bits:b}");
            }
        }
        for rows in [31, 100, 101, 200, 256] {
            let network = Network::new(rows, |_| Rank::Placed);
            let mut values: Vec<[f64; 1]> = (0..rows).map(|at| [((at * 7919) % 1009) as f64]).collect();
            network.sort(&mut values);
            assert!(values.is_sorted(), "{rows} rows");
        }
    }

    #[test]
    fn networks_that_keep_some_ranks_keep_those() {
        for rows in 3..=11usize {
            for dropped in 0..rows.div_ceil(2) {
                let keeps = dropped..rows - dropped;
                let network = Network::new(rows, |at| if keeps.contains(&at) { Rank::Kept } else { Rank::Dropped });
                for bits in 0..1u32 << rows {
                    let mut values: Vec<[f32; 1]> = (0..rows).map(|at| [((bits >> at) & 1) as f32]).collect();
                    let mut sorted = values.clone();
                    sorted.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
                    network.sort(&mut values);
                    let sum = |values: &[[f32; 1]]| values[keeps.clone()].iter().map(|value| value[0]).sum::<f32>();
                    assert_eq!(sum(&values), sum(&sorted), "{rows} rows, {dropped} dropped, {bits:b}");
                }
            }
        }
        assert!(
            Network::new(100, |at| if at == 50 { Rank::Placed } else { Rank::Dropped }).0.len() < batcher(100).len()
        );
    }
}
