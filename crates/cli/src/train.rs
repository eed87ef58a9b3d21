//! `sordino train`

use crate::{
    dataset::Rows,
    dev::Dev,
    duration,
    failure::Failure,
    logs::{self, LogForm},
    output::Output,
    signals::{Stop, Stopped},
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_participant::{
    Summary, TrainOptions, train,
    training::{BuiltinTrainer, ExecTrainer, Trainer},
};
use sordino_wire::{Digest, TaskId};
use std::{ffi::OsString, path::PathBuf, sync::OnceLock, time::Duration};

/// Take part in a task with this site's data, round after round, until the task is complete.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sordino train site-a --data rows.csv --scale z-score
  sordino train site-a --images train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz
  sordino train site-a --exec python3 train.py --fast

A CSV file begins with the line split,label,NAME,... and has `train` or `test`, a class from 0 and numbers in each row.
A program of your own finds SORDINO_MODEL_IN, SORDINO_UPDATE_OUT and SORDINO_METRICS_OUT in its environment; everything
behind --exec belongs to it. SIGINT and SIGTERM stop between two messages; the next start goes on.")]
pub(crate) struct Train {
    /// The folder that `sordino join` made.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    rows: Rows,
    /// Let this program train; what follows are its arguments.
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["data", "images", "labels", "seed", "dev_split"])]
    exec: Vec<OsString>,
    /// How long that program may take in a round.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    exec_timeout: Duration,
    /// The task; the only active one if this is left out.
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// Take part under the policy of this digest only; without it, under the first one that this site has met.
    #[arg(long, value_name = "DIGEST")]
    policy: Option<Digest>,
    /// Stop after this many rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Fixes the order in which rows are trained on, to repeat a run. Keys and masks are not drawn from it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    log: LogForm,
    #[command(flatten)]
    dev: Dev,
}

#[derive(serde::Serialize)]
struct Done {
    finished: u64,
    left_out: u64,
    refused: u64,
    failed: u64,
    checked: u64,
}

impl Train {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        let dev = self.dev.check(&self.folder)?;
        let trainer = self.trainer()?;
        logs::start(self.log);
        let Self { folder, task, rounds, policy, .. } = self;
        let options = TrainOptions { folder, task, rounds, policy, dev };
        let mut stop = Stop::new()?;
        let stopped = OnceLock::new();
        let shutdown = async {
            let signal = stop.wait().await;
            tracing::info!(?signal, "stopping");
            // The future resolves once.
            let _ = stopped.set(signal);
        };
        let summary = Box::pin(train(options, trainer, shutdown)).await.map_err(Box::new)?;
        let Summary { finished, left_out, refused, failed, checked } = summary;
        let done = Done { finished, left_out, refused, failed, checked };
        output.result(&done, |done| {
            format!(
                "{} rounds finished, {} attempts went on without this site, {} were refused by it, in {} its training failed; \
                 {} Releases were checked",
                done.finished, done.left_out, done.refused, done.failed, done.checked
            )
        })?;
        // The service manager's stop is no failure; a person's is told to the script that runs us.
        if stopped.get() == Some(&Stopped::Interrupt) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn trainer(&self) -> Result<Box<dyn Trainer>, Failure> {
        if let Some((program, arguments)) = self.exec.split_first() {
            return Ok(Box::new(ExecTrainer::new(program, arguments.to_vec(), self.exec_timeout)));
        }
        let rows = self.rows.load(self.dev.split())?;
        let rng = match self.seed {
            Some(seed) => ChaCha20Rng::seed_from_u64(seed),
            None => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed)?;
                ChaCha20Rng::from_seed(seed)
            }
        };
        Ok(Box::new(BuiltinTrainer::new(rows, rng).scaled_by_rows(self.rows.is_scaled_by_rows())))
    }
}
