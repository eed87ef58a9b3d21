//! Training by a program of the site's own: model file in, weights file out.
//!
//! The program is the site's and runs with the participant's rights; it is trusted with the data and the model. What
//! it hands back is checked like anything from outside: kind and size of each file before reading, layout, finiteness.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sordino_codec::{FileLimits, ModelFileError, Tensors};

use super::dataset::MAX_ROWS;
use super::dp_sgd::RecordPrivacy;
use super::trainer::{RoundInfo, TrainError, Trained, Trainer};

/// Environment variables of the program; all others that begin so are kept from it, since secrets may be among them.
const PREFIX: &str = "SORDINO_";
/// Bytes by which the returned weights may be longer than the model that was given: another writer's header.
const UPDATE_SLACK_BYTES: u64 = 1 << 20;
/// Most bytes of the metrics file.
const MAX_METRICS_BYTES: u64 = 1 << 16;
/// Bytes of standard error that are kept to be quoted.
const STDERR_TAIL_BYTES: usize = 2048;
/// Mode of the scratch folder: the files in it are secret.
#[cfg(unix)]
const OWNER_ONLY: u32 = 0o700;
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long standard error is still read after the program ended: a child it left behind may hold it open.
const STDERR_GRACE: Duration = Duration::from_millis(500);

/// Runs a program once per round, in a scratch folder that only this user can enter and that is removed afterwards.
///
/// The program finds in its environment:
/// - `SORDINO_MODEL_IN`: path of the global model, safetensors;
/// - `SORDINO_UPDATE_OUT`: path to write the new local weights to (not their difference), safetensors with the same
///   names, shapes and types;
/// - `SORDINO_METRICS_OUT`: path to write `{"num_examples": N, "metrics": {"name": value, …}}` to; `metrics` may be
///   left out, each value is a sum over the local rows;
/// - `SORDINO_ROUND`, `SORDINO_LOCAL_EPOCHS`, `SORDINO_BATCH_SIZE`, `SORDINO_LEARNING_RATE`, `SORDINO_MOMENTUM`;
/// - under `FedProx` `SORDINO_PROXIMAL_MU`: the program adds `mu (w - w_t)` to each gradient, for the weights `w_t` that it was
///   given; under [`RecordPrivacy`] behind the noise;
/// - under [`RecordPrivacy`] its fields: `SORDINO_DP_EXAMPLE_CLIP`, `SORDINO_DP_NOISE_MULTIPLIER`,
///   `SORDINO_DP_SAMPLING_RATE`, `SORDINO_DP_STEPS`, and `SORDINO_DP_RECORD_MAX` as a JSON object.
///
/// Under [`RecordPrivacy`] the program has to hide single records itself, by DP-SGD with these numbers, and to clamp
/// what each record adds to a metric; noise on metrics is not its task. In the metrics file it says what it did:
/// `"privacy": {"example_clip": C, "noise_multiplier": z, "sampling_rate": q, "steps": T}`. A file without it, or with
/// less than was asked for, is refused; otherwise the site's own program is trusted to have done what it says: nothing
/// here can see whether the noise is in the weights. `num_examples` then counts as 1.
///
/// It is done when it exits with code 0. Its standard input is empty, its standard output is thrown away, the end of
/// its standard error is quoted if it fails. At the timeout it is killed, on Unix with every process of its group.
#[derive(Debug, Clone)]
pub struct ExecTrainer {
    program: PathBuf,
    args: Vec<OsString>,
    timeout: Duration,
    scratch: PathBuf,
}

impl ExecTrainer {
    /// Names the program, its arguments and how long it may take. Scratch folders are made in the system's folder for
    /// temporary files.
    pub fn new(program: impl Into<PathBuf>, args: Vec<OsString>, timeout: Duration) -> Self {
        Self { program: program.into(), args, timeout, scratch: std::env::temp_dir() }
    }

    /// Makes scratch folders in this folder instead. A participant that is killed leaves one behind, named
    /// `sordino-exec-…`; in a folder of its own it can clear them away when it starts again.
    #[must_use]
    pub fn with_scratch(self, scratch: impl Into<PathBuf>) -> Self {
        Self { scratch: scratch.into(), ..self }
    }

