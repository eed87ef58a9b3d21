//! The loop of a site: check in, train, take part, again. It survives restarts of itself and of the coordinator.

mod error;

pub use error::TrainError;

use crate::attack::Attack;
use crate::budget::{Charge, SiteBudget};
use crate::client::{Client, ClientError};
use crate::credentials::{Credentials, Settings};
use crate::proving::prove;
use crate::releases::{AcceptedRelease, Checker, UNDER_WAY, Verdict};
use crate::session::{Ending, Session, SessionError, SiteSigner, SiteTrust, causes};
use crate::state::{Saved, StateFolder};
use crate::training::{RoundInfo, TrainError as TrainingError, Trained, Trainer, noise_metrics};
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::{EncodedInput, FileLimits, RingVector, Tensors};
use sordino_dp::noise::NoiseRng;
use sordino_identity::{PrincipalKey, TrustAnchors, VerifiedChains, encode_chain};
use sordino_secagg::participant::{AwaitingRoster, Identity, Input, Stored};
use sordino_secagg::{Context, NEIGHBOURS_MAX, ParticipantId, Step};
use sordino_store::crash_point;
use sordino_wire::api::{Assignment, AttemptId, CheckIn, Page, Task, TaskState};
use sordino_wire::policy::PrivacyUnit;
use sordino_wire::{CheckedPolicy, Code, Digest, PolicyError, RoundId, RoundPrivacy, RoundProof, TaskId};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
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
    /// The only policy to take part under. None: the one that this site has taken part in the task under before, if it
    /// has.
    pub policy: Option<Digest>,
    /// For demonstrations and tests.
    pub dev: Option<DevOptions>,
}

/// What weakens a site, for demonstrations and tests on one machine.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// A folder to write the encoded inputs to, unmasked: each as `ROUND.ATTEMPT.SITE.i64`, integers in little-endian order,
    /// 8 bytes each.
    pub dump: Option<PathBuf>,
    /// Rounds and the step before whose message the site falls silent.
    pub vanish: Vec<(u64, Step)>,
    /// What the site does instead of what it should, in every round.
    pub attack: Option<Attack>,
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
    /// Attempts that it left because its trainer failed.
    pub failed: u64,
    /// Releases that it checked, and that hold.
    pub checked: u64,
}

