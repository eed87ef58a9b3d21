//! Why a site's loop ends before its task does.

use crate::client::ClientError;
use crate::credentials::CredentialsError;
use crate::dump::DumpError;
use crate::proving::ProvingError;
use crate::state::StateError;
use crate::training::TrainError as TrainingError;
use sordino_codec::{EncodeError, EncodingError, ModelFileError, TensorsError};
use sordino_dp::ledger::{Invalid, Refusal as BudgetRefusal, Terms};
use sordino_dp::noise::{NoiseError, Unseeded};
use sordino_secagg::Step;
use sordino_secagg::participant::Refusal;
use sordino_store::LedgerStoreError;
use sordino_wire::{Digest, PolicyError, RoundId, TaskId};
use std::path::PathBuf;

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
    /// No task, or several.
    #[error("there are {0} active tasks; name one")]
    WhichTask(usize),
    /// The policy cannot be kept here.
    #[error("the task's policy is refused by this site")]
    Policy(#[from] PolicyError),
    /// Weaker than this site's settings allow.
    #[error(
        "the task's policy opens sums of {min} inputs, this site asks for {floor} at least (min_cohort in participant.toml)"
    )]
    WeakPolicy {
        /// The policy's `cohort.min`.
        min: u32,
        /// The site's `min_cohort`.
        floor: u32,
    },
    /// Less private than this site's settings allow.
    #[error(
        "task {task} has privacy switched off, and this site takes part with privacy only (require_privacy = true in \
         participant.toml)"
    )]
    NoPrivacy {
        /// The task.
        task: TaskId,
    },
    /// Less private than what this site has paid for.
    #[error(
        "task {task} has privacy switched off, and this site has paid for privacy in {ledger}: a sum without noise \
         would tell what was paid to hide, so nothing is sent; take part in tasks with privacy, or allow this with \
         require_privacy = false in participant.toml"
    )]
    Unprotected {
        /// The task.
        task: TaskId,
        /// The site's ledger.
        ledger: PathBuf,
    },
    /// A budget above this site's.
    #[error(
        "the task's policy may spend epsilon {epsilon}, this site allows {max} at most (max_epsilon in participant.toml)"
    )]
    PolicyBudget {
        /// The policy's `total_epsilon`.
        epsilon: f64,
        /// The site's `max_epsilon`.
        max: f64,
    },
    /// This site's own budget does not cover the round.
    #[error(
        "this site's privacy budget does not cover round {round}: nothing is sent; max_epsilon in participant.toml is what \
         it may pay in all, for one record and for its whole contribution, and a new data_version is for new records of new \
         people"
    )]
    BudgetSpent {
        /// The round.
        round: sordino_wire::RoundId,
        /// What the ledger says.
        source: Box<BudgetRefusal>,
    },
    /// The site's delta would allow to show a record whole.
    #[error(
        "delta is {delta:e} in participant.toml, above 1 in {records} records: that would allow one of them to be shown \
         whole; lower it"
    )]
    Delta {
        /// The setting.
        delta: f64,
        /// Records of this site.
        records: u64,
    },
    /// The settings ask for another budget than the ledger keeps.
    #[error(
        "participant.toml asks for epsilon {} at delta {:e}, and this site's ledger keeps epsilon {} at delta {:e} for \
         {scope}: nothing is done until `sordino budget reset --site {folder} --reason TEXT` has let participant.toml hold; \
         it forgets no charge", .asked.epsilon(), .asked.delta(), .kept.epsilon(), .kept.delta()
    )]
    OtherBudget {
        /// The site's.
        folder: PathBuf,
        /// Which account.
        scope: String,
        /// What the settings say.
        asked: Terms,
        /// What the ledger says.
        kept: Terms,
    },
    /// There is no account that could have another budget.
    #[error(
        "this site's ledger has no account for data version {data_version} yet: max_epsilon and delta in participant.toml \
         hold without a reset"
    )]
    NothingToReset {
        /// The setting.
        data_version: String,
    },
    /// The settings are no budget.
    #[error("max_epsilon, delta or data_version in participant.toml cannot be used")]
    BudgetSettings(#[source] Invalid),
    /// The site's ledger: nothing may be sent before it is whole.
    #[error(transparent)]
    Ledger(#[from] LedgerStoreError),
    /// Noise could not be drawn: nothing may be sent.
    #[error("noise could not be drawn")]
    Noise(#[from] NoiseError),
    /// There is no entropy for noise.
    #[error(transparent)]
    Entropy(#[from] Unseeded<getrandom::Error>),
    /// A round that the task cannot have: with one more after the last, a coordinator could ask for sums without end.
    #[error("the coordinator offers round {round}, and the task has rounds 1 to {rounds}")]
    NoSuchRound {
        /// What was offered.
        round: u64,
        /// The policy's `task.rounds`.
        rounds: u64,
    },
    /// Another policy than this site has taken part under before.
    #[error(
        "the task's policy changed from {first} to {now}; ask who has changed it and why, \
         then start with --policy {now} to take part under it"
    )]
    PolicyChanged {
        /// What the site has taken part under.
        first: Digest,
        /// What the coordinator says now.
        now: Digest,
    },
    /// Another policy than the one that was asked for.
    #[error("the task's policy is {found}, this site was started to take part under {named} only")]
    NotTheNamedPolicy {
        /// What was asked for.
        named: Digest,
        /// What the coordinator says.
        found: Digest,
    },
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
    /// The proof of the input.
    #[error(transparent)]
    Prove(#[from] ProvingError),
    /// The attempt.
    #[error("the attempt is refused")]
    Refused(#[from] Refusal),
    /// The dump, a development option.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A Release that does not hold: the coordinator, or a coordinator before it, has released another sum than that of the
    /// inputs that were proven, or cannot show that it is.
    #[error(
        "the Release of round {round} does not hold: {reason}; this site takes part in nothing more until `sordino round \
         accept --site {folder} --reason TEXT {round}` says that it may"
    )]
    Doubted {
        /// The round.
        round: RoundId,
        /// What does not fit.
        reason: String,
        /// The site's.
        folder: PathBuf,
    },
    /// A coordinator that shows nothing.
    #[error(
        "the coordinator has not shown what its Releases of {awaited} rounds are made of: this site takes part in nothing \
         more until it does; the last round that could not be checked: {why}"
    )]
    Unshown {
        /// How many.
        awaited: usize,
        /// Of the last one.
        why: String,
    },
    /// A Release that this site has nothing against.
    #[error("this site has nothing against the Release of round {round}")]
    NothingToAccept {
        /// The round.
        round: RoundId,
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

impl TrainError {
    /// Whether the site's own trainer is at fault, and a later attempt may fare better.
    pub(super) fn is_of_trainer(&self) -> bool {
        matches!(self, Self::Training { .. } | Self::Update(_) | Self::Metric(_) | Self::Encode(_))
    }
}
