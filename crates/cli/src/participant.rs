//! `sordino participant`

use crate::{
    failure::Failure,
    output::{Output, date, table},
    remote::{Remote, all},
};
use sordino_wire::api;

/// See who belongs to the federation.
#[derive(clap::Subcommand)]
pub(crate) enum Participant {
    List(List),
}

/// List all principals that were admitted.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino participant list --as fed/admin --server https://localhost:8443")]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

impl Participant {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self::List(List { remote }) = self;
        let participants: Vec<api::Participant> = all(&remote.client()?, "/v1/participants").await?;
        output.result(&participants, |participants| {
            let row = |one: &api::Participant| {
                let seen = one.last_seen.map_or_else(|| "never".into(), date);
                [one.id.to_string(), one.role.to_string(), date(one.enrolled_at), date(one.not_after), seen]
            };
            table(["ID", "ROLE", "ENROLLED", "CERTIFICATE UNTIL", "LAST SEEN"], participants.iter().map(row))
        })
    }
}
