//! What a participant does with a model in a round, and the trainer that comes with the program.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use sordino_codec::Tensors;
use sordino_dp::noise::{NoiseError, Unseeded};
use sordino_wire::Policy;
use sordino_wire::RoundPrivacy;
use sordino_wire::policy::Training;

use super::dataset::Dataset;
use super::dp_sgd::{self, RecordPrivacy};
use super::exec::ExecError;
use super::model::{Architecture, Batch, ModelError, Network};
use super::sgd::{self, Diverged, Hyperparameters, InvalidHyperparameters};

/// The metric [`BuiltinTrainer`] reports as the sum of the cross-entropy over its rows, before training, in nats.
pub const METRIC_LOSS_SUM: &str = "loss_sum";
/// The metric [`BuiltinTrainer`] reports as the number of its rows that the model labels right, before training.
pub const METRIC_CORRECT: &str = "correct";
/// Rows evaluated at once.
pub(super) const EVALUATION_BATCH: usize = 256;

/// Trains a model on local data. Calls block, for as long as training takes.
pub trait Trainer: Send {
    /// Trains once, beginning at `model`.
    ///
    /// # Errors
    /// [`TrainError`]; the participant then leaves the round out and nothing of its data has left the process.
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainError>;

    /// How many records there are, where the trainer knows: a site's delta is held against it.
    fn records(&self) -> Option<u64> {
        None
    }
}

/// What a trainer is told about a round.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundInfo {
    /// Number of the round, from 1.
    pub round: u64,
    /// How to train.
    pub hyperparameters: Hyperparameters,
    /// How strongly each step leads back to the model that was given: mu of `FedProx`, at least 0.
    pub proximal_mu: f64,
    /// How to hide single records in what training gives; none: they are not hidden.
    pub privacy: Option<RecordPrivacy>,
}

impl RoundInfo {
    /// What a policy and a round's terms ask of a trainer.
    #[must_use]
    pub fn of(round: u64, policy: &Policy, privacy: Option<&RoundPrivacy>) -> Self {
        let Training { local_epochs, batch_size, learning_rate, momentum } = policy.training;
        let privacy = match privacy {
            Some(RoundPrivacy::Record(round)) => Some(RecordPrivacy {
                example_clip: round.example_clip,
                noise_multiplier: round.noise_multiplier,
                sampling_rate: round.sampling_rate,
                steps: round.steps,
                record_max: round.record_max.clone(),
            }),
            // Noise is then added to what the sites send, or to their sum.
            Some(RoundPrivacy::Participant(_)) | None => None,
        };
        let hyperparameters = Hyperparameters { local_epochs, batch_size, learning_rate, momentum };
        Self { round, hyperparameters, proximal_mu: policy.proximal_mu(), privacy }
    }
}

/// What training came to. It never leaves the machine in the clear; `Debug` prints sizes only.
#[derive(Clone, PartialEq)]
pub struct Trained {
    /// The local weights, in the layout of the model that was given.
    pub tensors: Tensors,
    /// Rows trained on, at least 1. Always 1 under [`RecordPrivacy`]: how many rows there are depends on each of them.
    pub num_examples: u64,
    /// Finite numbers by name, each a sum over the local rows, so that the sites' values can be added up.
    ///
    /// Under [`RecordPrivacy`] no record adds more than its `record_max`. They are still without noise, and stay here
    /// until [`noise_metrics`](super::noise_metrics) has added it.
    pub metrics: BTreeMap<String, f64>,
}

impl std::fmt::Debug for Trained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trained").field("values", &self.tensors.values().len()).finish_non_exhaustive()
    }
}

