//! What is checked before anything is added: dimension, finite values, norm.

use std::num::NonZeroUsize;

use crate::Element;
use crate::parallel;

/// What an update has to keep to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Door {
    /// Values in an update; without it, as many as the first row has.
    pub dimension: Option<usize>,
    /// Largest L2 norm, itself allowed; without it any finite update is.
    pub max_norm: Option<f64>,
}

/// Why one update was not let in. In this order: dimension, finite values, norm.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An update without values.
    #[error("an update has no values")]
    ZeroDimension,
    /// It is not of this model.
    #[error("an update has {got} values, the model has {want}")]
    DimensionMismatch {
        /// Values that came.
        got: usize,
        /// Values that the model has.
        want: usize,
    },
    /// A NaN or an infinity.
    #[error("value {at} of an update is not finite")]
    NonFinite {
        /// The first such value.
        at: usize,
    },
    /// It is larger than the policy allows.
    #[error("an update has norm {norm}, at most {max} is allowed")]
    NormExceeded {
        /// Its L2 norm.
        norm: f64,
        /// The policy's limit.
        max: f64,
    },
}

/// Why a set of updates is none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Nobody sent anything.
    #[error("there are no updates")]
    Empty,
    /// The first client that has to be left out, and why.
    #[error("client {client}: {why}")]
    Client {
        /// Its index among the rows.
        client: usize,
        /// What is wrong with its update.
        why: Refusal,
    },
}

impl Door {
    /// Checks one update, for a server that does so when it arrives.
    ///
    /// The norm is computed in `f64` and never overflows to infinity or underflows to zero.
    ///
    /// # Errors
    /// [`Refusal`], the first that applies.
    pub fn admit<'a, T: Element>(&self, row: &'a [T]) -> Result<Admitted<'a, T>, Refusal> {
        if row.is_empty() {
            return Err(Refusal::ZeroDimension);
        }
        if let Some(want) = self.dimension
            && row.len() != want
        {
            return Err(Refusal::DimensionMismatch { got: row.len(), want });
        }
        let norm = norm(row).ok_or_else(|| Refusal::NonFinite {
            at: row.iter().position(|value| !value.wide().is_finite()).unwrap_or_default(),
        })?;
        match self.max_norm {
            None => Ok(Admitted { row, norm }),
            Some(max) if norm <= max => Ok(Admitted { row, norm }),
            // Last, so that a limit that is not a number lets nobody in.
            Some(max) => Err(Refusal::NormExceeded { norm, max }),
        }
    }
}

/// One update that was let in; only [`Door::admit`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a, T> {
    row: &'a [T],
    norm: f64,
}

impl<T> Admitted<'_, T> {
    /// L2 norm.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.norm
    }
}

/// Updates of one round, `[clients][dimension]`: at least one, all of one length, every value finite. Only the check makes it.
///
/// Rows are borrowed and never copied as a whole: they may be memory maps, so that a round can be larger than memory. All
/// passes go over blocks of columns. What is behind the slices must not change while they are borrowed; Rust sees to that
/// except for a file that another process writes.
///
/// Rows come in the order in which clients are to be told apart by index: sort them by client id, not by arrival.
#[derive(Debug, Clone)]
pub struct Updates<'a, T> {
    rows: Vec<&'a [T]>,
    norms: Vec<f64>,
}

