//! A site's own budget, as its owner sees and changes it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{Ran, command, service::Federation, sordino_in};
use sordino_codec::{Dtype, Layout, TensorSpec, Tensors};
use sordino_participant::{
    Summary, TrainError, TrainOptions, train,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::{TaskId, api::BudgetEntry};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const SITES: [&str; 3] = ["hospital-a", "hospital-b", "hospital-c"];
const VALUES: usize = 50;

/// Learns nothing.
struct Zero;

impl Trainer for Zero {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        Ok(Trained { tensors: model.clone(), num_examples: 9, metrics: BTreeMap::new() })
    }
}

fn policy(population: &str, noise_multiplier: f64, total_epsilon: f64) -> String {
    format!(
        "[task]\nname = \"reset\"\nrounds = 3\n\
         [cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\nmax_corrupt_fraction = 0.0\n\
         [privacy]\nunit = \"participant\"\nnoise_multiplier = {noise_multiplier:?}\n\
         total_epsilon = {total_epsilon:?}\npopulation = \"{population}\"\n\
         [timing]\ngather = 10.0\nparticipant_timeout = 20.0\nround_timeout = 30.0\nstep_timeout = 10.0\n"
    )
}

fn model() -> Vec<u8> {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    Tensors::new(layout, vec![0.0; VALUES]).unwrap().to_safetensors()
}

/// Lets every site finish one round, or fail.
async fn round(folders: &[PathBuf], task: &TaskId) -> Vec<Result<Summary, TrainError>> {
    let running = folders.iter().map(|folder| {
        let options =
            TrainOptions { folder: folder.clone(), task: Some(task.clone()), rounds: Some(1), policy: None, dev: None };
        tokio::spawn(train(options, Box::new(Zero), std::future::pending()))
    });
    let mut ended = Vec::new();
    for site in running.collect::<Vec<_>>() {
        ended.push(site.await.unwrap());
    }
    ended
}

/// The owner of a site writes another limit into its settings.
fn limit(folder: &Path, epsilon: f64) {
    let path = folder.join("participant.toml");
    let text = fs::read_to_string(&path).unwrap();
    let set = |line: &str| {
        let ours = line.starts_with("max_epsilon = ");
        if ours { format!("max_epsilon = {epsilon:?}\n") } else { format!("{line}\n") }
    };
    fs::write(&path, text.lines().map(set).collect::<String>()).unwrap();
}

/// A limit that was changed after the first charge holds once a reset says who wanted that and why; until then nothing is
/// trained, and the way out is named. What was spent stays spent: a limit below it stops the site, a higher one lets it go on
/// from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_changes_its_limit_by_a_reset_that_forgets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    let mut folders = Vec::new();
    for site in SITES {
        folders.push(federation.join(site).await);
    }
    let site = |arguments: &[&str]| -> Ran { sordino_in(home, &[arguments, &["--site", SITES[0]]].concat()) };
    let show = || -> serde_json::Value {
        let ran = site(&["budget", "show", "--output", "json"]);
        ran.ended(0);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let reset = |reason: &str| {
        for site in SITES {
            sordino_in(home, &["budget", "reset", "--site", site, "--by", "ada", "--reason", reason]).ended(0);
        }
    };

    // Before there is an account there is nothing to reset.
    let early = site(&["budget", "reset", "--by", "ada", "--reason", "too early"]);
    early.ended(1);
    assert!(early.stderr.contains("hold without a reset"), "{}", early.stderr);
    assert_eq!(site(&["budget", "history", "--output", "json"]).stdout.trim(), "[]");

    let task = federation.create_task(&policy("wards", 3.0, 9.0), &model());
    assert!(round(&folders, &task).await.into_iter().all(|ended| ended.unwrap().finished == 1));
    let first = show();
    let spent = first["participant"]["spent"].as_f64().unwrap();
    assert!(spent > 1.0 && first["participant"]["charges"] == 1 && first["record"]["charges"] == 0, "{first}");

    // Until there is a word of the owner's, the ledger and the settings contradict each other.
    let low = spent / 2.0;
    folders.iter().for_each(|folder| limit(folder, low));
    let refused = site(&["budget", "show"]);
    refused.ended(1);
    assert!(refused.stderr.contains("`sordino budget reset --site hospital-a --reason TEXT`"), "{}", refused.stderr);
    let cheap = federation.create_task(&policy("others", 30.0, 0.5), &model());
    for (ended, folder) in round(&folders, &cheap).await.into_iter().zip(&folders) {
        let error = ended.expect_err("the ledger has another limit");
        assert!(matches!(error, TrainError::OtherBudget { .. }), "{error}");
        let way_out = format!("`sordino budget reset --site {} --reason TEXT`", folder.display());
        assert!(error.to_string().contains(&way_out), "{error}");
    }

    // Below what is spent: not even a cheap round of another population is paid for.
    reset("no more of this");
    let lowered = show();
    assert_eq!((&lowered["participant"], &lowered["total"]), (&first["participant"], &low.into()));
    for ended in round(&folders, &cheap).await {
        let error = ended.expect_err("more than that is spent");
        assert!(matches!(error, TrainError::BudgetSpent { .. }), "{error}");
    }

    // Higher again: the second round is paid for on top of the first one.
    folders.iter().for_each(|folder| limit(folder, 9.5));
    reset("the board allows 9.5");
    // Nobody is named: whoever runs it.
    let mut unnamed = command(home, &["budget", "reset", "--site", SITES[0], "--reason", "to see who"]);
    let unnamed = unnamed.env("USER", "grace").output().unwrap();
    assert!(unnamed.status.success(), "{}", String::from_utf8_lossy(&unnamed.stderr));
    assert!(round(&folders, &task).await.into_iter().all(|ended| ended.unwrap().finished == 1));
    let second = show();
    assert_eq!((&second["participant"]["charges"], &second["total"]), (&2.into(), &9.5.into()));
    assert!(second["participant"]["spent"].as_f64().unwrap() > spent * 1.3, "{second}");

    let history = site(&["budget", "history", "--output", "json"]);
    history.ended(0);
    let history: Vec<BudgetEntry> = serde_json::from_str(&history.stdout).unwrap();
    let told: Vec<_> = history.iter().map(|entry| (&*entry.what, entry.budget.as_deref(), &*entry.detail)).collect();
    let account = Some("hospital-a/participant/1");
    assert_eq!(told[0], ("opened", account, "epsilon 10 at delta 1e-5"));
    let resets: Vec<_> = told.iter().filter(|(what, ..)| *what == "reset").collect();
    assert_eq!(resets.len(), 3);
    assert_eq!(*resets[1], ("reset", account, "epsilon 9.5 at delta 1e-5, by ada: the board allows 9.5"));
    let who = format!("by grace (uid {}): to see who", rustix::process::getuid().as_raw());
    assert!(resets[2].2.ends_with(&who), "{:?}", resets[2]);
    assert_eq!(told.iter().filter(|(what, ..)| *what == "reserved").count(), 2);
    let text = site(&["budget", "history"]);
    assert!(text.stdout.contains("by ada: no more of this"), "{}", text.stdout);
}
