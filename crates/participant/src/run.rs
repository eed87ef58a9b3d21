//! The loop of a site: check in, train, take part, again. It survives restarts of itself and of the coordinator.

use crate::client::{Client, ClientError};
use crate::credentials::{Credentials, CredentialsError, Settings};
use crate::session::{Ending, Session, SessionError, SiteSigner, SiteTrust};
use crate::state::{StateError, StateFolder};
use crate::training::{Hyperparameters, RoundInfo, TrainError as TrainingError, Trained, Trainer};
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::{EncodeError, EncodedInput, EncodingError, FileLimits, ModelFileError, Tensors, TensorsError};
use sordino_identity::{IdentityKey, TrustAnchors, encode_chain};
use sordino_secagg::participant::{AwaitingRoster, Identity, Refusal, RestoreError, Stored};
use sordino_secagg::{Context, ParticipantId, Step};
use sordino_wire::api::{Assignment, AttemptId, CheckIn, Page, Task, TaskState};
use sordino_wire::{CheckedPolicy, Code, Digest, PolicyError, TaskId};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a site does, beside its data.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// The folder that `join` made.
    pub folder: PathBuf,
    /// The task; the only active one where it is not named.
    pub task: Option<TaskId>,
    /// Rounds to finish before the loop ends; none: until the task ends.
    pub rounds: Option<u64>,
    /// For demonstrations and tests.
    pub dev: Option<DevOptions>,
}

/// What weakens a site, for demonstrations and tests on one machine.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// A folder to write the encoded inputs to, unmasked.
    pub dump: Option<PathBuf>,
    /// Rounds and the step before whose message the site falls silent.
    pub vanish: Vec<(u64, Step)>,
}

/// What a loop did until it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts that this site saw through to its last step.
    pub finished: u64,
    /// Attempts that went on or ended without it.
    pub left_out: u64,
    /// Attempts that it left because it did not believe the coordinator.
    pub refused: u64,
}

