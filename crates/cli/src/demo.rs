//! `sordino demo`: a whole federation on this machine, for real: a coordinator and every participant as processes of
//! their own, TLS 1.3 over loopback, participants that vanish, a coordinator that is killed; and a proof on the spot
//! that every Release is the exact sum.

mod coordinator;
mod faults;
mod plain_sum;
mod protection;
mod report;
mod sites;
mod verify;

pub(crate) use plain_sum::NotTheSum;

use crate::{
    failure::{DemoError, Failure},
    output::{Output, note},
    signals::{Stop, Stopped},
};
use coordinator::Coordinator;
use faults::Faults;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protection::Protection;
use report::{Report, RoundReport};
use sites::Sites;
use sordino_codec::{FileLimits, Tensors};
use sordino_identity::PrincipalId;
use sordino_participant::{
    Client,
    training::{Architecture, Dataset, Hyperparameters, Scaling, TrainTest, centralised, evaluate},
};
use sordino_wire::{
    Code, RoundId, TaskId,
    api::{Round, RoundState, Task, TaskRequest},
};
use std::{
    fs::{self, File},
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Run a whole federation on this machine: real processes, real TLS, real data, failures included.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino demo --participants 20 --rounds 40 --keep demo
  sordino demo --participants 100 --dp participant

Handwritten digits (or --data, a CSV file of split,label,features) are dealt unevenly to the participants. In every round
some of them vanish in the middle; once the coordinator is killed with SIGKILL and started again. Each participant also
writes its encoded input to a local file, which only this demonstration does, and the sum of those files is compared
with what the coordinator released, bit for bit, in every round.")]
pub(crate) struct Demo {
    /// Sites that take part.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=200))]
    participants: u32,
    /// What the Releases hide: each record of a site, a site's whole contribution, or nothing.
    #[arg(long, value_enum, default_value = "record")]
    dp: Protection,
    /// Rounds to run: 40 with --dp record, otherwise 20, where this is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: Option<u64>,
    /// A CSV file instead of the digits; its features are divided by their largest absolute value in the training rows.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Fixes the split of the rows, the first model, and who vanishes when.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep everything in this folder: configuration, keys, logs, models. It must not exist.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The rows, and what is trained on them.
struct Lesson {
    train: Dataset,
    test: Dataset,
    architecture: Architecture,
    /// What the features of the file are divided by; the digits come scaled.
    divisor: Option<f32>,
}

impl Demo {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let lesson = self.lesson()?;
        // Keys, and inputs that nobody else may ever see: for their owner only, also where a child writes them.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let (folder, temporary) = self.folder()?;
        let mut sites = Sites::none();
        let done = tokio::select! {
            done = Box::pin(self.federation(&folder, &lesson, &mut sites, output)) => done,
            signal = stop.wait() => match signal {
                Stopped::Interrupt | Stopped::Terminate => Err(Failure::Interrupted),
            },
        };
        // The coordinator's process has ended with the run; the sites' are watched by tasks of their own.
        sites.stop().await;
        match (&done, temporary) {
            (Ok(()) | Err(Failure::Interrupted), _) | (_, None) => {}
            (Err(_), Some(temporary)) => {
                // Whoever looks for the reason needs the logs.
                let kept = temporary.keep();
                let kept = kept.display();
                note(&format!(
                    "the run's folder stays, for its logs: {kept}; its {INPUTS}/ are unmasked, remove it afterwards"
                ));
            }
        }
        done
    }

    /// The whole run, in a folder that is there.
    async fn federation(
        &self,
        folder: &Path,
        lesson: &Lesson,
        sites: &mut Sites,
        output: Output,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let planned = self.rounds();
        let faults = Faults::plan(self.participants, planned, self.seed);
        let central = {
            let (train, test, seed) = (lesson.train.clone(), lesson.test.clone(), self.seed);
            // The same model as without privacy, so that one sees what privacy costs.
            let architecture = Protection::None.architecture(&train);
            tokio::task::spawn_blocking(move || {
                centralised(&train, &test, architecture, &Hyperparameters::demo(), CENTRAL_EPOCHS, seed)
            })
        };
        let mut coordinator = Coordinator::start(folder).await?;
        note(&format!("coordinator: process {}, {}", coordinator.process(), coordinator.url()));
        let admin = coordinator.admin()?;
        let ids = sites::ids(self.participants)?;
        sites::join(folder, &admin, &ids).await?;
        let task = self.task(&admin, lesson).await?;
        let dealt = sites::Dealt { seed: self.seed, data: self.data.clone(), divisor: lesson.divisor };
        sites.start(folder, &ids, &task, &dealt, &faults)?;
        note(&format!(
            "participants: {} processes, their rows dealt by Dirichlet(0.5); {} vanish in each round",
            ids.len(),
            faults.each_round()
        ));

        let bar = progress(planned);
        let (mut rounds, mut last_model, mut privacy) = (Vec::new(), Vec::new(), None);
        for number in 1..=planned {
            let id = RoundId { task: task.clone(), number };
            let round = tokio::select! {
                round = watch(&admin, &id, &faults, &mut coordinator) => round?,
                ended = sites.failed() => return Err(ended),
            };
            let model = admin.get_model(released(&round)?.model, FileLimits::default().max_file_bytes).await?;
            let verified = verify::sum(&admin, folder, &round).await?;
            let release = released(&round)?;
            rounds.push(RoundReport::new(&round, release, &accuracy(&model, &lesson.test)?, verified));
            privacy.clone_from(&release.privacy);
            bar.set_message(rounds.last().map(RoundReport::in_short).unwrap_or_default());
            bar.inc(1);
            last_model = model;
        }
        bar.finish_and_clear();
        sites.ended().await;
        let killed = coordinator.killed().cloned();
        coordinator.stop().await?;
        let central = central.await.map_err(|_| DemoError::Cut)?.map_err(|error| DemoError::Evaluate(error.into()))?;
        let report = Report {
            participants: self.participants,
            rounds,
            killed,
            seconds: started.elapsed().as_secs_f64(),
            centralised_accuracy: central.accuracy(),
            model: self.save(&last_model)?,
            protection: self.dp,
            privacy,
            proof: "none",
        };
        output.result(&report, Report::text)?;
        report.verdict()
    }

    fn rounds(&self) -> u64 {
        self.rounds.unwrap_or_else(|| self.dp.rounds())
    }

    fn lesson(&self) -> Result<Lesson, Failure> {
        let (train, test, divisor) = match &self.data {
            None => {
                let (train, test) = Dataset::digits();
                (train, test, None)
            }
            Some(path) => {
                let refuse = |error| Failure::Rows { path: path.clone(), source: error };
                let file =
                    File::open(path).map_err(|source| Failure::File { what: "read", path: path.clone(), source })?;
                let read = TrainTest::from_csv(file).map_err(|error| refuse(error.into()))?;
                let largest = read.train.features().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let divisor = if largest > 0.0 { largest } else { 1.0 };
                let read = read.scaled(Scaling::MaxAbs(divisor)).map_err(Failure::Scaling)?;
                let test = read.test.ok_or(DemoError::NoTestRows { path: path.clone() })?;
                (read.train, test, Some(divisor))
            }
        };
        let architecture = self.dp.architecture(&train);
        Ok(Lesson { train, test, architecture, divisor })
    }

    /// The folder of the run; a temporary one goes when the run ends as it should.
    fn folder(&self) -> Result<(PathBuf, Option<tempfile::TempDir>), Failure> {
        let temporary = match &self.keep {
            None => Some(tempfile::tempdir().map_err(cannot_write(&std::env::temp_dir()))?),
            Some(path) if path.exists() => return Err(Failure::KeepExists { path: path.clone() }),
            Some(_) => None,
        };
        let folder = match (&temporary, &self.keep) {
            (Some(temporary), _) => temporary.path().to_owned(),
            (None, Some(path)) => path.clone(),
            (None, None) => return Err(DemoError::Cut.into()),
        };
        for part in ["", "logs", "sites", INPUTS] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(cannot_write(&path))?;
        }
        Ok((folder, temporary))
    }

    /// Writes the model where it outlives the run.
    fn save(&self, model: &[u8]) -> Result<PathBuf, Failure> {
        let path = match &self.keep {
            Some(folder) => folder.join(MODEL_FILE),
            None => {
                let file = tempfile::Builder::new().prefix("sordino-demo-").suffix(".safetensors").tempfile();
                let kept = file.map_err(cannot_write(&std::env::temp_dir()))?.keep();
                kept.map_err(|error| cannot_write(&std::env::temp_dir())(error.error))?.1
            }
        };
        fs::write(&path, model).map_err(cannot_write(&path))?;
        Ok(path)
    }

    async fn task(&self, admin: &Client, lesson: &Lesson) -> Result<TaskId, Failure> {
        let model = lesson.architecture.initial(self.seed)?.to_safetensors();
        let model = admin.put_model(&model).await?;
        let policy = self.policy(lesson.train.rows());
        let task: Task = admin.post("/v1/tasks", &TaskRequest { policy, model }).await?;
        Ok(task.id)
    }

    /// The policy, as a person would write it.
    fn policy(&self, rows: usize) -> String {
        let n = self.participants;
        let Hyperparameters { local_epochs, batch_size, learning_rate, momentum } = self.dp.training(rows, n);
        let min = n - Faults::each_round_of(n);
        // One site may hold almost all rows; a fresh model's loss is about ln(classes) for each.
        let (loss_max, correct_max) = (rows * 4, rows);
        let resolution = |max: usize| (f64::from(u32::try_from(max).unwrap_or(u32::MAX)) / 65_536.0).max(1e-3);
        let (loss_resolution, correct_resolution) = (resolution(loss_max), resolution(correct_max).max(1.0));
        format!(
            r#"[task]
name = "demo"
rounds = {rounds}

[cohort]
min = {min}
target = {n}
max_dropout_fraction = 0.2
max_corrupt_fraction = 0.2

[privacy]
{privacy}
[robustness]
proof = "none"

[encoding]
max_weight = {max_weight}
metrics = [
  {{ name = "loss_sum", max = {loss_max}.0, resolution = {loss_resolution:?}, record_max = 4.0 }},
  {{ name = "correct", max = {correct_max}.0, resolution = {correct_resolution:?} }},
]

[timing]
gather = 5.0
participant_timeout = 60.0
round_timeout = 60.0
step_timeout = 2.0
step_grace = 0.3

[training]
local_epochs = {local_epochs}
batch_size = {batch_size}
learning_rate = {learning_rate:?}
momentum = {momentum:?}
"#,
            rounds = self.rounds(),
            privacy = self.dp.section(),
            max_weight = rows.clamp(1, 1_000_000),
        )
    }
}