/// Takes part in a task's rounds until it is complete, enough rounds are finished, or `shutdown` resolves.
///
/// # Errors
/// [`TrainError`]: what an operator has to look at. A coordinator that is away is not an error until it has been away
/// for [`AWAY_MAX`], and a trainer that fails costs the attempt, until it has failed [`FAILURES_MAX`] times in a row.
pub async fn train(
    options: TrainOptions,
    trainer: Box<dyn Trainer>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, TrainError> {
    let mut site = Site::open(options, trainer)?;
    site.undoubted()?;
    tokio::pin!(shutdown);
    let mut summary = Summary::default();
    let task = tokio::select! {
        task = site.task() => task?,
        () = &mut shutdown => return Ok(summary),
    };
    while site.options.rounds.is_none_or(|rounds| summary.finished < rounds) {
        let ended = tokio::select! {
            ended = site.next(&task, &mut summary) => ended?,
            () = &mut shutdown => return Ok(summary),
        };
        if ended {
            break;
        }
    }
    // What came of the last round shows after this site's part in it. What does not show now is checked at the next start.
    tokio::select! {
        settled = site.settle_last(&mut summary) => settled?,
        () = &mut shutdown => {}
    }
    Ok(summary)
}

/// Lets the Release of a round be that a site has found not to hold, or was never shown: by its owner's word it takes part
/// again. The site must not be running.
///
/// # Errors
/// [`TrainError::NothingToAccept`]; else the folder cannot be used.
pub fn accept_release(folder: &Path, round: &RoundId, reason: &str) -> Result<AcceptedRelease, TrainError> {
    let credentials = Credentials::load(folder, Some(&Settings::load(folder)?.url))?;
    let mut state = StateFolder::open(folder, &credentials.key)?;
    let accepted = state.change_releases(|releases| releases.accept(round, reason))?;
    accepted.ok_or_else(|| TrainError::NothingToAccept { round: round.clone() })
}

struct Site {
    options: TrainOptions,
    settings: Settings,
    id: ParticipantId,
    key: Arc<PrincipalKey>,
    certificates: Vec<u8>,
    trust: SiteTrust,
    client: Client,
    state: StateFolder,
    budget: Arc<SiteBudget>,
    trainer: Arc<Mutex<Box<dyn Trainer>>>,
    /// How often the trainer has failed since it last gave an update.
    failures: u32,
}

/// What a round is about, checked.
struct Job {
    policy: CheckedPolicy,
    privacy: Option<RoundPrivacy>,
    proof: Option<RoundProof>,
    encoding: sordino_codec::Encoding,
    context: Context,
    model: Tensors,
}

/// What became of an assignment before this site has said a word.
enum Offer {
    Job(Box<Job>),
    /// It is over already: that happens, and nobody is to blame.
    Gone(String),
}

/// Where an attempt begins or goes on.
enum Start {
    At { stored: Box<Stored>, model_len: usize, lasts: Duration, charge: Option<Charge> },
    Ended(Ending),
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
        let budget = SiteBudget::new(&options.folder, &settings, &credentials.key);
        let budget = Arc::new(budget.map_err(TrainError::BudgetSettings)?);
        Ok(Self {
            id: ParticipantId::new(settings.id.as_str()).map_err(|_| TrainError::Registrar)?,
            certificates: encode_chain(&credentials.chain),
            trust: SiteTrust { chains: Arc::new(VerifiedChains::new(anchors, NEIGHBOURS_MAX)), registrar },
            trainer: Arc::new(Mutex::new(trainer)),
            key: Arc::new(credentials.key),
            options,
            settings,
            client,
            state,
            budget,
            failures: 0,
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
        let (assignment, saved) = match self.state.saved()? {
            Some(saved) => (saved.assignment.clone(), Some(saved)),
            None => match self.check_in(task).await? {
                CheckedIn::Assigned(assignment) => (assignment, None),
                CheckedIn::Nothing => {
                    let verdicts = self.check_releases(None).await;
                    self.settle(&verdicts, summary)?;
                    return Ok(false);
                }
                CheckedIn::TaskEnded => return Ok(true),
            },
        };
        let id = AttemptId { round: assignment.round.clone(), attempt: assignment.attempt };
        match self.take_part(&assignment, saved, summary).await {
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
            Err(error) if error.is_of_trainer() => {
                summary.failed += 1;
                self.failures += 1;
                let (failures, error_chain) = (self.failures, causes(&error));
                tracing::error!(round = %id.round, attempt = id.attempt, failures, error = error_chain, "training failed");
                // Before the pause: whoever stops the site in it finds this attempt done with.
                self.state.finish(id)?;
                if self.failures >= FAILURES_MAX {
                    return Err(error);
                }
                tokio::time::sleep(FAILURE_PAUSE * (1 << (self.failures - 1))).await;
                return Ok(false);
            }
            Err(error @ TrainError::Vanished { .. }) => {
                self.state.finish(id)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        crash_point!("end:made");
        self.state.finish(id)?;
        crash_point!("end:stored");
        Ok(false)
    }

    async fn check_in(&self, task: &TaskId) -> Result<CheckedIn, TrainError> {
        let after = self.state.done(task).cloned();
        let path = format!("/v1/tasks/{task}/checkin");
        let check_in = CheckIn { after: after.clone(), epsilon_spent: self.budget.spent_by_records()? };
        match self.client.post_poll(&path, CHECK_IN, &check_in).await {
            Ok(None) => Ok(CheckedIn::Nothing),
            Ok(Some(assignment)) => {
                let Assignment { round, attempt, .. } = &assignment;
                // A coordinator that was set back, or replays, offers an attempt that is over: never again.
                let id = AttemptId { round: round.clone(), attempt: *attempt };
                if round.task != *task || after.as_ref().is_some_and(|after| id <= *after) {
                    tracing::error!(offered = ?id, done = ?after, %task, "an attempt that is over, or of another task");
                    return Err(TrainError::OtherPolicy);
                }
                Ok(CheckedIn::Assigned(assignment))
            }
            Err(error) if error.code() == Some(Code::Conflict) => Ok(CheckedIn::TaskEnded),
            Err(error) => Err(error.into()),
        }
    }

    async fn take_part(
        &mut self,
        assignment: &Assignment,
        saved: Option<Saved>,
        summary: &mut Summary,
    ) -> Result<Ending, TrainError> {
        // The rounds before are checked while this one is trained: before a word of it is said.
        let checks = self.check_releases(Some(&assignment.round));
        let start = async {
            match saved {
                Some(saved) => self.restore(&saved).await,
                None => self.begin(assignment).await,
            }
        };
        let (verdicts, start) = tokio::join!(checks, start);
        self.settle(&verdicts, summary)?;
        let (stored, model_len, lasts, charge) = match start? {
            Start::At { stored, model_len, lasts, charge } => (stored, model_len, lasts, charge),
            Start::Ended(ending) => return Ok(ending),
        };
        let round = &assignment.round;
        let session = Session {
            client: &self.client,
            identity: &self.key,
            trust: &self.trust,
            state: &self.state,
            assignment,
            model_len,
            lasts,
            budget: &self.budget,
            charge,
            vanish: self.vanish_in(round.number),
        };
        session.run(*stored).await.map_err(|error| match error {
            SessionError::Client(error) => error.into(),
            SessionError::State(error) => error.into(),
            SessionError::Budget(error) => *error,
            SessionError::Cut => TrainError::Cut,
            SessionError::Vanish(step) => TrainError::Vanished { round: round.clone(), step },
        })
    }

    /// Checks the Releases that are awaited, but that of this round.
    fn check_releases(&self, but: Option<&RoundId>) -> impl Future<Output = Vec<(RoundId, Verdict)>> + use<> {
        let checker = Checker {
            client: self.client.with_budget(CHECK_PATIENCE),
            trust: self.trust.clone(),
            federation: self.settings.federation.clone(),
            id: self.id.clone(),
        };
        checker.check_all(self.state.releases().due(but))
    }

    /// Makes what came of checks durable. One that failed is the end: of this process, and of every later one until the
    /// site's owner has looked.
    fn settle(&mut self, verdicts: &[(RoundId, Verdict)], summary: &mut Summary) -> Result<(), TrainError> {
        let mut shown = None;
        for (round, verdict) in verdicts {
            match verdict {
                Verdict::Holds(audited) => {
                    summary.checked += 1;
                    let (inputs, sum) = (audited.survivors.len(), audited.sum);
                    let effective_bound = audited.bounds.as_ref().map(|bounds| bounds.effective_bound);
                    let model_recomputed = audited.model_recomputed;
                    tracing::info!(%round, inputs, effective_bound, model_recomputed, %sum, "checked: the released sum is that of proven inputs");
                    if !model_recomputed {
                        tracing::warn!(%round, "the next model was not computed again: the coordinator does not hand out the model before it, or what its optimiser remembered");
                    }
                }
                Verdict::None => tracing::debug!(%round, "nothing was released, nothing is to be checked"),
                Verdict::Later(why) => {
                    if why != UNDER_WAY {
                        tracing::warn!(%round, why, "the Release cannot be checked yet");
                    }
                    shown = Some(why.clone());
                }
                Verdict::Doubted(reason) => tracing::error!(%round, reason, "the Release does not hold"),
            }
        }
        self.state
            .change_releases(|releases| verdicts.iter().for_each(|(round, verdict)| releases.settle(round, verdict)))?;
        self.undoubted()?;
        match self.state.releases().too_many() {
            Some(awaited) => Err(TrainError::Unshown { awaited, why: shown.unwrap_or_default() }),
            None => Ok(()),
        }
    }

    /// Whether this site takes part in anything.
    fn undoubted(&self) -> Result<(), TrainError> {
        let Some((round, reason)) = self.state.releases().doubt() else { return Ok(()) };
        let folder = self.options.folder.clone();
        Err(TrainError::Doubted { round: round.clone(), reason: reason.to_owned(), folder })
    }

    /// Checks what is still awaited when the site takes part in no more: for as long as the last round may take to end.
    async fn settle_last(&mut self, summary: &mut Summary) -> Result<(), TrainError> {
        let until = Instant::now() + LAST_PATIENCE;
        loop {
            let verdicts = self.check_releases(None).await;
            let under_way = verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Later(UNDER_WAY.to_owned()));
            self.settle(&verdicts, summary)?;
            if !under_way || Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
    }

    fn vanish_in(&self, round: u64) -> Option<Step> {
        let vanish = &self.options.dev.as_ref()?.vanish;
        vanish.iter().find(|(number, _)| *number == round).map(|(_, step)| *step)
    }

    async fn read_task(&self, task: &TaskId) -> Result<Task, ClientError> {
        self.client.get(&format!("/v1/tasks/{task}")).await
    }

    /// Whether this site takes part in a task under this policy: whoever chose the first one has agreed to that one only.
    fn agree(&self, task: &TaskId, policy: &CheckedPolicy) -> Result<(), TrainError> {
        let (now, min, floor) = (policy.digest(), policy.policy().cohort.min, self.settings.min_cohort);
        match (self.options.policy, self.state.policy(task)) {
            (Some(named), _) if named != now => Err(TrainError::NotTheNamedPolicy { named, found: now }),
            (None, Some(first)) if first != now => Err(TrainError::PolicyChanged { first, now }),
            _ if min < floor => Err(TrainError::WeakPolicy { min, floor }),
            _ => self.is_private_enough(task, policy),
        }
    }

    /// Whether a policy promises this site's owner enough. What rounds cost is counted here, whatever it promises.
    fn is_private_enough(&self, task: &TaskId, policy: &CheckedPolicy) -> Result<(), TrainError> {
        let (privacy, max) = (&policy.policy().privacy, self.settings.max_epsilon);
        if !privacy.enabled {
            return self.budget.allows_unprotected(task);
        }
        let whole = privacy.unit == PrivacyUnit::Participant;
        if whole && privacy.total_epsilon > max {
            return Err(TrainError::PolicyBudget { epsilon: privacy.total_epsilon, max });
        }
        if whole { Ok(()) } else { self.check_deltas(privacy.delta) }
    }

    /// Whether neither this site's own delta nor the one that Releases promise its records is above 1 over their number,
    /// where its trainer knows that: nobody else does.
    fn check_deltas(&self, promised: f64) -> Result<(), TrainError> {
        let records = self.trainer.lock().unwrap_or_else(PoisonError::into_inner).records();
        let Some(records) = records else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "records are far fewer than 2^53")]
        let above = |delta: f64| delta * records as f64 > 1.0;
        let own = self.settings.delta;
        if above(own) {
            return Err(TrainError::Delta { delta: own, records });
        }
        if above(promised) {
            let unit = "records of this site";
            return Err(PolicyError::DeltaAbovePopulation { delta: promised, population: records, unit }.into());
        }
        Ok(())
    }

    /// Goes on with an attempt of before a restart. What stands in its way now would do so at every start: the attempt is
    /// given up. The model is not needed any more.
    async fn restore(&self, saved: &Saved) -> Result<Start, TrainError> {
        let Saved { assignment, model_len, stored } = saved;
        let left_out = |why: &dyn std::error::Error| Ok(Start::Ended(Ending::LeftOut(causes(why))));
        let task = match self.read_task(&assignment.round.task).await {
            Err(error) if error.code() == Some(Code::NotFound) => return left_out(&error),
            task => task?,
        };
        let policy = match task.policy.check() {
            Ok(policy) => policy,
            Err(error) => return left_out(&error),
        };
        if policy.digest() != assignment.policy_digest {
            let (bound, told) = (assignment.policy_digest, policy.digest());
            let evidence = format!("the attempt binds policy {bound}, and the coordinator now tells of {told}");
            return Ok(Start::Ended(Ending::Refused(evidence)));
        }
        if let Err(error) = self.agree(&assignment.round.task, &policy) {
            return left_out(&error);
        }
        let settled = policy.assigned_terms(assignment.cohort, assignment.noise_multiplier).and_then(|terms| {
            let (encoding, privacy) = (policy.encoding(*model_len, &terms)?, policy.round_privacy(*model_len, &terms)?);
            Ok((encoding, privacy, policy.round_proof(*model_len, &terms)?))
        });
        let (encoding, privacy, proof) = match settled {
            Ok(settled) => settled,
            Err(error) => return left_out(&error),
        };
        let charge = privacy.as_ref().map(|privacy| Charge::of(assignment, privacy));
        let context = policy.context(&self.settings.federation, assignment, (&encoding, proof.as_ref()));
        match Stored::from_bytes(stored, context) {
            Ok(stored) => {
                let (stored, lasts) = (Box::new(stored), lasts(&policy));
                Ok(Start::At { stored, model_len: *model_len, lasts, charge })
            }
            Err(error) => left_out(&error),
        }
    }

    /// Fetches policy and model, and checks that they are those that the attempt binds.
    async fn job(&self, assignment: &Assignment) -> Result<Offer, TrainError> {
        let task = self.read_task(&assignment.round.task).await?;
        let policy = task.policy.check()?;
        if policy.digest() != assignment.policy_digest || task.round < assignment.round.number {
            let (bound, told, number) = (assignment.policy_digest, policy.digest(), task.round);
            tracing::error!(round = %assignment.round, %bound, %told, number, "task and assignment contradict each other");
            return Err(TrainError::OtherPolicy);
        }
        let (round, rounds) = (assignment.round.number, policy.policy().task.rounds);
        if !(1..=rounds).contains(&round) {
            return Err(TrainError::NoSuchRound { round, rounds });
        }
        // Between the assignment and this answer the round may have ended.
        if task.round > assignment.round.number || task.model != assignment.model {
            return Ok(Offer::Gone(format!("round {} is over, the task is at {}", assignment.round, task.round)));
        }
        self.agree(&assignment.round.task, &policy)?;
        let limits = FileLimits::default();
        let bytes = match self.client.get_model(assignment.model, limits.max_file_bytes).await {
            Err(error) if error.code() == Some(Code::NotFound) => return Ok(Offer::Gone(error.to_string())),
            bytes => bytes?,
        };
        // One model, one file: else the same model under another digest would be counted as another one.
        let model = Tensors::from_canonical(&bytes, &limits)
            .map_err(|source| TrainError::Model { round: assignment.round.clone(), source })?;
        let model_len = model.layout().len();
        let terms = policy.assigned_terms(assignment.cohort, assignment.noise_multiplier)?;
        let encoding = policy.encoding(model_len, &terms)?;
        let privacy = policy.round_privacy(model_len, &terms)?;
        let proof = policy.round_proof(model_len, &terms)?;
        let context = policy.context(&self.settings.federation, assignment, (&encoding, proof.as_ref()));
        Ok(Offer::Job(Box::new(Job { policy, privacy, proof, encoding, context, model })))
    }

    /// Trains, encodes, and advertises keys: all that has randomness of the update is over before shares are made.
    async fn begin(&mut self, assignment: &Assignment) -> Result<Start, TrainError> {
        let job = match self.job(assignment).await? {
            Offer::Job(job) => job,
            Offer::Gone(why) => {
                // A coordinator that offers what is over again and again is not asked at full speed.
                tokio::time::sleep(GONE_PAUSE).await;
                return Ok(Start::Ended(Ending::LeftOut(why)));
            }
        };
        // Before any work: what was trained for an attempt that is refused would be thrown away.
        let exposure = self.state.exposure()?;
        if let Err(refusal) = exposure.check((&job.context).into(), self.settings.max_sums_per_model) {
            return Ok(Start::Ended(Ending::Refused(causes(&refusal))));
        }
        let charge = job.privacy.as_ref().map(|privacy| Charge::of(assignment, privacy));
        if let Some(charge) = &charge {
            self.budget.allows(charge)?;
        }
        let mut trained = self.train(assignment, &job).await?;
        if let Some(RoundPrivacy::Record(round)) = &job.privacy {
            let noised = noise_metrics(&mut trained.metrics, &round.record_max, round.metric_noise_multiplier);
            noised.map_err(|source| training_failed(assignment, source))?;
        }
        let update = trained.tensors.minus(&job.model)?;
        let metrics = &job.policy.policy().encoding.metrics;
        let metrics = metrics
            .iter()
            .map(|metric| {
                let value = trained.metrics.get(&metric.name).copied();
                value.ok_or_else(|| TrainError::Metric(metric.name.clone()))
            })
            .collect::<Result<Vec<f64>, _>>()?;
        // How many records a site has is data.
        let weight = if job.privacy.is_some() { 1 } else { u32::try_from(trained.num_examples).unwrap_or(u32::MAX) };
        let mut rng = UnwrapErr(SysRng);
        let EncodedInput { mut vector, norm, clipped, weight: counted, weight_capped, metrics_clamped } =
            job.encoding.encode(&update, weight, &metrics, &mut rng)?;
        if weight_capped || metrics_clamped {
            let round = &assignment.round;
            tracing::warn!(%round, weight, counted, metrics_clamped, "the policy's caps change what this site reports");
        }
        if let Some(RoundPrivacy::Participant(round)) = &job.privacy {
            round.add_share(&mut vector, &mut NoiseRng::from_os(getrandom::fill)?)?;
        }
        self.failures = 0;
        tracing::debug!(round = %assignment.round, norm, clipped, "update encoded");
        // Before the first word of it: a later policy is compared with this one.
        self.state.pin(&assignment.round.task, job.policy.digest())?;
        let identity = Identity { id: &self.id, certificates: &self.certificates };
        let model_len = job.model.layout().len();
        let (job, input) = self.prove(job, vector).await?;
        if let Some(attachment) = &input.attachment {
            let commitments = &attachment.commitments;
            self.state.change_releases(|releases| releases.await_release(assignment, model_len, commitments))?;
        }
        if let Some(folder) = self.options.dev.as_ref().and_then(|dev| dev.dump.as_deref()) {
            let attempt = AttemptId { round: assignment.round.clone(), attempt: assignment.attempt };
            // What is masked, also where that is an attack.
            let integers = input.vector.iter_centered().take(job.encoding.integers());
            crate::dump::write(folder, &attempt, &self.id, integers)?;
        }
        let state = AwaitingRoster::advertise(job.context, identity, input, &SiteSigner(&self.key), &mut rng)?;
        let stored = Stored::AwaitingRoster(state);
        crash_point!("AdvertiseKeys:made");
        self.state.save(assignment, model_len, &stored.to_bytes())?;
        #[cfg(feature = "test-util")]
        self.state.witness(&stored)?;
        crash_point!("AdvertiseKeys:stored");
        Ok(Start::At { stored: Box::new(stored), model_len, lasts: lasts(&job.policy), charge })
    }

    /// The input with its proof, where one is asked for.
    async fn prove(&self, job: Box<Job>, vector: RingVector) -> Result<(Box<Job>, Input), TrainError> {
        let attack = self.options.dev.as_ref().and_then(|dev| dev.attack);
        let Some(proof) = job.proof.clone() else {
            let vector = match attack {
                Some(attack) => attack.unproven(&job.encoding, vector),
                None => vector,
            };
            return Ok((job, vector.into()));
        };
        let id = self.id.clone();
        let began = Instant::now();
        let work = move || {
            let input = prove((&proof, &job.encoding), (&job.context, &id), vector, attack)?;
            Ok((job, input))
        };
        let proven = tokio::task::spawn_blocking(work).await.map_err(|_| TrainError::Cut)?;
        tracing::debug!(seconds = began.elapsed().as_secs_f64(), "input proven");
        proven
    }

    async fn train(&self, assignment: &Assignment, job: &Job) -> Result<Trained, TrainError> {
        let round = RoundInfo::of(assignment.round.number, job.policy.policy(), job.privacy.as_ref());
        let (trainer, model) = (self.trainer.clone(), job.model.clone());
        let work = move || trainer.lock().unwrap_or_else(PoisonError::into_inner).train(&model, &round);
        let trained = tokio::task::spawn_blocking(work).await.map_err(|_| TrainError::Cut)?;
        trained.map_err(|source| training_failed(assignment, source))
    }
}

fn training_failed(assignment: &Assignment, source: TrainingError) -> TrainError {
    TrainError::Training { round: assignment.round.clone(), source: Box::new(source) }
}

/// How long an attempt may last.
fn lasts(policy: &CheckedPolicy) -> Duration {
    Duration::from_secs_f64(policy.policy().timing.round_timeout)
}

enum CheckedIn {
    Assigned(Assignment),
    Nothing,
    TaskEnded,
}

/// How long a coordinator may be away before a site gives up and says so.
pub const AWAY_MAX: Duration = Duration::from_secs(300);
/// How often in a row a trainer may fail before the site gives up and says so.
pub const FAILURES_MAX: u32 = 3;
/// After the first failure of a trainer; doubled after each further one.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How long a Release is asked for before it is left for later.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a site that takes part in no more waits for the end of its last round,
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// and how long it waits in between.
const LAST_PAUSE: Duration = Duration::from_millis(500);
/// After an attempt that was over before it began here.
const GONE_PAUSE: Duration = Duration::from_millis(500);
/// How long a check-in asks to wait; the coordinator cuts it to its own limit.
const CHECK_IN: Duration = Duration::from_secs(25);
