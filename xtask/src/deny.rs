//! Licences, bans, sources and known problems of everything that is built into the product or its tests.
//!
//! The rules stand in `deny.toml`, in cargo-deny's format. They are checked over the resolved graph
//! and not over `Cargo.lock`, which also holds what no build ever compiles.

mod advisories;
mod config;
mod graph;
mod spdx;
#[cfg(test)]
mod tests;

use std::path::Path;

use cargo_metadata::Package;
use cargo_metadata::semver::Op;

use self::advisories::{Advisory, Database};
use self::config::Config;
use self::graph::Graph;
use crate::cargo;
use crate::report::{Failure, Violation};

/// The rules, seen from the workspace's root.
const CONFIG: &str = "deny.toml";
/// The snapshot of the advisory database, seen from the workspace's root.
const ADVISORIES: &str = "xtask/advisories.json";

/// The fuzzer's own workspace: nothing of it is shipped, and its `Cargo.lock` has to be kept by hand.
const FUZZER: &str = "fuzz/Cargo.toml";

/// What is checked: the product with its tests, or the program that only fuzzes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Product,
    Fuzzer,
}

/// Checks this workspace, and that of the fuzzer.
pub(crate) fn run() -> Result<(), Failure> {
    let config = config::load(&cargo::root().join(CONFIG))?;
    let database = advisories::load(&cargo::root().join(ADVISORIES))?;
    match &database {
        Some(Database { source, snapshot, commit, advisories }) => {
            println!("deny: {} advisories from {source}, as of {snapshot} ({commit})", advisories.len());
        }
        None => println!("deny: {ADVISORIES} is not there, known vulnerabilities are NOT checked"),
    }
    let mut found = Vec::new();
    let mut counts = Vec::new();
    for (part, metadata) in [(Part::Product, cargo::metadata()?), (Part::Fuzzer, cargo::metadata_of(FUZZER)?)] {
        let graph = Graph::new(&metadata)?;
        check_licenses(&graph, &config, part, &mut found);
        check_bans(&graph, &config, &mut found);
        check_duplicates(&graph, &config, &mut found);
        check_wildcards(&graph, &mut found);
        check_sources(&graph, &config, &cargo::root(), &mut found);
        if let Some(database) = &database {
            check_advisories(&graph, &config, database, &mut found);
        }
        if part == Part::Product {
            // The fuzzer has a part of the product in it: what it does not need may be needed all the same.
            check_stale_skips(&graph, &config, &mut found);
            if let Some(database) = &database {
                check_stale_ignores(&graph, &config, database, &mut found);
            }
        }
        counts.push(graph.packages.len());
    }
    Failure::if_any("deny", found)?;
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    println!(
        "deny: {} packages (product, fuzzer), licences, bans, sources and wildcards are in order",
        counts.join(" and ")
    );
    Ok(())
}

/// Every crate, ours included, has a licence that we may keep; the fuzzer's may have those that are excepted for it.
fn check_licenses(graph: &Graph<'_>, config: &Config, part: Part, found: &mut Vec<Violation>) {
    let exceptions = if part == Part::Fuzzer { config.licenses.exceptions.as_slice() } else { &[] };
    for package in &graph.packages {
        let excepted = exceptions.iter().filter(|one| one.spec.matches(&package.name, &package.version));
        let allowed: Vec<String> =
            config.licenses.allow.iter().chain(excepted.flat_map(|one| &one.allow)).cloned().collect();
        let problem = match package.license.as_deref() {
            None => "states no licence".to_owned(),
            Some(license) => match spdx::is_allowed(license, &allowed) {
                Ok(true) => continue,
                Ok(false) => format!("is under `{license}`, which {CONFIG} does not allow"),
                Err(why) => format!("is under `{license}`, which {why}"),
            },
        };
        found.push(Violation::new(format!(
            "{} {}: {problem} ({})",
            package.name,
            package.version,
            graph.chain(package)
        )));
    }
    for exception in exceptions {
        let spec = &exception.spec;
        let is_needed = |package: &&Package| {
            let license = package.license.as_deref().unwrap_or_default();
            spec.matches(&package.name, &package.version)
                && spdx::is_allowed(license, &config.licenses.allow) != Ok(true)
        };
        if !graph.packages.iter().any(is_needed) {
            let why = format!("{}: has an exception in {CONFIG} and needs none; remove the line", spec.name);
            found.push(Violation::new(why));
        }
    }
}

/// Nothing that is banned is built.
fn check_bans(graph: &Graph<'_>, config: &Config, found: &mut Vec<Violation>) {
    for ban in config.bans.deny.iter().filter(|ban| !ban.deny_multiple_versions) {
        for package in
            graph.versions(&ban.spec.name).filter(|package| ban.spec.matches(&package.name, &package.version))
        {
            let (name, version) = (&package.name, &package.version);
            found.push(Violation::new(format!(
                "{name} {version}: is banned: {} ({})",
                ban.reason,
                graph.chain(package)
            )));
        }
    }
}

