//! `sordino model`

use crate::{
    failure::Failure,
    files,
    output::{Output, date, table},
    remote::{Remote, all},
};
use sordino_codec::MAX_FILE_BYTES;
use sordino_participant::training::Architecture;
use sordino_wire::{Digest, api};
use std::{path::PathBuf, str::FromStr};

/// Make a first model; list those that the coordinator keeps, and fetch one.
#[derive(clap::Subcommand)]
pub(crate) enum Model {
    Init(Init),
    List(List),
    Get(Get),
}

/// Make a model of the built-in trainer with random weights.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino model init --architecture mlp-64-32-10 --seed 1 first.safetensors

The same architecture and seed give the same file.")]
pub(crate) struct Init {
    /// softmax-FEATURES-CLASSES or mlp-FEATURES-HIDDEN-CLASSES, such as softmax-64-10 or mlp-64-32-10.
    #[arg(long, value_name = "NAME")]
    architecture: Named,
    /// What the weights are drawn from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// File to write; it must not exist.
    out: PathBuf,
}

/// List the models that the coordinator keeps, in the order of their digests.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino model list --as site-a")]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

/// Fetch a model by its digest; its bytes are checked against it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino model get --as site-a 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 model.safetensors")]
pub(crate) struct Get {
    #[command(flatten)]
    remote: Remote,
    /// SHA-256 of the file, as `model list`, `task show` and `round show` tell it.
    digest: Digest,
    /// File to write; it must not exist.
    out: PathBuf,
}

/// An architecture as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Named(Architecture);

#[derive(serde::Serialize)]
struct Written {
    path: PathBuf,
    digest: Digest,
    bytes: usize,
}

impl Model {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let (out, bytes) = match self {
            Self::Init(Init { architecture: Named(architecture), seed, out }) => {
                (out, architecture.initial(seed)?.to_safetensors())
            }
            Self::List(List { remote }) => return list(&remote, output).await,
            Self::Get(Get { remote, digest, out }) => (out, remote.client()?.get_model(digest, MAX_FILE_BYTES).await?),
        };
        files::write_new(&out, &bytes)?;
        let written = Written { digest: Digest::of(&bytes), bytes: bytes.len(), path: out };
        output.result(&written, |written| written.digest.to_string())
    }
}

async fn list(remote: &Remote, output: Output) -> Result<(), Failure> {
    let models: Vec<api::Model> = all(&remote.client()?, "/v1/models").await?;
    output.result(&models, |models| {
        let row = |model: &api::Model| {
            let task = model.task.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            [model.digest.to_string(), task, model.bytes.to_string(), date(model.created_at)]
        };
        table(["MODEL", "TASK", "BYTES", "CREATED"], models.iter().map(row))
    })
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || "write softmax-FEATURES-CLASSES or mlp-FEATURES-HIDDEN-CLASSES, such as mlp-64-32-10".to_owned();
        let (kind, sizes) = text.split_once('-').ok_or_else(refuse)?;
        let digits = |size: &str| size.bytes().all(|byte| byte.is_ascii_digit());
        let sizes = sizes.split('-').map(|size| size.parse().ok().filter(|_| digits(size)));
        let sizes = sizes.collect::<Option<Vec<usize>>>().ok_or_else(refuse)?;
        let architecture = match (kind, &sizes[..]) {
            ("softmax", &[features, classes]) => Architecture::Softmax { features, classes },
            ("mlp", &[features, hidden, classes]) => Architecture::Mlp { features, hidden, classes },
            _ => return Err(refuse()),
        };
        architecture.parameters().map_err(|error| error.to_string())?;
        Ok(Self(architecture))
    }
}

/// Bytes of a model file that are read at most.
pub(crate) const FILE_BYTES_MAX: u64 = MAX_FILE_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_named_by_their_sizes() {
        let mlp = Architecture::Mlp { features: 64, hidden: 32, classes: 10 };
        assert_eq!("mlp-64-32-10".parse(), Ok(Named(mlp)));
        assert_eq!("softmax-64-10".parse(), Ok(Named(Architecture::Softmax { features: 64, classes: 10 })));
        for bad in ["", "mlp", "mlp-64-10", "softmax-64-32-10", "mlp-64--10", "mlp-64-+3-10", "mlp-0-1-1", "cnn-1-2"] {
            assert!(bad.parse::<Named>().is_err(), "{bad:?}");
        }
    }
}
