//! Keeps the arrows of the architecture true: what each crate asks for directly, as its manifest says it.
//!
//! Only normal and build dependencies count, optional and platform-specific ones included: tests may
//! use what they like. What a core does with std (clocks, files, sockets) is not visible here; the
//! lints of `lints/core` see that.

pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, DependencyKind, Metadata, Package, TargetKind};

use self::table::{Allowed, Kind, NOBODY_USES, PURE, Place};
use crate::report::{Failure, Violation};

/// Checks this workspace.
pub(crate) fn run() -> Result<(), Failure> {
    let metadata = crate::cargo::metadata()?;
    Failure::if_any("arrows", violations(&metadata))?;
    println!("arrows: {} crates depend only on what their place allows", metadata.workspace_packages().len());
    Ok(())
}

/// Everything that points where it must not.
fn violations(metadata: &Metadata) -> Vec<Violation> {
    let members = metadata.workspace_packages();
    let ours: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in members {
        match table::place(&package.name) {
            Some(place) => check_package(package, place, &ours, &mut found),
            None => found.push(Violation::new(format!(
                "{}: has no place in the architecture; say in xtask/src/arrows/table.rs whether it is a core or a shell",
                package.name
            ))),
        }
    }
    found
}

fn check_package(package: &Package, place: &Place, ours: &BTreeSet<&str>, found: &mut Vec<Violation>) {
    for dependency in &package.dependencies {
        if ours.contains(dependency.name.as_str()) {
            check_ours(place, dependency, found);
        } else if let (Some(others), true) = (place.others, is_shipped(dependency)) {
            check_others(place, others, dependency, found);
        }
    }
    if place.kind == Kind::Core {
        check_feature_table(package, place, found);
        // A build script runs before any lint looks, with files, clock and network at hand.
        if package.targets.iter().any(|target| target.is_kind(TargetKind::CustomBuild)) {
            found.push(Violation::new(format!(
                "{}: is a core and has a build script; generate the code elsewhere",
                place.name
            )));
        }
    }
}

fn check_ours(place: &Place, dependency: &Dependency, found: &mut Vec<Violation>) {
    let (name, target) = (place.name, dependency.name.as_str());
    if NOBODY_USES.contains(&target) {
        found.push(Violation::new(format!("{name}: depends on {target}, on which nothing may depend")));
        return;
    }
    // A crate that is missing in the table is reported once, as itself.
    let Some(target_place) = table::place(target) else { return };
    if !is_shipped(dependency) || place.ours.contains(&target) {
        return;
    }
    let why = match (place.kind, target_place.kind) {
        (Kind::Core, Kind::Shell) => "arrows go from shell to core, never back",
        (Kind::Core, _) => "this core stands beside or below it",
        (Kind::Shell, Kind::Shell) => "shells do not know each other, except coordinator and site their store",
        _ => "its place does not allow it",
    };
    found.push(Violation::new(format!("{name}: depends on {target}; {why}")));
}

fn check_others(place: &Place, others: &[Allowed], dependency: &Dependency, found: &mut Vec<Violation>) {
    let (name, target) = (place.name, dependency.name.as_str());
    let Some(allowed) = find(others, target) else {
        found.push(Violation::new(format!(
            "{name}: is a core and depends on {target}, which is not on its list; move the use to a shell, or add it to \
             xtask/src/arrows/table.rs if it needs no runtime, socket, file, clock or global randomness"
        )));
        return;
    };
    if dependency.uses_default_features && !allowed.defaults {
        found.push(Violation::new(format!(
            "{name}: uses the default features of {target}; set `default-features = false` and name what is needed"
        )));
    }
    for feature in &dependency.features {
        check_feature(place, allowed, feature, found);
    }
}

/// A manifest's `[features]` can switch on features of dependencies too: `x = ["dependency/feature"]`.
fn check_feature_table(package: &Package, place: &Place, found: &mut Vec<Violation>) {
    // The manifest's own name for a dependency, which a rename changes.
    let renamed: BTreeMap<&str, &str> = package
        .dependencies
        .iter()
        .map(|dependency| (dependency.rename.as_deref().unwrap_or(&dependency.name), dependency.name.as_str()))
        .collect();
    for value in package.features.values().flatten() {
        let Some((alias, feature)) = value.split_once('/') else { continue };
        let alias = alias.trim_end_matches('?');
        let target = renamed.get(alias).copied().unwrap_or(alias);
        if let Some(allowed) = place.others.and_then(|others| find(others, target)) {
            check_feature(place, allowed, feature, found);
        }
    }
}

fn check_feature(place: &Place, allowed: &Allowed, feature: &str, found: &mut Vec<Violation>) {
    // `default` by name is the same as default features.
    let fine = if feature == "default" { allowed.defaults } else { allowed.features.contains(&feature) };
    if !fine {
        found.push(Violation::new(format!(
            "{}: is a core and asks for feature `{feature}` of {}, which is not on its list in xtask/src/arrows/table.rs",
            place.name, allowed.name
        )));
    }
}

fn find<'a>(others: &'a [Allowed], name: &str) -> Option<&'a Allowed> {
    others.iter().chain(PURE).find(|allowed| allowed.name == name)
}

fn is_shipped(dependency: &Dependency) -> bool {
    matches!(dependency.kind, DependencyKind::Normal | DependencyKind::Build)
}