    fn run(&self, model: &Tensors, round: &RoundInfo) -> Result<Trained, ExecError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ExecError::Scratch { path, source }
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix("sordino-exec-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(OWNER_ONLY));
        let folder = builder.tempdir_in(&self.scratch).map_err(at(&self.scratch))?;
        let model_in = folder.path().join("model.safetensors");
        let bytes = model.to_safetensors();
        std::fs::write(&model_in, &bytes).map_err(at(&model_in))?;
        let update_out = folder.path().join("update.safetensors");
        let metrics_out = folder.path().join("metrics.json");

        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX)) {
            command.env_remove(name);
        }
        command.env("SORDINO_MODEL_IN", &model_in);
        command.env("SORDINO_UPDATE_OUT", &update_out);
        command.env("SORDINO_METRICS_OUT", &metrics_out);
        command.env("SORDINO_ROUND", round.round.to_string());
        let hyperparameters = &round.hyperparameters;
        command.env("SORDINO_LOCAL_EPOCHS", hyperparameters.local_epochs.to_string());
        command.env("SORDINO_BATCH_SIZE", hyperparameters.batch_size.to_string());
        command.env("SORDINO_LEARNING_RATE", hyperparameters.learning_rate.to_string());
        command.env("SORDINO_MOMENTUM", hyperparameters.momentum.to_string());
        if round.proximal_mu > 0.0 {
            command.env("SORDINO_PROXIMAL_MU", round.proximal_mu.to_string());
        }
        if let Some(privacy) = &round.privacy {
            let RecordPrivacy { example_clip, noise_multiplier, sampling_rate, steps, record_max } = privacy;
            command.env("SORDINO_DP_EXAMPLE_CLIP", example_clip.to_string());
            command.env("SORDINO_DP_NOISE_MULTIPLIER", noise_multiplier.to_string());
            command.env("SORDINO_DP_SAMPLING_RATE", sampling_rate.to_string());
            command.env("SORDINO_DP_STEPS", steps.to_string());
            let record_max = serde_json::to_string(record_max).expect("a map of strings to numbers is JSON");
            command.env("SORDINO_DP_RECORD_MAX", record_max);
        }
        self.finish(command)?;

        let update = read_output(OutputFile::Update, &update_out, bytes.len() as u64 + UPDATE_SLACK_BYTES)?;
        let limits = FileLimits { max_values: model.values().len(), ..FileLimits::default() };
        let tensors = Tensors::from_safetensors(&update, &limits).map_err(ExecError::Update)?;
        if let Some(difference) = layout_difference(model, &tensors) {
            return Err(ExecError::Layout { difference });
        }
        let metrics = read_output(OutputFile::Metrics, &metrics_out, MAX_METRICS_BYTES)?;
        let Metrics { num_examples, metrics, privacy } =
            serde_json::from_slice(&metrics).map_err(ExecError::Metrics)?;
        if !(1..=MAX_ROWS as u64).contains(&num_examples) {
            return Err(ExecError::NumExamples { num_examples });
        }
        let num_examples = match &round.privacy {
            Some(asked) => {
                privacy.ok_or(ExecError::NoPrivacy)?.check(asked)?;
                1
            }
            None => num_examples,
        };
        // JSON has no NaN, and its parser refuses numbers beyond f64: every metric is finite.
        Ok(Trained { tensors, num_examples, metrics })
    }

    /// Runs the command to its end, or to the timeout.
    fn finish(&self, mut command: Command) -> Result<(), ExecError> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|source| ExecError::Start { program: self.program.clone(), source })?;
        let stderr = Tail::follow(child.stderr.take().expect("standard error was asked to be a pipe"));
        let program = || self.program.clone();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(ExecError::Failed { program: program(), status, stderr: stderr.end() });
                }
                Ok(None) if started.elapsed() >= self.timeout => {
                    kill(&mut child);
                    let timeout = self.timeout;
                    return Err(ExecError::Timeout { program: program(), timeout, stderr: stderr.end() });
                }
                Ok(None) => std::thread::sleep(POLL.min(self.timeout.saturating_sub(started.elapsed()))),
                Err(source) => {
                    kill(&mut child);
                    return Err(ExecError::Wait { program: program(), source });
                }
            }
        }
    }
}

