//! What goes wrong in a command, how it is told, and the code that the process ends with.

use sordino_codec::{EncodingError, ModelFileError};
use sordino_coordinator::{ConfigError, ServeError, StartError, init::InitError, rounds::RoundsError};
use sordino_identity::{InvitationError, TrustError};
use sordino_participant::{
    ClientError, CredentialsError, JoinError, TrainError,
    attack::Attack,
    training::{DatasetError, ModelError, SplitError},
};
use sordino_secagg::{NoTopology, coordinator};
use sordino_wire::{Code, PolicyError, audit::AuditError};
use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the rounds cannot be run")]
    Rounds(#[source] RoundsError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Train(#[from] Box<TrainError>),
    #[error("{path}")]
    Policy { path: PathBuf, source: PolicyError },
    #[error("{path} and a model of {model_len} values do not go together")]
    Encoding { path: PathBuf, model_len: u64, source: Box<PolicyError> },
    #[error("{path} has privacy.enabled = false: nothing is spent, and nothing is promised")]
    NoPrivacy { path: PathBuf },
    #[error("{path} cannot be kept by {cohort} participants")]
    Topology { path: PathBuf, cohort: u32, source: NoTopology },
    #[error("{path} is not a model file")]
    ModelFile { path: PathBuf, source: ModelFileError },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the invitation in {from} cannot be used")]
    Invitation { from: String, source: InvitationError },
    #[error("{path} is not a data set")]
    Rows { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("the rows cannot be scaled")]
    Scaling(#[source] DatasetError),
    #[error("the rows cannot be split")]
    Split(#[source] SplitError),
    #[error("cannot {what} {path}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} has {bytes} bytes, at most {max} are read")]
    FileTooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error("cannot write the result to standard output")]
    Stdout(#[source] io::Error),
    #[error("{0} needs --insecure-dev: it takes away protection and is for tests on one machine")]
    NeedsInsecureDev(&'static str),
    #[error("--insecure-dev works on loopback only, and the coordinator is at {url}")]
    NotLoopback { url: String },
    #[error("the operating system has no random bytes to give")]
    Random(#[from] getrandom::Error),
    #[error("the operating system does not let signals be waited for")]
    Signals(#[source] io::Error),
    #[error("the threads to work with cannot be started")]
    Runtime(#[source] io::Error),
    #[error("the measured attempt was aborted")]
    Bench(#[from] BenchError),
    #[error("{path} exists; --keep takes a folder that does not")]
    KeepExists { path: PathBuf },
    #[error("the demonstration failed")]
    Demo(#[from] DemoError),
    #[error("what is published of the round does not fit together")]
    Audit(#[from] Box<AuditError>),
    #[error("{path} is not a file of an exported round")]
    Exported { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    #[error("{path} is no folder, and no round of a coordinator was asked for")]
    NothingToVerify { path: PathBuf },
    #[error("the federation's root certificates cannot be used")]
    Roots(#[from] TrustError),
    #[error("interrupted")]
    Interrupted,
}

/// Why a demonstration came to no end, or has not shown what it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("{path} has no rows marked `test` to measure accuracy on")]
    NoTestRows { path: PathBuf },
    #[error("a process of the federation cannot be run")]
    Process(#[source] io::Error),
    #[error("the coordinator ended or did not start; its log is {log}")]
    Coordinator { log: PathBuf },
    #[error("participant {id} ended before its task; its log is {log}")]
    Site { id: String, log: PathBuf },
    #[error("round {round} failed: {reason}")]
    RoundFailed { round: u64, reason: String },
    #[error("round {round} is complete and has no Release")]
    NoRelease { round: u64 },
    #[error("round {round}: the released sum is not the sum of its survivors' inputs, from value {at} on")]
    WrongSum { round: u64, at: usize },
    #[error("round {round}: what its survivors encoded cannot be read")]
    Inputs { round: u64, source: crate::demo::NotTheSum },
    #[error("the model cannot be evaluated")]
    Evaluate(#[source] Box<dyn Error + Send + Sync>),
    #[error("round {round}, in which the coordinator was killed, was not finished by the same attempt")]
    NotResumed { round: u64 },
    #[error("no round could be caught in the middle to kill the coordinator")]
    NotKilled,
    #[error("--attack {attack} is on proofs, and with --proof none there are none")]
    NothingToAttack { attack: Attack },
    #[error("--attack {attack} is shown with {fewest} participants at least, not {participants}")]
    TooFewSites { attack: Attack, participants: u32, fewest: u32 },
    #[error(
        "--dp participant and --proof transparent: with a share of the noise in it, an input is not within its bound"
    )]
    NoiseAndProof,
    #[error("in {rounds} rounds an attacker's input is in the sum, although every input was proven")]
    AttackerInSum { rounds: u64 },
    #[error("in {rounds} rounds not every attacker was refused by name")]
    NotNamed { rounds: u64 },
    #[error("the work was cut off")]
    Cut,
}

/// Why a measured attempt came to nothing: a defect, since everybody in it is honest and in this process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("the coordinator gave up")]
    Abort(#[from] coordinator::Abort),
    #[error("the coordinator rejected a message")]
    Rejection(#[from] coordinator::Rejection),
    #[error("an input did not get into the sum")]
    Sum(#[from] coordinator::SumError),
    #[error("a participant refused")]
    Refusal(#[from] sordino_secagg::participant::Refusal),
    #[error("no graph stands these faults")]
    Topology(#[from] NoTopology),
    #[error("an input does not fit the ring")]
    Ring(#[from] sordino_codec::RingError),
    #[error("the model is too long for an encoding")]
    Encoding(#[from] EncodingError),
    #[error("certificates for the cohort could not be made")]
    Certificates(#[source] Box<dyn Error + Send + Sync>),
    #[error("{dropouts} dropouts that leave everybody {threshold} neighbours were not found")]
    Dropouts { dropouts: usize, threshold: u32 },
    #[error("the sum that was opened is not the sum of the survivors' inputs")]
    WrongSum,
    #[error("the coordinator had nothing for {0}")]
    Silent(String),
    #[error("states and inputs of the cohort cannot be put into temporary files")]
    Files(#[source] io::Error),
    #[error("the coordinator's data folder cannot be used")]
    Store(#[from] sordino_store::StoreError),
    #[error("an input did not get into the spool")]
    Spool(#[from] sordino_store::SpoolError),
    #[error("a participant's state was put away and cannot be read")]
    Restore(#[from] sordino_secagg::participant::RestoreError),
    #[error("the process whose memory is measured cannot be run")]
    Process(#[source] io::Error),
    #[error("the process whose memory is measured failed: {0}")]
    Measured(String),
    #[error("the system does not tell how much memory a process used (VmHWM in /proc/self/status)")]
    NoPeak,
    #[error("the other implementation's script cannot be run by {python}")]
    Python { python: PathBuf, source: io::Error },
    #[error("the other implementation's program {program} cannot be run")]
    Program { program: PathBuf, source: io::Error },
    #[error("a norm proof is not what it should be")]
    Proof(#[source] Box<dyn Error + Send + Sync>),
    #[error("the other implementation failed: {0}")]
    Peer(String),
}

/// Codes that the process ends with; 0 and 2 (usage) are clap's and the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    Unreachable = 4,
    /// A participant that fell silent because a development option asked for it.
    Vanished = 75,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Failure {
    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::NeedsInsecureDev(_) | Self::NothingToVerify { .. } => Exit::Usage,
            Self::Demo(
                DemoError::NothingToAttack { .. } | DemoError::TooFewSites { .. } | DemoError::NoiseAndProof,
            ) => Exit::Usage,
            Self::Train(error) if matches!(**error, TrainError::Vanished { .. }) => Exit::Vanished,
            _ => match self.client() {
                Some(ClientError::Refused(_)) => Exit::Refused,
                Some(ClientError::Unreachable { .. } | ClientError::Silent { .. }) => Exit::Unreachable,
                _ => Exit::Failed,
            },
        }
    }

    /// One line `error: ...` with the whole chain of causes, then what to do about it.
    pub(crate) fn print(&self) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(stderr, "error: {}", chain(self));
        for hint in self.hints() {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }

    /// The coordinator's part in it, wherever in the chain it stands.
    fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) => return Some(error),
            Self::Join(JoinError::Client(error)) => return Some(error),
            Self::Train(error) => {
                if let TrainError::Client(error) = &**error {
                    return Some(error);
                }
            }
            _ => {}
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(client) = error.downcast_ref::<ClientError>() {
                return Some(client);
            }
            cause = error.source();
        }
        None
    }

    fn hints(&self) -> Vec<&'static str> {
        if let Some(client) = self.client() {
            return match client {
                ClientError::Unreachable { .. } | ClientError::Silent { .. } => {
                    vec!["check that `sordino serve` runs there, and that this machine can reach the address"]
                }
                _ => client.code().into_iter().flat_map(hints).copied().collect(),
            };
        }
        match self {
            Self::Credentials(CredentialsError::NoAddress { .. }) => {
                vec!["give --server https://HOST:PORT, or set SORDINO_SERVER"]
            }
            Self::Policy { .. } => vec!["docs/cli.md shows a policy that works; `sordino policy check` tries one"],
            Self::Train(error) if matches!(**error, TrainError::WhichTask(0)) => {
                vec!["an administrator makes one with `sordino task create`"]
            }
            Self::Train(error) if matches!(**error, TrainError::WhichTask(_)) => {
                vec!["give --task ID; `sordino task list --as DIR` shows them"]
            }
            Self::KeepExists { .. } => vec!["give --keep another name, or remove the folder of the earlier run"],
            Self::NothingToVerify { .. } => {
                vec!["give a folder that `sordino round export` made, or --as DIR and a round, TASK.NUMBER"]
            }
            Self::NotLoopback { .. } => vec!["leave out the --dev options to train with this coordinator"],
            _ => Vec::new(),
        }
    }
}

fn hints(code: Code) -> &'static [&'static str] {
    match code {
        Code::JoinTokenRefused => &[
            "ask an administrator for a new invitation: each works once, for one id",
            "the same command works with it, in the same folder: the key that was made there is kept and used",
        ],
        Code::ClientCertificateRequired | Code::TokenRequired => {
            &["the certificate may have expired: join again with a new invitation, into a new folder"]
        }
        Code::Forbidden => &["use the folder of a principal with another role, such as --as admin"],
        Code::PolicyRefused => &["`sordino policy check FILE` shows what this policy comes to"],
        _ => &[],
    }
}

/// An error with its causes on one line. Causes that only repeat the text before them are left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = one_line(&error.to_string());
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Parsers draw the place of an error over several lines; the words stay, the drawing goes.
fn one_line(text: &str) -> String {
    let drawn = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let words = text.lines().filter(|line| !drawn(line)).map(str::trim).filter(|line| !line.is_empty());
    words.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_error_becomes_one_line() {
        let error = toml::from_str::<toml::Table>("[a]\nb = \n").expect_err("a missing value");
        let line = chain(&error);
        assert!(!line.contains('\n') && !line.contains('|'), "{line}");
        assert!(line.contains("line 2"), "{line}");
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(chain(&Outer(io::Error::other("inner"))), "outer: inner");
        assert_eq!(chain(&Failure::Stdin(io::Error::other("closed"))), "cannot read standard input: closed");
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let problem = sordino_wire::Problem::new(Code::Forbidden, "no");
        for (failure, code) in [
            (Failure::Interrupted, 130),
            (Failure::NeedsInsecureDev("--dev-dump"), 2),
            (Failure::Stdin(io::Error::other("closed")), 1),
            (Failure::Client(ClientError::Refused(Box::new(problem))), 3),
        ] {
            assert_eq!(failure.exit() as u8, code, "{failure}");
        }
    }
}
