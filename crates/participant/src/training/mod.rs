//! Training at a site: data sets, the built-in models, and programs of the site's own.
//!
//! - [`Dataset`], from CSV ([`TrainTest::from_csv`]) or IDX ([`idx::read`]) files, scaled by [`Scaling`]; split
//!   unevenly for demonstrations by [`DirichletSplit`].
//! - [`Trainer`]: [`BuiltinTrainer`] (softmax regression and a one-hidden-layer perceptron, momentum SGD) or
//!   [`ExecTrainer`] (any program, by files).
//! - [`RecordPrivacy`] makes a round's training differentially private for every record (DP-SGD), [`noise_metrics`] its
//!   metrics.
//! - [`evaluate`] and [`centralised`] measure.
//!
//! Threat model: files of the site are trusted to be the site's data and nothing more, so every size they claim is
//! checked; the model comes from the coordinator and is checked against the data before it is used. What training
//! produces is secret until it is masked: it is printed nowhere, and error messages quote at most a few characters of
//! a malformed field. Under [`RecordPrivacy`] the weights may be seen, and whether training fails depends on no single
//! record. Two things can be told from outside and are not accounted for: how long training takes, and that a site takes
//! no part at all, because a value is not finite or a label is beyond the model's classes.

pub mod csv;
mod dataset;
mod dp_sgd;
mod exec;
pub mod idx;
mod model;
mod random;
mod sgd;
mod split;
mod trainer;
mod weights;

pub use dataset::{Dataset, DatasetError, MAX_CLASSES, MAX_COLUMNS, MAX_ROWS, MAX_VALUES, Scaler, Scaling, TrainTest};
pub use dp_sgd::{RecordPrivacy, noise_metrics};
pub use exec::{ExecError, ExecTrainer, OutputFile};
pub use model::{Architecture, MAX_PARAMETERS, ModelError};
pub use sgd::{Diverged, Hyperparameters, InvalidHyperparameters};
pub use split::{DirichletSplit, SplitError};
pub use trainer::{
    BuiltinTrainer, Evaluation, METRIC_CORRECT, METRIC_LOSS_SUM, RoundInfo, TrainError, Trained, Trainer, centralised,
    evaluate,
};
