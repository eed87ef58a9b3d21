//! Files of reference cases.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use sordino_robust::{BadWeights, Bound, Element, Invalid, Refusal};

/// `BYZANTINE_VECTORS_DIR`, or the project's own.
pub(crate) fn folder() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/byzantine");
    std::env::var_os("BYZANTINE_VECTORS_DIR").map_or_else(|| own.into(), PathBuf::from)
}

/// One case, in one precision.
pub(crate) struct Case {
    rule: String,
    pub(crate) value: Value,
    /// `f64` or `f32`.
    pub(crate) precision: &'static str,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} in {}", self.rule, self.value["name"].as_str().unwrap_or("?"), self.precision)
    }
}

impl Case {
    pub(crate) fn new(rule: &str, value: Value, precision: &'static str) -> Self {
        Self { rule: rule.to_owned(), value, precision }
    }

    /// Whether `T` can hold its input: the file says so, and no finite value becomes an infinity.
    pub(crate) fn fits<T: Element>(&self) -> bool {
        let holds = |value: &f64| !value.is_finite() || T::nearest(*value).wide().is_finite();
        (self.precision == "f64" || self.value["precision"] != "f64") && self.rows().iter().flatten().all(holds)
    }

    pub(crate) fn has(&self, parameter: &str) -> bool {
        !self.value["params"][parameter].is_null()
    }

    pub(crate) fn f(&self, parameter: &str) -> f64 {
        number(&self.value["params"][parameter])
    }

    pub(crate) fn u(&self, parameter: &str) -> usize {
        let value = self.value["params"][parameter].as_u64();
        value.unwrap_or_else(|| panic!("{self}: no {parameter}")).try_into().unwrap()
    }

    pub(crate) fn s(&self, parameter: &str) -> &str {
        self.value["params"][parameter].as_str().unwrap_or_else(|| panic!("{self}: no {parameter}"))
    }

    pub(crate) fn vector(&self, parameter: &str) -> Option<Vec<f64>> {
        self.has(parameter).then(|| vector(&self.value["params"][parameter]))
    }

    pub(crate) fn rows(&self) -> Vec<Vec<f64>> {
        self.value["updates"].as_array().into_iter().flatten().map(vector).collect()
    }

    pub(crate) fn wants(&self, key: &str) -> bool {
        !self.value["expected"][key].is_null()
    }

    pub(crate) fn expected(&self, key: &str) -> &Value {
        &self.value["expected"][key]
    }

    pub(crate) fn close(&self, what: &str, got: f64, want: f64) {
        let tolerance = &self.value["tolerance"][self.precision];
        let (abs, rel) = (number(&tolerance["abs"]), number(&tolerance["rel"]));
        assert!((got - want).abs() <= abs + rel * want.abs(), "{self}: {what} is {got:e}, not {want:e}");
    }

    pub(crate) fn all_close(&self, what: &str, got: &[f64], want: &Value) {
        let want = vector(want);
        assert_eq!(got.len(), want.len(), "{self}: {what}");
        got.iter().zip(want).enumerate().for_each(|(at, (got, want))| self.close(&format!("{what}[{at}]"), *got, want));
    }

    pub(crate) fn same(&self, what: &str, got: &[usize], want: &Value) {
        let want: Vec<usize> =
            want.as_array().unwrap().iter().map(|at| at.as_u64().unwrap().try_into().unwrap()).collect();
        assert_eq!(got, want, "{self}: {what}");
    }

    /// Compares a result with what is expected of it: an error of a kind, or something to look at.
    pub(crate) fn check<T: fmt::Debug>(&self, got: Result<T, Kind>, look: impl FnOnce(T)) {
        match (self.expected("error").as_str(), got) {
            (Some(want), Err(got)) => assert_eq!(got.0, want, "{self}"),
            (Some(want), Ok(got)) => panic!("{self}: {got:?} instead of {want}"),
            (None, Ok(got)) => look(got),
            (None, Err(got)) => panic!("{self}: {}", got.0),
        }
    }
}

/// The files' names of errors.
#[derive(Debug)]
pub(crate) struct Kind(pub(crate) &'static str);

impl From<Bound> for Kind {
    fn from(bound: Bound) -> Self {
        Self(match bound {
            Bound::TooManyByzantine { .. } => "too_many_byzantine",
            Bound::BadSelectionSize { .. } => "bad_selection_size",
            Bound::BadParameter { .. } => "bad_parameter",
            Bound::ZeroRoot => "zero_root_update",
            other => panic!("no vector has {other}"),
        })
    }
}

impl From<BadWeights> for Kind {
    fn from(bad: BadWeights) -> Self {
        Self(match bad {
            BadWeights::Mismatch { .. } => "weights_mismatch",
            _ => "bad_weights",
        })
    }
}

/// Kind of error, and who is named.
pub(crate) fn refusal(invalid: Invalid) -> (&'static str, Option<u64>) {
    match invalid {
        Invalid::Empty => ("empty", None),
        Invalid::Client { client, why } => {
            let kind = match why {
                // It names nobody there: all rows are so.
                Refusal::ZeroDimension => return ("zero_dimension", None),
                Refusal::DimensionMismatch { .. } => "dimension_mismatch",
                Refusal::NonFinite { .. } => "non_finite",
                Refusal::NormExceeded { .. } => "norm_exceeded",
                other => panic!("no vector has {other}"),
            };
            (kind, Some(client as u64))
        }
        other => panic!("no vector has {other}"),
    }
}

/// Numbers that JSON cannot carry are strings.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

pub(crate) fn vector(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no vector")).iter().map(number).collect()
}
