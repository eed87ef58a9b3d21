//! `sim --mutate`: breaks each defence of the protocol in turn, in a copy of the source, and sees whether the test that is
//! named for it fails.
//!
//! The copy lies under `target/mutate`, with a target folder of its own that is kept, so that a mutant costs the build of
//! what it touches. Files are copied where they differ: the real source is only read.

mod around;
mod attachments;
mod copy;
mod mutants;
mod proofs;
mod published;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use self::copy::Copy;
use self::mutants::{Mutant, Test, all};
use crate::cargo;
use crate::report::{Failure, Violation};

/// How the tests of a mutant ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Each of them failed.
    Caught,
    /// This one passed.
    Survived(String),
    /// The run says nothing.
    Void(String),
}

/// Runs the mutants whose names contain one of `only`, or all of them; a survivor is a failure.
pub(crate) fn run(only: &[String]) -> Result<(), Failure> {
    Failure::if_any("mutants", unknown(only))?;
    run_all(all().filter(|m| only.is_empty() || only.iter().any(|part| m.name.contains(part.as_str()))).collect())
}

/// Runs a few whose tests are in one small program: this command breaks unseen otherwise, being too slow for CI.
pub(crate) fn few() -> Result<(), Failure> {
    run_all(all().filter(|mutant| FEW.contains(&mutant.name)).collect())
}

fn run_all(chosen: Vec<&Mutant>) -> Result<(), Failure> {
    let folder = cargo::root().join("target").join("mutate");
    let copy = Copy::refresh(&cargo::root(), &folder.join("tree"))?;
    Failure::if_any("mutants", inapplicable(copy.root(), &chosen))?;
    let bench = Bench { tree: copy.root().to_owned(), target: folder.join("target") };

    let began = Instant::now();
    eprintln!("\n== as it is: each of the tests has to pass");
    bench.passes_unchanged(&chosen)?;
    eprintln!("== as it is: passed in {:.0} s\n", began.elapsed().as_secs_f64());
    println!("verdict   seconds  {:<62}tests", "mutant");
    let tried = chosen.len();
    let mut found = Vec::new();
    for mutant in chosen {
        let mutant_began = Instant::now();
        let restore = copy.apply(mutant)?;
        let verdict = bench.try_tests(mutant.tests);
        restore.undo()?;
        let verdict = verdict?;
        let shown = match &verdict {
            Verdict::Caught => "caught",
            Verdict::Survived(_) => "SURVIVED",
            Verdict::Void(_) => "VOID",
        };
        let seconds = mutant_began.elapsed().as_secs_f64();
        let names: Vec<String> = mutant.tests.iter().map(Test::shown).collect();
        println!("{shown:<9}{seconds:>8.1}  {:<62}{}", mutant.name, names.join(", "));
        match verdict {
            Verdict::Caught => {}
            Verdict::Survived(test) => {
                found.push(Violation::new(format!("{}: {test} passes all the same", mutant.name)));
            }
            Verdict::Void(why) => found.push(Violation::new(format!("{}: {why}", mutant.name))),
        }
    }
    println!("\n{tried} mutants, {} not caught, {:.0} s", found.len(), began.elapsed().as_secs_f64());
    Failure::if_any("mutants", found)
}

fn unknown(only: &[String]) -> Vec<Violation> {
    let is_known = |part: &&String| all().any(|mutant| mutant.name.contains(part.as_str()));
    only.iter()
        .filter(|part| !is_known(part))
        .map(|part| Violation::new(format!("no mutant is called {part:?}")))
        .collect()
}

/// Mutants whose text is not in the source exactly once.
fn inapplicable(root: &Path, mutants: &[&Mutant]) -> Vec<Violation> {
    let edits = mutants.iter().flat_map(|mutant| mutant.edits.iter().map(move |edit| (mutant, edit)));
    edits
        .filter_map(|(mutant, edit)| {
            let found = edit.places(root).len();
            let text = edit.find.lines().next().unwrap_or_default().trim();
            let why = format!("{}: {text:?} stands in crates/{}/src {found} times, not once", mutant.name, edit.of);
            (found != 1).then(|| Violation::new(why))
        })
        .collect()
}

/// Where mutants are built and tested.
struct Bench {
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    /// A cargo command in the copy.
    fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo::cargo(args.iter().copied());
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        // The copy is no part of the workspace that asks.
        command.env_remove("CARGO_MANIFEST_DIR").env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "1");
        command
    }

    /// Whether a test program builds.
    fn builds(&self, test: &Test) -> Result<bool, Failure> {
        let mut command = self.cargo(&["test", "--quiet", "--locked", "--no-run", "--package", test.package]);
        command.args(test.target).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(finish(command, BUILD_MAX)?.is_some_and(|status| status.success()))
    }

    fn passes(&self, test: &Test) -> Result<Option<bool>, Failure> {
        let mut command = self.cargo(&["test", "--quiet", "--locked", "--package", test.package]);
        command.args(test.target).args(["--", "--exact", test.name]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(finish(command, TEST_MAX)?.map(|status| status.success()))
    }

    fn try_tests(&self, tests: &[Test]) -> Result<Verdict, Failure> {
        for test in tests {
            if !self.builds(test)? {
                return Ok(Verdict::Void(format!("{} does not build with it", test.shown())));
            }
            match self.passes(test)? {
                Some(false) => {}
                Some(true) => return Ok(Verdict::Survived(test.shown())),
                None => return Ok(Verdict::Void(format!("{} takes longer than {TEST_MAX:?}", test.shown()))),
            }
        }
        Ok(Verdict::Caught)
    }

    /// All tests of these mutants, on the source as it is: they exist, and pass.
    fn passes_unchanged(&self, mutants: &[&Mutant]) -> Result<(), Failure> {
        let mut tests: Vec<&Test> = mutants.iter().flat_map(|mutant| mutant.tests).collect();
        tests.sort();
        tests.dedup();
        let mut found = Vec::new();
        for of_program in tests.chunk_by(|a, b| (a.package, a.target) == (b.package, b.target)) {
            let Some(first) = of_program.first() else { continue };
            let mut command = self.cargo(&["test", "--locked", "--package", first.package]);
            command.args(first.target).args(["--", "--exact"]).args(of_program.iter().map(|test| test.name));
            let output = command.output().map_err(|source| Failure::Start { command: "cargo test".into(), source })?;
            let text = String::from_utf8_lossy(&output.stdout);
            for test in of_program {
                if !text.lines().any(|line| line == format!("test {} ... ok", test.name)) {
                    found.push(Violation::new(format!("{} does not pass, with nothing broken", test.shown())));
                }
            }
            if !output.status.success() {
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Failure::if_any("mutants", found)
    }
}

/// Waits for a command; `None` if it had to be killed.
fn finish(mut command: Command, max: Duration) -> Result<Option<ExitStatus>, Failure> {
    let failed = |source| Failure::Start { command: "cargo test".into(), source };
    let mut child = command.spawn().map_err(failed)?;
    let until = Instant::now() + max;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= until => {
                // The test that cargo started ends by itself: simulated worlds have deadlines.
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Ok(None);
            }
            None => std::thread::sleep(POLL),
        }
    }
}

/// The mutants that CI tries.
const FEW: [&str; 3] = [
    "bits behind the last packed value are not looked at",
    "a packed vector may end early",
    "a packed vector may be longer than it is",
];
const POLL: Duration = Duration::from_millis(50);
/// The first build takes everything with it.
const BUILD_MAX: Duration = Duration::from_secs(1_200);
const TEST_MAX: Duration = Duration::from_secs(120);
