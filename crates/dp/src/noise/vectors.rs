//! Reads the reference vectors, for tests.

use serde_json::Value;

/// A file of cases.
pub(crate) struct File(Vec<Case>);

/// One case.
pub(crate) struct Case(Value);

/// Reads a file of the folder in `DP_VECTORS_DIR`, or of the project's own.
pub(crate) fn load(name: &str) -> File {
    let folder = std::env::var("DP_VECTORS_DIR")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/dp").to_owned());
    let path = std::path::Path::new(&folder).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let mut file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["format"], 1);
    let Value::Array(cases) = file["cases"].take() else { panic!("{name} has no cases") };
    File(cases.into_iter().map(Case).collect())
}

impl File {
    pub(crate) fn all(&self) -> &[Case] {
        &self.0
    }

    pub(crate) fn cases<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Case> {
        self.0.iter().filter(move |case| case.kind() == kind)
    }
}

impl Case {
    pub(crate) fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    pub(crate) fn f64(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    pub(crate) fn count<T: TryFrom<u64>>(&self, name: &str) -> T {
        self.0[name].as_u64().and_then(|count| count.try_into().ok()).unwrap_or_else(|| panic!("no {name}: {}", self.0))
    }

    pub(crate) fn list(&self, name: &str) -> Vec<f64> {
        self.0[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }
}

/// `rel <= 1e-9`, absolute 1e-300 for what is smaller, 0 for 0.
pub(crate) fn close(got: f64, want: f64, what: &str) {
    let tolerance = if want == 0.0 { 1e-12 } else { (1e-9 * want.abs()).max(1e-300) };
    assert!((got - want).abs() <= tolerance, "{what}: {got} is not {want}");
}
