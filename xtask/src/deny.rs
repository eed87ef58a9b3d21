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

use cargo_metadata::Package;
use cargo_metadata::semver::Op;

use self::advisories::Database;
use self::config::Config;
use self::graph::Graph;
use crate::cargo;
use crate::report::{Failure, Violation};

/// The rules, seen from the workspace's root.
const CONFIG: &str = "deny.toml";
/// The snapshot of the advisory database, seen from the workspace's root.
const ADVISORIES: &str = "xtask/advisories.json";

/// Checks this workspace.
pub(crate) fn run() -> Result<(), Failure> {
    let config = config::load(&cargo::root().join(CONFIG))?;
    let metadata = cargo::metadata()?;
    let graph = Graph::new(&metadata)?;
    let mut found = Vec::new();
    check_licenses(&graph, &config, &mut found);
    check_bans(&graph, &config, &mut found);
    check_duplicates(&graph, &config, &mut found);
    check_wildcards(&graph, &mut found);
    check_sources(&graph, &config, &mut found);
    match advisories::load(&cargo::root().join(ADVISORIES))? {
        Some(database) => {
            let (source, day) = (&database.source, &database.snapshot);
            println!("deny: {} advisories from {source}, as of {day} ({})", database.advisories.len(), database.commit);
            check_advisories(&graph, &config, &database, &mut found);
        }
        None => println!("deny: {ADVISORIES} is not there, known vulnerabilities are NOT checked"),
    }
    Failure::if_any("deny", found)?;
    println!("deny: {} packages, licences, bans, sources and wildcards are in order", graph.packages.len());
    Ok(())
}

/// Every crate, ours included, has a licence that we may keep.
fn check_licenses(graph: &Graph<'_>, config: &Config, found: &mut Vec<Violation>) {
    for package in &graph.packages {
        let problem = match package.license.as_deref() {
            None => "states no licence".to_owned(),
            Some(license) => match spdx::is_allowed(license, &config.licenses.allow) {
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

/// Crates come from known registries, or from this workspace.
fn check_sources(graph: &Graph<'_>, config: &Config, found: &mut Vec<Violation>) {
    for package in &graph.packages {
        let problem = match package.source.as_ref().map(|source| source.repr.as_str()) {
            None if graph.members.contains(&package.id) => continue,
            None => "comes from a folder outside the workspace".to_owned(),
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
    let mut used = vec![false; config.advisories.ignore.len()];
    for package in &graph.packages {
        let (name, version) = (&package.name, &package.version);
        for advisory in database.advisories.iter().filter(|advisory| advisory.affects(name, version)) {
            if let Some(at) = config.advisories.ignore.iter().position(|ignore| ignore.id == advisory.id) {
                used[at] = true;
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
    for (ignore, used) in config.advisories.ignore.iter().zip(used) {
        if !used {
            let (id, reason) = (&ignore.id, &ignore.reason);
            found.push(Violation::new(format!(
                "{id}: is ignored in {CONFIG} and touches nothing; remove the line ({reason})"
            )));
        }
    }
}
