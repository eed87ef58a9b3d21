//! A site for tests: joined in a folder of its own, with a trainer whose update is known.

use super::common::TestFederation;
use sordino_codec::Tensors;
use sordino_identity::{KeyType, PrincipalId, Role};
use sordino_participant::{
    DevOptions, SiteStanding, Summary, TrainError, TrainOptions,
    attack::Attack,
    site_standing,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_secagg::Step;
use sordino_wire::{Digest, RoundId, TaskId, api::Round};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A site that has joined.
pub struct Site {
    pub number: u8,
    pub id: PrincipalId,
    folder: TempDir,
}

/// Moves every value by the site's number in hundredths.
struct Shift(u8);

impl Trainer for Shift {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        let update = vec![f32::from(self.0) / 100.0; model.values().len()];
        Ok(Trained {
            tensors: model.plus(&update).expect("finite"),
            num_examples: u64::from(self.0) + 1,
            metrics: BTreeMap::from([("loss_sum".to_owned(), f64::from(self.0))]),
        })
    }
}

impl Site {
    pub async fn join(federation: &TestFederation, number: u8) -> Self {
        Self::join_with(federation, number, KeyType::Ed25519).await
    }

    /// The same, with a key of this kind.
    pub async fn join_with(federation: &TestFederation, number: u8, key_type: KeyType) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id: PrincipalId = format!("site-{number:04}").parse().unwrap();
        let invitation = federation.invite(id.as_str(), Role::Client, 600).await;
        sordino_participant::join(folder.path(), &invitation, &id, Some(key_type)).await.unwrap();
        fs::create_dir(folder.path().join("dump")).unwrap();
        Self { number, id, folder }
    }

    /// The coordinator has come back at another address.
    pub fn moved_to(&self, url: &str) {
        self.set("url", &format!("{url:?}"));
    }

    /// Changes a setting, or adds it.
    pub fn set(&self, key: &str, value: &str) {
        let path = self.folder.path().join("participant.toml");
        let text = fs::read_to_string(&path).unwrap();
        let others = text.lines().filter(|line| line.split_once(" = ").is_none_or(|(name, _)| name != key));
        let set = format!("{key} = {value}");
        fs::write(&path, others.chain([&*set]).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// A bit of what counts its sums flips on its disk.
    pub fn damage_exposure(&self) {
        let path = self.folder.path().join("state/exposure.sealed");
        let mut record = fs::read(&path).unwrap();
        record[40] ^= 1;
        fs::write(&path, record).unwrap();
    }

    /// What its own ledger says. Not while it trains: then the ledger is in use.
    pub fn standing(&self) -> SiteStanding {
        site_standing(self.folder.path()).unwrap()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wants to see of the rounds that it took part in, as it stands on its disk.
    pub fn releases(&self) -> serde_json::Value {
        let kept = fs::read(self.folder().join("state/releases.json")).unwrap_or_else(|_| b"{}".to_vec());
        serde_json::from_slice(&kept).unwrap()
    }

    /// Whether it still waits for the Release of a round.
    pub fn awaits(&self, round: &RoundId) -> bool {
        self.releases()["awaited"].get(round.to_string()).is_some()
    }

    /// Puts that back as it was. Not while it trains.
    pub fn set_releases(&self, releases: &serde_json::Value) {
        fs::write(self.folder().join("state/releases.json"), releases.to_string()).unwrap();
    }

    fn dump(&self) -> PathBuf {
        self.folder.path().join("dump")
    }

    /// Takes part until the task ends; with `vanish`, until that round and step.
    pub fn train(
        &self,
        task: &TaskId,
        vanish: Option<(u64, Step)>,
    ) -> impl Future<Output = Result<Summary, TrainError>> + Send + 'static {
        self.train_by(Box::new(Shift(self.number)), task, vanish)
    }

    /// The same, with another trainer.
    pub fn train_by(
        &self,
        trainer: Box<dyn Trainer>,
        task: &TaskId,
        vanish: Option<(u64, Step)>,
    ) -> impl Future<Output = Result<Summary, TrainError>> + Send + 'static {
        self.train_under(None, trainer, task, vanish)
    }

    /// The same, under no other policy than this one.
    pub fn train_under(
        &self,
        policy: Option<Digest>,
        trainer: Box<dyn Trainer>,
        task: &TaskId,
        vanish: Option<(u64, Step)>,
    ) -> impl Future<Output = Result<Summary, TrainError>> + Send + 'static {
        let options = TrainOptions { policy, ..self.options(task, vanish) };
        sordino_participant::train(options, trainer, std::future::pending())
    }

    /// Takes part until it has finished so many rounds.
    pub fn train_for(
        &self,
        rounds: u64,
        trainer: Box<dyn Trainer>,
        task: &TaskId,
    ) -> impl Future<Output = Result<Summary, TrainError>> + Send + 'static {
        let options = TrainOptions { rounds: Some(rounds), ..self.options(task, None) };
        sordino_participant::train(options, trainer, std::future::pending())
    }

    /// Takes part until the task ends, and cheats.
    pub fn cheat(
        &self,
        attack: Attack,
        task: &TaskId,
    ) -> impl Future<Output = Result<Summary, TrainError>> + Send + 'static {
        let mut options = self.options(task, None);
        options.dev = options.dev.map(|dev| DevOptions { attack: Some(attack), ..dev });
        sordino_participant::train(options, Box::new(Shift(self.number)), std::future::pending())
    }

    fn options(&self, task: &TaskId, vanish: Option<(u64, Step)>) -> TrainOptions {
        TrainOptions {
            folder: self.folder.path().to_owned(),
            task: Some(task.clone()),
            rounds: None,
            policy: None,
            dev: Some(DevOptions { dump: Some(self.dump()), vanish: vanish.into_iter().collect(), attack: None }),
        }
    }

    /// What the site encoded for a round's attempt.
    pub fn encoded(&self, round: &Round) -> Vec<i64> {
        let name = format!("{}.{}.{}.i64", round.id.number, round.attempt, self.id);
        integers(&fs::read(self.dump().join(name)).unwrap())
    }
}

pub fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// The sum of what a round's survivors encoded.
pub fn plain_sum(sites: &[Site], round: &Round) -> Vec<i64> {
    let survivors = &round.release.as_ref().unwrap().survivors;
    let inputs: Vec<_> =
        sites.iter().filter(|site| survivors.contains(&site.id)).map(|site| site.encoded(round)).collect();
    assert_eq!(inputs.len(), survivors.len());
    (0..inputs[0].len()).map(|at| inputs.iter().map(|input| input[at]).sum()).collect()
}
