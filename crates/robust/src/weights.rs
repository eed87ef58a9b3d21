//! How much each client counts.

use crate::numbers::median;

/// Weights of clients: each finite and at least 0, with a positive and finite sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights(Vec<f64>);

/// Why weights are none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadWeights {
    /// There are more or fewer than clients.
    #[error("there are {got} weights for {want} clients")]
    Mismatch {
        /// Weights.
        got: usize,
        /// Clients.
        want: usize,
    },
    /// One is negative or not finite.
    #[error("the weight of client {client} is {weight}, it must be finite and at least 0")]
    OutOfRange {
        /// Whose.
        client: usize,
        /// What it is.
        weight: f64,
    },
    /// Nobody counts, or all together are too much for a number.
    #[error("weights sum to {sum}, they must sum to a positive number")]
    BadSum {
        /// What they sum to.
        sum: f64,
    },
}

impl Weights {
    /// Checks weights for so many clients.
    ///
    /// # Errors
    /// [`BadWeights`].
    pub fn new(weights: Vec<f64>, clients: usize) -> Result<Self, BadWeights> {
        if weights.len() != clients {
            return Err(BadWeights::Mismatch { got: weights.len(), want: clients });
        }
        let bad = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0));
        if let Some(client) = bad {
            return Err(BadWeights::OutOfRange { client, weight: weights[client] });
        }
        let sum: f64 = weights.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(BadWeights::BadSum { sum });
        }
        Ok(Self(weights))
    }

    /// Weights from the counts of samples that clients state, each at most [`CAP`] times the median: who states ten million
    /// does not own the average.
    ///
    /// # Errors
    /// [`BadWeights`]; all are 0 where more than half state 0.
    pub fn capped(counts: &[u64]) -> Result<Self, BadWeights> {
        let counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let cap = CAP * median(&counts);
        let clients = counts.len();
        Self::new(counts.into_iter().map(|count| count.min(cap)).collect(), clients)
    }

    /// The weights, `[clients]`.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// Those of some clients.
    ///
    /// # Errors
    /// Nobody among them counts.
    pub(crate) fn only(&self, clients: &[usize]) -> Result<Self, BadWeights> {
        Self::new(clients.iter().map(|&client| self.0[client]).collect(), clients.len())
    }
}

/// How many medians a stated count of samples weighs at most.
pub const CAP: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_weighs_more_than_three_medians() {
        let weights = Weights::capped(&[100, 80, 10_000_000, 120, 0]).expect("they are weights");
        assert_eq!(weights.as_slice(), [100.0, 80.0, 300.0, 120.0, 0.0]);
        assert_eq!(Weights::capped(&[0, 0, 7]), Err(BadWeights::BadSum { sum: 0.0 }));
        assert_eq!(Weights::capped(&[]), Err(BadWeights::BadSum { sum: 0.0 }));
    }
}