impl Trainer for ExecTrainer {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainError> {
        round.hyperparameters.validate()?;
        if let Some(privacy) = &round.privacy {
            privacy.validate()?;
        }
        Ok(self.run(model, round)?)
    }
}

/// The metrics file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    num_examples: u64,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
    privacy: Option<DonePrivacy>,
}

/// What the program says it did to hide single records.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DonePrivacy {
    example_clip: f64,
    noise_multiplier: f64,
    sampling_rate: f64,
    steps: u32,
}

impl DonePrivacy {
    /// Whether it is at least what was asked for.
    fn check(&self, asked: &RecordPrivacy) -> Result<(), ExecError> {
        let Self { example_clip, noise_multiplier, sampling_rate, steps } = *self;
        let (steps, steps_asked) = (f64::from(steps), f64::from(asked.steps));
        for (field, got, bound, is_kept) in [
            ("example_clip", example_clip, asked.example_clip, (0.0..=asked.example_clip).contains(&example_clip)),
            ("noise_multiplier", noise_multiplier, asked.noise_multiplier, noise_multiplier >= asked.noise_multiplier),
            ("sampling_rate", sampling_rate, asked.sampling_rate, (0.0..=asked.sampling_rate).contains(&sampling_rate)),
            ("steps", steps, steps_asked, steps <= steps_asked),
        ] {
            if !is_kept {
                let least = if field == "noise_multiplier" { "at least" } else { "at most" };
                return Err(ExecError::WeakPrivacy { field, got, least, asked: bound });
            }
        }
        Ok(())
    }
}

/// Kills the program, on Unix with its whole group, and takes its exit status so that no zombie is left.
fn kill(child: &mut Child) {
    // The program was not waited for yet, so its id is still its own. Failing means that it ended just now.
    #[cfg(unix)]
    let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(child), rustix::process::Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a file the program wrote: a plain file of at most `max` bytes.
fn read_output(file: OutputFile, path: &Path, max: u64) -> Result<Vec<u8>, ExecError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ExecError::Missing { file },
        _ => ExecError::Output { file, source },
    };
    // A pipe would block, a device never end.
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(ExecError::NotAFile { file });
    }
    if found.len() > max {
        return Err(ExecError::TooLarge { file, bytes: found.len(), max });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 {
        bytes if bytes > max => Err(ExecError::TooLarge { file, bytes, max }),
        _ => Ok(bytes),
    }
}

/// The first difference between the model that was given and what came back.
fn layout_difference(model: &Tensors, update: &Tensors) -> Option<String> {
    let (want, got) = (model.layout().specs(), update.layout().specs());
    if want == got {
        return None;
    }
    for (want, got) in want.iter().zip(got) {
        if want.name() != got.name() {
            return Some(format!("it has tensor {:?} where the model has {:?}", got.name(), want.name()));
        }
        let name = want.name();
        if want.shape() != got.shape() {
            return Some(format!("tensor {name:?} has shape {:?}, the model's has {:?}", got.shape(), want.shape()));
        }
        if want.dtype() != got.dtype() {
            return Some(format!("tensor {name:?} is {}, the model's is {}", got.dtype().name(), want.dtype().name()));
        }
    }
    Some(format!("it has {} tensors, the model has {}", got.len(), want.len()))
}

/// The end of what a program says on standard error, read by a thread so that the program never blocks on it.
struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    reader: JoinHandle<()>,
}

