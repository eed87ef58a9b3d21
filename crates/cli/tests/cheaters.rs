//! Federations some of whose sites cheat, over TLS, with the coordinator as a process of its own: every round comes to a sum,
//! exactly that of the honest, and who cheats is named.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod common;

use common::{
    service::{Federation, Service, until},
    sordino_in,
};
use sordino_codec::{Dtype, Layout, TensorSpec, Tensors};
use sordino_participant::{
    DevOptions, Summary, TrainError, TrainOptions,
    attack::Attack,
    train,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::{
    Digest, TaskId,
    api::{Release, Round, RoundState, Task},
};
use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};
use tokio::task::JoinHandle;

/// Moves every value, up and down in turn, as far as its size says.
struct Shift {
    size: f32,
    values: usize,
}

impl Trainer for Shift {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        let update: Vec<f32> = (0..self.values).map(|at| if at % 3 == 0 { -self.size } else { self.size }).collect();
        let tensors = model.plus(&update).unwrap();
        Ok(Trained { tensors, num_examples: 5, metrics: Default::default() })
    }
}

fn policy(rounds: u64, target: usize, gather: f64) -> String {
    format!(
        "[task]\nname = \"cheaters\"\nrounds = {rounds}\n\
         [cohort]\nmin = 3\ntarget = {target}\nmax_dropout_fraction = 0.2\n\
         [privacy]\nenabled = false\nclip_norm = 4.0\n[robustness]\nproof = \"transparent\"\n[encoding]\nmax_weight = 10\n\
         [timing]\ngather = {gather:?}\nparticipant_timeout = 60.0\nround_timeout = 120.0\nstep_timeout = 30.0\nstep_grace = 5.0\n"
    )
}

fn model(values: usize) -> Vec<u8> {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![values], Dtype::F32).unwrap()], values).unwrap();
    Tensors::new(layout, vec![0.0; values]).unwrap().to_safetensors()
}

/// A federation in the middle of a task.
struct Cast {
    federation: Federation,
    task: TaskId,
    names: Vec<String>,
    running: Vec<JoinHandle<Result<Summary, TrainError>>>,
    values: usize,
}

impl Cast {
    /// So many sites, the last ones with these attacks, all of them training.
    async fn begin(home: &Path, policy: &str, values: usize, count: usize, attacks: &[Attack]) -> Self {
        let federation = Federation::found(home, &[]).await;
        let task = federation.create_task(policy, &model(values));
        let dump = home.join("inputs");
        fs::create_dir(&dump).unwrap();
        let names: Vec<_> = (0..count).map(|number| format!("hospital-{number:02}")).collect();
        let mut running = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let folder = federation.join(name).await;
            let attack = number.checked_sub(count - attacks.len()).map(|at| attacks[at]);
            let dev = Some(DevOptions { dump: Some(dump.clone()), vanish: Vec::new(), attack });
            let options = TrainOptions { folder, task: Some(task.clone()), rounds: None, policy: None, dev };
            let size = (1.0 + f32::from(u8::try_from(number).unwrap())) / 4096.0;
            let trainer = Box::new(Shift { size, values });
            running.push(tokio::spawn(train(options, trainer, std::future::pending())));
        }
        Self { federation, task, names, running, values }
    }

    /// A round that is complete, and whose sum is exactly that of what its survivors have encoded.
    async fn complete(&self, number: u64) -> (Round, Release) {
        let round = self.federation.ended_round(&self.task, number).await;
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let release = round.release.clone().unwrap();
        let path = format!("/v1/rounds/{}/sum", round.id);
        let sum = until("the sum", async || self.federation.admin.get_bytes(&path, 8 << 20).await.ok()).await;
        assert_eq!(Digest::of(&sum), release.sum);
        let mut plain = vec![0i64; self.values + 1];
        for site in &release.survivors {
            let input = format!("inputs/{number}.{}.{site}.i64", round.attempt);
            let input = fs::read(self.federation.home.join(input)).unwrap();
            let (values, []) = input.as_chunks::<8>() else { panic!("{site} wrote no integers") };
            plain.iter_mut().zip(values).for_each(|(sum, value)| *sum += i64::from_le_bytes(*value));
        }
        let plain: Vec<u8> = plain.into_iter().flat_map(i64::to_le_bytes).collect();
        assert!(plain == sum, "the sum of round {number} is that of its inputs");
        (round, release)
    }

    /// Who was found to spoil sums, and is left out of the task.
    async fn left_out(&self) -> Vec<String> {
        let path = format!("/v1/tasks/{}", self.task);
        let task: Task = until("the task", async || self.federation.admin.get(&path).await.ok()).await;
        task.left_out.keys().map(ToString::to_string).collect()
    }
}

