//! `sordino round export`, `sordino round verify` and `sordino round accept`

use super::archive::Archive;
use super::convergence_text;
use crate::{failure::Failure, files, output::Output, remote::Remote};
use serde::Serialize;
use sordino_identity::{CoordinatorUrl, Fingerprint, TrustAnchors};
use sordino_participant::accept_release;
use sordino_wire::{
    RoundId,
    api::ReleaseOptimizer,
    audit::{Audited, Bounds},
};
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Write a round with everything that is published of it into a folder, for `sordino round verify`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  sordino round export --as fed/auditor --server https://localhost:8443 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7 --out round-7")]
pub(crate) struct Export {
    #[command(flatten)]
    remote: Remote,
    /// The round: its task, a dot, its number.
    #[arg(value_name = "ROUND")]
    id: RoundId,
    /// The folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Check a round again from what is published of it: policy, sum, proofs, signatures and the next model.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sordino round verify round-7 --root root.pem
  sordino round verify --as site-a 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7")]
pub(crate) struct Verify {
    /// A folder that `sordino round export` made; with --as, a round of a coordinator: its task, a dot, its number.
    #[arg(value_name = "DIR|ROUND")]
    what: PathBuf,
    /// The federation's root certificate as you got it from somebody you trust, PEM. Without it the one in the folder
    /// counts, or that of --as.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Folder of the principal to ask a coordinator as: client.key, client.pem and root.pem.
    #[arg(long = "as", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where the coordinator is; a folder that `sordino join` made knows it.
    #[arg(long, value_name = "URL", env = "SORDINO_SERVER")]
    server: Option<CoordinatorUrl>,
}

/// Let a Release be that a site has found not to hold, or was never shown: it takes part again.
#[derive(clap::Args)]
#[command(after_help = "Example:
  sordino round accept --site site-a --reason 'restored from a backup; they have shown us how' 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7

The site must not be running. What was found and why it was let be stays in the site's folder.")]
pub(crate) struct Accept {
    /// The site's folder.
    #[arg(long, value_name = "DIR")]
    site: PathBuf,
    /// Why, for those who read it later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The round: its task, a dot, its number.
    #[arg(value_name = "ROUND")]
    id: RoundId,
}

/// What was written.
#[derive(Serialize)]
struct Exported<'a> {
    round: &'a RoundId,
    folder: &'a Path,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    audited: Audited,
    /// Whether every input in the sum was shown to be within its bounds.
    bounds_verified: bool,
    roots: Vec<String>,
    root_from: RootFrom,
}

/// Who says that a root is the federation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum RootFrom {
    /// The caller, for this check.
    Option,
    /// The caller's own folder.
    Folder,
    /// Whoever made the exported folder.
    Export,
}

impl Export {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let archive = fetched(&self.remote, &self.id).await?;
        archive.write(&self.out)?;
        let exported = Exported { round: &self.id, folder: &self.out };
        output.result(&exported, |exported| format!("{}\n", exported.folder.display()))
    }
}

impl Verify {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self { what, root, folder, server } = self;
        let (archive, from) = match (folder, what.to_str().and_then(|text| text.parse().ok())) {
            (Some(folder), Some(id)) => (fetched(&Remote::new(folder, server), &id).await?, RootFrom::Folder),
            _ if what.is_dir() => (Archive::read(&what)?, RootFrom::Export),
            _ => return Err(Failure::NothingToVerify { path: what }),
        };
        let (roots, root_from) = match root {
            Some(path) => (archive.roots(&files::read_text(&path, ROOT_MAX)?)?, RootFrom::Option),
            None => (archive.roots(&archive.root_pem)?, from),
        };
        let fingerprints = fingerprints(&roots);
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let audited = archive.verify(roots, threads)?;
        let bounds_verified = audited.bounds.is_some();
        output.result(&Report { audited, bounds_verified, roots: fingerprints, root_from }, Report::text)
    }
}

