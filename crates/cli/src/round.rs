//! `sordino round`

use crate::{
    budget::up,
    failure::Failure,
    output::{Output, date, table},
    remote::{Remote, all},
};
use sordino_wire::{
    RoundId, TaskId,
    api::{self, ReleasePrivacy, RoundState},
};

/// See what rounds came to.
#[derive(clap::Subcommand)]
pub(crate) enum Round {
    List(List),
    Show(Show),
}

/// List the rounds of a task.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino round list --as site-a 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
    /// The task.
    task: TaskId,
}

/// Show one round: who took part, who dropped out where, and the Release.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  sordino round show --as site-a 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7")]
pub(crate) struct Show {
    #[command(flatten)]
    remote: Remote,
    /// The round: its task, a dot, its number.
    #[arg(value_name = "ROUND")]
    id: RoundId,
}

impl Round {
    pub(crate) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::List(List { remote, task }) => {
                let rounds: Vec<api::Round> = all(&remote.client()?, &format!("/v1/tasks/{task}/rounds")).await?;
                output.result(&rounds, |rounds| {
                    table(["ROUND", "STATE", "ATTEMPT", "SURVIVORS", "WEIGHT", "STARTED"], rounds.iter().map(row))
                })
            }
            Self::Show(Show { remote, id }) => {
                let round: api::Round = remote.client()?.get(&format!("/v1/rounds/{id}")).await?;
                output.result(&round, show)
            }
        }
    }
}

fn row(round: &api::Round) -> [String; 6] {
    let release = round.release.as_ref();
    let survivors = release.map(|release| format!("{}/{}", release.survivors.len(), release.cohort.len()));
    let weight = release.map(|release| release.weight.to_string());
    [
        round.id.number.to_string(),
        state(round.state).into(),
        round.attempt.to_string(),
        survivors.unwrap_or_else(|| "-".into()),
        weight.unwrap_or_else(|| "-".into()),
        date(round.started_at),
    ]
}

fn show(round: &api::Round) -> String {
    let mut lines = vec![
        ("round", round.id.to_string()),
        ("state", state(round.state).to_owned()),
        ("attempt", round.attempt.to_string()),
        ("model before", round.model.to_string()),
        ("started", date(round.started_at)),
    ];
    lines.extend(round.ended_at.map(|ended| ("ended", date(ended))));
    lines.extend(round.failure.clone().map(|failure| ("failure", failure)));
    if let Some(release) = &round.release {
        lines.push(("model after", release.model.to_string()));
        lines.push(("sum", format!("{} in a ring of {} bits", release.sum, release.ring_bits)));
        lines.push(("survivors", release.survivors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")));
        lines.extend(release.dropouts.iter().map(|(id, step)| ("dropout", format!("{id} before {step}"))));
        let silent = release.silent_survivors.iter();
        lines.extend(silent.map(|(id, step)| ("fell silent", format!("{id} before {step}; its input counts"))));
        lines.push(("weight", release.weight.to_string()));
        lines.extend(release.metrics.iter().map(|(name, value)| ("metric", format!("{name} {value}"))));
        if let Some(privacy) = &release.privacy {
            lines.extend(privacy_lines(privacy));
        }
        lines.push(("input bytes", release.input_bytes.to_string()));
        lines.extend(release.step_millis.iter().map(|(step, millis)| ("step", format!("{step} {millis} ms"))));
    }
    lines.into_iter().map(|(what, value)| format!("{what:<13} {value}\n")).collect()
}

fn privacy_lines(privacy: &ReleasePrivacy) -> Vec<(&'static str, String)> {
    let ReleasePrivacy { budget, epsilon, epsilon_of_round, delta, total_epsilon, planned, .. } = privacy;
    let mut lines = vec![
        ("privacy", format!("of one {}: {}", privacy.unit.as_str(), privacy.relation)),
        ("holds against", privacy.holds_against.clone()),
        (
            "epsilon",
            format!(
                "{} of {total_epsilon} at delta {delta:e} in {budget}, {} for this round by itself",
                up(*epsilon),
                up(*epsilon_of_round)
            ),
        ),
        ("sampling", privacy.sampling.clone()),
        (
            "noise",
            format!(
                "multiplier {}, sized for {} invited, {} survivors at least, {} of them corrupt; {} survived",
                privacy.noise_multiplier,
                planned.participants,
                planned.min_survivors,
                planned.max_corrupt,
                privacy.survivors
            ),
        ),
    ];
    lines.extend(
        privacy.sum_noise_std.map(|std| ("noise on sum", format!("standard deviation {std:.6} on each value"))),
    );
    lines.extend(privacy.worst_participant.as_ref().map(|worst| {
        let whose = if worst.by_own_word { "by its own ledger" } else { "by the coordinator's ledger" };
        ("most spent by", format!("{}: epsilon {}, {whose}", worst.id, up(worst.epsilon)))
    }));
    lines.push(("accountant", format!("{}; {}", privacy.accountant, privacy.software)));
    lines
}

fn state(state: RoundState) -> &'static str {
    match state {
        RoundState::Waiting => "waiting",
        RoundState::Collecting => "collecting",
        RoundState::Aggregating => "aggregating",
        RoundState::Complete => "complete",
        RoundState::Failed => "failed",
    }
}
