//! What a stage makes of rows: each scaled, or means of sets of them.

use crate::Element;

/// A linear map from rows to rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layer {
    /// Row `i` times factor `i`.
    Scale(Vec<f64>),
    /// Means of sets.
    Means(Means),
}

/// Means of sets of rows, with a plan that shares the work.
///
/// Sets of nearest neighbours are nearly equal. The sum over the rows that most sets have (`base`) is made once, and each set
/// adds and takes off what it differs by: some tens of additions per value instead of n - f multiplications, and no product
/// of matrices. What is taken off belongs to most sets, so that it is no larger than what the mean is of; a row that hardly
/// anybody has as a neighbour, however large, enters no sum but those it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Means {
    sets: Vec<Vec<usize>>,
    base: Vec<usize>,
    /// Per set: what to add to the sum of the base, what to take off.
    differences: Vec<(Vec<usize>, Vec<usize>)>,
}

impl Means {
    /// Of sets of indices below `from`, each rising and not empty.
    pub(crate) fn new(from: usize, sets: Vec<Vec<usize>>) -> Self {
        let mut members = vec![0; from];
        sets.iter().flatten().for_each(|&at| members[at] += 1);
        let base: Vec<usize> = (0..from).filter(|&at| 2 * members[at] > sets.len()).collect();
        let without = |set: &[usize], others: &[usize]| -> Vec<usize> {
            set.iter().copied().filter(|at| others.binary_search(at).is_err()).collect()
        };
        let differences = sets
            .iter()
            .map(|set| {
                let (more, less) = (without(set, &base), without(&base, set));
                // A set that has little of the base is summed by itself.
                if more.len() + less.len() < set.len() { (more, less) } else { (set.clone(), Vec::new()) }
            })
            .collect();
        Self { sets, base, differences }
    }

    /// Means of one strip of columns.
    fn apply<T: Element, const W: usize>(&self, rows: &[[T; W]], out: &mut Vec<[T; W]>) {
        let mut base = [T::default(); W];
        self.base.iter().for_each(|&at| add(&mut base, &rows[at]));
        out.clear();
        for (set, (more, less)) in self.sets.iter().zip(&self.differences) {
            let alone = less.is_empty() && more.len() == set.len();
            let mut sum = if alone { [T::default(); W] } else { base };
            less.iter().for_each(|&at| sum.iter_mut().zip(&rows[at]).for_each(|(sum, value)| *sum = *sum - *value));
            more.iter().for_each(|&at| add(&mut sum, &rows[at]));
            let share = T::nearest(1.0 / set.len() as f64);
            out.push(sum.map(|sum| sum * share));
        }
    }
}

#[inline(always)]
fn add<T: Element, const W: usize>(sum: &mut [T; W], row: &[T; W]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum = *sum + *value);
}

impl Layer {
    /// Rows that come out.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Scale(factors) => factors.len(),
            Self::Means(means) => means.sets.len(),
        }
    }

    /// An output row as an affine combination of input rows and the origin: calls back with each point and its coefficient.
    pub(crate) fn terms(&self, row: usize, origin: usize, mut each: impl FnMut(usize, f64)) {
        match self {
            Self::Scale(factors) => {
                each(row, factors[row]);
                each(origin, 1.0 - factors[row]);
            }
            Self::Means(means) => {
                let share = 1.0 / means.sets[row].len() as f64;
                means.sets[row].iter().for_each(|&at| each(at, share));
            }
        }
    }

    /// Coefficients on the rows that went in, of coefficients on those that came out.
    pub(crate) fn back(&self, coefficients: &[f64], from: usize) -> Vec<f64> {
        let mut before = vec![0.0; from];
        for (row, coefficient) in coefficients.iter().enumerate() {
            self.terms(row, from, |point, share| {
                // The origin adds nothing to a sum.
                if let Some(before) = before.get_mut(point) {
                    *before += coefficient * share;
                }
            });
        }
        before
    }

    /// One strip of columns; `spare` is for reuse.
    pub(crate) fn apply<T: Element, const W: usize>(&self, rows: &mut Vec<[T; W]>, spare: &mut Vec<[T; W]>) {
        match self {
            Self::Scale(factors) => {
                for (row, factor) in rows.iter_mut().zip(factors) {
                    if *factor != 1.0 {
                        // In f64: the factor of a very large row is not a number of its type.
                        *row = row.map(|value| T::nearest(value.wide() * factor));
                    }
                }
            }
            Self::Means(means) => {
                means.apply(rows, spare);
                std::mem::swap(rows, spare);
            }
        }
    }
}