impl Accept {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let accepted = accept_release(&self.site, &self.id, &self.reason).map_err(Box::new)?;
        output.result(&accepted, |accepted| format!("{} is let be: {}\n", accepted.round, accepted.doubt))
    }
}

impl Report {
    fn text(&self) -> String {
        let Audited { round, federation, policy, model_before, model_after, .. } = &self.audited;
        let mut lines = vec![
            ("round", round.to_string()),
            ("federation", federation.to_string()),
            ("policy", policy.to_string()),
            ("survivors", self.audited.survivors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            ("weight", self.audited.weight.to_string()),
        ];
        lines.extend(self.audited.metrics.iter().map(|(name, value)| ("metric", format!("{name} {value}"))));
        lines.push(("sum", self.audited.sum.to_string()));
        lines.push(if self.audited.model_recomputed {
            ("model", format!("{model_after} is {model_before} moved by the sum"))
        } else {
            let missing = "that, or what the optimiser remembered, is not here";
            ("model", format!("{model_after}; not computed again from {model_before}, since {missing}"))
        });
        lines.extend(self.audited.optimizer.iter().flat_map(|ReleaseOptimizer { before, after }| {
            let compare = "compare it with what the task's Release before this one ended with";
            [
                ("optimiser", format!("began with state {before}: {compare}")),
                ("optimiser", format!("ended with {after}")),
            ]
        }));
        lines.extend(self.audited.convergence.as_ref().map(|stands| ("convergence", convergence_text(stands))));
        match &self.audited.bounds {
            Some(bounds) => lines.extend(self.bound_lines(bounds)),
            None => lines.extend([
                (
                    "not checked",
                    "the policy asks for no norm proofs: nothing here shows whose inputs are in the sum, or how large they \
                     are"
                    .to_owned(),
                ),
                ("result", "sum, weight, metrics and model fit the Release; the sum is the coordinator's word".to_owned()),
            ]),
        }
        lines.into_iter().map(|(what, value)| format!("{what:<13} {value}\n")).collect()
    }

    fn bound_lines(&self, bounds: &Bounds) -> Vec<(&'static str, String)> {
        let Bounds { clip_norm, effective_bound, noise_bound, claim, groups, dropped } = bounds;
        let from = match self.root_from {
            RootFrom::Option => "given by --root",
            RootFrom::Folder => "in the folder of --as",
            RootFrom::Export => "in the exported folder: compare it with one that you trust, or give that by --root",
        };
        let mut lines: Vec<_> =
            self.roots.iter().map(|root| ("trusted root", format!("SHA-256 {root}, {from}"))).collect();
        lines.push(("bound", format!("{effective_bound} x clip norm {clip_norm} (claim {claim})")));
        lines.extend(noise_bound.map(|bound| {
            let beside = "not shown: that it was drawn as noise, or does not shift the model";
            ("noise", format!("of the coordinator in each group's sum, within {bound:.1} x clip norm; {beside}"))
        }));
        for group in groups {
            let inputs = group.inputs.len();
            lines.push((
                "group",
                format!("{}: {inputs} inputs, {inputs} proofs verified; they open to sum {}", group.group, group.sum),
            ));
        }
        if *dropped > 0 {
            lines.push(("not checked", format!("{dropped} groups that were dropped, by the coordinator's word")));
        }
        let inputs: usize = groups.iter().map(|group| group.inputs.len()).sum();
        let result = format!("verified: the sum is that of {inputs} inputs, each proven to be within its bounds");
        lines.push(("result", result));
        lines
    }
}

/// A round of a coordinator, with the root that whoever asks trusts.
async fn fetched(remote: &Remote, id: &RoundId) -> Result<Archive, Failure> {
    let credentials = remote.credentials()?;
    let trusted = (credentials.federation()?, credentials.root_pem().to_owned());
    Archive::fetch(&remote.client()?, id, trusted).await
}

fn fingerprints(roots: &TrustAnchors) -> Vec<String> {
    roots.certificates().map(|root| Fingerprint::of(root).to_string()).collect()
}

/// Bytes of a file with root certificates.
const ROOT_MAX: u64 = 1 << 20;
