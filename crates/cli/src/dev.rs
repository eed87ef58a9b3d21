//! Options of `sordino train` that take away protection, for demonstrations and tests on one machine. They are refused
//! unless `--insecure-dev` is given and the coordinator is on loopback.

use crate::failure::Failure;
use sordino_identity::CoordinatorUrl;
use sordino_participant::{
    DevOptions,
    attack::Attack,
    credentials::Settings,
    training::{Dataset, DirichletSplit},
};
use sordino_secagg::Step;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The options, hidden from help.
#[derive(clap::Args)]
pub(crate) struct Dev {
    /// Allow the options below, if the coordinator is on loopback.
    #[arg(long, hide = true)]
    insecure_dev: bool,
    /// Write every encoded input to this folder, unmasked.
    #[arg(long, hide = true, value_name = "DIR")]
    dev_dump: Option<PathBuf>,
    /// Fall silent before these messages, such as 3:ShareKeys,7:MaskedInput.
    #[arg(long, hide = true, value_name = "ROUND:STEP,...", value_delimiter = ',')]
    dev_vanish: Vec<Vanish>,
    /// Train on part I of N of a Dirichlet split of the rows.
    #[arg(long, hide = true, value_name = "I/N/ALPHA/SEED")]
    dev_split: Option<Split>,
    /// Cheat in every round: scale10, mismatch, garbled or replayed.
    #[arg(long, hide = true, value_name = "ATTACK")]
    dev_attack: Option<Attack>,
}

/// A round, and the step before whose message the site falls silent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vanish(u64, Step);

/// One site's part of a split; parts count from 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    part: usize,
    split: DirichletSplit,
}

impl Dev {
    /// What is asked for, if anything is and it is allowed here.
    pub(crate) fn check(&self, folder: &Path) -> Result<Option<DevOptions>, Failure> {
        let asked = [
            ("--dev-dump", self.dev_dump.is_some()),
            ("--dev-vanish", !self.dev_vanish.is_empty()),
            ("--dev-split", self.dev_split.is_some()),
            ("--dev-attack", self.dev_attack.is_some()),
        ];
        let Some(&(option, _)) = asked.iter().find(|(_, asked)| *asked) else { return Ok(None) };
        if !self.insecure_dev {
            return Err(Failure::NeedsInsecureDev(option));
        }
        let url = Settings::load(folder)?.url;
        if !is_loopback(&url) {
            return Err(Failure::NotLoopback { url: url.as_str().to_owned() });
        }
        let vanish = self.dev_vanish.iter().map(|&Vanish(round, step)| (round, step)).collect();
        Ok(Some(DevOptions { dump: self.dev_dump.clone(), vanish, attack: self.dev_attack }))
    }

    pub(crate) fn split(&self) -> Option<&Split> {
        self.dev_split.as_ref()
    }
}

/// By the name in the URL, which the certificate must hold: what it resolves to can be changed by others.
fn is_loopback(url: &CoordinatorUrl) -> bool {
    let host = url.server_name().to_str();
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Split {
    /// This site's rows.
    pub(crate) fn part_of(&self, rows: &Dataset) -> Result<Dataset, Failure> {
        // With few rows for each, whatever a part of its mean is; a part is never empty.
        let min_rows = self.split.min_rows.min(rows.rows() / (4 * self.split.participants).max(1));
        let parts = DirichletSplit { min_rows, ..self.split }.deal(rows).map_err(Failure::Split)?;
        // The part is below the number of parts since it was parsed.
        Ok(parts.into_iter().nth(self.part).expect("one part for each participant"))
    }
}

impl FromStr for Vanish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            let steps = Step::ALL.map(Step::name).join(", ");
            format!("{text:?} is no ROUND:STEP; rounds count from 1, steps are {steps}")
        };
        let (round, step) = text.split_once(':').ok_or_else(refuse)?;
        let round = round.parse().ok().filter(|&round| round > 0).ok_or_else(refuse)?;
        Ok(Self(round, Step::from_name(step).ok_or_else(refuse)?))
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no I/N/ALPHA/SEED, such as 0/10/0.5/1 for the first of ten parts");
        let parts: Vec<&str> = text.split('/').collect();
        let [part, participants, alpha, seed] = parts[..] else { return Err(refuse()) };
        let part = part.parse::<usize>().map_err(|_| refuse())?;
        let participants = participants.parse().map_err(|_| refuse())?;
        if part >= participants {
            return Err(format!("there is no part {part} of {participants}: parts count from 0"));
        }
        let alpha = alpha.parse().map_err(|_| refuse())?;
        let seed = seed.parse().map_err(|_| refuse())?;
        Ok(Self { part, split: DirichletSplit { participants, alpha, min_rows: MIN_ROWS, seed } })
    }
}

/// Rows that every part has at least, where there are four times as many: one batch.
const MIN_ROWS: usize = 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn dev(insecure_dev: bool) -> Dev {
        Dev { insecure_dev, dev_dump: Some("dump".into()), dev_vanish: Vec::new(), dev_split: None, dev_attack: None }
    }

    fn folder(url: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let registrar = "00".repeat(32);
        let settings =
            format!("url = {url:?}\nfederation = \"a.example\"\nid = \"hospital-a\"\nregistrar = {registrar:?}\n");
        std::fs::write(folder.path().join("participant.toml"), settings).unwrap();
        folder
    }

    #[test]
    fn what_weakens_needs_the_flag_and_loopback() {
        let near = folder("https://localhost:8443");
        assert!(matches!(dev(false).check(near.path()), Err(Failure::NeedsInsecureDev("--dev-dump"))));
        assert!(dev(true).check(near.path()).unwrap().is_some());
        for address in ["https://127.0.0.1:8443", "https://[::1]:8443"] {
            assert!(dev(true).check(folder(address).path()).unwrap().is_some(), "{address}");
        }
        for address in ["https://sordino.example:8443", "https://10.0.0.1", "https://localhost.example"] {
            let refused = dev(true).check(folder(address).path());
            assert!(matches!(refused, Err(Failure::NotLoopback { .. })), "{address}");
        }
        let nothing =
            Dev { insecure_dev: true, dev_dump: None, dev_vanish: Vec::new(), dev_split: None, dev_attack: None };
        assert!(nothing.check(Path::new("/nowhere")).unwrap().is_none());
    }

    #[test]
    fn steps_and_splits_are_read_strictly() {
        assert_eq!("3:ShareKeys".parse(), Ok(Vanish(3, Step::ShareKeys)));
        for bad in ["", "3", "0:ShareKeys", "3:sharekeys", "3:ShareKeys:", "-1:Unmasking"] {
            assert!(bad.parse::<Vanish>().is_err(), "{bad:?}");
        }
        let first: Split = "0/10/0.5/1".parse().unwrap();
        assert_eq!((first.part, first.split.participants, first.split.seed), (0, 10, 1));
        for bad in ["", "10/10/0.5/1", "0/10/0.5", "0/10/0.5/1/2", "x/10/0.5/1", "0/0/0.5/1"] {
            assert!(bad.parse::<Split>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_parts_are_the_whole() {
        let (train, _) = Dataset::digits();
        let rows = |part: usize| format!("{part}/4/0.5/7").parse::<Split>().unwrap().part_of(&train).unwrap().rows();
        assert_eq!((0..4).map(rows).sum::<usize>(), train.rows());
    }
}