/// Why the loop ended before its task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The folder.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The settings hold no registrar's key.
    #[error("the registrar's key in participant.toml is not 64 hexadecimal digits of an Ed25519 key")]
    Registrar,
    /// The root certificate.
    #[error("the root certificate in the folder is not one of this federation")]
    Root(#[from] sordino_identity::TrustError),
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was stored of an attempt.
    #[error("the stored state of round {round} cannot be used")]
    Restore {
        /// The round.
        round: sordino_wire::RoundId,
        /// Why.
        source: RestoreError,
    },
    /// No task, or several.
    #[error("there are {0} active tasks; name one")]
    WhichTask(usize),
    /// The policy cannot be kept here.
    #[error("the task's policy is refused by this site")]
    Policy(#[from] PolicyError),
    /// Other than the attempt binds.
    #[error("the task's policy or round is not the one that the attempt binds")]
    OtherPolicy,
    /// The model.
    #[error("the model of round {round} cannot be used")]
    Model {
        /// The round.
        round: sordino_wire::RoundId,
        /// Why.
        source: ModelFileError,
    },
    /// The model and the policy.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// Training.
    #[error("training failed in round {round}")]
    Training {
        /// The round.
        round: sordino_wire::RoundId,
        /// Why.
        source: Box<TrainingError>,
    },
    /// What training gave is no update of the model.
    #[error("what training gave is no update of the model")]
    Update(#[from] TensorsError),
    /// A metric that the policy asks for.
    #[error("the trainer gives no metric {0:?}, which the policy asks for")]
    Metric(String),
    /// The update.
    #[error("the update cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The attempt.
    #[error("the attempt is refused")]
    Refused(#[from] Refusal),
    /// The dump, a development option.
    #[error("cannot write {path}")]
    Dump {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Work was cut off.
    #[error("the work of a round was cut off")]
    Cut,
    /// The site fell silent, as a development option asked.
    #[error("vanished before {step} of round {round}, as asked")]
    Vanished {
        /// The round.
        round: sordino_wire::RoundId,
        /// The step.
        step: Step,
    },
}

/// Takes part in a task's rounds until it is complete, enough rounds are finished, or `shutdown` resolves.
///
/// # Errors
/// [`TrainError`]: what an operator has to look at. A coordinator that is away is not an error until it has been away
/// for [`AWAY_MAX`].
pub async fn train(
    options: TrainOptions,
    trainer: Box<dyn Trainer>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, TrainError> {
    let mut site = Site::open(options, trainer)?;
    tokio::pin!(shutdown);
    let mut summary = Summary::default();
    let task = tokio::select! {
        task = site.task() => task?,
        () = &mut shutdown => return Ok(summary),
    };
    while site.options.rounds.is_none_or(|rounds| summary.finished < rounds) {
        let ended = tokio::select! {
            ended = site.next(&task, &mut summary) => ended?,
            () = &mut shutdown => break,
        };
        if ended {
            break;
        }
    }
    Ok(summary)
}

struct Site {
    options: TrainOptions,
    settings: Settings,
    id: ParticipantId,
    key: IdentityKey,
    certificates: Vec<u8>,
    trust: SiteTrust,
    client: Client,
    state: StateFolder,
    trainer: Arc<Mutex<Box<dyn Trainer>>>,
}

/// What a round is about, checked.
struct Job {
    policy: CheckedPolicy,
    encoding: sordino_codec::Encoding,
    context: Context,
    model: Tensors,
}

impl Site {
    fn open(options: TrainOptions, trainer: Box<dyn Trainer>) -> Result<Self, TrainError> {
        let settings = Settings::load(&options.folder)?;
        let credentials = Credentials::load(&options.folder, Some(&settings.url))?;
        let registrar = settings
            .registrar
            .parse::<Digest>()
            .ok()
            .and_then(|bytes| VerifyingKey::from_bytes(&bytes.0).ok())
            .ok_or(TrainError::Registrar)?;
        let anchors = TrustAnchors::from_pem(settings.federation.clone(), &credentials.root_pem)?;
        let client = Client::new(&credentials)?.with_budget(AWAY_MAX);
        let state = StateFolder::open(&options.folder, &credentials.key)?;
        Ok(Self {
            id: ParticipantId::new(settings.id.as_str()).map_err(|_| TrainError::Registrar)?,
            certificates: encode_chain(&credentials.chain),
            trust: SiteTrust { anchors, registrar },
            trainer: Arc::new(Mutex::new(trainer)),
            key: credentials.key,
            options,
            settings,
            client,
            state,
        })
    }

    async fn task(&self) -> Result<TaskId, TrainError> {
        if let Some(task) = &self.options.task {
            return Ok(task.clone());
        }
        let page: Page<Task> = self.client.get("/v1/tasks?limit=500").await?;
        let mut active = page.items.iter().filter(|task| task.state == TaskState::Active);
        match (active.next(), active.count()) {
            (Some(task), 0) => Ok(task.id.clone()),
            (first, more) => Err(TrainError::WhichTask(usize::from(first.is_some()) + more)),
        }
    }

    /// The next attempt, or the one that was open when the process ended. True when the task has no more rounds.
    async fn next(&mut self, task: &TaskId, summary: &mut Summary) -> Result<bool, TrainError> {
        let (assignment, stored) = match self.state.saved()? {
            Some(saved) => (saved.assignment, Some(saved.stored)),
            None => match self.check_in(task).await? {
                CheckedIn::Assigned(assignment) => (assignment, None),
                CheckedIn::Nothing => return Ok(false),
                CheckedIn::TaskEnded => return Ok(true),
            },
        };
        let id = AttemptId { round: assignment.round.clone(), attempt: assignment.attempt };
        match self.take_part(&assignment, stored.as_deref().map(Vec::as_slice)).await {
            Ok(Ending::Finished) => {
                summary.finished += 1;
                tracing::info!(round = %id.round, attempt = id.attempt, "took part");
            }
            Ok(Ending::LeftOut(why)) => {
                summary.left_out += 1;
                tracing::warn!(round = %id.round, attempt = id.attempt, why, "left out");
            }
            Ok(Ending::Refused(evidence)) => {
                summary.refused += 1;
                tracing::error!(round = %id.round, attempt = id.attempt, evidence, "refused: the coordinator was not believed");
            }
            Err(error @ TrainError::Vanished { .. }) => {
                self.state.finish(id)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.state.finish(id)?;
        Ok(false)
    }

    async fn check_in(&self, task: &TaskId) -> Result<CheckedIn, TrainError> {
        let after = self.state.done(task).cloned();
        let path = format!("/v1/tasks/{task}/checkin?wait={CHECK_IN_SECONDS}");
        match self.client.post_or_nothing(&path, &CheckIn { after: after.clone() }).await {
            Ok(None) => Ok(CheckedIn::Nothing),
            Ok(Some(assignment)) => {
                let Assignment { round, attempt, .. } = &assignment;
                // A coordinator that was set back, or replays, offers an attempt that is over: never again.
                let id = AttemptId { round: round.clone(), attempt: *attempt };
                if round.task != *task || after.is_some_and(|after| id <= after) {
                    return Err(TrainError::OtherPolicy);
                }
                Ok(CheckedIn::Assigned(assignment))
            }
            Err(error) if error.code() == Some(Code::Conflict) => Ok(CheckedIn::TaskEnded),
            Err(error) => Err(error.into()),
        }
    }

    async fn take_part(&mut self, assignment: &Assignment, stored: Option<&[u8]>) -> Result<Ending, TrainError> {
        let vanish = self.vanish_in(assignment.round.number);
        let job = self.job(assignment, stored.is_none()).await?;
        let round = &assignment.round;
        let restored = match stored {
            Some(bytes) => Stored::from_bytes(bytes, job.context.clone())
                .map_err(|source| TrainError::Restore { round: round.clone(), source })?,
            None => self.begin(assignment, &job).await?,
        };
        let session = Session {
            client: &self.client,
            identity: &self.key,
            trust: &self.trust,
            state: &self.state,
            assignment,
            lasts: Duration::from_secs_f64(job.policy.policy().timing.round_timeout),
            vanish,
        };
        session.run(restored).await.map_err(|error| match error {
            SessionError::Client(error) => error.into(),
            SessionError::State(error) => error.into(),
            SessionError::Cut => TrainError::Cut,
            SessionError::Vanish(step) => TrainError::Vanished { round: round.clone(), step },
        })
    }

    fn vanish_in(&self, round: u64) -> Option<Step> {
        let vanish = &self.options.dev.as_ref()?.vanish;
        vanish.iter().find(|(number, _)| *number == round).map(|(_, step)| *step)
    }

    /// Fetches policy and model, and checks that they are those that the attempt binds. `new`: it has not begun here.
    async fn job(&self, assignment: &Assignment, new: bool) -> Result<Job, TrainError> {
        let task: Task = self.client.get(&format!("/v1/tasks/{}", assignment.round.task)).await?;
        let policy = task.policy.check()?;
        let stale = new && (task.round != assignment.round.number || task.model != assignment.model);
        if policy.digest() != assignment.policy_digest || stale {
            return Err(TrainError::OtherPolicy);
        }
        let limits = FileLimits::default();
        let bytes = self.client.get_model(assignment.model, limits.max_file_bytes).await?;
        let model = Tensors::from_safetensors(&bytes, &limits)
            .map_err(|source| TrainError::Model { round: assignment.round.clone(), source })?;
        let encoding = policy.encoding(model.layout().len())?;
        let context = policy.context(&self.settings.federation, assignment, &encoding);
        Ok(Job { policy, encoding, context, model })
    }

    /// Trains, encodes, and advertises keys: all that has randomness of the update is over before shares are made.
    async fn begin(&mut self, assignment: &Assignment, job: &Job) -> Result<Stored, TrainError> {
        let trained = self.train(assignment, job).await?;
        let update = trained.tensors.minus(&job.model)?;
        let metrics = &job.policy.policy().encoding.metrics;
        let metrics = metrics
            .iter()
            .map(|metric| {
                let value = trained.metrics.get(&metric.name).copied();
                value.ok_or_else(|| TrainError::Metric(metric.name.clone()))
            })
            .collect::<Result<Vec<f64>, _>>()?;
        let weight = u32::try_from(trained.num_examples).unwrap_or(u32::MAX);
        let mut rng = UnwrapErr(SysRng);
        let EncodedInput { vector, norm, clipped, .. } = job.encoding.encode(&update, weight, &metrics, &mut rng)?;
        tracing::debug!(round = %assignment.round, norm, clipped, "update encoded");
        if let Some(folder) = self.options.dev.as_ref().and_then(|dev| dev.dump.as_deref()) {
            let integers: Vec<u8> = vector.iter_centered().flat_map(i64::to_le_bytes).collect();
            self.dump(folder, assignment, &integers)?;
        }
        let identity = Identity { id: &self.id, certificates: &self.certificates };
        let state = AwaitingRoster::advertise(job.context.clone(), identity, vector, &SiteSigner(&self.key), &mut rng)?;
        let stored = Stored::AwaitingRoster(state);
        self.state.save(assignment, &stored.to_bytes())?;
        #[cfg(feature = "test-util")]
        self.state.witness(&stored)?;
        Ok(stored)
    }

    async fn train(&self, assignment: &Assignment, job: &Job) -> Result<Trained, TrainError> {
        let training = &job.policy.policy().training;
        let round = RoundInfo {
            round: assignment.round.number,
            hyperparameters: Hyperparameters {
                local_epochs: training.local_epochs,
                batch_size: training.batch_size,
                learning_rate: training.learning_rate,
                momentum: training.momentum,
            },
        };
        let (trainer, model) = (self.trainer.clone(), job.model.clone());
        let work = move || trainer.lock().unwrap_or_else(PoisonError::into_inner).train(&model, &round);
        let trained = tokio::task::spawn_blocking(work).await.map_err(|_| TrainError::Cut)?;
        trained.map_err(|source| TrainError::Training { round: assignment.round.clone(), source: Box::new(source) })
    }

    fn dump(&self, folder: &Path, assignment: &Assignment, bytes: &[u8]) -> Result<(), TrainError> {
        let name = format!("{}.{}.{}.i64", assignment.round.number, assignment.attempt, self.id);
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| TrainError::Dump { path, source })
    }
}

enum CheckedIn {
    Assigned(Assignment),
    Nothing,
    TaskEnded,
}

/// How long a coordinator may be away before a site gives up and says so.
pub const AWAY_MAX: Duration = Duration::from_secs(300);
/// Seconds of a check-in's long poll; the coordinator cuts it to its own limit.
const CHECK_IN_SECONDS: u64 = 25;
