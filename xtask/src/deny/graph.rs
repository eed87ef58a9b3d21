//! What is really built, out of what `cargo metadata` says.
//!
//! Cargo's resolve follows weak features (`ring?/std`) as if they switched their dependency on, and
//! so lists crates that no build ever compiles. An edge counts here only if an enabled feature
//! demands it; the walk starts at the workspace's members.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, Metadata, Node, NodeDep, Package, PackageId};

use crate::report::Failure;

/// Packages that are built for this workspace, its own members and tests included.
pub(crate) struct Graph<'a> {
    /// In the order of names, then versions.
    pub(crate) packages: Vec<&'a Package>,
    pub(crate) members: BTreeSet<&'a PackageId>,
    /// For every package, those that use it directly.
    users: BTreeMap<&'a PackageId, BTreeSet<&'a PackageId>>,
    by_id: BTreeMap<&'a PackageId, &'a Package>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(metadata: &'a Metadata) -> Result<Self, Failure> {
        let resolve = metadata.resolve.as_ref().ok_or(Failure::NoGraph)?;
        let by_id: BTreeMap<&PackageId, &Package> = metadata.packages.iter().map(|one| (&one.id, one)).collect();
        let nodes: BTreeMap<&PackageId, &Node> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let members: BTreeSet<&PackageId> = metadata.workspace_members.iter().collect();

        let mut users: BTreeMap<&PackageId, BTreeSet<&PackageId>> = BTreeMap::new();
        let mut seen = members.clone();
        let mut open: Vec<&PackageId> = members.iter().copied().collect();
        while let Some(id) = open.pop() {
            let (Some(node), Some(package)) = (nodes.get(id), by_id.get(id)) else { return Err(Failure::NoGraph) };
            for edge in &node.deps {
                let Some(target) = by_id.get(&edge.pkg) else { return Err(Failure::NoGraph) };
                if !is_active(package, node, edge, target) {
                    continue;
                }
                users.entry(&target.id).or_default().insert(id);
                if seen.insert(&target.id) {
                    open.push(&target.id);
                }
            }
        }
        let mut packages: Vec<&Package> = seen.iter().filter_map(|id| by_id.get(id).copied()).collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(Self { packages, members, users, by_id })
    }

    /// All built versions of a crate.
    pub(crate) fn versions<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a Package> + 's {
        self.packages.iter().copied().filter(move |package| package.name == name)
    }

    /// Members of the workspace that use the package directly.
    pub(crate) fn member_users(&self, package: &Package) -> impl Iterator<Item = &'a Package> {
        let users = self.users.get(&package.id).into_iter().flatten();
        users.filter(|id| self.members.contains(*id)).filter_map(|id| self.by_id.get(id).copied())
    }

    /// How a package comes to be here: one shortest chain of crates, from a member down to it.
    pub(crate) fn chain(&self, package: &Package) -> String {
        let mut below: BTreeMap<&PackageId, &PackageId> = BTreeMap::new();
        let mut layer: Vec<&PackageId> = vec![&package.id];
        let mut top = layer.iter().copied().find(|id| self.members.contains(*id));
        while top.is_none() && !layer.is_empty() {
            let mut above = Vec::new();
            for id in layer {
                for user in self.users.get(id).into_iter().flatten().copied() {
                    if user != &package.id && !below.contains_key(user) {
                        below.insert(user, id);
                        above.push(user);
                    }
                }
            }
            top = above.iter().copied().find(|id| self.members.contains(*id));
            layer = above;
        }
        let way_down = std::iter::successors(Some(top.unwrap_or(&package.id)), |id| below.get(*id).copied());
        let names = way_down.filter_map(|id| self.by_id.get(id)).map(|one| format!("{} {}", one.name, one.version));
        names.collect::<Vec<_>>().join(" -> ")
    }
}

/// Whether the enabled features of `package` bring in the dependency behind this edge.
fn is_active(package: &Package, node: &Node, edge: &NodeDep, target: &Package) -> bool {
    let mut declared = package.dependencies.iter().filter(|one| is_behind(one, edge, target)).peekable();
    // Nothing in the manifest fits: count the edge rather than overlook a crate.
    declared.peek().is_none() || declared.any(|one| !one.optional || is_demanded(package, node, one))
}

/// Whether a line of the manifest is what became this edge.
fn is_behind(dependency: &Dependency, edge: &NodeDep, target: &Package) -> bool {
    let kind_fits = edge.dep_kinds.iter().any(|kind| kind.kind == dependency.kind && kind.target == dependency.target);
    target.name == dependency.name && kind_fits && (dependency.rename.is_none() || is_called(dependency, &edge.name))
}

fn is_called(dependency: &Dependency, extern_name: &str) -> bool {
    dependency.rename.as_ref().is_some_and(|rename| rename.replace('-', "_") == extern_name)
}

/// Whether an enabled feature switches the optional dependency on: its own name, `dep:name`, or
/// `name/feature`; the weak `name?/feature` does not.
fn is_demanded(package: &Package, node: &Node, dependency: &Dependency) -> bool {
    let alias = dependency.rename.as_deref().unwrap_or(&dependency.name);
    node.features.iter().any(|enabled| {
        let enabled: &str = enabled.as_ref();
        let values = package.features.get(enabled).map(Vec::as_slice).unwrap_or_default();
        let by_value = values.iter().any(|value| {
            value.strip_prefix("dep:").is_some_and(|name| name == alias)
                || value.split_once('/').is_some_and(|(name, _)| name == alias)
        });
        by_value || (enabled == alias && !package.features.contains_key(alias))
    })
}