/// Why there is no update from this participant this round.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The task's numbers are wrong: tell its operator.
    #[error(transparent)]
    Hyperparameters(#[from] InvalidHyperparameters),
    /// Model and data do not belong together, or the model needs a trainer of its own.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Numbers left their range.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// The model, as it was given, has no finite loss on these rows.
    #[error("the model's loss on the local rows is not a finite number: has it diverged, or are features unscaled?")]
    NonFiniteLoss,
    /// The numbers of the privacy are wrong, or its noise could not be made.
    #[error("the privacy of the local records cannot be kept")]
    Noise(#[from] NoiseError),
    /// There is no entropy for sampling and noise.
    #[error(transparent)]
    Unseeded(#[from] Unseeded<getrandom::Error>),
    /// Records are to be protected, and the features of each depend on all of them.
    #[error(
        "the features are scaled by statistics of this site's own rows (z-score), which shows each record in all others: \
         scale by public constants where the policy protects records"
    )]
    ScaledByRows,
    /// The `--exec` program failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// Momentum SGD on the built-in models; which one, the model's tensors say. Under [`RecordPrivacy`] it is DP-SGD, which
/// takes its randomness from the operating system.
#[derive(Debug)]
pub struct BuiltinTrainer<R> {
    dataset: Dataset,
    rng: R,
    /// Features were scaled by statistics of these very rows.
    scaled_by_rows: bool,
}

impl<R: CryptoRng + Send> BuiltinTrainer<R> {
    /// Trains on these rows, in orders drawn from `rng`.
    pub fn new(dataset: Dataset, rng: R) -> Self {
        Self { dataset, rng, scaled_by_rows: false }
    }

    /// Notes that the features were scaled by statistics of these very rows: one record then moves all others, and no noise
    /// on gradients hides it. Rounds that protect records are refused.
    #[must_use]
    pub fn scaled_by_rows(self, scaled_by_rows: bool) -> Self {
        Self { scaled_by_rows, ..self }
    }

    /// The local rows.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }
}

impl<R: CryptoRng + Send> Trainer for BuiltinTrainer<R> {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainError> {
        round.hyperparameters.validate()?;
        if round.privacy.is_some() && self.scaled_by_rows {
            return Err(TrainError::ScaledByRows);
        }
        let architecture = Architecture::of(model.layout())?;
        architecture.check(&self.dataset)?;
        let mut weights = model.values().to_vec();
        if let Some(privacy) = &round.privacy {
            privacy.validate()?;
            let metrics = dp_sgd::metrics(architecture, &weights, &self.dataset, &privacy.record_max);
            let mut randomness = dp_sgd::Randomness::fresh()?;
            let hyperparameters = &round.hyperparameters;
            let told = (hyperparameters, round.proximal_mu);
            dp_sgd::train(architecture, &mut weights, &self.dataset, told, privacy, &mut randomness)?;
            let tensors = Tensors::new(model.layout().clone(), weights).map_err(ModelError::from)?;
            return Ok(Trained { tensors, num_examples: 1, metrics });
        }
        let before = evaluate_values(architecture, model.values(), &self.dataset)?;
        let told = (&round.hyperparameters, round.proximal_mu);
        sgd::train(architecture, &mut weights, &self.dataset, told, &mut self.rng)?;
        let metrics = [(METRIC_LOSS_SUM, before.loss_sum), (METRIC_CORRECT, before.correct as f64)];
        Ok(Trained {
            tensors: Tensors::new(model.layout().clone(), weights).map_err(ModelError::from)?,
            num_examples: self.dataset.rows() as u64,
            metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        })
    }

    fn records(&self) -> Option<u64> {
        Some(self.dataset.rows() as u64)
    }
}

/// How well a model does on some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Cross-entropy, in nats, summed over the rows.
    pub loss_sum: f64,
    /// Rows labelled right.
    pub correct: u64,
    /// Rows there are, at least 1.
    pub rows: u64,
}

impl Evaluation {
    /// Mean cross-entropy of a row, in nats.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.rows as f64
    }

    /// Fraction of rows labelled right, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.rows as f64
    }
}

/// Measures a built-in model.
///
/// # Errors
/// [`TrainError::Model`] if the model is unknown or takes other rows, [`TrainError::NonFiniteLoss`].
pub fn evaluate(model: &Tensors, dataset: &Dataset) -> Result<Evaluation, TrainError> {
    let architecture = Architecture::of(model.layout())?;
    architecture.check(dataset)?;
    evaluate_values(architecture, model.values(), dataset)
}

fn evaluate_values(architecture: Architecture, weights: &[f32], dataset: &Dataset) -> Result<Evaluation, TrainError> {
    let mut network = Network::new(architecture);
    let features = dataset.features().chunks(EVALUATION_BATCH * dataset.columns());
    let mut sum = Evaluation { loss_sum: 0.0, correct: 0, rows: dataset.rows() as u64 };
    for (features, labels) in features.zip(dataset.labels().chunks(EVALUATION_BATCH)) {
        let batch = network.evaluate(weights, Batch { features, labels });
        sum.loss_sum += batch.loss_sum;
        sum.correct += batch.correct as u64;
    }
    match sum.loss_sum.is_finite() {
        true => Ok(sum),
        false => Err(TrainError::NonFiniteLoss),
    }
}

/// Trains one model on all rows in one place, to compare a federation with: `epochs` passes (the hyperparameters'
/// `local_epochs` is not used), then measured on the test rows.
///
/// # Errors
/// As [`Trainer::train`].
pub fn centralised(
    train: &Dataset,
    test: &Dataset,
    architecture: Architecture,
    hyperparameters: &Hyperparameters,
    epochs: u32,
    seed: u64,
) -> Result<Evaluation, TrainError> {
    let hyperparameters = Hyperparameters { local_epochs: epochs, ..*hyperparameters };
    hyperparameters.validate()?;
    architecture.check(train)?;
    architecture.check(test)?;
    let mut weights = architecture.initial_values(seed)?;
    sgd::train(architecture, &mut weights, train, (&hyperparameters, 0.0), &mut ChaCha20Rng::seed_from_u64(seed))?;
    evaluate_values(architecture, &weights, test)
}
