//! `sordino demo`: a whole federation on this machine, for real: a coordinator and every participant as processes of
//! their own, TLS 1.3 over loopback, participants that vanish, a coordinator that is killed; and a proof on the spot
//! that every Release is the exact sum.

mod attack;
mod coordinator;
mod faults;
mod peace;
mod plain_sum;
mod protection;
mod report;
mod scene;
mod sites;
mod verify;

pub(crate) use plain_sum::NotTheSum;

use crate::{
    failure::{DemoError, Failure},
    output::{Output, note},
    signals::{Stop, Stopped},
};
use attack::{AttackReport, Attackers, Proof, Shown};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use coordinator::Coordinator;
use faults::Faults;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protection::Protection;
use report::{Report, RoundReport};
use scene::Scene;
use sites::Sites;
use sordino_codec::{FileLimits, Tensors};
use sordino_identity::PrincipalId;
use sordino_participant::{
    Client,
    attack::Attack,
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
    sync::Arc,
    time::{Duration, Instant},
};

/// Run a whole federation on this machine: real processes, real TLS, real data, failures included.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino demo --participants 20 --rounds 40 --keep demo
  sordino demo --participants 100 --dp participant
  sordino demo --attack scale10 --proof none
  sordino demo --attack scale10 --proof transparent

Handwritten digits (or --data, a CSV file of split,label,features) are dealt unevenly to the participants. In every round
some of them vanish in the middle; once the coordinator is killed with SIGKILL and started again. Each participant also
writes its encoded input to a local file, which only this demonstration does, and the sum of those files is compared
with what the coordinator released, bit for bit, in every round.

