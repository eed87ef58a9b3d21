//! `sordino round`

mod archive;
mod verify;

use crate::{
    budget::up,
    failure::Failure,
    output::{Output, date, table},
    remote::{Remote, all},
};
use sordino_identity::PrincipalId;
use sordino_wire::{
    RoundId, TaskId,
    api::{self, GroupCheck, ReleaseConvergence, ReleasePrivacy, RoundState},
};

/// See what rounds came to.
#[derive(clap::Subcommand)]
pub(crate) enum Round {
    List(List),
    Show(Show),
    Export(verify::Export),
    Verify(verify::Verify),
    Accept(verify::Accept),
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

/// Show one round: who took part, who dropped out where or was refused, how the checks of sums came out, and the Release.
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
            Self::Export(export) => export.run(output).await,
            Self::Verify(verify) => verify.run(output).await,
            Self::Accept(accept) => accept.run(output),
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
    lines.extend(round.checks.iter().map(|check| ("check", check_text(check))));
    if let Some(release) = &round.release {
        lines.push(("model after", release.model.to_string()));
        lines.push(("sum", format!("{} in a ring of {} bits", release.sum, release.ring_bits)));
        lines.push(("survivors", words(&release.survivors)));
        let vanished = release.dropouts.iter().filter(|(id, _)| !release.refused.contains_key(*id));
        lines.extend(vanished.map(|(id, step)| ("dropout", format!("{id} before {step}"))));
        lines.extend(release.refused.iter().map(|(id, why)| ("refused", format!("{id}, a dropout: {why}"))));
        let silent = release.silent_survivors.iter();
        lines.extend(silent.map(|(id, step)| ("fell silent", format!("{id} before {step}; its input counts"))));
        lines.push(("weight", release.weight.to_string()));
        lines.extend(release.metrics.iter().map(|(name, value)| ("metric", format!("{name} {value}"))));
        lines.extend(release.convergence.as_ref().map(|stands| ("convergence", convergence_text(stands))));
        lines.extend(release.proof.as_ref().map(|proof| {
            ("proven", format!("every input in the sum: effective bound {:.1} x clip norm", proof.effective_bound))
        }));
        lines.extend(
            release
                .proof
                .as_ref()
                .and_then(|proof| proof.noise.as_ref())
                .map(|noise| ("noise", format!("within {:.1} x clip norm: {}", noise.effective_bound, noise.shows))),
        );
        if let Some(privacy) = &release.privacy {
            lines.extend(privacy_lines(privacy));
        }
        lines.push(("input bytes", release.input_bytes.to_string()));
        lines.extend(release.step_millis.iter().map(|(step, millis)| ("step", format!("{step} {millis} ms"))));
    }
    lines.into_iter().map(|(what, value)| format!("{what:<13} {value}\n")).collect()
}

/// How the watched metric stands.
fn convergence_text(ReleaseConvergence { value, best, stale }: &ReleaseConvergence) -> String {
    match stale {
        0 => format!("{value} over the weights, an improvement"),
        _ => format!("{value} over the weights, {stale} Releases since the last improvement, which was {best}"),
    }
}

/// Whether a group's sum was that of what its members had proven, and who they are: where it was not, who may be to blame.
fn check_text(check: &GroupCheck) -> String {
    let GroupCheck { attempt, group, passed, survivors } = check;
    let members = words(survivors);
    if *passed {
        return format!(
            "attempt {attempt}, group {group}: passed, its sum is that of the inputs that were proven: {members}"
        );
    }
    format!(
        "attempt {attempt}, group {group}: failed, its sum is in no Release; at least one of these sent another input than it \
         had committed to: {members}"
    )
}

fn words(ids: &[PrincipalId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    /// A round of six: of the first attempt nothing came, in the second one group failed its check and one input was refused.
    fn suspicious() -> serde_json::Value {
        let digest = "00".repeat(32);
        let check = |attempt: u32, group: u32, passed: bool, survivors: &[&str]| json!({ "attempt": attempt, "group": group, "passed": passed, "survivors": survivors });
        json!({
            "id": "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.7", "state": "complete", "attempt": 2, "model": digest, "started_at": 0,
            "checks": [
                check(1, 0, false, &["site-aaaa", "site-bbbb", "site-cccc", "site-dddd"]),
                check(2, 0, true, &["site-aaaa", "site-bbbb"]),
                check(2, 1, false, &["site-cccc", "site-dddd"]),
            ],
            "release": {
                "model": digest, "sum": digest, "ring_bits": 21, "cohort": ["site-aaaa"], "weight": 2, "metrics": {},
                "survivors": ["site-aaaa", "site-bbbb"],
                "dropouts": { "site-eeee": "MaskedInput", "site-ffff": "ShareKeys" },
                "silent_survivors": {}, "input_bytes": 9, "step_millis": [],
                "refused": { "site-eeee": "the norm is not proven to be within its bound" },
                "convergence": { "value": 0.5, "best": 0.25, "stale": 2 },
                "proof": {
                    "attempt": 2, "claim": digest, "effective_bound": 1.0004, "cohort": 3,
                    "groups": [], "failed": [],
                },
            },
        })
    }

    #[test]
    fn who_was_refused_and_suspected_and_how_the_metric_stands_is_shown() {
        let text = show(&serde_json::from_value(suspicious()).unwrap());
        for line in [
            "refused       site-eeee, a dropout: the norm is not proven to be within its bound",
            "dropout       site-ffff before ShareKeys",
            "convergence   0.5 over the weights, 2 Releases since the last improvement, which was 0.25",
            "proven        every input in the sum: effective bound 1.0 x clip norm",
            "check         attempt 1, group 0: failed, its sum is in no Release; at least one of these sent another input than \
             it had committed to: site-aaaa site-bbbb site-cccc site-dddd",
            "check         attempt 2, group 0: passed, its sum is that of the inputs that were proven: site-aaaa site-bbbb",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(!text.contains("site-eeee before"), "told once: {text}");
    }

    /// A round that failed has no Release, and its suspects are shown all the same; one without proofs says nothing of them.
    #[test]
    fn checks_are_shown_without_a_release() {
        let mut round = suspicious();
        round["release"].take();
        assert_eq!(show(&serde_json::from_value(round.clone()).unwrap()).matches("\ncheck ").count(), 3);
        round["checks"].take();
        round.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let text = show(&serde_json::from_value(round).unwrap());
        assert!(!text.contains("check") && !text.contains("proven"), "{text}");
    }
}