/// Waits until a round is over; in the round that is planned for it, kills the coordinator and starts it again.
async fn watch(admin: &Client, id: &RoundId, faults: &Faults, coordinator: &mut Coordinator) -> Result<Round, Failure> {
    loop {
        let path = format!("/v1/rounds/{id}");
        let answer = tokio::select! {
            answer = admin.get::<Round>(&path) => answer,
            ended = coordinator.ended() => return Err(ended),
        };
        match answer {
            Ok(round) => match round.state {
                RoundState::Complete => return Ok(round),
                RoundState::Failed => {
                    let reason = round.failure.unwrap_or_default();
                    return Err(DemoError::RoundFailed { round: id.number, reason }.into());
                }
                RoundState::Collecting if coordinator.killed().is_none() && id.number >= faults.kill_round() => {
                    tokio::time::sleep(faults.kill_delay()).await;
                    coordinator.kill_and_restart(id.number, round.attempt).await?;
                }
                _ => {}
            },
            Err(error) if error.code() == Some(Code::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn released(round: &Round) -> Result<&sordino_wire::api::Release, Failure> {
    round.release.as_ref().ok_or_else(|| DemoError::NoRelease { round: round.id.number }.into())
}

fn accuracy(model: &[u8], test: &Dataset) -> Result<sordino_participant::training::Evaluation, Failure> {
    let tensors =
        Tensors::from_safetensors(model, &FileLimits::default()).map_err(|error| DemoError::Evaluate(error.into()))?;
    Ok(evaluate(&tensors, test).map_err(|error| DemoError::Evaluate(error.into()))?)
}

fn progress(rounds: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(rounds), target);
    let style = ProgressStyle::with_template("round {pos}/{len} {bar:30} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File { what: "write", path, source }
}

fn site_id(number: u32) -> Result<PrincipalId, Failure> {
    format!("site-{number:04}").parse().map_err(|_| DemoError::Cut.into())
}

const HIDDEN: usize = 32;
const CLIP_NORM: f64 = 5.0;
const CENTRAL_EPOCHS: u32 = 30;
const WATCH_EVERY: Duration = Duration::from_millis(40);
/// Folder of the encoded inputs, unmasked.
const INPUTS: &str = "inputs";
const MODEL_FILE: &str = "model.safetensors";
