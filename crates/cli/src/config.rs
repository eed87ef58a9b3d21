//! `sordino config`

use crate::{failure::Failure, output::Output};
use sordino_coordinator::ServerConfig;
use std::path::PathBuf;

/// Look at a coordinator's configuration.
#[derive(clap::Subcommand)]
pub(crate) enum Config {
    Check(Check),
}

/// Check a configuration, with the overlay of this environment, without starting anything.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino config check fed/sordino.toml")]
pub(crate) struct Check {
    /// The configuration.
    file: PathBuf,
}

#[derive(serde::Serialize)]
struct Checked {
    federation: String,
    listen: String,
    url: String,
    data: PathBuf,
}

impl Config {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self::Check(Check { file }) = self;
        let config = ServerConfig::load(&file)?;
        let checked = Checked {
            federation: config.federation.name.to_string(),
            listen: config.server.listen.to_string(),
            url: config.url(config.server.listen.port()),
            data: config.server.data,
        };
        output.result(&checked, |Checked { federation, listen, url, data }| {
            format!(
                "federation  {federation}\nlisten      {listen}\nurl         {url}\ndata        {}\n",
                data.display()
            )
        })
    }
}