impl Tail {
    fn follow(mut pipe: ChildStderr) -> Self {
        let bytes = Arc::new(Mutex::new(VecDeque::with_capacity(2 * STDERR_TAIL_BYTES)));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0u8; STDERR_TAIL_BYTES];
            // An error ends the reading like the end of the pipe does: the tail is a courtesy.
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend(&chunk[..read]);
                let excess = bytes.len().saturating_sub(STDERR_TAIL_BYTES);
                bytes.drain(..excess);
            }
        });
        Self { bytes, reader }
    }

    /// The last bytes as printable text, after the pipe's end or a short wait for it.
    fn end(self) -> String {
        let deadline = Instant::now() + STDERR_GRACE;
        while !self.reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect::<Vec<_>>();
        let text = String::from_utf8_lossy(&bytes);
        // A terminal obeys control characters; nobody's error message should.
        let printable: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        match printable.trim() {
            "" => "(nothing)".to_owned(),
            printable => printable.to_owned(),
        }
    }
}

/// A file that the program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFile {
    /// `SORDINO_UPDATE_OUT`.
    Update,
    /// `SORDINO_METRICS_OUT`.
    Metrics,
}

impl std::fmt::Display for OutputFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Update => "SORDINO_UPDATE_OUT",
            Self::Metrics => "SORDINO_METRICS_OUT",
        })
    }
}

/// Why a program brought no update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The scratch folder or the model file could not be written.
    #[error("the model could not be handed over in {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("{} could not be started: is the path right and the file executable?", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system lost sight of the program.
    #[error("{} could not be waited for and was killed", program.display())]
    Wait {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program took too long.
    #[error("{} was killed: it was not done after {timeout:?}; its last words: {stderr}", program.display())]
    Timeout {
        /// The program.
        program: PathBuf,
        /// How long it had.
        timeout: Duration,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program failed.
    #[error("{} ended with {status}; its last words: {stderr}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Its exit code or signal.
        status: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program ended well and left a file out.
    #[error("the program did not write the file named by {file}")]
    Missing {
        /// Which file.
        file: OutputFile,
    },
    /// Something else lies where the file should.
    #[error("what the program made at {file} is not a file")]
    NotAFile {
        /// Which file.
        file: OutputFile,
    },
    /// A file is larger than it can rightly be.
    #[error("the file named by {file} has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Which file.
        file: OutputFile,
        /// Its size, as far as it was looked at.
        bytes: u64,
        /// Most bytes.
        max: u64,
    },
    /// A file could not be read.
    #[error("the file named by {file} could not be read")]
    Output {
        /// Which file.
        file: OutputFile,
        /// What the system said.
        source: io::Error,
    },
    /// The weights are malformed or not finite.
    #[error("the file named by SORDINO_UPDATE_OUT was refused")]
    Update(#[source] ModelFileError),
    /// The weights are not those of the model.
    #[error("the file named by SORDINO_UPDATE_OUT does not fit the model: {difference}")]
    Layout {
        /// The first difference.
        difference: String,
    },
    /// The metrics are malformed.
    #[error("the file named by SORDINO_METRICS_OUT is not {{\"num_examples\": N, \"metrics\": {{…}}}}")]
    Metrics(#[source] serde_json::Error),
    /// The number of rows is out of range.
    #[error("the file named by SORDINO_METRICS_OUT says num_examples is {num_examples}, it must be 1 to {MAX_ROWS}")]
    NumExamples {
        /// The number.
        num_examples: u64,
    },
    /// The round asks for private records, and the program does not say that it kept them so.
    #[error(
        "the round hides single records, and the file named by SORDINO_METRICS_OUT does not say how the program did: \
         train with the numbers in SORDINO_DP_… and add \"privacy\": {{\"example_clip\": C, \"noise_multiplier\": z, \
         \"sampling_rate\": q, \"steps\": T}} with what was done"
    )]
    NoPrivacy,
    /// The program hid records less than was asked for.
    #[error(
        "the file named by SORDINO_METRICS_OUT says privacy.{field} is {got}, it must be {least} {asked}: train with the \
         numbers in SORDINO_DP_…"
    )]
    WeakPrivacy {
        /// Which number.
        field: &'static str,
        /// What was done.
        got: f64,
        /// `at least` or `at most`.
        least: &'static str,
        /// What was asked for.
        asked: f64,
    },
}