/// One site of each kind among ten: who sends a bad proof is named in each round, at once; whose input is not the one it has
/// committed to is isolated. What is released can be verified from files, and is not any more with one byte changed.
#[tokio::test(flavor = "multi_thread")]
async fn one_cheater_of_each_kind_among_ten() {
    const ROUNDS: u64 = 10;
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let attacks = [Attack::Scale10, Attack::Garbled, Attack::Replayed, Attack::Mismatch];
    let cast = Cast::begin(home, &policy(ROUNDS, 10, 2.0), 100_000, 10, &attacks).await;
    let [bad @ .., spoiler] = &cast.names[6..] else { unreachable!("four of them cheat") };
    let mut isolated = None;
    for number in 1..=ROUNDS {
        let (round, release) = cast.complete(number).await;
        let survivors: Vec<_> = release.survivors.iter().map(ToString::to_string).collect();
        assert!(survivors.iter().all(|site| !bad.contains(site) && site != spoiler), "{release:?}");
        let refused: Vec<_> = release.refused.keys().map(ToString::to_string).collect();
        assert_eq!(refused, bad, "{release:?}");
        for check in round.checks.iter().filter(|check| !check.passed) {
            assert!(check.survivors.iter().any(|site| site.as_str() == spoiler), "{:?}", round.checks);
        }
        if cast.left_out().await.contains(spoiler) {
            isolated = Some(number);
            break;
        }
    }
    let isolated = isolated.expect("it is isolated within ten rounds");
    if isolated < ROUNDS {
        let (round, release) = cast.complete(isolated + 1).await;
        let proof = release.proof.as_ref().unwrap();
        assert_eq!((round.attempt, proof.groups.len(), release.survivors.len()), (1, 1, 6), "{release:?}");
    }
    assert_eq!(cast.left_out().await, [spoiler.as_str()], "nobody else was taken for it");

    // The round with the failed check, from files alone: it is what it says, and with one byte changed it is not.
    let round = format!("{}.{isolated}", cast.task);
    cast.federation.run(&["round", "export", &round, "--out", "exported"]);
    let verify = || sordino_in(home, &["round", "verify", "exported", "--root", "fed/keys/root.pem"]);
    let verified = verify();
    verified.ended(0);
    assert!(verified.stdout.contains("verified"), "{}", verified.stdout);
    for file in ["sum.i64", "group-0.sum.i64", "group-1.sum.i64"] {
        let path = home.join("exported").join(file);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        bytes[77_777] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = verify();
        refused.ended(1);
        assert!(refused.stdout.is_empty(), "{file}: {}", refused.stdout);
        bytes[77_777] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    verify().ended(0);
    cast.running.iter().for_each(JoinHandle::abort);
}

/// The coordinator is killed again and again while inputs are refused, a sum is spoiled, and groups are drawn: it goes on with
/// the same groups, refuses nobody anew, and comes to the sums that it would have come to.
#[tokio::test(flavor = "multi_thread")]
async fn groups_and_refusals_outlive_the_coordinator() {
    // The first five in the attempt of one group that the mismatch spoils, the others in that of several.
    const POINTS: [&str; 9] = [
        "MaskedInput:stored",
        "survivors:signed",
        "opening:opened",
        "ShareKeys:closing",
        "MaskedInput:taken",
        "MaskedInput:stored",
        "ConsistencyCheck:closed",
        "opening:opened",
        "release:made",
    ];
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let arm = |point: &str| {
        fs::write(home.join("arming"), format!("kill {point}")).unwrap();
        fs::rename(home.join("arming"), home.join("crash.coordinator")).unwrap();
    };
    arm(POINTS[0]);
    let attacks = [Attack::Garbled, Attack::Mismatch];
    // Ten are left for the second attempt: of an odd number one would be in neither group, and that could be the one to be
    // found. They are waited for longer than a client that has found the coordinator away waits.
    let mut cast = Cast::begin(home, &policy(1, 11, 4.0), 2_000, 11, &attacks).await;
    for (at, point) in POINTS.iter().enumerate() {
        killed(&mut cast.federation.coordinator, point).await;
        if let Some(next) = POINTS.get(at + 1) {
            arm(next);
        }
        cast.federation.coordinator.start_again();
    }
    let (round, release) = cast.complete(1).await;
    assert_eq!(round.attempt, 2, "{round:?}");
    let refused: Vec<_> = release.refused.keys().map(ToString::to_string).collect();
    assert_eq!(refused, cast.names[9..10]);
    let proof = release.proof.as_ref().unwrap();
    assert!(proof.failed.len() == 1 && !proof.groups.is_empty(), "{proof:?}");
    assert!(proof.failed[0].survivors.iter().any(|site| site.as_str() == cast.names[10]), "{proof:?}");
    assert_eq!(round.checks.iter().filter(|check| check.attempt == 1).count(), 1, "{:?}", round.checks);
    cast.running.iter().for_each(JoinHandle::abort);
}

/// Waits until a process has killed itself.
async fn killed(process: &mut Service, point: &str) {
    let status = until(&format!("killed at {point}"), async || process.ended()).await;
    assert_eq!(status.signal(), Some(9), "{point}: {status}: {}", process.logged());
}
