//! Every sample in the documentation works.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod common;

use common::sordino_in;
use sordino_coordinator::ServerConfig;
use sordino_participant::credentials::Settings;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A block that is marked as TOML.
struct Sample {
    file: PathBuf,
    line: usize,
    text: String,
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

fn samples() -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    files.retain(|file| file.exists());
    documents(&root.join("docs"), &mut files);
    let mut samples = Vec::new();
    for file in files {
        let document = fs::read_to_string(&file).unwrap();
        let mut lines = document.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line.trim() == "```toml" {
                let block: Vec<_> =
                    lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
                samples.push(Sample { file: file.clone(), line: number + 1, text: block.join("\n") });
            }
        }
    }
    samples
}

#[test]
fn every_toml_sample_is_a_file_that_loads() {
    let (mut policies, mut configurations) = (0, 0);
    for Sample { file, line, text } in samples() {
        let place = format!("{}:{line}", file.display());
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{place}: {error}"));
        if table.contains_key("task") {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("policy.toml"), &text).unwrap();
            let ran = sordino_in(folder.path(), &["policy", "check", "policy.toml", "--model-len", "2410"]);
            assert!(ran.stderr.is_empty(), "{place}: {}", ran.stderr);
            ran.ended(0);
            policies += 1;
        } else if table.contains_key("federation") && table["federation"].is_table() {
            ServerConfig::parse(Path::new("sordino.toml"), &text, [])
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            configurations += 1;
        } else {
            toml::from_str::<Settings>(&text).unwrap_or_else(|error| panic!("{place}: not a file of ours: {error}"));
        }
    }
    assert!(policies > 0 && configurations > 0, "{policies} policies, {configurations} configurations");
}

/// Commands and options that the documentation names exist: each line of a shell block that begins with `sordino` parses
/// up to the point where it would do something.
#[test]
fn every_command_of_the_manual_exists() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = fs::read_to_string(manual).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix("### `sordino "));
    let mut seen = 0;
    for heading in headings {
        let words: Vec<&str> = heading.trim_end_matches('`').split_whitespace().collect();
        let help = sordino_in(Path::new("."), &[&words[..], &["--help"]].concat());
        help.ended(0);
        seen += 1;
    }
    assert!(seen >= 16, "{seen} commands");
}
