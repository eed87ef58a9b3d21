//! That nobody can foretell the noise of a release: the binary has no way to seed it.
//!
//! `sordino-dp` makes noise that repeats under its feature `test-util` only, refuses that feature in a release build, and
//! leaves a marker in every binary that can do it. So there are three looks, each at what the others do not see: the marker
//! in the bytes that are shipped, the feature in the graph that they were built from, and what the sources hand to the one
//! constructor that is left, which takes its seed from a function of the caller's.

mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo;
use crate::report::{Failure, Violation};

/// Looks at the release's binary, at its features, and at the sources of everything but the noise itself.
pub(crate) fn run() -> Result<(), Failure> {
    let mut found = Vec::new();
    features(&graph()?, &mut found);
    let calls = sources(&mut found)?;
    let (release, tests) = (release()?, tests()?);
    marker(&release, &read(&release)?, false, &mut found);
    // What finds nothing where there is something is no check.
    marker(&tests, &read(&tests)?, true, &mut found);
    Failure::if_any("noise", found)?;
    println!("noise: {} cannot make noise that repeats; {calls} calls seed it, from the system", release.display());
    Ok(())
}

/// The binary of the demo, which built it the same way.
fn release() -> Result<PathBuf, Failure> {
    let build = ["build", "--release", "--locked", "--bin", BINARY, "--message-format=json"];
    let messages = cargo::output(cargo::cargo(build).stderr(Stdio::inherit()))?;
    cargo::executable(&messages, |artifact| !artifact.profile.test && artifact.target.name == BINARY)
        .ok_or(Failure::NoBinary { binary: BINARY })
}

/// A binary that can make noise that repeats.
fn tests() -> Result<PathBuf, Failure> {
    let build = ["test", "--package", PACKAGE, "--lib", "--no-run", "--locked", "--message-format=json"];
    let messages = cargo::output(cargo::cargo(build).stderr(Stdio::inherit()))?;
    cargo::executable(&messages, |artifact| artifact.profile.test).ok_or(Failure::NoTests { package: PACKAGE })
}

/// The packages that the release's binary is built from, each with the features that are on.
fn graph() -> Result<String, Failure> {
    // As `cargo run` chooses packages and features for the demo.
    let tree = ["tree", "--locked", "--edges", "no-dev", "--prefix", "none", "--format", "{p}\t{f}"];
    cargo::output(cargo::cargo(tree).stderr(Stdio::inherit()))
}

/// That a graph is that of the binary, and that nothing in it makes noise repeat.
fn features(graph: &str, found: &mut Vec<Violation>) {
    let lines = || graph.lines().filter_map(|line| line.split_once('\t'));
    let name = |package: &str| package.split(' ').next().map(str::to_owned);
    if lines().next().and_then(|(package, _)| name(package)).as_deref() != Some(BINARY) {
        found.push(Violation::new(format!(
            "the graph does not start at {BINARY}; which package does `cargo run` build?"
        )));
    }
    for (package, features) in lines() {
        // A package that was shown before ends in a mark.
        let mut features = features.trim_end_matches(" (*)").split(',');
        if name(package).as_deref() == Some(PACKAGE) && features.any(|feature| feature == FEATURE) {
            found.push(Violation::new(format!(
                "{BINARY} is built with the feature `{FEATURE}` of {PACKAGE}; only dev-dependencies may ask for it"
            )));
        }
    }
}

/// That the marker is in a binary, or not.
fn marker(path: &Path, bytes: &[u8], wanted: bool, found: &mut Vec<Violation>) {
    let is_there = bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
    match (is_there, wanted) {
        (true, false) => found.push(Violation::new(format!(
            "{} can make noise that repeats: \"{MARKER}\" is in it; what uses `NoiseRng::predictable`?",
            path.display()
        ))),
        (false, true) => found.push(Violation::new(format!(
            "{} makes noise that repeats and \"{MARKER}\" is not in it, so this check sees nothing; has `PREDICTABLE_NOISE` \
             changed?",
            path.display()
        ))),
        _ => {}
    }
}

/// Looks at the sources of all crates but that of the noise; how many calls seed it.
fn sources(found: &mut Vec<Violation>) -> Result<usize, Failure> {
    let (crates, mut calls) = (cargo::root().join("crates"), 0);
    for folder in entries(&crates)? {
        if folder == crates.join("dp") || !folder.join("src").is_dir() {
            continue;
        }
        for path in rust_files(&folder.join("src"))? {
            let text = fs::read_to_string(&path).map_err(|source| Failure::Read { path: path.clone(), source })?;
            let seen = source::look(&text);
            calls += seen.calls;
            let shown = path.strip_prefix(cargo::root()).unwrap_or(&path).display();
            found.extend(seen.wrong.iter().map(|wrong| Violation::new(format!("{shown}:{wrong}"))));
        }
    }
    Ok(calls)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// What is in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unread = |source| Failure::Read { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(unread)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(unread)).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

const BINARY: &str = "sordino";
const PACKAGE: &str = "sordino-dp";
const FEATURE: &str = "test-util";
/// `PREDICTABLE_NOISE` of `sordino-dp`.
const MARKER: &str = "sordino-dp test-util: this binary can make predictable noise";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(look: impl FnOnce(&mut Vec<Violation>)) -> Vec<String> {
        let mut found = Vec::new();
        look(&mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_marker_is_found_wherever_it_is() {
        let path = Path::new("sordino");
        for (before, after) in [(0, 0), (0, 7), (4099, 0), (4099, 4099)] {
            let bytes = [vec![b's'; before], MARKER.into(), vec![0; after]].concat();
            assert_eq!(found(|found| marker(path, &bytes, true, found)), [""; 0]);
            assert!(found(|found| marker(path, &bytes, false, found))[0].contains("can make noise that repeats"));
        }
        for bytes in [&b""[..], b"sordino-dp", &MARKER.as_bytes()[1..]] {
            assert_eq!(found(|found| marker(path, bytes, false, found)), [""; 0]);
            assert!(found(|found| marker(path, bytes, true, found))[0].contains("this check sees nothing"));
        }
    }

    #[test]
    fn a_feature_that_is_on_is_found() {
        let graph = |dp: &str| format!("sordino v0.1.0 (/x/cli)\t\nserde v1.0.0\tdefault,std\n{dp}\n");
        for (dp, fine) in [
            ("", true),
            ("sordino-dp v0.1.0 (/x/dp)\t", true),
            ("sordino-dp v0.1.0 (/x/dp)\tdefault (*)", true),
            ("sordino-secagg v0.1.0 (/x/secagg)\ttest-util", true),
            ("sordino-dp v0.1.0 (/x/dp)\ttest-util", false),
            ("sordino-dp v0.1.0 (/x/dp)\tdefault,test-util (*)", false),
        ] {
            assert_eq!(found(|found| features(&graph(dp), found)).is_empty(), fine, "{dp}");
        }
        assert_eq!(found(|found| features("sordino-dp v0.1.0 (/x/dp)\t\n", found)).len(), 1);
        assert_eq!(found(|found| features("", found)).len(), 1);
    }
}
