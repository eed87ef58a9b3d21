//! `sordino join`

use crate::{
    failure::Failure,
    files,
    output::{Output, note},
};
use sordino_identity::{Invitation, KeyType, MAX_INVITATION_LEN, PrincipalId};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Join a federation: the key is made here and never leaves this folder.
///
/// To join with a key of your own, put it into the folder first, as client.key: Ed25519 or P-256, PKCS#8 in PEM.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino join site-a --id hospital-a --invitation a.invitation
  ssh admin@host sordino invite --as fed/admin hospital-a | sordino join site-a --id hospital-a --invitation -")]
pub(crate) struct Join {
    /// Folder to make for this site.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The id that the invitation is for.
    #[arg(long)]
    id: PrincipalId,
    /// File with the invitation, or - for standard input.
    #[arg(long, value_name = "FILE|-")]
    invitation: PathBuf,
    /// Key to make: ed25519, or p256 where that is the organisation's rule [default: ed25519].
    #[arg(long, value_name = "ed25519|p256")]
    key_type: Option<KeyType>,
}

#[derive(serde::Serialize)]
struct Joined {
    folder: PathBuf,
    id: String,
    federation: String,
    url: String,
}

impl Join {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let Self { folder, id, invitation, key_type } = self;
        let invitation = read(&invitation)?;
        sordino_participant::join(&folder, &invitation, &id, key_type).await?;
        let joined = Joined {
            id: id.to_string(),
            federation: invitation.federation().to_string(),
            url: invitation.url().as_str().to_owned(),
            folder,
        };
        output.result(&joined, |joined| {
            format!(
                "{} joined {} at {}; its key is in {}",
                joined.id,
                joined.federation,
                joined.url,
                joined.folder.display()
            )
        })?;
        note(&format!("next: sordino train {} --data rows.csv", joined.folder.display()));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Invitation, Failure> {
    let max = MAX_INVITATION_LEN as u64 + LINE_END;
    let (from, text) = if path == Path::new("-") {
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().lock().take(max).read_to_string(&mut text).map_err(Failure::Stdin)?;
        ("standard input".to_owned(), text)
    } else {
        (path.display().to_string(), Zeroizing::new(files::read_text(path, max)?))
    };
    text.trim().parse().map_err(|source| Failure::Invitation { from, source })
}

/// Room for what editors and shells put behind a line.
const LINE_END: u64 = 16;
