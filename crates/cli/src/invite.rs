//! `sordino invite`

use crate::{
    duration,
    failure::Failure,
    output::{Output, date, note},
    remote::Remote,
};
use sordino_identity::{PrincipalId, Role};
use sordino_wire::api::{JoinTokenAnswer, JoinTokenRequest};
use std::time::Duration;

/// Invite a principal: one line that works once, for this id, until it expires.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino invite --as fed/admin --server https://sordino.hospitals.example:8443 hospital-a > a.invitation

The line holds a secret: hand it over as you would a password.")]
pub(crate) struct Invite {
    #[command(flatten)]
    remote: Remote,
    /// Who is invited: 8 to 64 of A-Z a-z 0-9 _ -
    id: PrincipalId,
    /// What it may do: client, admin or auditor.
    #[arg(long, default_value = "client")]
    role: Role,
    /// How long the invitation works, such as 90m, 24h or 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    expires: Duration,
}

impl Invite {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self { remote, id, role, expires } = self;
        let request = JoinTokenRequest { principal: id.clone(), role, expires_in: expires.as_secs() };
        let answer: JoinTokenAnswer = remote.client()?.post("/v1/join-tokens", &request).await?;
        output.result(&answer, |answer| answer.invitation.clone())?;
        let until = date(answer.expires_at);
        note(&format!(
            "for {id} as {role}, once, until {until}; it holds a secret: hand it over as you would a password"
        ));
        Ok(())
    }
}
