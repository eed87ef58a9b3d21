//! What is published of a round, exported and checked again by somebody who trusts nothing but a root certificate.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use common::{Ran, service::Federation, sordino_in};
use sordino_codec::{Dtype, Layout, TensorSpec, Tensors};
use sordino_participant::{
    TrainOptions, train,
    training::{RoundInfo, TrainError, Trained, Trainer},
};
use sordino_wire::{Digest, TaskId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const SITES: [&str; 3] = ["hospital-a", "hospital-b", "hospital-c"];
const VALUES: usize = 50;

/// Moves every value by so much.
struct Shift(f32);

impl Trainer for Shift {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainError> {
        let tensors = model.plus(&[self.0; VALUES]).unwrap();
        Ok(Trained { tensors, num_examples: 9, metrics: BTreeMap::from([("correct".to_owned(), 3.0)]) })
    }
}

fn policy(proof: &str) -> String {
    format!(
        "[task]\nname = \"published\"\nrounds = 1\n\
         [cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\nmax_corrupt_fraction = 0.0\n\
         [privacy]\nenabled = false\n[robustness]\nproof = \"{proof}\"\n\
         [[encoding.metrics]]\nname = \"correct\"\nmax = 100.0\n\
         [timing]\ngather = 10.0\nparticipant_timeout = 20.0\nround_timeout = 30.0\nstep_timeout = 10.0\n"
    )
}

fn model() -> Vec<u8> {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    Tensors::new(layout, vec![0.0; VALUES]).unwrap().to_safetensors()
}

/// A federation whose three sites have finished the one round of a task.
async fn trained(federation: &Federation, home: &Path, task: &TaskId) {
    trained_for(1, federation, home, task).await;
}

async fn trained_for(rounds: u64, federation: &Federation, home: &Path, task: &TaskId) {
    let running = SITES.iter().zip([0.1, 0.2, 0.3]).map(|(site, shift)| {
        let folder = home.join(site);
        let options = TrainOptions { folder, task: Some(task.clone()), rounds: None, policy: None, dev: None };
        tokio::spawn(train(options, Box::new(Shift(shift)), std::future::pending()))
    });
    for site in running.collect::<Vec<_>>() {
        assert_eq!(site.await.unwrap().unwrap().finished, rounds);
    }
    assert_eq!(federation.ended_round(task, rounds).await.release.unwrap().survivors.len(), 3);
}

fn json(ran: &Ran) -> serde_json::Value {
    ran.ended(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Changes a byte of a file of an export; what `verify` then says.
fn with_a_byte_changed(home: &Path, file: &str, at: usize) -> String {
    let path = home.join("exported").join(file);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let at = at.min(changed.len() - 1);
    changed[at] ^= 1;
    fs::write(&path, changed).unwrap();
    let ran = sordino_in(home, &["round", "verify", "exported"]);
    fs::write(&path, whole).unwrap();
    ran.ended(1);
    assert!(ran.stdout.is_empty(), "nothing is said to fit: {}", ran.stdout);
    ran.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_round_is_verified_from_files_alone() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    for site in SITES {
        federation.join(site).await;
    }
    let task = federation.create_task(&policy("transparent"), &model());
    trained(&federation, home, &task).await;
    let round = format!("{task}.1");
    federation.run(&["round", "export", &round, "--out", "exported"]);
    let twice = ["round", "export", &round, "--out", "exported", "--as", "fed/admin", "--server", &federation.url];
    sordino_in(home, &twice).ended(1);
    let live = sordino_in(home, &["round", "verify", &round, "--as", SITES[1]]);
    live.ended(0);
    assert!(live.stdout.contains("in the folder of --as") && live.stdout.contains("verified: "), "{}", live.stdout);

    // Who audits may not read models: what is left is checked, and what is missing is said.
    let auditor = ["--as", "fed/auditor", "--server", &federation.url];
    let exported = sordino_in(home, &[&["round", "export", &round, "--out", "audited"], &auditor[..]].concat());
    exported.ended(0);
    assert!(exported.stderr.contains("is left out"), "{}", exported.stderr);
    let root = fs::read_to_string(home.join("audited/root.pem")).unwrap();
    assert_eq!(root, fs::read_to_string(home.join("fed/keys/root.pem")).unwrap());
    drop(federation);

    // From here on there is no coordinator.
    let names: BTreeSet<String> = fs::read_dir(home.join("exported"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        "export.json",
        "group-0.evidence",
        "group-0.sum.i64",
        "model-after.safetensors",
        "model-before.safetensors",
        "policy.json",
        "root.pem",
        "round.json",
        "sum.i64",
    ];
    assert!(names.iter().eq(expected), "{names:?}");
    for name in &names {
        let content = fs::read(home.join("exported").join(name)).unwrap();
        assert!(!content.windows(11).any(|window| window == b"PRIVATE KEY"), "{name}");
    }
    let verified = sordino_in(home, &["round", "verify", "exported"]);
    verified.ended(0);
    for part in ["compare it with one that you trust", "3 inputs, 3 proofs verified", "moved by the sum", "verified: "]
    {
        assert!(verified.stdout.contains(part), "{part}: {}", verified.stdout);
    }
    let told =
        json(&sordino_in(home, &["round", "verify", "exported", "--root", "fed/keys/root.pem", "--output", "json"]));
    assert_eq!((&told["bounds_verified"], &told["root_from"]), (&true.into(), &"option".into()));
    assert_eq!(told["bounds"]["groups"][0]["inputs"].as_array().unwrap().len(), 3);
    let policy = fs::read(home.join("exported/policy.json")).unwrap();
    assert_eq!(told["policy"], Digest::of(&policy).to_string());
    let without_models = json(&sordino_in(home, &["round", "verify", "audited", "--output", "json"]));
    assert_eq!(
        (&without_models["bounds_verified"], &without_models["model_recomputed"]),
        (&true.into(), &false.into())
    );

    for (file, at, says) in [
        ("sum.i64", 17, "the sum is "),
        ("group-0.sum.i64", 8, "the sum of group 0 is "),
        ("group-0.evidence", 0, "the evidence of group 0 is "),
        ("group-0.evidence", 5_000, "the evidence of group 0 is "),
        ("group-0.evidence", usize::MAX, "the evidence of group 0 is "),
        ("model-before.safetensors", usize::MAX, "the model before the round is "),
        ("model-after.safetensors", usize::MAX, "the model after the round is "),
        ("policy.json", 20, "the policy is "),
    ] {
        let said = with_a_byte_changed(home, file, at);
        assert!(said.contains(says), "{file} {at}: {said}");
    }

    // Somebody who changes the sum and every digest of it still has not what opens the commitments.
    let mut sum = fs::read(home.join("exported/sum.i64")).unwrap();
    let before = Digest::of(&sum).to_string();
    sum[8] ^= 1;
    let path = home.join("exported/round.json");
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, manifest.replace(&before, &Digest::of(&sum).to_string())).unwrap();
    fs::write(home.join("exported/sum.i64"), &sum).unwrap();
    fs::write(home.join("exported/group-0.sum.i64"), &sum).unwrap();
    let lying = sordino_in(home, &["round", "verify", "exported"]);
    lying.ended(1);
    assert!(lying.stderr.contains("not that of the inputs that were proven"), "{}", lying.stderr);

    // Another federation of the same name has another root.
    let init = ["init", "twin", "--federation", "test.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
    sordino_in(home, &init).ended(0);
    let twin = sordino_in(home, &["round", "verify", "audited", "--root", "twin/keys/root.pem"]);
    twin.ended(1);
    assert!(twin.stderr.contains("the certificate of hospital-a"), "{}", twin.stderr);
    let foreign =
        ["init", "foreign", "--federation", "other.example", "--name", "localhost", "--listen", "127.0.0.1:0"];
    sordino_in(home, &foreign).ended(0);
    sordino_in(home, &["round", "verify", "audited", "--root", "foreign/keys/root.pem"]).ended(1);
    let nothing = sordino_in(home, &["round", "verify", &round]);
    nothing.ended(2);
    assert!(nothing.stderr.contains("hint: give a folder"), "{}", nothing.stderr);
}

/// A site that has found a Release not to hold says how its owner lets it go on, and goes on then.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_in_doubt_goes_on_by_its_owners_word() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    federation.join(SITES[0]).await;
    let task = federation.create_task(&policy("transparent"), &model());
    let round = format!("{task}.1");
    fs::create_dir(home.join(SITES[0]).join("state")).unwrap();
    let doubted = serde_json::json!({ "doubted": { &round: { "reason": "the sum is another one", "at": 1 } } });
    fs::write(home.join(SITES[0]).join("state/releases.json"), doubted.to_string()).unwrap();
    fs::write(home.join("rows.csv"), "split,label,x\ntrain,0,1\ntrain,1,2\n").unwrap();
    let stopped = sordino_in(home, &["train", SITES[0], "--data", "rows.csv"]);
    stopped.ended(1);
    assert!(stopped.stderr.contains("the sum is another one"), "{}", stopped.stderr);
    let command = format!("sordino round accept --site {} --reason TEXT {round}", SITES[0]);
    assert!(stopped.stderr.contains(&command), "{}", stopped.stderr);
    let accept = ["round", "accept", "--site", SITES[0], "--reason", "we have asked", &round];
    let accepted = sordino_in(home, &accept);
    accepted.ended(0);
    assert!(accepted.stdout.contains("the sum is another one"), "{}", accepted.stdout);
    let again = sordino_in(home, &accept);
    again.ended(1);
    assert!(again.stderr.contains("has nothing against"), "{}", again.stderr);
    let kept = fs::read_to_string(home.join(SITES[0]).join("state/releases.json")).unwrap();
    assert!(kept.contains("we have asked"), "{kept}");
}

/// Where inputs carry no proof, the arithmetic is checked, and nothing is called verified.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_without_proofs_is_not_called_verified() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    for site in SITES {
        federation.join(site).await;
    }
    let task = federation.create_task(&policy("none"), &model());
    trained(&federation, home, &task).await;
    federation.run(&["round", "export", &format!("{task}.1"), "--out", "exported"]);
    let checked = sordino_in(home, &["round", "verify", "exported"]);
    checked.ended(0);
    assert!(checked.stdout.contains("the policy asks for no norm proofs"), "{}", checked.stdout);
    assert!(checked.stdout.contains("moved by the sum") && !checked.stdout.contains("verified"), "{}", checked.stdout);
    let told = json(&sordino_in(home, &["round", "verify", "exported", "--output", "json"]));
    assert_eq!((&told["bounds_verified"], &told["bounds"]), (&false.into(), &serde_json::Value::Null));
    assert!(with_a_byte_changed(home, "sum.i64", 0).contains("the sum is "));
    let path = home.join("exported/round.json");
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, manifest.replace("\"weight\": 27", "\"weight\": 26")).unwrap();
    let lying = sordino_in(home, &["round", "verify", "exported"]);
    lying.ended(1);
    assert!(lying.stderr.contains("a weight of 26, and 27 follows"), "{}", lying.stderr);
}