With --attack a fifth of the sites cheat in every round, and nothing else goes wrong: they send minus ten times their update,
with a proof of a wider bound (scale10) or after they have committed to the update (mismatch), or a proof with a wrong byte
(garbled) or for another round (replayed).")]
pub(crate) struct Demo {
    /// Sites that take part: 10, or 12 with --attack mismatch, where this is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=200))]
    participants: Option<u32>,
    /// What the Releases hide: each record of a site (unless there is an attack), a site's whole contribution, or nothing.
    #[arg(long, value_enum)]
    dp: Option<Protection>,
    /// What some of the sites do in every round, instead of what they should.
    #[arg(
        long,
        value_name = "ATTACK",
        value_parser = PossibleValuesParser::new(Attack::ALL.map(|(name, _)| name)).try_map(|name| name.parse::<Attack>())
    )]
    attack: Option<Attack>,
    /// What every input has to prove: transparent with an attack, otherwise none, where this is not given.
    #[arg(long, value_enum)]
    proof: Option<Proof>,
    /// Rounds to run: 10 with an attack, 40 with --dp record, otherwise 20, where this is not given.
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
        let lesson = Arc::new(self.lesson()?);
        let scene = Arc::new(self.scene(&lesson)?);
        // Keys, and inputs that nobody else may ever see: for their owner only, also where a child writes them.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let (folder, temporary) = self.folder()?;
        let mut sites = Sites::none();
        let done = tokio::select! {
            done = Box::pin(self.federation(&folder, (&scene, &lesson), &mut sites, output)) => done,
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
        (scene, lesson): (&Arc<Scene>, &Arc<Lesson>),
        sites: &mut Sites,
        output: Output,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let planned = scene.rounds;
        let faults = scene.faults();
        let central = {
            let (train, test, seed) = (lesson.train.clone(), lesson.test.clone(), scene.seed);
            // The same model as without privacy, so that one sees what privacy costs.
            let architecture = Protection::None.architecture(&train);
            tokio::task::spawn_blocking(move || {
                centralised(&train, &test, architecture, &Hyperparameters::demo(), CENTRAL_EPOCHS, seed)
            })
        };
        // What privacy costs is not what an attack costs.
        let comparable = scene.attackers.is_some() && scene.protection == Protection::None;
        let honest = comparable.then(|| {
            let (scene, lesson) = (Arc::clone(scene), Arc::clone(lesson));
            tokio::task::spawn_blocking(move || peace::accuracy(&scene, &lesson))
        });
        let mut coordinator = Coordinator::start(folder).await?;
        note(&format!("coordinator: process {}, {}", coordinator.process(), coordinator.url()));
        let admin = coordinator.admin()?;
        let ids = sites::ids(scene.participants)?;
        sites::join(folder, &admin, &ids).await?;
        let task = create_task(&admin, scene, lesson).await?;
        let rows = sites::Rows { data: self.data.clone(), divisor: lesson.divisor };
        sites.start(folder, &ids, &task, &rows, (scene, &faults))?;
        let wrong = match &scene.attackers {
            None => format!("{} vanish in each round", faults.each_round()),
            Some(attackers) => format!("{} attack in each round ({})", attackers.count(), attackers.attack()),
        };
        note(&format!("participants: {} processes, their rows dealt by Dirichlet(0.5); {wrong}", ids.len()));

        let bar = progress(planned);
        let (mut rounds, mut last_model, mut privacy, mut effective_bound) = (Vec::new(), Vec::new(), None, None);
        for number in 1..=planned {
            let id = RoundId { task: task.clone(), number };
            let round = tokio::select! {
                round = watch(&admin, &id, &faults, &mut coordinator) => round?,
                ended = sites.failed() => return Err(ended),
            };
            let model = admin.get_model(released(&round)?.model, FileLimits::default().max_file_bytes).await?;
            let verified = verify::sum(&admin, folder, &round).await?;
            let release = released(&round)?;
            let shown = match &scene.attackers {
                None => None,
                Some(attackers) => {
                    let task: Task = admin.get(&format!("/v1/tasks/{task}")).await?;
                    Some(Shown::new(attackers, &round, release, &task)?)
                }
            };
            rounds.push(RoundReport::new(&round, release, &accuracy(&model, &lesson.test)?, (verified, shown)));
            privacy.clone_from(&release.privacy);
            effective_bound = release.proof.as_ref().map(|proof| proof.effective_bound);
            bar.set_message(rounds.last().map(RoundReport::in_short).unwrap_or_default());
            bar.inc(1);
            last_model = model;
        }
        bar.finish_and_clear();
        sites.ended().await;
        let killed = coordinator.killed().cloned();
        coordinator.stop().await?;
        let central = central.await.map_err(|_| DemoError::Cut)?.map_err(|error| DemoError::Evaluate(error.into()))?;
        let honest = match honest {
            None => None,
            Some(honest) => Some(honest.await.map_err(|_| DemoError::Cut)??),
        };
        let attack = scene.attackers.as_ref().map(|attackers| {
            let accuracy = rounds.last().map_or(0.0, RoundReport::accuracy);
            let shown: Vec<_> = rounds.iter().filter_map(RoundReport::shown).collect();
            AttackReport::new(attackers, &shown, (accuracy, honest))
        });
        let report = Report {
            participants: scene.participants,
            attack: attack.transpose()?,
            effective_bound,
            kill: faults.kill(),
            rounds,
            killed,
            seconds: started.elapsed().as_secs_f64(),
            centralised_accuracy: central.accuracy(),
            model: self.save(&last_model)?,
            protection: scene.protection,
            privacy,
            proof: scene.proof.name(),
        };
        output.result(&report, Report::text)?;
        report.verdict()
    }

    /// What the Releases hide: with an attack nothing, because noise is another matter.
    fn protection(&self) -> Protection {
        self.dp.unwrap_or(if self.attack.is_some() { Protection::None } else { Protection::Record })
    }

    /// The options, put together.
    fn scene(&self, lesson: &Lesson) -> Result<Scene, Failure> {
        let Self { attack, seed, .. } = *self;
        let proof = self.proof.unwrap_or(if attack.is_some() { Proof::Transparent } else { Proof::None });
        let protection = self.protection();
        if protection == Protection::Participant && proof == Proof::Transparent {
            return Err(DemoError::NoiseAndProof.into());
        }
        let default = attack.map_or(PARTICIPANTS, |attack| Attackers::participants(attack, proof));
        let participants = self.participants.unwrap_or(default);
        let rounds = if attack.is_some() { ATTACKED_ROUNDS } else { protection.rounds() };
        let rounds = self.rounds.unwrap_or(rounds);
        let honest = Scene { participants, rounds, seed, protection, proof, attackers: None };
        let Some(attack) = attack else { return Ok(honest) };
        let rows = honest.deal(&lesson.train)?.iter().map(Dataset::rows).collect::<Vec<_>>();
        Ok(Scene { attackers: Some(Attackers::choose(attack, proof, &rows)?), ..honest })
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
        let architecture = self.protection().architecture(&train);
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
}

async fn create_task(admin: &Client, scene: &Scene, lesson: &Lesson) -> Result<TaskId, Failure> {
    let model = lesson.architecture.initial(scene.seed)?.to_safetensors();
    let model = admin.put_model(&model).await?;
    let policy = scene.policy(lesson.train.rows());
    let task: Task = admin.post("/v1/tasks", &TaskRequest { policy, model }).await?;
    Ok(task.id)
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
                RoundState::Collecting if coordinator.killed().is_none() && faults.kills_in(id.number) => {
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

/// Where nobody says how many.
const PARTICIPANTS: u32 = 10;
/// Where nobody says how many and some of the sites attack: enough to find out who.
const ATTACKED_ROUNDS: u64 = 10;
const HIDDEN: usize = 32;
const CLIP_NORM: f64 = 5.0;
const CENTRAL_EPOCHS: u32 = 30;
const WATCH_EVERY: Duration = Duration::from_millis(40);
/// Folder of the encoded inputs, unmasked.
const INPUTS: &str = "inputs";
const MODEL_FILE: &str = "model.safetensors";