impl<'a, T: Element> Updates<'a, T> {
    /// Checks all rows, on one thread.
    ///
    /// # Errors
    /// [`Invalid`], of the first offending client.
    pub fn check(rows: &[&'a [T]], door: &Door) -> Result<Self, Invalid> {
        Self::check_on(rows, door, NonZeroUsize::MIN)
    }

    /// Checks all rows, on several threads.
    ///
    /// # Errors
    /// [`Invalid`], of the first offending client.
    pub fn check_on(rows: &[&'a [T]], door: &Door, threads: NonZeroUsize) -> Result<Self, Invalid> {
        let first = rows.first().ok_or(Invalid::Empty)?;
        let door = Door { dimension: door.dimension.or(Some(first.len())), ..*door };
        let admitted = parallel::map(threads, rows.len(), |client| {
            door.admit(rows[client]).map_err(|why| Invalid::Client { client, why })
        });
        Self::of(admitted.into_iter().collect::<Result<Vec<_>, _>>()?)
    }

    /// Gathers updates that were let in one by one.
    ///
    /// # Errors
    /// There are none, or they are not of one length.
    pub fn of(admitted: Vec<Admitted<'a, T>>) -> Result<Self, Invalid> {
        let want = admitted.first().ok_or(Invalid::Empty)?.row.len();
        if let Some((client, other)) = admitted.iter().enumerate().find(|(_, other)| other.row.len() != want) {
            let why = Refusal::DimensionMismatch { got: other.row.len(), want };
            return Err(Invalid::Client { client, why });
        }
        let (rows, norms) = admitted.into_iter().map(|one| (one.row, one.norm)).unzip();
        Ok(Self { rows, norms })
    }

    /// Those of some clients, by index, in the order given; `None` where there are none.
    pub(crate) fn only(&self, clients: &[usize]) -> Option<Self> {
        let rows: Vec<_> = clients.iter().map(|&client| self.rows[client]).collect();
        let norms = clients.iter().map(|&client| self.norms[client]).collect();
        (!rows.is_empty()).then_some(Self { rows, norms })
    }

    /// How many clients there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "they are never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Values in each row; never 0.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.rows[0].len()
    }

    /// L2 norms, `[clients]`.
    #[must_use]
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// The rows themselves.
    #[must_use]
    pub fn rows(&self) -> &[&'a [T]] {
        &self.rows
    }
}

/// L2 norm; `None` where a value is not finite.
pub(crate) fn norm<T: Element>(row: &[T]) -> Option<f64> {
    let sum = squares(row, 1.0);
    // Squares of f32 are exact in f64 and their sum stays in range: this is where almost every row ends.
    if (TINY..f64::INFINITY).contains(&sum) {
        return Some(sum.sqrt());
    }
    if row.iter().any(|value| !value.wide().is_finite()) {
        return None;
    }
    let largest = row.iter().fold(0.0, |largest: f64, value| largest.max(value.wide().abs()));
    if largest == 0.0 {
        return Some(0.0);
    }
    // A power of two, so that scaling does not round.
    let scale = power_of_two(-exponent(largest));
    let norm = squares(row, scale).sqrt() / scale;
    // The norm of a row of finite values is a number, if need be the largest there is.
    Some(norm.min(f64::MAX))
}

/// Sum of squares of scaled values, in a fixed order.
fn squares<T: Element>(row: &[T], scale: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            let value = value.wide() * scale;
            *lane += value * value;
        }
    }
    let rest: f64 = rest.iter().map(|value| (value.wide() * scale).powi(2)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// The exponent of the least power of two above a positive number, held within 1000 of 0.
pub(crate) fn exponent(value: f64) -> i32 {
    // The biased exponent of a number in [1, 2) is 1023, that of all subnormal ones is 0.
    let biased = i32::try_from((value.to_bits() >> 52) & 0x7ff).unwrap_or_default();
    (biased - 1022).clamp(-1000, 1000)
}

/// A power of two, for exponents within the normal range.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// Below this a sum of squares may have lost digits to underflow.
const TINY: f64 = 1e-280;

const LANES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_neither_overflow_nor_underflow() {
        assert_eq!(norm(&[3e200, 4e200]).map(|norm| (norm / 5e200 - 1.0).abs() < 1e-15), Some(true));
        assert_eq!(norm(&[3e-200, 4e-200]).map(|norm| (norm / 5e-200 - 1.0).abs() < 1e-15), Some(true));
        assert_eq!(norm(&[f64::MAX, f64::MAX]), Some(f64::MAX));
        assert_eq!(norm(&[5e-324, 0.0]), Some(5e-324));
        assert_eq!(norm(&[3e30f32, 4e30]).map(|norm| (norm / 5e30 - 1.0).abs() < 1e-6), Some(true));
        assert_eq!(norm(&[0.0f32; 9]), Some(0.0));
        assert_eq!(norm(&[1.0f32, f32::NAN]), None);
        assert_eq!(norm(&[f64::INFINITY, f64::MAX]), None);
    }

    #[test]
    fn exponents_are_just_above() {
        for (value, want) in [(1.0, 1), (0.5, 0), (0.75, 0), (3.0, 2), (4.0, 3), (1e-320, -1000), (f64::MAX, 1000)] {
            assert_eq!(exponent(value), want, "{value}");
        }
    }

    #[test]
    fn a_limit_that_is_no_number_lets_nobody_in() {
        let door = Door { dimension: None, max_norm: Some(f64::NAN) };
        assert!(matches!(door.admit(&[0.0f32]), Err(Refusal::NormExceeded { .. })));
    }
}
