//! Workspaces that do not exist, for the tests of the checks.

use std::collections::BTreeMap;

use cargo_metadata::Metadata;
use serde_json::{Value, json};

/// Where cargo's own registry is.
pub(crate) const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A package under construction; from crates.io, version 1.0.0, MIT, unless told otherwise.
#[derive(Clone)]
pub(crate) struct Fake {
    name: String,
    version: String,
    license: Value,
    source: Value,
    targets: Vec<Value>,
    dependencies: Vec<Value>,
    features: BTreeMap<String, Vec<String>>,
    enabled: Vec<String>,
    edges: Vec<(String, String)>,
    member: bool,
}

impl Fake {
    /// Somebody else's crate.
    pub(crate) fn other(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: json!("MIT"),
            source: json!(CRATES_IO),
            targets: vec![target(name, "lib")],
            dependencies: Vec::new(),
            features: BTreeMap::new(),
            enabled: Vec::new(),
            edges: Vec::new(),
            member: false,
        }
    }

    /// A member of the workspace.
    pub(crate) fn ours(name: &str) -> Self {
        Self { source: Value::Null, license: json!("MIT OR Apache-2.0"), member: true, ..Self::other(name) }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    pub(crate) fn license(mut self, license: Option<&str>) -> Self {
        self.license = json!(license);
        self
    }

    pub(crate) fn source(mut self, source: &str) -> Self {
        self.source = json!(source);
        self
    }

    pub(crate) fn build_script(mut self) -> Self {
        self.targets.push(target("build-script-build", "custom-build"));
        self
    }

    /// A line of the feature table.
    pub(crate) fn feature(mut self, name: &str, values: &[&str]) -> Self {
        self.features.insert(name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect());
        self
    }

    /// Switches a feature on in the graph.
    pub(crate) fn enabled(mut self, feature: &str) -> Self {
        self.enabled.push(feature.to_owned());
        self
    }

    /// A dependency as the manifest writes it; `change` edits cargo's description of it.
    pub(crate) fn declares(mut self, name: &str, change: Value) -> Self {
        let mut dependency = json!({
            "name": name, "source": CRATES_IO, "req": "^1.0.0", "kind": null, "rename": null,
            "optional": false, "uses_default_features": true, "features": [], "target": null, "registry": null,
        });
        if let (Some(all), Value::Object(change)) = (dependency.as_object_mut(), change) {
            all.extend(change);
        }
        self.dependencies.push(dependency);
        self
    }

    /// A dependency, declared and in the graph.
    pub(crate) fn uses(self, other: &Fake) -> Self {
        self.declares(&other.name.clone(), json!({"source": other.source})).resolves(other)
    }

    /// An edge of the graph alone.
    pub(crate) fn resolves(mut self, other: &Fake) -> Self {
        self.edges.push((other.name.replace('-', "_"), other.id()));
        self
    }

    fn id(&self) -> String {
        format!("{}#{}@{}", self.source.as_str().unwrap_or("path+file:///w"), self.name, self.version)
    }

    fn package(&self) -> Value {
        json!({
            "name": self.name, "version": self.version, "id": self.id(), "license": self.license, "license_file": null,
            "description": null, "source": self.source, "dependencies": self.dependencies, "targets": self.targets,
            "features": self.features, "manifest_path": format!("/w/{}/Cargo.toml", self.name), "metadata": null,
            "publish": null, "authors": [], "categories": [], "keywords": [], "readme": null, "repository": null,
            "homepage": null, "documentation": null, "edition": "2024", "links": null, "default_run": null,
            "rust_version": null,
        })
    }

    fn node(&self) -> Value {
        let deps: Vec<Value> = self
            .edges
            .iter()
            .map(|(name, id)| json!({"name": name, "pkg": id, "dep_kinds": [{"kind": null, "target": null}]}))
            .collect();
        let ids: Vec<&String> = self.edges.iter().map(|(_, id)| id).collect();
        json!({"id": self.id(), "dependencies": ids, "deps": deps, "features": self.enabled})
    }
}

/// What `cargo metadata` would print for these packages.
pub(crate) fn workspace(packages: &[Fake]) -> Metadata {
    let members: Vec<String> = packages.iter().filter(|fake| fake.member).map(Fake::id).collect();
    let described = json!({
        "packages": packages.iter().map(Fake::package).collect::<Vec<_>>(),
        "workspace_members": members,
        "workspace_default_members": members,
        "resolve": {"nodes": packages.iter().map(Fake::node).collect::<Vec<_>>(), "root": null},
        "target_directory": "/w/target", "version": 1, "workspace_root": "/w", "metadata": null,
    });
    serde_json::from_value(described).expect("shaped like cargo's output")
}

fn target(name: &str, kind: &str) -> Value {
    json!({
        "kind": [kind], "crate_types": ["lib"], "name": name, "src_path": "/w/lib.rs", "edition": "2024",
        "doc": true, "doctest": true, "test": true,
    })
}
