//! What has to hold for a rule to withstand what it is said to withstand.

use serde::{Deserialize, Serialize};

/// A condition that does not hold. Nothing is ever computed instead: a round that meets one keeps its model.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Bound {
    /// The rule's theorem asks for more clients for so many attackers.
    #[error("{rule} needs {condition}; there are n = {n} rows and f = {f} of them may be attackers")]
    TooManyByzantine {
        /// The rule or stage.
        rule: String,
        /// What it needs.
        condition: String,
        /// Rows it is given.
        n: usize,
        /// Attackers among them that are to be withstood.
        f: usize,
    },
    /// So many cannot be selected.
    #[error("{m} rows are to be selected; from 1 to n - f = {most} can be, with n = {n} and f = {f}")]
    BadSelectionSize {
        /// How many were asked for.
        m: usize,
        /// The most that can be.
        most: usize,
        /// Rows there are.
        n: usize,
        /// Attackers among them.
        f: usize,
    },
    /// A parameter is out of its range.
    #[error("{what} is {value}, it must be {range}")]
    BadParameter {
        /// The parameter.
        what: String,
        /// What it is.
        value: f64,
        /// What it must be.
        range: String,
    },
    /// A vector that belongs to the round is of another model.
    #[error("the {what} has {got} values, the updates have {want}")]
    DimensionMismatch {
        /// Which vector.
        what: String,
        /// Its values.
        got: usize,
        /// Those of the updates.
        want: usize,
    },
    /// FLTrust without an update of the server's own.
    #[error("FLTrust needs an update from the server's own data")]
    NoRoot,
    /// FLTrust with an update that has no direction.
    #[error("the server's own update is zero or not finite: it trusts nobody")]
    ZeroRoot,
    /// An update so large that its distances to others are out of range.
    #[error("client {client} has norm {norm:e}, distances need at most {max:e}: set a norm limit")]
    TooLarge {
        /// Whose.
        client: usize,
        /// Its norm.
        norm: f64,
        /// The largest that has distances.
        max: f64,
    },
}

impl Bound {
    pub(crate) fn byzantine(rule: &str, condition: &str, n: usize, f: usize) -> Self {
        Self::TooManyByzantine { rule: rule.to_owned(), condition: condition.to_owned(), n, f }
    }

    pub(crate) fn parameter(what: &str, value: f64, range: &str) -> Self {
        Self::BadParameter { what: what.to_owned(), value, range: range.to_owned() }
    }

    /// Fails unless fewer than half are attackers.
    pub(crate) fn minority(rule: &str, n: usize, f: usize) -> Result<(), Self> {
        if 2 * f < n { Ok(()) } else { Err(Self::byzantine(rule, "2f < n", n, f)) }
    }
}
