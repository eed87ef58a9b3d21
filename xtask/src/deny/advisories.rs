//! Known problems of published crates, from a snapshot of the RustSec database that travels with the
//! repository: the check needs no network, and its answer changes only with a commit.

use std::path::Path;

use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::report::Failure;

/// A snapshot of the database, in the shape that `xtask/advisories.json` has.
#[derive(Debug, Deserialize)]
pub(crate) struct Database {
    /// Whose database it is.
    pub(crate) source: String,
    /// Commit of the database.
    pub(crate) commit: String,
    /// Day of that commit, as `YYYY-MM-DD`.
    pub(crate) snapshot: String,
    pub(crate) advisories: Vec<Advisory>,
}

/// One problem of one crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Advisory {
    pub(crate) id: String,
    pub(crate) package: String,
    pub(crate) title: String,
    /// Versions in which it is mended.
    pub(crate) patched: Vec<VersionReq>,
    /// Versions that never had it.
    pub(crate) unaffected: Vec<VersionReq>,
    /// `unmaintained`, `unsound` or `notice`; a vulnerability where absent.
    #[serde(default)]
    pub(crate) informational: Option<String>,
    /// The day on which it was taken back.
    #[serde(default)]
    withdrawn: Option<String>,
}

impl Advisory {
    /// Whether this version has the problem.
    ///
    /// A pre-release counts as having it unless a requirement names its release line: semver's
    /// requirements do not speak of pre-releases, and an alarm too many is the better error.
    pub(crate) fn affects(&self, name: &str, version: &Version) -> bool {
        let mut fine = self.patched.iter().chain(&self.unaffected);
        self.withdrawn.is_none() && self.package == name && !fine.any(|versions| versions.matches(version))
    }

    pub(crate) fn kind(&self) -> &str {
        self.informational.as_deref().unwrap_or("vulnerability")
    }
}

/// Reads the snapshot; `None` where the file is not there.
pub(crate) fn load(path: &Path) -> Result<Option<Database>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Failure::Read { path: path.to_owned(), source }),
    };
    serde_json::from_str(&text).map(Some).map_err(|source| Failure::Advisories { path: path.to_owned(), source })
}