/// What an optimiser remembers is exported with the round, and counts when the model is computed again; it is no more than the
/// sums say, so that an auditor may read it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exported_round_has_what_its_optimiser_remembers() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let federation = Federation::found(home, &[]).await;
    for site in SITES {
        federation.join(site).await;
    }
    let adam = policy("none").replace("rounds = 1", "rounds = 2\nstrategy = \"FedAdam\"");
    let task = federation.create_task(&adam, &model());
    trained_for(2, &federation, home, &task).await;
    let round = format!("{task}.2");
    federation.run(&["round", "export", &round, "--out", "exported"]);
    let auditor = ["--as", "fed/auditor", "--server", &federation.url];
    sordino_in(home, &[&["round", "export", &round, "--out", "audited"], &auditor[..]].concat()).ended(0);
    let first = federation.ended_round(&task, 1).await.release.unwrap().optimizer.unwrap();
    drop(federation);
    let verified = sordino_in(home, &["round", "verify", "exported"]);
    verified.ended(0);
    for part in ["moved by the sum", &format!("began with state {}", first.after)] {
        assert!(verified.stdout.contains(part), "{part}: {}", verified.stdout);
    }
    let audited = json(&sordino_in(home, &["round", "verify", "audited", "--output", "json"]));
    assert_eq!(
        (&audited["model_recomputed"], &audited["optimizer"]["before"]),
        (&false.into(), &first.after.to_string().into())
    );
    for (file, said) in [
        ("state-before.safetensors", "the optimiser's state before the round is "),
        ("state-after.safetensors", "the optimiser's state after the round is "),
        ("policy.json", "the policy is "),
    ] {
        let stderr = with_a_byte_changed(home, file, usize::MAX);
        assert!(stderr.contains(said), "{file}: {stderr}");
    }
    // Without it the model is not said to follow.
    fs::remove_file(home.join("exported/state-before.safetensors")).unwrap();
    let without = json(&sordino_in(home, &["round", "verify", "exported", "--output", "json"]));
    assert_eq!(without["model_recomputed"], false);
}
