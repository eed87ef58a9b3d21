//! `sordino init`

use crate::{
    failure::Failure,
    output::{Output, note},
};
use sordino_coordinator::{
    clock::{Clock as _, SystemClock},
    init::{InitOptions, init},
};
use sordino_identity::{FederationId, PrincipalId};
use std::{net::SocketAddr, path::PathBuf};

/// Make a new federation: root CA, keys, configuration, first administrator and auditor.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino init fed --federation hospitals.example --name sordino.hospitals.example --name 10.0.0.5 \\
      --listen 0.0.0.0:8443

Nothing is ever overwritten. Afterwards move fed/root to a place that is offline: it is not needed to run.")]
pub(crate) struct Init {
    /// Folder to make; it may exist if it is empty.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Name of the federation: the trust domain of every certificate in it.
    #[arg(long, value_name = "NAME")]
    federation: FederationId,
    /// Name or address by which participants reach the coordinator; the first one stands in invitations.
    #[arg(long = "name", value_name = "HOST", required = true, num_args = 1..)]
    names: Vec<String>,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Id of the coordinator.
    #[arg(long, value_name = "ID", default_value = "coordinator")]
    coordinator: PrincipalId,
    /// Id of the first administrator.
    #[arg(long, value_name = "ID", default_value = "first-admin")]
    admin: PrincipalId,
    /// Id of the first auditor.
    #[arg(long, value_name = "ID", default_value = "first-auditor")]
    auditor: PrincipalId,
}

#[derive(serde::Serialize)]
struct Made {
    config: PathBuf,
    root: PathBuf,
    registrar: PathBuf,
    admin: PathBuf,
    auditor: PathBuf,
}

impl Init {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self { folder, federation, names, listen, coordinator, admin, auditor } = self;
        let options = InitOptions { federation, names, listen, coordinator, admin, auditor };
        let made = init(&folder, &options, SystemClock.now()).await?;
        let made = Made {
            config: made.config,
            root: made.root,
            registrar: made.registrar,
            admin: made.admin,
            auditor: made.auditor,
        };
        output.result(&made, |made| {
            [
                ("configuration", &made.config),
                ("root CA", &made.root),
                ("registrar", &made.registrar),
                ("administrator", &made.admin),
                ("auditor", &made.auditor),
            ]
            .map(|(what, path)| format!("{what:<14} {}\n", path.display()))
            .concat()
        })?;
        note(&format!("move {} offline: it is not needed to run", made.root.display()));
        note(&format!("next: sordino serve --config {}", made.config.display()));
        Ok(())
    }
}
