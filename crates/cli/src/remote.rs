//! What every command that asks the coordinator needs: whose certificate to show, and where to.

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use sordino_identity::CoordinatorUrl;
use sordino_participant::{Client, Credentials};
use sordino_wire::api::{PAGE_MAX, Page};
use std::{path::PathBuf, time::Duration};

/// Options of those commands.
#[derive(clap::Args)]
pub(crate) struct Remote {
    /// Folder of the principal to act as: client.key, client.pem and root.pem.
    #[arg(long = "as", value_name = "DIR")]
    folder: PathBuf,
    /// Where the coordinator is; a folder that `sordino join` made knows it.
    #[arg(long, value_name = "URL", env = "SORDINO_SERVER")]
    server: Option<CoordinatorUrl>,
}

impl Remote {
    /// For commands that need no coordinator where these options are not given.
    pub(crate) fn new(folder: PathBuf, server: Option<CoordinatorUrl>) -> Self {
        Self { folder, server }
    }

    /// A client that gives up after seconds: somebody waits at a prompt.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.credentials()?)?.with_budget(PATIENCE))
    }

    /// Who asks, and whom it trusts.
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        Ok(Credentials::load(&self.folder, self.server.as_ref())?)
    }
}

/// Every item of a listing, page after page.
pub(crate) async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let after = cursor.as_deref().map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let page: Page<T> = client.get(&format!("{path}?limit={PAGE_MAX}{after}")).await?;
        items.extend(page.items);
        // A cursor that stands still would be asked for again for ever.
        if page.next.is_none() || page.next == cursor {
            return Ok(items);
        }
        cursor = page.next;
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
