//! The part of cargo-deny's format that `deny.toml` uses.
//!
//! Unknown keys are refused: a rule that stands in the file and is not enforced would be worse than none.

use std::path::Path;

use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::report::Failure;

/// `deny.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default, rename = "graph")]
    pub(crate) _graph: Graph,
    pub(crate) licenses: Licenses,
    pub(crate) bans: Bans,
    pub(crate) sources: Sources,
    pub(crate) advisories: Advisories,
}

/// What the graph is; this program always takes the features that are built, on the host.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Graph {
    #[serde(rename = "all-features")]
    _all_features: No,
}

/// Which licences a crate may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Licenses {
    pub(crate) allow: Vec<String>,
    #[serde(default)]
    pub(crate) exceptions: Vec<Exception>,
    /// How loudly cargo-deny speaks of allowed licences that nobody has; nothing here depends on it.
    #[serde(default, rename = "unused-allowed-license")]
    _unused_allowed_license: Option<String>,
}

/// More licences for one crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    #[serde(rename = "crate")]
    pub(crate) spec: Spec,
    pub(crate) allow: Vec<String>,
}

/// Which crates may not be there, or not twice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: Allow,
    #[serde(rename = "wildcards")]
    _wildcards: Deny,
    #[serde(rename = "allow-wildcard-paths")]
    _allow_wildcard_paths: Yes,
    pub(crate) deny: Vec<Ban>,
    #[serde(default)]
    pub(crate) skip: Vec<Skip>,
}

/// A crate that may not be there; or, with `deny-multiple-versions`, not in two versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Ban {
    #[serde(rename = "crate")]
    pub(crate) spec: Spec,
    #[serde(default)]
    pub(crate) deny_multiple_versions: bool,
    pub(crate) reason: String,
}

/// A version that does not count as a duplicate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    #[serde(rename = "crate")]
    pub(crate) spec: Spec,
    /// Required, so that no exception stands without one.
    #[serde(rename = "reason")]
    _reason: String,
}

/// Where crates may come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Deny,
    #[serde(rename = "unknown-git")]
    _unknown_git: Deny,
    /// Addresses of registries, without the `registry+` before them.
    pub(crate) allow_registry: Vec<String>,
}

/// Which known problems are accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Advisories {
    #[serde(rename = "unmaintained")]
    _unmaintained: All,
    #[serde(rename = "unsound")]
    _unsound: All,
    pub(crate) ignore: Vec<Ignore>,
}

/// An advisory that does not touch us.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ignore {
    pub(crate) id: String,
    /// Required, so that no exception stands without one.
    pub(crate) reason: String,
}

/// `name` or `name@requirement`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Spec {
    pub(crate) name: String,
    version: VersionReq,
}

impl Spec {
    /// True for this crate in this version; a pre-release counts as the release it leads to.
    pub(crate) fn matches(&self, name: &str, version: &Version) -> bool {
        let released = Version { pre: semver::Prerelease::EMPTY, ..version.clone() };
        self.name == name && (self.version.matches(version) || self.version.matches(&released))
    }
}

impl TryFrom<String> for Spec {
    type Error = semver::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (name, version) = text.split_once('@').unwrap_or((&text, "*"));
        Ok(Self { name: name.to_owned(), version: version.parse()? })
    }
}

/// Reads and checks the file.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| Failure::Config { path: path.to_owned(), source })
}

/// The only level that is enforced for what must not be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Deny {
    Deny,
}

/// The only level that is known for what does not matter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allow {
    Allow,
}

/// Every crate, however deep.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum All {
    All,
}

/// A switch that can only be on.
#[derive(Debug, Deserialize)]
#[serde(try_from = "bool")]
struct Yes;

impl TryFrom<bool> for Yes {
    type Error = &'static str;

    fn try_from(on: bool) -> Result<Self, Self::Error> {
        if on { Ok(Self) } else { Err("only `true` is supported") }
    }
}

/// A switch that can only be off.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "bool")]
struct No;

impl TryFrom<bool> for No {
    type Error = &'static str;

    fn try_from(on: bool) -> Result<Self, Self::Error> {
        if on { Err("only `false` is supported") } else { Ok(Self) }
    }
}
