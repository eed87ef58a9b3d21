//! SIGKILL at every boundary of a message, with real processes: a site and a coordinator kill themselves before a thing is
//! stored, when it is stored and not told yet, and when it is told; they are started again on what they have on disk. Each
//! round ends with the exact sum of all sites, within its attempt.
//!
//! The points are in the binary that is built with `test-util`, and in no other. A part of the tables always runs; all of them
//! do with `cargo xtask test -p sordino --test boundaries -- --ignored`, in half a minute.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

mod common;

use common::service::{Federation, Service, until};
use sordino_codec::{Dtype, Layout, TensorSpec, Tensors};
use sordino_dp::Accountant;
use sordino_participant::{
    DevOptions, Summary, TrainOptions, train,
    training::{RoundInfo, TrainError, Trained, Trainer},
};
use sordino_wire::{
    Digest, Policy, TaskId,
    api::{BudgetEntry, BudgetStanding, Budgets, Page, Round, RoundState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::task::JoinHandle;

/// Where a site dies: what it had made, stored, or sent and seen answered. It is back within the grace of the step, so at each
/// of these points the attempt goes on to a sum of all four sites.
const OF_A_SITE: &[&str] = &[
    "AdvertiseKeys:made",
    "AdvertiseKeys:stored",
    "AdvertiseKeys:sent",
    "ShareKeys:made",
    "ShareKeys:stored",
    "ShareKeys:sent",
    "MaskedInput:made",
    // Where records are protected: paid for, and nothing of it is on disk.
    "MaskedInput:paid",
    // The masked upload is on disk, the state that goes with it is not: the next start masks with the same keys.
    "MaskedInput:upload-stored",
    "MaskedInput:stored",
    // The first of two chunks; then all of them, without the message that stands for them.
    "chunk:sent",
    "MaskedInput:uploaded",
    "MaskedInput:sent",
    "ConsistencyCheck:made",
    "ConsistencyCheck:stored",
    "ConsistencyCheck:sent",
    "Unmasking:made",
    // That shares are revealed is counted, the shares are not stored: counted once all the same.
    "Unmasking:exposed",
    "Unmasking:stored",
    "Unmasking:sent",
    // Before and after the attempt is noted as done with.
    "end:made",
    "end:stored",
];

/// Where the coordinator dies. Of a message: it arrives, counts in memory, is stored, and its sender asks for the next step,
/// so that it has had its answer. Of a step: it is to be closed, that is stored, and the first message of the next arrives,
/// so that somebody was told. It takes up the same attempt at each of these points, and its sum is that of all four sites.
const OF_THE_COORDINATOR_UNTIL_SHARES_ARE_DEALT: &[&str] = &[
    "attempt:gathered",
    "attempt:stored",
    "AdvertiseKeys:announced",
    "AdvertiseKeys:taken",
    "AdvertiseKeys:stored",
    "ShareKeys:awaited",
    "AdvertiseKeys:closing",
    "AdvertiseKeys:closed",
    "roster:signed",
    "roster:stored",
    "ShareKeys:announced",
    "ShareKeys:taken",
    "ShareKeys:stored",
    "MaskedInput:awaited",
    "ShareKeys:closing",
    "ShareKeys:closed",
];
const OF_THE_COORDINATOR_UNTIL_THE_RELEASE: &[&str] = &[
    "chunk:first:taken",
    "chunk:first:stored",
    "chunk:later:taken",
    "chunk:later:stored",
    "MaskedInput:announced",
    "MaskedInput:taken",
    "MaskedInput:stored",
    "ConsistencyCheck:awaited",
    "MaskedInput:closing",
    "MaskedInput:closed",
    "survivors:signed",
    "survivors:stored",
    "ConsistencyCheck:announced",
    "ConsistencyCheck:taken",
    "ConsistencyCheck:stored",
    "Unmasking:awaited",
    "ConsistencyCheck:closing",
    "ConsistencyCheck:closed",
    "Unmasking:announced",
    "Unmasking:taken",
    "Unmasking:stored",
    "Unmasking:answered",
    "Unmasking:closing",
    "Unmasking:closed",
    "opening:begun",
    "opening:stored",
    "opening:opened",
    "release:made",
    "release:stored",
    "release:committed",
    "release:cleaned",
];

/// Where a round that is charged and noised stands when the coordinator dies: paid for and nobody told; the noise drawn and
/// not kept, kept, in a Release that is made, stored, and settled in the ledger.
const OF_A_CHARGED_ROUND: &[&str] = &[
    "attempt:charged",
    "Unmasking:closed",
    "noise:drawn",
    "noise:stored",
    "release:made",
    "release:stored",
    "release:committed",
];
/// Where a site dies around its payment.
const OF_A_PAYMENT: &[&str] =
    &["MaskedInput:made", "MaskedInput:paid", "MaskedInput:upload-stored", "chunk:sent", "MaskedInput:sent"];

/// Where a site dies that has made a proof, and the coordinator that has looked at it: a vector is committed to and proven once,
/// and what was verified counts when it is back.
const OF_A_PROOF: &[&str] = &["AdvertiseKeys:made", "AdvertiseKeys:stored", "MaskedInput:upload-stored", "chunk:sent"];
const WHERE_INPUTS_ARE_PROVEN: &[&str] = &[
    "ShareKeys:stored",
    "MaskedInput:taken",
    "MaskedInput:stored",
    "survivors:signed",
    "opening:opened",
    "release:made",
];
/// Around the step of an optimiser: the sum is open; the step is made and its files are there; it is stored; it is told.
const OF_A_STEP: &[&str] = &["opening:opened", "release:made", "release:stored", "release:committed"];
const PROVEN: &str = "[robustness]\nproof = \"transparent\"\n";

/// The part of each table that always runs: memory has it and the disk does not, or the disk has it and nobody was told.
const ALWAYS_OF_A_SITE: &[&str] = &[
    "AdvertiseKeys:made",
    "AdvertiseKeys:sent",
    "ShareKeys:made",
    "ShareKeys:stored",
    "MaskedInput:upload-stored",
    "chunk:sent",
    "MaskedInput:uploaded",
    "ConsistencyCheck:sent",
    "Unmasking:exposed",
    "end:made",
];
const ALWAYS_OF_THE_COORDINATOR: &[&str] = &[
    "attempt:stored",
    "AdvertiseKeys:closing",
    "roster:signed",
    "ShareKeys:taken",
    "chunk:first:stored",
    "MaskedInput:taken",
    "MaskedInput:stored",
    "survivors:signed",
    "ConsistencyCheck:closed",
    "Unmasking:stored",
    "opening:opened",
    "release:made",
    "release:stored",
];

const SITES: [&str; 4] = ["hospital-a", "hospital-b", "hospital-c", "hospital-d"];
/// The one that has a process of its own.
const MARKED: usize = 0;
/// More than one chunk, and not much more.
const VALUES: usize = 30_000;
const CHUNK_BYTES: &str = "65536";

/// Three of four are enough, so that a site that is away costs nobody the attempt; and who comes back within the grace is
/// in it.
fn policy(rounds: usize) -> String {
    private(rounds, "enabled = false")
}

/// The same with this in its section on privacy.
fn private(rounds: usize, privacy: &str) -> String {
    format!(
        "[task]\nname = \"boundaries\"\nrounds = {rounds}\n\
         [cohort]\nmin = 3\ntarget = 4\nmax_dropout_fraction = 0.25\nmax_corrupt_fraction = 0.0\n\
         [privacy]\n{privacy}\nclip_norm = 4.0\n\
         [encoding]\nmax_weight = 10\n\
         [timing]\ngather = 10.0\nparticipant_timeout = 20.0\nround_timeout = 30.0\nstep_timeout = 10.0\nstep_grace = 8.0\n"
    )
}

fn model() -> Tensors {
    let layout = Layout::new(vec![TensorSpec::new("weight", vec![VALUES], Dtype::F32).unwrap()], VALUES).unwrap();
    let values = (0..VALUES).map(|at| f32::from(u16::try_from(at).unwrap()) / 65_536.0).collect();
    Tensors::new(layout, values).unwrap()
}

/// Adds the same update in every round, once the round may begin: no round does before the test is ready for it.
struct Adds {
    gate: Gate,
    site: usize,
}

/// Files that let rounds begin.
#[derive(Clone)]
struct Gate {
    folder: PathBuf,
    name: &'static str,
}

impl Gate {
    fn open(&self, round: u64) {
        fs::write(self.file(round), "").unwrap();
    }

    /// Waits, and says that it does. Fails when the test is over: its folder is gone.
    fn wait(&self, site: &str, round: u64) -> Result<(), TrainError> {
        // Without the folder it is not told to anybody.
        let _ = fs::write(self.folder.join(format!("{site}.waits.{round}")), "");
        while !self.file(round).exists() {
            if !self.folder.exists() {
                return Err(TrainError::NonFiniteLoss);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn file(&self, round: u64) -> PathBuf {
        self.folder.join(format!("{}.{round}", self.name))
    }
}

impl Trainer for Adds {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainError> {
        self.gate.wait(SITES[self.site], round.round)?;
        let size = f32::from(u8::try_from(self.site).unwrap() + 1) / 256.0;
        let update: Vec<f32> = (0..VALUES).map(|at| if at % 3 == 0 { -size } else { size }).collect();
        let tensors = model.plus(&update).unwrap();
        Ok(Trained { tensors, num_examples: 3 + self.site as u64, metrics: BTreeMap::new() })
    }
}

/// The same for a process: waits for its round, and hands out a model that was prepared. Where records are to be protected it
/// says that they are: there are none.
const TRAINING: &str = "\
: > \"$0/$1.waits.$SORDINO_ROUND\"
while [ ! -e \"$0/marked.$SORDINO_ROUND\" ]; do [ -d \"$0\" ] || exit 1; sleep 0.01; done
cp \"$0/local.safetensors\" \"$SORDINO_UPDATE_OUT\"
if [ -n \"$SORDINO_DP_STEPS\" ]; then
  privacy=\"\\\"example_clip\\\": $SORDINO_DP_EXAMPLE_CLIP, \\\"noise_multiplier\\\": $SORDINO_DP_NOISE_MULTIPLIER\"
  privacy=\"$privacy, \\\"sampling_rate\\\": $SORDINO_DP_SAMPLING_RATE, \\\"steps\\\": $SORDINO_DP_STEPS\"
  echo \"{\\\"num_examples\\\": 7, \\\"privacy\\\": {$privacy}}\" > \"$SORDINO_METRICS_OUT\"
else
  echo '{\"num_examples\": 7}' > \"$SORDINO_METRICS_OUT\"
fi";

/// A federation in the middle of a task.
struct Stage {
    federation: Federation,
    task: TaskId,
    /// Of the sites of this process, and of the marked one.
    gates: [Gate; 2],
    /// Sites of this process.
    sites: Vec<JoinHandle<Summary>>,
    /// The site with a process of its own, if there is one.
    marked: Option<Service>,
    with_process: bool,
    model: Digest,
}

impl Stage {
    /// Everybody has joined, and waits for the gate of the first round.
    async fn open(home: &Path, policy: &str, sites: usize, with_process: bool) -> Self {
        let federation = Federation::found(home, &[("SORDINO__LIMITS__CHUNK_BYTES", CHUNK_BYTES)]).await;
        let first = model().to_safetensors();
        let task = federation.create_task(policy, &first);
        let gates = ["others", "marked"].map(|name| Gate { folder: home.to_owned(), name });
        let dump = home.join("inputs");
        fs::create_dir(&dump).unwrap();
        fs::write(home.join("local.safetensors"), &first).unwrap();
        let mut marked = None;
        let mut inside = Vec::new();
        for (number, site) in SITES.into_iter().enumerate().take(sites) {
            let folder = federation.join(site).await;
            if with_process && number == MARKED {
                let (task, home_text) = (task.to_string(), home.to_str().unwrap());
                let train = ["train", site, "--task", &task, "--log", "json", "--insecure-dev", "--dev-dump", "inputs"];
                let exec = ["--exec", "sh", "-c", TRAINING, home_text, site];
                marked = Some(Service::start(home, site, &[&train[..], &exec].concat(), &[("SORDINO_LOG", "debug")]));
                continue;
            }
            let dev = Some(DevOptions { dump: Some(dump.clone()), vanish: Vec::new(), attack: None });
            let options = TrainOptions { folder, task: Some(task.clone()), rounds: None, policy: None, dev };
            let trainer = Box::new(Adds { gate: gates[0].clone(), site: number });
            inside.push(tokio::spawn(async { train(options, trainer, std::future::pending()).await.unwrap() }));
        }
        Self { federation, task, gates, sites: inside, marked, with_process, model: Digest::of(&first) }
    }

    /// Returns when nobody has anything left to do in the round before, and everybody waits for the gate of this one.
    async fn everybody_waits(&self, round: u64) {
        let there = self.sites.len() + usize::from(self.with_process);
        let waits = |site: &&&str| self.federation.home.join(format!("{site}.waits.{round}")).exists();
        let all = async || (SITES.iter().filter(waits).count() == there).then_some(());
        until(&format!("everybody waits for round {round}"), all).await;
    }

    fn begin(&self, round: u64) {
        self.gates.iter().for_each(|gate| gate.open(round));
    }

    /// Lets a process kill itself there, once.
    fn arm(&self, name: &str, point: &str) {
        let home = &self.federation.home;
        fs::write(home.join("arming"), format!("kill {point}")).unwrap();
        fs::rename(home.join("arming"), home.join(format!("crash.{name}"))).unwrap();
    }

    /// What must hold of a round that is over: it is complete in this attempt, begins with the last Release's model, and its
    /// sum has the input of each of these sites once.
    async fn check(&mut self, point: &str, number: u64, attempt: u32, survivors: &[&str]) -> Round {
        let (round, sum, plain) = self.released(point, number, attempt, survivors).await;
        assert!(plain == sum, "{point}: the sum of round {number} is that of its inputs, each of them once");
        round
    }

    /// The same without the last, and the released sum beside that of the inputs.
    async fn released(
        &mut self,
        point: &str,
        number: u64,
        attempt: u32,
        survivors: &[&str],
    ) -> (Round, Vec<i64>, Vec<i64>) {
        let round = self.federation.ended_round(&self.task, number).await;
        assert_eq!((round.state, round.attempt), (RoundState::Complete, attempt), "{point}: {round:?}");
        let release = round.release.as_ref().unwrap();
        let names: Vec<_> = release.survivors.iter().map(ToString::to_string).collect();
        assert_eq!(names, survivors, "{point}: {release:?}");
        assert!(release.input_bytes > CHUNK_BYTES.parse().unwrap(), "an input has two chunks: {release:?}");
        assert_eq!(round.model, self.model, "{point}: a round begins with the last Release's model");
        self.model = release.model;
        let path = format!("/v1/rounds/{}/sum", round.id);
        let sum =
            until("the sum can be read", async || self.federation.admin.get_bytes(&path, 8 << 20).await.ok()).await;
        assert_eq!(Digest::of(&sum), release.sum);
        let mut plain = vec![0i64; VALUES + 1];
        for site in survivors {
            let input = fs::read(self.federation.home.join(format!("inputs/{number}.{attempt}.{site}.i64"))).unwrap();
            let input = integers(&input);
            assert_eq!(input.len(), plain.len());
            plain.iter_mut().zip(input).for_each(|(sum, value)| *sum += value);
        }
        (round, integers(&sum), plain)
    }

    /// The only budget, and the ledger's entries.
    async fn budget(&self) -> (BudgetStanding, Vec<BudgetEntry>) {
        let admin = &self.federation.admin;
        let budgets: Budgets = until("the budget can be read", async || admin.get("/v1/budget").await.ok()).await;
        let history: Page<BudgetEntry> =
            until("the ledger can be read", async || admin.get("/v1/budget/history?limit=500").await.ok()).await;
        let [budget] = &budgets.budgets[..] else { panic!("{budgets:?}") };
        (budget.clone(), history.items)
    }

    /// Epsilon of so many attempts.
    fn cost(&self, attempts: u64) -> f64 {
        let text = fs::read_to_string(self.federation.home.join("policy.toml")).unwrap();
        let policy = Policy::from_toml(&text).unwrap().check().unwrap();
        let round = policy.round_privacy(VALUES, &policy.terms(policy.policy().cohort.target)).unwrap().unwrap();
        let events = round.events().times(attempts).unwrap();
        Accountant::new(policy.policy().privacy.delta).unwrap().with_all(&events).unwrap().epsilon
    }

    /// Returns when this attempt does not take messages any more: it was given up, or its sum is opened.
    async fn attempt_is_over(&self, round: u64, attempt: u32, point: &str) {
        until(&format!("attempt {attempt} is over without the site that died at {point}"), async || {
            let round = self.federation.round(&self.task, round).await?;
            (round.attempt > attempt || round.state != RoundState::Collecting).then_some(())
        })
        .await;
    }

    /// The sites of this process end with their task, and have done this; where inputs are proven, they have checked what was
    /// released as well.
    async fn end(self, mut summary: Summary) -> (Federation, TaskId) {
        let policy = fs::read_to_string(self.federation.home.join("policy.toml")).unwrap();
        if policy.contains("\"transparent\"") {
            summary.checked = summary.finished;
        }
        for site in self.sites {
            assert_eq!(tokio::time::timeout(common::service::LIMIT, site).await.unwrap().unwrap(), summary);
        }
        (self.federation, self.task)
    }
}

/// Waits until a process has killed itself, and starts it again.
async fn killed(process: &mut Service, point: &str) {
    killed_for_a_while(process, point).await;
    process.start_again();
}

/// Waits until a process has killed itself.
async fn killed_for_a_while(process: &mut Service, point: &str) {
    let status = until(&format!("killed at {point}"), async || process.ended()).await;
    assert_eq!(status.signal(), Some(9), "{point}: {status}: {}", process.logged());
}

fn integers(bytes: &[u8]) -> Vec<i64> {
    let (values, rest) = bytes.as_chunks::<8>();
    assert_eq!(rest.len(), 0);
    values.iter().map(|value| i64::from_le_bytes(*value)).collect()
}

/// Whether an epsilon is the one expected: both are rounded up, which differs with the order of events.
fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected * 1e-9
}

/// Lines of a file in which the marked site writes down what it does.
fn witness(home: &Path, site: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(home.join(site).join("witness").join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A site dies at each of these points, a round for each, and is started again at once: the attempt goes on with it.
async fn a_site_dies_at(points: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    a_site_dies_in(home.path(), &policy(points.len()), points).await;
}

async fn a_site_dies_in(home: &Path, policy: &str, points: &[&str]) {
    let mut stage = Stage::open(home, policy, SITES.len(), true).await;
    let mut process = stage.marked.take().unwrap();
    let sent = || witness(home, SITES[MARKED], "sent");
    for (number, point) in (1..).zip(points) {
        stage.everybody_waits(number).await;
        stage.arm(SITES[MARKED], point);
        stage.gates[1].open(number);
        // Alone before the keys are advertised: the step is still open when it says the same again.
        let alone = point.starts_with("AdvertiseKeys");
        if !alone {
            stage.gates[0].open(number);
        }
        let before = sent().len();
        killed(&mut process, point).await;
        if alone {
            until("keys are advertised", async || (sent().len() > before).then_some(())).await;
            stage.gates[0].open(number);
        }
        stage.check(point, number, 1, &SITES).await;
    }
    let status = until("the task is over", async || process.ended()).await;
    assert!(status.success(), "{}", process.logged());
    stage.end(Summary { finished: points.len() as u64, ..Summary::default() }).await;

    // What is said again is said in the same bytes, upload included.
    let mut by_step: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    let mut attempts: Vec<String> = Vec::new();
    for line in sent() {
        let [attempt, step, message, upload] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        if !attempts.iter().any(|known| known == attempt) {
            attempts.push(attempt.to_owned());
        }
        let round = attempts.iter().position(|known| known == attempt).unwrap();
        let upload = if step == "MaskedInput" { upload } else { "-" };
        by_step.entry((round, step.to_owned())).or_default().push(format!("{message} {upload}"));
    }
    assert_eq!(attempts.len(), points.len(), "an attempt for each round");
    for ((round, step), sent) in &by_step {
        assert!(sent.iter().all(|bytes| bytes == &sent[0]), "{step} at {}: {sent:?}", points[*round]);
    }
    for (round, point) in points.iter().enumerate() {
        let again: Vec<_> = by_step.iter().filter(|((at, _), sent)| *at == round && sent.len() > 1).collect();
        // At these points nothing of the attempt had been sent, or nothing of it is left.
        let nothing = matches!(*point, "AdvertiseKeys:made" | "AdvertiseKeys:stored" | "end:stored");
        let stored = point.ends_with(":stored") && !nothing;
        assert_eq!(again.len(), usize::from(!nothing && !stored), "{point}: {again:?}");
    }
    keys_are_new(home, SITES[MARKED], points.len());
}

/// Keys of one attempt are those of no other.
fn keys_are_new(home: &Path, site: &str, attempts: usize) {
    let lines = witness(home, site, "AdvertiseKeys");
    for (name, each) in [("root", 1), ("channel secret", 3)] {
        let drawn: Vec<_> = lines.iter().filter(|line| line.ends_with(&format!("\t{name}"))).collect();
        let distinct: BTreeSet<_> = drawn.iter().collect();
        assert_eq!((drawn.len(), distinct.len()), (attempts * each, attempts * each), "{name} of {site}");
    }
}

/// All three are needed, and nobody is waited for very long.
fn nobody_to_spare(rounds: usize) -> String {
    format!(
        "[task]\nname = \"nobody to spare\"\nrounds = {rounds}\n\
         [cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\nmax_corrupt_fraction = 0.0\n\
         [privacy]\nenabled = false\nclip_norm = 4.0\n[encoding]\nmax_weight = 10\n\
         [timing]\nparticipant_timeout = 20.0\nround_timeout = 30.0\nstep_timeout = 3.0\nstep_grace = 0.5\n"
    )
}

/// A site dies and stays away, and there is nobody to spare. In these steps the attempt cannot go on without it: it ends,
/// and so does nothing else. The next one, for which it is back, has new keys and counts every input once.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_site_that_is_needed_a_new_attempt_has_new_keys() {
    // The attempt that completes, and the reason why the first one did not.
    const ROWS: &[(&str, u32, &str)] = &[
        ("AdvertiseKeys:sent", 2, "2 participants answered in ShareKeys, 3 are needed"),
        ("ShareKeys:sent", 2, "2 participants answered in MaskedInput, 3 are needed"),
        ("MaskedInput:sent", 2, "1 neighbours can reveal a share of participant "),
        ("ConsistencyCheck:sent", 2, "1 neighbours can reveal a share of participant "),
        // It has said all that it had to say.
        ("Unmasking:sent", 1, ""),
    ];
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let sites = &SITES[..3];
    let mut stage = Stage::open(home, &nobody_to_spare(ROWS.len()), sites.len(), true).await;
    let mut process = stage.marked.take().unwrap();
    for (number, (point, attempt, _)) in (1..).zip(ROWS) {
        stage.everybody_waits(number).await;
        stage.arm(SITES[MARKED], point);
        stage.begin(number);
        killed_for_a_while(&mut process, point).await;
        stage.attempt_is_over(number, 1, point).await;
        process.start_again();
        stage.check(point, number, *attempt, sites).await;
    }
    let logged = stage.federation.coordinator.logged();
    let abandoned = logged.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let abandoned = abandoned.filter(|line| line["message"] == "attempt abandoned");
    let reasons: Vec<String> = abandoned.map(|line| line["reason"].as_str().unwrap_or_default().to_owned()).collect();
    let expected: Vec<&str> = ROWS.iter().filter(|(_, attempt, _)| *attempt > 1).map(|(.., reason)| *reason).collect();
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.starts_with(expected), "{reason:?} says {expected:?}");
    }
    let attempts = ROWS.iter().map(|(_, attempt, _)| *attempt as usize).sum();
    for site in sites {
        keys_are_new(home, site, attempts);
    }
}

/// A site that dies in every attempt costs the round, which says why, and leaves the model as it was.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "fifteen seconds, for five attempts"]
async fn without_a_site_that_is_needed_each_time_the_round_fails_and_says_why() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut stage = Stage::open(home, &nobody_to_spare(1), 3, true).await;
    let mut process = stage.marked.take().unwrap();
    stage.everybody_waits(1).await;
    let point = "AdvertiseKeys:sent";
    for attempt in 1..=ATTEMPTS {
        stage.arm(SITES[MARKED], point);
        if attempt == 1 {
            stage.begin(1);
        } else {
            process.start_again();
        }
        killed_for_a_while(&mut process, point).await;
        stage.attempt_is_over(1, attempt, point).await;
    }
    let round = stage.federation.ended_round(&stage.task, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Failed, ATTEMPTS), "{round:?}");
    assert_eq!(round.failure.as_deref(), Some("2 participants answered in ShareKeys, 3 are needed"));
    assert_eq!((round.release, round.model), (None, stage.model));
    keys_are_new(home, SITES[MARKED], ATTEMPTS as usize);
}

/// What a round gets.
const ATTEMPTS: u32 = 5;

/// The coordinator dies at each of these points, a round for each, and is started again at once: the attempt goes on.
async fn the_coordinator_dies_at(points: &[&str], more: &str) {
    the_coordinator_dies_in(tempfile::tempdir().unwrap().path(), |rounds| policy(rounds) + more, points).await;
}

/// The same in a folder and under a policy; the federation as it is afterwards.
async fn the_coordinator_dies_in(
    home: &Path,
    policy: impl Fn(usize) -> String,
    points: &[&str],
) -> (Federation, TaskId) {
    // Before an attempt begins nobody waits at a gate: these points are armed while the round before them runs.
    let early = |point: &str| point.starts_with("attempt:");
    let rounds = points.len() + points.iter().filter(|point| early(point)).count();
    let mut stage = Stage::open(home, &policy(rounds), SITES.len(), false).await;
    let mut number = 0;
    for point in points {
        number += 1;
        stage.everybody_waits(number).await;
        stage.arm("coordinator", point);
        stage.begin(number);
        killed(&mut stage.federation.coordinator, point).await;
        if early(point) {
            stage.check(point, number, 1, &SITES).await;
            number += 1;
            stage.begin(number);
        }
        stage.check(point, number, 1, &SITES).await;
    }
    stage.end(Summary { finished: rounds as u64, ..Summary::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_killed_at_a_boundary() {
    assert!(ALWAYS_OF_A_SITE.iter().all(|point| OF_A_SITE.contains(point)), "the whole table has them");
    a_site_dies_at(ALWAYS_OF_A_SITE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_is_killed_at_a_boundary() {
    let whole = [OF_THE_COORDINATOR_UNTIL_SHARES_ARE_DEALT, OF_THE_COORDINATOR_UNTIL_THE_RELEASE].concat();
    assert!(ALWAYS_OF_THE_COORDINATOR.iter().all(|point| whole.contains(point)), "the whole table has them");
    the_coordinator_dies_at(ALWAYS_OF_THE_COORDINATOR, "").await;
}

/// The coordinator dies before, between and after the step of an optimiser is made and stored: it takes the same step again, from
/// the state that the last Release ended with, and everybody comes to the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_optimiser_takes_its_step_once() {
    let home = tempfile::tempdir().unwrap();
    let adam = |rounds| policy(rounds).replace("[cohort]", "strategy = \"FedAdam\"\n[cohort]");
    let (federation, task) = the_coordinator_dies_in(home.path(), adam, OF_A_STEP).await;
    let mut last = None;
    for number in 1..=OF_A_STEP.len() as u64 {
        let states = federation.ended_round(&task, number).await.release.unwrap().optimizer.unwrap();
        assert!(last.is_none_or(|last| last == states.before), "round {number} goes on from the one before");
        assert_ne!(states.before, states.after);
        last = Some(states.after);
        let round = format!("{task}.{number}");
        let verify = ["round", "verify", &round, "--as", "fed/admin", "--server", &federation.url, "--output", "json"];
        let verified = common::sordino_in(home.path(), &verify);
        verified.ended(0);
        let verified: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
        assert_eq!(verified["model_recomputed"], true, "{verified}");
        assert_eq!(verified["optimizer"]["after"], states.after.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_where_inputs_are_proven_goes_on() {
    a_site_dies_in(tempfile::tempdir().unwrap().path(), &(policy(OF_A_PROOF.len()) + PROVEN), OF_A_PROOF).await;
    the_coordinator_dies_at(WHERE_INPUTS_ARE_PROVEN, PROVEN).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten seconds; a part of it always runs"]
async fn a_site_is_killed_at_every_boundary() {
    a_site_dies_at(OF_A_SITE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "twenty seconds; a part of it always runs"]
async fn the_coordinator_is_killed_at_every_boundary_until_shares_are_dealt() {
    the_coordinator_dies_at(OF_THE_COORDINATOR_UNTIL_SHARES_ARE_DEALT, "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "twenty seconds; a part of it always runs"]
async fn the_coordinator_is_killed_at_every_boundary_until_the_release() {
    the_coordinator_dies_at(OF_THE_COORDINATOR_UNTIL_THE_RELEASE, "").await;
}

/// A site that protects its records pays once for each of these rounds, wherever it dies: making the same masked input again and
/// sending the rest of it is the same charge, and the coordinator's ledger has one for each round as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_killed_around_its_payment_pays_once() {
    let home = tempfile::tempdir().unwrap();
    let privacy = "unit = \"record\"\nnoise_multiplier = 8.0\nsampling_rate = 0.1\nsteps = 2";
    let policy = private(OF_A_PAYMENT.len(), privacy);
    a_site_dies_in(home.path(), &policy, OF_A_PAYMENT).await;
    let checked = Policy::from_toml(&policy).unwrap().check().unwrap();
    let round = checked.round_privacy(VALUES, &checked.terms(4)).unwrap().unwrap();
    let events = round.events().times(OF_A_PAYMENT.len() as u64).unwrap();
    let cost = Accountant::new(1e-5).unwrap().with_all(&events).unwrap().epsilon;
    for site in SITES {
        let standing = sordino_participant::site_standing(&home.path().join(site)).unwrap();
        assert_eq!(standing.record.charges, OF_A_PAYMENT.len() as u64, "{site}: {standing:?}");
        assert!(near(standing.record.spent, cost), "{site}: {standing:?}, {cost}");
    }
}

/// The coordinator dies at each of these points of rounds that are charged and noised. However often it looks at a charge, it
/// is one; what the ledger counts is never less than what was opened. Noise that was kept is the noise of the Release: there
/// are never two sums of one round.
async fn a_charged_round_outlives_its_coordinator(noise: &str, proof: &str) {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let central = noise == "coordinator";
    let points: Vec<_> =
        OF_A_CHARGED_ROUND.iter().filter(|point| central || !point.starts_with("noise:")).copied().collect();
    let early = |point: &str| point.starts_with("attempt:");
    let rounds = points.len() + points.iter().filter(|point| early(point)).count();
    let privacy = format!("unit = \"participant\"\nnoise = \"{noise}\"\nnoise_multiplier = 30.0");
    // A proof hides noise up to a norm of 2^27 grid steps.
    let policy = private(rounds, &privacy).replace("max_weight = 10", "max_weight = 10\nprecision_bits = 14")
        + &format!("[robustness]\nproof = \"{proof}\"\n");
    let mut stage = Stage::open(home, &policy, SITES.len(), false).await;
    let mut number = 0;
    for point in &points {
        number += 1;
        stage.everybody_waits(number).await;
        // All that anybody was asked for is paid for: this round too.
        let (budget, _) = stage.budget().await;
        assert_eq!((budget.committed, budget.open), (number - 1, 1), "{point}: {budget:?}");
        assert!(near(budget.spent, stage.cost(number)), "{point}: {budget:?}");
        stage.arm("coordinator", point);
        stage.begin(number);
        killed_for_a_while(&mut stage.federation.coordinator, point).await;
        let kept = kept_sum(home, &stage.task, number);
        stage.federation.coordinator.start_again();
        let mut at = vec![(number, kept)];
        if early(point) {
            number += 1;
            stage.begin(number);
            at.push((number, None));
        }
        for (number, kept) in at {
            let (round, sum, plain) = stage.released(point, number, 1, &SITES).await;
            let noise: Vec<f64> = sum.iter().zip(&plain).map(|(sum, plain)| (sum - plain) as f64).collect();
            let release = round.release.as_ref().unwrap();
            let privacy = release.privacy.as_ref().unwrap();
            assert!(near(privacy.epsilon, stage.cost(number)), "{point}: {privacy:?}");
            if !central {
                assert!(noise.iter().all(|noise| *noise == 0.0), "{point}: its noise is in what the sites sent");
                continue;
            }
            let durable = *point == "noise:stored" || point.starts_with("release:");
            assert_eq!(kept.is_some(), durable, "{point}: what is kept while nobody was told");
            assert!(kept.is_none_or(|kept| kept == sum), "{point}: the noise that was kept is that of the Release");
            // One draw and not two: twice the variance would be beyond these bounds with all but a chance of e^-25.
            let step = 4.0 / 16_384.0;
            let said = privacy.sum_noise_std.unwrap() / step;
            let variance = noise[..VALUES].iter().map(|noise| noise * noise).sum::<f64>() / VALUES as f64;
            let ratio = variance / (said * said);
            assert!((0.94..1.06).contains(&ratio), "{point}: {ratio}");
            // Served again, it is the same.
            let path = format!("/v1/rounds/{}/sum", round.id);
            let again = stage.federation.admin.get_bytes(&path, 8 << 20).await.unwrap();
            assert!(integers(&again) == sum, "{point}");
        }
    }
    let (budget, history) = until("the last round is settled", async || {
        let (budget, history) = stage.budget().await;
        (budget.open == 0).then_some((budget, history))
    })
    .await;
    assert_eq!(budget.committed, rounds as u64, "{budget:?}");
    assert!(near(budget.spent, stage.cost(rounds as u64)), "{budget:?}");
    for round in 1..=rounds {
        let id = Some(format!("{}.{round}.1", stage.task));
        let entries: Vec<_> = history.iter().filter(|entry| entry.charge == id).map(|entry| &*entry.what).collect();
        assert_eq!(entries, ["reserved", "committed"], "{round}");
    }
    let cost = stage.cost(rounds as u64);
    stage.end(Summary { finished: rounds as u64, ..Summary::default() }).await;
    // Each site has counted for itself, and comes to the same.
    for site in SITES {
        let standing = sordino_participant::site_standing(&home.join(site)).unwrap();
        assert_eq!(standing.participant.charges, rounds as u64, "{site}: {standing:?}");
        assert!(near(standing.participant.spent, cost), "{site}: {standing:?}, {cost}");
    }
}

/// The sum with its noise that a coordinator which was killed has kept of a round, if it has. What shows it stands behind it.
fn kept_sum(home: &Path, task: &TaskId, round: u64) -> Option<Vec<i64>> {
    let kept = fs::read(home.join(format!("fed/data/spool/{task}.{round}.1/.outcome-0"))).ok()?;
    Some(integers(&kept[..(VALUES + 1) * 8]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charged_round_with_noise_of_the_coordinator_outlives_it() {
    a_charged_round_outlives_its_coordinator("coordinator", "none").await;
}

/// What shows the size of the noise is kept with it, and is that of the Release.
#[tokio::test(flavor = "multi_thread")]
async fn a_charged_round_with_proven_noise_of_the_coordinator_outlives_it() {
    a_charged_round_outlives_its_coordinator("coordinator", "transparent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charged_round_with_noise_of_the_participants_outlives_the_coordinator() {
    a_charged_round_outlives_its_coordinator("participants", "none").await;
}

/// The coordinator dies when an attempt is stored as abandoned and its charge is not settled yet. When it is back it gives the
/// charge back where no site was asked for shares, and leaves it spent where they were.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_attempt_is_settled_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let sites = &SITES[..3];
    let privacy = "unit = \"participant\"\nnoise_multiplier = 30.0";
    let policy = nobody_to_spare(2).replace("enabled = false", privacy);
    let mut stage = Stage::open(home, &policy, sites.len(), true).await;
    let mut process = stage.marked.take().unwrap();
    let mut spent = 0;
    for (number, point, stays) in [(1, "ShareKeys:sent", false), (2, "ConsistencyCheck:sent", true)] {
        stage.everybody_waits(number).await;
        stage.arm(SITES[MARKED], point);
        stage.arm("coordinator", "abandoned:stored");
        stage.begin(number);
        killed_for_a_while(&mut process, point).await;
        killed(&mut stage.federation.coordinator, "abandoned:stored").await;
        // Before anybody is there for another attempt.
        let (budget, history) = stage.budget().await;
        let first = Some(format!("{}.{number}.1", stage.task));
        let entries: Vec<_> = history.iter().filter(|entry| entry.charge == first).map(|entry| &*entry.what).collect();
        assert_eq!(entries, if stays { &["reserved"][..] } else { &["reserved", "aborted"] }, "{point}");
        spent += u64::from(stays);
        // What was opened, or could have been.
        let counted = number - 1 + spent;
        let cost = if counted == 0 { 0.0 } else { stage.cost(counted) };
        assert!((budget.spent - cost).abs() <= cost * 1e-9, "{point}: {budget:?}");
        assert_eq!((budget.committed, budget.open), (number - 1, spent), "{point}: {budget:?}");
        process.start_again();
        stage.check(point, number, 2, sites).await;
    }
    let (budget, _) = until("the last round is settled", async || {
        let settled = stage.budget().await;
        (settled.0.committed == 2).then_some(settled)
    })
    .await;
    assert_eq!(budget.open, 1, "{budget:?}");
    assert!(near(budget.spent, stage.cost(3)), "{budget:?}");
}

/// The points are in the binary that these tests run. Those who build the one that is shipped ask for no feature, and so
/// for none of the tests' crates' either: the graph that cargo builds then has no `test-util` in it.
#[test]
fn what_is_shipped_has_no_point() {
    let tested = fs::read(env!("CARGO_BIN_EXE_sordino")).unwrap();
    let name = b"SORDINO_CRASH_AT";
    assert!(tested.windows(name.len()).any(|window| window == name), "the binary under test has them");
    let features = |edges: &str| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut tree = std::process::Command::new(env!("CARGO"));
        tree.args(["tree", "--locked", "--offline", "--manifest-path", manifest, "-p", "sordino"]);
        tree.args(["--edges", edges, "--format", "{p} {f}", "--prefix", "none"]);
        let ran = tree.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let points = |graph: &str| {
        let crates = graph.lines().filter(|line| line.contains("test-util"));
        crates.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let [shipped, tested] = [features("normal,build"), features("normal,build,dev")];
    assert!(shipped.contains("sordino-coordinator v") && shipped.contains("sordino-participant v"), "{shipped}");
    assert_eq!(points(&shipped), BTreeSet::new());
    let expected = ["sordino-coordinator", "sordino-participant", "sordino-secagg", "sordino-store"];
    assert_eq!(points(&tested), expected.map(str::to_owned).into());
}