/// What must not be there twice is there once, and a skipped version is no direct dependency of ours.
fn check_duplicates(graph: &Graph<'_>, config: &Config, found: &mut Vec<Violation>) {
    let is_skipped =
        |package: &Package| config.bans.skip.iter().any(|skip| skip.spec.matches(&package.name, &package.version));
    for ban in config.bans.deny.iter().filter(|ban| ban.deny_multiple_versions) {
        let counted: Vec<&Package> = graph.versions(&ban.spec.name).filter(|package| !is_skipped(package)).collect();
        if counted.len() > 1 {
            let chains: Vec<String> = counted.iter().map(|package| graph.chain(package)).collect();
            let (name, n) = (&ban.spec.name, counted.len());
            found.push(Violation::new(format!(
                "{name}: is there in {n} versions: {} ({})",
                ban.reason,
                chains.join("; ")
            )));
        }
    }
    for package in graph.packages.iter().filter(|package| is_skipped(package)) {
        for user in graph.member_users(package) {
            found.push(Violation::new(format!(
                "{}: depends on {} {}, a version that {CONFIG} skips because none of ours uses it",
                user.name, package.name, package.version
            )));
        }
    }
}

/// No line skips what is not there.
fn check_stale_skips(graph: &Graph<'_>, config: &Config, found: &mut Vec<Violation>) {
    for skip in &config.bans.skip {
        if !graph.packages.iter().any(|package| skip.spec.matches(&package.name, &package.version)) {
            found.push(Violation::new(format!(
                "{}: is skipped in {CONFIG} and not there; remove the line",
                skip.spec.name
            )));
        }
    }
}

/// Our manifests say which versions they mean.
fn check_wildcards(graph: &Graph<'_>, found: &mut Vec<Violation>) {
    for package in graph.packages.iter().filter(|package| graph.members.contains(&package.id)) {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_none()) {
            let comparators = &dependency.req.comparators;
            if comparators.is_empty() || comparators.iter().any(|one| one.op == Op::Wildcard) {
                let (name, target, req) = (&package.name, &dependency.name, &dependency.req);
                found.push(Violation::new(format!(
                    "{name}: asks for {target} `{req}`; name the lowest version that works"
                )));
            }
        }
    }
}

/// Crates come from known registries, or from this repository.
fn check_sources(graph: &Graph<'_>, config: &Config, root: &Path, found: &mut Vec<Violation>) {
    for package in &graph.packages {
        let problem = match package.source.as_ref().map(|source| source.repr.as_str()) {
            None if package.manifest_path.starts_with(root) => continue,
            None => "comes from a folder outside of the repository".to_owned(),
            Some(source) => {
                let registry = source.strip_prefix("registry+");
                if registry.is_some_and(|address| config.sources.allow_registry.iter().any(|one| one == address)) {
                    continue;
                }
                format!("comes from {source}, which {CONFIG} does not allow")
            }
        };
        found.push(Violation::new(format!(
            "{} {}: {problem} ({})",
            package.name,
            package.version,
            graph.chain(package)
        )));
    }
}

/// Nothing has a known problem, except those with a reason beside them.
fn check_advisories(graph: &Graph<'_>, config: &Config, database: &Database, found: &mut Vec<Violation>) {
    for package in &graph.packages {
        let (name, version) = (&package.name, &package.version);
        for advisory in database.advisories.iter().filter(|advisory| advisory.affects(name, version)) {
            if config.advisories.ignore.iter().any(|ignore| ignore.id == advisory.id) {
                continue;
            }
            let (id, kind, title) = (&advisory.id, advisory.kind(), &advisory.title);
            let remedy = match advisory.patched.as_slice() {
                [] => "no version mends it".to_owned(),
                patched => {
                    let versions: Vec<String> = patched.iter().map(ToString::to_string).collect();
                    format!("mended in {}", versions.join(" or "))
                }
            };
            let chain = graph.chain(package);
            found.push(Violation::new(format!("{name} {version}: {id} ({kind}): {title}; {remedy} ({chain})")));
        }
    }
}

/// No line ignores what touches nothing.
fn check_stale_ignores(graph: &Graph<'_>, config: &Config, database: &Database, found: &mut Vec<Violation>) {
    for ignore in &config.advisories.ignore {
        let mut meant = database.advisories.iter().filter(|advisory| advisory.id == ignore.id);
        let touches = |advisory: &Advisory| {
            graph.packages.iter().any(|package| advisory.affects(&package.name, &package.version))
        };
        if !meant.any(touches) {
            let (id, reason) = (&ignore.id, &ignore.reason);
            found.push(Violation::new(format!(
                "{id}: is ignored in {CONFIG} and touches nothing; remove the line ({reason})"
            )));
        }
    }
}
